# SPDX-License-Identifier: MIT
"""What a run that has ended, or was cut short, is to other machines (SPEC M15, M16, M20, M22, M38).

A request is made, and asks later: it is a line of a batch that waits behind another line, which is held.
"""

import fcntl
import os
import signal
import struct
import termios

import machines


class Ends(machines.ThreeHosts):
    def queued(self, host, line, *options, parameters=""):
        """A batch that has read the line, and waits with it behind another. Its gate, and itself."""
        gate, begun = self.box.gate(f"gate-{host.name}"), self.box.gate(f"begun-{host.name}")
        read, write = os.pipe()
        pipe = os.fdopen(write, "wb", 0)
        self.addCleanup(pipe.close)
        process = host.start("--cluster", self.box.url(self.server, parameters), "--cluster-scope", "tonight", "-j1", "-k", *options,
                             stdin=read)
        os.close(read)
        self.feed(pipe, f"echo up >begun-{host.name}; read x <gate-{host.name}")
        with open(begun) as file:
            file.read()
        self.feed(pipe, line)
        return process, gate, pipe

    def feed(self, pipe, line):
        """Returns when the batch has taken it: then it is a request."""
        pipe.write(line.encode() + b"\n")
        while struct.unpack("i", fcntl.ioctl(pipe.fileno(), termios.FIONREAD, b"\0" * 4))[0] > 0:
            machines.a_moment()

    def finish(self, queued):
        process, gate, pipe = queued
        self.open(gate)
        pipe.close()
        return self.end(process)

    def state(self):
        """Of the one key at the engine that is not the held line's."""
        found = [self.server.ask("HMGET", key, "st", "kept") + [key] for key in self.server.ask("KEYS", "*:m")]
        return [entry for entry in found if entry[0] == b"done"]

    def test_M15_who_asked_before_its_end_is_given_a_run_that_is_over(self):
        line = "echo ran >>runs; echo result; exit 3"
        waiting = self.queued(self.two, line)
        self.assertEqual(self.one.call(*self.words("-c", line)), (3, "result\n", ""))
        self.assertEqual(self.finish(waiting)[:2], (123, "result\n"))
        self.assertEqual(self.runs(), 1)
        # Who asks now runs it: nothing is older than the wait for it.
        self.assertEqual(self.two.call(*self.words("-c", line)), (3, "result\n", ""))
        self.assertEqual(self.runs(), 2)

    def test_M15_the_newest_request_of_a_flight_counts(self):
        line = "echo ran >>runs; echo result"
        waiting = self.queued(self.two, line)
        self.assertEqual(self.one.call(*self.words("-c", line))[:2], (0, "result\n"))
        self.feed(waiting[2], line)  # joins the one that waits, and is younger than that end
        self.assertEqual(self.finish(waiting)[:2], (0, "result\nresult\n"))
        self.assertEqual(self.runs(), 2)

    def test_M16_what_is_too_long_is_for_those_who_followed_it(self):
        line = "echo ran >>runs; head -c 3000 /dev/zero"
        waiting = self.queued(self.two, line, parameters="&keepsize=1K&keep=40s")
        self.assertEqual(self.one.call(*self.words("-c", line, parameters="&keepsize=1K&keep=40s"))[0], 0)
        [(_, kept, key)] = self.state()
        self.assertEqual(kept, b"0")
        self.assertEqual(self.finish(waiting)[0], 0)
        self.assertEqual(self.runs(), 2)

    def test_M16_it_is_kept_for_as_long_as_the_url_says(self):
        self.one.call(*self.words("-c", "echo x", parameters="&keep=40s"))
        [(_, kept, key)] = self.state()
        self.assertEqual(kept, b"1")
        for name in (key, *self.server.ask("KEYS", "*:s:*")):
            self.assertLessEqual(self.server.ask("PTTL", name), 40_000)

    def test_M16_what_was_cancelled_or_could_not_start_is_given_to_nobody_later(self):
        line = "echo ran >>runs; echo up >up; read x <gate; echo result"
        gate, up = self.box.gate("gate"), self.box.gate("up")
        waiting = self.queued(self.two, line)
        first = self.one.start(*self.words("-c", line))
        with open(up) as file:
            file.read()
        [flight] = self.status(self.one)
        self.assertEqual(self.one.call("cancel", flight["id"])[0], 0)
        self.assertEqual(self.end(first)[0], 125)
        os.unlink(up)
        os.unlink(gate)
        self.box.file("gate", "go\n")
        self.assertEqual(self.finish(waiting)[:2], (0, "result\n"))
        self.assertEqual(self.runs(), 2)

    def test_M20_a_cancelled_key_is_reserved_until_its_process_is_gone(self):
        line = f"{machines.ALONE} trap '' TERM; echo ran >>runs; echo up >up; until read x <gate; do :; done; echo result"
        gate, up = self.box.gate("gate"), self.box.gate("up")
        first = self.one.start(*self.words("--grace", "1h", "-c", line))
        self.begun(up)
        [flight] = self.status(self.one)
        self.assertEqual(self.one.call("cancel", flight["id"])[0], 0)
        second = self.two.start(*self.words("-c", line))
        self.wait_for_waiting(second)
        self.assertEqual(self.runs(), 1)
        self.open(gate)
        self.assertEqual(self.end(first)[0], 125)
        while self.runs() < 2:
            self.assertIsNone(second.poll())
        self.open(gate)
        self.assertEqual(self.end(second), (0, "result\n", ""))
        self.assertEqual(self.box.read("overlaps"), "")

    def test_M19_M20_who_joins_the_runner_as_the_last_one_elsewhere_leaves_keeps_the_run(self):
        line = "echo ran >>runs; echo up >up; read x <gate; echo last"
        gate, up = self.box.gate("gate"), self.box.gate("up")
        first = self.one.start(*self.words("-c", line))
        self.begun(up)
        second = self.joined(self.two, line)
        self.heard_of_others(self.one)
        first.send_signal(signal.SIGTERM)
        first.communicate()
        machines.until(lambda: self.server.ask("ZCARD", *self.server.ask("KEYS", "*:w")) == 1)
        # Of what comes meanwhile the engine sees the leaving first.
        self.server.process.send_signal(signal.SIGSTOP)
        second.send_signal(signal.SIGTERM)
        second.communicate()
        third = self.one.start(*self.words("-c", line))
        machines.until(lambda: [flight["requesters"] for flight in self.status(self.one)] == [1])
        self.server.process.send_signal(signal.SIGCONT)
        self.open(gate)
        self.assertEqual(self.end(third), (0, "last\n", ""))
        self.assertEqual(self.runs(), 1)

    def away_too_long(self, script="", says=b""):
        """The second machine is stopped until it does not count as waiting, and the first leaves."""
        line = f"{machines.ALONE} echo ran >>runs; {script} echo up >up; read x <gate; echo last"
        gate, up = self.box.gate("gate"), self.box.gate("up")
        first = self.one.start(*self.words("--grace", "0", "-c", line))
        self.begun(up)
        second = self.joined(self.two, line)
        if says:
            self.assertEqual(second.stdout.readline(), says)
        [flight] = self.status(self.two)
        os.kill(flight["supervisor"], signal.SIGSTOP)
        [waiters] = self.server.ask("KEYS", "*:w")
        [state] = self.server.ask("KEYS", "*:m")
        runner = self.server.ask("HGET", state, "run").split(b".")[0]
        [away] = [member for member in self.server.ask("ZRANGE", waiters, 0, -1) if member != runner]
        self.server.ask("ZREM", waiters, away)  # as when its time has passed
        first.send_signal(signal.SIGTERM)
        first.communicate()
        self.all_gone()
        os.kill(flight["supervisor"], signal.SIGCONT)
        return second, gate

    def test_M20_who_was_away_too_long_asks_again(self):
        second, gate = self.away_too_long()
        while self.runs() < 2:
            self.assertIsNone(second.poll())
        self.open(gate)
        self.assertEqual(self.end(second)[:2], (0, "last\n"))

    def test_M20_M23_who_was_away_does_not_inherit_what_a_signal_has_cut_short(self):
        second, gate = self.away_too_long("trap 'exit 3' TERM;")
        while self.runs() < 2:
            self.assertIsNone(second.poll())
        self.open(gate)
        self.assertEqual(self.end(second)[:2], (0, "last\n"))

    def test_M20_but_not_if_bytes_were_given_away(self):
        second, gate = self.away_too_long("echo first;", says=b"first\n")
        status, out, err = self.end(second)
        self.assertEqual((status, out), (125, ""))
        self.assertIn("after 6 bytes", err)
        self.assertEqual(self.runs(), 1)

    def test_M22_what_could_not_start_elsewhere_is_tried_by_each_once(self):
        os.mkdir(self.box.path("bin"))
        with open(self.box.path("bin/tool"), "w") as file:
            file.write("#!/bin/sh\necho ran >>runs; echo found\n")
        os.chmod(self.box.path("bin/tool"), 0o755)
        with_it = {"PATH": self.box.path("bin") + ":" + os.environ["PATH"]}
        def ask(host, *options, env=None):
            return host.start(*self.words("-v", "--ignore-env", "PATH", *options, "tool"), env=env)
        # The first has the key, and its command cannot begin: as many run of its guard's as there may be.
        first = ask(self.one)
        self.assertEqual(self.end(first)[0], 127)
        second = ask(self.two, env=with_it)
        self.assertEqual(self.end(second)[:2], (0, "found\n"))
        self.assertEqual(self.runs(), 1)
        # Those who follow are told of it at the same moment as its own: whoever can runs it, and each tries.
        rounds = 20
        for _ in range(rounds):
            processes = [ask(self.one), ask(self.two, env=with_it), ask(self.three)]
            ends = [self.end(process)[:2] for process in processes]
            self.assertEqual(ends[1], (0, "found\n"))
            for end in (ends[0], ends[2]):
                self.assertIn(end, ((127, ""), (0, "found\n")))
        self.assertEqual(self.runs(), 1 + rounds)

    def test_M38_an_engine_that_forgets_makes_two_run_and_no_byte_wrong(self):
        first, command, gate = self.held(self.one, "echo last")
        self.server.ask("FLUSHALL")
        second = self.two.start(*self.words("-c", command))
        while self.runs() < 2:
            self.assertIsNone(second.poll())
        status, out, err = self.end(first)  # its next renewal finds that it is not its own
        self.assertEqual((status, out), (125, "first\n"))
        self.assertIn("another machine has taken over", err)
        self.open(gate)
        self.assertEqual(self.end(second), (0, "first\nlast\n", ""))


if __name__ == "__main__":
    machines.main()
