#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""coalesce run with what is kept: SPEC T1–T22, T24, T28, by side effects."""

import contextlib
import fcntl
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import unittest

from sandbox import COALESCE, HOUR, Test, a_moment, adopt_orphans, main, mode_of, seconds

COUNTED = "echo run >>runs; echo out; echo err >&2"


class Asking(Test):
    def test_T1_who_does_not_ask_is_served_nothing_and_leaves_nothing(self):
        for _ in range(2):
            self.box.run("-c", COUNTED)
        self.assertEqual(self.box.runs(), 2)
        self.box.run("--ttl", "1h", "-c", COUNTED)
        self.box.run("-c", COUNTED)
        self.assertEqual(self.box.runs(), 4)
        # Of a run that took a second, as any may on a busy machine, the duration is remembered (H1).
        self.assertIn(sum((names for _, _, names in os.walk(self.box.path("home/.local"))), []), ([], ["history"]))

    def test_T1_without_it_no_file_of_the_store_is_opened(self):
        os.makedirs(self.box.path("home/.cache"))
        os.mkfifo(self.box.path("home/.cache/coalesce"))  # whoever opened that would hang
        self.assertEqual(self.box.run("-c", "echo out"), (0, "out\n", ""))

    def test_T2_T14_a_hit_is_exact_and_runs_nothing(self):
        first = self.box.run("--ttl", "1h", "-c", COUNTED)
        self.assertEqual(first, (0, "out\n", "err\n"))
        self.assertEqual(self.box.run("--ttl", "1h", "-c", COUNTED), first)
        self.assertEqual(self.box.runs(), 1)

    def test_T2_the_readers_time_decides(self):
        self.box.run("--ttl", "1d", "-c", COUNTED)
        self.box.age(2 * HOUR)
        self.box.run("--ttl", "4h", "-c", COUNTED)
        self.assertEqual(self.box.runs(), 1)
        self.box.run("--ttl", "1h", "-c", COUNTED)
        self.assertEqual(self.box.runs(), 2)

    def test_T2_a_joiners_wish_is_enough_and_outlives_it(self):
        gate = self.box.gate()
        line = f"{COUNTED}; read x <{gate}"
        leader = self.box.start("run", "-c", line)
        self.assertEqual(leader.stdout.readline(), b"out\n")
        joiner = self.box.start("run", "--ttl", "1h", "-c", line)
        self.assertEqual(joiner.stdout.readline(), b"out\n")
        joiner.send_signal(signal.SIGINT)
        joiner.communicate()
        with open(gate, "w") as file:
            file.write("\n")
        leader.communicate()
        self.box.nothing_in_flight()
        self.assertEqual(self.box.run("--ttl", "1h", "-c", line), (0, "out\n", "err\n"))
        self.assertEqual(self.box.runs(), 1)

    def test_T2_of_several_the_longest_time_decides(self):
        gate = self.box.gate()
        line = f"{COUNTED}; read x <{gate}"
        crowd = []
        for time in ("10m", "5h", "1h"):
            crowd.append(self.box.start("run", "--ttl", time, "-c", line))
            self.assertEqual(crowd[-1].stdout.readline(), b"out\n")
        with open(gate, "w") as file:
            file.write("\n")
        for process in crowd:
            process.communicate()
        (kept,) = map(json.loads, self.box.call("cache", "--json")[1].splitlines())
        self.assertTrue(4 * HOUR < kept["left"] <= 5 * HOUR)
        self.assertEqual(self.box.runs(), 1)

    def test_T2_zero_is_none_and_the_variable_is_the_default(self):
        self.box.run("--ttl", "0", "-c", COUNTED)
        self.assertEqual(self.box.entries(), [])
        for _ in range(2):
            self.box.run("-c", COUNTED, env={"COALESCE_TTL": "1h"})
        self.assertEqual(self.box.runs(), 2)
        self.box.run("--ttl", "0", "-c", COUNTED, env={"COALESCE_TTL": "1h"})
        self.assertEqual(self.box.runs(), 3)

    def test_T3_max_age_counts_from_the_start_and_keeps_nothing(self):
        self.box.run("--max-age", "1h", "-c", COUNTED)
        self.assertEqual(self.box.entries(), [])
        self.box.run("--ttl", "1d", "-c", COUNTED)
        self.box.age(1 * HOUR, also_started=4 * HOUR)
        self.box.run("--max-age", "8h", "-c", COUNTED)
        self.assertEqual(self.box.runs(), 2)
        self.box.run("--max-age", "4h", "-c", COUNTED)
        self.assertEqual(self.box.runs(), 3)

    def test_T3_with_ttl_both_must_hold_and_0_is_fresh(self):
        for runs, words in ((1, ("--ttl", "1d", "--max-age", "8h")), (2, ("--ttl", "1d", "--max-age", "2h")),
                            (2, ("--ttl", "30m", "--max-age", "8h")), (2, ("--ttl", "1d", "--max-age", "0"))):
            self.box.call("cache", "clear")
            self.box.file("runs")
            self.box.run("--ttl", "1d", "-c", COUNTED)
            self.box.age(1 * HOUR, also_started=4 * HOUR)
            self.box.run(*words, "-c", COUNTED)
            self.assertEqual(self.box.runs(), runs, words)

    def test_T3_a_live_run_that_started_earlier_is_not_joined(self):
        gate = self.box.gate()
        line = f"echo run >>runs; echo out; until read x <{gate}; do :; done"  # the next run may meet the writer of the one before
        leader = self.box.start("run", "-c", line)
        self.assertEqual(leader.stdout.readline(), b"out\n")
        plain = self.box.start("run", "--max-age", "1h", "-v", "-c", line)
        self.assertEqual(plain.stdout.readline(), b"out\n")
        young = [self.box.start("run", "--max-age", "1ms", "-v", "-c", line) for _ in range(2)]
        for process in young:  # told that it waits before anything is released
            self.assertIn(b"waiting", process.stderr.readline())
        for _ in range(2):
            with open(gate, "w") as file:
                file.write("\n")
            if leader.poll() is None:
                leader.communicate()
                self.assertEqual(young[0].stdout.readline(), b"out\n")
        for process in (plain, *young):
            process.communicate()
        self.assertEqual(self.box.runs(), 2)

    def test_F7_fresh_with_ttl_reads_nothing_and_keeps(self):
        self.box.run("--ttl", "1h", "-c", COUNTED)
        self.box.run("--ttl", "1h", "--fresh", "-c", COUNTED)
        self.assertEqual(self.box.runs(), 2)
        self.box.run("--ttl", "1h", "-c", COUNTED)
        self.assertEqual(self.box.runs(), 2)

    def test_T28_wrong_uses_are_told(self):
        for words, said in (
            (("--stale", "5s"), "--stale needs --ttl"),
            (("--ttl", "5s", "--stale", "5s"), "--stale must be shorter than --ttl"),
            (("--warm",), "--warm needs --ttl"),
            (("--keep-failures", "5s"), "--keep-failures needs --ttl"),
            (("--ttl", "soon"), "--ttl"),
            (("--stdin", "--depends-from", "-"), "--depends-from -"),
        ):
            status, out, err = self.box.run(*words, "true")
            self.assertEqual((status, out), (125, ""))
            self.assertIn(said, err)


