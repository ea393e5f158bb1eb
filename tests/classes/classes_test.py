# SPDX-License-Identifier: MIT
"""--class (SPEC C): of the runs in a class so many at a time, through every door.

Runs are held on FIFOs; that one waits is seen in `status`. That two were under way at once is told by a lock
which the command takes and whose holder is its whole process group.
"""

import fcntl
import json
import os
import shlex
import subprocess
import sys
import unittest

TESTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
sys.path[:0] = [os.path.join(TESTS, "server"), os.path.join(TESTS, "kept")]
import harness  # noqa: E402
from sandbox import COALESCE, Sandbox, a_moment, adopt_orphans  # noqa: E402

# Held by the group until all of it has gone; says so if another has it.
ALONE = "exec 9>>lock; flock -n 9 || echo overlap >>overlaps; "


class Classes(unittest.TestCase):
    def setUp(self):
        self.box = Sandbox()
        self.addCleanup(self.box.close)

    def until(self, *states):
        """Waits until the flights, the oldest first, have these states."""
        while True:
            flights = sorted(self.box.status(), key=lambda flight: flight["started"])
            if sorted(flight["state"] for flight in flights) == sorted(states):
                return flights
            a_moment()

    def held(self, name, *options):
        """A run that says its name when it has started, and then is held."""
        gate = self.box.gate(f"gate-{name}")
        return gate, self.box.start("run", *options, "-c", f"echo {name} >>runs; cat {gate}")

    def have_begun(self, *names):
        """Those, and no others: a run that status tells of may have yet to say so."""
        while self.box.read("runs").count("\n") < len(names):
            a_moment()
        self.assertEqual(self.box.read("runs"), "".join(name + "\n" for name in names))

    def all_ended(self, processes):
        for process in processes:
            out, err = process.communicate()
            self.assertEqual((process.returncode, err), (0, b""), out)


class Turns(Classes):
    def test_one_at_a_time(self):
        """C1: of 20 there is never more than one."""
        line = f"{ALONE} echo run >>runs; seq 2000 | cksum >/dev/null; : "
        self.all_ended([self.box.start("run", "--class", "c", "-c", f"{line} {i}") for i in range(20)])
        self.assertEqual((self.box.runs(), self.box.read("overlaps")), (20, ""))

    def test_two_at_a_time(self):
        """C1: NAME:N."""
        one, first = self.held("one", "--class", "c:2")
        self.have_begun("one")
        two, second = self.held("two", "--class", "c:2")
        self.until("running", "running")
        three, third = self.held("three", "--class", "c:2")
        self.until("queued", "running", "running")
        harness.release(two)
        self.until("running", "running")
        harness.release(one)
        harness.release(three)
        self.all_ended([first, second, third])
        self.assertEqual(self.box.read("runs"), "one\ntwo\nthree\n")

    def test_what_is_set_up(self):
        """C1: [class.NAME] jobs, where the request says no number."""
        config = self.box.file("config", "[class.c]\njobs = 2\n")
        self.box.env["COALESCE_CONFIG"] = config
        gates = [self.held(name, "--class", "c") for name in ("one", "two", "three")]
        flights = self.until("queued", "running", "running")
        self.assertEqual({flight["class"] for flight in flights}, {"c"})
        while self.box.runs() < 2:  # or the queued one might be released first, and that waits until it runs
            a_moment()
        names = self.box.read("runs").split()
        for name in (*names, *({"one", "two", "three"} - set(names))):
            harness.release(self.box.path(f"work/gate-{name}"))
        self.all_ended([process for _, process in gates])

    def test_the_smallest_number_holds(self):
        """C1: who asks to be one of one is alone, and those behind it wait for it."""
        one, first = self.held("one", "--class", "c:3")
        self.until("running")
        alone, second = self.held("alone", "--class", "c:1")
        self.until("queued", "running")
        three, third = self.held("three", "--class", "c:3")
        self.until("queued", "queued", "running")
        harness.release(one)
        self.until("queued", "running")
        self.have_begun("one", "alone")
        harness.release(alone)
        harness.release(three)
        self.all_ended([first, second, third])

    def test_other_classes_are_others(self):
        one, first = self.held("one", "--class", "c")
        two, second = self.held("two", "--class", "d")
        three, third = self.held("three")
        self.until("running", "running", "running")
        for gate in one, two, three:
            harness.release(gate)
        self.all_ended([first, second, third])

    def test_in_the_order_of_the_first_request(self):
        """C2"""
        gate, first = self.held("first", "--class", "c")
        self.until("running")
        others = []
        for name in ("second", "third", "fourth"):
            others.append(self.box.start("run", "--class", "c", "-c", f"echo {name} >>runs"))
            self.until("running", *["queued"] * len(others))
        harness.release(gate)
        self.all_ended([first, *others])
        self.assertEqual(self.box.read("runs"), "first\nsecond\nthird\nfourth\n")

    def test_bad_names(self):
        for wrong in ("", ":", "a:", "a:0", "a:x", "a:-1", "a:1x", "a b", "a/b", "../a", ".a", "a:1:2", "x" * 65, "caf\xe9", "a:99999999999"):
            status, out, err = self.box.run("--class", wrong, "true")
            self.assertEqual((status, out), (125, ""), wrong)
            self.assertIn("--class", err)
        self.assertEqual(self.box.run("--class", "A-z_0.9:7", "true"), (0, "", ""))

    def test_a_place_that_is_none(self):
        """What keeps the queue from being had is told."""
        self.box.out("true")
        self.box.file("../runtime/coalesce/c.class")
        status, out, err = self.box.run("--class", "c", "true")
        self.assertEqual((status, out), (125, ""))
        self.assertIn("c.class", err)


