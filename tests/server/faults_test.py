#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What clients once did to a server: ended it, stopped its loop, took what others
needed, ran what they had not meant (SPEC S2, S5, S8, S9, F5, F14, O1). Each by its kind."""

import json
import os
import random
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time

from harness import COALESCE, Client, ServerTest, a_moment, main, release

MIB = 1 << 20


def answered(client):
    """Whether the connection was answered before it was closed, and with what."""
    try:
        return client.message()
    except ConnectionResetError:
        return None


class Partings(ServerTest):
    def test_s5_requests_that_keep_running_give_up_and_go_at_once(self):
        server = self.serve()
        chance = random.Random(1)
        for i in range(150):
            client = server.client()
            client.send(*({"id": j, "argv": ["sleep", "0.1"], "keep_running": True, "scope": str(i % 3),
                           **({"wait": 0.05} if j == 1 else {})} for j in range(2))).settled()
            client.socket.settimeout(0.04 + chance.random() * 0.02)
            try:
                client.message()
            except TimeoutError:
                pass
            client.close()
        server.client().settled()

    def test_s5_every_request_gives_up_at_the_moment_of_the_close(self):
        server = self.serve()
        fifo = server.fifo("hold")
        for i in range(60):
            client = server.client()
            client.send(*({"id": j, "argv": ["cat", fifo], "keep_running": j % 2 == 0, "output": mode,
                           "wait": 0.001 * (i % 7)} for j, mode in enumerate(("whole", "stream", "fd", "none") * 4)))
            if i % 2:
                client.fill()
            client.close()
        server.client().settled()
        release(fifo)
        while server.status():
            a_moment()

    def test_f5_who_has_left_is_not_counted(self):
        server = self.serve("--max-requesters", "2")
        gate = server.gate("hold")
        request = {"line": f"echo up; {gate.wait}", "output": "stream", "keep_running": True}
        client = server.client().send({"id": 1, **request})
        client.until(lambda m: m.get("event") == "stdout")
        client.bytes(3)
        self.assertEqual(client.ask({"id": 1, "op": "leave"})["event"], "left")
        self.assertEqual([f["requesters"] for f in server.status()], [0])
        self.assertEqual(server.stats()["waiting"], 0)
        # Nor does it take a place, or make the next one's signal a parting.
        client.send({"id": 2, **request}, {"id": 3, **request}).settled_past_output()
        self.assertEqual(client.ask({"id": 3, "op": "leave"})["event"], "left")
        self.assertEqual(client.ask({"id": 2, "op": "signal", "signal": 0})["event"], "signalled")
        gate.let()
        self.assertEqual(client.until(lambda m: m.get("event") == "exit")["exit"], 0)

    def test_f5_a_kept_run_that_nobody_reads_goes_on_past_the_replay_limit(self):
        server = self.serve("--replay-limit", "64K")
        told = server.fifo("told")
        client = server.client().send({"id": 1, "output": "stream", "keep_running": True,
                                       "line": f"head -c 3000000 /dev/zero; echo done >{told}"})
        client.until(lambda m: m.get("event") == "stdout")  # and reads no more
        client.close()
        with open(told) as file:
            self.assertEqual(file.read(), "done\n")

    def test_o1_an_id_names_one_run_ever(self):
        server = self.serve()
        gate = server.gate("hold")
        request = {"line": f"{gate.wait}; echo end"}
        client = server.client().send({"id": "first", **request}, {"id": "next", "fresh": True, **request}).settled()
        running, waiting = server.status()
        self.assertNotEqual(running["id"], waiting["id"])
        self.assertEqual(running["key"], waiting["key"])
        client.send({"id": "c", "op": "cancel", "flight": waiting["id"]})
        answers = {m["id"]: m for m in (client.message(), client.message())}
        self.assertEqual(answers["c"]["event"], "cancelled")
        self.assertEqual(answers["next"]["error"]["code"], "cancelled")
        self.assertEqual([f["id"] for f in server.status()], [running["id"]])
        gate.let()
        self.assertEqual(client.message()["stdout"], "end\n")
        again = server.client().send(request).settled()
        self.assertEqual(again.ask({"op": "cancel", "flight": running["id"]})["error"]["code"], "no_such_flight")
        gate.let()
        self.assertEqual(again.message()["stdout"], "end\n")


class Kinds(ServerTest):
    """S2: a connection's first line decides what it takes."""

    def test_s2_no_header_runs(self):
        server = self.serve()
        for request in (b"POST / HTTP/1.1\r\nHost: x\r\nX: $(touch %s)\r\n\r\ntouch %s\n",
                        b"Host: x\ntouch %s; touch %s\n",
                        b"get /?$(touch%%20%s) HTTP/1.0\ntouch %s\n"):
            client = server.client()
            client.send(request % ((server.file("ran").encode(),) * 2))
            self.assertEqual(answered(client)["error"]["code"], "bad_request")
            try:
                self.assertIsNone(client.line())
            except ConnectionResetError:
                pass
        server.client().ask({"line": "true"})
        self.assertFalse(os.path.exists(server.file("ran")))
        self.assertIn("HTTP", server.logged())

    def test_s2_pretty_printed_json_runs_nothing(self):
        server = self.serve()
        client = server.client().send(json.dumps({"argv": ["true"], "scope": f"$(touch {server.file('ran')})"}, indent=1).encode() + b"\n")
        client.half_close()
        while (message := client.message()) is not None:
            self.assertEqual(message["error"]["code"], "bad_json")
        self.assertFalse(os.path.exists(server.file("ran")))

    def test_s2_command_lines_stay_command_lines(self):
        server = self.serve()
        client = server.client()
        self.assertEqual(client.ask(b"echo one\n")["stdout"], "one\n")
        self.assertEqual(client.ask({"argv": ["true"]})["error"]["code"], "bad_json")
        self.assertEqual(client.ask(b"echo GET / is no request\n")["stdout"], "GET / is no request\n")
        self.assertEqual(client.ask(b"echo \0\n")["error"]["code"], "bad_request")

    def test_s3_what_means_the_same_is_the_same(self):
        server = self.serve()
        gate = server.gate("hold")
        client = server.client()
        client.send({"id": 0, "line": gate.wait, "cwd": "/tmp"}, {"id": 1, "line": gate.wait, "cwd": "/tmp/", "stdin": ""},
                    {"id": 2, "line": gate.wait, "cwd": "/tmp//", "stdin_base64": ""}).settled()
        self.assertEqual(len(server.status()), 1)
        gate.let()
        self.assertEqual([client.message()["joined"] for _ in range(3)].count(True), 2)
        self.assertEqual(client.ask({"argv": ["cat"], "stdin_base64": "YWJj\n"})["error"]["code"], "bad_request")


