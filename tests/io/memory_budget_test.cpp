// SPDX-License-Identifier: MIT
// What memory a machine and its control groups allow, as their files say it (SPEC F9).
#include <coalesce/io/memory_budget.h>

#include <filesystem>
#include <string>

#include "../catch.h"
#include "../scratch.h"

using namespace coalesce;

namespace {

// A machine's /proc and /sys, as far as they matter here.
class Machine : public Scratch {
  public:
    void set(const std::string& name, const std::string& text) const {
        std::filesystem::create_directories(std::filesystem::path(path(name)).parent_path());
        file(name, text);
    }
    [[nodiscard]] std::uint64_t allowed() const { return memory_allowed(path()); }
};

}  // namespace

TEST_CASE("F9: the machine's memory counts where no control group says less", "[memory]") {
    const Machine machine;
    const std::uint64_t all = machine.allowed();
    CHECK(all > (1 << 20));
    machine.set("proc/self/cgroup", "0::/user.slice\n");
    machine.set("sys/fs/cgroup/user.slice/memory.max", "max\n");
    CHECK(machine.allowed() == all);
}

TEST_CASE("F9: of a group and those above it the least counts", "[memory]") {
    const Machine machine;
    SECTION("version 2") {
        machine.set("proc/self/cgroup", "0::/a/b\n");
        machine.set("sys/fs/cgroup/a/b/memory.max", "max\n");
        machine.set("sys/fs/cgroup/a/memory.max", "5000\n");
        CHECK(machine.allowed() == 5000);
        machine.set("sys/fs/cgroup/a/b/memory.high", "4000\n");
        CHECK(machine.allowed() == 4000);
    }
    SECTION("version 1, among other controllers") {
        machine.set("proc/self/cgroup", "4:cpu,memory:/a/b\n3:cpuset:/c\n0::/d\n");
        machine.set("sys/fs/cgroup/memory/a/b/memory.limit_in_bytes", "9223372036854771712\n");
        machine.set("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "7000\n");
        machine.set("sys/fs/cgroup/d/memory.max", "8000\n");
        CHECK(machine.allowed() == 7000);
    }
    SECTION("in a container that sees its own root of the hierarchy, not the way to it") {
        machine.set("proc/self/cgroup", "4:memory:/docker/0123\n");
        machine.set("sys/fs/cgroup/memory/memory.limit_in_bytes", "6000\n");
        CHECK(machine.allowed() == 6000);
    }
    SECTION("in the root group") {
        machine.set("proc/self/cgroup", "0::/\n");
        machine.set("sys/fs/cgroup/memory.max", "3000\n");
        CHECK(machine.allowed() == 3000);
    }
}

TEST_CASE("F9: a budget is exhausted by what was taken and not given back", "[memory]") {
    MemoryBudget budget(100);
    budget.take(99);
    CHECK_FALSE(budget.exhausted());
    budget.take(1);
    CHECK(budget.exhausted());
    budget.give_back(50);
    CHECK_FALSE(budget.exhausted());
    CHECK(MemoryBudget::of_this_process().limit() > 0);
}
