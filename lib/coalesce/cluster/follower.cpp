// SPDX-License-Identifier: MIT
#include <coalesce/cluster/follower.h>

#include <charconv>
#include <utility>
#include <vector>

#include <coalesce/io/loop.h>

namespace coalesce {
namespace {

// A reply may have 8 MiB, and a chunk has up to 65,000 bytes.
constexpr const char* entries_at_once = "64";

constexpr std::chrono::milliseconds looked_again_after{500};  // where it was refused for a while

// For so long a chunk that there was no room for may come behind others (Publisher).
constexpr std::chrono::seconds missing_for_max{10};

// Of "12-0".
std::uint64_t number_of(std::string_view id) {
    std::uint64_t number = 0;
    const auto [stopped, error] = std::from_chars(id.data(), id.data() + id.size(), number);
    return error == std::errc() && id.substr(static_cast<std::size_t>(stopped - id.data())) == "-0" ? number : 0;
}

}  // namespace

Follower::Follower(Engine& engine, const EngineKeys& keys, const std::string& run, Seal seal, Wanted wanted,
                   Findings findings)
    : engine_(engine),
      stream_(keys.stream(run)),
      seal_(std::move(seal)),
      wanted_(wanted),
      findings_(std::move(findings)),
      listener_(engine, {.on_up = {}, .on_down = {}, .on_data = [this] { look(); }}),
      patience_(engine.loop()),
      again_(engine.loop()) {}

Follower::~Follower() {
    *alive_ = false;
    if (findings_.on_gone) findings_.on_gone();
}

std::optional<RunSource::Refusal> Follower::start(Events events) {
    events_ = std::move(events);
    look();
    return {};
}

void Follower::look() {
    if (over_ || paused_ || !events_.on_ended) return;
    EngineLine& line = engine_.data();
    if (asking_) {
        look_again_ = true;
        return;
    }
    if (!line.up()) return;  // and we hear of it when it is
    asking_ = true;
    look_again_ = false;
    last_look_ = impatient_;
    using Words = std::vector<std::string>;
    const Words words = wanted_ == Wanted::end_only ? Words{"XREVRANGE", stream_, "+", "-", "COUNT", "1"}
                                                    : Words{"XREAD",   "COUNT", entries_at_once,
                                                            "STREAMS", stream_, std::to_string(last_) + "-0"};
    line.ask(words, [this, alive = alive_](const Result<RespValue>& answer) {
        if (*alive) on_entries(answer);
    });
}

// Nothing, or [[stream, [[id, [field, value]] …]]]; of the end alone [[id, [field, value]]].
void Follower::on_entries(const Result<RespValue>& answer) {
    asking_ = false;
    if (!answer) return;
    if (answer.value().is_error() && is_passing(answer.value()))
        return again_.start(looked_again_after, [this] { look(); });
    if (answer.value().is_error()) return (void)broken("the engine refuses: " + answer.value().text);
    if (wanted_ == Wanted::end_only) {
        const RespValue& entry = answer.value().at(0);
        if (entry.at(1).at(0).text == "x") return (void)take_end(number_of(entry.at(0).text), entry.at(1));
        if (look_again_) look();
        return;
    }
    const std::shared_ptr<bool> alive = alive_;
    const auto& entries = answer.value().at(0).at(1).elements;
    if (entries.empty() && last_look_)
        return (void)broken(
            "a part of its output is not there: it was read too slowly, or the engine had no room for it");
    for (const RespValue& entry : entries)
        if (!take(entry) || !*alive || over_) return;
    if (!entries.empty() || look_again_) look();
}

bool Follower::take(const RespValue& entry) {
    const std::uint64_t number = number_of(entry.at(0).text);
    const std::string& field = entry.at(1).at(0).text;
    const std::string& value = entry.at(1).at(1).text;
    if (number <= last_) return broken("its output is repeated");
    const bool gap = std::exchange(last_, number) + 1 != number;
    if (field == "b") return true;
    if (field != "d") return take_end(number, entry.at(1));
    if (gap && !std::exchange(missing_, true)) wait_for_missing();
    return take_chunk(number, value);
}

bool Follower::take_chunk(std::uint64_t number, std::string_view sealed) {
    const auto text = seal_.open(Seal::Kind::chunk, number, sealed);
    if (!text) return broken("its output was tampered with");
    const std::uint64_t begin = begin_of_chunk(*text);
    if (begin < received() || (begin > received() && missing_)) return true;  // it has come, or will come again
    const std::shared_ptr<bool> alive = alive_;
    const auto length = read_chunk(*text, received(), [&](Stream stream, std::string_view bytes) {
        if (!*alive || over_) return;
        sizes_[index_of(stream)] += bytes.size();
        events_.on_output(stream, bytes);
    });
    if (!*alive) return false;
    if (!length) return broken("its output was tampered with");
    if (std::exchange(missing_, false)) patience_.stop();
    impatient_ = false;
    return true;
}

void Follower::wait_for_missing() {
    patience_.start(missing_for_max, [this] {
        impatient_ = true;  // but it may have come, and not been looked for
        look();
    });
}

bool Follower::take_end(std::uint64_t number, const RespValue& fields) {
    const auto text = fields.at(0).text == "x" ? seal_.open(Seal::Kind::end, number, fields.at(1).text) : std::nullopt;
    auto record = text ? EndRecord::of(*text) : std::nullopt;
    if (!record) return broken("its end was tampered with");
    const bool whole = wanted_ == Wanted::end_only || record->sizes == sizes_;
    if (!whole && record->outcome.kind != Outcome::Kind::cancelled) return broken("its output is not whole");
    findings_.on_end(std::move(*record));
    return false;
}

bool Follower::broken(std::string why) {
    if (!over_) findings_.on_broken(std::move(why));
    return false;
}

void Follower::end(Outcome outcome) {
    if (std::exchange(over_, true)) return;
    auto on_ended = std::move(events_.on_ended);
    on_ended(std::move(outcome));  // may destroy this
}

void Follower::terminate(std::chrono::milliseconds) {
    engine_.loop().post([this, alive = alive_] {
        if (*alive) end(Outcome::cancelled());
    });
}

void Follower::resume() {
    if (std::exchange(paused_, false)) look();
}

}  // namespace coalesce
