# SPDX-License-Identifier: MIT
"""Machines that share runs: what the engine costs a command, what output through it costs, and how soon ends are known.

A machine here is a meeting place of its own: all else is common, and the way to the engine is the loopback. The engine keeps a log
and the lease is a minute, as it is set up unless told otherwise, but where a row says why not.
"""

import contextlib
import json
import os
import random
import select
import shlex
import signal
import statistics
import subprocess
import tempfile
import time

from harness import MIB, SOURCES, await_that, loop, row
from servers import Etcd, Gearman, Redis

LEASE = 2  # seconds; the shortest there is


class Machine:
    """What one machine has for itself, beside what it has in common with the others."""

    def __init__(self, bench):
        self.bench = bench
        self.place = tempfile.mkdtemp(dir=bench.shm)

    def start(self, *words, **more):
        environment = {**self.bench.environment_of(self.bench.coalesce), "COALESCE_PLACE": self.place}
        return self.bench.start(self.bench.coalesce, *words, env=environment, **{"stdout": subprocess.DEVNULL, **more})

    def follow(self, *words, **more):
        """A requester whose run is known to be elsewhere."""
        process = self.start("run", "-v", *words, stderr=subprocess.PIPE, **more)
        told = process.stderr.readline()
        assert b"which runs on" in told, f"no follower: {told}"
        return process

    def flight(self):
        """The one that is under way here; its command has been started."""
        def flights():
            told = self.bench.output(f"COALESCE_PLACE={self.place} $COALESCE status --json").splitlines()
            return [flight for flight in map(json.loads, told) if flight.get("pid", 0) > 0]
        await_that(flights)
        [flight] = flights()
        return flight


def machines(bench, count):
    return [Machine(bench) for _ in range(count)]


def orders(bench, redis, parameters=""):
    """The options of one who shares."""
    secret = f"{bench.scratch}/secret"
    if not os.path.exists(secret):
        os.chmod(bench.file("secret", ["s" * 32]), 0o600)
    return "--cluster", f"redis://127.0.0.1:{redis.port}?secret={secret}{parameters}", "--cluster-scope", "bench"


def with_log(bench):
    return Redis(bench, "--appendonly", "yes")


@contextlib.contextmanager
def without_log(bench):
    """It grants nothing before it is as old as a lease."""
    with Redis(bench) as redis:
        await_that(lambda: redis.info("server", "uptime_in_seconds") > LEASE)
        yield redis, f"&lease={LEASE}s&cap=1G"


def fifo(bench, name):
    """A FIFO that is held open by this process, too."""
    path = f"{bench.scratch}/{name}-{time.monotonic_ns()}"
    os.mkfifo(path)
    return path, os.open(path, os.O_RDWR)


@row
def cluster_true(bench):
    """A trivial command through the engine: beside a local one, and what else asks a server before it runs something."""
    times = bench.count(200)
    with with_log(bench) as redis, Gearman(bench, "true") as gearman, Etcd(bench) as etcd:
        options = shlex.join(orders(bench, redis))
        bench.compare("coalesce run --cluster … true", loop(f"$COALESCE run {options} true", times),
                      [("coalesce run true", loop("$COALESCE run true", times), "time", 1.6),
                       ("gearman", loop(gearman.line, times), "time", 0.9),
                       ("etcdctl lock k true", loop(f"etcdctl --endpoints {etcd.url} lock k true", times), "time", 0.25)],
                      per=times, unit="ms", counts_all=False)


@row
def cluster_scripts(bench):
    """What the engine takes for a heartbeat and for a question: medians, beside a PING's."""
    n = str(bench.count(5000))
    lease, presence, info = "60000", "15000", "x" * 200

    def script(name, run, client, *words):
        with open(f"{SOURCES}/../../lib/coalesce/cluster/{name}.lua", encoding="ascii") as file:
            keys = (f"coalesce:1:{{{client}}}:{part}" for part in ("m", "w", f"s:{run}"))
            return "eval", file.read(), "3", *keys, *words
    acquire = script("acquire", "c.1", "c", "c", "1", lease, presence, "0", "0", info)
    renew = script("renew", "c.1", "c", "c.1", "c", lease, presence, "0")
    acquire_any = script("acquire", "c.1", "__rand_int__", "c", "1", lease, presence, "0", "0", info)
    with with_log(bench) as redis:
        redis.ask(*acquire)

        def p50(*words):
            return lambda _: redis.benchmark("-c", "1", "-n", n, "-r", "1000000000", *words)["p50_latency_ms"] / 1e3
        for name, words, target in (("renew", renew, 2), ("acquire", acquire_any, 2.5)):
            bench.compare(f"script {name}, p50", p50(*words), [("PING", p50("PING"), "time", target)], unit="µs", before=None)


