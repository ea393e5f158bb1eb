# SPDX-License-Identifier: MIT
"""Rules files, terminals and classes, and what each takes of the time of a run."""

import os

from harness import at_once, loop, row


@row
def run_ruled(bench):
    """`run true` with a file of 20 rules, one of which matches; without a file it is run_true's."""
    rules = [f'[[command]]\nmatch = "program{i} sub-command*"\nttl = "{i}m"\nignore-env = ["CI_*"]' for i in range(1, 20)]
    rules.append('[[command]]\nmatch = "true"\nignore-env = ["CI_*"]')
    path = bench.file("rules.toml", rules)
    os.chmod(path, 0o600)
    assert b"rules.toml" in bench.output(f"COALESCE_CONFIG={path} $COALESCE rules -- true"), "the rule does not match"
    times = bench.count(400)
    bench.compare("coalesce run true, 20 rules", loop(f"COALESCE_CONFIG={path} $COALESCE run true", times),
                  [("without a rules file", loop("$COALESCE run true", times), "time", 1.15)], per=times, unit="ms",
                  before=1.15)


@row
def run_pty(bench):
    """A command on a pseudo-terminal."""
    bench.needs("script")
    times = bench.count(200)
    bench.compare("coalesce run --pty true", loop("$COALESCE run --pty true", times),
                  [("script -qec true /dev/null", loop("script -qec true /dev/null", times), "time", 0.7)], per=times, unit="ms")


@row
def run_class(bench):
    """A class of one: runs one after the other. A class of two: 50 at once."""
    bench.needs("flock", "sem")
    times, many = bench.count(100), bench.count(50)
    bench.compare("coalesce run --class c true", loop("$COALESCE run --class c true", times),
                  [("flock F true", loop("flock lock true", times), "time", 1.35),
                   ("sem --id c -j1 --fg true", loop("sem --will-cite --id c -j1 --fg true", times), "time", 0.1)],
                  per=times, unit="ms")
    bench.compare(f"{many} × coalesce run --class c:2 sleep .1", at_once("$COALESCE run --no-share --class c:2 sleep .1", many),
                  [("sem -j2", at_once("sem --will-cite --id d -j2 --fg sleep .1", many), "time", 0.9)])
