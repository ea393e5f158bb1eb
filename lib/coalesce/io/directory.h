// SPDX-License-Identifier: MIT
// Directory: the names in a directory, one after the other.
//
// It is opened for this reader alone, so nobody else's place in it moves. That it has ended and
// that it cannot be read are told apart: who takes the one for the other takes what is there for
// gone (SPEC F14).
#pragma once

#include <dirent.h>

#include <memory>

namespace coalesce {

class Directory {
  public:
    /// `name` below the directory `at`, or of the process's own with AT_FDCWD; "." is `at` itself. `flags` as
    /// open(2)'s.
    Directory(int at, const char* name, int flags = 0) noexcept;

    /// The next name but "." and ".."; null at the end, or where it cannot be read.
    [[nodiscard]] const char* next() noexcept;
    /// errno: why it could not be opened, or read to its end; 0: nothing is wrong so far.
    [[nodiscard]] int error() const noexcept { return error_; }
    /// To look at what next() names; -1: it could not be opened.
    [[nodiscard]] int fd() const noexcept { return entries_ ? ::dirfd(entries_.get()) : -1; }

  private:
    struct Close {
        void operator()(DIR* entries) const noexcept { ::closedir(entries); }
    };
    std::unique_ptr<DIR, Close> entries_;
    int error_ = 0;
};

}  // namespace coalesce
