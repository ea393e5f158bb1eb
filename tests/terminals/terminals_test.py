# SPDX-License-Identifier: MIT
"""--pty (SPEC P): what a command finds where its outputs were, and what those who share it get.

A command that must be under way is held on a FIFO. Nothing sleeps; what must not come is waited for
by something that comes after it.
"""

import contextlib
import errno
import fcntl
import json
import os
import pty
import select
import shutil
import signal
import struct
import subprocess
import sys
import termios
import unittest

TESTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
sys.path[:0] = [os.path.join(TESTS, "server"), os.path.join(TESTS, "kept")]
import harness  # noqa: E402
from sandbox import COALESCE, Sandbox, a_moment, crash  # noqa: E402

PYTHON = sys.executable

# Says what it finds, one word a line.
FACTS = """
import errno, fcntl, os, termios
def refused(call, *words):
    try:
        call(*words)
        return "done"
    except OSError as error:
        return errno.errorcode[error.errno]
print(*(os.isatty(fd) for fd in (0, 1, 2)))
print("leads", "session" if os.getsid(0) == os.getpid() else "no session", os.getpgrp() == os.getpid())
print("asks", refused(os.open, "/dev/tty", os.O_RDWR))
os.open(os.ttyname(1), os.O_RDWR)
print("asks again", refused(os.open, "/dev/tty", os.O_RDWR))
print("takes", refused(fcntl.ioctl, 1, termios.TIOCSCTTY, 0))
print("leads", refused(os.setsid))
print("reads", refused(os.read, 2, 1))
print("descriptors", *sorted(fd for fd in map(int, os.listdir("/proc/self/fd")) if fd < 3))
os.write(2, b"said on stderr\\n")
"""
FOUND = """False True True
leads no session True
asks ENXIO
asks again ENXIO
takes EPERM
leads EPERM
reads EBADF
descriptors 0 1 2
said on stderr
"""

# Each asks something, and what a terminal shows beside it.
QUESTIONS = [
    b"\x1b[6n", b"\x1b[5n", b"\x1b[?6n", b"\x1b[?996n", b"\x1b[c", b"\x1b[0c", b"\x1b[>c", b"\x1b[=c", b"\x1bZ",
    b"\x1b]4;1;?\x07", b"\x1b]10;?\x1b\\", b"\x1b]11;?\x07", b"\x1b]12;?\x1b\\", b"\x1b[?2026$p", b"\x1b[4$p",
    b"\x1b[>q", b"\x1b[>0q", b"\x1b[?u", b"\x1b[18t", b"\x1bP$qm\x1b\\", b"\x1bP+q544e\x1b\\",
    b"\x1b_Gi=31,s=1,v=1,a=q,t=d,f=24;AAAA\x1b\\",
]  # fmt: skip
SHOWN = [
    b"\x1b[31mred\x1b[0m", b"\r 42% \x1b[K", b"\x1b]0;title?\x07", b"\x1b]8;;http://x/?\x1b\\link\x1b]8;;\x1b\\",
    b"\x1b]11;#000000\x07", b"\x1b[>4;1m", b"\x1b[?25l", b"\x1b[2;5H", b"caf\xc3\xa9\x00\xff\x9bc",
]  # fmt: skip


def widths(fd, columns, lines):
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))


class Terminal(unittest.TestCase):
    def setUp(self):
        self.box = Sandbox()
        self.addCleanup(self.box.close)

    def on_terminal(self, *words, columns=100, lines=40, only_stderr=False, **more):
        """What coalesce prints on a terminal of that size."""
        master, slave = pty.openpty()
        widths(master, columns, lines)
        with subprocess.Popen([COALESCE, *words], stdin=subprocess.DEVNULL, stderr=slave, cwd=self.box.work,
                              stdout=subprocess.PIPE if only_stderr else slave, env=self.box.env, **more) as process:
            os.close(slave)
            out = process.stdout.read() if only_stderr else b""
            with contextlib.suppress(OSError):
                while piece := os.read(master, 4096):
                    out += piece
            os.close(master)
        return process.returncode, out.decode("latin-1")


