// SPDX-License-Identifier: MIT
// Prints everything a program can see of how it was started, so that two ways of
// starting it can be told apart by nothing else: the path it was executed by, argv
// and environment in order with lengths, directory, umask, signal state, open
// descriptors. A first argument "exit=N" or "signal=N" says how it ends.
#include <fcntl.h>
#include <signal.h>
#include <sys/auxv.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

extern char** environ;

namespace {

void show_signals() {
    sigset_t blocked;
    sigprocmask(SIG_BLOCK, nullptr, &blocked);
    for (int signal_number = 1; signal_number < NSIG; ++signal_number) {
        struct sigaction action {};
        if (sigaction(signal_number, nullptr, &action) != 0) continue;
        if (sigismember(&blocked, signal_number) == 1) std::printf("blocked %d\n", signal_number);
        if (action.sa_handler != SIG_DFL) std::printf("not default %d\n", signal_number);
    }
}

void show_descriptors() {
    for (int fd = 0; fd < 64; ++fd)
        if (fcntl(fd, F_GETFD) >= 0) std::printf("open %d\n", fd);
}

[[noreturn]] void die(int signal_number) {
    const rlimit no_core{0, 0};
    setrlimit(RLIMIT_CORE, &no_core);
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_UNBLOCK, &all, nullptr);
    signal(signal_number, SIG_DFL);
    raise(signal_number);
    std::_Exit(42);
}

}  // namespace

int main(int argc, char** argv) {
    std::printf("path %s\n", reinterpret_cast<const char*>(getauxval(AT_EXECFN)));
    for (int i = 0; i < argc; ++i) std::printf("argument %zu %s\n", std::strlen(argv[i]), argv[i]);
    for (char** entry = environ; *entry != nullptr; ++entry)
        std::printf("variable %zu %s\n", std::strlen(*entry), *entry);
    char* cwd = getcwd(nullptr, 0);
    std::printf("directory %s\n", cwd == nullptr ? "?" : cwd);
    std::free(cwd);
    std::printf("umask %03o\n", static_cast<unsigned>(umask(0)));
    show_signals();
    show_descriptors();
    std::fflush(stdout);
    std::fprintf(stderr, "complaint of %s\n", argc > 0 ? argv[0] : "nobody");
    if (argc > 1 && std::strncmp(argv[1], "signal=", 7) == 0) die(std::atoi(argv[1] + 7));
    if (argc > 1 && std::strncmp(argv[1], "exit=", 5) == 0) return std::atoi(argv[1] + 5);
    return 0;
}
