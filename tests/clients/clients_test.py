#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The clients of `coalesce serve`, each held to the same promises against the real server.

A client runs in a process of its own, its driver, which does line by line what a test says
and tells what comes of it. So a promise is written once, however many languages keep it.
A request has arrived when the server's status counts it; nothing here sleeps.

usage: clients_test.py asyncio|blocking|node|cpp [TEST…]
"""

import base64
import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys

SOURCE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")
sys.path.insert(0, os.path.join(SOURCE, "tests/server"))
from harness import COALESCE, NOT_TRIED, Server, ServerTest, a_moment, main, release, state_of  # noqa: E402

MIB = 1 << 20
LANGUAGE = sys.argv.pop(1)
PYTHON = {"PYTHONPATH": os.path.join(SOURCE, "lib/clients/python"), "PYTHONDONTWRITEBYTECODE": "1"}
DRIVERS = {
    "asyncio": ([sys.executable, "-X", "dev", "-W", "error", SOURCE + "/tests/clients/driver.py", "asyncio"], PYTHON),
    "blocking": ([sys.executable, "-X", "dev", "-W", "error", SOURCE + "/tests/clients/driver.py", "blocking"], PYTHON),
    "node": (["node", SOURCE + "/tests/clients/driver.mjs"], {}),
    "cpp": ([os.environ.get("CLIENT_DRIVER", "")], {}),
}


def text(told, stream="stdout"):
    assert stream in told, told
    return base64.b64decode(told[stream])


class Driver:
    """A client's process."""

    def __init__(self, test, path, cwd, env):
        command, more = DRIVERS[LANGUAGE]
        self.process = subprocess.Popen([*command, *([path] if path else [])], cwd=cwd, env={**env, **more}, stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)
        self.test = test
        self.told_early = []
        test.addCleanup(self.end)

    def do(self, what, name, **more):
        self.process.stdin.write(json.dumps({"do": what, "name": name, **more}) + "\n")
        self.process.stdin.flush()

    def run(self, name, command, times=1, **options):
        if "input" in options:
            options["input"] = base64.b64encode(options["input"]).decode()
        self.do("run", name, command=command, times=times, options=options)

    def told(self, name):
        """The next that is told of that name."""
        for told in self.told_early:
            if told["name"] == name:
                self.told_early.remove(told)
                return told
        while line := self.process.stdout.readline():
            told = json.loads(line)
            if told["name"] == name:
                return told
            self.told_early.append(told)
        raise AssertionError("the client ended")

    def done(self, name, command, **options):
        self.run(name, command, **options)
        return self.told(name)

    def resident(self):
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as status:
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmRSS"))

    def end(self):
        self.process.stdin.close()
        self.process.stdout.read()
        self.process.stdout.close()
        self.test.assertEqual(self.process.wait(), 0)


EXAMPLES = {"asyncio": ("python", [sys.executable, "-"]), "node": ("js", ["node", "--input-type=module"])}


class ClientTest(ServerTest):
    def driver(self, server, path=None, **env):
        return Driver(self, server.path if path is None else path, server.directory, {**server.env, **env})

    @contextlib.contextmanager
    def no_coalesce(self, name):
        """A socket on which the test answers, and a client of it."""
        path = os.path.join(self.serve().directory, name)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen()
            yield listener, Driver(self, path, "/", dict(os.environ))

    def await_requesters(self, server, count):
        while sum(flight["requesters"] for flight in server.status()) != count:
            a_moment()


