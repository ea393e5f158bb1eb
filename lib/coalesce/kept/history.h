// SPDX-License-Identifier: MIT
// History: how long a command took the last five times, for "usually 1m 5s" (SPEC H).
//
// One file of fixed-size records, found by a hash of the command: argv or line, directory, scope, key
// text; never words on disk, and neither environment nor states, since an estimate serves best where
// those have changed. A record lies in one of eight places that its hash leads to; the least
// recently used of them goes. Nobody locks: each record has a checksum, and a torn or lost one is a
// shorter memory. Whatever fails is no estimate, never an error.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <coalesce/kept/digest.h>

namespace coalesce {

/// Shorter runs are not remembered, and touch no file.
inline constexpr std::chrono::milliseconds remembered_from{1000};

/// What is known of a command.
struct Usually {
    std::chrono::milliseconds time{0};  ///< the median of the successful runs, else of the failed ones
    unsigned runs = 0;                  ///< how many it is taken from; of one it is "last time"

    /// "usually 1m 5s", "last time 1m 5s".
    [[nodiscard]] std::string words() const;
};

class History {
  public:
    /// Below $XDG_STATE_HOME/coalesce, else ~/.local/state/coalesce; remembers nothing where there is neither, or
    /// where COALESCE_HISTORY is `no`.
    explicit History(const std::vector<std::string>& env);
    /// A file by its path; empty: none.
    explicit History(std::string path) : path_(std::move(path)) {}

    /// What a command is remembered by.
    [[nodiscard]] static Checksum name_of(const std::vector<std::string>& argv, std::string_view directory,
                                          std::string_view scope, std::string_view key_text);

    [[nodiscard]] std::optional<Usually> find(const Checksum& command) const noexcept;
    /// Adds a run. Cancelled, timed-out and lost ones are not for this.
    void add(const Checksum& command, std::chrono::milliseconds time, bool succeeded) const noexcept;

  private:
    std::string path_;
};

}  // namespace coalesce
