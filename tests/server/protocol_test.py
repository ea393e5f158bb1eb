#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Requests and answers (SPEC S1-S4, S6): what a well-behaved client sees."""

import base64
import json
import os
import signal
import socket
import stat
import subprocess
import time
import unittest

from harness import COALESCE, Client, ServerTest, a_moment, main, release


class Requests(ServerTest):
    def test_a_line_is_a_command_and_its_answer_one_line_of_json(self):
        server = self.serve()
        answer = server.client().ask(b"echo hello; echo oops >&2; exit 3\n")
        self.assertEqual(answer["exit"], 3)
        self.assertEqual(answer["stdout"], "hello\n")
        self.assertEqual(answer["stderr"], "oops\n")
        self.assertEqual(answer["command"], "echo hello; echo oops >&2; exit 3")
        self.assertIs(answer["joined"], False)
        self.assertEqual(answer["requesters"], 1)
        self.assertGreater(answer["started"], 1e9)
        self.assertGreaterEqual(answer["duration"], 0)
        self.assertNotIn("id", answer)

    def test_blank_lines_ask_for_nothing(self):
        client = self.serve().client()
        client.send(b"\n  \n\t\n").settled()

    def test_a_last_line_without_a_newline_counts(self):
        client = self.serve().client()
        client.send(b"echo last").half_close()
        self.assertEqual(client.message()["stdout"], "last\n")
        self.assertIsNone(client.line())

    def test_ids_come_back_as_they_were(self):
        client = self.serve().client()
        for id_ in ("a", "", "ü\n\"", 7, -1, 2**63 - 1, 1.5):
            self.assertEqual(client.ask({"id": id_, "argv": ["true"]})["id"], id_)

    def test_argv_is_exact(self):
        client = self.serve().client()
        words = ["a b", "", "*", "$HOME", "-n", "ü"]
        answer = client.ask({"argv": ["printf", "<%s>", *words]})
        self.assertEqual(answer["stdout"], "".join(f"<{word}>" for word in words))

    def test_cwd_env_umask_and_stdin_reach_the_command(self):
        server = self.serve(env={"OLD": "o", "GONE": "g"})
        line = 'pwd; umask; echo "$OLD-$NEW-${GONE-unset}"; cat'
        answer = server.client().ask({"line": line, "cwd": "/usr", "umask": 0o27, "stdin": "in\x00put",
                                      "env": {"NEW": "n", "GONE": None}})
        self.assertEqual(answer["stdout"], "/usr\n0027\no-n-unset\nin\x00put")
        answer = server.client().ask({"argv": ["env"], "env": ["A=1", "PATH=" + os.environ["PATH"]]})
        self.assertEqual({l for l in answer["stdout"].splitlines() if not l.startswith(("COALESCE_ANCESTRY=", "COALESCE_GUARD="))},
                         {"A=1", "PATH=" + os.environ["PATH"]})

    def test_binary_input_comes_in_base64_and_binary_output_leaves_in_it(self):
        client = self.serve().client()
        data = bytes(range(256)) * 1000
        answer = client.ask({"argv": ["cat"], "stdin_base64": base64.b64encode(data).decode()})
        self.assertEqual(base64.b64decode(answer["stdout_base64"], validate=True), data)
        self.assertNotIn("stdout", answer)
        self.assertEqual(answer["stderr"], "")

    def test_no_stdin_is_dev_null_and_no_service_manager_in_sight(self):
        server = self.serve(env={"WATCHDOG_USEC": "30000000"})
        answer = server.client().ask({"line": "readlink /proc/self/fd/0; env; ls /proc/self/fd | wc -l"})
        self.assertTrue(answer["stdout"].startswith("/dev/null\n"))
        self.assertNotIn("NOTIFY_SOCKET", answer["stdout"])
        self.assertNotIn("WATCHDOG", answer["stdout"])
        self.assertTrue(answer["stdout"].endswith("\n4\n"), answer["stdout"])  # 0, 1, 2 and ls's own

    def test_signals_and_failures_to_start_are_told_apart(self):
        client = self.serve().client()
        answer = client.ask({"argv": ["sh", "-c", "kill -9 $$"]})
        self.assertEqual(answer["signal"], 9)
        self.assertNotIn("exit", answer)
        answer = client.ask({"argv": ["/no/such"]})
        self.assertEqual((answer["exit"], answer["error"]["code"]), (127, "not_started"))
        self.assertIn("/no/such", answer["error"]["message"])
        answer = client.ask({"argv": ["/etc/passwd"]})
        self.assertEqual((answer["exit"], answer["error"]["code"]), (126, "not_started"))
        answer = client.ask({"argv": ["true"], "cwd": "/no/such"})
        self.assertEqual((answer["exit"], answer["error"]["code"]), (125, "refused"))

    def test_flights_that_never_started_leave_nothing_behind(self):
        server = self.serve()
        client = server.client()
        for _ in range(3):
            client.ask({"argv": ["/no/such"]})
        self.assertEqual(server.status(), [])
        self.assertEqual(client.ask({"op": "cancel", "flight": "0"})["error"]["code"], "no_such_flight")

    def test_timeout_ends_the_run_and_wait_one_requester(self):
        server = self.serve()
        client = server.client()
        answer = client.ask({"id": 1, "line": "exec sleep 1000", "timeout": 0.05})
        self.assertEqual((answer["exit"], answer["error"]["code"]), (124, "timed_out"))
        fifo = server.fifo("hold")
        request = {"line": f"cat {fifo}; echo done"}
        patient = server.client().send({"id": "p", **request}).settled()
        answer = client.ask({"id": "i", **request, "wait": 0.05})
        self.assertEqual(answer, {"id": "i", "error": {"code": "gave_up", "message": f"gave up waiting for {request['line']}"}})
        release(fifo)
        self.assertEqual(patient.message()["stdout"], "done\n")
        self.assertEqual(server.stats()["waiting"], 0)

    def test_fresh_gets_a_run_that_starts_later_and_all_fresh_ones_share_it(self):
        server = self.serve()
        gate = server.gate("hold")
        request = {"line": f"echo x >>{server.file('runs')}; {gate.wait}; wc -l <{server.file('runs')}"}
        client = server.client()
        client.send({"id": 0, "output": "stream", **request})
        self.assertEqual(client.message()["event"], "started")
        client.send({"id": 1, **request, "fresh": True}, {"id": 2, **request, "fresh": True}, {"id": 3, **request})
        client.settled()
        gate.let(2)
        answers = {}
        while len(answers) < 3:
            message = client.message()
            if message.get("event") == "stdout":
                client.bytes(message["bytes"])
            elif "stdout" in message:
                answers[message["id"]] = message
        self.assertEqual({i: a["stdout"] for i, a in answers.items()}, {1: "2\n", 2: "2\n", 3: "1\n"})
        self.assertEqual(server.runs(), 2)

    def test_key_scope_and_ignored_variables_decide_who_shares(self):
        server = self.serve()
        gate = server.gate("hold")
        held = f"echo x >>{server.file('runs')}; {gate.wait}"
        pairs = [
            ({}, {}, True),
            ({"scope": "a"}, {"scope": "b"}, False),
            ({"env": {"V": "1"}}, {"env": {"V": "2"}}, False),
            ({"env": {"V": "1"}, "ignore_env": ["V"]}, {"env": {"V": "2"}, "ignore_env": ["V"]}, True),
            ({"env": {"V": "1"}, "only_env": ["W"]}, {"env": {"V": "2"}, "only_env": ["W"]}, True),
            ({"cwd": "/"}, {"cwd": "/usr"}, False),
            ({"cwd": "/", "ignore_cwd": True}, {"cwd": "/usr", "ignore_cwd": True}, True),
            ({"stdin": ""}, {}, True),
            ({"cwd": "/usr/"}, {"cwd": "/usr"}, True),
            ({"cwd": "//usr/./bin/."}, {"cwd": "/usr/bin"}, True),
            ({"cwd": "/usr/bin"}, {"cwd": "/usr/bin/.."}, False),
            ({"ignore_namespaces": True}, {"ignore_namespaces": True}, True),
            ({"ignore_namespaces": True}, {}, False),
            ({"no_share": True}, {"no_share": True}, False),
            ({"no_share": True}, {}, False),
            ({}, {"no_share": True}, False),
            ({"key": "k", "no_share": True}, {"key": "k"}, False),
            ({"stdin": "a"}, {"stdin_base64": "YQ=="}, True),
            ({"umask": 0o22}, {"umask": 0o77}, False),
            ({"key": "k", "cwd": "/"}, {"key": "k", "cwd": "/usr"}, True),
        ]
        for first, second, shared in pairs:
            with self.subTest(first=first, second=second):
                before = server.runs()
                client = server.client()
                client.send({"id": 1, "line": held, "output": "stream", **first})
                self.assertEqual(client.message()["event"], "started")
                client.send({"id": 2, "line": held, "output": "stream", **second})
                self.assertEqual(client.message()["joined"], shared)
                client.settled()
                gate.let(1 if shared else 2)
                self.assertEqual([client.message()["event"] for _ in range(2)], ["exit", "exit"])
                self.assertEqual(server.runs() - before, 1 if shared else 2)

    def test_a_directory_that_was_replaced_by_another_of_the_same_name_is_another(self):
        server = self.serve()
        gate = server.gate("hold")
        directory = server.file("d")
        os.mkdir(directory)
        held = {"line": f"echo x >>ran; {gate.wait}", "cwd": directory, "output": "stream"}
        client = server.client()
        client.send({"id": 1, **held})
        self.assertEqual(client.message()["event"], "started")
        os.rename(directory, directory + ".old")
        os.mkdir(directory)
        client.send({"id": 2, **held})
        self.assertIs(client.message()["joined"], False)
        gate.let(2)
        self.assertEqual([client.message()["exit"] for _ in range(2)], [0, 0])
        self.assertEqual(server.runs("d/ran"), 1)
        self.assertEqual(server.runs("d.old/ran"), 1)

    def test_the_identity_that_counts_is_the_servers(self):
        other = ["setarch", "-R"]
        if subprocess.run([*other, "true"], check=False).returncode != 0:
            self.skipTest("setarch fails")
        server = self.serve()
        gate = server.gate("hold")
        line = f"echo x >>{server.file('runs')}; {gate.wait}"
        arguments = [COALESCE, "run", "--socket", server.path, "-c", line]
        first = subprocess.Popen(arguments, env=server.env, cwd=server.directory)
        self.addCleanup(first.wait)
        second = subprocess.Popen([*other, *arguments], env=server.env, cwd=server.directory)
        self.addCleanup(second.wait)
        while server.stats()["waiting"] < 2:
            a_moment()
        gate.let(1)
        self.assertEqual((first.wait(), second.wait()), (0, 0))
        self.assertEqual(server.runs(), 1)

    def test_a_thousand_pipelined_duplicates_are_one_run(self):
        server = self.serve()
        fifo = server.fifo("hold")
        line = f"echo x >>{server.file('runs')}; cat {fifo}; exit 9"
        clients = [server.client() for _ in range(10)]
        for client in clients:
            client.send(*({"id": i, "line": line} for i in range(100))).settled()
        release(fifo)
        for client in clients:
            answers = [client.message() for _ in range(100)]
            self.assertEqual([a["id"] for a in answers], list(range(100)))
            self.assertEqual({(a["exit"], a["requesters"]) for a in answers}, {(9, 1000)})
        self.assertEqual(server.runs(), 1)
        stats = server.stats()
        self.assertEqual((stats["runs"], stats["joins"], stats["requests"]), (1, 999, 1000))

    def test_answers_come_as_they_finish(self):
        server = self.serve()
        fifos = [server.fifo(f"hold{i}") for i in range(5)]
        client = server.client()
        client.send(*({"id": i, "argv": ["cat", fifo]} for i, fifo in enumerate(fifos)))
        for i in (3, 0, 4, 1, 2):
            release(fifos[i])
            self.assertEqual(client.message()["id"], i)

    def test_who_asks_on_completion_gets_a_new_run(self):
        server = self.serve()
        client = server.client()
        for i in range(20):
            self.assertEqual(client.ask(f"echo x >>runs; wc -l <runs\n".encode())["stdout"], f"{i + 1}\n")