class Facts(Terminal):
    """P1: one terminal for both outputs, which controls nobody and can control nobody."""

    def test_run(self):
        self.assertEqual(self.box.run("--pty", PYTHON, "-uc", FACTS), (0, FOUND, ""))

    def test_a_line(self):
        self.box.file("facts.py", FACTS)
        self.assertEqual(self.box.run("--pty", "-c", f"{PYTHON} -u facts.py; :"), (0, FOUND.replace(
            "no session True", "no session False").replace("leads EPERM", "leads done"), ""))

    def test_batch(self):
        self.box.file("facts.py", FACTS)
        self.assertEqual(self.box.call("--pty", input=f"{PYTHON} -u facts.py\n".encode()), (0, FOUND, ""))
        request = json.dumps({"argv": [PYTHON, "-u", "facts.py"], "pty": True})
        self.assertEqual(self.box.call("--json", input=request.encode() + b"\n"), (0, FOUND, ""))

    def test_standard_input_is_what_it_was(self):
        self.assertEqual(self.box.run("--pty", "--stdin", "cat", input=b"a\nb"), (0, "a\nb", ""))
        self.assertEqual(self.box.out("--pty", "cat"), "")

    def test_without_it_there_are_pipes(self):
        self.assertEqual(self.box.run("sh", "-c", "test -t 1 || test -t 2"), (1, "", ""))


class FactsAtServer(harness.ServerTest):
    """P1, P3 at a server: the request says it, and a size; the server's own terminal is nobody's."""

    def test_server(self):
        server = self.serve()
        with open(server.file("facts.py"), "w") as file:
            file.write(FACTS)
        argv = [PYTHON, "-u", "facts.py"]
        answer = server.client().ask({"argv": argv, "pty": True})
        self.assertEqual((answer["stdout"], answer["stderr"], answer["exit"]), (FOUND, "", 0))
        ended = server.run("run", "--pty", *argv)
        self.assertEqual((ended.returncode, ended.stdout.decode(), ended.stderr), (0, FOUND, b""))

    def test_size(self):
        server = self.serve()
        size = {"line": "stty size <&2; echo $COLUMNS $LINES $PAGER", "pty": True}
        client = server.client()
        self.assertEqual(client.ask(size)["stdout"], "24 80\n80 24 cat\n")
        self.assertEqual(client.ask({**size, "pty_size": "101x7"})["stdout"], "7 101\n101 7 cat\n")
        whole = {**size, "pty_size": "101x7", "env": ["COLUMNS=3", f"PATH={os.environ['PATH']}"]}
        self.assertEqual(client.ask(whole)["stdout"], "7 101\n101 7 cat\n")
        ended = server.run("run", "--pty", "--pty-size", "99x9", "-c", "stty size <&2")
        self.assertEqual((ended.stdout, ended.stderr), (b"9 99\n", b""))

    def test_refused(self):
        client = self.serve().client()
        for more, why in ({"pty_size": "80x24"}, "is for"), ({"pty": True, "pty_size": "80"}, "such as"), ({"pty": 1}, "true or false"):
            error = client.ask({"line": "true", **more})["error"]
            self.assertEqual(error["code"], "bad_request")
            self.assertIn(why, error["message"])

    def test_who_shares(self):
        """P4: with and without a terminal, and of two sizes, are different runs."""
        server = self.serve()
        gate = server.gate("gate")
        with_size = {"line": f"echo run >>runs; {gate.wait}; echo $COLUMNS"}
        client = server.client()
        requests = [{}, {"pty": True}, {"pty": True, "pty_size": "80x24"}, {"pty": True, "pty_size": "99x24"},
                    {"pty": True, "env": {"COLUMNS": "7", "PAGER": "less"}}]
        client.send(*({**with_size, **more, "id": i} for i, more in enumerate(requests))).settled()
        self.assertEqual(sorted(flight["requesters"] for flight in server.status()), [1, 1, 3])
        gate.let(3)
        answers = {answer["id"]: answer["stdout"] for answer in (client.message() for _ in requests)}
        self.assertEqual(answers, {0: "\n", 1: "80\n", 2: "80\n", 3: "99\n", 4: "80\n"})


