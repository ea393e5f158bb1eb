// SPDX-License-Identifier: MIT
#include <coalesce/batch/account_file.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
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

bool begins_with(int file, std::string_view head) {
    std::string there(head.size(), '\0');
    return !head.empty() && ::pread(file, there.data(), there.size(), 0) == static_cast<ssize_t>(head.size()) &&
           there == head;
}

// Where the lines that have ended end, of what is so long. Less than zero: it cannot be read.
off_t end_of_whole_lines(int file, off_t size) {
    std::array<char, 4096> block{};
    while (size > 0) {
        const off_t from = std::max<off_t>(size - static_cast<off_t>(block.size()), 0);
        const ssize_t got = ::pread(file, block.data(), static_cast<std::size_t>(size - from), from);
        if (got < size - from) return -1;
        const std::size_t newline = std::string_view(block.data(), static_cast<std::size_t>(got)).rfind('\n');
        if (newline != std::string_view::npos) return from + static_cast<off_t>(newline) + 1;
        size = from;
    }
    return 0;
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
        const off_t whole = reader ? end_of_whole_lines(reader.get(), info.st_size) : -1;
        in_line_ = whole >= 0 && whole < info.st_size;  // of another batch: cut by a crash, or a full disk
        // Ended, a line of ours that was cut in its last column would be read as another one.
        if (in_line_ && begins_with(reader.get(), head)) in_line_ = ::ftruncate(file_.get(), whole) != 0;
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
    const bool in_line_before = in_line_;
    for (std::size_t done = 0; done < text.size();) {
        const ssize_t wrote = ::write(file_.get(), text.data() + done, text.size() - done);
        if (wrote < 0 && errno == EINTR) continue;
        if (wrote < 0) {
            auto refused = system_error_now("write " + path_);
            if (done > 0 && borrowed_ < 0 && take_back(done)) in_line_ = in_line_before;
            return refused;
        }
        done += static_cast<std::size_t>(wrote);
        in_line_ = done < text.size();
    }
    return {};
}

// Unless others have written behind it.
bool AccountFile::take_back(std::size_t bytes) const noexcept {
    struct stat info {};
    const off_t end = ::lseek(file_.get(), 0, SEEK_CUR);  // where the last write, which appends, has ended
    return ::fstat(file_.get(), &info) == 0 && S_ISREG(info.st_mode) && info.st_size == end &&
           ::ftruncate(file_.get(), end - static_cast<off_t>(bytes)) == 0;
}

Result<> AccountFile::close() {
    if (::close(file_.release()) != 0) return system_error_now("write " + path_);  // NFS says it here
    return {};
}

}  // namespace coalesce
