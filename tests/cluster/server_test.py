# SPDX-License-Identifier: MIT
"""`coalesce serve --cluster`: its requests share with other machines, by the scope that each names (SPEC M36).

As in run_test.py a machine is a meeting place of its own; here it may have a server. What ran is told by
the lines that commands leave, and they are held on FIFOs.
"""

import json
import os
import signal
import subprocess
import unittest

import machines


class Serve(machines.Test):
    def setUp(self):
        super().setUp()
        self.engine = self.box.engine("--appendonly", "yes", "--appendfsync", "no")
        self.one, self.two, self.three = (self.box.host(name) for name in ("one", "two", "three"))

    def serve(self, host, *options, parameters="", **more):
        return host.serve("--cluster", self.box.url(self.engine, parameters), *options, **more)

    def run_words(self, *words, parameters="", scope="tonight"):
        return ("run", "--cluster", self.box.url(self.engine, parameters), "--cluster-scope", scope, *words)

    def held_line(self, script=""):
        """A command that says that it has begun, and waits for the gate."""
        self.count = getattr(self, "count", 0) + 1
        gate, begun = self.box.gate(f"gate{self.count}"), self.box.gate(f"begun{self.count}")
        return f"{machines.ALONE} echo ran >>runs; echo first; echo up >{begun}; read x <{gate}; {script}", gate, begun

    def ask(self, client, line, id, **more):
        return client.send({"id": id, "line": line, "cluster_scope": "tonight", **more})

    def await_machines(self, server, count):
        """So many wait for the one flight, by what the engine has told its runner."""
        with machines.harness.Client(server.path) as client:
            while True:
                [flight] = client.ask({"op": "status"})["flights"]
                if flight.get("machines") == count:
                    return flight
                machines.a_moment()

    def await_waiting(self, server, count):
        """So many requesters wait here for the one flight."""
        with machines.harness.Client(server.path) as client:
            while client.ask({"op": "status"})["flights"][0]["requesters"] < count:
                machines.a_moment()

    def test_M36_servers_and_wrappers_of_several_machines_share_one_run(self):
        line, gate, begun = self.held_line("echo last; echo err >&2; exit 3")
        server = self.serve(self.one)
        first = self.ask(server.client(), line, "whole")
        self.begun(begun)
        # A wrapper elsewhere, a server elsewhere, live and whole.
        wrapper = self.two.start(*self.run_words("-v", "-c", line))
        self.assertIn(b"which runs on " + os.uname().nodename.encode(), wrapper.stderr.readline())
        self.assertEqual(wrapper.stdout.readline(), b"first\n")
        other = self.serve(self.three)
        live = self.ask(other.client(), line, "live", output="stream")
        started = live.message()
        self.assertEqual((started["event"], started["host"]), ("started", os.uname().nodename))
        self.assertNotIn("pid", started)
        output = live.message()
        self.assertEqual((output["event"], live.bytes(output["bytes"])), ("stdout", b"first\n"))
        whole = self.ask(other.client(), line, "there")
        self.await_waiting(other, 2)
        self.await_machines(server, 3)
        self.open(gate)
        answer = first.message()
        self.assertEqual((answer["exit"], answer["stdout"], answer["stderr"]), (3, "first\nlast\n", "err\n"))
        self.assertNotIn("host", answer)  # it ran where it was asked for
        answer = whole.message()
        self.assertEqual((answer["exit"], answer["stdout"], answer["stderr"]), (3, "first\nlast\n", "err\n"))
        self.assertEqual(answer["host"], os.uname().nodename)
        messages, rest = live.stream()
        self.assertEqual((rest["live", "stdout"], rest["live", "stderr"]), (b"last\n", b"err\n"))
        self.assertEqual((messages[-1]["exit"], messages[-1]["host"]), (3, os.uname().nodename))
        status, out, err = self.end(wrapper)
        self.assertEqual((status, out), (3, "last\n"))
        self.assertIn("err\n", err)
        self.assertEqual(self.runs(), 1)

    def test_M36_run_with_a_socket_passes_the_scope_on(self):
        line, gate, begun = self.held_line("echo last")
        first = self.one.start(*self.run_words("-c", line))
        self.begun(begun)
        server = self.serve(self.two)
        second = self.two.start("run", "--socket", server.path, "--cluster-scope", "tonight", "-v", "-c", line)
        self.assertIn(b"which runs on", second.stderr.readline())
        # By variables as well, byte for byte.
        third = self.two.start("run", "-v", "-c", line, env={"COALESCE_SOCKET": server.path, "COALESCE_CLUSTER_SCOPE": "tonight"})
        self.assertIn(b"joined", third.stderr.readline())
        self.open(gate)
        for process in (first, second, third):
            status, out, _ = self.end(process)
            self.assertEqual((status, out), (0, "first\nlast\n"))
        self.assertEqual(self.runs(), 1)
        # What does not agree to it stays here: no scope, --no-cluster, another scope.
        command = "echo $COALESCE_FENCE"
        def fence(*options, env=None):
            status, out, err = self.two.call("run", "--socket", server.path, *options, "-c", command, env=env)
            self.assertEqual((status, err), (0, ""))
            return out.strip()
        self.assertEqual(fence(), "")
        self.assertEqual(fence("--no-cluster", env={"COALESCE_CLUSTER_SCOPE": "tonight"}), "")
        self.assertNotEqual(fence("--cluster-scope", "tonight"), "")
        scope = "caf\udce9"  # no UTF-8
        self.assertNotEqual(fence("--cluster-scope", scope), "")
        # The engine is the server's to know.
        status, _, err = self.two.call("run", "--socket", server.path, *self.run_words("true")[1:])
        self.assertEqual(status, 125)
        self.assertIn("--cluster", err)

    def test_M9_a_request_is_known_by_the_same_name_at_both_doors(self):
        line, gate, begun = self.held_line()
        first = self.one.start(*self.run_words("--ignore-platform", "--scope", "x", "--ignore-env", "A*", "-c", line), env={"AB": "1"})
        self.begun(begun)
        server = self.serve(self.two)
        second = self.two.start("run", "--socket", server.path, "--cluster-scope", "tonight", "--ignore-platform", "--scope", "x",
                                "--ignore-env", "A*", "-v", "-c", line, env={"AB": "2"})
        self.assertIn(b"which runs on", second.stderr.readline())
        self.open(gate)
        self.assertEqual(self.end(first)[0], 0)
        self.assertEqual(self.end(second)[0], 0)
        self.assertEqual(self.runs(), 1)

    def test_H3_M25_who_follows_takes_no_place_in_the_guess_at_turns(self):
        line, gate, begun = self.held_line()
        first = self.one.start(*self.run_words("-c", line))
        self.begun(begun)
        server = self.serve(self.two, "-j", "1")
        client = server.client()
        hold = self.box.gate("hold")
        known = f"read x <{hold}"
        subprocess.run([os.environ["REMEMBER"], self.box.work, "", "ok", "36300000", "--", "/bin/sh", "-c", known], env=self.box.env,
                       check=True)
        self.ask(client, line, "follows")
        client.send({"id": "known", "line": known})
        client.send({"id": "waits", "line": "echo waits"})
        with machines.harness.Client(server.path) as other:
            flights = machines.until(lambda: (all := {flight["command"]: flight for flight in other.ask({"op": "status"})["flights"]})
                                     and len(all) == 3 and all[line].get("host") and all)
        self.assertEqual((flights[known]["state"], flights["echo waits"]["state"]), ("running", "queued"))
        self.assertIn("turn_in", flights["echo waits"])
        self.open(hold)
        self.open(gate)
        self.assertEqual(self.end(first)[0], 0)
        self.assertEqual({client.message()["id"] for _ in range(3)}, {"follows", "known", "waits"})

    def test_M1_of_requests_without_a_scope_the_engine_hears_nothing(self):
        server = self.serve(self.one)
        client = server.client()
        self.assertEqual(client.ask({"line": "echo $COALESCE_FENCE"})["stdout"], "\n")
        self.assertEqual(client.ask({"line": "echo x", "cluster_scope": ""})["stdout"], "x\n")
        self.assertEqual(client.ask({"line": "echo y", "cluster_scope": "tonight", "no_share": True})["stdout"], "y\n")
        self.assertEqual(self.connections(), 0)
        # Nor of a scope where there is no engine.
        other = self.two.serve()
        self.assertEqual(other.client().ask({"line": "echo x", "cluster_scope": "tonight"})["stdout"], "x\n")
        third = self.three.serve("--no-cluster", env={"COALESCE_CLUSTER": self.box.url(self.engine)})
        self.assertEqual(third.client().ask({"line": "echo x", "cluster_scope": "tonight"})["stdout"], "x\n")
        self.assertEqual(self.connections(), 0)
        self.assertNotEqual(client.ask({"line": "echo $COALESCE_FENCE", "cluster_scope": "tonight"})["stdout"], "\n")

    def connections(self):
        """To the engine, beside the one that asks."""
        return len(self.engine.ask("CLIENT", "LIST").decode().splitlines()) - 1

    def test_M10_who_names_no_scope_joins_no_run_that_may_come_from_elsewhere(self):
        line, gate, begun = self.held_line()
        client = self.serve(self.one).client()
        self.ask(client, line, 1)
        self.begun(begun)
        self.box.gate(os.path.basename(begun))
        client.send({"id": 2, "line": line})
        self.begun(begun)  # a run of its own
        self.assertEqual(self.runs(), 2)
        both = os.open(gate, os.O_RDWR)  # a line for each, whoever comes first
        self.addCleanup(os.close, both)
        os.write(both, b"go\ngo\n")
        for _ in range(2):
            self.assertEqual(client.message()["stdout"], "first\n")

    def test_M11_of_two_flights_that_are_one_elsewhere_the_second_stays_here(self):
        client = self.serve(self.one).client()
        line = "echo $HOST >>runs; read x <gate-$HOST; echo $HOST $COALESCE_FENCE"
        gates = [self.box.gate(f"gate-{host}") for host in ("a", "b")]
        for host in ("a", "b"):
            self.ask(client, line, host, env={"HOST": host})
        while self.runs() < 2:
            machines.a_moment()
        for gate in gates:
            self.open(gate)
        ends = {answer["id"]: answer["stdout"].split() for answer in (client.message(), client.message())}
        self.assertEqual(sorted(len(words) for words in ends.values()), [1, 2])

    @unittest.skipUnless(os.geteuid() == 0, "root is needed for another user")
    def test_M11_requests_of_other_users_stay_local(self):
        os.chmod(self.box.directory, 0o755)
        os.chmod(self.one.directory, 0o755)
        server = self.serve(self.one, "--allow-user", "65534")
        request = {"line": "echo $COALESCE_FENCE", "cluster_scope": "tonight"}
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.setgroups([])
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
            with machines.harness.Client(server.path) as client:
                os.write(write, json.dumps(client.ask(request)).encode())
            os._exit(0)
        os.close(write)
        with os.fdopen(read) as file:
            answer = json.load(file)
        os.waitpid(pid, 0)
        self.assertEqual((answer["exit"], answer["stdout"]), (0, "\n"))
        self.assertEqual(self.connections(), 0)
        self.assertNotEqual(server.client().ask(request)["stdout"], "\n")

    def test_M36_three_connections_however_many_flights(self):
        server = self.serve(self.one)
        client = server.client()
        held = [self.held_line(f": {number}") for number in range(12)]
        for number, (line, _, _) in enumerate(held):
            self.ask(client, line, number)
        for _, _, begun in held:
            self.begun(begun)
        elsewhere = self.serve(self.two).client()
        for number, (line, _, _) in enumerate(held):
            self.ask(elsewhere, line, number, output="stream")
        told = set()
        while len(told) < len(held):  # all are followed, and their output has come
            told.add(elsewhere.until(lambda message: message.get("event") == "stdout")["id"])
            elsewhere.bytes(len("first\n"))
        self.assertLessEqual(self.connections(), 6)
        for _, gate, _ in held:
            self.open(gate)
        self.assertEqual({client.message()["exit"] for _ in held}, {0})
        self.assertEqual(self.runs(), len(held))

    def test_M36_engine_down_has_a_code_of_its_own(self):
        server = self.serve(self.one, parameters="&lease=2s")
        other = self.serve(self.two, parameters="&lease=2s&down=run")
        self.engine.stop(signal.SIGKILL)
        answer = self.ask(server.client(), "echo x", 1).message()
        self.assertEqual((answer["exit"], answer["error"]["code"], answer["stdout"]), (125, "engine_down", ""))
        self.assertIn("down=run", answer["error"]["message"])
        # M7: it runs alone, and whoever hears of its start is told.
        live = self.ask(other.client(), "echo x", 1, output="stream", quiet=True)
        notice = live.message()
        self.assertEqual(notice["event"], "notice")
        self.assertIn("alone", notice["message"])
        messages, output = live.stream()
        self.assertEqual((messages[-1]["exit"], output[1, "stdout"]), (0, b"x\n"))
        self.assertIn("alone", other.logged())
        status, out, err = self.two.call("run", "--socket", other.path, "--cluster-scope", "tonight", "echo", "y")
        self.assertEqual((status, out), (0, "y\n"))
        self.assertEqual(err.count("\n"), 1)
        self.assertIn("alone", err)
        status, out, err = self.one.call("run", "--socket", server.path, "--cluster-scope", "tonight", "echo", "y")
        self.assertEqual((status, out), (125, ""))
        self.assertIn("down=run", err)

    def test_M30_whole_answers_start_over_and_streams_end_as_lost(self):
        # The held command has said something before its machine goes.
        for output in ("whole", "stream"):
            line, gate, begun = self.held_line(f": {output}; echo last")
            runs = self.runs()
            first = self.one.start(*self.run_words("-c", line, parameters="&lease=2s"))
            self.begun(begun)
            server = getattr(self, "server", None) or self.serve(self.two, parameters="&lease=2s")
            self.server = server
            waiting = self.ask(server.client(), line, 7, output=output)
            if output == "stream":
                message = waiting.until(lambda message: message["event"] == "stdout")
                self.assertEqual(waiting.bytes(message["bytes"]), b"first\n")
            else:
                self.await_output(server)
            [flight] = [json.loads(line) for line in self.one.call("status", "--json")[1].splitlines()]
            machines.crash(first, flight)
            if output == "whole":
                while self.runs() < runs + 2:
                    machines.a_moment()
                self.open(gate)
                answer = waiting.message()
                self.assertEqual((answer["exit"], answer["stdout"]), (0, "first\nlast\n"))
            else:
                end = waiting.message()
                self.assertEqual((end["exit"], end["code"]), (125, "lost"))
                self.assertRegex(end["message"], "was lost after 6 bytes")

    def await_output(self, server):
        with machines.harness.Client(server.path) as client:
            while not client.ask({"op": "status"})["flights"][0]["output"]:
                machines.a_moment()

    def test_M19_a_connection_that_closes_leaves_and_the_last_ends_the_run(self):
        line, _, begun = self.held_line("echo no")
        server = self.serve(self.one)
        first = self.ask(server.client(), line, 1, grace=0)
        self.begun(begun)
        other = self.serve(self.two).client()
        self.ask(other, line, 1)
        self.await_machines(server, 2)
        first.close()
        other.close()
        self.all_gone()
        self.assertEqual(self.runs(), 1)

    def test_M21_cancel_at_the_runners_server_is_for_everyone(self):
        line, gate, begun = self.held_line()
        server = self.serve(self.one)
        first = self.ask(server.client(), line, 1)
        self.begun(begun)
        other = self.ask(self.serve(self.two).client(), line, 1)
        flight = self.await_machines(server, 2)
        self.assertEqual(server.client().ask({"op": "cancel", "flight": flight["id"]})["event"], "cancelled")
        for client in (first, other):
            answer = client.message()
            self.assertEqual((answer["exit"], answer["error"]["code"]), (125, "cancelled"))

    def test_M19_a_server_that_is_told_to_end_is_no_reason_for_others_to_fail(self):
        line, gate, begun = self.held_line("echo last")
        server = self.serve(self.one, "--drain", "0", "--grace", "0")
        first = self.ask(server.client(), line, 1)
        self.begun(begun)
        other = self.ask(self.serve(self.two).client(), line, 1)
        self.await_machines(server, 2)
        self.assertEqual(server.stop(), 0)
        self.assertEqual(first.message()["error"]["code"], "cancelled")
        while self.runs() < 2:  # it runs where somebody waits
            machines.a_moment()
        self.open(gate)
        self.assertEqual(other.message()["stdout"], "first\nlast\n")

    def test_M4_M3_a_server_that_cannot_share_says_so_at_its_start_if_it_was_meant_to(self):
        status, _, err = self.one.call("serve", "--cluster", f"redis://x?secret={self.box.path('none')}")
        self.assertEqual(status, 125)
        self.assertIn("secret", err)
        # A variable may be meant for others: who names a scope is told, and nobody else.
        server = self.one.serve(env={"COALESCE_CLUSTER": f"redis://x?secret={self.box.path('none')}"})
        client = server.client()
        self.assertEqual(client.ask({"line": "echo x"})["stdout"], "x\n")
        error = client.ask({"line": "echo x", "cluster_scope": "tonight"})["error"]
        self.assertEqual(error["code"], "engine_down")
        self.assertIn(self.box.path("none"), error["message"])

    def test_M36_the_variable_names_the_engine(self):
        server = self.one.serve(env={"COALESCE_CLUSTER": self.box.url(self.engine)})
        self.assertNotEqual(self.ask(server.client(), "echo $COALESCE_FENCE", 1).message()["stdout"], "\n")

    def test_M36_a_batch_takes_the_scope_of_its_requests(self):
        request = '{"line":"echo ran >>runs; echo x"%s}\n'
        def batch(host, scope):
            self.box.file("list", request % (f',"cluster_scope":"{scope}"' if scope else ""))
            return host.call("--cluster", self.box.url(self.engine), "--cluster-scope", "tonight", "--once", "--json", "-a", "list")
        for host, scope, runs in ((self.one, "", 1), (self.two, "tonight", 1), (self.three, "tomorrow", 2)):
            self.assertEqual(batch(host, scope), (0, "x\n", ""))
            self.assertEqual(self.runs(), runs)


if __name__ == "__main__":
    machines.main()
