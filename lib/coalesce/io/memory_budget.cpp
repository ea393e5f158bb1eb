// SPDX-License-Identifier: MIT
#include <coalesce/io/memory_budget.h>

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <optional>
#include <string_view>

#include <coalesce/io/descriptor.h>

namespace coalesce {
namespace {

constexpr std::uint64_t parts = 4;

std::optional<std::string> content_of(const std::string& path) {
    const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!file) return std::nullopt;
    std::string text;
    char block[1024];
    for (ssize_t got = 0; (got = ::read(file.get(), block, sizeof block)) != 0;) {
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return std::nullopt;
        text.append(block, static_cast<std::size_t>(got));
    }
    return text;
}

// "max" is no limit, and no number either.
void lower_to(std::uint64_t& least, const std::string& path) {
    const auto text = content_of(path);
    std::uint64_t bytes = 0;
    if (text && std::from_chars(text->data(), text->data() + text->size(), bytes).ec == std::errc())
        least = std::min(least, bytes);
}

// From the group upwards. One that is not there is above what a container sees of the
// hierarchy: its own root stands in for it.
void lower_to_groups(std::uint64_t& least, const std::string& mounted, std::string group, bool version_2) {
    while (true) {
        const std::string directory = mounted + group;
        if (version_2) {
            lower_to(least, directory + "/memory.max");
            lower_to(least, directory + "/memory.high");
        } else {
            lower_to(least, directory + "/memory.limit_in_bytes");
        }
        if (group.empty()) return;
        group.erase(group.rfind('/'));
    }
}

// Whether a comma-separated list has the word.
bool lists(std::string_view list, std::string_view word) {
    while (true) {
        const std::size_t comma = list.find(',');
        if (list.substr(0, comma) == word) return true;
        if (comma == std::string_view::npos) return false;
        list.remove_prefix(comma + 1);
    }
}

}  // namespace

std::uint64_t memory_allowed(const std::string& root) {
    std::uint64_t least =
        static_cast<std::uint64_t>(::sysconf(_SC_PHYS_PAGES)) * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
    const auto groups = content_of(root + "/proc/self/cgroup");
    if (!groups) return least;
    // Lines of "number:controllers:group"; version 2 has neither number nor controllers.
    for (std::string_view rest = *groups; !rest.empty();) {
        const std::string_view line = rest.substr(0, rest.find('\n'));
        rest.remove_prefix(std::min(line.size() + 1, rest.size()));
        const std::size_t first = line.find(':');
        const std::size_t second = first == std::string_view::npos ? first : line.find(':', first + 1);
        if (second == std::string_view::npos) continue;
        const std::string_view controllers = line.substr(first + 1, second - first - 1);
        std::string group(line.substr(second + 1));
        if (group.empty() || group.front() != '/') continue;
        if (group.back() == '/') group.pop_back();
        if (controllers.empty()) {
            lower_to_groups(least, root + "/sys/fs/cgroup", group, true);
            lower_to_groups(least, root + "/sys/fs/cgroup/unified", group, true);
        } else if (lists(controllers, "memory")) {
            lower_to_groups(least, root + "/sys/fs/cgroup/memory", group, false);
        }
    }
    return least;
}

MemoryBudget& MemoryBudget::of_this_process() noexcept {
    static MemoryBudget budget;
    return budget;
}

std::uint64_t MemoryBudget::limit() const {
    std::uint64_t limit = limit_.load(std::memory_order_relaxed);
    if (limit != not_looked_up) return limit;
    limit = memory_allowed() / parts;
    limit_.store(limit, std::memory_order_relaxed);
    return limit;
}

}  // namespace coalesce
