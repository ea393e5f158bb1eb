// SPDX-License-Identifier: MIT
// A directory of the test's own, and pipes: what tests of the rooms need around them.
#pragma once

#include <coalesce/io/descriptor.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>

#include "catch.h"

namespace coalesce {

class Scratch {
  public:
    Scratch() {
        path_ = std::filesystem::temp_directory_path() / "coalesce-room-XXXXXX";
        REQUIRE(::mkdtemp(path_.data()) != nullptr);
    }
    ~Scratch() { std::filesystem::remove_all(path_); }
    Scratch(const Scratch&) = delete;
    Scratch& operator=(const Scratch&) = delete;

    [[nodiscard]] std::string path(const std::string& name = {}) const {
        return name.empty() ? path_ : path_ + "/" + name;
    }
    std::string file(const std::string& name, std::string_view text, mode_t mode = 0644) const {
        std::ofstream(path(name), std::ios::binary) << text;
        REQUIRE(::chmod(path(name).c_str(), mode) == 0);
        return path(name);
    }
    [[nodiscard]] std::string read(const std::string& name) const {
        std::ifstream file(path(name), std::ios::binary);
        return {std::istreambuf_iterator<char>(file), {}};
    }
    [[nodiscard]] bool empty() const { return std::filesystem::is_empty(path_); }

  private:
    std::string path_;
};

struct Pipe {
    Pipe() {
        int ends[2];
        REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
        read_end = Descriptor(ends[0]);
        write_end = Descriptor(ends[1]);
    }
    void write(std::string_view text) const {
        CHECK(::write(write_end.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size()));
    }
    Descriptor read_end;
    Descriptor write_end;
};

/// What a descriptor gives until its end; what it has now, if it is non-blocking.
inline std::string drain(int fd) {
    std::string all;
    std::array<char, 65536> buffer;
    for (ssize_t got; (got = ::read(fd, buffer.data(), buffer.size())) > 0;)
        all.append(buffer.data(), static_cast<std::size_t>(got));
    return all;
}

}  // namespace coalesce