STALE = ("--ttl", "2d", "--stale", "1h")  # which a result of two hours is past, and one of a test never


class Refreshing(Test):
    def ask(self, line, *more):
        return self.box.run(*STALE, *more, "-c", line)

    def test_T4_a_stale_hit_is_served_at_once_and_refreshed_once(self):
        gate = self.box.gate()
        line = f"echo run >>runs; wc -l <runs; [ $(wc -l <runs) = 1 ] || read x <{gate}"
        self.assertEqual(self.ask(line)[1], "1\n")
        self.box.age(2 * HOUR)
        # The refresh is held, so whoever waited for it would hang here; and holds no descriptor of ours.
        answers = [self.ask(line) for _ in range(5)]
        self.assertEqual(answers, [(0, "1\n", "")] * 5)
        with open(gate, "w") as file:
            file.write("\n")
        self.box.nothing_in_flight()
        self.assertEqual(self.ask(line)[1], "2\n")
        self.assertEqual(self.box.runs(), 2)

    def test_T4_a_crowd_of_stale_hits_is_one_refresh(self):  # fifty of all doors: doors_test.py
        gate = self.box.gate()
        line = f"echo run >>runs; wc -l <runs; [ $(wc -l <runs) = 1 ] || read x <{gate}"
        self.assertEqual(self.ask(line)[1], "1\n")
        self.box.age(2 * HOUR)
        crowd = [self.box.start("run", *STALE, "-c", line) for _ in range(12)]
        for process in crowd:
            self.assertEqual((process.communicate(), process.returncode), ((b"1\n", b""), 0))
        with open(gate, "w") as file:
            file.write("\n")
        self.box.nothing_in_flight()
        self.assertEqual(self.box.runs(), 2)

    def test_T4_a_substitution_returns_while_the_refresh_runs(self):
        gate = self.box.gate()
        line = f"echo run >>runs; wc -l <runs; [ $(wc -l <runs) = 1 ] || read x <{gate}"
        self.ask(line)
        self.box.age(2 * HOUR)
        # The shell reads to the end of the pipe, so whoever held its other end would hold it, too.
        script = 'x=$("$0" run --ttl 2d --stale 1h -c "$1" 2>&1); echo "got $x"'
        said = subprocess.run(["sh", "-c", script, COALESCE, line], cwd=self.box.work, env=self.box.env,
                              stdin=subprocess.DEVNULL, capture_output=True, check=True).stdout
        self.assertEqual(said, b"got 1\n")
        while not self.box.status():  # it is under way, and held
            a_moment()
        self.assertEqual(self.box.status()[0]["state"], "refreshing")
        with open(gate, "w") as file:
            file.write("\n")
        self.box.nothing_in_flight()
        self.assertEqual(self.box.runs(), 2)

    def test_T4_a_refresh_shows_and_can_be_joined_and_cancelled(self):
        gate = self.box.gate()
        line = f"echo run >>runs; wc -l <runs; [ $(wc -l <runs) = 1 ] || read x <{gate}"
        self.ask(line)
        self.box.age(2 * HOUR)
        self.ask(line)
        while not self.box.status():
            a_moment()
        self.assertEqual(self.box.status()[0]["state"], "refreshing")
        joiner = self.box.start("run", "-c", line)
        self.assertEqual(joiner.stdout.readline(), b"2\n")
        self.assertEqual(self.box.call("cancel", self.box.status()[0]["id"])[0], 0)
        self.assertEqual(joiner.wait(), 125)
        self.box.nothing_in_flight()
        self.assertEqual(self.ask(line)[1], "1\n")

    def test_T4_it_has_the_stdin_directory_and_environment_of_who_started_it(self):
        line = "cat; pwd; echo $X; echo run >>runs"
        ask = lambda: self.box.run("--stdin", *STALE, "-c", line, input=b"in\n", env={"X": "x"})
        first = ask()
        self.assertEqual(first[1], f"in\n{self.box.work}\nx\n")
        self.box.age(2 * HOUR)
        self.assertEqual(ask(), first)
        while self.box.runs() < 2:
            a_moment()
        self.box.nothing_in_flight()
        self.assertEqual(ask(), first)
        self.assertEqual(self.box.runs(), 2)

    def test_T4_it_has_the_limits_and_the_timeout_of_who_started_it(self):
        few = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (77, 77))
        ask = lambda *more: self.box.run(*STALE, *more, "-c", "echo run >>runs; ulimit -n", preexec_fn=few)
        self.assertEqual(ask(), (0, "77\n", ""))
        self.box.age(2 * HOUR)
        ask()
        while self.box.runs() < 2:
            a_moment()
        self.box.nothing_in_flight()
        self.assertEqual(ask(), (0, "77\n", ""))
        slow = "echo run >>slow; echo out; [ $(wc -l <slow) = 1 ] || exec sleep 1000"
        self.ask(slow)
        self.box.age(2 * HOUR)
        self.assertEqual(self.ask(slow, "--timeout", "0.05"), (0, "out\n", ""))
        while not self.box.failed_refreshes():  # perhaps before it has said that it runs; it would go on for ever
            a_moment()
        self.box.nothing_in_flight()

    def test_T5_a_refresh_that_fails_leaves_the_old_result_and_counts_as_tried(self):
        line = "echo run >>runs; echo good; [ $(wc -l <runs) = 1 ]"
        self.assertEqual(self.ask(line)[0], 0)
        self.box.age(2 * HOUR)
        self.assertEqual(self.ask(line), (0, "good\n", ""))
        while self.box.runs() < 2:
            a_moment()
        self.box.nothing_in_flight()
        for _ in range(3):
            status, out, err = self.ask(line, "-v")
            self.assertEqual((status, out), (0, "good\n"))
            self.assertNotIn("refreshing", err)  # one that has just been started is not in flight yet
            self.box.nothing_in_flight()
        self.assertEqual(self.box.runs(), 2)
        self.box.age(2 * HOUR)
        self.assertEqual(self.ask(line), (0, "good\n", ""))
        while self.box.runs() < 3:
            a_moment()

    def test_T5_of_many_that_were_due_at_once_one_tries(self):
        line = "echo run >>runs; echo good; [ $(wc -l <runs) = 1 ]"
        self.assertEqual(self.ask(line)[0], 0)
        self.box.age(2 * HOUR)
        adopt_orphans(True)
        self.addCleanup(adopt_orphans, False)
        place = os.open(self.box.path("runtime/coalesce"), os.O_RDONLY)
        self.addCleanup(os.close, place)
        fcntl.flock(place, fcntl.LOCK_EX)  # so that all of them are due before one can begin
        for _ in range(5):
            self.assertEqual(self.ask(line), (0, "good\n", ""))
        with open(f"/proc/self/task/{os.getpid()}/children") as file:
            _, *others = map(int, file.read().split())
        self.assertEqual(len(others), 4)
        for pid in others:
            os.kill(pid, signal.SIGSTOP)
        fcntl.flock(place, fcntl.LOCK_UN)
        while not self.box.failed_refreshes():
            a_moment()
        self.box.nothing_in_flight()
        for pid in others:
            os.kill(pid, signal.SIGCONT)
        with contextlib.suppress(ChildProcessError):
            while True:
                os.wait()
        self.assertEqual(self.box.runs(), 2)

    def test_F14_T17_a_chain_of_runs_without_end_holds_few_files(self):
        line = "echo run >>runs; read x <gate-$(wc -l <runs)"

        def ask(number):
            self.box.gate(f"gate-{number}")
            return self.box.start("run", "-v", "--ttl", "1h", "--fresh", "-c", line)

        def held():
            return len(os.listdir(f"/proc/{supervisor}/fd"))

        last = ask(1)
        self.assertIn(b"started", last.stderr.readline())
        supervisor = self.box.status()[0]["supervisor"]
        before = held()
        for number in range(2, 41):
            following = ask(number)
            self.assertIn(b"waiting for an earlier run", following.stderr.readline())
            with open(self.box.path(f"work/gate-{number - 1}"), "w") as file:
                file.write("\n")
            self.assertEqual(last.communicate()[0], b"")
            self.assertIn(b"started", following.stderr.readline())
            last = following
        self.assertLess(held() - before, 40)
        with open(self.box.path("work/gate-40"), "w") as file:
            file.write("\n")
        self.assertIn(b"kept for 1h", last.communicate()[1])
        self.assertEqual(len(self.box.entries()), 1)
        self.assertEqual(self.box.runs(), 40)

    def test_T6_warm_prints_nothing_and_returns_at_once(self):
        gate = self.box.gate()
        line = f"echo run >>runs; echo out; read x <{gate}"
        warm = lambda *more: self.box.run("--warm", "--ttl", "1h", *more, "-c", line)
        self.assertEqual(warm(), (0, "", ""))
        self.assertEqual(warm(), (0, "", ""))
        with open(gate, "w") as file:
            file.write("\n")
        self.box.nothing_in_flight()
        self.assertEqual(self.box.runs(), 1)
        self.assertEqual(self.box.out("--ttl", "1h", "-c", line), "out\n")
        self.assertEqual(warm(), (0, "", ""))
        self.assertEqual(self.box.status(), [])
        self.assertEqual(warm("--fresh"), (0, "", ""))
        with open(gate, "w") as file:
            file.write("\n")
        self.box.nothing_in_flight()
        self.assertEqual(self.box.runs(), 2)

    def test_T6_warm_makes_what_is_stale_or_expired(self):
        warm = lambda *words: self.box.run("--warm", *words, "-c", COUNTED)
        for runs, words in ((1, STALE), (1, STALE), (2, STALE), (3, ("--ttl", "1h")), (3, ("--ttl", "1h"))):
            if runs > self.box.runs() > 0:
                self.box.age(2 * HOUR)
            self.assertEqual(warm(*words), (0, "", ""))
            while self.box.runs() < runs:
                a_moment()
            self.box.nothing_in_flight()
            self.assertEqual(self.box.runs(), runs)

    def test_T6_only_what_is_there_and_no_wait(self):
        ask = lambda: self.box.run("--wait", "0", "--keep-running", "--ttl", "1h", "-c", COUNTED)
        self.assertEqual(ask()[0], 75)
        while not self.box.entries():
            a_moment()
        self.assertEqual(ask(), (0, "out\n", "err\n"))
        self.assertEqual(self.box.runs(), 1)


