// SPDX-License-Identifier: MIT
#include <coalesce/kept/store_place.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <system_error>

#include <coalesce/command/command.h>
#include <coalesce/command/identity.h>
#include <coalesce/io/directory.h>
#include <coalesce/kept/digest.h>
#include <coalesce/kept/moment.h>

namespace coalesce {
namespace {

constexpr std::string_view format = "1";
constexpr std::int64_t abandoned_after_seconds = 30 * 86'400;

std::string short_name(std::string_view bytes) { return hexadecimal(digest_of<sizeof(Checksum)>(bytes)).substr(0, 8); }

std::string host_name() {
    utsname name{};
    ::uname(&name);
    return short_name(name.nodename);
}

std::string boot_name() {
    const BootId& boot = own_boot();
    return short_name({reinterpret_cast<const char*>(boot.data()), boot.size()});
}

// "1@HOST-BOOT-": what the stores of this machine and boot begin with.
std::string machine_prefix() { return std::string(format) + "@" + host_name() + "-"; }
std::string boot_prefix() { return machine_prefix() + boot_name() + "-"; }

// Whether a directory may be made in there: one of ours, or one like /tmp where everybody makes
// his own. As root below a user's home it may not: the user could neither read nor remove it.
bool may_hold_ours(const struct stat& parent) {
    if (parent.st_uid == ::geteuid()) return true;
    return (parent.st_mode & S_ISVTX) != 0 && (parent.st_mode & S_IWOTH) != 0;
}

void remove_store(int base, const char* name) noexcept {
    Directory store(base, name, O_NOFOLLOW);
    while (const char* const file = store.next()) ::unlinkat(store.fd(), file, 0);
    ::unlinkat(base, name, AT_REMOVEDIR);
}

}  // namespace

std::string namespaces_in(std::string_view identity) {
    std::string namespaces;
    for (const IdentityPart& part : parts_of_identity(identity).value_or(std::vector<IdentityPart>()))
        if (part.name.starts_with("namespace"))
            namespaces += std::string(part.name) + "=" + std::string(part.value) + " ";
    return namespaces;
}

StorePlace store_place(std::string_view named, const std::vector<std::string>& env, std::string_view namespaces) {
    if (named.empty()) named = env_value(env, "COALESCE_CACHE_DIR").value_or("");
    if (!named.empty()) {
        // Who joins from elsewhere is to find it, too.
        std::error_code nowhere;
        auto base = std::filesystem::absolute(named, nowhere);
        return {.base = nowhere ? std::string(named) : base.string(), .name = std::string(format), .shared = true};
    }
    StorePlace place{.base = {}, .name = boot_prefix() + short_name(namespaces), .shared = false};
    const std::string_view cache = env_value(env, "XDG_CACHE_HOME").value_or("");
    const std::string_view home = env_value(env, "HOME").value_or("");
    if (cache.starts_with('/'))
        place.base = std::string(cache) + "/coalesce";
    else if (home.starts_with('/'))
        place.base = std::string(home) + "/.cache/coalesce";
    else
        place.base = "/var/tmp/coalesce-" + std::to_string(::geteuid());
    return place;
}

Result<> make_directories(const std::string& path) {
    struct stat info {};
    if (::stat(path.c_str(), &info) == 0 || path == "/" || path.empty()) return {};
    const std::size_t slash = path.find_last_of('/');
    const std::string parent = slash == 0 ? "/" : slash == std::string::npos ? "." : path.substr(0, slash);
    if (auto made = make_directories(parent); !made) return made;
    if (::stat(parent.c_str(), &info) != 0) return system_error_now("make " + path);
    if (!may_hold_ours(info)) return system_error_of(EPERM, "make " + path + " in another user's directory");
    if (::mkdir(path.c_str(), 0700) == 0) {
        ::chmod(path.c_str(), 0700);  // a umask may have closed it even to its owner
        return {};
    }
    return errno == EEXIST ? Result<>() : system_error_now("make " + path);
}

Result<std::optional<Descriptor>> open_store(const StorePlace& place, bool make) {
    const std::string path = place.path();
    constexpr int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
    Descriptor directory(::open(path.c_str(), flags));
    if (!directory && errno == ENOENT) {
        if (!make) return std::optional<Descriptor>();
        if (auto made = make_directories(path); !made) return made.error();
        directory = Descriptor(::open(path.c_str(), flags));
    }
    if (!directory) return system_error_now("open " + path);
    struct stat info {};
    if (::fstat(directory.get(), &info) != 0) return system_error_now("look at " + path);
    if (info.st_uid != ::geteuid()) return system_error_of(EPERM, "use " + path + ", which is another user's");
    if ((info.st_mode & 07777) != 0700) return system_error_of(EPERM, "use " + path + ", whose mode is not 0700");
    return std::optional<Descriptor>(std::move(directory));
}

void remove_stores_of_other_boots(const StorePlace& place) noexcept {
    if (place.shared) return;
    Directory stores(AT_FDCWD, place.base.c_str());
    const std::string ours = boot_prefix();
    const std::string this_machine = machine_prefix();
    const std::time_t now = ::time(nullptr);
    while (const char* const file = stores.next()) {
        const std::string_view name = file;
        if (!name.starts_with(std::string(format) + "@") || name.starts_with(ours)) continue;
        struct stat info {};
        if (::fstatat(stores.fd(), file, &info, AT_SYMLINK_NOFOLLOW) != 0) continue;
        if (name.starts_with(this_machine) || now - info.st_mtime > abandoned_after_seconds)
            remove_store(stores.fd(), file);
    }
}

}  // namespace coalesce
