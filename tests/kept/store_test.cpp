// SPDX-License-Identifier: MIT
// The directory of kept results (SPEC T2, T5, T7, T11, T15–T21).
#include <coalesce/kept/store.h>

#include <coalesce/kept/kept_flight.h>

#include "../catch.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <thread>

#include "../scratch.h"

using namespace coalesce;
using namespace std::chrono_literals;
namespace fs = std::filesystem;

namespace {

const SpoolLimits no_limits{};

std::shared_ptr<Spool> spool_of(std::string_view text) {
    auto spool = std::make_shared<Spool>(no_limits);
    if (!text.empty()) REQUIRE(spool->append(Stream::out, text));
    spool->close();
    return spool;
}

Moment moved(Moment moment, std::chrono::nanoseconds by) {
    moment.wall_ns += by.count();
    moment.boot_ns += by.count();
    return moment;
}

class Kept {
  public:
    explicit Kept(std::string name = "cache")
        : store(std::move(*KeptStore::open({.base = scratch.path(name), .name = "1", .shared = true}, true).value())) {}

    static StoreKey key(const std::string& text = "key") {
        return {.name = hexadecimal(digest_of<16>(text)), .digest = digest_of<32>(text)};
    }
    EntryFacts facts(int exit_status = 0) const {
        return {.started = moved(t0, -2s), .ended = t0, .duration = 2s, .exit_status = exit_status, .title = "make"};
    }
    KeptStore::Publishing publish(std::string_view output, const EntryFacts& facts, const StoreKey& as = key()) const {
        auto prepared = store.prepare(as, *spool_of(output), facts, 1h);
        REQUIRE(prepared);
        auto committed = prepared->commit();
        REQUIRE(committed);
        return *committed;
    }
    KeptStore::Publishing publish(std::string_view output) const { return publish(output, facts()); }
    std::string output(const Wish& wish, std::chrono::nanoseconds later = 0s, const StoreKey& of = key()) const {
        const auto hit = store.find(of, wish, {}, moved(t0, later));
        if (!hit) return "none";
        std::string text;
        for (const Entry::Piece& piece : hit->entry.pieces()) text += piece.bytes;
        return text + (hit->verdict.refresh ? " refresh" : "");
    }
    [[nodiscard]] std::string file(const std::string& suffix = {}) const {
        return store.place().path() + "/" + key().name + suffix;
    }

    Scratch scratch;
    KeptStore store;
    const Moment t0 = now();
};

const Wish hour{.ttl = 1h};

}  // namespace

TEST_CASE("T2: what was kept is served for as long as the reader says", "[kept]") {
    const Kept kept;
    CHECK(kept.output(hour) == "none");
    CHECK(kept.publish("out") == KeptStore::Publishing::kept);
    CHECK(kept.output(hour, 59min) == "out");
    CHECK(kept.output({.ttl = 1s}, 2s) == "none");
    CHECK(kept.output(hour, 59min) == "out");  // a reader with a short time takes nothing away
    CHECK(kept.output({}) == "none");
    CHECK(kept.output(hour, 0s, Kept::key("other")) == "none");
}

TEST_CASE("T5: after a refresh that failed the next is due when --stale has passed again", "[kept]") {
    const Kept kept;
    const Wish wish{.ttl = 1h, .stale = 10s};
    kept.publish("out");
    CHECK(kept.output(wish, 5s) == "out");
    CHECK(kept.output(wish, 11s) == "out refresh");
    kept.store.note_failed_refresh(Kept::key(), moved(kept.t0, 11s));
    CHECK(kept.output(wish, 20s) == "out");
    CHECK(kept.output(wish, 22s) == "out refresh");
    kept.publish("bad", kept.facts(3));  // which is no answer for who waits for a refresh
    CHECK(kept.output(wish, 20s) == "out");
    kept.publish("new");
    CHECK_FALSE(fs::exists(kept.file(".t")));
}

