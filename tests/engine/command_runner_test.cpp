// SPDX-License-Identifier: MIT
// The short face of the engine: keys are made by the rules of `coalesce run` (SPEC K1, K2).
#include <coalesce/engine/command_runner.h>

#include <coalesce/io/loop.h>

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <vector>

#include "../catch.h"
#include "../not_tried.h"
#include "../scratch.h"

using namespace coalesce;

namespace {

std::string out_of(Loop& loop, RunTicket ticket) {
    std::string out;
    ticket.then([&](const Landing<RunResult>& landing) {
        out = output_of(*landing.value, Stream::out) + landing.value->outcome.describe();
    });
    loop.run();
    return out;
}

// Whoever sets its umask from now on is killed.
bool forbid_umask() {
    sock_filter filter[] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
                            BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_umask, 0, 1),
                            BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
                            BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
    const sock_fprog program{.len = std::size(filter), .filter = filter};
    return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

// The directory of the moment, again at the end.
class SameDirectory {
  public:
    SameDirectory() = default;
    ~SameDirectory() { (void)!::fchdir(before_.get()); }
    SameDirectory(const SameDirectory&) = delete;
    SameDirectory& operator=(const SameDirectory&) = delete;

  private:
    Descriptor before_{::open(".", O_PATH | O_DIRECTORY | O_CLOEXEC)};
};

}  // namespace

TEST_CASE("F1, K1: equal arguments are one run, others run beside it", "[runner]") {
    Loop loop;
    CommandRunner runner(loop);
    std::vector<std::string> told;
    std::list<RunTicket> tickets;
    const auto ask = [&](RunTicket ticket) {
        tickets.push_back(std::move(ticket));
        tickets.back().then([&told](const Landing<RunResult>& landing) {
            told.push_back(output_of(*landing.value, Stream::out) + "|" + output_of(*landing.value, Stream::err) + "|" +
                           landing.value->outcome.describe() + "|" + landing.value->title);
        });
    };
    ask(runner.run({"sh", "-c", "echo out; echo err >&2; exit 3"}));
    ask(runner.run({"sh", "-c", "echo out; echo err >&2; exit 3"}));
    CHECK(tickets.front().id() == tickets.back().id());
    ask(runner.run({"echo", "a b"}));
    ask(runner.run({"echo", "a", "b"}));
    CHECK(runner.executor().flights().size() == 3);
    loop.run();
    REQUIRE(told.size() == 4);
    CHECK(runner.executor().counts().runs == 3);
    const std::string failed = "out\n|err\n|exit 3|sh -c 'echo out; echo err >&2; exit 3'";
    CHECK(std::count(told.begin(), told.end(), failed) == 2);
}

TEST_CASE("B1: a line is the shell's", "[runner]") {
    Loop loop;
    CommandRunner runner(loop);
    std::string told;
    RunTicket ticket = runner.run_line("echo $((6 * 7)) | cat");
    ticket.then([&](const Landing<RunResult>& landing) { told = output_of(*landing.value, Stream::out); });
    loop.run();
    CHECK(told == "42\n");
}

TEST_CASE("K2: rules decide what is the same", "[runner]") {
    Loop loop;
    SECTION("no_share") {
        CommandRunner runner(loop, {.no_share = true});
        RunTicket one = runner.run({"true"});
        RunTicket two = runner.run({"true"});
        CHECK(one.id() != two.id());
        loop.run();
    }
    SECTION("key") {
        CommandRunner runner(loop, {.key = "same"});
        RunTicket one = runner.run({"true"});
        RunTicket two = runner.run({"false"});
        CHECK(one.id() == two.id());
        loop.run();
    }
}

TEST_CASE("F3: output that lies in a file is read from there", "[runner]") {
    Loop loop;
    CommandRunner runner(loop);
    std::size_t bytes = 0;
    RunTicket ticket = runner.run({"head", "-c", "3000000", "/dev/zero"});
    ticket.then([&](const Landing<RunResult>& landing) { bytes = output_of(*landing.value, Stream::out).size(); });
    loop.run();
    CHECK(bytes == 3'000'000);
}

