# SPDX-License-Identifier: MIT
"""Machines with a network of their own share runs: asked at once, joined at any moment, left in any order, by lists and nested.

A1, A2, A5, A10 and A11 of what machines promise each other; each ends with A12 (hosts.py). Losses are in losses_test.py, engines
that fail in engine_faults_test.py, forgeries in forgery_test.py. What needs no network: A7 model_test.cpp, A8 run_test.py (M9, M37)
and check_test.py (M3, M4), A13 check_test.py, A14 run_test.py (M1).

COALESCE_LONG=1 asks for the full numbers.
"""

import fcntl
import hashlib
import itertools
import os
import shutil
import signal
from concurrent import futures

import hosts
from hosts import ALONE, LONG, until


class AtOnce(hosts.Test):
    names = ("one", "two", "three", "four")

    def test_A1_of_four_that_ask_at_once_one_runs(self):
        for number in range(300 if LONG else 8):
            gate = self.box.gate(f"gate{number}")
            command = f"{ALONE} echo ran >>runs; echo out {number}; read x <{gate}; echo err >&2; printf end; exit {number % 7}"
            asking = [host.start(*self.words("-c", command)) for host in self.hosts]
            self.waiting(4)
            self.open(gate)
            for process in asking:
                self.assertEqual(self.end(process), (number % 7, f"out {number}\nend", "err\n"))
            self.assertEqual(self.runs(), number + 1)
        self.assertEqual(self.box.overlaps(), 0)


class Late(hosts.Test):
    names = ("one", "two", "three", "four")

    def test_A2_who_joins_at_any_moment_has_every_byte(self):
        """At 0, 50 and 99 per cent, and after the end; two streams with NULs in them and no last newline."""
        self.parameters += "&cap=256M&keepsize=256M"
        size = (30 if LONG else 2) << 20
        out, err = os.urandom(size) + b"\0end", os.urandom(size) + b"\0end"
        for name, payload in (("out", out), ("err", err)):
            with open(os.path.join(self.box.work, name), "wb") as file:
                file.write(payload)
        gates, begun = ([self.box.gate(f"{name}{n}") for n in range(4)] for name in ("gate", "begun"))

        def part(begin, end):
            return "".join(f"tail -c +{begin + 1} {name} | head -c {end - begin} {to}; " for name, to in (("out", ""), ("err", ">&2")))

        half, most = size // 2, size - size // 100
        command = "echo ran >>runs; "
        for number, piece in enumerate((part(0, half), part(half, most), part(most, size + 4))):
            command += f"echo up >{begun[number]}; read x <{gates[number]}; {piece}"
        self.box.file("list", f"echo up >{begun[3]}; read x <{gates[3]}\n{command}exit 5\n")
        queued = self.hosts[3].start("--cluster", self.box.url(self.server, self.parameters), "--cluster-scope", "tonight", "-k", "-j1", "-a", "list")
        self.begun(begun[3])
        with futures.ThreadPoolExecutor() as readers:
            asked = []
            for number, host in enumerate(self.hosts[:3]):
                asked.append(readers.submit(host.start(*self.words("-c", command + "exit 5")).communicate))
                if number == 0:
                    self.begun(begun[0])
                else:
                    self.waiting(1, number + 1)
                self.open(gates[number])
                if number < 2:
                    self.begun(begun[number + 1])
            for answer in asked:
                self.assertEqual([digest(each) for each in answer.result()], [digest(out), digest(err)])
            # It has asked before the end, and gets its turn only now.
            self.open(gates[3])
            self.assertEqual([digest(each) for each in queued.communicate()], [digest(out), digest(err)])
        self.assertEqual(queued.returncode, 123)
        self.assertEqual(self.runs(), 1)

    def test_A2_a_narrow_cable_delays_and_loses_nothing(self):
        if not shutil.which("tc"):
            self.skipTest("a narrow cable: there is no tc")
        first, command, gate = self.held(self.hosts[0], "cat payload; exit 3")
        payload = os.urandom(1_000_000)  # more than goes through in the two seconds of silence that end a connection
        with open(os.path.join(self.box.work, "payload"), "wb") as file:
            file.write(payload)
        try:
            self.hosts[1].slow("2mbit")
        except AssertionError as error:
            self.skipTest(f"a narrow cable: {error}")
        second = self.joined(self.hosts[1], command)
        self.open(gate)
        for process in (first, second):
            self.assertEqual(digest(process.communicate()[0]), digest(b"first\n" + payload))
            self.assertEqual(process.returncode, 3)
        self.assertEqual(self.runs(), 1)