TEST_CASE("T7: a failure never displaces a success; of the two the younger is served", "[kept]") {
    const Kept kept;
    const Wish either{.ttl = 1h, .keep_failures = 1h};
    kept.publish("good");
    EntryFacts failed = kept.facts(3);
    failed.ended = moved(kept.t0, 1s);
    kept.publish("bad", failed);
    CHECK(kept.output(hour, 2s) == "good");
    CHECK(kept.output(either, 2s) == "bad");
    EntryFacts better = kept.facts();
    better.started = better.ended = moved(kept.t0, 2s);
    kept.publish("better", better);
    CHECK(kept.output(either, 3s) == "better");
}

TEST_CASE("T11: a result of another program is not served", "[kept]") {
    Scratch scratch;
    const auto store = KeptStore::open({.base = scratch.path("c"), .name = "1", .shared = false}, true);
    const Kept kept;
    EntryFacts facts = kept.facts();
    facts.program = {.device = 1, .inode = 2, .size = 3, .modified_ns = 4};
    const auto found = [&](const KeptStore& in, const ProgramIdentity& program) {
        return in.find(Kept::key(), hour, program, kept.t0).has_value();
    };
    for (const KeptStore* in : {&*store.value(), &kept.store}) {
        auto prepared = in->prepare(Kept::key(), *spool_of("x"), facts, 1h);
        REQUIRE(prepared);
        REQUIRE(prepared->commit());
        CHECK(found(*in, facts.program));
        CHECK_FALSE(found(*in, {.device = 1, .inode = 2, .size = 3, .modified_ns = 5}));
        CHECK_FALSE(found(*in, {.device = 1, .inode = 2, .size = 4, .modified_ns = 4}));
        // T16: numbers of one kernel mean nothing where others share the directory.
        CHECK(found(*in, {.device = 1, .inode = 9, .size = 3, .modified_ns = 4}) == in->place().shared);
    }
}

TEST_CASE("T15, T17: what is damaged, or not written by us alone, is not served", "[kept]") {
    const Kept kept;
    kept.publish("out");
    const auto rejected = [&](const char* what, auto spoil, bool removed) {
        INFO(what);
        spoil();
        CHECK(kept.output(hour) == "none");
        CHECK(fs::exists(fs::symlink_status(kept.file())) == !removed);
        fs::remove_all(kept.file());
        kept.publish("out");
        CHECK(kept.output(hour) == "out");
    };
    rejected(
        "cut", [&] { fs::resize_file(kept.file(), 300); }, true);
    rejected(
        "empty", [&] { fs::resize_file(kept.file(), 0); }, true);
    rejected(
        "others may write", [&] { ::chmod(kept.file().c_str(), 0660); }, false);
    rejected(
        "a second link", [&] { fs::create_hard_link(kept.file(), kept.file() + "-2"); }, false);
    fs::remove(kept.file() + "-2");
    rejected(
        "a symbolic link",
        [&] {
            fs::rename(kept.file(), kept.file() + "-2");
            fs::create_symlink(kept.file() + "-2", kept.file());
        },
        false);
    rejected(
        "a pipe",
        [&] {
            fs::remove(kept.file());
            REQUIRE(::mkfifo(kept.file().c_str(), 0600) == 0);
        },
        false);
    rejected(
        "a directory",
        [&] {
            fs::remove(kept.file());
            fs::create_directory(kept.file());
        },
        false);
    rejected(
        "a failure under a success's name",
        [&] {
            EntryFacts failed = kept.facts(3);
            kept.publish("bad", failed);
            fs::rename(kept.file(".f"), kept.file());
        },
        true);
}

TEST_CASE("T16: private whatever the umask; another user's, or a wider one, is refused", "[kept]") {
    Scratch scratch;
    const mode_t before = ::umask(0);
    const StorePlace place{.base = scratch.path("a/b"), .name = "1", .shared = true};
    CHECK_FALSE(KeptStore::open(place, false).value());
    REQUIRE(KeptStore::open(place, true).value());
    const Kept kept;
    kept.publish("out");
    ::umask(before);
    struct stat info {};
    REQUIRE(::stat(place.path().c_str(), &info) == 0);
    CHECK((info.st_mode & 07777) == 0700);
    REQUIRE(::stat(kept.file().c_str(), &info) == 0);
    CHECK((info.st_mode & 07777) == 0600);
    REQUIRE(::chmod(place.path().c_str(), 0750) == 0);
    CHECK_FALSE(KeptStore::open(place, true));
    if (::geteuid() == 0) {
        REQUIRE(::chmod(place.path().c_str(), 0700) == 0);
        REQUIRE(::chown(place.path().c_str(), 65534, 65534) == 0);
        CHECK_FALSE(KeptStore::open(place, true));
        // Below another user's directory nothing is made (sudo with the user's HOME).
        CHECK_FALSE(KeptStore::open({.base = place.path() + "/deeper", .name = "1", .shared = true}, true));
        CHECK_FALSE(fs::exists(place.path() + "/deeper"));
    }
}

