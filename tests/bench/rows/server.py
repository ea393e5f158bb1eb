# SPDX-License-Identifier: MIT
"""`coalesce serve`: crowds that wait, joins, requests one by one, and what clients make of it."""

import json
import os
import resource
import socket
import statistics
import subprocess
import time

from harness import SOURCES, Sample, await_that, loop, row
from servers import Gearman, Redis, Served


def descriptors():
    return resource.getrlimit(resource.RLIMIT_NOFILE)[1]


def served(bench, work, *options):
    """A contender: `work` done by a server of its own, which it is given."""
    def contender(program):
        with Served(bench, *options, program=program) as server:
            return work(server, program)
    return contender


@row
def serve_crowd(bench):
    """10,000 connections, or as many as the limit allows, that wait for one flight, then 4 KB each: memory and time."""
    n, size = bench.count(min(10_000, descriptors() // 2 - 100)), 4096  # the other half is for runs
    memory = []
    closed = {}  # until all have been closed, too; by who answered

    def answered(load, release, who):
        load.stdin.write("\n")  # from here the time counts
        load.stdin.flush()
        release()
        until_answered, until_closed = (float(seconds) for seconds in load.stdout.readline().split())
        closed.setdefault(who, []).append(Sample(until_closed))
        return until_answered

    def ours(program):
        fifo = f"{bench.scratch}/crowd{time.monotonic_ns()}"
        os.mkfifo(fifo)

        def release():  # the command's own millisecond is in the time
            with open(fifo, "w", encoding="ascii") as file:
                file.write("\n")
        with Served(bench, program=program) as server:
            before = server.resident()
            request = json.dumps({"line": f"read x <{fifo}; head -c {size} /dev/zero | tr '\\0' x"})
            with server.load("crowd", server.path, str(n), request) as load:
                load.stdout.readline()
                await_that(lambda: server.stats()["waiting"] >= n)
                if program == bench.coalesce:
                    memory.append((server.resident() - before) / n)
                return answered(load, release, program)

    def bare(_):
        path = f"{bench.scratch}/bare{time.monotonic_ns()}"
        load_program = bench.compiled("load", "load.cpp")
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        with bench.start(load_program, "broadcast", path, str(n), str(size), **pipes) as broadcaster:
            await_that(lambda: os.path.exists(path))

            def release():
                broadcaster.stdin.write("\n")
                broadcaster.stdin.flush()
            with bench.start(load_program, "crowd", path, str(n), "x", **pipes) as load:
                load.stdout.readline()
                time.sleep(0.2)
                return answered(load, release, "bare")
    bench.compare(f"4 KB to each of {n} connections", ours, [("bare epoll", bare, "time", 1.5)], rounds=max(3, bench.rounds))
    bench.judge("  until the connections are closed, too", "bare epoll", closed[bench.coalesce], closed["bare"], "time", 3)
    bench.limit(f"{n} waiting connections: memory of each", statistics.median(memory), 4096, "KiB")


@row
def serve_joins(bench):
    """Joins of a live flight, 50 connections, pipelined: as command lines and as JSON."""
    total = 50 * bench.count(10_000)

    def joins(line):
        return served(bench, lambda server, _: server.seconds("joins", server.path, "50", str(total // 50), line),
                      "--max-requesters", "10000000", "--drain", "0", "--grace", "0")
    with Redis(bench) as redis:
        def gets(_):
            return total / redis.benchmark("-P", "16", "-c", "50", "-n", str(total), "GET", "key")["rps"]
        for what, line in (("command lines", "sleep 1000"), ("JSON requests", '{"id":1,"line":"sleep 1000"}')):
            bench.compare(f"joins, {what}, 50 connections", joins(line), [("redis-benchmark -P16 GET", gets, "time", 2.0)],
                          per=total, unit="µs", rounds=max(3, bench.rounds))


@row
def serve_turns(bench):
    """One client, request after request for `true`."""
    n = bench.count(1000)
    ours = served(bench, lambda server, _: server.seconds("turns", server.path, str(n), "/bin/true"))
    bench.compare("/bin/true by the server, one by one", ours,
                  [("posix_spawn and wait", lambda _: bench.sample("/bin/true", times=n), "time", 1.3)], per=n, unit="ms")


@row
def serve_visits(bench):
    """A web page that is the output of one command, and 200 visitors: by execFile and through the client for Node."""
    bench.needs("node", "git")
    repository, commits, n = f"{bench.scratch}/repository", 2000, bench.count(400)
    subprocess.run(["git", "init", "--quiet", repository], check=True)
    told = "".join(f"commit refs/heads/main\ncommitter A <a@example> {i} +0000\ndata 2\nc\nM 644 inline file{i}\ndata 2\nx\n\n"
                   for i in range(commits))
    subprocess.run(["git", "-C", repository, "fast-import", "--quiet"], input=told.encode(), check=True)
    subprocess.run(["git", "-C", repository, "symbolic-ref", "HEAD", "refs/heads/main"], check=True)

    def visits(how):
        return served(bench, lambda server, _: float(bench.output(f"node {SOURCES}/visits.mjs {how} {repository} {n} {server.path}")))
    bench.compare("a page by `git log --stat`, 200 visitors", visits("coalesce"), [("execFile", visits("execFile"), "time", 0.1)],
                  per=n, unit="ms", rounds=max(3, bench.rounds), before=None)  # which need not understand today's client


@row
def serve_program(bench):
    """One request of `sh -c true` by a command-line client."""
    n = bench.count(200)
    ours = served(bench, lambda server, program: bench.sample(loop(f"$COALESCE run --socket {server.path} sh -c true", n), program))
    with Gearman(bench, "sh", "-c", "true") as gearman:
        bench.compare("coalesce run --socket, sh -c true", ours,
                      [("gearman", lambda _: bench.sample(loop(gearman.line, n)), "time", 0.5)], per=n, unit="ms")


@row
def serve_reap(bench):
    """Flights that are all alive at once, and then end: no step may grow with their square."""
    many = bench.count(min(10_000, descriptors() // 20))  # a server runs as many at a time as it has sixteen descriptors for
    few = many // 10

    def reaped(n):
        """Seconds until all have ended, as if there had been `many`."""
        def ours(program):
            fifo = f"{bench.scratch}/reap{time.monotonic_ns()}"
            os.mkfifo(fifo)
            gate = os.open(fifo, os.O_RDWR)
            with Served(bench, "-j0", "--max-requesters", "1000000", program=program) as server, \
                    socket.socket(socket.AF_UNIX) as connection:
                connection.connect(server.path)
                for i in range(n):  # sh's builtin, so that a command is one small process
                    connection.sendall(b'{"line":"read x <%s","scope":"%d","output":"none"}\n' % (fifo.encode(), i))
                await_that(lambda: server.stats()["running"] >= n)
                answers = connection.makefile("rb")
                begin = time.perf_counter()
                os.write(gate, b"\n" * n)  # a shell reads no further than its newline
                for _ in range(n):
                    answers.readline()
                seconds = time.perf_counter() - begin
            os.close(gate)
            return seconds / n * many
        return ours
    bench.compare(f"reaping {many} flights, each", reaped(many), [(f"the same of {few}", reaped(few), "time", 3)],
                  per=many, unit="µs", rounds=3)
