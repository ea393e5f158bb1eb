// SPDX-License-Identifier: MIT
#include "complain.h"

#include <coalesce/command/text.h>

#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include <coalesce/command/text.h>

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
