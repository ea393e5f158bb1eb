# SPDX-License-Identifier: MIT
"""Sharing with other machines together with other options: limits, classes, terminals, what is kept (SPEC M25, M26, M35)."""

import os
import signal

import machines


class Options(machines.ThreeHosts):
    def test_M25_the_timeout_is_the_runners(self):
        first, command, gate = self.held(self.one, "echo last")
        second = self.joined(self.two, command, "--timeout", "50ms")
        # Longer than that it waits.
        status, _, err = self.three.call(*self.words("--wait", "300ms", "-c", command))
        self.assertEqual(status, 75, err)
        self.open(gate)
        self.assertEqual(self.end(first)[0], 0)
        self.assertEqual(self.end(second)[:2], (0, "first\nlast\n"))
        self.assertEqual(self.runs(), 1)

    def test_M25_who_follows_shares_the_runners_timeout(self):
        lines = "echo up >up; read x <gate\necho ran >>runs; echo part; sleep 1000\n"
        gate, up = self.box.gate("gate"), self.box.gate("up")
        self.box.file("list", lines)
        batch = self.two.start("--cluster", self.box.url(self.server), "--cluster-scope", "tonight", "-j1", "-k", "-a", "list")
        with open(up) as file:
            file.read()
        limits = iter(("100ms", "1s", "10s", "100s"))  # until the command gets so far
        while not self.runs():
            status, _, _ = self.one.call(*self.words("--timeout", next(limits), "--grace", "0", "-c", lines.splitlines()[1]))
            self.assertEqual(status, 124)
        self.open(gate)
        status, out, err = self.end(batch)
        self.assertEqual(status, 123)
        self.assertIn("timed out", err)
        self.assertEqual(self.runs(), 1)

    def test_M26_a_ring_over_two_machines_ends_by_wait(self):
        # A runs here and asks for B, which runs there and asks for A.
        def ask(key, command, *options):
            words = self.words(*options, "--ignore-env", "*", "--key", key, "-c", command)
            return [machines.COALESCE, *words]
        quoted = lambda words: " ".join("'" + word.replace("'", "'\\''") + "'" for word in words)
        for name in ("gate-a", "gate-b", "up-a", "up-b"):
            self.box.gate(name)
        a = f"echo a >>runs; echo up >up-a; read x <gate-a; {quoted(ask('B', 'no'))}"
        b = f"echo b >>runs; echo up >up-b; read x <gate-b; {quoted(ask('A', 'no', '--wait', '500ms'))}"
        there = self.two.start(*ask("B", b)[1:])
        here = self.one.start(*ask("A", a)[1:])
        for name in ("up-a", "up-b"):
            with open(os.path.join(self.box.work, name)) as file:
                file.read()
        self.open(os.path.join(self.box.work, "gate-a"))
        while '"machines":2' not in self.three.call("status", "--cluster", self.box.url(self.server), "--json")[1]:
            machines.a_moment()
        self.open(os.path.join(self.box.work, "gate-b"))
        self.assertEqual(self.end(there)[0], 75)
        self.assertEqual(self.end(here)[0], 75)
        self.assertEqual(sorted(self.box.read("runs").split()), ["a", "b"])

    def test_M35_the_limit_is_a_machines(self):
        gates = [self.box.gate(f"gate{n}") for n in (1, 2)]
        self.box.file("list", "".join(f"echo ran >>runs; read x <gate{n}; echo {n}\n" for n in (1, 2)))
        batches = [host.start("--cluster", self.box.url(self.server), "--cluster-scope", "tonight", "-j1", "-k", "--once", "-a", "list")
                   for host in (self.one, self.two)]
        while self.runs() < 2:  # one each, at the same time
            machines.a_moment()
        for gate in gates:
            self.open(gate)
        for batch in batches:
            self.assertEqual(self.end(batch), (0, "1\n2\n", ""))
        self.assertEqual(self.runs(), 2)

    def test_M33_unique_reads_only_the_end_of_what_others_run(self):
        self.box.file("list", "echo ran >>runs; head -c 900000 /dev/zero\n")
        def batch(host, *options):
            before = self.output_of_engine()
            end = host.call("--cluster", self.box.url(self.server), "--cluster-scope", "tonight", "--once", *options, "-a", "list")
            return end, self.output_of_engine() - before
        self.assertEqual(len(batch(self.one)[0][1]), 900_000)
        end, fetched = batch(self.two)
        self.assertEqual((end[0], len(end[1])), (0, 900_000))
        self.assertGreater(fetched, 900_000)
        end, fetched = batch(self.three, "--unique", "--joblog", "log")
        self.assertEqual(end, (0, "", ""))
        self.assertIn("900000", self.box.read("log").splitlines()[1].split("\t"))  # how much it was is known
        self.assertLess(fetched, 100_000)
        self.assertEqual(self.runs(), 1)

    def output_of_engine(self):
        for line in self.server.ask("INFO", "stats").decode().splitlines():
            if line.startswith("total_net_output_bytes:"):
                return int(line.split(":")[1])
        return None

    def test_ttl_what_comes_from_elsewhere_is_kept_here(self):
        first, command, gate = self.held(self.one, "echo last")
        cache = self.box.path("cache")
        second = self.two.start(*self.words("-v", "--ttl", "1h", "--cache-dir", cache, "-c", command))
        self.assertIn(b"which runs on", second.stderr.readline())
        self.open(gate)
        self.assertEqual(self.end(first)[0], 0)
        self.assertEqual(self.end(second)[:2], (0, "first\nlast\n"))
        self.server.stop(signal.SIGKILL)  # the own store is asked first, and needs no engine
        status, out, err = self.two.call(*self.words("--ttl", "1h", "--cache-dir", cache, "-c", command))
        self.assertEqual((status, out, err), (0, "first\nlast\n", ""))
        self.assertEqual(self.runs(), 1)

    def test_ttl_it_is_as_old_as_its_end(self):
        self.box.file("list", "echo ran >>runs; echo result\n")
        def batch(host, *options):
            return host.call("--cluster", self.box.url(self.server), "--cluster-scope", "tonight", "--once", *options,
                             "--cache-dir", self.box.path("cache-" + host.name), "-a", "list")
        self.assertEqual(batch(self.one), (0, "result\n", ""))
        # Half an hour passes at the engine.
        [key] = self.server.ask("KEYS", "*:m")
        for field in ("b", "e"):
            self.server.ask("HINCRBY", key, field, -1_800_000)
        self.assertEqual(batch(self.two, "--ttl", "1h"), (0, "result\n", ""))
        self.assertEqual(self.runs(), 1)
        status, out, _ = self.two.call("cache", "--json", "--cache-dir", self.box.path("cache-two"))
        self.assertEqual(status, 0)
        self.assertGreaterEqual(machines.json.loads(out)["age"], 1800)
        # Under a shorter time it is not served any more, though it came just now.
        self.server.ask("FLUSHALL")
        self.assertEqual(batch(self.two, "--ttl", "10m"), (0, "result\n", ""))
        self.assertEqual(self.runs(), 2)

    def test_M14_T4_a_refresh_of_a_batch_or_a_server_follows_the_run_that_is_there(self):
        def by_batch(line, *wish):
            return self.two.call("--cluster", self.box.url(self.server), "--cluster-scope", "tonight", *wish, "-a", "list")[1]
        service = self.two.serve("--cluster", self.box.url(self.server))
        client = service.client()
        def by_server(line, *wish):
            times = {name.strip("-"): int(time) for name, time in zip(wish[::2], wish[1::2])}
            return client.ask({"line": line, "cluster_scope": "tonight", "cwd": self.box.work, **times})["stdout"]
        for door, ask in (("batch", by_batch), ("server", by_server)):
            with self.subTest(door=door):
                gate, begun = self.box.gate("gate-" + door), self.box.gate("begun-" + door)
                line = f"echo ran >>{door}; if [ -e hold ]; then echo up >{begun}; read x <{gate}; fi; wc -l <{door}"
                self.box.file("list", line + "\n")
                self.assertEqual(ask(line, "--ttl", "3600"), "1\n")
                self.box.age(11)
                self.box.file("hold")
                first = self.one.start(*self.words("-c", line))
                self.begun(begun)
                self.assertEqual(ask(line, "--ttl", "3600", "--stale", "10"), "1\n")
                self.heard_of_others(self.one)
                self.assertEqual([flight["state"] for flight in self.status(self.two)], ["refreshing"])
                self.open(gate)
                self.assertEqual(self.end(first), (0, "2\n", ""))
                machines.until(lambda: not self.status(self.two))
                self.assertEqual(ask(line, "--ttl", "3600"), "2\n")
                self.assertEqual(self.box.read(door).count("\n"), 2)
                os.unlink(os.path.join(self.box.work, "hold"))

    def test_M18_T6_a_fresh_refresh_does_not_follow_what_began_before(self):
        service = self.two.serve("--cluster", self.box.url(self.server))
        gate, begun = self.box.gate(), self.box.gate("begun")
        line = f"echo ran >>runs; if [ -e hold ]; then echo up >{begun}; read x <{gate}; fi; wc -l <runs"
        self.box.file("hold")
        first = self.one.start(*self.words("-c", line))
        self.begun(begun)
        request = {"line": line, "cluster_scope": "tonight", "cwd": self.box.work, "ttl": 3600}
        client = service.client()
        self.assertEqual(client.ask({**request, "warm": True, "fresh": True})["exit"], 0)
        machines.until(lambda: self.status(self.two))
        os.unlink(os.path.join(self.box.work, "hold"))
        self.open(gate)
        self.assertEqual(self.end(first), (0, "1\n", ""))
        machines.until(lambda: not self.status(self.two))
        self.assertEqual(client.ask(request)["stdout"], "2\n")
        self.assertEqual(self.runs(), 2)

    def test_class_who_waits_for_its_turn_holds_nothing_at_the_engine(self):
        holder, _, gate = self.held(self.one, "", "--no-cluster", "--class", "heavy:1")
        command = "echo ran >>runs; echo x"
        waiting = self.one.start(*self.words("-v", "--class", "heavy:1", "-c", command))
        self.assertIn(b"waiting for 1 other of class heavy", waiting.stderr.readline())
        self.assertEqual(self.server.ask("DBSIZE"), 0)
        # Elsewhere it runs at once; and that end is the waiting one's, too (M15).
        self.assertEqual(self.two.call(*self.words("-c", command)), (0, "x\n", ""))
        self.open(gate)
        self.end(holder)
        self.assertEqual(self.end(waiting)[:2], (0, "x\n"))
        self.assertEqual(self.runs(), 2)

    def test_class_who_follows_takes_no_turn(self):
        first, command, gate = self.held(self.one)
        second = self.two.start(*self.words("-v", "--class", "heavy:1", "-c", command))
        self.assertIn(b"which runs on", second.stderr.readline())
        self.assertEqual(self.two.call("run", "--class", "heavy:1", "echo", "free"), (0, "free\n", ""))
        self.open(gate)
        self.assertEqual(self.end(first)[0], 0)
        self.assertEqual(self.end(second)[:2], (0, "first\n"))
        self.assertEqual(self.runs(), 1)

    def test_pty_a_terminal_is_shared_with_those_who_want_one_of_that_size(self):
        first, command, gate = self.held(self.one, "stty size <&1", "--pty", "--pty-size", "100x30")
        second = self.joined(self.two, command, "--pty", "--pty-size", "100x30")
        self.open(gate)
        for process in (first, second):
            self.assertEqual(self.end(process)[:2], (0, "first\n30 100\n"))
        self.assertEqual(self.runs(), 1)
        # Another size is another command.
        names = {self.one.call("key", *self.words()[1:], *options, "true")[1].split("\n")[1]
                 for options in ((), ("--pty", "--pty-size", "100x30"), ("--pty", "--pty-size", "80x30"))}
        self.assertEqual(len(names), 3)


if __name__ == "__main__":
    machines.main()
