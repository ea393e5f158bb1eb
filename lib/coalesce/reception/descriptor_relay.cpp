// SPDX-License-Identifier: MIT
#include <coalesce/reception/descriptor_relay.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <string>
#include <utility>
#include <vector>

#include <coalesce/protocol/answer.h>

namespace coalesce {

namespace {

constexpr std::uint64_t much = 1 << 20;
constexpr std::uint64_t worth_a_message = 512 * 1024;
constexpr std::chrono::milliseconds longest_wait{5};

std::string_view code_for(int error) { return error == EMFILE || error == ENFILE ? "too_many_files" : "no_space"; }

}  // namespace

void RelayPace::acknowledge() {
    if (acknowledged_ == sent_) return;
    ++acknowledged_;
    if (awaits_.empty() || awaits_.begin()->first > acknowledged_) return;
    awaits_.extract(awaits_.begin()).mapped()->pump();
}

void RelayPace::input_ended() {
    std::vector<DescriptorRelay*> waiting;
    for (const auto& [number, relay] : awaits_) waiting.push_back(relay);
    for (DescriptorRelay* const relay : waiting) relay->pump();
}

// Each once: whoever blocks the connection again waits for the next time.
void RelayPace::room() {
    for (std::size_t turns = blocked_.size(); turns > 0 && !blocked_.empty(); --turns) {
        DescriptorRelay& relay = *blocked_.front();
        blocked_.pop_front();
        relay.blocked_.reset();
        relay.pump();
    }
}

DescriptorRelay::DescriptorRelay(Loop& loop, Session& session, RelayPace& pace, std::shared_ptr<Spool> spool,
                                 std::string id, UniqueFunction<void()> on_finished)
    : loop_(loop),
      session_(session),
      pace_(pace),
      spool_(std::move(spool)),
      sent_(*spool_, [this] { pump(); }),
      dealt_with_(*spool_),
      id_(std::move(id)),
      on_finished_(std::move(on_finished)) {}

// Only a stretch that still grows is worth it: what the other stream has cut off
// gets no longer.
bool DescriptorRelay::worth_waiting(const SpoolReader::Piece& piece) const noexcept {
    const bool grows = sent_.position() + piece.extent.length == spool_->size();
    if (!grows || spool_->closed()) return false;
    return unacknowledged() || (spool_->size() > much && piece.extent.length < worth_a_message);
}

bool DescriptorRelay::may_send() {
    if (!spool_->replayable() && unacknowledged()) return false;
    if (!session_.blocked()) return true;
    if (!blocked_) blocked_ = pace_.blocked_.insert(pace_.blocked_.end(), this);
    return false;
}

bool DescriptorRelay::waits_in_vain() const noexcept {
    return !spool_->replayable() && unacknowledged() && session_.input_ended();
}

// What is past the replay limit goes from the file once it has been dealt with: that
// must be acknowledged, or is left there.
bool DescriptorRelay::all_is_sent() const noexcept {
    return spool_->closed() && sent_.position() == spool_->size() &&
           (spool_->replayable() || !unacknowledged() || session_.input_ended());
}

void DescriptorRelay::pump() {
    if (finished_) return;
    if (session_.gone()) {
        pace_.awaits_.erase(std::exchange(last_message_, 0));
        while (const auto piece = sent_.next()) sent_.advance(piece->extent.length);
    }
    if (!spool_->replayable() && !unacknowledged()) deal_with_all_sent();
    while (!finished_) {
        const auto piece = sent_.next();
        if (piece && waits_in_vain())
            return fail("output_too_long",
                        "the output is longer than the replay limit, and the connection is shut down, so that "
                        "nothing of it is acknowledged");
        if (!piece || !may_send()) break;
        if (worth_waiting(*piece)) return wait_a_moment();
        send_next();
    }
    if (waits_in_vain()) {  // and must not pace the run
        leave_to_requester();
        deal_with_all_sent();
    }
    if (finished_ || !all_is_sent()) return;
    stop();
    on_finished_();
}

void DescriptorRelay::wait_a_moment() {
    if (std::exchange(waiting_, true)) return;
    if (!patience_) patience_.emplace(loop_);
    patience_->start(longest_wait, [this] {
        waiting_ = false;
        if (!session_.gone() && may_send()) send_next();
        if (waits_in_vain()) pump();  // nobody else will
    });
}

void DescriptorRelay::deal_with_all_sent() {
    while (dealt_with_.position() < sent_.position()) {
        const std::uint64_t length = dealt_with_.next()->extent.length;
        dealt_with_.advance(std::min(length, sent_.position() - dealt_with_.position()));
    }
}

void DescriptorRelay::send_next() {
    if (std::exchange(waiting_, false)) patience_->stop();
    auto piece = sent_.next();
    if (!piece) return;
    Descriptor file;
    if (!handed_over_) {
        auto opened = spool_->hand_over();
        if (!opened) return fail(code_for(opened.error().code.value()), "cannot " + opened.error().message());
        file = std::move(*opened);
        piece = sent_.next();
    }
    handed_over_ = true;
    pace_.awaits_.erase(last_message_);
    last_message_ = ++pace_.sent_;
    pace_.awaits_.emplace(last_message_, this);
    sent_.advance(piece->extent.length);
    session_.send(message_to(id_)
                      .text("event", piece->stream == Stream::out ? "stdout" : "stderr")
                      .number("offset", static_cast<std::int64_t>(piece->extent.offset))
                      .number("bytes", static_cast<std::int64_t>(piece->extent.length))
                      .line(),
                  std::move(file));
}

void DescriptorRelay::fail(std::string_view code, const std::string& why) {
    leave_to_requester();
    stop();
    failed_ = true;
    session_.send(error_line(id_, code, why));
    on_finished_();
}

void DescriptorRelay::stop() noexcept {
    if (std::exchange(finished_, true)) return;
    waiting_ = false;
    if (patience_) patience_->stop();
    if (last_message_ > 0) pace_.awaits_.erase(last_message_);
    if (blocked_) pace_.blocked_.erase(*std::exchange(blocked_, std::nullopt));
}

}  // namespace coalesce
