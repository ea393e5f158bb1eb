// SPDX-License-Identifier: MIT
// History: how long a command took the last five times, for "usually 1m 5s" (SPEC H).
//
// One file of fixed-size records, found by a hash of the command: argv or line, directory, scope, key
// text; never words on disk, and neither environment nor states, since an estimate serves best where
// those have changed. A record lies in one of eight places that its hash leads to; the least
// recently used of them goes. Nobody locks: each record has a checksum, and a torn or lost one is a
// shorter memory. Whatever fails is no estimate, never an error. Which runs are worth remembering is
// for who tells of them.
#pragma once

#include <coalesce/command/key.h>

#include <chrono>
#include <optional>
#include <string>

#include <coalesce/engine/run_times.h>
#include <coalesce/kept/digest.h>

namespace coalesce {

/// Shorter runs are not remembered, and touch no file.
inline constexpr std::chrono::milliseconds remembered_from{1000};

class History {
  public:
    /// A file by its path; empty: nothing is remembered.
    explicit History(std::string path) : path_(std::move(path)) {}
    /// As this process's environment has it: below $XDG_STATE_HOME/coalesce, else ~/.local/state/coalesce; none where
    /// there is neither, or where COALESCE_HISTORY is `no`.
    [[nodiscard]] static History of_this_user();

    /// What a command is remembered by. Of other users' commands, which a server may run, that names them.
    [[nodiscard]] static Checksum name_of(const KeyView& key);

    [[nodiscard]] std::optional<Usually> find(const Checksum& command) const noexcept;
    /// Adds a run.
    void add(const Checksum& command, std::chrono::milliseconds time, bool succeeded) const noexcept;

  private:
    std::string path_;
};

}  // namespace coalesce
