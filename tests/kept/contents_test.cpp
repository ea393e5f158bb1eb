// SPDX-License-Identifier: MIT
// What is in files, read by several threads (SPEC T9).
#include <coalesce/kept/contents.h>

#include <fcntl.h>

#include <deque>
#include <string>

#include "../scratch.h"

using namespace coalesce;

namespace {

constexpr std::size_t long_enough = 128 << 10;  // of a few such files a tree is large

Checksum of_file(std::string_view text) { return checksum_of("file", bytes_of(digest_of<sizeof(Digest)>(text))); }

std::string text_of(int number) {
    return std::string(long_enough, static_cast<char>('a' + number % 26)) + std::to_string(number);
}

class Reading {
  public:
    explicit Reading(UniqueFunction<bool()> enough = [] { return false; }) : enough_(std::move(enough)) {}

    void file(const std::string& name, std::string_view text) {
        scratch_.file(name, text);
        open(name);
    }
    // Whose content is none: it opens, and cannot be read.
    void directory(const std::string& name) {
        REQUIRE(::mkdir(scratch_.path(name).c_str(), 0700) == 0);
        open(name);
    }
    [[nodiscard]] const Checksum& operator[](std::size_t number) const { return read_[number].state; }

    void open(const std::string& name) {
        Descriptor opened(::open(scratch_.path(name).c_str(), O_RDONLY | O_CLOEXEC));
        REQUIRE(opened);
        read_.push_back({name, {}});
        contents.read(std::move(opened), "file", read_.back().path, read_.back().state);
    }

  private:
    struct Read {
        std::string path;
        Checksum state;
    };
    Scratch scratch_;
    UniqueFunction<bool()> enough_;
    std::deque<Read> read_;

  public:
    Contents contents{enough_, 4};
};

}  // namespace

TEST_CASE("T9: what several threads read is what is in each file", "[kept]") {
    constexpr int files = 100;
    Reading reading;
    reading.file("empty", "");
    for (int i = 1; i < files; ++i) reading.file(std::to_string(i), text_of(i));
    CHECK(reading.contents.finish());
    CHECK_FALSE(reading.contents.stopped());
    CHECK(reading[0] == of_file(""));
    for (int i = 1; i < files; ++i) CHECK(reading[static_cast<std::size_t>(i)] == of_file(text_of(i)));
}

TEST_CASE("T9: after the end a file is read at once", "[kept]") {
    Reading reading;
    for (int i = 0; i < 8; ++i) reading.file(std::to_string(i), text_of(i));
    CHECK(reading.contents.finish());
    reading.file("late", "late");
    CHECK(reading[8] == of_file("late"));
    CHECK(reading.contents.finish());
}

TEST_CASE("T9: of the files that cannot be read the first is named", "[kept]") {
    Reading reading;
    for (int i = 0; i < 8; ++i) reading.file(std::to_string(i), text_of(i));
    for (int i = 0; i < 8; ++i) reading.directory("unreadable " + std::to_string(i));
    const Result<> finished = reading.contents.finish();
    REQUIRE_FALSE(finished);
    CHECK(finished.error().message() == "read unreadable 0: Is a directory");
}

TEST_CASE("T13: once it is enough no thread goes on", "[kept]") {
    int asked = 0;
    Reading reading([&asked] { return ++asked > 12; });
    for (int i = 0; i < 100 && !reading.contents.stopped(); ++i) reading.file(std::to_string(i), text_of(i));
    CHECK(reading.contents.stopped());
    CHECK(asked == 13);
    CHECK(reading.contents.finish());
}

TEST_CASE("T13: who does not wait for the end gives it up", "[kept]") {
    Reading reading;
    for (int i = 0; i < 20; ++i) reading.file(std::to_string(i), text_of(i));
}
