// SPDX-License-Identifier: MIT
// Lines from a descriptor, without blocking the loop (SPEC B1).
#include <coalesce/batch/line_source.h>

#include <coalesce/io/loop.h>

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <functional>
#include <random>
#include <string>
#include <vector>

#include "../catch.h"
#include "../scratch.h"

using namespace coalesce;

namespace {

// What came, as "number:text", with "!" behind a line that was too long.
class Reader {
  public:
    Reader(int fd, char delimiter, std::size_t most)
        : source(loop, fd, delimiter, most,
                 {[this](const LineSource::Line& line) {
                      lines.push_back(std::to_string(line.number) + ":" + std::string(line.text) +
                                      (line.too_long ? "!" : ""));
                      if (on_line) on_line();
                  },
                  [this](std::optional<Error> why) {
                      ++ends;
                      error = std::move(why);
                  }}) {
        source.resume();
    }
    Loop loop;
    std::vector<std::string> lines;
    int ends = 0;
    std::optional<Error> error;
    std::function<void()> on_line;
    LineSource source;
};

std::vector<std::string> lines_of(const std::string& text, char delimiter = '\n', std::size_t most = 1000) {
    const Descriptor file(::memfd_create("lines", MFD_CLOEXEC));
    REQUIRE(::pwrite(file.get(), text.data(), text.size(), 0) == static_cast<ssize_t>(text.size()));
    Reader reader(file.get(), delimiter, most);
    reader.loop.run();
    CHECK(reader.ends == 1);
    CHECK_FALSE(reader.error);
    return reader.lines;
}

using Lines = std::vector<std::string>;

}  // namespace

TEST_CASE("B1: lines are numbered, and the last needs no delimiter", "[line_source]") {
    CHECK(lines_of("") == Lines{});
    CHECK(lines_of("a") == Lines{"1:a"});
    CHECK(lines_of("a\n") == Lines{"1:a"});
    CHECK(lines_of("a\n\nb") == Lines{"1:a", "2:", "3:b"});
    CHECK(lines_of("\n") == Lines{"1:"});
    CHECK(lines_of(std::string("a\nb\0c\0", 6), '\0') == Lines{"1:a\nb", "2:c"});
}

TEST_CASE("B1: a byte order mark before the first line is not part of it", "[line_source]") {
    CHECK(lines_of("\xEF\xBB\xBF"
                   "a\n\xEF\xBB\xBF"
                   "b\n") == Lines{"1:a",
                                   "2:\xEF\xBB\xBF"
                                   "b"});
    CHECK(lines_of("\xEF\xBB\xBF") == Lines{"1:"});
    CHECK(lines_of("\xEF\xBB") == Lines{"1:\xEF\xBB"});
}

TEST_CASE("B1: a line past the limit is told by its beginning, and the others are read as usual", "[line_source]") {
    const std::string at_limit(1000, 'x');
    CHECK(lines_of(at_limit + "\nb\n") == Lines{"1:" + at_limit, "2:b"});
    const std::string shown = "1:" + std::string(60, 'x') + "!";
    CHECK(lines_of(at_limit + "x\nb\n") == Lines{shown, "2:b"});
    CHECK(lines_of(std::string(1'000'000, 'x') + "\nb") == Lines{shown, "2:b"});
    CHECK(lines_of(std::string(1'000'000, 'x')) == Lines{shown});
    CHECK(lines_of(std::string(70'000, 'x') + "\n" + std::string(70'000, 'y') + "\nz") ==
          Lines{shown, "2:" + std::string(60, 'y') + "!", "3:z"});
}

