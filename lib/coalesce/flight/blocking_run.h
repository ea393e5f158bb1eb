// SPDX-License-Identifier: MIT
// BlockingRun: one run of a blocking group, as its threads see it.
//
// The thread that leads runs; the others wait here for its outcome, first for
// about as long as a wake-up would take and then asleep, and are woken with no
// lock held. A run is also a node of the wait-for graph, which all blocking
// groups share under one lock: a thread that would wait for a run that waits
// for its own is told instead. The lock is only taken by threads that are
// inside a run themselves; nobody can wait for the others.
#pragma once

#include <coalesce/flight/key_table.h>
#include <coalesce/flight/landing.h>
#include <coalesce/flight/ref.h>
#include <coalesce/flight/wait_graph.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <system_error>
#include <utility>

namespace coalesce {
namespace detail {

/// A hint to the processor that this thread only waits.
inline void spin_pause() noexcept {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

/// Pauses twice as long each time, then no more: some ten microseconds in all, less than
/// going to sleep costs. Who looks again at once, and again, keeps taking the cache line
/// from the thread that is to change it: two threads on different keys took twice as long.
class Backoff {
  public:
    Backoff(int first, int longest) noexcept : pauses_(first), longest_(longest) {}
    /// False when it is time to sleep.
    bool pause() noexcept {
        if (pauses_ > longest_) return false;
        for (int i = 0; i < pauses_; ++i) spin_pause();
        pauses_ *= 2;
        return true;
    }

  private:
    int pauses_;
    const int longest_;
};

/// A run without its type. Counted atomically, unlike what lives on a loop.
class BlockingRun : public WaitNode {
  public:
    void retain() noexcept { references_.fetch_add(1, std::memory_order_relaxed); }
    void release() noexcept {
        if (references_.fetch_sub(1, std::memory_order_acq_rel) == 1) delete this;
    }

    /// Sleeps until the run has landed.
    void wait() const noexcept {
        Backoff backoff{256, 512};
        do {
            if (has_landed()) return;
        } while (backoff.pause());
        landed_flag_.wait(0, std::memory_order_acquire);
    }

    [[nodiscard]] bool has_landed() const noexcept { return landed_flag_.load(std::memory_order_acquire) != 0; }

    /// Guards the graph that all blocking groups share.
    [[nodiscard]] static std::mutex& graph_mutex() noexcept {
        static std::mutex mutex;
        return mutex;
    }

  protected:
    BlockingRun() noexcept = default;
    virtual ~BlockingRun() = default;

    void publish() noexcept {
        landed_flag_.store(1, std::memory_order_release);
        landed_flag_.notify_all();
    }

  private:
    std::atomic<std::uint32_t> references_{0};
    std::atomic<std::uint32_t> landed_flag_{0};
};

/// A run with its outcome, and the key it is found by.
template <class Key, class T>
class KeyedRun final : public BlockingRun, public KeyEntry {
  public:
    using Value = std::shared_ptr<const Payload<T>>;

    template <class K>
    KeyedRun(std::size_t key_hash, K&& from) : KeyEntry(key_hash), key(std::forward<K>(from)) {}

    /// Publishes the outcome, once, and wakes who waits.
    void land(Value value, std::exception_ptr error) noexcept {
        value_ = std::move(value);
        error_ = std::move(error);
        publish();
    }

    /// The outcome of a run that has landed.
    [[nodiscard]] const Value& get() const {
        if (error_) std::rethrow_exception(error_);
        return value_;
    }

    const Key key;
    // Under the shard's lock, as is its place in the table:
    std::size_t requesters = 1;
    bool listed = false;

  private:
    Value value_;
    std::exception_ptr error_;
};

/// The run this thread is inside of, innermost.
inline thread_local constinit BlockingRun* current_run = nullptr;

/// "The run this thread is in waits for `run`", for a block. Throws
/// resource_deadlock_would_occur if `run` already waits for that one.
class WaitInRun {
  public:
    explicit WaitInRun(BlockingRun& run) {
        if (!current_run || current_run->has_landed()) return;
        const std::lock_guard lock(BlockingRun::graph_mutex());
        if (run.waits_for(*current_run))
            throw std::system_error(std::make_error_code(std::errc::resource_deadlock_would_occur),
                                    "would wait for itself");
        current_run->wait_for(run, edge_);
        waits_ = true;
    }
    WaitInRun(const WaitInRun&) = delete;
    WaitInRun& operator=(const WaitInRun&) = delete;
    ~WaitInRun() {
        if (!waits_) return;
        const std::lock_guard lock(BlockingRun::graph_mutex());
        edge_.cut();
    }

  private:
    WaitEdge edge_;
    bool waits_ = false;
};

}  // namespace detail

/// A handle to the run a thread is inside of, to be handed to threads that work for it.
class RunRef {
  public:
    RunRef() noexcept = default;
    /// The innermost run of this thread; empty outside of any.
    [[nodiscard]] static RunRef current() noexcept {
        RunRef ref;
        ref.run_ = detail::Ref<detail::BlockingRun>(detail::current_run);
        return ref;
    }
    explicit operator bool() const noexcept { return static_cast<bool>(run_); }

  private:
    friend class RunScope;
    detail::Ref<detail::BlockingRun> run_;
};

/// Makes this thread work for a run for a block, as if it were the one that
/// leads it: what it asks for counts as asked for by that run.
class RunScope {
  public:
    explicit RunScope(RunRef run) noexcept
        : run_(std::move(run)), outer_(std::exchange(detail::current_run, run_.run_.get())) {}
    RunScope(const RunScope&) = delete;
    RunScope& operator=(const RunScope&) = delete;
    ~RunScope() { detail::current_run = outer_; }

  private:
    RunRef run_;
    detail::BlockingRun* outer_;
};

}  // namespace coalesce