class Bytes(Terminal):
    """P2: bytes as they were written."""

    def test_no_carriage_return_and_no_echo(self):
        self.assertEqual(self.box.out("--pty", "printf", r"a\nb\r\tc\n\n"), "a\nb\r\tc\n\n")

    def test_unless_the_command_turns_it_on(self):
        self.assertEqual(self.box.out("--pty", "-c", r"stty opost onlcr <&2; echo a"), "a\r\n")

    def test_much_of_it_arrives_whole(self):
        wanted = "".join(f"{i}\n" for i in range(1, 200001))
        self.assertEqual(self.box.out("--pty", "seq", "200000"), wanted)
        # As much as fits, written at once by who ends at once.
        for _ in range(20):
            self.assertEqual(len(self.box.out("--pty", PYTHON, "-c", "import os; os.write(1, b'x' * 4000 * 15); os._exit(0)")), 60000)


class Size(Terminal):
    """P3: the size, and what tells of it."""

    asks = ("--pty", "-c", "stty size <&2; echo $COLUMNS $LINES; env | grep PAGER | sort; echo ${TERM-none}")

    def said(self, columns, lines=24, term="none"):
        return f"{lines} {columns}\n{columns} {lines}\nGIT_PAGER=cat\nMANPAGER=cat\nPAGER=cat\nSYSTEMD_PAGER=\n{term}\n"

    def test_without_a_terminal(self):
        self.assertEqual(self.box.run(*self.asks), (0, self.said(80), ""))
        self.box.env.update(COLUMNS="33", LINES="44", PAGER="less", SYSTEMD_PAGER="more", TERM="xterm")
        self.assertEqual(self.box.run(*self.asks), (0, self.said(80, term="xterm"), ""))

    def test_of_the_first_requester(self):
        status, out = self.on_terminal("run", *self.asks, columns=113)
        self.assertEqual((status, out), (0, self.said(113).replace("\n", "\r\n")))
        self.assertEqual(self.on_terminal("run", *self.asks, columns=71, only_stderr=True), (0, self.said(71)))

    def test_named(self):
        self.assertEqual(self.box.run("--pty-size", "120x50", *self.asks), (0, self.said(120, 50), ""))
        for wrong in ("120", "x24", "0x24", "80x0", "80x24x", "99999x24", "-1x24", "80X24", ""):
            status, out, err = self.box.run("--pty", "--pty-size", wrong, "true")
            self.assertEqual((status, out), (125, ""), wrong)
            self.assertIn("--pty-size", err)
        self.assertEqual(self.box.run("--pty-size", "80x24", "test", "-t", "1"), (1, "", ""))

    def test_in_a_batch(self):
        self.assertEqual(self.box.call("--pty", "--pty-size", "66x6", input=b"stty size <&2\n"), (0, "6 66\n", ""))


