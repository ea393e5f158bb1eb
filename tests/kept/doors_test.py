#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What is kept, through batch and server: SPEC T1–T28 by side effects, one table for both doors.

run_test.py asks the same of `coalesce run`. A request is one line for either door here; its answer is
told as exit status, standard output, standard error and, as JSON has it, the rest.
"""

import fcntl
import json
import os
import resource
import struct
import subprocess
import termios

from doors import Batch, Server
from sandbox import COALESCE, HOUR, Test, a_moment, main

COUNTED = "echo run >>runs; echo out; echo err >&2"
STALE = {"ttl": "2d", "stale": "1h"}  # which a result of two hours is past, and one of a test never


class Table:
    """What both doors answer. A subclass says which it is."""

    def setUp(self):
        super().setUp()
        self.door = self.open()
        self.addCleanup(lambda: self.door.close())

    def ask(self, line, **wish):
        answer = self.door.ask(line, **wish)
        self.last = answer
        return answer.get("exit"), answer.get("stdout"), answer.get("stderr")

    def release(self, gate):
        with open(gate, "w") as file:
            file.write("\n")

    def test_T1_who_does_not_ask_is_served_nothing_and_leaves_nothing(self):
        for _ in range(2):
            self.ask(COUNTED)
        self.assertEqual(self.box.runs(), 2)
        self.assertFalse(os.path.exists(self.box.path("home/.cache")))
        self.ask(COUNTED, ttl="1h")
        self.ask(COUNTED)
        self.assertNotIn("kept", self.last)
        self.assertEqual(self.box.runs(), 4)

    def test_T1_without_it_no_file_of_the_store_is_opened(self):
        os.makedirs(self.box.path("home/.cache"))
        os.mkfifo(self.box.path("home/.cache/coalesce"))  # whoever opened that would hang
        self.assertEqual(self.ask("echo out"), (0, "out\n", ""))

    def test_T2_T14_a_hit_is_exact_and_runs_nothing(self):
        first = self.ask(COUNTED, ttl="1h")
        self.assertEqual(first, (0, "out\n", "err\n"))
        self.assertEqual(self.ask(COUNTED, ttl="1h"), first)
        self.assertEqual(self.box.runs(), 1)

    def test_T2_the_readers_time_decides(self):
        self.ask(COUNTED, ttl="1h")
        self.box.age(HOUR / 2)
        self.ask(COUNTED, ttl="45m")
        self.assertEqual(self.box.runs(), 1)
        self.ask(COUNTED, ttl="15m")
        self.assertEqual(self.box.runs(), 2)

    def test_T2_zero_is_none(self):
        self.ask(COUNTED, ttl="0")
        self.assertEqual(self.box.entries(), [])

    def test_T3_max_age_counts_from_the_start_and_keeps_nothing(self):
        self.ask(COUNTED, max_age="1h")
        self.assertEqual(self.box.entries(), [])
        self.ask(COUNTED, ttl="1h")
        self.box.age(10, also_started=HOUR)
        self.ask(COUNTED, max_age="2h")
        self.assertEqual(self.box.runs(), 2)
        self.ask(COUNTED, max_age="1h")
        self.assertEqual(self.box.runs(), 3)

    def test_F7_fresh_with_ttl_reads_nothing_and_keeps(self):
        self.ask(COUNTED, ttl="1h")
        self.ask(COUNTED, ttl="1h", fresh=True)
        self.assertEqual(self.box.runs(), 2)
        self.ask(COUNTED, ttl="1h")
        self.assertEqual(self.box.runs(), 2)

    # The refresh is held, so whoever waited for it would hang here.
    def test_T4_a_stale_hit_is_served_at_once_and_refreshed_once(self):
        gate = self.box.gate()
        line = f"echo run >>runs; wc -l <runs; [ $(wc -l <runs) = 1 ] || read x <{gate}"
        stale = lambda: self.ask(line, **STALE)
        self.assertEqual(stale()[1], "1\n")
        self.assertNotIn("kept", self.last)
        self.box.age(2 * HOUR)
        for _ in range(5):
            self.assertEqual(stale(), (0, "1\n", ""))
            self.assertTrue(self.last["kept"]["refreshing"])
        self.in_flight()
        self.assertEqual(self.box.status()[0]["state"], "refreshing")
        self.release(gate)
        self.box.nothing_in_flight()
        self.assertEqual(stale()[1], "2\n")
        self.assertEqual(self.box.runs(), 2)

    def test_T4_T14_a_refresh_goes_by_the_shell_of_its_door(self):
        ask = self.by_shell(self.box.file("shell", '#!/bin/sh\necho run >>runs\necho "asked: $2"\n', 0o755))
        ask("id", ttl="2d")
        self.box.age(2 * HOUR)
        self.assertEqual(ask("id", **STALE), (0, "asked: id\n", ""))
        while self.last["kept"]["refreshing"]:
            a_moment()
            self.assertEqual(ask("id", **STALE), (0, "asked: id\n", ""))
        self.assertEqual(self.box.runs(), 2)

    def in_flight(self):
        while not self.box.status():
            a_moment()

    def test_T4_the_refresh_of_one_door_is_joined_and_cancelled_by_others(self):
        gate = self.box.gate()
        line = f"echo run >>runs; wc -l <runs; [ $(wc -l <runs) = 1 ] || read x <{gate}"
        self.ask(line, ttl="2d")
        self.box.age(2 * HOUR)
        self.ask(line, **STALE)
        self.in_flight()
        joiner = self.box.start("run", "-c", line)
        self.assertEqual(joiner.stdout.readline(), b"2\n")
        self.assertEqual(self.box.call("cancel", self.box.status()[0]["id"])[0], 0)
        self.assertEqual(joiner.wait(), 125)
        self.box.nothing_in_flight()
        self.assertEqual(self.ask(line, ttl="2d")[1], "1\n")

    def test_P4_a_refresh_has_the_terminal_that_its_key_names(self):
        line = "echo run >>runs; [ $(wc -l <runs) = 1 ] || echo again; test -t 1 && test -t 2 && echo terminal || echo pipe"
        stale = lambda: self.ask(line, **STALE, pty=True)
        self.assertEqual(stale(), (0, "terminal\n", ""))
        self.box.age(2 * HOUR)
        self.assertEqual(stale(), (0, "terminal\n", ""))
        while self.box.runs() < 2:
            a_moment()
        self.box.nothing_in_flight()
        self.assertEqual(stale(), (0, "again\nterminal\n", ""))

    def test_C1_a_refresh_waits_for_its_turn_as_its_request_would(self):
        gate = self.box.gate()
        line = "echo run >>runs; wc -l <runs"
        stale = lambda: self.door.ask(line, **STALE, **{"class": "c"})["stdout"]
        self.assertEqual(stale(), "1\n")
        self.box.age(2 * HOUR)
        held = self.box.start("run", "--class", "c", "-c", f"echo begun; read x <{gate}")
        self.assertEqual(held.stdout.readline(), b"begun\n")
        self.assertEqual(stale(), "1\n")
        while len(flights := self.box.status()) < 2:
            self.assertEqual(self.box.runs(), 1)
        self.assertEqual([flight["class"] for flight in flights], ["c", "c"])
        self.release(gate)
        self.box.nothing_in_flight()
        self.assertEqual(stale(), "2\n")

    def test_T5_a_refresh_that_fails_leaves_the_old_result_and_counts_as_tried(self):
        line = "echo run >>runs; echo good; [ $(wc -l <runs) = 1 ]"
        stale = lambda: self.ask(line, **STALE)
        self.assertEqual(stale()[0], 0)
        self.box.age(2 * HOUR)
        self.assertEqual(stale(), (0, "good\n", ""))
        while self.box.runs() < 2:
            a_moment()
        self.box.nothing_in_flight()
        for _ in range(3):
            self.assertEqual(stale(), (0, "good\n", ""))
            self.assertFalse(self.last["kept"]["refreshing"])  # one that has just been started is not in flight yet
            self.box.nothing_in_flight()
        self.assertEqual(self.box.runs(), 2)

    def test_T6_warm_prints_nothing_and_returns_at_once(self):
        gate = self.box.gate()
        line = f"echo run >>runs; echo out; read x <{gate}"
        self.assertEqual(self.ask(line, ttl="1h", warm=True), (0, "", ""))
        self.in_flight()
        self.assertEqual(self.ask(line, ttl="1h", warm=True), (0, "", ""))
        self.release(gate)
        self.box.nothing_in_flight()
        self.assertEqual(self.box.runs(), 1)
        self.assertEqual(self.ask(line, ttl="1h")[1], "out\n")
        self.assertEqual(self.ask(line, ttl="1h", warm=True), (0, "", ""))
        self.assertEqual(self.box.runs(), 1)

    def test_T7_failures_are_kept_apart_and_only_if_asked(self):
        line = "echo run >>runs; echo no; exit 3"
        for expected in (1, 2):
            self.assertEqual(self.ask(line, ttl="1h")[0], 3)
            self.assertEqual(self.box.runs(), expected)
        for _ in range(2):
            self.assertEqual(self.ask(line, ttl="1h", keep_failures="30m"), (3, "no\n", ""))
        self.assertEqual(self.box.runs(), 3)
        self.ask(line, ttl="1h")
        self.assertEqual(self.box.runs(), 4)
        self.box.age(HOUR / 2)
        self.ask(line, ttl="1h", keep_failures="30m")
        self.assertEqual(self.box.runs(), 5)

    def test_T7_what_did_not_end_by_itself_is_never_kept(self):
        for line in ("kill -TERM $$", "/no/such", "exit 127"):
            self.ask(line, ttl="1h", keep_failures="1h")
        self.assertEqual(self.box.entries(), [])

    def test_T12_one_store_and_one_key_for_all_doors(self):
        self.ask(COUNTED, ttl="1h")
        self.assertEqual(self.box.run("--ttl", "1h", "-c", COUNTED), (0, "out\n", "err\n"))
        self.assertEqual(self.box.runs(), 1)
        self.box.run("--ttl", "1h", "-c", "echo other >>runs; echo other")
        self.assertEqual(self.ask("echo other >>runs; echo other", ttl="1h")[1], "other\n")
        self.assertEqual(self.box.runs(), 2)

    def test_T13_a_live_run_does_not_keep_a_hit_waiting(self):
        gate = self.box.gate()
        line = f"echo run >>runs; echo $(wc -l <runs) | tee told; [ $(wc -l <runs) = 1 ] || read x <{gate}"
        self.ask(line, ttl="1h")
        held = self.door.begin(line)
        while self.box.runs() < 2:
            a_moment()
        self.assertEqual(self.ask(line, ttl="1h")[1], "1\n")
        self.release(gate)
        self.assertEqual(self.door.answer(held)["stdout"], "2\n")

    def test_T14_bytes_streams_and_large_output(self):
        line = "printf 'no newline' >&2; head -c 3000000 /dev/zero | tr '\\0' x"
        first = self.ask(line, ttl="1h")
        self.assertEqual(len(first[1]), 3000000)
        self.assertEqual(self.ask(line, ttl="1h"), first)
        self.assertIn("kept", self.last)

    def test_T15_what_cannot_be_written_is_said_and_fails_nothing(self):
        os.makedirs(self.box.path("home/.cache"))
        with open(self.box.path("home/.cache/coalesce"), "w"):
            pass
        self.assertEqual(self.ask(COUNTED, ttl="1h"), (0, "out\n", "err\n"))
        self.assertEqual(self.told().count("not kept: "), 1)

    def test_T15_a_damaged_entry_is_removed_and_run_again(self):
        self.ask(COUNTED, ttl="1h")
        (path,) = self.box.entries()
        with open(path, "rb") as file:
            whole = file.read()
        for spoilt in (b"", whole[:-1], whole[:300] + b"x" + whole[301:]):
            before = self.box.runs()
            with open(path, "wb") as file:
                file.write(spoilt)
            self.assertEqual(self.ask(COUNTED, ttl="1h"), (0, "out\n", "err\n"))
            self.assertEqual(self.box.runs(), before + 1)

    def test_T19_one_that_is_too_long_is_not_kept(self):
        self.box.call("cache", "limits", "--max-entry", "100K")
        self.assertEqual(len(self.ask("head -c 200000 /dev/zero | tr '\\0' x", ttl="1h")[1]), 200000)
        self.assertEqual(self.box.entries(), [])

    def test_T21_forgotten_during_the_run_is_not_kept(self):
        gate = self.box.gate()
        line = f"echo run >>runs; echo out; read x <{gate}"
        held = self.door.begin(line, ttl="1h")
        while not self.box.runs():
            a_moment()
        self.assertEqual(self.box.call("cache", "forget", "-c", line)[0], 0)
        self.release(gate)
        self.assertEqual(self.door.answer(held)["stdout"], "out\n")
        self.assertIn("nothing is kept", self.box.call("cache", "show", "-c", line)[2])

    def test_T26_an_answer_tells_what_was_kept(self):
        self.ask(COUNTED, ttl="1h")
        first = self.last
        self.box.age(250)
        self.ask(COUNTED, ttl="1h")
        self.assertFalse(self.last["joined"])
        self.assertAlmostEqual(self.last["started"] + 250, first["started"], places=3)
        self.assertGreater(self.last["duration"], 0)
        kept = self.last["kept"]
        self.assertEqual(sorted(kept), ["age", "left", "refreshing"])
        self.assertGreaterEqual(kept["age"], 250)
        self.assertLessEqual(kept["left"], 3600 - 250)
        self.assertFalse(kept["refreshing"])

    def test_T26_hits_of_this_door_are_counted(self):
        for _ in range(3):
            self.ask("sleep 0.01; " + COUNTED, ttl="1h")
        while (kept := json.loads(self.box.call("stats", "--json")[1]).get("kept", {})).get("hits") != 2:
            a_moment()
        self.assertEqual(kept["refreshes"], 0)

    def test_T26_a_refresh_counts_once_for_all_who_were_served_the_old(self):
        self.ask(COUNTED, ttl="2d")
        self.box.age(2 * HOUR)
        for _ in range(5):
            self.ask(COUNTED, **STALE)
        while self.box.runs() < 2:
            a_moment()
        self.box.nothing_in_flight()
        self.assertEqual(json.loads(self.box.call("stats", "--json")[1])["kept"]["refreshes"], 1)


class BatchTable(Table, Test):
    def open(self):
        return Batch(self.box)

    def by_shell(self, shell):
        return lambda line, **wish: self.ask(line, shell=shell, **wish)

    def told(self):
        return self.last["said"]

    def lines(self, *words, input, **more):
        return self.box.call(*words, input=input.encode(), **more)

    def test_T2_the_variable_is_the_default_and_a_request_has_its_own(self):
        for _ in range(2):
            self.ask(COUNTED, env={"COALESCE_TTL": "1h"})
        self.assertEqual(self.box.runs(), 1)
        self.lines("--ttl", "0", input=COUNTED, env={"COALESCE_TTL": "1h"})
        self.assertEqual(self.box.runs(), 2)
        own = json.dumps({"line": COUNTED, "ttl": 0})
        self.lines("--json", "--ttl", "1h", "--stale", "1s", input=own)
        self.assertEqual(self.box.runs(), 3)
        self.lines("--json", "--ttl", "1h", input=json.dumps({"line": COUNTED}))
        self.assertEqual(self.box.runs(), 3)

    def test_T3_a_live_run_that_started_earlier_is_not_joined(self):
        gate = self.box.gate()
        line = f"echo run >>runs; echo out; until read x <{gate}; do :; done"
        process = self.box.start("--json", "-j0", stdin=subprocess.PIPE)
        ask = lambda **wish: process.stdin.write(json.dumps({"line": line, **wish}).encode() + b"\n")
        ask()
        process.stdin.flush()
        while not self.box.runs():
            a_moment()
        ask(max_age=3600)
        ask(max_age=0.001)
        ask(max_age=0.001)
        # The store is asked in order: when this has been, those before it have.
        process.stdin.write(json.dumps({"line": "echo asked", "max_age": 3600}).encode() + b"\n")
        process.stdin.flush()
        self.assertEqual(process.stdout.readline(), b"asked\n")
        self.release(gate)
        while self.box.runs() < 2:
            a_moment()
        self.release(gate)
        process.stdin.close()
        process.stdin = None
        self.assertEqual(process.communicate()[0], b"out\n" * 4)
        self.assertEqual(self.box.runs(), 2)

    def test_T4_a_crowd_of_stale_lines_is_one_refresh(self):
        gate = self.box.gate()
        line = f"echo run >>runs; wc -l <runs; [ $(wc -l <runs) = 1 ] || read x <{gate}"
        self.ask(line, ttl="2d")
        self.box.age(2 * HOUR)
        self.assertEqual(self.lines("--ttl", "2d", "--stale", "1h", input=f"{line}\n" * 500), (0, "1\n" * 500, ""))
        self.in_flight()
        self.release(gate)
        self.box.nothing_in_flight()
        self.assertEqual(self.box.runs(), 2)

    def test_T11_who_joins_does_not_keep_it_as_another_programs(self):
        """The gate is opened by the last line, for which the store is asked after those before it: they have joined by then."""
        gate = self.box.gate()
        tool = self.box.file("tool", f"#!/bin/sh\necho run >>runs; read x <{gate}; echo old\n", 0o755)
        request = json.dumps({"argv": [tool], "ttl": 3600}) + "\n"
        process = self.box.start("-j2", "--format", "json", "--json", stdin=subprocess.PIPE)
        process.stdin.write(json.dumps({"argv": [tool]}).encode() + b"\n")
        process.stdin.flush()
        while not self.box.runs():
            a_moment()
        os.rename(self.box.file("new", "#!/bin/sh\necho new\n", 0o755), tool)
        process.stdin.write(request.encode() + json.dumps({"line": f"echo >{gate}", "max_age": 3600}).encode() + b"\n")
        out, _ = process.communicate()
        self.assertEqual(sorted(json.loads(line)["stdout"] for line in out.splitlines()), ["", "old\n", "old\n"])
        self.assertEqual(json.loads(self.lines("--format", "json", "--json", input=request)[1])["stdout"], "new\n")

    def test_T7_retries_ignore_kept_failures(self):
        line = "echo run >>runs; [ $(wc -l <runs) = 3 ]"
        self.ask(line, ttl="1h", keep_failures="1h")
        self.assertEqual(self.ask(line, ttl="1h", keep_failures="1h")[0], 1)
        self.assertEqual(self.box.runs(), 1)
        self.assertEqual(self.ask(line, ttl="1h", keep_failures="1h", retries="5")[0], 0)
        self.assertEqual(self.box.runs(), 3)

    def test_T9_dependencies_are_for_run_alone(self):
        status, _, err = self.lines("--depends", "a", input="true")
        self.assertEqual(status, 125)
        self.assertIn("--depends", err)

    def test_T13_lines_are_led_in_the_order_of_the_input(self):
        lines = "".join(f"echo {number} >>runs\n" for number in range(50))
        self.assertEqual(self.lines("-j1", "--ttl", "1h", input=lines)[0], 0)
        self.assertEqual(self.box.read("runs"), "".join(f"{number}\n" for number in range(50)))

    def test_T16_the_directory_may_be_named(self):
        for words, env in ((("--cache-dir", self.box.path("named")), {}), ((), {"COALESCE_CACHE_DIR": self.box.path("named")})):
            self.lines("--ttl", "1h", *words, input=COUNTED, env=env)
        self.assertEqual(len(self.box.entries(self.box.path("named"))), 1)
        self.assertEqual(self.box.runs(), 1)

    def test_T26_report_and_joblog(self):
        self.lines("--ttl", "1h", input=COUNTED)
        self.lines("--ttl", "1h", "--report", "report", "--joblog", "joblog", "--html", "page", "-v", input=COUNTED)
        report = json.loads(self.box.read("report"))
        self.assertEqual(sorted(report["kept"]), ["age", "left", "refreshing"])
        self.assertFalse(report["joined"])
        self.assertGreater(report["run_time"], 0)
        self.assertLess(report["started"], report["requested"])
        row = self.box.read("joblog").splitlines()[1].split("\t")
        self.assertEqual(float(row[3]), 0)
        self.assertIn("<td class=\"number\">1</td>", self.box.read("page").split("Kept</th>")[1])
        self.assertEqual(self.box.runs(), 1)

    def test_T28_wrong_uses_are_told(self):
        for words, said in (
            (("--stale", "5s"), "--stale needs --ttl"),
            (("--ttl", "5s", "--stale", "5s"), "--stale must be shorter than --ttl"),
            (("--keep-failures", "5s"), "--keep-failures needs --ttl"),
            (("--warm",), "--warm"),
        ):
            status, out, err = self.lines(*words, input="true")
            self.assertEqual((status, out), (125, ""))
            self.assertIn(said, err)
        status, _, err = self.lines("--json", input=json.dumps({"line": "true", "stale": 5}))
        self.assertEqual(status, 123)
        self.assertIn('"stale" needs "ttl"', err)

    def test_once_and_ttl_together(self):
        line = "echo run >>runs; wc -l <runs"
        for _ in range(2):  # from the first on disk, from then on in memory
            self.assertEqual(self.lines("--ttl", "1h", "--once", "-j1", input=f"{line}\ntrue\n{line}\n"), (0, "1\n1\n", ""))
        self.assertEqual(self.box.runs(), 1)
        self.box.call("cache", "clear")
        self.assertEqual(self.lines("--ttl", "1h", "--once", input=f"{line}\n" * 3)[1], "2\n" * 3)
        self.assertEqual(self.ask(line, ttl="1h")[1], "2\n")

    def test_B2_what_was_kept_is_printed_by_the_first_who_wants_its_output(self):
        self.ask("echo one", ttl="1h")
        lines = [{"id": 1, "line": "echo one", "output": "none"}, {"id": 2, "line": "echo one"}, {"id": 3, "line": "echo one"}]
        status, out, _ = self.lines("--json", "--unique", "--once", "--ttl", "1h", input="\n".join(map(json.dumps, lines)))
        self.assertEqual((status, out), (0, "one\n"))

    def test_F14_T15_hits_wait_for_their_reader_and_hold_few_files(self):
        lines = "".join(f"echo run >>runs; head -c 1100000 /dev/zero; : {i}\n" for i in range(200)).encode()
        with open(os.devnull, "wb") as null:
            subprocess.run([COALESCE, "-j2", "--ttl", "1h"], input=lines, stdout=null, cwd=self.box.work,
                           env=self.box.env, check=True)
        self.assertEqual(self.box.runs(), 200)
        few = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (180, 180))
        process = self.box.start("--ttl", "1h", stdin=subprocess.PIPE, preexec_fn=few)
        process.stdin.write(lines)
        process.stdin.close()
        process.stdin = None
        while not self.waits_for_its_reader(process):
            a_moment()
        out, err = process.communicate()
        self.assertEqual((process.returncode, err, len(out)), (0, b"", 200 * 1100000))
        self.assertEqual(self.box.runs(), 200)

    @staticmethod
    def waits_for_its_reader(process):
        """It has written something, and all its threads are asleep."""
        unread = struct.unpack("i", fcntl.ioctl(process.stdout, termios.FIONREAD, b"\0" * 4))[0]
        threads = f"/proc/{process.pid}/task"
        states = set()
        for thread in os.listdir(threads):
            with open(f"{threads}/{thread}/stat") as file:
                states.add(file.read().rpartition(")")[2].split()[0])
        return unread > 0 and states == {"S"}

    def test_halt_and_order_with_what_is_kept(self):
        self.ask("echo one", ttl="1h")
        lines = "sleep 0.05; echo first\necho one\necho two\n"
        self.assertEqual(self.lines("-k", "--ttl", "1h", input=lines), (0, "first\none\ntwo\n", ""))
        self.ask("exit 5", ttl="1h", keep_failures="1h")
        status, _, _ = self.lines("-j1", "--ttl", "1h", "--keep-failures", "1h", "--halt", "soon,fail=1",
                                  input="exit 5\nsleep 0.01; echo run >>runs\n" + "sleep 0.01\n" * 20)
        self.assertEqual(status, 5)


class ServerTable(Table, Test):
    def open(self):
        return Server(self.box)

    def by_shell(self, shell):
        self.door.close()
        self.door = Server(self.box, "--shell", shell)
        return self.ask

    def told(self):
        return self.door.logged()

    def streamed(self, line, output="stream", **wish):
        """Events, and what came of both streams."""
        with self.door.connect() as connection:
            connection.send(self.door.request(line, output=output, **wish))
            events, came = [], {"stdout": b"", "stderr": b""}
            while not events or "exit" not in events[-1]:
                event = connection.message()
                events.append(event)
                if "offset" in event:
                    came[event["event"]] += os.pread(connection.fds[0], event["bytes"], event["offset"])
                elif event["event"] in came:
                    came[event["event"]] += connection.bytes(event["bytes"])
        return events, came

    def through(self, *words, **more):
        """coalesce run, which asks this server."""
        return self.box.run("--socket", self.door.path, *words, **more)

    def test_T2_a_joiners_wish_is_enough(self):
        gate = self.box.gate()
        line = f"{COUNTED}; read x <{gate}"
        leader = self.door.begin(line)
        while not self.box.runs():
            a_moment()
        joiner = self.door.begin(line, ttl="1h")
        while self.flights()[0]["requesters"] < 2:
            a_moment()
        self.release(gate)
        self.assertNotIn("kept", self.door.answer(leader))
        self.assertTrue(self.door.answer(joiner)["joined"])
        self.assertEqual(self.ask(line, ttl="1h"), (0, "out\n", "err\n"))
        self.assertEqual(self.box.runs(), 1)

    def test_T11_who_joins_does_not_keep_it_as_another_programs(self):
        gate = self.box.gate()
        tool = self.box.file("tool", f"#!/bin/sh\necho run >>runs; read x <{gate}; echo old\n", 0o755)
        request = {"argv": [tool], "cwd": self.box.work}
        with self.door.connect() as connection:
            connection.send({"id": 1, **request})
            while not self.box.runs():
                a_moment()
            os.rename(self.box.file("new", "#!/bin/sh\necho new\n", 0o755), tool)
            connection.send({"id": 2, **request, "ttl": 3600})
            while self.flights()[0]["requesters"] < 2:
                a_moment()
            self.release(gate)
            self.assertEqual([connection.message()["stdout"] for _ in range(2)], ["old\n"] * 2)
            connection.send({"id": 3, **request, "ttl": 3600})
            self.assertEqual(connection.message()["stdout"], "new\n")

    def flights(self):
        with self.door.connect() as connection:
            connection.send({"op": "status"})
            return connection.message()["flights"]

    def test_T3_a_live_run_that_started_earlier_is_not_joined(self):
        gate = self.box.gate()
        line = f"echo run >>runs; echo out; until read x <{gate}; do :; done"
        leader = self.door.begin(line)
        while not self.box.runs():
            a_moment()
        crowd = [self.door.begin(line, max_age="1h"), self.door.begin(line, max_age="1ms"), self.door.begin(line, max_age="1ms")]
        while sum(flight["requesters"] for flight in self.flights()) < 4:
            a_moment()
        self.release(gate)
        self.door.answer(leader)
        while self.box.runs() < 2:
            a_moment()
        self.release(gate)
        self.assertEqual([self.door.answer(one)["joined"] for one in crowd], [True, False, True])
        self.assertEqual(self.box.runs(), 2)

    def test_T8_a_connection_that_goes_leaves_the_run_for_the_store(self):
        gate = self.box.gate()
        line = f"echo run >>runs; echo out; read x <{gate}"
        with self.door.begin(line, ttl="1h"):
            while not self.box.runs():
                a_moment()
        while [flight["requesters"] for flight in self.flights()] != [0]:
            a_moment()
        self.release(gate)
        while self.flights():
            a_moment()
        self.assertEqual(self.ask(line, ttl="1h")[1], "out\n")
        self.assertEqual(self.box.runs(), 1)

    def test_T8_F12_for_the_store_alone_nothing_is_begun(self):
        self.door.close()
        self.door = Server(self.box, "-j1")
        gate = self.box.gate()
        held = self.door.begin(f"read x <{gate}; echo held")
        while [flight["state"] for flight in self.flights()] != ["running"]:
            a_moment()
        with self.door.begin("echo run >>runs", ttl="1h"):
            while len(self.flights()) != 2:
                a_moment()
        while len([flight for flight in self.flights() if flight["requesters"]]) != 1:
            a_moment()
        self.release(gate)
        self.assertEqual(self.door.answer(held)["stdout"], "held\n")
        while self.flights():
            a_moment()
        self.assertEqual(self.box.runs(), 0)

    def test_T8_who_leaves_or_gives_up_ends_it(self):
        gate = self.box.gate()
        line = f"echo run >>runs; echo out; read x <{gate}"
        connection = self.door.begin(line, ttl="1h")
        while not self.box.runs():
            a_moment()
        connection.send({"op": "leave"})
        self.assertEqual(connection.message()["event"], "left")
        while self.flights():
            a_moment()
        self.assertEqual(self.through("--ttl", "1h", "--wait", "0.05", "-c", line)[0], 75)
        while self.flights():
            a_moment()
        self.assertEqual(self.box.entries(), [])

    def ask_and_go(self, *requests):
        """Whoever asks has gone before the store has answered: it has much to read for others first."""
        long = self.door.request("head -c 40000000 /dev/zero", output="none", ttl="1h")
        with self.door.connect() as connection:
            connection.send(long).until(lambda message: "exit" in message)
            while not self.box.entries():  # on a busy machine who asked is answered before (T13)
                a_moment()
            connection.send(*[long] * 10, *requests)

    def test_F5_who_keeps_it_running_and_goes_while_the_store_is_asked_leaves_a_flight_like_any_other(self):
        gate = self.box.gate()
        line = f"echo run >>runs; read x <{gate}"
        self.ask_and_go(*[self.door.request(line, ttl="1h", keep_running=True)] * 2)
        while not self.box.runs():
            a_moment()
        [flight] = self.flights()
        self.assertEqual((flight["command"], flight["requesters"]), (line, 0))
        # It is cancelled by its name as any other is.
        with self.door.connect() as connection:
            connection.send({"op": "cancel", "flight": flight["id"]})
            self.assertEqual(connection.message()["event"], "cancelled")
        while self.flights():
            a_moment()
        self.assertEqual(self.box.runs(), 1)

    def test_F11_a_command_of_whoever_has_gone_is_told_that_it_would_wait_for_itself(self):
        own = f"run --socket {self.door.path} --key own"
        line = f"{os.environ['COALESCE']} {own} true; echo $? >>told"
        self.ask_and_go({**self.door.request(line, ttl="1h", keep_running=True), "key": "own"})
        while not self.box.read("told"):
            a_moment()
        self.assertEqual(self.box.read("told"), "125\n")

    def test_T6_only_what_is_there_and_no_wait(self):
        line = "echo run >>runs; echo out"
        with self.door.begin(line, ttl="1h", wait=0, keep_running=True) as connection:
            self.assertEqual(connection.message()["error"]["code"], "gave_up")
        while not self.box.entries():
            a_moment()
        self.assertEqual(self.ask(line, ttl="1h", wait=0, keep_running=True), (0, "out\n", ""))
        self.assertEqual(self.box.runs(), 1)

    def test_T9_what_depends_on_files_is_not_kept_by_a_server(self):
        self.box.file("a", "1")
        for _ in range(2):
            status, out, err = self.through("--ttl", "1h", "--depends", "a", "-v", "-c", COUNTED)
            self.assertEqual((status, out), (0, "out\n"))
            self.assertIn("not kept: a server keeps nothing that depends on files", err)
        self.assertEqual(self.box.runs(), 2)
        self.assertEqual(self.box.entries(), [])

    def test_T12_run_passes_its_wishes_on(self):
        _, out, err = self.through("--ttl", "1h", "-v", "-c", COUNTED)
        self.assertEqual(out, "out\n")
        self.assertIn("kept for 1h", err)
        self.box.age(250)
        _, out, err = self.through("--ttl", "1h", "-v", "-c", COUNTED)
        self.assertEqual(out, "out\n")
        self.assertRegex(err, f"4m \\d+s old, made in {self.box.work} \\(ran ")
        self.assertEqual(self.through("--ttl", "1h", "-c", COUNTED), (0, "out\n", "err\n"))
        self.assertEqual(self.box.runs(), 1)
        self.assertEqual(self.box.run("--ttl", "1h", "-c", COUNTED), (0, "out\n", "err\n"))
        self.assertEqual(self.box.runs(), 1)
        self.assertEqual(self.through("--ttl", "1s", "--max-age", "1s", "-c", COUNTED)[0], 0)
        self.assertEqual(self.box.runs(), 2)
        self.assertEqual(self.through("--ttl", "1h", "--warm", "-c", COUNTED), (0, "", ""))
        self.assertEqual(self.box.runs(), 2)

    def test_T12_a_variable_that_asks_runs_server_is_no_business_of_the_server(self):
        for _ in range(2):
            self.ask(COUNTED, env={"COALESCE_TTL": "1h"})
        self.assertEqual(self.box.runs(), 2)

    def test_T14_a_hit_takes_no_slot(self):
        self.ask("echo out", ttl="1h")
        self.door.close()
        self.door = Server(self.box, "-j1")
        gate = self.box.gate()
        held = self.door.begin(f"read x <{gate}; echo held")
        while not self.flights() or self.flights()[0]["state"] != "running":
            a_moment()
        self.assertEqual(self.ask("echo out", ttl="1h")[1], "out\n")
        self.release(gate)
        self.assertEqual(self.door.answer(held)["stdout"], "held\n")

    def test_T14_S9_the_limit_of_the_queue_is_for_what_has_to_run(self):
        self.ask("echo out", ttl="1h")
        self.door.close()
        self.door = Server(self.box, "-j1", "--max-queue", "1")
        gate = self.box.gate()
        held = self.door.begin(f"read x <{gate}; echo held")
        while not self.flights() or self.flights()[0]["state"] != "running":
            a_moment()
        with self.door.connect() as connection:
            connection.send(*({**self.door.request(f"echo {i}", ttl="1h"), "id": i} for i in range(2)))
            refused = connection.message()
            self.assertEqual((refused["id"], refused["error"]["code"]), (1, "queue_full"))
            self.assertEqual(self.ask("echo out", ttl="1h")[1], "out\n")
            self.release(gate)
            self.assertEqual(connection.message()["stdout"], "0\n")
        self.assertEqual(self.door.answer(held)["stdout"], "held\n")

    def test_T21_T27_forget(self):
        self.ask(COUNTED, ttl="1h")
        with self.door.connect() as connection:
            connection.send({"op": "forget", "id": 7, **self.door.request(COUNTED)})
            self.assertEqual(connection.message(), {"id": 7, "event": "forgotten"})
            connection.send({"op": "forget", "line": "true", "ttl": 5})
            self.assertEqual(connection.message()["error"]["code"], "bad_request")
            connection.send({"op": "forget"})
            self.assertIn("neither", connection.message()["error"]["message"])
        self.assertEqual(self.box.entries(), [])
        self.ask(COUNTED, ttl="1h")
        self.assertEqual(self.box.runs(), 2)

    def test_T27_a_stream_begins_with_what_was_kept(self):
        line = "head -c 2000000 /dev/zero; echo err >&2"
        _, first = self.streamed(line, ttl="1h")
        for output in ("stream", "fd"):
            events, came = self.streamed(line, output, ttl="1h")
            self.assertEqual(events[0]["event"], "started")
            self.assertEqual(sorted(events[0]["kept"]), ["age", "directory", "left", "refreshing"])
            self.assertFalse(events[0]["joined"])
            self.assertEqual(events[-1]["exit"], 0)
            self.assertEqual(came, first)

    def test_T26_stats(self):
        for _ in range(3):
            self.ask("sleep 0.01; " + COUNTED, ttl="1h")
        with self.door.connect() as connection:
            connection.send({"op": "stats"})
            stats = connection.message()
        self.assertEqual((stats["hits"], stats["refreshes"], stats["runs"], stats["joins"]), (2, 0, 1, 0))
        self.assertGreater(stats["spared"], 0.02)

    def test_T28_wrong_uses_are_told(self):
        with self.door.connect() as connection:
            for wish, said in (
                ({"stale": 5}, '"stale" needs "ttl"'),
                ({"ttl": 5, "stale": 5}, '"stale" must be shorter than "ttl"'),
                ({"warm": True}, '"warm" needs "ttl"'),
                ({"keep_failures": 5}, '"keep_failures" needs "ttl"'),
                ({"ttl": "1h"}, "number of seconds"),
            ):
                connection.send({"line": "true", **wish})
                error = connection.message()["error"]
                self.assertEqual(error["code"], "bad_request")
                self.assertIn(said, error["message"])


class AllDoors(Test):
    # What the store itself says is less, so whoever does not hear of the rules keeps nothing of that length.
    def bounded(self):
        self.box.call("cache", "limits", "--max-entry", "1K")
        return {"COALESCE_CONFIG": self.box.file("config", '[cache]\nmax-entry = "1M"\n')}

    def test_Y6_a_refresh_keeps_what_the_rules_let_its_door_keep(self):
        env = self.bounded()
        server = Server(self.box, env=env)
        self.addCleanup(server.close)
        batch = Batch(self.box)
        for name, ask in (("batch", lambda line: batch.ask(line, **STALE, env=env)),
                          ("server", lambda line: server.ask(line, **STALE))):
            line = f"echo run >>{name}; wc -l <{name}; head -c 2000 /dev/zero"
            asked = lambda: ask(line)["stdout"][:1]
            self.assertEqual(asked(), "1", name)
            self.box.age(2 * HOUR)
            self.assertEqual(asked(), "1", name)
            while self.box.runs(name) < 2:
                a_moment()
            self.box.nothing_in_flight()
            self.assertEqual(asked(), "2", name)

    def test_Y6_a_joiners_wish_comes_with_the_rules_of_who_joins(self):
        env = self.bounded()
        gate = self.box.gate()
        line = f"echo run >>runs; echo out; read x <{gate}; head -c 2000 /dev/zero"
        leader = self.box.start("run", "-c", line)
        self.assertEqual(leader.stdout.readline(), b"out\n")
        joiner = self.box.start("run", "--ttl", "1h", "-c", line, env=env)
        self.assertEqual(joiner.stdout.readline(), b"out\n")
        self.release(gate)
        leader.communicate()
        self.box.nothing_in_flight()
        self.assertEqual(len(self.box.entries()), 1)

    def test_T4_fifty_stale_hits_from_all_three_doors_are_one_refresh(self):
        server = Server(self.box)
        self.addCleanup(server.close)
        batch = Batch(self.box)
        gate = self.box.gate()
        line = f"echo run >>runs; wc -l <runs; [ $(wc -l <runs) = 1 ] || read x <{gate}"
        self.box.run("--ttl", "2d", "-c", line)
        self.box.age(2 * HOUR)
        wrappers = [self.box.start("run", "--ttl", "2d", "--stale", "1h", "-c", line) for _ in range(16)]
        batches = [batch.begin(line, **STALE) for _ in range(17)]
        requests = [server.begin(line, **STALE) for _ in range(17)]
        for process in wrappers:
            self.assertEqual((process.communicate(), process.returncode), ((b"1\n", b""), 0))
        self.assertEqual([batch.answer(one)["stdout"] for one in batches], ["1\n"] * 17)
        self.assertEqual([server.answer(one)["stdout"] for one in requests], ["1\n"] * 17)
        while not self.box.status():
            a_moment()
        self.release(gate)
        self.box.nothing_in_flight()
        self.assertEqual(self.box.runs(), 2)
        self.assertEqual(server.ask(line, ttl="2d")["stdout"], "2\n")

    def release(self, gate):
        with open(gate, "w") as file:
            file.write("\n")

    def test_T4_a_refresh_has_what_its_request_had(self):
        server = Server(self.box)
        self.addCleanup(server.close)
        os.mkdir(os.path.join(self.box.work, "there"))
        line = f"echo run >>{self.box.work}/runs; cat; pwd; umask; echo $X"
        request = {"line": line, "stdin": "in\n", "cwd": self.box.work + "/there", "umask": 0o27,
                   "env": {**self.box.env, "X": "x"}, "ttl": 48 * HOUR, "stale": HOUR}

        def asked():
            with server.connect() as connection:
                connection.send(request)
                return connection.message()["stdout"]

        first = asked()
        self.assertEqual(first, f"in\n{self.box.work}/there\n0027\nx\n")
        self.box.age(2 * HOUR)
        self.assertEqual(asked(), first)
        while self.box.runs() < 2:
            a_moment()
        self.box.nothing_in_flight()
        self.assertEqual(asked(), first)
        self.assertEqual(self.box.runs(), 2)

    # The same words under the same surroundings are one key, at whichever door.
    def test_T12_hits_across_doors(self):
        server = Server(self.box)
        self.addCleanup(server.close)
        batch = Batch(self.box)
        doors = {"run": lambda line: self.box.run("--ttl", "1h", "-c", line)[1],
                 "batch": lambda line: batch.ask(line, ttl="1h")["stdout"],
                 "server": lambda line: server.ask(line, ttl="1h", env=self.box.env)["stdout"]}
        for maker, make in doors.items():
            line = f"echo run >>runs-{maker}; echo {maker}"
            for reader, read in [(maker, make), *doors.items()]:
                self.assertEqual(read(line), maker + "\n", (maker, reader))
            self.assertEqual(self.box.runs(f"runs-{maker}"), 1, maker)


if __name__ == "__main__":
    main()
