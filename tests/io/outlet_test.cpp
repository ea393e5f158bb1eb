// The outlet: what is written arrives, whoever reads how slowly, and a shared
// descriptor keeps its flags.

#include <coalesce/io/loop.h>
#include <coalesce/io/outlet.h>

#include <catch2/catch.hpp>

#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>

using namespace coalesce;

namespace {

// Writes all of `text`, reading on the other side only when the outlet is full.
std::string through(Outlet& outlet, Loop& loop, int reader, const std::string& text) {
    std::string arrived;
    std::size_t done = 0;
    bool refused = false;
    UniqueFunction<void()> push;
    ::fcntl(reader, F_SETFL, ::fcntl(reader, F_GETFL) | O_NONBLOCK);  // an open file of its own
    const auto drain = [&] {
        char block[65536];
        ssize_t got = 0;
        while ((got = ::read(reader, block, sizeof block)) > 0) arrived.append(block, static_cast<std::size_t>(got));
    };
    push = [&] {
        while (done < text.size()) {
            const auto wrote = outlet.write(std::string_view(text).substr(done));
            if (!wrote) {
                refused = true;
                return;
            }
            if (wrote.value() == 0) {
                drain();
                outlet.wait([&] { push(); });
                return;
            }
            done += wrote.value();
        }
    };
    push();
    loop.run();
    while (arrived.size() < done) drain();
    CHECK_FALSE(refused);
    return arrived;
}

std::string pattern(std::size_t length) {
    std::string text(length, '\0');
    for (std::size_t i = 0; i < length; ++i) text[i] = static_cast<char>(i * 31 >> 3);
    return text;
}

}  // namespace

TEST_CASE("R3: a full pipe does not block the loop, and its flags stay as they were", "[outlet]") {
    int ends[2];
    REQUIRE(::pipe(ends) == 0);
    Loop loop;
    {
        Outlet outlet(loop, ends[1], "the pipe");
        const std::string text = pattern(1'000'000);
        CHECK(through(outlet, loop, ends[0], text) == text);
        CHECK((::fcntl(ends[1], F_GETFL) & O_NONBLOCK) == 0);
    }
    ::close(ends[0]);
    ::close(ends[1]);
}

TEST_CASE("R3: a socket is written without blocking too", "[outlet]") {
    int ends[2];
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
    Loop loop;
    {
        Outlet outlet(loop, ends[1], "the socket");
        const std::string text = pattern(1'000'000);
        CHECK(through(outlet, loop, ends[0], text) == text);
        CHECK((::fcntl(ends[1], F_GETFL) & O_NONBLOCK) == 0);
    }
    ::close(ends[0]);
    ::close(ends[1]);
}

TEST_CASE("R3: a reader that went away, and a full disk, are errors that name the outlet", "[outlet]") {
    ::signal(SIGPIPE, SIG_IGN);
    int ends[2];
    REQUIRE(::pipe(ends) == 0);
    Loop loop;
    Outlet broken(loop, ends[1], "standard output");
    ::close(ends[0]);
    const auto gone = broken.write("x");
    REQUIRE_FALSE(gone);
    CHECK(gone.error().code == std::errc::broken_pipe);
    ::close(ends[1]);

    const int full = ::open("/dev/full", O_WRONLY);
    Outlet disk(loop, full, "the file");
    const auto refused = disk.write("x");
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == std::errc::no_space_on_device);
    CHECK(refused.error().message().find("the file") != std::string::npos);
    ::close(full);
}

TEST_CASE("F9: an extent of a file goes to a file opened for appending, where sendfile cannot", "[outlet]") {
    char source_path[] = "/tmp/coalesce-outlet-XXXXXX";
    char target_path[] = "/tmp/coalesce-outlet-XXXXXX";
    const int source = ::mkstemp(source_path);
    const int made = ::mkstemp(target_path);
    const int target = ::open(target_path, O_WRONLY | O_APPEND);
    const std::string text = pattern(200'000);
    REQUIRE(::write(source, text.data(), text.size()) == static_cast<ssize_t>(text.size()));
    Loop loop;
    Outlet outlet(loop, target, "the log");
    Extent extent{.bytes = {}, .file = source, .offset = 0, .length = text.size()};
    while (extent.length > 0) {
        const auto wrote = outlet.write(extent);
        REQUIRE(wrote);
        extent.offset += wrote.value();
        extent.length -= wrote.value();
    }
    std::string copy(text.size(), '\0');
    CHECK(::pread(made, copy.data(), copy.size(), 0) == static_cast<ssize_t>(copy.size()));
    CHECK(copy == text);
    for (const int fd : {source, made, target}) ::close(fd);
    ::unlink(source_path);
    ::unlink(target_path);
}
