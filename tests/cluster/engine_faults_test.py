# SPDX-License-Identifier: MIT
"""A6: an engine that falls, forgets, stands still, is full, loads or loses each connection that it has (SPEC M6, M7).

An engine that is not fit (one that evicts, a replica, an old one) is in check_test.py and run_test.py (M6).
"""

import contextlib
import os
import re
import signal
import socket
import threading

import hosts
import machines
from hosts import ALONE, LONG
from machines import until


class Falls(machines.ThreeHosts):
    def long(self):
        """A run with output before and after the gate, joined by another host, of which all has come."""
        again = self.box.gate("again")
        self.numbers = "".join(f"{number}\n" for number in range(1, 30_001))
        first, command, gate = self.held(self.one, f"seq 30000; read x <'{again}'; seq 30000; echo last; exit 3", before=ALONE)
        second = self.joined(self.two, command)
        self.open(gate)
        return first, second, command, again

    def ends_whole(self, *processes):
        for process in processes:
            status, out, err = self.end(process)
            self.assertEqual(status, 3, err)
            self.assertTrue(out == "first\n" + 2 * self.numbers + "last\n", (out[:20], len(out)))
        self.assertEqual((self.runs(), self.box.overlaps()), (1, 0))

    def silent(self):
        """A run that says nothing before the gate."""
        gate = self.box.gate("gate")
        self.script = f"{ALONE} echo ran >>runs; read x <gate; echo done"
        first = self.one.start(*self.words("-c", self.script))
        until(self.runs)
        return first, self.joined(self.two, self.script), gate

    def test_A6_killed_and_started_again_with_its_log_it_costs_a_pause(self):
        first, second, command, again = self.long()
        self.server.stop(signal.SIGKILL)
        self.server.start()
        third = self.joined(self.three, command)
        self.open(again)
        self.ends_whole(first, second, third)

    def test_A6_started_again_without_a_memory_it_ends_what_it_has_forgotten(self):
        """And grants nothing until it is as old as a lease, which is told."""
        self.parameters = "&lease=4s"
        self.server = self.box.engine(name="forgetful")
        first, second, gate = self.silent()
        self.server.stop(signal.SIGKILL)
        self.server.start()
        self.all_gone()
        status, _, err = self.end(first)
        self.assertEqual(status, 125, err)
        until(lambda: self.runs() == 2)  # of the one that waited for it
        self.open(gate)
        status, out, err = self.end(second)
        self.assertEqual((status, out), (0, "done\n"))
        self.assertIn("may have forgotten runs", err)
        self.assertEqual(self.box.overlaps(), 0)

    def test_M6_a_young_one_is_waited_for_longer_than_one_that_is_not_there(self):
        self.parameters = "&lease=7s"
        self.server = self.box.engine(name="young")
        status, out, err = self.one.call(*self.words("echo", "x"))
        self.assertEqual((status, out), (0, "x\n"))
        self.assertIn("may have forgotten runs", err)

    def both_are_told(self, first, second, why):
        """Who ran it, and who waited for that."""
        self.all_gone()
        for process, words in ((first, "has not answered"), (second, why)):
            status, out, err = self.end(process)
            self.assertEqual((status, out), (125, ""))
            self.assertIn(words, err)
        self.assertEqual(self.runs(), 1)

    def test_A6_gone_for_good_it_ends_runs_and_who_waits_for_them(self):
        self.parameters = "&lease=3s"
        first, second, _ = self.silent()
        self.server.stop(signal.SIGKILL)
        self.both_are_told(first, second, "down=run")

    def test_A6_gone_for_good_it_is_done_without_where_that_was_agreed_to(self):
        self.parameters = "&lease=3s&down=run"
        first, second, gate = self.silent()
        self.server.stop(signal.SIGKILL)
        until(lambda: self.runs() == 2)  # the other one now runs it, too
        # A line for each, whoever comes first: a writer that goes away would end the other one's reading.
        both = os.open(gate, os.O_RDWR)
        self.addCleanup(os.close, both)
        os.write(both, b"go\ngo\n")
        for process in (first, second):
            status, out, err = self.end(process)
            self.assertEqual((status, out), (0, "done\n"))
            self.assertEqual(err.count("others may run it, too"), 1, err)

    def test_M28_without_an_engine_it_goes_on_for_those_here_only(self):
        self.parameters = "&lease=3s&down=run"
        first, second, gate = self.silent()
        self.heard_of_others(self.one)
        first.send_signal(signal.SIGTERM)
        first.communicate()
        until(lambda: self.server.ask("ZCARD", *self.server.ask("KEYS", "*:w")) == 1)
        self.assertEqual(len(self.status(self.one)), 1)  # for the other one
        self.server.stop(signal.SIGKILL)
        until(lambda: not self.status(self.one))
        until(lambda: self.runs() == 2)  # the other one now runs it
        self.open(gate)
        self.assertEqual(self.end(second)[:2], (0, "done\n"))

    def test_M30_one_that_refuses_each_renewal_and_each_heartbeat_ends_runs_and_who_waits_for_them(self):
        """It is there, and answers."""
        self.parameters = "&lease=3s"
        first, second, _ = self.silent()
        self.server.ask("CONFIG", "SET", "min-replicas-to-write", "1")
        self.both_are_told(first, second, "NOREPLICAS")

    def test_A6_one_that_is_busy_for_a_moment_delays_output(self):
        refused = []

        def busy(_count, _connection, reply):
            if len(refused) < 2 and reply.startswith(b"*1\r\n*2\r\n"):  # output
                refused.append(reply)
                return b"-BUSY Redis is busy running a script.\r\n"
            return reply
        first, command, gate = self.held(self.one, "echo last")
        with Proxy(self.box.path("proxy"), self.server.socket, busy) as proxy:
            self.server, engine = proxy, self.server
            second = self.joined(self.two, command)
            self.server = engine
            self.assertEqual(self.hear(second, 6), b"first\n")
            self.open(gate)
            status, out, err = self.end(second)
        self.assertEqual((status, out), (0, "last\n"), err)
        self.assertEqual(len(refused), 2)
        self.assertEqual(self.end(first)[0], 0)

    def refused(self):
        return "errorstat_OOM" in self.server.ask("INFO", "errorstats").decode()

    def test_A6_full_for_a_while_it_delays_output(self):
        more = self.box.gate("more")
        first, command, gate = self.held(self.one, f"seq 30000; read x <{more}; echo last; exit 3")
        second = self.joined(self.two, command)
        self.assertEqual(self.hear(second, 6), b"first\n")
        self.server.ask("CONFIG", "SET", "maxmemory", "1")
        self.open(gate)
        until(self.refused)
        self.server.ask("CONFIG", "SET", "maxmemory", "0")
        numbers = "".join(f"{number}\n" for number in range(1, 30_001))
        self.assertEqual(self.hear(second, len(numbers)).decode(), numbers)
        self.open(more)
        self.assertEqual(self.end(second)[:2], (3, "last\n"))
        self.assertEqual(self.end(first)[:2], (3, "first\n" + numbers + "last\n"))

    def test_A6_full_for_a_moment_it_delays_output(self):
        """Room for a chunk, and none for the one before it, is a gap that must be closed."""
        numbers = "".join(f"{number}\n" for number in range(1, 100_001))  # nine chunks at least
        for refused in ({3}, {3, 4}, {4, 6}, {3, 5, 7, 9}):
            name = "".join(map(str, sorted(refused)))
            with NoRoom(self.box.path("proxy" + name), self.server.socket, refused) as proxy, self.subTest(refused):
                runs, more = self.runs(), self.box.gate("more" + name)
                self.server, engine = proxy, self.server
                try:
                    first, command, gate = self.held(self.one, f"seq 100000; read x <{more}; echo last; exit 3")
                    second = self.joined(self.two, command)
                    self.assertEqual(self.hear(second, 6), b"first\n")
                    self.open(gate)
                    self.assertTrue(self.hear(second, len(numbers)).decode() == numbers)
                    self.open(more)
                    for process, rest in ((second, "last\n"), (first, f"first\n{numbers}last\n")):
                        status, out, err = self.end(process)
                        self.assertEqual(status, 3, err)
                        self.assertTrue(out == rest, (len(out), err))
                finally:
                    self.server = engine
                self.assertEqual((proxy.refused, self.runs()), (set(), runs + 1))

    def test_A6_full_to_the_end_it_gives_nobody_a_part_for_the_whole(self):
        first, second, command, again = self.long()
        self.assertEqual(self.hear(second, 6 + len(self.numbers)), ("first\n" + self.numbers).encode())
        self.server.ask("CONFIG", "SET", "maxmemory", "1")
        self.open(again)
        self.ends_whole(first)
        status, out, err = self.end(second)
        self.assertEqual(status, 125)
        self.assertTrue(self.numbers.startswith(out))
        self.assertIn("not whole", err)
        # Runs are still told of.
        self.assertEqual(self.three.call(*self.words("echo", "x")), (0, "x\n", ""))

    def test_A6_one_that_loads_is_waited_for(self):
        refused = []

        def loading(count, _, reply):
            if count > 6:
                return reply
            refused.append(count)
            return b"-LOADING Redis is loading the dataset in memory\r\n"
        with Proxy(self.box.path("proxy"), self.server.socket, loading) as proxy:
            self.assertEqual(self.one.call("run", "--cluster", self.box.url(proxy), "--cluster-scope", "tonight", "echo", "x"), (0, "x\n", ""))
        self.assertEqual(len(refused), 6)

    def test_M32_who_hears_late_of_a_run_that_has_ended_does_not_take_it_for_lost(self):
        """That its machine's processes are gone is seen at once, and that they have told of its end comes later."""
        first, command, gate = self.held(self.one)
        [flight] = self.status(self.one)
        heard, answered, late = (threading.Event() for _ in range(3))

        def delayed(_count, _connection, reply):
            if heard.is_set() and reply.startswith(b"*3\r\n$3\r\nrun\r\n"):  # a heartbeat's
                answered.set()
                late.wait()
            return reply
        with Proxy(self.box.path("proxy"), self.server.socket, delayed) as proxy:
            try:
                self.server, engine = proxy, self.server
                second = self.joined(self.two, command)
                self.server = engine
                self.assertEqual(self.hear(second, 6), b"first\n")
                heard.set()
                answered.wait()
                self.open(gate)
                self.assertEqual(self.end(first)[:2], (0, "first\n"))
                until(lambda: not os.path.exists(f"/proc/{flight['supervisor']}"))  # and its guard, for which it waits
            finally:
                late.set()
            status, out, err = self.end(second)
        self.assertEqual((status, out), (0, ""), err)
        self.assertEqual(self.runs(), 1)

    def test_M16_M24_a_short_run_leaves_its_output_to_all_who_joined_though_its_machine_has_not_heard_of_them(self):
        self.parameters = "&keepsize=1K"
        gate = self.box.gate("gate")
        command = "echo ran >>runs; [ -e again ] || { >again; read x <gate; }; head -c 3000 /dev/zero"

        def deaf(_count, _connection, reply):
            return b"" if reply.startswith((b"*3\r\n$9\r\nsubscribe", b"*3\r\n$7\r\nmessage")) else reply
        with Proxy(self.box.path("proxy"), self.server.socket, deaf) as proxy:
            self.server, engine = proxy, self.server
            first = self.one.start(*self.words("-c", command))
            until(self.runs)
            self.server = engine
            others = [self.joined(host, command) for host in (self.two, self.three)]
            self.open(gate)
            for process in (first, *others):
                status, out, err = self.end(process)
                self.assertEqual((status, len(out)), (0, 3000), err)
        self.assertEqual(self.runs(), 1)

    def test_M19_a_wake_line_that_is_silently_gone_is_made_anew(self):
        subscribed, gone = [], threading.Event()

        def silent(_count, connection, reply):
            if reply.startswith(b"*3\r\n$9\r\nsubscribe") and connection not in subscribed:
                subscribed.append(connection)
            return b"" if gone.is_set() and connection is subscribed[0] else reply
        first, command, gate = self.held(self.one, "echo done", before=ALONE)
        with Proxy(self.box.path("proxy"), self.server.socket, silent) as proxy:
            self.server, engine = proxy, self.server
            second = self.joined(self.two, command)
            self.server = engine
            until(lambda: subscribed)
            gone.set()
            until(lambda: len(subscribed) == 2)
            self.open(gate)
            for process in (first, second):
                self.assertEqual(self.end(process)[:2], (0, "first\ndone\n"))
        self.assertEqual(self.runs(), 1)

    @contextlib.contextmanager
    def past_its_limit(self, stopped, judge):
        """A run of the first host, which has not heard of the second one's joining it, is cancelled for everyone. `stopped`: its
        requester is, and has read nothing."""
        self.parameters = "&keepsize=1K"
        gate, limit = self.box.gate("gate"), 300 << 10
        size = limit + (64 << 10) - 1  # what a pipe holds beside
        command = f"[ ! -e written ] || exit; echo ran >>runs; read x <gate; head -c {size} /dev/zero; >written; read x <gate"

        def deaf(_count, _connection, reply):
            judge(reply)
            return b"" if reply.startswith((b"*3\r\n$9\r\nsubscribe", b"*3\r\n$7\r\nmessage")) else reply
        with Proxy(self.box.path("proxy"), self.server.socket, deaf) as proxy:
            self.server, engine = proxy, self.server
            first = self.one.start(*self.words("--replay-limit", str(limit), "-c", command))
            until(self.runs)
            self.server = engine
            second = self.joined(self.two, command)
            if stopped:
                first.send_signal(signal.SIGSTOP)
            self.open(gate)
            if not stopped:
                self.assertEqual(len(self.hear(first, size)), size)
            until(lambda: os.path.exists(os.path.join(self.box.work, "written")))
            self.assertEqual(self.one.call("cancel", self.status(self.one)[0]["id"])[0], 0)
            yield first
            for process, word in ((first, "cancelled"), (second, "cancelled for everyone")):
                status, _, err = self.end(process)
                self.assertEqual(status, 125, err)
                self.assertIn(word, err)
        self.assertEqual(self.runs(), 1)

    def test_M21_M24_what_is_read_here_while_it_is_asked_who_has_joined_is_still_there_for_them(self):
        asked, late = threading.Event(), threading.Event()

        def slow(reply):
            if reply.startswith(b"*3\r\n$6\r\ncancel\r\n"):  # with who has joined
                asked.set()
                late.wait()
        with self.past_its_limit(True, slow) as first:
            asked.wait()
            first.send_signal(signal.SIGCONT)
            self.hear(first, 300 << 10)
            late.set()

    def test_M21_who_has_none_of_its_output_hears_that_it_was_cancelled(self):
        with self.past_its_limit(False, lambda reply: None):
            pass

    def test_F2_M15_who_asks_when_a_run_elsewhere_is_known_to_be_over_is_not_given_it(self):
        """However long its output takes to come."""
        first, command, gate = self.held(self.one, "echo last")
        slow, over = threading.Event(), threading.Event()

        def delayed(_count, _connection, reply):
            if slow.is_set() and reply.startswith(b"*1\r\n*2\r\n"):  # output, which is asked for again
                return b""
            if reply.startswith(b"*3\r\n$4\r\nDONE\r\n"):
                over.set()
            return reply
        with Proxy(self.box.path("proxy"), self.server.socket, delayed) as proxy:
            self.server, engine = proxy, self.server
            second = self.joined(self.two, command)
            self.assertEqual(self.hear(second, 6), b"first\n")
            slow.set()
            self.open(gate)
            self.assertEqual(self.end(first)[:2], (0, "first\nlast\n"))
            over.wait()
            third = self.two.start(*self.words("-v", "-c", command), bufsize=0)
            third.stderr.readline()  # it has asked
            slow.clear()
            self.assertEqual(self.end(second)[:2], (0, "last\n"))
            until(lambda: self.runs() == 2 or third.poll() is not None)
            self.assertEqual(self.runs(), 2)
            self.open(gate)
            self.assertEqual(self.end(third)[:2], (0, "first\nlast\n"))
            self.server = engine

    def test_A6_each_connection_is_lost_after_each_reply_or_instead_of_it(self):
        number = runs = 0
        while True:
            number += 1 if LONG else 3
            for instead in (False, True) if LONG else (number % 2 == 0,):
                lost = []

                def cut(count, connection, reply, number=number, instead=instead, lost=lost):
                    if count != number:
                        return reply
                    lost.append(count)
                    if not instead:
                        connection.sendall(reply)
                    return None
                with Proxy(self.box.path(f"proxy{runs}"), self.server.socket, cut) as proxy, self.subTest(number=number, instead=instead):
                    self.lost_once(proxy, runs)
                runs += 1
            if not lost:  # there are no more
                return

    def lost_once(self, proxy, number):
        begun, gate = self.box.gate(f"begun{number}"), self.box.gate(f"gate{number}")
        command = f"{ALONE} echo ran >>runs; echo first; echo up >{begun}; read x <{gate}; echo last; exit 3"
        url = self.box.url(proxy)
        first, second = (host.start("run", "--cluster", url, "--cluster-scope", "tonight", "-c", command) for host in (self.one, self.two))
        self.begun(begun)
        until(lambda: [self.server.ask("ZCARD", key) for key in self.server.ask("KEYS", "coalesce:1:*:w")] == [2])
        self.open(gate)
        for process in (first, second):
            self.assertEqual(self.end(process), (3, "first\nlast\n", ""))
        self.assertEqual((self.runs(), self.box.overlaps()), (number + 1, 0))


