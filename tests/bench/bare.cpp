// SPDX-License-Identifier: MIT
// bare N J PROGRAM: runs PROGRAM 0 … PROGRAM N-1, J at a time, and passes on what
// they write. The least that a program which captures both outputs and starts
// children without copying its memory can do: no duplicates, no lines, no order, no
// signals, no errors. What coalesce costs beyond that is the price of all it promises.

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

namespace {

constexpr std::size_t stack_bytes = 65536;

struct Start {
    char* const* argv;
    int input, output, error;
};

int child(void* argument) {
    const auto& start = *static_cast<Start*>(argument);
    dup2(start.input, 0);
    dup2(start.output, 1);
    dup2(start.error, 2);
    execve(start.argv[0], start.argv, environ);
    _exit(127);
}

struct Job {
    std::array<int, 3> fds;  // output, error, pidfd
    int open = 0;
};

}  // namespace

int main(int argc, char** argv) {
    if (argc != 4) return 125;
    const int total = std::atoi(argv[1]);
    const auto jobs_max = static_cast<std::size_t>(std::atoi(argv[2]));
    std::vector<Job> jobs(jobs_max);
    std::vector<char> buffer(65536);
    char* const stack =
        static_cast<char*>(mmap(nullptr, stack_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    const int input = open("/dev/null", O_RDONLY | O_CLOEXEC);
    const int set = epoll_create1(EPOLL_CLOEXEC);
    char number[16];
    char* words[] = {argv[3], number, nullptr};
    int started = 0;
    for (int done = 0; done < total;) {
        for (std::size_t slot = 0; slot < jobs_max && started < total; ++slot) {
            Job& job = jobs[slot];
            if (job.open > 0) continue;
            int out[2];
            int err[2];
            if (pipe2(out, O_CLOEXEC) != 0 || pipe2(err, O_CLOEXEC) != 0) return 125;
            std::snprintf(number, sizeof number, "%d", started++);
            Start start{words, input, out[1], err[1]};
            int pidfd = -1;
            if (clone(child, stack + stack_bytes, CLONE_VM | CLONE_VFORK | 0x1000 /* CLONE_PIDFD */ | SIGCHLD, &start,
                      &pidfd) < 0)
                return 125;
            close(out[1]);
            close(err[1]);
            job = {{out[0], err[0], pidfd}, 3};
            for (std::size_t i = 0; i < job.fds.size(); ++i) {
                epoll_event interest{};
                interest.events = EPOLLIN;
                interest.data.u64 = slot * 3 + i;
                epoll_ctl(set, EPOLL_CTL_ADD, job.fds[i], &interest);
            }
        }
        epoll_event events[64];
        const int ready = epoll_wait(set, events, 64, -1);
        for (int i = 0; i < ready; ++i) {
            Job& job = jobs[events[i].data.u64 / 3];
            const std::size_t which = events[i].data.u64 % 3;
            const int fd = job.fds[which];
            if (which < 2) {
                const ssize_t got = read(fd, buffer.data(), buffer.size());
                if (got > 0) {
                    if (write(static_cast<int>(which) + 1, buffer.data(), static_cast<std::size_t>(got)) != got)
                        return 125;
                    continue;
                }
            } else {
                siginfo_t info;
                waitid(P_PIDFD, static_cast<id_t>(fd), &info, WEXITED);
            }
            epoll_ctl(set, EPOLL_CTL_DEL, fd, nullptr);
            close(fd);
            if (--job.open == 0) ++done;
        }
    }
}
