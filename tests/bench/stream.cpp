// SPDX-License-Identifier: MIT
// What output through an engine costs at least: chunks by XADD, a word by PUBLISH, XREAD by
// whoever has heard it, as machines that share a run do it. No lease, no end, nothing is
// sealed, forgotten or sent again, no output is read from or given to anybody.
//
//   stream flow PORT MIB FOLLOWERS   prints the seconds until each follower has had all
//   stream wake PORT TIMES           prints the median seconds from a short chunk's XADD
//                                      until a follower has it
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <future>
#include <initializer_list>
#include <semaphore>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t chunk_bytes = 65000;  // as coalesce cuts it: 65536 wastes a quarter of the engine's memory
constexpr std::size_t window_chunks = 64;
constexpr const char* stream = "bench:{stream}:s";
constexpr const char* channel = "bench:{stream}:c";

[[noreturn]] void die(const std::string& what) {
    std::fprintf(stderr, "stream: %s\n", what.c_str());
    std::exit(1);
}

// A connection to the engine.
class Line {
  public:
    explicit Line(std::uint16_t port) {
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        address.sin_port = htons(port);
        const int on = 1;
        if (fd_ < 0 || connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
            setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0)
            die("cannot connect to port " + std::to_string(port));
    }
    ~Line() { close(fd_); }
    Line(const Line&) = delete;
    Line& operator=(const Line&) = delete;

    // Nothing goes out before send().
    void say(std::initializer_list<std::string_view> words) {
        said_ += "*" + std::to_string(words.size()) + "\r\n";
        for (const std::string_view word : words) {
            said_ += "$" + std::to_string(word.size()) + "\r\n";
            said_.append(word).append("\r\n");
        }
    }

    void send() {
        for (std::size_t sent = 0; sent < said_.size();) {
            const ssize_t more = write(fd_, said_.data() + sent, said_.size() - sent);
            if (more <= 0) die("write");
            sent += static_cast<std::size_t>(more);
        }
        said_.clear();
    }

    // The next reply's strings, those of nested arrays one after the other; good until the next.
    const std::vector<std::string_view>& hear() {
        heard_.erase(0, used_);
        for (;;) {
            strings_.clear();
            used_ = 0;
            if (read_value()) return strings_;
            const std::size_t had = heard_.size();
            heard_.resize(had + (1 << 18));
            const ssize_t got = read(fd_, heard_.data() + had, heard_.size() - had);
            if (got <= 0) die("the engine ended");
            heard_.resize(had + static_cast<std::size_t>(got));
        }
    }

  private:
    // False if there is more to come.
    bool read_value() {
        const std::size_t end = heard_.find("\r\n", used_);
        if (end == std::string::npos) return false;
        const char kind = heard_[used_];
        const std::string_view rest(heard_.data() + used_ + 1, end - used_ - 1);
        used_ = end + 2;
        if (kind == '-') die(std::string(rest));
        if (kind == '+' || kind == ':') strings_.push_back(rest);
        if (kind != '$' && kind != '*') return true;
        const long count = std::strtol(rest.data(), nullptr, 10);
        if (kind == '*') {
            for (long i = 0; i < count; ++i)
                if (!read_value()) return false;
            return true;
        }
        const auto length = static_cast<std::size_t>(count);
        if (heard_.size() < used_ + length + 2) return false;
        strings_.emplace_back(heard_.data() + used_, length);
        used_ += length + 2;
        return true;
    }

    int fd_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    std::string said_, heard_;
    std::size_t used_ = 0;
    std::vector<std::string_view> strings_;
};

void add(Line& line, std::size_t number, std::string_view chunk) {
    line.say({"XADD", stream, std::to_string(number) + "-0", "d", chunk});
}

void publish(Line& line) { line.say({"PUBLISH", channel, "d"}); }

class Follower {
  public:
    explicit Follower(std::uint16_t port) : wake_(port), data_(port) {
        wake_.say({"SUBSCRIBE", channel});
        wake_.send();
        wake_.hear();
    }

    // Reads until it has that chunk. `waits` is called whenever there is nothing yet.
    template <class Waits>
    void follow(std::size_t until, Waits waits) {
        while (last_ < until) {
            data_.say({"XREAD", "COUNT", "64", "STREAMS", stream, std::to_string(last_) + "-0"});
            data_.send();
            const auto& strings = data_.hear();  // stream, then id, field and value of each
            if (!strings.empty()) last_ += (strings.size() - 1) / 3;
            if (!strings.empty()) continue;
            waits();
            wake_.hear();
        }
    }

  private:
    Line wake_, data_;
    std::size_t last_ = 0;
};

double flow(std::uint16_t port, std::size_t mib, std::size_t followers) {
    const std::size_t chunks = (mib << 20) / chunk_bytes;
    const std::string chunk(chunk_bytes, 'x');
    Line line(port);
    std::vector<Follower*> all;
    for (std::size_t i = 0; i < followers; ++i) all.push_back(new Follower(port));
    const auto begin = Clock::now();
    std::vector<std::thread> threads;
    for (Follower* const follower : all) threads.emplace_back([=] { follower->follow(chunks, [] {}); });
    for (std::size_t sent = 0, answered = 0; answered < chunks;) {
        while (sent < chunks && sent - answered < window_chunks) add(line, ++sent, chunk);
        publish(line);
        line.send();
        for (const std::size_t until = sent < chunks ? sent - window_chunks / 2 : chunks; answered < until; ++answered)
            line.hear();
        line.hear();
    }
    for (std::thread& thread : threads) thread.join();
    const std::chrono::duration<double> took = Clock::now() - begin;
    for (Follower* const follower : all) delete follower;
    return took.count();
}

double wake(std::uint16_t port, std::size_t times) {
    Line line(port);
    Follower follower(port);
    std::vector<double> samples;
    for (std::size_t number = 1; number <= times; ++number) {
        std::counting_semaphore<> waits(0);
        auto had = std::async(std::launch::async, [&] {
            follower.follow(number, [&waits] { waits.release(); });
            return Clock::now();
        });
        waits.acquire();                                             // as one that follows a run that says nothing
        std::this_thread::sleep_for(std::chrono::milliseconds(20));  // as tests/bench/rows/cluster.py before each byte
        const auto begin = Clock::now();
        add(line, number, "x");
        publish(line);
        line.send();
        line.hear();
        line.hear();
        samples.push_back(std::chrono::duration<double>(had.get() - begin).count());
    }
    std::nth_element(samples.begin(), samples.begin() + static_cast<std::ptrdiff_t>(times / 2), samples.end());
    return samples[times / 2];
}

}  // namespace

int main(int argc, char** argv) {
    const std::string_view work = argc > 3 ? argv[1] : "";
    const auto number = [&](int i) { return std::strtoul(argv[i], nullptr, 10); };
    const auto port = static_cast<std::uint16_t>(argc > 2 ? number(2) : 0);
    double seconds = 0;
    if (work == "flow" && argc == 5)
        seconds = flow(port, number(3), number(4));
    else if (work == "wake" && argc == 4)
        seconds = wake(port, number(3));
    else
        return std::fputs("stream: see the head of tests/bench/stream.cpp\n", stderr), 2;
    Line line(port);
    line.say({"DEL", stream});
    line.send();
    line.hear();
    std::printf("%.6f\n", seconds);
}
