// SPDX-License-Identifier: MIT
// Starting a program: which file is executed, what it finds, and how a failure is told
// (SPEC F4, F13).
#include <coalesce/io/spawn.h>

#include <sched.h>
#include <signal.h>
#include <sys/wait.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

#include "../catch.h"
#include "../not_tried.h"
#include "../scratch.h"

using namespace coalesce;

namespace {

struct Ran {
    Started started;
    int status = -1;
    std::string out;
};

// Runs to the end, and reads what it says on both outputs.
Ran run(const std::vector<std::string>& argv, std::vector<std::string> env = {"PATH=/usr/bin:/bin"},
        const char* directory = nullptr, const char* path = nullptr, ChildHook hook = {}, bool looks = false) {
    Pipe pipe;
    const Descriptor null(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    Ran ran;
    ran.started = spawn({.argv = argv,
                         .env = env,
                         .path = path,
                         .looks = looks,
                         .directory = directory,
                         .umask = 022,
                         .standard_input = null.get(),
                         .standard_output = pipe.write_end.get(),
                         .standard_error = pipe.write_end.get(),
                         .hook = hook});
    pipe.write_end.reset();
    if (ran.started.failed != Started::Step::none) return ran;
    ran.out = drain(pipe.read_end.get());
    int status = 0;
    REQUIRE(::waitpid(ran.started.pid, &status, 0) == ran.started.pid);
    ran.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return ran;
}

}  // namespace

TEST_CASE("F13: a program is found on the PATH of its own environment", "[spawn]") {
    Scratch scratch;
    scratch.file("prog", "#!/bin/sh\necho found $*\n", 0755);
    CHECK(run({"prog", "a", "b"}, {"X=1", "PATH=/nowhere:" + scratch.path() + ":/bin"}).out == "found a b\n");
    CHECK(run({"sh", "-c", "echo default"}, {}).out == "default\n");  // no PATH: execvp's own
    const Ran missing = run({"prog"}, {"PATH=/usr/bin:/bin"});
    CHECK(missing.started.failed == Started::Step::execute);
    CHECK(missing.started.error == ENOENT);
}

TEST_CASE("F13: an empty element of PATH is the directory of the moment", "[spawn]") {
    Scratch scratch;
    scratch.file("prog", "#!/bin/sh\necho here\n", 0755);
    CHECK(run({"prog"}, {"PATH=:/bin"}, scratch.path().c_str()).out == "here\n");
    CHECK(run({"prog"}, {"PATH=/bin:"}, scratch.path().c_str()).out == "here\n");
    CHECK(run({"prog"}, {"PATH="}, scratch.path().c_str()).out == "here\n");
}

TEST_CASE("F13: a file that may not be executed gives way to a later one, and is told of if there is none", "[spawn]") {
    Scratch first;
    Scratch second;
    first.file("prog", "not executable");
    second.file("prog", "#!/bin/sh\necho second\n", 0755);
    CHECK(run({"prog"}, {"PATH=" + first.path() + ":" + second.path()}).out == "second\n");
    const Ran refused = run({"prog"}, {"PATH=" + first.path() + ":/nowhere"});
    CHECK(refused.started.failed == Started::Step::execute);
    CHECK(refused.started.error == EACCES);
}

TEST_CASE("T11: who wants to know what is executed is told, and else it is as ever", "[spawn]") {
    Scratch scratch;
    for (const char* directory : {"plain", "wrong", "right", "later"}) ::mkdir(scratch.path(directory).c_str(), 0755);
    scratch.file("plain/prog", "not executable");
    scratch.file("wrong/prog", "#!/no/such/interpreter\n", 0755);
    const std::string right = scratch.file("right/prog", "#!/bin/sh\necho \"$0\"\n", 0755);
    scratch.file("later/prog", "#!/bin/sh\necho later\n", 0755);
    ::symlink("prog", scratch.path("prog").c_str());  // to itself
    const auto look = [&](const std::vector<std::string>& directories, const std::string& word = "prog") {
        std::string path = "PATH=/nowhere";
        for (const std::string& directory : directories) path += ":" + scratch.path(directory);
        const Ran plain = run({word}, {path});
        Ran looked = run({word}, {path}, nullptr, nullptr, {}, true);
        CHECK_FALSE(plain.started.file);
        CHECK(looked.out == plain.out);
        CHECK(looked.started.failed == plain.started.failed);
        CHECK(looked.started.error == plain.started.error);
        return looked;
    };
    struct stat info {};
    REQUIRE(::stat(right.c_str(), &info) == 0);
    for (const Ran& ran : {look({"plain", "right", "later"}), look({}, right)}) {
        CHECK(ran.out == right + "\n");
        REQUIRE(ran.started.file);
        CHECK(ran.started.file->st_ino == info.st_ino);
    }
    const Ran gave_way = look({"wrong", "right"});
    CHECK(gave_way.out == right + "\n");
    CHECK_FALSE(gave_way.started.file);
    CHECK(look({"plain"}).started.error == EACCES);
    CHECK(look({"plain", "wrong"}).started.error == EACCES);
    CHECK(look({"wrong"}).started.error == ENOENT);
    CHECK(look({"", "right"}).started.error == ELOOP);
    CHECK(look({}).started.error == ENOENT);

    ::mkdir(scratch.path("bare").c_str(), 0755);
    scratch.file("bare/prog", "echo \"$0\"\n", 0755);
    REQUIRE(::stat(scratch.path("bare/prog").c_str(), &info) == 0);
    CHECK(look({"bare"}).started.file->st_ino == info.st_ino);
}

TEST_CASE("T11, A2: of a link to ourselves it is told what is behind it", "[spawn]") {
    Scratch scratch;
    for (const char* directory : {"links", "later"}) ::mkdir(scratch.path(directory).c_str(), 0755);
    const std::string ourselves = std::filesystem::read_symlink("/proc/self/exe");
    ::symlink(ourselves.c_str(), scratch.path("links/prog").c_str());
    ::symlink("prog", scratch.path("prog").c_str());  // to itself
    const std::string later = scratch.file("later/prog", "#!/bin/sh\n", 0755);
    const auto file = [&](const std::string& path) {
        const Ran ran = run({"prog", "--help"}, {"PATH=" + path}, nullptr, nullptr, {}, true);
        CHECK_FALSE(ran.out.empty());  // ours is executed
        REQUIRE(ran.started.file);
        return ran.started.file->st_ino;
    };
    struct stat info {};
    REQUIRE(::stat(later.c_str(), &info) == 0);
    CHECK(file(scratch.path("links") + ":" + scratch.path() + ":" + scratch.path("later")) == info.st_ino);
    REQUIRE(::stat(ourselves.c_str(), &info) == 0);
    CHECK(file(scratch.path("links")) == info.st_ino);
}

TEST_CASE("F4: each failure comes back with its step and errno", "[spawn]") {
    Scratch scratch;
    scratch.file("plain", "x");
    scratch.file("bad-interpreter", "#!/no/such/interpreter\n", 0755);
    ::symlink("loop", scratch.path("loop").c_str());
    const auto error_of = [&](const std::vector<std::string>& argv, const char* directory = nullptr) {
        const Ran ran = run(argv, {"PATH=/bin"}, directory);
        return std::pair(ran.started.failed, ran.started.error);
    };
    using Step = Started::Step;
    CHECK(error_of({scratch.path("missing")}) == std::pair(Step::execute, ENOENT));
    CHECK(error_of({scratch.path("plain")}) == std::pair(Step::execute, EACCES));
    CHECK(error_of({scratch.path()}) == std::pair(Step::execute, EACCES));
    CHECK(error_of({scratch.path("plain/x")}) == std::pair(Step::execute, ENOTDIR));
    CHECK(error_of({scratch.path("bad-interpreter")}) == std::pair(Step::execute, ENOENT));
    CHECK(error_of({scratch.path("loop")}) == std::pair(Step::execute, ELOOP));
    CHECK(error_of({"/bin/true", std::string(3'000'000, 'x')}) == std::pair(Step::execute, E2BIG));
    CHECK(error_of({std::string(300, 'x')}) == std::pair(Step::execute, ENAMETOOLONG));
    CHECK(error_of({""}) == std::pair(Step::execute, ENOENT));
    CHECK(error_of({"true"}, "/no/such/directory") == std::pair(Step::directory, ENOENT));
    CHECK(error_of({"true"}, scratch.path("plain").c_str()) == std::pair(Step::directory, ENOTDIR));
    CHECK(::waitpid(-1, nullptr, WNOHANG) == -1);  // each was reaped
    CHECK(errno == ECHILD);
}

TEST_CASE("F13: a script without #! is run by sh, as execvp does", "[spawn]") {
    Scratch scratch;
    const std::string script = scratch.file("script", "echo \"$0\" \"$1\" \"$#\"\n", 0755);
    CHECK(run({script, "a b", ""}).out == script + " a b 2\n");
    CHECK(run({"script", "x"}, {"PATH=/nowhere:" + scratch.path()}).out == script + " x 1\n");
    const std::string empty = scratch.file("empty", "", 0755);
    CHECK(run({empty}).status == 0);
}

TEST_CASE("F13: path names the file, argv[0] stays the word", "[spawn]") {
    Scratch scratch;
    scratch.file("prog", "#!/bin/sh\necho \"$0\"\n", 0755);
    CHECK(run({"sh", "-c", "echo $0"}, {}, nullptr, "/bin/sh").out == "sh\n");
    CHECK(run({"called-so"}, {}, scratch.path().c_str(), "./prog").out == "./prog\n");  // the kernel's, of a script
}

TEST_CASE("F13: the umask is the program's, not the parent's", "[spawn]") {
    const std::vector<std::string> argv{"/bin/sh", "-c", "umask"};
    const std::vector<std::string> env{"PATH=/bin"};
    const mode_t before = ::umask(0);
    for (const mode_t mask : {0U, 022U, 077U, 0777U}) {
        Pipe pipe;
        const Started started = spawn({.argv = argv,
                                       .env = env,
                                       .umask = mask,
                                       .standard_input = pipe.read_end.get(),
                                       .standard_output = pipe.write_end.get(),
                                       .standard_error = pipe.write_end.get()});
        REQUIRE(started.failed == Started::Step::none);
        pipe.write_end.reset();
        CHECK(std::stoul(drain(pipe.read_end.get()), nullptr, 8) == mask);
        ::waitpid(started.pid, nullptr, 0);
    }
    CHECK(::umask(before) == 0);
}

TEST_CASE("F13: the hook is called in the child, with the signals still blocked, and before exec", "[spawn]") {
    struct Told {
        pid_t pid = 0;
        pid_t session = 0;
    } told;
    const ChildHook hook{[](const void* argument) noexcept {
                             auto* where = static_cast<Told*>(const_cast<void*>(argument));
                             where->pid = ::getpid();
                             where->session = ::getsid(0);
                         },
                         &told};
    const Ran ran = run({"true"}, {"PATH=/bin"}, nullptr, nullptr, hook);
    CHECK(told.pid == ran.started.pid);
    CHECK(told.session == ran.started.pid);
}

TEST_CASE("F13: descriptors are placed right whatever their numbers are", "[spawn]") {
    Scratch scratch;
    const std::string input = scratch.file("input", "from the input\n");
    // 5 is to be 1, 3 is to be 0; and the same one for both outputs.
    const Descriptor in(::fcntl(::open(input.c_str(), O_RDONLY | O_CLOEXEC), F_DUPFD_CLOEXEC, 200));
    Pipe pipe;
    const std::vector<std::string> argv{"/bin/sh", "-c", "cat; ls /proc/self/fd | tr '\\n' ' ' >&2"};
    const std::vector<std::string> env{"PATH=/bin:/usr/bin"};
    const Started started = spawn({.argv = argv,
                                   .env = env,
                                   .umask = 022,
                                   .standard_input = in.get(),
                                   .standard_output = pipe.write_end.get(),
                                   .standard_error = pipe.write_end.get()});
    REQUIRE(started.failed == Started::Step::none);
    pipe.write_end.reset();
    CHECK(drain(pipe.read_end.get()) == "from the input\n0 1 2 3 ");
    ::waitpid(started.pid, nullptr, 0);
}

TEST_CASE("F13: the parent's own signals, mask and errno-visible state are as before", "[spawn]") {
    ::signal(SIGUSR1, SIG_IGN);
    sigset_t before;
    sigset_t after;
    ::sigprocmask(SIG_BLOCK, nullptr, &before);
    CHECK(run({"/bin/sh", "-c", "kill -USR1 $$; echo not ignored"}).status == 128 + SIGUSR1);
    ::sigprocmask(SIG_BLOCK, nullptr, &after);
    CHECK(sigismember(&before, SIGTERM) == sigismember(&after, SIGTERM));
    struct sigaction action {};
    ::sigaction(SIGUSR1, nullptr, &action);
    CHECK(action.sa_handler == SIG_IGN);
    ::signal(SIGUSR1, SIG_DFL);
}

TEST_CASE("F13: a large parent's memory is neither copied nor counted", "[spawn]") {
    // With overcommit off a fork of 2 GB could be refused; vfork's way shares it.
    const std::vector<char> ballast(200 << 20, 'x');
    for (int i = 0; i < 20; ++i) CHECK(run({"true"}).status == 0);
    CHECK(ballast.back() == 'x');
}

TEST_CASE("P1: a program that does not lead its session is our child all the same, and leads its group", "[spawn]") {
    Pipe pipe;
    const Descriptor null(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    const auto start = [&](const std::vector<std::string>& argv, const char* directory = nullptr) {
        const std::vector<std::string> env{"PATH=/usr/bin:/bin"};
        return spawn({.argv = argv,
                      .env = env,
                      .directory = directory,
                      .umask = 022,
                      .leads_session = false,
                      .standard_input = null.get(),
                      .standard_output = pipe.write_end.get(),
                      .standard_error = pipe.write_end.get()});
    };
    const Started missing = start({"no-such-program"});
    CHECK(missing.failed == Started::Step::execute);
    CHECK(missing.error == ENOENT);
    CHECK(start({"true"}, "/no-such-directory").failed == Started::Step::directory);
    CHECK(::waitpid(-1, nullptr, WNOHANG) == -1);  // nothing is left of either, nor of who stood between
    CHECK(errno == ECHILD);

    const Started started = start({"/bin/sh", "-c", "cut -d ' ' -f 4-6 /proc/$$/stat; kill -9 $$"});
    REQUIRE(started.failed == Started::Step::none);
    int status = 0;
    REQUIRE(::waitpid(started.pid, &status, 0) == started.pid);
    CHECK(WIFSIGNALED(status));
    CHECK(::waitpid(-1, nullptr, WNOHANG) == -1);
    pipe.write_end.reset();
    int parent = 0;
    int group = 0;
    int session = 0;
    const std::string out = drain(pipe.read_end.get());
    REQUIRE(std::sscanf(out.c_str(), "%d %d %d", &parent, &group, &session) == 3);
    CHECK(parent == ::getpid());
    CHECK(group == started.pid);
    CHECK(session != started.pid);
    CHECK(session != ::getsid(0));
}

// As after `unshare --pid` without --fork: to the child its parent is no process, and it took that for one that had
// died.
TEST_CASE("F13: a parent outside of the pid namespace that it made for its children is no dead one", "[spawn]") {
    const pid_t child = ::fork();
    if (child == 0) try {
            if (::unshare(CLONE_NEWPID) != 0) ::_exit(2);
            ::_exit(run({"echo", "here"}).out == "here\n" ? 0 : 1);
        } catch (...) {
            ::_exit(3);
        }
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 2) return not_tried("no pid namespace can be made here");
    CHECK(status == 0);
}