class Promises(ClientTest):
    def test_two_hundred_requests_for_one_slow_command_are_one_run_on_one_connection(self):
        server = self.serve()
        gate = server.gate("gate")
        client = self.driver(server)
        client.run("log", ["sh", "-c", f"echo run >>runs; {gate.wait}; echo history; echo warning >&2; exit 3"], times=200)
        self.await_requesters(server, 200)
        while server.stats()["clients"] != 2:  # and who asks this
            a_moment()
        gate.let()
        told = [client.told("log") for _ in range(200)]
        self.assertEqual({(text(one), text(one, "stderr"), one["returncode"], one["requesters"]) for one in told},
                         {(b"history\n", b"warning\n", 3, 200)})
        self.assertEqual([one["joined"] for one in told].count(False), 1)
        self.assertEqual(server.runs(), 1)

    def test_a_stream_that_is_dropped_leaves(self):
        server = self.serve()
        alive = server.fifo("alive")
        client = self.driver(server)
        for options in {}, {"ttl": 3600}:  # what is to be kept ends, too
            client.do("stream", "s", command=["sh", "-c", "echo begun; exec sleep 1000 >alive"], options=options)
            client.do("take", "s", bytes=6)
            self.assertEqual(client.told("s")["taken"], 6)
            with open(alive) as held_by_command:
                client.do("drop", "s")
                self.assertEqual(held_by_command.read(), "")
            self.assertTrue(client.told("s")["dropped"])

    def test_a_client_that_is_closed_leaves_what_is_to_be_kept(self):
        server = self.serve()
        alive = server.fifo("alive")
        client = self.driver(server)
        client.run("held", ["sh", "-c", "exec sleep 1000 >alive"], ttl=3600)
        with open(alive) as held_by_command:
            client.do("close", "")
            self.assertEqual(held_by_command.read(), "")

    def test_output_comes_while_the_command_runs_and_both_streams_are_told_apart(self):
        server = self.serve()
        gate = server.gate("gate")
        client = self.driver(server)
        client.do("stream", "s", command=["sh", "-c", f"printf out; {gate.wait}; printf err >&2; exit 4"])
        client.do("take", "s", bytes=3)
        self.assertEqual(client.told("s")["streams"], ["stdout"])
        client.do("take", "s", bytes=None)
        gate.let()
        told = client.told("s")
        self.assertEqual((told["streams"], told["taken"], told["returncode"]), (["stderr", "stdout"], 6, 4))

    def test_64_mib_streamed_to_a_slow_reader_stay_out_of_its_memory_and_hold_up_nobody(self):
        server = self.serve()
        data = os.urandom(MIB) * 64
        with open(server.file("data"), "wb") as file:
            file.write(data)
        client = self.driver(server)
        self.assertEqual(text(client.done("before", ["echo", "before"])), b"before\n")
        before = client.resident()
        client.do("stream", "s", command=["sh", "-c", "cat data; echo run >>runs"])
        client.do("take", "s", bytes=1)
        self.assertLess(client.told("s")["taken"], MIB)
        while server.runs() == 0:  # the command does not wait for the reader
            a_moment()
        for i in range(50):  # a client that read on would have read it by now
            self.assertEqual(text(client.done("meanwhile", ["echo", str(i)])), b"%d\n" % i)
        self.assertLess(client.resident() - before, 16 * MIB)
        client.do("take", "s", bytes=1)
        self.assertLess(client.told("s")["taken"], MIB)  # nor has it been handed what it did not ask for
        client.do("take", "s", bytes=None)
        told = client.told("s")
        self.assertEqual((told["taken"], told["sha256"], told["returncode"]), (len(data), hashlib.sha256(data).hexdigest(), 0))

    def test_large_answers_come_whole(self):
        server = self.serve()
        data = os.urandom(MIB) * 32
        with open(server.file("data"), "wb") as file:
            file.write(data)
        client = self.driver(server)
        client.run("large", ["cat", "data"], times=2)
        for _ in range(2):
            told = client.told("large")
            self.assertEqual((told["bytes"], told["sha256"]), (len(data), hashlib.sha256(data).hexdigest()))

    def test_any_bytes_go_in_and_come_out(self):
        server = self.serve()
        client = self.driver(server)
        given = bytes(range(256)) * 4096
        self.assertEqual(text(client.done("in", ["cat"], input=given)), given)
        self.assertEqual(text(client.done("none", ["cat"])), b"")
        if LANGUAGE != "cpp":  # as the protocol calls it
            self.assertEqual(text(client.done("named", ["cat"], stdin="text")), b"text")
        self.assertEqual(text(client.done("line", "cat; echo \"$0\" | wc -l", shell=True, input=b"\0\xff")), b"\0\xff1\n")

    def test_a_command_runs_where_and_with_what_its_client_has(self):
        server = self.serve()
        os.mkdir(server.file("elsewhere"))
        client = self.driver(server, X="of the client")
        say = ["sh", "-c", "pwd; echo $X"]
        self.assertEqual(text(client.done("own", say)), server.directory.encode() + b"\nof the client\n")
        told = client.done("told", say, cwd="elsewhere", env={"X": "another"})
        self.assertEqual(text(told), server.file("elsewhere").encode() + b"\nanother\n")

    def test_it_shares_runs_with_the_program(self):
        server = self.serve()
        gate = server.gate("gate")
        command = ["sh", "-c", f"echo run >>runs; {gate.wait}; echo shared"]
        env = {**server.env, "COALESCE_SOCKET": server.path}
        with subprocess.Popen([COALESCE, "run", *command], cwd=server.directory, env=env, stdout=subprocess.PIPE) as wrapper:
            self.await_requesters(server, 1)
            client = self.driver(server)
            client.run("joiner", command, env=env)
            self.await_requesters(server, 2)
            gate.let()
            told = client.told("joiner")
            self.assertEqual((text(told), told["joined"]), (b"shared\n", True))
            self.assertEqual(wrapper.stdout.read(), b"shared\n")
        self.assertEqual(server.runs(), 1)

    def test_how_a_command_ended_is_told(self):
        server = self.serve()
        client = self.driver(server)
        told = client.done("killed", ["sh", "-c", "echo before; kill -9 $$"])
        self.assertEqual((told["returncode"], told["signal"], text(told)), (-9, 9, b"before\n"))
        told = client.done("missing", ["/no/such"])
        self.assertEqual((told["error"], told["result"]["returncode"]), ("not_started", 127))
        self.assertIn("/no/such", told["message"])
        for seconds in (0.5, 5, 50):  # until the command gets so far
            told = client.done("late", ["sh", "-c", "echo before; exec sleep 1000"], timeout=seconds)
            self.assertEqual((told["error"], told["result"]["returncode"]), ("timed_out", 124))
            if text(told["result"]):
                break
        self.assertEqual(text(told["result"]), b"before\n")
        told = client.done("impatient", ["sleep", "1000"], wait=0.1)
        self.assertEqual((told["error"], told["result"]), ("gave_up", None))

    def test_T27_what_had_been_kept_answers_and_is_told(self):
        server = self.serve()
        client = self.driver(server)
        command = ["sh", "-c", "echo run >>runs; echo out; echo err >&2"]
        self.assertIsNone(client.done("first", command, ttl=3600)["kept"])
        told = client.done("hit", command, ttl=3600)
        self.assertEqual((text(told), text(told, "stderr"), told["returncode"], told["joined"]), (b"out\n", b"err\n", 0, False))
        self.assertEqual(sorted(told["kept"]), ["age", "left", "refreshing"])
        self.assertFalse(told["kept"]["refreshing"])
        self.assertTrue(told["kept"]["age"] > 0 and 0 < told["kept"]["left"] <= 3600)
        client.do("stream", "s", command=command, options={"ttl": 3600})
        client.do("take", "s", bytes=None)
        told = client.told("s")
        self.assertEqual((told["taken"], told["streams"]), (8, ["stderr", "stdout"]))
        self.assertLessEqual(told["kept"]["left"], 3600)
        self.assertEqual(server.runs(), 1)
        self.assertIsNone(client.done("another's", command)["kept"])  # who does not ask is served nothing
        self.assertIsNone(client.done("young", command, ttl=3600, max_age=0.000001)["kept"])
        self.assertEqual(server.runs(), 3)
        while not client.done("stale", command, ttl=3600, stale=0.000001)["kept"]["refreshing"]:
            a_moment()  # it is not a millisecond old yet
        while server.runs() < 4:
            a_moment()

    def test_T27_failures_and_what_is_only_to_be_made(self):
        server = self.serve()
        client = self.driver(server)
        failing = ["sh", "-c", "echo run >>runs; exit 3"]
        for _ in range(2):
            self.assertEqual(client.done("failure", failing, ttl=3600, keep_failures=3600)["returncode"], 3)
        self.assertEqual(server.runs(), 1)
        told = client.done("warm", ["sh", "-c", "echo run >>runs; echo out"], ttl=3600, warm=True)
        self.assertEqual((told["returncode"], text(told)), (0, b""))
        while server.runs() < 2:
            a_moment()
        told = client.done("wrong", ["true"], ttl=5, stale=5)
        self.assertEqual((told["error"], '"stale"' in told["message"]), ("bad_request", True))

    def test_T21_T27_what_is_forgotten_runs_again(self):
        server = self.serve()
        client = self.driver(server)
        command = ["sh", "-c", "echo run >>runs"]
        client.done("first", command, ttl=3600, scope="one")
        client.done("other", command, ttl=3600, scope="two")
        client.do("forget", "gone", command=command, options={"scope": "one"})
        self.assertTrue(client.told("gone")["forgotten"])
        client.done("other", command, ttl=3600, scope="two")
        self.assertEqual(server.runs(), 2)
        client.done("again", command, ttl=3600, scope="one")
        self.assertEqual(server.runs(), 3)
        # Nor is one kept that is under way meanwhile.
        gate = server.gate("gate")
        held = ["sh", "-c", f"echo run >>runs; {gate.wait}"]
        client.run("held", held, ttl=3600)
        while server.runs() < 4:
            a_moment()
        client.do("forget", "held too", command=held)
        self.assertTrue(client.told("held too")["forgotten"])
        gate.let(2)
        self.assertIsNone(client.told("held")["kept"])
        self.assertIsNone(client.done("held", held, ttl=3600)["kept"])
        self.assertEqual(server.runs(), 5)
        client.do("forget", "wrong", command=command, options={"ttl": 5})
        told = client.told("wrong")
        self.assertEqual((told["error"], '"ttl"' in told["message"]), ("bad_request", True))

    def test_a_wrong_request_is_told_with_its_field(self):
        server = self.serve()
        client = self.driver(server)
        if LANGUAGE != "cpp":  # whose compiler knows the fields
            told = client.done("unknown", ["true"], nice=5)
            self.assertEqual((told["error"], told["message"]), ("unknown_field", 'unknown field "nice"'))
        told = client.done("wrong", ["true"], umask=512)
        self.assertEqual(told["error"], "bad_request")
        self.assertIn('"umask"', told["message"])
        gate = server.gate("gate")
        client.run("held", ["sh", "-c", f"{gate.wait}; echo held"])
        told = client.done("long", ["cat"], input=bytes(7 * MIB))
        self.assertEqual(told["error"], "too_long")
        self.assertEqual(text(client.done("good", ["echo", "good"])), b"good\n")  # nothing else was lost with it
        gate.let()
        self.assertEqual(text(client.told("held")), b"held\n")

    def test_a_request_that_is_no_json_is_told_to_who_made_it_and_to_nobody_else(self):
        if LANGUAGE == "cpp":  # in which what is no text goes as base64
            return
        server = self.serve()
        gate = server.gate("gate")
        client = self.driver(server)
        client.run("held", ["sh", "-c", f"{gate.wait}; echo held"])
        self.await_requesters(server, 1)
        half = {"class": "\ud83d", "id": 77}  # of a pair; and a number that is not theirs to choose
        self.assertEqual(client.done("half", ["true"], **half)["error"], "bad_json")
        gate.let()
        self.assertEqual(text(client.told("held")), b"held\n")

    def test_without_a_directory_of_its_own_only_who_names_one_runs(self):
        server = self.serve()
        os.mkdir(server.file("gone"))
        client = Driver(self, server.path, server.file("gone"), server.env)
        self.assertEqual(client.done("before", ["true"])["returncode"], 0)
        os.rmdir(server.file("gone"))
        command = ["sh", "-c", "echo run >>runs"]
        for options in {}, {"cwd": "."}:
            told = client.done("nowhere", command, **options)
            self.assertIn("error", told)
            if LANGUAGE == "cpp":
                self.assertEqual((told["error"], told["message"]), ("system_error", "read the current directory: No such file or directory"))
                client.do("stream", "stream", command=command, options=options)
                self.assertEqual(client.told("stream"), {**told, "name": "stream"})
        self.assertEqual(server.runs(), 0)
        self.assertEqual(client.done("somewhere", command, cwd=server.directory)["returncode"], 0)
        self.assertEqual(server.runs(), 1)

    def test_what_a_server_took_with_it_is_told_and_not_run_again(self):
        server = self.serve()
        gate = server.gate("gate")
        client = self.driver(server)
        client.run("lost", ["sh", "-c", f"echo run >>runs; {gate.wait}"], times=3)
        self.await_requesters(server, 3)
        client.do("stream", "stream", command=["sh", "-c", f"echo begun; {gate.wait}"])
        client.do("take", "stream", bytes=6)
        client.told("stream")
        client.do("take", "stream", bytes=None)
        while server.runs() == 0:
            a_moment()
        server.stop(signal.SIGKILL)
        self.assertEqual({client.told("lost")["error"] for _ in range(3)}, {"disconnected"})
        self.assertEqual(client.told("stream")["error"], "disconnected")
        another = Server(self, socket_path=server.path)
        self.assertEqual(text(client.done("next", ["echo", "next"])), b"next\n")
        self.assertEqual((server.runs(), another.stats()["runs"]), (1, 1))

    def test_a_server_that_was_restarted_between_two_requests_is_found(self):
        server = self.serve()
        client = self.driver(server)
        self.assertEqual(text(client.done("first", ["echo", "first"])), b"first\n")
        for i in range(10):
            # Busy with something else, so that the end of its connection is news to it when it asks.
            client.do("run", "again", command=["echo", str(i)], hold=server.fifo("hold"))
            server.stop()
            busy = server.file("hold")
            server = Server(self, socket_path=server.path)
            release(busy)
            self.assertEqual(text(client.told("again")), b"%d\n" % i)

    def test_a_server_that_is_ending_answers_whom_it_has_and_another_takes_the_next(self):
        server = self.serve()
        gate = server.gate("gate")
        client = self.driver(server)
        client.run("held", ["sh", "-c", f"{gate.wait}; echo held"])
        self.await_requesters(server, 1)
        server.process.terminate()
        while os.path.exists(server.path):
            a_moment()
        self.assertEqual(client.done("refused", ["echo", "refused"])["error"], "shutting_down")
        another = Server(self, socket_path=server.path)
        self.assertEqual(text(client.done("next", ["echo", "next"])), b"next\n")
        self.assertEqual(another.stats()["runs"], 1)
        gate.let()
        self.assertEqual(text(client.told("held")), b"held\n")
        self.assertEqual(server.process.wait(), 0)

    def test_no_server_is_told_with_its_path(self):
        server = self.serve()
        client = self.driver(server, server.file("nobody"))
        for _ in range(2):
            self.assertIn(server.file("nobody"), client.done("none", ["true"])["message"])

    def test_who_may_not_ask_is_told_why(self):
        with self.no_coalesce("refusing") as (listener, client):
            client.run("refused", ["true"])
            with listener.accept()[0] as connection:
                connection.recv(1)
                connection.sendall(b'{"error":{"code":"not_allowed","message":"this user is not served"}}\n')
                told = client.told("refused")
        self.assertEqual((told["error"], told["message"]), ("not_allowed", "this user is not served"))

    def test_who_does_not_speak_the_protocol_is_told(self):
        with self.no_coalesce("another") as (listener, client):
            for said in ("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n", "\n", "[1]\n", "5\n", "null\n", '"text"\n',
                         '{"id":1,"event":"exit"}\n', '{"id":1,"event":"exit","duration":1}\n', '{"id":1,"event":"stdout"}\n',
                         '{"id":1,"error":{}}\n', '{"error":{}}\n'):
                client.run("asks", ["true"])
                with listener.accept()[0] as connection:
                    connection.recv(1)
                    connection.sendall(said.encode())
                    told = client.told("asks")
                self.assertEqual((told.get("error"), told.get("message")), ("disconnected", "the server went away without an answer: it does not speak coalesce-protocol(7)"), said)

    def test_any_way_that_a_server_sends_is_understood(self):
        with self.no_coalesce("piecemeal") as (listener, client):
            client.run("a", ["true"])
            client.run("b", ["true"])
            with listener.accept()[0] as connection:
                requests = connection.makefile("rb")
                numbers = [json.loads(requests.readline())["id"] for _ in range(2)]
                end = ',"event":"exit","exit":0,"joined":false,"requesters":1,"duration":0.5,"later":{"servers":["add"]}}\n'
                sent = "".join(f'{{"id":{number},"event":"news","of":"later servers"}}\n{{"id":{number},"event":"stdout","bytes":4}}\n{{\n}}'
                               f'\n{{"id":{number},"event":"stderr","bytes":2}}\n{number:2}' for number in numbers)
                sent += "".join(f'{{"id":{number}{end}' for number in reversed(numbers)) + '{"id":99' + end
                long_message = f'{{"id":{numbers[0]},"error":{{"code":"gave_up","message":"{"x" * (3 << 20)}"}}}}\n'
                for i in range(len(sent)):
                    connection.sendall(sent[i : i + 1].encode())
                for name, number in zip("ab", numbers):
                    told = client.told(name)
                    self.assertEqual((text(told), text(told, "stderr")), (b"{\n}\n", b"%2d" % number))
                client.run("a", ["true"])
                number = json.loads(requests.readline())["id"]
                connection.sendall(long_message.replace(f'"id":{numbers[0]}', f'"id":{number}').encode())
                self.assertEqual(len(client.told("a")["message"]), 3 << 20)

    def test_a_server_on_a_long_path_is_reached(self):
        deep = "/".join(["x" * 60] * 3)
        server = self.serve()
        os.makedirs(server.file(deep))
        served = Server(self, socket_path=server.file(deep) + "/socket")
        client = self.driver(served)
        self.assertEqual(text(client.done("far", ["echo", "far"])), b"far\n")
        nobody = self.driver(served, server.file(deep) + "/nobody")
        self.assertIn("nobody", nobody.done("none", ["true"])["message"])

    def test_a_server_is_looked_for_where_the_program_does(self):
        server = self.serve(socket_path="")
        for env in ({}, {"COALESCE_PLACE": server.file("coalesce")}, {"COALESCE_SOCKET": server.file("coalesce/server.sock"), "COALESCE_PLACE": "/nowhere"}):
            client = self.driver(server, "", **env)
            self.assertEqual(text(client.done("found", ["echo", "found"])), b"found\n", env)

    def test_R9_a_runtime_directory_that_is_anothers_or_not_there_is_passed_over(self):
        server = self.serve()
        theirs = "/usr"  # root's, if we are not root
        if os.geteuid() == 0:
            theirs = server.file("theirs")
            os.makedirs(theirs + "/coalesce")
            os.chown(theirs, 65534, 65534)
            with socket.socket(socket.AF_UNIX) as nobody_listens:
                nobody_listens.bind(theirs + "/coalesce/server.sock")
        for runtime in theirs, server.file("missing"):
            told = self.driver(server, "", XDG_RUNTIME_DIR=runtime).done("run", ["true"])
            self.assertNotIn(runtime, told.get("message", ""))  # if another server answers, that is none of ours

    def test_closing_tells_who_waits(self):
        server = self.serve()
        gate = server.gate("gate")
        client = self.driver(server)
        client.run("held", ["sh", "-c", gate.wait], times=2)
        self.await_requesters(server, 2)
        client.do("close", "")
        word = "operation_canceled" if LANGUAGE == "cpp" else "disconnected"  # as of every ticket whose group is gone
        self.assertEqual({client.told("held")["error"] for _ in range(2)}, {word})
        self.await_requesters(server, 0)


