#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""At the limits (SPEC S9) and among users (S7, K3): a request gets an error, or
waits, and the server goes on."""

import json
import os
import resource
import signal
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import unittest

from harness import COALESCE, Client, ServerTest, a_moment, main, release

ROOT = os.geteuid() == 0
OTHER, THIRD = 54321, 54322


def server_status(client):
    """The flights, asked over a connection that is there already."""
    return client.ask({"op": "status"})["flights"]


class Limits(ServerTest):
    def test_max_requesters(self):
        server = self.serve("--max-requesters", "2")
        fifo = server.fifo("hold")
        client = server.client().send({"id": 1, "argv": ["cat", fifo]}, {"id": 2, "argv": ["cat", fifo]}).settled()
        self.assertEqual(client.ask({"id": 3, "argv": ["true"]})["error"]["code"], "too_many_requesters")
        release(fifo)
        self.assertEqual([client.message()["id"] for _ in range(2)], [1, 2])
        self.assertEqual(client.ask({"id": 4, "argv": ["true"]})["exit"], 0)

    def test_max_requesters_holds_for_those_who_forget_too(self):
        server = self.serve("--max-requesters", "1")
        fifo = server.fifo("hold")
        client = server.client().send({"id": 1, "argv": ["cat", fifo]}).settled()
        forget = {"id": 2, "op": "forget", "argv": ["true"]}
        self.assertEqual(client.ask(forget).get("error", {}).get("code"), "too_many_requesters")
        release(fifo)
        self.assertEqual(client.message()["id"], 1)
        self.assertEqual(client.ask(forget)["event"], "forgotten")

    def test_max_queue_refuses_new_keys_and_lets_duplicates_join(self):
        server = self.serve("-j1", "--max-queue", "1")
        fifo = server.fifo("hold")
        client = server.client().send({"id": 1, "argv": ["cat", fifo]}, {"id": 2, "argv": ["echo", "2"]}).settled()
        self.assertEqual(client.ask({"id": 3, "argv": ["echo", "3"]})["error"]["code"], "queue_full")
        client.send({"id": 4, "argv": ["echo", "2"]}, {"id": 5, "argv": ["cat", fifo]}).settled()
        release(fifo)
        self.assertEqual({client.message()["id"] for _ in range(4)}, {1, 2, 4, 5})

    def test_queued_flights_that_everybody_left_never_start(self):
        server = self.serve("-j1")
        fifo = server.fifo("hold")
        client = server.client().send({"id": 1, "argv": ["cat", fifo]}).settled()
        server.client().send({"line": f"echo x >>{server.file('runs')}"}).settled().close()
        while len(server.status()) > 1:
            a_moment()
        release(fifo)
        client.message()
        client.ask({"line": "true"})
        self.assertEqual(server.runs(), 0)

    def test_a_second_server_that_cannot_ask_leaves_the_first_its_socket(self):
        server = self.serve()
        for most in range(4, 40):
            few = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
            second = subprocess.run([COALESCE, "serve", "--socket", server.path], capture_output=True, check=False, preexec_fn=few)
            self.assertNotEqual(second.returncode, 0, most)
            self.assertNotIn(b"Bad file descriptor", second.stderr, most)
            self.assertEqual(server.client().ask({"line": "echo fine"})["stdout"], "fine\n", most)

    def test_a_limit_on_files_ends_one_request_only(self):
        small = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (102400, 102400))
        server = self.serve(preexec_fn=small)
        fifo = server.fifo("hold")
        other = server.client().send({"id": 1, "argv": ["cat", fifo]}).settled()
        answer = server.client().ask({"argv": ["head", "-c", "3000000", "/dev/zero"]})
        self.assertIn("File too large", json.dumps(answer))
        release(fifo)
        self.assertEqual(other.message()["exit"], 0)

    def test_no_descriptors_left(self):
        few = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
        server = self.serve(preexec_fn=few)
        gate = server.gate("hold")
        client = server.client()
        # Without a descriptor UBSan cannot look at what it has not seen yet.
        client.send(*({"line": "true"} for _ in range(3)))
        for _ in range(3):
            self.assertEqual(client.message()["exit"], 0)
        self.assertEqual(client.ask({"line": "true", "fresh": True})["exit"], 0)
        # As many run as there are descriptors for; the others wait for their end.
        client.send(*({"id": i, "line": gate.wait, "scope": str(i)} for i in range(20))).settled()
        waiting = [socket.socket(socket.AF_UNIX) for _ in range(30)]
        for connection in waiting:
            connection.connect(server.path)
        gate.let(20)
        ended = set()
        while len(ended) < 20:
            message = client.message()
            self.assertEqual(message.get("exit"), 0, message)
            ended.add(message["id"])
        for connection in waiting:
            connection.close()
        while server.try_stats().get("clients") != 2:
            a_moment()
        self.assertEqual(server.client().ask({"line": "echo fine"})["stdout"], "fine\n")

    def test_what_was_asked_for_while_no_descriptor_was_left_is_told_from_its_start(self):
        server = self.serve()
        first, fifo = server.client(), server.fifo("hold")
        for mode in ("stream", "fd", "whole"):  # without a descriptor UBSan can look at nothing that it has not seen
            first.send({"id": 0, "line": "echo x; true", "output": mode})
            while "exit" not in (message := first.message()):
                first.bytes(2 if message["event"] == "stdout" and mode == "stream" else 0)
        first.send({"id": 1, "argv": ["cat", fifo], "output": "none"}).settled()
        others = {mode: server.client().settled() for mode in ("stream", "fd", "whole")}
        before = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (3, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        for mode, client in others.items():
            client.send({"id": 2, "line": "echo out; exit 3", "output": mode}).settled()
        self.assertEqual([flight["state"] for flight in server_status(first)], ["running", "queued"])
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, before)
        release(fifo)
        for mode in ("stream", "fd"):
            client = others[mode]
            started, output = client.message(), client.message()
            self.assertEqual((started["event"], output["event"], output["bytes"]), ("started", "stdout", 4))
            self.assertGreater(started["pid"], 0)
            if mode == "stream":
                self.assertEqual(client.bytes(4), b"out\n")
            self.assertEqual(client.message()["exit"], 3)
        self.assertEqual(others["whole"].message()["stdout"], "out\n")

    def test_o1_f14_a_server_that_has_no_room_is_heard_by_who_asks_for_its_flights(self):
        few = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (30, 30))
        server = self.serve(preexec_fn=few)
        default = self.serve(preexec_fn=few, socket_path="")
        default.path = default.file("coalesce/server.sock")
        why = {}
        for one in (server, default):
            why[one] = [one.client() for _ in range(40)][-1].message()["error"]["message"]
        questions = ["status"], ["status", "--json"], ["stats"], ["stats", "--json"], ["cancel", "0"]
        for question in questions:
            # Named by the variable, or by the option; the last in the meeting place, where wrappers tell all the same.
            for told in (server.run(*question), default.run(question[0], "--socket", server.path, *question[1:])):
                with self.subTest(question=question):
                    self.assertEqual(told.stderr.decode(), f"coalesce: {why[server]}\n")
                    self.assertEqual((told.returncode, told.stdout), (125, b""))
            with self.subTest(question=question, server="in the meeting place"):
                told = subprocess.run([COALESCE, *question], env=default.env, capture_output=True, check=False)
                self.assertEqual(told.stderr.decode(), f"coalesce: {why[default]}\n")
                self.assertEqual(told.returncode, 125 if question[0] == "cancel" else 0)
                self.assertEqual(told.stdout == b"", question in (["cancel", "0"], ["status", "--json"]))

    def test_the_smallest_limit_serves_one_client_in_every_mode(self):
        few = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (30, 30))
        server = self.serve(preexec_fn=few)
        client = server.client().settled()
        requests = {"argv": ["cat"], "stdin": "x"}, {"argv": ["echo", "x"], "output": "fd"}, {"argv": ["true"]}
        for request in requests:  # without a descriptor UBSan can look at nothing that it has not seen
            answer = client.ask(request)
            while answer.get("event") in ("started", "stdout"):
                client.send(b"\n")
                answer = client.message()
            self.assertEqual(answer["exit"], 0)
        others = [Client(server.path) for _ in range(40)]
        for other in others:
            self.assertEqual(other.message()["error"]["code"], "too_many_files")
        for request in requests:
            answer = client.ask(request)
            while answer.get("event") in ("started", "stdout"):
                answer = client.message()
            self.assertEqual(answer["exit"], 0, answer)
        for other in others:
            other.close()

    @unittest.skipUnless(ROOT, "another user is needed")
    def test_no_processes_left(self):
        # As a user of its own, whose processes are counted.
        def become_other():
            os.setgid(OTHER)
            resource.setrlimit(resource.RLIMIT_NPROC, (6, 6))
            os.setuid(OTHER)

        parent = self.fresh_directory(0o777)
        program = shutil.copy(COALESCE, parent)  # where it was built others may not go
        server = self.serve(program=program, socket_path=parent + "/s", preexec_fn=become_other)
        gate = server.gate("hold")
        client = server.client()
        client.send(*({"id": i, "argv": gate.wait.split()[:4], "scope": str(i)} for i in range(12))).settled()
        states = sorted(f["state"] for f in server.status())
        self.assertEqual(len(states), 12)
        self.assertIn("queued", states)
        gate.let(12)
        ended = set()
        while len(ended) < 12:
            message = client.message()
            self.assertEqual(message["exit"], 0, message)
            ended.add(message["id"])

    def fresh_directory(self, mode):
        directory = tempfile.mkdtemp(prefix="coalesce-test-")
        os.chmod(directory, mode)
        self.addCleanup(shutil.rmtree, directory, ignore_errors=True)
        return directory

    @unittest.skipUnless(ROOT, "a file system of its own is needed")
    def test_no_space_for_the_output(self):
        mount = self.fresh_directory(0o700)
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", mount], check=False).returncode != 0:
            self.skipTest("mount is not allowed here")
        self.addCleanup(subprocess.run, ["umount", "-l", mount], check=True)
        server = self.serve("--spool-dir", mount)
        client = server.client()
        for mode in ("whole", "stream", "fd"):
            client.send({"id": mode, "argv": ["head", "-c", "8000000", "/dev/zero"], "output": mode})
            while True:
                message = client.message()
                if message.get("event") in ("stdout", "stderr"):
                    if mode == "fd":
                        client.send(b"\n")
                    else:
                        client.bytes(message["bytes"])
                elif message.get("event") != "started":
                    break
            self.assertEqual(message["exit"], 125, message)
            self.assertIn("No space left", json.dumps(message))
        for fd in client.fds:
            os.close(fd)
        client.fds.clear()
        for i in range(5):  # and all of it has been given back
            self.assertEqual(len(client.ask({"argv": ["head", "-c", "3000000", "/dev/zero"], "scope": str(i)})["stdout"]), 3000000)

    def serve_refused(self, call, how):
        """One to which the kernel refuses that call."""
        if shutil.which("strace") is None or subprocess.run(["strace", "-qq", "-o", "/dev/null", "true"], check=False).returncode != 0:
            self.skipTest("tracing is not allowed here")
        return self.serve(prefix=["strace", "-D", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={call}:{how}"],
                          env={"ASAN_OPTIONS": "detect_leaks=0"})  # leaks are not looked for under strace

    def test_f14_m29_a_guard_for_which_there_is_no_process_is_made_a_moment_later(self):
        server = self.serve_refused("clone", "error=EAGAIN:when=2..3")
        (first,) = server.children()
        os.kill(first, signal.SIGKILL)
        while server.children() in ([], [first]):
            self.assertIsNone(server.process.poll())
            a_moment()
        self.assertEqual(server.client().ask({"line": "echo well"})["stdout"], "well\n")

    def test_f14_a_descriptor_that_the_kernel_does_not_take_now_is_handed_over_later(self):
        for error in ("ETOOMANYREFS", "ENOBUFS", "ENOMEM"):
            with self.subTest(error):
                server = self.serve_refused("sendmsg", f"error={error}:when=1..3")
                gate, client = server.gate("gate"), server.client()
                client.send({"id": 1, "line": gate.wait}, {"id": 2, "line": "echo out", "output": "fd"})
                self.assertEqual([client.message().get("event") for _ in range(3)], ["started", "stdout", "exit"])
                self.assertEqual(os.pread(client.fds[0], 10, 0), b"out\n")
                gate.let()
                self.assertEqual((client.message()["exit"], client.ask({"op": "ping"})), (0, {"protocol": 1}))

    def test_no_memory_for_the_output(self):
        # The kernel says so when the server asks; a short output needs nothing.
        for call in ("memfd_create", "pwrite64"):
            with self.subTest(call):
                server = self.serve_refused(call, "error=ENOMEM")
                client = server.client()
                for mode in ("whole", "none"):
                    answer = client.ask({"argv": ["head", "-c", "8000000", "/dev/zero"], "output": mode})
                    self.assertEqual(answer["exit"], 125, answer)
                    self.assertIn("Cannot allocate memory", answer["error"]["message"])
                    self.assertEqual(client.ask({"line": "echo short"})["stdout"], "short\n")
                self.assertEqual(server.status(), [])


@unittest.skipUnless(ROOT, "other users are needed")
class Users(ServerTest):
    ASK = """
