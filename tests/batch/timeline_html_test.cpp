// SPDX-License-Identifier: MIT
// The timeline page as a file: what is in it after each record, whatever the
// records hold and wherever it is cut. How it looks is for timeline_browser_test.
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <new>
#include <sstream>
#include <string>
#include <vector>

#include <coalesce/batch/timeline_html.h>

#include "../catch.h"
#include "page_in.h"

using namespace coalesce;
using namespace std::chrono_literals;
using namespace std::string_literals;

namespace {
std::atomic<long> blocks_alive{0};
}  // namespace

// Counts blocks on the heap, so that "flat" is measured and not believed.
void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept {
    ++blocks_alive;
    return std::malloc(bytes ? bytes : 1);
}
void* operator new(std::size_t bytes) {
    if (void* block = operator new(bytes, std::nothrow)) return block;
    throw std::bad_alloc();
}
void operator delete(void* block) noexcept {
    if (block) --blocks_alive;
    std::free(block);
}
void operator delete(void* block, std::size_t) noexcept { operator delete(block); }

namespace {

class Directory {
  public:
    Directory() {
        char name[] = "/tmp/coalesce-timeline-XXXXXX";
        path_ = ::mkdtemp(name);
    }
    ~Directory() { std::filesystem::remove_all(path_); }
    Directory(const Directory&) = delete;
    Directory& operator=(const Directory&) = delete;

    [[nodiscard]] std::string file(const std::string& name) const { return path_ + "/" + name; }

