#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Many processes read, publish, refresh, forget, clear and clean one store at random, and some are killed (T17, T18, T21).

Every answer carries the number of its run, a text of a length of its own and a checksum over
both, so it is told whether it is whole and of one run. What a forget or clear that had ended
before a request began has forgotten answers it no more; only the latest run may, since it may
have been under way and joined.

COALESCE_LONG=1 goes on for 10 minutes. STORM_SEED repeats what is asked, not what happens.
"""

import hashlib
import os
import random
import threading
import time

from sandbox import Test, main

LONG = "COALESCE_LONG" in os.environ
REQUESTS = 200
SECONDS = 600
WORKERS = 6
COMMANDS = 3
KINDS = {"ask": 40, "fresh": 10, "stale": 12, "kill": 15, "forget": 9, "clear": 4, "clean": 5, "list": 5}

SCRIPT = """#!/bin/sh
number=$(flock lock sh -c "printf x >>count$1; wc -c <count$1")
text=$(echo $number; seq $((number % 7 * 900)))
printf '%s\\n' "$text"
printf '%s\\n' "$text" | md5sum
"""


class Storm(Test):
    def setUp(self):
        super().setUp()
        self.seed = os.environ.get("STORM_SEED") or str(random.randrange(1 << 32))
        self.lock = threading.Lock()
        self.forgotten = [0] * COMMANDS
        self.answers = self.kills = 0
        self.wrong = []
        self.box.file("script", SCRIPT, 0o755)

    def begun(self, command):
        return len(self.box.read(f"count{command}"))

    def ask(self, kind, command, choice):
        words = ["run", "--ttl", choice.choice(("1h", "1s", "50ms"))]
        if kind == "fresh":
            words.append("--fresh")
        if kind == "stale":
            words = ["run", "--ttl", "1h", "--stale", "10ms"]
        with self.lock:
            forgotten = self.forgotten[command]
        latest = self.begun(command)
        process = self.box.start(*words, "./script", str(command))
        if kind == "kill":
            process.stdout.read(choice.choice((0, 1, 5000)))
            process.kill()
            process.communicate()
            self.kills += 1
            return
        out, err = process.communicate()
        what = f"{words} of {command}"
        if (process.returncode, err) != (0, b""):
            self.wrong.append(f"{what}: {process.returncode} {err!r}")
            return
        self.answers += 1
        text, _, digest = out[:-1].rpartition(b"\n")
        if hashlib.md5(text + b"\n").hexdigest() + "  -" != digest.decode("latin-1"):
            self.wrong.append(f"{what}: not whole: {out[:40]!r} ... {out[-80:]!r}")
            return
        number = int(text.split(b"\n")[0])
        if number <= forgotten and number < latest or number > self.begun(command):
            self.wrong.append(f"{what}: of run {number}, and what ran up to {forgotten} was forgotten, {latest} had begun")

    def cache(self, kind, command):
        before = [self.begun(each) for each in range(COMMANDS)]
        status, _, err = self.box.call("cache", kind, *(("--", "./script", str(command)) if kind == "forget" else ()))
        # One cleans at a time; another is told so.
        if status != 0 and "nothing is kept" not in err and not (kind == "clean" and "another process is cleaning" in err):
            self.wrong.append(f"cache {kind}: {status} {err}")
        with self.lock:
            for each in {"forget": [command], "clear": range(COMMANDS)}.get(kind, ()):
                self.forgotten[each] = max(self.forgotten[each], before[each])

    def test_every_answer_is_whole_and_of_a_run_that_was_allowed(self):
        end = time.monotonic() + SECONDS
        left = [REQUESTS]

        def more():
            with self.lock:
                left[0] -= 1
                return not self.wrong and (time.monotonic() < end if LONG else left[0] >= 0)

        def work(worker):
            choice = random.Random(f"{self.seed}.{worker}")
            try:
                while more():
                    kind = choice.choices(list(KINDS), KINDS.values())[0]
                    command = choice.randrange(COMMANDS)
                    if kind in ("forget", "clear", "clean", "list"):
                        self.cache(kind, command)
                    else:
                        self.ask(kind, command, choice)
            except Exception as error:
                self.wrong.append(repr(error))

        workers = [threading.Thread(target=work, args=(worker,)) for worker in range(WORKERS)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        self.assertEqual(self.wrong, [], f"STORM_SEED={self.seed}")
        self.box.nothing_in_flight()
        self.assertGreater(self.answers, REQUESTS / 4)
        self.assertGreater(self.kills, 0)


if __name__ == "__main__":
    main()
