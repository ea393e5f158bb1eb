// SPDX-License-Identifier: MIT
#include <coalesce/client/server_place.h>

#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>

namespace coalesce {
namespace {

std::string variable(const char* name) {
    const char* const value = std::getenv(name);
    return value == nullptr ? "" : value;
}

bool is_there(const std::string& path) { return ::access(path.c_str(), F_OK) == 0; }

bool belongs_to_us(const std::string& directory) {
    struct stat facts {};
    return ::lstat(directory.c_str(), &facts) == 0 && facts.st_uid == ::geteuid();
}

}  // namespace

std::string server_place() {
    if (std::string named = variable("COALESCE_SOCKET"); !named.empty()) return named;
    if (const std::string place = variable("COALESCE_PLACE"); !place.empty()) return place + "/server.sock";
    const std::string uid = std::to_string(::geteuid());
    const std::string runtime = variable("XDG_RUNTIME_DIR");  // another's, as sudo leaves it, is none
    const bool is_ours = runtime.starts_with('/') && belongs_to_us(runtime + "/.");
    std::string own = (is_ours ? runtime : "/run/user/" + uid) + "/coalesce/server.sock";
    const std::string shared = "/tmp/coalesce-" + uid;  // anybody may have made it
    std::string other = shared + "/server.sock";
    return !is_there(own) && is_there(other) && belongs_to_us(shared) ? other : own;
}

}  // namespace coalesce