  private:
    std::string path_;
};

std::string content(const std::string& path) {
    std::ostringstream text;
    text << std::ifstream(path, std::ios::binary).rdbuf();
    return text.str();
}

const std::string records_begin = "<script type=\"application/json\" id=\"records\">\n";

std::string head_of(const std::string& page) { return page.substr(0, page.find(records_begin) + records_begin.size()); }

// The lines between the head and the closing, the way the page's own script takes
// them: a last line without its newline does not count.
std::vector<std::string> records_of(const std::string& page) {
    std::vector<std::string> lines;
    const std::size_t end = page.find("</script", head_of(page).size());
    std::istringstream rest(page.substr(head_of(page).size(), end == page.npos ? end : end - head_of(page).size()));
    for (std::string line; std::getline(rest, line) && !rest.eof();) lines.push_back(line);
    return lines;
}

std::size_t occurrences(const std::string& text, const std::string& word) {
    std::size_t count = 0;
    for (auto at = text.find(word); at != text.npos; at = text.find(word, at + 1)) ++count;
    return count;
}

RequestRecord request(std::uint64_t sequence, std::string command) {
    RequestRecord record;
    record.sequence = record.run = sequence;
    record.command = std::move(command);
    record.requested = std::chrono::system_clock::time_point(1'700'000'000s);
    record.started = record.requested + 20ms;
    record.ended = record.started + 1500ms + 7us;
    record.waited = record.ended - record.requested;
    record.run_time = record.ended - record.started;
    record.outcome = Outcome::exited(0);
    return record;
}

std::string line_for(const RequestRecord& record) {
    Directory directory;
    const std::string path = directory.file("page.html");
    auto page = page_in(path);
    REQUIRE(page);
    REQUIRE(page->add(record));
    const auto lines = records_of(content(path));
    REQUIRE(lines.size() == 1);
    return lines[0];
}

std::string command_in(const std::string& line) {
    const std::string key = "\"command\":";
    const auto at = line.find(key);
    return at == line.npos ? "none" : line.substr(at + key.size(), line.size() - at - key.size() - 1);
}

std::string written_as(std::string command) { return command_in(line_for(request(1, std::move(command)))); }

constexpr auto plain_line =
    R"({"n":1,"run":1,"asked":1700000000.000000,"started":1700000000.020000,"ended":1700000001.520007,)"
    R"("waited":1.520007,"ran":1.500007,"status":0,"command":"make docs"})";

}  // namespace

SCENARIO("a timeline that cannot be written is refused before anything runs", "[timeline]") {
    Directory directory;
    THEN("a missing directory is named") {
        const auto page = page_in(directory.file("missing/page.html"));
        REQUIRE_FALSE(page);
        CHECK(page.error().code == std::errc::no_such_file_or_directory);
        CHECK(page.error().doing == "open " + directory.file("missing/page.html"));
    }
    THEN("a directory is no file") {
        const auto page = page_in(directory.file(""));
        REQUIRE_FALSE(page);
        CHECK(page.error().code == std::errc::is_a_directory);
    }
    THEN("a full disk is known at once, for the head is written at once") {
        const auto page = page_in("/dev/full");
        REQUIRE_FALSE(page);
        CHECK(page.error().code == std::errc::no_space_on_device);
    }
}

SCENARIO("a timeline begins with everything but its records", "[timeline]") {
    Directory directory;
    const std::string path = directory.file("page.html");
    GIVEN("a file that held something longer") {
        std::ofstream(path) << std::string(200'000, 'x');
        auto page = page_in(path);
        REQUIRE(page);
        const std::string text = content(path);

        THEN("the head replaces it, and ends where the first record goes") {
            CHECK(text.substr(0, 15) == "<!doctype html>");
            CHECK(text == head_of(text));
            CHECK(text.find("<meta charset=\"utf-8\">") < 1024);
            CHECK(text.find("%records%") == text.npos);
        }
        THEN("it names no resource that is not in it") {
            CHECK(text.find("default-src 'none'") != text.npos);
            for (const char* word :
                 {" src=", "url(", "@import", "fetch(", "XMLHttpRequest", "import(", "<link rel=\"stylesheet"})
                CHECK(text.find(word) == text.npos);
            CHECK(occurrences(text, "href=") == 1);
            CHECK(text.find("href=\"data:image/svg+xml,") != text.npos);
        }
        THEN("its policy admits one style and one script, by a word that no two pages share") {
            const auto at = text.find("'nonce-") + 7;
            const std::string word = text.substr(at, text.find('\'', at) - at);
            CHECK(word.size() == 32);
            CHECK(occurrences(text, word) == 4);
            CHECK(text.find("%nonce%") == text.npos);
            const std::string other_path = directory.file("other.html");
            REQUIRE(page_in(other_path));
            CHECK(content(other_path).find(word) == text.npos);
        }
    }
    GIVEN("a mask of the user's") {
        const mode_t before = ::umask(027);
        REQUIRE(page_in(path));
        ::umask(before);
        THEN("it is obeyed: commands may hold secrets") {
            struct stat status {};
            REQUIRE(::stat(path.c_str(), &status) == 0);
            CHECK((status.st_mode & 0777) == 0640);
        }
    }
}

SCENARIO("a record is one line of JSON, in which the usual goes without saying", "[timeline]") {
    auto record = request(1, "make docs");
    THEN("a plain success is short") { CHECK(line_for(record) == plain_line); }
    THEN("whatever is unusual is said") {
        record.sequence = 7;
        record.run = 3;
        record.joined = true;
        record.requesters = 4;
        record.stdout_bytes = 12;
        record.stderr_bytes = 34;
        record.attempts = 2;
        record.id = R"("a\"b")";
        record.outcome = Outcome::exited(3);
        CHECK(line_for(record) ==
              R"({"n":7,"run":3,"joined":true,"requesters":4,"asked":1700000000.000000,"started":1700000000.020000,)"
              R"("ended":1700000001.520007,"waited":1.520007,"ran":1.500007,"stdout":12,"stderr":34,"attempts":2,)"
              R"("status":3,"kind":"exited","result":")" +
                  Outcome::exited(3).describe() + R"(","id":"\"a\\\"b\"","command":"make docs"})");
    }
    THEN("each way to fail has its name") {
        const std::pair<Outcome, std::string> ways[] = {
            {Outcome::exited(1), "exited"},         {Outcome::signalled(9), "signalled"},
            {Outcome::timed_out(), "timed_out"},    {Outcome::not_started(2, "no x"), "not_started"},
            {Outcome::refused(0, "no"), "refused"}, {Outcome::cancelled(), "cancelled"},
            {Outcome::lost("gone"), "lost"}};
        for (const auto& [outcome, name] : ways) {
            record.outcome = outcome;
            const std::string line = line_for(record);
            CHECK(line.find("\"status\":" + std::to_string(outcome.status()) + ",\"kind\":\"" + name +
                            "\",\"result\":\"" + outcome.describe() + "\"") != line.npos);
        }
    }
    THEN("a run that never started has the epoch for its start") {
        record.started = {};
        CHECK(line_for(record).find("\"started\":0.000000,") != std::string::npos);
    }
    THEN("a clock that was set back gives a negative number, not a broken one") {
        record.waited = -1500us;
        CHECK(line_for(record).find("\"waited\":-0.001500,") != std::string::npos);
    }
}

