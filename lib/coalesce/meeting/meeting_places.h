// SPDX-License-Identifier: MIT
// MeetingPlaces: in which directories a user's wrappers meet, and in what order they look (SPEC R9).
//
// As a rule there is one. Where it is the runtime directory's, in which a user
// has a place only while logged in, there may be flights in /tmp, too: of those who
// asked when it was not there, such as cron. They are found, so that both share one run, but
// nobody leads there who has the other. What is looked at only is never a reason to refuse.
#pragma once

#include <coalesce/command/result.h>

#include <chrono>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include <coalesce/meeting/meeting_place.h>

namespace coalesce {

class MeetingPlaces {
  public:
    /// The directory `named`, or where that is empty the ones that the environment leads to; made
    /// if missing.
    static Result<MeetingPlaces> open(const std::vector<std::string>& env, const std::string& named = {});

    /// Where we lead.
    [[nodiscard]] MeetingPlace& own() noexcept { return own_; }
    [[nodiscard]] const MeetingPlace& own() const noexcept { return own_; }
    /// All in which flights are to be found, our own first.
    [[nodiscard]] std::vector<const MeetingPlace*> all() const;
    /// The runtime directory that was named and is not there; empty: none.
    [[nodiscard]] const std::string& passed_over() const noexcept { return passed_over_; }

    struct Joined {
        Descriptor connection;
    };
    struct Leading {
        Descriptor listener;
    };
    /// Not now: ask again in a moment.
    enum class Busy {
        taken,      ///< somebody has the lock, or a flight's queue is full
        leftovers,  ///< what a dead supervisor left is dying
    };
    /// A connection to the live flight named `key`, or the right to be it. With `over_leftovers`
    /// what will not die is left to itself.
    Result<std::variant<Joined, Leading, Busy>> join_or_lead(const std::string& key, bool over_leftovers);

    /// A connection to a live flight, wherever it is; an empty descriptor: there is none.
    Result<Descriptor> connect(const std::string& key) const;
    /// Removes what dead supervisors left.
    void sweep();

    /// Where classes have their queues: the one place that all of this user's wrappers can have, also those who ask
    /// when there is no runtime directory, if it is to be had.
    [[nodiscard]] Result<MeetingPlace> for_classes() const;

  private:
    explicit MeetingPlaces(MeetingPlace own) : own_(std::move(own)) {}

    MeetingPlace own_;
    std::optional<MeetingPlace> other_;  // where we only look
    std::string passed_over_;
    bool is_logins_ = false;  // our own is the runtime directory's
};

/// For how long one who asks again and again waits for what a dead supervisor left: what was killed is gone in no
/// time, unless it is frozen, or waits for a disk. Then a new run is started beside it (SPEC F13).
class LeftoversPatience {
  public:
    /// They are still there. True: they are waited for no longer.
    bool ends_now();
    [[nodiscard]] bool over() const noexcept { return over_; }

  private:
    std::optional<std::chrono::steady_clock::time_point> until_;
    bool over_ = false;
};

}  // namespace coalesce
