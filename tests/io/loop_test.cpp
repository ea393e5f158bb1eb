// SPDX-License-Identifier: MIT
// The loop, its watches and timers.
#include <coalesce/io/loop.h>

#include <coalesce/io/watch.h>

#include <sys/eventfd.h>

#include <csignal>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "../catch.h"
#include "../scratch.h"

using namespace coalesce;
using namespace std::chrono_literals;

TEST_CASE("loop: what is posted runs once, in order, and never inside post()", "[loop]") {
    Loop loop;
    std::string order;
    loop.post([&] {
        order += 'a';
        loop.post([&] { order += 'c'; });
        order += 'A';
    });
    loop.post([&] { order += 'b'; });
    CHECK(order.empty());
    loop.run();
    CHECK(order == "aAbc");
}

TEST_CASE("loop: tasks that post for ever do not starve what comes from outside", "[loop]") {
    Loop loop;
    Pipe pipe;
    bool stopped = false;
    std::function<void()> again = [&] {
        if (!stopped) loop.post([&] { again(); });
    };
    Watch watch;
    auto created = Watch::start(loop, pipe.read_end.get(), Readiness::readable, [&] {
        stopped = true;
        watch.stop();
    });
    REQUIRE(created);
    watch = std::move(*created);
    again();
    REQUIRE(::write(pipe.write_end.get(), "x", 1) == 1);
    loop.run();
    CHECK(stopped);
}

TEST_CASE("loop: posted tasks that never ran are dropped with the loop", "[loop]") {
    auto kept = std::make_shared<int>(0);
    {
        Loop loop;
        loop.post([kept] {});
        CHECK(kept.use_count() == 2);
    }
    CHECK(kept.use_count() == 1);
}

TEST_CASE("watch: may be dropped inside its own callback", "[loop]") {
    Loop loop;
    Pipe pipe;
    std::unique_ptr<Watch> watch;
    int calls = 0;
    auto created = Watch::start(loop, pipe.read_end.get(), Readiness::readable, [&] {
        ++calls;
        watch.reset();
    });
    REQUIRE(created);
    watch = std::make_unique<Watch>(std::move(*created));
    REQUIRE(::write(pipe.write_end.get(), "x", 1) == 1);
    loop.run();
    CHECK(calls == 1);
}

TEST_CASE("watch: one that is dropped by another of the same turn is not called", "[loop]") {
    Loop loop;
    Pipe pipes[2];
    Watch watches[2];
    int calls = 0;
    for (int i = 0; i < 2; ++i) {
        auto created = Watch::start(loop, pipes[i].read_end.get(), Readiness::readable, [&, i] {
            ++calls;
            watches[1 - i].reset();
            watches[i].stop();
        });
        REQUIRE(created);
        watches[i] = std::move(*created);
        REQUIRE(::write(pipes[i].write_end.get(), "x", 1) == 1);
    }
    loop.run();
    CHECK(calls == 1);
}

TEST_CASE("watch: waits for something else when told so, and goes on after a stop", "[loop]") {
    Loop loop;
    Pipe pipe;
    Watch watch;
    std::string order;
    auto created = Watch::start(loop, pipe.write_end.get(), Readiness::hangup, [&] {
        order += pipe.read_end ? 'w' : 'h';
        watch.resume(Readiness::hangup);
        if (!pipe.read_end) return watch.stop();
        pipe.read_end.reset();
    });
    REQUIRE(created);
    watch = std::move(*created);
    watch.stop();
    loop.run();  // nothing to wait for
    CHECK(order.empty());
    watch.resume(Readiness::writable);
    loop.run();
    CHECK(order == "wh");
}

TEST_CASE("watch: a descriptor keeps its flags, since other processes may share it", "[loop]") {
    Loop loop;
    Pipe pipe;
    int calls = 0;
    Watch watch;
    auto created = Watch::start(loop, pipe.read_end.get(), Readiness::readable, [&] {
        ++calls;
        watch.stop();
    });
    REQUIRE(created);
    watch = std::move(*created);
    REQUIRE(::write(pipe.write_end.get(), "x", 1) == 1);
    loop.run();
    CHECK(calls == 1);
    CHECK((::fcntl(pipe.read_end.get(), F_GETFL) & O_NONBLOCK) == 0);
}

