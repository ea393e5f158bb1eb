// SPDX-License-Identifier: MIT
#include <coalesce/meeting/meeting_place.h>

#include <coalesce/command/command.h>

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <utility>

#include <coalesce/engine/key_hash.h>

namespace coalesce {
namespace {

// A record is a socket's modification time: the seconds are a process id, which no clock
// shows, the nanoseconds tenths of a second since boot, round and round in three years.
// Not the access time: connecting to a socket changes that.
constexpr long long tenths_around = 1'000'000'000;
constexpr time_t largest_pid = 1 << 22;  // the kernel's own bound
constexpr std::size_t swept_at_once = 32;
constexpr int backlog = 4096;  // a storm of joiners must not be refused; the kernel caps it

// Whatever the path of the directory: a socket's own may be 107 bytes long.
sockaddr_un address_of(int directory, const std::string& name) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    const std::string path = "/proc/self/fd/" + std::to_string(directory) + "/" + name;
    if (path.size() >= sizeof address.sun_path) std::abort();  // see may_be_key
    std::memcpy(address.sun_path, path.c_str(), path.size());
    return address;
}

// Keys are hashes. What is no key comes from a directory or an environment that others
// have written to.
bool may_be_key(std::string_view name) {
    return name.size() == key_hash_digits && name.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

// Another's, as sudo and su leave it in the environment, would get a place that its owner
// cannot use.
bool is_anothers(const std::string& directory) {
    struct stat info {};
    return ::stat(directory.c_str(), &info) == 0 && info.st_uid != ::geteuid();
}

Result<> check(const std::string& path, int directory) {
    struct stat info {};
    if (::fstat(directory, &info) != 0) return system_error_now("use " + path);
    if (info.st_uid != ::geteuid())
        return Error{std::make_error_code(std::errc::permission_denied),
                     "use " + path + ", which belongs to uid " + std::to_string(info.st_uid)};
    // The set-group-ID bit is handed down by the directory above and opens nothing.
    if ((info.st_mode & 0777) != 0700) {
        char mode[8];
        std::snprintf(mode, sizeof mode, "%04o", info.st_mode & 0777);
        return Error{std::make_error_code(std::errc::permission_denied),
                     "use " + path + ", whose mode is " + mode + " instead of 0700"};
    }
    return {};
}

struct ProcessFacts {
    char state = 0;
    long long group = 0;
    long long started_ms = 0;  // since boot
};

std::optional<ProcessFacts> facts_of(const char* pid) {
    char path[64];
    std::snprintf(path, sizeof path, "/proc/%s/stat", pid);
    const Descriptor file(::open(path, O_RDONLY | O_CLOEXEC));
    if (!file) return std::nullopt;
    char text[1024];
    const ssize_t got = ::read(file.get(), text, sizeof text - 1);
    if (got <= 0) return std::nullopt;
    text[got] = '\0';
    const char* after_name = std::strrchr(text, ')');  // the name may hold anything
    if (after_name == nullptr) return std::nullopt;
    ProcessFacts facts;
    unsigned long long ticks = 0;
    if (std::sscanf(after_name + 1, " %c %*d %lld %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu",
                    &facts.state, &facts.group, &ticks) != 3)
        return std::nullopt;
    facts.started_ms = static_cast<long long>(ticks) * 1000 / ::sysconf(_SC_CLK_TCK);
    return facts;
}

bool alive(const ProcessFacts& facts) { return facts.state != 'Z' && facts.state != 'X'; }

bool group_has_living(pid_t group) {
    const std::unique_ptr<DIR, int (*)(DIR*)> processes(::opendir("/proc"), ::closedir);
    if (!processes) return false;
    while (const dirent* entry = ::readdir(processes.get())) {
        if (entry->d_name[0] < '0' || entry->d_name[0] > '9') continue;
        const auto facts = facts_of(entry->d_name);
        if (facts && facts->group == group && alive(*facts)) return true;
    }
    return false;
}

}  // namespace

// Which process K.sock's flight runs, and when that was written.
struct MeetingPlace::Record {
    pid_t pid = 0;
    long long tenths = 0;  // since boot, modulo tenths_around
};

Result<MeetingPlace> MeetingPlace::open(const std::vector<std::string>& env) {
    const std::string runtime(env_value(env, "XDG_RUNTIME_DIR").value_or(""));
    const std::string path = runtime.starts_with('/') && !is_anothers(runtime)
                                 ? runtime + "/coalesce"
                                 : "/tmp/coalesce-" + std::to_string(::geteuid());
    const auto open_it = [&] {
        return Descriptor(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    };
    Descriptor directory = open_it();
    if (!directory && errno == ENOENT) {
        const mode_t before = ::umask(077);
        const int made = ::mkdir(path.c_str(), 0700);
        const int error = errno;
        ::umask(before);
        if (made != 0 && error != EEXIST) return system_error_of(error, "make the meeting place " + path);
        directory = open_it();
    }
    if (!directory) {
        if (errno == ELOOP || errno == ENOTDIR)
            return Error{std::make_error_code(std::errc::not_a_directory), "use " + path + " as the meeting place"};
        return system_error_now("use " + path);
    }
    if (auto checked = check(path, directory.get()); !checked) return checked.error();
    return MeetingPlace(path, std::move(directory));
}

Result<Descriptor> MeetingPlace::connect(const std::string& key) const {
    if (!may_be_key(key)) return Descriptor();
    Descriptor connection(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (!connection) return system_error_now("make a socket");
    const sockaddr_un address = address_of(directory_.get(), socket_name(key));
    while (::connect(connection.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
        if (errno == ENOENT || errno == ECONNREFUSED) return Descriptor();
        if (errno != EINTR && errno != EAGAIN) return system_error_now("ask " + path_ + "/" + socket_name(key));
    }
    return connection;
}

// The directory is its own lock file, opened anew: a lock belongs to one opening.
Result<Descriptor> MeetingPlace::lock(bool wait) const {
    Descriptor file(::openat(directory_.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!file) return system_error_now("lock " + path_);
    while (::flock(file.get(), LOCK_EX | (wait ? 0 : LOCK_NB)) != 0)
        if (errno != EINTR) return system_error_now("lock " + path_);
    return file;
}

Result<std::variant<MeetingPlace::Joined, MeetingPlace::Leading>> MeetingPlace::join_or_lead(const std::string& key) {
    auto connection = connect(key);
    if (!connection) return connection.error();
    if (*connection) return std::variant<Joined, Leading>(Joined{std::move(*connection)});
    auto locked = lock(true);
    if (!locked) return locked.error();
    connection = connect(key);
    if (!connection) return connection.error();
    if (*connection) return std::variant<Joined, Leading>(Joined{std::move(*connection)});
    end_leftovers(key);
    auto listener = bind(key);
    ::flock(locked->get(), LOCK_UN);  // not by closing: a child being started may hold a copy for a moment
    if (!listener) return listener.error();
    return std::variant<Joined, Leading>(Leading{std::move(*listener)});
}

Result<Descriptor> MeetingPlace::bind(const std::string& key) const {
    const std::string name = socket_name(key);
    Descriptor listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!listener) return system_error_now("make a socket");
    const sockaddr_un address = address_of(directory_.get(), name);
    const mode_t before = ::umask(077);  // the caller's may forbid even the owner to connect
    int bound = ::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
    if (bound != 0 && errno == EADDRINUSE) {  // dead: we hold the lock and nobody answered
        ::unlinkat(directory_.get(), name.c_str(), 0);
        bound = ::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
    }
    const int error = errno;
    ::umask(before);
    if (bound != 0) return system_error_of(error, "make a socket in " + path_);
    if (::listen(listener.get(), backlog) != 0) return system_error_now("listen in " + path_);
    return listener;
}

void MeetingPlace::leave(const std::string& key) noexcept { ::unlinkat(directory_.get(), socket_name(key).c_str(), 0); }

std::vector<std::string> MeetingPlace::keys() const {
    constexpr std::string_view ending = ".sock";
    std::vector<std::string> found;
    const int copy = ::openat(directory_.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const std::unique_ptr<DIR, int (*)(DIR*)> entries(copy < 0 ? nullptr : ::fdopendir(copy), ::closedir);
    if (!entries) return found;
    while (const dirent* entry = ::readdir(entries.get())) {
        const std::string_view name = entry->d_name;
        if (!name.ends_with(ending)) continue;
        const std::string_view key = name.substr(0, name.size() - ending.size());
        if (may_be_key(key)) found.emplace_back(key);
    }
    return found;
}

void MeetingPlace::sweep() noexcept {
    const auto locked = lock(false);
    if (!locked) return;
    const std::vector<std::string> all = keys();
    // Some of them, others each time: of a thousand flights each would look at all others.
    const std::size_t first = all.empty() ? 0 : static_cast<std::size_t>(::getpid()) % all.size();
    for (std::size_t i = 0; i < std::min(all.size(), swept_at_once); ++i) {
        const std::string& key = all[(first + i) % all.size()];
        // Asking a process is cheaper than a connection, and disturbs nobody.
        const auto record = record_of(key);
        // A zombie runs nothing; where no init reaps, it stays for ever.
        if (record) {
            const auto facts = facts_of(std::to_string(record->pid).c_str());
            if (facts && alive(*facts)) continue;
        }
        if (auto connection = connect(key); !connection || *connection) continue;
        end_leftovers(key);
        leave(key);
    }
    ::flock(locked.value().get(), LOCK_UN);
}

void MeetingPlace::record_this_process(const char* socket_name) const noexcept {
    timespec now{};
    ::clock_gettime(CLOCK_BOOTTIME, &now);
    const long long tenths = (now.tv_sec * 10LL + now.tv_nsec / 100'000'000) % tenths_around;
    const timespec times[2] = {{.tv_sec = 0, .tv_nsec = UTIME_OMIT},
                               {.tv_sec = ::getpid(), .tv_nsec = static_cast<long>(tenths)}};
    ::utimensat(directory_.get(), socket_name, times, AT_SYMLINK_NOFOLLOW);
}

std::optional<MeetingPlace::Record> MeetingPlace::record_of(const std::string& key) const noexcept {
    struct stat info {};
    if (::fstatat(directory_.get(), socket_name(key).c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0 ||
        info.st_mtim.tv_sec <= 1 || info.st_mtim.tv_sec > largest_pid)
        return std::nullopt;
    return Record{static_cast<pid_t>(info.st_mtim.tv_sec), info.st_mtim.tv_nsec};
}

// The number is still the group's as long as one of its processes lives. Should
// all have gone and the number be someone else's now, that process is younger
// than the record.
void MeetingPlace::end_leftovers(const std::string& key) const noexcept {
    const auto record = record_of(key);
    if (!record) return;
    const auto leader = facts_of(std::to_string(record->pid).c_str());
    if (leader) {
        const long long later = (leader->started_ms / 100 - record->tenths + tenths_around) % tenths_around;
        if (later > 1 && later < tenths_around / 2) return;
    }
    while (::kill(-record->pid, SIGKILL) == 0 && group_has_living(record->pid)) ::poll(nullptr, 0, 1);
}

}  // namespace coalesce
