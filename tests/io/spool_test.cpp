// SPDX-License-Identifier: MIT
// The spool: two streams in the order in which they were read, and readers that each
// go their own pace (SPEC F3, F9).
#include <coalesce/io/spool.h>

#include <sys/resource.h>

#include <array>
#include <csignal>
#include <memory>
#include <random>
#include <string>

#include "../catch.h"
#include "../scratch.h"
#include "blocks.h"

using namespace coalesce;

namespace {

// What a reader has seen: both streams, and the order between them as "oo e o".
struct Seen {
    std::array<std::string, 2> streams;
    std::string order;
    bool operator==(const Seen&) const = default;
};

void note(Seen& seen, Stream stream, std::string_view bytes) {
    seen.streams[index_of(stream)] += bytes;
    seen.order.append(bytes.size(), stream == Stream::out ? 'o' : 'e');
}

std::string bytes_of(const Extent& extent) {
    if (extent.file < 0) return std::string(extent.bytes);
    std::string bytes(static_cast<std::size_t>(extent.length), '\0');
    REQUIRE(::pread(extent.file, bytes.data(), bytes.size(), static_cast<off_t>(extent.offset)) ==
            static_cast<ssize_t>(bytes.size()));
    return bytes;
}

// Takes at most `most` bytes; false when there was nothing.
bool read_some(SpoolReader& reader, Seen& seen, std::uint64_t most = ~std::uint64_t{0}) {
    const auto piece = reader.next();
    if (!piece) return false;
    const std::uint64_t length = std::min<std::uint64_t>(piece->extent.length, most);
    note(seen, piece->stream, bytes_of(piece->extent).substr(0, static_cast<std::size_t>(length)));
    reader.advance(length);
    return true;
}

Seen read_all(Spool& spool) {
    SpoolReader reader(spool);
    Seen seen;
    while (read_some(reader, seen)) {
    }
    return seen;
}

}  // namespace

TEST_CASE("F3: any number of readers replay exactly what was appended, whenever they join", "[spool]") {
    Scratch scratch;
    const unsigned seed = std::random_device{}();
    INFO("seed " << seed);
    std::mt19937 random(seed);
    for (int round = 0; round < 40; ++round) {
        SpoolLimits limits;
        limits.store.heap_bytes = random() % 30'000;
        if (round % 3 == 0) limits.store.directory = scratch.path();
        Spool spool(limits);
        Seen model;
        std::vector<std::unique_ptr<SpoolReader>> readers;
        std::vector<Seen> seen;
        for (int step = 0; step < 300; ++step) {
            const auto choice = random() % 10;
            if (choice < 4) {
                const Stream stream = random() % 2 == 0 ? Stream::out : Stream::err;
                std::string bytes(random() % 20 == 0 ? random() % 3000 : random() % 40, '\0');
                for (char& byte : bytes) byte = static_cast<char>(random());
                REQUIRE(spool.append(stream, bytes));
                note(model, stream, bytes);
            } else if (choice == 4 && readers.size() < 8) {
                readers.push_back(std::make_unique<SpoolReader>(spool));
                seen.emplace_back();
            } else if (!readers.empty()) {
                const std::size_t which = random() % readers.size();
                read_some(*readers[which], seen[which], 1 + random() % 600);
                CHECK_FALSE(readers[which]->finished());
            }
        }
        spool.close();
        for (std::size_t i = 0; i < readers.size(); ++i) {
            while (read_some(*readers[i], seen[i], 1 + random() % 900)) {
            }
            CHECK(readers[i]->finished());
            CHECK((seen[i] == model));
        }
        CHECK((read_all(spool) == model));
        CHECK(spool.size() == model.order.size());
        CHECK(spool.size(Stream::out) == model.streams[0].size());
        CHECK(spool.size(Stream::err) == model.streams[1].size());
        CHECK(spool.whole());
    }
}

