# SPDX-License-Identifier: MIT
"""One table of cases, and both doors go through it: `coalesce serve`, and the supervisor
that a wrapper leaves in the meeting place.

A case is a line of steps: who does what, and what they must hear. Whoever has asked is known
to be in by `status`; the command is known to wait by the FIFO that it reads. Nothing sleeps.

    a asks [fresh|keep_running|bytewise|long]   one request on a connection of its own
    a closes | closes unread | half-closes | signals N | sends TEXT
    a connects          without asking for anything
    gate opens          the command, which waits there, goes on
    a hears WHAT        its next message but for output and "started"; `exit 3` with all of the output
    status N            so many wait for the flight that is running
    command ends | command finishes    it is gone; and it came to its own end
"""

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../server"))
from harness import COALESCE, Client, Server  # noqa: E402

LONG = 300_000  # more than a socket takes

# Name, steps, how often the command runs.
CASES = [
    ("F1 two who ask share one run", "a asks; b asks; gate opens; a hears exit 3; b hears exit 3", 1),
    ("F1 five who ask share one run",
     "a asks; b asks; c asks; d asks; e asks; status 5; gate opens; " + "; ".join(f"{x} hears exit 3" for x in "abcde"), 1),
    ("F2 who asks after the end starts anew", "a asks; gate opens; a hears exit 3; b asks; gate opens; b hears exit 3", 2),
    ("F3 who joins late gets long output from its first byte",
     "a asks long; b asks long; gate opens; b hears exit 3; a hears exit 3", 1),
    ("F5 the first leaves, the others get all", "a asks; b asks; a closes; status 1; gate opens; b hears exit 3", 1),
    ("F5 one who joined leaves", "a asks; b asks; b closes; status 1; gate opens; a hears exit 3", 1),
    ("F5 the last leaves and the command ends", "a asks; a closes; command ends", 1),
    ("F5 all leave and the command ends", "a asks; b asks; a closes; b closes; command ends", 1),
    ("F5 who wants it to go on leaves, and it does", "a asks keep_running; a closes; gate opens; command finishes", 1),
    ("F5 one of two wants it to go on", "a asks; b asks keep_running; a closes; b closes; gate opens; command finishes", 1),
    ("F5 who wants it to go on leaves, another joins",
     "a asks keep_running; a closes; status 0; b asks; gate opens; b hears exit 3", 1),
    ("F7 fresh waits for the next run, and all who want that share it",
     "a asks; b asks fresh; c asks fresh; gate opens; a hears exit 3; gate opens; b hears exit 3; c hears exit 3", 2),
    ("F7 who waits for the next run leaves", "a asks; b asks fresh; b closes; gate opens; a hears exit 3", 1),
    ("F9 a request in single bytes", "a asks; b asks bytewise; gate opens; b hears exit 3; a hears exit 3", 1),
    ("F9 half closed after the request", "a asks; a half-closes; gate opens; a hears exit 3", 1),
    ("F9 half closed, with long output", "a asks long; a half-closes; gate opens; a hears exit 3", 1),
    ("F9 half closed and then closed", "a asks; b asks; b half-closes; b closes; status 1; gate opens; a hears exit 3", 1),
    ("F9 closed with long output unread", "a asks long; b asks long; gate opens; b closes unread; a hears exit 3", 1),
    ("F9 all close with long output unread", "a asks long; b asks long; gate opens; b closes unread; a closes unread; "
     "command ends", 1),
    ("R5 a signal of one among several is its leave", "a asks; b asks; b signals 15; b hears left; gate opens; a hears exit 3", 1),
    ("R5 a signal of the only one is for the command", "a asks; a signals 15; a hears signalled; a hears signal 15", 1),
    ("R5 USR1 of one among several is nobody's",
     "a asks; b asks; b signals 10; b hears ignored; gate opens; a hears exit 3; b hears exit 3", 1),
    ("R5 USR1 of the only one is for the command", "a asks; a signals 10; a hears signalled; a hears signal 10", 1),
    ("O2 whoever cancels it ends it for all", "a asks; b asks; x cancels; a hears cancelled; b hears cancelled", 1),
    ("S5 a line that is no request harms nobody",
     "a asks; x connects; x sends {no JSON at all; x hears error bad_json; gate opens; a hears exit 3", 1),
    ("S5 an operation that does not exist", "a asks; x connects; x sends {\"op\":\"fly\"}; x hears error unknown_op; "
     "gate opens; a hears exit 3", 1),
    ("S5 half a line and the end", "a asks; x connects; x sends half a; x half-closes; x closes; gate opens; a hears exit 3", 1),
    ("S5 comes and goes", "a asks; x connects; x closes; y connects; y half-closes; z connects; gate opens; a hears exit 3", 1),
]


class Door:
    """A directory with the command's gate and its traces."""

    def __init__(self, test):
        self.test = test
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
    def line(self, long):
        output = f"head -c {LONG} /dev/zero" if long else "printf out; printf err >&2"
        return (f"echo $$ >>{self.path('runs')}; until read x <{self.gate}; do :; done; {output}; "
                f"echo >>{self.path('finished')}; exit 3")

    def waiting(self):
        """How many wait for each flight, the running one first."""
        if not self.has_flights():
            return []
        with self.connect() as client:
            flights = client.ask({"op": "status"})["flights"]
        flights.sort(key=lambda flight: flight["state"] == "queued")
        return [flight["requesters"] for flight in flights]

    def cancel(self):
        with self.connect() as client:
            flight = client.ask({"op": "status"})["flights"][0]["id"]
            client.ask({"op": "cancel", "flight": flight})

    def open_gate(self):
        with open(self.gate, "w", encoding="ascii") as gate:  # until the command is there
            gate.write("\n")


