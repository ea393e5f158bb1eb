// SPDX-License-Identifier: MIT
// Engine: the three lines to where machines meet, whatever goes over them.
//
// control  scripts, one after the other. Never output and nothing that waits, so that a
//          heartbeat is never behind either.
// wake     SUBSCRIBE. What comes there only says "look now": a word that was lost costs a
//          heartbeat. Opened a moment after the first listener, so that short runs do without.
// data     output, when there is some to write or to read.
//
// One process has one Engine however many flights it has. It says when it is there and
// when not; what that means to a run is the lease's business. It repeats nothing.
#pragma once

#include <coalesce/command/result.h>
#include <coalesce/flight/unique_function.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include <coalesce/cluster/engine_url.h>
#include <coalesce/cluster/engine_line.h>
#include <coalesce/cluster/resp.h>
#include <coalesce/cluster/scripts.h>
#include <coalesce/io/watch.h>

namespace coalesce {

class Loop;

class Engine {
  public:
    using Answer = EngineLine::Answer;

    /// Begins to connect. The loop must outlive it.
    Engine(Loop& loop, EngineAccess access);
    Engine(const Engine&) = delete;
    Engine& operator=(const Engine&) = delete;

    [[nodiscard]] const EngineUrl& url() const noexcept { return access_.url; }
    [[nodiscard]] bool up() const noexcept { return control_.up(); }
    /// Why it is not up, as far as is known: it has not been reached yet, or not any more.
    [[nodiscard]] const std::optional<NoAnswer>& trouble() const noexcept { return trouble_; }
    /// Until then it may have forgotten leases, and nothing new is to be asked for (SPEC M6).
    [[nodiscard]] std::chrono::milliseconds too_young() const;

    /// Plays a script. The answer is no error reply: those are told as "no answer".
    void call(Script script, std::span<const std::string> keys, std::span<const std::string> arguments, Answer answer);

    /// The line that scripts go over, for what belongs in front of one.
    [[nodiscard]] EngineLine& control() noexcept { return control_; }
    /// The line for output, opened now if it was not.
    [[nodiscard]] EngineLine& data();

    [[nodiscard]] Loop& loop() noexcept { return loop_; }

    /// Hears of the engine's comings and goings as long as it lives, which is not longer than
    /// the engine. On turns of their own.
    class Listener {
      public:
        struct Events {
            UniqueFunction<void()> on_up;
            UniqueFunction<void(const NoAnswer&)> on_down;
            UniqueFunction<void()> on_data;  ///< the line for output is up
        };
        Listener(Engine& engine, Events events);
        ~Listener();
        Listener(const Listener&) = delete;
        Listener& operator=(const Listener&) = delete;

      private:
        friend class Engine;
        Engine& engine_;
        Events events_;
        const std::list<Listener*>::iterator place_;
    };

    /// Hears what is published on a channel, as long as it lives.
    class Subscription {
      public:
        struct Events {
            UniqueFunction<void()> on_subscribed;  ///< from here on nothing is missed; again after each loss
            UniqueFunction<void(const std::string&)> on_word;
        };
        Subscription(Engine& engine, std::string channel, Events events);
        ~Subscription();
        Subscription(const Subscription&) = delete;
        Subscription& operator=(const Subscription&) = delete;

      private:
        friend class Engine;
        Engine& engine_;
        const std::string channel_;
        Events events_;
    };

  private:
    template <class Tell>
    void tell_all(Tell tell);
    void want(bool wanted);
    void open_wake();
    void probe_wake();
    void on_message(const RespValue& message);

    Loop& loop_;
    const EngineAccess access_;
    std::list<Listener*> listeners_;  // null: gone while they are told
    std::size_t listening_ = 0;       // of them
    unsigned telling_ = 0;
    std::multimap<std::string, Subscription*> subscriptions_;
    std::optional<NoAnswer> trouble_;
    std::chrono::steady_clock::time_point old_enough_{};
    Timer wake_delay_;
    Timer wake_probe_;
    bool probing_ = false;
    bool wake_due_ = false;
    EngineLine control_;
    std::optional<EngineLine> wake_;
    std::optional<EngineLine> data_;
};

}  // namespace coalesce
