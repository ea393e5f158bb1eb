// SPDX-License-Identifier: MIT
#include <coalesce/kept/kept_flight.h>

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include <coalesce/command/duration.h>
#include <coalesce/command/want.h>
#include <coalesce/command/size.h>
#include <coalesce/io/own_program.h>
#include <coalesce/kept/savings.h>

namespace coalesce {
namespace {

using namespace std::chrono;

constexpr std::string_view not_kept_words = "not kept: ";

Moment earlier(Moment moment, nanoseconds by) {
    moment.wall_ns -= by.count();
    moment.boot_ns -= by.count();
    return moment;
}

// And its command is not why: there was no room, or nobody could say who is to run it.
bool never_began(const RunResult& result) {
    using Kind = Outcome::Kind;
    const Outcome& outcome = result.outcome;
    if (result.spool && result.spool->size() > 0) return false;  // it was its output that there was no room for
    return outcome.kind == Kind::engine_down ||
           ((outcome.kind == Kind::not_started || outcome.kind == Kind::refused) && is_want(outcome.code));
}

std::string reason_of(const Error& error, const KeptStore& store) {
    return "cannot write " + store.place().path() + ": " + error.code.message();
}

}  // namespace

ProgramIdentity identity_of(const struct stat& program) {
    return {.device = program.st_dev,
            .inode = program.st_ino,
            .size = static_cast<std::uint64_t>(program.st_size),
            .modified_ns = std::int64_t{program.st_mtim.tv_sec} * 1'000'000'000 + program.st_mtim.tv_nsec};
}

ProgramIdentity program_of(const Command& command, const std::string& directory) {
    std::string path = command.argv.front();
    if (path.find('/') == std::string::npos) {
        const auto found = find_program_behind_us(path, env_value(command.surroundings->env, "PATH"), directory);
        if (!found) return {};
        path = *found;
    }
    if (!path.starts_with('/')) path = directory + "/" + path;
    struct stat info {};
    if (::stat(path.c_str(), &info) != 0) return {};
    return identity_of(info);
}

std::shared_ptr<const CanonicalSurroundings> surroundings_in(
    const StorePlace& place, const std::shared_ptr<const CanonicalSurroundings>& surroundings) {
    if (!place.shared) return surroundings;
    return std::make_shared<const CanonicalSurroundings>(portable_surroundings(surroundings->bytes));
}

std::string why_not_kept(const RunResult& result, const Wish& wish) {
    const Outcome& outcome = result.outcome;
    const bool started = outcome.kind == Outcome::Kind::exited && (outcome.code < 125 || outcome.code > 127);
    if (!started || (!outcome.success() && !wish.keep_failures)) return outcome.describe();
    if (result.cut_short) return "it was sent a signal";
    if (!result.spool->whole() || !result.spool->replayable()) return "its output is past the replay limit";
    return {};
}

Result<std::shared_ptr<const RunResult>> result_of(const KeptStore::Hit& hit, const SpoolLimits& limits) {
    auto spool = hit.entry.replay(limits);
    if (!spool) return spool.error();
    const EntryFacts& facts = hit.entry.facts();
    const system_clock::time_point started{duration_cast<system_clock::duration>(nanoseconds(facts.started.wall_ns))};
    RunResult result;
    result.outcome = Outcome::exited(facts.exit_status);
    result.spool = std::move(*spool);
    result.title = facts.title;
    result.requested = started;
    result.started = started;
    result.duration = facts.duration;
    result.attempts = 1;
    result.kept = KeptMark{
        .age = hit.verdict.age, .left = hit.left, .refreshing = hit.verdict.refresh, .directory = facts.directory};
    return std::make_shared<const RunResult>(std::move(result));
}

KeptFlight::~KeptFlight() { after_delivery(); }

// What is wrong with it is told where it was to be written.
bool KeptFlight::open(bool make) {
    auto opened = access_->open(make);
    if (!opened && make) not_kept("cannot " + opened.error().message(), true);
    store_ = opened ? std::move(*opened) : nullptr;
    return store_ != nullptr;
}

bool KeptFlight::could_keep(std::uint64_t bytes) {
    return wish_.keeps() && (store_ || open(true)) && bytes <= store_->limits().entry_bytes;
}

std::shared_ptr<const RunResult> KeptFlight::find() {
    if (!served_.reads() || !open(false)) return nullptr;
    // Another process may have kept one since this requester looked. A refresh runs because what is
    // there is too old: only one that is not stale any more spares it the run.
    Wish wish = served_;
    if ((refresh_ || not_stale_) && wish.stale) wish.ttl = std::min(wish.ttl.value_or(*wish.stale), *wish.stale);
    const auto hit = store_->find(key_, wish, subject_.program, now());
    if (!hit) return nullptr;
    auto result = result_of(*hit, *limits_);
    return result ? std::move(*result) : nullptr;
}

void KeptFlight::not_kept(std::string why, bool failed) {
    words_ = std::string(not_kept_words) + std::move(why);
    failed_ = failed;
}

void KeptFlight::keep(const std::shared_ptr<const RunResult>& result, const Moment& ended,
                      std::optional<steady_clock::time_point> until) noexcept {
    try {
        if (!wish_.keeps()) return;
        ended_ = ended;
        publish(result, until);
        // Whatever kept it from being one: what is stale stays so, and is not tried again at each hit. But what never
        // began has not been tried.
        if (!refresh_ || never_began(*result) || (!store_ && !open(false))) return;
        add_savings(store_->directory(), {.runs = 1});
        if (!result->outcome.success() || (words_.starts_with(not_kept_words) && !failed_))
            store_->note_failed_refresh(key_, now());
    } catch (const std::exception&) {  // no memory: it counts as not kept
        publication_.reset();
    }
}

void KeptFlight::publish(const std::shared_ptr<const RunResult>& result,
                         std::optional<steady_clock::time_point> until) {
    if (std::string why = why_not_kept(*result, wish_); !why.empty()) return not_kept(std::move(why));
    if (subject_.program == ProgramIdentity{}) return not_kept("it is not known of which program it is");
    if (!open(true)) return;
    if (const std::uint64_t most = store_->limits().entry_bytes; result->spool->size() > most)
        return not_kept(format_size(result->spool->size()) + ", the limit is " + format_size(most));
    kept_for_ = result->outcome.success() ? *wish_.ttl : std::min(*wish_.ttl, *wish_.keep_failures);
    if (!subject_.dependencies.empty()) {
        const auto state =
            TreeState::take_unless(subject_.dependencies, [until] { return until && steady_clock::now() > *until; });
        if (!state) return not_kept(state.error().message());
        if (!state.value()) {
            late_ = result;
            return;
        }
        if (const auto changed = TreeState::first_change(subject_.state, *state.value()))
            return not_kept(*changed + " changed during the run");
    }
    write(result, until);
}

void KeptFlight::write(const std::shared_ptr<const RunResult>& result, std::optional<steady_clock::time_point> until) {
    EntryFacts facts;
    facts.ended = earlier(ended_, result->over_for);
    // What counts the duration stands still while the machine is suspended, and we may come late: then the wall clock
    // knows better when it began.
    const auto since = nanoseconds(facts.ended.wall_ns) - result->started.time_since_epoch();
    facts.started = earlier(facts.ended, std::max<nanoseconds>(result->duration, since));
    facts.duration = result->duration;
    facts.exit_status = result->outcome.status();
    facts.program = subject_.program;
    const std::vector<KeyPart> parts = explain(subject_.surroundings->bytes, subject_.words);
    // Who gave a key of his own said what the command may be called; its words may be secret (T22).
    const auto key = std::find_if(parts.begin(), parts.end(), [](const KeyPart& part) { return part.name == "key"; });
    facts.title = key == parts.end() ? subject_.title : key->value;
    facts.directory = subject_.directory;
    facts.salt = new_salt();
    facts.parts = digests_of(parts, facts.salt);
    auto prepared = store_->prepare(key_, *result->spool, facts, kept_for_, until);
    if (!prepared && prepared.error().code == std::errc::timed_out) {
        late_ = result;
        return;
    }
    if (!prepared) return not_kept(reason_of(prepared.error(), *store_), true);
    publication_ = std::move(*prepared);
    commit();
}

void KeptFlight::commit() {
    const auto done = publication_->commit();
    if (!done) {
        publication_.reset();
        return not_kept(reason_of(done.error(), *store_), true);
    }
    switch (done.value()) {
        case KeptStore::Publishing::kept:
            words_ = "kept for " + format_duration(kept_for_);
            return;
        case KeptStore::Publishing::busy:
            return;  // once more when nobody waits
        case KeptStore::Publishing::forgotten:
            not_kept("it was forgotten during the run");
            break;
        case KeptStore::Publishing::older:
            not_kept("a younger result is there");
            break;
    }
    publication_.reset();
}

void KeptFlight::leave() noexcept {
    try {
        if (publication_ && words_.empty()) commit();
    } catch (const std::exception&) {
    }
    late_.reset();
    publication_.reset();
}

void KeptFlight::after_delivery() noexcept {
    try {
        if (const auto result = std::exchange(late_, nullptr)) {
            const auto state = TreeState::take(subject_.dependencies);
            if (!state)
                not_kept(state.error().message());
            else if (const auto changed = TreeState::first_change(subject_.state, state.value()))
                not_kept(*changed + " changed during the run");
            else
                write(result, std::nullopt);
        }
        if (publication_ && words_.empty()) commit();
        if (auto publication = std::exchange(publication_, std::nullopt)) {
            publication->sync();
            store_->clean(now(), false);
        }
    } catch (const std::exception&) {
        publication_.reset();
    }
}

}  // namespace coalesce
