#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Many processes read, publish, refresh, forget, clear and clean one store at random, and some are killed (T17, T18, T21).

All doors are at it at once: wrappers, batches and one server. Killed are wrappers, batches, the server, and whatever
supervises a run.

Every answer carries the number of its run, a text of a length of its own and a checksum over both, so it is told
whether it is whole and of one run. What a forget or a clear that had ended before a request began has forgotten
answers it no more, if the run was over by then: one that was still under way may be joined. Who asked and was not
killed gets an answer; where the supervisor of its run was killed after it had passed output on, it says so (R6).

20 seconds, or as long as it takes until each door has answered. COALESCE_LONG=1 goes on for 10 minutes with 200
processes; STORM_SECONDS and STORM_WORKERS say otherwise. STORM_SEED repeats what is asked, not what happens.
"""

import collections
import contextlib
import hashlib
import json
import os
import random
import re
import signal
import subprocess
import threading
import time

from doors import Server
from sandbox import Test, main, parent_of

LONG = "COALESCE_LONG" in os.environ
SECONDS = float(os.environ.get("STORM_SECONDS") or (600 if LONG else 20))
WORKERS = int(os.environ.get("STORM_WORKERS") or (200 if LONG else 6))
COMMANDS = 3
KINDS = {"ask": 40, "fresh": 10, "stale": 12, "forget": 15, "clear": 5, "clean": 5, "list": 5}
DOORS = {"run": 5, "batch": 2, "server": 3}
KILLED = {"run": 0.25, "supervisor": 0.3, "batch": 0.2}

SCRIPT = """#!/bin/sh
number=$(flock lock sh -c "printf x >>count$1; wc -c <count$1")
text=$(echo $number; seq $((number % 7 * 900)))
printf '%s\\n' "$text"
printf '%s\\n' "$text" | md5sum
[ $((number % 3)) != 0 ] || sleep 0.3 # so that much happens meanwhile
"""


class Wrong(Exception):
    pass


class Storm(Test):
    def setUp(self):
        super().setUp()
        self.seed = os.environ.get("STORM_SEED") or str(random.randrange(1 << 32))
        print(f"STORM_SEED={self.seed}", flush=True)
        self.lock = threading.Lock()
        self.forgotten = [0] * COMMANDS
        self.over = [set() for _ in range(COMMANDS)]  # runs that have answered whoever waited for them
        self.counts = collections.Counter()
        self.wrong = []
        self.serving = threading.Event()
        self.server = None
        self.ended = False
        self.box.file("script", SCRIPT, 0o755)

    def begun(self, command):
        return len(self.box.read(f"count{command}"))

    def line(self, command):
        return f"./script {command}"

    # What was known of a command when a request for it began, and what may answer it.
    def before(self, command):
        with self.lock:
            return self.forgotten[command], frozenset(self.over[command])

    def check(self, what, command, before, out, kept):
        """One whole answer: `kept` says that it is of a run that had ended."""
        forgotten, over = before
        text, _, digest = out[:-1].rpartition(b"\n")
        if hashlib.md5(text + b"\n").hexdigest() + "  -" != digest.decode("latin-1"):
            raise Wrong(f"{what}: not whole: {out[:40]!r} ... {out[-80:]!r}")
        number = int(text.split(b"\n")[0])
        if number > self.begun(command):
            raise Wrong(f"{what}: of run {number}, of which there is none yet")
        if number <= forgotten and number in over:
            raise Wrong(f"{what}: of run {number}, which was over, and what ran up to {forgotten} was forgotten")
        with self.lock:
            if not kept:
                self.over[command].add(number)
            self.counts["kept" if kept else "ran"] += 1

    def lost(self, error):
        """Said by who had passed output on when the supervisor of its run was killed."""
        return self.counts["killed supervisors"] > 0 and "supervised" in error

    def wish(self, kind, choice):
        if kind == "stale":
            return {"ttl": "1h", "stale": "10ms"}
        return {"ttl": choice.choice(("1h", "1s", "50ms")), **({"fresh": True} if kind == "fresh" else {})}

    def options(self, wish):
        return [word for name, value in wish.items() for word in (["--" + name] if value is True else ["--" + name, value])]

    def through_run(self, kind, choice):
        command = choice.randrange(COMMANDS)
        wish = self.wish(kind, choice)
        before = self.before(command)
        process = self.box.start("run", "-v", *self.options(wish), "-c", self.line(command), bufsize=0)
        said = b""
        if choice.random() < KILLED["supervisor"]:
            said = process.stderr.readline()
            self.kill_supervisor(said)
        elif choice.random() < KILLED["run"]:
            process.stdout.read(choice.choice((0, 1, 5000)))
            process.kill()
            process.communicate()
            self.counts["killed wrappers"] += 1
            return
        out, err = process.communicate()
        said = (said + err).decode("latin-1")
        what = f"run {wish} of {command}"
        if process.returncode == 125 and self.lost(said):
            self.counts["lost"] += 1
            return
        if process.returncode != 0 or any(not line.startswith("coalesce: ") for line in said.splitlines()):
            raise Wrong(f"{what}: {process.returncode} {said}")
        self.check(what, command, before, out, "kept result of" in said)
        self.counts["run"] += 1

    def through_batch(self, kind, choice):
        wish = self.wish(kind, choice)
        fresh = {"fresh": True} if wish.pop("fresh", False) else {}
        commands = [choice.randrange(COMMANDS) for _ in range(choice.randrange(1, 6))]
        before = [self.before(command) for command in commands]
        process = self.box.start("--json", "--format", "json", f"-j{choice.randrange(1, 4)}", *self.options(wish),
                                 stdin=subprocess.PIPE)
        killed = choice.random() < KILLED["batch"]
        lines = "".join(json.dumps({"id": place, "line": self.line(command), **fresh}) + "\n"
                        for place, command in enumerate(commands))
        if killed:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(lines.encode())
                process.stdin.flush()
            if choice.random() < 0.7:
                process.stdout.readline()
            process.kill()
            process.communicate()
            self.counts["killed batches"] += 1
            return
        out, err = process.communicate(lines.encode())
        what = f"batch {wish} {fresh} of {commands}"
        if err:
            raise Wrong(f"{what}: {err.decode('latin-1')}")
        answers = [json.loads(line) for line in out.splitlines()]
        if sorted(answer["id"] for answer in answers) != list(range(len(commands))):
            raise Wrong(f"{what}: it ended with {process.returncode}, after {out!r}")
        for answer in answers:
            place = answer["id"]
            if answer.get("exit") != 0:
                raise Wrong(f"{what}: {answer}")
            self.check(what, commands[place], before[place], answer["stdout"].encode(), "kept" in answer)
        self.counts["batch"] += 1

    def through_server(self, kind, choice):
        server = self.server
        command = choice.randrange(COMMANDS)
        wish = self.wish(kind, choice)
        before = self.before(command)
        what = f"server {wish} of {command}"
        try:
            with server.connect() as connection:
                connection.send({"env": self.box.env, **server.request(self.line(command), **wish)})
                answer = connection.message()
        except (OSError, AttributeError):
            answer = None
        if answer is None:
            if not server or not server.killed:
                raise Wrong(f"{what}: a server that was not killed answered nothing")
            self.counts["of a killed server"] += 1
            return
        if answer.get("exit") != 0:
            if not server.killed:
                raise Wrong(f"{what}: {answer}")
            return
        self.check(what, command, before, answer["stdout"].encode(), "kept" in answer)
        self.counts["server"] += 1

    def forget_through_server(self, command):
        """Whether it is known to have been done."""
        try:
            server = self.server
            with server.connect() as connection:
                connection.send({"op": "forget", "env": self.box.env, **server.request(self.line(command))})
                answer = connection.message()
        except (OSError, AttributeError):
            return False
        if answer and "error" in answer and not server.killed:
            raise Wrong(f"forget through the server: {answer}")
        return bool(answer) and answer.get("event") == "forgotten"

    def cache(self, kind, choice):
        command = choice.randrange(COMMANDS)
        before = [self.begun(each) for each in range(COMMANDS)]
        if kind == "forget" and choice.random() < 0.4:
            if not self.forget_through_server(command):
                return
        else:
            status, _, err = self.box.call("cache", kind, *(("-c", self.line(command)) if kind == "forget" else ()))
            # One cleans at a time; another is told so.
            if status != 0 and not (kind == "clean" and "another process is cleaning" in err):
                raise Wrong(f"cache {kind}: {status} {err}")
        with self.lock:
            self.counts[kind] += 1
            for each in {"forget": [command], "clear": range(COMMANDS)}.get(kind, ()):
                self.forgotten[each] = max(self.forgotten[each], before[each])

    def kill_supervisor(self, said):
        """What supervises the run of which that was said: of a wrapper, or a refresh."""
        told = re.search(rb"\(pid (\d+)", said)
        # A batch and the server supervise theirs themselves, and are our children: one has the number by now.
        if told and self.box.kill_parent_of(int(told[1]), lambda parent: parent_of(parent) != os.getpid()):
            with self.lock:
                self.counts["killed supervisors"] += 1

    def work(self, worker):
        choice = random.Random(f"{self.seed}.{worker}")
        doors = {"run": self.through_run, "batch": self.through_batch, "server": self.through_server}
        try:
            while not self.ended and not self.wrong:
                kind = choice.choices(list(KINDS), KINDS.values())[0]
                if kind in ("forget", "clear", "clean", "list"):
                    self.cache(kind, choice)
                    continue
                door = choice.choices(list(DOORS), DOORS.values())[0]
                doors[door](kind, choice)
        except Exception as error:
            self.wrong.append(f"{type(error).__name__}: {error}")

    def serve(self):
        choice = random.Random(f"{self.seed}.server")
        try:
            while not self.ended and not self.wrong:
                server = Server(self.box)
                server.killed = False
                self.server = server
                self.serving.set()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    server.process.wait(choice.uniform(1, 6))
                    raise Wrong("the server ended: " + server.logged())
                server.killed = True
                server.kill()
                log = server.logged()
                if "Sanitizer" in log or "runtime error" in log:
                    raise Wrong(log)
                self.counts["killed servers"] += 1
        except Exception as error:
            self.wrong.append(f"{type(error).__name__}: {error}")
        finally:
            if self.server:
                self.server.killed = True
            self.serving.set()

    def test_every_answer_is_whole_and_of_a_run_that_was_allowed(self):
        began = time.monotonic()
        threads = [threading.Thread(target=self.work, args=(worker,)) for worker in range(WORKERS)]
        threads.append(threading.Thread(target=self.serve))
        threads[-1].start()
        self.serving.wait()
        for thread in threads[:-1]:
            thread.start()
        wanted = ("run", "batch", "server", "kept", "ran", "forget", "clear", "clean", "killed wrappers", "killed batches",
                  "killed servers", "killed supervisors")
        while not self.wrong and (time.monotonic() < began + SECONDS or not all(self.counts[each] for each in wanted)):
            threads[0].join(0.2)
        self.ended = True
        for thread in threads:
            thread.join()
        print(", ".join(f"{count} {what}" for what, count in sorted(self.counts.items())))
        self.assertEqual(self.wrong, [], f"STORM_SEED={self.seed}")
        self.box.nothing_in_flight()
        self.nothing_is_spoilt()

    def nothing_is_spoilt(self):
        """Whoever comes afterwards finds a store that serves, publishes, forgets and cleans."""
        for command in range(COMMANDS):
            line = self.line(command)
            self.assertEqual(self.box.call("cache", "forget", "-c", line)[0], 0)
            first = self.box.run("--ttl", "1h", "-c", line)
            runs = self.begun(command)
            self.assertEqual(self.box.run("--ttl", "1h", "-c", line), first)
            self.assertEqual(self.begun(command), runs)
        self.assertEqual(self.box.clean()[0], 0)
        self.assertEqual(self.box.call("cache", "list")[2], "")


if __name__ == "__main__":
    main()
