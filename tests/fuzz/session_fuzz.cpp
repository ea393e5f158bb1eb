// SPDX-License-Identifier: MIT
// Connections in any order of events: bytes in any chunking, connects, closes,
// half-closes, clients that read or do not. Each line must arrive once and as it was
// sent, each answer likewise, nothing after the end, and the end once.
//
// An input is a program: each byte is an operation on one of four clients (two bits)
// with an argument (three bits); for some, the bytes that follow are what is sent.
#include <coalesce/io/loop.h>
#include <coalesce/protocol/rendering.h>
#include <coalesce/reception/session.h>

#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>

namespace {

using namespace coalesce;

void require(bool holds) {
    if (!holds) std::abort();
}

// A spool's bytes, as they are.
class SpoolRendering final : public Rendering {
  public:
    explicit SpoolRendering(std::shared_ptr<Spool> spool) : spool_(std::move(spool)), reader_(*spool_) {}
    std::optional<Piece> next() override { return reader_.next(); }
    void advance(std::uint64_t length) override { reader_.advance(length); }
    bool finished() const override { return reader_.finished(); }

  private:
    std::shared_ptr<Spool> spool_;
    SpoolReader reader_;
};

struct Peer {
    explicit Peer(Loop& loop) {
        int ends[2];
        require(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) == 0);
        const int small = 4096;  // so that it is full soon
        ::setsockopt(ends[1], SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
        ours = Descriptor(ends[0]);
        session = std::make_unique<Session>(
            loop, Descriptor(ends[1]),
            Session::Events{[this](std::string_view line, bool) { on_line(line); }, [this] { on_input_end(); },
                            [this] {
                                require(!gone);
                                gone = true;
                            }});
    }

    void on_line(std::string_view line) {
        require(!gone && !ended);
        taken += line;
        taken += '\n';
        const std::size_t length = line.size();
        if (length % 3 == 0) {
            const std::string answer(length * 50 + 1, static_cast<char>('a' + length % 20));
            session->send(answer + "\n");
            expected_bytes += answer.size() + 1;
        } else if (length % 3 == 1) {
            spool = std::make_shared<Spool>(limits());
            const std::string output(length * 700, 'z');
            require(static_cast<bool>(spool->append(Stream::out, output)));
            spool->close();
            session->send(std::make_unique<SpoolRendering>(spool));
            expected_bytes += output.size();
        } else {
            session->send("fd\n", Descriptor(::dup(0)));
            expected_bytes += 3;
        }
    }

    void on_input_end() {
        require(!gone && !ended);
        ended = true;
        session->finish();
    }

    void send(std::string_view bytes) {
        if (!ours || shut) return;
        const ssize_t done = ::send(ours.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
        if (done > 0) sent.append(bytes.substr(0, static_cast<std::size_t>(done)));
    }

    bool read_some(std::size_t most) {
        std::array<char, 65536> block;
        const ssize_t done = ::recv(ours.get(), block.data(), std::min(most, block.size()), MSG_DONTWAIT);
        if (done > 0) got_bytes += static_cast<std::size_t>(done);
        return done > 0;
    }

    static const SpoolLimits& limits() {
        static const SpoolLimits limits{.store = {.heap_bytes = 4000, .directory = {}}};
        return limits;
    }

    std::unique_ptr<Session> session;
    std::shared_ptr<Spool> spool;
    Descriptor ours;
    std::string sent;
    std::string taken;
    std::size_t expected_bytes = 0;
    std::size_t got_bytes = 0;
    bool shut = false;
    bool ended = false;
    bool gone = false;
};

void turn(Loop& loop) { uv_run(loop.raw(), UV_RUN_NOWAIT); }

// Reads everything and closes its side: the session must come to its end, and must
// have told of every line and lost no answer.
void settle(Loop& loop, Peer& peer) {
    if (peer.ours && !peer.shut) {
        peer.shut = true;
        ::shutdown(peer.ours.get(), SHUT_WR);
    }
    if (!peer.ours) {
        for (int i = 0; i < 1000 && !peer.gone; ++i) turn(loop);
        require(peer.gone);
        return;
    }
    for (int i = 0; i < 100'000 && !peer.gone; ++i) {
        turn(loop);
        peer.read_some(65536);
    }
    while (peer.read_some(65536)) {
    }
    require(peer.gone && peer.ended);
    std::string wanted = peer.sent;
    if (!wanted.empty() && wanted.back() != '\n') wanted += '\n';
    require(peer.taken == wanted);
    require(peer.got_bytes == peer.expected_bytes);
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int*, char***) {
    ::signal(SIGPIPE, SIG_IGN);  // as main does: sendfile would raise it
    return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
    Loop loop;
    std::array<std::unique_ptr<Peer>, 4> peers;
    for (std::size_t at = 0; at < size; ++at) {
        auto& peer = peers[bytes[at] >> 6];
        const unsigned argument = bytes[at] >> 3 & 7;
        if (!peer) peer = std::make_unique<Peer>(loop);
        switch (bytes[at] & 7) {
            case 0: {
                const std::size_t length = std::min<std::size_t>(argument * 4 + 1, size - at - 1);
                peer->send({reinterpret_cast<const char*>(bytes) + at + 1, length});
                at += length;
                break;
            }
            case 1:
                peer->send("\n");
                break;
            case 2:
                peer->send(std::string(std::size_t{1} << (argument + 5), 'x'));
                break;
            case 3:
                if (peer->ours) peer->read_some(std::size_t{1} << (argument * 2));
                break;
            case 4:
                if (peer->ours && !peer->shut) ::shutdown(peer->ours.get(), SHUT_WR);
                peer->shut = true;
                break;
            case 5:
                peer->ours.reset();
                break;
            case 6:
                if (argument == 7) peer->session->drop();
                [[fallthrough]];
            default:
                turn(loop);
        }
        if (peer->gone) {
            turn(loop);
            peer.reset();
        }
    }
    for (auto& peer : peers)
        if (peer) settle(loop, *peer);
    for (auto& peer : peers) peer.reset();
    turn(loop);
    return 0;
}