class Keys(Terminal):
    """P4: the size is in the key, what is set beside it is not."""

    def key(self, *words, **more):
        status, out, err = self.box.call("key", *words, "ls", **more)
        self.assertEqual((status, err), (0, ""))
        return out.split("\n", 1)

    def test_parts(self):
        hash_, parts = self.key("--pty", env={"PAGER": "less", "COLUMNS": "20"})
        self.assertIn("\nterminal\t80x24\n", "\n" + parts)
        for name in ("PAGER", "COLUMNS", "LINES"):
            self.assertNotIn(f"environment: {name}", parts)
        self.assertEqual(self.key("--pty", env={"MANPAGER": "most", "LINES": "1"})[0], hash_)
        self.assertEqual(self.key("--pty", "--only-env", "HOME")[0], self.key("--pty", "--only-env", "HOME", env={"PAGER": "x"})[0])
        others = [self.key(*words)[0] for words in ([], ["--pty", "--pty-size", "81x24"], ["--key", "k"], ["--pty", "--key", "k"])]
        self.assertEqual(len({hash_, *others}), 5)
        self.assertNotEqual(self.key(env={"PAGER": "less"})[0], self.key()[0])

    def test_live(self):
        """Those who ask alike share; a request without a terminal runs beside them."""
        gate = self.box.gate()
        line = "echo run >>runs; test -t 1 && echo terminal; cat gate; echo end"
        one = self.box.start("run", "--pty", "-c", line)
        other = self.box.start("run", "--pty", "-c", line, env={"PAGER": "most"})
        plain = self.box.start("run", "-c", line.replace("cat gate", ":"))
        self.assertEqual(plain.communicate(), (b"end\n", b""))
        while [flight["requesters"] for flight in self.box.status()] != [2]:
            a_moment()
        harness.release(gate)
        self.assertEqual(one.communicate(), (b"terminal\nend\n", b""))
        self.assertEqual(other.communicate(), (b"terminal\nend\n", b""))
        self.assertEqual(self.box.runs(), 2)

    def test_kept(self):
        line = "echo run >>runs; test -t 1 && echo terminal; echo end"
        for _ in range(2):
            self.assertEqual(self.box.out("--ttl", "1h", "--pty", "-c", line), "terminal\nend\n")
            self.assertEqual(self.box.out("--ttl", "1h", "-c", line), "end\n")
        self.assertEqual(self.box.runs(), 2)
        self.assertEqual(self.box.call("cache", "show", "--output", "--pty", "-c", line)[1], "terminal\nend\n")


class Replay(Terminal):
    """P5: whoever joins late gets the same bytes; what a terminal would answer is not among them."""

    def test_a_progress_bar_replayed(self):
        gate = self.box.gate()
        bar = r"for i in 1 2 3; do printf '\r\033[K%s/3 \033[32m##\033[0m' $i; done; cat gate; printf '\rdone\n'"
        first = self.box.start("run", "--pty", "-c", bar)
        begun = b"".join(os.read(first.stdout.fileno(), 1) for _ in range(10))
        late = self.box.start("run", "--pty", "-c", bar)
        while [flight["requesters"] for flight in self.box.status()] != [2]:
            a_moment()
        harness.release(gate)
        whole = b"".join(b"\r\x1b[K%d/3 \x1b[32m##\x1b[0m" % i for i in (1, 2, 3)) + b"\rdone\n"
        self.assertEqual(begun + first.communicate()[0], whole)
        self.assertEqual(late.communicate()[0], whole)

    def test_questions_are_left_out(self):
        asked = b"".join(shown + question for shown, question in zip(SHOWN * 3, QUESTIONS)) + b"end"
        wanted = b"".join(shown for shown, _ in zip(SHOWN * 3, QUESTIONS)) + b"end"
        with open(os.path.join(self.box.work, "asked"), "wb") as file:
            file.write(asked)
        self.assertEqual(self.box.out("--pty", "cat", "asked").encode("latin-1"), wanted)
        self.assertEqual(self.box.out("cat", "asked").encode("latin-1"), asked)  # a pipe is no terminal
        self.assertEqual(self.box.call("--pty", input=b"cat asked\n")[1].encode("latin-1"), wanted)

    def test_split_over_reads(self):
        one, two = self.box.gate("one"), self.box.gate("two")
        pieces = r"printf 'a\033['; cat one; printf '6nb\033]1'; cat two; printf '1;?\033\\c\033[3'"
        process = self.box.start("run", "--pty", "-c", pieces)
        self.assertEqual(os.read(process.stdout.fileno(), 1), b"a")
        harness.release(one)
        self.assertEqual(os.read(process.stdout.fileno(), 1), b"b")
        harness.release(two)
        self.assertEqual(process.communicate()[0], b"c\x1b[3")

    def test_under_tmux_no_answer_comes(self):
        if not shutil.which("tmux"):
            self.skipTest("P5: under tmux: no tmux")
        asks = r"printf '\033[c\033[6n\033]11;?\007shown'"
        read = "dd bs=1 count=1 of=%s 2>/dev/null"
        script = f"stty raw -echo min 0 time 20; {COALESCE} run --pty -c \"$ASKS\"; {read % 'none'}; stty min 1; sh -c \"$ASKS\"; {read % 'some'}; stty size >size; : >done"
        self.box.file("script", script)
        env = {**self.box.env, "ASKS": asks, "TERM": "xterm"}
        done = self.box.gate("done")
        socket = os.path.join(self.box.directory, "tmux")
        command = ["tmux", "-f", "/dev/null", "-S", socket, "new-session", "-d", "-x", "90", "-y", "20", "sh script"]
        subprocess.run(command, env=env, cwd=self.box.work, check=True)
        self.addCleanup(subprocess.run, ["tmux", "-S", socket, "kill-server"], stderr=subprocess.DEVNULL, check=False)
        with open(done):
            pass
        self.assertEqual(self.box.read("none"), "")
        self.assertEqual(self.box.read("some"), "\x1b")


