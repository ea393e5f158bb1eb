// SPDX-License-Identifier: MIT
#include <coalesce/io/pseudo_terminal.h>

#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <termios.h>

#include <cerrno>

#ifndef TIOCGPTPEER
#define TIOCGPTPEER _IO('T', 0x41)
#endif

namespace coalesce {
namespace {

constexpr int flags = O_WRONLY | O_NOCTTY | O_CLOEXEC;

// By its name only where the kernel (before 4.13) has no other way: in a container it may be another's.
Descriptor command_side(int ours) {
    Descriptor theirs(::ioctl(ours, TIOCGPTPEER, flags));
    char name[64];
    if (!theirs && (errno == EINVAL || errno == ENOTTY || errno == ENOSYS) && ::ptsname_r(ours, name, sizeof name) == 0)
        theirs = Descriptor(::open(name, flags));
    return theirs;
}

}  // namespace

Result<PseudoTerminal> PseudoTerminal::open(TerminalSize size) {
    const auto refused = [] { return system_error_now("open a pseudo-terminal"); };
    PseudoTerminal terminal;
    terminal.ours = Descriptor(::open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK));
    int locked = 0;
    if (!terminal.ours || ::ioctl(terminal.ours.get(), TIOCSPTLCK, &locked) != 0) return refused();
    terminal.theirs = command_side(terminal.ours.get());
    termios modes{};
    if (!terminal.theirs || ::tcgetattr(terminal.theirs.get(), &modes) != 0) return refused();
    ::cfmakeraw(&modes);
    winsize sides{};
    sides.ws_col = size.columns;
    sides.ws_row = size.lines;
    if (::tcsetattr(terminal.theirs.get(), TCSANOW, &modes) != 0 ||
        ::ioctl(terminal.ours.get(), TIOCSWINSZ, &sides) != 0)
        return refused();
    return terminal;
}

}  // namespace coalesce
