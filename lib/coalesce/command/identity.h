// SPDX-License-Identifier: MIT
// Identity: what a process is, as far as that decides what a command of its may see or do.
//
// Two commands of the same words in a directory of the same name give different results
// under another group, in another network or below another root. So a key counts what is
// inherited by the one that will run the command (K1): user and group, the supplementary
// groups, the effective capabilities, no_new_privs, the personality, the root directory and
// the namespaces. What cannot be learnt (the namespaces, where there is no /proc) is
// "unknown", which is a value like any other. The limits of a process are not here: they
// bound a command and change no result that it completes.
//
// An identity is kept as the bytes that go into a key; it is read once a process.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace coalesce {

/// Which directory a name leads to now.
struct DirectoryIdentity {
    dev_t device = 0;
    ino_t inode = 0;
    bool operator==(const DirectoryIdentity&) const = default;
};

/// That of the directory at this path; nothing where there is none that we can see.
[[nodiscard]] std::optional<DirectoryIdentity> identity_of_directory(const std::string& path);

/// That of the current directory, which may have lost its name.
[[nodiscard]] std::optional<DirectoryIdentity> identity_of_current_directory();

/// This process's identity, in canonical form. About twenty system calls.
[[nodiscard]] std::string own_identity();

/// The same without what differs between containers: the namespaces and the root directory.
[[nodiscard]] std::string without_namespaces(std::string_view identity);

/// One thing that an identity says, for a reader: "groups", "4 24 27"; "namespace: net", "4026531840".
struct IdentityPart {
    std::string_view name;
    std::string_view value;
};

/// What an identity says, in its order; nothing for bytes that are no identity.
[[nodiscard]] std::optional<std::vector<IdentityPart>> parts_of_identity(std::string_view identity);

}  // namespace coalesce
