// SPDX-License-Identifier: MIT
// The queue of a class, where it cannot be looked at (SPEC C1, F14); all else is in tests/classes.
#include <coalesce/meeting/class_queue.h>

#include <sys/resource.h>

#include "../catch.h"
#include "../scratch.h"

using namespace coalesce;

namespace {

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

}  // namespace

TEST_CASE("C1, F14: who cannot read the queue for want of a descriptor does not take it for empty", "[classes]") {
    const Scratch scratch;
    auto place = MeetingPlace::open_named(scratch.path("place"));
    REQUIRE(place);
    auto queue = ClassQueue::open(*place, "heavy");
    REQUIRE(queue);
    ClassQueue::Standing standing;
    auto running = queue.value()->take(1, -1, {}, standing);
    REQUIRE(running);
    REQUIRE(standing.may_start);
    running.value()->start();
    auto waiting = queue.value()->take(1, -1, {}, standing);
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
