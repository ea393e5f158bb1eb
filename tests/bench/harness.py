# SPDX-License-Identifier: MIT
"""What rows are made of: contenders that take turns, samples of what they cost, and lines that tell the ratio.

A row is a function that is given a Bench. It prepares its work, lets contenders do it by `compare`, or measures by itself and
tells by `report`. A contender is a shell line, in which $COALESCE is the program, or a function that is given the program and
returns seconds or a Sample. What a row says is about the program under test; with --before it is said of the older one, too.
"""

import os
import shlex
import shutil
import statistics
import string
import subprocess
import time
from typing import NamedTuple

ROWS = []
SOURCES = os.path.dirname(os.path.abspath(__file__))
MIB = 1 << 20
BEFORE = 1.03  # what the program may take of the time of the one before
UNITS = {"s": (1, 3), "ms": (1e-3, 3), "µs": (1e-6, 1), "MB": (1e6, 1), "KiB": (1024, 2), "": (1, 0)}  # size, digits
HEADING = (f"{'work':44} {'peer':24} {'ours':>11} {'peer':>11} {'ratio':>6} {'cpu':>6} {'faults':>6}  {'target':16} "
           f"{'verdict':8} busy")


def row(function):
    ROWS.append(function)
    return function


class Missing(Exception):
    """What a row needs is not installed."""


class Sample(NamedTuple):
    wall: float
    cpu: float = 0.0  # of all processes, also of those that were left behind
    faults: int = 0
    busy: float = 0.0  # the share of the machine that others took