class Stands(hosts.Test):
    names = ("one", "two")

    def test_A6_standing_still_for_seconds_it_costs_a_pause(self):
        again = self.box.gate("again")
        first, command, gate = self.held(self.hosts[0], f"echo between; read x <'{again}'; echo last; exit 3", before=ALONE)
        second = self.joined(self.hosts[1], command)
        before = {host: host.established() for host in self.hosts}
        self.server.process.send_signal(signal.SIGSTOP)
        self.open(gate)
        # Both at once: it must not stand for as long as presence lasts.
        until(lambda: all(connections - host.established() for host, connections in before.items()))
        self.server.process.send_signal(signal.SIGCONT)
        self.open(again)
        for process in (first, second):
            self.assertEqual(self.end(process)[:2], (3, "first\nbetween\nlast\n"))
        self.assertEqual((self.runs(), self.box.overlaps()), (1, 0))


class Forgets(hosts.Test):
    names = ("one", "two")
    lease_ms = 4_000
    keep_ms = 15_000
    engine_options = ()

    def test_A6_what_it_has_forgotten_it_grants_to_nobody_while_it_may_live(self):
        """The runner is cut off, so that it does not hear of it."""
        gate = self.box.gate("gate")
        command = f"{ALONE} trap '' TERM; echo ran >>runs; read x <gate; echo done"
        first = self.hosts[0].start(*self.words("-c", command))
        until(self.runs)
        self.hosts[0].unplug()
        self.server.stop(signal.SIGKILL)
        self.server.start()
        second = self.hosts[1].start(*self.words("-c", command))
        until(lambda: self.runs() == 2)
        self.assertEqual(self.box.overlaps(), 0)
        self.open(gate)
        self.assertEqual(self.end(second)[:2], (0, "done\n"))
        self.assertEqual(self.end(first)[0], 125)


