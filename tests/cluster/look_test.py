# SPDX-License-Identifier: MIT
"""Looking at what machines share, ending it, and why something is not shared (SPEC M12, M13, M21).

The machines are run_test.py's: a meeting place for each, and one engine.
"""

import json
import os

import machines


class Look(machines.ThreeHosts):
    def setUp(self):
        super().setUp()
        self.url = self.box.url(self.server)

    def listed(self):
        status, out, err = self.three.call("status", "--cluster", self.url, "--json")
        self.assertEqual((status, err), (0, ""))
        return [json.loads(line) for line in out.splitlines()]

    def test_M21_status_lists_what_runs_anywhere(self):
        self.assertEqual(self.listed(), [])
        first, command, gate = self.held(self.one, "echo last")
        second = self.joined(self.two, command)
        other, _, other_gate = self.held(self.two, "echo other")
        runs = self.listed()
        self.assertEqual([run["machines"] for run in runs], [2, 1])
        self.assertEqual([run["state"] for run in runs], ["running", "running"])
        self.assertEqual([run["host"] for run in runs], [os.uname().nodename] * 2)
        self.assertEqual(runs[0]["command"], json.loads(self.one.call("status", "--json")[1])["command"])
        self.assertGreaterEqual(runs[0]["age"], runs[1]["age"])
        status, out, err = self.three.call("status", "--cluster", self.url)
        self.assertEqual((status, err), (0, ""))
        heading, line, _ = out.splitlines()
        self.assertEqual(heading.split(), ["ID", "STATE", "AGE", "MACHINES", "HOST", "COMMAND"])
        self.assertEqual(line.split()[0], runs[0]["id"][:12])
        self.assertIn(os.uname().nodename, line)
        # Of another secret nothing is seen.
        other_secret = self.box.file("other", "t" * 32, 0o600)
        status, out, err = self.three.call("status", "--cluster", self.url.replace(self.box.secret, other_secret), "--json")
        self.assertEqual((status, out, err), (0, "", ""))
        for held in (gate, other_gate):
            self.open(held)
        for process in (first, second, other):
            self.assertEqual(self.end(process)[0], 0)
        self.assertEqual(self.listed(), [])  # what is kept of them is no run

    def test_M21_cancel_by_the_engine_ends_it_for_everyone_everywhere(self):
        first, command, gate = self.held(self.one)
        second = self.joined(self.two, command)
        other, _, other_gate = self.held(self.two)
        chosen = self.listed()[0]["id"]
        status, _, err = self.three.call("cancel", "--cluster", self.url, "nosuch")
        self.assertEqual(status, 125)
        self.assertIn("nosuch", err)
        self.assertEqual(self.three.call("cancel", "--cluster", self.url, chosen[:12]), (0, "", ""))
        for process in (first, second):
            status, _, err = self.end(process)
            self.assertEqual(status, 125)
            self.assertIn("cancelled for everyone", err)
        self.open(other_gate)
        self.assertEqual(self.end(other)[0], 0)  # the other went on
        self.assertEqual(self.runs(), 2)

    def test_M21_a_batch_says_that_its_line_was_cancelled(self):
        gates = [self.box.gate("gate-a"), self.box.gate("gate-b")]
        self.box.file("list", "echo ran >>runs; read x <gate-a\necho ran >>runs; read x <gate-b\n")
        processes = [host.start("--cluster", self.url, "--cluster-scope", "tonight", "-j2", "-a", "list") for host in (self.one, self.two)]
        while [run["machines"] for run in self.listed()] != [2, 2]:
            machines.a_moment()
        chosen = next(run["id"] for run in self.listed() if "gate-a" in run["command"])
        self.assertEqual(self.three.call("cancel", "--cluster", self.url, chosen)[0], 0)
        self.open(gates[1])
        for process in processes:
            status, _, err = self.end(process)
            self.assertEqual(status, 123)
            self.assertIn("gate-a: cancelled for everyone", err)

    def test_M21_what_cannot_be_asked_is_told(self):
        for words in (("status",), ("cancel", "x")):
            status, out, err = self.one.call(words[0], "--cluster", f"redis+unix://{self.box.path('none')}?secret={self.box.secret}", *words[1:])
            self.assertEqual((status, out), (125, ""))
            self.assertIn(self.box.path("none"), err)
            status, _, err = self.one.call(words[0], "--cluster", f"redis+unix://{self.server.socket}?secret={self.box.path('none')}", *words[1:])
            self.assertEqual(status, 125)
            self.assertIn(self.box.path("none"), err)
        self.server.ask("CONFIG", "SET", "requirepass", "geheim")
        status, _, err = self.one.call("status", "--cluster", self.url)
        self.assertEqual(status, 125)
        self.assertIn("password", err)
        self.server.stop()

    def test_M12_key_names_what_differs_from_a_run_elsewhere(self):
        def key(*options, env=None, scope="tonight"):
            status, out, err = self.two.call("key", *self.words(scope=scope)[1:], *options, "-c", command, env=env)
            self.assertEqual((status, err), (0, ""))
            return out.splitlines()
        first, command, gate = self.held(self.one, env={"CI_JOB_ID": "7", "ONLY_THERE": "1"})
        [run] = self.listed()
        host = os.uname().nodename
        same = key(env={"CI_JOB_ID": "7", "ONLY_THERE": "1"})
        self.assertIn("at the engine\t" + run["key"], same)
        self.assertEqual(same[-1], f"in flight: would join {run['id'][:12]} on {host}")
        both = {"CI_JOB_ID": "7", "ONLY_THERE": "1"}
        for more, expected in (({"env": {**both, "CI_JOB_ID": "8"}}, "environment: CI_JOB_ID"),
                               ({"env": {"CI_JOB_ID": "8"}}, "environment: CI_JOB_ID; 1 that only it has"),
                               ({"env": {"CI_JOB_ID": "7"}}, "1 that only it has"),
                               ({"env": both, "scope": "tomorrow"}, "cluster scope")):
            self.assertEqual(key(**more)[-1], f"not joined: {run['id'][:12]} on {host} differs in {expected}")
        lines = key("--scope", "x", "--ignore-platform", env={"CI_JOB_ID": "7", "ONLY_THERE": "1"})
        self.assertTrue(lines[-1].endswith("differs in scope; platform"), lines[-1])
        # Every part is told, and another command is no near miss.
        self.assertIn("cluster scope\ttonight", same)
        self.assertTrue(any(line.startswith("platform\t") and "Linux" in line for line in same))
        command = "true"
        self.assertNotIn(run["id"][:12], "\n".join(key()))
        # The engine is told none of it.
        seen = b"".join(value for value in self.server.ask("HVALS", f"coalesce:1:{{{run['key']}}}:m"))
        for word in (b"CI_JOB_ID", b"ONLY_THERE", b"tonight"):
            self.assertNotIn(word, seen)
        self.open(gate)
        self.end(first)

    def test_M12_key_is_told_without_an_engine_that_answers(self):
        self.server.stop()
        status, out, err = self.one.call("key", *self.words()[1:], "true")
        self.assertEqual(status, 0)
        self.assertIn("at the engine\t", out)
        self.assertIn("argv\ttrue", out)
        self.assertIn(self.server.socket, err)

    def test_M13_a_requester_of_a_run_elsewhere_is_told_the_host_and_no_pid(self):
        host = os.uname().nodename
        first, command, gate = self.held(self.one, "echo $WHERE; nice", env={"WHERE": "here"})
        third = self.two.start(*self.words("-v", "-c", command), env={"WHERE": "here"})
        line = third.stderr.readline().decode()
        self.assertIn("which runs on " + host, line)
        self.assertNotIn("pid", line)
        flight = machines.until(lambda: next((f for f in self.status(self.two) if f.get("machines", 1) > 1), None))
        self.assertEqual((flight["host"], flight["pid"]), (host, -1))
        self.open(gate)
        for process in (first, third):
            status, out, _ = self.end(process)
            self.assertEqual((status, out.splitlines()[:2]), (0, ["first", "here"]))


if __name__ == "__main__":
    machines.main()
