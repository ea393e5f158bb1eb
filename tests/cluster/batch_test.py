# SPDX-License-Identifier: MIT
"""The same list on several machines: shared out, and every result on each (SPEC M33, M34)."""

import os
import signal
import subprocess
import time

import machines


class Batch(machines.ThreeHosts):
    def start(self, host, *options, lines="list", parameters="", scope="tonight"):
        return host.start("--cluster", self.box.url(self.server, parameters), "--cluster-scope", scope, *options, "-a", lines)

    def list(self, lines):
        with open(os.path.join(self.box.work, "list"), "w") as file:
            file.write("".join(line + "\n" for line in lines))
        return lines

    def runs(self):
        return sorted(self.box.read("runs").splitlines())

    def test_M34_once_is_a_farm_each_line_once_every_result_everywhere(self):
        self.list(f"echo {n} >>runs; sleep 0.0{n % 5}; echo result {n}" for n in range(40))
        expected = "".join(f"result {n}\n" for n in range(40))
        for process in [self.start(host, "--once", "-k", "-j2") for host in self.hosts]:
            self.assertEqual(self.end(process), (0, expected, ""))
        self.assertEqual(self.runs(), sorted(str(n) for n in range(40)))
        # Who comes when all is over runs nothing, and has it all.
        self.assertEqual(self.end(self.start(self.hosts[0], "--once", "-k")), (0, expected, ""))
        self.assertEqual(len(self.runs()), 40)
        # For another scope it is another night.
        self.assertEqual(self.end(self.start(self.hosts[0], "--once", "-k", scope="tomorrow")), (0, expected, ""))
        self.assertEqual(len(self.runs()), 80)

    def test_M33_what_another_runs_is_followed_without_a_place(self):
        gate, begun = self.box.gate("gate"), self.box.gate("begun")
        self.list([f"echo long >>runs; echo up >{begun}; read x <{gate}; echo long", "echo short >>runs; echo short"])
        first = self.start(self.hosts[0], "-j1", "-k")
        with open(begun) as file:
            file.read()
        # The one place of the second is free for the next line.
        second = self.start(self.hosts[1], "-j1", "-k", "--once")
        while "short" not in self.runs():
            self.assertIsNone(second.poll())
        self.assertEqual(self.runs(), ["long", "short"])
        with open(gate, "w") as file:
            file.write("go\n")
        self.assertEqual(self.end(second), (0, "long\nshort\n", ""))
        status, out, _ = self.end(first)
        self.assertEqual((status, out), (0, "long\nshort\n"))
        self.assertEqual(self.runs().count("long"), 1)

    def test_M33_unique_prints_what_was_led(self):
        self.list(f"echo {n} >>runs; echo result {n}" for n in range(20))
        printed = ""
        for process in [self.start(host, "--once", "--unique", "-j1") for host in self.hosts]:
            status, out, err = self.end(process)
            self.assertEqual((status, err), (0, ""))
            printed += out
        self.assertEqual(sorted(printed.splitlines()), sorted(f"result {n}" for n in range(20)))
        self.assertEqual(len(self.runs()), 20)

    def test_M34_failures_count_as_done(self):
        self.list(["echo ran >>runs; echo no >&2; exit 3"])
        for host in self.hosts:
            status, out, err = self.end(self.start(host, "--once"))
            self.assertEqual((status, out), (123, ""))
            self.assertIn("no\n", err)
        self.assertEqual(self.runs(), ["ran"])

    def test_M34_a_result_too_long_to_keep_is_an_error_for_who_asks_later(self):
        self.list(["echo ran >>runs; head -c 3000000 /dev/zero"])
        status, out, _ = self.end(self.start(self.hosts[0], "--once"))
        self.assertEqual((status, len(out)), (0, 3000000))
        status, out, err = self.end(self.start(self.hosts[1], "--once"))
        self.assertEqual((status, out), (123, ""))
        self.assertIn("not whole", err)
        self.assertEqual(self.runs(), ["ran"])

    def test_M30_a_machine_that_dies_in_the_middle_is_replaced(self):
        gate, begun = self.box.gate("gate"), self.box.gate("begun")
        self.list(["echo one >>runs; echo one", f"echo two >>runs; echo part; echo up >{begun}; read x <{gate}; echo two",
                   "echo three >>runs; echo three"])
        first = self.start(self.hosts[0], "-j1", "-k", "--once", parameters="&lease=2s")
        with open(begun) as file:
            file.read()
        os.unlink(begun)
        second = self.start(self.hosts[1], "-j1", "-k", "--once", parameters="&lease=2s")
        while "three" not in self.runs():  # it follows the second line, and runs the third
            self.assertIsNone(second.poll())
        first.kill()
        first.wait()
        while self.runs().count("two") < 2:
            self.assertIsNone(second.poll())
        with open(gate, "w") as file:
            file.write("go\n")
        self.assertEqual(self.end(second), (0, "one\npart\ntwo\nthree\n", ""))
        self.assertEqual(self.runs(), ["one", "three", "two", "two"])

    def test_M11_two_flights_here_that_are_one_elsewhere_stay_two(self):
        gates = [self.box.gate(f"gate-{host}") for host in ("a", "b")]  # at one both would come at once
        line = "echo $HOST >>runs; read x <gate-$HOST; echo $HOST"
        with open(os.path.join(self.box.work, "list"), "w") as file:
            for host in ("a", "b"):
                file.write('{"line":"%s","env":{"PATH":"/usr/bin:/bin","HOST":"%s"}}\n' % (line, host))
        both = self.start(self.hosts[0], "--json", "-k", "-j2")
        while len(self.runs()) < 2:
            self.assertIsNone(both.poll())
        for gate in gates:
            with open(gate, "w") as file:
                file.write("go\n")
        self.assertEqual(self.end(both), (0, "a\nb\n", ""))

    def test_M10_a_rule_takes_no_line_out_of_its_scope(self):
        config = self.box.file("config", '[[command]]\nmatch = "echo"\nignore-env = ["X"]\n')
        self.list(["echo ran >>runs; echo x"])
        for host, scope, runs in zip(self.hosts, ("tonight", "tomorrow", "tonight"), (1, 2, 2)):
            host.env["COALESCE_CONFIG"] = config
            self.assertEqual(self.end(self.start(host, "--once", scope=scope)), (0, "x\n", ""))
            self.assertEqual(len(self.runs()), runs)

    def test_Y4_of_what_is_never_shared_the_engine_hears_nothing(self):
        self.hosts[0].env["COALESCE_CONFIG"] = self.box.file("config", '[[command]]\nmatch = "echo"\nshare = false\n')
        self.list(["echo x"])
        self.assertEqual(self.end(self.start(self.hosts[0])), (0, "x\n", ""))
        self.list(['{"line":"echo y","no_share":true}'])
        self.assertEqual(self.end(self.start(self.hosts[1], "--json")), (0, "y\n", ""))
        self.assertEqual(self.server.ask("DBSIZE"), 0)

    def test_M18_fresh_is_heard_beside_once(self):
        line = '{"line":"echo ran >>runs; echo x"%s}'
        self.list([line % ""])
        self.assertEqual(self.end(self.start(self.hosts[0], "--json", "--once")), (0, "x\n", ""))
        self.list([line % ',"fresh":true'])
        self.assertEqual(self.end(self.start(self.hosts[1], "--json", "--once")), (0, "x\n", ""))
        self.assertEqual(len(self.runs()), 2)

    def test_M35_what_is_taken_over_waits_for_a_place(self):
        self.box.gate("never")
        gates = {name: self.box.gate(f"gate-{name}") for name in "abc"}
        begun = {name: self.box.gate(f"begun-{name}") for name in "abc"}
        alone = "exec 9>lock; flock -n 9 || echo overlap >>overlaps"
        held = {name: f"echo up >begun-{name}; read x <gate-{name}; echo {name}" for name in "abc"}
        taken = {name: f"if mkdir {name} 2>/dev/null; then echo up >begun-{name}; read x <never; else {alone}; read x <gate-{name}; echo {name}; fi"
                 for name in "ab"}
        others = []
        for host, name in zip(self.hosts[1:], "ab"):
            self.list([taken[name]])
            others.append(self.start(host, "-j1", "-k", parameters="&lease=2s"))
            self.begun(begun[name])
        self.list([taken["a"], taken["b"], f"{alone}; {held['c']}"])
        process = self.start(self.hosts[0], "-j1", "-k", parameters="&lease=2s")
        self.begun(begun["c"])
        fences = lambda: [self.server.ask("HGET", key, "f") for key in sorted(self.server.ask("KEYS", "coalesce:1:*:m"))]
        before = fences()
        for other in others:
            other.kill()
            other.wait()
        machines.until(lambda: sum(now != then for now, then in zip(fences(), before)) == 2)  # both are to run here
        for name in "cab":
            self.open(gates[name])
        self.assertEqual(self.end(process), (0, "a\nb\nc\n", ""))
        self.assertEqual(self.box.overlaps(), 0)

    def test_M7_an_engine_that_refuses_is_not_waited_for_without_end(self):
        lines = self.box.gate("lines")
        process = self.start(self.hosts[0], "-k", lines="lines", parameters="&lease=2s")
        with open(lines, "w") as file:
            print("echo x", file=file, flush=True)
            self.assertEqual(self.hear(process, 2), b"x\n")
            self.server.ask("REPLICAOF", "127.0.0.1", "1")
            print("echo y", file=file)
        status, out, err = self.end(process)
        self.assertEqual((status, out), (123, ""))
        self.assertIn("name its primary", err)

    def test_M2_without_a_scope_it_is_refused_or_local(self):
        self.list(["echo x"])
        url = self.box.url(self.server)
        status, _, err = self.hosts[0].call("--cluster", url, "-a", "list")
        self.assertEqual(status, 125)
        self.assertIn("--cluster-scope", err)
        self.assertEqual(self.hosts[0].call("-a", "list", env={"COALESCE_CLUSTER": url}), (0, "x\n", ""))
        self.assertEqual(self.server.ask("DBSIZE"), 0)

    def test_M7_down_is_told_once(self):
        self.list(f"echo {n}" for n in range(5))
        self.server.stop(signal.SIGKILL)
        status, out, err = self.end(self.start(self.hosts[0], "-k", parameters="&lease=2s&down=run"))
        self.assertEqual((status, out), (0, "0\n1\n2\n3\n4\n"))
        self.assertIn("alone", err)
        status, out, err = self.end(self.start(self.hosts[0], "-k", parameters="&lease=2s"))
        self.assertEqual((status, out), (123, ""))
        self.assertIn("down=run", err)

    def test_M7_an_engine_that_comes_back_within_a_lease_was_only_late(self):
        self.list(["echo ran >>runs; echo x"])
        self.server.stop(signal.SIGKILL)
        asked = time.monotonic()
        process = self.start(self.hosts[0], parameters="&down=run")  # which runs it alone after two seconds elsewhere
        while time.monotonic() < asked + 3:
            self.assertIsNone(process.poll())
        self.server.start()
        self.assertEqual(self.end(process), (0, "x\n", ""))

    def test_M40_nothing_is_left_without_a_limit(self):
        self.list(f"echo {n}" for n in range(5))
        self.end(self.start(self.hosts[0], "--once"))
        keys = self.server.ask("KEYS", "*")
        self.assertTrue(keys)
        for key in keys:
            self.assertGreater(self.server.ask("PTTL", key), 0)


if __name__ == "__main__":
    machines.main()