class Leaving(hosts.Test):
    def alive(self):
        with open(os.path.join(self.box.work, "lock")) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    def three(self):
        first, command, gate = self.held(self.hosts[0], "echo last", before=ALONE)
        asked = [first, *(self.joined(host, command) for host in self.hosts[1:])]
        self.heard_of_others(self.hosts[0], 2)
        return asked, command, gate

    def test_A5_in_every_order_by_signal_and_by_death(self):
        ways = itertools.product((signal.SIGTERM, signal.SIGKILL), itertools.permutations(range(3)))
        for runs, (way, order) in enumerate(ways if LONG else list(ways)[::3], 1):
            asked, command, gate = self.three()
            for number in order:
                self.assertTrue(self.alive())
                asked[number].send_signal(way)
                asked[number].communicate()
                self.assertEqual(asked[number].returncode, -way)
            self.all_gone()
            self.assertEqual(self.runs(), runs)

    def test_A5_leaving_during_the_end(self):
        for number in range(60 if LONG else 4):
            first, command, gate = self.held(self.hosts[0], "echo last")
            second = self.joined(self.hosts[1], command)
            leaves, stays = (first, second) if number % 2 else (second, first)
            self.heard_of_others(self.hosts[0])
            self.open(gate)
            leaves.send_signal(signal.SIGTERM)
            leaves.communicate()
            self.assertIn(leaves.returncode, (0, -signal.SIGTERM))
            self.assertEqual(self.end(stays)[:2], (0, "first\nlast\n"))
            self.assertEqual(self.runs(), number + 1)

    def test_A5_who_comes_while_it_is_cancelled_waits_and_runs_anew(self):
        ending, ended = self.box.gate("ending"), self.box.gate("ended")
        trap = f"{ALONE} trap 'echo up >{ending}; read y <{ended}; exit 9' TERM;"
        first, command, gate = self.held(self.hosts[0], "echo last", before=trap)
        first.send_signal(signal.SIGKILL)
        first.communicate()
        self.begun(ending)
        second = self.hosts[1].start(*self.words("-c", command))
        until(lambda: self.server.ask("PUBSUB", "CHANNELS", "coalesce:1:*:j"))
        self.open(ended)
        self.open(gate)  # which is read once more
        self.assertEqual(self.end(second), (0, "first\nlast\n", ""))
        self.assertEqual((self.runs(), self.box.overlaps()), (2, 0))

    def test_A5_who_comes_while_its_machine_asks_whether_others_wait(self):
        """It cannot join what may be about to be cancelled: it waits for the end, and shares it if there is one."""
        for runs, others in ((1, True), (3, False)):
            first, command, gate = self.held(self.hosts[0], "echo last", before=ALONE)
            second = self.joined(self.hosts[1], command) if others else None
            self.server.process.send_signal(signal.SIGSTOP)
            first.send_signal(signal.SIGKILL)
            first.communicate()
            again = self.hosts[0].start(*self.words("-v", "-c", command), bufsize=0)
            self.assertIn(b"waiting for an earlier run", again.stderr.readline())
            self.server.process.send_signal(signal.SIGCONT)
            until(lambda runs=runs: self.runs() == runs)
            if others:
                self.heard_of_others(self.hosts[0])  # or who asked again would run anew
            self.open(gate)
            for process in filter(None, (again, second)):
                self.assertEqual(self.end(process)[:2], (0, "first\nlast\n"))
            self.assertEqual((self.runs(), self.box.overlaps()), (runs, 0))

    if LONG:
        def test_A5_the_last_machine_that_waited_is_switched_off(self):
            """Nobody tells; its presence ends."""
            first, command, gate = self.held(self.hosts[0], before=ALONE)
            self.joined(self.hosts[1], command)
            self.heard_of_others(self.hosts[0])
            first.send_signal(signal.SIGTERM)
            first.communicate()
            self.assertTrue(self.alive())
            self.hosts[1].off()
            self.all_gone()


