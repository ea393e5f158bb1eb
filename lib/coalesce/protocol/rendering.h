// SPDX-License-Identifier: MIT
// Rendering: one requester's result as bytes for stdout and stderr, a piece at a time.
//
// text: the recorded bytes as they are; tag: each line prefixed; json: one result
// object on a line (SPEC B2, S4). A gigabyte of output is never in memory at once,
// and plain text stays in the spool's file, so that it can go out by sendfile.
#pragma once

#include <coalesce/engine/run.h>

#include <memory>
#include <optional>
#include <string>

#include <coalesce/io/spool.h>

namespace coalesce {

enum class Format { text, tagged, json };

/// What differs between requesters of one result.
struct Delivered {
    std::string id;       ///< the client's, as JSON text; empty: none
    std::string command;  ///< as this requester wrote it
    bool joined = false;
    std::size_t requesters = 1;
    bool with_output = true;
    bool gave_up = false;      ///< stopped waiting (--wait): status 75
    std::string keeping = {};  ///< what came of the wish to keep it, for a reader
    bool keeping_failed = false;
};

class Rendering {
  public:
    virtual ~Rendering() = default;
    using Piece = SpoolReader::Piece;
    /// What comes next; nothing at the end, and while a live run has written no more.
    [[nodiscard]] virtual std::optional<Piece> next() = 0;
    virtual void advance(std::uint64_t length) = 0;
    /// Whether nothing will come any more.
    [[nodiscard]] virtual bool finished() const = 0;
    /// Whether what was taken so far ends a message, so that another may follow it.
    [[nodiscard]] virtual bool between_messages() const { return finished(); }
};

/// The bytes of a spool, then `last_words` on stderr. A live spool is followed to its end.
class TextRendering : public Rendering {
  public:
    TextRendering(std::shared_ptr<Spool> spool, std::string last_words, UniqueFunction<void()> on_more = {});
    std::optional<Piece> next() override;
    void advance(std::uint64_t length) override;
    bool finished() const override;

  private:
    std::shared_ptr<Spool> spool_;  // declared first: the reader points into it
    std::optional<SpoolReader> reader_;
    std::string last_words_;
    std::size_t said_ = 0;
};

/// The stream form of SPEC S4: for each stretch of output a line that says its
/// stream and length, and then the bytes. A live spool is followed; end() gives the
/// last line, once.
class StreamRendering final : public Rendering {
  public:
    /// `id` is the client's, as JSON text, or empty.
    StreamRendering(std::shared_ptr<Spool> spool, std::string id, UniqueFunction<void(const StreamRendering&)> on_more);
    void end(std::string line);
    /// Ends with the message that is on its way, if there is one, and reads the spool no more.
    void stop();
    /// How far it was taken.
    [[nodiscard]] std::uint64_t position() const noexcept { return reader_ ? reader_->position() : 0; }
    std::optional<Piece> next() override;
    void advance(std::uint64_t length) override;
    bool finished() const override;
    bool between_messages() const override { return line_.size() == line_sent_ && payload_ == 0; }

  private:
    UniqueFunction<void(const StreamRendering&)> on_more_;
    std::shared_ptr<Spool> spool_;       // declared first: the reader points into it
    std::optional<SpoolReader> reader_;  // until it is stopped
    std::string rest_;                   // of the message that was on its way then,
    std::uint64_t missing_ = 0;          // but for what could not be read of it: a piece without bytes says so
    std::string id_;
    std::string line_;
    std::size_t line_sent_ = 0;
    std::uint64_t payload_ = 0;  // announced and not yet taken
    std::optional<std::string> end_;
    bool done_ = false;
};

[[nodiscard]] std::unique_ptr<Rendering> render(Format format, const std::shared_ptr<const RunResult>& result,
                                                const Delivered& delivered);

/// What a person is told on stderr about a result that says nothing itself, with
/// our prefix and a newline, control characters visible; empty for a command that ended
/// by itself.
[[nodiscard]] std::string last_words(const Outcome& outcome, const std::string& command);

/// The same about a requester that stopped waiting.
[[nodiscard]] std::string gave_up_words(const std::string& command);

}  // namespace coalesce
