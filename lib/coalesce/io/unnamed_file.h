// SPDX-License-Identifier: MIT
// Unnamed files: where bytes go that are too many for the heap, or that other processes
// are to read.
//
// In memory (a memfd) or in a directory of the user's choice. Nobody finds such a file by
// a name, and it belongs to its owner alone: whoever is handed a descriptor for reading,
// another user perhaps, cannot open it anew for writing by way of /proc (SPEC K3, S4). A
// memfd cannot be made shorter by anybody, and once sealed not be changed either.
#pragma once

#include <coalesce/command/result.h>

#include <string>

#include <coalesce/io/descriptor.h>

namespace coalesce {

/// Open for reading and writing. An empty `directory` is memory: where the kernel or a
/// filter has no memfd, an unlinked file in /dev/shm or /tmp. `what` is for messages: "the
/// output".
[[nodiscard]] Result<Descriptor> make_unnamed_file(const std::string& what, const std::string& directory = {});

/// Another descriptor of it, for reading only. Refused with ENOENT where there is no /proc.
[[nodiscard]] Result<Descriptor> open_for_reading(int file);

/// Both at once, which needs no /proc.
struct FileAndReader {
    Descriptor file;
    Descriptor reader;
};
[[nodiscard]] Result<FileAndReader> make_file_and_reader(const std::string& what, const std::string& directory = {});

/// Nobody, ourselves included, changes it from here on, if it can be sealed: a memfd.
void seal(int file) noexcept;

}  // namespace coalesce
