// SPDX-License-Identifier: MIT
#include <coalesce/batch/account_file.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <initializer_list>

#include <coalesce/command/number.h>

namespace coalesce {
namespace {

// The number, where the path names a descriptor of ours; else -1.
int descriptor_named(std::string_view path) {
    if (path == "/dev/stdout") return STDOUT_FILENO;
    if (path == "/dev/stderr") return STDERR_FILENO;
    for (const std::string_view directory : {"/dev/fd/", "/proc/self/fd/"}) {
        int number = -1;
        if (!path.starts_with(directory)) continue;
        if (read_whole_number(path.substr(directory.size()), number)) return number;
    }
    return -1;
}

// A line of another batch may have been cut: by a crash, or a full disk.
bool ends_inside_a_line(int file, off_t size) {
    char last = '\n';
    return size > 0 && ::pread(file, &last, 1, size - 1) == 1 && last != '\n';
}

}  // namespace

Result<AccountFile> AccountFile::open(const std::string& path) {
    AccountFile account;
    account.path_ = path;
    account.borrowed_ = descriptor_named(path);
    if (account.borrowed_ >= 0) {
        account.file_ = Descriptor(::fcntl(account.borrowed_, F_DUPFD_CLOEXEC, 3));
    } else {
        int file = -1;
        constexpr int flags = O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY;
        do file = ::open(path.c_str(), O_WRONLY | flags, 0666);
        while (file < 0 && errno == EINTR);
        account.file_ = Descriptor(file);
    }
    if (!account.file_) return system_error_now("open " + path);
    return account;
}

bool AccountFile::is_file_of(int fd) const noexcept {
    if (fd == borrowed_) return false;
    struct stat ours {};
    struct stat other {};
    return ::fstat(file_.get(), &ours) == 0 && ::fstat(fd, &other) == 0 && S_ISREG(ours.st_mode) &&
           ours.st_dev == other.st_dev && ours.st_ino == other.st_ino;
}

Result<> AccountFile::begin(Begin how, std::string_view head) {
    struct stat info {};
    const bool regular = ::fstat(file_.get(), &info) == 0 && S_ISREG(info.st_mode) && borrowed_ < 0;
    if (regular && how == Begin::behind && info.st_size > 0) {
        const Descriptor reader(::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY));
        in_line_ = reader && ends_inside_a_line(reader.get(), info.st_size);
        return {};
    }
    if (regular && ::ftruncate(file_.get(), 0) != 0) return system_error_now("write " + path_);
    return write(head);
}

Result<> AccountFile::add(std::string_view lines) {
    if (!in_line_) return write(lines);
    std::string ended = "\n";  // in one write with what follows, or it might end the line of another process
    ended += lines;
    return write(ended);
}

Result<> AccountFile::write(std::string_view text) {
    while (!text.empty()) {
        const ssize_t wrote = ::write(file_.get(), text.data(), text.size());
        if (wrote < 0 && errno == EINTR) continue;
        if (wrote < 0) return system_error_now("write " + path_);
        text.remove_prefix(static_cast<std::size_t>(wrote));
        in_line_ = !text.empty();
    }
    return {};
}

Result<> AccountFile::close() {
    if (::close(file_.release()) != 0) return system_error_now("write " + path_);  // NFS says it here
    return {};
}

}  // namespace coalesce
