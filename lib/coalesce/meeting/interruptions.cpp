// SPDX-License-Identifier: MIT
#include <coalesce/meeting/interruptions.h>

#include <signal.h>

#include <coalesce/meeting/attention.h>
#include <coalesce/protocol/message.h>

namespace coalesce {
namespace {

// Whoever has not read by then that we were told to end does not read at all.
constexpr std::chrono::milliseconds hearing{1000};

void send_signal(Connection& connection, int number) {
    connection.send(Message().text("op", "signal").number("signal", number).line());
}

}  // namespace

std::optional<int> Interruptions::pass_on(Connection& connection) {
    while (const auto number = Attention::take_user_signal()) send_signal(connection, *number);
    const auto number = Attention::take_signal();
    if (!number) return std::nullopt;
    const bool unasked = connection.unsent();  // whoever is there does not read: nobody has our request
    switch (insistence_.told(*number)) {
        case Insistence::Is::echo:
            return std::nullopt;
        case Insistence::Is::first:
            if (unasked) break;
            send_signal(connection, *number);
            passed_on_ = true;
            heard_by_ = Clock::now() + hearing;
            return std::nullopt;
        case Insistence::Is::second:
            send_signal(connection, SIGKILL);
            break;
    }
    return number;
}

bool Interruptions::unheard(const Connection& connection) {
    if (!heard_by_ || Clock::now() < *heard_by_) return false;
    heard_by_.reset();
    return connection.unread();
}

}  // namespace coalesce
