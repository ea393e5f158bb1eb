// SPDX-License-Identifier: MIT
// Writes timeline pages of invented batches for the browser test, and for whoever
// wants to look: timeline_generate FILE SCENE [REQUESTS]. Always the same numbers.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include <coalesce/batch/timeline_html.h>

#include "page_in.h"

using namespace coalesce;
using namespace std::chrono_literals;
using namespace std::string_literals;

namespace {

using Clock = std::chrono::system_clock;
using std::chrono::nanoseconds;

constexpr Clock::time_point zero{std::chrono::seconds(1'772'611'200)};

// A requester of an invented run: when it asked, from the start of the batch.
struct Ask {
    std::uint64_t sequence;
    nanoseconds at;
    std::string id = {};
};

struct Run {
    std::string command;
    std::vector<Ask> asks;
    nanoseconds start, end;
    Outcome outcome = Outcome::exited(0);
    std::uint64_t stdout_bytes = 0, stderr_bytes = 0;
    unsigned attempts = 1;
    bool never = false;
};

// Writes runs and keeps the sums that the batch itself would keep.
class Batch {
  public:
    explicit Batch(TimelinePage page) : page_(std::move(page)) {}

    void land(const Run& run) {
        ++sums_.runs;
        for (const Ask& ask : run.asks) record(run, ask, &ask != &run.asks.front());
    }

    void finish() { check(page_.finish(sums_)); }

  private:
    void record(const Run& run, const Ask& ask, bool joined) {
        RequestRecord record;
        record.sequence = ask.sequence;
        record.run = sums_.runs;
        record.command = run.command;
        record.id = ask.id;
        record.joined = joined;
        record.requesters = run.asks.size();
        record.requested = at(ask.at);
        if (!run.never) record.started = at(run.start);
        record.ended = at(run.end);
        record.waited = run.end - ask.at;
        record.run_time = run.never ? nanoseconds{} : run.end - run.start;
        record.stdout_bytes = run.stdout_bytes;
        record.stderr_bytes = run.stderr_bytes;
        record.outcome = run.outcome;
        record.attempts = run.attempts;
        check(page_.add(record));
        ++sums_.requests;
        sums_.shared += joined ? 1 : 0;
        sums_.failed += run.outcome.success() ? 0 : 1;
        sums_.saved += joined ? record.run_time : nanoseconds{};
        sums_.wall = std::max(sums_.wall, run.end);
    }

    static Clock::time_point at(nanoseconds since) { return zero + std::chrono::duration_cast<Clock::duration>(since); }

    static void check(const Result<>& result) {
        if (result) return;
        std::fprintf(stderr, "timeline_generate: %s\n", result.error().message().c_str());
        std::exit(1);
    }

    TimelinePage page_;
    BatchSummary sums_;
};

void small(Batch& batch) {
    batch.land({"git fetch --all --quiet", {{1, 0ms}, {4, 210ms}, {9, 640ms}}, 5ms, 905ms, Outcome::exited(0), 0, 412});
    batch.land({"./configure --prefix=/usr --enable-docs", {{2, 2ms}}, 8ms, 1430ms, Outcome::exited(0), 18'432, 0});
    batch.land(
        {"curl -fsS https://example.org/feed.xml", {{3, 3ms}, {5, 300ms}}, 9ms, 2110ms, Outcome::exited(22), 0, 71, 3});
    batch.land({"cc -c parser.c", {{6, 320ms}}, 910ms, 1504ms, Outcome::exited(0), 0, 0});
    batch.land({"psql -At -c 'select count(*) from orders'",
                {{7, 350ms}, {10, 1000ms}, {11, 1100ms}, {12, 1102ms}, {15, 1900ms}},
                1433ms,
                3660ms,
                Outcome::exited(0),
                9,
                0});
    batch.land({"no-such-command --version",
                {{8, 380ms}},
                {},
                1506ms,
                Outcome::not_started(2, "no-such-command: No such file or directory"),
                0,
                0,
                1,
                true});
    batch.land({"pdflatex thesis.tex", {{13, 1200ms}, {14, 1600ms}}, 1508ms, 3508ms, Outcome::timed_out(), 51'200, 0});
    batch.land({"./simulate --steps 1000000", {{16, 2000ms}}, 2115ms, 2702ms, Outcome::signalled(11), 2'048, 33});
    batch.land(
        {"make docs", {{17, 2200ms}, {18, 2650ms}, {19, 2900ms}}, 2704ms, 4310ms, Outcome::exited(0), 1'310'720, 0});
    batch.land({"rsync -a build/ mirror:/srv/build/", {{20, 3000ms}}, 3512ms, 4400ms, Outcome::cancelled(), 0, 0});
    batch.land({"date", {{21, 3600ms}}, 3664ms, 3667ms, Outcome::exited(0), 29, 0});
}

void hostile(Batch& batch) {
    const std::string commands[] = {
        "echo '</script><script>document.documentElement.dataset.broken=1</script>'",
        "echo '<!--<script>' </script ",
        "echo '<img src=x onerror=\"document.documentElement.dataset.broken=2\">' & \"\\\\\"",
        "printf 'line separators: \u2028 and \u2029'",
        "printf 'nul: \0 bell: \a escape: \033[31m del: \177'"s,
        "printf 'not UTF-8: \xff\xfe \xc0\xaf \xed\xa0\x80 \xf5\x80\x80\x80 cut: \xe2\x82'",
        "echo '\u202edlrow olleh' zero\u200bwidth \ufeff",
        "two\nlines\tand a tab\r\n",
        "__proto__",
        "constructor",
        "\u65e5\u672c\u8a9e\u306e\u30b3\u30de\u30f3\u30c9 \U0001f680 na\u00efve",
        "",
        std::string(300'000, 'x') + " end of a long one"};
    std::uint64_t n = 0;
    for (const std::string& command : commands) {
        ++n;
        const nanoseconds start = n * 100ms;
        batch.land({command,
                    {{n, start, n == 2 ? "\"</script>\\u2028\"" : ""}, {100 + n, start + 50ms}},
                    start + 1ms,
                    start + 230ms,
                    n % 3 ? Outcome::exited(0) : Outcome::lost("</script> \xff\u2028")});
    }
}

// Requests come in a steady stream and are worked off by `width` at a time; every
// now and then a burst asks for one thing. What is still queued or runs is joined.
void large(Batch& batch, std::uint64_t requests, std::size_t width) {
    std::mt19937_64 dice(7);
    const auto roll = [&](std::uint64_t sides) { return dice() % sides; };
    std::vector<nanoseconds> free(width, nanoseconds{});
    std::map<std::string, Run> open;
    std::multimap<nanoseconds, std::string> landing;
    const auto land_until = [&](nanoseconds now) {
        while (!landing.empty() && landing.begin()->first <= now) {
            const std::string command = landing.begin()->second;
            landing.erase(landing.begin());
            batch.land(open.extract(command).mapped());
        }
    };
    const char* tools[] = {"curl -fsS https://mirror.example/pool/", "sha256sum /srv/archive/",
                           "identify -verbose scan-", "ffprobe clip-"};
    nanoseconds now{};
    for (std::uint64_t n = 1; n <= requests; ++n) {
        now += std::chrono::microseconds(200 + roll(1800)) / (n % 4000 < 600 ? 6 : 1);
        land_until(now);
        const std::uint64_t which = roll(10) < 4 ? roll(12) : roll(requests / 2 + 1);
        const std::string command = tools[which % 4] + std::to_string(which);
        if (const auto found = open.find(command); found != open.end()) {
            found->second.asks.push_back({n, now});
            continue;
        }
        auto& lane = *std::min_element(free.begin(), free.end());
        Run run{command, {{n, now}}, std::max(lane, now) + 300us, {}};
        run.end = run.start + std::chrono::microseconds(1500 + roll(9'000) * (roll(40) ? 1 : 30));
        if (roll(150) == 0)
            run.outcome = roll(3) ? Outcome::exited(static_cast<int>(1 + roll(40))) : Outcome::signalled(9);
        run.stdout_bytes = roll(40'000);
        lane = run.end;
        landing.emplace(run.end, command);
        open.emplace(command, std::move(run));
    }
    land_until(nanoseconds::max());
}

// One slow command and everybody after it.
void crowd(Batch& batch, std::uint64_t requests) {
    Run run{"make -j8 release", {}, 10ms, 60s, Outcome::exited(2), 4096, 800};
    for (std::uint64_t n = 1; n <= requests; ++n) run.asks.push_back({n, nanoseconds(59s) * (n - 1) / requests});
    batch.land(run);
}

}  // namespace

int main(int argc, char** argv) {
    const std::map<std::string, std::function<void(Batch&, std::uint64_t)>> scenes = {
        {"empty", [](Batch&, std::uint64_t) {}},
        {"small", [](Batch& batch, std::uint64_t) { small(batch); }},
        {"hostile", [](Batch& batch, std::uint64_t) { hostile(batch); }},
        {"large", [](Batch& batch, std::uint64_t requests) { large(batch, requests, 8); }},
        {"wide", [](Batch& batch, std::uint64_t requests) { large(batch, requests, 400); }},
        {"crowd", crowd},
    };
    if (argc < 3 || scenes.find(argv[2]) == scenes.end()) {
        std::fprintf(stderr, "usage: timeline_generate FILE empty|small|hostile|large|wide|crowd [REQUESTS]\n");
        return 2;
    }
    auto page = page_in(argv[1]);
    if (!page) {
        std::fprintf(stderr, "timeline_generate: %s\n", page.error().message().c_str());
        return 1;
    }
    Batch batch(std::move(page).value());
    scenes.at(argv[2])(batch, argc > 3 ? std::strtoull(argv[3], nullptr, 10) : 2000);
    batch.finish();
}