def b64(*texts):
    """One in base64, or a list of them."""
    encoded = [base64.b64encode(text).decode() for text in texts]
    return encoded if len(texts) > 1 else encoded[0]


class Bytes(ServerTest):
    """What is not UTF-8 arrives as it was sent (S3), by the protocol and by the program."""

    LATIN = b"\xe9t\xe9"

    def test_arguments_environment_and_directory_come_in_base64(self):
        server = self.serve()
        directory = server.directory.encode() + b"/" + self.LATIN
        os.mkdir(directory)
        path = b"PATH=" + os.environ["PATH"].encode()
        client = server.client()
        answer = client.ask({"argv_base64": b64(b"sh", b"-c", b'pwd; printf "%s|" "$1" "$X"', b"sh", self.LATIN), "cwd_base64": b64(directory),
                             "env_base64": b64(b"X=" + self.LATIN + b"\xff", path)})
        self.assertEqual(base64.b64decode(answer["stdout_base64"]), directory + b"\n" + self.LATIN + b"|" + self.LATIN + b"\xff|")
        answer = client.ask({"line_base64": b64(b"printf %s " + self.LATIN)})
        self.assertEqual(base64.b64decode(answer["stdout_base64"]), self.LATIN)
        self.assertEqual(answer["command"], "$'printf %s \\351t\\351'")

    def test_bytes_are_the_same_however_they_are_written(self):
        server = self.serve()
        gate = server.gate("hold")
        line = f"echo x >>{server.file('runs')}; {gate.wait}"
        client = server.client()
        client.send({"id": 1, "line": line, "scope": "\u00e9", "cwd": "/", "env": ["A=1"], "stdin": "x", "output": "none"},
                    {"id": 2, "line_base64": b64(line.encode()), "scope_base64": b64("\u00e9".encode()), "cwd_base64": b64(b"/"),
                     "env_base64": [b64(b"A=1")], "stdin_base64": b64(b"x"), "output": "none"}).settled()
        gate.let(2)
        answers = [client.message() for _ in range(2)]
        self.assertEqual({a["joined"] for a in answers}, {False, True}, answers)

    def test_run_is_byte_exact(self):
        server = self.serve()
        directory = server.directory.encode() + b"/" + self.LATIN
        os.mkdir(directory)

        def run(*arguments, **env):
            ran = subprocess.run([COALESCE, b"run", *arguments], env={**os.environ, **server.env, "COALESCE_SOCKET": server.path, **env},
                                 cwd=directory, stdin=subprocess.DEVNULL, capture_output=True, check=False)
            self.assertEqual((ran.returncode, ran.stderr), (0, b""))
            return ran.stdout

        self.assertEqual(run(b"printenv", b"X", X=self.LATIN), self.LATIN + b"\n")
        self.assertEqual(run(b"printf", b"%s", self.LATIN), self.LATIN)
        self.assertEqual(run(b"-c", b"printf %s " + self.LATIN), self.LATIN)
        self.assertEqual(run(b"pwd"), directory + b"\n")
        self.assertEqual(run(b"--key", self.LATIN, b"--scope", self.LATIN, b"--ignore-env", self.LATIN, b"echo", b"x"), b"x\n")
        ran = subprocess.run([COALESCE, b"run", b"--stdin", b"cat"], env={**server.env, "COALESCE_SOCKET": server.path}, input=self.LATIN,
                             capture_output=True, check=False)
        self.assertEqual(ran.stdout, self.LATIN)


