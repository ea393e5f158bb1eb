// SPDX-License-Identifier: MIT
// Refreshes: runs for the store that a process with a loop and threads has others start (SPEC T4–T6).
//
// A refresh is a flight of the meeting place with a supervisor of its own, which a process that holds a
// loop, threads and other people's descriptors must not fork. So it starts a program, this one, and
// hands it the orders; that forks the supervisor, or finds that somebody was quicker, and ends at once.
// What that program is and how it is told, the front end says: here it is started, once a stale
// result: while one that failed counts as tried no other is (T5), however often the result is served.
// So many programs at a time, since each takes descriptors and a process that runs of the door need (F14); the others
// wait. The runs that they put under way are not counted: those are flights of the meeting place, which a class bounds.
#pragma once

#include <coalesce/command/command.h>
#include <coalesce/command/key.h>
#include <coalesce/command/result.h>
#include <coalesce/command/run_class.h>
#include <coalesce/command/wish.h>
#include <coalesce/flight/unique_function.h>

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include <coalesce/io/child.h>
#include <coalesce/kept/store_place.h>

namespace coalesce {

class Loop;

/// What is to be run, for which store, and as whose request.
struct RefreshOrders {
    Command command;
    std::optional<std::string> line;  ///< when the command is a shell line
    std::string title;
    std::shared_ptr<const CanonicalSurroundings> surroundings;  ///< its key,
    std::string words;                                          ///< as the door has it
    std::optional<std::chrono::milliseconds> timeout;
    std::chrono::milliseconds grace{10'000};
    std::optional<RunClass> run_class;
    StorePlace place;
    Wish wish;
};

/// A program that is told its orders on standard input, and ends as soon as the run is under way, or with another
/// status than 0 if it could not see to that.
struct RefreshProgram {
    std::vector<std::string> argv;
    std::vector<std::string> env;
    std::string path;
    std::string orders;
};
using MakeRefreshProgram = std::function<RefreshProgram(const RefreshOrders&)>;

class Refreshes {
  public:
    /// `make_program` unset: none is ever started. `in_child` is called in each before it executes.
    Refreshes(Loop& loop, MakeRefreshProgram make_program, ChildHook in_child)
        : loop_(loop), make_program_(std::move(make_program)), in_child_(in_child) {}

    /// One is due. `since`: when the run of what is stale has ended, by the wall clock; 0: nothing is there. A run that
    /// goes wrong counts as tried; one whose program could not be started, or says that it could not start it, does
    /// not: the next hit tries again. The loop runs on until it is under way.
    /// `told`, at once or when others have made room for it, that it was started or is not due after all; refused:
    /// there is no room for the program. If nobody waits for that it is empty: then, where many wait, the next hit
    /// tries again.
    using Told = UniqueFunction<void(const Result<>&)>;
    void start(const std::string& key_name, std::int64_t since, const RefreshOrders& orders, Told told);
    /// No more is started; who waits for one is told on a later turn that it is not.
    void start_no_more();
    /// Whether that process is the program of one: somebody here waits for its end. Looks at each.
    [[nodiscard]] bool is_own(pid_t pid) const noexcept;
    /// How many were started.
    [[nodiscard]] std::uint64_t count() const noexcept { return count_; }

  private:
    struct Tried {
        std::int64_t since;
        std::chrono::steady_clock::time_point at;
        std::chrono::milliseconds for_long;  // to the one for whom it was: until it may be forgotten
    };
    struct Waiting {
        std::string key_name;
        RefreshOrders orders;
        Told told;
    };
    void begin(const std::string& key_name, const RefreshOrders& orders, Told told);
    Result<> execute(const std::string& key_name, const RefreshProgram& program);
    [[nodiscard]] bool was_tried(const std::string& key_name, std::int64_t since, const Wish& wish);

    Loop& loop_;
    const MakeRefreshProgram make_program_;
    const ChildHook in_child_;
    std::unordered_map<std::string, Tried> tried_;
    std::size_t forget_at_ = 1024;
    std::list<std::unique_ptr<Child>> starting_;
    std::deque<Waiting> waiting_;
    std::uint64_t count_ = 0;
    bool closed_ = false;
};

}  // namespace coalesce
