// SPDX-License-Identifier: MIT
// ServiceManager: tells systemd how the server is, if it asked to be told (sd_notify(3)).
//
// A manager that does not hear of the start would end us in the end, so what could not be
// told for want of something is told again until it was.
#pragma once

#include <optional>

#include <coalesce/io/watch.h>

namespace coalesce {

class Loop;

class ServiceManager {
  public:
    explicit ServiceManager(Loop& loop) : loop_(loop) {}

    /// The server listens. From here on the watchdog is told, too, that the loop goes round.
    void ready();
    /// The server is about to end.
    void stopping();

  private:
    void say_ready();

    Loop& loop_;
    std::optional<Timer> watchdog_;
    std::optional<Timer> again_;
};

}  // namespace coalesce
