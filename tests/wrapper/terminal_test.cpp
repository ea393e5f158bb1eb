// SPDX-License-Identifier: MIT
// R5 and R8 under a real terminal: a shell with job control in a pseudo-terminal.
#include <fcntl.h>
#include <pty.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>

#include "../catch.h"
#include "sandbox.h"

namespace {

// What a user sees and types. read_until() blocks; ctest's TIMEOUT bounds it.
class Terminal {
  public:
    explicit Terminal(Sandbox& box) {
        pid_ = ::forkpty(&master_, nullptr, nullptr, nullptr);
        REQUIRE(pid_ >= 0);
        if (pid_ == 0) {
            if (::chdir(box.path("").c_str()) != 0) ::_exit(99);
            ::clearenv();
            for (const auto& [name, value] : box.env) ::setenv(name.c_str(), value.c_str(), 1);
            ::setenv("PS1", "ready> ", 1);
            ::execl("/bin/bash", "bash", "--norc", "--noprofile", "--noediting", "-i", nullptr);
            ::_exit(99);
        }
        read_until("ready> ");
    }
    ~Terminal() { hang_up(); }
    Terminal(const Terminal&) = delete;
    Terminal& operator=(const Terminal&) = delete;

    void type(const std::string& text) {
        REQUIRE(::write(master_, text.data(), text.size()) == static_cast<ssize_t>(text.size()));
    }
    std::string read_until(const std::string& wanted) {
        while (seen_.find(wanted) == std::string::npos) {
            char block[512];
            const ssize_t got = ::read(master_, block, sizeof block);
            if (got <= 0) FAIL("the terminal ended; seen: " << seen_);
            seen_.append(block, static_cast<std::size_t>(got));
        }
        const std::size_t end = seen_.find(wanted) + wanted.size();
        std::string text = seen_.substr(0, end);
        seen_.erase(0, end);
        return text;
    }
    void hang_up() {
        if (master_ >= 0) ::close(master_);
        master_ = -1;
    }

  private:
    int master_ = -1;
    pid_t pid_ = -1;
    std::string seen_;
};

}  // namespace

SCENARIO("R5: Ctrl-C alone ends the command and the wrapper", "[wrapper]") {
    Sandbox box;
    Gate gate(box, "gate");
    Terminal terminal(box);
    terminal.type("$C run sh -c 'trap \"echo said bye; exit 7\" INT; cat gate'\n");
    gate.wait_for_command();
    terminal.type("\x03");
    terminal.read_until("said bye\r\n");
    terminal.read_until("ready> ");
    terminal.type("echo status $?\n");
    terminal.read_until("status 7\r\n");
}

SCENARIO("R5: Ctrl-C with others waiting leaves, with 130, and the run goes on", "[wrapper]") {
    Sandbox box;
    Gate gate(box, "gate");
    Terminal mine(box);
    Terminal theirs(box);
    mine.type("$C run -c 'cat gate; echo the answer'\n");
    gate.wait_for_command();
    theirs.type("$C run -c 'cat gate; echo the answer'\n");
    box.until_requesters(2);
    mine.type("\x03");
    mine.read_until("ready> ");
    mine.type("echo status $?\n");
    mine.read_until("status 130\r\n");
    box.until_requesters(1);
    theirs.read_until("echo the answer'\r\n");
    gate.open();
    theirs.read_until("the answer\r\n");
}

SCENARIO("R5: Ctrl-Z stops the wrapper, not the run; fg brings what was missed", "[wrapper]") {
    Sandbox box;
    Gate gate(box, "gate");
    Terminal terminal(box);
    terminal.type("$C run -c 'cat gate; echo the ans''wer'\n");
    gate.wait_for_command();
    box.until_requesters(1);
    terminal.type("\x1a");
    terminal.read_until("Stopped");
    gate.open();
    box.until([](const auto& all) { return all.empty(); });
    terminal.type("fg\n");
    terminal.read_until("the answer\r\n");
    terminal.read_until("ready> ");
}

SCENARIO("R5: closing the terminal ends a run that nobody else waits for", "[wrapper]") {
    Sandbox box;
    Gate gate(box, "gate");
    {
        Terminal terminal(box);
        terminal.type("$C run sh -c 'trap \"echo hung up >said; exit\" HUP TERM; cat gate; cat gate'\n");
        gate.wait_for_command();
        terminal.hang_up();
    }
    box.wait_for_all();
    CHECK(box.read("said") == "hung up\n");
    CHECK(box.left_in_place().empty());
}

SCENARIO("R8: after a second a joiner says on a terminal whom it waits for, and nowhere else", "[wrapper]") {
    Sandbox box;
    Gate gate(box, "gate");
    Terminal leading(box);
    Terminal waiting(box);
    leading.type("$C run --only-env= cat gate\n");
    gate.wait_for_command();
    waiting.type("$C run --only-env= cat gate\n");
    waiting.read_until("coalesce: waiting for cat gate (pid ");
    waiting.read_until("), which has run for ");
    waiting.read_until("\r\n");
    gate.open();
    leading.read_until("ready> ");
    waiting.read_until("ready> ");
    leading.type("$C run --only-env= cat gate 2>&1 | cat; echo the e''nd\n");
    gate.wait_for_command();
    waiting.type("$C run --only-env= cat gate 2>&1 | cat; echo the e''nd\n");
    box.until_requesters(2);
    const Ended waited = box.run({"--only-env=", "--wait", "1.3", "cat", "gate"});  // a joiner whose stderr is a file
    CHECK(waited.err.find("gave up waiting for") != std::string::npos);
    CHECK(waited.err.find("has run for") == std::string::npos);
    gate.open();
    CHECK(waiting.read_until("the end\r\n").find("has run for") == std::string::npos);
    leading.read_until("the end\r\n");
}

SCENARIO("O1: status keeps to the width of a terminal, and tells a file everything", "[wrapper]") {
    Sandbox box;
    Gate gate(box, "gate");
    const std::string comment(100, 'x');
    auto process = box.request({"-c", "cat gate # " + comment});
    gate.wait_for_command();
    Terminal terminal(box);
    terminal.type("stty cols 90; $C status; echo the e''nd\n");
    terminal.read_until("REQUESTERS");
    terminal.read_until("\n");
    const std::string row = terminal.read_until("\r\n");
    CHECK(row.size() == 90 + 2);
    CHECK(row.find("cat gate # xxx") != std::string::npos);
    terminal.read_until("the end\r\n");
    CHECK(box.coalesce({"status"}).out.find(comment + "\n") != std::string::npos);
    gate.open();
    process.wait();
}
