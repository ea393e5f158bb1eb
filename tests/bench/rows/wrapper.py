# SPDX-License-Identifier: MIT
"""`coalesce run`, beside what else wraps a command: alone, in crowds, and what joining costs."""

import contextlib
import json
import os
import select
import shutil
import statistics
import subprocess
import time

from harness import MIB, Sample, at_once, await_that, loop, resident, row


@row
def startup(bench):
    """What it costs to start: the static and the dynamic program, and /bin/true."""
    times = bench.count(400)
    peers = [("/bin/true", loop("/bin/true", times), "time", None)]
    if bench.dynamic:
        peers.append(("dynamically linked", loop(f"{bench.dynamic} --version", times), "time", None))
    bench.compare("coalesce --version", loop("$COALESCE --version", times), peers, per=times, unit="ms")


@row
def run_true(bench):
    """A wrapper with nobody else around, who asks for nothing: its time, page faults and system calls."""
    times = bench.count(400)
    bench.compiled("least", "least_wrapper.c")
    peers = [("flock FILE true", loop("flock lock true", times), "time", 1.3),
             ("the least of its design", loop("./least $SHM/now/least true", times), "time", 1.6),
             ("true", loop("/bin/true", times), "time", None)]
    if shutil.which("run-one"):
        peers.append(("run-one true", loop("run-one true", times), "time", 0.2))
    bench.compare("coalesce run true", loop("$COALESCE run true", times), peers, per=times, unit="ms")
    bench.limit("  page faults of the one that leads", faults_of_requester(bench), 60, "")  # cmd/coalesce/start_order
    if not bench.before:
        return
    ours, before = (statistics.median(bench.sample("$COALESCE run true", program, times=1).faults for _ in range(9))
                    for program in bench.programs())
    bench.limit("  page faults, all processes", ours, before + 2, "", "the program before", before)
    bench.needs("strace")
    ours, before = (int(bench.output("strace -f -qq -o calls $COALESCE run true; grep -cE '^[0-9]+ +[a-z0-9_]+[(]' calls", program))
                    for program in bench.programs())
    bench.limit("  system calls, all processes", ours, before + 2, "", "the program before", before)  # two: no rules files


def faults_of_requester(bench):
    """Of itself, not of those that it has waited for."""
    process = bench.start(bench.coalesce, "run", "true")
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    with open(f"/proc/{process.pid}/stat", encoding="ascii") as stat:
        faults = int(stat.read().rsplit(")", 1)[1].split()[7])
    process.wait()
    return faults


@row
def run_storm(bench):
    """200 identical commands at once."""
    line = "sleep .2; echo out"
    whole = "{{ {}; }} >out; [ $(wc -l <out) = 200 ]"
    bench.compare("200 × coalesce run -c 'sleep .2; echo out'", whole.format(at_once(f"$COALESCE run -c '{line}'", 200)),
                  [("200 × sh -c", whole.format(at_once(f"sh -c '{line}'", 200)), "time", 0.55)])


@row
def run_fan_out(bench):
    """16 requesters, each piping one output of 256 MiB."""
    size = bench.count(256) * MIB
    bench.output(f"head -c {size} /dev/zero >$SHM/file")
    bench.compare(f"16 requesters × {size // MIB} MiB", at_once("$COALESCE run cat $SHM/file | cat >/dev/null", 16),
                  [("16 × cat FILE", at_once("cat $SHM/file | cat >/dev/null", 16), "speed", 1.6)])
    os.unlink(f"{bench.shm}/file")


class HeldRun:
    """`coalesce run` of a command that ends when told."""

    def __init__(self, bench, program):
        self.bench = bench
        self.program = program
        self.fifo = f"{bench.scratch}/hold"
        with contextlib.suppress(FileExistsError):
            os.mkfifo(self.fifo)
        self.leader = self.start(subprocess.DEVNULL)
        await_that(self.flights)
        self.writer = os.open(self.fifo, os.O_WRONLY)  # opens when the command reads

    def start(self, stderr):
        return self.bench.start(self.program, "run", "-v", "sh", "-c", f"read word <{self.fifo}; echo done",
                                program=self.program, stdout=subprocess.DEVNULL, stderr=stderr)

    def flights(self):
        return [json.loads(line) for line in self.bench.output("$COALESCE status --json", self.program).splitlines()]

    def release(self):
        os.write(self.writer, b"\n")
        os.close(self.writer)


@row
def run_join(bench):
    """What joining costs: from the command's end, seen through a pidfd, until the joiner's own; and what it
    costs if the command ends as soon as it has been joined, which a joiner that waits does not notice."""
    starts = []

    def joined(program):
        held = HeldRun(bench, program)
        begin = time.perf_counter()
        joiner = held.start(subprocess.PIPE)
        joiner.stderr.readline()  # "joined …"
        if program == bench.coalesce:
            starts.append(time.perf_counter() - begin)
        command = os.pidfd_open(held.flights()[0]["pid"])
        time.sleep(0.02)
        held.release()
        select.select([command], [], [])
        ended = time.perf_counter()
        joiner.wait()
        tail = time.perf_counter() - ended
        os.close(command)
        joiner.stderr.close()
        held.leader.wait()
        return Sample(tail)

    def true():
        begin = time.perf_counter()
        bench.start("/bin/true").wait()
        return Sample(time.perf_counter() - begin)
    tails, trues, *before = bench.turns([lambda: joined(bench.coalesce), true]
                                        + [lambda: joined(bench.before)] * bool(bench.before), max(20, 4 * bench.rounds))
    tail, true_cost = (statistics.median(sample.wall for sample in samples) for samples in (tails, trues))
    bench.limit("joining a run: beyond the command's end", tail, 1.2 * true_cost + 0.001, "ms", "true", true_cost)
    for samples in before:
        bench.judge("joining a run: beyond the command's end", "the program before", tails, samples, "time", 1.03, unit="ms")
    both = [Sample(start + tail.wall) for start, tail in zip(starts, tails)]
    bench.judge("  and its start, until run -v has said so", "true", both, trues, "time", None, unit="ms")


@row
def run_crowd(bench):
    """1,000 joiners on one run: the supervisor's memory, and how long they take to end."""
    n = bench.count(1000)
    held = HeldRun(bench, bench.coalesce)
    joiners = [held.start(subprocess.DEVNULL) for _ in range(n)]
    await_that(lambda: held.flights()[0]["requesters"] == n + 1)
    taken = resident(held.flights()[0]["supervisor"])
    begin = time.perf_counter()
    held.release()
    failed = sum(joiner.wait() != 0 for joiner in joiners + [held.leader])
    seconds = time.perf_counter() - begin
    assert failed == 0, f"{failed} joiners failed"
    bench.limit(f"{n} joiners: supervisor, resident", taken, 16e6, "MB")
    bench.limit(f"{n} joiners: until all have ended", seconds, 1, "s")
