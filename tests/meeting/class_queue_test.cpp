// SPDX-License-Identifier: MIT
// The queue of a class, where it cannot be looked at, or is while a ticket is made (SPEC C1, C3, F14); all else is in
// tests/classes.
#include <coalesce/meeting/class_queue.h>

#include <spawn.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <functional>
#include <memory>
#include <utility>

#include "../catch.h"
#include "../scratch.h"

using namespace coalesce;

namespace {

std::function<void()> when_a_fifo_is_made;

}  // namespace

// In place of libc's.
extern "C" int mkfifoat(int directory, const char* name, mode_t mode) noexcept {
    const int made = ::mknodat(directory, name, mode | S_IFIFO, 0);
    if (auto then = std::exchange(when_a_fifo_is_made, {})) then();
    return made;
}

namespace {

// A process with that in its environment, until it is destroyed.
class Marked {
  public:
    explicit Marked(const char* entry) {
        std::array<int, 2> input{};
        std::array<int, 2> output{};
        REQUIRE(::pipe2(input.data(), O_CLOEXEC) == 0);
        REQUIRE(::pipe2(output.data(), O_CLOEXEC) == 0);
        end_ = Descriptor(input[1]);
        const Descriptor told(output[0]);
        {
            const Descriptor its_input(input[0]);
            const Descriptor its_output(output[1]);
            posix_spawn_file_actions_t actions;
            ::posix_spawn_file_actions_init(&actions);
            ::posix_spawn_file_actions_adddup2(&actions, its_input.get(), STDIN_FILENO);
            ::posix_spawn_file_actions_adddup2(&actions, its_output.get(), STDOUT_FILENO);
            const std::array<const char*, 2> argv{"cat", nullptr};
            const std::array<const char*, 2> env{entry, nullptr};
            const int failed = ::posix_spawn(&pid, "/bin/cat", &actions, nullptr, const_cast<char* const*>(argv.data()),
                                             const_cast<char* const*>(env.data()));
            ::posix_spawn_file_actions_destroy(&actions);
            REQUIRE(failed == 0);
        }
        char back = 'x';  // its environment can be read when it runs, which is later than when it was started
        REQUIRE(::write(end_.get(), &back, 1) == 1);
        REQUIRE(::read(told.get(), &back, 1) == 1);
    }
    ~Marked() {
        end_.reset();
        ::waitpid(pid, nullptr, 0);
    }
    Marked(const Marked&) = delete;
    Marked& operator=(const Marked&) = delete;

    pid_t pid = -1;

  private:
    Descriptor end_;
};

// No further descriptor is to be had while it lives.
class NoDescriptors {
  public:
    NoDescriptors() {
        ::getrlimit(RLIMIT_NOFILE, &before_);
        rlimit none = before_;
        none.rlim_cur = 0;
        ::setrlimit(RLIMIT_NOFILE, &none);
    }
    ~NoDescriptors() { ::setrlimit(RLIMIT_NOFILE, &before_); }
    NoDescriptors(const NoDescriptors&) = delete;
    NoDescriptors& operator=(const NoDescriptors&) = delete;

  private:
    rlimit before_{};
};

std::shared_ptr<ClassQueue> queue_in(const Scratch& scratch) {
    auto place = MeetingPlace::open_named(scratch.path("place"));
    REQUIRE(place);
    auto queue = ClassQueue::open(*place, "heavy");
    REQUIRE(queue);
    return *queue;
}

}  // namespace

TEST_CASE("C1, F14: who cannot read the queue for want of a descriptor does not take it for empty", "[classes]") {
    const Scratch scratch;
    const auto queue = queue_in(scratch);
    ClassQueue::Standing standing;
    auto running = queue->take(1, {}, {}, standing);
    REQUIRE(running);
    REQUIRE(standing.may_start);
    running.value()->start();
    auto waiting = queue->take(1, {}, {}, standing);
    REQUIRE(waiting);
    REQUIRE_FALSE(standing.may_start);
    {
        const NoDescriptors none;
        standing = waiting.value()->look();
    }
    CHECK_FALSE(standing.may_start);
    CHECK(standing.look_soon);
    CHECK_FALSE(waiting.value()->look().may_start);
    running.value().reset();
    CHECK(waiting.value()->look().may_start);
}

TEST_CASE("C3: a ticket behind that of a run is not taken for one that nobody holds while it is made", "[classes]") {
    const Scratch scratch;
    const auto queue = queue_in(scratch);
    ClassQueue::Standing standing;
    auto running = queue->take(1, {}, {}, standing);
    REQUIRE(running);
    running.value()->start();
    auto waiting = queue->take(1, {}, {}, standing);
    REQUIRE(waiting);
    const Marked asker(running.value()->mark().environment);
    when_a_fifo_is_made = [&] { CHECK_FALSE(waiting.value()->look().may_start); };
    auto below = queue->take(1, {asker.pid}, {}, standing);
    REQUIRE(below);
    CHECK(standing.may_start);
    CHECK_FALSE(when_a_fifo_is_made);
    running.value().reset();
    CHECK_FALSE(waiting.value()->look().may_start);
    below.value().reset();
    CHECK(waiting.value()->look().may_start);
}

TEST_CASE("C3: a ticket goes to the run of who joined last, and never to one above a run that waits for it",
          "[classes]") {
    const Scratch scratch;
    const auto queue = queue_in(scratch);
    ClassQueue::Standing standing;
    const auto run_of = [&](std::vector<pid_t> askers) {
        auto ticket = queue->take(2, askers, {}, standing);
        REQUIRE(ticket);
        REQUIRE(standing.may_start);
        ticket.value()->start();
        return std::move(*ticket);
    };
    const auto one = run_of({});
    const Marked in_one(one->mark().environment);
    const auto below = run_of({in_one.pid});
    const Marked in_below(below->mark().environment);
    const auto another = run_of({});
    const Marked in_another(another->mark().environment);
    auto waiting = queue->take(2, {::getpid()}, {}, standing);
    REQUIRE(waiting);
    REQUIRE_FALSE(standing.may_start);
    CHECK_FALSE(waiting.value()->stands_apart_from(::getpid()));
    CHECK(waiting.value()->stands_apart_from(in_one.pid));
    waiting = queue->take(2, {::getpid(), in_one.pid}, {}, standing);
    REQUIRE(waiting);
    CHECK_FALSE(standing.may_start);  // one at a time
    CHECK_FALSE(waiting.value()->stands_apart_from(in_one.pid));
    CHECK(waiting.value()->stands_apart_from(in_below.pid));
    CHECK(waiting.value()->stands_apart_from(in_another.pid));
    for (const std::vector<pid_t>& askers : {std::vector{in_below.pid, in_one.pid},
                                             {in_below.pid, in_another.pid, in_one.pid},
                                             {in_another.pid, in_one.pid, in_below.pid}}) {
        const auto lowest = queue->take(2, askers, {}, standing);
        REQUIRE(lowest);
        CHECK(standing.may_start);
        CHECK_FALSE(lowest.value()->stands_apart_from(in_one.pid));
        CHECK_FALSE(lowest.value()->stands_apart_from(in_below.pid));
        CHECK(lowest.value()->stands_apart_from(in_another.pid));
    }
}