TEST_CASE("L1: output that cannot be read back is told", "[runner]") {
    Loop loop;
    CommandRunner runner(loop);
    std::shared_ptr<const RunResult> result;
    RunTicket ticket = runner.run({"head", "-c", "3000000", "/dev/zero"});
    ticket.then([&](const Landing<RunResult>& landing) { result = landing.value; });
    loop.run();
    REQUIRE(result->spool->file() >= 0);
    const Descriptor directory(::open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    REQUIRE(::dup2(directory.get(), result->spool->file()) >= 0);
    CHECK_THROWS_AS(output_of(*result, Stream::out), std::system_error);
}

TEST_CASE("F9: output past the replay limit ends a run that nobody reads", "[runner]") {
    Loop loop;
    CommandRunner runner(loop, {}, {.spool = {.store = {}, .replay_bytes = 100'000}});
    SECTION("nobody ever did") {
        CHECK(out_of(loop, runner.run({"head", "-c", "3000000", "/dev/zero"}))
                  .ends_with("the output is longer than the replay limit"));
    }
    SECTION("who did has gone") {
        std::optional<SpoolReader> reader;
        runner.executor().on_started([&](FlightId run) {
            const auto spool = runner.executor().spool_of(run);
            reader.emplace(*spool, [&, spool = spool.get()] {
                // It is still there when the run has stalled, and looked at for that.
                if (spool->size() > 100'000) loop.post([&] { loop.post([&] { reader.reset(); }); });
            });
        });
        CHECK(out_of(loop, runner.run({"head", "-c", "3000000", "/dev/zero"}))
                  .ends_with("the output is longer than the replay limit"));
    }
    SECTION("somebody reads") {
        std::optional<SpoolReader> reader;
        std::uint64_t seen = 0;
        runner.executor().on_started([&](FlightId run) {
            reader.emplace(*runner.executor().spool_of(run), [&] {
                while (const auto piece = reader->next()) {
                    seen += piece->extent.length;
                    reader->advance(piece->extent.length);
                }
            });
        });
        CHECK(out_of(loop, runner.run({"head", "-c", "3000000", "/dev/zero"})) == "exit 0");
        CHECK(seen == 3'000'000);
    }
}

TEST_CASE("F9: a runner may go while one of its runs is about to be refused", "[runner]") {
    Loop loop;
    std::optional<CommandRunner> runner;
    runner.emplace(loop, KeyRules(), CommandExecutor::Options{.spool = {.store = {}, .replay_bytes = 100'000}});
    RunTicket ticket = runner->run({"head", "-c", "3000000", "/dev/zero"});
    SpoolReader reader(*ticket.state().spool, [&, spool = ticket.state().spool.get()] {
        if (spool->size() > 100'000 && runner)
            loop.post([&] {
                ticket = {};
                runner.reset();
            });
    });
    loop.run();
    CHECK_FALSE(runner);
}

TEST_CASE("R9: in a directory that was deleted commands run", "[runner]") {
    const Scratch scratch;
    const SameDirectory back;
    const std::string deleted = scratch.path("deleted");
    std::filesystem::create_directory(deleted);
    std::filesystem::current_path(deleted);
    std::filesystem::remove(deleted);
    Loop loop;
    CommandRunner runner(loop);
    CHECK(out_of(loop, runner.run({"echo", "here"})) == "here\nexit 0");
}

TEST_CASE("K1: commands run in the directory that was there when the runner was made", "[runner]") {
    const Scratch scratch;
    const SameDirectory back;
    std::filesystem::current_path(scratch.path());
    Loop loop;
    CommandRunner runner(loop);
    std::filesystem::current_path("/");
    CHECK(out_of(loop, runner.run({"pwd"})) == std::filesystem::canonical(scratch.path()).string() + "\nexit 0");
}

TEST_CASE("K1: the umask of the host is read and never set", "[runner]") {
    const pid_t child = ::fork();
    if (child == 0) {
        ::umask(027);
        if (!forbid_umask()) ::_exit(2);
        Loop loop;
        const CommandRunner runner(loop);
        ::_exit(0);
    }
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 2) return not_tried("no filter of system calls can be had here");
    CHECK(status == 0);
    const mode_t before = ::umask(027);
    Loop loop;
    CommandRunner runner(loop);
    CHECK(out_of(loop, runner.run_line("umask")) == "0027\nexit 0");
    ::umask(before);
}

TEST_CASE("K1: a line that begins as an option does is not the program with that option", "[runner]") {
    Loop loop;
    CommandRunner runner(loop);
    RunTicket line = runner.run_line("-x");
    const RunTicket program = runner.run({"/bin/sh", "-c", "-x"});
    CHECK(line.id() != program.id());
    CHECK(out_of(loop, std::move(line)) == "exit 127");
}
