// SPDX-License-Identifier: MIT
// The bar on a terminal that changes under it (SPEC B5): another width, and Ctrl-C.
#include "sandbox.h"

#include <signal.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>

#include "../catch.h"

using namespace coalesce;

namespace {

constexpr std::string_view begin = "\r";
constexpr std::string_view end = "\x1b[K";

// The widest line drawn in what a terminal was sent.
std::size_t widest(std::string_view seen) {
    std::size_t columns = 0;
    for (std::size_t from = seen.find(begin); from != std::string_view::npos; from = seen.find(begin, from + 1)) {
        const std::size_t to = std::min(seen.find(end, from), seen.size());
        columns = std::max(columns, to - from - begin.size());
    }
    return columns;
}

void resize(const Terminal& terminal, int columns) {
    const winsize size{.ws_row = 24, .ws_col = static_cast<unsigned short>(columns), .ws_xpixel = 0, .ws_ypixel = 0};
    REQUIRE(::ioctl(terminal.master.get(), TIOCSWINSZ, &size) == 0);
}

// What is drawn from now on: the line that was under way is read first, then one whole.
std::string next_line(const Terminal& terminal) {
    const std::string rest = read_all(terminal.master.get(), end);
    const std::size_t after = rest.rfind(end) + end.size();
    std::string line = rest.substr(after);
    while (line.find(end) == std::string::npos) line += read_all(terminal.master.get(), end);
    return line;
}

}  // namespace

TEST_CASE("B5: the bar follows the width of the terminal", "[batch][progress]") {
    Sandbox box;
    Gate gate = box.gate("gate");
    Terminal terminal = open_terminal(120);
    Running batch = box.start({.args = {"--progress"}, .input = "read x <gate\n", .stderr_fd = terminal.slave.get()});
    terminal.slave.reset();
    read_all(terminal.master.get(), "1 running");
    const std::size_t full = widest(next_line(terminal));
    CHECK(full > 60);
    for (const int columns : {30, 5, 1}) {
        resize(terminal, columns);
        next_line(terminal);  // may have been drawn for the old width
        CHECK(widest(next_line(terminal)) == static_cast<std::size_t>(columns - 1));  // the last column would wrap
    }
    resize(terminal, 120);
    next_line(terminal);
    CHECK(widest(next_line(terminal)) >= full);
    gate.open();
    CHECK(batch.wait().exit == 0);
}

TEST_CASE("B6, F9: a terminal that is stopped holds up only the bar", "[batch][progress]") {
    Sandbox box;
    Gate gate = box.gate("gate");
    Terminal terminal = open_terminal(100);
    Running batch = box.start(
        {.args = {"--progress"}, .input = "read x <gate; sleep 0.5; echo end\n", .stderr_fd = terminal.slave.get()});
    read_all(terminal.master.get(), "1 running");
    REQUIRE(::tcflow(terminal.slave.get(), TCOOFF) == 0);
    gate.open();
    CHECK(batch.read_line() == "end");  // drawn several times meanwhile
    REQUIRE(::tcflow(terminal.slave.get(), TCOON) == 0);
    CHECK(batch.wait().exit == 0);
}

TEST_CASE("B5: Ctrl-C takes the bar away, and ends what runs", "[batch][progress]") {
    Sandbox box;
    Gate gate = box.gate("gate");
    Gate begun = box.gate("begun");
    Terminal terminal = open_terminal(100);
    Running batch = box.start({.args = {"--progress", "-j1", "-v"},
                               .input = "echo finished\necho $$ >begun; read x <gate\necho never >>never\n",
                               .stderr_fd = terminal.slave.get(),
                               .in_child = [] {
                                   ::setsid();
                                   ::ioctl(STDERR_FILENO, TIOCSCTTY, 0);  // typed there, ^C is for us
                               }});
    terminal.slave.reset();
    const pid_t command = std::stoi(begun.await());
    read_all(terminal.master.get(), "1/3 done, 1 running");
    REQUIRE(::write(terminal.master.get(), "\x03", 1) == 1);
    const std::string seen = read_all(terminal.master.get());
    const Ended ended = batch.wait();
    CHECK(ended.exit == 130);
    CHECK(ended.out == "finished\n");
    CHECK_FALSE(box.exists("never"));
    await_death(command);
    // Nothing of the bar is left: every line drawn was drawn over or taken away, and
    // what follows the last is the summary, from the first column.
    const std::size_t last = seen.rfind(std::string(begin) + std::string(end));
    REQUIRE(last != std::string::npos);
    CHECK(seen.substr(last + 1).find("running") == std::string::npos);
    CHECK_THAT(seen, Contains(std::string(begin) + std::string(end) + "coalesce: ") ||
                         EndsWith(std::string(begin) + std::string(end)));
}
