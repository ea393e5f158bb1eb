// SPDX-License-Identifier: MIT
// BlockingGroup: the in-flight table for threads that wait.
//
// Many threads call; of one key one thread runs the function and the others
// sleep until it has, then all return the same object or throw the same
// exception. The key is free before anybody is woken. A call that would wait
// for itself, by its own key or by a ring over several keys, threads and groups,
// throws resource_deadlock_would_occur in the call that closes the ring.
//
// It is the same table as the loop's (key_table.h), in shards each under a lock
// that is held to look up, to list and to unlist, never while anything
// runs. Nobody leaves a blocking call, so nothing is ever cancelled; a thread
// that must be able to give up belongs on a loop, or waits for a
// Ticket::future(). A function may hand on a std::future: the leading thread
// waits for it. Threads that such a function starts are unknown here; one that
// may ask for the same keys opens a RunScope. Refused: one lock for all keys,
// which two threads on two cores already feel.
#pragma once

#include <coalesce/flight/blocking_run.h>
#include <coalesce/flight/key_table.h>
#include <coalesce/flight/landing.h>
#include <coalesce/flight/ref.h>
#include <coalesce/flight/result_of.h>
#include <coalesce/flight/string_hash.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <exception>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <type_traits>
#include <utility>

namespace coalesce {

/// Key → run, for any number of threads. Outlives the calls made on it.
template <class Key, class T, class Hash = std::hash<Key>, class Equal = std::equal_to<>>
class BlockingGroup {
  public:
    /// What a call returns: the shared value, or nothing.
    using Result = std::conditional_t<std::is_void_v<T>, void, std::shared_ptr<const Payload<T>>>;

    BlockingGroup() = default;
    BlockingGroup(const BlockingGroup&) = delete;
    BlockingGroup& operator=(const BlockingGroup&) = delete;

    /// Returns the result of the run of `key` that is in flight, or runs
    /// `function()`, which returns a T, or a std::future of one. `function` is
    /// only called by the thread that leads.
    template <class K, class Function>
    Result call(K&& key, Function&& function) {
        if constexpr (kFindsBy<K>)
            return call_found_by(std::forward<K>(key), std::forward<Function>(function));
        else
            return call_found_by(Key(std::forward<K>(key)), std::forward<Function>(function));
    }

    /// Lets who asks from now on run anew at once; who waits keeps the old run.
    /// False if the key is idle.
    template <class K>
    bool forget(const K& key) {
        if constexpr (kFindsBy<K>) {
            const std::size_t hash = hash_(key);
            Shard& shard = shard_of(hash);
            const Locked lock(shard);
            Run* live = shard.live.find(hash, key);
            if (live) unlist(shard, *live);
            return live != nullptr;
        } else {
            return forget(Key(key));
        }
    }

    /// How many calls the run of `key` serves so far, the one that leads included; 0 if the key is idle.
    template <class K>
    [[nodiscard]] std::size_t requesters(const K& key) const {
        if constexpr (kFindsBy<K>) {
            const std::size_t hash = hash_(key);
            Shard& shard = shard_of(hash);
            const Locked lock(shard);
            const Run* live = shard.live.find(hash, key);
            return live ? live->requesters : 0;
        } else {
            return requesters(Key(key));
        }
    }

    /// How many keys are in flight.
    [[nodiscard]] std::size_t size() const {
        std::size_t sum = 0;
        for (Shard& shard : shards_) {
            const Locked lock(shard);
            sum += shard.live.size();
        }
        return sum;
    }
    [[nodiscard]] bool empty() const { return size() == 0; }

  private:
    using Run = detail::KeyedRun<Key, T>;
    using RunPointer = detail::Ref<Run>;

    static constexpr bool kTransparent = requires {
        typename Hash::is_transparent;
        typename Equal::is_transparent;
    };
    template <class K>
    static constexpr bool kFindsBy = kTransparent || std::is_same_v<std::remove_cvref_t<K>, Key>;

    struct alignas(64) Shard {
        std::mutex mutex;
        std::atomic<std::size_t> live_hint{0};  // how many, for who does not hold the lock
        detail::KeyTable<Run, Equal> live;      // holds a count of each
    };