@row
def cluster_flow(bench):
    """256 MiB from one machine to one and to three others, beside XADD, PUBLISH and XREAD alone. The engine keeps no log, which
    would be what is measured, and so the lease is short; nor does it forget the beginning, as a slow follower would miss it."""
    mib = bench.count(256)
    stream = bench.compiled("stream", "stream.cpp")
    with without_log(bench) as (redis, parameters):
        def ours(followers):
            def flow(_):
                path, gate = fifo(bench, "flow")
                words = *orders(bench, redis, parameters), "sh", "-c", f"read x <{path}; exec head -c {mib * MIB} /dev/zero"
                runner, *others = machines(bench, followers + 1)
                processes = [runner.start("run", *words)]
                runner.flight()
                processes += [machine.follow(*words) for machine in others]
                begin = time.perf_counter()
                os.write(gate, b"\n")
                failed = [process.wait() for process in processes]
                seconds = time.perf_counter() - begin
                os.close(gate)
                assert not any(failed), f"ended with {failed}"
                return seconds
            return flow

        def bare(followers):
            return lambda _: float(bench.output(f"{stream} flow {redis.port} {mib} {followers}"))
        for followers in (1, 3):
            bench.compare(f"{mib} MiB to {followers} machine{'s' * (followers > 1)}", ours(followers),
                          [("bare XADD, PUBLISH, XREAD", bare(followers), "speed", 0.6)], before=None)


@row
def cluster_alone(bench):
    """256 MiB that no other machine wants: its time, and what of it reaches the engine."""
    size = bench.count(256) * MIB
    with with_log(bench) as redis:
        line = f"$COALESCE run {{}} head -c {size} /dev/zero | cat >/dev/null"
        shared = line.format(shlex.join(orders(bench, redis)))
        before = redis.info("stats", "total_net_input_bytes")
        bench.output(shared)
        reached = redis.info("stats", "total_net_input_bytes") - before
        bench.compare(f"{size // MIB} MiB that nobody shares", shared, [("coalesce run", line.format(""), "time", 1.05)],
                      counts_all=False)
        bench.limit("  of which the engine is sent", reached, 64 * 1024, "KiB")


@row
def cluster_byte(bench):
    """A live byte, from the command that copies it to the follower's standard output, beside a chunk that is told and read."""
    times = bench.count(100)
    stream = bench.compiled("stream", "stream.cpp")
    with with_log(bench) as redis:
        def live(_):
            one, two = machines(bench, 2)
            path, gate = fifo(bench, "byte")
            words = *orders(bench, redis), "cat", path
            runner = one.start("run", *words)
            one.flight()
            follower = two.follow(*words, stdout=subprocess.PIPE)
            samples = []
            for _ in range(times):
                time.sleep(0.02)  # whatever came before is over
                begin = time.perf_counter()
                os.write(gate, b"x")
                follower.stdout.read(1)
                samples.append(time.perf_counter() - begin)
            os.close(gate)
            assert (runner.wait(), follower.wait()) == (0, 0)
            return statistics.median(samples)
        bench.compare("a live byte at another machine, p50", live,
                      [("bare XADD, PUBLISH, XREAD", lambda _: float(bench.output(f"{stream} wake {redis.port} {times}")),
                        "time", 3)], unit="ms", rounds=3, before=None)


@row
def cluster_leave(bench):
    """The last one leaves, on another machine: until the command there has been ended by TERM."""
    with with_log(bench) as redis:
        samples = []
        for number in range(max(5, 2 * bench.rounds)):
            one, two = machines(bench, 2)
            words = *orders(bench, redis), "sleep", f"{1000 + number}"
            runner = one.start("run", *words)
            command = os.pidfd_open(one.flight()["pid"])
            follower = two.follow(*words)
            await_that(lambda: one.flight()["machines"] == 2)  # or a signal here would be the command's
            leave(runner)
            begin = time.perf_counter()
            follower.send_signal(signal.SIGTERM)
            select.select([command], [], [])
            samples.append(time.perf_counter() - begin)
            os.close(command)
            follower.wait()
        bench.limit("the last leaves elsewhere, until TERM", statistics.median(samples), 0.05, "ms")


def leave(process):
    process.send_signal(signal.SIGTERM)
    process.wait()


