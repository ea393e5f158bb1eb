// SPDX-License-Identifier: MIT
#include <coalesce/io/unnamed_file.h>

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

namespace coalesce {
namespace {

// We write through the descriptor that we made it with, whatever the mode says. That is not for the umask to say: it
// is the one of commands, and may take it away.
constexpr mode_t read_by_owner = 0400;
void let_owner_read(const Descriptor& file) noexcept { ::fchmod(file.get(), read_by_owner); }

constexpr const char* in_want_of_memory_files[] = {"/dev/shm", "/tmp"};

// Has a name for a moment, for the second descriptor.
FileAndReader make_by_name(const std::string& directory) {
    std::string name = directory + "/coalesce-XXXXXX";
    FileAndReader made;
    made.file = Descriptor(::mkostemp(name.data(), O_CLOEXEC));
    if (!made.file) return made;
    let_owner_read(made.file);
    made.reader = Descriptor(::open(name.c_str(), O_RDONLY | O_CLOEXEC));
    const int error = errno;
    ::unlink(name.c_str());
    errno = error;
    return made;
}

Descriptor make_in_directory(const std::string& directory) {
    Descriptor file(::open(directory.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, read_by_owner));
    if (file) let_owner_read(file);
    if (file || (errno != EOPNOTSUPP && errno != EISDIR)) return file;
    return make_by_name(directory).file;
}

// No seal on the seals yet: the one on writing comes when all is written. Only who may
// write could add it, or any other, before.
Descriptor make_in_memory() {
    Descriptor file(::memfd_create("coalesce", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    if (file) {
        let_owner_read(file);
        ::fcntl(file.get(), F_ADD_SEALS, F_SEAL_SHRINK);
        return file;
    }
    if (errno != ENOSYS && errno != EPERM && errno != EACCES && errno != EINVAL)
        return file;  // it is short of something
    for (const char* const directory : in_want_of_memory_files) {
        const int refused = errno;
        file = make_in_directory(directory);
        if (file) break;
        errno = refused;
    }
    return file;
}

Error refusal(const std::string& what, const std::string& directory) {
    return system_error_now(directory.empty() ? "make a memory file for " + what
                                              : "make a file for " + what + " in " + directory);
}

}  // namespace

Result<Descriptor> make_unnamed_file(const std::string& what, const std::string& directory) {
    Descriptor file = directory.empty() ? make_in_memory() : make_in_directory(directory);
    if (!file) return refusal(what, directory);
    return file;
}

Result<FileAndReader> make_file_and_reader(const std::string& what, const std::string& directory) {
    FileAndReader made;
    if (!directory.empty()) made = make_by_name(directory);
    for (const char* const other : in_want_of_memory_files)
        if (directory.empty() && !made.reader) made = make_by_name(other);
    if (!made.reader) return refusal(what, directory);
    return made;
}

Result<Descriptor> open_for_reading(int file) {
    Descriptor opened(::open(("/proc/self/fd/" + std::to_string(file)).c_str(), O_RDONLY | O_CLOEXEC));
    if (!opened) return system_error_now("open the kept output anew");
    return opened;
}

void seal(int file) noexcept { ::fcntl(file, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL); }

}  // namespace coalesce
