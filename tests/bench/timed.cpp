// SPDX-License-Identifier: MIT
// timed FIGURES TIMES PROGRAM [ARGUMENT…]: starts PROGRAM TIMES times, one after the other,
// and writes three figures into the file FIGURES: the seconds from start to exit, summed;
// the processor seconds and the page faults of all that came of it. What a program leaves
// behind (a wrapper's supervisor, a refresh) is adopted and waited for each time: it counts
// in the latter two, is no part of the first, and disturbs nothing that comes after.
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>

namespace {

using Clock = std::chrono::steady_clock;

double seconds(const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
}

}  // namespace

int main(int argc, char** argv) {
    if (argc < 4 || prctl(PR_SET_CHILD_SUBREAPER, 1) != 0) return 2;
    Clock::duration wall{};
    for (int left = std::atoi(argv[2]); left > 0; --left) {
        const auto begin = Clock::now();
        pid_t program = 0;
        if (posix_spawnp(&program, argv[3], nullptr, nullptr, argv + 3, environ) != 0) return std::perror(argv[3]), 2;
        int status = 0;
        for (pid_t ended = 0; (ended = wait(&status)) > 0;) {
            if (ended != program) continue;
            wall += Clock::now() - begin;
            if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) return 1;
        }
    }
    rusage usage{};
    getrusage(RUSAGE_CHILDREN, &usage);
    std::FILE* figures = std::fopen(argv[1], "w");
    if (figures == nullptr) return std::perror(argv[1]), 2;
    std::fprintf(figures, "%.6f %.6f %ld\n", std::chrono::duration<double>(wall).count(),
                 seconds(usage.ru_utime) + seconds(usage.ru_stime), usage.ru_minflt);
    return std::fclose(figures) == 0 ? 0 : 2;
}
