// SPDX-License-Identifier: MIT
#include <coalesce/io/process_chain.h>

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <optional>
#include <string_view>

#include <coalesce/io/descriptor.h>

namespace coalesce {
namespace {

constexpr std::size_t steps_max = 64;  // against a chain that changes while it is read

struct Stat {
    pid_t parent = 0;
    std::string name;
};

// "PID (NAME) STATE PARENT …", where a name may hold anything.
std::optional<Stat> stat_of(pid_t process) {
    const std::string path = "/proc/" + std::to_string(process) + "/stat";
    const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    std::array<char, 512> text{};
    const ssize_t length = file ? ::read(file.get(), text.data(), text.size()) : -1;
    if (length <= 0) return std::nullopt;
    const std::string_view line(text.data(), static_cast<std::size_t>(length));
    const std::size_t begin = line.find('(');
    const std::size_t end = line.rfind(')');
    constexpr std::string_view before_parent = ") S ";
    if (begin == std::string_view::npos || end < begin || line.size() < end + before_parent.size()) return std::nullopt;
    Stat found{.name = std::string(line.substr(begin + 1, end - begin - 1))};
    const char* const number = line.data() + end + before_parent.size();
    if (std::from_chars(number, line.data() + line.size(), found.parent).ec != std::errc{}) return std::nullopt;
    return found;
}

}  // namespace

std::vector<SessionAbove> sessions_above(pid_t process) {
    std::vector<SessionAbove> chain;
    for (std::size_t step = 0; step < steps_max && process > 0; ++step) {
        const pid_t leader = ::getsid(process);
        auto found = leader > 0 ? stat_of(leader) : std::nullopt;
        if (found) {
            process = found->parent;
            chain.push_back({leader, found->parent, std::move(found->name)});
        } else {  // it has gone; its session goes on
            found = stat_of(process);
            process = found ? found->parent : 0;
        }
    }
    return chain;
}

}  // namespace coalesce