class What(Test):
    def test_T7_failures_are_kept_apart_and_only_if_asked(self):
        line = "echo run >>runs; echo no; exit 3"
        for expected in (1, 2):
            self.assertEqual(self.box.run("--ttl", "1h", "-c", line)[0], 3)
            self.assertEqual(self.box.runs(), expected)
        keeping = lambda time: self.box.run("--ttl", "1d", "--keep-failures", time, "-c", line)
        self.assertEqual(keeping("1h"), (3, "no\n", ""))
        self.assertEqual(keeping("1h"), (3, "no\n", ""))
        self.assertEqual(self.box.runs(), 3)
        self.box.run("--ttl", "1d", "-c", line)
        self.assertEqual(self.box.runs(), 4)
        self.box.age(2 * HOUR)
        keeping("1h")
        self.assertEqual(self.box.runs(), 5)

    def test_T7_what_did_not_end_by_itself_is_never_kept(self):
        keep = ("--ttl", "1h", "--keep-failures", "1h", "-v")
        for words, status in (
            (("-c", "kill -TERM $$"), 128 + signal.SIGTERM),
            (("--timeout", "0.01", "sleep", "100"), 124),
            (("/no/such",), 127),
            (("/etc/passwd",), 126),
            (("-c", "exit 127"), 127),
        ):
            result = self.box.run(*keep, *words)
            self.assertEqual(result[0], status, words)
            self.assertIn("not kept: ", result[2])
            self.assertEqual(self.box.entries(), [])

    def test_T7_nor_what_was_cancelled(self):
        gate = self.box.gate()
        process = self.box.start("run", "--ttl", "1h", "--keep-failures", "1h", "-c", f"echo out; read x <{gate}")
        self.assertEqual(process.stdout.readline(), b"out\n")
        self.assertEqual(self.box.call("cancel", self.box.status()[0]["id"])[0], 0)
        self.assertEqual(process.wait(), 125)
        self.box.nothing_in_flight()
        self.assertEqual(self.box.entries(), [])

    def test_T8_it_goes_on_only_for_as_long_as_it_can_be_kept(self):
        self.box.call("cache", "limits", "--max-entry", "100K")
        gate, alive = self.box.gate(), self.box.gate("alive")
        held_by_command = os.open(alive, os.O_RDONLY | os.O_NONBLOCK)
        self.addCleanup(os.close, held_by_command)
        line = f"exec 3>{alive}; echo out; read x <{gate}; head -c 200000 /dev/zero; exec sleep 1000"
        process = self.box.start("run", "--ttl", "1h", "-c", line)
        self.assertEqual(process.stdout.readline(), b"out\n")
        process.stdout.close()
        with open(gate, "w") as file:
            file.write("\n")
        process.wait()
        os.set_blocking(held_by_command, True)
        self.assertEqual(os.read(held_by_command, 1), b"")  # ended

    def test_T8_who_is_interrupted_or_gives_up_ends_it_as_without_ttl(self):
        for words, number, status in (((), signal.SIGINT, -signal.SIGINT), ((), signal.SIGTERM, -signal.SIGTERM),
                                      ((), signal.SIGHUP, -signal.SIGHUP), (("--wait", "0.3"), None, 75)):
            process = self.box.start("run", "--ttl", "1h", *words, "-c", "echo out; exec sleep 1000")
            if number is not None:
                self.assertEqual(process.stdout.readline(), b"out\n")
                process.send_signal(number)
            process.communicate()
            self.assertIn(process.returncode, (status, 128 - status if status < 0 else status), words)
            self.box.nothing_in_flight()
            self.assertEqual(self.box.entries(), [])

    def test_T7_what_a_signal_has_cut_short_is_not_kept_whatever_its_status(self):
        for status, options in ((0, ()), (3, ("--keep-failures", "1h"))):
            line = f"trap 'echo cut; exit {status}' INT; echo out; while :; do sleep 0.01; done"
            process = self.box.start("run", "-v", "--ttl", "1h", *options, "-c", line)
            self.assertEqual(process.stdout.readline(), b"out\n")
            process.send_signal(signal.SIGINT)
            out, err = process.communicate()
            self.assertEqual((process.returncode, out), (status, b"cut\n"))
            self.box.nothing_in_flight()
            self.assertEqual(self.box.entries(), [])
            self.assertIn(b"it was sent a signal", err)

    def test_T8_a_reader_that_goes_away_leaves_and_the_run_goes_on_for_the_store(self):
        gate = self.box.gate()
        line = f"echo run >>runs; echo out; read x <{gate}; echo more"
        process = self.box.start("run", "--ttl", "1h", "-c", line)
        self.assertEqual(process.stdout.readline(), b"out\n")
        process.stdout.close()
        another = self.box.start("run", "-c", line)  # sees that the run lives on
        self.assertEqual(another.stdout.readline(), b"out\n")
        another.kill()  # a signal that it could pass on would be the command's, if it is the only one by now
        another.wait()
        with open(gate, "w") as file:
            file.write("\n")
        process.wait()
        self.box.nothing_in_flight()
        self.assertEqual(self.box.out("--ttl", "1h", "-c", line), "out\nmore\n")
        self.assertEqual(self.box.runs(), 1)

    def test_T11_a_result_is_of_the_program_that_made_it(self):
        tool = self.box.file("tool", "#!/bin/sh\necho run >>runs; echo one\n", 0o755)
        ask = lambda: self.box.out("--ttl", "1h", "./tool")
        self.assertEqual([ask(), ask()], ["one\n", "one\n"])
        self.assertEqual(self.box.runs(), 1)
        os.unlink(tool)
        self.box.file("tool", "#!/bin/sh\necho run >>runs; echo two\n", 0o755)
        self.assertEqual(ask(), "two\n")

    def test_T11_which_is_what_PATH_finds(self):
        path = {"PATH": self.box.work + "/bin:" + os.environ["PATH"]}
        ask = lambda: self.box.out("--ttl", "1h", "tool", env=path)
        tool = self.box.file("bin/tool", "#!/bin/sh\necho run >>runs; echo one\n", 0o755)
        self.assertEqual([ask(), ask()], ["one\n", "one\n"])
        self.assertEqual(self.box.runs(), 1)
        os.utime(tool, (1000, 1000))
        self.assertEqual(ask(), "one\n")
        self.assertEqual(self.box.runs(), 2)

    def test_T11_who_joins_does_not_keep_it_as_another_programs(self):
        gate = self.box.gate()
        self.box.file("tool", f"#!/bin/sh\necho run >>runs; read x <{gate}; echo old\n", 0o755)
        first = self.box.start("run", "./tool")
        while self.box.runs() < 1:
            a_moment()
        os.rename(self.box.file("new", "#!/bin/sh\necho new\n", 0o755), self.box.path("work/tool"))
        second = self.box.start("run", "--ttl", "1h", "./tool")
        while self.box.status()[0]["requesters"] < 2:
            a_moment()
        with open(gate, "w") as file:
            file.write("\n")
        for process in (first, second):
            self.assertEqual(process.communicate(), (b"old\n", b""))
        self.assertEqual(self.box.out("--ttl", "1h", "./tool"), "new\n")

    def test_T11_A2_who_joins_behind_a_link_keeps_it_as_the_programs(self):
        gate = self.box.gate()
        path = {"PATH": f"{self.box.path('links')}:{self.box.work}/bin:{os.environ['PATH']}"}
        os.mkdir(self.box.path("links"))
        os.symlink(os.path.abspath(os.environ["COALESCE"]), self.box.path("links/tool"))
        self.box.file("bin/tool", f"#!/bin/sh\necho run >>runs; read x <{gate}; echo out\n", 0o755)
        first = self.box.start("run", "tool", env=path)
        while self.box.runs() < 1:
            a_moment()
        second = self.box.start("run", "--ttl", "1h", "tool", env=path)
        while self.box.status()[0]["requesters"] < 2:
            a_moment()
        with open(gate, "w") as file:
            file.write("\n")
        for process in (first, second):
            self.assertEqual(process.communicate(), (b"out\n", b""))
        self.assertEqual(self.box.out("--ttl", "1h", "tool", env=path), "out\n")
        self.assertEqual(self.box.runs(), 1)

    def test_T11_the_next_run_is_of_the_program_that_lies_there_then(self):
        gate = self.box.gate()
        tool = f"#!/bin/sh\ntrap '' TERM; echo run >>runs; until read x <{gate}; do :; done; echo old\n"
        self.box.file("tool", tool, 0o755)

        def begin(*options):
            before = self.box.runs()
            process = self.box.start("run", *options, "./tool")
            while self.box.runs() == before:
                a_moment()
            return process

        def open_gate():
            with open(gate, "w") as file:
                file.write("\n")

        kept = begin("--ttl", "1h")
        open_gate()
        self.assertEqual(kept.communicate()[0], b"old\n")
        cancelled = begin()  # whose supervisor outlives it, and knows the old one
        self.assertEqual(self.box.call("cancel", self.box.status()[0]["id"])[0], 0)
        self.box.file("new", "#!/bin/sh\necho run >>runs; echo new\n", 0o755)
        os.rename(self.box.path("work/new"), self.box.path("work/tool"))
        waiting = self.box.start("run", "--ttl", "1h", "./tool")
        while len(self.box.status()) < 2:
            a_moment()
        open_gate()
        cancelled.communicate()
        self.assertEqual(waiting.communicate(), (b"new\n", b""))
        self.assertEqual(self.box.out("--ttl", "1h", "./tool"), "new\n")
        self.assertEqual(self.box.runs(), 3)

    def test_T12_what_is_asked_of_the_store_is_no_part_of_the_key(self):
        self.box.run("--ttl", "1h", "-c", COUNTED)
        for words in (
            ("--ttl", "2h"),
            ("--max-age", "1h"),
            ("--ttl", "2h", "--stale", "1h"),
            ("--ttl", "1h", "--keep-failures", "1h"),
            ("--ttl", "1h", "--wait", "1h", "--timeout", "2h"),
        ):
            self.assertEqual(self.box.run(*words, "-c", COUNTED), (0, "out\n", "err\n"))
        self.assertEqual(self.box.runs(), 1)

    def test_T13_who_asks_on_completion_is_served_by_it(self):
        line = f"{COUNTED}; : "
        first = self.box.start("run", "--ttl", "1h", "-c", line)
        first.communicate()  # its end is told after the result is there
        self.assertEqual(self.box.run("--ttl", "1h", "-c", line)[1], "out\n")
        self.assertEqual(self.box.runs(), 1)

    def test_F1_T13_of_a_crowd_that_finds_nothing_one_runs(self):
        # Whoever comes to lead, since the one before has just ended, looks once more.
        for number in range(5):
            crowd = [self.box.start("run", "--ttl", "1h", "-c", f"{COUNTED}; : {number}") for _ in range(8)]
            for process in crowd:
                self.assertEqual((process.communicate(), process.returncode), ((b"out\n", b"err\n"), 0))
            self.assertEqual(self.box.runs(), number + 1)

    def test_T14_bytes_streams_and_large_output(self):
        line = "printf 'a\\0b\\377'; printf 'no newline' >&2; head -c 3000000 /dev/zero; exit 0"
        first = self.box.run("--ttl", "1h", "-c", line)
        self.assertEqual(len(first[1]), 3000004)
        self.assertEqual(self.box.run("--ttl", "1h", "-c", line), first)

    def test_T14_a_hit_ends_like_a_run_when_nobody_reads(self):
        line = "head -c 3000000 /dev/zero"
        self.box.run("--ttl", "1h", "-c", line)
        process = self.box.start("run", "--ttl", "1h", "-c", line)
        process.stdout.read(10)
        process.stdout.close()
        self.assertEqual(process.wait(), -signal.SIGPIPE)
        self.assertEqual(process.stderr.read(), b"")


