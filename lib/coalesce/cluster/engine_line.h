// SPDX-License-Identifier: MIT
// EngineLine: a connection to the engine that is kept up.
//
// It greets (AUTH, SELECT, PING, CLIENT SETNAME), matches answers to requests, and takes silence
// of two seconds for a loss (of ten, before a connection has brought its first byte), unless the engine is still
// taking what is asked: a long question may need longer. A lost connection is made anew
// after 0.1 to 2 seconds, each time longer, never at the same moment as the other machines. Nothing is repeated by
// itself: everything that was asked and not answered is told so, and who asked knows whether it may be asked again. An
// engine that is loading, full or no primary any more has not answered, either; the last is left, and its name looked
// up again. Requests are taken while it is up.
// Only who has asked something keeps the loop running: a machine that is cut off could go on connecting for ever.
#pragma once

#include <coalesce/command/result.h>
#include <coalesce/flight/unique_function.h>

#include <chrono>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <coalesce/cluster/engine_connection.h>
#include <coalesce/cluster/engine_facts.h>
#include <coalesce/cluster/engine_url.h>
#include <coalesce/cluster/resp.h>
#include <coalesce/io/watch.h>

namespace coalesce {

class Loop;

/// How to come in.
struct EngineAccess {
    EngineUrl url;
    std::string password;  ///< empty: none is sent
};

/// Not an answer, but why there is none. With the code permission_denied asking again is in vain
/// until somebody changes the engine.
using NoAnswer = Error;

class EngineLine {
  public:
    using Answer = UniqueFunction<void(Result<RespValue>)>;
    /// On turns of their own. None may destroy the line.
    struct Events {
        UniqueFunction<void()> on_up;
        /// It is not up, or not any more; it goes on trying.
        UniqueFunction<void(const NoAnswer&)> on_down;
        /// What comes without having been asked for: only of a line that subscribes.
        UniqueFunction<void(const RespValue&)> on_message;
    };
    /// What is looked at in the greeting: an engine that is not fit (engine_facts.h) is as good as none.
    enum class Greeting { plain, with_facts };

    /// Begins to connect. All of them must outlive it.
    EngineLine(Loop& loop, const EngineAccess& access, Greeting greeting, Events events);
    ~EngineLine();
    EngineLine(const EngineLine&) = delete;
    EngineLine& operator=(const EngineLine&) = delete;

    [[nodiscard]] bool up() const noexcept { return up_; }
    /// Whether anybody needs it, as is so at first: one that is lost while nobody does is not made anew before somebody
    /// does. -> whether this has it made anew.
    bool want(bool wanted);
    /// It is lost, and nobody wants it.
    [[nodiscard]] bool rests() const noexcept { return rests_; }
    /// As the greeting found the engine.
    [[nodiscard]] const EngineFacts& facts() const noexcept { return facts_; }

    /// Asks. Answers come in order, on turns of their own; at once "not answered" where it is not up.
    void ask(std::span<const std::string> words, Answer answer);
    /// Says what nobody waits for an answer to; what comes of it is a message.
    void say(std::span<const std::string> words);
    /// Makes it anew: what it leads to may not be the engine any more.
    void renew();
    /// Nobody asks anything of one that subscribes: this asks whether the engine is there. Silence is taken for a loss
    /// then, too, and what it answers is a message.
    void probe();

  private:
    void connect();
    void greet();
    void greeted(Result<RespValue> answer, bool last);
    void on_reply(RespValue reply);
    void on_demoted(const RespValue& reply);
    void send(std::span<const std::string> words, Answer answer);
    void lost(const NoAnswer& why);
    void await_answer();
    void on_silence();
    void on_bytes();

    Loop& loop_;
    const EngineAccess& access_;
    const Greeting greeting_;
    Events events_;
    EngineFacts facts_;
    std::unique_ptr<EngineConnection> connection_;
    std::deque<Answer> awaited_;
    Timer silence_;
    Timer backoff_;
    std::chrono::milliseconds next_backoff_;
    bool up_ = false;
    bool was_up_ = false;
    bool wanted_ = true;
    bool rests_ = false;
    std::uint64_t delivered_ = 0;                                 // when silence began
    bool was_taking_ = false;                                     // what is asked, when that was looked at last
    bool heard_ = false;                                          // a byte, on this connection
    std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // for what was posted
};

/// What an error reply means to who asked: not answered, or refused for good.
[[nodiscard]] NoAnswer no_answer_of(const RespValue& error);
/// Whether it may be asked again.
[[nodiscard]] bool is_passing(const RespValue& error);
/// Whether they say who comes: a user without a password is not the default one either.
[[nodiscard]] inline bool wants_auth(const EngineAccess& access) {
    return !access.password.empty() || !access.url.user.empty();
}
/// The first words then.
[[nodiscard]] std::vector<std::string> auth_words(const EngineAccess& access);
/// What an error reply to AUTH says, without what was sent: an engine may repeat that.
[[nodiscard]] std::string words_of_auth_error(const RespValue& error);

}  // namespace coalesce