class Output(ServerTest):
    def test_whole_none_and_stream_tell_the_same(self):
        server = self.serve()
        line = "printf 'a\\0b'; printf '\\377' >&2; exit 4"
        client = server.client()
        answer = client.ask({"line": line})
        self.assertEqual((answer["stdout"], base64.b64decode(answer["stderr_base64"])), ("a\0b", b"\xff"))
        answer = client.ask({"line": line, "output": "none"})
        self.assertEqual(answer["exit"], 4)
        self.assertFalse({"stdout", "stderr", "stderr_base64"} & set(answer))
        client.send({"id": "s", "line": line, "output": "stream"})
        messages, output = client.stream()
        self.assertEqual(output, {("s", "stdout"): b"a\0b", ("s", "stderr"): b"\xff"})
        self.assertEqual(messages[0]["event"], "started")
        self.assertGreater(messages[0]["pid"], 1)
        self.assertEqual((messages[-1]["event"], messages[-1]["exit"]), ("exit", 4))

    def test_a_stream_of_a_command_that_cannot_start_is_its_exit(self):
        client = self.serve().client()
        for mode in ("stream", "fd"):
            answer = client.ask({"id": 1, "argv": ["/no/such"], "output": mode})
            self.assertEqual((answer["event"], answer["exit"], answer["code"]), ("exit", 127, "not_started"))

    def test_output_is_streamed_live_and_replayed_to_who_joins_late(self):
        server = self.serve()
        fifo = server.fifo("hold")
        request = {"line": f"echo early; cat {fifo}; echo late", "output": "stream"}
        first = server.client().send(request)
        self.assertEqual([first.message()["event"] for _ in range(2)], ["started", "stdout"])
        self.assertEqual(first.bytes(6), b"early\n")
        second = server.client().send(request)
        self.assertIs(second.message()["joined"], True)
        self.assertEqual(second.message()["bytes"], 6)
        self.assertEqual(second.bytes(6), b"early\n")
        release(fifo)
        for client in (first, second):
            self.assertEqual(client.message()["bytes"], 5)
            self.assertEqual(client.bytes(5), b"late\n")
            self.assertEqual(client.message()["event"], "exit")

    BIG = "for i in 1 2 3 4 5; do head -c 1000000 /dev/zero | tr '\\0' {0}; head -c 1000000 /dev/zero | tr '\\0' {1} >&2; done"

    def test_big_streams_of_many_requests_are_never_mixed(self):
        server = self.serve()
        client = server.client()
        pairs = ["ab", "cd", "ef", "gh"]
        for pair in pairs:
            client.send({"id": pair, "line": self.BIG.format(*pair), "output": "stream"})
            client.send({"id": "w" + pair, "line": self.BIG.format(*pair)})
        output, whole, ended = {}, {}, 0
        while ended < 2 * len(pairs):
            message = client.message()
            event = message.get("event")
            if event in ("stdout", "stderr"):
                key = message["id"], event
                output[key] = output.get(key, b"") + client.bytes(message["bytes"])
            elif event == "exit":
                ended += 1
            elif event != "started":
                whole[message["id"]] = message
                ended += 1
        for pair in pairs:
            self.assertEqual(output[pair, "stdout"], pair[0].encode() * 5000000)
            self.assertEqual(output[pair, "stderr"], pair[1].encode() * 5000000)
            self.assertEqual(whole["w" + pair]["stdout"], pair[0] * 5000000)
            self.assertEqual(whole["w" + pair]["stderr"], pair[1] * 5000000)

    def read_by_descriptor(self, client, ids, acknowledging=True):
        output, exits, fds = {}, {}, {}
        while len(exits) < len(ids):
            message = client.message()
            event = message.get("event")
            if event in ("stdout", "stderr"):
                id_ = message["id"]
                if id_ not in fds:
                    fds[id_] = client.fds[len(fds)]
                data = os.pread(fds[id_], message["bytes"], message["offset"])
                self.assertEqual(len(data), message["bytes"])
                key = id_, event
                output[key] = output.get(key, b"") + data
                if acknowledging:
                    client.send(b"\n")
            elif event == "exit":
                exits[message["id"]] = message
        return output, exits, fds

    def test_a_descriptor_is_handed_over_once_and_cannot_be_written(self):
        server = self.serve()
        client = server.client()
        pairs = ["ab", "cd", "ef"]
        client.send(*({"id": pair, "line": self.BIG.format(*pair), "output": "fd"} for pair in pairs))
        output, exits, fds = self.read_by_descriptor(client, pairs)
        for pair in pairs:
            self.assertEqual(output[pair, "stdout"], pair[0].encode() * 5000000)
            self.assertEqual(output[pair, "stderr"], pair[1].encode() * 5000000)
            self.assertEqual(exits[pair]["exit"], 0)
        self.assertEqual(len(client.fds), len(pairs))
        for fd in client.fds:
            with self.assertRaises(OSError):
                os.pwrite(fd, b"x", 0)
            with self.assertRaises(OSError):
                os.ftruncate(fd, 0)

    def test_no_acknowledgement_is_needed_up_to_the_replay_limit(self):
        server = self.serve("--replay-limit", "64M")
        client = server.client()
        pairs = ["ab", "cd"]
        client.send(*({"id": pair, "line": self.BIG.format(*pair), "output": "fd"} for pair in pairs))
        output, exits, _ = self.read_by_descriptor(client, pairs, acknowledging=False)
        for pair in pairs:
            self.assertEqual(output[pair, "stdout"], pair[0].encode() * 5000000)
            self.assertEqual(output[pair, "stderr"], pair[1].encode() * 5000000)
            self.assertEqual(exits[pair]["exit"], 0)

    def test_past_the_replay_limit_the_nth_empty_line_is_for_the_nth_message(self):
        server = self.serve("--replay-limit", "64K")
        client = server.client()
        gate = server.gate("hold")
        client.send({"id": "a", "line": f"echo a; {gate.wait}; echo a", "output": "fd", "quiet": True})
        self.assertEqual(client.message()["id"], "a")
        client.send({"id": "b", "line": "seq 100000", "output": "fd", "quiet": True})
        while not any(flight["output"] > 64 << 10 for flight in server.status()):
            a_moment()
        client.send({"id": "settled", "op": "ping"})
        within = []
        while (message := client.message())["id"] != "settled":
            within.append(message)
        output = b"".join(os.pread(client.fds[1], m["bytes"], m["offset"]) for m in within)
        self.assertLessEqual(len(output), 64 << 10)
        client.send(b"\n" * len(within)).settled()  # the first is for a's: one of b's is missing
        client.send(b"\n")
        while (message := client.message()).get("event") == "stdout":
            output += os.pread(client.fds[1], message["bytes"], message["offset"])
            client.send(b"\n")
        self.assertEqual((message["id"], message["exit"]), ("b", 0))
        self.assertEqual(output, b"".join(b"%d\n" % i for i in range(1, 100001)))
        client.send(b"\n" * 1000).settled()  # for nothing that was sent, now or later
        gate.let()
        self.assertEqual([client.message()[field] for field in ("offset", "exit")], [2, 0])

    def test_who_does_not_read_gets_what_came_meanwhile_in_one_message(self):
        server = self.serve()
        client = server.client()
        client.send({"line": "i=0; while [ $i -lt 20000 ]; do echo $i; i=$((i+1)); done", "output": "fd", "quiet": True})
        message, output, messages = client.message(), b"", 0
        while server.status():
            a_moment()
        while message["event"] != "exit":
            output += os.pread(client.fds[0], message["bytes"], message["offset"])
            messages += 1
            message = client.message()
        self.assertEqual(output, b"".join(b"%d\n" % i for i in range(20000)))
        self.assertLess(messages, 5000)

    def test_the_end_does_not_wait_for_acknowledgements(self):
        server = self.serve()
        fifo = server.fifo("hold")
        client = server.client()
        line = f"echo b; cat {fifo}; echo c"
        client.send({"id": 1, "line": line, "output": "fd"})
        self.assertEqual([client.message()["event"] for _ in range(2)], ["started", "stdout"])
        release(fifo)
        self.assertEqual([client.message()[field] for field in ("bytes", "exit")], [2, 0])

    def test_nothing_follows_the_farewell(self):
        for mode in ("stream", "fd"):
            for keep in (False, True):
                with self.subTest(mode=mode, keep_running=keep):
                    server = self.serve()
                    fifo, said = server.fifo("hold"), server.file("said")
                    line = f"echo a; cat {fifo}; echo b; echo >{said}; cat {fifo}"
                    client = server.client().send({"id": 1, "line": line, "output": mode, "keep_running": keep})
                    client.until(lambda message: message["event"] == "stdout")
                    if mode == "stream":
                        client.bytes(2)
                    else:
                        client.send(b"\n").settled()
                    other = server.client().send({"line": line}).settled()
                    server.process.send_signal(signal.SIGSTOP)  # so that it finds both at once
                    while server.state() != "T":
                        a_moment()
                    client.send({"op": "leave", "id": 1})
                    release(fifo)
                    while not os.path.exists(said):
                        a_moment()
                    server.process.send_signal(signal.SIGCONT)
                    self.assertEqual(client.message()["event"], "left")
                    release(fifo)
                    self.assertEqual(other.message()["stdout"], "a\nb\n")
                    client.settled()

    def test_quiet_requests_hear_nothing_of_the_start(self):
        for mode in ("stream", "fd"):
            client = self.serve().client()
            client.send({"argv": ["echo", "x"], "output": mode, "quiet": True})
            self.assertEqual(client.message()["event"], "stdout")

    def test_no_output_hands_no_descriptor_over(self):
        client = self.serve().client()
        client.send({"argv": ["true"], "output": "fd"})
        self.assertEqual([client.message()["event"] for _ in range(2)], ["started", "exit"])
        self.assertEqual(client.fds, [])

    def test_output_past_the_replay_limit(self):
        server = self.serve("--replay-limit", "2M")
        line = "head -c 9000000 /dev/zero | tr '\\0' x; exit 5"
        client = server.client()
        client.send({"id": "s", "line": line, "output": "stream"})
        messages, output = client.stream()
        self.assertEqual((output["s", "stdout"], messages[-1]["exit"]), (b"x" * 9000000, 5))
        self.assertEqual(client.ask({"id": "w", "line": line})["error"]["code"], "output_too_long")
        self.assertEqual(client.ask({"id": "n", "line": line, "output": "none"})["exit"], 5)
        client.send({"id": "f", "line": line, "output": "fd"})
        output, exits, _ = self.read_by_descriptor(client, ["f"])
        self.assertEqual((output["f", "stdout"], exits["f"]["exit"]), (b"x" * 9000000, 5))
        self.assertEqual(server.status(), [])


