// SPDX-License-Identifier: MIT
#include <coalesce/kept/store.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <utility>

#include <coalesce/engine/key_hash.h>
#include <coalesce/kept/store_cleaning.h>

namespace coalesce {
namespace {

using namespace std::chrono;

timespec timespec_of(std::int64_t ns) { return {.tv_sec = ns / second_ns, .tv_nsec = ns % second_ns}; }

// Which of two came first, by the clock that cannot be set where both know it.
bool began_before(const Moment& one, const Moment& other) {
    if (one.boot == other.boot && one.boot != BootId{}) return one.boot_ns < other.boot_ns;
    return one.wall_ns < other.wall_ns;
}

}  // namespace

Result<std::optional<KeptStore>> KeptStore::open(StorePlace place, bool make) {
    auto directory = open_store(place, make);
    if (!directory) return directory.error();
    if (!directory.value()) return std::optional<KeptStore>();
    return std::optional<KeptStore>(KeptStore(std::move(place), std::move(*directory.value())));
}

StoreKey store_key(const KeyView& key, std::string name) {
    Digester<sizeof(Digest)> digester;
    digester.add_field(key.surroundings != nullptr ? std::string_view(key.surroundings->bytes) : std::string_view());
    digester.add_field(key.words);
    return {.name = name.empty() ? key_hash(key) : std::move(name), .digest = digester.end()};
}

// What is damaged, or of another kind than it is named, is removed.
Result<std::optional<Entry>> KeptStore::read_one(const std::string& key, bool failure, StoreDirectory::Use use,
                                                 const Digest* digest, Entry::Check check) const {
    const std::string name = failure ? StoreDirectory::failure(key) : key;
    Descriptor file = files_.open(name, use);
    if (!file && errno != ENOENT) return system_error_now("read " + place_.path() + "/" + name);
    if (!file) return std::optional<Entry>();
    auto entry = Entry::read(file, digest, check);
    if (entry && (entry->facts().exit_status != 0) == failure) return entry;
    files_.remove_if_same(name, entry ? entry->file() : file.get());
    return std::optional<Entry>();
}

std::optional<KeptStore::Hit> KeptStore::find_one(const StoreKey& key, bool failure, const Wish& wish,
                                                  const ProgramIdentity& program, const Moment& now) const {
    auto found_one = read_one(key.name, failure, StoreDirectory::Use::serve, &key.digest, Entry::Check::all);
    if (!found_one || !*found_one) return std::nullopt;
    Entry& entry = **found_one;
    ProgramIdentity made_by = entry.facts().program;
    ProgramIdentity found = program;
    if (place_.shared) made_by.device = made_by.inode = found.device = found.inode = 0;
    if (made_by != found) return std::nullopt;
    const EntryFacts& facts = entry.facts();
    const Verdict verdict = judge(wish, {.started = facts.started, .ended = facts.ended, .failed = failure}, now);
    if (!verdict.serve) return std::nullopt;
    const nanoseconds left(entry.kept_until_ns() - now.wall_ns);
    return Hit{.entry = std::move(entry), .verdict = verdict, .left = left};
}

std::optional<KeptStore::Hit> KeptStore::find(const StoreKey& key, const Wish& wish, const ProgramIdentity& program,
                                              const Moment& now) const {
    if (!wish.reads()) return std::nullopt;
    auto hit = find_one(key, false, wish, program, now);
    if (wish.keep_failures) {
        auto failure = find_one(key, true, wish, program, now);
        if (failure && (!hit || failure->verdict.age < hit->verdict.age)) hit = std::move(failure);
    }
    if (hit && hit->verdict.refresh) {
        const auto tried = files_.note(StoreDirectory::note_of_try(key.name));
        const auto since = tried ? age_of(*tried, now) : std::nullopt;
        if (since && *since <= *wish.stale) hit->verdict.refresh = false;
    }
    return hit;
}

void KeptStore::note_failed_refresh(const StoreKey& key, const Moment& now) const noexcept {
    static_cast<void>(files_.write_note(StoreDirectory::note_of_try(key.name), now).ok());
}

Result<KeptStore::Publication> KeptStore::prepare(const StoreKey& key, Spool& spool, const EntryFacts& facts,
                                                  nanoseconds kept_for,
                                                  std::optional<steady_clock::time_point> until) const {
    if (spool.size() > limits().entry_bytes) return system_error_of(EFBIG, "keep a result");
    auto file = files_.write();
    if (!file) return file.error();
    EntryFacts with_key = facts;
    with_key.key = key.digest;
    if (auto written = write_entry(file->file(), spool, with_key, until); !written)
        return Error{written.error().code, "write " + place_.path()};
    const Moment moment = coalesce::now();
    const timespec times[2] = {timespec_of(moment.wall_ns), timespec_of(moment.wall_ns + kept_for.count())};
    if (::futimens(file->file(), times) != 0) return system_error_now("write " + place_.path());
    return Publication(*this, key, facts, std::move(*file));
}

Result<KeptStore::Publishing> KeptStore::Publication::commit() {
    const StoreDirectory& files = store_->files_;
    auto held = files.lock(key_.name, false);
    if (!held) {
        const int error = held.error().code.value();
        if (error == EAGAIN || error == EACCES) return Publishing::busy;
        return held.error();
    }
    for (const std::string& noted :
         {StoreDirectory::note_of_forgetting(key_.name), std::string(StoreDirectory::all_cleared)})
        if (const auto forgotten = files.note(noted); forgotten && began_before(started_, *forgotten))
            return Publishing::forgotten;
    const std::string name = failure_ ? StoreDirectory::failure(key_.name) : key_.name;
    if (Descriptor there = files.open(name)) {
        const auto entry = Entry::read(there, &key_.digest, Entry::Check::all_but_output);
        if (entry && began_before(started_, entry->facts().started) &&
            age_of(entry->facts().ended, now()))  // one from the future serves nobody
            return Publishing::older;
    }
    if (!file_.rename_to(name)) return system_error_now("write " + store_->place_.path());
    if (!failure_) static_cast<void>(files.remove(StoreDirectory::note_of_try(key_.name)));
    return Publishing::kept;
}

void KeptStore::Publication::sync() noexcept {
    struct stat info {};
    if (!file_.named() || ::fstat(file_.file(), &info) != 0) return;
    if (static_cast<std::uint64_t>(info.st_size) > checked_always_bytes)
        static_cast<void>(sync_entry(file_.file()).ok());
}

// Of two that waited for the lock the later one may have had it first.
Result<> KeptStore::note_forgotten(const std::string& note, const Moment& now) const {
    const auto noted = files_.note(note);
    return noted && began_before(now, *noted) ? Result<>() : files_.write_note(note, now);
}

Result<> KeptStore::forget(std::string_view name, const Moment& now) const {
    auto held = files_.lock(name, true);
    if (!held) return held.error();
    const std::string key(name);
    if (auto noted = note_forgotten(StoreDirectory::note_of_forgetting(key), now); !noted) return noted;
    for (const std::string& file : {key, StoreDirectory::failure(key), StoreDirectory::note_of_try(key)})
        if (!files_.remove(file) && errno != ENOENT) return system_error_now("remove " + place_.path() + "/" + key);
    return {};
}

Result<> KeptStore::clear(const Moment& now) const {
    auto held = files_.lock({}, true);
    if (!held) return held.error();
    if (auto noted = note_forgotten(StoreDirectory::all_cleared, now); !noted) return noted;
    Result<> cleared;
    const auto all = files_.for_each_name([&](const char* name) {
        const StoreDirectory::Kind kind = StoreDirectory::kind_of(name);
        if (kind != StoreDirectory::Kind::result && kind != StoreDirectory::Kind::note_of_try) return;
        if (!files_.remove(name) && errno != ENOENT) cleared = system_error_now("remove " + place_.path() + "/" + name);
    });
    return cleared ? all : cleared;
}

KeptStore::Listed::Listed(std::string_view file, const Entry& entry, const Moment& now)
    : name(file.substr(0, key_hash_digits)),
      facts(entry.facts()),
      output_bytes(entry.output_bytes()),
      left(entry.kept_until_ns() - now.wall_ns) {
    facts.parts = {};
}

KeptStore::Listing KeptStore::list(const Moment& now) const {
    Listing found;
    const auto all = files_.for_each_name([&](const char* name) {
        if (StoreDirectory::kind_of(name) != StoreDirectory::Kind::result) return;
        Descriptor file = files_.open(name, StoreDirectory::Use::look);
        if (!file && errno != ENOENT) found.complete = system_error_now("read " + place_.path() + "/" + name);
        if (!file) return;
        if (const auto entry = Entry::read(file, nullptr, Entry::Check::all_but_output))
            found.results.emplace_back(name, *entry, now);
    });
    if (!all) found.complete = all;
    std::sort(found.results.begin(), found.results.end(),
              [](const Listed& a, const Listed& b) { return a.facts.ended.wall_ns > b.facts.ended.wall_ns; });
    return found;
}

// By the names of the files alone: none need be opened.
Result<std::set<std::string>> KeptStore::keys(std::string_view beginning) const {
    std::set<std::string> found;
    const auto all = files_.for_each_name([&](std::string_view name) {
        if (StoreDirectory::kind_of(name) == StoreDirectory::Kind::result && name.starts_with(beginning))
            found.emplace(name.substr(0, key_hash_digits));
    });
    if (!all) return all.error();
    return found;
}

Result<std::optional<Entry>> KeptStore::look(const std::string& key, Entry::Check check) const {
    std::optional<Entry> found;
    for (const bool failure : {false, true}) {
        auto entry = read_one(key, failure, StoreDirectory::Use::look, nullptr, check);
        if (!entry) return entry;
        if (*entry && (!found || (*entry)->facts().ended.wall_ns > found->facts().ended.wall_ns))
            found = std::move(*entry);
    }
    return found;
}

KeptLimits KeptStore::limits() const {
    const std::string text = files_.read_small(StoreDirectory::limits);
    unsigned long long total = 0;
    unsigned long long entry = 0;
    unsigned long long results = 0;
    KeptLimits limits;
    if (std::sscanf(text.c_str(), "%llu %llu %llu", &total, &entry, &results) == 3)
        limits = {.total_bytes = total, .entry_bytes = entry, .results = results};
    limits.total_bytes = place_.bounds.total_bytes.value_or(limits.total_bytes);
    limits.entry_bytes = place_.bounds.entry_bytes.value_or(limits.entry_bytes);
    return limits;
}

Result<> KeptStore::set_limits(const KeptLimits& limits) const {
    return files_.write_small(StoreDirectory::limits, std::to_string(limits.total_bytes) + " " +
                                                          std::to_string(limits.entry_bytes) + " " +
                                                          std::to_string(limits.results) + "\n");
}

std::optional<KeptStore::Cleaned> KeptStore::clean(const Moment& now, bool now_please) const noexcept {
    return StoreCleaning(*this, now).run(now_please);
}

}  // namespace coalesce
