// SPDX-License-Identifier: MIT
#include <coalesce/meeting/meeting_place.h>

#include <fcntl.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <memory>
#include <utility>

#include <coalesce/command/ancestry.h>
#include <coalesce/engine/key_hash.h>
#include <coalesce/io/directory.h>
#include <coalesce/io/unix_socket.h>
#include <coalesce/meeting/connection.h>

namespace coalesce {
namespace {

constexpr std::size_t swept_at_once = 32;
constexpr int sweep_attempts = 50;  // a few milliseconds apart, for what is dying
constexpr int backlog = 4096;       // a storm of joiners must not be refused; the kernel caps it

constexpr std::string_view socket_ending = ".sock";

std::string socket_name(const std::string& key) { return key + std::string(socket_ending); }
std::string record_name(const std::string& key) { return key + ".run"; }

// Keys are hashes. What is no key comes from a directory or an environment that others
// have written to.
bool may_be_key(std::string_view name) {
    return name.size() == key_hash_digits && name.find_first_not_of("0123456789abcdef") == std::string_view::npos;
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

Result<Descriptor> open_directory(const std::string& path, int more_flags) {
    Descriptor directory(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC | more_flags));
    if (directory) return directory;
    if (errno == ELOOP || errno == ENOTDIR)
        return Error{std::make_error_code(std::errc::not_a_directory), "use " + path + " as the meeting place"};
    return system_error_now("use " + path);
}

Result<Descriptor> open_or_make(const std::string& path, int more_flags) {
    auto directory = open_directory(path, more_flags);
    if (directory || directory.error().code != std::errc::no_such_file_or_directory) return directory;
    const mode_t before = ::umask(077);
    const int made = ::mkdir(path.c_str(), 0700);
    const int error = errno;
    ::umask(before);
    if (made != 0 && error != EEXIST) return system_error_of(error, "make the meeting place " + path);
    return open_directory(path, more_flags);
}

// Its owner, unless that is us or root.
std::optional<uid_t> foreign_owner(int connection) {
    ucred peer{};
    socklen_t length = sizeof peer;
    if (::getsockopt(connection, SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0) return std::nullopt;
    return peer.uid == ::geteuid() || peer.uid == 0 ? std::nullopt : std::optional(peer.uid);
}

}  // namespace

Result<MeetingPlace> MeetingPlace::open(const std::string& path) {
    auto directory = open_or_make(path, O_NOFOLLOW);
    if (!directory) return directory.error();
    if (auto checked = check(path, directory->get()); !checked) return checked.error();
    return MeetingPlace(path, std::move(*directory));
}

Result<MeetingPlace> MeetingPlace::open_named(const std::string& path) {
    auto directory = open_or_make(path, 0);
    if (!directory) return directory.error();
    return MeetingPlace(path, std::move(*directory));
}

std::optional<MeetingPlace> MeetingPlace::look(const std::string& path) {
    auto directory = open_directory(path, O_NOFOLLOW);
    if (!directory || !check(path, directory->get())) return std::nullopt;
    return MeetingPlace(path, std::move(*directory));
}

Result<Descriptor> MeetingPlace::connect(const std::string& key) const {
    if (!may_be_key(key)) return Descriptor();
    const std::string path = path_ + "/" + socket_name(key);
    auto connection = connect_to(path);
    if (!connection) {
        const std::error_code code = connection.error().code;
        if (code == std::errc::no_such_file_or_directory || code == std::errc::connection_refused) return Descriptor();
        return connection;
    }
    if (const auto owner = foreign_owner(connection->get()))
        return Error{std::make_error_code(std::errc::permission_denied),
                     "join the flight at " + path + ", which uid " + std::to_string(*owner) + " leads"};
    return connection;
}

// The directory is its own lock file, opened anew: a lock belongs to one opening.
Result<MeetingPlace::Lock> MeetingPlace::lock() const {
    Descriptor file(::openat(directory_.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!file) return system_error_now("lock " + path_);
    while (::flock(file.get(), LOCK_EX | LOCK_NB) != 0)
        if (errno != EINTR) return system_error_now("lock " + path_);
    return Lock(std::move(file));
}

// Not by closing: a child being started may hold a copy for a moment.
MeetingPlace::Lock::~Lock() {
    if (file_) ::flock(file_.get(), LOCK_UN);
}

Result<Descriptor> MeetingPlace::bind(const std::string& key) const {
    auto address = UnixAddress::of(path_ + "/" + socket_name(key));
    if (!address) return address.error();
    Descriptor listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!listener) return system_error_now("make a socket");
    const mode_t before = ::umask(077);  // the caller's may forbid even the owner to connect
    int bound = ::bind(listener.get(), address->get(), address->length());
    if (bound != 0 && errno == EADDRINUSE) {  // dead: we hold the lock and nobody answered
        ::unlinkat(directory_.get(), record_name(key).c_str(), 0);
        ::unlinkat(directory_.get(), socket_name(key).c_str(), 0);
        bound = ::bind(listener.get(), address->get(), address->length());
    }
    const int error = errno;
    ::umask(before);
    if (bound != 0) return system_error_of(error, "make a socket in " + path_);
    if (::listen(listener.get(), backlog) != 0) return system_error_now("listen in " + path_);
    return listener;
}

// The socket last: as long as it is there, somebody will come across what else is.
void MeetingPlace::leave(const std::string& key) noexcept {
    ::unlinkat(directory_.get(), record_name(key).c_str(), 0);
    ::unlinkat(directory_.get(), socket_name(key).c_str(), 0);
}

Leftovers MeetingPlace::end_leftovers(const std::string& key) const {
    const auto record = FlightRecord::read(directory_.get(), record_name(key).c_str());
    if (!record) return Leftovers::none;
    return coalesce::end_leftovers(*record, [&key](const std::vector<std::string>& environment) {
        return runs_under(ancestry_in(environment), key);  // at whatever depth
    });
}

bool MeetingPlace::clean(const std::string& key) {
    struct stat info {};
    if (::fstatat(directory_.get(), socket_name(key).c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0) return true;
    const auto locked = lock();
    if (!locked) return false;
    const auto connection = connect(key);
    if (!connection) return false;
    if (connection.value()) return true;  // alive
    if (end_leftovers(key) == Leftovers::dying) return false;
    leave(key);
    return true;
}

std::vector<std::string> MeetingPlace::keys() const {
    std::vector<std::string> found;
    Directory files(directory_.get(), ".");
    while (const char* const file = files.next()) {
        const std::string_view name = file;
        if (!name.ends_with(socket_ending)) continue;
        const std::string_view key = name.substr(0, name.size() - socket_ending.size());
        if (may_be_key(key)) found.emplace_back(key);
    }
    return found;
}

// Asking a process is cheaper than a connection, and disturbs nobody.
bool MeetingPlace::runs(const std::string& key, const Numbering& own) const {
    const auto record = FlightRecord::read(directory_.get(), record_name(key).c_str());
    const auto facts = record ? ProcessFacts::of(record->pid) : std::nullopt;
    return facts && facts->alive() && is_recorded(*record, *facts, own);
}

std::string MeetingPlace::flight_of(pid_t command) const {
    const auto own = Numbering::own();
    if (!own) return {};
    for (std::string& key : keys()) {
        const auto record = FlightRecord::read(directory_.get(), record_name(key).c_str());
        // Who made the session of a command on a terminal of ours may take a moment to be gone.
        const bool its_own = record && (record->pid == command || record->session == command);
        if (its_own && runs(key, *own)) return std::move(key);
    }
    return {};
}

void MeetingPlace::sweep() {
    const std::vector<std::string> all = keys();
    if (all.empty()) return;
    const auto own = Numbering::own();
    // Some of them, others each time: of a thousand flights each would look at all others.
    const std::size_t first = static_cast<std::size_t>(::getpid()) % all.size();
    std::vector<std::string> dead;
    for (std::size_t i = 0; i < std::min(all.size(), swept_at_once); ++i) {
        const std::string& key = all[(first + i) % all.size()];
        if (own && runs(key, *own)) continue;
        if (const auto connection = connect(key); connection && !connection.value()) dead.push_back(key);
    }
    for (int attempt = 0; attempt < sweep_attempts && !dead.empty(); ++attempt) {
        if (attempt > 0) ::poll(nullptr, 0, 2);
        std::erase_if(dead, [this](const std::string& key) { return clean(key); });
    }
}

void MeetingPlace::touch(const std::string& key) const noexcept {
    for (const std::string& name : {socket_name(key), record_name(key)})
        ::utimensat(directory_.get(), name.c_str(), nullptr, AT_SYMLINK_NOFOLLOW);
}

FlightRecorder MeetingPlace::recorder(const std::string& key, std::optional<Numbering> numbering) const {
    return {directory_.get(), record_name(key), std::move(numbering)};
}

}  // namespace coalesce
