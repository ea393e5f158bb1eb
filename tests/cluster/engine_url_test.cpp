// SPDX-License-Identifier: MIT
#include <coalesce/cluster/engine_url.h>

#include "../catch.h"

using namespace coalesce;
using namespace std::chrono_literals;

namespace {

EngineUrl parsed(const std::string& text) {
    INFO(text);
    auto url = EngineUrl::parse(text);
    if (!url) FAIL(url.error().message());
    return *url;
}

std::string refusal(const std::string& text) {
    const auto url = EngineUrl::parse(text);
    return url ? "none" : url.error().message();
}

}  // namespace

TEST_CASE("M3: an engine's URL has a host, a port and a database", "[cluster]") {
    const EngineUrl plain = parsed("redis://engine");
    CHECK(plain.host == "engine");
    CHECK(plain.port == 6379);
    CHECK(plain.database == 0);
    CHECK(plain.user.empty());
    CHECK(plain.address() == "redis://engine:6379/0");
    const EngineUrl full = parsed("redis://jo%40hn@10.0.0.5:7000/3");
    CHECK(full.user == "jo@hn");
    CHECK(full.host == "10.0.0.5");
    CHECK(full.port == 7000);
    CHECK(full.database == 3);
    CHECK(parsed("redis://[2001:db8::1]:7000").host == "2001:db8::1");
    CHECK(parsed("redis://[2001:db8::1]").address() == "redis://[2001:db8::1]:6379/0");
    CHECK(parsed("redis://engine/").database == 0);
}

TEST_CASE("M3: or the path of a socket", "[cluster]") {
    const EngineUrl url = parsed("redis+unix://john@/run/redis/redis.sock?lease=10s");
    CHECK(url.path == "/run/redis/redis.sock");
    CHECK(url.user == "john");
    CHECK(url.lease == 10s);
    CHECK(url.address() == "redis+unix:///run/redis/redis.sock");
}

TEST_CASE("M3: parameters stand behind a question mark", "[cluster]") {
    const EngineUrl none = parsed("redis://e");
    CHECK(none.lease == 60s);
    CHECK(none.keep == 60s);
    CHECK(none.keep_bytes == 1 << 20);
    CHECK(none.cap_bytes == 64 << 20);
    CHECK(none.down == EngineUrl::Down::fail);
    const EngineUrl all = parsed(
        "redis://e?secret=/s%26t&password=/p&lease=2s&down=run&ns=tests&keep=1h&keepsize=2M&cap=128M"
        "&proxy=socat STDIO OPENSSL:%h:%p,cafile=/ca,commonname=e");
    CHECK(all.secret_file == "/s&t");
    CHECK(all.password_file == "/p");
    CHECK(all.lease == 2s);
    CHECK(all.down == EngineUrl::Down::run);
    CHECK(all.ns == "tests");
    CHECK(all.keep == 1h);
    CHECK(all.keep_bytes == 2 << 20);
    CHECK(all.cap_bytes == 128 << 20);
    CHECK(all.proxy == "socat STDIO OPENSSL:%h:%p,cafile=/ca,commonname=e");
}

TEST_CASE("M3, M5: what is wrong with a URL is named", "[cluster]") {
    CHECK_THAT(refusal("redis://e?lease=1s&colour=red"), Contains("lease=1s") && Contains("2s to 1h"));
    CHECK_THAT(refusal("redis://e?colour=red"), Contains("'colour'"));
    CHECK_THAT(refusal("redis://e?lease=2h"), Contains("lease=2h"));
    CHECK_THAT(refusal("redis://e?lease=soon"), Contains("lease="));
    CHECK_THAT(refusal("redis://e?keepsize=big"), Contains("keepsize="));
    CHECK_THAT(refusal("redis://e?down=maybe"), Contains("down=maybe"));
    CHECK_THAT(refusal("redis://e?ns="), Contains("'ns'"));
    CHECK_THAT(refusal("redis://u:geheim@e"), Contains("password=FILE") && !Contains("geheim"));
    CHECK_THAT(refusal("redis://:geheim@e"), Contains("password=FILE") && !Contains("geheim"));
    CHECK_THAT(refusal("redis+unix://:geheim@/s"), Contains("password=FILE") && !Contains("geheim"));
    CHECK_THAT(refusal("rediss://e"), Contains("proxy="));
    CHECK_THAT(refusal("http://e"), Contains("'http://e'"));
    CHECK_THAT(refusal(""), Contains("redis://"));
    CHECK_THAT(refusal("redis://"), Contains("no host"));
    CHECK_THAT(refusal("redis://e:0"), Contains("'0'"));
    CHECK_THAT(refusal("redis://e:65536"), Contains("'65536'"));
    CHECK_THAT(refusal("redis://e:x"), Contains("'x'"));
    CHECK_THAT(refusal("redis://e/x"), Contains("'x'"));
    CHECK_THAT(refusal("redis://::1"), Contains("brackets"));
    CHECK_THAT(refusal("redis://[::1"), Contains("]"));
    CHECK_THAT(refusal("redis+unix://s"), Contains("absolute"));
    CHECK_THAT(refusal("redis+unix:///s?proxy=x"), Contains("proxy="));
}