class Size(ServerTest):
    """S5: nothing that a client sends takes more than n log n."""

    def quick(self, server, *requests):
        """Each is answered, and a bystander's question does not take seconds more than it does alone."""
        codes = []
        for request in requests:
            client = server.client().send(request)
            codes.append(client.message().get("error", {}).get("code"))
        return codes

    def test_s5_more_variables_than_an_exec_allows_are_refused(self):
        server = self.serve()
        names = [f"V{i}" for i in range(400_000)]
        self.assertEqual(self.quick(server, {"argv": ["true"], "env": {name: "" for name in names}},
                                    {"argv": ["true"], "env": [name + "=" for name in names]},
                                    {"argv": ["true", *names]},
                                    {"argv": ["true", "x" * 200_000]},
                                    {"argv": ["true"], "ignore_env": ["*" + name + "*" for name in names],
                                     "env": [name + "=" for name in names[:10_000]]}),
                         ["bad_request", "bad_request", "bad_request", "not_started", "bad_request"])
        self.assertEqual(server.client().ask({"line": "echo fine"})["stdout"], "fine\n")

    def test_s5_as_many_as_it_allows_are_set_once_each(self):
        server = self.serve()
        changes = {f"V{i}": str(i) for i in range(30_000)}
        answer = server.client().ask({"line": "echo $V0 $V29999; env | grep -c ^V", "env": {**changes, "HOME": None}})
        self.assertEqual(answer["stdout"], "0 29999\n30000\n")

    def test_s5_a_hundred_thousand_requests_are_left_one_by_one(self):
        server = self.serve()
        fifo = server.fifo("never")

        def ticks_to_leave(count):
            client = server.client()
            for i in range(0, count, 1000):
                client.send(*({"id": j, "argv": ["cat", fifo], "output": "fd", "quiet": True} for j in range(i, i + 1000)))
            client.settled()
            before = server.cpu_ticks()
            left = 0
            for i in range(0, count, 1000):
                client.send(*({"id": j, "op": "leave"} for j in range(count - i - 1000, count - i)))
                left += sum(client.message()["event"] == "left" for _ in range(1000))
            self.assertEqual(left, count)
            self.assertEqual(server.stats()["waiting"], 0)
            return server.cpu_ticks() - before

        # How fast the machine is does not matter: four times as many take four times as long, not sixteen.
        few = ticks_to_leave(5_000)
        self.assertLess(ticks_to_leave(20_000), 9 * few + 100)


