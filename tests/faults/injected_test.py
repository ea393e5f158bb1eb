# SPDX-License-Identifier: MIT
"""Each call that may be refused for want of something is refused once (SPEC F14, FAULTS row 2).

A trace of each door tells which calls it makes; then the door is tried again with the
first of each kind failing, and the second … Whatever is refused, whoever asked hears the
right answer or an error, in time, and all is well again afterwards. Without
COALESCE_LONG the tries are spread over as many seconds as COALESCE_SECONDS says (15),
in an order of chance, whose seed is told.
"""

import contextlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "server"))
import harness  # noqa: E402

# What each may be short of. Reading, waiting and closing are not among them.
REFUSALS = {
    "accept4": ["EMFILE", "ENFILE", "ENOMEM"],
    "bind": ["ENOMEM", "ENOSPC"],
    "clone": ["EAGAIN", "ENOMEM"],
    "connect": ["EAGAIN"],
    "epoll_create1": ["EMFILE", "ENFILE", "ENOMEM"],
    "epoll_ctl": ["ENOMEM", "ENOSPC"],
    "eventfd2": ["EMFILE", "ENFILE", "ENOMEM"],
    "execve": ["ENOMEM", "EAGAIN"],
    "fallocate": ["ENOSPC"],
    "fork": ["EAGAIN", "ENOMEM"],
    "listen": ["EMFILE"],
    "memfd_create": ["EMFILE", "ENFILE", "ENOMEM"],
    "mkdir": ["ENOSPC"],
    "mmap": ["ENOMEM"],
    "openat": ["EMFILE", "ENFILE", "ENOMEM"],
    "pidfd_open": ["EMFILE", "ENFILE", "ENOMEM"],
    "pipe2": ["EMFILE", "ENFILE"],
    "pwrite64": ["ENOSPC", "ENOMEM"],
    "sendmsg": ["ENOMEM", "ENOBUFS"],
    "sendfile": ["ENOMEM"],
    "socket": ["EMFILE", "ENFILE", "ENOMEM"],
    "socketpair": ["EMFILE", "ENFILE", "ENOMEM"],
    "symlinkat": ["ENOSPC"],
}
# How often these are made is decided by how much a pipe holds at the moment.
MOVING = ("pwrite64", "sendfile", "sendmsg")
MOVING_MOST = 20
# So many rounds, each of which makes some, reach all of these.
ROUNDS_MOST = 20

PATIENCE = float(os.environ.get("COALESCE_PATIENCE", "60"))
LINE = "echo out; head -c 1200000 /dev/zero; echo err >&2; exit 3"
OUT = b"out\n" + bytes(1200000)


def can_trace():
    return (shutil.which("strace") is not None
            and subprocess.run(["strace", "-qq", "-o", "/dev/null", "-e", "inject=getppid:error=EPERM", "true"], check=False,
                               capture_output=True).returncode == 0)


