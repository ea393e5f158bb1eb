// SPDX-License-Identifier: MIT
#include <coalesce/cluster/engine_connection.h>

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <linux/sockios.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string_view>
#include <utility>

#include <coalesce/io/loop.h>
#include <coalesce/io/spawn.h>
#include <coalesce/io/unix_socket.h>

namespace coalesce {
namespace {

// One of several addresses may lead nowhere.
constexpr std::chrono::milliseconds next_address_after{500};
constexpr std::size_t gone_max = 1 << 20;  // bytes that were sent, in front of those that were not

// A proxy's %h and %p, as ssh has them; %% is a %.
std::string filled_in(const EngineUrl& url) {
    std::string line;
    for (std::size_t at = 0; at < url.proxy.size(); ++at) {
        const char next = at + 1 < url.proxy.size() ? url.proxy[at + 1] : '\0';
        if (url.proxy[at] != '%' || (next != 'h' && next != 'p' && next != '%')) {
            line += url.proxy[at];
            continue;
        }
        ++at;
        line += next == 'h' ? url.host : next == 'p' ? std::to_string(url.port) : "%";
    }
    return line;
}

std::vector<std::string> own_environment() {
    std::vector<std::string> entries;
    for (char** entry = environ; *entry != nullptr; ++entry) entries.emplace_back(*entry);
    return entries;
}

// What waits for messages only would never hear that the other side is gone.
void prepare(int socket) {
    const auto set = [socket](int level, int option, int value) {
        ::setsockopt(socket, level, option, &value, sizeof value);
    };
    set(IPPROTO_TCP, TCP_NODELAY, 1);
    set(SOL_SOCKET, SO_KEEPALIVE, 1);
    set(IPPROTO_TCP, TCP_KEEPIDLE, 5);
    set(IPPROTO_TCP, TCP_KEEPINTVL, 2);
    set(IPPROTO_TCP, TCP_KEEPCNT, 3);
}

Error lost(const EngineUrl& url, const std::string& why) {
    return {{}, "reach the engine " + url.address() + ": " + why};
}
Error lost(const EngineUrl& url, int error) { return system_error_of(error, "reach the engine " + url.address()); }

}  // namespace

// It ends with us: by the end of its socket, or else by force. Its words go where ours go.
struct EngineConnection::Proxy {
    explicit Proxy(Started started) : process(std::move(started)) {}
    ~Proxy() {
        if (::waitpid(process.pid, nullptr, WNOHANG) != 0) return;  // or its number may be another's
        ::kill(-process.pid, SIGKILL);
        while (::waitpid(process.pid, nullptr, 0) < 0 && errno == EINTR) {
        }
    }
    Started process;
};

EngineConnection::EngineConnection(Loop& loop, const EngineUrl& url, Events events)
    : loop_(loop), url_(url), events_(std::move(events)), try_next_(loop) {
    try_next_.in_background();
    begin();
}

EngineConnection::~EngineConnection() {
    *alive_ = false;
    watch_.reset();
    socket_.reset();
}

void EngineConnection::begin() {
    if (!url_.path.empty()) {
        auto socket = connect_to(url_.path);
        if (!socket) return fail_later(lost(url_, socket.error().code.value()));
        return use(std::move(*socket), true);
    }
    if (!url_.proxy.empty()) {
        auto ends = connected_pair();
        if (!ends) return fail_later(ends.error());
        const std::vector<std::string> argv{"/bin/sh", "-c", filled_in(url_)};
        const std::vector<std::string> env = own_environment();
        Started started = spawn({.argv = argv,
                                 .env = env,
                                 .umask = 077,
                                 .standard_input = ends->other.get(),
                                 .standard_output = ends->other.get(),
                                 .standard_error = STDERR_FILENO});
        if (started.pid < 0) return fail_later(lost(url_, started.error));
        proxy_ = std::make_unique<Proxy>(std::move(started));
        ::fcntl(ends->one.get(), F_SETFL, O_NONBLOCK);
        return use(std::move(ends->one), true);
    }
    lookup_.emplace(loop_, url_.host, url_.port, [this](Result<std::vector<SocketAddress>> found) {
        if (!found) return fail(found.error());
        addresses_ = std::move(*found);
        std::reverse(addresses_.begin(), addresses_.end());
        if (addresses_.size() > 1) to_pass_over_ = addresses_.size();
        try_next();
    });
}

void EngineConnection::try_next() {
    int error = ECONNREFUSED;
    while (!addresses_.empty()) {
        const SocketAddress address = addresses_.back();
        addresses_.pop_back();
        Descriptor socket(::socket(address.address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
        if (!socket) {
            error = errno;
            continue;
        }
        prepare(socket.get());
        int status = 0;
        do {
            status = ::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address.address), address.length);
        } while (status != 0 && errno == EINTR);
        if (status == 0 || errno == EINPROGRESS) {
            if (status != 0 && to_pass_over_ > 0) pass_over_later(address);
            return use(std::move(socket), status == 0);
        }
        error = errno;
    }
    fail(lost(url_, error));
}

// It may be slow only: when all have been tried it has the time that its owner gives it.
void EngineConnection::pass_over_later(const SocketAddress& address) {
    try_next_.start(next_address_after, [this, address] {
        --to_pass_over_;
        addresses_.insert(addresses_.begin(), address);
        try_next();
    });
}

void EngineConnection::use(Descriptor socket, bool connected) {
    watch_.reset();
    socket_ = std::move(socket);
    connecting_ = !connected;
    auto watch = Watch::start_in_background(loop_, socket_.get(), Readiness::either, [this] { on_ready(); });
    if (!watch) return fail_later(watch.error());
    watch_ = std::move(*watch);
}

void EngineConnection::send(std::span<const std::string> words) { add(words); }
void EngineConnection::send(std::span<const std::string_view> words) { add(words); }

template <class Word>
void EngineConnection::add(std::span<const Word> words) {
    const std::size_t before = unsent_.size();
    append_request(unsent_, words);
    asked_ += unsent_.size() - before;
    flush();
}

EngineConnection::Progress EngineConnection::progress() const noexcept {
    int under_way = 0;
    if (!connecting_ && socket_) ::ioctl(socket_.get(), SIOCOUTQ, &under_way);
    const std::uint64_t left = std::min(asked_, unsent() + static_cast<std::uint64_t>(std::max(under_way, 0)));
    return {.delivered = asked_ - left, .left = left};
}

// What is said in one turn goes out in one write. Behind a line that is never done, what has gone is dropped now and
// then.
void EngineConnection::flush() {
    if (sent_ > gone_max && sent_ > unsent()) {
        unsent_.erase(0, sent_);
        sent_ = 0;
    }
    if (watch_ && !connecting_ && !ended_) watch_.resume(Readiness::either);
}

void EngineConnection::on_ready() {
    if (connecting_ && !finish_connecting()) return;
    if (!write()) return;
    const std::shared_ptr<bool> alive = alive_;
    if (!read() || !*alive || ended_) return;
    watch_.resume(unsent() > 0 ? Readiness::either : Readiness::readable);
}

bool EngineConnection::finish_connecting() {
    int error = 0;
    socklen_t size = sizeof error;
    ::getsockopt(socket_.get(), SOL_SOCKET, SO_ERROR, &error, &size);
    try_next_.stop();
    if (error == 0) {
        connecting_ = false;
        return true;
    }
    if (addresses_.empty())
        fail(lost(url_, error));
    else
        try_next();
    return false;
}

Error EngineConnection::broken(int error) const {
    if (proxy_) return lost(url_, "the proxy has ended: " + filled_in(url_));
    return error != 0 ? lost(url_, error) : lost(url_, "the connection was closed");
}

bool EngineConnection::write() {
    if (unsent() == 0) return true;
    while (unsent() > 0) {
        const ssize_t wrote = ::send(socket_.get(), unsent_.data() + sent_, unsent(), MSG_NOSIGNAL);
        if (wrote < 0 && errno == EINTR) continue;
        if (wrote < 0 && errno == EAGAIN) return true;
        if (wrote < 0 && (errno == EPIPE || errno == ECONNRESET)) break;  // what it had to say is to be read yet
        if (wrote < 0) {
            fail(broken(errno));
            return false;
        }
        sent_ += static_cast<std::size_t>(wrote);
    }
    unsent_.clear();
    sent_ = 0;
    return true;
}

// One buffer a turn, so that a flood from here does not keep the others waiting.
bool EngineConnection::read() {
    const std::span<char> buffer = loop_.read_buffer();
    ssize_t got = 0;
    do {
        got = ::recv(socket_.get(), buffer.data(), buffer.size(), 0);
    } while (got < 0 && errno == EINTR);
    if (got < 0 && errno == EAGAIN) return true;
    if (got <= 0) {
        fail(broken(got < 0 ? errno : 0));
        return false;
    }
    if (events_.on_bytes) events_.on_bytes();
    if (auto fed = reader_.feed(buffer.subspan(0, static_cast<std::size_t>(got))); !fed) {
        fail(fed.error());
        return false;
    }
    const std::shared_ptr<bool> alive = alive_;
    while (*alive && !ended_) {
        auto reply = reader_.next();
        if (!reply) {
            fail(reply.error());
            return false;
        }
        if (!reply->has_value()) return true;
        events_.on_reply(std::move(**reply));
    }
    return false;
}

void EngineConnection::close() noexcept {
    ended_ = true;
    try_next_.stop();
    watch_.reset();
    socket_.reset();
}

void EngineConnection::fail(Error error) {
    if (ended_) return;
    close();
    auto on_ended = std::move(events_.on_ended);
    on_ended(std::move(error));  // may destroy this
}

void EngineConnection::fail_later(Error error) {
    loop_.post([this, alive = alive_, error = std::move(error)]() mutable {
        if (*alive) fail(std::move(error));
    });
}

}  // namespace coalesce
