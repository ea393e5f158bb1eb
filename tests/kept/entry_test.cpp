// SPDX-License-Identifier: MIT
// One kept result as a file: exact, or not there at all (SPEC T14, T17, T22).
#include <coalesce/io/memory_budget.h>
#include <coalesce/kept/entry.h>

#include "../catch.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <string>

#include "../scratch.h"

using namespace coalesce;
using namespace std::chrono_literals;

namespace {

const SpoolLimits spool_limits{};

struct Said {
    Stream stream;
    std::string text;
};

std::shared_ptr<Spool> spool_of(const std::vector<Said>& output, const SpoolLimits& limits = spool_limits) {
    auto spool = std::make_shared<Spool>(limits);
    for (const Said& said : output) REQUIRE(spool->append(said.stream, said.text));
    spool->close();
    return spool;
}

std::vector<Said> said_by(Spool& spool) {
    std::vector<Said> output;
    SpoolReader reader(spool);
    while (const auto piece = reader.next()) {
        std::string text(piece->extent.length, '\0');
        if (piece->extent.file >= 0)
            REQUIRE(::pread(piece->extent.file, text.data(), text.size(), static_cast<off_t>(piece->extent.offset)) ==
                    static_cast<ssize_t>(text.size()));
        else
            text = piece->extent.bytes;
        reader.advance(text.size());
        if (!output.empty() && output.back().stream == piece->stream)
            output.back().text += text;
        else
            output.push_back({piece->stream, text});
    }
    return output;
}

bool same(const std::vector<Said>& a, const std::vector<Said>& b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                      [](const Said& x, const Said& y) { return x.stream == y.stream && x.text == y.text; });
}

const std::vector<Said> mixed{{Stream::out, std::string("a\0b\n", 4)}, {Stream::err, "no\xff"}, {Stream::out, "last"}};

