# SPDX-License-Identifier: MIT
"""Hosts that can be cut off, slowed down and switched off: namespaces of network, names, processes and mounts.

They hang by a cable each (veth) on a bridge in the engine's own namespace. What happens to a machine happens to a host: pulled
off the bridge it sends and hears nothing, and nobody is told; switched off, all its processes are gone at once. They share this
machine's files, so runs are counted by what they leave there, and two at a time are found by a lock (`ALONE`).

Nothing is left, also of a test that is killed: a namespace lives as long as its first process, which ends with the test's end of
a pipe, and takes all with it that is in there, cables included. Members come as a user who may do what M39 names and no more, so each
of these tests is one of M39, too.
"""

import contextlib
import ctypes
import os
import shutil
import subprocess
import unittest

import machines
from machines import ALONE, until  # noqa: F401 for the tests

LONG = "COALESCE_LONG" in os.environ
CLONE_NEWPID = 0x20000000
ENGINE_ADDRESS = "10.77.0.1"
BRIDGE = "02:00:00:00:00:01"  # or it has that of a cable, and another once that is gone: who knows the old one reaches nobody
PASSWORD = "geheim"
PRESENCE_MS = 15_000  # as membership.cpp has it
LINGER_MS = 15_000  # as publisher.cpp has it

libc = ctypes.CDLL(None, use_errno=True)