class Bench:
    def __init__(self, options, scratch, memory):
        self.coalesce = os.path.abspath(options.coalesce)
        self.before = options.before and os.path.abspath(options.before)
        self.dynamic = options.dynamic and os.path.abspath(options.dynamic)
        self.rounds = options.rounds
        self.quick = options.quick
        self.patience = options.patience
        self.scratch = scratch
        self.shm = memory
        self.missed = 0
        # As a user has it who has set nothing: no rules and no defaults.
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("COALESCE")}
        self.environment.update(SCRATCH=scratch, SHM=memory, HOME=scratch, XDG_CONFIG_HOME=f"{scratch}/config", LC_ALL="C")
        for place in ("now", "before"):
            os.mkdir(f"{memory}/{place}", 0o700)  # in memory, as /run is
        self.compiled("timed", "timed.cpp")

    def programs(self):
        return [self.coalesce, *filter(None, [self.before])]

    def count(self, full):
        return full // 5 if self.quick else full

    def needs(self, *programs):
        for program in programs:
            if not shutil.which(program):
                raise Missing(f"{program} is not installed")

    def compiled(self, name, source):
        """A small program, made once; from a source beside this one unless its path says otherwise."""
        path = f"{self.scratch}/{name}"
        if not os.path.exists(path):
            compiler = ["cc", "-std=c11"] if source.endswith(".c") else ["c++", "-std=c++20"]
            subprocess.run([*compiler, "-O2", "-static", "-o", path, os.path.join(SOURCES, source)], check=True)
        return path

    def file(self, name, lines):
        path = f"{self.scratch}/{name}"
        with open(path, "w", encoding="ascii") as file:
            file.writelines(line + "\n" for line in lines)
        return path

    def environment_of(self, program):
        """No two programs meet, or serve what the other has kept."""
        place = "before" if program == self.before else "now"
        return {**self.environment, "COALESCE": program, "XDG_RUNTIME_DIR": f"{self.shm}/{place}",
                "XDG_CACHE_HOME": f"{self.scratch}/{place}/cache", "XDG_STATE_HOME": f"{self.scratch}/{place}/state"}

    def start(self, *words, program=None, **more):
        """A process in the scratch directory."""
        return subprocess.Popen(words, **{"env": self.environment_of(program or self.coalesce), "cwd": self.scratch,
                                          "stdin": subprocess.DEVNULL, **more})

    def output(self, line, program=None):
        return subprocess.run(["sh", "-c", line], env=self.environment_of(program or self.coalesce), cwd=self.scratch, check=True,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE).stdout

    def sample(self, line, program=None, times=None):
        """What a shell line costs; or, with `times`, a single command that is started so often, each at rest: see timed.cpp."""
        environment = self.environment_of(program or self.coalesce)
        words = shlex.split(string.Template(line).substitute(environment)) if times else ["sh", "-c", line]
        machine, begin = busy_seconds(), time.perf_counter()
        subprocess.run([f"{self.scratch}/timed", f"{self.scratch}/figures", str(times or 1), *words], env=environment,
                       cwd=self.scratch, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        with open(f"{self.scratch}/figures", encoding="ascii") as figures:
            wall, cpu, faults = figures.read().split()
        everything = (time.perf_counter() - begin) * os.cpu_count()
        others = max(0.0, (busy_seconds() - machine - float(cpu)) / everything)
        return Sample(float(wall), float(cpu), int(faults), others)

    def knows(self, line):
        """Whether the program before can do this: it may lack an option."""
        tried = subprocess.run(["sh", "-c", line], env=self.environment_of(self.before), cwd=self.scratch, check=False,
                               stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        return tried.returncode == 0 and not tried.stderr

    def wait_for_quiet(self, deadline):
        while time.monotonic() < deadline:
            before = busy_seconds()
            time.sleep(0.4)
            if (busy_seconds() - before) / (0.4 * os.cpu_count()) < 0.1:
                return

    def turns(self, contenders, rounds=None, counts_all=True):
        """The samples of each of these functions, which take turns in changing order."""
        samples = [[] for _ in contenders]
        deadline = time.monotonic() + self.patience
        for turn in range(rounds or self.rounds):
            order = list(range(len(contenders)))
            for i in order[turn % len(order):] + order[:turn % len(order)]:
                while True:
                    self.wait_for_quiet(deadline)
                    sample = contenders[i]()
                    if not counts_all or sample.busy < 0.1 or time.monotonic() > deadline:
                        break
                samples[i].append(sample)
        return samples

    def compare(self, work, ours, peers, per=1, unit="s", rounds=None, times=None, counts_all=True, before=BEFORE):
        """peers: [(name, contender, "speed" or "time", target)]. counts_all: no work is done by processes that were there
        already, a server's, which would look like others'. before: what may be taken of the time of the program before."""
        def contender(what, program=self.coalesce):
            return lambda: sample_of(what(program)) if callable(what) else self.sample(what, program, times)
        contenders = [contender(what) for what in (ours, *(peer[1] for peer in peers))]
        told = [(name, kind, target) for name, _, kind, target in peers]
        if self.before and before and (callable(ours) or self.knows(ours)):
            contenders.append(contender(ours, self.before))
            told.append(("the program before", "time", before))
        counts_all = counts_all and not callable(ours)
        own, *others = self.turns(contenders, rounds, counts_all)
        for (name, kind, target), theirs in zip(told, others):
            self.judge(work, name, own, theirs, kind, target, per, unit, counts_all)

    def judge(self, work, peer, ours, theirs, kind, target, per=1, unit="s", counts_all=False):
        """Tells the ratio of samples that were taken turn by turn."""
        def ratio(column):
            own, their = (statistics.median(sample[column] for sample in side) for side in (ours, theirs))
            return (their / own if kind == "speed" else own / their) if own and their else None
        own, their = (statistics.median(sample.wall for sample in side) for side in (ours, theirs))
        wall, cpu, faults = (ratio(Sample._fields.index(field)) for field in ("wall", "cpu", "faults"))
        busy = statistics.mean(sample.busy for sample in (*ours, *theirs))
        self.report(work, peer, scale(own / per, unit), scale(their / per, unit), f"{wall:.2f}", cpu and f"{cpu:.2f}",
                    faults and f"{faults:.2f}", target and f"{kind} {'≥' if kind == 'speed' else '≤'} {target}",
                    target and (wall >= target if kind == "speed" else wall <= target), f"{busy:.0%}" if counts_all else "")

    def limit(self, work, value, most, unit, peer="", theirs=None):
        """A figure that has a limit of its own, whatever it is of a peer's."""
        self.report(work, peer, scale(value, unit), "" if theirs is None else scale(theirs, unit),
                    f"{value / theirs:.2f}" if theirs else "", target=f"≤ {most / UNITS[unit][0]:g} {unit}".rstrip(),
                    reached=value <= most)

    def report(self, work, peer="", ours="", theirs="", ratio="", cpu="", faults="", target="", reached=None, busy=""):
        verdict = "" if reached is None else "reached" if reached else "MISSED"
        self.missed += verdict == "MISSED"
        print(f"{work:44} {peer:24} {ours:>11} {theirs:>11} {ratio:>6} {cpu or '':>6} {faults or '':>6}  {target or '':16} "
              f"{verdict:8} {busy:>4}", flush=True)


def sample_of(result):
    return result if isinstance(result, Sample) else Sample(result)


def busy_seconds():
    """Processor time that the whole machine has used."""
    with open("/proc/stat", encoding="ascii") as file:
        user, nice, system, _, _, irq, softirq, steal = (int(word) for word in file.readline().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def scale(value, unit):
    size, digits = UNITS[unit]
    return f"{value / size:.{digits}f} {unit}".rstrip()


def loop(command, times):
    """A shell loop: dash starts a program by vfork, so that little but the program itself is timed."""
    return f"i=0; while [ $i -lt {times} ]; do {command} || exit; i=$((i+1)); done >/dev/null"


def at_once(command, times):
    return f"i=0; while [ $i -lt {times} ]; do {command} & i=$((i+1)); done; wait"


def resident(pid):
    """Bytes of a process that are in memory."""
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmRSS"))


def await_that(holds):
    while not holds():
        time.sleep(0.01)
