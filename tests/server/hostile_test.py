#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Bad input and bad manners (SPEC S5, S6, F9): nobody else is harmed, and each
gets an error that says what is wrong."""

import contextlib
import json
import os
import socket
import tempfile

from harness import Client, ServerTest, a_moment, main, release

MIB = 1 << 20


class BadInput(ServerTest):
    CASES = [
        (b"{", "bad_json", "not JSON"),
        (b"{}", "bad_request", 'neither "argv" nor "line"'),
        (b"{]", "bad_json", "not JSON"),
        (b'{"argv":["true"]} x', "bad_json", "not JSON"),
        (b'{"argv":["tr\xffue"]}', "bad_json", "not JSON"),
        (b'{"argv":["\xed\xa0\x80"]}', "bad_json", "not JSON"),
        (b'{"argv":["a\\ud800"]}', "bad_json", "not JSON"),
        (b'{"argv":["true"],"nice":1}', "unknown_field", '"nice"'),
        (b'{"argv":["true"],"Argv":1}', "unknown_field", '"Argv"'),
        (b'{"argv":[]}', "bad_request", "names no command"),
        (b'{"argv":[""]}', "bad_request", "names no command"),
        (b'{"argv":"true"}', "bad_request", '"argv" must be an array of strings, not string'),
        (b'{"argv":["a",1]}', "bad_request", '"argv" must be an array of strings, not of number'),
        (b'{"argv":["a\\u0000b"]}', "bad_request", "NUL"),
        (b'{"line":"a\\u0000b"}', "bad_request", "NUL"),
        (b'{"line":1}', "bad_request", '"line" must be a string, not number'),
        (b'{"line":"true","argv":["true"]}', "bad_request", "exclude each other"),
        (b'{"line":"true","cwd":"relative"}', "bad_request", "absolute"),
        (b'{"line":"true","cwd":1}', "bad_request", '"cwd" must be a string'),
        (b'{"line":"true","env":1}', "bad_request", '"env" must be'),
        (b'{"line":"true","env":["A"]}', "bad_request", "NAME=value"),
        (b'{"line":"true","env":["=A"]}', "bad_request", "NAME=value"),
        (b'{"line":"true","env":[""]}', "bad_request", "NAME=value"),
        (b'{"line":"true","env":{"":"x"}}', "bad_request", "no valid variable name"),
        (b'{"line":"true","env":{"A=B":"x"}}', "bad_request", "no valid variable name"),
        (b'{"line":"true","env":{"A":1}}', "bad_request", '"env" must set a variable to a string or to null, not to number'),
        (b'{"line":"true","stdin":1}', "bad_request", '"stdin" must be a string'),
        (b'{"line":"true","stdin":"","stdin_base64":""}', "bad_request", "exclude each other"),
        (b'{"line":"true","stdin_base64":"%%"}', "bad_request", "not base64"),
        (b'{"line":"true","stdin_base64":"YQ"}', "bad_request", "not base64"),
        (b'{"line":"true","stdin_base64":"YQ ==\\n"}', "bad_request", "not base64"),
        (b'{"argv_base64":["tru"]}', "bad_request", '"argv_base64" is not base64'),
        (b'{"argv_base64":["AA=="]}', "bad_request", '"argv_base64" has a NUL byte'),
        (b'{"line":"true","cwd":"/","cwd_base64":"Lw=="}', "bad_request", "exclude each other"),
        (b'{"line":"true","env_base64":{"A":"YQ=="}}', "bad_request", '"env_base64" must be an array'),
        (b'{"line":"true","ignore_env":["A*"' + b',"B*"' * 300 + b']}', "bad_request", "more than 256 patterns"),
        (b'{"line":"true","fresh":"yes"}', "bad_request", "true or false, not string"),
        (b'{"line":"true","ignore_cwd":0}', "bad_request", "true or false, not number"),
        (b'{"line":"true","timeout":"5"}', "bad_request", "number of seconds, not string"),
        (b'{"line":"true","timeout":-1}', "bad_request", "out of range"),
        (b'{"line":"true","timeout":1e300}', "bad_request", "out of range"),
        (b'{"line":"true","wait":1e999}', "bad_request", "out of range"),
        (b'{"line":"true","wait":null}', "bad_request", "number of seconds, not null"),
        (b'{"line":"true","output":"some"}', "bad_request", "whole, stream, fd or none"),
        (b'{"line":"true","output":1}', "bad_request", '"output" must be a string'),
        (b'{"line":"true","umask":512}', "bad_request", "from 0 to 511"),
        (b'{"line":"true","umask":-1}', "bad_request", "from 0 to 511"),
        (b'{"line":"true","ignore_env":"A"}', "bad_request", '"ignore_env" must be an array'),
        (b'{"line":"true","only_env":[1]}', "bad_request", '"only_env" must be an array of strings'),
        (b'{"line":"true","key":1}', "bad_request", '"key" must be a string'),
        (b'{"line":"true","scope":1}', "bad_request", '"scope" must be a string'),
        (b'{"line":"true","signal":1}', "bad_request", '"signal" does not belong'),
        (b'{"line":"true","flight":"a"}', "bad_request", '"flight" does not belong'),
        (b'{"op":"ping","line":"true"}', "bad_request", '"line" does not belong'),
        (b'{"op":"dance"}', "unknown_op", '"dance"'),
        (b'{"op":""}', "bad_request", "empty"),
        (b'{"op":1}', "bad_request", '"op" must be a string'),
        (b'{"op":"signal","signal":65}', "bad_request", "from 0 to 64"),
        (b'{"op":"leave"}', "no_such_request", "no request"),
        (b'{"id":null,"line":"true"}', "bad_request", '"id" must be a string or a number, not null'),
        (b'{"id":["a"],"line":"true"}', "bad_request", '"id" must be a string or a number, not array'),
        (b'{"id":"' + b"x" * 300 + b'","line":"true"}', "bad_request", '"id" is longer'),
        (b'{"line":' + b"[" * 500000, "bad_json", "nested too deep"),
        (b'{"a":' * 500000, "bad_json", "nested too deep"),
        (b'{"line":' + b"[" * 500000 + b"]" * 500000 + b"}", "bad_json", "nested too deep"),
        (b"x" * (8 * MIB + 1), "too_long", "8 MiB"),
        (b'{"line":"' + b"x" * (12 * MIB) + b'"}', "too_long", "8 MiB"),
    ]

    def test_errors_carry_the_id_that_could_be_read(self):
        client = self.serve().client()
        for text in (b'{"id":7,"line":"true","colour":1}', b'{"colour":1,"id":7}', b'{"id":7,"line":"tr', b'{"id":7,"env":[[[[[', b'{"id":7,"line":"\xff"}'):
            self.assertEqual(client.ask(text + b"\n").get("id"), 7, text)

    def test_hundreds_of_thousands_of_variables_do_not_stop_the_loop(self):
        client = self.serve().client()
        many = 600_000
        names = [f"{i:x}" for i in range(many)]
        for request in ({"id": 1, "line": "true", "env": dict.fromkeys(names, "")}, {"id": 1, "line": "true", "env": dict.fromkeys(names)},
                        {"id": 1, "line": "true", "env": [f"{name}=" for name in names]}, {"id": 1, "argv": ["true", *[""] * many]}):
            answer = client.ask(json.dumps(request, separators=(",", ":")).encode() + b"\n")
            self.assertEqual((answer.get("id"), answer["error"]["code"]), (1, "bad_request"))
            self.assertIn("that a process can be given", answer["error"]["message"])
        # As many as may be, in an order that is no order.
        names = [f"V{i * 7919 % 100_003}" for i in range(5000)]
        self.assertEqual(client.ask({"line": "true", "env": {**dict.fromkeys(names, "x"), **dict.fromkeys(f"W{i}" for i in range(5000))}})["exit"], 0)
        patterns = [f"*{i}*x" for i in range(256)]
        self.assertEqual(client.ask({"line": "true", "env": [f"{name}=" for name in names], "ignore_env": patterns})["exit"], 0)

    def test_each_gets_an_error_that_says_what_is_wrong_and_the_connection_goes_on(self):
        server = self.serve()
        fifo = server.fifo("hold")
        bystander = server.client().send({"id": "by", "argv": ["cat", fifo]}).settled()
        client = server.client()
        for text, code, words in self.CASES:
            with self.subTest(text=text[:80]):
                answer = client.ask(text + b"\n")
                self.assertEqual(answer["error"]["code"], code, answer)
                self.assertIn(words, answer["error"]["message"])
                self.assertEqual(set(answer) - {"id"}, {"error"})
                client.settled()
        release(fifo)
        self.assertEqual(bystander.message()["id"], "by")

    def test_an_error_carries_the_id_where_it_could_be_read(self):
        client = self.serve().client()
        for request in ('"argv":[]', '"nope":1', '"op":"dance"', '"line":1'):
            self.assertEqual(client.ask(b'{%s,"id":"mine"}\n' % request.encode())["id"], "mine")

    def test_the_longest_line_is_served(self):
        client = self.serve().client()
        frame = '{"argv":["wc","-c"],"stdin":"%s"}'
        fill = 8 * MIB - len(frame) + 2
        self.assertEqual(client.ask((frame % ("x" * fill)).encode() + b"\n")["stdout"], f"{fill}\n")
        too_long = client.ask(b"{" + b" " * (8 * MIB) + b"\n")
        self.assertEqual(too_long["error"]["code"], "too_long")

    def test_half_a_line_and_then_a_close_is_an_error_or_nothing(self):
        server = self.serve()
        client = server.client().send(b'{"argv":["true"').half_close()
        self.assertEqual(client.message()["error"]["code"], "bad_json")
        self.assertIsNone(client.line())
        client = server.client().send(b"y" * (9 * MIB)).half_close()
        self.assertEqual(client.message()["error"]["code"], "too_long")
        self.assertIsNone(client.line())
        server.client().send(b'{"argv":["tr').close()
        server.client().settled()

    def test_garbage_of_every_byte(self):
        server = self.serve("--shell", "/bin/true")
        client = server.client()
        for byte in range(256):
            if byte != 0x0a:
                client.send(bytes([byte]) * 3 + b"\n", b"{" + bytes([byte]) * 3 + b"\n")
        client.half_close()
        while client.line() is not None:
            pass
        server.client().settled()


class BadManners(ServerTest):
    def test_a_half_closed_connection_gets_its_answers_and_costs_nothing_meanwhile(self):
        server = self.serve()
        fifo = server.fifo("hold")
        client = server.client().send({"id": 1, "argv": ["cat", fifo]}, {"id": 2, "argv": ["echo", "two"]}).half_close()
        self.assertEqual(client.message()["id"], 2)
        # A loop that spins would take all the time that this command takes.
        before = server.cpu_ticks()
        server.client().ask({"line": "timeout 0.5 tail -f /dev/null"})
        self.assertLess(server.cpu_ticks() - before, 20)
        release(fifo)
        self.assertEqual(client.message()["id"], 1)
        self.assertIsNone(client.line())

    def held_flight(self, server, **more):
        """A command that writes to a FIFO when it is told to end, and that FIFO."""
        told = server.fifo("told")
        line = f"trap 'echo told >{told}; exit' TERM; echo up; while :; do sleep 1000 & wait; done"
        client = server.client().send({"id": 1, "line": line, "output": "stream", **more})
        self.assertEqual([client.message()["event"] for _ in range(2)], ["started", "stdout"])
        client.bytes(3)
        return client, line, told

    def test_the_last_to_close_cancels(self):
        server = self.serve()
        client, line, told = self.held_flight(server)
        second = server.client().send({"id": 2, "line": line}).settled()
        client.close()
        self.assertEqual(second.ask({"op": "ping"}), {"protocol": 1})
        self.assertEqual(server.status()[0]["state"], "running")
        second.close()
        with open(told) as file:
            self.assertEqual(file.read(), "told\n")

    def test_a_close_after_a_half_close_is_noticed(self):
        server = self.serve()
        client, _, told = self.held_flight(server)
        client.half_close()
        self.assertEqual(server.status()[0]["state"], "running")
        client.close()
        with open(told) as file:
            self.assertEqual(file.read(), "told\n")

    def test_a_client_that_never_reads_harms_nobody_and_costs_no_memory(self):
        server = self.serve()
        client = server.client()
        client.ask({"line": "echo warm"})
        before = server.memory_kb()
        mute = []
        for mode in ("whole", "stream", "fd"):
            silent = server.client()
            silent.send(*({"id": i, "line": "head -c 3000000 /dev/zero | tr '\\0' x", "output": mode} for i in range(20)))
            mute.append(silent)
        # Errors are answers, too: as many as the connection will take.
        silent = server.client()
        silent.socket.setblocking(False)
        sent = 0
        try:
            while sent < 64 * MIB:
                sent += silent.socket.send(b"{}\n" * 20000)
        except BlockingIOError:
            pass
        self.assertLess(sent, 16 * MIB)
        for i in range(50):
            self.assertEqual(client.ask({"argv": ["echo", str(i)]})["stdout"], f"{i}\n")
        self.assertLess(server.memory_kb() - before, 120_000)  # most of it is the sanitizers'
        # Whoever reads after all gets everything.
        for i in range(20):
            self.assertEqual(len(mute[0].message()["stdout"]), 3000000)
        silent.socket.setblocking(True)
        answers = 0
        silent.socket.shutdown(socket.SHUT_WR)
        while silent.line() is not None:
            answers += 1
        self.assertEqual(answers, sent // 3 + (1 if sent % 3 else 0))

    def test_short_answers_that_fill_the_connection_go_on_when_they_are_read(self):
        server = self.serve()
        client = server.client()
        line = "head -c 60000 /dev/zero | tr '\\0' x"
        client.send(*({"id": i, "line": line} for i in range(40)))
        other = server.client()
        while other.ask({"op": "stats"})["waiting"] > 0:  # until then they are in the socket, or wait for room
            a_moment()
        self.assertEqual(sorted(message["id"] for message in (client.message() for _ in range(40))), list(range(40)))
        self.assertEqual(len(client.ask({"line": line})["stdout"]), 60000)

    def test_a_blocked_client_that_has_read_on_costs_no_time(self):
        server = self.serve()
        client = server.client()
        client.send({"id": 1, "argv": ["head", "-c", "3000000", "/dev/zero"], "output": "stream"})
        server.client().settled()
        client.stream()
        before = server.cpu_ticks()
        server.client().ask({"line": "timeout 0.5 tail -f /dev/null"})
        self.assertLess(server.cpu_ticks() - before, 20)

    def test_a_client_that_writes_byte_by_byte_is_served_and_nobody_waits_for_it(self):
        server = self.serve()
        slow, fast = server.client(), server.client()
        request = json.dumps({"id": 1, "argv": ["echo", "slow"]}).encode() + b"\n"
        for byte in request:
            slow.send(bytes([byte]))
            fast.settled()
        self.assertEqual(slow.message()["stdout"], "slow\n")

    def test_a_long_line_in_small_pieces_takes_no_square_of_time(self):
        server = self.serve()
        slow = server.client()
        slow.send(b"x" * (7 * MIB))
        before = server.cpu_ticks()
        for _ in range(3000):
            slow.send(b"x")
        slow.send(b"\n")
        slow.half_close()
        slow.line()
        self.assertLess(server.cpu_ticks() - before, 1000)

    def test_s5_to_cancel_what_is_not_there_takes_no_longer_with_thousands_of_flights(self):
        server = self.serve("-j", "1")
        gate = server.gate("gate")
        flights, client = server.client(), server.client()

        def ticks():
            before = server.cpu_ticks()
            for _ in range(20):
                client.send(b'{"id":1,"op":"cancel","flight":"z"}\n' * 250)
                for _ in range(250):
                    self.assertEqual(client.message()["error"]["code"], "no_such_flight")
            return server.cpu_ticks() - before

        flights.send({"line": gate.wait, "output": "none"})
        with_one = ticks()
        flights.send(*({"line": gate.wait, "scope": str(i), "output": "none"} for i in range(3000))).settled()
        client.ask({"op": "cancel", "flight": "z"})  # from now on they have names
        self.assertLess(ticks(), 3 * with_one + 20)
        name = server.status()[-1]["id"]
        self.assertEqual(client.ask({"op": "cancel", "flight": name[:1]})["error"]["code"], "ambiguous")
        self.assertEqual(client.ask({"op": "cancel", "flight": name})["event"], "cancelled")
        self.assertEqual(client.ask({"op": "cancel", "flight": name})["error"]["code"], "no_such_flight")
        self.assertEqual(len(server.status()), 3000)

    def test_s5_who_goes_from_a_stream_whose_file_somebody_cut_off_stops_nobody(self):
        server = self.serve("--spool-dir", tempfile.gettempdir())
        client, other = server.client(), server.client()
        gate = server.gate("gate")
        client.send({"id": 1, "line": f"head -c 8000000 /dev/zero; {gate.wait}", "output": "stream"})
        while sum(flight["output"] for flight in server.status()) < 8000000:
            pass  # it is all there, and more than the connection takes
        fds = f"/proc/{server.process.pid}/fd"
        cut_off = 0
        for fd in os.listdir(fds):
            path = os.path.join(fds, fd)
            with contextlib.suppress(FileNotFoundError):  # others go meanwhile
                if os.readlink(path).startswith(tempfile.gettempdir()) and os.stat(path).st_size >= 8000000:
                    os.truncate(path, 1)
                    cut_off += 1
        self.assertEqual(cut_off, 1)
        client.close()
        while other.ask({"op": "stats"})["clients"] > 1:
            a_moment()

    def test_a_disconnect_at_every_point_of_an_exchange(self):
        server = self.serve()
        request = b'{"id":1,"argv":["printf","%s","x"],"output":"%s"}\n'
        bystander = server.client()
        for mode in (b"whole", b"stream", b"fd"):
            text = request.replace(b'"output":"%s"', b'"output":"' + mode + b'"')
            for cut in range(len(text) + 1):
                server.client().send(text[:cut]).close()
            for cut in range(0, 400, 3):  # and while the answer comes
                with Client(server.path) as client:
                    client.send(text)
                    left = cut
                    while left > 0 and (got := client.socket.recv(left)):
                        left -= len(got)
                        if b'"event":"exit"' in got or b'"duration"' in got:
                            break
                        if mode == b"fd" and b'"event":"stdout"' in got:
                            client.send(b"\n")
            bystander.settled()
        bystander.ask({"line": "echo still"})
        while server.status():
            bystander.settled()
        stats = server.stats()
        self.assertEqual((stats["waiting"], stats["running"], stats["queued"]), (0, 0, 0))

    def test_leaving_and_waiting_out_at_the_same_time_counts_once(self):
        server = self.serve("--max-requesters", "100")
        fifo = server.fifo("hold")
        keeper = server.client().send({"id": 0, "argv": ["cat", fifo]}).settled()
        for i in range(300):
            client = server.client()
            client.send({"id": 1, "argv": ["cat", fifo], "wait": 0.001 * (i % 4)}, {"op": "leave", "id": 1})
            if i % 3 == 0:
                client.close()
        keeper.settled()
        while server.stats()["waiting"] != 1:
            keeper.settled()
        release(fifo)
        self.assertEqual(keeper.message()["id"], 0)

    def test_a_client_that_goes_while_its_run_is_announced_to_its_many_requests(self):
        server = self.serve("-j1")
        gate = server.gate("hold")
        for _ in range(5):
            server.client().send({"line": gate.wait, "output": "stream"}).message()
            leaving = server.client().send(*({"id": i, "line": "exit 0", "output": "stream"} for i in range(900))).settled()
            gate.let()
            leaving.message()
            leaving.close()
        self.assertEqual(server.client().ask({"line": "echo fine"})["stdout"], "fine\n")
        while server.stats()["waiting"] > 0:
            a_moment()

    def test_descriptors_for_clients_that_left_are_not_handed_to_others(self):
        server = self.serve()
        client = server.client()
        client.send(*({"id": i, "argv": ["head", "-c", "5000000", "/dev/zero"], "output": "stream"} for i in range(2)))
        client.send(*({"id": f"f{i}", "argv": ["echo", str(i)], "output": "fd"} for i in range(30)))
        client.send(*({"op": "leave", "id": f"f{i}"} for i in range(30)))
        server.client().ask({"line": "echo other"})
        client.half_close()
        seen = {}
        while (message := client.message()) is not None:
            if message.get("event") in ("stdout", "stderr"):
                if "offset" in message:
                    fd = client.fds[-1]
                    self.assertEqual(os.pread(fd, 100, 0), message["id"][1:].encode() + b"\n")
                else:
                    client.bytes(message["bytes"])
            seen[message.get("id")] = message


if __name__ == "__main__":
    main()
