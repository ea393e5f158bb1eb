# SPDX-License-Identifier: MIT
"""Machines that meet at an engine: a redis-server of the test's own, and hosts that share nothing but that.

A host here is a meeting place and a name of its own; all else is the same on each. Nothing sleeps: the engine says on its standard
output when it takes connections, commands are held on FIFOs and counted by what they leave behind. Hosts with a network of their
own are in hosts.py.
"""

import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import unittest

for room in ("kept", "server"):
    sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", room))
import harness  # noqa: E402
import sandbox  # noqa: E402
from harness import a_moment  # noqa: E402
from sandbox import COALESCE, crash, main  # noqa: E402,F401 for the tests


LOGGED = ("--appendonly", "yes", "--appendfsync", "no")  # it remembers what it granted, unless the machine falls
KEYS = ("~coalesce:1:*", "&coalesce:1:*")
RIGHTS = ("+auth +ping +info +client|setname +eval +time +hmget +hset +del +exists +pttl +pexpire +zadd +zrem"
          " +zremrangebyscore +zcard +zrange +xadd +xread +xrevrange +publish +subscribe +unsubscribe +scan").split()


# Before a command: whoever finds another one of its group alive leaves a line.
ALONE = "exec 9>lock; flock -n 9 || echo overlap >>overlaps;"


def until(holds):
    """Looks until it holds, and what it then is. The test's own time limit bounds it."""
    while not (value := holds()):
        a_moment()
    return value


class Listening:
    """A socket that is answered by a thread of the test's, as long as its `with` lasts: `serve(connection)` is for the heirs."""

    def __init__(self, path):
        self.path = path
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(path)
        self.listener.listen()
        self.threads = [threading.Thread(target=self.accept)]

    def __enter__(self):
        self.threads[0].start()
        return self

    def __exit__(self, *_):
        self.listener.shutdown(socket.SHUT_RDWR)
        for thread in self.threads:  # which may grow meanwhile
            thread.join()
        self.listener.close()

    def accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.serve(connection)


