// SPDX-License-Identifier: MIT
// Rights: what the engine's user needs, and no more (SPEC M39).
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace coalesce {

/// A command that is used, as an ACL names it: "xadd", "client|setname".
struct Right {
    std::string_view command;
    /// How it is tried without changing anything, KEY and CHANNEL being filled in; by words, of
    /// which the first is the command.
    std::string_view trial;
};
[[nodiscard]] std::span<const Right> all_rights();

/// The words of a trial, for that scratch key.
[[nodiscard]] std::vector<std::string> words_of_trial(const Right& right, const std::string& key);

/// What makes a user that has them: "ACL SETUSER coalesce on >PASSWORD ~coalesce:1:* …".
[[nodiscard]] std::string acl_line(const std::string& user, bool selects);

}  // namespace coalesce