class Steering(ServerTest):
    def test_ping_names_the_protocol(self):
        self.assertEqual(self.serve().client().ask({"op": "ping", "id": 1}), {"id": 1, "protocol": 1})

    def test_status_shows_what_is_in_flight(self):
        server = self.serve("-j1")
        fifo = server.fifo("hold")
        client = server.client().send({"id": 1, "argv": ["cat", fifo]}, {"id": 2, "argv": ["cat", fifo]}, {"line": "echo later"}).settled()
        running, queued = sorted(server.status(), key=lambda f: f["state"] == "queued")
        self.assertEqual((running["state"], running["requesters"], running["output"]), ("running", 2, 0))
        self.assertEqual(running["command"], f"cat {fifo}")
        self.assertGreater(running["pid"], 1)
        self.assertEqual(running["supervisor"], server.process.pid)
        self.assertEqual((queued["state"], queued["command"]), ("queued", "echo later"))
        self.assertGreater(queued["started"], 1e9)
        release(fifo)
        self.assertEqual({client.message().get("id") for _ in range(3)}, {1, 2, None})
        self.assertEqual(server.status(), [])

    def test_status_shows_what_waits_for_an_earlier_run(self):
        server = self.serve()
        fifo = server.fifo("hold")
        asked = time.time()
        client = server.client().send({"id": 1, "argv": ["cat", fifo]}, {"id": 2, "argv": ["cat", fifo], "fresh": True}).settled()
        queued = [flight for flight in server.status() if flight["state"] == "queued"]
        self.assertEqual([flight["command"] for flight in queued], [f"cat {fifo}"])
        self.assertLessEqual(abs(queued[0]["started"] - asked), 60)
        release(fifo)
        client.message()
        release(fifo)
        client.message()

    def test_cancel_ends_a_flight_for_everyone(self):
        server = self.serve()
        fifo = server.fifo("hold")
        clients = [server.client().send({"argv": ["cat", fifo]}).settled() for _ in range(3)]
        (flight,) = server.status()
        other = server.client()
        self.assertEqual(other.ask({"op": "cancel", "flight": "zz"})["error"]["code"], "no_such_flight")
        self.assertEqual(other.ask({"op": "cancel"})["error"]["code"], "bad_request")
        self.assertEqual(other.ask({"id": 5, "op": "cancel", "flight": flight["id"][:8]}), {"id": 5, "event": "cancelled"})
        for client in clients:
            answer = client.message()
            self.assertEqual(answer["error"]["code"], "cancelled")

    def test_cancel_of_an_ambiguous_id_is_refused(self):
        server = self.serve()
        fifo = server.fifo("hold")
        client = server.client()
        client.send(*({"argv": ["cat", fifo], "scope": str(i), "output": "none"} for i in range(20))).settled()
        first = [f["id"][0] for f in server.status()]
        twice = next(c for c in first if first.count(c) > 1)
        self.assertEqual(client.ask({"op": "cancel", "flight": twice})["error"]["code"], "ambiguous")

    def test_leave_leaves_and_the_others_stay(self):
        server = self.serve()
        fifo = server.fifo("hold")
        client = server.client()
        client.send({"id": 1, "argv": ["cat", fifo], "wait": 1000}, {"id": 2, "argv": ["cat", fifo]}).settled()
        self.assertEqual(client.ask({"op": "leave", "id": 1}), {"id": 1, "event": "left"})
        self.assertEqual(client.ask({"op": "leave", "id": 1})["error"]["code"], "no_such_request")
        self.assertEqual(server.status()[0]["requesters"], 1)
        release(fifo)
        self.assertEqual(client.message()["id"], 2)

    def test_keep_running_lets_the_run_finish_when_its_requesters_have_left(self):
        server = self.serve("--replay-limit", "64K")  # less than the command writes, and nobody reads
        client = None

        def leave():
            client.send({"op": "leave", "id": 1}).until(lambda message: message.get("event") == "left")

        def give_up():
            client.until(lambda message: message.get("error", {}).get("code") == "gave_up")

        def go():
            client.close()
            while server.stats()["clients"] > 1:
                a_moment()

        def half_close_and_go():
            client.half_close()
            go()

        for mode in ("whole", "stream", "fd", "none"):
            for farewell in (leave, give_up, go, half_close_and_go):
                with self.subTest(mode=mode, farewell=farewell.__name__):
                    name = mode + farewell.__name__
                    gate, said = server.gate("gate" + name), server.file("said" + name)
                    client = server.client()
                    client.send({"id": 1, "line": f"echo begun; {gate.wait}; seq 30000; echo done >{said}", "output": mode,
                                 "keep_running": True, "wait": 0.01 if farewell is give_up else 1000})
                    if farewell is not give_up:
                        client.send({"id": "taken", "op": "ping"}).until(lambda message: message.get("id") == "taken")
                    farewell()
                    self.assertEqual(server.status()[0]["requesters"], 0)
                    gate.let()
                    while server.status():
                        a_moment()
                    with open(said, encoding="ascii") as file:
                        self.assertEqual(file.read(), "done\n")
                    client.close()
        self.assertEqual(server.stats()["waiting"], 0)

    def test_grace_is_the_time_from_term_to_kill(self):
        server = self.serve("--grace", "3600")
        fifo = server.fifo("hold")
        client = server.client()
        client.send({"id": 1, "line": f"trap '' TERM; echo deaf; cat {fifo}", "output": "stream", "grace": 0.05})
        while client.message().get("event") != "stdout":
            pass
        client.close()
        while server.status():  # an hour, if it were the server's
            a_moment()

    def test_a_signal_reaches_the_command_of_a_lone_requester(self):
        server = self.serve()
        fifo = server.fifo("hold")
        # What goes on in the background is there, and ignores the signal, before that can come.
        line = f"trap 'echo got; exit 7' INT; (echo ready; exec cat {fifo}) & wait"
        client = server.client().send({"id": 1, "line": line, "output": "stream"})
        self.assertEqual([client.message()["event"] for _ in range(2)], ["started", "stdout"])
        client.bytes(6)
        self.assertEqual(client.ask({"op": "signal", "id": 2, "signal": 2})["error"]["code"], "no_such_request")
        second = server.client().send({"id": 2, "line": line}).settled()
        self.assertEqual(second.ask({"op": "signal", "id": 2, "signal": 2}), {"id": 2, "event": "left"})
        self.assertEqual(client.ask({"op": "signal", "id": 1, "signal": 2}), {"id": 1, "event": "signalled"})
        messages, output = client.stream()
        self.assertEqual((output[1, "stdout"], messages[-1]["exit"]), (b"got\n", 7))
        release(fifo)  # what the shell has left in the background goes on without it

    def test_f9_a_half_closed_client_is_told_the_end_past_the_replay_limit_too(self):
        server = self.serve("--replay-limit", "64K")
        gate = server.gate("gate")
        block = "dd if=/dev/zero bs={0} count=1 2>/dev/null".format  # one write, and so one message
        for acknowledges, rest, end in ((False, block(50000), "output_too_long"), (True, block(50000), 3),
                                        (True, "head -c 300000 /dev/zero", "output_too_long"),
                                        (True, block(65536) + "; head -c 1 /dev/zero", "output_too_long")):
            with self.subTest(acknowledges=acknowledges, rest=rest):
                line = f"{block(40000)}; {gate.wait}; {rest}; exit 3"
                client = server.client().send({"line": line, "output": "fd", "quiet": True})
                told = client.message()["bytes"]
                client.send(b"\n" * acknowledges).half_close()
                gate.let()
                while "bytes" in (message := client.message()):
                    told += message["bytes"]
                self.assertEqual(message.get("exit", message.get("error", {}).get("code")), end)
                self.assertIsNone(client.message())
                self.assertEqual(os.pread(client.fds[0], told, 0), bytes(told))

    def test_r5_usr1_and_usr2_end_nobodys_wait(self):
        server = self.serve("-j1")
        over = server.file("over")
        line = f"exec 2>/dev/null; trap 'echo got' USR1 USR2; echo ready; until [ -e {over} ]; do sleep 0.01; done; exit 7"
        first = server.client().send({"id": 1, "line": line, "output": "stream"})
        self.assertEqual([first.message()["event"] for _ in range(2)], ["started", "stdout"])
        first.bytes(6)
        second = server.client().send({"id": 1, "line": line, "output": "none"}).settled()
        queued = server.client().send({"id": 1, "line": "echo later", "output": "none"}).settled()
        for number in (signal.SIGUSR1, signal.SIGUSR2):
            for client in (first, second, queued):
                self.assertEqual(client.ask({"op": "signal", "id": 1, "signal": number}), {"id": 1, "event": "ignored"})
        self.assertEqual([flight["requesters"] for flight in server.status()], [2, 1])
        self.assertEqual(second.ask({"op": "leave", "id": 1}), {"id": 1, "event": "left"})
        self.assertEqual(first.ask({"op": "signal", "id": 1, "signal": signal.SIGUSR1}), {"id": 1, "event": "signalled"})
        self.assertEqual(first.message()["event"], "stdout")
        self.assertEqual(first.bytes(4), b"got\n")
        with open(over, "w"):
            pass
        self.assertEqual(first.stream()[0][-1]["exit"], 7)
        self.assertEqual(queued.message()["exit"], 0)

    def test_r5_a_signal_after_the_end_of_the_command_is_ignored_while_its_output_is_read(self):
        server = self.serve("--replay-limit", "64K")
        gate = server.gate("gate")
        line = f"head -c 66000 /dev/zero; {gate.wait}; head -c 4000 /dev/zero"
        client = server.client().send({"id": 1, "line": line, "output": "fd", "quiet": True})
        dealt_with = 0
        while dealt_with < 70000:  # the last of them is not acknowledged, and is too little to hold up the run
            dealt_with += client.message()["bytes"]
            if dealt_with == 66000:
                gate.let()
            if dealt_with < 70000:
                client.send(b"\n")
        while server.status():
            a_moment()
        for number in (signal.SIGTERM, signal.SIGUSR1):
            self.assertEqual(client.ask({"op": "signal", "id": 1, "signal": number}), {"id": 1, "event": "ignored"})
        self.assertEqual(client.ask({"op": "leave", "id": 1})["error"]["code"], "no_such_request")
        self.assertEqual(client.ask(b"\n")["exit"], 0)
        self.assertEqual(client.ask({"op": "signal", "id": 1, "signal": 15})["error"]["code"], "no_such_request")

    def test_who_joins_a_stream_is_told_which_command_runs(self):
        server = self.serve()
        fifo = server.fifo("hold")
        leader = server.client().send({"id": 1, "argv": ["cat", fifo], "key": "k", "output": "stream"})
        self.assertNotIn("command", leader.message())
        joiner = server.client().send({"id": 1, "argv": ["cat", "another"], "key": "k", "output": "stream"})
        self.assertEqual(joiner.message()["command"], f"cat {fifo}")
        release(fifo)
        self.assertEqual(joiner.message()["exit"], 0)

    def test_stats_count(self):
        server = self.serve()
        client = server.client()
        client.ask({"argv": ["true"]})
        stats = client.ask({"op": "stats", "id": "x"})
        self.assertGreater(stats.pop("run_time"), 0)
        self.assertEqual(sum(stats.pop("durations").values()), 1)
        self.assertEqual(stats, {"id": "x", "requests": 1, "joins": 0, "runs": 1, "running": 0, "queued": 0, "waiting": 0,
                                 "clients": 1, "saved": 0.0, "failures": 0, "timeouts": 0, "cancelled": 0, "output": 0,
                                 "hits": 0, "refreshes": 0, "spared": 0.0})