TEST_CASE("B1: however the input is split into reads, the lines are the same", "[line_source]") {
    const unsigned seed = std::random_device{}();
    INFO("seed " << seed);
    std::mt19937 random(seed);
    for (int round = 0; round < 200; ++round) {
        std::string text;
        Lines wanted;
        const std::size_t most = 1 + random() % 50;
        const auto count = random() % 30;
        for (std::size_t i = 1; i <= count; ++i) {
            const std::string line(random() % 70, static_cast<char>('a' + i % 26));
            text += line + "\n";
            wanted.push_back(std::to_string(i) + ":" + (line.size() > most ? line.substr(0, most) + "!" : line));
        }
        Pipe pipe;
        Reader reader(pipe.read_end.get(), '\n', most);
        std::size_t sent = 0;
        std::function<void()> send = [&] {
            if (sent == text.size()) {
                pipe.write_end.reset();
                return;
            }
            const std::size_t length = std::min<std::size_t>(text.size() - sent, 1 + random() % 40);
            pipe.write(std::string_view(text).substr(sent, length));
            sent += length;
            reader.loop.post([&] { send(); });
        };
        reader.on_line = [&] {
            if (random() % 3 != 0) return;
            reader.source.pause();
            reader.loop.post([&] { reader.source.resume(); });
        };
        reader.loop.post([&] { send(); });
        reader.loop.run();
        // How much of a long line is shown depends on how much had come.
        for (std::string& line : reader.lines) {
            if (!line.ends_with('!')) continue;
            line.pop_back();
            const std::string_view bytes = std::string_view(line).substr(line.find(':') + 1);
            REQUIRE(bytes.find_first_not_of(bytes.front()) == std::string_view::npos);
            line = line.substr(0, line.find(':') + 1 + most) + "!";
        }
        REQUIRE(reader.lines == wanted);
        REQUIRE(reader.ends == 1);
    }
}

TEST_CASE("B1: pause() stops at once, also in the middle of what was read", "[line_source]") {
    Pipe pipe;
    pipe.write("a\nb\nc\nd\n");
    Reader reader(pipe.read_end.get(), '\n', 1000);
    reader.on_line = [&] {
        if (reader.lines.size() == 2) reader.source.pause();
    };
    reader.loop.run();
    CHECK(reader.lines == Lines{"1:a", "2:b"});
    CHECK(reader.ends == 0);
    reader.source.resume();
    pipe.write_end.reset();
    reader.loop.run();
    CHECK(reader.lines == Lines{"1:a", "2:b", "3:c", "4:d"});
    CHECK(reader.ends == 1);
}

// A read that the input has nothing for would block the loop and all that runs on it.
TEST_CASE("B1: after a pause with lines at hand nothing is read that is not there", "[line_source]") {
    Pipe pipe;
    pipe.write("a\nb\nbegun");
    Reader reader(pipe.read_end.get(), '\n', 1000);
    bool turned = false;
    reader.on_line = [&] {
        reader.source.pause();
        reader.loop.post([&] {
            reader.source.resume();
            if (reader.lines.size() == 2)
                reader.loop.post([&] {
                    turned = true;
                    pipe.write(" and ended\n");
                    pipe.write_end.reset();
                });
        });
    };
    reader.loop.run();
    CHECK(turned);
    CHECK(reader.lines == Lines{"1:a", "2:b", "3:begun and ended"});
}

TEST_CASE("B1: stop() ends it without a word", "[line_source]") {
    Pipe pipe;
    pipe.write("a\nb\n");
    Reader reader(pipe.read_end.get(), '\n', 1000);
    reader.on_line = [&] { reader.source.stop(); };
    reader.loop.run();
    reader.source.resume();
    reader.loop.run();
    CHECK(reader.lines == Lines{"1:a"});
    CHECK(reader.ends == 0);
}

TEST_CASE("B1: an error is told after the lines before it, once", "[line_source]") {
    const Descriptor directory(::open("/", O_RDONLY | O_CLOEXEC));
    Reader reader(directory.get(), '\n', 1000);
    reader.loop.run();
    CHECK(reader.ends == 1);
    REQUIRE(reader.error);
    CHECK(reader.error->code == std::errc::is_a_directory);
}
