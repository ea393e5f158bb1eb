#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A refresh, where for a moment there is no room for it, or what an earlier run has left cannot be ended (SPEC T4, T6,
F13, F14).

What the kernel is to refuse a tracer refuses in its place. It ends with the last that it traces.
"""

import os
import signal
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "kept"))
from sandbox import COALESCE, Test, a_moment, crash, main  # noqa: E402

COUNTED = "echo run >>runs; echo out"
FORKS = "clone,clone3,fork,vfork"


class Refused(Test):
    def setUp(self):
        super().setUp()
        self.box.env["ASAN_OPTIONS"] = self.box.env.get("ASAN_OPTIONS", "") + ":detect_leaks=0"  # not under a tracer
        if not self.can_trace():
            raise unittest.SkipTest("refresh for want: no tracing here")

    def can_trace(self):
        try:
            return self.traced("getppid", "error=EPERM", ["true"]).returncode == 0
        except FileNotFoundError:
            return False

    def traced(self, calls, end, command, follow=False):
        return subprocess.run(
            ["strace", *(["-f"] if follow else []), "-qq", "-o", self.box.path("trace"), "-e", "trace=" + calls, "-e",
             f"inject={calls}:{end}", *command],
            cwd=self.box.work, env=self.box.env, stdin=subprocess.DEVNULL, capture_output=True, check=False)

    def warm(self, calls, end, line=COUNTED, follow=False):
        ended = self.traced(calls, end, [COALESCE, "run", "--warm", "--ttl", "1h", "-c", line], follow)
        return ended.returncode, ended.stdout, ended.stderr

    def test_T6_F14_who_warms_hears_that_no_process_can_be_had(self):
        status, out, err = self.warm(FORKS, "error=EAGAIN")
        self.assertEqual((status, out), (125, b""))
        self.assertIn(b"cannot start a refresh: Resource temporarily unavailable", err)

    def test_T6_F14_a_process_that_can_be_had_a_moment_later_will_do(self):
        self.assertEqual(self.warm("clone,fork", "error=EAGAIN:when=1"), (0, b"", b""))
        with open(self.box.path("trace")) as trace:
            self.assertRegex(trace.read(), r"INJECTED\)\n.*= \d+\n")  # which runs on its own from here
        while not self.box.entries():
            a_moment()
        self.assertEqual(self.box.runs(), 1)

    def test_F14_a_descriptor_that_can_be_had_a_moment_later_will_do(self):
        self.assertEqual(self.warm("socket", "error=EMFILE:when=1", follow=True), (0, b"", b""))
        self.assertEqual(self.box.runs(), 1)

    def test_F13_a_refresh_is_started_beside_what_does_not_end(self):
        line = "echo run >>runs; [ $(wc -l <runs) = 1 ] || exec echo out; sleep 1000 & echo $!; wait"
        first = self.box.start("run", "-c", line)
        left = int(first.stdout.readline())
        self.addCleanup(os.kill, left, signal.SIGKILL)
        crash(first, self.box.status()[0])
        self.assertEqual(self.warm("pidfd_send_signal,kill", "retval=0", line, follow=True), (0, b"", b""))
        self.assertEqual(self.box.runs(), 2)


if __name__ == "__main__":
    main()
