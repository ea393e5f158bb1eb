// SPDX-License-Identifier: MIT
// MeetingPlace: which flight a process belongs to.

#include <coalesce/io/unix_socket.h>
#include <coalesce/meeting/meeting_place.h>

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>

#include "../catch.h"
#include "../scratch.h"

namespace coalesce {
namespace {

// A process that has said that it is where it is to be, and stays until it is destroyed.
class Process {
  public:
    template <class Begin>
    explicit Process(Begin begin) {
        auto ends = connected_pair();
        REQUIRE(ends);
        pid_ = ::fork();
        if (pid_ == 0) {
            begin();
            (void)!::write(ends->other.get(), "x", 1);
            while (true) ::pause();
        }
        char said = 0;
        REQUIRE(::read(ends->one.get(), &said, 1) == 1);
    }
    ~Process() {
        ::kill(pid_, SIGKILL);
        ::waitpid(pid_, nullptr, 0);
    }
    [[nodiscard]] pid_t pid() const { return pid_; }

  private:
    pid_t pid_;
};

struct Place {
    Scratch scratch;
    Result<MeetingPlace> place = MeetingPlace::open_named(scratch.path("place"));
    std::string key = std::string(32, 'a');
    Result<Descriptor> listener = place->bind(key);
    FlightRecorder recorder = place->recorder(key, Numbering::own());
};

// As on a terminal of ours: the command is in a session that another process has made.
TEST_CASE("F11, P2: a command is known by who made its session, too", "[meeting]") {
    Place at;
    const Process other([] { ::setsid(); });
    const Process maker([&at] {
        ::setsid();
        static const Process command([&at] {  // as long as its parent
            ::prctl(PR_SET_PDEATHSIG, SIGKILL);
            at.recorder.record_this_process();
        });
    });
    CHECK(at.place->flight_of(maker.pid()) == at.key);
    CHECK(at.place->flight_of(other.pid()).empty());
}

// As in a container, where the session's maker has the number 1, or none.
TEST_CASE("F11, P2: a command is known whoever made its session", "[meeting]") {
    Place at;
    const Process command([&at] { at.recorder.record_this_process(); });
    CHECK(at.place->flight_of(command.pid()) == at.key);
}

}  // namespace
}  // namespace coalesce
