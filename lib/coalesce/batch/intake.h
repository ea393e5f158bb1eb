// SPDX-License-Identifier: MIT
// Intake: the lines of a batch's input, made into requests with a key and a job (SPEC B1).
//
// A line is a command or, with --json, a request in JSON. What is none is handed on as
// refused, with the sentence that says why; what an earlier batch has done is passed over
// (--resume). Nothing is run here and nobody waits: that is Batch's.
#pragma once

#include <coalesce/command/key.h>
#include <coalesce/command/result.h>
#include <coalesce/flight/unique_function.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include <coalesce/batch/batch.h>
#include <coalesce/batch/joblog.h>
#include <coalesce/batch/line_source.h>
#include <coalesce/engine/command_executor.h>
#include <coalesce/protocol/request.h>

namespace coalesce {

class Loop;

class Intake {
  public:
    /// One request. What it points to lasts as long as the call that hands it over.
    struct Asking {
        std::uint64_t sequence;    ///< number of its line, from 1
        RequestKey key;            ///< decides with whom it is shared
        std::string_view command;  ///< as it was asked for
        std::size_t job_bytes;     ///< about the size of what is to be run
        std::string id{};          ///< the client's, as JSON text; empty: none
        bool fresh = false;
        Wish wish{};  ///< of what is kept
        bool with_output = true;
        std::optional<std::chrono::milliseconds> patience{};
        std::optional<Job> job{};  ///< unset for a line: job_of_line() makes it, where it is led

        /// The same, pointing to these.
        [[nodiscard]] Asking with(const Key& owned, std::string_view command_owned) && {
            return {.sequence = sequence,
                    .key = {owned.surroundings, owned.words},
                    .command = command_owned,
                    .job_bytes = job_bytes,
                    .id = std::move(id),
                    .fresh = fresh,
                    .wish = wish,
                    .with_output = with_output,
                    .patience = patience,
                    .job = std::move(job)};
        }
    };
    /// A line that is no request.
    struct Refused {
        std::uint64_t sequence;
        std::string id;  ///< as far as it could be read
        std::string_view command;
        std::string why;  ///< a sentence that names the input and the line
    };
    struct Events {
        UniqueFunction<void(Asking&&)> on_request;
        UniqueFunction<void(const Refused&)> on_refused;
        UniqueFunction<void(std::uint64_t)> on_nothing;  ///< a blank line, or a request that is passed over
        /// The input is not the one of the joblog that was to be gone on with; no line follows.
        UniqueFunction<void(const std::string&)> on_other_input;
        UniqueFunction<void(const std::optional<Error>&)> on_end;  ///< once, unless stopped
    };

    /// `own` are the surroundings of a command that says nothing about them; `earlier`
    /// knows what is to be passed over, if anything is. `options` must outlive it.
    Intake(Loop& loop, const BatchOptions& options, Surroundings own, std::optional<EarlierJobs> earlier,
           Events events);

    void resume() { source_.resume(); }
    void pause() noexcept { source_.pause(); }
    /// No further event.
    void stop() noexcept;
    /// Until the input has ended, or was stopped.
    [[nodiscard]] bool reading() const noexcept { return reading_; }

    /// What a command line is to run.
    [[nodiscard]] Job job_of_line(std::string line) const {
        return job_of_line(std::move(line), options_, usual_.surroundings);
    }
    /// A line's key, once more, for whoever must own it.
    [[nodiscard]] Key key_of_line(std::string_view line) const;
    /// Of a command that says nothing about them.
    [[nodiscard]] const std::shared_ptr<const CanonicalSurroundings>& surroundings() const noexcept {
        return usual_.canonical;
    }
    /// How many requests an earlier batch had done; nothing where none was asked about.
    [[nodiscard]] std::optional<std::uint64_t> passed_over() const;

  private:
    void take(const LineSource::Line& line);
    void take_line(std::uint64_t sequence, std::string_view line);
    void take_request(std::uint64_t sequence, Request request);
    void refuse(std::uint64_t sequence, std::string id, std::string_view command, const std::string& why);
    [[nodiscard]] bool passes_over(std::uint64_t sequence, std::string_view command);
    [[nodiscard]] const BatchOptions& options_for(const std::string* line, const std::vector<std::string>& argv,
                                                  const std::string* directory) const;
    /// In which a command runs that says nothing about them.
    struct Usual {
        std::shared_ptr<const Surroundings> surroundings;
        std::shared_ptr<const CanonicalSurroundings> canonical;
    };
    [[nodiscard]] Usual usual_in(std::shared_ptr<const Surroundings> surroundings, const BatchOptions& options);
    [[nodiscard]] const Usual& usual_by(const BatchOptions& options);
    [[nodiscard]] Job job_of_line(std::string line, const BatchOptions& options,
                                  std::shared_ptr<const Surroundings> surroundings) const;
    void append_words(std::string& words, std::string_view line, const BatchOptions& options) const;
    [[nodiscard]] static Job job_defaults(const BatchOptions& options);
    [[nodiscard]] static Wish wish_of(const Request& request, const BatchOptions& options);

    const BatchOptions& options_;
    const std::optional<EarlierJobs> earlier_;
    SurroundingsTable interned_;
    const Usual usual_;
    const std::string canonical_shell_;
    std::unordered_map<const BatchOptions*, Usual> usual_by_rules_;
    Events events_;
    std::string words_;  // of the line at hand; kept for its room
    std::uint64_t passed_over_ = 0;
    bool reading_ = true;
    LineSource source_;
};

}  // namespace coalesce
