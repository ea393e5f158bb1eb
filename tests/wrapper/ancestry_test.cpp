// SPDX-License-Identifier: MIT
// F11 where the variable got lost: the processes above tell the same.
#include <algorithm>
#include <string>

#include "../catch.h"
#include "sandbox.h"

namespace {

const std::string kLost = "env -u COALESCE_ANCESTRY ";

void until_joined(Sandbox& box, std::size_t flights, int requesters) {
    box.until([&](const std::vector<Flight>& all) {
        return all.size() == flights && std::any_of(all.begin(), all.end(), [&](const Flight& flight) {
                   return flight.requesters == requesters;
               });
    });
}

}  // namespace

SCENARIO("F11: a command that asks for itself is told at once, whatever it lost on the way", "[wrapper]") {
    for (const std::string& lost :
         {kLost, kLost + "setsid --wait ", kLost + "setsid --wait sh -c '\"$@\"; exit $?' sh ",
          std::string("env -i PATH=\"$PATH\" XDG_RUNTIME_DIR=\"$XDG_RUNTIME_DIR\" ASAN_OPTIONS=\"$ASAN_OPTIONS\" ")}) {
        Sandbox box;
        CAPTURE(lost);
        const Ended ended = box.script("\"$C\" run --key K " + lost + "\"$C\" run --key K true");
        CHECK(ended.status == 125);
        CHECK(ended.err == "coalesce: true would wait for itself\n");
    }
}

SCENARIO("F11: so is one that asks for itself through others", "[wrapper]") {
    Sandbox box;
    const Ended ended = box.script("\"$C\" run --key A " + kLost + "\"$C\" run --key B " + kLost +
                                   "\"$C\" run --key C " + kLost + "\"$C\" run --key A true");
    CHECK(ended.status == 125);
    CHECK(ended.err == "coalesce: true would wait for itself\n");
}

SCENARIO("F11: and through a run that it joined", "[wrapper]") {
    Sandbox box;
    Gate gate(box, "gate");
    auto b = box.request({"--key", "B", "-c", "cat gate; " + kLost + "\"$C\" run --key A true"});
    gate.wait_for_command();
    auto a = box.request({"--key", "A", "-c", kLost + "\"$C\" run --key B true"});
    until_joined(box, 2, 2);
    gate.open();
    const Ended ended = b.wait();
    CHECK(ended.status == 125);
    CHECK(ended.err == "coalesce: true would wait for itself\n");
    CHECK(a.wait().status == 125);
}

SCENARIO("F11: who runs under one flight may wait for another", "[wrapper]") {
    Sandbox box;
    Gate gate(box, "gate");
    auto leader = box.request({"--key", "K", "-c", "cat gate; echo out"});
    gate.wait_for_command();
    auto other = box.request({"--key", "X", "-c", kLost + "\"$C\" run --key K true"});
    until_joined(box, 2, 2);
    gate.open();
    CHECK(leader.wait().out == "out\n");
    const Ended ended = other.wait();
    CHECK(ended.out == "out\n");
    CHECK(ended.status == 0);
}
