# SPDX-License-Identifier: MIT
"""Kept results, end to end: the real binary with a home, a place and a cache of its own.

Nothing here sleeps, but for a moment between two looks, and nothing depends on how fast the machine is. A result grows old by having
its times rewritten on disk, by hours, to hours from any limit that a test names: then it does not
matter that a process may take half a minute. A command that must be under way is held on a FIFO, and is known to be there by what it wrote first; a run in the
background is waited for by the lock on the file that it holds, or by `status`.
"""

import contextlib
import ctypes
import faulthandler
import hashlib
import json
import os
import re
import select
import shutil
import signal
import stat
import struct
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../server"))
from harness import a_moment  # noqa: E402

COALESCE = os.environ["COALESCE"]
NOT_TRIED = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../not_tried")

PR_SET_CHILD_SUBREAPER = 36

HEADER = 256
CHECKSUM_AT = 224
TIMES_AT = 80  # started wall, started boot, ended wall, ended boot: nanoseconds
HOUR = 3600
SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": HOUR, "d": 24 * HOUR}


def checksum(data):
    return hashlib.blake2b(data, digest_size=16).digest()


class Sandbox:
    def __init__(self):
        self.directory = tempfile.mkdtemp(prefix="coalesce-kept-")
        for name in ("home", "runtime", "work"):
            os.mkdir(self.path(name), 0o700)
        self.work = self.path("work")
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": self.path("home"),
            "XDG_RUNTIME_DIR": self.path("runtime"),
            "LC_ALL": "C",
        }
        for name in ("ASAN_OPTIONS", "UBSAN_OPTIONS"):
            if name in os.environ:
                self.env[name] = os.environ[name]
        self.started = []

    def close(self):
        for process in self.started:
            if process.poll() is None:
                process.kill()
                process.wait()
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe:
                    pipe.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def path(self, name):
        return os.path.join(self.directory, name)

    def file(self, name, text="", mode=0o644):
        path = os.path.join(self.work, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as file:
            file.write(text)
        os.chmod(path, mode)
        return path

    def read(self, name):
        with contextlib.suppress(FileNotFoundError):
            with open(os.path.join(self.work, name)) as file:
                return file.read()
        return ""

    def runs(self, name="runs"):
        return self.read(name).count("\n")

    def start(self, *words, stdin=subprocess.DEVNULL, cwd=None, env=None, spawn=subprocess.Popen, **more):
        process = spawn(
            [COALESCE, *words],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=cwd or self.work,
            env={**self.env, **(env or {})},
            **more,
        )
        self.started.append(process)
        return process

    def call(self, *words, input=None, **more):
        """Exit status, stdout and stderr."""
        process = self.start(*words, stdin=subprocess.PIPE if input is not None else subprocess.DEVNULL, **more)
        out, err = process.communicate(input)
        return process.returncode, out.decode("latin-1"), err.decode("latin-1")

    def run(self, *words, **more):
        return self.call("run", *words, **more)

    def out(self, *words, **more):
        status, out, err = self.run(*words, **more)
        assert (status, err) == (0, ""), (status, err)
        return out

    def entries(self, below=None):
        """Paths of the kept results."""
        found = []
        for directory, _, files in os.walk(below or self.path("home/.cache/coalesce")):
            found += [os.path.join(directory, name) for name in files if len(name.removesuffix(".f")) == 32]
        return sorted(found)

    def failed_refreshes(self, below=None):
        """Paths of the notes of refreshes that failed, one a key."""
        found = []
        for directory, _, files in os.walk(below or self.path("home/.cache/coalesce")):
            found += [os.path.join(directory, name) for name in files if name.endswith(".t")]
        return found

    def age(self, seconds, below=None, also_started=0, some=True):
        """Makes all that is kept, and the notes of failed refreshes, that much older. It waits until there is `some`."""
        by = int(seconds * 1e9)
        while not (kept := self.entries(below)) and some:  # on a busy machine who asked is answered before (T13)
            a_moment()
        aside = self.path("aging")  # what is written has its time changed, and who cleans just then would remove it
        for path in kept:
            info = os.stat(path)  # before it is read
            shutil.copy2(path, aside)
            with open(aside, "r+b") as file:
                header = bytearray(file.read(HEADER))
                times = [time - by for time in struct.unpack_from("<4q", header, TIMES_AT)]
                times[0] -= int(also_started * 1e9)
                times[1] -= int(also_started * 1e9)
                struct.pack_into("<4q", header, TIMES_AT, *times)
                header[CHECKSUM_AT : CHECKSUM_AT + 16] = checksum(bytes(header[:CHECKSUM_AT]))
                file.seek(0)
                file.write(header)
            os.utime(aside, ns=(info.st_atime_ns, info.st_mtime_ns - by))
            os.rename(aside, path)
        for path in self.failed_refreshes(below):
            with open(path, "r+") as file:
                wall, boot, boot_id = file.read().split()
                file.seek(0)
                file.truncate()
                file.write(f"{int(wall) - by} {int(boot) - by} {boot_id}\n")

    def clean(self, *where):
        """`cache clean`. One cleans at a time, and a process that has published may be at it."""
        while "another process is cleaning" in (answer := self.call("cache", "clean", *where))[2]:
            a_moment()
        return answer

    def gate(self, name="gate"):
        """A FIFO that holds whoever reads it; opened by writing."""
        path = os.path.join(self.work, name)
        os.mkfifo(path)
        return path

    def status(self):
        _, out, _ = self.call("status", "--json")
        return [json.loads(line) for line in out.splitlines()]

    def kill_parent_of(self, command, condition=lambda parent: True):
        """Kills the coalesce that runs it, where that is one of this sandbox; whether it did. A number that was told a
        while ago is somebody else's by now, perhaps of a test beside this one."""
        with contextlib.suppress(OSError):
            parent = parent_of(command)
            handle = os.pidfd_open(parent)
            try:
                if parent_of(command) == parent and self.is_coalesce(parent) and condition(parent):
                    signal.pidfd_send_signal(handle, signal.SIGKILL)
                    return True
            finally:
                os.close(handle)
        return False

    def is_coalesce(self, pid):
        """Whether it is one of this sandbox."""
        with open(f"/proc/{pid}/comm") as name, open(f"/proc/{pid}/environ", "rb") as environment:
            return name.read() == "coalesce\n" and os.fsencode(self.directory) in environment.read()

    def nothing_in_flight(self):
        """Waits until no wrapper's flight is live."""
        while self.status():
            a_moment()


def parent_of(pid):
    with open(f"/proc/{pid}/stat") as file:
        return int(file.read().rsplit(")", 1)[1].split()[1])


def crash(requester, flight):
    """Kills a lone requester and its supervisor, so that neither sees the other go. The command has died of it then: as long as
    it lives, whoever comes next takes its flight for one that is under way."""
    command = os.pidfd_open(flight["pid"])
    requester.send_signal(signal.SIGSTOP)  # or it would take over
    os.waitpid(requester.pid, os.WUNTRACED)
    os.kill(flight["supervisor"], signal.SIGKILL)
    requester.kill()
    requester.wait()
    select.select([command], [], [])
    os.close(command)


class Test(unittest.TestCase):
    def setUp(self):
        self.box = Sandbox()
        self.addCleanup(self.box.close)


def adopt_orphans(adopted):
    """The children of this process's descendants become its own when their parents end."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, int(adopted), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def main():
    faulthandler.dump_traceback_later(870)  # a little before tests/run ends it: who hangs tells where
    program = unittest.main(exit=False)
    for _, why in program.result.skipped:
        subprocess.run([NOT_TRIED, *why.split(": ", 1)], check=False)
    sys.exit(not program.result.wasSuccessful())


def seconds(text):
    """What a duration in words says, "4m 10s", at least."""
    assert re.fullmatch(r"[\d.]+(ms|[smhd])( \d+[smh])?", text), text
    return sum(float(number) * SECONDS[unit] for number, unit in re.findall(r"([\d.]+)([a-z]+)", text))


def mode_of(path):
    return stat.S_IMODE(os.lstat(path).st_mode)
