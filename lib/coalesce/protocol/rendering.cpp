// SPDX-License-Identifier: MIT
#include <coalesce/protocol/rendering.h>

#include <array>
#include <utility>

#include <coalesce/command/text.h>
#include <coalesce/command/title.h>
#include <coalesce/command/utf8.h>
#include <coalesce/protocol/answer.h>
#include <coalesce/protocol/base64.h>
#include <coalesce/protocol/json_text.h>

namespace coalesce {
namespace {

constexpr std::uint64_t longest_payload = 256 * 1024;  // so much is kept of one who is left behind
constexpr std::size_t chunk_bytes = 48 * 1024;         // a multiple of 3, for base64

Rendering::Piece in_memory(Stream stream, std::string_view bytes) {
    return {stream, {.bytes = bytes, .file = -1, .offset = 0, .length = bytes.size()}};
}

// Copies the front of a piece, wherever it lies; returns how much that was. Nothing: its
// file cannot be read, or is shorter than what was recorded.
std::size_t copy_front(const Extent& extent, std::string& into) {
    if (extent.file < 0) {
        into.assign(extent.bytes.substr(0, chunk_bytes));
        return into.size();
    }
    into.resize(static_cast<std::size_t>(std::min<std::uint64_t>(extent.length, chunk_bytes)));
    const ssize_t got = ::pread(extent.file, into.data(), into.size(), static_cast<off_t>(extent.offset));
    into.resize(static_cast<std::size_t>(std::max<ssize_t>(got, 0)));
    return into.size();
}

// Renders into chunks of its own: what the formats that change bytes share.
class ChunkRendering : public Rendering {
  public:
    std::optional<Piece> next() final {
        while (at_ == chunk_.size()) {
            at_ = 0;
            chunk_.clear();
            if (done_) return std::nullopt;
            if (unreadable_) return unreadable_;
            done_ = !produce(chunk_);
        }
        return in_memory(stream_, std::string_view(chunk_).substr(at_));
    }
    void advance(std::uint64_t length) final { at_ += static_cast<std::size_t>(length); }
    bool finished() const final { return done_ && at_ == chunk_.size(); }

  protected:
    /// Appends some more for stream_; false when that was the last.
    virtual bool produce(std::string& chunk) = 0;
    /// What was to come next cannot be read. It is handed on as it lies: who sends it finds
    /// the same, and has a way to say so.
    bool fail(const Piece& piece) {
        unreadable_ = piece;
        return true;
    }
    Stream stream_ = Stream::out;

  private:
    std::string chunk_;
    std::size_t at_ = 0;
    bool done_ = false;
    std::optional<Piece> unreadable_;
};

class TaggedRendering final : public ChunkRendering {
  public:
    TaggedRendering(std::shared_ptr<Spool> spool, std::string tag, std::string last)
        : text_(std::move(spool), std::move(last)), tag_(std::move(tag)) {
        tag_ += '\t';
    }

  private:
    bool produce(std::string& chunk) override {
        const auto piece = text_.next();
        if (!piece) return false;
        stream_ = piece->stream;
        const std::size_t length = copy_front(piece->extent, raw_);
        if (length == 0) return fail(*piece);
        text_.advance(length);
        bool& inside = inside_line_[index_of(stream_)];
        for (std::string_view rest = raw_; !rest.empty();) {
            const std::size_t end = rest.find('\n');
            const std::size_t taken = end == std::string_view::npos ? rest.size() : end + 1;
            if (!inside) chunk += tag_;
            chunk += rest.substr(0, taken);
            inside = end == std::string_view::npos;
            rest.remove_prefix(taken);
        }
        return true;
    }

    TextRendering text_;
    std::string tag_;
    std::string raw_;
    std::array<bool, 2> inside_line_{};
};

// One stream of a spool as the value of a JSON member.
class JsonOutput {
  public:
    JsonOutput(const std::shared_ptr<Spool>& spool, Stream stream) : spool_(spool), stream_(stream) {
        const std::optional<bool> known = spool_->is_text(stream);
        is_text_ = known ? *known : look_through();
        reader_.emplace(*spool_);
    }

    [[nodiscard]] bool is_text() const noexcept { return is_text_; }
    /// What could not be read, if produce() has met something of that kind.
    [[nodiscard]] const std::optional<Rendering::Piece>& unreadable() const noexcept { return unreadable_; }