@row
def cluster_takeover(bench):
    """The runner is lost, until the next has begun: its machine is out of reach, as one whose leader is stopped (its guard ends
    the command, and the lease has to pass); or all that is of it is killed, and another member of that machine finds it gone."""
    def stopped(*pids):
        *_, leader = pids
        os.kill(leader, signal.SIGSTOP)
        return lambda: os.kill(leader, signal.SIGCONT)

    def killed(*pids):
        for number in (signal.SIGSTOP, signal.SIGKILL):  # none may see another go
            for pid in pids:
                os.kill(pid, number)
        return lambda: None
    with with_log(bench) as redis:
        for work, how, parameters, most in (("a runner out of reach, until the next runs", stopped, f"&lease={LEASE}s", LEASE + 1),
                                            ("runner and guard killed, until the next runs", killed, "", 1)):
            seconds = statistics.median(takeover(bench, how, orders(bench, redis, parameters)) for _ in range(3))
            bench.limit(work, seconds, most, "s")


def takeover(bench, how, options):
    one, two = machines(bench, 2)
    path, begun = fifo(bench, "begun")
    words = *options, "sh", "-c", f"echo >{path}; exec sleep 1000"
    runner = one.start("run", *words, stderr=subprocess.DEVNULL)
    os.read(begun, 1)
    flight = one.flight()
    leader = flight["supervisor"]
    with open(f"/proc/{leader}/task/{leader}/children", encoding="ascii") as children:
        [guard] = [int(pid) for pid in children.read().split() if int(pid) != flight["pid"]]
    follower = two.follow(*words)
    begin = time.perf_counter()
    go_on = how(runner.pid, guard, leader)
    os.read(begun, 1)
    seconds = time.perf_counter() - begin
    go_on()
    leave(runner)
    leave(follower)
    os.close(begun)
    return seconds


@row
def cluster_list(bench):
    """One list on three machines, -j2 each: lines of 20 to 320 ms, each of which runs once."""
    n = bench.count(120)
    lines = [f"echo >>ran; sleep {0.02 + 0.3 * number / (n - 1):.4f}" for number in range(n)]
    random.Random(1).shuffle(lines)
    text = "".join(line + "\n" for line in lines).encode()
    ideal = sum(0.02 + 0.3 * number / (n - 1) for number in range(n)) / 6
    with with_log(bench) as redis:
        batches = [machine.start("-j2", *orders(bench, redis), stdin=subprocess.PIPE) for machine in machines(bench, 3)]
        begin = time.perf_counter()
        for batch in batches:
            batch.stdin.write(text)
            batch.stdin.close()
        failed = [batch.wait() for batch in batches]
        seconds = time.perf_counter() - begin
    assert not any(failed), f"ended with {failed}"
    runs = int(bench.output("wc -l <ran"))
    bench.limit(f"{n} lines of 20 to 320 ms, 3 machines", seconds, 1.25 * ideal, "s", "ideal", ideal)
    bench.report("  of which run", ours=str(runs), target=f"= {n}", reached=runs == n)


@row
def cluster_batch(bench):
    """3,000 lines of /bin/true N through the engine, and without."""
    n = bench.count(3000)
    bench.file("shared.lines", (f"/bin/true {number}" for number in range(n)))
    with with_log(bench) as redis:
        line = "$COALESCE -j2 {} <shared.lines | cat >/dev/null"
        bench.compare(f"{n} lines of /bin/true N, --cluster", line.format(shlex.join(orders(bench, redis))),
                      [("coalesce -j2", line.format(""), "speed", 0.5)], per=n, unit="µs", counts_all=False)


@row
def cluster_memory(bench):
    """What the engine's memory grows by for a live flight, and for a result of 1 KB that has just ended."""
    n = bench.count(500)
    with with_log(bench) as redis:
        def used():
            return redis.info("memory", "used_memory")

        def live(count, first):
            """A batch whose lines all run, and what it takes, its connections included."""
            before, channels = used(), redis.info("stats", "pubsub_channels")
            batch = machine.start(f"-j{count}", *orders(bench, redis), stdin=subprocess.PIPE)
            batch.stdin.write("".join(f"sleep 1000 {number}\n" for number in range(first, first + count)).encode())
            batch.stdin.close()
            await_that(lambda: redis.info("stats", "pubsub_channels") >= channels + count)
            return batch, used() - before
        machine = Machine(bench)
        leave(live(1, 0)[0])  # what the engine takes once
        one, connections = live(1, 0)
        many, grown = live(n + 1, 1)
        bench.limit("engine's memory, a live flight", (grown - connections) / n, 6 * 1024, "KiB")
        for batch in (one, many):
            leave(batch)

        def ended(first, count):
            """Memory when so many lines have ended, and all connections with them."""
            bench.file("ended.lines", (f"printf %01000d {number}" for number in range(first, first + count)))
            bench.output(f"$COALESCE -j2 {shlex.join(orders(bench, redis))} <ended.lines >/dev/null")
            await_that(lambda: redis.info("clients", "connected_clients") == 1)
            return used()
        first = ended(0, 1)
        bench.limit("engine's memory, a kept result of 1 KB", (ended(1, n) - first) / n, 6 * 1024, "KiB")
