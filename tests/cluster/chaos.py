# SPDX-License-Identifier: MIT
"""Members on several hosts ask for one command for a while, and what can happen to machines happens at random.

Processes are killed, stopped for longer than a lease and interrupted, cables are pulled, the engine stands still. What is promised
all the same: never two runs at a time (each takes a lock that must be free), and who is told of an end has every byte of one run.
The output of a run carries its fence, so a mixture of two is seen. What is not promised is left out: nothing happens to a guard,
unless it is the control, where all are stopped; that must find two runs at a time, or it would all prove nothing.
"""

import collections
import contextlib
import os
import random
import signal
import threading

from hosts import ALONE, machines

LINES = 6000
STATUS = 4
LEASE_MS = 2_000
MEMBER = os.path.basename(machines.COALESCE)[:15]  # as the kernel has it
LONGEST_FAULT = 4
WORKERS_PER_HOST = 3
# What happens to a member on the way to its answer, beside that.
ENDS = {125, -signal.SIGINT, -signal.SIGKILL, 128 + signal.SIGINT}


def command(pause):
    """Longer than a lease in all, and with a grandchild that holds the lock."""
    lines = "seq -f \"$COALESCE_FENCE %.0f\""
    return (f"{ALONE} echo $$ >>runs; {lines} 1 {LINES // 2}; sleep {pause}; {lines} {LINES // 2 + 1} {LINES}; sleep {pause};"
            f" exit {STATUS}")


class Chaos:
    def __init__(self, test, seed, guarded=True):
        self.test = test
        self.guarded = guarded
        self.command = command(1.3 if guarded else 2.5)
        self.random = random.Random(seed)
        self.over = threading.Event()
        self.lock = threading.Lock()
        self.faults = collections.Counter()
        self.ends = collections.Counter()
        self.wrong = []
        self.undone = []

    def runs(self):
        return self.test.runs()

    def go_on(self, while_this):
        """Until it does not hold any more, or something is wrong."""
        threads = [threading.Thread(target=self.ask, args=(host,)) for host in self.test.hosts for _ in range(WORKERS_PER_HOST)]
        threads.append(threading.Thread(target=self.harm))
        if not self.guarded:
            threads.append(threading.Thread(target=self.stop_guards))
        for thread in threads:
            thread.start()
        try:
            while not self.wrong and not self.over.is_set() and while_this():
                self.over.wait(0.1)
        finally:
            self.over.set()
            threads[-1].join()
            self.mend()
            for thread in threads:
                thread.join()

    # --- members

    def ask(self, host):
        try:
            while not self.over.is_set():
                process = host.start(*self.test.words("-c", self.command))
                out, err = process.communicate()
                self.judge(process.returncode, out, err)
        except Exception as error:  # pylint: disable=broad-except
            self.is_wrong(f"{type(error).__name__}: {error}")

    def judge(self, status, out, err):
        with self.lock:
            self.ends[status] += 1
        lines = out.decode().split("\n")
        fence = lines[0].split(" ")[0]
        if status == STATUS:
            if lines != [f"{fence} {number}" for number in range(1, LINES + 1)] + [""]:
                self.is_wrong(f"not whole: {len(out)} bytes, {lines[:1]} … {lines[-2:]}")
        elif status not in ENDS:
            self.is_wrong(f"ends with {status}: {err.decode()}")
        elif lines[:-1] != [f"{fence} {number}" for number in range(1, len(lines))]:
            self.is_wrong(f"of more than one run: {lines[:1]} … {lines[-2:]}")

    def is_wrong(self, what):
        with self.lock:
            self.wrong.append(what)
        self.over.set()

    # --- what happens to them

    def harm(self):
        try:
            while not self.over.wait(self.random.random() * 0.5):
                host = self.random.choice(self.test.hosts)
                if not self.guarded:
                    self.stop_a_runner(host)
                    continue
                {"cut": self.cut, "freeze": self.freeze}.get(kind := self.pick(), self.hit)(kind, host)
        except Exception as error:  # pylint: disable=broad-except
            self.is_wrong(f"{type(error).__name__}: {error}")

    def pick(self):
        return self.random.choices(("KILL", "STOP", "INT", "cut", "freeze"), (5, 8, 4, 2, 1))[0]

    def hit(self, kind, host):
        members = [pid for pid, name in host.namespace.processes().items() if name == MEMBER]
        if not members:
            return
        member = self.random.choice(members)
        with contextlib.suppress(ProcessLookupError):
            os.kill(member, getattr(signal, "SIG" + kind))
            self.faults[kind] += 1
            if kind == "STOP":
                self.later(os.kill, member, signal.SIGCONT)

    def stop_a_runner(self, host):
        """Past its lease, and nobody else meanwhile, who is to take over. Its command goes on."""
        processes = host.namespace.processes()
        if "sleep" not in processes.values():
            return
        for leader in [pid for pid, name in processes.items() if name == MEMBER and leads(pid)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(leader, signal.SIGSTOP)
                self.faults["STOP"] += 1
                self.over.wait(LONGEST_FAULT)
                os.kill(leader, signal.SIGCONT)

    def cut(self, kind, host):
        host.unplug()
        self.faults[kind] += 1
        self.later(host.plug)

    def freeze(self, kind, _):
        self.test.server.process.send_signal(signal.SIGSTOP)
        self.faults[kind] += 1
        self.later(self.test.server.process.send_signal, signal.SIGCONT)

    def later(self, undo, *arguments):
        def run():
            with contextlib.suppress(ProcessLookupError):
                undo(*arguments)
        timer = threading.Timer(0.2 + self.random.random() * LONGEST_FAULT, run)
        timer.start()
        self.undone = [one for one in self.undone if one[0].is_alive()] + [(timer, run)]

    def stop_guards(self):
        while not self.over.wait(0.01):
            for host in self.test.hosts:
                for guard in host.guards():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(guard, signal.SIGSTOP)

    def mend(self):
        """Whoever is stopped goes on."""
        for timer, undo in self.undone:
            timer.cancel()
            timer.join()
            undo()
        for host in self.test.hosts:
            for pid in host.namespace.processes():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def summary(self):
        return (f"{self.runs()} runs, {self.test.box.overlaps()} overlaps, {sum(self.faults.values())} faults {dict(self.faults)},"
                f" ends {dict(self.ends)}")


def leads(pid):
    """Whether it is a supervisor: those have sessions of their own."""
    with contextlib.suppress(ProcessLookupError):
        return os.getsid(pid) == pid
    return False