import socket, sys
s = socket.socket(socket.AF_UNIX)
try:
    s.connect(sys.argv[1])
except OSError as error:
    sys.exit(print(error.strerror))
try:
    s.sendall(sys.argv[2].encode() + b"\\n")
    s.shutdown(socket.SHUT_WR)
except OSError:
    pass  # it has had its answer already
sys.stdout.write(s.makefile().read())
"""

    # Asks in mode fd, does to the file that it is handed whatever it can, and says what that was.
    FORGE = """
import mmap, os, socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
s.sendall(sys.argv[2].encode() + b"\\n")
fds = []
while not fds:
    fds = socket.recv_fds(s, 65536, 1)[1]
path = f"/proc/self/fd/{fds[0]}"

def attempt(what, *arguments):
    try:
        return what(*arguments)
    except (OSError, ValueError):
        return None

opened = [fd for fd in (attempt(os.open, path, flags) for flags in (os.O_RDWR, os.O_WRONLY, os.O_RDWR | os.O_TRUNC)) if fd is not None]
if os.geteuid() != 0:  # who is root needs no leave
    attempt(os.chmod, path, 0o666)
    opened += [fd for fd in (attempt(os.open, path, os.O_RDWR),) if fd is not None]
    print("opened", len(opened))
for fd in [*fds, *opened]:
    for size in (0, 7):
        if attempt(os.ftruncate, fd, size) is None and os.fstat(fd).st_size <= 7:
            print("truncated")
    if os.geteuid() != 0:
        if attempt(os.pwrite, fd, b"forged", 0) is not None or attempt(mmap.mmap, fd, 7) is not None:
            print("written")
