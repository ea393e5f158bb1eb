# SPDX-License-Identifier: MIT
"""What a batch or a server leaves behind when it is killed by KILL (SPEC F13, FAULTS row 11),
and what it is owed as process 1 (row 10).
"""

import array
import contextlib
import fcntl
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import termios
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "server"))
import harness  # noqa: E402

# The shell stays the leader; both say their numbers, the grandchild's shell first.
LINE = "sh -c 'echo $$ >&2; exec sleep 700' 2>{pids} & echo $$ >{pids}; wait; :"


def children_of(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as children:
        return [int(child) for child in children.read().split()]


def name_of(pid):
    with open(f"/proc/{pid}/comm") as name:
        return name.read().strip()


def guard_of(pid):
    """The guard, once it is one: it has taken its name before it closes what it inherits."""
    while True:
        for child in children_of(pid):
            with contextlib.suppress(OSError):
                if name_of(child) == "coalesce-guard" and len(os.listdir(f"/proc/{child}/fd")) == 1:
                    return child
        harness.a_moment()


class Guard(harness.ServerTest):
    def setUp(self):
        self.directory = tempfile.mkdtemp(prefix="coalesce-test-")
        self.addCleanup(shutil.rmtree, self.directory, True)
        self.env = {"PATH": os.environ["PATH"], "HOME": self.directory, "XDG_RUNTIME_DIR": self.directory}
        self.pids = os.path.join(self.directory, "pids")
        os.mkfifo(self.pids)
        self.line = LINE.format(pids=self.pids)
        reader = os.open(self.pids, os.O_RDWR | os.O_CLOEXEC)
        self.lines = os.fdopen(reader, "r")
        self.addCleanup(self.lines.close)

    def batch(self, line, *words, **options):
        process = subprocess.Popen([harness.COALESCE, "batch", *words], env=self.env, cwd=self.directory, stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)
        self.addCleanup(process.stderr.close)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.stdin.close)
        process.stdin.write(line.encode() + b"\n")
        process.stdin.flush()
        return process

    def handles(self, count=2):
        handles = [os.pidfd_open(int(self.lines.readline())) for _ in range(count)]
        for handle in handles:
            self.addCleanup(os.close, handle)
        return handles

    def assert_gone(self, handles):
        for handle in handles:
            self.assertTrue(select.select([handle], [], [], 60)[0], "it lives on")

    def kill(self, process):
        process.kill()
        process.wait()

    def test_batch(self):
        """F13: a batch killed by KILL leaves none of its commands' processes"""
        process = self.batch(self.line)
        handles = self.handles()
        self.kill(process)
        self.assert_gone(handles)

    def test_server(self):
        """F13: a server killed by KILL leaves none of its commands' processes, and its successor runs them anew"""
        server = self.serve()
        with harness.Client(server.path) as client:
            client.send({"line": self.line, "id": 1})
            handles = self.handles()
            self.kill(server.process)
            self.assert_gone(handles)
        successor = self.serve(socket_path=server.path)
        with harness.Client(successor.path) as client:
            client.send({"line": self.line, "id": 1})
            handles = self.handles()
            self.assertEqual(successor.stop(signal.SIGKILL), -signal.SIGKILL)
        self.assert_gone(handles)
        server.clean = successor.clean = lambda: None

    def test_guard_is_alone(self):
        """F13: the guard holds a pipe and nothing else, has its own session, and cannot be told to go"""
        process = self.batch(self.line)
        handles = self.handles()
        guard = guard_of(process.pid)
        self.assertEqual(os.getsid(guard), guard)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
            os.kill(guard, number)
        self.kill(process)
        self.assert_gone(handles)

    def test_guard_is_replaced(self):
        """F13: a guard that is killed is replaced"""
        process = self.batch(self.line)
        handles = self.handles()
        first = guard_of(process.pid)
        os.kill(first, signal.SIGKILL)
        while (second := guard_of(process.pid)) == first:
            harness.a_moment()
        self.kill(process)
        self.assert_gone(handles)

    def test_ordinary_end(self):
        """F13: an ordinary end leaves no guard, waits for none, and ends nothing that a command left running"""
        process = self.batch(f"sh -c 'echo $$ >{self.pids}; exec sleep 700' >/dev/null 2>&1 &")
        handles = self.handles(1)
        guard = os.pidfd_open(guard_of(process.pid))
        process.stdin.close()
        self.assertEqual(process.wait(), 0)
        self.assertTrue(select.select([guard], [], [], 0)[0], "the guard is still there")
        os.close(guard)
        self.assertFalse(select.select(handles, [], [], 0)[0])
        signal.pidfd_send_signal(handles[0], signal.SIGKILL)

    def test_dry_run(self):
        """F13: a dry run starts nothing, and no guard either"""
        process = self.batch(self.line, "--dry-run")
        unread = array.array("i", [1])
        while unread[0] > 0:  # it takes its lines when all that it needs is there
            fcntl.ioctl(process.stdin, termios.FIONREAD, unread)
        self.assertEqual(children_of(process.pid), [])
        process.stdin.close()
        self.assertEqual((process.wait(), len(process.stdout.readlines())), (0, 1))

    def test_strangers(self):
        """F13: what belongs to no run of ours is not ended with it"""
        away = os.path.join(self.directory, "away")
        os.mkfifo(away)
        process = self.batch(f"setsid sh -c 'echo $$ >{away}; exec sleep 700' & {self.line}")
        with open(away) as line:
            gone_away = os.pidfd_open(int(line.read()))
        self.addCleanup(os.close, gone_away)
        stranger = subprocess.Popen(["sleep", "700"], start_new_session=True)
        handles = [*self.handles(), os.pidfd_open(guard_of(process.pid))]
        self.addCleanup(os.close, handles[-1])
        self.kill(process)
        self.assert_gone(handles)  # the guard last: it has ended all that it ends
        self.assertFalse(select.select([gone_away], [], [], 0)[0])
        signal.pidfd_send_signal(gone_away, signal.SIGKILL)
        self.assertIsNone(stranger.poll())
        stranger.kill()
        stranger.wait()

    def test_process_one(self):
        """F13: as PID 1 a batch reaps whatever comes"""
        if os.geteuid() != 0 or subprocess.run(["unshare", "--pid", "--fork", "--mount-proc", "true"], check=False,
                                               capture_output=True).returncode != 0:
            raise unittest.SkipTest("no pid namespace can be made here")
        # Orphans, which end while the batch goes on; then it looks, again and again, until none is left.
        line = ("for i in 1 2 3 4 5; do (true & true) & done; wait; "
                "while grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null | grep -q .; do :; done; echo none")
        process = subprocess.run(["unshare", "--pid", "--fork", "--mount-proc", harness.COALESCE, "batch"],
                                 env=self.env, cwd=self.directory, input=line.encode(), capture_output=True, check=False)
        self.assertEqual((process.returncode, process.stdout), (0, b"none\n"))


if __name__ == "__main__":
    harness.main()