class Store(Test):
    def test_T15_what_cannot_be_written_is_said_and_fails_nothing(self):
        os.makedirs(self.box.path("home/.cache"))
        with open(self.box.path("home/.cache/coalesce"), "w"):
            pass
        status, out, err = self.box.run("--ttl", "1h", "-c", COUNTED)
        self.assertEqual((status, out), (0, "out\n"))
        self.assertEqual(err.replace("err\n", "", 1).count("\n"), 1)
        self.assertIn("not kept: ", err)

    def test_T15_a_full_disk(self):
        mount = self.box.path("small")
        os.mkdir(mount)
        if os.geteuid() != 0 or subprocess.call(
            ["mount", "-t", "tmpfs", "-o", "size=64k,mode=0700", "none", mount], stderr=subprocess.DEVNULL
        ):
            self.skipTest("T15 a full disk: no mount")
        self.addCleanup(subprocess.call, ["umount", "-l", mount])
        status, out, err = self.box.run("--ttl", "1h", "--cache-dir", mount, "-c", "head -c 200000 /dev/zero")
        self.assertEqual((status, len(out)), (0, 200000))
        self.assertIn("No space left on device", err)
        self.assertEqual(self.box.entries(mount), [])
        self.assertEqual(self.box.run("--ttl", "1h", "--cache-dir", mount, "-c", COUNTED)[0], 0)
        self.assertEqual(len(self.box.entries(mount)), 1)

    def test_T15_a_damaged_entry_is_removed_and_run_again(self):
        self.box.run("--ttl", "1h", "-c", COUNTED)
        (path,) = self.box.entries()
        with open(path, "rb") as file:
            whole = file.read()
        for spoilt in (b"", whole[:100], whole[:-1], whole[:300] + b"x" + whole[301:], os.urandom(len(whole))):
            before = self.box.runs()
            with open(path, "wb") as file:
                file.write(spoilt)
            self.assertEqual(self.box.run("--ttl", "1h", "-c", COUNTED), (0, "out\n", "err\n"))
            self.assertEqual(self.box.runs(), before + 1)

    def test_T16_where_it_is(self):
        self.box.run("--ttl", "1h", "true")
        (path,) = self.box.entries()
        self.assertEqual(mode_of(path), 0o600)
        self.assertEqual(mode_of(os.path.dirname(path)), 0o700)
        for name, words, env in (
            ("xdg/coalesce", (), {"XDG_CACHE_HOME": self.box.path("xdg")}),
            ("named", ("--cache-dir", self.box.path("named")), {}),
            ("variable", (), {"COALESCE_CACHE_DIR": self.box.path("variable")}),
            ("work/relative", ("--cache-dir", "relative"), {"COALESCE_CACHE_DIR": "/nowhere"}),
        ):
            self.box.run("--ttl", "1h", *words, "true", env=env)
            self.assertEqual(len(self.box.entries(self.box.path(name))), 1, name)
        self.assertEqual(len(self.box.entries()), 1)

    def test_T16_whatever_the_umask(self):
        self.box.run("--ttl", "1h", "-c", "umask; echo x", umask=0o777)
        self.box.clean()  # or the process that published may be making its own files yet
        directories = [os.path.dirname(path) for path in self.box.entries()]
        self.assertEqual([mode_of(path) for path in directories], [0o700])
        modes = {mode_of(os.path.join(directories[0], name)) for name in os.listdir(directories[0])}
        self.assertEqual(modes, {0o600})

    def test_T16_a_named_directory_serves_other_namespaces(self):
        unshare = ["unshare", "-mu"]
        if os.geteuid() != 0 or subprocess.call([*unshare, "true"], stderr=subprocess.DEVNULL):
            self.skipTest("T16 other namespaces: no unshare")
        def elsewhere(*words):
            return subprocess.run(
                [*unshare, COALESCE, "run", "--ttl", "1h", *words, "-c", COUNTED],
                cwd=self.box.work, env=self.box.env, capture_output=True, check=True,
            ).stdout

        self.box.run("--ttl", "1h", "-c", COUNTED)
        elsewhere()
        self.assertEqual(self.box.runs(), 2)
        named = ("--cache-dir", self.box.path("named"))
        self.box.run("--ttl", "1h", *named, "-c", COUNTED)
        self.assertEqual(elsewhere(*named), b"out\n")
        self.assertEqual(self.box.runs(), 3)

    def test_T16_below_another_users_home_nothing_is_made(self):
        if os.geteuid() != 0:
            self.skipTest("T16 another user's home: no root")
        os.chown(self.box.path("home"), 65534, 65534)
        status, out, err = self.box.run("--ttl", "1h", "-c", COUNTED)
        self.assertEqual((status, out), (0, "out\n"))
        self.assertIn("not kept: ", err)
        self.assertEqual(os.listdir(self.box.path("home")), [])

    def test_T19_one_that_is_too_long_is_not_kept(self):
        self.box.call("cache", "limits", "--max-entry", "100K")
        status, out, err = self.box.run("--ttl", "1h", "-v", "-c", "head -c 200000 /dev/zero")
        self.assertEqual((status, len(out)), (0, 200000))
        self.assertIn("the limit is 100 KiB", err)
        self.assertEqual(self.box.entries(), [])

    def test_T17_long_output_is_kept_for_its_time_once_it_has_been_synced(self):
        line = "echo run >>runs; head -c 200000 /dev/zero"
        self.box.run("--ttl", "1h", "-c", line)
        caches = self.box.path("home/.cache/coalesce")
        (store,) = os.listdir(caches)
        while not os.path.exists(os.path.join(caches, store, "cleaned")):  # which comes after the sync
            a_moment()
        (kept,) = map(json.loads, self.box.call("cache", "--json")[1].splitlines())
        self.assertEqual(kept["size"], 200000)
        self.assertGreater(kept["left"], 0)
        self.assertEqual(len(self.box.out("--ttl", "1h", "-c", line)), 200000)
        self.assertEqual(self.box.runs(), 1)

    def test_T21_forgotten_during_the_run_is_not_kept(self):
        for how in (("forget",), ("clear",)):
            with self.subTest(how=how):
                gate = self.box.gate("gate-" + how[0])
                line = f"echo out; read x <{gate}"
                shutil.rmtree(self.box.path("home/.cache"), ignore_errors=True)  # it is the first that might be kept
                process = self.box.start("run", "--ttl", "1h", "-v", "-c", line)
                self.assertEqual(process.stdout.readline(), b"out\n")
                self.assertEqual(self.box.call("cache", *how, *(("-c", line) if how == ("forget",) else ()))[0], 0)
                with open(gate, "w") as file:
                    file.write("\n")
                _, err = process.communicate()
                self.assertIn(b"forgotten", err)
                self.assertIn("nothing is kept", self.box.call("cache", "show", "-c", line)[2])

    def test_T22_no_secret_lies_on_disk(self):
        self.box.run("--ttl", "1h", "--stdin", "-c", "cat >/dev/null; echo out", input=b"s3cret-in",
                     env={"TOKEN": "s3cret-env"})
        for path in self.box.entries():
            with open(path, "rb") as file:
                self.assertNotIn(b"s3cret", file.read())
        self.assertEqual(len(self.box.entries()), 1)
        with open(path, "rb") as file:
            self.assertIn(b"TOKEN", file.read())  # which variables there were is no secret
        self.box.call("cache", "clear")
        self.box.run("--ttl", "1h", "--key", "the-key", "-c", "echo s3cret >/dev/null; : $TOKEN", env={"TOKEN": "s3cret-env"})
        (path,) = self.box.entries()
        with open(path, "rb") as file:
            written = file.read()
        self.assertNotIn(b"s3cret", written)
        self.assertIn(b"the-key", written)

    def test_T20_a_result_from_the_future_is_not_served(self):
        self.box.run("--ttl", "2d", "-c", COUNTED)
        self.box.age(-HOUR)
        self.box.run("--ttl", "2d", "-c", COUNTED)
        self.assertEqual(self.box.runs(), 2)
        self.box.run("--ttl", "2d", "-c", COUNTED)  # nor does it keep the present one out
        self.assertEqual(self.box.runs(), 2)

    def test_T24_what_happened_is_said_with_v(self):
        _, _, err = self.box.run("--ttl", "1d", "-v", "-c", COUNTED)
        self.assertIn("kept for 1d", err)
        self.box.age(2 * HOUR)
        _, _, err = self.box.run("--ttl", "1d", "-v", "-c", COUNTED)
        self.assertIn("kept result of ", err)
        told = re.search(r"^coalesce: kept result of (.*), (\d[^,()]*) old, made in (.*) \(ran (.*)\)$", err, re.M)
        self.assertGreaterEqual(seconds(told[2]), 2 * HOUR)
        self.assertEqual((told[1], told[3]), (COUNTED, self.box.work))
        self.assertLess(seconds(told[4]), HOUR)
        _, _, err = self.box.run("--ttl", "1d", "--stale", "1h", "-v", "-c", COUNTED)
        self.assertIn("refreshing", err)
        _, _, err = self.box.run("--ttl", "1h", "-v", "-c", "exit 3")
        self.assertIn("not kept: exit 3", err)


