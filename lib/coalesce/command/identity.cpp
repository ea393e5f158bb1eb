// SPDX-License-Identifier: MIT
// System calls where there is one, since reading /proc/self/status takes as long as all of
// them four times over. For the namespaces there is none: their links are read below a
// directory that is opened once, which takes two thirds of following each to its inode.
#include <coalesce/command/identity.h>

#include <fcntl.h>
#include <linux/capability.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstdint>

#include <coalesce/command/canonical.h>

namespace coalesce {
namespace {

namespace tag {
constexpr char kName = 'n';
constexpr char kValue = 'v';
constexpr char kContained = 'c';  // a name too, of what differs between containers
}  // namespace tag

constexpr std::string_view kUnknown = "unknown";

struct Namespace {
    std::string_view name;
    const char* link;
};
// Of the process that will run the command, our child: so pid_for_children.
constexpr auto kNamespaces = std::to_array<Namespace>({{"namespace: mount", "mnt"},
                                                       {"namespace: net", "net"},
                                                       {"namespace: pid", "pid_for_children"},
                                                       {"namespace: user", "user"},
                                                       {"namespace: uts", "uts"},
                                                       {"namespace: ipc", "ipc"}});

void append_part(std::string& out, std::string_view name, std::string_view value, char name_tag = tag::kName) {
    append_field(out, name_tag, name);
    append_field(out, tag::kValue, value);
}

std::string hexadecimal(std::uint64_t number) {
    std::array<char, 16> digits{};
    const char* const end = std::to_chars(digits.data(), digits.data() + digits.size(), number, 16).ptr;
    return {digits.data(), static_cast<std::size_t>(end - digits.data())};
}

// "1000", or "1000 as 0" in a program that runs with another's rights.
std::string real_and_effective(unsigned real, unsigned effective) {
    std::string out = std::to_string(real);
    if (effective != real) out += " as " + std::to_string(effective);
    return out;
}

std::string supplementary_groups() {
    std::vector<gid_t> groups(32);
    int count = ::getgroups(static_cast<int>(groups.size()), groups.data());
    while (count < 0 && errno == EINVAL) {  // there are more
        groups.resize(groups.size() * 8);
        count = ::getgroups(static_cast<int>(groups.size()), groups.data());
    }
    if (count < 0) return std::string(kUnknown);
    groups.resize(static_cast<std::size_t>(count));
    std::sort(groups.begin(), groups.end());
    groups.erase(std::unique(groups.begin(), groups.end()), groups.end());
    std::string out;
    for (const gid_t group : groups) out.append(out.empty() ? 0 : 1, ' ').append(std::to_string(group));
    return out.empty() ? "none" : out;
}

// Less CAP_WAKE_ALARM, which a desktop's session manager gives to all below it and a login
// by ssh or cron lacks; it changes no result of a command.
std::string effective_capabilities() {
    __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
    std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3> sets{};
    if (::syscall(SYS_capget, &header, sets.data()) != 0) return std::string(kUnknown);
    const std::uint64_t effective = sets[0].effective | std::uint64_t{sets[1].effective} << 32;
    return hexadecimal(effective & ~(std::uint64_t{1} << CAP_WAKE_ALARM));
}

std::string root_directory() {
    const auto root = identity_of_directory("/");
    return root ? hexadecimal(root->device) + ":" + std::to_string(root->inode) : std::string(kUnknown);
}

// From "net:[4026531840]".
std::string_view number_in(std::string_view link) {
    const std::size_t begin = link.find('[');
    const std::size_t end = link.find(']');
    return begin == std::string_view::npos || end == std::string_view::npos ? kUnknown
                                                                            : link.substr(begin + 1, end - begin - 1);
}

// A pid namespace that has no process yet has no number either. Nobody but our children
// can be in it, so it is named after us.
std::string namespace_number(int directory, const Namespace& space) {
    if (directory < 0) return std::string(kUnknown);
    std::array<char, 64> link{};
    const ssize_t length = ::readlinkat(directory, space.link, link.data(), link.size());
    if (length >= 0) return std::string(number_in({link.data(), static_cast<std::size_t>(length)}));
    return errno == ENOENT ? "new, of process " + std::to_string(::getpid()) : std::string(kUnknown);
}

void append_namespaces(std::string& out) {
    const int directory = ::open("/proc/self/ns", O_PATH | O_DIRECTORY | O_CLOEXEC);
    for (const Namespace& space : kNamespaces)
        append_part(out, space.name, namespace_number(directory, space), tag::kContained);
    if (directory >= 0) ::close(directory);
}

std::optional<DirectoryIdentity> identity_from(int result, const struct stat& found) {
    if (result != 0) return std::nullopt;
    return DirectoryIdentity{.device = found.st_dev, .inode = found.st_ino};
}

}  // namespace

std::optional<DirectoryIdentity> identity_of_directory(const std::string& path) {
    struct stat found {};
    return identity_from(::stat(path.c_str(), &found), found);
}

std::optional<DirectoryIdentity> identity_of_current_directory() {
    struct stat found {};
    return identity_from(::fstatat(AT_FDCWD, "", &found, AT_EMPTY_PATH),
                         found);  // "." would need the right to search it
}

std::string own_identity() {
    std::string out;
    out.reserve(512);
    append_part(out, "uid", real_and_effective(::getuid(), ::geteuid()));
    append_part(out, "gid", real_and_effective(::getgid(), ::getegid()));
    append_part(out, "groups", supplementary_groups());
    append_part(out, "capabilities", effective_capabilities());
    append_part(out, "no_new_privs", std::to_string(::prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)));
    append_part(out, "personality", hexadecimal(static_cast<unsigned>(::personality(0xffffffff))));
    append_part(out, "root directory", root_directory(), tag::kContained);
    append_namespaces(out);
    return out;
}

std::string without_namespaces(std::string_view identity) {
    std::string out;
    bool contained = false;
    while (const auto field = take_field(identity)) {
        if (field->tag != tag::kValue) contained = field->tag == tag::kContained;
        if (!contained) append_field(out, field->tag, field->bytes);
    }
    return out;
}

std::optional<std::vector<IdentityPart>> parts_of_identity(std::string_view identity) {
    std::vector<IdentityPart> parts;
    while (!identity.empty()) {
        const auto name = take_field(identity);
        if (!name || (name->tag != tag::kName && name->tag != tag::kContained)) return std::nullopt;
        const auto value = take_field(identity);
        if (!value || value->tag != tag::kValue) return std::nullopt;
        parts.push_back({name->bytes, value->bytes});
    }
    return parts;
}

}  // namespace coalesce
