// SPDX-License-Identifier: MIT
#include <coalesce/cluster/platform.h>

#include <sys/utsname.h>

#include <fstream>

namespace coalesce {
namespace {

// ID=debian, VERSION_ID="12"
std::string value_in_release(const std::string& name) {
    for (const char* path : {"/etc/os-release", "/usr/lib/os-release"}) {
        std::ifstream file(path);
        if (!file) continue;
        for (std::string line; std::getline(file, line);) {
            if (!line.starts_with(name + "=")) continue;
            std::string value = line.substr(name.size() + 1);
            std::erase_if(value, [](char mark) { return mark == '"' || mark == '\''; });
            return value;
        }
        break;
    }
    return "unknown";
}

}  // namespace

std::string own_platform() {
    utsname names{};
    ::uname(&names);
    return std::string(names.sysname) + " " + names.machine + " " + value_in_release("ID") + " " +
           value_in_release("VERSION_ID");
}

}  // namespace coalesce