TEST_CASE("watch: a regular file is refused, not watched for nothing", "[loop]") {
    Loop loop;
    Scratch scratch;
    const Descriptor file(::open(scratch.file("file", "x").c_str(), O_RDONLY | O_CLOEXEC));
    CHECK_FALSE(Watch::start(loop, file.get(), Readiness::readable, [] {}));
}

TEST_CASE("timer: a later start replaces an earlier one, also inside its own callback", "[loop]") {
    Loop loop;
    Timer timer(loop);
    std::string order;
    timer.start(1h, [&] { order += 'x'; });
    timer.start(1ms, [&] {
        order += 'a';
        timer.start(1ms, [&] { order += 'b'; });
    });
    loop.run();
    CHECK(order == "ab");
}

TEST_CASE("timer: repeats until it is stopped, and may be dropped from inside", "[loop]") {
    Loop loop;
    int calls = 0;
    auto timer = std::make_unique<Timer>(loop);
    timer->start(1ms, 1ms, [&] {
        if (++calls == 3) timer.reset();
    });
    loop.run();
    CHECK(calls == 3);
}

TEST_CASE("timer: what it was to call goes when it was called for the last time, or was stopped", "[loop]") {
    Loop loop;
    Timer once(loop);
    Timer repeated(loop);
    Timer never(loop);
    const auto held = std::make_shared<int>();
    once.start(1ms, [held] {});
    repeated.start(1ms, 1ms, [held, &repeated] { repeated.stop(); });
    never.start(1h, [held] {});
    never.stop();
    loop.run();
    CHECK(held.use_count() == 1);
}

TEST_CASE("timer: its owner may be what it was to call holds", "[loop]") {
    struct Owner {
        Timer timer;
    };
    Loop loop;
    for (const bool stopped : {false, true}) {
        auto owner = std::make_shared<Owner>(Owner{Timer(loop)});
        const std::weak_ptr<Owner> gone = owner;
        owner->timer.start(1ms, [owner] {});
        if (stopped) owner->timer.stop();
        owner.reset();
        loop.run();
        CHECK(gone.expired());
    }
}

TEST_CASE("timer: in the background it keeps no loop running", "[loop]") {
    Loop loop;
    Timer timer(loop);
    timer.start(1h, [] {});
    timer.in_background();
    loop.run();
    SUCCEED();
}

TEST_CASE("signals: are told on the loop, and keep no loop running", "[loop]") {
    Loop loop;
    int calls = 0;
    const SignalWatch watch(loop, SIGUSR1, [&] { ++calls; });
    Timer timer(loop);
    timer.start(10s, [] {});
    loop.post([] { ::raise(SIGUSR1); });
    Timer poll(loop);
    poll.start(1ms, 1ms, [&] {
        if (calls == 0) return;
        poll.stop();
        timer.stop();
    });
    loop.run();
    CHECK(calls == 1);
}

TEST_CASE("L1: what was posted and never run may post again as it goes", "[loop]") {
    struct PostsAgain {
        Loop* loop;
        int times;
        int* gone;
        PostsAgain(Loop& on, int again, int& count) : loop(&on), times(again), gone(&count) {}
        PostsAgain(PostsAgain&& other) noexcept
            : loop(std::exchange(other.loop, nullptr)), times(other.times), gone(other.gone) {}
        ~PostsAgain() {
            if (loop == nullptr) return;
            ++*gone;
            if (times == 0) return;
            for (int i = 0; i < 2; ++i) loop->post([again = PostsAgain(*loop, times - 1, *gone)] {});
        }
        void operator()() {}
    };
    int gone = 0;
    {
        Loop loop;
        loop.post(PostsAgain(loop, 5, gone));
    }
    CHECK(gone == 63);
}
