# SPDX-License-Identifier: MIT
"""What an old kernel or a container's filter refuses (SPEC F13, FAULTS row 9).

Each system call that is younger than Linux 4.18 or that filters are known to refuse is
refused to the whole program, in every door: its promises hold by other means.
"""

import os
import select
import signal
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "server"))
import harness  # noqa: E402

REFUSE = os.environ["REFUSE_CALL"]

REFUSED = [
    ["close_range=ENOSYS"],
    ["close_range=EPERM"],
    ["memfd_create=ENOSYS"],
    ["memfd_create=EPERM"],
    ["pidfd_open=ENOSYS"],
    ["pidfd_open=EPERM"],
    ["clone-pidfd=EINVAL"],
    ["clone-pidfd=EINVAL", "pidfd_open=ENOSYS", "waitid=EINVAL"],
    ["clone3=ENOSYS"],
    ["clone3=EPERM"],
    ["waitid=ENOSYS"],
    ["waitid=EPERM"],
    ["fallocate=ENOSYS"],
    ["sendfile=ENOSYS"],
    ["close_range=ENOSYS", "memfd_create=ENOSYS", "pidfd_open=ENOSYS", "clone3=ENOSYS", "clone-pidfd=EINVAL"],
]

# Its descriptors (ls has one of its own), much output on one stream and some on the other, and a verdict.
LINE = "ls /proc/self/fd | tr '\\n' ' '; head -c 3000000 /dev/zero | tr '\\0' x; echo said >&2; exit 3"
OUT = b"0 1 2 3 " + b"x" * 3000000


def filters_can_be_set():
    return subprocess.run([REFUSE, "clone3=ENOSYS", "--", "true"], check=False, capture_output=True).returncode == 0


class RefusedCalls(harness.ServerTest):
    @classmethod
    def setUpClass(cls):
        if not filters_can_be_set():
            raise unittest.SkipTest("no filter can be set here")

    def setUp(self):
        self.directory = tempfile.TemporaryDirectory(prefix="coalesce-test-")
        self.addCleanup(self.directory.cleanup)
        self.env = {"PATH": os.environ["PATH"], "HOME": self.directory.name, "XDG_RUNTIME_DIR": self.directory.name}

    def start(self, refused, *arguments, **options):
        return subprocess.Popen([REFUSE, *refused, "--", harness.COALESCE, *arguments], env=self.env,
                                cwd=self.directory.name, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)

    def each(self, check):
        for refused in REFUSED:
            with self.subTest(refused=" ".join(refused)):
                check(refused)

    def test_run(self):
        """F13: `run` keeps its promises whatever is refused"""
        def check(refused):
            process = self.start(refused, "run", "-c", LINE, stdin=subprocess.DEVNULL)
            out, err = process.communicate()
            self.assertEqual((process.returncode, out == OUT, err), (3, True, b"said\n"))

        self.each(check)

    def test_batch(self):
        """F13: `batch` keeps its promises whatever is refused"""
        def check(refused):
            process = self.start(refused, "batch", stdin=subprocess.PIPE)
            out, err = process.communicate(LINE.encode() + b"\ntrue\n")
            self.assertEqual((process.returncode, out == OUT, err), (123, True, b"said\n"))

        self.each(check)

    def test_server(self):
        """F13: `serve` keeps its promises whatever is refused, in each mode of output"""
        def check(refused):
            server = self.serve(prefix=[REFUSE, *refused, "--"])
            with harness.Client(server.path) as client:
                answer = client.ask({"line": LINE, "id": 1})
                self.assertEqual((answer["exit"], answer["stderr"]), (3, "said\n"))
                self.assertTrue(answer["stdout"].encode() == OUT)
                client.send({"line": LINE, "id": 2, "output": "stream"})
                messages, output = client.stream()
                self.assertEqual(messages[-1]["exit"], 3)
                self.assertTrue(output[2, "stdout"] == OUT)
            process = server.run("run", "-c", LINE)
            self.assertEqual((process.returncode, process.stdout == OUT, process.stderr), (3, True, b"said\n"))
            self.assertEqual(server.stop(), 0)

        self.each(check)

    def test_leaving(self):
        """F5: a requester's death is noticed, and ends the run, whatever is refused"""
        def check(refused):
            process = self.start(refused, "run", "-c", "echo $$; exec sleep 700", stdin=subprocess.DEVNULL)
            pidfd = os.pidfd_open(int(process.stdout.readline()))
            process.send_signal(signal.SIGKILL)
            process.wait()
            process.stdout.close()
            process.stderr.close()
            self.assertTrue(select.select([pidfd], [], [], 60)[0], "the command lives on")
            os.close(pidfd)

        self.each(check)


if __name__ == "__main__":
    harness.main()
