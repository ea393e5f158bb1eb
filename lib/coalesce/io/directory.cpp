// SPDX-License-Identifier: MIT
#include <coalesce/io/directory.h>

#include <fcntl.h>

#include <cerrno>
#include <string_view>

#include <coalesce/io/descriptor.h>

namespace coalesce {

Directory::Directory(int at, const char* name, int flags) noexcept {
    Descriptor opened(::openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | flags));
    if (opened) entries_.reset(::fdopendir(opened.get()));
    if (entries_)
        static_cast<void>(opened.release());  // closed with the entries
    else
        error_ = errno;
}

const char* Directory::next() noexcept {
    while (entries_) {
        errno = 0;
        const dirent* const entry = ::readdir(entries_.get());
        if (entry == nullptr) {
            error_ = errno;
            return nullptr;
        }
        const std::string_view name = entry->d_name;
        if (name != "." && name != "..") return entry->d_name;
    }
    return nullptr;
}

}  // namespace coalesce