class Lists(hosts.Test):
    lease_ms = 4_000
    keep_ms = 3_600_000  # as --once has it
    count = 30

    def test_A10_one_dies_in_the_middle_and_one_starts_late(self):
        for options in (("--once",), ("--once", "--unique"), (), ("--unique",)) if LONG else (("--once",), ("--unique",)):
            with self.subTest(options=options):
                self.shared_out(*options)

    def shared_out(self, *options):
        scope = " ".join(options) or "plain"
        for name in os.listdir(self.box.work):
            if name.startswith(("runs", "overlaps", "lock")):
                os.unlink(os.path.join(self.box.work, name))
        held, begun = self.box.gate(f"held {scope}"), self.box.gate(f"begun {scope}")
        lines = []
        for number in range(self.count):
            wait = f"echo up >'{begun}'; read x <'{held}'; " if number == 7 else f"sleep 0.0{number % 4}; "
            lines.append(f"exec 9>lock{number}; flock -n 9 || echo overlap >>overlaps; echo {number} >>runs; {wait}echo result {number}")
        self.box.file("list", "\n".join(lines) + "\n")

        def start(host):
            return host.start("--cluster", self.box.url(self.server, self.parameters), "--cluster-scope", scope, "-k", "-j2", *options, "-a", "list")

        dies = self.box.host("dies" + str(len(self.box.hosts)))
        first = start(dies)
        self.begun(begun)  # it runs the eighth, and waits
        others = [start(self.hosts[0])]
        until(lambda: self.runs() >= self.count // 2)
        dies.off()
        first.communicate()
        others.append(start(self.hosts[1]))  # late
        os.replace(self.box.file("opened", "go\n"), held)  # to whoever takes over, and who runs it once more
        printed = []
        for process in others:
            status, out, err = self.end(process)
            self.assertEqual((status, err), (0, ""))
            printed.append(out)
        results = [f"result {number}\n" for number in range(self.count)]
        ran = self.box.read("runs").split()
        self.assertEqual(self.box.overlaps(), 0)
        self.assertEqual(set(ran), {str(number) for number in range(self.count)})
        if "--once" in options:  # but for what the dead one had under way
            self.assertLessEqual(len(ran), self.count + 2)
        if "--unique" not in options:
            self.assertEqual(printed, ["".join(results)] * 2)
        elif "--once" in options:
            self.assertFalse(set(printed[0].splitlines()) & set(printed[1].splitlines()))


class Nested(hosts.Test):
    names = ("one", "two")

    def sharing(self, host, **env):
        return {**host.env, "C": hosts.machines.COALESCE, "COALESCE_CLUSTER": self.box.url(self.server, self.parameters),
                "COALESCE_CLUSTER_SCOPE": "tonight", **env}

    def test_A11_a_command_that_asks_for_another_takes_no_second_place(self):
        gate = self.box.gate("gate")
        asked = []
        for host in self.hosts:
            self.box.file(f"list {host.name}", f": {host.name}; $C run -c 'echo inner >>runs; read x <{gate}; echo inner'\n")
            asked.append(host.start("-j1", "-a", f"list {host.name}", env=self.sharing(host)))
        self.waiting(1, 1, 2)
        self.open(gate)
        for process in asked:
            self.assertEqual(self.end(process), (0, "inner\n", ""))
        self.assertEqual(self.runs(), 1)

    def test_A11_a_ring_over_two_machines_ends_by_wait(self):
        gates = {name: self.box.gate(f"gate {name}") for name in "XY"}
        for name, other in ("XY", "YX"):
            self.box.file(name, f"echo {name} >>runs; read x <'{gates[name]}'\n$C run --wait 2s --key {other} sh {other}\necho {name} ends with $?\n")
        asked = [host.start("run", "--key", name, "sh", name, env=self.sharing(host)) for host, name in zip(self.hosts, "XY")]
        self.waiting(1, 1)
        for gate in gates.values():
            self.open(gate)
        said = [self.end(process) for process in asked]
        self.assertEqual([status for status, _, _ in said], [0, 0])
        self.assertIn("ends with 75\n", "".join(out for _, out, _ in said))
        self.assertEqual(set(self.box.read("runs").split()), {"X", "Y"})


def digest(payload):
    """Of bytes that nobody wants to read in an error."""
    return len(payload), hashlib.md5(payload).hexdigest()


if __name__ == "__main__":
    hosts.machines.main()