def why_not():
    """Why there can be no such hosts here, or None."""
    for tool in ("ip", "unshare", "nsenter"):
        if not shutil.which(tool):
            return f"there is no {tool}"
    if os.geteuid() != 0:
        return "root is needed"
    tried = subprocess.run(["unshare", "--net", "--uts", "--pid", "--mount", "--fork", "--mount-proc", "sh", "-c",
                            "ip link set lo up && ip link add br0 type bridge && ip link add one type veth peer name two"],
                           stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    return None if tried.returncode == 0 else f"no network of one's own can be had: {tried.stderr.strip()}"


class Namespace:
    """What one machine is to its processes. Those started in it are our children, by our own numbers."""

    def __init__(self, name):
        self.init = subprocess.Popen(
            ["unshare", "--net", "--uts", "--pid", "--mount", "--fork", "--kill-child", "--mount-proc", "sh", "-c",
             'hostname "$0" && ip link set lo up && echo up && exec env --ignore-signal=CHLD cat >/dev/null', name],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        if self.init.stdout.readline() != b"up\n":
            raise AssertionError(f"no namespace: {self.init.wait()}")
        self.own = os.open("/proc/self/ns/pid", os.O_RDONLY)
        self.pids = os.open(f"/proc/{self.init.pid}/ns/pid_for_children", os.O_RDONLY)
        self.id = os.fstat(self.pids).st_ino

    def close(self):
        self.off()
        os.close(self.own)
        os.close(self.pids)

    def off(self):
        """All of it is gone."""
        self.init.kill()
        self.init.wait()
        self.init.stdin.close()
        self.init.stdout.close()

    def spawn(self, words, cwd="/", **more):
        ns = f"/proc/{self.init.pid}/ns"
        words = ["nsenter", f"--net={ns}/net", f"--uts={ns}/uts", f"--mount={ns}/mnt", "sh", "-c", 'cd "$0" && exec "$@"', cwd, *words]
        self.children_go_to(self.pids)
        try:
            return subprocess.Popen(words, **more)
        finally:
            self.children_go_to(self.own)

    @staticmethod
    def children_go_to(namespace):
        if libc.setns(namespace, CLONE_NEWPID) != 0:
            raise OSError(ctypes.get_errno(), "setns")

    def do(self, *words):
        """On its network, by our numbers."""
        done = subprocess.run(["nsenter", f"--net=/proc/{self.init.pid}/ns/net", *words], stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, check=False)
        assert done.returncode == 0, (words, done.stderr)

    def processes(self):
        """Number → name of what runs in it, but for its first."""
        found = {}
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                if os.stat(f"/proc/{pid}/ns/pid").st_ino != self.id:
                    continue
                with open(f"/proc/{pid}/status") as file:
                    facts = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
                if facts["NSpid"].split()[-1] != "1" and not facts["State"].startswith("Z"):
                    found[int(pid)] = facts["Name"]
        return found

    def outer(self, inner):
        """Our number for a process that has that one in there."""
        for pid in self.processes():
            with contextlib.suppress(OSError):
                with open(f"/proc/{pid}/status") as file:
                    numbers = next(line for line in file if line.startswith("NSpid:")).split()
                if int(numbers[-1]) == inner:
                    return pid
        raise ProcessLookupError(inner)

    def connections(self):
        """Local port → state of its TCP connections."""
        with open(f"/proc/{self.init.pid}/net/tcp") as file:
            rows = [line.split() for line in file.readlines()[1:]]
        return {int(row[1].split(":")[1], 16): {"01": "established", "02": "connecting"}.get(row[3], "other") for row in rows}


class Host(machines.Host):
    """A machine with a cable to the engine's."""

    def __init__(self, box, name):
        super().__init__(box, name)
        self.namespace = Namespace(name)
        box.hosts.append(self)
        number = len(box.hosts)
        self.cable = f"cable{number}"
        box.switch.do("ip", "link", "add", self.cable, "type", "veth", "peer", "name", "eth0", "netns", str(self.namespace.init.pid))
        self.plug()
        self.namespace.do("ip", "address", "add", f"10.77.0.{10 + number}/24", "dev", "eth0")
        self.namespace.do("ip", "link", "set", "eth0", "up")

    def start(self, *words, env=None, **more):
        return self.box.start(*words, env={**self.env, **(env or {})}, spawn=self.namespace.spawn, **more)

    def call(self, *words, env=None, **more):
        return self.box.call(*words, env={**self.env, **(env or {})}, spawn=self.namespace.spawn, **more)

    def plug(self):
        self.box.switch.do("ip", "link", "set", self.cable, "master", "br0", "up")

    def unplug(self):
        self.box.switch.do("ip", "link", "set", self.cable, "nomaster")

    def slow(self, rate):
        self.box.switch.do("tc", "qdisc", "replace", "dev", self.cable, "root", "tbf", "rate", rate, "burst", "32kbit", "latency", "400ms")

    def off(self):
        self.namespace.off()

    def is_on(self):
        return self.namespace.init.poll() is None

    def sockets(self):
        """Of the meeting place."""
        return [name for _, _, names in os.walk(self.env["COALESCE_PLACE"]) for name in names if name.endswith(".sock")]

    def guards(self):
        return [pid for pid, name in self.namespace.processes().items() if name == "coalesce-guard"]

    def established(self):
        """Its connections, by their ports."""
        return {port for port, state in self.namespace.connections().items() if state == "established"}


class Sandbox(machines.Sandbox):
    def __init__(self):
        super().__init__()
        self.hosts = []
        # The leak check stops a process to look at it, and waits for ever where somebody else stops it or has it go on meanwhile.
        self.env["ASAN_OPTIONS"] = self.env.get("ASAN_OPTIONS", "") + ":detect_leaks=0"
        self.password = self.file("password", PASSWORD, 0o600)
        self.switch = Namespace("engine")
        self.switch.do("ip", "link", "add", "br0", "address", BRIDGE, "type", "bridge")
        self.switch.do("ip", "address", "add", ENGINE_ADDRESS + "/24", "dev", "br0")
        self.switch.do("ip", "link", "set", "br0", "up")

    def close(self):
        for host in self.hosts:
            host.namespace.close()
        super().close()
        self.switch.close()

    def engine(self, *options, name="redis"):
        # A connection whose end was lost on a cut cable is held for as long as keepalive says: five minutes, unless told.
        network = ("--bind", ENGINE_ADDRESS, "--port", "6379", "--protected-mode", "no", "--tcp-keepalive", "10")
        user = ("--user", "machine", "on", ">" + PASSWORD, *machines.KEYS, "-@all", *machines.RIGHTS)
        self.engines.append(machines.Engine(self.directory, *network, *user, *options, name=name, spawn=self.switch.spawn))
        return self.engines[-1]

    def url(self, engine, parameters=""):
        return f"redis://machine@{ENGINE_ADDRESS}?secret={self.secret}&password={self.password}{parameters}"

    def host(self, name="one"):
        return Host(self, name)

    def longest_limit_ms(self, lease_ms):
        """A key that nobody prolongs any more is gone after that."""
        return max(5 * lease_ms, 4 * lease_ms + PRESENCE_MS, LINGER_MS)


class Test(machines.Test):
    """A12 is looked at after each of them."""

    engine_options = machines.LOGGED
    names = ("one", "two", "three")
    lease_ms = 60_000  # unless a test waits for its end
    keep_ms = 60_000

    @classmethod
    def setUpClass(cls):
        if reason := why_not():
            raise unittest.SkipTest(f"hosts of their own: {reason}")

    def setUp(self):
        super().setUp()
        self.parameters = f"&lease={self.lease_ms}ms&keep={self.keep_ms}ms"
        self.server = self.box.engine(*self.engine_options)
        self.hosts = [self.box.host(name) for name in self.names]

    def sandbox(self):
        return Sandbox()

    def tearDown(self):
        if self._outcome.result.failures or self._outcome.result.errors:
            return
        self.nothing_is_left()

    def live(self):
        """The keys with a live run, and how many machines wait for each."""
        with machines.Redis(self.server.socket) as client:
            return [client.ask("ZCARD", key) for key in client.ask("KEYS", "coalesce:1:*:w")]

    def waiting(self, *counts):
        """Until so many wait for each key that has a live run."""
        until(lambda: sorted(self.live()) == sorted(counts))

    def nothing_is_left(self):
        """A12, M40: no process, no socket, no key that will not go by itself, and soon."""
        for host in self.hosts:
            until(lambda host=host: not host.namespace.processes())
        with machines.Redis(self.server.socket) as client:
            until(lambda: len(client.ask("CLIENT", "LIST").decode().splitlines()) == 1)
            for key in client.ask("KEYS", "*"):
                left = client.ask("PTTL", key)
                if left == -2:  # meanwhile
                    continue
                self.assertGreaterEqual(left, 0, key)
                self.assertLessEqual(left, max(self.box.longest_limit_ms(self.lease_ms), self.keep_ms), key)
        for host in self.hosts:
            if host.sockets() and host.is_on():  # of a crash: the next one cleans up
                self.assertEqual(host.call("run", "true"), (0, "", ""))
                until(lambda host=host: not host.namespace.processes())  # that is its supervisor's last work
                self.assertEqual(host.sockets(), [])

    def leader(self, host):
        """Our number for the process that leads its one run."""
        [flight] = self.status(host)
        return host.namespace.outer(flight["supervisor"])
