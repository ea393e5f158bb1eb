// SPDX-License-Identifier: MIT
#include <coalesce/batch/delivery.h>

#include <fcntl.h>
#include <unistd.h>

#include <utility>

#include <coalesce/io/loop.h>

namespace coalesce {
namespace {

constexpr std::size_t gather_below = 16 * 1024;  // a larger piece goes out by itself
constexpr std::size_t buffer_bytes = 64 * 1024;
constexpr std::uint64_t budget_of_a_turn = 4 << 20;  // then children and signals get their turn

std::uint64_t recorded(const std::shared_ptr<const RunResult>& result) {
    return result && result->spool ? result->spool->size() : 0;
}

}  // namespace

Delivery::Delivery(Loop& loop, Options options, Events events)
    : loop_(loop),
      options_(options),
      events_(std::move(events)),
      out_(loop, STDOUT_FILENO, "standard output"),
      err_(loop, STDERR_FILENO, "standard error") {}

Delivery::~Delivery() { *self_ = nullptr; }

void Delivery::add(std::uint64_t sequence, std::shared_ptr<const RunResult> result,
                   std::unique_ptr<Delivered> delivered) {
    place(sequence, {.result = std::move(result), .delivered = std::move(delivered), .live = {}});
}

void Delivery::skip(std::uint64_t sequence) {
    if (options_.keep_order) place(sequence, {.result = {}, .delivered = {}, .live = {}, .silent = true});
}

void Delivery::add_live(std::uint64_t sequence, std::shared_ptr<Spool> spool, std::shared_ptr<void> until_turn) {
    place(sequence, {.result = {},
                     .delivered = {},
                     .live = std::make_unique<TextRendering>(std::move(spool), std::string(), [this] { schedule(); }),
                     .until_turn = std::move(until_turn)});
}

// In keep_order an entry waits in the window until all before it are there.
void Delivery::place(std::uint64_t sequence, Entry&& entry) {
    if (is_next(sequence)) {
        ++next_;
        return queue(std::move(entry));
    }
    entry.present = true;
    const std::size_t at = static_cast<std::size_t>(sequence - next_);
    if (at >= window_.size()) window_.resize(at + 1);
    count_in_window(entry, +1);
    window_[at] = std::move(entry);
    ++waiting_;
    while (!window_.empty() && window_.front().present) {
        --waiting_;
        ++next_;
        count_in_window(window_.front(), -1);
        queue(std::move(window_.front()));
        window_.pop_front();
    }
}

// A result is in memory once, however many share it.
void Delivery::count_in_window(const Entry& entry, int change) {
    const std::uint64_t bytes = recorded(entry.result);
    if (bytes == 0) return;
    unsigned& times = window_results_[entry.result.get()];
    if (times == 0) backlog_bytes_ += bytes;
    times = static_cast<unsigned>(static_cast<int>(times) + change);
    if (times > 0) return;
    backlog_bytes_ -= bytes;
    window_results_.erase(entry.result.get());
}

void Delivery::queue(Entry&& entry) {
    entry.until_turn.reset();
    if (entry.silent || refused_) return;
    const bool plain = entry.result && !entry.delivered;
    if (plain && gather(*entry.result)) return;
    ++waiting_;
    if (plain && !fifo_.empty() && fifo_.back().result == entry.result && !fifo_.back().delivered)
        ++fifo_.back().count;
    else {
        backlog_bytes_ += recorded(entry.result);
        fifo_.push_back(std::move(entry));
    }
    schedule();
}

// The common case, a few bytes of one stream and nobody before them: half the cost
// of an entry and a rendering, with a million lines.
bool Delivery::gather(const RunResult& result) {
    const bool speaks_itself =
        result.outcome.kind == Outcome::Kind::exited || result.outcome.kind == Outcome::Kind::signalled;
    if (options_.format != Format::text || current_ || !fifo_.empty() || blocked_ || !speaks_itself || !result.spool)
        return false;
    if (result.spool->size() == 0) return true;
    const auto piece = result.spool->only_piece();
    if (!piece || piece->extent.length >= gather_below || buffer_.size() >= buffer_bytes) return false;
    if (unflushed() > 0 && piece->stream != buffer_stream_) return false;
    buffer_stream_ = piece->stream;
    buffer_ += piece->extent.bytes;
    schedule();
    return true;
}

void Delivery::schedule() {
    if (scheduled_ || blocked_ || refused_) return;
    scheduled_ = true;
    loop_.post([self = self_] {
        Delivery* delivery = *self;
        if (delivery == nullptr) return;
        delivery->scheduled_ = false;
        delivery->pump();
    });
}

void Delivery::pump() {
    budget_ = budget_of_a_turn;
    if (events_.before_write) events_.before_write();
    while (!refused_ && !blocked_ && pump_once()) {
        if (budget_ == 0) {
            schedule();
            break;
        }
    }
    if (events_.on_progress) events_.on_progress();
}

// One step; false when there is no more to do now.
bool Delivery::pump_once() {
    if (!current_ && !start_next()) return flush() && false;
    const auto piece = current_->next();
    if (!piece) {
        if (!current_->finished()) return flush() && false;  // a live run that has written no more
        current_.reset();
        --waiting_;
        return true;
    }
    if (unflushed() > 0 && piece->stream != buffer_stream_ && !flush()) return false;
    if (piece->extent.file < 0 && piece->extent.length < gather_below) {
        buffer_stream_ = piece->stream;
        buffer_ += piece->extent.bytes;
        current_->advance(piece->extent.length);
        return buffer_.size() < buffer_bytes || flush();
    }
    if (!flush()) return false;
    Outlet& target = outlet(piece->stream);
    const auto wrote = target.write(piece->extent);
    if (!wrote) {
        refuse(wrote.error());
        return false;
    }
    if (wrote.value() == 0) {
        block_on(target);
        return false;
    }
    current_->advance(wrote.value());
    budget_ -= std::min<std::uint64_t>(budget_, wrote.value());
    return true;
}

bool Delivery::start_next() {
    if (fifo_.empty()) return false;
    Entry& first = fifo_.front();
    if (first.live) {
        current_ = std::move(first.live);
    } else {
        current_ = first.delivered ? render(options_.format, first.result, *first.delivered)
                                   : render(options_.format, first.result, Delivered{.command = first.result->title});
        if (--first.count > 0) return true;
        backlog_bytes_ -= recorded(first.result);
    }
    fifo_.pop_front();
    return true;
}

// True when the buffer is empty now.
bool Delivery::flush() {
    while (unflushed() > 0) {
        Outlet& target = outlet(buffer_stream_);
        const auto wrote = target.write(std::string_view(buffer_).substr(flushed_));
        if (!wrote) {
            refuse(wrote.error());
            return false;
        }
        if (wrote.value() == 0) {
            block_on(target);
            return false;
        }
        flushed_ += wrote.value();
        budget_ -= std::min<std::uint64_t>(budget_, wrote.value());
    }
    buffer_.clear();
    flushed_ = 0;
    return true;
}

void Delivery::block_on(Outlet& target) {
    blocked_ = true;
    target.wait([this] {
        blocked_ = false;
        pump();
    });
}

void Delivery::refuse(const Error& error) {
    refused_ = true;
    current_.reset();
    fifo_.clear();
    window_.clear();
    window_results_.clear();
    backlog_bytes_ = 0;
    waiting_ = 0;
    buffer_.clear();
    flushed_ = 0;
    events_.on_refused(error);
}

}  // namespace coalesce
