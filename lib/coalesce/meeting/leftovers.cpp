// SPDX-License-Identifier: MIT
#include <coalesce/meeting/leftovers.h>

#include <coalesce/command/ancestry.h>

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <memory>
#include <vector>

#include <coalesce/io/descriptor.h>

namespace coalesce {
namespace {

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

// Runs under the flight, at whatever depth.
bool names_flight(pid_t pid, const std::string& key) { return runs_under(ancestry_in(environment_of(pid)), key); }

struct Search {
    const FlightRecord& record;
    const std::string& key;
    const Numbering& own;
    bool leader_is_there = false;  // so that its number can be nobody else's

    [[nodiscard]] bool has(pid_t pid) const {
        const auto facts = ProcessFacts::of(pid);
        if (!facts || !facts->alive()) return false;
        if (pid == record.pid) return is_recorded(record, *facts, own);
        return facts->session == record.pid && (leader_is_there || names_flight(pid, key));
    }
};

// True: it was told. False: it is not ours to end, or has gone.
bool kill_found(pid_t pid, const Search& search) {
    if (!search.has(pid)) return false;
    const Descriptor process(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0U)));
    if (!process) return errno != ESRCH && ::kill(pid, SIGKILL) == 0;  // no such call here, or no descriptor left
    if (!search.has(pid)) return false;
    if (::syscall(SYS_pidfd_send_signal, process.get(), SIGKILL, nullptr, 0U) == 0) return true;
    return (errno == ENOSYS || errno == EPERM) && ::kill(pid, SIGKILL) == 0;
}

}  // namespace

Leftovers end_leftovers(const FlightRecord& record, const std::string& key) {
    const auto own = Numbering::own();
    if (!own || record.numbering != own->text() || !Numbering::shown_by_proc()) return Leftovers::none;
    Search search{.record = record, .key = key, .own = *own};
    if (const auto leader = ProcessFacts::of(record.pid)) {
        // The kernel gives a number to nobody else while a group or a session has it.
        if (!is_recorded(record, *leader, *own)) return Leftovers::none;
        search.leader_is_there = true;
    }
    const std::unique_ptr<DIR, int (*)(DIR*)> processes(::opendir("/proc"), ::closedir);
    if (!processes) return Leftovers::none;
    Leftovers left = Leftovers::none;
    while (const dirent* entry = ::readdir(processes.get())) {
        const pid_t pid = std::atoi(entry->d_name);
        if (pid > 1 && kill_found(pid, search)) left = Leftovers::dying;
    }
    return left;
}

}  // namespace coalesce