class Depending(Test):
    def ran(self, runs):
        """So many have run, and as many are kept: later than they are told, if looking at the files again takes long (T13)."""
        self.assertEqual(self.box.runs(), runs)
        while len(self.box.entries()) < runs:
            a_moment()

    def test_T9_files_are_parts_of_the_key(self):
        self.box.file("a", "1")
        ask = lambda *more: self.box.run("--ttl", "1h", *(more or ("--depends", "a")), "-c", COUNTED)
        ask()
        self.ran(1)
        ask()
        self.assertEqual(self.box.runs(), 1)
        self.box.file("a", "2")
        ask()
        self.ran(2)
        self.box.file("a", "1")
        ask()
        self.assertEqual(self.box.runs(), 2)
        os.unlink(os.path.join(self.box.work, "a"))
        ask()
        self.assertEqual(self.box.runs(), 3)

    def test_T9_two_states_are_two_flights(self):
        gate = self.box.gate()
        line = f"echo run >>runs; echo out; read x <{gate}"
        self.box.file("a", "1")
        one = self.box.start("run", "--depends", "a", "-c", line)
        self.assertEqual(one.stdout.readline(), b"out\n")
        self.box.file("a", "2")
        other = self.box.start("run", "--depends", "a", "-c", line)
        self.assertEqual(other.stdout.readline(), b"out\n")
        self.assertEqual(self.box.runs(), 2)

    def test_T9_modtime_and_lists(self):
        path = self.box.file("a", "1")
        os.utime(path, (1000, 1000))
        ask = lambda: self.box.run("--ttl", "1h", "--modtime", "a", "-c", COUNTED)
        ask()
        self.ran(1)
        self.box.file("a", "2")
        os.utime(path, (1000, 1000))
        ask()
        self.assertEqual(self.box.runs(), 1)
        os.utime(path, (1000, 1001))
        ask()
        self.ran(2)
        listed = lambda text: self.box.run("--ttl", "1h", "--depends-from", "-", "-c", COUNTED, input=text)
        listed(b"a\0")
        self.ran(3)
        listed(b"a\0")
        self.assertEqual(self.box.runs(), 3)
        self.box.file("list", "a\n")
        self.box.run("--ttl", "1h", "--depends-from", "list", "-c", COUNTED)
        self.assertEqual(self.box.runs(), 3)
        self.box.file("a", "3")
        listed(b"a\0")
        self.assertEqual(self.box.runs(), 4)

    def test_T9_a_list_of_nothing_is_not_none(self):
        self.box.run("--ttl", "1h", "-c", COUNTED)
        for _ in range(2):
            self.box.run("--ttl", "1h", "--depends-from", "-", "-c", COUNTED, input=b"")
            self.assertEqual(self.box.runs(), 2)

    def test_T2_a_joiner_elsewhere_keeps_in_the_directory_that_it_named(self):
        gate = self.box.gate()
        line = f"{COUNTED}; read x <{gate}"
        words = ("run", "--ignore-cwd", "--ttl", "1h", "--cache-dir", "cache", "-c", line)
        places = [os.path.dirname(self.box.file(f"{name}/x", "")) for name in ("one", "two")]
        asked = []
        for place in places:
            asked.append(self.box.start(*words, cwd=place))
            self.assertEqual(asked[-1].stdout.readline(), b"out\n")
        with open(gate, "w") as file:
            file.write("\n")
        for process in asked:
            self.assertEqual(process.wait(), 0)
        for place in places:
            self.assertEqual(self.box.call(*words, cwd=place)[1], "out\n")
        self.assertEqual(self.box.runs(os.path.join("one", "runs")), 1)

    def test_T9_equal_work_trees_share_with_ignore_cwd(self):
        for tree in ("one", "two"):
            self.box.file(f"{tree}/src/a", "1")
        ask = lambda tree: self.box.run(
            "--ttl", "1h", "--ignore-cwd", "--depends", "src", "-c", f"echo run >>{self.box.work}/runs",
            cwd=os.path.join(self.box.work, tree))
        ask("one")
        self.ran(1)
        ask("two")
        self.assertEqual(self.box.runs(), 1)
        self.box.file("two/src/b", "")
        ask("two")
        self.assertEqual(self.box.runs(), 2)

    def test_T9_what_cannot_be_read_is_refused(self):
        status, _, err = self.box.run("--depends", "/dev/null", "true")
        self.assertEqual(status, 125)
        self.assertIn("/dev/null", err)

    def test_T10_what_changed_during_the_run_is_not_kept(self):
        self.box.file("src/a", "1")
        said = ""
        while not said:  # if looking at the files again takes longer than a second, its requester is not told (T13)
            status, out, err = self.box.run("--ttl", "1h", "-v", "--depends", "src", "-c", "echo 2 >>src/a; echo out")
            self.assertEqual((status, out), (0, "out\n"))
            said = err.partition("kept")[2]
        self.assertIn("not kept: src/a changed during the run", err)
        self.assertEqual(self.box.entries(), [])