print("tried", flush=True)
while s.recv(65536):
    pass
"""

    def start_as(self, uid, server, request, text=None):
        script = server.file("ask.py" if text is None else "forge.py")
        with open(script, "w") as file:
            file.write(text or self.ASK)
        return subprocess.Popen(["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", os.path.realpath(sys.executable),
                                 "-I", script, server.path, request], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def as_user(self, uid, server, request):
        asking = self.start_as(uid, server, request)
        return asking.communicate()[0]

    def setUp(self):
        probe = subprocess.run(["setpriv", f"--reuid={OTHER}", f"--regid={OTHER}", "--clear-groups", os.path.realpath(sys.executable), "-c", ""],
                               check=False, capture_output=True)
        if probe.returncode != 0:
            self.skipTest("this python is not for other users")

    def test_the_socket_is_for_the_owner_alone(self):
        server = self.serve()
        self.assertEqual(stat.S_IMODE(os.stat(server.path).st_mode), 0o600)
        self.assertEqual(self.as_user(OTHER, server, '{"op":"ping"}'), "Permission denied\n")

    def test_a_foreign_user_is_refused_even_if_the_file_would_let_it(self):
        server = self.serve()
        os.chmod(server.path, 0o666)
        self.assertIn('"code":"not_allowed"', self.as_user(OTHER, server, '{"op":"ping"}'))
        self.assertIn(f"uid {OTHER}", server.logged())

    def test_an_allowed_user_is_served_and_no_other(self):
        server = self.serve("--allow-user", str(OTHER))
        self.assertIn('"stdout":"hi\\n"', self.as_user(OTHER, server, "echo hi"))
        self.assertIn('"code":"not_allowed"', self.as_user(THIRD, server, "echo hi"))

    def test_k3_a_file_that_was_handed_over_cannot_be_changed_for_those_who_read_it_too(self):
        server = self.serve("--allow-user", str(OTHER))
        for uid in (OTHER, 0):
            gate = server.gate(f"gate{uid}")
            line = f"yes | head -c 3000000; {gate.wait}; echo end"
            forger = self.start_as(uid, server, json.dumps({"line": line, "output": "fd"}), self.FORGE)
            self.assertEqual(forger.stdout.readline(), "opened 0\n" if uid != 0 else "tried\n")
            if uid != 0:
                self.assertEqual(forger.stdout.readline(), "tried\n")
            reader = self.start_as(uid, server, json.dumps({"line": line}))
            while not any(flight["requesters"] == 2 for flight in server.status()):
                a_moment()
            gate.let()
            answer = json.loads(reader.communicate()[0])
            self.assertTrue(answer["stdout"] == "y\n" * 1500000 + "end\n", len(answer["stdout"]))
            forger.kill()
            forger.communicate()

    def test_users_never_share_and_see_nothing_of_each_other(self):
        server = self.serve("--allow-user", str(OTHER), "--allow-user", str(THIRD))
        gate = server.gate("hold")
        line = f"echo x >>{server.file('runs')}; {gate.wait}"
        askers = [self.start_as(uid, server, line) for uid in (0, OTHER, THIRD)]
        while len(flights := server.status()) < 3:
            a_moment()
        self.assertEqual(len({f["id"] for f in flights}), 3)
        for uid in (OTHER, THIRD):
            self.assertEqual(self.as_user(uid, server, '{"op":"status"}').count('"id"'), 1)
            refused = [self.as_user(uid, server, '{"op":"cancel","flight":"%s"}' % f["id"]) for f in flights]
            self.assertEqual(sum("no_such_flight" in r for r in refused), 2)
        gate.let(3)
        for asker in askers:
            asker.communicate()
        self.assertEqual(server.runs(), 3)

    # Whoever asks is part of the key (T16, K3): what is kept, refreshed and forgotten is everybody's own.
    def test_t16_users_never_share_what_is_kept(self):
        server = self.serve("--allow-user", str(OTHER), "--allow-user", str(THIRD))
        users = (OTHER, THIRD, 0)
        request = {"line": f"echo x >>{server.file('runs')}; wc -l <{server.file('runs')}", "cwd": "/"}

        def ask(uid, **wish):
            return json.loads(self.as_user(uid, server, json.dumps({**request, **(wish or {"ttl": 3600})})))

        for number, uid in enumerate(users, 1):
            answer = ask(uid)
            self.assertEqual((answer["stdout"], "kept" in answer), (f"{number}\n", False), uid)
        for number, uid in enumerate(users, 1):
            for wish in ({"ttl": 3600}, {"max_age": 3600}):
                answer = ask(uid, **wish)
                self.assertEqual((answer["stdout"], "kept" in answer), (f"{number}\n", True), (uid, wish))
        self.assertEqual(server.runs(), 3)
        # A refresh is for who was served what was stale.
        self.assertEqual(ask(OTHER, ttl=3600, stale=0.000001)["stdout"], "1\n")
        while ask(OTHER)["stdout"] == "1\n":
            a_moment()
        self.assertEqual([ask(uid)["stdout"] for uid in users], ["4\n", "2\n", "3\n"])
        # One forgets what is his.
        forget = json.dumps({"op": "forget", **request})
        self.assertIn('"forgotten"', self.as_user(THIRD, server, forget))
        self.assertEqual([ask(uid)["stdout"] for uid in users], ["4\n", "5\n", "3\n"])
        self.assertIn("not_allowed", self.as_user(THIRD + 1, server, json.dumps({**request, "ttl": 3600})))
        self.assertIn("not_allowed", self.as_user(THIRD + 1, server, forget))
        self.assertEqual([ask(uid)["stdout"] for uid in users], ["4\n", "5\n", "3\n"])
        # The store is the server's: nobody else reads what lies there.
        store = server.file(".cache/coalesce")
        places = [store, *(os.path.join(store, name) for name in os.listdir(store))]
        self.assertEqual({(os.stat(place).st_uid, stat.S_IMODE(os.stat(place).st_mode)) for place in places}, {(0, 0o700)})


if __name__ == "__main__":
    main()