class Descriptors(ServerTest):
    def few(self, most):
        return lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

    def test_f14_those_inside_run_and_the_rest_are_told(self):
        server = self.serve(preexec_fn=self.few(64))
        inside, told, clients = 0, 0, []
        for i in range(150):
            client = server.client()
            clients.append(client)
            try:
                client.send({"id": i, "argv": ["echo", str(i)], "output": ("whole", "stream", "fd", "none")[i % 4]})
            except (BrokenPipeError, ConnectionResetError):
                pass
        for client in clients:
            message = answered(client)
            if message is None or message.get("error", {}).get("code") == "too_many_files":
                told += 1
                continue
            inside += 1
            while "exit" not in message:
                if "bytes" in message and "offset" not in message:
                    client.bytes(message["bytes"])
                message = client.message()
            self.assertEqual(message["exit"], 0, message)
        self.assertGreaterEqual(inside, 10)
        self.assertGreaterEqual(told, 100)
        for client in clients:
            client.close()
        while server.try_stats().get("clients") != 1:  # well again
            a_moment()
        self.assertEqual(server.client().ask({"line": "echo fine"})["stdout"], "fine\n")

    def test_f14_a_request_that_met_the_limit_is_answered_and_all_is_well_afterwards(self):
        server = self.serve(preexec_fn=self.few(64))
        idle = [server.client() for _ in range(55)]
        for mode in ("stream", "fd", "whole"):
            client = idle[0]
            client.send({"id": mode, "line": "head -c 3000000 /dev/zero | tail -c 1200000", "output": mode})
            while True:
                message = client.message()
                if "bytes" in message:
                    if "offset" in message:
                        client.send(b"\n")
                    else:
                        client.bytes(message["bytes"])
                elif message.get("event") != "started":
                    break
            self.assertEqual(message["exit"], 0, message)
        for client in idle[1:]:
            client.close()
        for i in range(5):
            self.assertEqual(idle[0].ask({"line": "echo fine", "scope": str(i)})["stdout"], "fine\n")

    def test_s10_trouble_with_connections_is_logged_once(self):
        server = self.serve(preexec_fn=self.few(64))
        crowd = [server.client() for _ in range(150)]
        for client in crowd[:10]:
            client.settled()
        for client in crowd:
            client.close()
        while server.try_stats().get("clients") != 1:
            a_moment()
        self.assertEqual(server.logged().count("refused"), 2, server.logged())


