// SPDX-License-Identifier: MIT
// refuse_call: executes a program whose kernel refuses some system calls.
//
//     refuse_call close_range=ENOSYS memfd_create=EPERM -- PROGRAM [ARG…]
//
// An older kernel and a container's filter look like that. The filter is handed down to
// all that the program starts. `clone-pidfd` is clone with CLONE_PIDFD, which Linux
// knows since 5.2; clone as such is left alone.
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

namespace {

constexpr unsigned clone_pidfd = 0x1000;

struct Name {
    std::string_view word;
    long number;
};

constexpr Name calls[] = {
    {"close_range", SYS_close_range}, {"memfd_create", SYS_memfd_create}, {"pidfd_open", SYS_pidfd_open},
    {"clone3", SYS_clone3},           {"clone-pidfd", SYS_clone},         {"waitid", SYS_waitid},
    {"fallocate", SYS_fallocate},     {"sendfile", SYS_sendfile},         {"prlimit64", SYS_prlimit64},
    {"accept4", SYS_accept4},         {"epoll_pwait", SYS_epoll_pwait},
};

constexpr Name errors[] = {{"ENOSYS", ENOSYS}, {"EPERM", EPERM}, {"EACCES", EACCES}, {"EINVAL", EINVAL}};

template <std::size_t size>
long value_of(const Name (&names)[size], std::string_view word) {
    for (const Name& name : names)
        if (name.word == word) return name.number;
    std::fprintf(stderr, "refuse_call: what is %s?\n", std::string(word).c_str());
    ::_exit(2);
}

sock_filter load(std::size_t offset) { return BPF_STMT(BPF_LD | BPF_W | BPF_ABS, static_cast<unsigned>(offset)); }

}  // namespace

int main(int argc, char** argv) {
    std::vector<sock_filter> filter;
    int at = 1;
    for (; at < argc && std::strcmp(argv[at], "--") != 0; ++at) {
        const std::string_view word = argv[at];
        const std::size_t equals = word.find('=');
        const std::string_view call = word.substr(0, equals);
        const auto number = static_cast<unsigned>(value_of(calls, call));
        const auto error = static_cast<unsigned>(value_of(errors, word.substr(equals + 1)));
        filter.push_back(load(offsetof(seccomp_data, nr)));
        if (call == "clone-pidfd") {
            filter.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 3));
            filter.push_back(load(offsetof(seccomp_data, args)));  // little-endian: the flags' lower half
            filter.push_back(BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, clone_pidfd, 0, 1));
        } else {
            filter.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1));
        }
        filter.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (error & SECCOMP_RET_DATA)));
    }
    if (at + 1 >= argc) return 2;
    filter.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
    const sock_fprog program{.len = static_cast<unsigned short>(filter.size()), .filter = filter.data()};
    if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) {
        std::perror("refuse_call: no filter can be set");
        return 77;
    }
    ::execvp(argv[at + 1], argv + at + 1);
    std::perror(argv[at + 1]);
    return 127;
}
