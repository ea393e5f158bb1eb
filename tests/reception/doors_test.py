#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""One table of cases, and all doors go through it: `coalesce serve`, in each of the modes in
which output is asked for, and the supervisor that a wrapper leaves in the meeting place.

A case is a line of steps: who does what, and what they must hear. Whoever has asked is known
to be in by `status`; the command is known to wait by the FIFO that it reads. Nothing sleeps.

    a asks [fresh|keep_running|bytewise|unended|piled|long|huge|unseen]   one request on a connection of its own;
                        unseen: who waits is not looked at, since that may have changed by then
    a begins            half of a request, and no more
    a closes            with all read that has come
    a resets            with something unread, so that the door finds the connection reset
    a half-closes | signals N | sends TEXT | floods
    a connects          without asking for anything
    x cancels N | x notes N   the N-th of the flights, the running one first; `cancels noted` finds none
    gate opens          the command, which waits there, goes on
    a hears WHAT        its next message but for output and "started"; `exit 3` with all of the output
    status N            so many wait for the flight that is running
    output N            so much of it is there
    runs N              the command has begun so often
    door drains         the server is told to end; of a wrapper's flight a requester is, which leaves
    command ends | command finishes    it is gone; and it came to its own end

The reason is what the message says that tells why something ended otherwise than by itself: the same words
at all doors, or a server's and a wrapper's. "…" is the command; "*" at its end, and more that the case does not say.
"""

import contextlib
import dataclasses
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../server"))
from harness import COALESCE, Client, Server, a_moment  # noqa: E402

LONG = 300_000  # more than a socket takes
HUGE = 3_000_000  # more than a socket, a pipe and the replay limit of a case that has one
PILE = 50  # requests in one write
REPLAY = 65_536
LINE_MAX = 8 << 20


@dataclasses.dataclass(frozen=True)
class Case:
    name: str
    steps: str
    runs: int  # how often the command runs
    reason: str | tuple = ""
    options: tuple = ()  # of the server and of the wrapper that leads
    modes: tuple = ("fd", "stream", "whole")


STALL = ("--replay-limit", str(REPLAY), "--stall", "0.2")
NO_REQUEST = ("not JSON: *", "a wrapper's flight takes join, signal, keep, status, key, waiters and cancel")
UNKNOWN_OP = ('"op" must be *', NO_REQUEST[1])

CASES = [
    Case("F1 two who ask share one run",
         "a asks; b asks; gate opens; a hears exit 3; b hears exit 3", 1),
    Case("F1 five who ask share one run",
         "a asks; b asks; c asks; d asks; e asks; status 5; gate opens; a hears exit 3; "
         "b hears exit 3; c hears exit 3; d hears exit 3; e hears exit 3", 1),
    Case("F2 who asks after the end starts anew",
         "a asks; gate opens; a hears exit 3; b asks; gate opens; b hears exit 3", 2),
    Case("F3 who joins late gets long output from its first byte",
         "a asks long; b asks long; gate opens; b hears exit 3; a hears exit 3", 1),
    Case("F5 the first leaves, the others get all",
         "a asks; b asks; a closes; status 1; gate opens; b hears exit 3", 1),
    Case("F5 one who joined leaves",
         "a asks; b asks; b closes; status 1; gate opens; a hears exit 3", 1),
    Case("F5 the last leaves and the command ends",
         "a asks; a closes; command ends", 1),
    Case("F5 all leave and the command ends",
         "a asks; b asks; a closes; b closes; command ends", 1),
    Case("F5 who wants it to go on leaves, and it does",
         "a asks keep_running; a closes; gate opens; command finishes", 1),
    Case("F5 one of two wants it to go on",
         "a asks; b asks keep_running; a closes; b closes; gate opens; command finishes", 1),
    Case("F5 who wants it to go on leaves, another joins",
         "a asks keep_running; a closes; status 0; b asks; gate opens; b hears exit 3", 1),
    Case("F7 fresh waits for the next run, and all who want that share it",
         "a asks; b asks fresh; c asks fresh; gate opens; a hears exit 3; gate opens; b hears exit 3; "
         "c hears exit 3", 2),
    Case("F7 who waits for the next run leaves",
         "a asks; b asks fresh; b closes; gate opens; a hears exit 3", 1),
    Case("F9 a request in single bytes",
         "a asks; b asks bytewise; gate opens; b hears exit 3; a hears exit 3", 1),
    Case("F9 a request that ends with the input",
         "a asks; b asks unended; b half-closes; status 2; gate opens; b hears exit 3; a hears exit 3", 1),
    Case("F9 many requests in one write",
         "a asks; b asks piled; gate opens; b hears exit 3; a hears exit 3", 1),
    Case("F9 half closed after the request",
         "a asks; a half-closes; gate opens; a hears exit 3", 1),
    Case("F9 half closed, with long output",
         "a asks long; a half-closes; gate opens; a hears exit 3", 1),
    Case("F9 half closed and then closed",
         "a asks; b asks; b half-closes; b closes; status 1; gate opens; a hears exit 3", 1),
    Case("F9 closed with long output unread",
         "a asks long; b asks long; gate opens; b resets; a hears exit 3", 1),
    Case("F9 all close with long output unread",
         "a asks huge; b asks huge; gate opens; output 65537; b resets; a resets; command ends", 1,
         options=STALL, modes=("fd", "stream")),
    Case("F9 the connection is reset while it waits",
         "a asks; b asks; b resets; status 1; gate opens; a hears exit 3", 1, modes=("fd", "stream")),
    Case("F9 all connections are reset",
         "a asks; b asks; a resets; b resets; command ends", 1, modes=("fd", "stream")),
    Case("F9 one who reads nothing goes, when another waits for the same",
         "a asks huge; gate opens; output 65537; b asks unseen; runs 2; a hears error stalled; "
         "gate opens; b hears exit 3", 2,
         "nothing was read for 200ms, and others wait for …", options=STALL, modes=("fd", "stream")),
    Case("F9 the whole of what is too long is not to be had",
         "a asks huge; gate opens; a hears error output_too_long; command ends", 1,
         "the output is longer than the replay limit; ask for a stream", options=STALL, modes=("whole",)),
    Case("R5 a signal of one among several is its leave",
         "a asks; b asks; b signals 15; b hears left; gate opens; a hears exit 3", 1),
    Case("R5 a signal of the only one is for the command",
         "a asks; a signals 15; a hears signalled; a hears signal 15", 1),
    Case("R5 USR1 of one among several is nobody's",
         "a asks; b asks; b signals 10; b hears ignored; gate opens; a hears exit 3; b hears exit 3", 1),
    Case("R5 USR1 of the only one is for the command",
         "a asks; a signals 10; a hears signalled; a hears signal 10", 1),
    Case("O2 whoever cancels it ends it for all",
         "a asks; b asks; x cancels 1; a hears cancelled; b hears cancelled", 1,
         "coalesce: …: cancelled\n", modes=("fd", "stream")),
    Case("O2 whoever cancels it ends it for all who want the whole",
         "a asks; b asks; x cancels 1; a hears cancelled; b hears cancelled", 1, "cancelled", modes=("whole",)),
    Case("O2 of two runs the one is cancelled that the id names, the first",
         "a asks; b asks fresh; x cancels 1; a hears cancelled; gate opens; b hears exit 3", 2,
         "coalesce: …: cancelled\n", modes=("fd", "stream")),
    Case("O2 of two runs the one is cancelled that the id names, the second",
         "a asks; b asks fresh; x cancels 2; b hears error cancelled; gate opens; a hears exit 3", 1,
         "…: cancelled"),
    Case("O2 an id names no later run",
         "a asks; x notes 1; gate opens; a hears exit 3; b asks; x cancels noted; status 1; gate opens; "
         "b hears exit 3", 2),
    Case("S5 a line that is no request harms nobody",
         "a asks; x connects; x sends {no JSON at all; x hears error bad_json; gate opens; "
         "a hears exit 3", 1,
         NO_REQUEST),
    Case("S5 an operation that does not exist",
         'a asks; x connects; x sends {"op":"fly"}; x hears error unknown_op; gate opens; '
         "a hears exit 3", 1,
         UNKNOWN_OP),
    Case("S5 half a line and the end",
         "a asks; x connects; x sends half a; x half-closes; x closes; gate opens; a hears exit 3", 1),
    Case("S5 half of a request and the end of the input",
         "a asks; b begins; b half-closes; b hears error bad_json; b hears the end; status 1; "
         "gate opens; a hears exit 3", 1,
         NO_REQUEST),
    Case("S5 half of a request and the end",
         "a asks; b begins; b closes; status 1; gate opens; a hears exit 3", 1),
    Case("S5 a line that is too long",
         "a asks; x connects; x floods; x hears error too_long; status 1; gate opens; a hears exit 3", 1,
         "a request is at most 8 MiB long"),
    Case("S5 comes and goes",
         "a asks; x connects; x closes; y connects; y half-closes; z connects; gate opens; "
         "a hears exit 3", 1),
    Case("S8 a door that is about to end serves those inside",
         "a asks; b asks; door drains; gate opens; a hears exit 3; a hears the end; b hears exit 3; "
         "b hears the end", 1),
    Case("S8 a door that is about to end has nobody inside any more",
         "a asks; door drains; a closes; command ends", 1),
]


class Door:
    """A directory with the command's gate and its traces."""

    mode = "fd"  # in which output is asked for

    def __init__(self, test, case):
        self.test = test
        self.case = case
        self.directory = tempfile.mkdtemp(prefix="coalesce-doors-")
        os.chmod(self.directory, 0o700)
        self.gate = self.path("gate")
        os.mkfifo(self.gate)
        for name in ("runs", "finished"):
            open(self.path(name), "w", encoding="ascii").close()
        test.addCleanup(self.clean)

    def clean(self):
        subprocess.run(["rm", "-rf", self.directory], check=True)

    def path(self, name):
        return os.path.join(self.directory, name)

    def runs(self):
        with open(self.path("runs"), encoding="ascii") as file:
            return file.read().split()

    # A next run may meet the writer that let the one before go on.
    def line(self, length):
        output = f"head -c {length} /dev/zero" if length else "printf out; printf err >&2"
        return (f"echo $$ >>{self.path('runs')}; until read x <{self.gate}; do :; done; {output}; "
                f"echo >>{self.path('finished')}; exit 3")

    def flights(self):
        """The running one first."""
        if not self.has_flights():
            return []
        with self.connect() as client:
            flights = client.ask({"op": "status"})["flights"]
        flights.sort(key=lambda flight: flight["state"] == "queued")
        return flights

    def waiting(self):
        return [flight["requesters"] for flight in self.flights()]

    def cancel(self, flight):
        with self.connect() as client:
            return client.ask({"op": "cancel", "flight": flight})

    def open_gate(self):
        with open(self.gate, "w", encoding="ascii") as gate:  # until the command is there
            gate.write("\n")


