# SPDX-License-Identifier: MIT
"""What the manual shows of other tools, tried with the tools themselves.

A test takes its recipe from the page and runs that, with at most a name put in its place, so
what the manual shows is what works. Which tool is not here is told (tests/not_tried).
Nothing sleeps: commands are held by a lock, and let go when `status` shows who waits for them.
"""

import contextlib
import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../kept"))

import sandbox  # noqa: E402

COALESCE = sandbox.COALESCE
main = sandbox.main
a_moment = sandbox.a_moment


def displays(text):
    return [block.replace("\\e", "\\").replace("\\-", "-").replace("\\&", "")
            for block in re.findall(r"^\.Bd -literal.*?\n(.*?)^\.Ed$", text, re.M | re.S)]


def chapter(title):
    with open(os.environ["COALESCE_MANUAL"], encoding="utf-8") as file:
        return re.search(rf"^\.Sh {title}\n(.*?)^\.Sh ", file.read(), re.M | re.S).group(1)


def recipe(tool):
    """What the manual shows under that name."""
    [item] = re.findall(rf"^\.It Xr {re.escape(tool)} \d\n(.*?)(?=^\.It |^\.El)", chapter("AMONG OTHER TOOLS"), re.M | re.S)
    [text] = displays(item)
    return text


def rules(title):
    """The rules file that a chapter shows."""
    [text] = [text for text in displays(chapter(title)) if text.startswith("[[command]]")]
    return text


def put(text, **places):
    """Names in place of the manual's; one that it does not have is a mistake of the test."""
    for name, value in places.items():
        assert name in text, (name, text)
        text = text.replace(name, value)
    return text


class Sandbox(sandbox.Sandbox):
    def __init__(self):
        super().__init__()
        self.bin = self.path("bin")
        os.mkdir(self.bin)
        os.symlink(COALESCE, os.path.join(self.bin, "coalesce"))
        self.env["PATH"] = self.bin + ":" + self.env["PATH"]
        self.env["TERM"] = "xterm"
        self.held = None

    def shell(self, script, stdin=subprocess.DEVNULL, **more):
        """Starts a script; stdout and stderr are one."""
        process = subprocess.Popen(["sh", "-ec", script], stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                   text=True, **{"cwd": self.work, "env": self.env, **more})
        self.started.append(process)
        return process

    def program(self, name, script):
        path = os.path.join(self.bin, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write("#!/bin/sh\n" + script)
        os.chmod(path, 0o755)
        return path

    @contextlib.contextmanager
    def holding(self):
        """Until it is left, whoever says self.hold waits: any number of them, whenever they come."""
        with open(self.path("gate"), "w", encoding="utf-8") as gate:
            fcntl.flock(gate, fcntl.LOCK_EX)
            yield

    @property
    def hold(self):
        return f"flock -s {self.path('gate')} true"

    def wait_for_requesters(self, requesters, flights=1, *where):
        """Until so many flights have so many requesters each."""
        while [flight["requesters"] for flight in self.status(*where)].count(requesters) != flights:
            for process in self.started:
                if process.poll() and not process.stdout.closed:
                    raise AssertionError(f"{process.args} ended with {process.poll()}: {process.stdout.read()}")

    def status(self, *where):
        _, out, _ = self.call("status", "--json", *where)
        return [json.loads(line) for line in out.splitlines()]


class Test(unittest.TestCase):
    def setUp(self):
        self.box = Sandbox()
        self.addCleanup(self.box.close)

    def need(self, *tools):
        for tool in tools:
            if not shutil.which(tool, path=self.box.env["PATH"] + ":/usr/sbin:/sbin"):
                self.skipTest(f"the manual's recipe for {tool}: it is not installed")

    def end(self, process, status=0):
        """What it printed."""
        out, _ = process.communicate()
        self.assertEqual(process.returncode, status, out)
        return out

    def assert_ran_once(self):
        self.assertEqual(self.box.runs(), 1)
