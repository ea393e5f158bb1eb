#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What a server tells those who look after it: stats, metrics, and flights as they come and go."""

import json
import os
import re
import select
import unittest

from harness import ServerTest, a_moment, main


class Watch(ServerTest):
    def test_a_watcher_hears_of_starts_joins_and_ends(self):
        server = self.serve()
        gate = server.gate("gate")
        with server.client() as asking, server.client() as watcher:
            asking.send({"id": 1, "line": gate.wait + "; exit 3", "output": "stream"})
            started = asking.message()
            self.assertEqual(started["event"], "started")
            watching = watcher.ask({"id": "w", "op": "watch"})
            self.assertEqual((watching["id"], watching["event"]), ("w", "watching"))
            self.assertEqual([flight["pid"] for flight in watching["flights"]], [started["pid"]])
            flight = watching["flights"][0]["id"]
            asking.send({"id": 2, "line": gate.wait + "; exit 3"})
            joined = watcher.message()
            self.assertEqual((joined["id"], joined["event"], joined["flight"]["id"]), ("w", "joined", flight))
            self.assertEqual(joined["flight"]["requesters"], 2)
            gate.let()
            ended = watcher.message()
            self.assertEqual((ended["event"], ended["flight"]["id"], ended["exit"]), ("ended", flight, 3))
            self.assertGreater(ended["duration"], 0)
            asking.send({"id": 3, "line": "kill -9 $$"})
            begun = watcher.message()
            self.assertEqual((begun["event"], begun["flight"]["command"]), ("started", "kill -9 $$"))
            ended = watcher.message()
            self.assertEqual((ended["event"], ended["signal"], ended["flight"]["id"]), ("ended", 9, begun["flight"]["id"]))
            # It is left as a request is, and then no more is heard.
            self.assertEqual(watcher.ask({"id": "w", "op": "leave"}), {"id": "w", "event": "left"})
            asking.until(lambda message: message.get("id") == 3)
            asking.ask({"id": 4, "line": "true"})
            watcher.settled()
            self.assertEqual(watcher.ask({"id": "w", "op": "leave"})["error"]["code"], "no_such_request")

    def test_a_watcher_that_will_send_no_more_is_still_told(self):
        server = self.serve()
        with server.client() as asking, server.client() as watcher:
            watcher.ask({"op": "watch"})
            watcher.half_close()
            while server.stats()["clients"] < 3:
                a_moment()
            asking.ask({"id": 1, "line": "true"})
            self.assertEqual([watcher.message()["event"] for _ in range(2)], ["started", "ended"])
        server.stop()

    def test_a_watcher_that_reads_nothing_holds_nobody_and_is_told_what_it_missed(self):
        server = self.serve()
        with server.client() as asking, server.client() as watcher:
            watcher.ask({"op": "watch"})
            runs = 400
            name = "true " + "x" * 3000  # so that few events fill the connection
            for turn in range(runs):
                asking.ask({"id": turn, "line": f"{name} {turn}"})
            heard = 0
            while True:  # until something has been sent that was not missed
                if b"\n" not in watcher.input and not select.select([watcher.socket], [], [], 0)[0]:
                    asking.ask({"line": "true"})
                    runs += 1
                    continue
                message = watcher.message()
                if message["event"] == "missed":
                    break
                heard += 1
            self.assertGreater(heard, 0)
            self.assertGreater(message["events"], 0)
            self.assertLessEqual(heard + message["events"], 2 * runs)

    def test_s9_a_client_has_a_few_watches_and_is_told_of_one_too_many(self):
        server = self.serve()
        with server.client() as asking, server.client() as watcher:
            for number in range(16):
                self.assertEqual(watcher.ask({"id": number % 8, "op": "watch"})["event"], "watching")
            self.assertEqual(watcher.ask({"id": "more", "op": "watch"})["error"]["code"], "too_many_requesters")
            self.assertEqual(watcher.ask({"id": "more", "op": "leave"})["error"]["code"], "no_such_request")
            self.assertEqual(asking.ask({"op": "watch"})["event"], "watching")  # nobody else's count
            asking.ask({"op": "leave"})
            self.assertEqual(watcher.ask({"id": 3, "op": "leave"}), {"id": 3, "event": "left"})
            self.assertEqual(watcher.ask({"id": "more", "op": "watch"})["event"], "watching")
            asking.ask({"line": "true"})
            heard = [watcher.message() for _ in range(32)]
            expected = sorted([*range(8), *range(8), "more"], key=str)
            expected.remove(3)
            for event in ("started", "ended"):
                self.assertEqual(sorted((one["id"] for one in heard if one["event"] == event), key=str), expected)
            watcher.settled()

    def test_a_user_hears_of_its_own_flights_only(self):
        if os.geteuid() != 0:
            self.skipTest("not root")
        server = self.serve("--allow-user", "65534")
        with server.client() as ours:
            os.seteuid(65534)
            try:
                theirs = server.client()
            finally:
                os.seteuid(0)
            self.assertEqual(theirs.ask({"op": "watch"})["event"], "watching")
            ours.ask({"line": "echo ours"})
            theirs.settled()
            self.assertEqual(theirs.ask({"id": 1, "line": "echo theirs"})["flight"]["command"], "echo theirs")


