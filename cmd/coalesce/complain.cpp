// SPDX-License-Identifier: MIT
#include "complain.h"

#include <coalesce/command/text.h>
#include <coalesce/io/own_program.h>

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>

namespace coalesce {

int fail(const std::string& sentence) {
    std::fprintf(stderr, "coalesce: %s\n", visible(sentence).c_str());
    return 125;
}

int misuse(std::string_view subcommand, const std::string& sentence) {
    return fail(sentence + " (see coalesce " + std::string(subcommand) + " --help)");
}

int flush_output() {
    const bool failed_before = std::ferror(stdout) != 0;  // errno is from then
    if (std::fflush(stdout) == 0 && !failed_before) return 0;
    if (errno == EPIPE) die_of(SIGPIPE);
    return fail(std::string("cannot write to standard output: ") + std::strerror(errno));
}

ChildHook allow_many_descriptors() {
    static const rlimit before = raise_descriptor_limit();
    if (before.rlim_cur == before.rlim_max) return {};
    return {[](const void* limit) noexcept { ::setrlimit(RLIMIT_NOFILE, static_cast<const rlimit*>(limit)); }, &before};
}

namespace {

using Disposition = void (*)(int);
Disposition of_pipe = SIG_DFL;  // as we found them
Disposition of_file_size = SIG_DFL;
Disposition of_children = SIG_DFL;

}  // namespace

void prepare_process() {
    of_pipe = ::signal(SIGPIPE, SIG_IGN);
    of_file_size =
        ::signal(SIGXFSZ, SIG_IGN);  // past a limit on files a write is refused, and one request ends, not all
    // Ignored, as some parents leave it, the kernel would throw exit statuses away.
    of_children = ::signal(SIGCHLD, SIG_DFL);
    // Descriptors opened later must not become 0, 1 or 2: a child would get them as its own. What was closed
    // stays unusable: the wrong direction makes each use fail.
    for (int fd = 0; fd <= 2; ++fd)
        if (::fcntl(fd, F_GETFD) < 0 && ::open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY) != fd) ::_exit(125);
}

int become(const std::vector<std::string>& argv, const std::string& absent) {
    const std::string& word = argv.front();
    auto program = word.find('/') != std::string::npos ? Result(word) : find_other_program(word);
    if (!program && program.error().code.value() == ENOENT) {
        fail("there is no program " + word + absent);
        return 127;
    }
    if (!program) {
        fail("cannot " + program.error().message());
        return 126;
    }
    ::signal(SIGPIPE, of_pipe);
    ::signal(SIGXFSZ, of_file_size);
    ::signal(SIGCHLD, of_children);
    std::vector<char*> words;
    words.reserve(argv.size() + 1);
    for (const std::string& one : argv) words.push_back(const_cast<char*>(one.c_str()));
    words.push_back(nullptr);
    ::execvp(program->c_str(), words.data());  // which hands a script without #! to the shell
    const int error = errno;
    fail("cannot execute " + *program + ": " + std::strerror(error));
    return error == ENOENT ? 127 : 126;
}

void die_of(int signal) {
    ::signal(signal, SIG_DFL);
    sigset_t mask;
    ::sigemptyset(&mask);
    ::sigaddset(&mask, signal);
    ::sigprocmask(SIG_UNBLOCK, &mask, nullptr);
    ::raise(signal);
    ::_exit(128 + signal);
}

}  // namespace coalesce