class ServerDoor(Door):
    """`coalesce serve`."""

    def __init__(self, test, case):
        super().__init__(test, case)
        self.server = Server(test, "--drain", "4m", *case.options)  # no case is to last until then
        self.drains = False

    def has_flights(self):
        return True  # ask it

    def connect(self):
        return self.server.client()

    def request(self, terms, length):
        return {"line": self.line(length), "output": self.mode, **terms}

    def drain(self, _length):
        self.server.process.send_signal(signal.SIGTERM)
        self.server.await_state("STOPPING=1")
        self.drains = True

    def ended(self):
        if self.drains:  # it needs to be told no more
            self.test.assertEqual(self.server.process.wait(), 0)


class StreamDoor(ServerDoor):
    mode = "stream"


class WholeDoor(ServerDoor):
    mode = "whole"


class WrapperDoor(Door):
    """The supervisor of `coalesce run`. Who leads is a real wrapper; it is killed as soon as the first
    of the case has joined, and so has left."""

    def __init__(self, test, case):
        super().__init__(test, case)
        self.place = self.path("place")
        os.mkdir(self.place, 0o700)
        self.env = {name: value for name, value in os.environ.items() if not name.startswith("COALESCE")}
        self.env["HOME"] = self.place  # nothing of the user's is looked at
        self.env["COALESCE_HISTORY"] = "no"  # it is written when all have been told, perhaps into what is being removed
        self.env.pop("XDG_STATE_HOME", None)

    def has_flights(self):
        return bool(self.sockets())

    def sockets(self):
        return [name for name in os.listdir(self.place) if name.endswith(".sock")]

    def connect(self):
        return Client(os.path.join(self.place, self.sockets()[0]))

    def request(self, terms, _length):
        return {"op": "join", **terms}

    def wrapper(self, length):
        return subprocess.Popen([COALESCE, "run", "--place", self.place, *self.case.options, "-c", self.line(length)],
                                env=self.env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                stderr=subprocess.DEVNULL)

    def lead(self, length):
        """Whoever is to leave as soon as another is there; nobody where somebody leads."""
        if self.sockets():
            return None
        leader = self.wrapper(length)
        while not self.listens():
            a_moment()
        return leader

    def ended(self):
        """Nobody looks at what a supervisor says at its end."""

    def drain(self, length):
        waiting = sum(self.waiting())
        requester = self.wrapper(length)
        while sum(self.waiting()) != waiting + 1:
            a_moment()
        requester.terminate()
        self.test.assertEqual(requester.wait(), -signal.SIGTERM)

    def listens(self):
        try:
            return bool(self.sockets()) and self.connect().close() is None
        except OSError:
            return False


