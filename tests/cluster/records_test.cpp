// SPDX-License-Identifier: MIT
#include <coalesce/cluster/records.h>

#include <unistd.h>

#include <string>

#include "../catch.h"

using namespace coalesce;
using namespace std::chrono_literals;

namespace {

// The pieces of a chunk; "none" if it is none.
std::string pieces_of(std::string_view text, std::uint64_t offset) {
    std::string all;
    const auto length = read_chunk(text, offset, [&](Stream stream, std::string_view bytes) {
        all += (stream == Stream::out ? "out:" : "err:") + std::string(bytes) + ";";
    });
    return length ? all + std::to_string(*length) : "none" + all;
}

}  // namespace

TEST_CASE("F3: a chunk gives back its pieces, for its offset only", "[cluster]") {
    ChunkText chunk(7);
    CHECK(chunk.empty());
    CHECK(chunk.add(Stream::out, "abc") == 3);
    CHECK(chunk.add(Stream::err, std::string_view("\0", 1)) == 1);
    const std::string text = std::move(chunk).take();
    CHECK(pieces_of(text, 7) == std::string("out:abc;err:") + '\0' + ";4");
    CHECK(pieces_of(text, 6) == "none");
    for (std::size_t length = 0; length < text.size(); ++length)
        CHECK(pieces_of(text.substr(0, length), 7) != pieces_of(text, 7));
    CHECK(pieces_of(text + "x", 7) == "none");  // nothing of it
}

TEST_CASE("a chunk takes what there is room for, and not a byte more", "[cluster]") {
    ChunkText chunk(0);
    const std::string much(100'000, 'x');
    const std::size_t taken = chunk.add(Stream::out, much);
    CHECK(taken > 64'000);
    CHECK(chunk.full());
    CHECK(chunk.add(Stream::out, "y") == 0);
    CHECK(std::move(chunk).take().size() <= chunk_text_max);
}

TEST_CASE("an end and an info are read as they were written, and nothing else is", "[cluster]") {
    EndRecord end{.outcome = Outcome::signalled(9, true),
                  .sizes = {3, 1ULL << 40},
                  .attempts = 2,
                  .duration = 1500ms,
                  .for_all = true};
    end.outcome.reason = "a\nb";
    CHECK(EndRecord::of(end.text()) == end);
    const std::string text = end.text();
    for (std::size_t length = 0; length < text.size(); ++length)
        CHECK((!EndRecord::of(text.substr(0, length)) || EndRecord::of(text.substr(0, length)) != end));
    CHECK_FALSE(EndRecord::of("k1:9"));
    CHECK_FALSE(EndRecord::of(""));
    const RunInfo info = RunInfo::own("host", ::getpid(), "make docs", "abcd");
    CHECK(RunInfo::of(info.text()) == info);
    CHECK_FALSE(RunInfo::of("p1:x"));
}

TEST_CASE("M32: who is alive, or may be, is not taken for dead", "[cluster]") {
    RunInfo info = RunInfo::own(own_host(), ::getpid(), "x", "");
    CHECK_FALSE(info.dead_here());
    info.leader.started_ms -= 10;   // the number is another's now
    CHECK_FALSE(info.dead_here());  // but its guard is there
    info.guard.started_ms -= 10;
    CHECK(info.dead_here());
    RunInfo elsewhere = info;
    elsewhere.boot = "another";
    CHECK_FALSE(elsewhere.dead_here());
    elsewhere = info;
    elsewhere.pid_namespace = "pid:[1]";
    CHECK_FALSE(elsewhere.dead_here());
    elsewhere = info;
    elsewhere.host += "-2";  // which goes on from the same image of memory
    CHECK_FALSE(elsewhere.dead_here());
}
