// SPDX-License-Identifier: MIT
// The store of bytes that are only appended: heap, then a file (SPEC F9).
#include <coalesce/io/store.h>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <random>
#include <string>

#include "../catch.h"
#include "../not_tried.h"
#include "../scratch.h"
#include "blocks.h"

using namespace coalesce;

namespace {

std::string read_back(const Store& store, std::uint64_t from, std::uint64_t to) {
    std::string bytes(static_cast<std::size_t>(to - from), '\0');
    REQUIRE(store.read(from, bytes));
    return bytes;
}

// By extents, as a writer walks it.
std::string walked(const Store& store, std::uint64_t from) {
    std::string bytes;
    while (from < store.size()) {
        const Extent extent = store.extent(from, store.size() - from);
        REQUIRE(extent.length > 0);
        if (extent.file < 0) {
            REQUIRE(extent.bytes.size() == extent.length);
            bytes += extent.bytes;
        } else {
            std::string part(static_cast<std::size_t>(extent.length), '\0');
            REQUIRE(::pread(extent.file, part.data(), part.size(), static_cast<off_t>(extent.offset)) ==
                    static_cast<ssize_t>(part.size()));
            bytes += part;
        }
        from += extent.length;
    }
    return bytes;
}

// For a block: no file of ours may grow past so much.
class FileSizeLimit {
  public:
    explicit FileSizeLimit(rlim_t bytes) {
        ::signal(SIGXFSZ, SIG_IGN);
        ::getrlimit(RLIMIT_FSIZE, &before_);
        const rlimit limit{bytes, before_.rlim_max};
        REQUIRE(::setrlimit(RLIMIT_FSIZE, &limit) == 0);
    }
    ~FileSizeLimit() { ::setrlimit(RLIMIT_FSIZE, &before_); }

  private:
    rlimit before_{};
};

}  // namespace

TEST_CASE("F9: random appends read back as a plain string would, on the heap, in a memfd and in a directory",
          "[store]") {
    Scratch scratch;
    const unsigned seed = std::random_device{}();
    INFO("seed " << seed);
    std::mt19937 random(seed);
    for (int round = 0; round < 60; ++round) {
        const StoreLimits limits{.heap_bytes = round % 5 == 0 ? 0 : random() % 200'000,
                                 .directory = round % 2 == 0 ? std::string() : scratch.path()};
        Store store(limits);
        std::string model;
        for (int append = 0; append < 60; ++append) {
            const std::size_t length = random() % 10 == 0 ? random() % 70'000 : random() % 700;
            std::string bytes(length, '\0');
            for (char& byte : bytes) byte = static_cast<char>(random());
            REQUIRE(store.append(bytes));
            model += bytes;
            REQUIRE(store.size() == model.size());
            if (model.empty()) continue;
            const std::size_t from = random() % model.size();
            const std::size_t to = from + random() % (model.size() - from + 1);
            REQUIRE((read_back(store, from, to) == model.substr(from, to - from)));
            REQUIRE((walked(store, from) == model.substr(from)));
        }
        CHECK((store.file() >= 0) == (model.size() > limits.heap_bytes));
        CHECK(scratch.empty());  // its file has no name
    }
}

TEST_CASE("F9: bytes leave the heap exactly past the limit", "[store]") {
    const StoreLimits limits{.heap_bytes = 1000, .directory = {}};
    Store store(limits);
    REQUIRE(store.append(std::string(1000, 'a')));
    CHECK(store.file() == -1);
    REQUIRE(store.append(std::string("b")));
    CHECK(store.file() >= 0);
    CHECK(read_back(store, 998, 1001) == "aab");
}

TEST_CASE("F9: a store can be moved to its file at once, and once", "[store]") {
    const StoreLimits limits;
    Store store(limits);
    REQUIRE(store.append(std::string("before")));
    REQUIRE(store.move_to_file());
    const int file = store.file();
    REQUIRE(store.move_to_file());
    CHECK(store.file() == file);
    REQUIRE(store.append(std::string(" after")));
    CHECK(read_back(store, 0, 12) == "before after");
}

