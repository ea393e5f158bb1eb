// SPDX-License-Identifier: MIT
#include <coalesce/cluster/publisher.h>

#include <unistd.h>

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include <coalesce/io/boot_time.h>

namespace coalesce {
namespace {

using namespace std::chrono;
using namespace std::chrono_literals;

constexpr milliseconds gathered_for = 10ms;
constexpr milliseconds again_sent_after = 500ms;
constexpr std::size_t window_bytes = 4 << 20;
constexpr std::size_t short_bytes = chunk_text_max / 2;  // one chunk, whatever pieces it comes in
constexpr milliseconds linger_min = 15s;                 // for those who still read

}  // namespace

Publisher::Publisher(Loop& loop, Engine& engine, const EngineKeys& keys, const std::string& run, const Seal& seal,
                     UniqueFunction<void()> on_partial)
    : engine_(engine),
      keys_(keys),
      run_(run),
      seal_(seal),
      listener_(engine, {.on_up = [this] { on_line_up(); }, .on_down = {}, .on_data = [this] { on_line_up(); }}),
      gather_(loop),
      again_(loop),
      on_partial_(std::move(on_partial)) {}

Publisher::~Publisher() { *alive_ = false; }

void Publisher::begin(const std::shared_ptr<Spool>& spool) {
    if (begun()) return;
    spool_ = spool;
    // What is over and short needs no line of its own, which would have to be opened first.
    by_control_ = spool->closed() && spool->size() <= short_bytes;
    reader_ = std::make_unique<SpoolReader>(*spool, [this] { gather(); });
    pump();
}

// What comes after a silence goes out at once, for somebody watches; what comes close behind it, together. Not from
// inside the spool, whose readers may not go there: one that cannot be read is given up.
void Publisher::gather() {
    if (std::exchange(gathering_, true)) return;
    const auto since = since_boot() - gathered_at_;
    gather_.start(std::clamp<milliseconds>(gathered_for - since, 0ms, gathered_for), [this] {
        gathering_ = false;
        gathered_at_ = since_boot();
        pump();
    });
}

EngineLine& Publisher::line() { return by_control_ || !begun() ? engine_.control() : engine_.data(); }

void Publisher::on_line_up() {
    no_room_ = false;
    on_line();
}

void Publisher::on_line() {
    if (!line().up()) return;
    if (!no_room_) send_next(on_their_way_.size());
    finish_when_done();
}

void Publisher::pump() {
    while (!broken_ && bytes_on_their_way_ < window_bytes) {
        auto text = next_chunk();
        if (!text) break;
        const std::uint64_t number = ++number_;
        std::string sealed = seal_.seal(Seal::Kind::chunk, number, *text);
        bytes_on_their_way_ += sealed.size();
        const std::uint64_t keep_from = count(sealed.size());
        on_their_way_.push_back({.number = number, .sealed = std::move(sealed), .keep_from = keep_from});
    }
    on_line();
}

// Which chunks make up `cap`, the last one included. Its bytes count, not chunks: most may be short ones.
std::uint64_t Publisher::count(std::size_t bytes) {
    if (marks_.empty() || bytes_ - marks_.back().before >= chunk_text_max) marks_.push_back({number_, bytes_});
    bytes_ += bytes;
    const std::uint64_t cap = engine_.url().cap_bytes;
    if (bytes_ > cap) become_partial();
    while (shut_ && marks_.size() > 1 && bytes_ - marks_[1].before >= cap) marks_.pop_front();
    return marks_.front().number;
}

void Publisher::become_partial() {
    if (!std::exchange(partial_, true)) on_partial_();
}

std::optional<std::string> Publisher::next_chunk() {
    ChunkText chunk(offset_);
    std::vector<char> buffer;
    while (!chunk.full()) {
        const auto piece = reader_->next();
        if (!piece) break;
        std::string_view bytes = piece->extent.bytes;
        if (bytes.empty()) {
            buffer.resize(std::min<std::uint64_t>(piece->extent.length, chunk_text_max));
            const ssize_t got =
                ::pread(piece->extent.file, buffer.data(), buffer.size(), static_cast<off_t>(piece->extent.offset));
            if (got <= 0) {
                give_up();
                return std::nullopt;
            }
            bytes = {buffer.data(), static_cast<std::size_t>(got)};
        }
        const std::size_t added = chunk.add(piece->stream, bytes);
        reader_->advance(added);
        offset_ += added;
    }
    if (chunk.empty()) return std::nullopt;
    return std::move(chunk).take();
}

void Publisher::send_next(std::size_t at_most) {
    bool any = false;
    for (Chunk& chunk : on_their_way_) {
        if (chunk.sent) continue;
        if (at_most-- == 0) break;
        chunk.sent = any = true;
        send(chunk);
    }
    if (any) line().ask(std::vector<std::string>{"PUBLISH", keys_.to_waiters(), "d"}, [](const auto&) {});
}

void Publisher::send(const Chunk& chunk) {
    std::vector<std::string> words{"XADD", keys_.stream(run_), "NOMKSTREAM"};
    if (chunk.keep_from > 2) words.insert(words.end(), {"MINID", "=", std::to_string(chunk.keep_from) + "-0"});
    words.insert(words.end(), {std::to_string(chunk.number) + "-0", "d", chunk.sealed});
    line().ask(words, [this, alive = alive_, number = chunk.number](const Result<RespValue>& answer) {
        if (*alive) on_answer(number, answer);
    });
}

void Publisher::on_answer(std::uint64_t number, const Result<RespValue>& answer) {
    const auto chunk = std::find_if(on_their_way_.begin(), on_their_way_.end(),
                                    [number](const Chunk& one) { return one.number == number; });
    if (chunk == on_their_way_.end()) return;
    if (!answer) {  // to be sent again, when there is a line
        chunk->sent = false;
        return;
    }
    const RespValue& said = answer.value();
    if (said.is_error() && is_passing(said)) {
        chunk->sent = false;
        chunk->refused = true;
        if (!record_ && spool_->replayable()) return wait_for_room();
    }
    no_room_ = false;
    // It has this one or a later one. Of this one it is certain only by an answer, and by then it may be too late to
    // send it again.
    const bool has_later = said.text.find("equal or smaller") != std::string::npos;
    chunk->there = said.kind == RespValue::Kind::bytes || (has_later && finishing_ && !chunk->refused);
    if (chunk->there || (has_later && !finishing_)) {
        close_gap(*chunk);
        for (; !on_their_way_.empty() && on_their_way_.front().there; on_their_way_.pop_front())
            bytes_on_their_way_ -= on_their_way_.front().sealed.size();
    } else {
        give_up();  // what comes behind it would leave a gap
        bytes_on_their_way_ -= chunk->sealed.size();
        on_their_way_.erase(chunk);
    }
    pump();
}

// One of them tries, and not until a while has passed: that all come at once is what it has no room for.
void Publisher::wait_for_room() {
    no_room_ = true;
    again_.start(again_sent_after, [this] {
        if (line().up()) send_next(1);
    });
}

// What the engine had no room for, when it had for this or a later one, can only go behind that; and so does what came
// behind it. Followers leave out what comes before it is its turn, and what they have.
void Publisher::close_gap(const Chunk& answered) {
    const auto missing =
        std::find_if(on_their_way_.begin(), on_their_way_.end(), [](const Chunk& one) { return !one.there; });
    if (missing == on_their_way_.end() || (answered.there && missing->number > answered.number) || finishing_) return;
    for (auto chunk = missing; chunk != on_their_way_.end(); ++chunk) {
        const auto text = seal_.open(Seal::Kind::chunk, chunk->number, chunk->sealed);
        const std::uint64_t number = ++number_;
        const std::uint64_t keep_from = count(chunk->sealed.size());
        *chunk = {.number = number, .sealed = seal_.seal(Seal::Kind::chunk, number, *text), .keep_from = keep_from};
    }
}

void Publisher::give_up() {
    broken_ = true;
    reader_.reset();
    become_partial();
}

void Publisher::finish(const EndRecord& record, Kept kept, milliseconds kept_for,
                       UniqueFunction<void(const std::string&)> on_told) {
    record_ = record;
    kept_for_ = kept_for;
    kept_ = kept;
    on_told_ = std::move(on_told);
    no_room_ = false;
    if (begun())
        pump();
    else
        finish_when_done();
}

// The last chunk may be on its way: whether that has come is looked at with the end.
bool Publisher::all_is_sent() const {
    if (begun() && !reader_->finished()) return false;
    return on_their_way_.empty() ||
           (on_their_way_.size() == 1 && on_their_way_.front().sent && !on_their_way_.front().refused);
}

void Publisher::finish_when_done() {
    if (!record_ || finishing_) return;
    if ((!broken_ && !all_is_sent()) || !line().up()) return;
    finishing_ = true;
    const Kept kept = partial_ && kept_ == Kept::output_and_end ? Kept::nothing : kept_;
    const std::uint64_t number = number_ + 1;
    const auto linger = kept != Kept::nothing ? std::max(kept_for_, linger_min) : linger_min;
    const auto words =
        call_of(Script::finish, std::array{keys_.state, keys_.waiters, keys_.stream(run_)},
                std::array{run_, std::to_string(number), seal_.seal(Seal::Kind::end, number, record_->text()),
                           std::to_string(linger.count()), std::to_string(static_cast<int>(kept))});
    line().ask(words, [this, alive = alive_](const Result<RespValue>& answer) {
        if (!*alive) return;
        if (answer && !answer.value().is_error()) return on_told_(answer.value().words());
        again_.start(again_sent_after, [this] {
            finishing_ = false;
            on_line();
        });
    });
}

}  // namespace coalesce
