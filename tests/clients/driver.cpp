// SPDX-License-Identifier: MIT
// Does with the client for C++ what clients_test.py says, line by line.
//
// usage: client_driver [SOCKET]
#include <coalesce/client/client.h>

#include <fcntl.h>
#include <sodium.h>
#include <unistd.h>

#include <array>
#include <cmath>
#include <iostream>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <coalesce/io/line_splitter.h>
#include <coalesce/io/watch.h>
#include <coalesce/protocol/base64.h>

#include <nlohmann/json.hpp>

using namespace coalesce;
using nlohmann::json;

namespace {

void tell(const std::string& name, json what) {
    what["name"] = name;
    std::cout << what.dump() << std::endl;
}

class Sha256 {
  public:
    Sha256() { crypto_hash_sha256_init(&state_); }
    void add(std::string_view bytes) {
        crypto_hash_sha256_update(&state_, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size());
    }
    std::string hex() {
        crypto_hash_sha256_state state = state_;
        std::array<unsigned char, crypto_hash_sha256_BYTES> digest{};
        crypto_hash_sha256_final(&state, digest.data());
        std::array<char, 2 * crypto_hash_sha256_BYTES + 1> text{};
        return sodium_bin2hex(text.data(), text.size(), digest.data(), digest.size());
    }

  private:
    crypto_hash_sha256_state state_{};
};

json told_of(const Answered& answered) {
    const Outcome& outcome = answered.outcome;
    const bool killed = outcome.kind == Outcome::Kind::signalled;
    const auto seconds = [](auto time) { return std::chrono::duration<double>(time).count(); };
    json kept;
    if (answered.kept)
        kept = {{"age", seconds(answered.kept->age)},
                {"left", seconds(answered.kept->left)},
                {"refreshing", answered.kept->refreshing}};
    return {{"returncode", killed ? -outcome.code : outcome.status()},
            {"signal", killed ? json(outcome.code) : json()},
            {"joined", answered.joined},
            {"requesters", answered.requesters},
            {"kept", kept}};
}

void tell_error(const std::string& name, const std::exception_ptr& why) {
    try {
        std::rethrow_exception(why);
    } catch (const RequestRefused& refused) {
        tell(name, {{"error", refused.code()}, {"message", refused.what()}, {"result", nullptr}});
    } catch (const std::system_error& error) {
        const bool cancelled = error.code() == std::errc::operation_canceled;
        tell(name, {{"error", cancelled ? "operation_canceled" : "system_error"}, {"message", error.what()}});
    } catch (const std::exception& other) {
        tell(name, {{"error", "exception"}, {"message", other.what()}});
    }
}

// The other clients raise what is an Outcome here.
void tell_answer(const std::string& name, const Landing<Answered>& landing) {
    if (landing.error) return tell_error(name, landing.error);
    const Answered& answered = *landing.value;
    json told = told_of(answered);
    if (answered.out.size() > 1 << 20) {
        Sha256 hash;
        hash.add(answered.out);
        told["bytes"] = answered.out.size();
        told["sha256"] = hash.hex();
    } else {
        told["stdout"] = to_base64(answered.out);
        told["stderr"] = to_base64(answered.err);
    }
    const Outcome::Kind kind = answered.outcome.kind;
    if (kind == Outcome::Kind::timed_out || kind == Outcome::Kind::not_started)
        return tell(name, {{"error", kind == Outcome::Kind::timed_out ? "timed_out" : "not_started"},
                           {"message", answered.outcome.describe()},
                           {"result", told}});
    tell(name, told);
}

Request request_of(const json& order) {
    if (order.contains("hold"))  // until somebody opens the other end nothing else is done
        ::close(::open(order["hold"].get<std::string>().c_str(), O_RDONLY | O_CLOEXEC));
    const json options = order.value("options", json::object());
    Request request;
    if (options.value("shell", false))
        request.line = order["command"].get<std::string>();
    else
        request.argv = order["command"].get<std::vector<std::string>>();
    if (options.contains("input")) request.stdin_bytes = from_base64(options["input"].get<std::string>()).value();
    if (options.contains("cwd")) request.cwd = options["cwd"].get<std::string>();
    if (options.contains("env")) {
        request.env.emplace();
        for (const auto& [variable, value] : options["env"].items())
            request.env->push_back(variable + "=" + value.get<std::string>());
    }
    const auto time = [&](const char* option) -> std::optional<std::chrono::milliseconds> {
        if (!options.contains(option)) return std::nullopt;
        return std::chrono::milliseconds(std::llround(options[option].get<double>() * 1000));
    };
    request.timeout = time("timeout");
    request.wait = time("wait");
    request.wish = {.ttl = time("ttl"),
                    .max_age = time("max_age"),
                    .stale = time("stale"),
                    .keep_failures = time("keep_failures"),
                    .warm = options.value("warm", false)};
    request.scope = options.value("scope", "");
    if (options.contains("umask")) request.umask = options["umask"].get<unsigned>();
    return request;
}

// What has been taken of a stream.
struct Taken {
    std::string name;
    Sha256 hash;
    std::size_t bytes = 0;
    std::set<std::string> streams;
    std::optional<std::size_t> wanted;  // when to tell
    bool all_wanted = false;
    std::optional<Landing<Answered>> end;
    std::unique_ptr<AnswerStream> stream;

