// SPDX-License-Identifier: MIT
// AccountFile: a file that a batch tells of itself in, line by line.
//
// Opening it touches nothing that is in it: whoever opens several asks first whether
// two are one file, by whatever names, and only then lets them begin. Each line is
// there when add() returns, so that what has ended survives whatever comes. A disk may
// get room again: what was cut of a line goes, or is ended before the next. A path that names a
// descriptor of ours, such as /dev/stderr, is that descriptor: opened anew it would
// overwrite from its beginning what a shell had opened to append to.
#pragma once

#include <coalesce/command/result.h>

#include <string>
#include <string_view>

#include <coalesce/io/descriptor.h>

namespace coalesce {

class AccountFile {
  public:
    enum class Begin { anew, behind };  ///< what is there goes, or stays

    AccountFile() = default;
    static Result<AccountFile> open(const std::string& path);

    /// Whether writing here would change the regular file behind `fd`, other than by
    /// being that descriptor.
    [[nodiscard]] bool is_file_of(int fd) const noexcept;
    [[nodiscard]] int fd() const noexcept { return file_.get(); }
    [[nodiscard]] const std::string& path() const noexcept { return path_; }
    explicit operator bool() const noexcept { return static_cast<bool>(file_); }

    /// Writes `head`, unless something stands before it. Of what begins with it a last line that was cut goes.
    Result<> begin(Begin how, std::string_view head);
    /// Writes whole lines. After an error the next are still taken.
    Result<> add(std::string_view lines);
    /// Nothing can be added after it.
    Result<> close();

  private:
    Result<> write(std::string_view text);
    [[nodiscard]] bool take_back(std::size_t bytes) const noexcept;

    Descriptor file_;
    std::string path_;
    int borrowed_ = -1;     // which descriptor of ours it is
    bool in_line_ = false;  // what stands there last has not ended
};

}  // namespace coalesce
