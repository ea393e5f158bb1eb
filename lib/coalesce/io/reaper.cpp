// SPDX-License-Identifier: MIT
#include <coalesce/io/reaper.h>

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <string>
#include <utility>

#include <coalesce/io/loop.h>

namespace coalesce {

Reaper::Reaper(Loop& loop, UniqueFunction<bool(pid_t)> is_ours) : is_ours_(std::move(is_ours)) {
    if (::getpid() != 1) return;
    children_.emplace(loop, SIGCHLD, [this] { reap(); });
    reap();
}

// One by one: asked for any child, the kernel would name one of ours again and again.
void Reaper::reap() {
    const std::string self = std::to_string(::getpid());
    std::ifstream children("/proc/" + self + "/task/" + self + "/children");
    for (pid_t pid = 0; children >> pid;)
        if (!is_ours_(pid)) ::waitpid(pid, nullptr, WNOHANG);
}

}  // namespace coalesce
