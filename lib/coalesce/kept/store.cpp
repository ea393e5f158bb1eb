// SPDX-License-Identifier: MIT
#include <coalesce/kept/store.h>

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <utility>

#include <coalesce/engine/key_hash.h>

namespace coalesce {
namespace {

using namespace std::chrono;

constexpr std::string_view failure_suffix = ".f";
constexpr std::string_view tried_suffix = ".t";
constexpr std::string_view forgotten_suffix = ".x";
constexpr std::string_view unnamed_suffix = ".new";
constexpr const char* all_cleared = "cleared";
constexpr const char* limits_file = "limits";
constexpr const char* cleaned_file = "cleaned";
constexpr const char* lock_file = "lock";

constexpr seconds lock_patience{10};  // only a holder that was stopped keeps it so long
constexpr std::int64_t second_ns = 1'000'000'000;
constexpr std::int64_t unnamed_for_seconds = 3600;
constexpr std::int64_t notes_for_seconds = 30 * 86'400;  // longer than a run that began before

bool is_key(std::string_view text) {
    return text.size() == key_hash_digits && text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}
bool is_result(std::string_view name) {
    if (name.ends_with(failure_suffix)) name.remove_suffix(failure_suffix.size());
    return is_key(name);
}

std::int64_t nanoseconds_of(const timespec& time) { return std::int64_t{time.tv_sec} * second_ns + time.tv_nsec; }
timespec timespec_of(std::int64_t ns) { return {.tv_sec = ns / second_ns, .tv_nsec = ns % second_ns}; }

// Which of two came first, by the clock that cannot be set where both know it.
bool began_before(const Moment& one, const Moment& other) {
    if (one.boot == other.boot && one.boot != BootId{}) return one.boot_ns < other.boot_ns;
    return one.wall_ns < other.wall_ns;
}

// Notes are short texts, and a torn one says nothing.
std::string text_of(const Moment& moment) {
    std::string text = std::to_string(moment.wall_ns) + " " + std::to_string(moment.boot_ns) + " ";
    return text + hexadecimal(moment.boot) + "\n";
}

std::optional<Moment> moment_of(std::string_view text) {
    Moment moment;
    const char* const end = text.data() + text.size();
    const auto wall = std::from_chars(text.data(), end, moment.wall_ns);
    if (wall.ec != std::errc{} || wall.ptr == end || *wall.ptr != ' ') return std::nullopt;
    const auto boot = std::from_chars(wall.ptr + 1, end, moment.boot_ns);
    if (boot.ec != std::errc{} || end - boot.ptr != 2 + 2 * std::ptrdiff_t{sizeof(BootId)} || *boot.ptr != ' ')
        return std::nullopt;
    for (std::size_t i = 0; i < moment.boot.size(); ++i) {
        const char* const digits = boot.ptr + 1 + 2 * i;
        if (std::from_chars(digits, digits + 2, moment.boot[i], 16).ptr != digits + 2) return std::nullopt;
    }
    return moment;
}

std::string read_small_file(int directory, const std::string& name) {
    const Descriptor file(::openat(directory, name.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK));
    char text[256];
    const ssize_t got = file ? ::read(file.get(), text, sizeof text) : -1;
    return got > 0 ? std::string(text, static_cast<std::size_t>(got)) : std::string();
}

std::string unnamed() {
    static std::atomic<unsigned> count = 0;  // by any thread
    return std::to_string(::getpid()) + "-" + std::to_string(now().boot_ns) + "-" + std::to_string(count++) +
           std::string(unnamed_suffix);
}

}  // namespace

Result<std::optional<KeptStore>> KeptStore::open(StorePlace place, bool make) {
    auto directory = open_store(place, make);
    if (!directory) return directory.error();
    if (!directory.value()) return std::optional<KeptStore>();
    return std::optional<KeptStore>(KeptStore(std::move(place), std::move(*directory.value())));
}

StoreKey store_key(const KeyView& key) {
    Digester<sizeof(Digest)> digester;
    digester.add_field(key.surroundings != nullptr ? std::string_view(key.surroundings->bytes) : std::string_view());
    digester.add_field(key.words);
    return {.name = key_hash(key), .digest = digester.end()};
}

// Nothing but what we may have written ourselves: no link, no pipe, nobody else's, nothing
// that others could have written to.
Descriptor KeptStore::open_entry(const std::string& name) const noexcept {
    Descriptor file(
        ::openat(directory_.get(), name.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
    struct stat info {};
    if (!file || ::fstat(file.get(), &info) != 0) return {};
    const bool ours =
        S_ISREG(info.st_mode) && info.st_uid == ::geteuid() && (info.st_mode & 07777) == 0600 && info.st_nlink <= 1;
    return ours ? std::move(file) : Descriptor();
}

void KeptStore::remove_if_same(const std::string& name, int file) const noexcept {
    struct stat opened {};
    struct stat named {};
    if (::fstat(file, &opened) == 0 && ::fstatat(directory_.get(), name.c_str(), &named, AT_SYMLINK_NOFOLLOW) == 0 &&
        opened.st_dev == named.st_dev && opened.st_ino == named.st_ino)
        ::unlinkat(directory_.get(), name.c_str(), 0);
}

std::optional<KeptStore::Hit> KeptStore::find_one(const StoreKey& key, bool failure, const Wish& wish,
                                                  const ProgramIdentity& program, const Moment& now) const {
    const std::string name = failure ? key.name + std::string(failure_suffix) : key.name;
    Descriptor file = open_entry(name);
    if (!file) return std::nullopt;
    struct stat info {};
    ::fstat(file.get(), &info);
    const Descriptor again(::fcntl(file.get(), F_DUPFD_CLOEXEC, 0));
    auto entry = Entry::read(std::move(file), &key.digest);
    if (!entry || (entry->facts().exit_status != 0) != failure) {
        if (again) remove_if_same(name, again.get());
        return std::nullopt;
    }
    ProgramIdentity made_by = entry->facts().program;
    ProgramIdentity found = program;
    if (place_.shared) made_by.device = made_by.inode = found.device = found.inode = 0;
    if (made_by != found) return std::nullopt;
    const EntryFacts& facts = entry->facts();
    const Verdict verdict = judge(wish, {.started = facts.started, .ended = facts.ended, .failed = failure}, now);
    if (!verdict.serve) return std::nullopt;
    return Hit{.entry = std::move(*entry),
               .verdict = verdict,
               .left = nanoseconds(nanoseconds_of(info.st_mtim) - now.wall_ns)};
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
        const auto tried = note(key.name + std::string(tried_suffix));
        const auto since = tried ? age_of(*tried, now) : std::nullopt;
        if (since && *since <= *wish.stale) hit->verdict.refresh = false;
    }
    return hit;
}

std::optional<Moment> KeptStore::note(const std::string& name) const noexcept {
    return moment_of(read_small_file(directory_.get(), name));
}

Result<> KeptStore::write_note(const std::string& name, const Moment& moment) const {
    const std::string aside = unnamed();
    const Descriptor file(
        ::openat(directory_.get(), aside.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!file || ::fchmod(file.get(), 0600) != 0) return system_error_now("write " + place_.path() + "/" + name);
    const std::string text = text_of(moment);
    const bool written = ::write(file.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size());
    if (written && ::renameat(directory_.get(), aside.c_str(), directory_.get(), name.c_str()) == 0) return {};
    Error error = written || errno != 0 ? system_error_now("write " + place_.path() + "/" + name)
                                        : system_error_of(ENOSPC, "write " + place_.path() + "/" + name);
    ::unlinkat(directory_.get(), aside.c_str(), 0);
    return error;
}

void KeptStore::note_failed_refresh(const StoreKey& key, const Moment& now) const noexcept {
    static_cast<void>(write_note(key.name + std::string(tried_suffix), now).ok());
}

// One byte of the file a key; without a name all of them. A holder needs it for the moment of a
// rename, so whoever may wait does not wait long. All pass one byte more, and who wants the whole
// keeps that while it waits: else those who come for one key each would keep it out for ever.
Result<Descriptor> KeptStore::lock(std::string_view name, bool wait) const {
    Descriptor file(::openat(directory_.get(), lock_file, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!file || ::fchmod(file.get(), 0600) != 0) return system_error_now("lock " + place_.path());
    const auto take = [&file](short type, std::uint64_t start, off_t length) {
        struct flock range {};
        range.l_type = type;
        range.l_whence = SEEK_SET;
        range.l_start = static_cast<off_t>(start);
        range.l_len = length;
        return ::fcntl(file.get(), F_OFD_SETLK, &range) == 0;
    };
    constexpr std::uint64_t turnstile = std::uint64_t{1} << 60;  // behind the 15 digits that say where a key is
    std::uint64_t place = 0;
    std::from_chars(name.data(), name.data() + std::min<std::size_t>(name.size(), 15), place, 16);
    const auto taken = [&] {
        if (name.empty()) return take(F_WRLCK, turnstile, 1) && take(F_WRLCK, 0, 0);
        if (!take(F_RDLCK, turnstile, 1)) return false;
        const bool held = take(F_WRLCK, place, 1);
        const int error = errno;
        take(F_UNLCK, turnstile, 1);
        errno = error;
        return held;
    };
    const auto until = steady_clock::now() + (wait ? lock_patience : nanoseconds(0));
    for (;;) {
        if (taken()) return file;
        if ((errno != EAGAIN && errno != EACCES) || steady_clock::now() >= until)
            return system_error_now("lock " + place_.path());
        constexpr timespec moment{.tv_sec = 0, .tv_nsec = 1'000'000};
        ::nanosleep(&moment, nullptr);
    }
}

Result<KeptStore::Publication> KeptStore::prepare(const StoreKey& key, Spool& spool, const EntryFacts& facts,
                                                  nanoseconds kept_for) const {
    if (spool.size() > limits().entry_bytes) return system_error_of(EFBIG, "keep a result");
    Publication publication(*this, key, facts.exit_status != 0, facts.started, facts.ended);
    publication.written_ = unnamed();
    publication.file_ = Descriptor(::openat(directory_.get(), publication.written_.c_str(),
                                            O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!publication.file_) return system_error_now("write " + place_.path());
    if (::fchmod(publication.file_.get(), 0600) != 0) return system_error_now("write " + place_.path());
    EntryFacts with_key = facts;
    with_key.key = key.digest;
    if (auto written = write_entry(publication.file_.get(), spool, with_key); !written)
        return Error{written.error().code, "write " + place_.path()};
    const Moment moment = coalesce::now();
    const timespec times[2] = {timespec_of(moment.wall_ns), timespec_of(moment.wall_ns + kept_for.count())};
    if (::futimens(publication.file_.get(), times) != 0) return system_error_now("write " + place_.path());
    return publication;
}

KeptStore::Publication::Publication(Publication&& other) noexcept
    : store_(std::exchange(other.store_, nullptr)),
      key_(std::move(other.key_)),
      failure_(other.failure_),
      started_(other.started_),
      ended_(other.ended_),
      written_(std::move(other.written_)),
      file_(std::move(other.file_)) {}

KeptStore::Publication& KeptStore::Publication::operator=(Publication&& other) noexcept {
    std::swap(store_, other.store_);
    std::swap(key_, other.key_);
    std::swap(failure_, other.failure_);
    std::swap(started_, other.started_);
    std::swap(ended_, other.ended_);
    std::swap(written_, other.written_);
    std::swap(file_, other.file_);
    return *this;
}

KeptStore::Publication::~Publication() {
    if (store_ != nullptr && !written_.empty()) ::unlinkat(store_->directory_.get(), written_.c_str(), 0);
}

Result<KeptStore::Publishing> KeptStore::Publication::commit() {
    auto held = store_->lock(key_.name, false);
    if (!held) {
        const int error = held.error().code.value();
        if (error == EAGAIN || error == EACCES) return Publishing::busy;
        return held.error();
    }
    for (const std::string& noted : {key_.name + std::string(forgotten_suffix), std::string(all_cleared)})
        if (const auto forgotten = store_->note(noted); forgotten && began_before(started_, *forgotten))
            return Publishing::forgotten;
    const std::string name = failure_ ? key_.name + std::string(failure_suffix) : key_.name;
    if (Descriptor there = store_->open_entry(name)) {
        const auto entry = Entry::read(std::move(there), &key_.digest, Entry::Check::all_but_output);
        if (entry && began_before(started_, entry->facts().started) &&
            age_of(entry->facts().ended, now()))  // one from the future serves nobody
            return Publishing::older;
    }
    const int directory = store_->directory_.get();
    if (::renameat(directory, written_.c_str(), directory, name.c_str()) != 0)
        return system_error_now("write " + store_->place_.path());
    written_.clear();
    ::unlinkat(directory, (key_.name + std::string(tried_suffix)).c_str(), 0);
    return Publishing::kept;
}

void KeptStore::Publication::sync() noexcept {
    struct stat info {};
    if (!written_.empty() || !file_ || ::fstat(file_.get(), &info) != 0) return;
    if (static_cast<std::uint64_t>(info.st_size) > checked_always_bytes)
        static_cast<void>(sync_entry(file_.get()).ok());
}

Result<> KeptStore::forget(std::string_view name, const Moment& now) const {
    auto held = lock(name, true);
    if (!held) return held.error();
    const std::string key(name);
    if (auto noted = write_note(key + std::string(forgotten_suffix), now); !noted) return noted;
    for (const std::string_view suffix : {std::string_view(), failure_suffix, tried_suffix})
        if (::unlinkat(directory_.get(), (key + std::string(suffix)).c_str(), 0) != 0 && errno != ENOENT)
            return system_error_now("remove " + place_.path() + "/" + key);
    return {};
}

Result<> KeptStore::clear(const Moment& now) const {
    auto held = lock({}, true);
    if (!held) return held.error();
    if (auto noted = write_note(all_cleared, now); !noted) return noted;
    Result<> cleared;
    for_each_name([&](const char* name) {
        const std::string_view text = name;
        const bool note = text.ends_with(tried_suffix) && is_key(text.substr(0, text.size() - tried_suffix.size()));
        if ((is_result(text) || note) && ::unlinkat(directory_.get(), name, 0) != 0 && errno != ENOENT)
            cleared = system_error_now("remove " + place_.path() + "/" + name);
    });
    return cleared;
}

template <class Visit>
void KeptStore::for_each_name(Visit visit) const {
    const int directory = ::openat(directory_.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const std::unique_ptr<DIR, int (*)(DIR*)> list(directory < 0 ? nullptr : ::fdopendir(directory), ::closedir);
    if (!list) {
        if (directory >= 0) ::close(directory);
        return;
    }
    while (const dirent* entry = ::readdir(list.get())) visit(entry->d_name);
}

std::vector<KeptStore::Listed> KeptStore::list(const Moment& now) const {
    std::vector<Listed> found;
    for_each_name([&](const char* name) {
        if (!is_result(name)) return;
        Descriptor file = open_entry(name);
        struct stat info {};
        if (!file || ::fstat(file.get(), &info) != 0) return;
        auto entry = Entry::read(std::move(file), nullptr, Entry::Check::all_but_output);
        if (!entry) return;
        found.push_back({.name = std::string(name).substr(0, key_hash_digits),
                         .entry = std::move(*entry),
                         .left = nanoseconds(nanoseconds_of(info.st_mtim) - now.wall_ns),
                         .file_bytes = static_cast<std::uint64_t>(info.st_size)});
    });
    std::sort(found.begin(), found.end(), [](const Listed& a, const Listed& b) {
        return a.entry.facts().ended.wall_ns > b.entry.facts().ended.wall_ns;
    });
    return found;
}

KeptLimits KeptStore::limits() const {
    const std::string text = read_small_file(directory_.get(), limits_file);
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
    const std::string aside = unnamed();
    const Descriptor file(::openat(directory_.get(), aside.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    const std::string text = std::to_string(limits.total_bytes) + " " + std::to_string(limits.entry_bytes) + " " +
                             std::to_string(limits.results) + "\n";
    if (file && ::fchmod(file.get(), 0600) == 0 &&
        ::write(file.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size()) &&
        ::renameat(directory_.get(), aside.c_str(), directory_.get(), limits_file) == 0)
        return {};
    Error error = system_error_now("write " + place_.path() + "/" + limits_file);
    ::unlinkat(directory_.get(), aside.c_str(), 0);
    return error;
}

std::optional<KeptStore::Cleaned> KeptStore::clean(const Moment& now, bool now_please) const noexcept {
    const Descriptor last(::openat(directory_.get(), cleaned_file, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
    struct flock whole {};
    whole.l_type = F_WRLCK;
    whole.l_whence = SEEK_SET;
    if (!last || ::fchmod(last.get(), 0600) != 0 || ::fcntl(last.get(), F_OFD_SETLK, &whole) != 0) return std::nullopt;
    struct stat info {};
    char text[32]{};
    if (!now_please && ::fstat(last.get(), &info) == 0 && ::pread(last.get(), text, sizeof text - 1, 0) > 0) {
        const long long took_ns = std::strtoll(text, nullptr, 10);
        const std::int64_t since = now.wall_ns - nanoseconds_of(info.st_mtim);
        if (since >= 0 && since < std::max<std::int64_t>(60 * second_ns, 100 * took_ns)) return std::nullopt;
    }
    const auto began = steady_clock::now();
    remove_stores_of_other_boots(place_);

    struct Candidate {
        std::int64_t used;
        std::uint64_t bytes;
        std::string name;
    };
    std::vector<Candidate> kept;
    std::uint64_t total = 0;
    Cleaned cleaned;
    const auto remove = [&](const char* name, std::uint64_t bytes) {
        if (::unlinkat(directory_.get(), name, 0) != 0) return;
        ++cleaned.removed;
        cleaned.bytes += bytes;
    };
    for_each_name([&](const char* name) {
        const std::string_view file_name = name;
        struct stat file {};
        if (::fstatat(directory_.get(), name, &file, AT_SYMLINK_NOFOLLOW) != 0) return;
        const std::int64_t age_seconds = now.wall_ns / second_ns - file.st_mtim.tv_sec;
        const auto bytes = static_cast<std::uint64_t>(file.st_size);
        if (file_name.ends_with(unnamed_suffix)) {
            if (age_seconds > unnamed_for_seconds) ::unlinkat(directory_.get(), name, 0);
        } else if (file_name.ends_with(tried_suffix) || file_name.ends_with(forgotten_suffix)) {
            if (age_seconds > notes_for_seconds) ::unlinkat(directory_.get(), name, 0);
        } else if (is_result(file_name)) {
            if (nanoseconds_of(file.st_mtim) < now.wall_ns) return remove(name, bytes);
            kept.push_back({nanoseconds_of(file.st_atim), bytes, name});
            total += bytes;
        }
    });
    const KeptLimits most = limits();
    if (total > most.total_bytes || kept.size() > most.results) {
        std::sort(kept.begin(), kept.end(), [](const Candidate& a, const Candidate& b) { return a.used < b.used; });
        std::size_t left = kept.size();
        for (const Candidate& candidate : kept) {
            if (total <= most.total_bytes / 10 * 9 && left <= most.results / 10 * 9) break;
            remove(candidate.name.c_str(), candidate.bytes);
            total -= candidate.bytes;
            --left;
        }
    }
    const std::string took = std::to_string((steady_clock::now() - began) / nanoseconds(1)) + "\n";
    static_cast<void>(::ftruncate(last.get(), 0) == 0 &&
                      ::pwrite(last.get(), took.data(), took.size(), 0) == static_cast<ssize_t>(took.size()));
    return cleaned;
}

}  // namespace coalesce
