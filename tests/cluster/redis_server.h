// SPDX-License-Identifier: MIT
// A redis-server of the test's own, on a socket in its scratch directory and on no port; and
// a client that asks and waits. Where there is no redis-server the test says so and ends.
#pragma once

#include <coalesce/cluster/resp.h>
#include <coalesce/io/descriptor.h>
#include <coalesce/io/unix_socket.h>

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "../not_tried.h"
#include "../scratch.h"

namespace coalesce {

/// A blocking client.
class RedisClient {
  public:
    explicit RedisClient(const std::string& path) : socket_(std::move(*connect_to(path))) {
        ::fcntl(socket_.get(), F_SETFL, 0);
    }
    void say(const std::vector<std::string>& words) {
        std::string request;
        append_request(request, words);
        REQUIRE(::write(socket_.get(), request.data(), request.size()) == static_cast<ssize_t>(request.size()));
    }
    RespValue hear() {
        while (true) {
            auto reply = reader_.next();
            REQUIRE(reply);
            if (reply->has_value()) return std::move(**reply);
            std::array<char, 4096> buffer;
            const ssize_t got = ::read(socket_.get(), buffer.data(), buffer.size());
            REQUIRE(got > 0);
            REQUIRE(reader_.feed({buffer.data(), static_cast<std::size_t>(got)}));
        }
    }
    RespValue ask(const std::vector<std::string>& words) {
        say(words);
        return hear();
    }

  private:
    Descriptor socket_;
    RespReader reader_;
};

class RedisServer {
  public:
    /// Null, after saying so, where there is none.
    static std::unique_ptr<RedisServer> start(std::vector<std::string> options = {}) {
        auto server = std::unique_ptr<RedisServer>(new RedisServer);
        if (server->launch(options)) return server;
        not_tried("there is no redis-server");
        return nullptr;
    }
    ~RedisServer() { stop(SIGTERM); }
    RedisServer(const RedisServer&) = delete;
    RedisServer& operator=(const RedisServer&) = delete;

    void stop(int signal) {
        if (pid_ <= 0) return;
        ::kill(pid_, signal);
        ::kill(pid_, SIGCONT);
        ::waitpid(pid_, nullptr, 0);
        pid_ = -1;
    }
    void again(const std::vector<std::string>& options = {}) { REQUIRE(launch(options)); }
    void signal(int number) const { ::kill(pid_, number); }
    [[nodiscard]] std::string socket() const { return scratch_.path("redis.sock"); }
    [[nodiscard]] std::string url() const { return "redis+unix://" + socket(); }
    RespValue ask(const std::vector<std::string>& words) const { return RedisClient(socket()).ask(words); }
    [[nodiscard]] const Scratch& scratch() const { return scratch_; }

  private:
    RedisServer() = default;

    // It says on its standard output when it takes connections.
    bool launch(const std::vector<std::string>& options) {
        std::vector<std::string> words{"redis-server",  "--port", "0", "--unixsocket", socket(), "--dir",
                                       scratch_.path(), "--save", "",  "--logfile",    ""};
        words.insert(words.end(), options.begin(), options.end());
        std::vector<char*> argv;
        for (std::string& word : words) argv.push_back(word.data());
        argv.push_back(nullptr);
        const Pipe output;
        posix_spawn_file_actions_t actions;
        posix_spawn_file_actions_init(&actions);
        posix_spawn_file_actions_adddup2(&actions, output.write_end.get(), STDOUT_FILENO);
        const int failed = ::posix_spawnp(&pid_, argv[0], &actions, nullptr, argv.data(), environ);
        posix_spawn_file_actions_destroy(&actions);
        if (failed != 0) return pid_ = -1, false;
        std::string said;
        std::array<char, 4096> buffer;
        while (said.find("accept connections") == std::string::npos) {
            pollfd ready{.fd = output.read_end.get(), .events = POLLIN, .revents = 0};
            ::poll(&ready, 1, -1);
            const ssize_t got = ::read(output.read_end.get(), buffer.data(), buffer.size());
            if (got > 0) said.append(buffer.data(), static_cast<std::size_t>(got));
            INFO(said);
            REQUIRE(::waitpid(pid_, nullptr, WNOHANG) == 0);
        }
        output_ = Descriptor(::dup(output.read_end.get()));  // or its next word would be its last
        ::fcntl(output_.get(), F_SETFD, FD_CLOEXEC);
        return true;
    }

    Scratch scratch_;
    pid_t pid_ = -1;
    Descriptor output_;
};

}  // namespace coalesce
