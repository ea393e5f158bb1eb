// SPDX-License-Identifier: MIT
#include <coalesce/io/thread.h>

#include <csignal>
#include <system_error>
#include <utility>

namespace coalesce {

std::thread thread_without_signals(UniqueFunction<void()> work) {
    sigset_t all;
    sigset_t before;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before);
    std::thread thread;
    try {
        thread = std::thread(std::move(work));
    } catch (const std::system_error&) {
    }
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    return thread;
}

}  // namespace coalesce