    void add(Stream from, std::string_view piece) {
        streams.insert(from == Stream::out ? "stdout" : "stderr");
        hash.add(piece);
        bytes += piece.size();
        look();
    }

    void look() {
        if (wanted && bytes >= *wanted) {
            wanted.reset();
            tell_taken({});
        }
        if (all_wanted && end) {
            all_wanted = false;
            if (end->error) return tell_error(name, end->error);
            tell_taken(told_of(*end->value));
        }
        if (!stream) return;
        wanted || all_wanted ? stream->resume() : stream->pause();
    }

    void tell_taken(json more) {
        more["taken"] = bytes;
        more["sha256"] = hash.hex();
        more["streams"] = streams;
        tell(name, more);
    }
};

class Driver {
  public:
    Driver(Loop& loop, const std::string& path) : client_(std::in_place, loop, path) {
        input_ = std::move(Watch::start(loop, STDIN_FILENO, Readiness::readable, [this] { read(); }).value());
    }

  private:
    void read() {
        const auto room = lines_.room(1 << 16);
        const ssize_t got = ::read(STDIN_FILENO, room.data(), room.size());
        lines_.taken(got > 0 ? static_cast<std::size_t>(got) : 0);
        while (const auto line = lines_.next()) obey(json::parse(line->text));
        if (got > 0) return;
        input_.reset();
        tickets_.clear();
        forgetting_.clear();
        taken_.clear();
        client_.reset();
    }

    void obey(const json& order) {
        const std::string what = order["do"];
        const std::string name = order["name"];
        if (what == "run") {
            for (int i = 0; i < order.value("times", 1); ++i) run(name, order);
        } else if (what == "forget") {
            auto ticket = client_->forget(request_of(order));
            ticket.then([name](const Landing<void>& landing) {
                landing.error ? tell_error(name, landing.error) : tell(name, {{"forgotten", true}});
            });
            forgetting_.emplace(name, std::move(ticket));
        } else if (what == "cancel") {
            tickets_.erase(name);
            tell(name, {{"cancelled", true}});
        } else if (what == "stream") {
            Taken& taken = taken_[name];
            taken.name = name;
            try {
                taken.stream = client_->stream(
                    request_of(order),
                    {.on_output = [&taken](Stream stream, std::string_view bytes) { taken.add(stream, bytes); },
                     .on_end =
                         [&taken](const Landing<Answered>& landing) {
                             taken.end = landing;
                             taken.look();
                         }});
            } catch (const std::exception&) {
                return tell_error(name, std::current_exception());
            }
            taken.stream->pause();
        } else if (what == "take") {
            Taken& taken = taken_.at(name);
            taken.all_wanted = order["bytes"].is_null();
            if (!taken.all_wanted) taken.wanted = order["bytes"].get<std::size_t>();
            taken.look();
        } else if (what == "drop") {
            taken_.erase(name);
            tell(name, {{"dropped", true}});
        } else if (what == "close") {
            client_.reset();
        }
    }

    void run(const std::string& name, const json& order) {
        auto ticket = client_->run(request_of(order));
        ticket.then([name](const Landing<Answered>& landing) { tell_answer(name, landing); });
        tickets_.emplace(name, std::move(ticket));
    }

    std::optional<Client> client_;
    Watch input_;
    LineSplitter lines_{'\n', 1 << 26};
    std::multimap<std::string, Ticket<Answered>> tickets_;
    std::multimap<std::string, Ticket<void>> forgetting_;
    std::map<std::string, Taken> taken_;
};

}  // namespace

int main(int argc, char** argv) {
    Loop loop;
    Driver driver(loop, argc > 1 ? argv[1] : "");
    loop.run();
}
