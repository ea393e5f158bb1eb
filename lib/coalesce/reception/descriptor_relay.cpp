// SPDX-License-Identifier: MIT
#include <coalesce/reception/descriptor_relay.h>

#include <fcntl.h>

#include <chrono>
#include <string>
#include <utility>

#include <coalesce/protocol/message.h>

namespace coalesce {

namespace {

constexpr std::uint64_t much = 1 << 20;
constexpr std::uint64_t worth_a_message = 512 * 1024;
constexpr std::chrono::milliseconds longest_wait{5};

}  // namespace

DescriptorRelay::DescriptorRelay(Loop& loop, Session& session, std::shared_ptr<Spool> spool, std::string id,
                                 UniqueFunction<void()> on_finished)
    : loop_(loop),
      session_(session),
      spool_(std::move(spool)),
      reader_(*spool_, [this] { pump(); }),
      id_(std::move(id)),
      on_finished_(std::move(on_finished)) {}

// Only a stretch that still grows is worth it: what the other stream has cut off
// gets no longer.
bool DescriptorRelay::worth_waiting(const SpoolReader::Piece& piece) const noexcept {
    const bool grows = reader_.position() + piece.extent.length == spool_->size();
    return grows && !spool_->closed() && spool_->size() > much && piece.extent.length < worth_a_message;
}

// What is past the replay limit goes from the file once it has been dealt with: that
// must be acknowledged.
bool DescriptorRelay::all_is_sent() const noexcept {
    return spool_->closed() && reader_.position() + unacknowledged_ == spool_->size() &&
           (unacknowledged_ == 0 || spool_->replayable());
}

void DescriptorRelay::pump() {
    if (finished_) return;
    if (session_.gone()) {
        unacknowledged_ = 0;
        while (const auto piece = reader_.next()) reader_.advance(piece->extent.length);
    }
    if (unacknowledged_ == 0) {
        const auto piece = reader_.next();
        if (piece && worth_waiting(*piece)) {
            if (std::exchange(waiting_, true)) return;
            if (!patience_) patience_.emplace(loop_);
            return patience_->start(longest_wait, [this] { send_what_there_is(); });
        }
        if (piece) send_what_there_is();
    }
    if (finished_ || !all_is_sent()) return;
    finished_ = true;
    on_finished_();
}

void DescriptorRelay::send_what_there_is() {
    if (std::exchange(waiting_, false)) patience_->stop();
    if (session_.gone()) return;
    auto piece = reader_.next();
    if (!piece) return;
    Descriptor file;
    if (!handed_over_) {
        if (auto moved = spool_->move_to_file(); !moved) return fail("no_space", "cannot " + moved.error().message());
        piece = reader_.next();
        const std::string path = "/proc/self/fd/" + std::to_string(piece->extent.file);
        file = Descriptor(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
        if (!file) return fail("no_descriptors", "no descriptor is left to hand the output over");
    }
    handed_over_ = true;
    unacknowledged_ = piece->extent.length;
    if (on_sent_) on_sent_();
    Message message;
    if (!id_.empty()) message.raw("id", id_);
    message.text("event", piece->stream == Stream::out ? "stdout" : "stderr")
        .number("offset", static_cast<std::int64_t>(piece->extent.offset))
        .number("bytes", static_cast<std::int64_t>(piece->extent.length));
    session_.send(message.line(), std::move(file));
}

void DescriptorRelay::fail(std::string_view code, const std::string& why) {
    finished_ = failed_ = true;
    Message message;
    if (!id_.empty()) message.raw("id", id_);
    session_.send(message.error(code, why).line());
    on_finished_();
}

void DescriptorRelay::stop() noexcept {
    finished_ = true;
    if (patience_) patience_->stop();
}

bool DescriptorRelay::acknowledge() {
    if (unacknowledged_ == 0) return false;
    reader_.advance(std::exchange(unacknowledged_, 0));
    pump();
    return true;
}

}  // namespace coalesce
