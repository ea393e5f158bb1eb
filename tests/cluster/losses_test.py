# SPDX-License-Identifier: MIT
"""Machines that are lost: never two runs at a time, and whoever waits is told the truth (A3, A4; SPEC M28 to M32).

Each is looked at by a lock that the command's whole group holds. The controls take the guard away, by stopping it, and must find
two runs.
"""

import os
import random
import signal
import time

import chaos
import hosts
from hosts import ALONE, LONG, until


class Loss(hosts.Test):
    lease_ms = 2_000
    keep_ms = 15_000
    names = ("one", "two")

    # It heeds no TERM, and its grandchild is not its last word either. It says nothing before the gate, so it can be run again unseen.
    script = f"{ALONE} trap '' TERM; echo ran >>runs; sleep 1000 & read x <gate; kill -KILL $!; echo done"

    def shared(self):
        """It runs on the first host, and the second waits for it."""
        self.gate = self.box.gate("gate")
        first = self.hosts[0].start(*self.words("-c", self.script))
        until(lambda: self.runs() == 1)
        self.second = self.joined(self.hosts[1], self.script)
        return first, self.second

    def lease(self, milliseconds):
        self.lease_ms = milliseconds
        self.parameters += f"&lease={milliseconds}ms"

    def runs_again(self):
        until(lambda: self.runs() >= 2 or self.second.poll() is not None)
        self.assertGreaterEqual(self.runs(), 2, self.second.poll() is not None and self.end(self.second))

    def ends_well(self, *processes):
        self.open(self.gate)
        for process in processes:
            self.assertEqual(self.end(process)[:2], (0, "done\n"))

    def is_lost(self, process):
        status, out, err = self.end(process)
        self.assertEqual((status, out), (125, ""), err)
        self.assertRegex(err, "others may run it|another machine has taken over")

    def hand_over(self, first, second, leader):
        """Stopped past its lease the leader loses its run, which the second then has."""
        os.kill(leader, signal.SIGSTOP)
        self.runs_again()
        self.ends_well(second)
        os.kill(leader, signal.SIGCONT)
        self.is_lost(first)
        self.never_two()

    def never_two(self):
        self.assertEqual(self.box.overlaps(), 0)

    def test_A3_the_leader_is_killed(self):
        """Its requester takes over at once, whatever the lease: its machine knows."""
        self.lease(3_600_000)
        first, second = self.shared()
        os.kill(self.leader(self.hosts[0]), signal.SIGKILL)
        self.runs_again()
        self.ends_well(first, second)
        self.never_two()

    def test_A3_the_leader_and_its_requester_are_killed(self):
        first, second = self.shared()
        leader = self.leader(self.hosts[0])
        first.kill()
        os.kill(leader, signal.SIGKILL)
        self.runs_again()
        self.ends_well(second)
        self.never_two()

    def test_A3_the_machine_is_switched_off(self):
        _, second = self.shared()
        self.hosts[0].off()
        self.runs_again()
        self.ends_well(second)
        self.never_two()

    def test_A3_the_leader_is_stopped_past_its_lease(self):
        first, second = self.shared()
        self.hand_over(first, second, self.leader(self.hosts[0]))

    def test_A3_a_guard_that_is_killed_is_replaced(self):
        first, second = self.shared()
        leader = self.leader(self.hosts[0])
        [guard] = self.hosts[0].guards()
        os.kill(guard, signal.SIGKILL)
        until(lambda: [one for one in self.hosts[0].guards() if one != guard])
        self.hand_over(first, second, leader)

    def test_A3_without_a_guard_two_run(self):
        first, second = self.shared()
        leader = self.leader(self.hosts[0])
        for process in (*self.hosts[0].guards(), leader):
            os.kill(process, signal.SIGSTOP)
        self.runs_again()
        until(self.box.overlaps)
        for process in (*self.hosts[0].guards(), leader):
            os.kill(process, signal.SIGCONT)
        self.is_lost(first)
        self.ends_well(second)

    def test_A3_the_runner_is_cut_off(self):
        first, second = self.shared()
        self.hosts[0].unplug()
        self.runs_again()
        self.never_two()
        self.is_lost(first)
        self.hosts[0].plug()
        self.ends_well(second)
        self.never_two()

    def test_A3_who_is_cut_off_for_less_than_a_lease_loses_nothing(self):
        self.lease(60_000)
        for cut in self.hosts:
            again = self.box.gate(f"again {cut.name}")
            first, command, gate = self.held(self.hosts[0], f"seq 100000; read x <'{again}'; seq 100000; echo last; exit 3", before=ALONE)
            second = self.joined(self.hosts[1], command)
            self.open(gate)
            before = cut.established()
            cut.unplug()
            self.open(again)
            until(lambda: before - cut.established())
            cut.plug()
            numbers = "".join(f"{number}\n" for number in range(1, 100_001))
            for process in (first, second):
                self.assertEqual(self.end(process)[:2], (3, "first\n" + numbers + numbers + "last\n"))
        self.assertEqual(self.runs(), 2)
        self.never_two()


class Chaos(hosts.Test):
    names = ("one", "two", "three", "four")
    lease_ms = chaos.LEASE_MS
    keep_ms = 15_000

    def let_loose(self, while_this, **more):
        seed = os.environ.get("COALESCE_SEED") or str(random.randrange(1 << 32))
        self.chaos = chaos.Chaos(self, seed, **more)
        self.chaos.go_on(while_this)
        print(f"COALESCE_SEED={seed}: {self.chaos.summary()}")
        self.assertEqual(self.chaos.wrong, [])

    def test_A4_whatever_happens_never_two_run_and_no_byte_is_wrong(self):
        end = time.monotonic() + (60 if LONG else 15)
        self.let_loose(lambda: time.monotonic() < end or self.chaos.ends[chaos.STATUS] == 0)
        self.assertEqual(self.box.overlaps(), 0)
        self.assertGreater(self.runs(), 1)

    def test_A4_without_guards_it_finds_two(self):
        self.let_loose(lambda: self.box.overlaps() == 0, guarded=False)
        self.assertGreater(self.box.overlaps(), 0)


if __name__ == "__main__":
    hosts.machines.main()
