// SPDX-License-Identifier: MIT
#include <coalesce/kept/history.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <vector>

#include <coalesce/io/descriptor.h>
#include <coalesce/kept/store_place.h>

namespace coalesce {
namespace {

constexpr std::size_t remembered_runs = 5;
constexpr std::size_t places = 8;  // of one hash, side by side: read at once

// As it lies in the file, in the machine's own byte order: the file never leaves it.
struct Record {
    Checksum command;
    std::array<std::uint32_t, remembered_runs> milliseconds;  // the last first; 0: none
    std::uint32_t succeeded;                                  // a bit a run
    std::int64_t used;                                        // seconds since the epoch
    std::array<unsigned char, 8> unused;
    std::array<unsigned char, 8> checksum;
};
static_assert(sizeof(Record) == 64);
using Bucket = std::array<Record, places>;
constexpr std::size_t buckets = (1 << 20) / sizeof(Bucket);

std::array<unsigned char, 8> checksum_of(const Record& record) {
    const Checksum all =
        digest_of<sizeof(Checksum)>({reinterpret_cast<const char*>(&record), sizeof record - sizeof record.checksum});
    std::array<unsigned char, 8> first{};
    std::copy_n(all.begin(), first.size(), first.begin());
    return first;
}

off_t bucket_of(const Checksum& command) {
    std::uint64_t number = 0;
    std::memcpy(&number, command.data(), sizeof number);
    return static_cast<off_t>(number % buckets * sizeof(Bucket));
}

Descriptor open_file(const std::string& path, int flags) {
    if (path.empty()) return {};
    Descriptor file(::open(path.c_str(), flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600));
    struct stat info {};
    if (!file || ::fstat(file.get(), &info) != 0 || !S_ISREG(info.st_mode) || info.st_uid != ::geteuid()) return {};
    return file;
}

// What is torn or not there is a record of nothing.
Bucket read_bucket(const Descriptor& file, off_t at) {
    Bucket bucket{};
    if (::pread(file.get(), bucket.data(), sizeof bucket, at) < 0) return {};
    for (Record& record : bucket)
        if (record.checksum != checksum_of(record)) record = {};
    return bucket;
}

std::uint32_t median(std::vector<std::uint32_t>& times) {
    std::sort(times.begin(), times.end());
    return times[times.size() / 2];
}

std::string_view variable(const char* name) {
    const char* const value = std::getenv(name);
    return value == nullptr ? "" : value;
}

std::string own_path() {
    if (variable("COALESCE_HISTORY") == "no") return {};
    const std::string_view state = variable("XDG_STATE_HOME");
    const std::string_view home = variable("HOME");
    if (state.starts_with('/')) return std::string(state) + "/coalesce/history";
    return home.starts_with('/') ? std::string(home) + "/.local/state/coalesce/history" : std::string();
}

// Only in a directory that is ours: root with a user's HOME leaves nothing there.
bool make_directory_of(const std::string& path) {
    const std::string directory = path.substr(0, path.find_last_of('/'));
    struct stat info {};
    return make_directories(directory) && ::stat(directory.c_str(), &info) == 0 && info.st_uid == ::geteuid();
}

}  // namespace

History History::of_this_user() { return History(own_path()); }

Checksum History::name_of(const KeyView& key) {
    const std::string_view surroundings =
        key.surroundings == nullptr ? std::string_view() : std::string_view(key.surroundings->bytes);
    return digest_of<sizeof(Checksum)>(canonical_command(surroundings, key.words, ::geteuid()));
}

std::optional<Usually> History::find(const Checksum& command) const noexcept {
    const Descriptor file = open_file(path_, O_RDONLY);
    if (!file) return std::nullopt;
    for (const Record& record : read_bucket(file, bucket_of(command))) {
        if (record.command != command || record.used == 0) continue;
        for (const bool succeeded : {true, false}) {
            std::vector<std::uint32_t> times;
            for (std::size_t run = 0; run < remembered_runs; ++run)
                if (record.milliseconds[run] != 0 && ((record.succeeded >> run & 1) != 0) == succeeded)
                    times.push_back(record.milliseconds[run]);
            if (!times.empty())
                return Usually{.time = std::chrono::milliseconds(median(times)),
                               .runs = static_cast<unsigned>(times.size())};
        }
    }
    return std::nullopt;
}

void History::add(const Checksum& command, std::chrono::milliseconds time, bool succeeded) const noexcept {
    if (path_.empty()) return;
    Descriptor file = open_file(path_, O_RDWR);
    if (!file && make_directory_of(path_)) file = open_file(path_, O_RDWR | O_CREAT);
    if (!file) return;
    ::fchmod(file.get(), 0600);  // whatever the umask, and whoever widened it
    const off_t at = bucket_of(command);
    Bucket bucket = read_bucket(file, at);
    auto place = std::find_if(bucket.begin(), bucket.end(), [&](const Record& r) { return r.command == command; });
    if (place == bucket.end()) {
        place = std::min_element(bucket.begin(), bucket.end(),
                                 [](const Record& a, const Record& b) { return a.used < b.used; });
        *place =
            Record{.command = command, .milliseconds = {}, .succeeded = 0, .used = 0, .unused = {}, .checksum = {}};
    }
    std::copy_backward(place->milliseconds.begin(), place->milliseconds.end() - 1, place->milliseconds.end());
    constexpr std::int64_t longest = 0xffff'ffff;
    place->milliseconds[0] = static_cast<std::uint32_t>(std::min<std::int64_t>(time.count(), longest));
    place->succeeded = (place->succeeded << 1 | (succeeded ? 1U : 0U)) & ((1U << remembered_runs) - 1);
    place->used = ::time(nullptr);
    place->checksum = checksum_of(*place);
    const off_t record_at = at + (place - bucket.begin()) * static_cast<off_t>(sizeof(Record));
    static_cast<void>(::pwrite(file.get(), &*place, sizeof *place, record_at) == sizeof *place);
}

}  // namespace coalesce
