// SPDX-License-Identifier: MIT
// Follower: a run that happens elsewhere, as a source of output here.
//
// It reads the run's stream, opens what is sealed and hands out the bytes, each once and in
// their order. A chunk that does not open or does not continue where the last one ended, one that is missing and does
// not come behind the others, an end that tells of more or less than came, other than a cancel: it is broken,
// and no byte of it is handed out. What becomes of an end or a break is the member's to decide, since it may ask
// anew: it tells the source to end, or drops it. A loss of the line is a pause. Where nobody wants
// the output, only the end is read.
#pragma once

#include <coalesce/flight/unique_function.h>

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include <coalesce/cluster/engine.h>
#include <coalesce/cluster/records.h>
#include <coalesce/engine/run_source.h>

namespace coalesce {

class Follower final : public RunSource {
  public:
    /// On turns of their own; each may destroy the follower.
    struct Findings {
        UniqueFunction<void(EndRecord)> on_end;  ///< all of the output has come, or it was cancelled
        UniqueFunction<void(std::string why)> on_broken;
        UniqueFunction<void()> on_gone;  ///< it is being destroyed
    };
    enum class Wanted { all, end_only };
    /// The engine must outlive it.
    Follower(Engine& engine, const EngineKeys& keys, const std::string& run, Seal seal, Wanted wanted,
             Findings findings);
    ~Follower() override;

    /// There may be something new.
    void look();
    /// How much has been handed out.
    [[nodiscard]] std::uint64_t received() const noexcept { return sizes_[0] + sizes_[1]; }
    /// The run is over, as that.
    void end(Outcome outcome);

    std::optional<Refusal> start(Events events) override;
    [[nodiscard]] pid_t pid() const noexcept override { return -1; }
    /// For those here it is over; whether it is elsewhere is not ours to say.
    void terminate(std::chrono::milliseconds grace) override;
    void signal(int) noexcept override {}
    void pause() noexcept override { paused_ = true; }
    void resume() override;

  private:
    void on_entries(const Result<RespValue>& answer);
    bool take(const RespValue& entry);
    bool take_chunk(std::uint64_t number, std::string_view sealed);
    bool take_end(std::uint64_t number, const RespValue& fields);
    void wait_for_missing();
    bool broken(std::string why);

    Engine& engine_;
    const std::string stream_;
    const Seal seal_;
    const Wanted wanted_;
    Findings findings_;
    Engine::Listener listener_;
    Timer patience_;  // with what is missing
    Timer again_;     // look
    Events events_;
    std::array<std::uint64_t, 2> sizes_{};
    std::uint64_t last_ = 0;  // number of an entry
    bool missing_ = false;    // a chunk before that one
    bool impatient_ = false;  // it has been missing for too long: one more look
    bool last_look_ = false;  // that is on its way
    bool asking_ = false;
    bool look_again_ = false;
    bool paused_ = false;
    bool over_ = false;
    std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace coalesce