class Waits(Classes):
    """C2: what the wait is, and what needs none."""

    def setUp(self):
        super().setUp()
        self.gate, self.first = self.held("first", "--class", "heavy")
        self.until("running")

    def tearDown(self):
        harness.release(self.gate)
        self.all_ended([self.first])

    def test_told(self):
        process = self.box.start("run", "-v", "--class", "heavy", "true")
        self.assertEqual(process.stderr.readline(), b"coalesce: waiting for 1 other of class heavy\n")
        flights = self.until("queued", "running")
        self.assertEqual([flight["class"] for flight in flights], ["heavy", "heavy"])
        another = self.box.start("run", "-v", "--class", "heavy", "echo", "x")
        self.assertEqual(another.stderr.readline(), b"coalesce: waiting for 2 others of class heavy\n")
        process.kill()
        another.kill()
        self.until("running")

    def test_told_with_the_time_that_those_before_usually_take(self):
        hours = {"b": 2, "c": 3, "d": None}  # d has never run

        def line(name):
            return f"cat {os.path.join(self.box.work, 'gate-' + name)}"

        gates = {name: self.box.gate(f"gate-{name}") for name in hours}
        for name, usual in hours.items():
            if usual:
                subprocess.run([os.environ["REMEMBER"], self.box.work, "", "ok", str(usual * 3_600_000), "--", "/bin/sh", "-c",
                                line(name)], env=self.box.env, check=True)
        started, said = [], []

        def lead(name):
            process = self.box.start("run", "-v", "--class", "timed", "-c", line(name))
            started.append(process)
            said.append(process.stderr.readline().decode())

        for name in hours:
            lead(name)
        last = self.box.start("run", "-v", "--class", "timed", "true")
        started.append(last)
        self.assertIn("started ", said[0])
        self.assertRegex(said[1], r"^coalesce: waiting for 1 other of class timed, about (2h|1h 59m)\n$")
        self.assertRegex(said[2], r"^coalesce: waiting for 2 others of class timed, about (5h|4h 59m)\n$")
        self.assertEqual(last.stderr.readline(), b"coalesce: waiting for 3 others of class timed\n")
        flights = {flight["command"]: flight for flight in self.box.status()}
        self.assertTrue(7000 < flights[line("c")]["turn_in"] <= 7200)
        self.assertTrue(17900 < flights[line("d")]["turn_in"] <= 18000)
        self.assertNotIn("turn_in", flights["true"])
        # A server's request is told the same.
        server = harness.Server(self, env={**self.box.env, "HOME": self.box.env["HOME"]})
        with server.client() as client:
            client.send({"line": "true", "class": "timed:9", "output": "stream", "id": 1})
            self.assertEqual(client.message(), {"id": 1, "event": "waiting", "class": "timed", "others": 4})
            client.send({"id": 1, "op": "leave"})
            client.until(lambda message: message.get("event") == "left")
        for process in reversed(started):
            process.terminate()
            process.communicate()

    def test_bounded(self):
        status, out, err = self.box.run("--wait", "0.05", "--class", "heavy", "-c", "echo run >>runs")
        self.assertEqual((status, out), (75, ""))
        self.assertIn("gave up waiting", err)
        self.until("running")
        self.have_begun("first")

    def test_who_leaves_never_starts(self):
        process = self.box.start("run", "--class", "heavy", "-c", "echo run >>runs")
        self.until("queued", "running")
        process.terminate()
        process.wait()
        self.until("running")
        self.assertEqual(self.box.call("--class", "heavy", "--halt", "now,done=1", input=b"")[0], 0)
        self.have_begun("first")

    def test_cancelled(self):
        process = self.box.start("run", "--class", "heavy", "-c", "echo run >>runs")
        [flight] = [flight for flight in self.until("queued", "running") if flight["state"] == "queued"]
        self.assertEqual(self.box.call("cancel", flight["id"])[0], 0)
        self.assertEqual(process.wait(), 125)
        self.have_begun("first")

    def test_joining_takes_no_turn_and_the_class_is_not_in_the_key(self):
        line = f"echo first >>runs; cat {self.gate}"
        joiners = [self.box.start("run", *options, "-c", line) for options in ([], ["--class", "heavy"], ["--class", "other:3"])]
        while [flight["requesters"] for flight in self.box.status()] != [4]:
            a_moment()
        key = self.box.call("key", "-c", line)[1]
        self.assertNotIn("heavy", key)
        harness.release(self.gate)
        self.all_ended(joiners)
        self.assertEqual(self.box.runs(), 1)
        self.first = self.box.start("run", "--class", "heavy", "cat", self.gate)

    def test_who_leads_the_next_run_waits_in_its_own_class(self):
        held, holder = self.held("holder", "--class", "c")
        gate, first = self.held("same")
        while self.box.runs() < 3:
            a_moment()
        second = self.box.start("run", "--fresh", "--class", "c", "-c", f"echo same >>runs; cat {gate}")
        while len(self.box.status()) < 4:
            a_moment()
        harness.release(gate)
        self.assertEqual(first.wait(), 0)
        self.until("queued", "running", "running")
        harness.release(held)
        harness.release(gate)
        self.all_ended([holder, second])
        self.assertEqual(self.box.runs(), 4)

    def test_a_hit_takes_no_turn(self):
        self.assertEqual(self.box.out("--ttl", "1h", "echo", "kept"), "kept\n")
        self.assertEqual(self.box.out("--ttl", "1h", "--class", "heavy", "echo", "kept"), "kept\n")


