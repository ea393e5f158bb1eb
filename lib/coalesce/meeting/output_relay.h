// SPDX-License-Identifier: MIT
// OutputRelay: moves recorded output to our own stdout or stderr.
//
// Every byte once and in order, or an end that says why not. A write may block, and
// whoever is called meanwhile (see Attention) gets back control with what is left to
// move. Where the file is shorter than promised that is an error: a gap is never passed on.
#pragma once

#include <unistd.h>

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace coalesce {

/// Bytes of a file that are still to be moved.
struct Stretch {
    std::uint64_t offset = 0;
    std::uint64_t length = 0;
};

class OutputRelay {
  public:
    enum class End { done, reader_gone, interrupted, refused };

    /// Moves `stretch` of `file` to descriptor 1 or 2, and shortens it by what has been moved.
    End pass(int to, int file, Stretch& stretch);
    /// The same with bytes that are in memory.
    End pass(int to, std::string_view& bytes);
    /// Says it on stderr; what cannot be said there is lost.
    void say(std::string_view text);

    /// How much has been moved, to both or to one of them.
    [[nodiscard]] std::uint64_t passed() const noexcept { return passed(STDOUT_FILENO) + passed(STDERR_FILENO); }
    [[nodiscard]] std::uint64_t passed(int to) const noexcept { return passed_[static_cast<std::size_t>(to)]; }
    /// After End::refused: "cannot write to standard output: No space left on device".
    [[nodiscard]] std::string refusal() const;

  private:
    template <class Move>
    End pass_all(int to, std::uint64_t& left, Move move);
    ssize_t move(int to, int file, const Stretch& stretch);
    void widen(int to);

    std::array<bool, 3> can_send_file_{false, takes_sendfile(STDOUT_FILENO), takes_sendfile(STDERR_FILENO)};
    std::array<bool, 3> widened_{};
    std::array<std::uint64_t, 3> passed_{};
    int error_ = 0;  // errno, of a write to refused_by_
    int refused_by_ = -1;

    static bool takes_sendfile(int to);
};

}  // namespace coalesce