class Seeing(Test):
    def test_T23_list_show_forget_clear(self):
        self.box.run("--ttl", "1h", "-c", COUNTED)
        self.box.run("--ttl", "1h", "-c", "echo other")
        _, out, _ = self.box.call("cache")
        rows = out.splitlines()
        self.assertEqual(rows[0].split(), "KEY AGE LEFT EXIT RAN SIZE COMMAND".split())
        self.assertTrue(rows[1].endswith("echo other"), out)
        _, out, _ = self.box.call("cache", "list", "--json")
        facts = [json.loads(line) for line in out.splitlines()]
        self.assertEqual([fact["command"] for fact in facts], ["echo other", COUNTED])
        self.assertEqual(facts[1]["exit"], 0)
        self.assertEqual(self.box.call("cache", "show", "--output", "-c", COUNTED), (0, "out\n", "err\n"))
        self.assertIn("exit       0", self.box.call("cache", "show", facts[1]["key"][:8])[1])
        self.assertEqual(self.box.call("cache", "forget", facts[1]["key"][:8])[0], 0)
        status, _, err = self.box.call("cache", "show", facts[1]["key"])
        self.assertEqual(status, 1)
        self.assertIn("nothing is kept", err)
        self.assertEqual(len(self.box.entries()), 1)
        self.assertEqual(self.box.call("cache", "clear"), (0, "", ""))
        self.assertEqual(self.box.entries(), [])

    def test_T23_wrong_uses_are_told(self):
        for words, said in (
            (("nonsense",), "there is no operation 'nonsense'"),
            (("forget",), "which result?"),
            (("clear", "x"), "takes no command, and no id"),
            (("show", "a", "b"), "one id"),
        ):
            status, _, err = self.box.call("cache", *words)
            self.box.run("--ttl", "1h", "true")
            status, _, err = self.box.call("cache", *words)
            self.assertEqual(status, 125, words)
            self.assertIn(said, err)

    def test_T23_an_empty_id_names_no_result(self):
        # Every key begins with it, and a variable that is not set gives it.
        self.box.run("--ttl", "1h", "true")
        while not self.box.entries():
            a_moment()
        key = os.path.basename(self.box.entries()[0])
        for words in (("forget", ""), ("forget", key, ""), ("show", ""), ("show", "--output", "")):
            status, out, err = self.box.call("cache", *words)
            self.assertEqual((status, out), (125, ""), words)
            self.assertIn("an empty id names no result", err)
        self.assertEqual(len(self.box.entries()), 1)

    def test_T23_T25_all_are_seen_though_few_files_may_be_open(self):
        # Each was held open until all had been seen, and what could no longer be opened was passed over.
        few = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (20, 20))
        ask = lambda *words: self.box.call(*words, preexec_fn=few)
        self.box.run("--ttl", "1h", "-c", "echo many")
        while not self.box.entries():
            a_moment()
        (one,) = self.box.entries()
        many = [f"{number:032x}" for number in range(50)]
        for key in many:
            shutil.copy2(one, os.path.join(os.path.dirname(one), key))
        self.box.run("--ttl", "1h", "-c", COUNTED)
        while len(self.box.entries()) < 52:
            a_moment()
        status, out, err = ask("cache", "list", "--json")
        self.assertEqual((status, err), (0, ""))
        listed = sorted(json.loads(line)["key"] for line in out.splitlines())
        self.assertEqual(listed, sorted(map(os.path.basename, self.box.entries())))
        self.assertIn("differs in scope\n", ask("key", "--scope", "x", "-c", COUNTED)[1])
        for key in many:
            self.assertEqual(ask("cache", "show", "--output", key), (0, "many\n", ""))
        for operation in ("show", "forget"):
            status, _, err = ask("cache", operation, "0" * 30)
            self.assertEqual(status, 125)
            self.assertIn("is the beginning of 50 keys", err)
        self.assertEqual(ask("cache", "forget", *many), (0, "", ""))
        self.assertEqual(len(self.box.entries()), 2)

    def test_T23_options_of_one_operation_are_refused_by_the_others(self):
        for words, said in (
            (("list", "--max-size", "1G"), "coalesce cache limits"),
            (("--max-results", "5"), "coalesce cache limits"),
            (("limits", "--max-results", "0"), "a limit of 0"),
            (("limits", "--max-size", "0"), "a limit of 0"),
            (("list", "--output"), "--output is for show"),
        ):
            status, out, err = self.box.call("cache", *words)
            self.assertEqual((status, out), (125, ""), words)
            self.assertIn(said, err)

    def test_T23_T25_what_cannot_be_opened_is_not_passed_over_in_silence(self):
        self.box.run("--ttl", "1h", "-c", COUNTED)
        while not self.box.entries():
            a_moment()
        (own,) = self.box.entries()
        link = os.path.join(os.path.dirname(own), "0" * 32)
        os.symlink(own, link)
        status, out, err = self.box.call("cache")
        self.assertEqual((status, out.count("\n"), err.count("\n")), (125, 2, 1))  # the other one is listed
        self.assertIn(f"cannot read {link}: ", err)
        for more in ((), ("--output",)):
            self.assertEqual(self.box.call("cache", "show", *more, "0" * 32), (125, "", err))
        status, out, told = self.box.call("key", "--scope", "x", "-c", COUNTED)
        self.assertEqual((status, told), (0, err))
        self.assertIn("differs in scope", out)

    def test_T19_clean_and_limits(self):
        for number in range(5):
            self.box.run("--ttl", "1h", "-c", f"echo {number}")
        self.assertIn("1 GiB", self.box.call("cache", "limits")[1])
        self.assertIn("results      3", self.box.call("cache", "limits", "--max-results", "3")[1])
        self.assertIn("removed", self.box.clean()[1])
        self.assertLessEqual(len(self.box.entries()), 3)
        self.box.age(2 * HOUR, some=False)
        self.box.clean()
        self.assertEqual(self.box.entries(), [])

    def test_T25_key_says_what_is_kept(self):
        self.assertIn("not kept", self.box.call("key", "-c", COUNTED)[1])
        self.box.run("--ttl", "1d", "-c", COUNTED, env={"CI_JOB_ID": "1"})
        self.box.age(2 * HOUR)
        _, told, _ = self.box.call("key", "-c", COUNTED, env={"CI_JOB_ID": "1"})
        self.assertGreaterEqual(seconds(re.search(r"kept: (.*) old, exit 0", told)[1]), 2 * HOUR)
        self.assertIn("not served: ", self.box.call("key", "-c", COUNTED, env={"CI_JOB_ID": "2"})[1])
        self.assertIn("differs in environment: CI_JOB_ID",
                      self.box.call("key", "-c", COUNTED, env={"CI_JOB_ID": "2"})[1])

    def test_T25_dependencies_are_parts_of_it(self):
        self.box.file("src/a", "1")
        self.box.run("--ttl", "1d", "--depends", "src", "-c", COUNTED)
        while not self.box.entries():
            a_moment()
        told = self.box.call("key", "--depends", "src", "-c", COUNTED)[1]
        self.assertIn("depends: src", told)
        self.assertIn("kept: ", told)
        self.box.file("src/a", "2")
        told = self.box.call("key", "--depends", "src", "-c", COUNTED)[1]
        self.assertRegex(told, r"\nnot served: \w+ differs in depends: src\n")

    def test_T26_status_lists_flights_only(self):
        for _ in range(2):
            self.box.run("--ttl", "1h", "-c", COUNTED)
        self.box.nothing_in_flight()  # though a result is kept
        self.assertEqual(len(self.box.entries()), 1)

    def test_T26_stats_count_hits_and_refreshes(self):
        for _ in range(3):
            self.box.run("--ttl", "1h", "-c", COUNTED)
        kept = lambda: json.loads(self.box.call("stats", "--json")[1])["kept"]
        self.assertEqual((kept()["hits"], kept()["refreshes"]), (2, 0))
        self.box.age(2 * HOUR)
        gate = self.box.gate()
        line = f"{COUNTED}; [ $(wc -l <runs) != 3 ] || read x <{gate}"
        self.box.run("--ttl", "2d", "-c", line)
        self.box.age(2 * HOUR)
        for _ in range(3):
            self.box.run(*STALE, "-c", line)
        with open(gate, "w") as file:
            file.write("\n")
        self.box.nothing_in_flight()
        self.assertEqual((kept()["hits"], kept()["refreshes"]), (5, 1))


if __name__ == "__main__":
    main()
