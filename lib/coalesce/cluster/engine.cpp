// SPDX-License-Identifier: MIT
#include <coalesce/cluster/engine.h>

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

namespace coalesce {
namespace {

using namespace std::chrono;
using namespace std::chrono_literals;

constexpr milliseconds wake_after = 20ms;
constexpr milliseconds wake_probe_each = 3s;  // a heartbeat: later it would be of no use

}  // namespace

Engine::Engine(Loop& loop, EngineAccess access)
    : loop_(loop),
      access_(std::move(access)),
      wake_delay_(loop),
      wake_probe_(loop),
      control_(loop, access_, EngineLine::Greeting::with_facts,
               {.on_up =
                    [this] {
                        trouble_.reset();
                        // They may have gone back to one that was the engine, and takes them still.
                        if (wake_) wake_->renew();
                        if (data_) data_->renew();
                        old_enough_ = steady_clock::now() + control_.facts().too_young_for(access_.url.lease);
                        tell_all([](Listener& listener) {
                            if (listener.events_.on_up) listener.events_.on_up();
                        });
                    },
                .on_down =
                    [this](const NoAnswer& why) {
                        trouble_ = why;
                        tell_all([this](Listener& listener) {
                            if (listener.events_.on_down) listener.events_.on_down(*trouble_);
                        });
                    },
                .on_message = {}}) {
    wake_delay_.in_background();
    wake_probe_.in_background();
}

milliseconds Engine::too_young() const {
    const auto now = steady_clock::now();
    return now >= old_enough_ ? 0ms : ceil<milliseconds>(old_enough_ - now);
}

void Engine::call(Script script, std::span<const std::string> keys, std::span<const std::string> arguments,
                  Answer answer) {
    control_.ask(call_of(script, keys, arguments), [answer = std::move(answer)](Result<RespValue> reply) mutable {
        if (reply && reply->is_error()) return answer(no_answer_of(*reply));
        answer(std::move(reply));
    });
}

EngineLine& Engine::data() {
    if (!data_) {
        const auto tell = [this] {
            tell_all([](Listener& listener) {
                if (listener.events_.on_data) listener.events_.on_data();
            });
        };
        data_.emplace(loop_, access_, EngineLine::Greeting::plain,
                      EngineLine::Events{.on_up = tell, .on_down = {}, .on_message = {}});
    }
    return *data_;
}

// Whoever is told may go, and take others with it; and others may come, which hear next time.
template <class Tell>
void Engine::tell_all(Tell tell) {
    ++telling_;
    const std::size_t count = listeners_.size();
    auto next = listeners_.begin();
    for (std::size_t told = 0; told < count; ++told, ++next)
        if (*next != nullptr) tell(**next);
    if (--telling_ == 0) listeners_.remove(nullptr);
}

// What kept it away may be mended: that is not what who comes now is to hear.
void Engine::want(bool wanted) {
    if (control_.want(wanted)) trouble_.reset();
    if (wake_) wake_->want(wanted);
    if (data_) data_->want(wanted);
}

Engine::Listener::Listener(Engine& engine, Events events)
    : engine_(engine), events_(std::move(events)), place_(engine_.listeners_.insert(engine_.listeners_.end(), this)) {
    if (engine_.listening_++ == 0) engine_.want(true);
}

Engine::Listener::~Listener() {
    if (--engine_.listening_ == 0) engine_.want(false);
    if (engine_.telling_ == 0)
        engine_.listeners_.erase(place_);
    else
        *place_ = nullptr;
}

Engine::Subscription::Subscription(Engine& engine, std::string channel, Events events)
    : engine_(engine), channel_(std::move(channel)), events_(std::move(events)) {
    engine_.subscriptions_.emplace(channel_, this);
    if (engine_.wake_) {
        engine_.wake_->say(std::array<std::string, 2>{"SUBSCRIBE", channel_});
        engine_.probe_wake();
    } else if (!std::exchange(engine_.wake_due_, true)) {
        engine_.wake_delay_.start(wake_after, [&engine] { engine.open_wake(); });
    }
}

Engine::Subscription::~Subscription() {
    auto& all = engine_.subscriptions_;
    const auto [first, last] = all.equal_range(channel_);
    for (auto entry = first; entry != last; ++entry)
        if (entry->second == this) {
            all.erase(entry);
            break;
        }
    if (!all.contains(channel_) && engine_.wake_)
        engine_.wake_->say(std::array<std::string, 2>{"UNSUBSCRIBE", channel_});
}

void Engine::open_wake() {
    wake_due_ = false;
    if (wake_ || subscriptions_.empty()) return;
    wake_.emplace(loop_, access_, EngineLine::Greeting::plain,
                  EngineLine::Events{.on_up =
                                         [this] {
                                             for (auto at = subscriptions_.begin(); at != subscriptions_.end();
                                                  at = subscriptions_.upper_bound(at->first))
                                                 wake_->say(std::array<std::string, 2>{"SUBSCRIBE", at->first});
                                         },
                                     .on_down = {},
                                     .on_message = [this](const RespValue& message) { on_message(message); }});
    probe_wake();
}

// A way that is silently gone, as through a proxy, would be missed by nobody.
void Engine::probe_wake() {
    if (std::exchange(probing_, true)) return;
    wake_probe_.start(wake_probe_each, [this] {
        probing_ = false;
        if (subscriptions_.empty()) return;
        wake_->probe();
        probe_wake();
    });
}

// ["subscribe", channel, count], ["message", channel, word]
void Engine::on_message(const RespValue& message) {
    const std::string& kind = message.at(0).text;
    const std::string& channel = message.at(1).text;
    if (kind != "subscribe" && kind != "message") return;
    std::vector<Subscription*> told;
    const auto [first, last] = subscriptions_.equal_range(channel);
    for (auto entry = first; entry != last; ++entry) told.push_back(entry->second);
    for (Subscription* const subscription : told) {
        const auto [still, end] = subscriptions_.equal_range(channel);
        if (std::none_of(still, end, [&](const auto& entry) { return entry.second == subscription; })) continue;
        if (kind == "message")
            subscription->events_.on_word(message.at(2).text);
        else if (subscription->events_.on_subscribed)
            subscription->events_.on_subscribed();
    }
}

}  // namespace coalesce