class Play:
    """One case at one door."""

    def __init__(self, test, door):
        self.test = test
        self.door = door
        self.clients = {}
        self.asked = {}  # name → the length of the output it is to get
        self.answers = {}  # name → how many other answers it is to hear besides
        self.half_closed = set()
        self.noted = None

    def play(self, steps):
        for step in steps.split("; "):
            who, *words = step.split(" ")
            try:
                self.step(who, words)
            except Exception as error:
                raise AssertionError(f"at '{step}': {error!r}") from error
        for client in self.clients.values():
            client.close()
        self.door.ended()

    def step(self, who, words):
        verb = words[0]
        if who == "gate":
            self.door.open_gate()
        elif who == "door":
            self.door.drain(max(self.asked.values()))
        elif who == "status":
            while self.door.waiting()[:1] != [int(verb)]:
                a_moment()
        elif who == "output":
            while self.door.flights()[0]["output"] < int(verb):
                a_moment()
        elif who == "runs":
            while len(self.door.runs()) < int(verb):
                a_moment()
        elif who == "command":
            pid = int(self.first_run())
            self.gone(pid)
            with open(self.door.path("finished"), encoding="ascii") as file:
                self.test.assertEqual(len(file.read()), 1 if verb == "finishes" else 0)
        elif verb in ("asks", "begins"):
            self.ask(who, words)
        elif verb == "notes":
            self.noted = self.door.flights()[int(words[1]) - 1]["id"]
        elif words == ["cancels", "noted"]:
            self.test.assertEqual(self.door.cancel(self.noted)["error"]["code"], "no_such_flight")
        elif verb == "cancels":
            flight = self.door.flights()[int(words[1]) - 1]["id"]
            self.test.assertEqual(self.door.cancel(flight), {"event": "cancelled"})
        elif verb == "connects":
            self.clients[who] = self.door.connect()
        else:
            self.act(who, verb, words[1:])

    def first_run(self):
        while not (runs := self.door.runs()):
            a_moment()
        return runs[0]

    @staticmethod
    def gone(pid):
        try:
            fd = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        poll.poll()
        os.close(fd)

    def ask(self, who, words):
        terms = {word: True for word in words if word in ("fresh", "keep_running")}
        length = LONG if "long" in words else HUGE if "huge" in words else max(self.asked.values(), default=0)
        leader = self.door.lead(length) if isinstance(self.door, WrapperDoor) else None
        before = sum(self.door.waiting()) if self.asked or leader else 0
        client = self.clients[who] = self.door.connect()
        data = json.dumps(self.door.request(terms, length)).encode() + b"\n"
        if words[0] == "begins":
            client.send(data[: len(data) // 2])
            return
        self.asked[who] = length
        if "piled" in words:
            self.answers[who] = PILE
            data += PILE * b'{"op":"status"}\n'
        if "unended" in words:
            data = data[:-1]
        for piece in ([bytes([byte]) for byte in data] if "bytewise" in words else [data]):
            client.send(piece)
        if "unended" in words or "unseen" in words:
            return
        while sum(self.door.waiting()) != before + 1:
            a_moment()
        if leader is not None:
            leader.kill()
            leader.wait()
            while sum(self.door.waiting()) != before:
                a_moment()
        if "fresh" not in words:
            self.first_run()

    def act(self, who, verb, words):
        client = self.clients[who]
        if verb == "closes":
            while select.select([client.socket], [], [], 0)[0] and client.fill():
                pass
            client.close()
            del self.clients[who]
        elif verb == "resets":
            select.select([client.socket], [], [])
            client.close()
            del self.clients[who]
        elif verb == "half-closes":
            client.half_close()
            self.half_closed.add(who)
        elif verb == "signals":
            self.first_run()
            client.send({"op": "signal", "signal": int(words[0])})
        elif verb == "floods":
            client.send((LINE_MAX + 1) * b"{", b"\n")
        elif verb == "sends":
            client.send(" ".join(words).encode() + (b"" if words[0] == "half" else b"\n"))
        elif verb == "hears" and words == ["the", "end"]:
            self.test.assertIsNone(client.message())
        elif verb == "hears":
            self.hear(who, client, words)
        else:
            raise ValueError(verb)

    def take_output(self, who, client, message):
        """The bytes that a message tells of; past the replay limit more come when it has been told that they are taken."""
        if self.door.mode == "stream":
            return client.bytes(message["bytes"])
        data = os.pread(client.fds[0], message["bytes"], message["offset"])
        if STALL == self.door.case.options and who not in self.half_closed and who in self.asked:
            with contextlib.suppress(BrokenPipeError):  # it has been told its end by now
                client.send(b"\n")
        return data

    def hear(self, who, client, words):
        output = {"stdout": b"", "stderr": b""}
        answers = 0
        while True:
            message = client.message()
            self.test.assertIsNotNone(message, "hung up on")
            event = message.get("event")
            if event in output:
                output[event] += self.take_output(who, client, message)
            elif "flights" in message:
                answers += 1
            elif event not in ("started", "waiting"):
                break
        if self.door.mode == "whole" and "stdout" in message:
            event = "exit"
            output = {stream: message[stream].encode() for stream in output}
        error = message.get("error", {})
        said = {"code": error.get("code", message.get("code")), "reason": error.get("message", message.get("message"))}
        if words[0] == "error":
            self.assert_reason(words[1], said, message)
        elif words[0] == "cancelled":
            self.test.assertEqual(event, "exit", message)
            self.assert_reason("cancelled", said, message)
        elif words[0] in ("exit", "signal"):
            self.test.assertEqual((event, message.get(words[0])), ("exit", int(words[1])), message)
            self.test.assertEqual(said, {"code": None, "reason": None})
        else:
            self.test.assertEqual(event, words[0], message)
        if words == ["exit", "3"]:
            length = self.asked[who]
            wanted = {"stdout": bytes(length), "stderr": b""} if length else {"stdout": b"out", "stderr": b"err"}
            self.test.assertTrue(output == wanted, {name: len(got) for name, got in output.items()})
            self.test.assertEqual(answers, self.answers.get(who, 0))

    def assert_reason(self, code, said, message):
        reason = self.door.case.reason
        if isinstance(reason, tuple):
            reason = reason[isinstance(self.door, WrapperDoor)]
        command = self.door.line(max(self.asked.values()))
        wanted = {"code": code, "reason": reason.replace("…", command)}
        if reason.endswith("*"):
            wanted["reason"] = said["reason"] if said["reason"].startswith(reason[:-1]) else reason
        self.test.assertEqual(said, wanted, message)


DOORS = {"fd": ServerDoor, "stream": StreamDoor, "whole": WholeDoor}


class Doors(unittest.TestCase):
    maxDiff = None

    def one(self, make, case):
        door = make(self, case)
        Play(self, door).play(case.steps)
        self.assertEqual(len(door.runs()), case.runs)


def add_cases():
    for case in CASES:
        for make in [DOORS[mode] for mode in case.modes] + [WrapperDoor] * ("fd" in case.modes):
            def test(self, make=make, case=case):
                self.one(make, case)
            said = "".join(letter if letter.isalnum() else "_" for letter in case.name)
            setattr(Doors, f"test_{said}_at_{make.__name__}", test)


add_cases()

if __name__ == "__main__":
    unittest.main()
