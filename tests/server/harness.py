# SPDX-License-Identifier: MIT
"""A server of its own for each test, and clients that speak the protocol.

Nothing here sleeps, but for a moment between two looks: the server says that it is ready by sd_notify's datagram, a
request has been taken when a later ping on its connection is answered, and a
command is held on a FIFO that the test opens. ctest's timeout bounds every wait.
"""

import array
import faulthandler
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time
import unittest

COALESCE = os.environ["COALESCE"]
NOT_TRIED = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../not_tried")


def a_moment():
    """Between two looks at what comes about elsewhere: what is waited for needs the processor more than who waits."""
    time.sleep(0.02)


class Client:
    """One connection. Messages are told apart by id, whatever their order."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self.socket.connect(path)
        except OSError:
            self.socket.close()
            raise
        self.input = b""
        self.fds = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()
        for fd in self.fds:
            os.close(fd)
        self.fds = []

    def send(self, *messages):
        """Objects as JSON lines, bytes as they are."""
        data = b"".join(m if isinstance(m, bytes) else json.dumps(m).encode() + b"\n" for m in messages)
        self.socket.sendall(data)
        return self

    def fill(self):
        control = socket.CMSG_SPACE(16 * array.array("i").itemsize)
        data, ancillary, _, _ = self.socket.recvmsg(1 << 20, control, socket.MSG_CMSG_CLOEXEC)
        for level, kind, value in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds = array.array("i")
                fds.frombytes(value[: len(value) - len(value) % fds.itemsize])
                self.fds.extend(fds)
        self.input += data
        return bool(data)

    def line(self):
        """The next line, or None at the end."""
        pieces = [self.input]
        while b"\n" not in pieces[-1]:
            self.input = b""
            if not self.fill():
                return None
            pieces.append(self.input)
        line, self.input = b"".join(pieces).split(b"\n", 1)
        return line

    def bytes(self, count):
        while len(self.input) < count:
            if not self.fill():
                raise EOFError
        data, self.input = self.input[:count], self.input[count:]
        return data

    def message(self):
        line = self.line()
        return None if line is None else json.loads(line)

    def ask(self, request):
        return self.send(request).message()

    def settled(self):
        """Everything sent before has been taken in."""
        self.send({"id": "settled", "op": "ping"})
        answer = self.message()
        assert answer == {"id": "settled", "protocol": 1}, answer
        return self

    def until(self, wanted):
        """The first message that is wanted; those before it are dropped."""
        while True:
            message = self.message()
            if message is None:
                raise EOFError
            if wanted(message):
                return message
            if "bytes" in message and "offset" not in message:
                self.bytes(message["bytes"])

    def half_close(self):
        self.socket.shutdown(socket.SHUT_WR)
        return self

    def stream(self):
        """A stream answer: its messages, and what they brought for each id and stream."""
        messages, output = [], {}
        while True:
            message = self.message()
            if message is None:
                raise EOFError
            messages.append(message)
            if message.get("event") in ("stdout", "stderr"):
                key = (message.get("id"), message["event"])
                output[key] = output.get(key, b"") + self.bytes(message["bytes"])
            elif message.get("event") != "started":
                return messages, output


def await_state(server, wanted):
    """Until it tells that to its service manager. Its death closes nothing here, so it is looked for as well."""
    server.notify.settimeout(0.2)
    while True:
        try:
            if wanted in server.notify.recv(1000).decode():
                return
        except TimeoutError:
            if server.process.poll() is not None:
                raise AssertionError("the server ended: " + server.logged()) from None


def state_of(pid):
    """"S": it waits for something."""
    with open(f"/proc/{pid}/stat") as stat_file:
        return stat_file.read().rsplit(")", 1)[1].split()[0]


class Server:
    def __init__(self, test, *options, env=None, prefix=(), program=COALESCE, socket_path=None, ready=True, **popen):
        self.directory = tempfile.mkdtemp(prefix="coalesce-test-")
        os.chmod(self.directory, 0o755)
        self.path = self.directory + "/s" if socket_path is None else socket_path
        self.log = self.directory + "/log"
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify.bind(self.directory + "/notify")
        os.chmod(self.directory + "/notify", 0o777)
        self.env = {"PATH": os.environ["PATH"], "HOME": self.directory, "NOTIFY_SOCKET": self.directory + "/notify",
                    "XDG_RUNTIME_DIR": self.directory, "ASAN_OPTIONS": "detect_leaks=1", **(env or {})}
        self.test = test
        test.addCleanup(self.clean)
        at = ["--socket", self.path] if self.path else []  # else where it listens by default
        arguments = [*prefix, program, "serve", *at, *options]
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(arguments, env=self.env, cwd=self.directory, stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=log, **popen)
        if ready:
            self.await_state("READY=1")

    def await_state(self, wanted):
        await_state(self, wanted)

    def client(self):
        client = Client(self.path)
        self.test.addCleanup(client.close)
        return client

    def run(self, *arguments, **options):
        """coalesce as a program, asking this server."""
        return subprocess.run([COALESCE, *arguments], env={**self.env, "COALESCE_SOCKET": self.path}, cwd=self.directory,
                              stdin=subprocess.DEVNULL, capture_output=True, check=False, **options)

    def file(self, name):
        return os.path.join(self.directory, name)

    def fifo(self, name):
        path = self.file(name)
        os.mkfifo(path)
        os.chmod(path, 0o666)
        return path

    def gate(self, name):
        gate = Gate(self.file(name))
        self.test.addCleanup(gate.close)
        return gate

    def logged(self):
        with open(self.log, errors="replace") as log:
            return log.read()

    def runs(self, name="runs"):
        try:
            with open(self.file(name)) as runs:
                return len(runs.readlines())
        except FileNotFoundError:
            return 0

    def status(self):
        """The flights as the owner sees them."""
        with Client(self.path) as client:
            return client.ask({"op": "status"})["flights"]

    def stats(self):
        with Client(self.path) as client:
            return client.ask({"op": "stats"})

    def try_stats(self):
        """The same, or nothing where there is no room for the connection."""
        try:
            return self.stats()
        except (AssertionError, BrokenPipeError, ConnectionResetError):
            return {}

    def memory_kb(self):
        with open(f"/proc/{self.process.pid}/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))

    def children(self):
        with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children") as children:
            return list(map(int, children.read().split()))

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def state(self):
        return state_of(self.process.pid)

    def cpu_ticks(self):
        with open(f"/proc/{self.process.pid}/stat") as stat_file:
            fields = stat_file.read().rsplit(")", 1)[1].split()
        return int(fields[11]) + int(fields[12])

    def stop(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        return self.process.wait()

    def left_running(self):
        """The command lines that name something of this test's directory."""
        lines = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/cmdline", errors="replace") as file:
                    lines.append(file.read().replace("\0", " "))
            except OSError:  # it has gone meanwhile
                pass
        return [line for line in lines if self.directory in line]

    def await_all_gone(self):
        """A test leaves no process behind: of what it starts, all has been told to end by now."""
        deadline = time.monotonic() + 60
        while left := self.left_running():
            if time.monotonic() > deadline:
                self.test.fail(f"left running: {left}")

    def clean(self):
        alive = self.process.poll() is None
        if alive:
            self.process.terminate()
            try:
                self.process.wait(300)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                self.test.fail("the server did not end: " + self.logged())
        log = self.logged()
        if "Sanitizer" in log or "runtime error" in log:
            self.test.fail("the server's log:\n" + log[:20000])
        if alive:
            self.test.assertEqual(self.process.returncode, 0, log)
        self.notify.close()
        self.await_all_gone()
        shutil.rmtree(self.directory, ignore_errors=True)


class ServerTest(unittest.TestCase):
    maxDiff = 2000

    def serve(self, *options, **more):
        return Server(self, *options, **more)


class Gate:
    """Holds any number of commands that run its `wait`, and lets as many go on as told."""

    def __init__(self, path):
        os.mkfifo(path)
        os.chmod(path, 0o666)
        self.fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self.wait = f"head -c 1 {path} >/dev/null"

    def let(self, count=1):
        os.write(self.fd, b"x" * count)

    def close(self):
        os.close(self.fd)


def release(path):
    """Lets the one command go on that reads a FIFO; waits until it has come so far."""
    with open(path, "w"):
        pass


class Result(unittest.TextTestResult):
    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        what = test.id().rsplit(".", 1)[-1].replace("_", " ").removeprefix("test ")
        subprocess.run([NOT_TRIED, what, reason], check=False)


def main():
    faulthandler.dump_traceback_later(870)  # a little before tests/run ends it: who hangs tells where
    unittest.main(verbosity=1, testRunner=unittest.TextTestRunner(verbosity=1, resultclass=Result))
