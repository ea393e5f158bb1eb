# SPDX-License-Identifier: MIT
"""Lines on standard input: coalesce as a batch, beside what else runs a list of commands."""

import os
import signal
import subprocess
import time

from harness import MIB, row


@row
def tiny(bench):
    """3,000 unique lines of a tiny static program, output captured."""
    bench.compiled("tiny", bench.file("tiny.cpp", ["int main() {}"]))
    bench.compiled("bare", "bare.cpp")
    n = bench.count(3000)
    bench.file("tiny.lines", (f"{bench.scratch}/tiny {i}" for i in range(n)))
    bench.file("tiny.words", map(str, range(n)))
    bench.compare(f"{n} lines of a tiny static program, -j2", "$COALESCE -j2 <tiny.lines | cat >/dev/null",
                  [("xargs -P2 -L1", "xargs -P2 -L1 ./tiny <tiny.words | cat >/dev/null", "speed", 1.3),
                   ("the least there is", f"./bare {n} 2 ./tiny | cat >/dev/null", "speed", None)], per=n, unit="µs",
                  rounds=2 * bench.rounds)


def makefile(path, n):
    with open(path, "w", encoding="ascii") as file:
        file.write("all: " + " ".join(f"t{i}" for i in range(n)) + "\n")
        file.writelines(f"t{i}:\n\t@/bin/true {i}\n" for i in range(n))


@row
def true(bench):
    """10,000 unique /bin/true N, output captured."""
    bench.needs("make")
    n = bench.count(10000)
    bench.file("true.lines", (f"/bin/true {i}" for i in range(n)))
    bench.file("true.words", map(str, range(n)))
    makefile(f"{bench.scratch}/Makefile", n)
    bench.compare(f"{n} lines of /bin/true N, -j2", "$COALESCE -j2 <true.lines | cat >/dev/null",
                  [("xargs -P2 -L1", "xargs -P2 -L1 /bin/true <true.words | cat >/dev/null", "speed", 1.05),
                   ("make -s -j2", "make -s -j2 all | cat >/dev/null", "speed", 0.95)], per=n, unit="µs")


@row
def parallel(bench):
    """The same against GNU parallel; fewer lines, since it takes long."""
    bench.needs("parallel")
    n = bench.count(1000)
    bench.file("few.lines", (f"/bin/true {i}" for i in range(n)))
    bench.compare(f"{n} lines of /bin/true N, -j2", "$COALESCE -j2 <few.lines | cat >/dev/null",
                  [("parallel -j2", "parallel --will-cite -j2 <few.lines | cat >/dev/null", "speed", 6)], per=n, unit="µs",
                  before=None)


@row
def echo(bench):
    """10,000 unique /bin/echo N: what is captured is delivered, too."""
    n = bench.count(10000)
    bench.file("echo.lines", (f"/bin/echo {i}" for i in range(n)))
    bench.file("echo.words", map(str, range(n)))
    sums = bench.output("$COALESCE -j2 <echo.lines | sort | cksum; xargs -P2 -L1 /bin/echo <echo.words | sort | cksum").split(b"\n")
    assert sums[0] == sums[1], "outputs differ"
    bench.compare(f"{n} lines of /bin/echo N, -j2", "$COALESCE -j2 <echo.lines | cat >/dev/null",
                  [("xargs -P2 -L1", "xargs -P2 -L1 /bin/echo <echo.words | cat >/dev/null", "speed", None)], per=n, unit="µs")


@row
def shell(bench):
    """10,000 unique lines that need the shell."""
    n = bench.count(10000)
    bench.file("shell.lines", (f"echo $(({i} * 2))" for i in range(n)))
    bench.compare(f"{n} lines that need the shell, -j2", "$COALESCE -j2 <shell.lines | cat >/dev/null",
                  [("xargs -d'\\n' -n1 sh -c", "xargs -P2 -d '\\n' -n1 sh -c <shell.lines | cat >/dev/null", "speed", 1.05)],
                  per=n, unit="µs")


@row
def once(bench):
    """1,000,000 lines, 100 distinct, a result for every line. The peer's file lacks "/bin/echo ", which only helps it."""
    n = bench.count(1000000)
    bench.file("once.lines", (f"/bin/echo the result of {i * 7919 % 100}" for i in range(n)))
    bench.file("once.words", (f"the result of {i * 7919 % 100}" for i in range(n)))
    delivered = int(bench.output("$COALESCE -j2 --once <once.lines | wc -l"))
    assert delivered == n, f"{delivered} results for {n} lines"
    bench.compare(f"{n} lines, 100 distinct, --once", "$COALESCE -j2 --once <once.lines | cat >/dev/null",
                  [("sort -u | xargs -P2 -L1", "sort -u once.words | xargs -P2 -L1 /bin/echo | cat >/dev/null", "time", 0.6)])


@row
def big(bench):
    """One output of 512 MiB to a pipe, kept for joiners."""
    n = bench.count(512) * MIB
    bench.file("big.lines", [f"head -c {n} /dev/zero"])
    bench.compare(f"one output of {n // MIB} MiB to a pipe", "$COALESCE <big.lines | cat >/dev/null",
                  [("tee into tmpfs", f"head -c {n} /dev/zero | tee $SHM/big | cat >/dev/null", "time", 0.9)])
    os.unlink(f"{bench.shm}/big")


def peak_of(bench, stdin, after=None):
    """Peak resident size of a batch in bytes; `after` seconds the process is told to end."""
    with open(stdin, "rb") as file:
        process = bench.start(bench.coalesce, "-j2", stdin=file, stdout=subprocess.DEVNULL)
    if after is not None:
        time.sleep(after)
        process.send_signal(signal.SIGTERM)
    _, _, usage = os.wait4(process.pid, 0)
    return usage.ru_maxrss * 1024


@row
def memory(bench):
    """Resident size: 2,000,000 requests waiting for one run; distinct lines, whatever their number."""
    n = bench.count(2000000)
    same = bench.file("same.lines", ("sleep 3; echo x" for _ in range(n)))
    bench.limit(f"{n} identical lines, resident", peak_of(bench, same), 150e6, "MB")
    distinct = bench.file("distinct.lines", (f"/bin/true {i}" for i in range(n)))
    few = bench.file("distinct-few.lines", (f"/bin/true {i}" for i in range(n // 20)))
    peak, fewer = (peak_of(bench, lines, after=3) for lines in (distinct, few))
    bench.limit(f"{n} distinct lines, resident", peak, 1.2 * fewer, "MB", f"{n // 20} lines", fewer)