SCENARIO("no command can break the page", "[timeline]") {
    THEN("nothing in it ends the element or begins a comment in it") {
        CHECK(written_as("</script><!--<script>&") == R"("\u003c/script\u003e\u003c!--\u003cscript\u003e\u0026")");
        auto record = request(1, "x");
        record.id = "\"</script>\"";
        record.outcome = Outcome::lost("</script>");
        CHECK(line_for(record).find('<') == std::string::npos);
    }
    THEN("quotes, backslashes, control characters and NUL are JSON escapes") {
        CHECK(written_as("\"\\"s) == R"("\"\\")");
        CHECK(written_as("a\0b\n\r\t\x1b\x7f"s) == R"("a\u0000b\u000a\u000d\u0009\u001b\u007f")");
    }
    THEN("line separators that JavaScript knows are escaped, other text stays as it is") {
        CHECK(written_as("\u2028\u2029") == R"("\u2028\u2029")");
        CHECK(written_as("na\u00efve \u65e5\u672c \U0001f680 \u2027\u202a") ==
              "\"na\u00efve \u65e5\u672c \U0001f680 \u2027\u202a\"");
    }
    THEN("a byte that is no UTF-8 is a lone surrogate that tells which byte it was") {
        CHECK(written_as("\xff") == R"("\udcff")");
        CHECK(written_as("\x80z") == R"("\udc80z")");
        CHECK(written_as("\xc0\xaf") == R"("\udcc0\udcaf")");                      // overlong
        CHECK(written_as("\xe0\x80\x80") == R"("\udce0\udc80\udc80")");            // overlong
        CHECK(written_as("\xed\xa0\x80") == R"("\udced\udca0\udc80")");            // a surrogate
        CHECK(written_as("\xf4\x90\x80\x80") == R"("\udcf4\udc90\udc80\udc80")");  // past U+10FFFF
        CHECK(written_as("\xe2\x82") == R"("\udce2\udc82")");                      // cut off
        CHECK(written_as("\xe2\x82<") == R"("\udce2\udc82\u003c")");               // cut off by what must be escaped
    }
    THEN("a very long one is cut between characters, and says how long it was") {
        const std::string written = written_as("x" + std::string(8191, '-') + "\u00e9" + std::string(100'000, 'y'));
        CHECK(written == "\"x" + std::string(8191, '-') + "\u2026 (108194 bytes)\"");
        CHECK(written_as(std::string(8191, '-') + "\u00e9").size() == 8191 + 2 + 2);
    }
    THEN("every byte and every pair of bytes gives one line without a <") {
        Directory directory;
        const std::string path = directory.file("page.html");
        auto page = page_in(path);
        REQUIRE(page);
        for (int first = 0; first < 256; ++first) {
            std::string command;
            for (int second = 0; second < 256; ++second)
                ((command += static_cast<char>(first)) += static_cast<char>(second)) += ' ';
            REQUIRE(page->add(request(static_cast<std::uint64_t>(first) + 1, command)));
        }
        const auto lines = records_of(content(path));
        CHECK(lines.size() == 256);
        for (const auto& line : lines) {
            CHECK(line.find('<') == line.npos);
            CHECK(line.back() == '}');
        }
    }
}

SCENARIO("those who shared a run say its command once", "[timeline]") {
    Directory directory;
    const std::string path = directory.file("page.html");
    auto page = page_in(path);
    REQUIRE(page);
    auto record = request(1, "make docs");
    REQUIRE(page->add(record));
    record.sequence = 2;
    record.joined = true;
    REQUIRE(page->add(record));
    record.sequence = 3;
    record.command = "make  docs";  // another text under the same key
    REQUIRE(page->add(record));
    REQUIRE(page->add(request(4, "make  docs")));
    const auto lines = records_of(content(path));
    REQUIRE(lines.size() == 4);
    CHECK(command_in(lines[0]) == "\"make docs\"");
    CHECK(command_in(lines[1]) == "none");
    CHECK(command_in(lines[2]) == "\"make  docs\"");
    CHECK(command_in(lines[3]) == "\"make  docs\"");
}

SCENARIO("what has ended is in the file, however the batch ends", "[timeline]") {
    Directory directory;
    const std::string path = directory.file("page.html");
    GIVEN("a batch that is killed after three records") {
        const pid_t child = ::fork();
        REQUIRE(child >= 0);
        if (child == 0) {
            auto page = page_in(path);
            for (std::uint64_t n = 1; page && n <= 3; ++n)
                if (!page->add(request(n, "true"))) ::_exit(1);
            ::raise(SIGKILL);
        }
        int status = 0;
        REQUIRE(::waitpid(child, &status, 0) == child);
        REQUIRE(WIFSIGNALED(status));
        THEN("the page has all three") { CHECK(records_of(content(path)).size() == 3); }
    }
    GIVEN("a finished page") {
        {
            auto page = page_in(path);
            REQUIRE(page);
            for (std::uint64_t n = 1; n <= 3; ++n)
                REQUIRE(page->add(request(n, "echo '</script>' " + std::to_string(n))));
            REQUIRE(page->finish({3, 3, 0, 1, 2500ms, 1250us}));
        }
        const std::string text = content(path);
        THEN("the sums close the records, once for the script and once for a reader without") {
            const auto lines = records_of(text);
            REQUIRE(lines.size() == 4);
            CHECK(lines[3] ==
                  R"({"summary":{"requests":3,"runs":3,"shared":0,"failed":1,"wall":2.500000,"saved":0.001250}})");
            CHECK(text.find("<tr><th scope=\"row\">Wall time</th><td class=\"number\">2.500 s</td></tr>") != text.npos);
            CHECK(text.substr(text.size() - 8) == "</html>\n");
        }
        THEN("cut at any byte after the head, it has the lines that were complete and nothing ends its records early") {
            const std::size_t head = head_of(text).size(), closing = text.find("</script", head);
            for (std::size_t cut = head; cut < text.size(); ++cut) {
                const std::string left = text.substr(0, cut);
                const auto complete = occurrences(text.substr(head, std::min(cut, closing) - head), "\n");
                REQUIRE(records_of(left).size() == complete);
            }
        }
    }
}

SCENARIO("a disk that is full for a while costs the records it had no room for, no others", "[timeline]") {
    Directory directory;
    const std::string path = directory.file("page.html");
    auto page = page_in(path);
    REQUIRE(page);
    REQUIRE(page->add(request(1, "first")));
    const auto before = std::signal(SIGXFSZ, SIG_IGN);
    rlimit limit{};
    REQUIRE(::getrlimit(RLIMIT_FSIZE, &limit) == 0);
    const rlimit tight{static_cast<rlim_t>(std::filesystem::file_size(path) + 40), limit.rlim_max};

    REQUIRE(::setrlimit(RLIMIT_FSIZE, &tight) == 0);
    const auto cut = page->add(request(2, "cut"));
    const auto none = page->add(request(2, "cut"));
    const int restored = ::setrlimit(RLIMIT_FSIZE, &limit);
    std::signal(SIGXFSZ, before);
    REQUIRE(restored == 0);

    REQUIRE_FALSE(cut);
    CHECK(cut.error().code == std::errc::file_too_large);
    CHECK_FALSE(none);
    auto joined = request(4, "cut");  // whose command the page does not have yet
    joined.run = 2;
    REQUIRE(page->add(joined));
    const auto lines = records_of(content(path));
    REQUIRE(lines.size() == 2);  // nothing is left of the one that was cut
    CHECK(command_in(lines[0]) == "\"first\"");
    CHECK(command_in(lines[1]) == "\"cut\"");
}

SCENARIO("a page that moves goes on where it was", "[timeline]") {
    Directory directory;
    const std::string path = directory.file("page.html");
    auto made = page_in(path);
    REQUIRE(made);
    TimelinePage page = std::move(made).value();
    REQUIRE(page.add(request(1, "true")));
    auto other = page_in(directory.file("other.html"));
    REQUIRE(other);
    *other = std::move(page);
    REQUIRE(other->add(request(1, "true")));
    REQUIRE(other->finish({}));
    CHECK(records_of(content(path)).size() == 3);
    CHECK(records_of(content(directory.file("other.html"))).empty());
    CHECK_FALSE(other->add(request(2, "late")));
}

SCENARIO("memory stays flat however long the batch is", "[timeline]") {
    Directory directory;
    auto page = page_in(directory.file("page.html"));
    REQUIRE(page);
    auto record = request(1, std::string(20'000, '\xff'));
    REQUIRE(page->add(record));  // the longest line there can be: the room for it is kept
    const auto add_many = [&] {
        for (std::uint64_t n = 2; n <= 100'000; ++n) {
            record.sequence = n;
            record.run = n / 3;
            record.command.resize(40 + n % 50);
            if (!page->add(record)) return false;
        }
        return true;
    };
    THEN("a success gives back what its line took") {
        const long before = blocks_alive;
        const bool added = add_many();
        CHECK(blocks_alive == before);
        CHECK(added);
    }
    THEN("a failure gives back what its description took") {
        record.outcome = Outcome::lost("the supervisor of this run was killed");
        const long before = blocks_alive;
        const bool added = add_many();
        CHECK(blocks_alive == before);
        CHECK(added);
    }
}