class Proxy(machines.Listening):
    """Between members and an engine: what becomes of each reply, counted, is for `judge(count, connection, reply)` to say: other
    bytes, or None for the connection's end."""

    def __init__(self, path, engine, judge):
        super().__init__(path)
        self.socket = path  # as an engine has it
        self.engine = engine
        self.judge = judge
        self.count = 0
        self.lock = threading.Lock()

    def serve(self, connection):
        engine = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        engine.connect(self.engine)
        for pump in (self.requests, self.replies):
            self.threads.append(threading.Thread(target=pump, args=(connection, engine)))
            self.threads[-1].start()

    @staticmethod
    def requests(member, engine):
        try:
            while piece := member.recv(1 << 16):
                engine.sendall(piece)
        except OSError:
            pass
        hang_up(engine)

    def replies(self, member, engine):
        with member, engine, engine.makefile("rb") as file:
            try:
                while reply := one_reply(file):
                    with self.lock:
                        self.count += 1
                        reply = self.judge(self.count, member, reply)
                    if reply is None:
                        break
                    member.sendall(reply)
            except OSError:
                pass
            hang_up(member)
            hang_up(engine)


class NoRoom(Proxy):
    """Has an engine say once, of each chunk with one of these numbers, that it has no room, and sends nothing on from there
    to the chunk behind it, so that it has that before anybody knows."""

    NO_ROOM = b"OOM command not allowed when used memory > 'maxmemory'."
    REFUSE = b'return redis.error_reply("' + NO_ROOM + b'")'
    INSTEAD = b"*3\r\n$4\r\nEVAL\r\n$%d\r\n%b\r\n$1\r\n0\r\n" % (len(REFUSE), REFUSE)
    CHUNK = re.compile(rb"\*\d+\r\n\$4\r\nXADD\r\n.{,400}?\r\n(\d+)-0\r\n\$1\r\nd\r\n", re.DOTALL)

    def __init__(self, path, engine, refused):
        super().__init__(path, engine, lambda _count, _connection, reply: reply)
        self.refused = set(refused)

    def requests(self, member, engine):
        held = b""
        try:
            with member.makefile("rb") as file:
                while request := one_reply(file):
                    chunk = self.CHUNK.match(request)
                    number = int(chunk[1]) if chunk else 0
                    refuse = number in self.refused
                    self.refused.discard(number)
                    held += self.INSTEAD if refuse else request
                    if not refuse and (chunk or self.INSTEAD not in held):
                        engine.sendall(held)
                        held = b""
        except OSError:
            pass
        hang_up(engine)


def hang_up(connection):
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass


def one_reply(file):
    """As it came."""
    line = file.readline()
    if line[:1] == b"$" and line != b"$-1\r\n":
        return line + file.read(int(line[1:]) + 2)
    if line[:1] == b"*" and line != b"*-1\r\n":
        return line + b"".join(one_reply(file) for _ in range(int(line[1:])))
    return line


if __name__ == "__main__":
    machines.main()