if LANGUAGE in EXAMPLES:

    class Example(ClientTest):
        def test_the_readmes_program_does_what_it_says(self):
            language, command = EXAMPLES[LANGUAGE]
            with open(SOURCE + "/README.md", encoding="utf-8") as readme:
                [program] = re.findall(rf"^```{language}\n(.*?)^```$", readme.read(), re.M | re.S)
            server = self.serve()
            gate = server.gate("gate")
            os.mkdir(server.file("bin"))
            with open(server.file("bin/git"), "w", encoding="ascii") as git:
                git.write(f"#!/bin/sh\necho run >>runs; {gate.wait}\n")
            os.chmod(server.file("bin/git"), 0o755)
            os.makedirs(server.file("node_modules/coalesce"))
            shutil.copy(SOURCE + "/lib/clients/node/coalesce.mjs", server.file("node_modules/coalesce/index.mjs"))
            with open(server.file("node_modules/coalesce/package.json"), "w", encoding="ascii") as package:
                json.dump({"exports": "./index.mjs"}, package)
            env = {**server.env, **PYTHON, "COALESCE_SOCKET": server.path, "PATH": server.file("bin") + ":" + server.env["PATH"]}
            with subprocess.Popen(command, cwd=server.directory, env=env, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as visitors:
                visitors.stdin.write(program)
                visitors.stdin.close()
                self.await_requesters(server, 200)
                gate.let()
                self.assertEqual(visitors.stdout.read(), "200 answers, 1 run\n")
            self.assertEqual(server.runs(), 1)


if LANGUAGE == "node":

    class Names(ClientTest):
        def test_whatever_the_reason_who_aborts_gets_no_result(self):
            server = self.serve()
            gate = server.gate("gate")
            client = self.driver(server)
            for reason in None, 0, "", "why":
                client.do("stream", "s", command=["sh", "-c", gate.wait])
                self.await_requesters(server, 1)
                client.do("abort", "s", reason=reason)
                self.assertEqual(client.told("s"), {"name": "s", "rejected": True, "reason": reason})
                self.await_requesters(server, 0)

        def test_a_signal_has_the_name_that_child_process_gives_it(self):
            client = self.driver(self.serve())
            for name in "SIGABRT", "SIGIO", "SIGKILL":  # the first two have another, too
                number = signal.Signals[name].value
                self.assertEqual(client.done("killed", ["sh", "-c", f"ulimit -c 0; kill -{number} $$"])["signal_name"], name)


if LANGUAGE == "blocking":

    class Blocking(ClientTest):
        def test_what_interrupts_a_blocking_call_leaves(self):
            server = self.serve()
            gate = server.gate("gate")
            client = self.driver(server)
            client.do("run here", "held", command=["sh", "-c", gate.wait])
            self.await_requesters(server, 1)
            client.process.send_signal(signal.SIGINT)
            self.assertTrue(client.told("held")["cancelled"])
            self.await_requesters(server, 0)
            self.assertEqual(text(client.done("next", ["echo", "next"])), b"next\n")

        def test_F3_of_a_stream_nothing_is_lost_by_an_interruption(self):
            server = self.serve()
            gate = server.gate("gate")
            client = self.driver(server)
            client.do("stream", "s", command=["sh", "-c", f"echo one; {gate.wait}; echo two"])
            client.do("take", "s", bytes=4)
            self.assertEqual(client.told("s")["taken"], 4)
            client.do("take here", "s")
            self.assertTrue(client.told("s")["begun"])
            while state_of(client.process.pid) != "S":
                a_moment()
            client.process.send_signal(signal.SIGINT)
            self.assertTrue(client.told("s")["interrupted"])
            gate.let()
            client.do("take", "s", bytes=None)
            told = client.told("s")
            self.assertEqual((told["taken"], told["returncode"]), (8, 0))

else:

    class Cancelled(ClientTest):
        def test_who_is_cancelled_leaves_the_others_their_run(self):
            server = self.serve()
            gate = server.gate("gate")
            client = self.driver(server)
            command = ["sh", "-c", f"echo run >>runs; {gate.wait}; echo result"]
            client.run("first", command)
            self.await_requesters(server, 1)
            client.run("others", command, times=2)
            self.await_requesters(server, 3)
            client.do("cancel", "first")
            self.assertTrue(client.told("first")["cancelled"])
            self.await_requesters(server, 2)
            gate.let()
            for _ in range(2):
                self.assertEqual(text(client.told("others")), b"result\n")
            self.assertEqual(server.runs(), 1)
            self.assertEqual(text(client.done("next", ["echo", "next"])), b"next\n")  # the connection is as good as before

        def test_a_server_that_is_ending_hears_who_is_cancelled(self):
            server = self.serve("--drain", "1h")
            gate = server.gate("gate")
            client = self.driver(server)
            client.run("held", ["sh", "-c", gate.wait])
            self.await_requesters(server, 1)
            server.process.terminate()
            while os.path.exists(server.path):
                a_moment()
            self.assertEqual(client.done("refused", ["echo", "refused"])["error"], "shutting_down")
            client.do("cancel", "held")
            self.assertTrue(client.told("held")["cancelled"])
            self.assertEqual(server.process.wait(), 0)

        def test_when_all_are_cancelled_the_run_ends(self):
            server = self.serve()
            alive = server.fifo("alive")
            client = self.driver(server)
            command = ["sh", "-c", "exec sleep 1000 >alive"]
            client.run("first", command)
            client.run("second", command)
            self.await_requesters(server, 2)
            with open(alive) as held_by_command:
                client.do("cancel", "first")
                client.do("cancel", "second")
                self.assertEqual(held_by_command.read(), "")
            self.assertTrue(client.told("first")["cancelled"] and client.told("second")["cancelled"])
            self.await_requesters(server, 0)


if LANGUAGE != "blocking":  # whose calls are not cancelled, and which is closed as the client for asyncio is

    class Queue(ClientTest):
        def listener(self, backlog):
            listener = socket.socket(socket.AF_UNIX)
            self.addCleanup(listener.close)
            path = os.path.join(self.serve().directory, "busy")
            listener.bind(path)
            listener.listen(backlog)
            return listener, path

        def full(self):
            """Who listens, and who takes all the room that there is."""
            listener, path = self.listener(0)
            first = socket.socket(socket.AF_UNIX)
            self.addCleanup(first.close)
            first.connect(path)
            return listener, path

        def next_one(self, listener):
            """Of the request that comes first there is now room: it is answered, and its umask told."""
            listener.accept()[0].close()
            with listener.accept()[0] as connection, connection.makefile("rb") as requests:
                request = json.loads(requests.readline())
                connection.sendall(b'{"id":%d,"event":"exit","exit":0,"joined":false,"requesters":1,"duration":0.5}\n' % request["id"])
                return request["umask"]

        def test_who_found_the_servers_queue_full_asks_later_and_who_left_meanwhile_does_not(self):
            listener, path = self.full()
            client = Driver(self, path, "/", dict(os.environ))
            client.run("left", ["true"], umask=1)
            client.do("cancel", "left")
            self.assertTrue(client.told("left")["cancelled"])
            client.run("left", ["true"], umask=2)
            client.run("later", ["true"], umask=3)
            client.do("cancel", "left")
            self.assertTrue(client.told("left")["cancelled"])
            self.assertEqual(self.next_one(listener), 3)
            self.assertEqual(client.told("later")["returncode"], 0)

        def test_closing_reaches_who_waits_for_room(self):
            listener, path = self.full()
            client = Driver(self, path, "/", dict(os.environ))
            client.run("held", ["true"], umask=1, times=2)
            if LANGUAGE == "node":  # Python's stream is there when it is connected, and one of C++ goes on
                client.do("stream", "stream", command=["true"])
                client.do("take", "stream", bytes=None)
            client.do("close", "")
            word = "operation_canceled" if LANGUAGE == "cpp" else "disconnected"
            self.assertEqual({client.told("held")["error"] for _ in range(2)}, {word})
            if LANGUAGE == "node":
                self.assertEqual(client.told("stream")["message"], "the client was closed")
            if LANGUAGE != "cpp":  # whose client is gone
                client.run("next", ["true"], umask=2)
                self.assertEqual(self.next_one(listener), 2)
                self.assertEqual(client.told("next")["returncode"], 0)


if LANGUAGE == "asyncio":

    class Early(ClientTest):
        def test_closing_reaches_who_was_connected_a_moment_ago(self):
            server = self.serve()
            client = self.driver(server)
            client.do("close when connected", "")
            told = client.done("early", ["true"])
            self.assertEqual((told["error"], told["message"]), ("disconnected", "the client was closed"))


if __name__ == "__main__":
    if shutil.which(DRIVERS[LANGUAGE][0][0]) is None:
        sys.exit(subprocess.run([NOT_TRIED, f"the client for {LANGUAGE}", f"no {DRIVERS[LANGUAGE][0][0]}"], check=False).returncode)
    main()
