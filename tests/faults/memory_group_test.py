# SPDX-License-Identifier: MIT
"""Long output in a control group that allows little memory (SPEC F9, FAULTS row 15).

400 MB go through a program that may have 100 MB, whoever reads and in whatever way, and
nobody is given a gap: what waits for a request that is answered whole is refused by name.
"""

import os
import subprocess
import sys
import tempfile
import threading
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "server"))
import harness  # noqa: E402

ALLOWED = 100 << 20
MUCH = 400_000_000
LINE = f"head -c {MUCH} /dev/zero"


class Group:
    """A control group of ours, where we may make one."""

    def __init__(self):
        self.path = None
        with open("/proc/self/cgroup") as lines:
            for line in lines:
                _, controllers, group = line.strip().split(":", 2)
                if "memory" in controllers.split(","):
                    self.make("/sys/fs/cgroup/memory" + group, "memory.limit_in_bytes")
                elif controllers == "":
                    self.make("/sys/fs/cgroup" + group, "memory.max")

    def make(self, above, limit):
        if self.path is not None or not os.path.exists(os.path.join(above, "cgroup.procs")):
            return
        try:
            path = tempfile.mkdtemp(prefix="coalesce-test-", dir=above)
        except OSError:
            return
        try:
            with open(os.path.join(path, limit), "w") as file:
                file.write(str(ALLOWED))
            self.path = path
        except OSError:
            os.rmdir(path)

    def enter(self):
        with open(os.path.join(self.path, "cgroup.procs"), "w") as procs:
            procs.write(str(os.getpid()))

    def close(self):
        """When all have gone: a supervisor ends after those that it has told."""
        if self.path is not None:
            while self.processes():
                harness.a_moment()
            os.rmdir(self.path)

    def processes(self):
        with open(os.path.join(self.path, "cgroup.procs")) as procs:
            return procs.read()


class Counted:
    """Reads a pipe to its end, and remembers only whether it was as it should be."""

    def __init__(self, pipe):
        self.pipe = pipe
        self.count = 0
        self.zero = True
        self.thread = threading.Thread(target=self.read)
        self.thread.start()

    def read(self):
        zeros = bytes(1 << 20)
        while data := self.pipe.read1(1 << 20):
            self.count += len(data)
            self.zero = self.zero and data == zeros[: len(data)]

    def result(self):
        self.thread.join()
        self.pipe.close()
        return self.count, self.zero


class MemoryGroup(harness.ServerTest):
    def setUp(self):
        self.group = Group()
        if self.group.path is None:
            raise unittest.SkipTest("no control group can be made here")
        self.directory = tempfile.TemporaryDirectory(prefix="coalesce-test-")
        self.addCleanup(self.directory.cleanup)
        self.addCleanup(self.group.close)  # before that: who ends may write into it
        self.env = {"PATH": os.environ["PATH"], "HOME": self.directory.name, "XDG_RUNTIME_DIR": self.directory.name}

    def start(self, *arguments, **options):
        process = subprocess.Popen([harness.COALESCE, *arguments], env=self.env, cwd=self.directory.name,
                                   stdout=subprocess.PIPE, preexec_fn=self.group.enter, **options)
        self.addCleanup(process.kill)  # or after a failure the group would wait for it
        return process

    def serve_in_group(self, *options):
        return self.serve(*options, preexec_fn=self.group.enter)

    def test_run(self):
        """F9: `run` relays 400 MB under 100 MB"""
        process = self.start("run", "-c", LINE, stdin=subprocess.DEVNULL)
        self.assertEqual(Counted(process.stdout).result(), (MUCH, True))
        self.assertEqual(process.wait(), 0)

    def test_run_shared(self):
        """F9: two that share a run which memory does not hold both get all of it"""
        path = os.path.join(self.directory.name, "gate")
        gate = harness.Gate(path)
        self.addCleanup(gate.close)
        line = gate.wait + "; " + LINE
        first = self.start("run", "-v", "-c", line, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
        self.assertIn(b"started", first.stderr.readline())
        second = self.start("run", "-v", "-c", line, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
        self.assertIn(b"joined", second.stderr.readline())
        readers = [Counted(first.stdout), Counted(second.stdout)]
        gate.let()
        for reader in readers:
            self.assertEqual(reader.result(), (MUCH, True))
        for process in (first, second):
            self.assertEqual(process.wait(), 0)
            process.stderr.close()

    def test_batch(self):
        """F9: `batch` prints 400 MB under 100 MB, also of several runs at once"""
        lines = "".join(f"{LINE}; : {n}\n" for n in range(2)).encode()
        process = self.start("batch", "-j2", stdin=subprocess.PIPE)
        process.stdin.write(lines)
        process.stdin.close()
        self.assertEqual(Counted(process.stdout).result(), (2 * MUCH, True))
        self.assertEqual(process.wait(), 0)

    def test_stream(self):
        """F9: `serve` streams 400 MB under 100 MB"""
        server = self.serve_in_group()
        with harness.Client(server.path) as client:
            client.send({"line": LINE, "output": "stream"})
            count = 0
            while True:
                message = client.message()
                if message.get("event") == "exit":
                    break
                if message["event"] == "stdout":
                    count += len(client.bytes(message["bytes"]))
            self.assertEqual((count, message["exit"]), (MUCH, 0))

    def test_descriptor(self):
        """F9: `run --socket`, which is given the descriptor, passes on 400 MB under 100 MB"""
        server = self.serve_in_group()
        process = subprocess.Popen([harness.COALESCE, "run", "-c", LINE], env={**server.env, "COALESCE_SOCKET": server.path},
                                   cwd=server.directory, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        self.assertEqual(Counted(process.stdout).result(), (MUCH, True))
        self.assertEqual(process.wait(), 0)

    def test_whole(self):
        """F9: a whole answer that memory does not hold is an error, and the server goes on"""
        server = self.serve_in_group()
        with harness.Client(server.path) as client:
            answer = client.ask({"line": LINE})
            self.assertEqual(answer["error"]["code"], "output_too_long")
            self.assertEqual(client.ask({"line": "echo on"})["stdout"], "on\n")
            answer = client.ask({"line": "head -c 20000000 /dev/zero | tr '\\0' x"})
            self.assertEqual(answer["stdout"], "x" * 20000000)


if __name__ == "__main__":
    harness.main()
