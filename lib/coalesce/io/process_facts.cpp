// SPDX-License-Identifier: MIT
#include <coalesce/io/process_facts.h>

#include <fcntl.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include <coalesce/io/descriptor.h>
#include <coalesce/io/directory.h>

namespace coalesce {
namespace {

constexpr std::size_t steps_max = 64;  // against a chain that changes while it is read

std::string read_boot_id() {
    const Descriptor file(::open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC));
    char text[64];
    const ssize_t got = file ? ::read(file.get(), text, sizeof text) : -1;
    const std::string_view line(text, got > 0 ? static_cast<std::size_t>(got) : 0);
    const std::size_t end = line.find('\n');
    return std::string(line.substr(0, end == std::string_view::npos ? 0 : end));
}

}  // namespace

const std::string& boot_id() {
    static const std::string id = read_boot_id();
    return id;
}

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
            if (found && process > 0 && ::getsid(process) != session) leaders.push_back(std::move(*found));
        }
    }
    return leaders;
}

std::vector<std::string> environment_of(pid_t pid) {
    const std::string path = "/proc/" + std::to_string(pid) + "/environ";
    const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    std::string all;
    std::vector<char> block(16 * 1024);
    for (ssize_t got = 0; file && (got = ::read(file.get(), block.data(), block.size())) > 0;)
        all.append(block.data(), static_cast<std::size_t>(got));
    std::vector<std::string> entries;
    for (std::size_t begin = 0; begin < all.size(); begin += entries.back().size() + 1)
        entries.push_back(all.substr(begin, all.find('\0', begin) - begin));
    return entries;
}

// What cannot be read may be alive.
bool has_only_zombies(pid_t group) {
    Directory processes(AT_FDCWD, "/proc");
    bool zombies = false;
    while (const char* const name = processes.next()) {
        const pid_t pid = std::atoi(name);
        if (pid <= 0 || ::getpgid(pid) != group) continue;
        const auto facts = ProcessFacts::of(pid);
        if (!facts || facts->alive()) return false;
        zombies = true;
    }
    return zombies && processes.error() == 0;
}

namespace {

bool kill_if(pid_t pid, const std::function<bool(pid_t)>& is_one) {
    if (!is_one(pid)) return false;
    const Descriptor process(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0U)));
    if (!process) return errno != ESRCH && ::kill(pid, SIGKILL) == 0;  // no such call here, or no descriptor left
    if (!is_one(pid)) return false;
    if (::syscall(SYS_pidfd_send_signal, process.get(), SIGKILL, nullptr, 0U) == 0) return true;
    return (errno == ENOSYS || errno == EPERM) && ::kill(pid, SIGKILL) == 0;
}

}  // namespace

bool kill_each(const std::function<bool(pid_t)>& is_one) {
    Directory processes(AT_FDCWD, "/proc");
    bool told = false;
    while (const char* const name = processes.next())
        if (const pid_t pid = std::atoi(name); pid > 1 && kill_if(pid, is_one)) told = true;
    return told;
}

}  // namespace coalesce