TEST_CASE("T16: the default directory knows machine, boot and namespaces; a named one is for all", "[kept]") {
    const std::vector<std::string> home{"HOME=/home/x"};
    const StorePlace own = store_place("", home, "net:1");
    CHECK(own.base == "/home/x/.cache/coalesce");
    CHECK_FALSE(own.shared);
    CHECK(own.name != store_place("", home, "net:2").name);
    CHECK(store_place("", {"HOME=/home/x", "XDG_CACHE_HOME=/c"}, "").base == "/c/coalesce");
    CHECK(store_place("", {}, "").base == "/var/tmp/coalesce-" + std::to_string(::geteuid()));
    CHECK(store_place("dir", home, "").base == std::filesystem::current_path() / "dir");  // for who joins, too
    CHECK(store_place("", {"COALESCE_CACHE_DIR=/d"}, "").base == "/d");
    CHECK(store_place("/e", {"COALESCE_CACHE_DIR=/d"}, "").base == "/e");
    CHECK(store_place("/e", home, "net:1").name == store_place("/e", home, "net:2").name);
}

TEST_CASE("T18: an older run's result never replaces a newer one's", "[kept]") {
    const Kept kept;
    EntryFacts newer = kept.facts();
    newer.started = moved(kept.t0, -1s);
    CHECK(kept.publish("newer", newer) == KeptStore::Publishing::kept);
    CHECK(kept.publish("older") == KeptStore::Publishing::older);
    CHECK(kept.output(hour) == "newer");
    SECTION("but one from the future, which serves nobody, does not stand in the way") {
        EntryFacts future = kept.facts();
        future.started = future.ended = moved(kept.t0, 24h);
        kept.publish("future", future);
        CHECK(kept.publish("now") == KeptStore::Publishing::kept);
        CHECK(kept.output(hour) == "now");
    }
}

