// SPDX-License-Identifier: MIT
#include <coalesce/io/process_facts.h>

#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>

#include <coalesce/io/descriptor.h>

namespace coalesce {
namespace {

constexpr std::size_t steps_max = 64;  // against a chain that changes while it is read

}  // namespace

std::optional<ProcessFacts> ProcessFacts::of(pid_t pid) {
    char path[64];
    std::snprintf(path, sizeof path, "/proc/%d/stat", static_cast<int>(pid));
    const Descriptor file(::open(path, O_RDONLY | O_CLOEXEC));
    char text[1024];
    const ssize_t length = file ? ::read(file.get(), text, sizeof text - 1) : -1;
    if (length <= 0) return std::nullopt;
    text[length] = '\0';
    const char* const name = std::strchr(text, '(');
    const char* const after_name = std::strrchr(text, ')');  // the name may hold anything
    if (name == nullptr || after_name == nullptr || after_name < name) return std::nullopt;
    ProcessFacts facts{.pid = pid, .name = std::string(name + 1, after_name)};
    unsigned long long ticks = 0;
    if (std::sscanf(after_name + 1, " %c %d %*d %d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu",
                    &facts.state, &facts.parent, &facts.session, &ticks) != 4)
        return std::nullopt;
    facts.started_ms = static_cast<long long>(ticks) * 1000 / ::sysconf(_SC_CLK_TCK);
    return facts;
}

std::vector<ProcessFacts> session_leaders_above(pid_t process) {
    std::vector<ProcessFacts> leaders;
    for (std::size_t step = 0; step < steps_max && process > 0; ++step) {
        const pid_t session = ::getsid(process);
        auto found = session > 0 ? ProcessFacts::of(session) : std::nullopt;
        if (found) {
            process = found->parent;
            leaders.push_back(std::move(*found));
        } else {  // it has gone; its session goes on
            found = ProcessFacts::of(process);
            process = found ? found->parent : 0;
        }
    }
    return leaders;
}

}  // namespace coalesce
