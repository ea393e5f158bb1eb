// SPDX-License-Identifier: MIT
#include <coalesce/io/terminal.h>

#include <sys/ioctl.h>

namespace coalesce {

std::optional<std::size_t> terminal_columns(int fd) noexcept {
    winsize size{};
    if (::ioctl(fd, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return std::nullopt;
    return size.ws_col;
}

}  // namespace coalesce
