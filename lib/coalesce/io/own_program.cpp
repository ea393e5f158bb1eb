// SPDX-License-Identifier: MIT
#include <coalesce/io/own_program.h>

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <utility>

namespace coalesce {
namespace {

bool is_same_file(const struct stat& one, const struct stat& other) {
    return one.st_dev == other.st_dev && one.st_ino == other.st_ino;
}

struct Found {
    std::optional<std::string> other;
    std::optional<std::string> ourselves;  // looked at before it
    int refused = ENOENT;                  // why there is no other
};

Found find(std::string_view word, std::optional<std::string_view> path_variable, std::string_view directory) {
    std::string_view path = path_variable.value_or("/bin:/usr/bin");
    struct stat self {};
    const bool known = ::stat("/proc/self/exe", &self) == 0;
    Found found;
    while (true) {
        const std::size_t end = std::min(path.find(':'), path.size());
        std::string file(path.substr(0, end));
        if (file.empty()) file = ".";  // as execvp(3) reads it
        if (!file.starts_with('/') && !directory.empty()) file.insert(0, std::string(directory) + "/");
        file.append("/").append(word);
        struct stat info {};
        const bool there = ::stat(file.c_str(), &info) == 0;
        if (there && S_ISREG(info.st_mode) && ::access(file.c_str(), X_OK) == 0) {
            const bool is_own = known && is_same_file(info, self);
            (is_own ? found.ourselves : found.other) = std::move(file);
            if (!is_own) return found;
        } else if (there || errno == EACCES) {
            found.refused = EACCES;
        }
        if (end == path.size()) return found;
        path.remove_prefix(end + 1);
    }
}

}  // namespace

bool is_own_program(const std::string& file) {
    struct stat self {};
    struct stat info {};
    return ::stat("/proc/self/exe", &self) == 0 && ::stat(file.c_str(), &info) == 0 && is_same_file(self, info);
}

Result<std::string> find_other_program(std::string_view word) {
    const char* const path = std::getenv("PATH");
    Found found = find(word, path == nullptr ? std::nullopt : std::optional<std::string_view>(path), {});
    if (!found.other) return system_error_of(found.refused, "execute " + std::string(word));
    return *std::move(found.other);
}

std::optional<std::string> find_program_behind_us(std::string_view word, std::optional<std::string_view> path_variable,
                                                  std::string_view directory) {
    Found found = find(word, path_variable, directory);
    return found.other ? std::move(found.other) : std::move(found.ourselves);
}

}  // namespace coalesce
