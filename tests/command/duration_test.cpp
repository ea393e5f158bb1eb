// SPDX-License-Identifier: MIT
// Durations and sizes as users write and read them.
#include <coalesce/command/duration.h>
#include <coalesce/command/size.h>

#include "../catch.h"

using coalesce::format_duration;
using coalesce::format_size;
using coalesce::parse_duration;
using coalesce::parse_size;
using std::chrono::milliseconds;

namespace {

long long ms(std::string_view text) {
    const auto parsed = parse_duration(text);
    return parsed ? static_cast<long long>(parsed.value().count()) : -1;
}

std::uint64_t bytes(std::string_view text) {
    const auto parsed = parse_size(text);
    REQUIRE(parsed.ok());
    return parsed.value();
}

}  // namespace

TEST_CASE("F10: a duration is a number of seconds or has a unit", "[duration]") {
    CHECK(ms("10") == 10'000);
    CHECK(ms("1.5s") == 1'500);
    CHECK(ms("5m") == 300'000);
    CHECK(ms("2h") == 7'200'000);
    CHECK(ms("1d") == 86'400'000);
    CHECK(ms("250ms") == 250);
    CHECK(ms("0") == 0);
    CHECK(ms(".5") == 500);
    CHECK(ms("0.1") == 100);
    CHECK(ms("1.1d") == 95'040'000);
    CHECK(ms("007") == 7'000);
}

TEST_CASE("F10: a duration finer than a millisecond is rounded up, never to nothing", "[duration]") {
    CHECK(ms("0.0001") == 1);
    CHECK(ms("0.00000000000000000000000000000001s") == 1);
    CHECK(ms("1.0000000000000000000000000s") == 1'000);
    CHECK(ms("0.1ms") == 1);
    CHECK(ms("1.2001s") == 1'201);
    CHECK(ms("0.999999999999999999999999999999999s") == 1'000);
}

TEST_CASE("F10: what is no duration is refused by name", "[duration]") {
    for (const char* text : {"",   "s",    ".",   "5.",   "5.s", "-1",  "+1",    " 1",   "1 ",  "1 s",
                             "1S", "1min", "1e3", "0x10", "inf", "1,5", "1.2.3", "5m3s", "1us", "ms"}) {
        INFO(text);
        const auto parsed = parse_duration(text);
        REQUIRE_FALSE(parsed.ok());
        CHECK(parsed.error().message().find("is not a duration") != std::string::npos);
    }
    CHECK(parse_duration("five").error().message() ==
          "five is not a duration: use a number with ms, s, m, h or d, such as 1.5s");
    CHECK(parse_duration(std::string_view("1\0s", 3)).error().message().find("$'1\\000s'") == 0);
}

TEST_CASE("F10: a duration no timer can hold is refused, however long it is written", "[duration]") {
    CHECK(ms("36525d") == 36525LL * 86'400'000);
    for (const char* text : {"36525.1d", "36526d", "99999999999999999999", "18446744073709551616ms", "213503982334601d",
                             "123456789012345678901234567890h"}) {
        INFO(text);
        const auto parsed = parse_duration(text);
        REQUIRE_FALSE(parsed.ok());
        CHECK(parsed.error().message().find("too long") != std::string::npos);
    }
}

TEST_CASE("R8: a duration is shown in at most two units", "[duration]") {
    CHECK(format_duration(milliseconds(0)) == "0s");
    CHECK(format_duration(milliseconds(7)) == "7ms");
    CHECK(format_duration(milliseconds(999)) == "999ms");
    CHECK(format_duration(milliseconds(1'000)) == "1s");
    CHECK(format_duration(milliseconds(1'500)) == "1.5s");
    CHECK(format_duration(milliseconds(1'049)) == "1s");
    CHECK(format_duration(milliseconds(59'999)) == "59.9s");
    CHECK(format_duration(milliseconds(60'000)) == "1m");
    CHECK(format_duration(milliseconds(123'000)) == "2m 3s");
    CHECK(format_duration(milliseconds(3'900'000)) == "1h 5m");
    CHECK(format_duration(milliseconds(2 * 86'400'000 + 3 * 3'600'000)) == "2d 3h");
    CHECK(format_duration(milliseconds(-1'500)) == "-1.5s");
}

TEST_CASE("F9: a size is a number of bytes or has a unit", "[size]") {
    CHECK(bytes("0") == 0);
    CHECK(bytes("4096") == 4096);
    CHECK(bytes("12B") == 12);
    CHECK(bytes("64K") == 65'536);
    CHECK(bytes("64k") == 65'536);
    CHECK(bytes("64KiB") == 65'536);
    CHECK(bytes("64KB") == 64'000);
    CHECK(bytes("64kB") == 64'000);
    CHECK(bytes("1M") == 1'048'576);
    CHECK(bytes("1MB") == 1'000'000);
    CHECK(bytes("1GiB") == 1'073'741'824);
    CHECK(bytes("2T") == 2'199'023'255'552);
    CHECK(bytes("1.5G") == 1'610'612'736);
    CHECK(bytes("0.0001K") == 0);
    CHECK(bytes("1.99999999999999999999999B") == 1);
    CHECK(bytes("18446744073709551615") == 18'446'744'073'709'551'615U);
    CHECK(bytes("16777215T") == 16'777'215ULL << 40U);
}

TEST_CASE("F9: what is no size is refused by name", "[size]") {
    for (const char* text :
         {"", "K", "-1", "+1", " 1", "1 K", "1KK", "1Kb", "1kib", "1P", "1.K", "0x10", "1e3", "1,5M"}) {
        INFO(text);
        const auto parsed = parse_size(text);
        REQUIRE_FALSE(parsed.ok());
        CHECK(parsed.error().message().find("is not a size") != std::string::npos);
    }
    for (const char* text :
         {"18446744073709551616", "16777216T", "99999999999999999999G", "16777215.99999999999999T9"}) {
        INFO(text);
        CHECK_FALSE(parse_size(text).ok());
    }
    CHECK(parse_size("16777216T").error().message() == "16777216T is too large a size");
}

TEST_CASE("O1: a size is shown in the largest unit that fits", "[size]") {
    CHECK(format_size(0) == "0 B");
    CHECK(format_size(1023) == "1023 B");
    CHECK(format_size(1024) == "1 KiB");
    CHECK(format_size(1536) == "1.5 KiB");
    CHECK(format_size(1'073'741'824) == "1 GiB");
    CHECK(format_size(18'446'744'073'709'551'615U) == "16777215.9 TiB");
}
