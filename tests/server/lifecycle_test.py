#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""From start to end (SPEC S1, S8, S10): sockets, signals, systemd, logs."""

import contextlib
import fcntl
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile

from harness import COALESCE, Client, Server, ServerTest, a_moment, main, release

LAUNCH = """
import os, socket, sys
kind, path = sys.argv[1:3]
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM if kind == "datagram" else socket.SOCK_STREAM)
s.bind(path)
if kind == "listening":
    s.listen()
os.dup2(s.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1", LISTEN_FDNAMES="coalesce.socket")
os.execv(sys.argv[3], sys.argv[3:])
"""

# It is dead, and a child of its has the socket until it has been asked once.
HELD = """
import os, socket, sys
s = socket.socket(socket.AF_UNIX)
s.bind(sys.argv[1])
s.listen()
if os.fork() == 0:
    s.accept()
"""


class Sockets(ServerTest):
    def test_a_second_server_on_a_live_socket_is_refused(self):
        server = self.serve()
        second = subprocess.run([COALESCE, "serve", "--socket", server.path], capture_output=True, check=False)
        self.assertEqual(second.returncode, 125)
        self.assertIn(b"where a server answers", second.stderr)
        self.assertEqual(server.client().ask({"line": "echo fine"})["stdout"], "fine\n")

    def test_a_dead_socket_is_replaced(self):
        server = self.serve()
        server.process.kill()
        server.process.wait()
        self.assertTrue(os.path.exists(server.path))
        again = self.serve(socket_path=server.path)
        self.assertEqual(again.client().ask({"line": "echo again"})["stdout"], "again\n")

    def test_a_socket_that_a_killed_servers_start_still_holds_is_waited_for(self):
        with tempfile.TemporaryDirectory() as directory:
            path = directory + "/held"
            subprocess.run([sys.executable, "-c", HELD, path], check=True)
            server = self.serve(socket_path=path)
            self.assertEqual(server.client().ask({"line": "echo again"})["stdout"], "again\n")

    def test_s8_r9_whom_nobody_has_reaped_is_dead_and_waited_for_without_the_lock(self):
        with tempfile.TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX) as held:
            held.bind(directory + "/held")
            dead = os.fork()
            if dead == 0:
                held.listen()
                os._exit(0)
            self.addCleanup(os.waitpid, dead, 0)
            os.waitid(os.P_PID, dead, os.WEXITED | os.WNOWAIT)
            server = self.serve(socket_path=directory + "/held", ready=False)
            held.accept()[0].close()  # it has looked
            place = os.open(directory, os.O_RDONLY)
            while True:  # between two of its looks
                self.assertIsNone(server.process.poll(), server.logged())
                try:
                    fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    pass
            held.close()
            os.close(place)
            server.await_state("READY=1")
            self.assertEqual(server.client().ask({"line": "echo again"})["stdout"], "again\n")

    def test_s1_s8_a_service_manager_that_does_not_read_holds_up_nobody(self):
        with tempfile.TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager, socket.socket(
            socket.AF_UNIX, socket.SOCK_DGRAM
        ) as before_us:
            manager.bind(directory + "/full")
            before_us.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    before_us.sendto(b"other", directory + "/full")
            server = self.serve(ready=False, env={"NOTIFY_SOCKET": directory + "/full"})
            while server.process.poll() is None:
                with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
                    self.assertEqual(server.client().ask({"line": "echo answered"})["stdout"], "answered\n")
                    break
                a_moment()
            while manager.recv(100) != b"READY=1":  # told again
                pass
            self.assertEqual(server.stop(), 0)

    def test_what_is_no_socket_is_left_alone(self):
        with tempfile.TemporaryDirectory() as directory:
            path = directory + "/file"
            with open(path, "w") as file:
                file.write("precious")
            refused = subprocess.run([COALESCE, "serve", "--socket", path], capture_output=True, check=False)
            self.assertEqual(refused.returncode, 125)
            with open(path) as file:
                self.assertEqual(file.read(), "precious")

    def test_a_long_path_is_no_hindrance_and_a_missing_directory_is_named(self):
        with tempfile.TemporaryDirectory() as directory:
            deep = directory + "/" + "d" * 120
            os.mkdir(deep)
            server = self.serve(socket_path=deep + "/s")
            self.assertTrue(os.path.exists(deep + "/s"))
            server.stop()
            self.assertFalse(os.path.exists(deep + "/s"))
            refused = subprocess.run([COALESCE, "serve", "--socket", directory + "/no/s"], capture_output=True, check=False)
            self.assertEqual(refused.returncode, 125)
            self.assertIn(b"No such file", refused.stderr)

    def test_a_server_removes_no_socket_but_its_own(self):
        server = self.serve()
        os.unlink(server.path)
        other = self.serve(socket_path=server.path)
        self.assertEqual(server.stop(), 0)
        self.assertEqual(other.client().ask({"line": "echo mine"})["stdout"], "mine\n")

    def test_a_passed_socket_is_served_and_left(self):
        with tempfile.TemporaryDirectory() as directory:
            path = directory + "/passed"
            server = self.serve(socket_path=path, prefix=[sys.executable, "-c", LAUNCH, "listening", path])
            self.assertIn(path, server.logged())
            answer = server.client().ask({"line": "env; ls /proc/self/fd"})
            self.assertNotIn("LISTEN_", answer["stdout"])
            self.assertEqual(server.stop(), 0)
            self.assertTrue(os.path.exists(path))

    def test_a_passed_descriptor_that_does_not_listen_is_refused(self):
        for kind in ("datagram", "silent"):
            with tempfile.TemporaryDirectory() as directory:
                refused = subprocess.run([sys.executable, "-c", LAUNCH, kind, directory + "/s", COALESCE, "serve"],
                                         capture_output=True, check=False)
                self.assertEqual(refused.returncode, 125)
                self.assertIn(b"LISTEN_FDS", refused.stderr)

    def test_the_service_manager_is_told(self):
        server = self.serve(env={"WATCHDOG_USEC": "100000"})
        server.await_state("WATCHDOG=1")
        server.process.terminate()
        server.await_state("STOPPING=1")
        self.assertEqual(server.process.wait(), 0)


