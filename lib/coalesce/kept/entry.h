// SPDX-License-Identifier: MIT
// Entry: one kept result as a file: header, output, order, facts.
//
// The header has a fixed length and names its key, the lengths of what follows and the
// checksums of it all, its own last. So an entry is told to be whole by itself, whatever
// was killed when, whoever cut it: read() gives all of it or nothing, and never what
// belongs to another key. Output of up to 64 KiB comes with the first read and is checked
// each time; longer output is checked each time until somebody has synced the file and
// marked it (SPEC T17), and is then passed on by sendfile without having been looked at.
// The output lies together as the spool had it, behind it one word for each stretch of one
// stream, which keeps the read order (T14).
//
// What a person may want to know of it, the facts, lie last. Of the key they hold the names
// of its parts and a digest of each value, keyed by a salt of the entry: enough to say what
// differs, nothing to read (T22).
#pragma once

#include <coalesce/command/key.h>
#include <coalesce/command/result.h>
#include <coalesce/flight/unique_function.h>

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <coalesce/io/descriptor.h>
#include <coalesce/io/spool.h>
#include <coalesce/io/stream.h>
#include <coalesce/kept/digest.h>
#include <coalesce/kept/moment.h>

namespace coalesce {

/// The file that was executed: a result of another one is not served (T11). Zeros: not known.
struct ProgramIdentity {
    std::uint64_t device = 0;
    std::uint64_t inode = 0;
    std::uint64_t size = 0;
    std::int64_t modified_ns = 0;
    bool operator==(const ProgramIdentity&) const = default;
};

/// A part of the key: its name, and a digest of its value.
struct PartDigest {
    std::string name;
    Checksum value;
    bool operator==(const PartDigest&) const = default;
};

struct EntryFacts {
    Digest key{};
    Moment started;
    Moment ended;  ///< `boot` is that of both
    std::chrono::nanoseconds duration{0};
    int exit_status = 0;
    ProgramIdentity program;
    std::string title;
    std::string directory;
    std::string salt;  ///< of the parts' digests, 16 bytes
    std::vector<PartDigest> parts;
};

/// Sixteen random bytes.
[[nodiscard]] std::string new_salt();

/// The parts of a key as an entry keeps them.
[[nodiscard]] std::vector<PartDigest> digests_of(const std::vector<KeyPart>& parts, std::string_view salt);

/// The names of the parts that differ between a kept entry's key and another, each once.
[[nodiscard]] std::vector<std::string> differences(const EntryFacts& entry, const std::vector<KeyPart>& parts);

class Entry {
  public:
    /// What is to be checked: long output that was not synced takes as long as reading it.
    enum class Check { all, all_but_output };
    /// Reads and checks what `file` holds, and takes it; no value, and it is left: that is no entry, cut, damaged, or
    /// of another key. Without `key` it may be of any. Only what was checked whole may be served.
    [[nodiscard]] static std::optional<Entry> read(Descriptor& file, const Digest* key, Check check = Check::all);

    [[nodiscard]] const EntryFacts& facts() const noexcept { return facts_; }
    [[nodiscard]] std::uint64_t output_bytes() const noexcept { return output_bytes_; }

    /// A stretch of one stream. `bytes` are set if they have been read already.
    struct Piece {
        Stream stream;
        std::string_view bytes;
        std::uint64_t offset;  ///< in file()
        std::uint64_t length;
    };
    [[nodiscard]] const std::vector<Piece>& pieces() const noexcept { return pieces_; }
    /// Open for reading; stays as it is whoever removes or replaces the entry's name.
    [[nodiscard]] int file() const noexcept { return file_.get(); }
    /// By the wall clock; it is the file's time of modification.
    [[nodiscard]] std::int64_t kept_until_ns() const noexcept { return kept_until_ns_; }

    /// The whole output as a closed spool, which many may read, however long it is: long output is not copied.
    [[nodiscard]] Result<std::shared_ptr<Spool>> replay(const SpoolLimits& limits) const;

  private:
    Entry() = default;
    bool read_head();
    bool take(const Digest* key, Check check);
    bool take_pieces(std::string_view order, bool in_head);

    Descriptor file_;
    std::uint64_t file_bytes_ = 0;
    std::int64_t kept_until_ns_ = 0;
    std::string head_;  // the file's beginning; pieces_ may point into it
    EntryFacts facts_;
    std::uint64_t output_bytes_ = 0;
    std::vector<Piece> pieces_;
};

/// Writes a closed spool from its first byte, and what is known of its run, into an empty file. After `until` that is
/// given up: ETIMEDOUT.
[[nodiscard]] Result<> write_entry(int file, Spool& spool, const EntryFacts& facts,
                                   std::optional<std::chrono::steady_clock::time_point> until = std::nullopt);

/// Output longer than this is not checked again once the file has been marked as synced.
inline constexpr std::uint64_t checked_always_bytes = 64 * 1024;

/// Writes a file's bytes to the disk and marks it, so that long output need not be checked at each
/// hit; its times stay as they are. Slow; for when nobody waits. `file` is open for writing.
Result<> sync_entry(int file);

}  // namespace coalesce
