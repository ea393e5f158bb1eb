// SPDX-License-Identifier: MIT
#include <coalesce/cluster/secret.h>

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <set>
#include <string>

#include "../catch.h"
#include "../not_tried.h"
#include "../scratch.h"

using namespace coalesce;

namespace {

std::string refusal_of_file(const std::string& path) {
    const auto secret = Secret::read(path);
    return secret ? "none" : secret.error().message();
}

const std::string thirty_two(32, 's');

}  // namespace

TEST_CASE("M4: a secret is a file of 32 bytes or more that others may not use", "[cluster]") {
    const Scratch scratch;
    CHECK(refusal_of_file(scratch.file("good", thirty_two, 0600)) == "none");
    CHECK(refusal_of_file(scratch.file("group", thirty_two, 0640)) == "none");
    CHECK_THAT(refusal_of_file(scratch.file("short", thirty_two.substr(1), 0600)),
               Contains("31 bytes") && Contains("short"));
    for (const mode_t open : {0604u, 0602u, 0601u})
        CHECK_THAT(refusal_of_file(scratch.file("open", thirty_two, open)),
                   Contains("chmod o= " + scratch.path("open")));
    CHECK_THAT(refusal_of_file(scratch.file("long", std::string(1 << 20, 's'), 0600)), Contains("64 KiB"));
    CHECK_THAT(refusal_of_file(scratch.path("none")), Contains(scratch.path("none")));
    CHECK_THAT(refusal_of_file(scratch.path()), Contains("no file"));
    REQUIRE(::mkfifo(scratch.path("fifo").c_str(), 0600) == 0);
    CHECK_THAT(refusal_of_file(scratch.path("fifo")), Contains("no file"));
    REQUIRE(::symlink("good", scratch.path("link").c_str()) == 0);  // as Kubernetes mounts it
    CHECK(refusal_of_file(scratch.path("link")) == "none");
    if (::geteuid() != 0) return not_tried("M4: a secret of another user", "root is needed");
    REQUIRE(::chown(scratch.file("foreign", thirty_two, 0600).c_str(), 12345, 12345) == 0);
    CHECK_THAT(refusal_of_file(scratch.path("foreign")), Contains("neither you nor root"));
}

TEST_CASE("M4: without a name it is looked for in two places", "[cluster]") {
    const Scratch scratch;
    const std::string before = ::getenv("XDG_CONFIG_HOME") != nullptr ? ::getenv("XDG_CONFIG_HOME") : "";
    ::setenv("XDG_CONFIG_HOME", scratch.path().c_str(), 1);
    if (::access("/etc/coalesce/cluster.secret", F_OK) != 0)
        CHECK_THAT(refusal_of_file(""), Contains(scratch.path("coalesce/cluster.secret")) &&
                                            Contains("/etc/coalesce/cluster.secret") && Contains("secret=FILE"));
    REQUIRE(::mkdir(scratch.path("coalesce").c_str(), 0700) == 0);
    scratch.file("coalesce/cluster.secret", thirty_two, 0604);
    CHECK_THAT(refusal_of_file(""), Contains("chmod o="));  // not passed over
    REQUIRE(::chmod(scratch.path("coalesce/cluster.secret").c_str(), 0600) == 0);
    CHECK(refusal_of_file("") == "none");
    before.empty() ? ::unsetenv("XDG_CONFIG_HOME") : ::setenv("XDG_CONFIG_HOME", before.c_str(), 1);
}

TEST_CASE("M4: a newline at the end does not tell two secrets apart", "[cluster]") {
    const Scratch scratch;
    const auto bare = Secret::read(scratch.file("bare", thirty_two, 0600));
    const auto ended = Secret::read(scratch.file("ended", thirty_two + "\n", 0600));
    CHECK(bare.value().name_of("ns", "key") == ended.value().name_of("ns", "key"));
}

TEST_CASE("M9: the name of a key follows from secret, namespace and key, and from nothing else", "[cluster]") {
    const Secret secret(thirty_two);
    const std::string name = secret.name_of("ns", "key");
    CHECK(name.size() == 32);
    CHECK(name.find_first_not_of("0123456789abcdef") == std::string::npos);
    CHECK(Secret(thirty_two).name_of("ns", "key") == name);
    const std::set<std::string> all{name, secret.name_of("n", "skey"), secret.name_of("ns", "kez"),
                                    secret.name_of("", "nskey"), Secret(std::string(32, 't')).name_of("ns", "key")};
    CHECK(all.size() == 5);
}

TEST_CASE("M37: what is sealed opens for its run, kind and number only, and unaltered", "[cluster]") {
    const Secret secret(thirty_two);
    const Seal seal = secret.seal_of("K", "a.1");
    const std::string text("out\0put", 7);
    const std::string sealed = seal.seal(Seal::Kind::chunk, 2, text);
    CHECK(sealed.size() == text.size() + Seal::overhead);
    CHECK(sealed.find("put") == std::string::npos);
    CHECK(seal.open(Seal::Kind::chunk, 2, sealed) == text);
    CHECK(secret.seal_of("K", "a.1").open(Seal::Kind::chunk, 2, sealed) == text);
    CHECK(seal.seal(Seal::Kind::chunk, 2, text) != sealed);
    CHECK_FALSE(seal.open(Seal::Kind::chunk, 3, sealed));
    CHECK_FALSE(seal.open(Seal::Kind::end, 2, sealed));
    CHECK_FALSE(secret.seal_of("K", "a.2").open(Seal::Kind::chunk, 2, sealed));
    CHECK_FALSE(secret.seal_of("L", "a.1").open(Seal::Kind::chunk, 2, sealed));
    CHECK_FALSE(Secret(std::string(32, 't')).seal_of("K", "a.1").open(Seal::Kind::chunk, 2, sealed));
    for (std::size_t at = 0; at < sealed.size(); ++at) {
        std::string altered = sealed;
        altered[at] = static_cast<char>(altered[at] ^ 1);
        CHECK_FALSE(seal.open(Seal::Kind::chunk, 2, altered));
        CHECK_FALSE(seal.open(Seal::Kind::chunk, 2, sealed.substr(0, at)));
    }
    CHECK_FALSE(seal.open(Seal::Kind::chunk, 2, sealed + "x"));
    CHECK(seal.open(Seal::Kind::info, 0, seal.seal(Seal::Kind::info, 0, "")) == "");
}
