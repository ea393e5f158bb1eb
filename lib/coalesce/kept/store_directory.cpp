// SPDX-License-Identifier: MIT
#include <coalesce/kept/store_directory.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <utility>

#include <coalesce/engine/key_hash.h>
#include <coalesce/io/directory.h>
#include <coalesce/kept/digest.h>

namespace coalesce {
namespace {

using namespace std::chrono;

constexpr const char* lock_file = "lock";
constexpr seconds lock_patience{60};  // only a holder that was stopped keeps it so long, or a machine that stands still
constexpr std::string_view unnamed_suffix = ".new";

bool is_key(std::string_view text) {
    return text.size() == key_hash_digits && text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
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

std::string name_for_writing() {
    static std::atomic<unsigned> count = 0;  // by any thread
    return std::to_string(::getpid()) + "-" + std::to_string(now().boot_ns) + "-" + std::to_string(count++) +
           std::string(unnamed_suffix);
}

}  // namespace

StoreDirectory::Kind StoreDirectory::kind_of(std::string_view name) noexcept {
    if (name.ends_with(unnamed_suffix)) return Kind::unnamed;
    const std::string_view key = name.substr(0, key_hash_digits);
    const std::string_view suffix = name.substr(key.size());
    if (!is_key(key)) return Kind::other;
    if (suffix.empty() || suffix == ".f") return Kind::result;
    return suffix == ".t" ? Kind::note_of_try : suffix == ".x" ? Kind::note_of_forgetting : Kind::other;
}

Descriptor StoreDirectory::open(const std::string& name, Use use) const noexcept {
    const int more = use == Use::look ? O_NOATIME : 0;
    Descriptor file(::openat(fd(), name.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | more));
    struct stat info {};
    if (!file || ::fstat(file.get(), &info) != 0) return {};
    if (S_ISREG(info.st_mode) && info.st_uid == ::geteuid() && (info.st_mode & 07777) == 0600 && info.st_nlink <= 1)
        return file;
    errno = ENOENT;
    return {};
}

std::string StoreDirectory::read_small(const std::string& name) const {
    const Descriptor file(::openat(fd(), name.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK));
    char text[256];
    const ssize_t got = file ? ::read(file.get(), text, sizeof text) : -1;
    return got > 0 ? std::string(text, static_cast<std::size_t>(got)) : std::string();
}

std::optional<Moment> StoreDirectory::note(const std::string& name) const { return moment_of(read_small(name)); }

StoreDirectory::Unnamed::Unnamed(Unnamed&& other) noexcept
    : directory_(other.directory_), name_(std::exchange(other.name_, {})), file_(std::move(other.file_)) {}

StoreDirectory::Unnamed& StoreDirectory::Unnamed::operator=(Unnamed&& other) noexcept {
    std::swap(directory_, other.directory_);
    std::swap(name_, other.name_);
    std::swap(file_, other.file_);
    return *this;
}

StoreDirectory::Unnamed::~Unnamed() {
    if (!name_.empty()) ::unlinkat(directory_, name_.c_str(), 0);
}

bool StoreDirectory::Unnamed::rename_to(const std::string& name) {
    if (::renameat(directory_, name_.c_str(), directory_, name.c_str()) != 0) return false;
    name_.clear();
    return true;
}

Result<StoreDirectory::Unnamed> StoreDirectory::write() const {
    std::string name = name_for_writing();
    Descriptor file(::openat(fd(), name.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!file) return system_error_now("write " + path_);
    Unnamed unnamed(fd(), std::move(name), std::move(file));
    if (::fchmod(unnamed.file(), 0600) != 0) return system_error_now("write " + path_);
    return unnamed;
}

Result<> StoreDirectory::write_small(const std::string& name, const std::string& text) const {
    auto aside = write();
    if (!aside) return Error{aside.error().code, "write " + path_ + "/" + name};
    const ssize_t written = ::write(aside->file(), text.data(), text.size());
    if (written == static_cast<ssize_t>(text.size()) && aside->rename_to(name)) return {};
    const bool in_part = written >= 0 && written != static_cast<ssize_t>(text.size());
    return system_error_of(in_part ? ENOSPC : errno, "write " + path_ + "/" + name);
}

Result<> StoreDirectory::write_note(const std::string& name, const Moment& moment) const {
    return write_small(name, text_of(moment));
}

// One byte of the file a key; without one all of them. A holder needs it for the moment of a
// rename, so whoever may wait does not wait long. All pass one byte more, and who wants the whole
// keeps that while it waits: else those who come for one key each would keep it out for ever.
Result<Descriptor> StoreDirectory::lock(std::string_view key, bool wait) const {
    Descriptor file(::openat(fd(), lock_file, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!file || ::fchmod(file.get(), 0600) != 0) return system_error_now("lock " + path_);
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
    std::from_chars(key.data(), key.data() + std::min<std::size_t>(key.size(), 15), place, 16);
    const auto taken = [&] {
        if (key.empty()) return take(F_WRLCK, turnstile, 1) && take(F_WRLCK, 0, 0);
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
            return system_error_now("lock " + path_);
        constexpr timespec moment{.tv_sec = 0, .tv_nsec = 1'000'000};
        ::nanosleep(&moment, nullptr);
    }
}

bool StoreDirectory::remove(const std::string& name) const noexcept { return ::unlinkat(fd(), name.c_str(), 0) == 0; }

void StoreDirectory::remove_if_same(const std::string& name, int file) const noexcept {
    struct stat opened {};
    struct stat named {};
    if (::fstat(file, &opened) == 0 && ::fstatat(fd(), name.c_str(), &named, AT_SYMLINK_NOFOLLOW) == 0 &&
        opened.st_dev == named.st_dev && opened.st_ino == named.st_ino)
        static_cast<void>(remove(name));
}

Result<> StoreDirectory::for_each_name(const std::function<void(const char* name)>& visit) const {
    Directory files(fd(), ".");
    while (const char* const name = files.next()) visit(name);
    if (files.error() != 0) return system_error_of(files.error(), "read " + path_);
    return {};
}

}  // namespace coalesce
