#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A git work tree through a thousand edits: `coalesce key` changes when its state does, and only then (T9).

What the state is, is told here a second time and in other words: for --depends DIR all that lies
below it, for --depends-from what git lists, each file by content and execute bit, each symbolic
link by its text and, where it was named itself, by what it leads to. Two keys are equal exactly if these are: so an edit that is undone brings
the old key back, and what is ignored, or staged, changes the key of the listed state only as
far as it changes which paths there are.

EDITS_SEED repeats a sequence.
"""

import os
import random
import shutil
import stat
import subprocess

from sandbox import Test, main

EDITS = 1000
LOOK_EVERY = 10  # a look costs three processes; a tree that comes back between two looks shows nothing
LIST = ["git", "ls-files", "-coz", "--exclude-standard"]


def told(path):
    """One path as somebody else would tell it."""
    try:
        info = os.lstat(path)
    except OSError:
        return "missing"
    if stat.S_ISLNK(info.st_mode):
        return "link to " + os.readlink(path)
    if stat.S_ISDIR(info.st_mode):
        return {name: told(os.path.join(path, name)) for name in sorted(os.listdir(path))}
    with open(path, "rb") as file:
        return (file.read(), bool(info.st_mode & 0o100))


class Edits(Test):
    def setUp(self):
        super().setUp()
        if not shutil.which("git"):
            self.skipTest("T9 edits of a work tree: no git")
        self.seed = os.environ.get("EDITS_SEED") or str(random.randrange(1 << 32))
        self.random = random.Random(self.seed)
        self.tree = self.box.path("tree")
        self.git("init", "-q", self.tree, cwd=self.box.directory)

    def git(self, *words, cwd=None):
        environment = {**self.box.env, "GIT_CONFIG_NOSYSTEM": "1", "GIT_CEILING_DIRECTORIES": self.box.directory}
        done = subprocess.run(["git", *words], cwd=cwd or self.tree, env=environment, capture_output=True)
        return done.stdout

    def path(self, *names):
        return os.path.join(self.tree, *names)

    def name(self):
        """A place for an edit: few, so that states come back."""
        return self.path(self.random.choice(("", "src", "src/deep", "out")), self.random.choice(("a", "b", "c.o")))

    def listed(self, paths):
        return sorted({os.path.join(self.tree, os.fsdecode(path)).rstrip("/") for path in paths.split(b"\0")} - {self.tree})

    def edit(self):
        path, kind = self.name(), self.random.randrange(11)
        present = os.path.lexists(path)
        file = present and not os.path.islink(path) and os.path.isfile(path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if kind in (0, 1):
            if file or not present:
                with open(path, "w") as opened:
                    opened.write(self.random.choice(("", "1", "2")))
        elif kind == 2 and file:
            os.chmod(path, self.random.choice((0o644, 0o755, 0o600, 0o744)))
        elif kind == 3 and present:
            to = self.name()
            os.makedirs(os.path.dirname(to), exist_ok=True)
            if not os.path.isdir(to):
                os.rename(path, to)
        elif kind in (4, 5) and present:
            os.unlink(path)
        elif kind == 6:  # ignored, or not
            with open(self.path(".gitignore"), "w") as opened:
                opened.write(self.random.choice(("", "*.o\n", "out/\n")))
        elif kind == 7 and not present:
            os.symlink(self.random.choice(("a", "b", "../nowhere")), path)
        elif kind == 8:  # staged, or no more
            self.git(*self.random.choice((("add", "-A"), ("add", "src"), ("rm", "-rq", "--cached", "--ignore-unmatch", "."))))
        elif kind == 9:
            nested = self.path("nested")
            if os.path.exists(nested):
                shutil.rmtree(nested)
            else:
                self.git("init", "-q", nested)
                with open(os.path.join(nested, "a"), "w") as opened:
                    opened.write(self.random.choice(("1", "2")))
        elif kind == 10 and file:  # not an edit, but it looks like one
            os.utime(path, (self.random.randrange(1 << 31), self.random.randrange(1 << 31)))

    def key(self, *words, cwd=None, input=None):
        status, out, err = self.box.call("key", *words, "--", "make", cwd=cwd or self.tree, input=input)
        self.assertEqual((status, err), (0, ""))
        return out.split()[0]

    def check(self, seen, what, key, when):
        """Equal if and only if equal."""
        state, by_key = seen
        self.assertEqual(state.setdefault(what, key), key, f"the same state, another key: {when}")
        self.assertEqual(by_key.setdefault(key, what), what, f"another state, the same key: {when}")

    def test_T9_a_thousand_edits(self):
        below, listed = ({}, {}), ({}, {})
        for number in range(EDITS):
            self.edit()
            if number % LOOK_EVERY:
                continue
            when = f"edit {number}, EDITS_SEED={self.seed}"
            os.makedirs(self.path("src"), exist_ok=True)
            self.check(below, repr(told(self.path("src"))), self.key("--depends", "src"), when)
            paths = self.git(*LIST[1:])
            what = repr([(path, told(path), told(os.path.realpath(path)) if os.path.islink(path) else "")
                         for path in self.listed(paths)])
            self.check(listed, what, self.key("--depends-from", "-", input=paths), when)
        for states, keys in (below, listed):
            self.assertEqual(len(states), len(keys))
            self.assertGreater(len(states), EDITS / LOOK_EVERY / 10)

    def test_T9_what_is_undone_brings_the_old_key_back(self):
        for _ in range(60):
            self.edit()
        with open(self.path("a-file"), "w") as file:
            file.write("1")
        self.git("add", "-A")
        looks = lambda: (self.key("--depends", "."), self.key("--depends-from", "-", input=self.git(*LIST[1:])))

        before = looks()
        aside = self.box.path("aside")

        def content(text):
            with open(self.path("a-file"), "w") as file:
                file.write(text)

        for name, do, undo in (
            ("content", lambda: content("2"), lambda: content("1")),
            ("mode", lambda: os.chmod(self.path("a-file"), 0o755), lambda: os.chmod(self.path("a-file"), 0o644)),
            ("name", lambda: os.rename(self.path("a-file"), self.path("b-file")),
             lambda: os.rename(self.path("b-file"), self.path("a-file"))),
            ("deletion", lambda: os.rename(self.path("a-file"), aside), lambda: os.rename(aside, self.path("a-file"))),
            ("addition", lambda: os.symlink("a-file", self.path("new")), lambda: os.unlink(self.path("new"))),
        ):
            do()
            changed = looks()
            self.assertNotEqual(changed[0], before[0], name)
            self.assertNotEqual(changed[1], before[1], name)
            undo()
            self.assertEqual(looks(), before, name)

    def test_T9_equal_work_trees_share_with_ignore_cwd(self):
        for _ in range(100):
            self.edit()
        os.makedirs(self.path("src"), exist_ok=True)
        with open(self.path("src/last"), "w") as file:
            file.write("1")
        other = self.box.path("other")
        shutil.copytree(self.tree, other, symlinks=True)
        looks = lambda tree, *more: (
            self.key(*more, "--depends", "src", cwd=tree),
            self.key(*more, "--depends-from", "-", cwd=tree, input=self.git(*LIST[1:], cwd=tree)))
        self.assertEqual(looks(self.tree, "--ignore-cwd"), looks(other, "--ignore-cwd"), self.seed)
        for one, two in zip(looks(self.tree), looks(other)):
            self.assertNotEqual(one, two)
        os.unlink(os.path.join(other, "src/last"))
        for one, two in zip(looks(self.tree, "--ignore-cwd"), looks(other, "--ignore-cwd")):
            self.assertNotEqual(one, two)


if __name__ == "__main__":
    main()
