// SPDX-License-Identifier: MIT
// What --halt and -j may say (SPEC B5): the words are GNU parallel's.
#include <coalesce/batch/halt.h>
#include <coalesce/engine/job_count.h>

#include <string>

#include "../catch.h"

using namespace coalesce;

TEST_CASE("B5: --halt has a when, a what and a number, and nothing else", "[halt]") {
    auto rule = parse_halt("now,success=3%");
    REQUIRE(rule);
    CHECK(rule->now);
    CHECK(rule->counted == HaltRule::Counted::success);
    CHECK(rule->percent);
    CHECK(rule->enough == 3);
    CHECK_FALSE(parse_halt("soon,done=12")->now);
    CHECK(parse_halt("soon,fail=4294967295")->enough == 4294967295U);
    for (const char* const wrong : {"",
                                    "now",
                                    "now,",
                                    "later,fail=1",
                                    "now,fails=1",
                                    "now,fail",
                                    "now,fail=",
                                    "now,fail=0",
                                    "now,fail=-1",
                                    "now,fail=+1",
                                    "now,fail=1x",
                                    "now,fail=1.5",
                                    "now,fail=0%",
                                    "now,fail=101%",
                                    "now,fail=%",
                                    "now,fail=1%%",
                                    "now, fail=1",
                                    "fail=1",
                                    "now,now,fail=1",
                                    "soon,fail=4294967296",
                                    "soon;fail=1"})
        CHECK_FALSE(parse_halt(wrong));
}

TEST_CASE("B5: -j is a number, or relative to the processors", "[jobs]") {
    const auto jobs = [](const char* text, unsigned processors = 4) {
        auto count = parse_job_count(text, processors);
        return count ? static_cast<int>(*count) : -1;
    };
    CHECK(jobs("0") == 0);
    CHECK(jobs("7") == 7);
    CHECK(jobs("50%") == 2);
    CHECK(jobs("100%") == 4);
    CHECK(jobs("150%") == 6);
    CHECK(jobs("10.5%") == 1);
    CHECK(jobs("26%") == 2);
    CHECK(jobs("0%") == 1);
    CHECK(jobs("33.4%", 3) == 2);
    CHECK(jobs("+0") == 4);
    CHECK(jobs("+2") == 6);
    CHECK(jobs("-1") == 3);
    CHECK(jobs("-4") == 1);
    CHECK(jobs("-100") == 1);
    for (const char* const wrong : {"", "x", "+", "-", "%", "1x", "1.5", "+1.5", "+50%", "-50%", "--1", "+-1", " 1",
                                    "1 ", ".5%", "4294967296", "+4294967295", "99999999999999999999%", "1%%"})
        CHECK(jobs(wrong) == -1);
}