class Injected(harness.ServerTest):
    @classmethod
    def setUpClass(cls):
        if not can_trace():
            raise unittest.SkipTest("no tracing here")
        cls.long = bool(os.environ.get("COALESCE_LONG"))
        cls.seconds = float(os.environ.get("COALESCE_SECONDS", "15"))
        cls.seed = int(os.environ.get("COALESCE_SEED", random.randrange(1 << 32)))
        print("seed", cls.seed, file=sys.stderr)

    def setUp(self):
        self.directory = tempfile.mkdtemp(prefix="coalesce-test-")
        self.addCleanup(shutil.rmtree, self.directory, True)
        self.hit = os.path.join(self.directory, "hit")
        self.env = {"PATH": os.environ["PATH"], "HOME": self.directory, "XDG_RUNTIME_DIR": self.directory}

    @staticmethod
    def tracing(follow, trace, inject=None):
        asked = ["-e", "trace=" + ",".join(REFUSALS)] if inject is None else [
            "-e", "trace=epoll_create1," + inject[0], "-e", "inject={}:error={}:when={}".format(*inject)]
        return ["strace", *(["-f"] if follow else []), "-qq", "-o", trace, *asked]

    @staticmethod
    def calls_in(trace):
        """Which call, and the how many-th of its kind in its process. Without libuv's, which
        makes a handful when its loop begins, after ours that look whether there is room, and
        ends the process if one of them fails; and without taking a descriptor out of an epoll
        set, for which no kernel wants room."""
        counts, loops, making = {}, {}, set()
        with open(trace, errors="replace") as lines:
            for line in lines:
                if not (match := re.match(r"(\d+ +)?(\w+)\((\d*).* = (-?\d+)", line)):
                    continue
                process, call, first, result = match.groups()
                counts[process, call] = counts.get((process, call), 0) + 1
                if call == "epoll_create1":
                    if process not in loops:
                        loops[process] = result
                        making.add(process)
                    else:
                        making.discard(process)
                if process not in making and not (call == "epoll_ctl" and first == loops.get(process)) and (
                        "EPOLL_CTL_DEL" not in line):
                    yield call, counts[process, call]

    def has_hit(self):
        """A call has been made to fail; strace writes it down before it goes on."""
        with open(self.hit, errors="replace") as lines:
            return any("(INJECTED)" in line for line in lines)

    def met_another(self, case):
        """What is watched when is not the same in each run: the n-th epoll_ctl was one of
        those that calls_in() leaves out."""
        loops = {}
        with open(self.hit, errors="replace") as lines:
            for line in lines:
                if not (match := re.match(r"(\d+ +)?(\w+)\((\d*).* = (-?\d+)", line)):
                    continue
                process, call, first, result = match.groups()
                if call == "epoll_create1":
                    loops.setdefault(process, result)
                elif case[0] == "epoll_ctl" and "(INJECTED)" in line:
                    if "EPOLL_CTL_DEL" in line or first == loops.get(process):
                        return True
        return False

    def each(self, trace, share, check):
        """Every try that the trace asks for; as many as the time allows, unless all are wanted."""
        every = sorted({(call, error, n) for call, n in self.calls_in(trace)
                        for error in REFUSALS.get(call, ()) if n <= MOVING_MOST or call not in MOVING})
        self.assertGreater(len(every), 20)
        random.Random(self.seed).shuffle(every)
        end = time.monotonic() + self.seconds * share
        for case in every:
            if not self.long and time.monotonic() > end:
                return
            with self.subTest(case=" ".join(map(str, case))):
                try:
                    check(case)
                except (AssertionError, subprocess.TimeoutExpired):
                    if not self.met_another(case):
                        raise

    def call(self, arguments, stdin=b""):
        return subprocess.run(arguments, env=self.env, cwd=self.directory, input=stdin, capture_output=True, check=False,
                              timeout=PATIENCE)

    def assert_heard(self, ended, right):
        """The right answer, or a refusal that says something."""
        self.assertGreaterEqual(ended.returncode, 0, ended.stderr)
        if ended.returncode == right and ended.stdout == OUT:
            return
        self.assertNotEqual(ended.returncode, 0, ended.stderr)
        self.assertTrue(ended.stderr.strip(), f"{ended.returncode}, {len(ended.stdout)} bytes, and nothing said")
        self.assertTrue(OUT.startswith(ended.stdout) or ended.returncode not in (right,), "a gap")

    def test_run(self):
        """F14: `run` answers or refuses, whatever fails once, in requester, supervisor and child"""
        command = [harness.COALESCE, "run", "-c", LINE]
        trace = os.path.join(self.directory, "trace")
        self.assertEqual(self.call(self.tracing(True, trace) + command).returncode, 3)

        def check(case):
            self.assert_heard(self.call(self.tracing(True, self.hit, case) + command), 3)
            again = self.call(command)
            self.assertEqual((again.returncode, again.stdout == OUT, again.stderr), (3, True, b"err\n"))

        self.each(trace, 0.3, check)

    def test_batch(self):
        """F14: `batch` answers or refuses, whatever fails once"""
        command = [harness.COALESCE, "batch", "-j1"]
        lines = (LINE + "\necho on\n").encode()
        trace = os.path.join(self.directory, "trace")
        self.assertEqual(self.call(self.tracing(False, trace) + command, lines).returncode, 123)

        def check(case):
            ended = self.call(self.tracing(False, self.hit, case) + command, lines)
            self.assertGreaterEqual(ended.returncode, 0, ended.stderr)
            if ended.returncode == 125 and not ended.stdout:
                self.assertTrue(ended.stderr.strip())  # it did not begin
            elif b"coalesce: " not in ended.stderr:
                self.assertEqual((ended.returncode, ended.stdout == OUT + b"on\n", ended.stderr), (123, True, b"err\n"))
            else:  # one of the two was refused
                self.assertIn(ended.returncode, (123, 125))
                self.assertTrue(ended.stdout == OUT or OUT.startswith(ended.stdout)
                                or ended.stdout.endswith(b"on\n"))

        self.each(trace, 0.2, check)

    def requests(self, server, tolerant):
        """A request in each mode of output."""
        with harness.Client(server.path) as client:
            client.socket.settimeout(PATIENCE)  # a hang is a failure
            for mode in ("whole", "stream", "none"):
                client.send({"id": 1, "line": LINE, "output": mode})
                if mode == "stream":
                    messages, output = client.stream()
                    answer = messages[-1]
                    out = output.get((1, "stdout"), b"")
                else:
                    answer = client.message()
                    if answer is None:
                        raise EOFError
                    out = OUT if mode == "none" else answer.get("stdout", "").encode()
                if answer.get("exit") == 3:
                    self.assertTrue(out == OUT, f"{mode}: {len(out)} bytes")
                else:
                    self.assertTrue(tolerant and "error" in answer or answer.get("code"), answer)
        ended = server.run("run", "-c", LINE, timeout=PATIENCE)
        if tolerant:
            self.assert_heard(ended, 3)
        else:
            self.assertEqual((ended.returncode, ended.stdout == OUT), (3, True), ended.stderr)

    def test_server(self):
        """F14: `serve` answers or refuses, whatever fails once, in each mode of output, and is well again"""
        trace = os.path.join(self.directory, "trace")
        server = self.serve(prefix=self.tracing(False, trace))
        self.requests(server, False)
        self.assertEqual(server.status(), [])
        self.end(server)

        def check(case):
            server = self.serve(prefix=self.tracing(False, self.hit, case), ready=False)
            try:
                server.await_state("READY=1")
            except AssertionError:  # it did not begin, and says why
                self.assertTrue(server.logged().strip())
                self.assertNotIn(server.process.returncode, range(-64, 1))
                return
            try:
                for _ in range(ROUNDS_MOST):  # how many calls a round takes is not always the same
                    if self.has_hit():
                        break
                    try:
                        self.requests(server, True)
                    except (EOFError, ConnectionError):  # that connection, and no other
                        self.assertIsNone(server.process.poll(), server.logged())
                if not self.has_hit():
                    print("not reached:", *case, file=sys.stderr)  # this time there were not as many calls
                    return
                self.requests(server, False)
                self.assertEqual(server.status(), [])
                self.end(server)
            finally:
                self.signal(server, signal.SIGKILL)

        self.each(trace, 0.5, check)

    def end(self, server):
        self.assertEqual(self.signal(server, signal.SIGTERM), 0, server.logged())

    @staticmethod
    def signal(server, number):
        """strace hands a signal on to nobody."""
        with contextlib.suppress(FileNotFoundError, IndexError):
            with open(f"/proc/{server.process.pid}/task/{server.process.pid}/children") as children:
                os.kill(int(children.read().split()[0]), number)
        return server.process.wait(PATIENCE)


if __name__ == "__main__":
    harness.main()
