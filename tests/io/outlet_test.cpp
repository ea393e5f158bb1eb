// SPDX-License-Identifier: MIT
// Writing to descriptors that others share: all bytes, without blocking, and without
// touching what they share (SPEC B2).
#include <coalesce/io/outlet.h>

#include <coalesce/io/loop.h>

#include <pty.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include <csignal>
#include <functional>
#include <string>

#include "../catch.h"
#include "../scratch.h"

using namespace coalesce;

namespace {

std::string pattern(std::size_t length) {
    std::string bytes(length, '\0');
    for (std::size_t i = 0; i < length; ++i) bytes[i] = static_cast<char>(i * 2654435761U >> 13);
    return bytes;
}

// The same bytes, in memory or in a file.
struct Source {
    explicit Source(std::size_t length, bool in_file) : bytes(pattern(length)) {
        if (!in_file) return;
        file = Descriptor(::memfd_create("source", MFD_CLOEXEC));
        REQUIRE(::pwrite(file.get(), bytes.data(), bytes.size(), 0) == static_cast<ssize_t>(bytes.size()));
    }
    [[nodiscard]] Extent from(std::size_t at) const {
        if (file) return {.bytes = {}, .file = file.get(), .offset = at, .length = bytes.size() - at};
        return {.bytes = std::string_view(bytes).substr(at), .file = -1, .offset = 0, .length = bytes.size() - at};
    }
    std::string bytes;
    Descriptor file;
};

// Writes all of it; `read_more` is what the other side does whenever nothing fits.
void write_all(Loop& loop, Outlet& outlet, const Source& source, const std::function<void()>& read_more) {
    std::size_t done = 0;
    std::string failed;
    bool was_refused = false;
    std::function<void()> go_on = [&] {
        while (done < source.bytes.size()) {
            const auto wrote = outlet.write(source.from(done));
            if (!wrote) {
                was_refused = true;
                failed = wrote.error().message();
                return;
            }
            if (wrote.value() == 0) {
                outlet.wait([&] { go_on(); });
                return read_more();
            }
            done += wrote.value();
        }
    };
    loop.post([&] { go_on(); });
    loop.run();
    INFO(failed);
    CHECK_FALSE(was_refused);
    CHECK(done == source.bytes.size());
}

}  // namespace