class Engine:
    """A redis-server on a socket, and on no port unless one is asked for. It goes with the test, also if that is killed."""

    def __init__(self, directory, *options, name="redis", spawn=subprocess.Popen):
        if not shutil.which("redis-server"):
            raise unittest.SkipTest("the cluster: there is no redis-server")
        self.directory = directory
        self.socket = os.path.join(directory, name + ".sock")
        self.process = None
        self.options = options
        self.spawn = spawn
        self.start()

    def start(self, *options):
        """Also again, after a stop, with the options of the first time."""
        self.process = self.spawn(
            ["setpriv", "--pdeathsig", "KILL", "redis-server", "--port", "0", "--unixsocket", self.socket, "--dir", self.directory, "--save", "",
             "--logfile", "", *self.options, *options],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        for line in self.process.stdout:
            if "accept connections" in line:
                return
        raise AssertionError(f"redis-server ended with {self.process.wait()}")

    def stop(self, number=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(number)
            self.process.send_signal(signal.SIGCONT)
        self.process.wait()
        self.process.stdout.close()

    def ask(self, *words):
        with Redis(self.socket) as client:
            return client.ask(*words)


class Redis:
    """A client that asks and waits."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.connect(path)
        self.file = self.socket.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()
        self.socket.close()

    def say(self, *words):
        parts = [word if isinstance(word, bytes) else str(word).encode() for word in words]
        self.socket.sendall(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(p), p) for p in parts))

    def hear(self):
        line = self.file.readline()
        kind, rest = line[:1], line[1:-2]
        if kind == b"+":
            return rest.decode()
        if kind == b"-":
            return RuntimeError(rest.decode())
        if kind == b":":
            return int(rest)
        if kind == b"$":
            return None if rest == b"-1" else self.file.read(int(rest) + 2)[:-2]
        if kind == b"*":
            return None if rest == b"-1" else [self.hear() for _ in range(int(rest))]
        raise ConnectionError(line)

    def ask(self, *words):
        self.say(*words)
        return self.hear()


class Host:
    """What one machine has for itself."""

    def __init__(self, box, name):
        self.box = box
        self.name = name
        self.directory = os.path.join(box.directory, name)
        os.mkdir(self.directory, 0o700)
        self.env = {**box.env, "COALESCE_PLACE": os.path.join(self.directory, "place"), "HOSTNAME": name}

    def start(self, *words, env=None, **more):
        return self.box.start(*words, env={**self.env, **(env or {})}, **more)

    def call(self, *words, env=None, **more):
        """Exit status, stdout and stderr."""
        return self.box.call(*words, env={**self.env, **(env or {})}, **more)

    def serve(self, *options, env=None):
        return Server(self, *options, env=env)


class Server:
    """`coalesce serve` on a host, in the directory where its commands run. It is ready when it says so."""

    def __init__(self, host, *options, env=None):
        self.host = host
        self.path = os.path.join(host.directory, "server.sock")
        self.log = os.path.join(host.directory, "log")
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify.bind(os.path.join(host.directory, "notify"))
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [COALESCE, "serve", "--socket", self.path, *options], cwd=host.box.work, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, env={**host.env, "NOTIFY_SOCKET": self.notify.getsockname(), **(env or {})})
        host.box.servers.append(self)
        harness.await_state(self, "READY=1")
        self.notify.close()

    def client(self):
        client = harness.Client(self.path)
        self.host.box.clients.append(client)
        return client

    def logged(self):
        with open(self.log, errors="replace") as log:
            return log.read()

    def stop(self):
        """Its exit status."""
        if self.process.poll() is None:
            self.process.terminate()
        return self.process.wait()


class Sandbox(sandbox.Sandbox):
    def __init__(self):
        super().__init__()
        self.engines = []
        self.servers = []
        self.clients = []
        self.secret = self.file("secret", "s" * 32, 0o600)

    def close(self):
        for client in self.clients:
            client.close()
        for server in self.servers:  # before the engine goes: whoever is left hears of the end
            server.process.kill()
            server.process.wait()
        for engine in self.engines:
            engine.stop()
        super().close()

    def engine(self, *options, name="redis"):
        self.engines.append(Engine(self.directory, *options, name=name))
        return self.engines[-1]

    def url(self, engine, parameters=""):
        return f"redis+unix://{engine.socket}?secret={self.secret}{parameters}"

    def overlaps(self):
        return self.read("overlaps").count("\n")

    def host(self, name="one"):
        return Host(self, name)


class Test(unittest.TestCase):
    parameters = ""  # of the engine's URL

    def setUp(self):
        self.box = self.sandbox()
        self.addCleanup(self.box.close)

    def sandbox(self):
        return Sandbox()

    def words(self, *words, scope="tonight", parameters=""):
        return ("run", "--cluster", self.box.url(self.server, self.parameters + parameters), "--cluster-scope", scope, *words)

    def held(self, host, script="", *options, env=None, parameters="", before=""):
        """A run that has begun, and says so, and waits for the gate."""
        gate, begun = self.box.gate(f"gate{len(os.listdir(self.box.work))}"), self.box.gate(f"begun{len(os.listdir(self.box.work))}")
        command = f"{before} echo ran >>runs; echo first; echo up >{begun}; read x <{gate}; {script}"
        process = host.start(*self.words(*options, "-c", command, parameters=parameters), env=env)
        self.begun(begun)
        return process, command, gate

    def begun(self, fifo):
        with open(fifo) as file:
            file.read()
        os.unlink(fifo)  # who comes after this one leaves a file

    def joined(self, host, command, *options, parameters=""):
        """A request from elsewhere, once the engine knows of it."""
        process = host.start(*self.words("-v", *options, "-c", command, parameters=parameters), bufsize=0)  # no byte more than the line
        line = process.stderr.readline()
        self.assertIn(b"which runs on", line)
        return process

    def heard_of_others(self, runner, others=1):
        """The machine that runs it knows that others wait: a signal to its requester is now its leaving."""
        until(lambda: any(flight.get("machines") == 1 + others for flight in self.status(runner)))

    def hear(self, process, count):
        """So many bytes of its output."""
        heard = b""
        while len(heard) < count and (piece := process.stdout.read(count - len(heard))):
            heard += piece
        return heard

    def open(self, gate):
        with open(gate, "w") as file:
            file.write("go\n")

    def runs(self):
        return self.box.read("runs").count("\n")

    def end(self, process):
        out, err = process.communicate()
        return process.returncode, out.decode(), err.decode()

    def all_gone(self):
        """Waits until no process of a command is left that began with ALONE."""
        with open(os.path.join(self.box.work, "lock"), "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)

    def status(self, host):
        _, out, _ = host.call("status", "--json")
        return [json.loads(line) for line in out.splitlines()]


class ThreeHosts(Test):
    """And an engine that keeps a log."""

    def setUp(self):
        super().setUp()
        self.server = self.box.engine(*LOGGED)
        self.hosts = self.one, self.two, self.three = [self.box.host(name) for name in ("one", "two", "three")]

    def wait_for_waiting(self, process):
        """It has asked: a third connection listens."""
        while len([c for c in self.server.ask("CLIENT", "LIST").decode().splitlines() if "sub=1" in c]) < 2:
            self.assertIsNone(process.poll())
