#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What bkt's own tests assert, asked of coalesce run.

bkt 0.8 (tests/cli.rs, tests/cwd.rs and src/lib.rs at 76c4d24) is the program whose users come
to --ttl. A test a row, under the name that it has there: "same" where the behaviour is bkt's,
"better" where bkt's test says itself that it should be otherwise, "apart" where we differ on
purpose, which the manual says.
"""

import os
import signal

from sandbox import HOUR, Test, a_moment, main, mode_of

COUNTED = "echo run >>runs; wc -l <runs; echo err >&2"


class Row(Test):
    def ask(self, line=COUNTED, *, ttl="1d", more=(), **how):
        return self.box.run("--ttl", ttl, *more, "-c", line, **how)

    def release(self, gate):
        """Lets one reader of the FIFO go; opening it for writing waits until the reader is there."""
        with open(gate, "w") as file:
            file.write("\n")

    def refreshed(self, runs):
        """Waits until the run of that number was made in the background and is over."""
        while self.box.runs() < runs:
            a_moment()
        self.box.nothing_in_flight()

    # Serving

    def test_help_same(self):
        status, out, err = self.box.run("--help")
        self.assertEqual((status, err), (0, ""))
        self.assertIn("--ttl", out)

    def test_cached_and_streaming_same_output_same(self):
        first = self.ask()
        self.assertEqual(first, (0, "1\n", "err\n"))
        self.assertEqual(self.ask(), first)
        self.assertEqual(self.box.runs(), 1)

    def test_cache_expires_same(self):
        self.ask(ttl="4h")
        self.box.age(2 * HOUR)
        self.assertEqual(self.ask(ttl="4h")[1], "1\n")
        self.box.age(2 * HOUR)
        self.assertEqual(self.ask(ttl="4h")[1], "2\n")
        variable = lambda ttl: self.box.out("-c", "echo run >>runs; wc -l <runs", env={"COALESCE_TTL": ttl})
        self.assertEqual([variable("4h"), variable("4h")], ["3\n", "3\n"])
        self.box.age(4 * HOUR)
        self.assertEqual(variable("4h"), "4\n")

    def test_cache_expires_separately_same(self):
        short, long = COUNTED, "echo run >>others; wc -l <others"
        self.ask(short, ttl="2h")
        self.ask(long, ttl="1d")
        self.box.age(2 * HOUR)
        self.assertEqual(self.ask(short, ttl="2h")[1], "2\n")
        self.assertEqual(self.ask(long, ttl="1d")[1], "1\n")

    def test_cache_hits_with_different_settings_same(self):
        self.ask(ttl="12h")
        self.box.age(2 * HOUR)
        self.assertEqual(self.ask(ttl="5h", more=("--stale", "4h"))[1], "1\n")
        self.assertEqual(self.ask(ttl="1d", more=("--keep-failures", "1h"))[1], "1\n")
        self.assertEqual(self.ask(ttl="1h")[1], "2\n")

    def test_lookup_ttls_apart(self):
        # bkt deletes the result that is too old for one reader; here it stays for the others,
        # until a younger one takes its place.
        gate = self.box.gate()
        line = f"echo run >>runs; wc -l <runs; [ $(wc -l <runs) = 1 ] || read x <{gate}"
        self.ask(line)
        self.box.age(2 * HOUR)
        hasty = self.box.start("run", "--ttl", "1h", "-c", line)
        self.assertEqual(hasty.stdout.readline(), b"2\n")  # its own run is under way
        self.assertEqual(self.ask(line)[1], "1\n")
        self.release(gate)
        self.assertEqual(hasty.wait(), 0)

    def test_cache_refreshes_in_background_better(self):
        # Three stale calls: bkt starts three runs, here they are one.
        gate = self.box.gate()
        line = f"echo run >>runs; wc -l <runs; [ $(wc -l <runs) = 1 ] || read x <{gate}"
        stale = lambda: self.ask(line, more=("--stale", "1h"))
        self.assertEqual(stale()[1], "1\n")
        self.box.age(2 * HOUR)
        self.assertEqual([stale()[1] for _ in range(3)], ["1\n"] * 3)
        self.release(gate)
        self.refreshed(2)
        self.assertEqual(stale()[1], "2\n")
        self.assertEqual(self.box.runs(), 2)

    def test_streaming_same(self):
        gate = self.box.gate()
        line = f"echo run >>runs; echo early; read x <{gate}; echo late"
        first = self.box.start("run", "--ttl", "1h", "-c", line)
        self.assertEqual(first.stdout.readline(), b"early\n")  # while the run is held
        self.release(gate)
        self.assertEqual(first.communicate()[0], b"late\n")
        self.assertEqual(self.ask(line)[1], "early\nlate\n")  # or it would be held, too
        self.assertEqual(self.box.runs(), 1)

    def test_large_output_same(self):
        line = "head -c 102400 /dev/zero; head -c 102400 /dev/zero >&2"
        first = self.ask(line)
        self.assertEqual((first[0], len(first[1]), len(first[2])), (0, 102400, 102400))
        self.assertEqual(self.ask(line), first)

    def test_truncated_output_apart(self):
        # A reader that goes away: bkt says 0 when the run has ended; here the requester ends at
        # once, as by SIGPIPE. The run goes on for the store in both.
        gate = self.box.gate()
        line = f"echo run >>runs; echo early; read x <{gate}; echo late"
        process = self.box.start("run", "--ttl", "1h", "-c", line)
        self.assertEqual(process.stdout.readline(), b"early\n")
        process.stdout.close()
        self.release(gate)
        self.assertEqual((process.wait(), process.stderr.read()), (-signal.SIGPIPE, b""))
        self.box.nothing_in_flight()
        self.assertEqual(self.ask(line), (0, "early\nlate\n", ""))
        self.assertEqual(self.box.runs(), 1)

    def test_truncated_output_whose_rest_comes_first_apart(self):
        # The supervisor looks at output that nobody takes any more before it hears why.
        gate = self.box.gate()
        line = f"echo run >>runs; echo early; read x <{gate}; echo late; echo late >>said; read x <{gate}; echo last"
        process = self.box.start("run", "--ttl", "1h", "-c", line)
        self.assertEqual(process.stdout.readline(), b"early\n")
        supervisor = self.box.status()[0]["supervisor"]
        os.kill(supervisor, signal.SIGSTOP)
        try:
            self.release(gate)
            while not self.box.read("said"):
                a_moment()
            process.stdout.close()
            self.assertEqual((process.wait(), process.stderr.read()), (-signal.SIGPIPE, b""))
        finally:
            os.kill(supervisor, signal.SIGCONT)
        with open(gate, "r+b", buffering=0) as held:  # a second run would not wait, but show
            held.write(b"\n" * 3)
            self.box.nothing_in_flight()
            self.assertEqual(self.ask(line), (0, "early\nlate\nlast\n", ""))
        self.assertEqual(self.box.runs(), 1)

    def test_no_debug_output_and_debug_output_same(self):
        self.assertEqual(self.ask("true"), (0, "", ""))
        self.assertEqual(self.ask("true"), (0, "", ""))
        status, out, err = self.ask("true", more=("-v",))
        self.assertEqual((status, out), (0, ""))
        self.assertIn("kept result of true", err)

    def test_sensitive_output_same(self):
        line = "printf 'a\\0b\\0\\n\\0'; printf '\\0' >&2"
        self.assertEqual(self.ask(line), (0, "a\0b\0\n\0", "\0"))
        self.assertEqual(self.ask(line), (0, "a\0b\0\n\0", "\0"))

    def test_exit_code_preserved_same(self):
        line = "echo run >>runs; exit 14"
        keeping = ("--keep-failures", "1h")
        self.assertEqual([self.ask(line, more=keeping)[0] for _ in range(2)], [14, 14])
        self.assertEqual(self.box.runs(), 1)

    def test_a_signal_better(self):
        line = "echo run >>runs; kill -KILL $$"
        keeping = ("--keep-failures", "1h")
        self.assertEqual([self.ask(line, more=keeping)[0] for _ in range(2)], [128 + 9] * 2)
        self.assertEqual(self.box.runs(), 2)

    # Failures

    def test_discard_failures_same(self):
        line = "echo run >>runs; wc -l <runs; [ -e good ]"
        self.assertEqual([self.ask(line)[:2] for _ in range(2)], [(1, "1\n"), (1, "2\n")])
        self.box.file("good")
        self.assertEqual([self.ask(line)[:2] for _ in range(2)], [(0, "3\n")] * 2)

    def test_discard_failure_cached_separately_same(self):
        line = "echo run >>runs; wc -l <runs; exit 3"
        allowing = ("--keep-failures", "1h")
        self.assertEqual([self.ask(line, more=allowing)[1] for _ in range(2)], ["1\n"] * 2)
        self.assertEqual(self.ask(line)[1], "2\n")
        self.assertEqual(len(self.box.entries()), 1)

    def test_discard_failures_in_background_better(self):
        line = "echo run >>runs; wc -l <runs; [ $(wc -l <runs) = 1 ]"
        stale = lambda: self.ask(line, more=("--stale", "1h", "-v"))
        self.assertEqual(stale()[:2], (0, "1\n"))
        self.box.age(2 * HOUR)
        status, out, err = stale()
        self.assertEqual((status, out), (0, "1\n"))
        self.assertIn("refreshing", err)
        self.refreshed(2)
        # Better: that it was tried counts, so the broken command is not run once a request.
        for _ in range(2):
            status, out, err = stale()
            self.assertEqual((status, out), (0, "1\n"))
            self.assertNotIn("refreshing", err)  # one that has just been started is not in flight yet
            self.box.nothing_in_flight()
        self.assertEqual(self.box.runs(), 2)

    # Where it is kept

    def test_cache_dirs_multi_user_same(self):
        if os.geteuid() != 0:
            self.skipTest("T16 two users: no root")
        shared = self.box.path("shared")
        os.mkdir(shared)
        os.chmod(self.box.directory, 0o755)
        os.chmod(shared, 0o1777)
        where = ("--cache-dir", shared)
        self.ask(more=where)
        theirs = self.box.path("theirs")
        os.mkdir(theirs, 0o700)
        os.chown(theirs, 65534, 65534)
        os.chown(self.box.work, 65534, 65534)
        os.chmod(os.path.join(self.box.work, "runs"), 0o666)
        how = {"user": 65534, "group": 65534, "extra_groups": [], "env": {"HOME": theirs, "XDG_RUNTIME_DIR": theirs}}
        try:
            status, out, _ = self.ask(more=where, **how)
        except PermissionError as error:
            self.skipTest(f"T16 two users: {error}")
        self.assertEqual((status, out), (0, "2\n"))
        for path in self.box.entries(shared):
            self.assertEqual(mode_of(os.path.dirname(path)), 0o700)

    def test_respects_cache_dir_and_relative_cache_same(self):
        for words, env, where in (
            (("--cache-dir", self.box.path("by-option")), {}, "by-option"),
            ((), {"COALESCE_CACHE_DIR": self.box.path("by-variable")}, "by-variable"),
            (("--cache-dir", "here"), {}, "work/here"),
        ):
            before = self.box.runs()
            for _ in range(2):
                self.assertEqual(self.ask(more=words, env=env)[1], f"{before + 1}\n")
            self.assertEqual(len(self.box.entries(self.box.path(where))), 1)
        self.assertEqual(self.box.entries(), [])

    def test_cleanup_same(self):
        self.ask(ttl="2h")
        self.box.age(2 * HOUR)
        self.box.clean()
        self.assertEqual(self.box.entries(), [])

    def test_an_unreadable_entry_better(self):
        self.ask()
        (path,) = self.box.entries()
        with open(path, "wb") as file:
            file.write(b"garbage")
        self.assertEqual([self.ask() for _ in range(2)], [(0, "2\n", "err\n")] * 2)

    # What makes two the same

    def test_respects_cache_scope_scoped_and_special_characters_same(self):
        scopes = ["", "a", "b", "a b", "a/b", "../a", "*", "-", "\n", "ü", "'\""]
        for _ in range(2):
            for number, scope in enumerate(scopes, 1):
                more = ("--scope", scope) if scope else ()
                self.assertEqual(self.ask(more=more)[1], f"{number}\n", scope)
        self.assertEqual(self.ask(env={"COALESCE_SCOPE": "a"})[1], "2\n")

    def test_respects_args_collisions_and_output_preserved_same(self):
        tool = self.box.file("tool", '#!/bin/sh\necho run >>runs\nprintf "<%s>" "$@"\n', 0o755)
        commands = [["A B"], ["A", "B"], ["A", "B", ""], ["", "A", "B"], ["AB"], ["A\n", "B"], [""], []]
        for _ in range(2):
            for words in commands:
                expected = "".join(f"<{word}>" for word in words) or "<>"
                self.assertEqual(self.box.out("--ttl", "1h", "--", tool, *words), expected)
        self.assertEqual(self.box.runs(), len(commands))

    def test_respects_cwd_better(self):
        for name in ("one", "two"):
            os.mkdir(os.path.join(self.box.work, name))
        ask = lambda name: self.ask("pwd", cwd=os.path.join(self.box.work, name))[1]
        for _ in range(2):
            for name in ("one", "two"):
                self.assertEqual(ask(name), os.path.join(self.box.work, name) + "\n")

    def test_respects_env_apart(self):
        # bkt counts the variables that it was told of; here all count but noise, and with
        # --only-env those that were named. The rule is part of the key.
        ask = lambda more=(), **env: self.ask(more=more, env=env)[1]
        self.assertEqual([ask(FOO="1"), ask(FOO="2"), ask(FOO="1"), ask()], ["1\n", "2\n", "1\n", "3\n"])
        only = ("--only-env", "FOO")
        self.assertEqual([ask(only), ask(only, BAR="1"), ask(only, FOO="1"), ask(only, FOO="1", BAR="2")],
                         ["4\n", "4\n", "5\n", "5\n"])

    def test_respects_modtime_and_with_modtime_same(self):
        watched = os.path.join(self.box.work, "watched")

        def ask():
            answer = self.ask(more=("--modtime", "watched"))[1]
            while len(self.box.entries()) < int(answer):  # kept later than told, if looking at the file again takes long
                a_moment()
            return answer

        self.assertEqual([ask(), ask()], ["1\n", "1\n"])
        self.box.file("watched")
        os.utime(watched, (1000, 1000))
        self.assertEqual([ask(), ask()], ["2\n", "2\n"])
        os.utime(watched, (2000, 2000))
        self.assertEqual([ask(), ask()], ["3\n", "3\n"])
        os.unlink(watched)
        self.assertEqual(ask(), "1\n")

    def test_cwd_and_working_dir_share_cache_same(self):
        # However one comes to a directory; a symbolic link that PWD shows is part of the key.
        self.ask()
        for way in (self.box.work + "/", os.path.join(self.box.work, "."), self.box.work + "/../work"):
            self.assertEqual(self.ask(cwd=way)[1], "1\n")

    # Asking for a run

    def test_warm_same(self):
        gate = self.box.gate()
        line = f"echo run >>runs; read x <{gate}; echo out"
        self.assertEqual(self.ask(line, more=("--warm",)), (0, "", ""))
        self.release(gate)
        self.box.nothing_in_flight()
        self.assertEqual(self.ask(line), (0, "out\n", ""))
        self.assertEqual(self.box.runs(), 1)

    def test_force_and_streaming_refresh_same(self):
        self.assertEqual([self.ask()[1], self.ask(more=("--fresh",))[1], self.ask()[1]], ["1\n", "2\n", "2\n"])

    def test_concurrent_call_race_better(self):
        gate = self.box.gate()
        line = f"echo run >>runs; wc -l <runs; read x <{gate}"
        both = [self.box.start("run", "--ttl", "1h", "-c", line) for _ in range(2)]
        self.assertEqual([process.stdout.readline() for process in both], [b"1\n"] * 2)
        self.release(gate)
        self.assertEqual([process.wait() for process in both], [0, 0])
        self.assertEqual(self.ask(line)[1], "1\n")

    def test_locks_and_already_locked_better(self):
        # A process that is killed while it publishes or cleans leaves no lock: kernel locks end with it.
        gate = self.box.gate()
        line = f"echo run >>runs; wc -l <runs; [ -e open ] || read x <{gate}"
        process = self.box.start("run", "--ttl", "1h", "-c", line, start_new_session=True)
        self.assertEqual(process.stdout.readline(), b"1\n")
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        self.box.file("open")
        for flight in self.box.status():  # whether its supervisor lives on is not what is asked here
            self.box.call("cancel", flight["id"])
        self.box.nothing_in_flight()
        self.assertEqual([self.ask(line)[1] for _ in range(2)], ["2\n"] * 2)
        self.assertEqual(self.box.clean()[0], 0)

    def test_stable_hash_better(self):
        # Another process, another day: the same name. 128 bits of it, 256 inside.
        self.ask("true")
        before = self.box.entries()
        self.box.call("cache", "clear")
        self.ask("true")
        self.assertEqual(self.box.entries(), before)
        self.assertEqual(len(os.path.basename(before[0])), 32)


class Manual(Test):
    """Where we differ on purpose the manual says so."""

    def test_what_is_apart_is_said(self):
        here = os.path.dirname(os.path.abspath(__file__))
        with open(os.path.join(here, "../../man/coalesce.1.in")) as file:
            text = " ".join(file.read().split())
        for said in (
            "The environment and the directory count here without being named",
            "A reader with a short .Ar TIME does not take the result away from readers with a long one",
            "A reader that goes away ends with 141 at once",
        ):
            self.assertIn(said, text)


if __name__ == "__main__":
    main()
