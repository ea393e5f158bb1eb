// SPDX-License-Identifier: MIT
#include <coalesce/reception/session.h>

#include <sys/socket.h>
#include <unistd.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <coalesce/io/loop.h>
#include <coalesce/io/unix_socket.h>

#include "../catch.h"

namespace coalesce {
namespace {

struct OneSession {
    Loop loop;
    Descriptor other_side;
    std::unique_ptr<Session> session;
    std::vector<std::string> heard;

    OneSession() {
        auto ends = connected_pair();
        REQUIRE(ends);
        other_side = std::move(ends->other);
        session = std::make_unique<Session>(
            loop, std::move(ends->one),
            Session::Events{.on_line = [this](std::string_view line, bool) { heard.emplace_back(line); },
                            .on_input_end = [this] { heard.emplace_back("(end)"); },
                            .on_gone =
                                [this] {
                                    heard.emplace_back("(gone)");
                                    session.reset();
                                },
                            .unanswered = [this] { return heard.size(); }});
    }

    void says(std::string_view text) const {
        REQUIRE(::write(other_side.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size()));
    }
};

using Heard = std::vector<std::string>;

// One that waits for its run's output, and counts how often it is asked for it.
struct Asked final : Rendering {
    explicit Asked(int& count) : asked(count) {}
    std::optional<Piece> next() override {
        ++asked;
        if (news.empty()) return std::nullopt;
        return Piece{Stream::out, {.bytes = news, .file = -1, .offset = 0, .length = news.size()}};
    }
    void advance(std::uint64_t length) override { news.remove_prefix(length); }
    [[nodiscard]] bool finished() const override { return false; }
    [[nodiscard]] bool between_messages() const override { return news.empty(); }
    int& asked;
    std::string_view news;
};

TEST_CASE("F5, T8: what was said before the connection closed is heard, though writing there has failed") {
    OneSession one;
    one.says("the run is to go on\nand this, too\n");
    one.other_side.reset();
    one.session->send("output\n");  // before the loop has looked at what came
    CHECK(one.session->gone());
    CHECK(one.heard.empty());
    one.session->send("more\n");
    one.loop.run();
    CHECK(one.heard == Heard{"the run is to go on", "and this, too", "(end)", "(gone)"});
}

TEST_CASE("F5, T8: … whatever was to be handed over") {
    OneSession one;
    one.says("the run is to go on\n");
    one.other_side.reset();
    one.session->send("a file\n", Descriptor(::dup(STDERR_FILENO)));
    one.loop.run();
    CHECK(one.heard == Heard{"the run is to go on", "(end)", "(gone)"});
}

TEST_CASE("F9: who reads no more and says no more is gone, though the connection stays") {
    OneSession one;
    one.says("the last\n");
    REQUIRE(::shutdown(one.other_side.get(), SHUT_RD) == 0);
    one.session->send("output\n");
    one.loop.run();
    CHECK(one.heard == Heard{"the last", "(gone)"});
}

TEST_CASE("F9: of whom its owner is done with nothing is heard any more") {
    OneSession one;
    one.says("too late\n");
    one.other_side.reset();
    one.session->send("output\n");
    one.session->finish();
    one.loop.run();
    CHECK(one.heard == Heard{"(gone)"});
}

TEST_CASE("S5: of thousands that wait for output on one connection only those that have some are asked for it") {
    OneSession one;
    constexpr int many = 20'000;
    int asked = 0;
    std::vector<Asked*> all;
    for (int i = 0; i < many; ++i) {
        auto rendering = std::make_unique<Asked>(asked);
        all.push_back(rendering.get());
        one.session->send(std::move(rendering));
    }
    CHECK(asked == many);
    for (int i = 0; i < 100; ++i) one.session->send(".");
    CHECK(asked == many);

    asked = 0;
    for (const int number : {7, 8, 7}) {
        all[static_cast<std::size_t>(number)]->news = "news";
        one.session->wake(*all[static_cast<std::size_t>(number)]);
    }
    one.loop.post([&one] { one.loop.post([&one] { one.session->finish(), one.session->drop(); }); });
    one.loop.run();
    CHECK(asked == 4);  // each for its message, and whether that was all
    std::string came(200, ' ');
    came.resize(static_cast<std::size_t>(::read(one.other_side.get(), came.data(), came.size())));
    CHECK(came == std::string(100, '.') + "newsnews");
}

TEST_CASE("S5, F9: of whom reads nothing no more is taken than answers may wait, whether they have come or not") {
    OneSession one;
    constexpr std::size_t many = 5000;
    const std::string news(1 << 20, '.');
    int asked = 0;
    auto rendering = std::make_unique<Asked>(asked);
    rendering->news = news;
    one.session->send(std::move(rendering));
    REQUIRE(one.session->blocked());
    std::string lines;
    for (std::size_t i = 0; i < many; ++i) lines += "x\n";
    one.says(lines);
    std::size_t heard_unread = 0;
    int turns = 0;
    std::string block(1 << 16, ' ');
    const std::function<void()> turn = [&] {
        if (++turns == 20) heard_unread = one.heard.size();
        if (turns >= 20 && one.heard.size() < many)
            static_cast<void>(::recv(one.other_side.get(), block.data(), block.size(), MSG_DONTWAIT));
        if (turns >= 20 && one.heard.size() == many) return one.session->drop();
        one.loop.post([&turn] { turn(); });
    };
    turn();
    one.loop.run();
    CHECK(heard_unread > 0);
    CHECK(heard_unread < 2000);
    CHECK(one.heard.size() == many + 1);
}

}  // namespace
}  // namespace coalesce
