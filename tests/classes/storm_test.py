# SPDX-License-Identifier: MIT
"""C1, C3 in a storm: runs of one class through every door, whose wrappers, supervisors, batches and servers are
killed at random. Each command and its child hold one of N locks for as long as anything of their group lives, and
say so when there is none to be had. When all is over the class still takes a run: no turn was lost.

COALESCE_SEED repeats a storm's choices; COALESCE_LONG makes it long.
"""

import contextlib
import os
import random
import subprocess
import sys
import threading
import time
import unittest

TESTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
sys.path[:0] = [os.path.join(TESTS, "server"), os.path.join(TESTS, "kept")]
import harness  # noqa: E402
from sandbox import COALESCE, Sandbox  # noqa: E402

SECONDS = 300 if os.environ.get("COALESCE_LONG") else 6
WORKERS = 8
JOBS = 2

COMMAND = """exec 9>>lock-1; flock -n 9 || { exec 9>>lock-2; flock -n 9; } || echo overlap >>overlaps
echo run >>runs; : >commands/$$
(seq $((RANDOM_WORK)) | cksum) >/dev/null & seq $((RANDOM_WORK)) | cksum >/dev/null; rm -f commands/$$; wait"""


class Storm(unittest.TestCase):
    def setUp(self):
        self.box = Sandbox()
        self.addCleanup(self.box.close)
        os.mkdir(os.path.join(self.box.work, "commands"))
        seed = int(os.environ.get("COALESCE_SEED") or random.randrange(1 << 30))
        print(f"storm seed {seed}", flush=True)
        self.random = random.Random(seed)
        self.over = time.monotonic() + SECONDS
        self.socket = self.box.path("s")
        self.count = 0
        self.lock = threading.Lock()
        self.done = 0

    def line(self, chance):
        with self.lock:
            self.count += 1
            return COMMAND.replace("RANDOM_WORK", str(chance.randrange(100, 20000))) + f"; : {self.count}"

    def start(self, *words, stdin=subprocess.DEVNULL):
        return subprocess.Popen([COALESCE, *words], env=self.box.env, cwd=self.box.work, stdin=stdin,
                                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def kill_a_parent(self, chance):
        """A supervisor, a batch or the server, by one of its commands."""
        directory = os.path.join(self.box.work, "commands")
        names = os.listdir(directory)
        if not names:
            return
        command = chance.choice(names)
        self.box.kill_parent_of(int(command))
        with contextlib.suppress(OSError):
            os.unlink(os.path.join(directory, command))  # which it cannot do itself, now or long ago

    def ask_server(self, line):
        try:
            with harness.Client(self.socket) as client:
                client.ask({"line": line, "class": f"c:{JOBS}"})
        except (OSError, EOFError, ValueError):
            pass

    def work(self, seed):
        chance = random.Random(seed)
        while time.monotonic() < self.over:
            line = self.line(chance)
            door = chance.randrange(4)
            if door == 0:
                self.ask_server(line)
                continue
            if door == 1:
                process = self.start(f"-j{chance.randrange(1, 4)}", "--class", f"c:{JOBS}", "-0", stdin=subprocess.PIPE)
                process.stdin.write("\0".join([line, self.line(chance)]).encode())
                process.stdin.close()
            else:
                terminal = ["--pty"] if door == 2 else []
                process = self.start("run", *terminal, "--class", f"c:{JOBS}", "-c", line)
            fate = chance.randrange(4)
            if fate < 2:
                try:
                    process.wait(chance.random() * 0.2)
                except subprocess.TimeoutExpired:
                    process.kill() if fate == 0 else self.kill_a_parent(chance)
            process.wait()
            with self.lock:
                self.done += 1

    def serve(self, chance):
        while time.monotonic() < self.over:
            server = self.start("serve", "--socket", self.socket)
            try:
                server.wait(chance.random() * 2)
            except subprocess.TimeoutExpired:
                server.kill()
            server.wait()

    def test_never_more_than_so_many(self):
        workers = [threading.Thread(target=self.work, args=(self.random.random(),)) for _ in range(WORKERS)]
        workers.append(threading.Thread(target=self.serve, args=(random.Random(self.random.random()),)))
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        self.assertEqual(self.box.read("overlaps"), "")
        self.assertGreater(self.done, 0)
        # No turn is lost: as many as ever can be had at once.
        gates = [self.box.gate(f"gate-{i}") for i in range(JOBS)]
        last = [self.start("run", "--class", f"c:{JOBS}", "cat", gate) for gate in gates]
        for gate in gates:
            harness.release(gate)
        for process in last:
            self.assertEqual(process.wait(), 0)
        print(f"{self.box.runs()} runs of {self.count} lines")


if __name__ == "__main__":
    harness.main()
