#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""How long commands take, remembered and told by every door (SPEC H).

A command that is to be remembered works for a second: that is its load, and nothing waits beside
it. Runs of many hours, which no run of a test overtakes, are written by the room's own writer
(remember.cpp), and commands that are looked at are held on a FIFO. COALESCE_LONG=1 waits for what
is told each half minute.
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess

from sandbox import COALESCE, Test, a_moment, main, mode_of, seconds

REMEMBER = os.environ["REMEMBER"]
LONG = "COALESCE_LONG" in os.environ
WORK = "sleep 1.1"
HOURS = 36_300  # seconds
OF_HOURS = str(HOURS * 1000)  # "10h 5m"
ATTEMPTS = 20  # a busy machine takes a second for a short command, but not each time


class History(Test):
    def setUp(self):
        super().setUp()
        self.file = self.box.path("home/.local/state/coalesce/history")
        self.held = f"until read x <{self.box.gate()}; do :; done"  # the next run may meet the writer of the one before

    def work(self, what):
        """A line that works for a second, and once there is a file "looked-at" is held."""
        return f"{WORK}; [ ! -e looked-at ] || {self.held} # {what}"

    def remember(self, times, line, how="ok", scope=""):
        subprocess.run([REMEMBER, self.box.work, scope, how, times, "--", "/bin/sh", "-c", line], env=self.box.env, check=True)

    def lead(self, line, *more, **options):
        """A wrapper that leads, and what it says of the start."""
        process = self.box.start("run", "-v", *more, "-c", line, **options)
        return process, process.stderr.readline().decode()

    def told(self, line, **options):
        """What is known of a line that is held, by what its start says; that run is interrupted, and not remembered."""
        process, said = self.lead(line, **options)
        process.send_signal(signal.SIGINT)
        process.communicate()
        self.assertTrue(said.startswith(f"coalesce: started {line} (pid "), said)
        return said.partition("), ")[2].strip()

    def let_go(self, *processes):
        """Each takes one of the lines, whoever comes first to it: none is lost as long as the FIFO is held."""
        with open(self.box.path("work/gate"), "r+b", buffering=0) as gate:
            gate.write(b"\n" * len(processes))
            for process in processes:
                process.communicate()

    def serve(self, *more):
        path = self.box.path("socket")
        server = self.box.start("serve", "--socket", path, "--log-level", "off", *more)
        while True:
            try:
                with socket.socket(socket.AF_UNIX) as client:
                    client.connect(path)
                return path, server
            except OSError:
                self.assertIsNone(server.poll())

    def connect(self, path):
        client = socket.socket(socket.AF_UNIX)
        self.addCleanup(client.close)
        client.connect(path)
        reader = client.makefile("r")
        self.addCleanup(reader.close)
        return client, reader

    def flights(self):
        """Those that status lists, by command; also as people read them."""
        table = self.box.call("status")[1].splitlines()
        columns = table[0].split()
        # "10h 5m", "1m 5s", "0 B"
        one_word = lambda row: re.sub(r"(?<=\dh) (?=\d+m )|(?<=\dm) (?=\d+s )|(?<=\d) (?=\w*B )", "_", row)
        rows = [dict(zip(columns, one_word(row).split(None, len(columns) - 1))) for row in table[1:]]
        return {flight["command"]: flight for flight in self.box.status()}, {row["COMMAND"]: row for row in rows}

    # H1

    def test_H1_runs_of_a_second_are_remembered_by_every_door(self):
        path, _ = self.serve()
        lines = {door: self.work(door) for door in ("run", "batch", "json", "server", "socket")}
        client, answers = self.connect(path)
        client.sendall((json.dumps({"line": lines["server"], "cwd": self.box.work}) + "\n").encode())
        doors = [
            self.box.start("run", "-c", lines["run"]),
            self.box.start("run", "--socket", path, "-c", lines["socket"]),
            self.box.start("batch", stdin=subprocess.PIPE),
            self.box.start("--json", stdin=subprocess.PIPE),
        ]
        doors[2].stdin.write(lines["batch"].encode() + b"\n")
        doors[3].stdin.write(json.dumps({"argv": ["/bin/sh", "-c", lines["json"]]}).encode() + b"\n")
        for process in doors:
            process.communicate()
            self.assertEqual(process.returncode, 0)
        self.assertEqual(json.loads(answers.readline())["exit"], 0)
        self.box.file("looked-at")
        for line in lines.values():  # what is told to one door was remembered by another
            while (said := self.told(line)) == "":  # it is written when those who waited have been told
                a_moment()
            self.assertGreaterEqual(seconds(said.removeprefix("last time ")), 1)

    def test_H1_a_command_is_its_line_directory_scope_and_key_whatever_the_environment(self):
        os.mkfifo(self.box.path("home/gate"))
        self.remember("65000", self.held)
        self.assertEqual(self.told(self.held, env={"ANOTHER": "1"}), "last time 1m 5s")
        self.assertEqual(self.told(self.held, umask=0o77), "last time 1m 5s")
        self.assertEqual(self.told(self.held, cwd=self.box.path("home")), "")
        self.assertEqual(self.told(self.held, env={"COALESCE_SCOPE": "x"}), "")
        self.remember("66000", self.held, scope="x")
        self.assertEqual(self.told(self.held, env={"COALESCE_SCOPE": "x"}), "last time 1m 6s")

    def test_H1_what_did_not_come_to_its_own_end_is_not_remembered(self):
        # Each says that it has worked for a second, and is held then.
        line = lambda name: f"{WORK}; echo {name}; {self.held}"
        start = lambda name, *more: self.box.start("run", *more, "-c", line(name))
        timed_out = self.box.start("run", "--timeout", "1.1", "sleep", "100")
        cancelled, interrupted, left, lost = (start(name) for name in ("cancelled", "interrupted", "left", "lost"))
        for process in (cancelled, interrupted, left, lost):
            self.assertNotEqual(process.stdout.readline(), b"")
        of = {flight["command"]: flight for flight in self.box.status()}
        self.assertEqual(self.box.call("cancel", of[line("cancelled")]["id"])[0], 0)
        interrupted.send_signal(signal.SIGINT)
        left.stdout.close()
        left.kill()
        os.kill(of[line("lost")]["supervisor"], signal.SIGKILL)
        for process, status in ((timed_out, 124), (cancelled, 125), (interrupted, -signal.SIGINT), (lost, 125)):
            self.assertEqual(process.wait(), status)
        self.box.nothing_in_flight()
        self.assertFalse(os.path.exists(self.file))

    def test_H1_shorter_runs_touch_no_file(self):
        local = self.box.path("home/.local")

        def touches(*words, remembered=False, **how):
            shutil.rmtree(local, ignore_errors=True)
            if remembered:
                self.remember("65000", "true")
                os.utime(self.file, (1, 2**31))  # an access before the last change is always noted
            self.box.call(*words, **how)
            return os.stat(self.file).st_atime != 1 if remembered else os.path.exists(local)

        always = lambda *words, **how: all(touches(*words, **how) for _ in range(ATTEMPTS))
        self.assertFalse(always("run", "true"))
        self.assertFalse(always("run", "-c", "exit 3"))
        self.assertFalse(always("batch", input=b"true\n"))
        self.assertFalse(always("run", "-c", "true", remembered=True))
        if not touches("run", "-v", "-c", "true", remembered=True):  # which tells what it has read
            self.skipTest("H1 a short run reads no history: no access times here")

    # H2

    def test_H2_usually_is_the_median_of_those_that_succeeded(self):
        self.remember("3000", self.held, how="failed")
        self.assertEqual(self.told(self.held), "last time 3s")
        self.remember("65000", self.held)
        self.assertEqual(self.told(self.held), "last time 1m 5s")
        self.remember("600000,64000", self.held)
        self.assertEqual(self.told(self.held), "usually 1m 5s")
        self.remember("2000,2000,2000,2000,9000", self.held)
        self.assertEqual(self.told(self.held), "usually 2s")

    # H3

    def test_H3_start_and_joining_tell_it_with_v(self):
        self.remember(f"{OF_HOURS},{OF_HOURS}", self.held)
        leader, said = self.lead(self.held)
        self.assertRegex(said, r"\(pid \d+\), usually 10h 5m\n$")
        joiner, said = self.lead(self.held)
        pid = next(iter(self.box.status()))["pid"]
        self.assertRegex(said, rf"^coalesce: joined {re.escape(self.held)} \(pid {pid}\), which has run for [^,]*, usually 10h 5m; 2 wait\n$")
        silent = self.box.start("run", "-c", self.held)
        while next(iter(self.box.status()))["requesters"] < 3:
            a_moment()
        self.let_go(leader)
        self.assertEqual([process.communicate()[1] for process in (silent,)], [b""])
        joiner.communicate()

    def test_H3_what_takes_longer_than_usual_is_told_so(self):
        self.remember("1,1", self.held)
        leader, _ = self.lead(self.held)
        while self.flights()[1][self.held]["LEFT"] != "late":
            a_moment()
        joiner, said = self.lead(self.held)
        self.assertIn(", longer than usual (1ms); 2 wait", said)
        self.let_go(leader)
        joiner.communicate()

    def test_H3_a_terminal_is_told_after_a_second(self):
        self.remember(OF_HOURS, self.held)
        leader, _ = self.lead(self.held)
        terminal, of_joiner = os.openpty()
        self.addCleanup(os.close, terminal)
        joiner = subprocess.Popen([COALESCE, "run", "-c", self.held], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                  stderr=of_joiner, cwd=self.box.work, env=self.box.env)
        os.close(of_joiner)
        said = ""
        while not said.endswith("\n"):  # a terminal may give it in pieces
            said += os.read(terminal, 4096).decode()
        self.assertRegex(said, rf"^coalesce: waiting for {re.escape(self.held)} \(pid \d+\), which has run for [^,]*, last time 10h 5m\r\n$")
        self.let_go(leader)
        joiner.wait()

    def test_H3_who_waits_for_its_turn_is_told_when_that_is(self):
        self.remember(f"{OF_HOURS},{OF_HOURS}", self.held)
        leader, _ = self.lead(self.held)
        fresh, said = self.lead(self.held, "--fresh")
        self.assertRegex(said, rf"^coalesce: waiting for an earlier run of {re.escape(self.held)} to end, probably in \d+h( \d+m)?\n$")
        queued = next(flight for flight in self.box.status() if flight["state"] == "queued")
        self.assertTrue(0 < queued["turn_in"] <= HOURS)
        self.assertEqual(queued["usual"], HOURS)
        self.let_go(leader)
        self.assertRegex(fresh.stderr.readline().decode(), r"^coalesce: started .*, usually 10h 5m\n$")
        self.let_go(fresh)

    def test_H3_status_tells_usual_and_left_for_people_and_for_programs(self):
        known, unknown = self.held, self.held + " # another"
        self.remember(f"{OF_HOURS},{OF_HOURS},{OF_HOURS}", known)
        processes = [self.lead(line)[0] for line in (known, unknown)]
        flights, rows = self.flights()
        self.assertEqual((flights[known]["usual"], flights[known]["usual_runs"]), (HOURS, 3))
        self.assertNotIn("usual", flights[unknown])
        self.assertEqual((rows[known]["USUALLY"], rows[unknown]["USUALLY"], rows[unknown]["LEFT"]), ("10h_5m", "-", "-"))
        self.assertNotIn(rows[known]["LEFT"], ("-", "late"))
        self.let_go(*processes)

    def test_H3_a_servers_queue_has_turns_and_its_streams_tell_the_usual_time(self):
        path, _ = self.serve("-j", "1")
        lines = [f"{self.held} # {number}" for number in range(4)]
        for line, times in zip(lines, (f"{OF_HOURS},{OF_HOURS}", "10000,10000", "20000,20000")):
            self.remember(times, line)
        client, answers = self.connect(path)
        ask = lambda line: client.sendall((json.dumps({"line": line, "cwd": self.box.work, "output": "stream"}) + "\n").encode())
        ask(lines[0])
        started = json.loads(answers.readline())
        self.assertEqual((started["usual"], started["usual_runs"]), (HOURS, 2))
        for line in (lines[1], lines[3], lines[2]):  # nobody knows how long the last but one will take
            ask(line)
        while len(flights := {f["command"]: f for f in map(json.loads, self.box.call("status", "--json", "--socket", path)[1].splitlines())}) < 4:
            a_moment()
        first, second = (flights[line]["turn_in"] for line in (lines[1], lines[3]))
        self.assertTrue(0 < first <= HOURS)
        self.assertAlmostEqual(second - first, 10)
        self.assertNotIn("turn_in", flights[lines[2]])
        table = self.box.call("status", "--socket", path)[1].splitlines()
        self.assertRegex(table[2], r" queued +\S+ +10s +\d+h( \d+m)? +1 ")
        self.assertRegex(table[4], r" queued +\S+ +20s +- +1 ")

    if LONG:

        def test_H3_with_v_it_is_told_again_each_half_minute(self):
            self.remember("10000,10000", self.held)
            leader, _ = self.lead(self.held)
            joiner, _ = self.lead(self.held)
            for process in (leader, joiner):
                told = re.fullmatch(r"coalesce: waiting for .*, which has run for (.*), longer than usual \(10s\)\n",
                                    process.stderr.readline().decode())
                self.assertGreaterEqual(seconds(told[1]), 30)
            self.let_go(leader)
            joiner.communicate()

    # H5

    def test_H5_no_ends_it(self):
        no = {"COALESCE_HISTORY": "no"}
        self.assertEqual(self.box.run("-c", WORK, env=no)[0], 0)
        self.assertFalse(os.path.exists(self.file))
        self.remember("65000", self.held)
        self.assertEqual(self.told(self.held, env=no), "")
        self.assertEqual(self.told(self.held), "last time 1m 5s")

    def test_H5_the_file_is_private_bounded_and_has_no_words(self):
        line = self.work("a secret word")
        self.assertEqual(self.box.run("-c", line, umask=0)[0], 0)
        self.box.file("looked-at")
        while self.told(line) == "":
            a_moment()
        self.assertEqual((mode_of(self.file), mode_of(os.path.dirname(self.file))), (0o600, 0o700))
        with open(self.file, "rb") as file:
            self.assertNotIn(b"secret", file.read())
        self.assertLessEqual(os.stat(self.file).st_size, 1 << 20)
        os.remove(self.file)  # it may be
        self.assertEqual(self.told(line), "")

    def test_H5_XDG_STATE_HOME_is_where_it_lies(self):
        self.box.env["XDG_STATE_HOME"] = self.box.path("state")
        self.remember("65000", self.held)
        self.assertEqual(self.told(self.held), "last time 1m 5s")
        self.assertTrue(os.path.exists(self.box.path("state/coalesce/history")))
        self.assertFalse(os.path.exists(self.file))

    def test_H5_a_torn_record_is_a_shorter_memory(self):
        self.remember("65000", self.held)
        with open(self.file, "r+b") as file:
            data = file.read()
            at = next(i for i, byte in enumerate(data) if byte)
            file.seek(at + 20)
            file.write(b"torn")
        self.assertEqual(self.told(self.held), "")
        self.remember("66000", self.held)
        self.assertEqual(self.told(self.held), "last time 1m 6s")
        for nonsense in (b"", b"x" * 4096):
            with open(self.file, "wb") as file:
                file.write(nonsense)
            self.assertEqual(self.told(self.held), "")

    # H6

    def test_H6_commands_start_in_the_order_of_their_requests_however_short_they_are(self):
        lines = [f"echo {number} >>order" for number in range(3)]
        for line, time in zip(lines, ("90000", "50000", "1000")):
            self.remember(time, line)
        self.assertEqual(self.box.call("batch", "-j", "1", input="\n".join(lines).encode())[0], 0)
        self.assertEqual(self.box.read("order"), "0\n1\n2\n")


if __name__ == "__main__":
    main()
