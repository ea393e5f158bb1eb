# SPDX-License-Identifier: MIT
"""Kept results: what a hit costs, what keeping costs, and the state of files as a part of the key."""

import os

from harness import MIB, at_once, loop, row


def kept(bench, line):
    """Sees that this is served by a kept result from here on."""
    bench.output(f"{line} >/dev/null")
    assert b"kept result of" in bench.output(f"{line.replace('run ', 'run -v ', 1)} 2>&1 >/dev/null"), f"not kept: {line}"
    return line


@row
def kept_hit(bench):
    """A hit of 1 KiB. bkt cannot be had from Debian: its hit took 0.67 of flock's time where both were measured."""
    times = bench.count(400)
    bench.compiled("written", "written.cpp")
    bench.output("head -c 1024 /dev/zero >kib")
    bench.compare("coalesce run --ttl 1h, a hit of 1 KiB", loop(kept(bench, "$COALESCE run --ttl 1h cat kib"), times),
                  [("a static C++ program", loop("./written 1024", times), "time", 1.9),
                   ("flock F true; bkt 0.67", loop("flock lock true", times), "time", 0.45),
                   ("cat FILE", loop("cat kib", times), "time", 1.2)], per=times, unit="ms")


@row
def kept_long(bench):
    """A hit of 64 MiB, the most that is kept unless told, to a pipe."""
    size, times = bench.count(64) * MIB, 5
    bench.output(f"head -c {size} /dev/zero >long")
    bench.compare(f"a hit of {size // MIB} MiB to a pipe",
                  loop(kept(bench, "$COALESCE run --ttl 1h cat long") + " | cat", times),
                  [("cat FILE", loop("cat long | cat", times), "time", 0.8)], per=times, unit="ms")
    os.unlink(f"{bench.scratch}/long")


@row
def kept_refresh(bench):
    """A stale hit that starts a refresh, to its own exit; each time nothing else is under way."""
    times = bench.count(200)
    line = "$COALESCE run --ttl 1h {} sh -c 'echo >>refreshes'"
    stale, fresh = line.format("--stale 1ms"), kept(bench, line.format(""))
    before = refreshes(bench)
    bench.sample(stale, times=20)
    assert refreshes(bench) == before + 20, f"{refreshes(bench) - before} refreshes by 20 stale hits"
    bench.compare("a hit that starts a refresh", stale, [("one that does not", fresh, "time", 1.7)], per=times, times=times,
                  unit="ms")


def refreshes(bench):
    return int(bench.output("wc -l <refreshes"))


@row
def kept_cold(bench):
    """What keeping costs a run: commands that nobody has asked for before, into a store that is new."""
    times = bench.count(400)
    line = loop("$COALESCE run {} --scope $i true", times)
    bench.compare("coalesce run --ttl 1h true, cold", in_new_store(line.format("--ttl 1h")),
                  [("coalesce run true", in_new_store(line.format("")), "time", 1.12)], per=times, unit="ms")


def in_new_store(line):
    return f"COALESCE_CACHE_DIR=$(mktemp -d -p .) && export COALESCE_CACHE_DIR && {line}"


@row
def kept_storm(bench):
    """200 identical commands at once, cold: one run for all, which is kept."""
    line = in_new_store("{{ {}; }} >out && [ $(wc -l <out) = 200 ]")
    ours = "$COALESCE run {} -c 'sleep .2; echo $$'"
    bench.compare("200 × coalesce run --ttl 1h, cold", line.format(at_once(ours.format("--ttl 1h"), 200)) + " && [ $(uniq out | wc -l) = 1 ]",
                  [("without --ttl", line.format(at_once(ours.format(""), 200)), "time", 1.1)])


@row
def kept_many(bench):
    """A hit among 100,000 kept results and among 10: copies of one, under other names."""
    times = bench.count(400)
    stores = {}
    for others in (10, bench.count(100_000)):
        hit = kept(bench, f"$COALESCE run --ttl 1h --cache-dir {bench.scratch}/kept-{others} true")
        copy_entry(f"{bench.scratch}/kept-{others}", others - 1)
        stores[others] = loop(hit, times)
    (few, fewer), (many, ours) = stores.items()
    bench.compare(f"a hit among {many} kept", ours, [(f"among {few}", fewer, "time", 1.05)], per=times, unit="ms")


def copy_entry(store, times):
    """An entry is a file that is named by its key's hash."""
    [entry] = [entry for entry in os.scandir(f"{store}/1") if len(entry.name) == 32]
    with open(entry.path, "rb") as file:
        content = file.read()
    made = entry.stat().st_mtime_ns  # until when it is kept
    for number in range(times):
        path = f"{store}/1/{number:032x}"
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)
        os.utime(path, ns=(made, made))


def tree(bench, name, size):
    """1,000 files in 20 directories."""
    for number in range(1000):
        directory = f"{bench.scratch}/{name}/{number // 50}"
        os.makedirs(directory, exist_ok=True)
        with open(f"{directory}/{number}", "wb") as file:
            file.write(os.urandom(size))


@row
def kept_modtime(bench):
    """A hit that depends on the times of 1,000 files."""
    times = bench.count(50)
    tree(bench, "dated", 100)
    bench.compare("--modtime, 1,000 files, a hit", loop(kept(bench, "$COALESCE run --ttl 1h --modtime dated true"), times),
                  [("find -printf '%s %T@'", loop("find dated -printf '%s %T@\\n'", times), "time", 0.8)], per=times, unit="ms")


@row
def kept_depends(bench):
    """A hit that depends on the content of 1,000 files of 10 KiB."""
    times = bench.count(20)
    tree(bench, "read", 10 * 1024)
    bench.compare("--depends, 1,000 files of 10 KiB, a hit",
                  loop(kept(bench, "$COALESCE run --ttl 1h --depends read true"), times),
                  [("find -exec sha1sum {} +", loop("find read -type f -exec sha1sum {} +", times), "time", 0.6)],
                  per=times, unit="ms")
