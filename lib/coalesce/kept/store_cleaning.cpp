// SPDX-License-Identifier: MIT
#include <coalesce/kept/store_cleaning.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>

#include <coalesce/kept/store_directory.h>

namespace coalesce {
namespace {

using namespace std::chrono;

constexpr std::int64_t between_ns = 60 * second_ns;
constexpr std::int64_t unnamed_for_seconds = 3600;
constexpr std::int64_t notes_for_seconds = 30 * 86'400;  // longer than a run that began before

// Held by who cleans. Empty: another is at it.
Descriptor lock_for_cleaning(int directory) {
    Descriptor last(::openat(directory, StoreDirectory::cleaned, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
    struct flock whole {};
    whole.l_type = F_WRLCK;
    whole.l_whence = SEEK_SET;
    const bool ours = last && ::fchmod(last.get(), 0600) == 0 && ::fcntl(last.get(), F_OFD_SETLK, &whole) == 0;
    return ours ? std::move(last) : Descriptor();
}

}  // namespace

std::int64_t StoreCleaning::since_ns(const struct stat& cleaned) const noexcept {
    return now_.wall_ns - nanoseconds_of(cleaned.st_mtim);
}

// Seen without opening it: nearly all who ask come within a minute of the last time.
bool StoreCleaning::was_just_done() const noexcept {
    struct stat info {};
    if (::fstatat(store_.directory(), StoreDirectory::cleaned, &info, AT_SYMLINK_NOFOLLOW) != 0) return false;
    const std::int64_t since = since_ns(info);
    return info.st_size > 0 && since >= 0 && since < between_ns;
}

// Not before that minute has passed, nor a hundred times what it took.
bool StoreCleaning::is_due(int last) const noexcept {
    struct stat info {};
    char text[32]{};
    if (::fstat(last, &info) != 0 || ::pread(last, text, sizeof text - 1, 0) <= 0) return true;
    const long long took_ns = std::strtoll(text, nullptr, 10);
    const std::int64_t since = since_ns(info);
    return since < 0 || since >= std::max<std::int64_t>(between_ns, 100 * took_ns);
}

std::optional<KeptStore::Cleaned> StoreCleaning::run(bool now_please) {
    if (!now_please && was_just_done()) return std::nullopt;
    const Descriptor last = lock_for_cleaning(store_.directory());
    if (!last || (!now_please && !is_due(last.get()))) return std::nullopt;
    const auto began = steady_clock::now();
    remove_stores_of_other_boots(store_.place());
    static_cast<void>(store_.files().for_each_name([this](const char* name) { look_at(name); }).ok());
    remove_least_used();
    const std::string took = std::to_string((steady_clock::now() - began) / nanoseconds(1)) + "\n";
    static_cast<void>(::ftruncate(last.get(), 0) == 0 &&
                      ::pwrite(last.get(), took.data(), took.size(), 0) == static_cast<ssize_t>(took.size()));
    return cleaned_;
}

void StoreCleaning::look_at(const char* name) {
    struct stat file {};
    if (::fstatat(store_.directory(), name, &file, AT_SYMLINK_NOFOLLOW) != 0) return;
    const std::int64_t age_seconds = now_.wall_ns / second_ns - file.st_mtim.tv_sec;
    const auto bytes = static_cast<std::uint64_t>(file.st_size);
    switch (StoreDirectory::kind_of(name)) {
        case StoreDirectory::Kind::unnamed:
            // Its time is until when the result was to be kept.
            if (now_.wall_ns / second_ns - file.st_ctim.tv_sec > unnamed_for_seconds)
                static_cast<void>(store_.files().remove(name));
            return;
        case StoreDirectory::Kind::note_of_try:
        case StoreDirectory::Kind::note_of_forgetting:
            if (age_seconds > notes_for_seconds) static_cast<void>(store_.files().remove(name));
            return;
        case StoreDirectory::Kind::result:
            if (nanoseconds_of(file.st_mtim) < now_.wall_ns) return remove(name, bytes);
            kept_.push_back({nanoseconds_of(file.st_atim), bytes, name});
            total_bytes_ += bytes;
            return;
        case StoreDirectory::Kind::other:
            return;
    }
}

void StoreCleaning::remove_least_used() {
    const KeptLimits most = store_.limits();
    if (total_bytes_ <= most.total_bytes && kept_.size() <= most.results) return;
    std::sort(kept_.begin(), kept_.end(), [](const Candidate& a, const Candidate& b) { return a.used_ns < b.used_ns; });
    const auto nine_tenths = [](auto bound) { return bound - bound / 10; };
    std::size_t left = kept_.size();
    for (const Candidate& candidate : kept_) {
        if (total_bytes_ <= nine_tenths(most.total_bytes) && left <= nine_tenths(most.results)) break;
        remove(candidate.name, candidate.bytes);
        total_bytes_ -= candidate.bytes;
        --left;
    }
}

void StoreCleaning::remove(const std::string& name, std::uint64_t bytes) {
    if (!store_.files().remove(name)) return;
    ++cleaned_.removed;
    cleaned_.bytes += bytes;
}

}  // namespace coalesce