    /// Appends some more; false when the value is complete.
    bool produce(std::string& chunk) {
        std::string raw;
        while (const auto piece = reader_->next()) {
            if (piece->stream != stream_) {
                reader_->advance(piece->extent.length);
                continue;
            }
            const std::size_t length = copy_front(piece->extent, raw);
            if (length == 0) {
                unreadable_ = piece;
                return true;
            }
            reader_->advance(length);
            if (is_text_) {
                append_json_escaped(chunk, raw);
            } else {
                carry_ += raw;  // whole groups of three only, so that the pieces join up
                const std::size_t whole = carry_.size() / 3 * 3;
                append_base64(chunk, std::string_view(carry_).substr(0, whole));
                carry_.erase(0, whole);
            }
            return true;
        }
        append_base64(chunk, carry_);
        carry_.clear();
        return false;
    }

  private:
    bool look_through() {
        Utf8Check check;
        SpoolReader reader(*spool_);
        std::string raw;
        while (const auto piece = reader.next()) {
            const std::size_t length = piece->stream == stream_ ? copy_front(piece->extent, raw)
                                                                : static_cast<std::size_t>(piece->extent.length);
            if (length == 0) return check.valid();  // it will show again
            if (piece->stream == stream_) check.add(raw);
            reader.advance(length);
        }
        return *(spool_->is_text(stream_) = check.valid());
    }

    std::shared_ptr<Spool> spool_;
    Stream stream_;
    std::optional<SpoolReader> reader_;
    std::optional<Rendering::Piece> unreadable_;
    std::string carry_;
    bool is_text_ = true;
};

void add_outcome(Message& message, const RunResult& result, const Delivered& delivered) {
    const Outcome& outcome = result.outcome;
    if (delivered.gave_up) return (void)message.number("exit", gave_up_status).error("gave_up", "gave up waiting");
    if (outcome.kind == Outcome::Kind::signalled)
        message.number("signal", outcome.code);
    else
        message.number("exit", outcome.status());
    if (const std::string_view code = code_of(outcome); !code.empty()) message.error(code, outcome.describe());
}

class JsonRendering final : public ChunkRendering {
  public:
    JsonRendering(std::shared_ptr<const RunResult> result, Delivered delivered)
        : result_(std::move(result)), delivered_(std::move(delivered)) {
        if (delivered_.with_output && result_->spool) whole_.emplace(*result_->spool);
    }

  private:
    enum class Step { head, out, err, tail };

    // A short result is one chunk, and so one write.
    bool produce(std::string& chunk) override {
        while (append_more(chunk)) {
            if (output_ && output_->unreadable()) return fail(*output_->unreadable());
            if (chunk.size() >= chunk_bytes) return true;
        }
        return false;
    }

    bool append_more(std::string& chunk) {
        switch (step_) {
            case Step::head:
                append_head(chunk);
                if (!delivered_.with_output || !result_->spool) {
                    if (delivered_.with_output) chunk += R"(,"stdout":"","stderr":"")";
                    step_ = Step::tail;
                } else {
                    open_output(chunk, Stream::out, "stdout");
                    step_ = Step::out;
                }
                return true;
            case Step::out:
                if (output_->produce(chunk)) return true;
                chunk += '"';
                open_output(chunk, Stream::err, "stderr");
                whole_.reset();
                step_ = Step::err;
                return true;
            case Step::err:
                if (output_->produce(chunk)) return true;
                chunk += '"';
                step_ = Step::tail;
                return true;
            case Step::tail:
                chunk += "," + ending().members() + "}\n";
                return false;
        }
        return false;
    }

    void append_head(std::string& chunk) const {
        Message head = message_to(delivered_.id);
        head.text("command", delivered_.command);
        add_outcome(head, *result_, delivered_);
        chunk += "{" + head.members();
    }

    [[nodiscard]] Message ending() const {
        Message ending;
        if (!result_->host.empty()) ending.text("host", result_->host);
        ending.flag("joined", delivered_.joined)
            .number("requesters", static_cast<std::int64_t>(delivered_.requesters))
            .seconds("started", result_->started.time_since_epoch())
            .seconds("duration", result_->duration);
        if (result_->kept) ending.raw("kept", kept_facts(*result_->kept).object());
        return ending;
    }

    void open_output(std::string& chunk, Stream stream, const char* name) {
        output_.emplace(result_->spool, stream);
        chunk.append(",\"")
            .append(name)
            .append(output_->is_text() ? std::string_view() : base64_ending)
            .append("\":\"");
    }