class Nested(ServerTest):
    def ask_from_inside(self, server, request):
        """A shell command that sends `request` to the server and prints the answer."""
        script = server.file("ask.py")
        with open(script, "w") as file:
            file.write("import socket, sys\ns = socket.socket(socket.AF_UNIX)\ns.connect(sys.argv[1])\n"
                       "s.sendall(sys.argv[2].encode() + b'\\n')\ns.shutdown(socket.SHUT_WR)\n"
                       "sys.stdout.write(s.makefile().read())\n")
        return f"python3 {script} {server.path} '{request}'"

    def test_a_command_that_asks_for_itself_is_told_at_once(self):
        server = self.serve()
        # By its session: what it sends is the plain line, with no ancestry.
        script = server.file("self.sh")
        with open(script, "w") as file:
            file.write(self.ask_from_inside(server, f"sh {script}"))
        answer = server.client().ask(f"sh {script}\n".encode())
        self.assertIn("would_wait_for_itself", answer["stdout"])
        answer = server.run("run", "-c", f"{COALESCE} run --socket {server.path} -c \"$LINE\"; echo $?")
        # By its ancestry, through the program.
        loop = server.file("loop.sh")
        with open(loop, "w") as file:
            file.write(f"exec {COALESCE} run --socket {server.path} sh {loop}\n")
        ended = server.run("run", "sh", loop)
        self.assertEqual(ended.returncode, 125)
        self.assertIn(b"would wait for itself", ended.stderr)

    def test_a_ring_of_commands_is_told_too(self):
        server = self.serve()
        for one, other in ("ab", "ba"):
            with open(server.file(one), "w") as file:
                file.write(self.ask_from_inside(server, f"sh {server.file(other)}"))
        answer = server.client().ask(f"sh {server.file('a')}\n".encode())
        self.assertIn("would_wait_for_itself", answer["stdout"])

    def test_f11_what_lost_its_environment_and_its_session_is_known_by_its_parents(self):
        server = self.serve("-j1")
        lost = f"env -i PATH={os.environ['PATH']} setsid --wait "
        for one, other in ("cc", "ab", "ba"):
            with open(server.file(one), "w") as file:
                file.write(lost + self.ask_from_inside(server, f"sh {server.file(other)}"))
        for name in "ca":
            answer = server.client().ask(f"sh {server.file(name)}\n".encode())
            self.assertIn("would_wait_for_itself", answer["stdout"])
        # A place that it lends to what it asks for.
        answer = server.client().ask((lost + self.ask_from_inside(server, "echo inner") + "\n").encode())
        self.assertIn('"stdout":"inner\\n"', answer["stdout"])

    def test_a_command_that_asks_for_another_cannot_deadlock_one_place(self):
        server = self.serve("-j1")
        answer = server.client().ask((self.ask_from_inside(server, "echo inner") + "; echo outer\n").encode())
        self.assertIn('"stdout":"inner\\n"', answer["stdout"])
        self.assertTrue(answer["stdout"].endswith("outer\n"))
        ended = server.run("run", "-c", f"{COALESCE} run -c '{COALESCE} run echo deep'")
        self.assertEqual((ended.returncode, ended.stdout), (0, b"deep\n"), ended.stderr)


