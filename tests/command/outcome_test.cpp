// SPDX-License-Identifier: MIT
// The status reported for each way a run can end.
#include <sys/wait.h>

#include <cerrno>
#include <csignal>
#include <cstring>

#include <coalesce/command/outcome.h>

#include "../catch.h"

using coalesce::Outcome;
using coalesce::signal_name;

TEST_CASE("R2: the exit status is the command's own", "[outcome]") {
    for (int status = 0; status <= 255; ++status) CHECK(Outcome::exited(status).status() == status);
}

TEST_CASE("R2: a command killed by signal N is 128+N", "[outcome]") {
    CHECK(Outcome::signalled(SIGTERM).status() == 143);
    CHECK(Outcome::signalled(SIGKILL).status() == 137);
    CHECK(Outcome::signalled(SIGRTMAX).status() == 128 + SIGRTMAX);
}

TEST_CASE("R2: timed out is 124, not found 127, not executable 126, our own failure 125", "[outcome]") {
    CHECK(Outcome::timed_out().status() == 124);
    CHECK(Outcome::not_started(ENOENT, "x").status() == 127);
    CHECK(Outcome::not_started(EACCES, "x").status() == 126);
    CHECK(Outcome::not_started(ENOEXEC, "x").status() == 126);
    CHECK(Outcome::not_started(E2BIG, "x").status() == 126);
    CHECK(Outcome::refused(ENOENT, "cannot enter /nowhere").status() == 125);
    CHECK(Outcome::refused(EAGAIN, "cannot start a process").status() == 125);
    CHECK(Outcome::lost("its supervisor was killed").status() == 125);
}

TEST_CASE("F5: a cancelled run is never taken for the command's own verdict", "[outcome]") {
    CHECK(Outcome::cancelled().status() == 125);
    CHECK_FALSE(Outcome::cancelled().success());
}

TEST_CASE("B6: only an exit with 0 is a success", "[outcome]") {
    CHECK(Outcome::exited(0).success());
    CHECK_FALSE(Outcome::exited(1).success());
    CHECK_FALSE(Outcome::signalled(0).success());
    CHECK_FALSE(Outcome::timed_out().success());
    CHECK_FALSE(Outcome::not_started(0, "").success());
    CHECK_FALSE(Outcome::refused(0, "").success());
    CHECK_FALSE(Outcome::lost("").success());
    CHECK_FALSE(Outcome{}.success());
}

TEST_CASE("R8: an outcome describes itself in a phrase", "[outcome]") {
    CHECK(Outcome::exited(3).describe() == "exit 3");
    CHECK(Outcome::signalled(SIGTERM).describe() == "killed by TERM");
    CHECK(Outcome::timed_out().describe() == "timed out");
    CHECK(Outcome::cancelled().describe() == "cancelled");
    CHECK(Outcome::not_started(ENOENT, "cannot run x: not found").describe() == "cannot run x: not found");
    CHECK(Outcome::not_started(ENOENT, "").describe() == "could not be started");
    CHECK(Outcome::refused(0, "").describe() == "could not be prepared");
    CHECK(Outcome::lost("").describe() == "lost");
}

TEST_CASE("R2: signals have the names that kill takes", "[outcome]") {
    CHECK(signal_name(SIGHUP) == "HUP");
    CHECK(signal_name(SIGTERM) == "TERM");
    CHECK(signal_name(SIGKILL) == "KILL");
    CHECK(signal_name(SIGSYS) == "SYS");
    CHECK(signal_name(SIGRTMIN) == "RTMIN");
    CHECK(signal_name(SIGRTMIN + 2) == "RTMIN+2");
    CHECK(signal_name(0) == "0");
    CHECK(signal_name(99) == "99");
    for (int signal = 1; signal < 32; ++signal) CHECK(signal_name(signal) == ::sigabbrev_np(signal));
}
