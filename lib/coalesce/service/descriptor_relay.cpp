#include <coalesce/service/descriptor_relay.h>

#include <utility>

#include <coalesce/service/message.h>

namespace coalesce {

DescriptorRelay::DescriptorRelay(Session& session, std::shared_ptr<Spool> spool, std::string id,
                                 UniqueFunction<void()> on_finished)
    : session_(session),
      spool_(std::move(spool)),
      reader_(*spool_, [this] { pump(); }),
      id_(std::move(id)),
      on_finished_(std::move(on_finished)) {}

void DescriptorRelay::pump() {
    if (session_.gone() || unacknowledged_ > 0 || finished_) return;
    if (const auto piece = reader_.next()) {
        unacknowledged_ = piece->extent.length;
        Message message;
        if (!id_.empty()) message.raw("id", id_);
        message.text("event", piece->stream == Stream::out ? "stdout" : "stderr")
            .number("offset", static_cast<std::int64_t>(piece->extent.offset))
            .number("bytes", static_cast<std::int64_t>(piece->extent.length));
        const int file = std::exchange(handed_over_, true) ? -1 : piece->extent.file;
        return session_.send(message.line(), file);
    }
    if (!reader_.finished()) return;
    finished_ = true;
    on_finished_();
}

bool DescriptorRelay::acknowledge() {
    if (unacknowledged_ == 0) return false;
    reader_.advance(std::exchange(unacknowledged_, 0));
    pump();
    return true;
}

}  // namespace coalesce
