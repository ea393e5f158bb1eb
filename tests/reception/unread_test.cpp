// SPDX-License-Identifier: MIT
// F9, F14, S5: what waits for one client that does not read takes neither the memory nor the
// descriptors that the others need. A real loop and real runs; the client is this test.
#include <coalesce/reception/reception.h>

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <coalesce/io/loop.h>
#include <coalesce/io/unix_socket.h>

#include "../catch.h"

namespace coalesce {
namespace {

// Asks for so many results of one form, and for one whole before them, and reads when all have landed.
struct Unread {
    static constexpr std::uint64_t allowed = 3'000'000;

    Loop loop;
    MemoryBudget budget;
    std::shared_ptr<const Surroundings> surroundings =
        std::make_shared<const Surroundings>(Surroundings{"/", {"PATH=/usr/bin:/bin"}, 022});
    std::shared_ptr<const CanonicalSurroundings> canonical = std::make_shared<const CanonicalSurroundings>("here");
    CommandExecutor executor{loop, {.jobs = 1, .spool = {.store = {.directory = {}, .budget = &budget}}}};
    Reception reception{loop,
                        executor,
                        {},
                        {.on_line = [this](Client& from, std::string_view line, bool) { ask(from, line); },
                         .on_served =
                             [](Client& from) {
                                 if (from.session->input_ended()) from.session->finish();
                             },
                         .on_over = [this](FlightId) { over(); }}};
    Descriptor client;
    Watch watch;
    Request::Output form;
    std::string command;
    std::uint64_t most_used = 0;
    int to_land = 0;
    std::string came;

    Unread(Request::Output output, std::string line, std::uint64_t memory = allowed)
        : budget(memory), form(output), command(std::move(line)) {}

    void ask(Client& from, std::string_view number) {
        const std::string words = command + " # " + std::string(number);
        RunTicket ticket = executor.submit(RequestKey{canonical, words}, [&] {
            return Job{.command = {{"/bin/sh", "-c", words}, surroundings, {}}, .title = words};
        });
        reception.enter(
            from, {.id = std::string(number), .title = words, .output = number == "0" ? Request::Output::whole : form},
            std::move(ticket));
    }

    // The last requester is told after this, and then the client reads.
    void over() {
        most_used = std::max(most_used, budget.used());
        if (--to_land == 0) loop.post([this] { loop.post([this] { read_all(); }); });
    }

    void run(int requests) {
        to_land = requests;
        auto ends = connected_pair();
        REQUIRE(ends);
        client = std::move(ends->other);
        REQUIRE(::fcntl(ends->one.get(), F_SETFL, O_NONBLOCK) == 0);  // as of one that was accepted
        reception.receive(std::make_unique<Client>(::geteuid(), ::getpid()), std::move(ends->one));
        std::string lines;
        for (int i = 0; i < requests; ++i) lines += std::to_string(i) + "\n";
        REQUIRE(::write(client.get(), lines.data(), lines.size()) == static_cast<ssize_t>(lines.size()));
        loop.run();
    }

    void read_all() {
        ::shutdown(client.get(), SHUT_WR);
        watch = std::move(*Watch::start(loop, client.get(), Readiness::readable, [this] {
            std::string block(1 << 16, '\0');
            const ssize_t got = ::recv(client.get(), block.data(), block.size(), MSG_DONTWAIT);
            if (got > 0) return void(came.append(block, 0, static_cast<std::size_t>(got)));
            watch.reset();
            client.reset();
        }));
    }

    [[nodiscard]] int count(std::string_view words) const {
        int times = 0;
        for (std::size_t at = 0; (at = came.find(words, at)) != std::string::npos; ++at) ++times;
        return times;
    }
};

constexpr Request::Output forms[] = {Request::Output::whole, Request::Output::stream, Request::Output::fd};

TEST_CASE("F9, S5: results that one client does not read take no more memory than there is for them") {
    for (const Request::Output form : forms) {
        Unread unread(form, "head -c 900000 /dev/zero | tr '\\0' x");
        unread.run(20);
        CHECK(unread.most_used < Unread::allowed + 2'000'000);  // what runs, and what is just being refused
        CHECK(unread.count("\"exit\":0") >= 2);
        CHECK(unread.count("\"output_too_long\"") >= 10);
        CHECK(unread.count("\"exit\":0") + unread.count("\"output_too_long\"") == 20);
        CHECK(unread.budget.used() == 0);
    }
}

TEST_CASE("F9: of those who want none of the output nothing waits but a line") {
    Unread unread(Request::Output::none, "head -c 900000 /dev/zero");
    unread.run(20);
    CHECK(unread.most_used < Unread::allowed);
    CHECK(unread.count("\"exit\":0") == 20);
}

TEST_CASE("F14, S5: … nor the descriptors that runs need") {
    rlimit before{};
    REQUIRE(::getrlimit(RLIMIT_NOFILE, &before) == 0);
    const rlimit few{.rlim_cur = 64, .rlim_max = before.rlim_max};
    for (const Request::Output form : forms) {
        Unread unread(form, "head -c 1100000 /dev/zero | tr '\\0' x", 1'000'000'000);
        REQUIRE(::setrlimit(RLIMIT_NOFILE, &few) == 0);
        unread.run(100);
        REQUIRE(::setrlimit(RLIMIT_NOFILE, &before) == 0);
        CHECK(unread.count("\"too_many_files\"") >= 10);
        CHECK(unread.count("\"exit\":0") + unread.count("\"too_many_files\"") == 100);
    }
}

}  // namespace
}  // namespace coalesce