class Ends(ServerTest):
    def test_running_flights_finish_and_new_requests_are_refused(self):
        server = self.serve("-j2")
        gate = server.gate("hold")
        clients = {}
        for mode in ("whole", "stream", "fd"):
            clients[mode] = server.client().send({"id": mode, "line": f"{gate.wait}; echo end", "output": mode}).settled_or_started(mode)
        other = server.client().send({"id": "other", "line": gate.wait, "scope": "other"},
                                     {"id": "queued", "line": f"echo x >>{server.file('runs')}"}).settled()
        idle = server.client().settled()
        server.process.send_signal(signal.SIGTERM)
        self.assertEqual(other.message()["error"]["code"], "cancelled")  # the queued one
        self.assertFalse(os.path.exists(server.path))
        self.assertEqual(other.ask({"id": "late", "argv": ["true"]})["error"]["code"], "shutting_down")
        self.assertEqual(other.ask({"op": "ping"}), {"protocol": 1})
        gate.let(2)
        self.assertEqual(clients["whole"].message()["stdout"], "end\n")
        self.assertEqual(clients["stream"].stream()[1]["stream", "stdout"], b"end\n")
        message = clients["fd"].message()
        self.assertEqual(message["bytes"], 4)
        self.assertEqual(clients["fd"].message()["event"], "exit")
        if other.message() is None:
            self.fail("the other flight's answer is missing")
        for client in (*clients.values(), other, idle):
            self.assertIsNone(client.line())
        self.assertEqual(server.process.wait(), 0)
        self.assertEqual(server.runs(), 0)

    def test_s8_who_had_asked_when_an_idle_server_is_told_to_end_hears_of_it(self):
        server = self.serve()
        server.process.send_signal(signal.SIGSTOP)
        while server.state() != "T":
            a_moment()
        clients = [server.client() for _ in range(200)]
        for client in clients:
            client.send({"id": 1, "line": "true"})
        server.process.send_signal(signal.SIGTERM)
        server.process.send_signal(signal.SIGCONT)
        for client in clients:
            self.assertEqual(client.message()["error"]["code"], "shutting_down")
            self.assertIsNone(client.line())
        self.assertEqual(server.process.wait(), 0)

    def test_answers_are_delivered_whole_before_the_end(self):
        server = self.serve()
        fifo = server.fifo("hold")
        client = server.client().send({"line": f"cat {fifo}; head -c 5000000 /dev/zero"}).settled()
        server.process.send_signal(signal.SIGTERM)
        release(fifo)
        self.assertEqual(len(client.message()["stdout"]), 5000000)
        self.assertEqual(server.process.wait(), 0)

    def test_a_run_that_waits_behind_another_never_starts(self):
        server = self.serve()
        fifo = server.fifo("hold")
        request = {"line": f"echo x >>{server.file('runs')}; cat {fifo}"}
        client = server.client().send({"id": 1, "output": "stream", **request})
        client.message()
        client.send({"id": 2, "fresh": True, **request}).settled()
        server.process.send_signal(signal.SIGTERM)
        while os.path.exists(server.path):
            a_moment()
        release(fifo)
        answers = {}
        while (message := client.message()) is not None:
            answers[message["id"]] = message
        self.assertEqual(answers[2]["error"]["code"], "cancelled")
        self.assertEqual(server.process.wait(), 0)
        self.assertEqual(server.runs(), 1)

    def test_past_the_drain_time_flights_are_ended(self):
        server = self.serve("--drain", "0.1", "--grace", "0.1")
        client = server.client().send({"line": "trap '' TERM; echo up; sleep 1000", "output": "stream"})
        client.message(), client.message(), client.bytes(3)
        server.process.send_signal(signal.SIGTERM)
        self.assertEqual(client.message()["event"], "exit")
        self.assertEqual(server.process.wait(), 0)

    def test_a_client_that_never_reads_does_not_keep_it(self):
        server = self.serve("--drain", "0.1", "--grace", "0.1")
        client = server.client().send({"argv": ["head", "-c", "5000000", "/dev/zero"]}).half_close()
        server.client().ask({"line": "echo up"})
        server.process.send_signal(signal.SIGTERM)
        self.assertEqual(server.process.wait(), 0)
        client.close()

    def test_a_second_signal_ends_flights_now(self):
        server = self.serve("--grace", "0.1")
        client = server.client().send({"line": "exec sleep 1000", "output": "stream"})
        client.message()
        server.process.send_signal(signal.SIGTERM)
        while os.path.exists(server.path):
            a_moment()
        server.process.send_signal(signal.SIGINT)
        self.assertEqual(client.message()["code"], "cancelled")
        self.assertEqual(server.process.wait(), 0)

    # Each started the time to end anew, and that to read the answers.
    def test_signals_without_end_do_not_put_it_off(self):
        server = self.serve("--drain", "0.1", "--grace", "2")
        client = server.client().send({"line": "trap '' TERM; echo up; sleep 1000", "output": "stream"})
        client.message(), client.message(), client.bytes(3)
        for _ in range(300):  # a minute: more than any machine needs
            server.process.send_signal(signal.SIGTERM)
            try:
                server.process.wait(0.2)
                break
            except subprocess.TimeoutExpired:
                pass
        self.assertEqual(server.process.returncode, 0)
        self.assertEqual(client.message()["event"], "exit")

    def test_killed_its_commands_die_with_it_and_the_next_server_starts(self):
        server = self.serve()
        fifo = server.fifo("never")
        client = server.client().send({"line": f"exec cat {fifo}", "output": "stream"})
        pid = client.message()["pid"]
        pidfd = os.pidfd_open(pid)
        server.process.kill()
        server.process.wait()
        self.assertIsNone(client_end(client))
        select.select([pidfd], [], [])  # readable: it is gone
        os.close(pidfd)
        again = self.serve(socket_path=server.path)
        self.assertEqual(again.client().ask({"line": "echo again"})["stdout"], "again\n")

    def test_requesters_of_a_killed_server_are_told(self):
        server = self.serve()
        fifo = server.fifo("never")
        asking = subprocess.Popen([COALESCE, "run", "--socket", server.path, "cat", fifo], stderr=subprocess.PIPE)
        while not server.status():
            a_moment()
        server.process.kill()
        server.process.wait()
        _, said = asking.communicate()
        self.assertEqual(asking.returncode, 125)
        self.assertIn(b"went away", said)

    def test_under_load(self):
        server = self.serve("-j4")
        clients = [server.client().send(*({"id": i, "line": f"echo {i % 7}; sleep 0.0{i % 3}"} for i in range(50))) for _ in range(8)]
        clients[0].message()
        server.process.send_signal(signal.SIGTERM)
        for client in clients:
            try:
                while (message := client.message()) is not None:
                    self.assertIn("id", message)
            except ConnectionResetError:
                pass
        self.assertEqual(server.process.wait(), 0)

    def test_killed_under_load(self):
        server = self.serve("-j8")
        pids = server.fifo("pids")
        heard = os.open(pids, os.O_RDWR)
        clients = [server.client() for _ in range(8)]
        for i, client in enumerate(clients):
            client.send({"id": "long", "line": f"echo $$ >{pids}; exec sleep 1000", "scope": str(i % 4)},
                        {"id": "loud", "line": f"echo $$ >{pids}; exec cat /dev/zero", "scope": str(i % 4), "output": "stream"},
                        *({"id": j, "line": f"echo {j}"} for j in range(20)))
        handles = []
        with os.fdopen(heard) as lines:
            for _ in range(8):
                handles.append(os.pidfd_open(int(lines.readline())))
        server.process.kill()
        server.process.wait()
        for handle in handles:
            select.select([handle], [], [])  # readable: it is gone
            os.close(handle)
        for client in clients:
            try:
                while client.fill():
                    client.input = b""
            except ConnectionResetError:
                pass
        again = self.serve(socket_path=server.path)
        self.assertEqual(again.client().ask({"line": "echo again"})["stdout"], "again\n")


