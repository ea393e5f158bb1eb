// SPDX-License-Identifier: MIT
// DryRun: what a batch would run, each distinct command with its count (SPEC B5).
//
// Two commands are distinct if their keys are: what differs besides the words, such as
// the directory of a JSON request, is told behind them. The list is written through
// the loop, so that a reader who does not read keeps nobody from hearing a signal.
#pragma once

#include <coalesce/command/key.h>
#include <coalesce/command/result.h>
#include <coalesce/flight/unique_function.h>

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include <coalesce/engine/command_executor.h>
#include <coalesce/io/outlet.h>

namespace coalesce {

class Loop;

class DryRun {
  public:
    /// `usual` are the surroundings of a command that says nothing about them.
    DryRun(Loop& loop, std::shared_ptr<const CanonicalSurroundings> usual,
           UniqueFunction<void(const Error&)> on_refused);

    /// One request more for this command.
    void count(const RequestKey& key, const std::string& title);
    /// Writes the list, in the order in which the commands first came; later turns go on with it.
    void list();
    [[nodiscard]] bool listing() const noexcept { return listing_; }

  private:
    struct Command {
        const Key* key;
        std::string title;
        std::uint64_t count;
    };
    void write();
    [[nodiscard]] std::string row(const Command& command) const;
    [[nodiscard]] std::string difference(const Key& key) const;

    std::shared_ptr<const CanonicalSurroundings> usual_;
    UniqueFunction<void(const Error&)> on_refused_;
    Outlet out_;
    std::unordered_map<Key, std::size_t, KeyHash, KeyEqual> places_;
    std::vector<Command> commands_;
    bool listing_ = false;
    std::size_t next_ = 0;  // to be listed
    std::string text_;
    std::size_t written_ = 0;  // of text_
};

}  // namespace coalesce