EntryFacts facts() {
    EntryFacts facts;
    facts.key = digest_of<32>("key");
    facts.started = {.wall_ns = 1'000, .boot_ns = 10, .boot = {7}};
    facts.ended = {.wall_ns = 2'000, .boot_ns = 20, .boot = {7}};
    facts.duration = 1'000ns;
    facts.exit_status = 3;
    facts.program = {.device = 1, .inode = 2, .size = 3, .modified_ns = 4};
    facts.title = "make docs";
    facts.directory = "/srv/x";
    facts.salt = "0123456789abcdef";
    facts.parts = digests_of({{"argv", "make docs"}, {"environment: TOKEN", "TOKEN=secret"}}, facts.salt);
    return facts;
}

class EntryFile {
  public:
    explicit EntryFile(const std::vector<Said>& output, const EntryFacts& what = facts()) {
        Descriptor file(::open(path().c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
        REQUIRE(write_entry(file.get(), *spool_of(output), what));
    }
    [[nodiscard]] std::string path() const { return scratch_.path("entry"); }
    [[nodiscard]] Descriptor open(int flags = O_RDONLY) const {
        return Descriptor(::open(path().c_str(), flags | O_CLOEXEC));
    }
    [[nodiscard]] std::optional<Entry> read() const {
        const Digest key = facts().key;
        Descriptor file = open();
        return Entry::read(file, &key);
    }
    [[nodiscard]] std::string bytes() const { return scratch_.read("entry"); }
    void set(const std::string& bytes) const { scratch_.file("entry", bytes, 0600); }

  private:
    Scratch scratch_;
};

std::vector<Said> replayed(const Entry& entry) {
    auto spool = entry.replay(spool_limits);
    REQUIRE(spool);
    CHECK((*spool)->closed());
    return said_by(**spool);
}

}  // namespace

TEST_CASE("T14, T15: what was kept is whole, however short memory is", "[kept]") {
    const std::vector<Said> much{{Stream::out, std::string(3 << 20, 'x')}};
    const EntryFile file(much);
    const auto entry = file.read();
    REQUIRE(entry);
    MemoryBudget budget(1);
    budget.take(1);
    const SpoolLimits limits{.store = {.heap_bytes = 1000, .budget = &budget}};
    auto spool = entry->replay(limits);
    REQUIRE(spool);
    CHECK((*spool)->whole());
    CHECK((*spool)->replayable());
    CHECK(budget.used() == 1);  // F9: many may hold it, each as slow a reader as the others
    CHECK(same(said_by(**spool), much));
    auto twin = (*spool)->twin();
    REQUIRE(twin);
    CHECK(same(said_by(**twin), much));
}

TEST_CASE("S4: whoever is handed a kept output over has a copy, if there is room for one", "[kept]") {
    const std::string bytes(3 << 20, 'x');
    const EntryFile file({{Stream::out, bytes}});
    const auto entry = file.read();
    REQUIRE(entry);
    MemoryBudget budget(1);
    const SpoolLimits limits{.store = {.heap_bytes = 1000, .budget = &budget}};
    auto spool = entry->replay(limits);
    REQUIRE(spool);
    budget.take(1);
    CHECK_FALSE((*spool)->hand_over());
    budget.give_back(1);
    auto handed_over = (*spool)->hand_over();
    REQUIRE(handed_over);
    CHECK(budget.used() == bytes.size());
    struct stat ours {};
    struct stat theirs {};
    REQUIRE((::fstat(entry->file(), &ours) == 0 && ::fstat(handed_over->get(), &theirs) == 0));
    CHECK((ours.st_dev != theirs.st_dev || ours.st_ino != theirs.st_ino));
    const SpoolReader reader(**spool);
    const auto piece = reader.next();
    REQUIRE(piece);
    std::string came(bytes.size(), '\0');
    CHECK(::pread(handed_over->get(), came.data(), came.size(), static_cast<off_t>(piece->extent.offset)) ==
          static_cast<ssize_t>(came.size()));
    CHECK(came == bytes);
    spool->reset();
    CHECK(budget.used() == 0);
}

TEST_CASE("T14: bytes, streams, read order and facts come back as they were", "[kept]") {
    const EntryFile file(mixed);
    const auto entry = file.read();
    REQUIRE(entry);
    CHECK(same(replayed(*entry), mixed));
    const EntryFacts& read = entry->facts();
    CHECK(read.exit_status == 3);
    CHECK(read.started == facts().started);
    CHECK(read.ended == facts().ended);
    CHECK(read.duration == 1'000ns);
    CHECK(read.program == facts().program);
    CHECK(read.title == "make docs");
    CHECK(read.directory == "/srv/x");
    CHECK(read.parts == facts().parts);
}

TEST_CASE("T14: no output, and output past what is read at once", "[kept]") {
    CHECK(replayed(*EntryFile({}).read()).empty());
    const std::vector<Said> long_output{{Stream::out, std::string(3'000'000, 'x')}, {Stream::err, "e"}};
    const EntryFile file(long_output);
    CHECK(same(replayed(*file.read()), long_output));
    REQUIRE(sync_entry(file.open(O_RDWR).get()));
    CHECK(same(replayed(*file.read()), long_output));
}

TEST_CASE("T17: an entry of which any byte was changed is no entry", "[kept]") {
    const EntryFile file(mixed);
    const std::string whole = file.bytes();
    for (std::size_t at = 0; at < whole.size(); ++at) {
        INFO("byte " << at);
        std::string changed = whole;
        changed[at] = static_cast<char>(changed[at] ^ 0x40);
        file.set(changed);
        const auto entry = file.read();
        // The mark says only that long output need not be checked, which this is not.
        if (at >= 240 && at < 256)
            CHECK((entry && same(replayed(*entry), mixed)));
        else
            CHECK_FALSE(entry);
    }
}

TEST_CASE("T17: nor is one that was cut or made longer anywhere", "[kept]") {
    const EntryFile file(mixed);
    const std::string whole = file.bytes();
    for (std::size_t length = 0; length < whole.size(); ++length) {
        INFO("length " << length);
        file.set(whole.substr(0, length));
        CHECK_FALSE(file.read());
    }
    file.set(whole + "x");
    CHECK_FALSE(file.read());
}

TEST_CASE("T17: to sync an entry takes nothing from its time", "[kept]") {
    const EntryFile file({{Stream::out, std::string(200'000, 'x')}});
    const Descriptor opened = file.open(O_RDWR);
    const timespec times[2] = {{.tv_sec = 2'000'000'000, .tv_nsec = 1}, {.tv_sec = 4'000'000'000, .tv_nsec = 2}};
    REQUIRE(::futimens(opened.get(), times) == 0);
    REQUIRE(sync_entry(opened.get()));
    struct stat info {};
    REQUIRE(::fstat(opened.get(), &info) == 0);
    CHECK(info.st_atim.tv_sec == times[0].tv_sec);
    CHECK(info.st_mtim.tv_sec == times[1].tv_sec);
    CHECK(info.st_mtim.tv_nsec == times[1].tv_nsec);
}

TEST_CASE("T17: long output is checked each time until it has been synced", "[kept]") {
    const EntryFile file({{Stream::out, std::string(200'000, 'x')}});
    const std::string whole = file.bytes();
    std::string changed = whole;
    changed[150'000] = 'y';
    file.set(changed);
    CHECK_FALSE(file.read());
    file.set(whole);
    REQUIRE(sync_entry(file.open(O_RDWR).get()));
    CHECK(file.read());
    std::string cut = file.bytes();
    cut.erase(150'000, 1);
    file.set(cut);
    CHECK_FALSE(file.read());
}

TEST_CASE("T17: what is behind the output is read wherever it lies", "[kept]") {
    const std::size_t behind = EntryFile({{Stream::out, "x"}}).bytes().size() - 256 - 1;
    for (const std::size_t end : {65'536 - 1, 65'536, 65'536 + 1, 65'536 + 5, 65'536 + static_cast<int>(behind)}) {
        for (const std::size_t output : {end - behind, end}) {
            const std::vector<Said> said{{Stream::out, std::string(output, 'x')}};
            const EntryFile file(said);
            const auto entry = file.read();
            REQUIRE(entry);
            CHECK(same(replayed(*entry), said));
            CHECK(entry->facts().parts == facts().parts);
        }
    }
}

TEST_CASE("K3: an entry of another key is none, whatever it is called", "[kept]") {
    const EntryFile file(mixed);
    const Digest other = digest_of<32>("other");
    Descriptor opened = file.open();
    CHECK_FALSE(Entry::read(opened, &other));
    REQUIRE(opened);
    CHECK(Entry::read(opened, nullptr));
    CHECK_FALSE(opened);
}

TEST_CASE("T22: neither values of the environment nor what they are digested from can be read", "[kept]") {
    const EntryFile file(mixed);
    CHECK(file.bytes().find("secret") == std::string::npos);
    EntryFacts other = facts();
    other.salt = "fedcba9876543210";
    other.parts = digests_of({{"environment: TOKEN", "TOKEN=secret"}}, other.salt);
    CHECK(other.parts.front().value != facts().parts.back().value);
}

TEST_CASE("T25: what differs is named by parts, each once", "[kept]") {
    const EntryFacts kept = facts();
    CHECK(differences(kept, {{"argv", "make docs"}, {"environment: TOKEN", "TOKEN=secret"}}).empty());
    CHECK(differences(kept, {{"argv", "make docs"}, {"environment: TOKEN", "TOKEN=other"}}) ==
          std::vector<std::string>{"environment: TOKEN"});
    CHECK(differences(kept, {{"argv", "make docs"}, {"umask", "022"}}) ==
          std::vector<std::string>{"environment: TOKEN", "umask"});
}

TEST_CASE("F3: a spool that lies in a file is kept as well", "[kept]") {
    const SpoolLimits in_file{.store = {.heap_bytes = 0}};
    Scratch scratch;
    const Descriptor file(::open(scratch.path("entry").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    REQUIRE(write_entry(file.get(), *spool_of(mixed, in_file), facts()));
    Descriptor opened(::open(scratch.path("entry").c_str(), O_RDONLY | O_CLOEXEC));
    const auto entry = Entry::read(opened, nullptr);
    REQUIRE(entry);
    CHECK(same(replayed(*entry), mixed));
}
