// SPDX-License-Identifier: MIT
// DescriptorRelay: one requester following a spool in the protocol's fd mode.
//
// The spool's file is handed over once, opened anew for reading only, since others
// read it too; messages carry offsets and lengths. There
// is one message on its way at a time: the requester acknowledges it when it has
// dealt with the bytes, and what came meanwhile is in the next one. So a slow
// requester costs nothing, and its place in the output is always known. When much
// is written, a message waits a moment for more: sixteen requesters that were
// each woken for every 64 KiB got half the rate, measured. Nothing waits for the
// last acknowledgement: the file stays as it is for as long as the requester has it,
// unless the output went past the replay limit.
#pragma once

#include <coalesce/flight/unique_function.h>

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include <coalesce/io/spool.h>
#include <coalesce/io/watch.h>
#include <coalesce/reception/session.h>

namespace coalesce {

class DescriptorRelay {
  public:
    /// `id` goes into every message, as JSON text; empty: none. `on_finished` is
    /// called when a closed spool has been sent to its end, or the file could
    /// not be handed over, of which the requester has been told then.
    DescriptorRelay(Loop& loop, Session& session, std::shared_ptr<Spool> spool, std::string id,
                    UniqueFunction<void()> on_finished);

    /// Called for each message that will have to be acknowledged.
    void on_sent(UniqueFunction<void()> on_sent) { on_sent_ = std::move(on_sent); }

    /// Sends what there is to send. For a requester that is gone everything is dealt
    /// with: it must not pace a run that goes on.
    void pump();
    /// Sends nothing more and calls nobody, for an owner that cannot destroy it at once.
    void stop() noexcept;
    /// The requester has dealt with the last message. False: there was none.
    bool acknowledge();

    /// A closed spool has been sent to its end, or the relay was stopped.
    [[nodiscard]] bool finished() const noexcept { return finished_; }
    /// The file could not be handed over; nothing more is sent.
    [[nodiscard]] bool failed() const noexcept { return failed_; }

  private:
    void send_what_there_is();
    void fail(std::string_view code, const std::string& why);
    [[nodiscard]] bool all_is_sent() const noexcept;
    [[nodiscard]] bool worth_waiting(const SpoolReader::Piece& piece) const noexcept;

    Loop& loop_;
    Session& session_;
    std::shared_ptr<Spool> spool_;  // declared first: the reader points into it
    SpoolReader reader_;
    std::string id_;
    UniqueFunction<void()> on_finished_;
    std::optional<Timer> patience_;
    bool waiting_ = false;
    std::uint64_t unacknowledged_ = 0;
    bool handed_over_ = false;
    bool finished_ = false;
    bool failed_ = false;
    UniqueFunction<void()> on_sent_;
};

}  // namespace coalesce
