// SPDX-License-Identifier: MIT
// load WORK …: clients of a server, fast enough not to be what is measured.
//
//   load crowd SOCKET N REQUEST     N connections send REQUEST, whose answer is one line; says "asked", waits for a
//                                   line on stdin, and prints the seconds until all N have
//                                   had their answers, and until the server has closed, too
//   load joins SOCKET N EACH LINE   N connections send LINE EACH times, as fast as they are
//                                   taken; prints the seconds until the last is taken
//   load turns SOCKET N LINE        one connection, a request after each answer; prints seconds
//   load broadcast SOCKET N BYTES   not a client but the least that a server could do: when N
//                                   connections have sent a line and stdin a line, each gets
//                                   BYTES, the last of them a newline, and is closed
#include <signal.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

[[noreturn]] void die(const char* what) {
    std::perror(what);
    std::exit(1);
}

sockaddr_un address_of(const char* path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    return address;
}

int connected(const char* path) {
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const sockaddr_un address = address_of(path);
    if (fd < 0 || connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) die(path);
    return fd;
}

void send_all(int fd, const std::string& text) {
    for (std::size_t sent = 0; sent < text.size();) {
        const ssize_t more = write(fd, text.data() + sent, text.size() - sent);
        if (more <= 0) die("write");
        sent += static_cast<std::size_t>(more);
    }
}

// The one that is on its way: nothing follows it before we ask again.
void await_line(int fd) {
    char block[4096];
    for (ssize_t got = 0; got == 0 || block[got - 1] != '\n';) {
        got = read(fd, block, sizeof block);
        if (got <= 0) die("the other side ended");
    }
}

// What the server says to a ping: all that was sent before on this connection has been taken.
void settle(int fd) {
    send_all(fd, "{\"op\":\"ping\"}\n");
    await_line(fd);
}

double seconds_since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

void print_since(Clock::time_point begin) {
    std::printf("%.6f\n", seconds_since(begin));
    std::fflush(stdout);
}

void watch(int epoll, int fd, unsigned events) {
    epoll_event event{.events = events, .data = {.fd = fd}};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0) die("epoll_ctl");
}

void crowd(const char* path, int n, const std::string& request) {
    const int epoll = epoll_create1(EPOLL_CLOEXEC);
    std::vector<int> fds;
    for (int i = 0; i < n; ++i) {
        fds.push_back(connected(path));
        send_all(fds.back(), request + "\n");
        shutdown(fds.back(), SHUT_WR);
        watch(epoll, fds.back(), EPOLLIN);
    }
    std::printf("asked\n");
    std::fflush(stdout);
    await_line(STDIN_FILENO);
    const auto begin = Clock::now();
    std::vector<char> buffer(1 << 16);
    std::vector<epoll_event> events(256);
    int unanswered = n;
    for (int left = n; left > 0;) {
        const int ready = epoll_wait(epoll, events.data(), static_cast<int>(events.size()), -1);
        for (int i = 0; i < ready; ++i) {
            const int fd = events[static_cast<std::size_t>(i)].data.fd;
            if (const ssize_t got = read(fd, buffer.data(), buffer.size()); got > 0) {
                if (buffer[static_cast<std::size_t>(got) - 1] == '\n' && --unanswered == 0)
                    std::printf("%.6f ", seconds_since(begin));
                continue;
            }
            close(fd);
            --left;
        }
    }
    print_since(begin);
}

void joins(const char* path, int n, int each, const std::string& line) {
    std::vector<int> fds;
    for (int i = 0; i < n; ++i) fds.push_back(connected(path));
    std::string batch;
    for (int i = 0; i < 16; ++i) batch += line + "\n";
    const auto begin = Clock::now();
    for (int sent = 0; sent < each; sent += 16)
        for (const int fd : fds) send_all(fd, batch);
    for (const int fd : fds) settle(fd);
    print_since(begin);
}

void turns(const char* path, int n, const std::string& line) {
    const int fd = connected(path);
    const auto begin = Clock::now();
    for (int i = 0; i < n; ++i) {
        send_all(fd, line + "\n");
        await_line(fd);
    }
    print_since(begin);
}

void broadcast(const char* path, int n, std::size_t bytes) {
    const int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const sockaddr_un address = address_of(path);
    if (bind(listener, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 || listen(listener, 4096) != 0)
        die(path);
    const int epoll = epoll_create1(EPOLL_CLOEXEC);
    std::vector<int> fds;
    std::vector<char> buffer(4096);
    for (int i = 0; i < n; ++i) {
        fds.push_back(accept4(listener, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
        watch(epoll, fds.back(), EPOLLIN);
    }
    for (int left = n; left > 0;) {  // their requests
        epoll_event event{};
        if (epoll_wait(epoll, &event, 1, -1) == 1 && read(event.data.fd, buffer.data(), buffer.size()) > 0) {
            epoll_ctl(epoll, EPOLL_CTL_DEL, event.data.fd, nullptr);
            --left;
        }
    }
    await_line(STDIN_FILENO);
    const std::string answer = std::string(bytes - 1, 'x') + "\n";
    for (const int fd : fds) {
        if (write(fd, answer.data(), bytes) != static_cast<ssize_t>(bytes)) die("write");
        close(fd);
    }
}

}  // namespace

int main(int argc, char** argv) {
    signal(SIGPIPE, SIG_IGN);
    rlimit files{};
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    const std::string work = argc > 1 ? argv[1] : "";
    if (work == "crowd" && argc == 5)
        crowd(argv[2], std::atoi(argv[3]), argv[4]);
    else if (work == "joins" && argc == 6)
        joins(argv[2], std::atoi(argv[3]), std::atoi(argv[4]), argv[5]);
    else if (work == "turns" && argc == 5)
        turns(argv[2], std::atoi(argv[3]), argv[4]);
    else if (work == "broadcast" && argc == 5)
        broadcast(argv[2], std::atoi(argv[3]), std::strtoull(argv[4], nullptr, 10));
    else
        return std::fputs("load: see the head of tests/bench/load.cpp\n", stderr), 2;
}