    // Critical sections are shorter than a sleep, so it is worth trying a little first.
    class Locked {
      public:
        explicit Locked(Shard& shard) : mutex_(shard.mutex) {
            detail::Backoff backoff{32, 256};
            do {
                if (mutex_.try_lock()) return;
            } while (backoff.pause());
            mutex_.lock();
        }
        Locked(const Locked&) = delete;
        Locked& operator=(const Locked&) = delete;
        ~Locked() { mutex_.unlock(); }

      private:
        std::mutex& mutex_;
    };

    [[nodiscard]] Shard& shard_of(std::size_t hash) const noexcept {
        return shards_[(detail::spread(hash) >> 24) % kShards];  // the table's own buckets use the high bits
    }

    template <class K, class Function>
    Result call_found_by(K&& key, Function&& function) {
        const std::size_t hash = hash_(key);
        Shard& shard = shard_of(hash);
        bool leads = false;
        const RunPointer run = lead_or_join(shard, hash, std::forward<K>(key), leads);
        if (leads)
            lead(shard, *run, std::forward<Function>(function));
        else
            wait(*run);
        if constexpr (std::is_void_v<T>)
            (void)run->get();
        else
            return run->get();
    }

    template <class K>
    RunPointer lead_or_join(Shard& shard, std::size_t hash, K&& key, bool& leads) {
        // Where nothing is in flight this is likely to lead, and makes its run before it takes the lock: an
        // allocation under it costs two threads on different keys a fifth. Declared before the lock, so that
        // a run for which another thread was quicker is not freed under it either.
        RunPointer run;
        if (shard.live_hint.load(std::memory_order_relaxed) == 0) run = RunPointer(new Run(hash, std::forward<K>(key)));
        const Locked lock(shard);
        Run* live = run ? shard.live.find(hash, run->key) : shard.live.find(hash, key);
        if (live) {
            ++live->requesters;
            return RunPointer(live);
        }
        leads = true;
        if (!run) run = RunPointer(new Run(hash, std::forward<K>(key)));
        if (shard.live.can_find(run->key)) list(shard, *run);
        return run;
    }

    static void list(Shard& shard, Run& run) {
        shard.live.reserve_one();
        shard.live.insert(run);
        shard.live_hint.store(shard.live.size(), std::memory_order_relaxed);
        run.retain();
        run.listed = true;
    }

    static void unlist(Shard& shard, Run& run) noexcept {
        if (!std::exchange(run.listed, false)) return;
        shard.live.erase(run);
        shard.live_hint.store(shard.live.size(), std::memory_order_relaxed);
        run.release();
    }

    static void wait(Run& run) {
        const detail::WaitInRun unless_it_waits_for_us(run);
        run.wait();
    }

    template <class Function>
    static void lead(Shard& shard, Run& run, Function&& function) {
        // Lands the run whatever ends the function, a thread that is cancelled included.
        struct Landing {
            Shard& shard;
            Run& run;
            typename Run::Value value;
            std::exception_ptr error;

            ~Landing() {
                {
                    const Locked lock(shard);
                    unlist(shard, run);
                }
                if (!value && !error)
                    error = std::make_exception_ptr(std::future_error(std::future_errc::broken_promise));
                run.land(std::move(value), std::move(error));
            }
        } landing{shard, run, nullptr, nullptr};

        const detail::WaitInRun outer_waits_for_this(run);
        struct Inside {
            detail::BlockingRun* outer;
            ~Inside() { detail::current_run = outer; }
        } const inside{std::exchange(detail::current_run, &run)};
        try {
            landing.value = result_of(std::forward<Function>(function));
        } catch (...) {
            landing.error = std::current_exception();
            if (!landing.error) throw;  // no exception of C++: this thread is being cancelled, and must be
        }
    }

    template <class Function>
    static typename Run::Value result_of(Function&& function) {
        using Returned = std::invoke_result_t<Function>;
        if constexpr (std::is_void_v<T>) {
            if constexpr (detail::Future<Returned>)
                std::invoke(std::forward<Function>(function)).get();
            else
                std::invoke(std::forward<Function>(function));
            return detail::shared_nothing();
        } else if constexpr (detail::Future<Returned>) {
            return std::make_shared<const T>(std::invoke(std::forward<Function>(function)).get());
        } else {
            return std::make_shared<const T>(std::invoke(std::forward<Function>(function)));
        }
    }

    static constexpr std::size_t kShards = 16;

    mutable std::array<Shard, kShards> shards_;
    [[no_unique_address]] Hash hash_{};
};

}  // namespace coalesce