def client_end(client):
    try:
        return client.line()
    except ConnectionResetError:
        return None


class Logs(ServerTest):
    def test_neither_environments_nor_input_are_logged(self):
        server = self.serve("--log-level", "debug")
        client = server.client()
        client.ask({"argv": ["true"], "env": {"PASSWORD": "hunter2"}, "stdin": "hunter3"})
        client.ask({"argv": ["true"], "env": ["PASSWORD=hunter2"], "stdin_base64": "aHVudGVyMw=="})
        client.ask(b'{"argv":["true"],"env":{"PASSWORD":"hunter2"},"nope":1}\n')
        log = server.logged()
        self.assertIn("true", log)
        self.assertNotIn("hunter", log)
        self.assertNotIn("aHVu", log)

    def test_s8_a_log_that_nobody_reads_stops_nothing_and_says_what_is_missing(self):
        with tempfile.TemporaryDirectory() as directory:
            pipe = directory + "/pipe"
            os.mkfifo(pipe)
            log = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)
            self.addCleanup(os.close, log)
            fcntl.fcntl(log, fcntl.F_SETPIPE_SZ, 8192)
            os.write(log, b"x" * 8192)
            server = self.serve(prefix=["sh", "-c", 'exec "$@" 2>"$0"', pipe])
            client = server.client()
            for i in range(5):
                self.assertEqual(client.ask({"line": f"echo {i}"})["stdout"], f"{i}\n")
            os.read(log, 8192)
            self.assertEqual(client.ask({"line": "echo now"})["stdout"], "now\n")
            missing, line = os.read(log, 8192).decode().splitlines()
            self.assertIn("warning 6 lines are missing here", missing)
            self.assertIn("echo now", line)
            os.write(log, b"x" * 8192)
            self.assertEqual(server.stop(), 0)

    def test_s10_what_strangers_can_cause_as_often_as_they_like_fills_no_log(self):
        server = self.serve()
        for _ in range(100):
            client = server.client().send(b"GET / HTTP/1.1\r\n")
            while client.line() is not None:
                pass
        self.assertEqual(server.logged().count("HTTP request"), 7)
        self.assertIn("(64 times so far)", server.logged())

    def test_levels(self):
        quiet = self.serve("--log-level", "warning")
        self.assertEqual(quiet.logged(), "")
        wrong = subprocess.run([COALESCE, "serve", "--log-level", "loud"], capture_output=True, check=False)
        self.assertEqual(wrong.returncode, 125)
        self.assertIn(b"--log-level", wrong.stderr)

    def test_in_the_journal_levels_are_prefixes(self):
        read, write = os.pipe()
        info = os.fstat(write)
        process = subprocess.Popen([COALESCE, "serve", "--socket", tempfile.mkdtemp() + "/s"], stderr=write,
                                   env={"JOURNAL_STREAM": f"{info.st_dev}:{info.st_ino}"})
        os.close(write)
        with os.fdopen(read) as log:
            self.assertTrue(log.readline().startswith("<6>listening on "))
            process.terminate()
            process.wait()


def settled_or_started(client, mode):
    if mode == "whole":
        return client.settled()
    assert client.message()["event"] == "started"
    return client


Client.settled_or_started = settled_or_started

if __name__ == "__main__":
    main()