    std::shared_ptr<const RunResult> result_;
    Delivered delivered_;
    std::optional<SpoolReader> whole_;  // at the beginning, so that nothing is let go before both streams have begun
    std::optional<JsonOutput> output_;
    Step step_ = Step::head;
};

}  // namespace

TextRendering::TextRendering(std::shared_ptr<Spool> spool, std::string last_words, UniqueFunction<void()> on_more)
    : spool_(std::move(spool)), last_words_(std::move(last_words)) {
    if (spool_) reader_.emplace(*spool_, std::move(on_more));
}

std::optional<Rendering::Piece> TextRendering::next() {
    if (reader_) {
        if (auto piece = reader_->next()) return piece;
        if (!reader_->finished()) return std::nullopt;
    }
    if (said_ == last_words_.size()) return std::nullopt;
    return in_memory(Stream::err, std::string_view(last_words_).substr(said_));
}

void TextRendering::advance(std::uint64_t length) {
    if (reader_ && !reader_->finished())
        reader_->advance(length);
    else
        said_ += static_cast<std::size_t>(length);
}

bool TextRendering::finished() const { return (!reader_ || reader_->finished()) && said_ == last_words_.size(); }

StreamRendering::StreamRendering(std::shared_ptr<Spool> spool, std::string id,
                                 UniqueFunction<void(const StreamRendering&)> on_more)
    : on_more_(std::move(on_more)), spool_(std::move(spool)), id_(std::move(id)) {
    reader_.emplace(*spool_, [this] { on_more_(*this); });
}

// The other side may never take what is on its way: it must not hold the run up.
void StreamRendering::stop() {
    done_ = true;
    end_.reset();
    if (!reader_) return;
    if (line_sent_ == 0) {  // the next one is not on its way, though it may have been offered
        line_.clear();
        payload_ = 0;
    }
    std::string piece;
    while (rest_.size() < payload_) {
        Extent extent = reader_->next()->extent;
        extent.length = std::min(extent.length, payload_ - rest_.size());
        extent.bytes = extent.bytes.substr(0, static_cast<std::size_t>(extent.length));
        const std::size_t length = copy_front(extent, piece);
        if (length == 0) break;
        reader_->advance(length);
        rest_ += piece;
    }
    missing_ = payload_ - rest_.size();
    reader_.reset();
    spool_.reset();  // the other side may take its time, and all of it need not be kept for that
}

void StreamRendering::end(std::string line) { end_ = std::move(line); }

std::optional<Rendering::Piece> StreamRendering::next() {
    if (line_sent_ < line_.size()) return in_memory(Stream::out, std::string_view(line_).substr(line_sent_));
    if (!reader_ && payload_ > 0)
        return in_memory(Stream::out, std::string_view(rest_).substr(rest_.size() + missing_ - payload_));
    auto piece = reader_ ? reader_->next() : std::nullopt;
    if (payload_ > 0) {
        piece->extent.length = std::min(piece->extent.length, payload_);
        piece->extent.bytes = piece->extent.bytes.substr(0, static_cast<std::size_t>(payload_));
        return piece;
    }
    line_sent_ = 0;
    line_.clear();
    if (done_) return std::nullopt;
    if (piece) {
        payload_ = std::min(piece->extent.length, longest_payload);
        line_ = message_to(id_)
                    .text("event", piece->stream == Stream::out ? "stdout" : "stderr")
                    .number("bytes", static_cast<std::int64_t>(payload_))
                    .line();
    } else if (end_ && reader_->finished()) {
        line_ = std::exchange(end_, std::nullopt).value();
        done_ = true;
    }
    if (line_.empty()) return std::nullopt;
    return in_memory(Stream::out, line_);
}

void StreamRendering::advance(std::uint64_t length) {
    if (line_sent_ < line_.size()) {
        line_sent_ += static_cast<std::size_t>(length);
        return;
    }
    if (reader_) reader_->advance(length);
    payload_ -= length;
}

bool StreamRendering::finished() const { return done_ && between_messages(); }

std::string last_words(const Outcome& outcome, const std::string& command) {
    switch (outcome.kind) {
        case Outcome::Kind::exited:
        case Outcome::Kind::signalled:
            return {};
        case Outcome::Kind::not_started:
        case Outcome::Kind::refused:
        case Outcome::Kind::engine_down:
            return "coalesce: " + visible(outcome.reason) + "\n";
        default:
            return "coalesce: " + title(command) + ": " + visible(outcome.describe()) + "\n";
    }
}

std::string gave_up_words(const std::string& command) { return "coalesce: " + title(command) + ": gave up waiting\n"; }

std::unique_ptr<Rendering> render(Format format, const std::shared_ptr<const RunResult>& result,
                                  const Delivered& delivered) {
    if (format == Format::json) return std::make_unique<JsonRendering>(result, delivered);
    std::string last =
        delivered.gave_up ? gave_up_words(delivered.command) : last_words(result->outcome, delivered.command);
    auto spool = delivered.with_output ? result->spool : nullptr;
    if (format == Format::tagged)
        return std::make_unique<TaggedRendering>(std::move(spool), title(delivered.command), std::move(last));
    return std::make_unique<TextRendering>(std::move(spool), std::move(last));
}

}  // namespace coalesce