TEST_CASE("F3: next() says the same until advance()", "[spool]") {
    const SpoolLimits limits;
    Spool spool(limits);
    SpoolReader reader(spool);
    CHECK_FALSE(reader.next());
    REQUIRE(spool.append(Stream::err, std::string("abc")));
    CHECK(bytes_of(reader.next()->extent) == "abc");
    CHECK(bytes_of(reader.next()->extent) == "abc");
    reader.advance(1);
    CHECK(bytes_of(reader.next()->extent) == "bc");
    reader.advance(0);
    CHECK(bytes_of(reader.next()->extent) == "bc");
    REQUIRE(spool.append(Stream::err, std::string("d")));
    REQUIRE(spool.append(Stream::out, std::string("e")));
    CHECK(bytes_of(reader.next()->extent).substr(0, 3) == "bcd");
}

TEST_CASE("F3: an append of nothing is nothing", "[spool]") {
    const SpoolLimits limits;
    Spool spool(limits);
    SpoolReader reader(spool);
    REQUIRE(spool.append(Stream::out, std::string()));
    CHECK_FALSE(reader.next());
    spool.close();
    CHECK(reader.finished());
}

TEST_CASE("F3: readers are told of more, and of the end", "[spool]") {
    const SpoolLimits limits;
    Spool spool(limits);
    int told = 0;
    Seen seen;
    std::unique_ptr<SpoolReader> reader;
    reader = std::make_unique<SpoolReader>(spool, [&] {
        ++told;
        while (read_some(*reader, seen)) {
        }  // reading from inside is fine
    });
    REQUIRE(spool.append(Stream::out, std::string("a")));
    REQUIRE(spool.append(Stream::err, std::string("b")));
    CHECK(told == 2);
    CHECK(seen.order == "oe");
    spool.close();
    CHECK(told == 3);
    CHECK(reader->finished());
}

TEST_CASE("F3: a reader that outlives its spool is at the end", "[spool]") {
    const SpoolLimits limits;
    auto spool = std::make_unique<Spool>(limits);
    REQUIRE(spool->append(Stream::out, std::string("a")));
    SpoolReader reader(*spool);
    spool.reset();
    CHECK(reader.finished());
    CHECK_FALSE(reader.next());
}

