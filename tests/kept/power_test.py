#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A power loss at any moment of a publication (SPEC T17), by replaying every prefix of its writes.

strace writes down what the real program does to the store: each call that makes, fills, syncs, names or
removes a file. Each prefix of that is what a disk may hold when the power goes, and of what was not synced by
then the disk may have nothing: so each write of it is also lost, alone and together with others, as zeros (the
file has its length), as nothing (it is shorter), or page by page. In each such store the command is asked for
again: what is answered is a whole answer of a run that there was, or the command runs once more; then that is kept.

Only a store that was named outlives a boot (T16), so that is what is tried. The server is asked, in whose place
of work each state is laid, since it answers thousands in the time in which that many programs start;
COALESCE_LONG=1 asks `coalesce run` as well.
"""

import contextlib
import os
import re
import shutil
import subprocess

from doors import Server
from sandbox import COALESCE, Test, main

LONG = "COALESCE_LONG" in os.environ
SHORT, LONG_OUTPUT = 100, 200_000  # below and above what is checked at each hit
PAGE = 4096

# Everything by which a file can be changed; what the replay does not know of them fails the test.
CALLS = ("?open,openat,?openat2,?creat,write,writev,pwrite64,pwritev,?pwritev2,?truncate,ftruncate,fallocate,?rename,"
         "renameat,renameat2,?link,linkat,?symlink,symlinkat,?unlink,unlinkat,?mkdir,mkdirat,?rmdir,?chmod,fchmod,"
         "fchmodat,utimensat,fsync,fdatasync,?sync_file_range,?copy_file_range,sendfile,splice")
CALL = re.compile(r"(?P<time>\d+\.\d+) (?P<name>\w+)\((?P<arguments>.*)\) += (?P<result>-?\d+)")
FILE = re.compile(r"\d+<(?P<path>[^>]*)>")
TEXT = re.compile(r'"(?P<bytes>[^"]*)"')


def decoded(text):
    return bytes.fromhex(text.replace("\\x", "")) if text.startswith("\\x") else text.encode()


class File:
    """What is done to one file, in order: what of it has arrived is up to the disk."""

    def __init__(self, data=b"", times=None):
        self.data = data  # on the disk already
        self.times = times
        self.writes = []  # since it was synced last: (offset, bytes)
        self.end = 0  # where write() goes on

    def sync(self):
        self.data, self.writes = self.with_writes(self.writes), []

    def with_writes(self, writes):
        data = bytearray(self.data)
        for at, piece in writes:
            data[len(data) : at] = bytes(max(0, at - len(data)))
            data[at : at + len(piece)] = piece
        return bytes(data)

    def on_disk(self):
        """All that may be found in it, as far as the tests tell it apart."""
        zeros = [(at, bytes(len(piece))) for at, piece in self.writes]
        every_other_page = []
        for at, piece in self.writes:
            torn = bytearray(piece)
            for page in range(PAGE - at % PAGE, len(piece), 2 * PAGE):
                torn[page : page + PAGE] = bytes(len(torn[page : page + PAGE]))
            every_other_page.append((at, bytes(torn)))
        found = [self.writes, [], zeros, every_other_page]
        for lost in range(len(self.writes)):
            others = self.writes[:lost] + self.writes[lost + 1 :]
            found += [others, [self.writes[lost]], self.writes[:lost] + [zeros[lost]] + self.writes[lost + 1 :]]
        return list(dict.fromkeys(self.with_writes(writes) for writes in found))


class Recording:
    """The calls of a program and all that it starts that change files in one directory."""

    def __init__(self, directory):
        self.directory = os.fsencode(directory)
        self.calls = []

    def within(self, path):
        """The name of a file in the directory, or None."""
        where, name = os.path.split(path.removesuffix(b" (deleted)"))
        return name.decode() if where == self.directory else None

    def read(self, traces):
        lines = []
        for trace in traces:
            with open(trace) as file:
                lines += file
        for line in sorted(lines):  # by time: a publication is made by one process after the other
            call = CALL.match(line)
            if call and int(call["result"]) >= 0:
                self.take(call["name"], call["arguments"], int(call["result"]))

    def take(self, name, arguments, result):
        paths = [decoded(found["path"]) for found in FILE.finditer(arguments)]
        texts = [decoded(found["bytes"]) for found in TEXT.finditer(arguments)]
        if name.endswith("at") and name != "utimensat":
            texts = [os.path.join(paths[i] if i < len(paths) else b"", text) for i, text in enumerate(texts)]
        if name in ("write", "pwrite64", "ftruncate", "fsync", "fdatasync", "utimensat", "fchmod", "fallocate"):
            file = self.within(paths[0]) if paths else None
            if file is None:
                return
            if name == "write":
                self.calls.append(("write", file, texts[0][:result]))
            elif name == "pwrite64":
                at = int(arguments.rsplit(", ", 1)[1])
                self.calls.append(("pwrite", file, texts[0][:result], at))
            elif name in ("fsync", "fdatasync"):
                self.calls.append(("sync", file))
            elif name == "utimensat" and "tv_sec" in arguments:
                numbers = [int(number) for number in re.findall(r"tv_n?sec=(\d+)", arguments)]
                self.calls.append(("times", file, (numbers[0] * 10**9 + numbers[1], numbers[2] * 10**9 + numbers[3])))
            elif name == "ftruncate":
                self.calls.append(("length", file, int(arguments.rsplit(", ", 1)[1])))
            elif name != "fchmod":
                raise AssertionError(f"the replay does not know {name}({arguments})")
            return
        files = [self.within(path) for path in texts]
        if not any(files):
            assert not any(self.within(path) for path in paths), f"the replay does not know {name}({arguments})"
        elif name == "openat":
            if "O_CREAT" in arguments:
                self.calls.append(("make", files[0]))
            assert "O_TRUNC" not in arguments
        elif name in ("renameat", "renameat2", "rename"):
            self.calls.append(("name", *files))
        elif name in ("unlink", "unlinkat"):
            self.calls.append(("remove", files[0]))
        elif name not in ("mkdir", "mkdirat"):
            raise AssertionError(f"the replay does not know {name}({arguments})")

    def prefixes(self, before):
        """What the directory holds before the first call and after each, as names and files."""
        files = {name: File(data, times) for name, (data, times) in before.items()}
        yield files
        for what, name, *more in self.calls:
            file = files.get(name)
            if what == "make" and file is None:
                files[name] = File()
            elif what == "name":
                files[more[0]] = files.pop(name)
            elif what == "remove":
                files.pop(name, None)
            elif file is None:
                continue  # it has no name any more
            elif what == "write":
                file.writes.append((file.end, more[0]))
                file.end += len(more[0])
            elif what == "pwrite":
                file.writes.append((more[1], more[0]))
            elif what == "length":
                assert len(file.with_writes(file.writes)) == more[0]  # nothing is cut that could be found again
            elif what == "sync":
                file.sync()
            elif what == "times":
                file.times = more[0]
            yield files


class PowerLoss(Test):
    def setUp(self):
        super().setUp()
        if not shutil.which("strace") or subprocess.run(["strace", "-qq", "-o", "/dev/null", "true"], check=False).returncode:
            self.skipTest("T17 a power loss: strace cannot trace here")
        # Leaks cannot be looked for under strace, and what a command runs under is part of its key.
        self.box.env["ASAN_OPTIONS"] = "detect_leaks=0"
        self.named = self.box.path("named")
        self.store = self.named + "/1"
        self.where = ("--cache-dir", self.named)
        self.server = Server(self.box, *self.where, env={"ASAN_OPTIONS": "detect_leaks=1"})
        self.addCleanup(self.server.close)
        self.states = set()
        self.served = self.ran = 0

    def line(self, size, status=0):
        return (f"echo run >>runs; n=$(wc -l <runs); echo run $n; head -c {size} /dev/zero | tr '\\0' $n;"
                f" echo err $n >&2; exit {status}")

    def answer(self, run, size, status=0):
        return status, f"run {run}\n" + str(run)[0] * size, f"err {run}\n"

    def record(self, *words):
        trace = self.box.path("trace")
        os.makedirs(trace, exist_ok=True)
        traced = subprocess.run(
            ["strace", "-ff", "-ttt", "-y", "-xx", "-qq", "-s", "2000000", "-e", "signal=none", "-e", "trace=" + CALLS,
             "-o", trace + "/t", COALESCE, *words], cwd=self.box.work, env=self.box.env, stdin=subprocess.DEVNULL,
            capture_output=True, check=False)
        recording = Recording(self.store)
        recording.read(os.path.join(trace, name) for name in os.listdir(trace))
        shutil.rmtree(trace)
        self.assertNotEqual(recording.calls, [], (traced.returncode, traced.stderr))
        return recording, (traced.returncode, traced.stdout.decode(), traced.stderr.decode())

    def contents(self):
        held = {}
        for name in os.listdir(self.store) if os.path.isdir(self.store) else ():
            path = os.path.join(self.store, name)
            with open(path, "rb") as file:
                information = os.stat(path)
                held[name] = (file.read(), (information.st_atime_ns, information.st_mtime_ns))
        return held

    def lay(self, state):
        for name in os.listdir(self.store):
            with contextlib.suppress(FileNotFoundError):  # it cleans, or has given up what it wrote
                os.unlink(os.path.join(self.store, name))
        made = self.box.path("made")  # or who cleans the store, as it does now and then, would find one past its time
        for name, (data, times) in state.items():
            with open(made, "wb", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
                file.write(data)
            if times:
                os.utime(made, ns=times)
            os.rename(made, os.path.join(self.store, name))

    def look(self, state, what, ask, size, status):
        """Whatever is in the store, the answer is whole, and is kept afterwards."""
        self.lay(state)
        before = self.box.runs()
        answer = ask()
        now = self.box.runs()
        self.assertIn(now - before, (0, 1), what)
        if now > before:
            self.ran += 1
            self.assertEqual(answer, self.answer(now, size, status), what)
        else:
            self.served += 1
            self.assertIn(answer, [self.answer(run, size, status) for run in range(1, self.recorded + 1)], what)
        # What takes long to write is written on when its requester has been served (T13).
        while True:
            before = self.box.runs()
            again = ask()
            if self.box.runs() == before:
                break
            answer = self.answer(before + 1, size, status)
            self.assertEqual(again, answer, what)
        self.assertEqual(again, answer, what)

    def replay(self, recording, before, size, status=0):
        """Each prefix of the calls, and of each what a disk may have of it."""
        line = self.line(size, status)
        self.recorded = self.box.runs()
        wish = {"ttl": "1h", **({"keep_failures": "1h"} if status else {})}

        def ask_server():
            got = self.server.ask(line, env=self.box.env, **wish)
            return got.get("exit"), got["stdout"], got["stderr"]

        def ask_run():
            return self.box.run("--ttl", "1h", *(["--keep-failures", "1h"] if status else []), *self.where, "-c", line)

        asked = [ask_server, ask_run] if LONG else [ask_server]
        self.served = self.ran = 0
        for count, files in enumerate(recording.prefixes(before)):
            whole = {name: (file.with_writes(file.writes), file.times) for name, file in files.items()}
            for name, file in files.items():
                # Nothing reads what has no name of its own yet, so there is one state of it.
                for data in file.on_disk() if not name.endswith(".new") else [whole[name][0]]:
                    state = {**whole, name: (data, file.times)}
                    told_apart = frozenset((name, data) for name, (data, _) in state.items() if not name.endswith(".new"))
                    if told_apart in self.states:
                        continue
                    self.states.add(told_apart)
                    what = f"after {count} of {len(recording.calls)} calls, {name}: {len(data)} bytes"
                    for ask in asked:
                        self.look(state, what, ask, size, status)
        # The replay is true to what happened: with everything on the disk its end is what was published.
        self.lay(whole)
        self.assertEqual(ask_server(), self.last or self.answer(self.box.runs(), size, status))
        print(f"{len(self.states)} states: {self.served} served, {self.ran} ran again")
        return self.served, self.ran

    def publish(self, size, status=0, first=True):
        words = ["run", "--ttl", "1h", *self.where, *(["--keep-failures", "1h"] if status else []),
                 *([] if first else ["--fresh"]), "-c", self.line(size, status)]
        before = self.contents()
        recording, self.last = self.record(*words)
        self.assertEqual(self.last, self.answer(self.box.runs(), size, status))
        # Named after all has been written: the last of its own writes may be the mark of a sync.
        names = [call for call in recording.calls if call[0] == "name" and len(call[2].removesuffix(".f")) == 32]
        self.assertEqual(len(names), 1, recording.calls)
        return recording, before

    def test_T17_of_a_short_result(self):
        served, ran = self.replay(*self.publish(SHORT), SHORT)
        self.assertGreater(served, 0)
        self.assertGreater(ran, 5)

    def test_T17_of_a_long_result_which_is_synced_and_marked(self):
        recording, before = self.publish(LONG_OUTPUT)
        calls = [call[0] for call in recording.calls]
        self.assertIn("pwrite", calls[calls.index("sync") :])  # the mark, and after the sync
        served, ran = self.replay(recording, before, LONG_OUTPUT)
        self.assertGreater(served, 1)
        self.assertGreater(ran, 10)

    def test_T17_of_a_result_that_replaces_another(self):
        for size in (SHORT, LONG_OUTPUT):
            self.publish(size)
            self.replay(*self.publish(size, first=False), size)

    def test_T17_of_a_failure(self):
        self.replay(*self.publish(SHORT, 3), SHORT, 3)

    def test_T17_T21_of_forgetting(self):
        for words in (["forget", "-c", self.line(SHORT)], ["clear"], ["limits", "--max-entry", "1M"]):
            self.publish(SHORT, first=False)
            before = self.contents()
            recording, (status, _, err) = self.record("cache", words[0], *self.where, *words[1:])
            self.assertEqual((status, err), (0, ""))
            if words[0] != "limits":
                self.assertEqual([name for name in self.names_after(recording, before) if len(name) == 32], [])
                self.last = None  # it runs again
            self.replay(recording, before, SHORT)

    def names_after(self, recording, before):
        for files in recording.prefixes(before):
            last = list(files)
        return last


if __name__ == "__main__":
    main()
