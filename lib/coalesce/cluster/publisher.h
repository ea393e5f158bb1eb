// SPDX-License-Identifier: MIT
// Publisher: a run's output on its way to whoever follows it elsewhere (SPEC M24).
//
// It reads the spool like any other requester and writes chunks into the run's stream,
// numbered. What the engine has not acknowledged is sent again when the line comes back; so is, after a while, what an
// engine without memory refuses, until the run is over. Where the engine has something with that number or a later one,
// it goes under a new number, behind that: a follower may find a chunk late, or twice, never not at all. What is on its
// way is bounded, so a slow engine slows nobody else here, unless the run is past its replay limit. Past `cap` bytes,
// as they are sent, nobody else is to join, and once nobody does the oldest chunks are dropped from the stream. It is
// over with the end record behind the last chunk, on the same line.
#pragma once

#include <coalesce/flight/unique_function.h>

#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>

#include <coalesce/cluster/engine.h>
#include <coalesce/cluster/records.h>
#include <coalesce/io/spool.h>

namespace coalesce {

class Publisher {
  public:
    /// All of them must outlive it. `on_partial`, once: whoever joins now might not get all of the output.
    Publisher(Loop& loop, Engine& engine, const EngineKeys& keys, const std::string& run, const Seal& seal,
              UniqueFunction<void()> on_partial);
    ~Publisher();

    /// Publishes what is there, and what comes.
    void begin(const std::shared_ptr<Spool>& spool);
    [[nodiscard]] bool begun() const noexcept { return spool_ != nullptr; }
    /// Nobody joins any more, as the engine has been told: what is past `cap` may go.
    void shut() noexcept { shut_ = true; }

    /// What who asks after the end may still have; the numbers are the script's.
    enum class Kept { nothing, output_and_end, at_least_end };
    /// The run is over, and its spool closed. What has been begun is published to its end; then `on_told` is
    /// called with what the engine says to the record, "OK", "LATE" or "FENCED". Tries until there is an answer.
    void finish(const EndRecord& record, Kept kept, std::chrono::milliseconds kept_for,
                UniqueFunction<void(const std::string&)> on_told);

  private:
    struct Chunk {
        std::uint64_t number;
        std::string sealed;
        std::uint64_t keep_from;  // the first of those that the stream still needs with it
        bool sent = false;
        bool refused = false;  // it was there and had no room
        bool there = false;    // and one before it is not
    };
    struct Mark {
        std::uint64_t number;
        std::uint64_t before;  // bytes of all chunks before that one
    };
    void gather();
    void on_line_up();
    void on_line();
    void pump();
    std::optional<std::string> next_chunk();
    void send_next(std::size_t at_most);
    void send(const Chunk& chunk);
    void wait_for_room();
    void on_answer(std::uint64_t number, const Result<RespValue>& answer);
    void close_gap(const Chunk& answered);
    std::uint64_t count(std::size_t bytes);
    void give_up();
    void become_partial();
    [[nodiscard]] bool all_is_sent() const;
    void finish_when_done();
    [[nodiscard]] EngineLine& line();

    Engine& engine_;
    const EngineKeys& keys_;
    const std::string& run_;
    const Seal& seal_;
    Engine::Listener listener_;
    Timer gather_;
    Timer again_;
    std::shared_ptr<Spool> spool_;
    std::unique_ptr<SpoolReader> reader_;  // none once it is broken: nobody is to wait for it
    std::deque<Chunk> on_their_way_;       // the first is not acknowledged
    std::size_t bytes_on_their_way_ = 0;
    std::deque<Mark> marks_;   // in what the stream has: at least a full chunk apart, however short they are
    std::uint64_t bytes_ = 0;  // of all chunks
    std::uint64_t offset_ = 0;
    std::uint64_t number_ = 1;  // of the last chunk; the first entry tells of the begin
    bool by_control_ = false;   // all of it is one chunk: no line of its own
    bool broken_ = false;       // the engine took a part of it not
    bool no_room_ = false;      // so the last answer said
    bool partial_ = false;
    bool shut_ = false;
    UniqueFunction<void()> on_partial_;
    std::optional<EndRecord> record_;
    Kept kept_ = Kept::nothing;
    std::chrono::milliseconds kept_for_{0};
    bool finishing_ = false;
    bool gathering_ = false;                    // bytes have come that are about to go out
    std::chrono::milliseconds gathered_at_{0};  // since boot: when the last ones did
    UniqueFunction<void(const std::string&)> on_told_;
    std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace coalesce