TEST_CASE("F9: a refused append keeps what was there and takes no more", "[store]") {
    Scratch scratch;
    SECTION("no room in the file") {
        const StoreLimits limits{.heap_bytes = 10, .directory = scratch.path()};
        Store store(limits);
        REQUIRE(store.append(std::string(6000, 'a')));
        const FileSizeLimit full(8192);
        const auto refused = store.append(std::string(6000, 'b'));
        REQUIRE_FALSE(refused);
        CHECK(refused.error().code == std::errc::file_too_large);
        CHECK(refused.error().doing == "keep the output in " + scratch.path());
        CHECK(store.size() == 6000);
        CHECK((read_back(store, 0, 6000) == std::string(6000, 'a')));
        const auto again = store.append(std::string("b"));
        REQUIRE_FALSE(again);
        CHECK(store.size() == 6000);
    }
    SECTION("no room when the heap moves to the file") {
        const StoreLimits limits{.heap_bytes = 10'000, .directory = scratch.path()};
        Store store(limits);
        REQUIRE(store.append(std::string(9000, 'a')));
        const FileSizeLimit full(4096);
        REQUIRE_FALSE(store.append(std::string(6000, 'b')));
        CHECK(store.size() == 9000);
        CHECK(store.file() == -1);
        CHECK((read_back(store, 0, 9000) == std::string(9000, 'a')));
        REQUIRE_FALSE(store.append(std::string("b")));
        CHECK(store.size() == 9000);
    }
    SECTION("no such directory") {
        const StoreLimits limits{.heap_bytes = 4, .directory = scratch.path("missing")};
        Store store(limits);
        REQUIRE(store.append(std::string("abc")));
        const auto refused = store.append(std::string("def"));
        REQUIRE_FALSE(refused);
        CHECK(refused.error().message() ==
              "make a file for the output in " + scratch.path("missing") + ": No such file or directory");
        CHECK(read_back(store, 0, 3) == "abc");
    }
    SECTION("no descriptors") {
        const StoreLimits limits{.heap_bytes = 0, .directory = {}};
        Store store(limits);
        rlimit before{};
        ::getrlimit(RLIMIT_NOFILE, &before);
        const rlimit none{0, before.rlim_max};
        REQUIRE(::setrlimit(RLIMIT_NOFILE, &none) == 0);
        const auto refused = store.append(std::string("abc"));
        ::setrlimit(RLIMIT_NOFILE, &before);
        REQUIRE_FALSE(refused);
        CHECK(refused.error().code == std::errc::too_many_files_open);
        CHECK(store.size() == 0);
    }
}

TEST_CASE("F9: released space goes back to the system, and what is behind it stays", "[store]") {
    Scratch scratch;
    for (const std::string& directory : {std::string(), scratch.path()}) {
        const StoreLimits limits{.heap_bytes = 0, .directory = directory};
        Store store(limits);
        for (int i = 0; i < 100; ++i) REQUIRE(store.append(std::string(10'000, static_cast<char>('a' + i % 26))));
        const std::uint64_t before = test::blocks_of(store.file());
        store.release_before(900'001);
        if (directory.empty()) CHECK(test::blocks_of(store.file()) < before / 5);  // a file system may not know holes
        CHECK((read_back(store, 900'001, 1'000'000).substr(0, 9'999) == std::string(9'999, 'a' + 90 % 26)));
        store.release_before(5);  // no way back
        CHECK(store.size() == 1'000'000);
    }
}

namespace {

// What another user gets who is handed a descriptor and opens it anew, for writing.
int reopened_by_another(int fd) {
    const pid_t child = ::fork();
    if (child == 0) {
        if (::setgid(65534) != 0 || ::setuid(65534) != 0) ::_exit(255);
        const std::string path = "/proc/self/fd/" + std::to_string(fd);
        ::_exit(::open(path.c_str(), O_RDWR) >= 0 ? 0 : errno);
    }
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    return WEXITSTATUS(status);
}

}  // namespace

TEST_CASE("K3, R1: what was handed over can be read whatever the umask, and not be changed by who has it", "[store]") {
    Scratch scratch;
    const mode_t before = ::umask(GENERATE(as<mode_t>(), 022, 0777));
    for (const std::string& directory : {std::string(), scratch.path()}) {
        const StoreLimits limits{.heap_bytes = 10, .directory = directory};
        Store store(limits);
        REQUIRE(store.append(std::string("0123456789abc")));
        auto handed = store.hand_over();
        REQUIRE(handed);
        const int fd = handed->get();
        CHECK(drain(fd) == "0123456789abc");
        CHECK(::pwrite(fd, "x", 1, 0) == -1);
        CHECK(::ftruncate(fd, 0) == -1);
        struct stat info {};
        REQUIRE(::fstat(fd, &info) == 0);
        CHECK((info.st_mode & 0777) == 0400);
        if (::geteuid() == 0)
            CHECK(reopened_by_another(fd) == EACCES);
        else
            not_tried("root is needed to be another user");
        if (directory.empty()) CHECK((::fcntl(fd, F_GET_SEALS) & F_SEAL_SHRINK) != 0);
        REQUIRE(store.append(std::string("def")));  // which we can still write
        CHECK(drain(fd) == "def");
        store.seal();
        CHECK_FALSE((directory.empty() && store.append(std::string("ghi"))));
        constexpr int all = F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
        if (directory.empty()) CHECK((::fcntl(fd, F_GET_SEALS) & all) == all);
        CHECK(scratch.empty());
    }
    ::umask(before);
}

TEST_CASE("S5: bytes that are gone from the file are an error", "[store]") {
    Scratch scratch;
    const StoreLimits limits{.heap_bytes = 0, .directory = scratch.path()};
    Store store(limits);
    REQUIRE(store.append(std::string(1000, 'a')));
    REQUIRE(::ftruncate(store.file(), 500) == 0);
    std::string into(1000, '\0');
    const auto refused = store.read(0, into);
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == std::errc::io_error);
}

TEST_CASE("F9: what is kept in memory counts until it is released, in a directory it does not", "[store]") {
    Scratch scratch;
    MemoryBudget budget(1 << 20);
    const StoreLimits limits{.heap_bytes = 100, .directory = {}, .budget = &budget};
    const StoreLimits elsewhere{.heap_bytes = 100, .directory = scratch.path(), .budget = &budget};
    {
        Store store(limits);
        Store other(elsewhere);
        REQUIRE(store.append(std::string(50, 'a')));
        CHECK(budget.used() == 50);
        REQUIRE(store.append(std::string(100'000, 'a')));
        REQUIRE(other.append(std::string(100'000, 'a')));
        CHECK(budget.used() == 100'050);
        store.release_before(40'960);
        other.release_before(40'960);
        CHECK(budget.used() == 100'050 - 40'960);
    }
    CHECK(budget.used() == 0);
}