class Doors(harness.ServerTest):
    """C1 over all doors at once."""

    def setUp(self):
        self.server = self.serve()
        self.env = self.server.env

    def call(self, *words, **more):
        return subprocess.Popen([COALESCE, *words], env=self.env, cwd=self.server.directory, stdin=subprocess.PIPE,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more)

    def test_never_two(self):
        lines = [f"{ALONE} echo run >>runs; seq 1000 | cksum >/dev/null; : {i}" for i in range(24)]
        wrappers = [self.call("run", "--class", "c", "-c", line) for line in lines[:6]]
        batches = [self.call("-j4", "--class", "c") for _ in range(2)]
        batches.append(self.call("-j4", "--json"))
        batches[0].stdin.write("\n".join(lines[6:10]).encode())
        batches[1].stdin.write("\n".join(lines[10:14]).encode())
        batches[2].stdin.write("\n".join(json.dumps({"line": line, "class": "c"}) for line in lines[14:18]).encode())
        for batch in batches:
            batch.stdin.close()
            batch.stdin = None
        client = self.server.client()
        client.send(*({"id": i, "line": line, "class": "c"} for i, line in enumerate(lines[18:22])))
        asked = [self.call("run", "--socket", self.server.path, "--class", "c", "-c", line) for line in lines[22:]]
        for process in wrappers + batches + asked:
            out, err = process.communicate()
            self.assertEqual((process.returncode, err), (0, b""), out)
        for _ in range(4):
            self.assertEqual(client.message()["exit"], 0)
        self.assertEqual((self.server.runs(), self.server.runs("overlaps")), (24, 0))

    def test_told_by_the_server(self):
        gate = self.server.gate("gate")
        client = self.server.client()
        client.send({"id": 1, "line": gate.wait, "class": "c", "output": "none"})
        while [flight["state"] for flight in self.server.status()] != ["running"]:
            a_moment()
        client.send({"id": 2, "line": "echo said", "class": "c", "output": "stream"})
        self.assertEqual(client.message(), {"id": 2, "event": "waiting", "class": "c", "others": 1})
        self.assertEqual({(flight["state"], flight["class"]) for flight in self.server.status()}, {("running", "c"), ("queued", "c")})
        wrapper = self.call("run", "-v", "--class", "c", "echo", "wrapped")
        self.assertEqual(wrapper.stderr.readline(), b"coalesce: waiting for 2 others of class c\n")
        asked = self.call("run", "-v", "--socket", self.server.path, "--class", "c", "echo", "asked")
        self.assertEqual(asked.stderr.readline(), b"coalesce: waiting for 3 others of class c\n")
        given_up = client.send({"id": 3, "line": "echo never >>runs", "class": "c", "wait": 0.01}).until(lambda m: m.get("id") == 3)
        self.assertEqual(given_up["error"]["code"], "gave_up")
        gate.let()
        self.assertEqual(wrapper.communicate()[0], b"wrapped\n")
        self.assertEqual(asked.communicate()[0], b"asked\n")
        self.assertEqual(self.server.runs(), 0)

    def test_a_class_whose_turns_are_over_costs_no_descriptor(self):
        client = self.server.client()
        self.assertEqual(client.ask({"line": "true", "class": "c"})["exit"], 0)
        before, classes = self.server.descriptors(), 40
        for i in range(classes):
            self.assertEqual(client.ask({"line": "true", "class": f"c{i}"})["exit"], 0)
        client.ask({"op": "ping"})
        self.assertLess(self.server.descriptors(), before + classes // 2)

    def test_refused(self):
        client = self.server.client()
        for wrong in "", "a b", "a:0", 7, None:
            error = client.ask({"line": "true", "class": wrong})["error"]
            self.assertEqual(error["code"], "bad_request")

    def test_no_place_is_held_while_waiting(self):
        """F12: what waits for a turn keeps no place from who may have to run before it."""
        server = self.serve("-j1", env={"XDG_RUNTIME_DIR": self.server.directory})
        gate = self.server.gate("gate")
        holder = self.call("run", "--class", "c", "-c", f"{gate.wait}; {COALESCE} run --socket {server.path} echo inner")
        while not self.server_flights():
            a_moment()
        client = server.client()
        client.send({"id": 1, "line": "echo outer", "class": "c"})
        while [flight["state"] for flight in server.status()] != ["queued"]:
            a_moment()
        gate.let()
        self.assertEqual(holder.communicate()[0], b"inner\n")
        self.assertEqual(client.message()["stdout"], "outer\n")

    def server_flights(self):
        out = subprocess.run([COALESCE, "status", "--json"], env=self.env, stdout=subprocess.PIPE, check=True).stdout
        return [flight for flight in map(json.loads, out.splitlines()) if flight["state"] == "running"]


class Nested(harness.ServerTest):
    """C3: a command that runs in a class uses that run's turn for what it asks for, one request at a time."""

    def setUp(self):
        self.server = self.serve()

    def ask(self, *words, text=None):
        ended = subprocess.run([COALESCE, *words], env=self.server.env, cwd=self.server.directory, input=text,
                               stdin=subprocess.DEVNULL if text is None else None, capture_output=True, text=True, check=False)
        self.assertEqual((ended.returncode, ended.stderr), (0, ""))

    def start(self, *words):
        return subprocess.Popen([COALESCE, *words], env=self.server.env, cwd=self.server.directory, stdin=subprocess.DEVNULL)

    def until(self, *states):
        """Waits until the flights of wrappers and of the server have these states."""
        flights = None
        while flights != sorted(states):
            wrappers = subprocess.run([COALESCE, "status", "--json"], env=self.server.env, stdout=subprocess.PIPE, check=True).stdout
            flights = sorted(flight["state"] for flight in [*map(json.loads, wrappers.splitlines()), *self.server.status()])
            a_moment()

    def test_wrappers(self):
        self.ask("run", "--class", "c", "-c", f"{COALESCE} run --class c -c '{COALESCE} run --class c -c \"echo deep >>runs\"'")
        self.assertEqual(self.server.runs(), 1)

    def test_without_the_environment(self):
        place = f"XDG_RUNTIME_DIR={self.server.directory}"
        self.ask("run", "--class", "c", "env", "-i", f"PATH={os.environ['PATH']}", place, COALESCE, "run", "--class", "c", "-c", "echo deep >>runs")
        self.assertEqual(self.server.runs(), 1)

    def test_batch_and_server(self):
        self.ask("--class", "c", text=f"{COALESCE} run --class c -c 'echo deep >>runs'\n")
        self.ask("run", "--class", "c", "-c", f"echo 'echo deep >>runs' | {COALESCE} --class c")
        self.ask("run", "--socket", self.server.path, "--class", "c", "-c", f"{COALESCE} run --class c -c 'echo deep >>runs'")
        self.ask("run", "--class", "c", "-c", f"{COALESCE} run --socket {self.server.path} --class c -c 'echo deep >>runs'")
        self.ask("run", "--socket", self.server.path, "--class", "c", "-c",
                 f"{COALESCE} run --socket {self.server.path} --class c -c '{COALESCE} run --class c -c \"echo deep >>runs\"'")
        self.assertEqual(self.server.runs(), 5)

    def test_through_a_server_in_another_class(self):
        deep = f"{COALESCE} run --class c -c \"echo deep >>runs\""
        self.ask("run", "--class", "c", "-c", f"{COALESCE} run --socket {self.server.path} --class d -c '{deep}'")
        self.assertEqual(self.server.runs(), 1)

    def test_with_a_terminal(self):
        self.ask("run", "--pty", "--class", "c", "-c", f"{COALESCE} run --pty --class c -c 'echo deep >>runs'")
        self.assertEqual(self.server.runs(), 1)

    def test_one_at_a_time(self):
        inner = f"{ALONE} echo run >>runs; seq 1000 | cksum >/dev/null"
        many = " ".join(f"{COALESCE} run --class c:4 -c '{inner}; : {i}' &" for i in range(6))
        self.ask("run", "--class", "c:4", "-c", f"{many} wait")
        self.assertEqual((self.server.runs(), self.server.runs("overlaps")), (6, 0))

    def joined_from_below(self, *options, door=()):
        """A run asks for what waits behind it."""
        gate = self.server.gate("gate")
        inner = (*door, "-c", "echo inner >>runs")
        above = self.start("run", "--class", "c", "-c", f"{gate.wait}; {COALESCE} run {shlex.join(options + inner)}")
        self.until("running")
        waiting = self.start("run", "--class", "c", *inner)
        self.until("running", "queued")
        gate.let()
        self.assertEqual((above.wait(), waiting.wait()), (0, 0))
        self.assertEqual(self.server.runs(), 1)

    def test_joining_what_waits_for_it(self):
        self.joined_from_below("--class", "c")

    def test_joining_what_waits_for_it_without_a_class(self):
        self.joined_from_below()

    def test_joining_what_waits_for_it_in_a_server(self):
        self.joined_from_below("--class", "c", door=("--socket", self.server.path))

    def beside_what_waits_for_it(self, *asked, run_class="c"):
        """A run asks a server whose only place is for what waits for that run; the requests in `asked` wait there before."""
        server = self.serve("-j1", env={"XDG_RUNTIME_DIR": self.server.directory})
        door = ("--socket", server.path, "--class")
        gate = self.server.gate("gate")
        inner = f"{COALESCE} run {shlex.join(door)} {run_class} -c 'echo inner >>runs'"
        started = [self.start("run", "--class", "c", "-c", f"{gate.wait}; {inner}")]
        self.until("running")
        for count, name in enumerate(asked, 1):
            started.append(self.start("run", *door, "c", "-c", f"echo {name} >>runs"))
            while [flight["state"] for flight in server.status()] != ["queued"] * count:
                a_moment()
        gate.let()
        self.assertEqual([process.wait() for process in started], [0] * len(started))
        with open(self.server.file("runs")) as runs:
            self.assertEqual(runs.read().split(), ["inner", *(name for name in asked if name != "inner")])

    def test_a_server_whose_only_place_is_for_what_waits_for_it(self):
        self.beside_what_waits_for_it("outer")

    def test_joining_what_a_server_has_no_place_for(self):
        self.beside_what_waits_for_it("outer", "inner")

    def test_another_class_in_a_server_whose_only_place_is_for_what_waits_for_it(self):
        self.beside_what_waits_for_it("outer", run_class="d")

    def test_another_class_where_others_wait_for_a_place_too(self):
        self.beside_what_waits_for_it("outer", "more", run_class="d")

    def test_the_turn_is_held_by_what_goes_on_in_it(self):
        """The outer run is over, what it asked for in the background is not: the next waits for that."""
        gate = self.server.gate("gate")
        inner = f"{ALONE} echo inner >>runs; {gate.wait}"
        self.ask("run", "--class", "c", "-c", f"{COALESCE} run --class c -c '{inner}' >/dev/null 2>&1 & until grep -q inner runs; do :; done 2>/dev/null")
        following = subprocess.Popen([COALESCE, "run", "--class", "c", "-c", f"{ALONE} echo next >>runs"], env=self.server.env, cwd=self.server.directory)
        out = b""
        while b'"queued"' not in out:
            out = subprocess.run([COALESCE, "status", "--json"], env=self.server.env, stdout=subprocess.PIPE, check=True).stdout
        gate.let()
        self.assertEqual(following.wait(), 0)
        self.assertEqual((self.server.runs(), self.server.runs("overlaps")), (2, 0))


class Groups(Classes):
    """C3: a turn lasts until the process group has gone."""

    def test_what_is_left_in_the_background_holds_it_and_lives(self):
        gate = self.box.gate()
        self.assertEqual(self.box.out("--class", "c", "-c", f"{ALONE} (cat {gate}; echo lived >>runs) >/dev/null 2>&1 &"), "")
        process = self.box.start("run", "--class", "c", "-c", f"{ALONE} echo next >>runs")
        self.until("queued")
        harness.release(gate)
        self.all_ended([process])
        self.assertEqual((self.box.read("runs"), self.box.read("overlaps")), ("lived\nnext\n", ""))

    def test_a_batch_that_has_ended_leaves_it_held(self):
        gate = self.box.gate()
        self.assertEqual(self.box.call("--class", "c", input=f"{ALONE} (cat {gate}; echo lived >>runs) >/dev/null 2>&1 &\n".encode()), (0, "", ""))
        process = self.box.start("run", "--class", "c", "-c", f"{ALONE} echo next >>runs")
        self.until("queued")
        harness.release(gate)
        self.all_ended([process])
        self.assertEqual((self.box.read("runs"), self.box.read("overlaps")), ("lived\nnext\n", ""))

    def test_zombies_that_nobody_reaps_do_not_hold_it(self):
        """As in a container whose PID 1 does not reap."""
        adopt_orphans(True)
        self.addCleanup(adopt_orphans, False)
        gate = self.box.gate()
        self.assertEqual(self.box.out("--class", "c", "-c", f"cat {gate} >/dev/null 2>&1 & echo $! >background"), "")
        harness.release(gate)
        os.waitid(os.P_PID, int(self.box.read("background")), os.WEXITED | os.WNOWAIT)  # from now on it is one
        self.assertEqual(self.box.out("--class", "c", "-c", "echo next >>runs"), "")
        self.assertEqual(self.box.read("runs"), "next\n")

    def killed(self, options, victim, **more):
        """A run whose command and child hold the lock; who holds its turn is killed, and another run follows."""
        told = self.box.gate("told")
        line = f"{ALONE} sh -c 'echo told >{told}; cat gate; :' & wait; :"
        self.box.gate()
        process = self.box.start(*options, *([] if more else ["-c", line]), stdin=subprocess.PIPE)
        if more:
            process.stdin.write(line.encode() + b"\n")
            process.stdin.flush()
        with open(told) as file:
            self.assertEqual(file.read(), "told\n")
        victim(process)
        self.assertEqual(self.box.out("--class", "c", "-c", f"{ALONE} echo next >>runs"), "")
        self.assertEqual((self.box.read("runs"), self.box.read("overlaps")), ("next\n", ""))

    def test_a_killed_supervisor(self):
        def kill(process):
            [flight] = self.box.status()
            process.kill()
            process.wait()
            os.kill(flight["supervisor"], 9)

        self.killed(("run", "--keep-running", "--class", "c"), kill)

    def test_a_killed_supervisor_on_a_terminal(self):
        def kill(process):
            [flight] = self.box.status()
            process.kill()
            process.wait()
            os.kill(flight["supervisor"], 9)

        self.killed(("run", "--pty", "--keep-running", "--class", "c"), kill)

    def test_a_killed_batch(self):
        def kill(process):
            process.kill()
            process.wait()

        self.killed(("--class", "c"), kill, lines=True)

    def test_a_timeout(self):
        self.box.gate()
        line = f"{ALONE} trap '' TERM; cat gate & wait; cat gate"
        status, _, _ = self.box.run("--class", "c", "--timeout", "0.01", "--grace", "0.01", "-c", line)
        self.assertEqual(status, 124)
        self.assertEqual(self.box.out("--class", "c", "-c", f"{ALONE} echo next >>runs"), "")
        self.assertEqual(self.box.read("overlaps"), "")

    def test_what_cannot_be_started_gives_it_back(self):
        self.assertEqual(self.box.run("--class", "c", "no-such-program")[0], 127)
        self.assertEqual(self.box.run("--class", "c", "true"), (0, "", ""))
        self.assertEqual(os.listdir(self.box.path("runtime/coalesce/c.class")), [])

    def test_retries_take_a_turn_each(self):
        line = f"{ALONE} echo run >>runs; test $(wc -l <runs) -ge 3"
        self.assertEqual(self.box.call("--class", "c", "--retries", "5", input=line.encode() + b"\n"), (0, "", ""))
        self.assertEqual((self.box.runs(), self.box.read("overlaps")), (3, ""))


if __name__ == "__main__":
    harness.main()