class Ends(ServerTest):
    def test_s8_a_lock_that_another_holds_delays_nothing(self):
        server = self.serve()
        gate = server.gate("hold")
        client = server.client().send({"line": f"{gate.wait}; echo end"}).settled()
        holder = subprocess.Popen(["flock", server.directory, "sh", "-c", "echo held; read x"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.assertEqual(holder.stdout.readline(), b"held\n")
        server.process.send_signal(signal.SIGTERM)
        while os.path.exists(server.path):
            a_moment()
        gate.let()
        self.assertEqual(client.message()["stdout"], "end\n")
        self.assertEqual(server.process.wait(), 0)
        late = subprocess.run([COALESCE, "serve", "--socket", server.path], capture_output=True, check=False, timeout=60)
        self.assertEqual(late.returncode, 125)
        self.assertIn(b"which another process has locked", late.stderr)
        holder.communicate(b"x\n")

    def test_s8_a_hangup_drains_too_and_nohup_holds(self):
        server = self.serve()
        gate = server.gate("hold")
        client = server.client().send({"line": f"{gate.wait}; echo end"}).settled()
        server.process.send_signal(signal.SIGHUP)
        while os.path.exists(server.path):
            a_moment()
        gate.let()
        self.assertEqual(client.message()["stdout"], "end\n")
        self.assertEqual(server.process.wait(), 0)
        server = self.serve(prefix=["nohup"])
        server.process.send_signal(signal.SIGHUP)
        self.assertEqual(server.client().ask({"line": "echo fine"})["stdout"], "fine\n")

    def test_s8_who_has_connected_is_answered(self):
        server = self.serve()
        gate = server.gate("hold")
        client = server.client().send({"line": gate.wait}).settled()
        server.process.send_signal(signal.SIGSTOP)
        while server.state() != "T":
            a_moment()
        late = server.client().send({"id": "late", "line": "true"})
        server.process.send_signal(signal.SIGTERM)
        server.process.send_signal(signal.SIGCONT)
        self.assertEqual(late.message()["error"]["code"], "shutting_down")
        gate.let()
        self.assertEqual(client.message()["exit"], 0)
        self.assertEqual(server.process.wait(), 0)

    LAUNCH = """
import os, socket, sys
paths = sys.argv[1:3]
sockets = [socket.socket(socket.AF_UNIX) for _ in paths]
os.set_blocking(0, True)
for number, (s, path) in enumerate(zip(sockets, paths)):
    s.bind(path)
    s.listen()
    os.dup2(s.fileno(), 10 + number)
for number in range(2):
    os.dup2(10 + number, 3 + number)
    os.set_inheritable(3 + number, True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="2")
os.execv(sys.argv[3], sys.argv[3:])
"""

    def test_s1_every_socket_that_is_passed_is_served(self):
        with tempfile.TemporaryDirectory() as directory:
            paths = [directory + "/a", directory + "/b"]
            server = self.serve(socket_path=paths[0], prefix=[sys.executable, "-c", self.LAUNCH, *paths])
            for path in paths:
                with Client(path) as client:
                    self.assertEqual(client.ask({"line": "echo fine"})["stdout"], "fine\n")
                self.assertIn(path, server.logged())

    def test_s10_a_line_for_each_run(self):
        server = self.serve()
        server.client().ask({"line": "printf '\\033'; exit 3"})
        server.client().ask({"argv": ["/nonexistent"]})
        server.client().ask({"argv": ["sh", "-c", "kill -9 $$"]})
        log = server.logged()
        for words in (": exit 3: ", "No such file", "killed by KILL"):
            self.assertEqual(log.count(words), 1, log)

    def test_o0_what_others_wrote_forges_no_line_of_the_log_and_steers_no_terminal(self):
        server = self.serve("--log-level", "debug")
        client = server.client()
        nasty = "\x1b]0;owned\x07\x9b\n2026-01-01T00:00:00.000 info forged\r"
        for request in ({"line": f": '{nasty}'"}, {"argv": [nasty]}, {"argv": ["echo", nasty]},
                        {"argv": ["true"], "cwd": "/" + nasty}, {"line": f"exit 3 # {nasty}"}, {"op": nasty},
                        {"op": "cancel", "flight": nasty}, {"argv": ["/bin/" + nasty], "id": nasty}):
            client.ask(request)
        with open(server.log, "rb") as file:
            lines = file.read().decode("utf-8").splitlines(keepends=True)
        self.assertGreater(len(lines), 8)
        for line in lines:
            self.assertRegex(line, r"\A\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3} (debug|info|warning|error) [^\x00-\x1f\x7f-\x9f]*\n\Z")
        self.assertFalse([line for line in lines if line.startswith("2026-01-01T00:00:00.000")])


class Stalls(ServerTest):
    """F9: one who reads nothing past the replay limit does not hold up those who ask for the same."""

    LINE = "seq 300000"  # two megabytes
    WHOLE = b"".join(b"%d\n" % i for i in range(1, 300001))

    def test_f9_in_every_mode_the_run_goes_on_and_who_read_nothing_gets_an_error(self):
        for mode in ("stream", "fd"):
            with self.subTest(mode=mode):
                server = self.serve("--replay-limit", "64K", "--stall", "0.1")
                silent = server.client().send({"id": "a", "line": self.LINE, "output": mode})
                while not (flights := server.status()) or flights[0]["output"] < 65536:
                    a_moment()
                answer = server.client().ask({"id": "b", "line": self.LINE, "output": "none"})
                self.assertEqual(answer["exit"], 0)  # of this run, or of the next
                got = b""
                while "event" in (message := silent.message()):
                    if message["event"] == "started":
                        continue
                    length = message["bytes"]
                    got += silent.bytes(length) if mode == "stream" else os.pread(silent.fds[0], length, message["offset"])
                self.assertEqual(message["error"]["code"], "stalled")
                self.assertEqual(got, self.WHOLE[: len(got)])  # and no gap before that
                self.assertLess(len(got), len(self.WHOLE))

    def test_f9_who_has_left_without_reading_holds_up_nobody(self):
        server = self.serve("--replay-limit", "64K")
        silent = server.client().send({"id": "a", "line": self.LINE, "output": "stream"})
        reading = server.client().send({"id": "b", "line": self.LINE, "output": "stream"})
        silent.until(lambda message: message["event"] == "stdout")  # and not what it announces
        silent.send({"id": "a", "op": "leave"})
        self.assertEqual(reading.stream()[1]["b", "stdout"], self.WHOLE)

    def test_f9_a_wrapper_that_cannot_write_holds_up_no_other(self):
        with tempfile.TemporaryDirectory() as place:
            os.chmod(place, 0o700)
            command = [COALESCE, "run", "--place", place, "--replay-limit", "64K", "--stall", "0.1", *self.LINE.split()]
            with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as silent:
                def output():
                    told = subprocess.run([COALESCE, "status", "--json", "--place", place], capture_output=True, check=True)
                    return [json.loads(line)["output"] for line in told.stdout.splitlines()]
                while max(output(), default=0) < 65536:
                    a_moment()
                other = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
                self.assertEqual((other.returncode, other.stdout), (0, self.WHOLE))
                got, said = silent.communicate()
                self.assertEqual(silent.returncode, 125)
                self.assertIn(b"nothing was read", said)
                self.assertEqual(got, self.WHOLE[: len(got)])


class Memory(ServerTest):
    def test_s5_unfinished_lines_give_their_memory_back(self):
        if os.environ.get("COALESCE_SANITIZED") == "1":
            print("not tried here: what memory is given back, since sanitizers keep it (server_release tries it)")
            return
        server = self.serve()
        warm = server.client().send(b"x" * (8 * MIB - 1)).settled_by(server)
        warm.close()
        before = server.memory_kb()
        clients = [server.client().send(b'{"argv":["' + b"x" * (8 * MIB - 100)) for _ in range(64)]
        for client in clients:
            client.settled_by(server)
        self.assertGreater(server.memory_kb() - before, 300_000)
        for client in clients:
            client.close()
        while server.stats()["clients"] != 1:
            a_moment()
        self.assertLess(server.memory_kb() - before, 20_000)


def settled_past_output(client):
    client.send({"id": "settled", "op": "ping"})
    client.until(lambda m: m.get("id") == "settled")
    return client


def settled_by(client, server):
    """All that was sent has been read, as nothing is left in the socket."""
    import array, fcntl, termios
    left = array.array("i", [1])
    while left[0]:
        fcntl.ioctl(client.socket, termios.TIOCOUTQ, left)
        with server.client() as asking:
            asking.settled()
    return client


Client.settled_past_output = settled_past_output
Client.settled_by = settled_by

if __name__ == "__main__":
    main()
