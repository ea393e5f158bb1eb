// SPDX-License-Identifier: MIT
// RunNames: what people know one run by (SPEC O1).
//
// A key names all runs of a command, one after the other and one behind the other, so a
// run is named by the key's hash, this process, and its number here together, hashed once
// more: whoever cancels one by its name, or by the beginning of it, means no other, ever.
#pragma once

#include <coalesce/flight/flight_ref.h>

#include <string>
#include <string_view>

namespace coalesce {

class RunNames {
  public:
    RunNames();
    /// 32 hexadecimal digits. `key` is the hash of the run's key, `id` its number in this process.
    [[nodiscard]] std::string name_of(std::string_view key, FlightId id) const;

  private:
    std::string process_;  // this one, and no other at another time or on another machine
};

}  // namespace coalesce
