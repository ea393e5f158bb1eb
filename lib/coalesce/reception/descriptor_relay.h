// SPDX-License-Identifier: MIT
// DescriptorRelay: one requester following a spool in the protocol's fd mode.
//
// The spool's file is handed over once, opened anew for reading only, since others
// read it too; messages carry offsets and lengths. The requester may acknowledge each
// when it has dealt with the bytes. Up to the replay limit nothing depends on that,
// for all bytes stay where they are: a requester that knows nothing of it gets the
// same. Past the limit bytes are freed once they have been dealt with, so there a
// message is sent only when all those before it have been acknowledged.
//
// What comes while a message is unacknowledged waits a moment, and so does a little of
// much, so that it goes in one message: sixteen requesters that were each woken for every
// 64 KiB got half the rate, measured. A requester that does not read costs no memory:
// while its connection takes nothing no message is made, and what came meanwhile is in
// the next one. Nothing waits for the last acknowledgement within the limit: the file
// stays as it is for as long as the requester has it. A half-closed connection
// acknowledges nothing: past the limit it gets what it has been told of and the end, or
// an error where there is more.
#pragma once

#include <coalesce/flight/unique_function.h>

#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include <coalesce/io/spool.h>
#include <coalesce/io/watch.h>
#include <coalesce/reception/session.h>

namespace coalesce {

class DescriptorRelay;

/// What the relays of one connection wait for. The n-th acknowledgement is for the n-th
/// message of the connection, whichever relay sent it, so all that must be kept is how
/// many there were.
class RelayPace {
  public:
    /// The client has dealt with one message more. What was never sent is not acknowledged.
    void acknowledge();
    /// The connection takes more.
    void room();
    /// How many relays wait until it does.
    [[nodiscard]] std::size_t blocked() const noexcept { return blocked_.size(); }
    /// The client sends no more, and so acknowledges nothing any more.
    void input_ended();

  private:
    friend class DescriptorRelay;
    std::uint64_t sent_ = 0;
    std::uint64_t acknowledged_ = 0;
    std::map<std::uint64_t, DescriptorRelay*> awaits_;  // by the number of its last message
    std::list<DescriptorRelay*> blocked_;
};

class DescriptorRelay {
  public:
    /// `id` goes into every message, as JSON text; empty: none. `on_finished` is
    /// called when a closed spool has been sent to its end, or the file could
    /// not be handed over, of which the requester has been told then. Until stop() or
    /// its end the relay needs `pace`, which its connection's others share.
    DescriptorRelay(Loop& loop, Session& session, RelayPace& pace, std::shared_ptr<Spool> spool, std::string id,
                    UniqueFunction<void()> on_finished);
    ~DescriptorRelay() { stop(); }
    DescriptorRelay(const DescriptorRelay&) = delete;
    DescriptorRelay& operator=(const DescriptorRelay&) = delete;

    /// Sends what there is to send. For a requester that is gone everything is dealt
    /// with: it must not pace a run that goes on.
    void pump();
    /// Sends nothing more and calls nobody, for an owner that cannot destroy it at once.
    void stop() noexcept;

    /// What the requester was told of and has not dealt with stays readable to it, though it
    /// is not waited for any more: the relay is to be destroyed next, or its session dropped.
    void leave_to_requester() noexcept { dealt_with_.leave_before(sent_.position()); }
    /// How far the requester has come, as far as that is known.
    [[nodiscard]] std::uint64_t position() const noexcept { return dealt_with_.position(); }

    /// A closed spool has been sent to its end, or the relay was stopped.
    [[nodiscard]] bool finished() const noexcept { return finished_; }
    /// The requester was told why nothing more is sent.
    [[nodiscard]] bool failed() const noexcept { return failed_; }

  private:
    friend class RelayPace;
    void send_next();
    void deal_with_all_sent();
    void fail(std::string_view code, const std::string& why);
    void wait_a_moment();
    [[nodiscard]] bool may_send();
    [[nodiscard]] bool unacknowledged() const noexcept { return last_message_ > pace_.acknowledged_; }
    /// What is to be acknowledged before anything else never will be.
    [[nodiscard]] bool waits_in_vain() const noexcept;
    [[nodiscard]] bool all_is_sent() const noexcept;
    [[nodiscard]] bool worth_waiting(const SpoolReader::Piece& piece) const noexcept;

    Loop& loop_;
    Session& session_;
    RelayPace& pace_;
    std::shared_ptr<Spool> spool_;  // declared first: the readers point into it
    SpoolReader sent_;              // what has been told of
    SpoolReader dealt_with_;        // past the replay limit: what may be freed
    std::string id_;
    UniqueFunction<void()> on_finished_;
    std::optional<Timer> patience_;
    bool waiting_ = false;
    std::uint64_t last_message_ = 0;  // its number on the connection
    std::optional<std::list<DescriptorRelay*>::iterator> blocked_;
    bool handed_over_ = false;
    bool finished_ = false;
    bool failed_ = false;
};

}  // namespace coalesce
