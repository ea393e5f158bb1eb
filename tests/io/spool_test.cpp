// The spool against a naive model: whatever is appended comes out again, for every
// reader, in order and to the byte, on the heap and in a file.

#include <coalesce/io/spool.h>

#include <catch2/catch.hpp>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

using namespace coalesce;

namespace {

using Recorded = std::vector<std::pair<Stream, std::string>>;

void record(Recorded& all, Stream stream, const std::string& bytes) {
    if (bytes.empty()) return;
    if (!all.empty() && all.back().first == stream)
        all.back().second += bytes;
    else
        all.emplace_back(stream, bytes);
}

std::string content(const Extent& extent) {
    if (extent.file < 0) return std::string(extent.bytes);
    std::string bytes(static_cast<std::size_t>(extent.length), '\0');
    REQUIRE(::pread(extent.file, bytes.data(), bytes.size(), static_cast<off_t>(extent.offset)) ==
            static_cast<ssize_t>(bytes.size()));
    return bytes;
}

// Takes at most `most` bytes of what the reader has.
void take(SpoolReader& reader, Recorded& into, std::size_t most) {
    while (most > 0) {
        const auto piece = reader.next();
        if (!piece) return;
        std::string bytes = content(piece->extent);
        bytes.resize(std::min(bytes.size(), most));
        record(into, piece->stream, bytes);
        reader.advance(bytes.size());
        most -= bytes.size();
    }
}

constexpr std::size_t everything = ~std::size_t{0};

std::uint64_t seed() {
    const char* const given = std::getenv("COALESCE_TEST_SEED");
    const std::uint64_t value = given != nullptr ? std::strtoull(given, nullptr, 10) : std::random_device{}();
    std::printf("spool model: COALESCE_TEST_SEED=%llu\n", static_cast<unsigned long long>(value));
    return value;
}

}  // namespace

TEST_CASE("F3: every reader of a spool gets all bytes of both streams, in the order in which they were read", "[spool]") {
    std::mt19937_64 random(seed());
    const auto below = [&random](std::uint64_t n) { return static_cast<std::size_t>(random() % n); };
    for (int round = 0; round < 60; ++round) {
        SpoolLimits limits;
        const std::uint64_t heap_limits[] = {0, 100, 5000, 1 << 20};
        limits.store.heap_bytes = heap_limits[below(4)];
        if (below(2) == 0) limits.store.directory = "/tmp";
        Spool spool(limits);
        Recorded expected;
        std::vector<std::unique_ptr<SpoolReader>> readers;
        std::vector<Recorded> got;
        for (int step = 0; step < 400; ++step) {
            switch (below(4)) {
                case 0:
                case 1: {
                    const Stream stream = below(3) == 0 ? Stream::err : Stream::out;
                    std::string bytes(below(below(10) == 0 ? 9000 : 60), '\0');
                    for (char& byte : bytes) byte = static_cast<char>(random());
                    REQUIRE(spool.append(stream, bytes));
                    record(expected, stream, bytes);
                    break;
                }
                case 2:
                    if (readers.size() < 6) {
                        readers.push_back(std::make_unique<SpoolReader>(spool));
                        got.emplace_back();
                    }
                    break;
                default:
                    if (!readers.empty()) {
                        const std::size_t one = below(readers.size());
                        take(*readers[one], got[one], below(3000));
                    }
            }
        }
        spool.close();
        for (std::size_t i = 0; i < readers.size(); ++i) {
            take(*readers[i], got[i], everything);
            CHECK(readers[i]->finished());
            CHECK(got[i] == expected);
        }
    }
}

TEST_CASE("F9: past the replay limit what all have read is released, and the slowest reader decides", "[spool]") {
    SpoolLimits limits;
    limits.store.heap_bytes = 0;
    limits.replay_bytes = 64 * 1024;
    Spool spool(limits);
    bool room = false;
    spool.on_room([&room] { room = true; });
    SpoolReader fast(spool);
    auto slow = std::make_unique<SpoolReader>(spool);
    const std::string block(16 * 1024, 'x');
    for (int i = 0; i < 4; ++i) REQUIRE(spool.append(Stream::out, block));
    CHECK(spool.replayable());
    CHECK(spool.full());
    REQUIRE(spool.append(Stream::out, block));
    CHECK_FALSE(spool.replayable());
    Recorded of_fast;
    take(fast, of_fast, everything);
    CHECK(spool.full());
    CHECK(spool.whole());
    CHECK_FALSE(room);
    slow.reset();  // it left: the fast one is the slowest now
    CHECK(room);
    CHECK_FALSE(spool.full());
    CHECK_FALSE(spool.whole());
    CHECK(of_fast == Recorded{{Stream::out, std::string(5 * 16 * 1024, 'x')}});
}

TEST_CASE("F9: a refused append loses nothing that was recorded before", "[spool]") {
    SpoolLimits limits;
    limits.store.heap_bytes = 10;
    limits.store.directory = "/nonexistent/directory";
    Spool spool(limits);
    REQUIRE(spool.append(Stream::out, std::string_view("kept")));
    REQUIRE(spool.append(Stream::err, std::string_view("too")));
    const auto refused = spool.append(Stream::out, std::string_view("far too long for the heap"));
    REQUIRE_FALSE(refused);
    CHECK(refused.error().message().find("/nonexistent/directory") != std::string::npos);
    CHECK_FALSE(spool.append(Stream::out, std::string_view("x")));
    spool.close();
    SpoolReader reader(spool);
    Recorded got;
    take(reader, got, everything);
    CHECK(got == Recorded{{Stream::out, "kept"}, {Stream::err, "too"}});
    CHECK(reader.finished());
}

TEST_CASE("F9: a spool can be put into its file at any time, and readers go on where they were", "[spool]") {
    SpoolLimits limits;
    Spool spool(limits);
    REQUIRE(spool.append(Stream::out, std::string_view("before ")));
    SpoolReader reader(spool);
    Recorded got;
    take(reader, got, 3);
    REQUIRE(spool.move_to_file());
    CHECK(spool.file() >= 0);
    REQUIRE(spool.append(Stream::out, std::string_view("after")));
    take(reader, got, everything);
    CHECK(got == Recorded{{Stream::out, "before after"}});
}
