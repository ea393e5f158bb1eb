// SPDX-License-Identifier: MIT
// MemoryBudget: how much recorded output this process may keep in memory (SPEC F9).
//
// All stores that have no directory of their own take from one budget: a quarter of what
// the machine, or the control group that this process is in, allows. A memfd counts
// against the control group as the heap does, so that output past it would not be
// refused but have the process killed. The limit is looked up when somebody first asks,
// which is not before much has been recorded: a short command pays nothing. A budget
// only counts; a Spool that finds it exhausted is at its replay limit. The files of the same stores are counted beside,
// wherever they lie: descriptors are few, too.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>

namespace coalesce {

/// The memory that this process may have: the machine's, or less where its control group
/// or one above it says so (memory.max and memory.high of version 2, memory.limit_in_bytes
/// of version 1). `root` stands before /proc and /sys.
[[nodiscard]] std::uint64_t memory_allowed(const std::string& root = {});

class MemoryBudget {
  public:
    /// A quarter of memory_allowed(), looked up at the first question.
    MemoryBudget() = default;
    explicit MemoryBudget(std::uint64_t bytes) : limit_(bytes) {}
    MemoryBudget(const MemoryBudget&) = delete;
    MemoryBudget& operator=(const MemoryBudget&) = delete;

    /// The one of this process.
    [[nodiscard]] static MemoryBudget& of_this_process() noexcept;

    void take(std::uint64_t bytes) noexcept { used_.fetch_add(bytes, std::memory_order_relaxed); }
    void give_back(std::uint64_t bytes) noexcept { used_.fetch_sub(bytes, std::memory_order_relaxed); }

    [[nodiscard]] std::uint64_t used() const noexcept { return used_.load(std::memory_order_relaxed); }
    [[nodiscard]] std::uint64_t limit() const;
    [[nodiscard]] bool exhausted() const { return used() >= limit(); }

    void opened_file() noexcept { files_.fetch_add(1, std::memory_order_relaxed); }
    void closed_file() noexcept { files_.fetch_sub(1, std::memory_order_relaxed); }
    [[nodiscard]] std::size_t files() const noexcept { return files_.load(std::memory_order_relaxed); }

  private:
    static constexpr std::uint64_t not_looked_up = ~std::uint64_t{0};
    std::atomic<std::uint64_t> used_ = 0;
    std::atomic<std::size_t> files_ = 0;
    mutable std::atomic<std::uint64_t> limit_ = not_looked_up;
};

}  // namespace coalesce
