// SPDX-License-Identifier: MIT
// Renderings whose connection takes nothing for a while: what is left of a stream that was left, and an answer that
// waits.

#include <coalesce/io/spool.h>
#include <coalesce/protocol/rendering.h>

#include <unistd.h>

#include <memory>
#include <string>

#include "../catch.h"
#include "../scratch.h"

namespace coalesce {
namespace {

const SpoolLimits limits{};

class Followed {
    std::shared_ptr<Spool> spool_ = std::make_shared<Spool>(limits);

  public:
    explicit Followed(const std::string& output) {
        REQUIRE(spool_->append(Stream::out, output));
        spool_->close();
    }
    StreamRendering rendering{spool_, "7", [](const StreamRendering&) {}};

    // Takes so many bytes of what is offered, or all there are.
    std::string take(std::size_t most) {
        std::string taken;
        while (taken.size() < most) {
            const auto piece = rendering.next();
            if (!piece) break;
            const std::string_view bytes = piece->extent.bytes.substr(0, most - taken.size());
            taken += bytes;
            rendering.advance(bytes.size());
        }
        return taken;
    }
};

const std::string message = "{\"id\":7,\"event\":\"stdout\",\"bytes\":5}\nhello";

TEST_CASE("S4: a message that was offered and not begun is not sent after the request's end", "[protocol]") {
    Followed followed("hello");
    REQUIRE(followed.rendering.next());  // a connection that takes nothing now
    followed.rendering.stop();
    CHECK(followed.rendering.finished());
    CHECK_FALSE(followed.rendering.next());
}

TEST_CASE("S4: a message that was begun is sent to its end", "[protocol]") {
    for (std::size_t begun = 1; begun <= message.size(); ++begun) {
        Followed followed("hello");
        const std::string first = followed.take(begun);
        followed.rendering.stop();
        CHECK(first + followed.take(1000) == message);
        CHECK(followed.rendering.finished());
    }
}

TEST_CASE("S5: of a message that was begun, what somebody cut off its file is waited for by nobody", "[protocol]") {
    const Scratch scratch;
    const SpoolLimits in_a_file{.store = {.heap_bytes = 0, .directory = scratch.path()}};
    constexpr std::uint64_t readable = 100'000;
    auto spool = std::make_shared<Spool>(in_a_file);
    REQUIRE(spool->append(Stream::out, std::string(200'000, 'x')));
    REQUIRE(spool->file() >= 0);
    StreamRendering rendering(spool, "7", [](const StreamRendering&) {});
    rendering.advance(rendering.next()->extent.length);  // the line that announces all of it
    rendering.advance(50'000);
    REQUIRE(::ftruncate(spool->file(), readable) == 0);
    rendering.stop();
    const Extent rest = rendering.next()->extent;
    CHECK(rest.bytes == std::string(readable - 50'000, 'x'));
    rendering.advance(rest.length);
    // The connection finds that nothing can be sent of what is there, and closes: an end, never a gap.
    REQUIRE(rendering.next());
    CHECK(rendering.next()->extent.length == 0);
    CHECK_FALSE(rendering.finished());
}

TEST_CASE("S4: a last line is sent once, and ends it", "[protocol]") {
    Followed followed("hello");
    followed.rendering.end("last\n");
    CHECK(followed.take(1000) == message + "last\n");
    CHECK(followed.rendering.finished());
}

TEST_CASE("S5: whether output is text is found out once for all who ask for the whole", "[protocol]") {
    const Scratch scratch;
    const SpoolLimits in_a_file{.store = {.heap_bytes = 0, .directory = scratch.path()}};
    auto result = std::make_shared<RunResult>();
    result->spool = std::make_shared<Spool>(in_a_file);
    REQUIRE(result->spool->append(Stream::out, std::string(100'000, 'x') + '\xff'));
    REQUIRE(result->spool->append(Stream::err, std::string("text")));
    result->spool->close();
    const auto rendered = [&result] {
        std::string answer;
        const auto rendering = render(Format::json, result, {.id = "1", .with_output = true});
        while (const auto piece = rendering->next()) {
            answer += piece->extent.bytes;
            rendering->advance(piece->extent.length);
        }
        return answer;
    };
    const std::string first = rendered();
    CHECK(first.find("\"stdout_base64\":") != std::string::npos);
    CHECK(first.find("\"stderr\":\"text\"") != std::string::npos);
    REQUIRE(::pwrite(result->spool->file(), "x", 1, 100'000) == 1);  // which nobody looks for again
    CHECK(rendered().find("\"stdout_base64\":") != std::string::npos);
}

TEST_CASE("S4, F9: an answer that waits for its connection keeps the output it is of", "[protocol]") {
    const SpoolLimits few{.replay_bytes = 64 * 1024};
    auto spool = std::make_shared<Spool>(few);
    SpoolReader slow(*spool);
    for (int i = 0; i < 30; ++i) REQUIRE(spool->append(Stream::out, std::string(10'000, 'x')));
    spool->close();
    REQUIRE(spool->whole());
    auto result = std::make_shared<RunResult>();
    result->spool = spool;
    const auto rendering = render(Format::json, result, {.id = "1", .with_output = true});
    while (const auto piece = slow.next()) slow.advance(piece->extent.length);
    std::string answer;
    while (const auto piece = rendering->next()) {
        answer += piece->extent.bytes;
        rendering->advance(piece->extent.length);
    }
    CHECK(answer.find(std::string(300'000, 'x')) != std::string::npos);
}

}  // namespace
}  // namespace coalesce
