#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A store that was damaged, forged or is in bad hands: SPEC T15–T17, K3.

Whatever lies in an entry's place, coalesce run answers as if nothing were kept there: the
command runs, its answer is whole, its status is its own, and the next request is served
again. Each byte and each length of an entry is tried through the library (entry_test.cpp),
and here, through the program, the borders of all parts, some between, and what has right checksums:
with COALESCE_LONG=1 every 13th and more forged numbers.
"""

import os
import shutil
import stat
import struct
import subprocess

from sandbox import CHECKSUM_AT, HEADER, Test, a_moment, checksum, main

LINE = "echo >>runs; echo out; echo err >&2"
ANSWER = (0, "out\n", "err\n")
LONG = "COALESCE_LONG" in os.environ
STRIDE = 13 if LONG else 61
FORGED = (0, 1, 1 << 31, (1 << 63) - 1, (1 << 64) - 1) if LONG else (0, 1 << 31, (1 << 64) - 1)


class Damaged(Test):
    def setUp(self):
        super().setUp()
        self.assertEqual(self.ask(), ANSWER)
        (self.path,) = self.box.entries()
        with open(self.path, "rb") as file:
            self.whole = file.read()
        self.information = os.stat(self.path)

    def ask(self, line=LINE):
        return self.box.run("--ttl", "1h", "-c", line)

    def put(self, data):
        """Makes that the entry, as a publisher would have."""
        with open(self.path + ".new", "wb", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            file.write(data)
        os.utime(self.path + ".new", ns=(self.information.st_atime_ns, self.information.st_mtime_ns))
        os.rename(self.path + ".new", self.path)

    def runs_again(self, data, what):
        before = self.box.runs()
        self.put(data)
        self.assertEqual(self.ask(), ANSWER, what)
        self.assertEqual(self.box.runs(), before + 1, what)

    def test_T17_the_entry_as_it_was_is_served(self):
        # Or what follows would show nothing.
        self.put(self.whole)
        self.assertEqual(self.ask(), ANSWER)
        self.assertEqual(self.box.runs(), 1)

    def test_T17_a_byte_is_another(self):
        mark = range(CHECKSUM_AT + 16, HEADER)  # says only that long output was synced
        borders = {0, 15, 16, CHECKSUM_AT - 1, CHECKSUM_AT, HEADER, HEADER + 3, HEADER + 4, len(self.whole) - 1}
        for at in sorted(borders | set(range(0, len(self.whole), STRIDE)) - set(mark)):
            changed = bytearray(self.whole)
            changed[at] ^= 0x40
            self.runs_again(bytes(changed), f"byte {at}")

    def test_T17_T23_damaged_output_is_not_shown(self):
        line = "head -c 200000 /dev/zero"
        self.ask(line)
        while len(self.box.entries()) < 2:  # on a busy machine who asked is answered before (T13)
            a_moment()
        (self.path,) = set(self.box.entries()) - {self.path}
        with open(self.path, "rb") as file:
            entry = bytearray(file.read())
        entry[CHECKSUM_AT + 16 : HEADER] = bytes(HEADER - CHECKSUM_AT - 16)  # as if it had not been synced yet
        show = lambda: self.box.call("cache", "show", "--output", "-c", line)
        self.put(entry)
        self.assertEqual(show(), (0, "\0" * 200000, ""))
        entry[HEADER + 150000] ^= 0x40
        self.put(entry)
        status, out, err = show()
        self.assertEqual((status, len(out)), (1, 0))
        self.assertIn("nothing is kept", err)
        self.assertFalse(os.path.exists(self.path))

    def test_T17_it_is_shorter_or_longer(self):
        borders = {1, HEADER - 1, HEADER, HEADER + 1, len(self.whole) - 1}
        for length in sorted(borders | set(range(0, len(self.whole), 3 * STRIDE))):
            self.runs_again(self.whole[:length], f"length {length}")
        for more in (b"\0", self.whole):
            self.runs_again(self.whole + more, f"{len(more)} more")

    def test_T17_a_header_that_lies_under_a_right_checksum(self):
        # Lengths, times and the key that an attacker, or another version, might have written. Each
        # number of the header is tried at its extremes; whatever passes must still answer rightly.
        for at in range(0, CHECKSUM_AT, 8):
            for value in FORGED:
                if struct.unpack_from("<Q", self.whole, at)[0] == value:
                    continue
                header = bytearray(self.whole[:HEADER])
                struct.pack_into("<Q", header, at, value)
                header[CHECKSUM_AT : CHECKSUM_AT + 16] = checksum(bytes(header[:CHECKSUM_AT]))
                before = self.box.runs()
                self.put(bytes(header) + self.whole[HEADER:])
                status, out, err = self.ask()
                what = f"number at {at}: {value}"
                if self.box.runs() == before:  # served: then exactly, and with the status that it names
                    self.assertEqual((out, err), ANSWER[1:], what)
                    self.assertGreaterEqual(status, 0, what)
                else:
                    self.assertEqual((status, out, err), ANSWER, what)
                    self.assertEqual(self.box.runs(), before + 1, what)
                if value == 1 << 31:  # what looks at all there is must bear it as well
                    self.put(bytes(header) + self.whole[HEADER:])
                    self.assertEqual(self.box.call("cache", "list", "--json")[0], 0, what)

    def test_K3_the_entry_of_another_command_is_not_served(self):
        other = "echo >>runs; echo other"
        self.ask(other)
        (theirs,) = set(self.box.entries()) - {self.path}
        with open(theirs, "rb") as file:
            self.runs_again(file.read(), "another's entry")

    def test_T17_what_is_no_private_file_is_not_read(self):
        elsewhere = self.box.path("elsewhere")
        with open(elsewhere, "wb", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            file.write(self.whole)

        def wide():
            self.put(self.whole)
            os.chmod(self.path, 0o644)

        for name, make in (
            ("a symbolic link", lambda: os.symlink(elsewhere, self.path)),
            ("a second link", lambda: os.link(elsewhere, self.path)),
            ("a FIFO", lambda: os.mkfifo(self.path, 0o600)),  # whoever opened that to wait would hang
            ("readable for others", wide),
        ):
            before = self.box.runs()
            os.unlink(self.path)
            make()
            self.assertEqual(self.ask(), ANSWER, name)
            self.assertEqual(self.box.runs(), before + 1, name)
            self.assertEqual(self.ask(), ANSWER, name)
            self.assertEqual(self.box.runs(), before + 1, name)
            self.assertTrue(stat.S_ISREG(os.lstat(self.path).st_mode), name)
        with open(elsewhere, "rb") as file:
            self.assertEqual(file.read(), self.whole)  # what a link led to was left alone

    def test_T15_a_directory_where_an_entry_should_be_fails_nothing(self):
        os.unlink(self.path)
        os.mkdir(self.path)
        status, out, err = self.ask()
        self.assertEqual((status, out), (0, "out\n"))
        self.assertLessEqual(err.replace("err\n", "", 1).count("\n"), 1)
        self.assertEqual(self.box.runs(), 2)


class BadHands(Test):
    """Directories in which nothing can be kept. The command runs, and one line says so."""

    def refused(self, *where, said, **how):
        before = self.box.runs()
        status, out, err = self.box.run("--ttl", "1h", *where, "-c", LINE, **how)
        self.assertEqual((status, out), (0, "out\n"))
        self.assertEqual(self.box.runs(), before + 1)
        told = err.replace("err\n", "", 1)
        self.assertEqual(told.count("\n"), 1, err)
        self.assertIn("not kept: ", told)
        self.assertIn(said, told)

    def test_T15_a_read_only_directory(self):
        if os.geteuid() != 0:
            closed = self.box.path("closed")
            os.mkdir(closed, 0o500)
            return self.refused("--cache-dir", closed, said="Permission denied")
        # Modes do not hold root back; a file system does.
        mount = self.box.path("mount")
        os.mkdir(mount)
        tmpfs = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=0700", "none", mount]
        if subprocess.call(tmpfs, stderr=subprocess.DEVNULL):
            self.skipTest("T15 a read-only file system: no mount")
        self.addCleanup(subprocess.call, ["umount", "-l", mount])
        where = ("--cache-dir", mount)
        self.assertEqual(self.box.run("--ttl", "1h", *where, "-c", LINE), ANSWER)
        remount = ["mount", "-o", "remount,ro", mount]
        while (tried := subprocess.run(remount, stderr=subprocess.PIPE, env=self.box.env)).returncode and b"busy" in tried.stderr:
            a_moment()  # the process that published may be syncing or cleaning yet
        if tried.returncode:
            self.skipTest("T15 a read-only file system: no remount")
        # What is there is served, what is not cannot be kept.
        self.assertEqual(self.box.run("--ttl", "1h", *where, "-c", LINE), ANSWER)
        self.assertEqual(self.box.runs(), 1)
        self.refused(*where, "--fresh", said="Read-only file system")

    def test_T16_a_directory_of_somebody_else(self):
        if os.geteuid() != 0:
            self.skipTest("T16 a directory of somebody else: no root")
        theirs = self.box.path("theirs")
        os.mkdir(theirs, 0o777)
        where = ("--cache-dir", theirs)
        self.assertEqual(self.box.run("--ttl", "1h", *where, "-c", LINE), ANSWER)
        self.box.clean(*where)  # or the process that published may be making its own files yet
        (store,) = (os.path.join(theirs, name) for name in os.listdir(theirs))
        before = os.listdir(store)
        for path in (store, *(os.path.join(store, name) for name in before)):
            os.chown(path, 65534, 65534)
        self.refused(*where, said=theirs)
        self.assertEqual(os.listdir(store), before)

    def test_T16_a_directory_that_others_may_write(self):
        self.assertEqual(self.box.run("--ttl", "1h", "-c", LINE), ANSWER)
        store = os.path.dirname(self.box.entries()[0])
        os.chmod(store, 0o777)
        self.refused(said="coalesce")

    def test_T16_a_symbolic_link_where_the_store_should_be(self):
        self.assertEqual(self.box.run("--ttl", "1h", "-c", LINE), ANSWER)
        self.box.clean()  # or the process that published may be making its own files yet
        store = os.path.dirname(self.box.entries()[0])
        elsewhere = self.box.path("elsewhere")
        shutil.move(store, elsewhere)
        os.symlink(elsewhere, store)
        before = sorted(os.listdir(elsewhere))
        self.refused(said="coalesce")
        self.assertEqual(sorted(os.listdir(elsewhere)), before)


if __name__ == "__main__":
    main()
