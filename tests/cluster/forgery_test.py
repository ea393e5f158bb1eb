# SPDX-License-Identifier: MIT
"""A9: who can write to the engine, and has not the secret, feeds nobody a byte (SPEC M37).

What lies at the engine is altered, moved, repeated, cut or taken from another run; whoever reads it then ends with an error,
and has been given what came before it at most. The scripts' and readers' own part is in records_test.cpp and tests/fuzz (cluster).
"""

import os

import machines
from machines import until

LINES = 30_000  # several chunks


class Stream:
    """A run's stream, which is put back as it was."""

    def __init__(self, engine, key):
        self.engine = engine
        self.key = key
        self.left = engine.ask("PTTL", key)
        self.entries = [(id.decode(), *fields) for id, fields in engine.ask("XRANGE", key, "-", "+")]

    def write(self, entries):
        words = [("DEL", self.key), *(("XADD", self.key, id, field, value) for id, field, value in entries), ("PEXPIRE", self.key, self.left)]
        for word in words:
            answer = self.engine.ask(*word)
            assert not isinstance(answer, RuntimeError), answer


def altered(value, at):
    return value[:at] + bytes([value[at] ^ 1]) + value[at + 1:]


def forgeries(entries, strange):
    """Name → what is there instead. `strange` is another run's stream of the same command."""
    begin, *chunks, end = entries
    first, second = chunks[0], chunks[1]
    yield "nothing is altered", entries
    for at in (0, 23, 24, len(first[2]) // 2, len(first[2]) - 1):
        yield f"the first chunk is altered at {at}", [begin, (*first[:2], altered(first[2], at)), *chunks[1:], end]
    yield "a chunk is cut", [begin, first, (*second[:2], second[2][:-1]), *chunks[2:], end]
    yield "a chunk is empty", [begin, first, (*second[:2], b""), *chunks[2:], end]
    yield "two are swapped", [begin, (*first[:2], second[2]), (*second[:2], first[2]), *chunks[2:], end]
    yield "one is repeated", [begin, first, (*second[:2], first[2]), *chunks[2:], end]
    yield "one is left out", [begin, first, *chunks[2:], end]
    yield "one is left out, and those behind it move up", [begin, first, *((id, *rest) for (id, *_), (_, *rest) in zip(chunks[1:], [*chunks[2:], end]))]
    yield "one is of another run", [begin, strange[1], *chunks[1:], end]
    yield "the end is of another run", [begin, *chunks, (end[0], *strange[-1][1:])]
    yield "the end comes early", [begin, first, (second[0], *end[1:])]
    yield "the end is altered", [begin, *chunks, (*end[:2], altered(end[2], len(end[2]) // 2))]
    yield "the end is cut", [begin, *chunks, (*end[:2], end[2][:-1])]
    yield "the end is a chunk", [begin, *chunks, (end[0], "d", end[2])]
    yield "a chunk is the end", [begin, first, (second[0], "x", second[2]), *chunks[2:], end]
    yield "a field is strange", [begin, first, (second[0], "y", second[2]), *chunks[2:], end]
    yield "all is of another run", strange


class Forgery(machines.ThreeHosts):
    def stream(self):
        """The one that there is."""
        [key] = until(lambda: self.server.ask("KEYS", "coalesce:1:*:s:*"))
        return Stream(self.server, key)

    def batch(self, host):
        return host.call("--cluster", self.box.url(self.server), "--cluster-scope", "tonight", "--once", "-a", "list")

    def test_A9_what_is_kept_is_given_to_nobody_once_it_was_touched(self):
        self.box.file("list", f"echo ran >>runs; seq {LINES}\n")
        whole = "".join(f"{number}\n" for number in range(1, LINES + 1))
        self.assertEqual(self.batch(self.one), (0, whole, ""))
        strange = self.stream().entries
        self.server.ask("FLUSHALL")
        self.assertEqual(self.batch(self.one), (0, whole, ""))
        stream = self.stream()
        for what, entries in forgeries(stream.entries, strange):
            with self.subTest(what):
                stream.write(entries)
                status, out, err = self.batch(self.two)
                if entries == stream.entries:
                    self.assertEqual((status, out, err), (0, whole, ""))
                else:
                    self.assertEqual(status, 123)
                    self.assertTrue(whole.startswith(out), out[:100])
                    self.assertRegex(err, "tampered|too slowly|repeated|not whole")
        self.assertEqual(self.runs(), 2)

    def test_A9_what_is_read_live_ends_with_an_error_where_it_was_touched(self):
        script = f"seq {LINES}; exec sleep 1000"
        first, command, gate = self.held(self.one, script)
        reader = self.joined(self.two, command)
        self.open(gate)
        whole = ("first\n" + "".join(f"{number}\n" for number in range(1, LINES + 1))).encode()
        self.assertEqual(self.hear(reader, len(whole)), whole)  # all of it is at the engine
        stream = self.stream()
        begin, *chunks = stream.entries
        passed_on = 0
        for what, entries in (("altered", [begin, (*chunks[0][:2], altered(chunks[0][2], 40)), *chunks[1:]]),
                              ("repeated", [begin, chunks[0], (*chunks[1][:2], chunks[0][2]), *chunks[2:]]),
                              ("left out", [begin, chunks[0], *chunks[2:]])):
            with self.subTest(what):
                stream.write(entries)
                status, out, err = self.end(self.three.start(*self.words("-c", command)))
                self.assertEqual(status, 125)
                self.assertRegex(err, "tampered|too slowly|repeated")
                self.assertTrue(whole.decode().startswith(out))
                self.assertLess(len(out), 65_536)
                passed_on += len(out)
        self.assertGreater(passed_on, 0)
        self.assertIsNone(reader.poll())
        self.assertIsNone(first.poll())
        first.terminate()
        reader.terminate()

    def test_A9_whose_stream_was_taken_away_ends_well_itself_and_gives_nobody_a_part(self):
        again = self.box.gate("again")
        first, command, gate = self.held(self.one, f"echo more; read x <{again}; echo last; exit 3")
        second = self.joined(self.two, command)
        self.assertEqual(self.hear(second, 6), b"first\n")
        self.server.ask("DEL", self.stream().key)

        def refused():  # it is told that there is no stream
            return "cmdstat_xadd:calls=3" in self.server.ask("INFO", "commandstats").decode()
        self.open(gate)
        until(refused)
        self.open(again)
        self.assertEqual(self.end(first), (3, "first\nmore\nlast\n", ""))
        status, out, _ = self.end(second)
        self.assertEqual((status, out), (125, ""))
        self.assertEqual(self.runs(), 1)

    def test_A9_a_run_that_nobody_with_the_secret_began(self):
        first, command, gate = self.held(self.one)
        [state] = self.server.ask("KEYS", "coalesce:1:*:m")
        info = self.server.ask("HGET", state, "info")
        for forged in (altered(info, len(info) // 2), info[:-1], b""):
            self.server.ask("HSET", state, "info", forged)
            status, out, err = self.two.call(*self.words("-c", command))
            self.assertEqual((status, out), (125, ""))
            self.assertIn("nobody with our secret", err)
        self.open(gate)
        self.assertEqual(self.end(first)[0], 0)
        self.assertEqual(self.runs(), 1)


if __name__ == "__main__":
    machines.main()
