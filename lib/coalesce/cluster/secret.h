// SPDX-License-Identifier: MIT
// Secret: what makes machines one circle, and the engine none of it (SPEC M4, M9, M37).
//
// Whoever has the secret may share runs, read and feed their output; whoever has only the
// engine sees sizes, times and random names. From the secret come the name of a key at the
// engine, from which nothing can be guessed, and for each run a key of its own that seals
// what is written of it. A sealed text is bound to its run, its number and its kind, so
// that one that was altered, moved, repeated or taken from another run does not open.
//
// BLAKE2b and XChaCha20-Poly1305 of libsodium. The nonces are random: 192 bits need no
// count that two machines could both have used.
#pragma once

#include <coalesce/command/result.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace coalesce {

/// The contents of a file that only the user or root owns and nobody else may read, without a
/// newline at its end. `what` it is, is told in the refusal.
Result<std::string> read_private_file(const std::string& path, std::string_view what, std::size_t bytes_min);

/// Seals and opens what is written of one run.
class Seal {
  public:
    enum class Kind : char { info = 'i', chunk = 'd', end = 'x' };

    /// So much longer than the text a sealed one is.
    static constexpr std::size_t overhead = 24 + 16;

    [[nodiscard]] std::string seal(Kind kind, std::uint64_t number, std::string_view text) const;
    /// Nothing, if it is not what was sealed for that kind and number of that run.
    [[nodiscard]] std::optional<std::string> open(Kind kind, std::uint64_t number, std::string_view sealed) const;

  private:
    friend class Secret;
    std::string run_;
    std::array<unsigned char, 32> key_{};
};

class Secret {
  public:
    /// The file that was named; empty: cluster.secret in coalesce of $XDG_CONFIG_HOME or of
    /// ~/.config, then /etc/coalesce/cluster.secret. Refused, with what to do about it.
    static Result<Secret> read(const std::string& named);
    /// 32 bytes or more.
    explicit Secret(std::string_view bytes);

    /// Where read("") looks, in that order.
    [[nodiscard]] static std::array<std::string, 2> usual_places();

    /// The name of a key at the engine: 128 bits, as 32 hexadecimal digits.
    [[nodiscard]] std::string name_of(std::string_view ns, std::string_view key) const;
    /// Enough to tell two secrets apart, and nothing of either: 8 digits.
    [[nodiscard]] std::string fingerprint() const;
    /// By which texts can be compared by who has the secret, and guessed by nobody else; 8 bytes.
    [[nodiscard]] std::string digest_of(std::string_view text) const;
    /// Of the run with that name, of that key.
    [[nodiscard]] Seal seal_of(std::string_view key_name, std::string_view run) const;

  private:
    std::array<unsigned char, 32> master_{};
    std::array<unsigned char, 16> digest_key_{};
};

}  // namespace coalesce