TEST_CASE("F9: past the replay limit what all have read is released, and the slowest paces", "[spool]") {
    SpoolLimits limits;
    limits.replay_bytes = 100'000;
    Spool spool(limits);
    int room = 0;
    spool.on_room([&] { ++room; });
    SpoolReader fast(spool);
    SpoolReader slow(spool);
    Seen fast_seen;
    Seen slow_seen;
    Seen model;
    const auto append = [&](std::size_t length, Stream stream) {
        const std::string bytes(length, static_cast<char>('a' + model.order.size() / 7919 % 26));
        REQUIRE(spool.append(stream, bytes));
        note(model, stream, bytes);
    };
    append(100'000, Stream::out);
    CHECK(spool.replayable());  // not past it yet
    append(1, Stream::err);
    CHECK_FALSE(spool.replayable());
    CHECK(spool.whole());
    CHECK(spool.full());
    while (read_some(fast, fast_seen)) {
    }
    CHECK(spool.full());  // the slow one has read nothing
    CHECK(room == 0);
    while (read_some(slow, slow_seen, 10'000)) {
    }
    CHECK(room == 1);
    CHECK_FALSE(spool.full());
    CHECK_FALSE(spool.whole());
    for (int i = 0; i < 300; ++i) {
        append(30'000, i % 2 == 0 ? Stream::out : Stream::err);
        while (read_some(fast, fast_seen)) {
        }
        while (read_some(slow, slow_seen, 7'000)) {
        }
    }
    CHECK((fast_seen == model));
    CHECK((slow_seen == model));
    REQUIRE(spool.file() >= 0);
    CHECK(test::blocks_of(spool.file()) < 2'500'000);  // of nine million
}

TEST_CASE("F9: whatever the limit, a reader that reads on makes room", "[spool]") {
    for (const std::uint64_t limit : {0U, 1U, 2U, 3U, 4095U, 4096U, 65536U}) {
        SpoolLimits limits;
        limits.replay_bytes = limit;
        Spool spool(limits);
        int room = 0;
        spool.on_room([&] { ++room; });
        SpoolReader reader(spool);
        Seen seen;
        for (int i = 0; i < 100; ++i) {
            REQUIRE(spool.append(Stream::out, std::string(limit + 1, 'x')));
            CHECK(spool.full());
            while (read_some(reader, seen, 1 + limit / 3)) {
            }
            CHECK_FALSE(spool.full());
            CHECK(room == i + 1);
        }
        CHECK(seen.order.size() == 100 * (limit + 1));
    }
}

TEST_CASE("F9: the order of streams that alternate byte by byte is released too", "[spool]") {
    SpoolLimits limits;
    limits.store.heap_bytes = 1000;
    limits.replay_bytes = 10'000;
    Spool spool(limits);
    SpoolReader reader(spool);
    SpoolReader behind(spool);  // by thousands of stretches
    Seen seen;
    Seen seen_behind;
    Seen model;
    for (int i = 0; i < 200'000; ++i) {
        const std::string byte(1, static_cast<char>('a' + i % 26));
        const Stream stream = i % 2 == 0 ? Stream::out : Stream::err;
        REQUIRE(spool.append(stream, byte));
        note(model, stream, byte);
        while (read_some(reader, seen)) {
        }
        if (i >= 7000) read_some(behind, seen_behind);
    }
    while (read_some(behind, seen_behind)) {
    }
    CHECK((seen == model));
    CHECK((seen_behind == model));
}

TEST_CASE("F9: a reader that leaves no longer holds the others up", "[spool]") {
    SpoolLimits limits;
    limits.replay_bytes = 1000;
    Spool spool(limits);
    int room = 0;
    spool.on_room([&] { ++room; });
    SpoolReader reader(spool);
    auto stalled = std::make_unique<SpoolReader>(spool);
    Seen seen;
    REQUIRE(spool.append(Stream::out, std::string(5000, 'x')));
    while (read_some(reader, seen)) {
    }
    CHECK(spool.full());
    stalled.reset();
    CHECK_FALSE(spool.full());
    CHECK(room == 1);
}

TEST_CASE("F9: after a refused append all that was recorded is still read, in order", "[spool]") {
    Scratch scratch;
    ::signal(SIGXFSZ, SIG_IGN);
    rlimit before{};
    ::getrlimit(RLIMIT_FSIZE, &before);
    for (const std::uint64_t heap : {0U, 3000U}) {
        SpoolLimits limits;
        limits.store = {.heap_bytes = heap, .directory = scratch.path()};
        Spool spool(limits);
        Seen model;
        const rlimit small{8192, before.rlim_max};
        REQUIRE(::setrlimit(RLIMIT_FSIZE, &small) == 0);
        bool refused = false;
        for (int i = 0; i < 100 && !refused; ++i) {
            const Stream stream = i % 3 == 0 ? Stream::err : Stream::out;
            const std::string bytes(700, static_cast<char>('a' + i % 26));
            refused = !spool.append(stream, bytes).ok();
            if (!refused) note(model, stream, bytes);
        }
        CHECK(refused);
        REQUIRE_FALSE(spool.append(Stream::out, std::string("more")));
        REQUIRE_FALSE(spool.append(Stream::err, std::string("more")));
        ::setrlimit(RLIMIT_FSIZE, &before);
        spool.close();
        CHECK((read_all(spool) == model));
        CHECK(spool.size() == model.order.size());
    }
}

TEST_CASE("F9: the file can be had early, and holds all bytes of both streams", "[spool]") {
    const SpoolLimits limits;
    Spool spool(limits);
    CHECK(spool.file() == -1);
    REQUIRE(spool.append(Stream::out, std::string("out ")));
    REQUIRE(spool.append(Stream::err, std::string("err ")));
    REQUIRE(spool.move_to_file());
    REQUIRE(spool.append(Stream::out, std::string("again")));
    std::array<char, 64> buffer{};
    REQUIRE(::pread(spool.file(), buffer.data(), buffer.size(), 0) == 13);
    CHECK(std::string_view(buffer.data(), 13) == "out err again");
    CHECK(read_all(spool).streams == std::array<std::string, 2>{"out again", "err "});
}

TEST_CASE("F3: only_piece is all there is, or nothing", "[spool]") {
    SpoolLimits limits;
    limits.store.heap_bytes = 100'000;
    const auto only = [&](std::vector<std::pair<Stream, std::string>> appends) {
        Spool spool(limits);
        for (const auto& [stream, bytes] : appends) REQUIRE(spool.append(stream, bytes));
        spool.close();
        const auto piece = spool.only_piece();
        return piece ? std::optional(std::string(piece->extent.bytes)) : std::nullopt;
    };
    CHECK(only({{Stream::out, "a"}, {Stream::out, "b"}}) == "ab");
    CHECK(only({{Stream::err, "a"}}) == "a");
    CHECK_FALSE(only({{Stream::out, "a"}, {Stream::err, "b"}}));
    CHECK_FALSE(only({}));
    CHECK_FALSE(only({{Stream::out, std::string(100'001, 'x')}}));
    const auto several_blocks = only({{Stream::out, std::string(90'000, 'x')}, {Stream::out, "y"}});
    CHECK((!several_blocks || several_blocks->size() == 90'001));
}

TEST_CASE("F9: whose output would pass the memory of all is at its replay limit, others are not", "[spool]") {
    MemoryBudget budget(100'000);
    const auto limits = std::make_shared<const SpoolLimits>(
        SpoolLimits{.store = {.heap_bytes = 0, .budget = &budget}, .always_kept_bytes = 20'000});
    auto large = std::make_unique<Spool>(limits);
    Spool small(limits);
    int rooms = 0;
    large->on_room([&] { ++rooms; });
    REQUIRE(small.append(Stream::out, std::string(15'000, 's')));
    REQUIRE(large->append(Stream::out, std::string(60'000, 'l')));
    CHECK(large->replayable());
    REQUIRE(large->append(Stream::out, std::string(40'000, 'l')));
    CHECK_FALSE(large->replayable());
    CHECK(large->full());
    CHECK(small.replayable());
    CHECK_FALSE(small.full());

    SpoolReader slow(*large);
    SpoolReader quick(*large);
    quick.advance(100'000);
    CHECK(large->full());  // the slowest paces
    slow.advance(50'000);
    CHECK_FALSE(large->full());
    CHECK(rooms == 1);
    CHECK(budget.used() < 70'000);

    // One that is paused goes on with its own reader, though it was others that made room meanwhile.
    REQUIRE(large->append(Stream::out, std::string(50'000, 'l')));
    CHECK(large->full());
    Spool third(limits);
    budget.give_back(50'000);
    quick.advance(quick.next()->extent.length);
    slow.advance(30'000);
    CHECK(rooms == 2);
    budget.take(50'000);
    CHECK_FALSE(large->replayable());  // what it was released of does not come back
}

TEST_CASE("L1: a spool needs neither the limits nor whoever made it", "[spool]") {
    std::unique_ptr<Spool> spool;
    {
        const SpoolLimits limits{.store = {.heap_bytes = 100}, .replay_bytes = 1000};
        spool = std::make_unique<Spool>(limits);
    }
    REQUIRE(spool->append(Stream::out, std::string(2000, 'a')));
    spool->close();
    CHECK_FALSE(spool->replayable());
    CHECK(read_all(*spool).streams[0].size() == 2000);
}
