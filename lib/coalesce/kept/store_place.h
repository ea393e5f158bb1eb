// SPDX-License-Identifier: MIT
// StorePlace: which directory holds the kept results of this process (SPEC T16).
//
// In the user's own cache there is one directory a format, machine, boot and set of namespaces,
// since what a key names by the kernel's numbers means nothing beyond these, and homes are
// shared over networks and with containers. Who names a directory vouches for whoever shares
// it: there it is one for all, and neither namespaces nor device and inode count.
#pragma once

#include <coalesce/command/result.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <coalesce/io/descriptor.h>

namespace coalesce {

/// What a store may hold, where the configuration says so instead of the store.
struct StoreBounds {
    std::optional<std::uint64_t> total_bytes;
    std::optional<std::uint64_t> entry_bytes;
    bool operator==(const StoreBounds&) const = default;
};

struct StorePlace {
    std::string base;     ///< the directory as the user knows it
    std::string name;     ///< of the store below it
    bool shared = false;  ///< the user named the directory
    StoreBounds bounds;

    [[nodiscard]] std::string path() const { return base + "/" + name; }
    bool operator==(const StorePlace&) const = default;
};

/// The namespaces that an identity (SPEC K1) names, as one text.
[[nodiscard]] std::string namespaces_in(std::string_view identity);

/// The place that `named` (from --cache-dir, else from COALESCE_CACHE_DIR, else empty) and the
/// environment give; `namespaces` as namespaces_in() says.
[[nodiscard]] StorePlace store_place(std::string_view named, const std::vector<std::string>& env,
                                     std::string_view namespaces);

/// Makes a directory of mode 0700, and what is missing above it; an error in another user's, but for those that are
/// like /tmp. One that is there is left as it is.
[[nodiscard]] Result<> make_directories(const std::string& path);

/// Opens the store's directory. No value: there is none, and `make` is not set. An error: it cannot be
/// made, is not a directory of this user's with mode 0700, or would be made below one of another's.
[[nodiscard]] Result<std::optional<Descriptor>> open_store(const StorePlace& place, bool make);

/// Removes the stores of this machine's former boots, and those of other machines and
/// containers that nobody has written to for a month.
void remove_stores_of_other_boots(const StorePlace& place) noexcept;

}  // namespace coalesce
