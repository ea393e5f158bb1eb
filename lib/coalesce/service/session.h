// Session: one connected requester, its lines in and its messages out.
//
// Splits what comes into lines, refuses a line that is too long, keeps what the
// other side is slow to take, and tells when it has gone. A half-closed
// connection still gets its answers; only a full close, or an error, is going
// away. What the lines mean is its owner's.
#pragma once

#include <coalesce/flight/unique_function.h>

#include <string>
#include <string_view>

#include <coalesce/io/descriptor.h>
#include <coalesce/io/watch.h>

namespace coalesce {

class Loop;

class Session {
  public:
    struct Events {
        UniqueFunction<void(std::string_view line)> on_line;
        UniqueFunction<void()> on_gone;  ///< once; the session may be destroyed later, not from here
    };

    Session(Loop& loop, Descriptor connection, Events events);
    ~Session();
    Session(const Session&) = delete;
    Session& operator=(const Session&) = delete;

    /// Sends a line, and with it a descriptor if `file` is not -1.
    void send(const std::string& line, int file = -1);
    /// Keeps a line to be sent with the next one: nobody is woken for it alone.
    void queue(const std::string& line) { out_ += line; }
    /// Sends what is left and closes; on_gone follows.
    void finish();
    [[nodiscard]] bool gone() const noexcept { return gone_; }

  private:
    void ready();
    void read();
    void flush();
    void go();
    void watch_again();

    Descriptor connection_;  // before the watch: it must stop watching first
    Watch watch_;
    Events events_;
    std::string in_;
    std::string out_;
    bool input_ended_ = false;
    bool finishing_ = false;
    bool gone_ = false;
};

}  // namespace coalesce
