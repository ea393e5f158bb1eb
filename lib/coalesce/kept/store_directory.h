// SPDX-License-Identifier: MIT
// StoreDirectory: the files of a store, as they lie in its directory.
//
//   KEY      a result with exit status 0
//   KEY.f    one with another, kept only where that was asked for (T7)
//   KEY.t    when a refresh of KEY has failed last (T5)
//   KEY.x    when KEY was forgotten; `cleared`: when everything was (T21)
//   limits, cleaned, lock, and *.new, which somebody is writing
//
// What is written is written aside and renamed, so that it is whole or absent, whatever is
// killed when. What is read is nothing but what we may have written ourselves. What results mean, and
// which of them stays, is the store's.
#pragma once

#include <coalesce/command/result.h>

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include <coalesce/io/descriptor.h>
#include <coalesce/kept/moment.h>

namespace coalesce {

class StoreDirectory {
  public:
    /// `path` is for sentences.
    StoreDirectory(Descriptor directory, std::string path) : directory_(std::move(directory)), path_(std::move(path)) {}

    enum class Kind { result, note_of_try, note_of_forgetting, unnamed, other };
    [[nodiscard]] static Kind kind_of(std::string_view name) noexcept;
    [[nodiscard]] static std::string failure(const std::string& key) { return key + ".f"; }
    [[nodiscard]] static std::string note_of_try(const std::string& key) { return key + ".t"; }
    [[nodiscard]] static std::string note_of_forgetting(const std::string& key) { return key + ".x"; }
    static constexpr const char* all_cleared = "cleared";
    static constexpr const char* limits = "limits";
    static constexpr const char* cleaned = "cleaned";

    [[nodiscard]] int fd() const noexcept { return directory_.get(); }

    enum class Use { serve, look };  ///< to be looked at is not to be used: it makes nothing younger (T19)
    /// No link, no pipe, nobody else's, nothing that others could have written to; else empty. errno says what is
    /// wrong; ENOENT: there is none that we may read.
    [[nodiscard]] Descriptor open(const std::string& name, Use use = Use::serve) const noexcept;
    /// Up to 256 bytes; empty if there is none.
    [[nodiscard]] std::string read_small(const std::string& name) const;
    [[nodiscard]] std::optional<Moment> note(const std::string& name) const;

    /// A file that is being written: it goes with this, unless it is given its name.
    class Unnamed {
      public:
        Unnamed(Unnamed&& other) noexcept;
        Unnamed& operator=(Unnamed&& other) noexcept;
        ~Unnamed();

        [[nodiscard]] int file() const noexcept { return file_.get(); }
        [[nodiscard]] bool named() const noexcept { return name_.empty(); }
        /// In the place of one that has it. errno says what is wrong.
        [[nodiscard]] bool rename_to(const std::string& name);

      private:
        friend class StoreDirectory;
        Unnamed(int directory, std::string name, Descriptor file)
            : directory_(directory), name_(std::move(name)), file_(std::move(file)) {}
        int directory_;
        std::string name_;  // empty: it has its own, or was moved from
        Descriptor file_;
    };
    /// The directory outlives it, but may be moved.
    [[nodiscard]] Result<Unnamed> write() const;
    [[nodiscard]] Result<> write_small(const std::string& name, const std::string& text) const;
    [[nodiscard]] Result<> write_note(const std::string& name, const Moment& moment) const;

    /// Excludes who would publish or forget that key, as long as it is held; empty: any. Ends with its holder. If it
    /// does not `wait`, the error is EAGAIN or EACCES where another has it.
    [[nodiscard]] Result<Descriptor> lock(std::string_view key, bool wait) const;

    /// False, with errno: it has not been removed.
    [[nodiscard]] bool remove(const std::string& name) const noexcept;
    /// Only what has been opened as that, not what has taken its place.
    void remove_if_same(const std::string& name, int file) const noexcept;

    /// An error: those that were visited need not be all.
    Result<> for_each_name(const std::function<void(const char* name)>& visit) const;

  private:
    Descriptor directory_;
    std::string path_;
};

}  // namespace coalesce
