// SPDX-License-Identifier: MIT
// Session: one connected requester, its lines in and its messages out.
//
// Splits what comes into lines, tells of one that is too long, and tells when the
// other side has gone. A half-closed connection still gets its answers; only a full
// close, or an error, is going away. Output is pulled from renderings as the
// connection takes it, and a client that leaves many answers unread is not read
// from either, so that it costs no memory; messages of several requests are never
// mixed. A rendering is asked for more when it has come, and when it has news: ten thousand
// that wait for one run's output cost a line to somebody nothing. What the lines mean is its owner's.
#pragma once

#include <coalesce/flight/unique_function.h>

#include <cstddef>
#include <deque>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>

#include <coalesce/io/descriptor.h>
#include <coalesce/io/line_splitter.h>
#include <coalesce/io/watch.h>
#include <coalesce/protocol/rendering.h>
#include <coalesce/protocol/request.h>

namespace coalesce {

class Loop;

class Session {
  public:
    struct Events {
        /// A line without its newline. One that was too long comes cut, once.
        UniqueFunction<void(std::string_view line, bool too_long)> on_line;
        /// The other side will send no more; answers still reach it.
        UniqueFunction<void()> on_input_end;
        /// Once, last, from a clean stack: whoever sends to one of many finds the others as
        /// they were. The session may be destroyed from here.
        UniqueFunction<void()> on_gone;
        /// What blocked() has been sent.
        UniqueFunction<void()> on_room = {};
        /// How many of what came in have yet to be answered: they count as answers that wait.
        UniqueFunction<std::size_t()> unanswered = {};
    };

    Session(Loop& loop, Descriptor connection, Events events);
    ~Session() { *alive_ = false; }
    Session(const Session&) = delete;
    Session& operator=(const Session&) = delete;

    /// Sends a line, and with it a descriptor if there is one.
    void send(std::string_view line, Descriptor file = {});
    /// Sends what `rendering` gives, as it gives it, until it is finished. The
    /// session owns it; the answer stays valid until then.
    void send(std::unique_ptr<Rendering> rendering);
    /// A live rendering, of those that were sent, has more.
    void wake(const Rendering& rendering);
    /// Takes in what has come by now, as on its next turn.
    void hear();
    /// Takes no more lines, sends what is left and closes; on_gone follows.
    void finish();
    /// Closes now, whatever is left to send; on_gone follows.
    void drop() { go(); }

    /// Whatever is sent reaches nobody. on_gone follows, behind what had come by then.
    [[nodiscard]] bool gone() const noexcept { return gone_ || unread_; }
    [[nodiscard]] bool input_ended() const noexcept { return input_ended_; }
    /// The other side takes no more now: whoever can waits until on_room.
    [[nodiscard]] bool blocked() const noexcept { return blocked_; }
    /// blocked(), and it has not read what there was room for.
    [[nodiscard]] bool full() const;
    /// How many answers have something for it that it has not taken.
    [[nodiscard]] std::size_t unread() const noexcept { return with_news_.size(); }
    [[nodiscard]] bool idle() const noexcept {
        return with_news_.empty() && without_news_.empty() && out_.empty() && lines_.empty() && handovers_.empty();
    }

  private:
    void ready();
    void read();
    void take_lines();
    void flush();
    void push(std::string_view& rest);
    void try_again_later();
    bool flush_text();
    bool flush_renderings();
    void pass_the_turn();
    void let_rest();
    bool hand_over();
    void stop_sending();
    void hear_the_rest();
    void go();
    void watch_again();
    [[nodiscard]] bool congested();
    ssize_t send_piece(const Extent& extent);

    Loop& loop_;
    Descriptor connection_;  // before the watch: it must stop watching first
    Watch watch_;
    Events events_;
    LineSplitter incoming_{'\n', request_bytes_max};
    std::string out_;                                          // on its way
    std::string lines_;                                        // wait for the end of the message that is on its way
    std::list<std::pair<std::string, Descriptor>> handovers_;  // before lines_: texts that a descriptor goes with
    std::deque<std::unique_ptr<Rendering>> with_news_;         // or perhaps; the first has its turn
    std::unordered_map<const Rendering*, std::unique_ptr<Rendering>> without_news_;
    std::uint64_t taken_ = 0;  // bytes, by the other side
    bool inside_message_ = false;
    bool blocked_ = false;
    bool hears_it_out_ = false;
    std::optional<Timer> again_;  // blocked_, for want of something that nobody tells us of
    bool woken_ = false;
    bool flushing_ = false;
    bool can_send_file_ = true;
    bool input_ended_ = false;
    bool finishing_ = false;
    bool unread_ = false;  // the other side has gone, as a write has shown
    bool gone_ = false;
    std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace coalesce
