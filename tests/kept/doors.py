# SPDX-License-Identifier: MIT
"""Batch and server as doors to what is kept: one request is one line for either, and so is what it answers.

An answer is told as JSON has it, and what the door itself said is added. `coalesce run` needs none of this.
"""

import json
import os
import socket
import subprocess

import sandbox  # noqa: F401 for the way to the harness
from harness import Client, await_state

UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}


def seconds(time):
    """1h as a number."""
    digits = time.rstrip("dhms")
    return float(digits) * UNITS[time[len(digits) :] or "s"]


class Batch:
    """coalesce < line"""

    def __init__(self, box):
        self.box = box
        self.options = ()

    def ask(self, line, env=None, **wish):
        """Options as keywords: ttl="1h"."""
        return self.answer(self.begin(line, env=env, **wish))

    def begin(self, line, env=None, **wish):
        words = ["--format", "json"]
        for name, value in wish.items():
            if value is True:
                words += ["--json"]
            else:
                words += ["--" + name.replace("_", "-"), value]
        if any(value is True for value in wish.values()):
            line = json.dumps({"line": line, **{name: True for name, value in wish.items() if value is True},
                               **{name: seconds(value) for name, value in wish.items() if value is not True}})
            words = ["--format", "json", "--json"]
        process = self.box.start(*words, stdin=subprocess.PIPE, env=env)
        process.stdin.write(line.encode() + b"\n")
        process.stdin.close()
        process.stdin = None
        return process

    def answer(self, process):
        out, err = process.communicate()
        lines = out.decode().splitlines()
        assert len(lines) == 1, (out, err)
        return {**json.loads(lines[0]), "said": err.decode()}

    def close(self):
        pass


class Server:
    """A server's socket, asked in JSON"""

    def __init__(self, box, *options, env=None):
        self.box = box
        self.path = box.path("runtime/s")
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify.bind(box.path("notify"))
        self.log = open(box.path("log"), "wb")
        self.process = subprocess.Popen(
            [os.environ["COALESCE"], "serve", "--socket", self.path, *options], stdin=subprocess.DEVNULL,
            stdout=self.log, stderr=self.log, cwd=box.work,
            env={**box.env, **(env or {}), "NOTIFY_SOCKET": box.path("notify")})
        await_state(self, "READY=1")

    def connect(self):
        return Client(self.path)

    def ask(self, line, env=None, **wish):
        return self.answer(self.begin(line, env=env, **wish))

    def request(self, line, env=None, **wish):
        request = {"line": line, "cwd": self.box.work}
        if env:
            request["env"] = env
        for name, value in wish.items():
            request[name] = value if isinstance(value, (bool, float, int)) or name in ("output", "class") else seconds(value)
        return request

    def begin(self, line, env=None, **wish):
        connection = self.connect()
        connection.send(self.request(line, env, **wish))
        return connection

    def answer(self, connection):
        with connection:
            answer = connection.message()
        assert "error" not in answer or "exit" in answer, answer
        return {**answer, "said": ""}

    def logged(self):
        with open(self.box.path("log"), errors="replace") as log:
            return log.read()

    def kill(self):
        """As if it had never been told; its log may end anywhere."""
        self.process.kill()
        self.process.wait()
        self.forget_files()

    def forget_files(self):
        self.log.close()
        self.notify.close()
        os.unlink(self.box.path("notify"))

    def close(self):
        self.process.terminate()
        self.process.wait()
        self.forget_files()
        log = self.logged()
        assert self.process.returncode == 0, log
        assert "Sanitizer" not in log and "runtime error" not in log, log