class Program(ServerTest):
    """coalesce run --socket, status and cancel."""

    def test_run_relays_output_and_status_with_its_own_context(self):
        server = self.serve()
        ended = server.run("run", "-c", "printf 'a\\0'; echo err >&2; pwd; exit 42")
        self.assertEqual(ended.returncode, 42, ended)
        self.assertEqual(ended.stdout, b"a\0" + server.directory.encode() + b"\n")
        self.assertEqual(ended.stderr, b"err\n")
        self.assertEqual(server.run("run", "/no/such").returncode, 127)
        self.assertEqual(server.run("run", "sh", "-c", "kill -TERM $$").returncode, 128 + 15)
        self.assertEqual(server.run("run", "-c", "exit 9").returncode, 9)

    def test_run_passes_on_that_the_run_is_to_go_on(self):
        server = self.serve()
        gate, said = server.gate("gate"), server.file("said")
        with subprocess.Popen([COALESCE, "run", "--socket", server.path, "--keep-running", "-c", f"{gate.wait}; echo done >{said}"],
                              env=server.env, stdin=subprocess.DEVNULL) as asking:
            while not any(flight["state"] == "running" for flight in server.status()):
                a_moment()
            asking.kill()
        while server.stats()["clients"] > 1:
            a_moment()
        gate.let()
        while server.status():
            a_moment()
        with open(said, encoding="ascii") as file:
            self.assertEqual(file.read(), "done\n")

    def test_status_and_cancel_find_the_flights_of_the_default_server(self):
        server = self.serve(socket_path="")
        server.path = server.directory + "/coalesce/server.sock"
        self.assertEqual(stat.S_IMODE(os.stat(server.path).st_mode), 0o600)
        fifo = server.fifo("hold")
        client = server.client().send({"argv": ["cat", fifo]}).settled()
        listed = server.run("status").stdout.decode()
        self.assertIn(f"cat {fifo}", listed)
        flight = next(line for line in listed.splitlines() if "cat " in line).split()[0]
        cancelled = server.run("cancel", flight)
        self.assertEqual((cancelled.returncode, cancelled.stderr), (0, b""))
        self.assertEqual(client.message()["error"]["code"], "cancelled")
        self.assertNotEqual(server.run("cancel", flight).returncode, 0)

    def test_cancel_of_an_id_that_may_be_a_wrappers_or_the_servers_is_refused(self):
        server = self.serve(socket_path="")
        server.path = server.directory + "/coalesce/server.sock"
        gate = server.gate("gate")
        wrapper = subprocess.Popen([COALESCE, "run", "-c", gate.wait], env=server.env, cwd=server.directory)
        client = server.client()
        fifo = server.fifo("hold")

        def ask(*words):
            return subprocess.run([COALESCE, *words], env=server.env, stdin=subprocess.DEVNULL, capture_output=True, check=False)

        def flights():
            return [json.loads(line) for line in ask("status", "--json").stdout.splitlines()]

        while not flights():
            a_moment()
        [of_wrapper] = flights()
        while not any(flight["id"][0] == of_wrapper["id"][0] for flight in server.status()):
            client.send({"argv": ["cat", fifo], "no_share": True, "quiet": True}).settled()
        refused = ask("cancel", of_wrapper["id"][0])
        self.assertEqual((refused.returncode, refused.stderr),
                         (125, b"coalesce: more than one flight's id begins with '%s'\n" % of_wrapper["id"][0].encode()))
        gate.let()
        self.assertEqual(wrapper.wait(), 0)

    def test_status_lists_the_flights_of_a_server_and_of_wrappers_together(self):
        server = self.serve(socket_path="")
        server.path = server.directory + "/coalesce/server.sock"
        gate = server.gate("hold")
        client = server.client().send({"line": f"{gate.wait}; echo of the server"}).settled()
        without = {name: value for name, value in server.env.items() if name != "COALESCE_SOCKET"}
        with subprocess.Popen([COALESCE, "run", "sh", "-c", f"{gate.wait}; echo of a wrapper"], env=without,
                              cwd=server.directory, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as wrapper:
            while len(flights := server.run("status", "--json").stdout.splitlines()) < 2:
                a_moment()
            flights = [json.loads(line) for line in flights]
            self.assertEqual({f["command"].split("echo ")[1].strip("'") for f in flights}, {"of the server", "of a wrapper"})
            for flight in flights:
                self.assertEqual((flight["state"], flight["requesters"]), ("running", 1))
                self.assertGreater(flight["pid"], 0)
            table = server.run("status").stdout.decode().splitlines()
            self.assertEqual(len(table), 3)
            for word in ("ID", "STATE", "AGE", "USUALLY", "LEFT", "REQUESTERS", "OUTPUT", "PID", "COMMAND"):
                self.assertIn(word, table[0].upper())
            only = server.run("status", "--json", "--socket", server.path).stdout.splitlines()
            self.assertEqual([json.loads(line)["supervisor"] for line in only], [server.process.pid])
            gate.let(2)
            self.assertEqual(client.message()["stdout"], "of the server\n")
            self.assertEqual(wrapper.communicate()[0], b"of a wrapper\n")

    def test_watch_prints_it_again_and_ends_with_its_reader(self):
        server = self.serve()
        gate = server.gate("hold")
        client = server.client()
        client.send({"id": 1, "line": gate.wait}).settled()
        with subprocess.Popen([COALESCE, "status", "--watch", "--json", "--socket", server.path], env=server.env,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as watching:
            for _ in range(2):
                self.assertEqual(json.loads(watching.stdout.readline())["state"], "running")
            watching.send_signal(signal.SIGINT)
            self.assertEqual(watching.wait(), -signal.SIGINT)
        gate.let()
        client.message()

    def test_stats_count_for_people_too(self):
        server = self.serve()
        fifo = server.fifo("hold")
        client = server.client().send(*({"id": i, "argv": ["cat", fifo]} for i in range(3))).settled()
        release(fifo)
        for _ in range(3):
            client.message()
        stats = json.loads(server.run("stats", "--json").stdout)
        of_server = stats["server"]
        self.assertEqual((of_server["requests"], of_server["runs"], of_server["joins"]), (3, 1, 2))
        self.assertGreater(of_server["saved"], 0)
        self.assertEqual(stats["wrappers"], {"runs": 0, "joins": 0, "saved": 0, "since": 0})
        self.assertEqual((stats["joins"], stats["saved"]), (2, of_server["saved"]))
        told = server.run("stats").stdout.decode()
        for name in ("requests", "runs", "joins", "saved"):
            self.assertIn(name, told)


if __name__ == "__main__":
    main()