class None_to_be_had(Terminal):
    """P6: 125 with the reason, never pipes instead."""

    def test_no_device(self):
        shell = ["unshare", "-rm", "sh", "-c"]
        if subprocess.run([*shell, "mount --bind /dev/null /dev/ptmx"], stderr=subprocess.DEVNULL, check=False).returncode:
            self.skipTest("P6: no pseudo-terminal to be had: no namespaces")
        for words in ("run --pty -c 'echo run >>runs'", "run --pty sh -c 'echo run >>runs'", "--pty -a lines"):
            self.box.file("lines", "echo run >>runs\n")
            ended = subprocess.run([*shell, f"mount --bind /dev/null /dev/ptmx; exec {COALESCE} {words}"],
                                   env=self.box.env, cwd=self.box.work, capture_output=True, text=True, check=False)
            self.assertEqual((ended.returncode, ended.stdout), (123 if words.startswith("--") else 125, ""), ended.stderr)
            self.assertIn("cannot open a pseudo-terminal: ", ended.stderr)
        self.assertEqual(self.box.runs(), 0)


class Programs(Terminal):
    """P7: real programs."""

    def test_ls_colours(self):
        os.mkdir(os.path.join(self.box.work, "folder"))
        self.box.env["TERM"] = "xterm"
        self.assertIn("\x1b[01;34mfolder\x1b[0m", self.box.out("--pty", "ls", "--color=auto"))
        self.assertEqual(self.box.out("ls", "--color=auto"), "folder\n")

    def test_git_log_pages_nothing(self):
        git = ["git", "-c", "user.name=n", "-c", "user.email=e", "-c", "init.defaultBranch=main"]
        for words in ["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "first"]:
            subprocess.run([*git, *words], cwd=self.box.work, env=self.box.env, check=True)
        self.box.env["TERM"] = "xterm"
        for environment in {}, {"PAGER": "less", "GIT_PAGER": "less", "LESS": ""}:
            out = self.box.out("--pty", "git", "-c", "core.pager=less", "log", env=environment)
            self.assertTrue(out.startswith("\x1b[33mcommit "), out)
            self.assertIn("first", out)

    def test_less_as_a_pager(self):
        self.box.file("text", "".join(f"{i}\n" for i in range(100)))
        self.assertEqual(self.box.out("--pty", "-c", "$PAGER text", env={"PAGER": "less"}), self.box.read("text"))

    def test_a_question_fails_at_once(self):
        status, out, err = self.box.run("--pty", "-c", "stty size </dev/stderr; read answer </dev/tty; echo $?; read answer <&2; echo $?")
        self.assertEqual((status, err), (0, ""))
        self.assertTrue(out.startswith("24 80\n") and "/dev/tty" in out and out.endswith("1\n"), out)


class Processes(Terminal):
    """F8, F10, F13, R6: as without a terminal."""

    def group(self, *options, held="cat gate", also=""):
        """A run whose command and background child hold locks that end with them; they are there. None: it ended before."""
        for name in ("one", "two"):
            self.box.file(name)
        for gate in ("told", "gate"):
            if not os.path.exists(os.path.join(self.box.work, gate)):
                self.box.gate(gate)
        # Each says so when it has its lock, and is prepared for what is to come.
        line = f"flock two sh -c 'echo told >told; cat gate' & exec 9<one; flock 9; {also} echo told >told; {held}"
        process = self.box.start("run", "--pty", *options, "sh", "-c", line)
        with open(os.path.join(self.box.work, "told"), "rb", 0, opener=lambda path, flags: os.open(path, flags | os.O_NONBLOCK)) as told:
            said = b""
            while said.count(b"\n") < 2:
                said += told.read(100) or b""
                if process.poll() is not None:
                    return None
                select.select([], [], [], 0.01)
        return process

    def assert_gone(self):
        for name in ("one", "two"):
            with open(os.path.join(self.box.work, name)) as file:
                fcntl.flock(file, fcntl.LOCK_EX)

    def test_cancel_ends_the_group(self):
        process = self.group()
        [flight] = self.box.status()
        self.assertEqual(os.getpgid(flight["pid"]), flight["pid"])
        self.box.call("cancel", flight["id"])
        self.assertEqual(process.wait(), 125)
        self.assert_gone()

    def test_timeout_kills_what_does_not_hear(self):
        limits = iter(("0.01", "0.1", "1", "10", "100"))  # until the command gets so far
        while not (process := self.group("--timeout", next(limits), "--grace", "0.01", also="trap '' TERM;")):
            pass
        self.assertEqual(process.wait(), 124)
        self.assert_gone()

    def test_a_signal_reaches_the_group(self):
        process = self.group(also="trap 'echo heard; exit 3' INT;", held="wait")
        process.send_signal(signal.SIGINT)
        self.assertEqual((process.communicate()[0], process.returncode), (b"heard\n", 3))
        harness.release(os.path.join(self.box.work, "gate"))  # a child in the background does not hear INT
        self.assert_gone()

    def test_the_supervisors_death_leaves_nothing(self):
        process = self.group()
        [flight] = self.box.status()
        with open(f"/proc/{flight['pid']}/stat") as stat:
            parent = int(stat.read().rsplit(")", 1)[1].split()[1])
        self.assertEqual(parent, flight["supervisor"])
        crash(process, flight)
        self.box.out("true")  # whoever comes next cleans up
        self.assert_gone()

    def test_the_batchs_death_leaves_nothing(self):
        self.box.file("one")
        gate = self.box.gate()
        told = self.box.gate("told")
        process = self.box.start("--pty", stdin=subprocess.PIPE)
        process.stdin.write(f"flock one sh -c 'echo told >told; cat {gate}; :' & wait; :\n".encode())
        process.stdin.flush()
        with open(told) as file:
            file.read()
        process.kill()
        process.wait()
        with open(os.path.join(self.box.work, "one")) as file:
            fcntl.flock(file, fcntl.LOCK_EX)

    def test_the_run_ends_though_a_grandchild_holds_the_terminal(self):
        gate = self.box.gate()
        self.assertEqual(self.box.out("--pty", "-c", f"(cat {gate}; echo late) & echo said"), "said\n")
        harness.release(gate)

    def test_it_asks_for_itself(self):
        status, out, err = self.box.run("--pty", "--key", "k", "env", "-i", COALESCE, "run", "--place",
                                        self.box.path("runtime/coalesce"), "--pty", "--key", "k", "true")
        self.assertEqual((status, err), (125, ""))
        self.assertIn("would wait for itself", out)

    def test_a_line_that_is_killed_is_told_on_the_terminal(self):
        self.box.file("abort.py", "import os; os.abort()")
        status, out, err = self.box.call("--pty", input=f"{PYTHON} abort.py\n".encode())
        self.assertEqual((status, err), (123, ""))
        self.assertIn("Aborted", out)


if __name__ == "__main__":
    harness.main()
