// SPDX-License-Identifier: MIT
// The worker beside the loop.
#include <coalesce/io/worker.h>

#include <coalesce/io/loop.h>
#include <coalesce/io/watch.h>

#include <pthread.h>

#include <cstddef>
#include <future>
#include <string>
#include <utility>

#include "../catch.h"

using namespace coalesce;
using namespace std::chrono_literals;

namespace {

// No thread can be begun while it lives: there is no room for its stack.
class NoThreads {
  public:
    NoThreads() {
        ::pthread_getattr_default_np(&before_);
        pthread_attr_t endless;
        ::pthread_attr_init(&endless);
        ::pthread_attr_setstacksize(&endless, std::size_t{1} << 47);
        REQUIRE(::pthread_setattr_default_np(&endless) == 0);
        ::pthread_attr_destroy(&endless);
    }
    ~NoThreads() {
        ::pthread_setattr_default_np(&before_);
        ::pthread_attr_destroy(&before_);
    }
    NoThreads(const NoThreads&) = delete;
    NoThreads& operator=(const NoThreads&) = delete;

  private:
    pthread_attr_t before_;
};

}  // namespace

TEST_CASE("worker: without a thread the work is done all the same", "[worker]") {
    Loop loop;
    Worker worker(loop);
    std::string order;
    {
        const NoThreads none;
        worker.give([&] { order += "work "; }, [&] { order += "told"; });
    }
    CHECK(order == "work ");
    loop.run();
    CHECK(order == "work told");
    CHECK(worker.idle());
}

TEST_CASE("worker: the loop runs on for what a thread does, though an earlier task found none", "[worker]") {
    Loop loop;
    Worker worker(loop);
    std::string told;
    std::promise<void> go_on;
    bool gone_on = false;
    const auto let_go = [&] {
        if (!std::exchange(gone_on, true)) go_on.set_value();
    };
    {
        const NoThreads none;
        worker.give({}, [&] { told += 'a'; });
    }
    worker.give([at = go_on.get_future()] { at.wait(); }, [&] { told += 'b'; });
    Timer later(loop);
    later.in_background();  // the loop is not kept by it
    later.start(1ms, 1ms, [&] {
        if (told == "a") let_go();
    });
    loop.run();
    let_go();
    CHECK(told == "ab");
    CHECK(worker.idle());
}