class Stats(ServerTest):
    def test_stats_count_failures_timeouts_output_and_durations(self):
        server = self.serve()
        with server.client() as client:
            client.ask({"line": "printf 1234567"})
            client.ask({"line": "exit 3"})
            client.ask({"argv": ["/nonexistent"]})
            client.ask({"line": "kill -9 $$"})
            client.ask({"line": "sleep 1000", "timeout": 0.01})
            client.send({"id": "gone", "line": "sleep 1000", "output": "stream"})
            client.until(lambda message: message.get("event") == "started")
            client.ask({"id": "gone", "op": "leave"})
            while (stats := server.stats())["cancelled"] != 1:
                a_moment()
        self.assertEqual((stats["failures"], stats["timeouts"]), (3, 1))
        self.assertGreaterEqual(stats["output"], 7)
        self.assertEqual(sum(stats["durations"].values()), 5)
        self.assertEqual(list(stats["durations"])[-1], "+Inf")
        self.assertGreater(stats["run_time"], 0)

    def test_stats_openmetrics_is_what_prometheus_reads(self):
        server = self.serve()
        with server.client() as client:
            client.ask({"line": "exit 3"})
        answer = server.run("stats", "--openmetrics", "--socket", server.path)
        self.assertEqual(answer.returncode, 0, answer.stderr)
        lines = answer.stdout.decode().splitlines()
        self.assertEqual(lines[-1], "# EOF")
        families, samples = {}, {}
        name = None
        for line in lines[:-1]:
            if line.startswith("# TYPE "):
                _, _, name, kind = line.split()
                self.assertNotIn(name, families)
                families[name] = kind
            elif not line.startswith("# HELP "):
                found = re.fullmatch(r'(\w+)(?:\{(\w+="[^"]*"(?:,\w+="[^"]*")*)\})? (\d+(?:\.\d+)?)', line)
                self.assertIsNotNone(found, line)
                self.assertTrue(found[1].startswith(name), line)
                if families[name] == "counter":
                    self.assertEqual(found[1], name + "_total")
                samples[found[1], found[2]] = float(found[3])
        by_server = 'door="server"'
        self.assertEqual(samples["coalesce_failures_total", by_server], 1)
        self.assertEqual(samples["coalesce_requests_total", by_server], 1)
        self.assertEqual(families["coalesce_run_duration_seconds"], "histogram")
        buckets = [value for (name, _), value in samples.items() if name.endswith("_bucket")]
        self.assertEqual(buckets, sorted(buckets))
        self.assertEqual(samples["coalesce_run_duration_seconds_count", by_server], 1)

    def test_stats_openmetrics_counts_wrappers_where_there_is_no_server(self):
        server = self.serve()
        answer = server.run("stats", "--openmetrics", "--place", server.file("place"))
        self.assertIn('coalesce_joins_total{door="wrapper"} 0', answer.stdout.decode())
        self.assertEqual(json.loads(server.run("stats", "--json").stdout)["joins"], 0)


if __name__ == "__main__":
    main()