TEST_CASE("B2: all bytes reach a pipe, a socket, a file and a terminal, from memory and from a file", "[outlet]") {
    for (const bool in_file : {false, true}) {
        Loop loop;
        const Source source(1'500'000, in_file);
        std::string seen;
        SECTION(std::string("a pipe ") + (in_file ? "from a file" : "from memory")) {
            Pipe pipe;
            Outlet outlet(loop, pipe.write_end.get(), "it");
            ::fcntl(pipe.read_end.get(), F_SETFL, O_NONBLOCK);
            write_all(loop, outlet, source, [&] { seen += drain(pipe.read_end.get()); });
            seen += drain(pipe.read_end.get());
            CHECK((seen == source.bytes));
            CHECK((::fcntl(pipe.write_end.get(), F_GETFL) & O_NONBLOCK) == 0);
        }
        SECTION(std::string("a socket ") + (in_file ? "from a file" : "from memory")) {
            int ends[2];
            REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
            const Descriptor ours(ends[0]);
            const Descriptor theirs(ends[1]);
            Outlet outlet(loop, theirs.get(), "it");
            ::fcntl(ours.get(), F_SETFL, O_NONBLOCK);
            write_all(loop, outlet, source, [&] { seen += drain(ours.get()); });
            seen += drain(ours.get());
            CHECK((seen == source.bytes));
            CHECK((::fcntl(theirs.get(), F_GETFL) & O_NONBLOCK) == 0);
        }
        SECTION(std::string("a file ") + (in_file ? "from a file" : "from memory")) {
            Scratch scratch;
            for (const int flags : {O_WRONLY, O_WRONLY | O_APPEND, O_RDWR}) {
                const Descriptor file(::open(scratch.file("out", "").c_str(), flags | O_CLOEXEC));
                Outlet outlet(loop, file.get(), "it");
                write_all(loop, outlet, source, [] {});
                const Descriptor again(::open(scratch.path("out").c_str(), O_RDONLY | O_CLOEXEC));
                CHECK((drain(again.get()) == source.bytes));
            }
        }
        SECTION(std::string("a terminal ") + (in_file ? "from a file" : "from memory")) {
            int master = -1;
            int slave = -1;
            termios raw{};
            ::cfmakeraw(&raw);
            REQUIRE(::openpty(&master, &slave, nullptr, &raw, nullptr) == 0);
            const Descriptor ours(master);
            const Descriptor theirs(slave);
            Outlet outlet(loop, theirs.get(), "it");
            ::fcntl(ours.get(), F_SETFL, O_NONBLOCK);
            const Source little(100'000, in_file);
            write_all(loop, outlet, little, [&] { seen += drain(ours.get()); });
            while (seen.size() < little.bytes.size()) seen += drain(ours.get());
            CHECK((seen == little.bytes));
            CHECK((::fcntl(theirs.get(), F_GETFL) & O_NONBLOCK) == 0);
        }
    }
}

TEST_CASE("B2: a full pipe is said to be full, and does not block", "[outlet]") {
    Loop loop;
    Pipe pipe;
    Outlet outlet(loop, pipe.write_end.get(), "it");
    const Source source(10'000'000, false);
    std::size_t done = 0;
    for (;;) {
        const auto wrote = outlet.write(source.from(done));
        REQUIRE(wrote);
        if (wrote.value() == 0) break;
        done += wrote.value();
    }
    CHECK(done < 2'000'000);
}

TEST_CASE("B2: a refusal names the outlet and says why", "[outlet]") {
    ::signal(SIGPIPE, SIG_IGN);
    Loop loop;
    SECTION("nobody reads") {
        Pipe pipe;
        Outlet outlet(loop, pipe.write_end.get(), "standard output");
        pipe.read_end.reset();
        const auto wrote = outlet.write(std::string_view("x"));
        REQUIRE_FALSE(wrote);
        CHECK(wrote.error().code == std::errc::broken_pipe);
        CHECK(wrote.error().message() == "write to standard output: Broken pipe");
    }
    SECTION("nobody reads, from a file") {
        Pipe pipe;
        Outlet outlet(loop, pipe.write_end.get(), "standard output");
        pipe.read_end.reset();
        const auto wrote = outlet.write(Source(100, true).from(0));
        REQUIRE_FALSE(wrote);
        CHECK(wrote.error().code == std::errc::broken_pipe);
    }
    SECTION("no socket at the other end") {
        int ends[2];
        REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
        Descriptor ours(ends[0]);
        const Descriptor theirs(ends[1]);
        Outlet outlet(loop, theirs.get(), "it");
        ours.reset();
        const auto wrote = outlet.write(std::string_view("x"));
        REQUIRE_FALSE(wrote);
        CHECK(wrote.error().code == std::errc::broken_pipe);
    }
    SECTION("a full device") {
        const Descriptor full(::open("/dev/full", O_WRONLY | O_CLOEXEC));
        Outlet outlet(loop, full.get(), "it");
        const auto wrote = outlet.write(std::string_view("x"));
        REQUIRE_FALSE(wrote);
        CHECK(wrote.error().code == std::errc::no_space_on_device);
        REQUIRE_FALSE(outlet.write(Source(100, true).from(0)));
    }
    SECTION("a descriptor that is no descriptor") {
        Outlet outlet(loop, 987, "it");
        const auto wrote = outlet.write(std::string_view("x"));
        REQUIRE_FALSE(wrote);
        CHECK(wrote.error().code == std::errc::bad_file_descriptor);
    }
    SECTION("one that can only be read") {
        const Descriptor null(::open("/dev/null", O_RDONLY | O_CLOEXEC));
        Outlet outlet(loop, null.get(), "it");
        REQUIRE_FALSE(outlet.write(std::string_view("x")));
    }
}

TEST_CASE("B2: who waits is called once a wait", "[outlet]") {
    Loop loop;
    Pipe pipe;
    Outlet outlet(loop, pipe.write_end.get(), "it");
    int calls = 0;
    loop.post([&] {
        outlet.wait([&] {
            ++calls;
            outlet.wait([&] { ++calls; });
        });
    });
    loop.run();
    CHECK(calls == 2);
}

TEST_CASE("B2: a file is written where it stands, together with others who share it", "[outlet]") {
    Loop loop;
    Scratch scratch;
    const Descriptor file(::open(scratch.file("out", "").c_str(), O_WRONLY | O_CLOEXEC));
    Outlet outlet(loop, file.get(), "it");
    REQUIRE(::write(file.get(), "before ", 7) == 7);
    write_all(loop, outlet, Source(5000, true), [] {});
    REQUIRE(::write(file.get(), " after", 6) == 6);
    const Descriptor again(::open(scratch.path("out").c_str(), O_RDONLY | O_CLOEXEC));
    CHECK((drain(again.get()) == "before " + pattern(5000) + " after"));
}

TEST_CASE("S5: bytes that are gone from a file are an error, whatever it is written to", "[outlet]") {
    Loop loop;
    Scratch scratch;
    const Source source(1000, true);
    REQUIRE(::ftruncate(source.file.get(), 0) == 0);
    const Pipe pipe;
    const Descriptor file(::open(scratch.file("to", "").c_str(), O_WRONLY | O_CLOEXEC));
    for (const int to : {pipe.write_end.get(), file.get()}) {
        Outlet outlet(loop, to, "output");
        const auto wrote = outlet.write(source.from(0));
        REQUIRE_FALSE(wrote);
        CHECK(wrote.error().code == std::errc::io_error);
    }
}
