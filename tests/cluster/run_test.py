# SPDX-License-Identifier: MIT
"""`coalesce run` on several machines: one run, live output, the exact end (SPEC M).

A machine here is a meeting place and a home of its own; only the engine is common. Commands leave a line
for each run, and are held on FIFOs.
"""

import difflib
import os
import re
import shutil
import signal
import subprocess
import sys
import unittest

import machines

# Of these there are as many as it takes, or as the sanitizers like.
WAITS = "epoll_wait,epoll_pwait,poll,ppoll,futex,restart_syscall,wait4,waitid,mmap,munmap,mprotect,madvise,brk,sched_yield,kill"

MAPS = r'open\("/proc/self/maps"[^\n]*\n(?:read\([^\n]*\n)*close\([^\n]*\n'  # the sanitizers' look at where they are

# Runs a command as a first process that reaps nothing would have it run, and says how many were left to it.
FIRST_PROCESS = """
import ctypes, os, subprocess, sys
assert ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0  # PR_SET_CHILD_SUBREAPER
subprocess.run(sys.argv[1:], check=True)
left = 0
while True:
    try:
        os.wait()
    except ChildProcessError:
        break
    left += 1
print(left)
"""


class Run(machines.ThreeHosts):
    def test_M14_one_run_and_the_same_end_for_all(self):
        first, command, gate = self.held(self.one, "echo last; echo err >&2; exit 3")
        second = self.joined(self.two, command)
        self.assertEqual(second.stdout.readline(), b"first\n")  # live
        third = self.joined(self.three, command)
        self.open(gate)
        self.assertEqual(self.end(first), (3, "first\nlast\n", "err\n"))
        status, out, err = self.end(second)
        self.assertEqual((status, out), (3, "last\n"))
        self.assertIn("err\n", err)
        status, out, err = self.end(third)
        self.assertEqual((status, out), (3, "first\nlast\n"))
        self.assertEqual(self.runs(), 1)

    def test_F2_who_asks_on_completion_runs_anew(self):
        command = "echo ran >>runs; echo $(wc -l <runs)"
        for number in (1, 2, 3):
            self.assertEqual(self.one.call(*self.words("-c", command)), (0, f"{number}\n", ""))
        self.assertEqual(self.two.call(*self.words("-c", command)), (0, "4\n", ""))

    def test_F13_nothing_is_left_to_a_first_process(self):
        self.leaves_nothing(self.words("true"))

    def test_F13_no_proxy_is_left_to_a_first_process(self):
        if not shutil.which("socat"):
            self.skipTest("M5: a proxy: there is no socat")
        self.leaves_nothing(("run", "--cluster-scope", "tonight", "--cluster",
                             f"redis://h?secret={self.box.secret}&proxy=exec socat STDIO UNIX-CONNECT:{self.server.socket}", "true"))

    def leaves_nothing(self, words):
        command = [sys.executable, "-c", FIRST_PROCESS, machines.COALESCE, *words]
        for _ in range(10):  # who leads waits for the supervisor but a second, which a busy machine may outlast
            left = subprocess.run(command, env=self.one.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=True).stdout
            if left == b"0\n":
                break
        self.assertEqual(left, b"0\n")

    def test_F3_bytes_are_bytes(self):
        payload = os.urandom(3_000_000) + b"\0no newline"
        with open(os.path.join(self.box.work, "payload"), "wb") as file:
            file.write(payload)
        first, command, gate = self.held(self.one, "cat payload; cat payload >&2; kill -9 $$")
        readers = [self.joined(host, command) for host in (self.two, self.three)]
        self.open(gate)
        for process in (first, *readers):
            out, err = process.communicate()
            self.assertEqual(process.returncode, 137)
            self.assertEqual(out, b"first\n" + payload)
            self.assertIn(payload, err)
        self.assertEqual(self.runs(), 1)

    def test_F4_a_failure_is_shared_and_what_cannot_start_is_tried_by_each(self):
        status, _, err = self.one.call(*self.words("/no/such/program"))
        self.assertEqual(status, 127)
        self.assertIn("/no/such/program", err)

    def test_M2_both_are_needed(self):
        url = self.box.url(self.server)
        status, _, err = self.one.call("run", "--cluster", url, "true")
        self.assertEqual(status, 125)
        self.assertIn("--cluster-scope", err)
        # The variable alone leaves it local, as does --no-cluster.
        for words, env in (((), {"COALESCE_CLUSTER": url}), (("--no-cluster",), {"COALESCE_CLUSTER": url, "COALESCE_CLUSTER_SCOPE": "s"}),
                           ((), {"COALESCE_CLUSTER_SCOPE": "s"})):
            before = self.connections()
            self.assertEqual(self.one.call("run", *words, "echo", "x", env=env), (0, "x\n", ""))
            self.assertEqual(self.connections(), before)
        status, out, err = self.one.call("run", "-v", "echo", "x", env={"COALESCE_CLUSTER": url})
        self.assertIn("--cluster-scope", err)
        before = self.connections()
        self.assertEqual(self.one.call("run", "echo", "x", env={"COALESCE_CLUSTER": url, "COALESCE_CLUSTER_SCOPE": "s"}), (0, "x\n", ""))
        self.assertGreater(self.connections(), before)

    def connections(self):
        """How many there have been, beside those that ask."""
        with machines.Redis(self.server.socket) as client:
            for line in client.ask("INFO", "stats").decode().splitlines():
                if line.startswith("total_connections_received"):
                    self.asked = getattr(self, "asked", 0) + 1
                    return int(line.split(":")[1]) - self.asked
        return None

    def trace(self, env):
        """What each process asked of the kernel, line by line, but for numbers and for how often it had to wait."""
        directory = self.box.path(f"trace{len(os.listdir(self.box.directory))}")
        os.mkdir(directory)
        host = self.box.host(f"fresh{len(os.listdir(self.box.directory))}")  # what an earlier run leaves is looked at
        subprocess.run(["strace", "-ff", "-qq", "-s", "0", "-e", "signal=none", "-e", "trace=!" + WAITS, "-o", os.path.join(directory, "of"),
                        machines.COALESCE, "run", "true"], cwd=self.box.work,
                       env={**host.env, "ASAN_OPTIONS": "detect_leaks=0", **env}, stdin=subprocess.DEVNULL, check=True)
        processes = []
        for name in os.listdir(directory):
            with open(os.path.join(directory, name)) as file:
                calls = "".join(line for line in file if "EAGAIN" not in line)
            calls = re.sub(MAPS, "", calls)
            # Among the numbers are those of a flight's record: boot/namespace/process/time, in hexadecimal.
            processes.append(re.sub(r"0x[0-9a-f]+|[0-9a-f]{32}(?:/[0-9a-f.]+)*|\d+", "", calls))
        return "\n".join(sorted(processes))

    def test_A14_M1_who_does_not_ask_makes_no_call_more(self):
        if not shutil.which("strace"):
            self.skipTest("A14: no call more without an engine: there is no strace")
        plain = [self.trace({})]
        for env in ({"COALESCE_CLUSTER": self.box.url(self.server)}, {"COALESCE_CLUSTER_SCOPE": "tonight"}):
            for _ in range(20):  # two processes take turns as they come
                traced = self.trace(env)
                if traced in plain:
                    break
                plain.append(self.trace({}))
            else:
                self.fail("\n".join(difflib.unified_diff(plain[-1].splitlines(), traced.splitlines(), lineterm="")))
        for word in ("secret", "os-release", "redis.sock", "timerfd", "AF_INET"):
            self.assertNotIn(word, "".join(plain))

    def test_M9_what_makes_two_commands_the_same_on_two_machines(self):
        def name(host, *options, env=None, scope="tonight", parameters=""):
            status, out, err = host.call("key", *self.words("x", scope=scope, parameters=parameters)[1:5], *options, "true", env=env)
            self.assertEqual(status, 0, err)
            [line] = [line for line in out.splitlines() if line.startswith("at the engine\t")]
            return line.split("\t")[1]
        same = name(self.one)
        self.assertRegex(same, "^[0-9a-f]{32}$")
        self.assertEqual(name(self.two), same)
        self.assertEqual(name(self.two, env={"HOST": "x"}), same)
        for other in (name(self.two, scope="tomorrow"), name(self.two, parameters="&ns=other"), name(self.two, env={"CI": "1"}),
                      name(self.two, "--scope", "x"), name(self.two, "--ignore-platform"), name(self.two, "--key", "x")):
            self.assertNotEqual(other, same)
        self.assertEqual(name(self.one, "--ignore-env", "CI", env={"CI": "2"}), name(self.two, "--ignore-env", "CI", env={"CI": "1"}))
        self.box.file("secret", "t" * 32, 0o600)
        self.assertNotEqual(name(self.two), same)

    def test_M4_M10_on_one_machine_too_another_ns_or_secret_is_another_circle(self):
        first, command, gate = self.held(self.one)
        other = self.box.file("other", "t" * 32, 0o600)
        for parameters in ("&ns=other", f"&secret={other}"):
            second, runs = self.one.start(*self.words("-c", command, parameters=parameters)), self.runs()
            machines.until(lambda runs=runs: self.runs() > runs or any(flight["requesters"] > 1 for flight in self.status(self.one)))
            self.assertEqual(self.runs(), runs + 1)
            second.kill()
            second.communicate()
            machines.until(lambda: len(self.status(self.one)) == 1)  # or its command might take what the first waits for
        parts = self.one.call("key", *self.words("-c", command)[1:])[1]
        self.assertIn(", ns default", parts)
        self.assertNotIn("s" * 8, parts)
        self.open(gate)
        self.assertEqual(self.end(first)[0], 0)

    def test_M10_who_did_not_agree_to_other_machines_joins_no_run_that_may_come_from_one(self):
        first, command, gate = self.held(self.one)
        elsewhere = self.joined(self.two, command)
        status, out, err = self.two.call("key", "-c", command)
        self.assertIn("not joined: ", out)
        self.assertIn("cluster", out)
        self.open(gate)
        self.end(first)
        self.end(elsewhere)

    def test_M19_the_last_who_leaves_ends_the_run_wherever_it_is(self):
        for last_is_elsewhere in (True, False):
            first, command, _ = self.held(self.one, "echo no", "--grace", "0", before=machines.ALONE)
            second = self.joined(self.two, command)
            order = (first, second) if last_is_elsewhere else (second, first)
            self.heard_of_others(self.one)
            order[0].send_signal(signal.SIGTERM)
            order[0].communicate()
            self.assertEqual(order[0].returncode, -signal.SIGTERM)
            order[1].send_signal(signal.SIGTERM)
            order[1].communicate()
            self.all_gone()

    def test_M19_the_runners_own_leaving_ends_nothing(self):
        first, command, gate = self.held(self.one, "echo last")
        second = self.joined(self.two, command)
        self.heard_of_others(self.one)
        first.send_signal(signal.SIGTERM)
        first.communicate()
        # Its machine may join it again, as before: when the engine has said that others wait.
        machines.until(lambda: self.server.ask("ZCARD", *self.server.ask("KEYS", "*:w")) == 1)
        again = self.one.start(*self.words("-v", "-c", command))
        self.assertIn(b"joined", again.stderr.readline())
        self.open(gate)
        self.assertEqual(self.end(second)[:2], (0, "first\nlast\n"))
        self.assertEqual(self.end(again)[:2], (0, "first\nlast\n"))
        self.assertEqual(self.runs(), 1)

    def test_M23_a_signal_leaves_while_others_wait(self):
        first, command, gate = self.held(self.one, "echo last")
        second = self.joined(self.two, command)
        self.heard_of_others(self.one)
        first.send_signal(signal.SIGINT)
        first.communicate()
        self.assertEqual(first.returncode, -signal.SIGINT)
        self.open(gate)
        self.assertEqual(self.end(second)[:2], (0, "first\nlast\n"))

    def test_M27_the_command_gets_a_fence_that_grows(self):
        fences = []
        for host in (self.one, self.two, self.one):
            status, out, err = host.call(*self.words("-c", "echo $COALESCE_FENCE"))
            self.assertEqual((status, err), (0, ""))
            fences.append(int(out))
        self.assertEqual(fences, sorted(set(fences)))

    def test_M18_fresh_waits_for_the_end_and_runs_anew(self):
        first, command, gate = self.held(self.one, "echo last")
        fresh = self.two.start(*self.words("--fresh", "-c", command))
        self.wait_for_waiting(fresh)
        self.open(gate)
        self.assertEqual(self.end(first)[0], 0)
        with open(os.path.join(self.box.work, gate), "w") as file:  # of its own run
            file.write("go\n")
        self.assertEqual(self.end(fresh)[:2], (0, "first\nlast\n"))
        self.assertEqual(self.runs(), 2)

    def test_M7_no_engine_is_an_error_or_none(self):
        self.server.stop(signal.SIGKILL)
        status, out, err = self.one.call(*self.words("echo", "x"))
        self.assertEqual((status, out), (125, ""))
        self.assertIn("down=run", err)
        status, out, err = self.one.call(*self.words("echo", "x", parameters="&down=run"))
        self.assertEqual((status, out), (0, "x\n"))
        self.assertEqual(err.count("\n"), 1)
        self.assertIn("alone", err)

    def test_M6_an_engine_that_is_not_fit_is_refused_at_once(self):
        self.server.ask("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
        status, _, err = self.one.call(*self.words("echo", "x"))
        self.assertEqual(status, 125)
        self.assertIn("noeviction", err)
        self.assertNotIn("Permission denied", err)  # by nobody's file mode

    def test_M28_M30_a_runner_that_is_stopped_is_ended_by_its_guard_and_replaced(self):
        command = f"{machines.ALONE} echo ran >>runs; echo $$ >pid; read x <gate"
        gate = self.box.gate("gate")
        first = self.one.start(*self.words("-c", command, parameters="&lease=2s"))
        while not self.box.read("pid").strip():
            machines.a_moment()
        [flight] = self.status(self.one)
        second = self.two.start(*self.words("-v", "-c", command, parameters="&lease=2s"))
        self.assertIn(b"which runs on", second.stderr.readline())
        os.kill(flight["supervisor"], signal.SIGSTOP)
        # It runs again elsewhere, and nothing of it here.
        while self.runs() < 2:
            machines.a_moment()
        self.assertEqual(self.box.overlaps(), 0)
        self.open(gate)
        self.assertEqual(self.end(second)[0], 0)
        os.kill(flight["supervisor"], signal.SIGCONT)
        status, _, err = self.end(first)
        self.assertEqual(status, 125, err)

    def replaces_a_dead_runner(self, lease):
        command = "echo ran >>runs; echo $$ >pid; read x <gate; echo done"
        gate = self.box.gate("gate")
        first = self.one.start(*self.words("-c", command, parameters=f"&lease={lease}"))
        while not self.box.read("pid").strip():
            machines.a_moment()
        [flight] = self.status(self.one)
        second = self.two.start(*self.words("-v", "-c", command, parameters=f"&lease={lease}"))
        self.assertIn(b"which runs on", second.stderr.readline())
        machines.crash(first, flight)
        while self.runs() < 2:
            machines.a_moment()
        self.open(gate)
        self.assertEqual(self.end(second)[:2], (0, "done\n"))

    def test_M30_a_runner_whose_machine_is_gone_is_replaced(self):
        self.replaces_a_dead_runner("2s")

    def test_M32_on_the_runners_own_machine_no_lease_is_waited_for(self):
        self.replaces_a_dead_runner("1h")

    def test_M17_who_asks_on_completion_elsewhere_runs_anew(self):
        """Also right after the runner has told it to its own: twenty rounds, on two machines in turn."""
        command = "echo ran >>runs; wc -l <runs"
        for number in range(1, 21):
            host = self.one if number % 2 else self.two
            self.assertEqual(host.call(*self.words("-c", command)), (0, f"{number}\n", ""))

    def test_M30_who_has_given_bytes_away_ends_with_125(self):
        first, command, gate = self.held(self.one, parameters="&lease=2s")
        [flight] = self.status(self.one)
        second = self.joined(self.two, command, parameters="&lease=2s")
        self.assertEqual(second.stdout.readline(), b"first\n")
        machines.crash(first, flight)
        status, _, err = self.end(second)
        self.assertEqual(status, 125)
        self.assertRegex(err, "was lost after 6 bytes")
        self.assertEqual(err.count("echo first"), 1, err)  # what was lost is said once

    def test_M21_cancel_ends_it_for_all(self):
        first, command, gate = self.held(self.one)
        second = self.joined(self.two, command)
        self.heard_of_others(self.one)
        [flight] = self.status(self.one)
        self.assertEqual(flight["machines"], 2)
        self.assertEqual(self.one.call("cancel", flight["id"])[0], 0)
        self.assertEqual(self.end(first)[0], 125)
        self.assertEqual(self.end(second)[0], 125)

    def test_M24_a_run_that_nobody_shares_costs_two_scripts(self):
        self.one.call(*self.words("-c", "head -c 3000000 /dev/zero"))
        stats = self.server.ask("INFO", "commandstats").decode()
        self.assertEqual(stats.count("cmdstat_xadd:calls=2"), 1, stats)  # the begin, the end

    def piecewise(self, speech, parameters):
        """A run that says a piece for each line that it is told, followed from elsewhere: its gate, command and requesters."""
        gate = self.box.gate("gate")
        command = f"{machines.ALONE} echo ran >>runs; while read x; do {speech}; done <{gate}"
        first = self.one.start(*self.words("-c", command, parameters=parameters))
        gate = open(gate, "w")  # and it has begun
        self.addCleanup(gate.close)
        return gate, command, first, self.joined(self.two, command, parameters=parameters)

    def piece(self, gate, follower, length):
        gate.write("on\n")
        gate.flush()
        return self.hear(follower, length).decode()

    def test_M24_who_comes_late_has_all_of_a_run_of_many_short_pieces(self):
        gate, command, first, second = self.piecewise("echo line", "&cap=100K")
        for _ in range(10):
            self.assertEqual(self.piece(gate, second, 5), "line\n")
        third = self.joined(self.three, command, parameters="&cap=100K")
        gate.close()
        for process, heard in (first, 10), (second, 0), (third, 10):
            self.assertEqual(self.end(process)[:2], (0, "line\n" * heard))
        self.assertEqual(self.runs(), 1)

    def test_M24_past_the_cap_who_asks_waits_for_a_run_of_its_own(self):
        gate, command, first, second = self.piecewise("head -c 50000 /dev/zero", "&cap=100K")
        for _ in range(5):
            self.assertEqual(self.piece(gate, second, 50_000), "\0" * 50_000)
        machines.until(lambda: [self.server.ask("HEXISTS", key, "shut") for key in self.server.ask("KEYS", "coalesce:1:*:m")] == [1])
        third = self.three.start(*self.words("-c", command, parameters="&cap=100K"))
        machines.until(lambda: any(flight["state"] == "queued" for flight in self.status(self.three)))
        gate.close()
        self.assertTrue(self.end(first)[:2] == (0, "\0" * 250_000))
        self.assertEqual(self.end(second)[:2], (0, ""))
        open(gate.name, "w").close()
        self.assertEqual(self.end(third)[:2], (0, ""))
        self.assertEqual((self.runs(), self.box.overlaps()), (2, 0))
        # Who waits listens once, and asks when something is said.
        [calls] = re.findall(r"cmdstat_subscribe:calls=(\d+)", self.server.ask("INFO", "commandstats").decode())
        self.assertLess(int(calls), 12)

    def test_M24_past_the_replay_limit_who_asks_gets_a_run_of_its_own(self):
        gate = self.box.gate("gate")
        command = f"{machines.ALONE} echo ran >>runs; head -c 1000000 /dev/zero; read x <gate"
        words = self.words("--replay-limit", "64K", "-c", command)
        first = self.one.start(*words)
        self.assertEqual(len(self.hear(first, 1_000_000)), 1_000_000)
        second = self.two.start(*words)  # joins before the next heartbeat, or waits, or comes too late: it runs in any case
        machines.until(lambda: self.status(self.two))
        self.open(gate)
        self.assertEqual(self.end(first)[:2], (0, ""))
        self.assertEqual(len(self.hear(second, 1_000_000)), 1_000_000)
        self.open(gate)
        self.assertEqual(self.end(second)[0], 0)
        self.assertEqual((self.runs(), self.box.overlaps()), (2, 0))

    def test_A8_M37_the_engine_and_its_log_see_neither_command_nor_output(self):
        with machines.Redis(self.server.socket) as monitor:
            monitor.ask("MONITOR")
            first, command, gate = self.held(self.one, "echo very-secret-output")
            second = self.joined(self.two, command)
            self.open(gate)
            self.end(first)
            self.end(second)
            self.server.ask("ECHO", "that is all")
            seen = b""
            while b"that is all" not in seen:
                seen += monitor.file.readline()
        log = b""
        for directory, _, names in os.walk(self.box.path("appendonlydir")):
            for name in names:
                with open(os.path.join(directory, name), "rb") as file:
                    log += file.read()
        for word in (b"very-secret-output", b"read x", b"work", b"tonight", os.uname().nodename.encode()):
            self.assertNotIn(word, seen)
            self.assertNotIn(word, log)
        self.assertIn(b"XADD", log)
        self.assertIn(b"EVAL", seen)

    def test_M40_every_key_has_a_limit(self):
        first, command, gate = self.held(self.one)
        second = self.joined(self.two, command)
        for key in self.server.ask("KEYS", "*"):
            self.assertGreater(self.server.ask("PTTL", key), 0)
        self.open(gate)
        self.end(first)
        self.end(second)
        for key in self.server.ask("KEYS", "*"):
            self.assertGreater(self.server.ask("PTTL", key), 0)


if __name__ == "__main__":
    machines.main()
