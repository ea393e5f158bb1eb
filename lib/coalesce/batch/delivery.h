// SPDX-License-Identifier: MIT
// Delivery: finished results going out, each whole, none mixed with another (SPEC B2).
//
// Results are printed one after another: as they come, or in the order of their
// sequence numbers (-k). Small output is gathered into one buffer, large output
// goes from the spool's file by sendfile. Nothing here blocks the loop; when the
// other side is slow, results wait, and backlog() tells how much that is.
#pragma once

#include <coalesce/command/result.h>
#include <coalesce/engine/run.h>

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <unordered_map>

#include <coalesce/io/outlet.h>
#include <coalesce/protocol/rendering.h>

namespace coalesce {

class Loop;

class Delivery {
  public:
    struct Options {
        Format format = Format::text;
        bool keep_order = false;
    };
    struct Events {
        UniqueFunction<void(const Error&)> on_refused;  ///< once: the output cannot be written any more
        UniqueFunction<void()> on_progress;             ///< when something was written out
        UniqueFunction<void()> before_write;            ///< the terminal must be free of other lines
    };
    Delivery(Loop& loop, Options options, Events events);
    ~Delivery();
    Delivery(const Delivery&) = delete;
    Delivery& operator=(const Delivery&) = delete;

    /// Sequence numbers count from 1 without a gap: each is added or skipped once.
    /// `delivered` may be null when the plain result says everything.
    void add(std::uint64_t sequence, std::shared_ptr<const RunResult> result, std::unique_ptr<Delivered> delivered);
    void skip(std::uint64_t sequence);
    /// Whether nothing that was added or skipped later would be printed before it.
    [[nodiscard]] bool is_next(std::uint64_t sequence) const noexcept {
        return !options_.keep_order || (sequence == next_ && window_.empty());
    }
    /// A run that is still writing is printed as it goes, alone, from its turn on.
    /// The spool's close ends it. `until_turn` is let go of when all before it are known.
    void add_live(std::uint64_t sequence, std::shared_ptr<Spool> spool, std::shared_ptr<void> until_turn);

    /// Requests that wait to be written.
    [[nodiscard]] std::uint64_t waiting() const noexcept { return waiting_; }
    /// The recorded output that waits with them.
    [[nodiscard]] std::uint64_t backlog_bytes() const noexcept { return backlog_bytes_; }
    /// Something is on its way out, and nothing before it is waited for.
    [[nodiscard]] bool writing() const noexcept { return current_ || !fifo_.empty() || unflushed() > 0; }

  private:
    struct Entry {
        std::shared_ptr<const RunResult> result;
        std::unique_ptr<Delivered> delivered;
        std::unique_ptr<Rendering> live;
        std::shared_ptr<void> until_turn;
        std::uint32_t count = 1;  // consecutive requests for the same plain result
        bool present = false;     // in the window: known already
        bool silent = false;      // prints nothing
    };

    void place(std::uint64_t sequence, Entry&& entry);
    void count_in_window(const Entry& entry, int change);
    void queue(Entry&& entry);
    bool gather(const RunResult& result);
    void schedule();
    void pump();
    bool pump_once();
    bool start_next();
    bool flush();
    void refuse(const Error& error);
    void block_on(Outlet& outlet);
    [[nodiscard]] Outlet& outlet(Stream stream) noexcept { return stream == Stream::out ? out_ : err_; }
    [[nodiscard]] std::size_t unflushed() const noexcept { return buffer_.size() - flushed_; }

    Loop& loop_;
    const Options options_;
    Events events_;
    Outlet out_;
    Outlet err_;
    std::deque<Entry> fifo_;
    std::deque<Entry> window_;                                       // keep_order: window_[i] is sequence next_ + i
    std::unordered_map<const RunResult*, unsigned> window_results_;  // how often each is there
    std::uint64_t next_ = 1;
    std::uint64_t waiting_ = 0;
    std::uint64_t backlog_bytes_ = 0;
    std::unique_ptr<Rendering> current_;
    std::string buffer_;
    std::size_t flushed_ = 0;
    Stream buffer_stream_ = Stream::out;
    std::uint64_t budget_ = 0;
    bool scheduled_ = false;
    bool blocked_ = false;
    bool refused_ = false;
    std::shared_ptr<Delivery*> self_ = std::make_shared<Delivery*>(this);  // posted turns may outlive us
};

}  // namespace coalesce