class ServerDoor(Door):
    """`coalesce serve`."""

    def __init__(self, test):
        super().__init__(test)
        self.server = Server(test)

    def has_flights(self):
        return True  # ask it

    def connect(self):
        return self.server.client()

    def ask(self, terms, bytewise, long):
        client = self.connect()
        request = {"line": self.line(long), "output": "fd", **terms}
        send(client, request, bytewise)
        return client


class WrapperDoor(Door):
    """The supervisor of `coalesce run`. Who leads is a real wrapper; it is killed as soon as the first
    of the case has joined, and so has left."""

    def __init__(self, test):
        super().__init__(test)
        self.place = self.path("place")
        os.mkdir(self.place, 0o700)
        self.env = {name: value for name, value in os.environ.items() if not name.startswith("COALESCE")}

    def has_flights(self):
        return bool(self.sockets())

    def sockets(self):
        return [name for name in os.listdir(self.place) if name.endswith(".sock")]

    def connect(self):
        return Client(os.path.join(self.place, self.sockets()[0]))

    def ask(self, terms, bytewise, long):
        leader = None
        if not self.sockets():
            leader = subprocess.Popen([COALESCE, "run", "--place", self.place, "-c", self.line(long)],
                                      env=self.env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                      stderr=subprocess.DEVNULL)
            while not self.listens():
                pass
        client = self.connect()
        send(client, {"op": "join", **terms}, bytewise)
        if leader is not None:
            while self.waiting()[:1] != [2]:
                pass
            leader.kill()
            leader.wait()
        return client

    def listens(self):
        try:
            return bool(self.sockets()) and self.connect().close() is None
        except OSError:
            return False


def send(client, request, bytewise):
    data = json.dumps(request).encode() + b"\n"
    for piece in ([bytes([byte]) for byte in data] if bytewise else [data]):
        client.send(piece)


class Play:
    """One case at one door."""

    def __init__(self, test, door):
        self.test = test
        self.door = door
        self.clients = {}
        self.asked = {}  # name → the length of the output it is to get
        self.fresh = 0

    def play(self, steps):
        for step in steps.split("; "):
            who, *words = step.split(" ")
            try:
                self.step(who, words)
            except Exception as error:
                raise AssertionError(f"at '{step}': {error!r}") from error
        for client in self.clients.values():
            client.close()

    def step(self, who, words):
        verb = words[0]
        if who == "gate":
            self.door.open_gate()
        elif who == "status":
            while self.door.waiting()[:1] != [int(verb)]:
                pass
        elif who == "command":
            pid = int(self.first_run())
            self.gone(pid)
            with open(self.door.path("finished"), encoding="ascii") as file:
                self.test.assertEqual(len(file.read()), 1 if verb == "finishes" else 0)
        elif verb == "asks":
            self.ask(who, words[1:])
        elif verb == "cancels":
            self.door.cancel()
        else:
            self.act(who, verb, words[1:])

    def first_run(self):
        while not (runs := self.door.runs()):
            pass
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
        before = sum(self.door.waiting()) if self.asked else 0
        self.clients[who] = self.door.ask(terms, "bytewise" in words, "long" in words)
        self.asked[who] = "long" in words
        while sum(self.door.waiting()) != before + 1:
            pass
        if "fresh" not in words:
            self.first_run()

    def act(self, who, verb, words):
        if verb == "connects":
            self.clients[who] = self.door.connect()
            return
        client = self.clients[who]
        if verb == "closes":
            if words == ["unread"]:
                client.fill()
            client.close()
            del self.clients[who]
        elif verb == "half-closes":
            client.half_close()
        elif verb == "signals":
            self.first_run()
            client.send({"op": "signal", "signal": int(words[0])})
        elif verb == "sends":
            client.send(" ".join(words).encode() + (b"" if words[0] == "half" else b"\n"))
        elif verb == "hears":
            self.hear(who, client, words)
        else:
            raise ValueError(verb)

    def hear(self, who, client, words):
        output = {"stdout": b"", "stderr": b""}
        while True:
            message = client.message()
            self.test.assertIsNotNone(message, "hung up on")
            event = message.get("event")
            if event in output:
                offset = message["offset"]
                output[event] += os.pread(client.fds[0], message["bytes"], offset)
                continue
            if event not in ("started", "waiting"):
                break
        if words[0] == "error":
            self.test.assertEqual(message["error"]["code"], words[1], message)
        elif words[0] == "cancelled":
            self.test.assertEqual((event, message.get("code")), ("exit", "cancelled"), message)
        elif words[0] in ("exit", "signal"):
            self.test.assertEqual((event, message.get(words[0])), ("exit", int(words[1])), message)
            if words == ["exit", "3"]:
                wanted = {"stdout": bytes(LONG), "stderr": b""} if self.asked[who] else {"stdout": b"out", "stderr": b"err"}
                self.test.assertTrue(output == wanted, {name: len(got) for name, got in output.items()})
        else:
            self.test.assertEqual(event, words[0], message)


class Doors(unittest.TestCase):
    maxDiff = None

    def one(self, make, steps, runs):
        door = make(self)
        Play(self, door).play(steps)
        self.assertEqual(len(door.runs()), runs)


def add_cases():
    for name, steps, runs in CASES:
        for make in (ServerDoor, WrapperDoor):
            def test(self, make=make, steps=steps, runs=runs):
                self.one(make, steps, runs)
            said = "".join(letter if letter.isalnum() else "_" for letter in name)
            setattr(Doors, f"test_{said}_at_{make.__name__}", test)


add_cases()

if __name__ == "__main__":
    unittest.main()