TEST_CASE("T18: who has opened an entry gets all of it though it is replaced or removed", "[kept]") {
    const Kept kept;
    kept.publish(std::string(300'000, 'x'));
    auto hit = kept.store.find(Kept::key(), hour, {}, kept.t0);
    REQUIRE(hit);
    REQUIRE(kept.store.clear(kept.t0));
    auto spool = hit->entry.replay(no_limits);
    REQUIRE(spool);
    CHECK((*spool)->size() == 300'000);
}

TEST_CASE("T18: a publication that is given up leaves nothing, one that meets another waits for nobody", "[kept]") {
    const Kept kept;
    {
        auto prepared = kept.store.prepare(Kept::key(), *spool_of("x"), kept.facts(), 1h);
        REQUIRE(prepared);
        const pid_t other = ::fork();
        if (other == 0) {
            const int file = ::open((kept.store.place().path() + "/lock").c_str(), O_RDWR | O_CREAT, 0600);
            struct flock all {};
            all.l_type = F_WRLCK;
            ::_exit(::fcntl(file, F_SETLK, &all) == 0 && ::raise(SIGSTOP) == 0 ? 0 : 1);
        }
        int status = 0;
        REQUIRE(::waitpid(other, &status, WUNTRACED) == other);
        REQUIRE(WIFSTOPPED(status));
        CHECK(*prepared->commit() == KeptStore::Publishing::busy);
        REQUIRE(::kill(other, SIGKILL) == 0);
        REQUIRE(::waitpid(other, &status, 0) == other);
    }
    for (const auto& entry : fs::directory_iterator(kept.store.place().path()))
        CHECK(entry.path().filename() == "lock");
}

TEST_CASE("T18: who clears is not kept out by those who come for one key after the other", "[kept]") {
    const Kept kept;
    const auto lock = [&](int file, short type, off_t start, int how) {
        struct flock range {};
        range.l_type = type;
        range.l_whence = SEEK_SET;
        range.l_start = start;
        range.l_len = 1;
        REQUIRE(::fcntl(file, how, &range) == 0);
        return range.l_type;
    };
    const int file = ::open((kept.store.place().path() + "/lock").c_str(), O_RDWR | O_CREAT, 0600);
    lock(file, F_WRLCK, 7, F_OFD_SETLK);  // one who publishes some key, and takes its time
    bool cleared = false;
    std::jthread clears([&] { cleared = kept.store.clear(now()).ok(); });
    while (lock(file, F_WRLCK, off_t{1} << 60, F_OFD_GETLK) == F_UNLCK) std::this_thread::yield();
    CHECK(kept.publish("out") == KeptStore::Publishing::busy);
    ::close(file);
    clears.join();
    CHECK(cleared);
    EntryFacts later = kept.facts();
    later.started = now();
    CHECK(kept.publish("out", later) == KeptStore::Publishing::kept);
}

TEST_CASE("T21: what was forgotten or cleared stays so, though a run that started before ends later", "[kept]") {
    const Kept kept;
    kept.publish("out");
    SECTION("forgotten") {
        REQUIRE(kept.store.forget(Kept::key().name, moved(kept.t0, -1s)));
        // One that was asked for before, and has had to wait.
        REQUIRE(kept.store.forget(Kept::key().name, moved(kept.t0, -1h)));
        CHECK(kept.publish("late") == KeptStore::Publishing::forgotten);
        CHECK(kept.publish("out", kept.facts(), Kept::key("other")) == KeptStore::Publishing::kept);
    }
    SECTION("cleared") {
        REQUIRE(kept.store.clear(moved(kept.t0, -1s)));
        REQUIRE(kept.store.clear(moved(kept.t0, -1h)));
        CHECK(kept.publish("late") == KeptStore::Publishing::forgotten);
    }
    CHECK(kept.output(hour) == "none");
    EntryFacts later = kept.facts();
    later.started = kept.t0;
    CHECK(kept.publish("later", later) == KeptStore::Publishing::kept);
    CHECK(kept.output(hour) == "later");
}

TEST_CASE("T19: past its time it goes, then the least recently used down to nine tenths", "[kept]") {
    const Kept kept;
    const auto count = [&] { return kept.store.list(kept.t0).results.size(); };
    for (int number = 0; number < 20; ++number) {
        kept.publish("out", kept.facts(), Kept::key(std::to_string(number)));
        const std::string path = kept.store.place().path() + "/" + Kept::key(std::to_string(number)).name;
        const timespec times[2] = {{.tv_sec = 1'000 + number, .tv_nsec = 0}, {.tv_sec = 4'000'000'000, .tv_nsec = 0}};
        REQUIRE(::utimensat(AT_FDCWD, path.c_str(), times, 0) == 0);
    }
    CHECK(kept.store.clean(kept.t0, true)->removed == 0);
    REQUIRE(kept.store.set_limits({.total_bytes = 1 << 20, .entry_bytes = 1'000, .results = 10}));
    CHECK(kept.store.limits().entry_bytes == 1'000);
    CHECK(kept.store.clean(kept.t0, true)->removed == 11);
    CHECK(count() == 9);
    CHECK(kept.output(hour, 0s, Kept::key("0")) == "none");
    CHECK(kept.output(hour, 0s, Kept::key("19")) == "out");
    SECTION("one that is too large is not kept") {
        CHECK_FALSE(kept.store.prepare(Kept::key(), *spool_of(std::string(2'000, 'x')), kept.facts(), 1h));
    }
    SECTION("past its time") {
        const std::string path = kept.store.place().path() + "/" + Kept::key("19").name;
        const timespec times[2] = {{.tv_sec = 1'000, .tv_nsec = 0}, {.tv_sec = 1'000, .tv_nsec = 0}};
        REQUIRE(::utimensat(AT_FDCWD, path.c_str(), times, 0) == 0);
        CHECK_FALSE(kept.store.clean(now(), false));  // less than a minute ago
        CHECK(kept.store.clean(moved(now(), 61s), false)->removed == 1);
    }
    SECTION("no oftener than so that it takes a hundredth of the time") {
        std::ofstream(kept.store.place().path() + "/cleaned") << "2000000000\n";  // so long it took
        CHECK_FALSE(kept.store.clean(moved(now(), 190s), false));
        CHECK(kept.store.clean(moved(now(), 210s), false));
    }
    SECTION("by size") {
        const std::uint64_t one = fs::file_size(kept.store.place().path() + "/" + Kept::key("19").name);
        REQUIRE(kept.store.set_limits({.total_bytes = 5 * one, .entry_bytes = 1'000, .results = 100}));
        CHECK(kept.store.clean(kept.t0, true)->bytes == 5 * one);
        CHECK(count() == 4);
        CHECK(kept.output(hour, 0s, Kept::key("19")) == "out");
    }
    SECTION("of few, too, a tenth at most is more than it must be") {
        for (const std::size_t most : {5U, 1U}) {
            REQUIRE(kept.store.set_limits({.total_bytes = 1 << 20, .entry_bytes = 1'000, .results = most}));
            CHECK(kept.store.clean(kept.t0, true)->removed > 0);
            CHECK(count() == most);
            CHECK(kept.output(hour, 0s, Kept::key("19")) == "out");
        }
    }
    SECTION("files that a killed publisher left go after an hour") {
        const std::string left = kept.store.place().path() + "/1-2-3.new";
        std::ofstream(left) << "x";
        fs::last_write_time(left, fs::file_time_type::clock::now() + 24h * 30);  // until when it was to be kept
        CHECK(kept.store.clean(kept.t0, true));
        CHECK(fs::exists(left));
        CHECK(kept.store.clean(moved(now(), 2h), true));
        CHECK_FALSE(fs::exists(left));
    }
}

TEST_CASE("T16: stores of this machine's former boots are removed", "[kept]") {
    Scratch scratch;
    const StorePlace place = store_place("", {"XDG_CACHE_HOME=" + scratch.path()}, "ns");
    auto store = KeptStore::open(place, true);
    REQUIRE(store.value());
    std::string former = place.name;
    former[11] = former[11] == '0' ? '1' : '0';  // of the boot's eight digits
    std::string elsewhere = place.name;
    elsewhere[2] = elsewhere[2] == '0' ? '1' : '0';
    for (const std::string& name : {former, elsewhere}) {
        fs::create_directory(place.base + "/" + name);
        std::ofstream(place.base + "/" + name + "/x") << "x";
    }
    REQUIRE(store.value()->clean(now(), true));
    CHECK_FALSE(fs::exists(place.base + "/" + former));
    CHECK(fs::exists(place.base + "/" + elsewhere));
    CHECK(fs::exists(place.path()));
}

TEST_CASE("T23: what is kept is listed, the youngest first", "[kept]") {
    const Kept kept;
    EntryFacts old = kept.facts();
    old.ended = moved(kept.t0, -1s);
    old.title = "old";
    kept.publish("1", old, Kept::key("old"));
    kept.publish("22");
    const auto list = kept.store.list(kept.t0).results;
    REQUIRE(list.size() == 2);
    CHECK(list[0].facts.title == "make");
    CHECK(list[0].output_bytes == 2);
    CHECK(list[1].name == Kept::key("old").name);
    CHECK(list[0].left > 59min);
}

TEST_CASE("T11: a program is found without a PATH, as it is executed", "[kept]") {
    const auto program_with = [](std::vector<std::string> env) {
        return program_of(
            {.argv = {"ls"},
             .surroundings = std::make_shared<const Surroundings>(Surroundings{.cwd = "/", .env = std::move(env)})},
            "/");
    };
    CHECK(program_with({}) == program_with({"PATH=/bin:/usr/bin"}));
    CHECK_FALSE(program_with({}) == ProgramIdentity{});
    CHECK(program_with({"PATH=/nowhere"}) == ProgramIdentity{});
    Scratch scratch;
    ::symlink("/proc/self/exe", scratch.path("ls").c_str());
    const ProgramIdentity ourselves = program_with({"PATH=" + scratch.path()});
    CHECK_FALSE(ourselves == ProgramIdentity{});
    CHECK(program_with({"PATH=" + scratch.path() + ":/bin"}) == program_with({"PATH=/bin"}));
}
