// SPDX-License-Identifier: MIT
// Outcome: how a run ended, and the status reported for it (R2).
//
// A command that fails is data, not an error: an Outcome is shared with every
// requester as it is. It keeps what happened (exit status, signal, errno) apart
// from the number a shell is told, which only status() decides. Giving up
// waiting is a requester's end, not the run's: no Outcome tells of it.
#pragma once

#include <string>

namespace coalesce {

/// What a requester exits with that has stopped waiting (--wait): try again later.
inline constexpr int gave_up_status = 75;

struct Outcome {
    enum class Kind {
        exited,       ///< code is the exit status
        signalled,    ///< code is the signal
        timed_out,    ///< ended by --timeout
        not_started,  ///< exec failed; code is its errno
        refused,      ///< never got as far as exec: bad directory, no process; code is the errno or 0
        cancelled,    ///< ended on purpose: everyone left, `coalesce cancel`, --halt
        lost,         ///< nobody knows how it ended, for instance its supervisor was killed
        engine_down,  ///< where machines meet could not be asked who is to run it
    };

    Kind kind = Kind::lost;
    int code = 0;
    std::string reason = {};   ///< for not_started, refused, lost, engine_down: a sentence that names the
                               ///< culprit; for cancelled: who it was, if not those who asked for it
    bool core_dumped = false;  ///< for signalled

    static Outcome exited(int exit_status);
    static Outcome signalled(int signal_number, bool core_dumped = false);
    static Outcome timed_out();
    static Outcome not_started(int errno_value, std::string reason);
    static Outcome refused(int errno_value, std::string reason);
    static Outcome cancelled();
    /// By somebody else than who asked for it here, on whatever machine.
    static Outcome cancelled_for_everyone();
    static Outcome lost(std::string reason);
    static Outcome engine_down(std::string reason);

    /// 0–255 for exited, 128+N for signalled, 124 for timed_out, 127 for an exec
    /// that found nothing (ENOENT), 126 for any other failed exec, 125 for refused,
    /// cancelled, lost and engine_down. Cancelled is 125 whatever the process made of its TERM:
    /// a run that was ended from outside must never look like the command's own verdict.
    [[nodiscard]] int status() const;

    /// Exited with 0, nothing else.
    [[nodiscard]] bool success() const;

    /// Cancelled by those who had asked for it: they know, and nothing is to be said of it.
    [[nodiscard]] bool withdrawn() const;

    /// A phrase for logs: "exit 3", "killed by TERM", "timed out", or the reason.
    [[nodiscard]] std::string describe() const;

    bool operator==(const Outcome&) const = default;
};

/// "TERM" for 15; "RTMIN+2" for real-time signals; the number when it has no name.
[[nodiscard]] std::string signal_name(int signal_number);

}  // namespace coalesce
