#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What coalesce-protocol(7) shows is what happens: its sessions are run, and its
list of error codes is compared with the program's."""

import glob
import os
import re
import shutil
import subprocess
import sys

from harness import ServerTest, main

SOURCE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")


def manual():
    with open(SOURCE + "/man/coalesce-protocol.7") as file:
        return file.read()


def literal_blocks():
    blocks = re.findall(r"^\.Bd -literal.*?\n(.*?)^\.Ed", manual(), re.M | re.S)
    return [block.replace(r"\e", "\\") for block in blocks]


class Manual(ServerTest):
    def test_it_is_clean(self):
        if shutil.which("mandoc") is None:
            self.skipTest("no mandoc")
        lint = subprocess.run(["mandoc", "-Tlint", SOURCE + "/man/coalesce-protocol.7"], capture_output=True, text=True, check=False)
        complaints = [line for line in lint.stdout.splitlines() if "referenced manual not found" not in line]
        self.assertEqual(complaints, [])

    def test_its_shell_sessions_are_what_happens(self):
        if shutil.which("socat") is None:
            self.skipTest("no socat")
        server = self.serve()
        for session in (block for block in literal_blocks() if block.startswith("$ ")):
            for exchange in re.split(r"^\$ ", session, flags=re.M)[1:]:
                command, expected = exchange.split("\n", 1)
                with self.subTest(command=command):
                    ran = subprocess.run(["sh", "-c", command], env={**server.env, "SOCKET": server.path}, capture_output=True, text=True, check=True)
                    pattern = re.escape(expected).replace(r",\.\.\.\}", r",.*\}").replace(r"\.\.\.", r"[0-9.]+")
                    self.assertRegex(ran.stdout, "^" + pattern + "$")

    def test_netcat_will_do(self):
        if shutil.which("nc") is None or "-N" not in subprocess.run(["nc", "-h"], capture_output=True, text=True, check=False).stderr:
            self.skipTest("no nc that knows -N")
        server = self.serve()
        ran = subprocess.run(["nc", "-NU", server.path], input=b"echo date\n", capture_output=True, check=True)
        self.assertIn(b'"exit":0', ran.stdout)

    def test_its_client_in_python_works(self):
        (client,) = [block for block in literal_blocks() if block.startswith("import base64")]
        server = self.serve()

        def run(*command, **env):
            return subprocess.run([sys.executable, "-c", client, server.path, *command], cwd=server.directory, env={**os.environ, **env},
                                  capture_output=True, check=False)

        ran = run("sh", "-c", "printf 'a\\0b'; echo oops >&2; pwd; exit 7")
        self.assertEqual((ran.returncode, ran.stdout, ran.stderr), (7, b"a\0b" + server.directory.encode() + b"\n", b"oops\n"))
        ran = run("sh", "-c", "head -c 3000000 /dev/zero; kill -9 $$")
        self.assertEqual((ran.returncode, len(ran.stdout)), (137, 3000000))
        ran = run("/no/such")
        self.assertEqual(ran.returncode, 127)
        self.assertIn(b"/no/such", ran.stderr)
        ran = run("sh", "-c", 'printf "%s|" "$1" "$X"', "sh", b"\xe9", X=b"\xff")  # bytes that are no UTF-8
        self.assertEqual((ran.returncode, ran.stdout), (0, b"\xe9|\xff|"), ran.stderr)

    def test_its_client_of_several_descriptors_works(self):
        (client,) = [block for block in literal_blocks() if block.startswith("import json")]
        server = self.serve()
        lines = ["echo a; echo b >&2", "true", "sleep 0.1; echo c; exit 3", "echo d"]
        ran = subprocess.run([sys.executable, "-c", client, server.path, *lines], capture_output=True, check=True, text=True)
        told = {i: [line.split(maxsplit=1)[1] for line in ran.stdout.splitlines() if line.startswith(f"{i} ")] for i in range(4)}
        self.assertEqual(sorted(told[0][:2]), ["stderr b", "stdout a"])
        self.assertEqual((told[0][2:], told[1], told[2], told[3]),
                         (["exit 0"], ["exit 0"], ["stdout c", "exit 3"], ["stdout d", "exit 0"]))

    def test_every_error_code_of_the_program_is_in_it_and_no_other(self):
        text = manual()
        listed = set()
        for tag in re.findall(r"^\.It Ql (.*)$", text[text.index(".Ss Errors") : text.index(".Ss The end of")], re.M):
            listed |= set(re.split(" No (?:and|or) Ql ", tag))
        code = ""
        for room in ("protocol", "reception", "serve"):
            for path in glob.glob(f"{SOURCE}/lib/coalesce/{room}/*.cpp"):
                with open(path) as file:
                    code += file.read()
        used = set(re.findall(r'refuse\([^;]*?,\s*(?:found\.empty\(\) \? )?"([a-z_]+)"', code))
        used |= set(re.findall(r'Refusal\{"([a-z_]+)"', code)) | set(re.findall(r'[ (](?:error|fail|refuse)\("([a-z_]+)"', code))
        used |= set(sum(re.findall(r'fail\(\w+ \? "([a-z_]+)" : "([a-z_]+)"', code), ()))
        used |= set(re.findall(r'"code":"([a-z_]+)"', code)) | set(re.findall(r'case Outcome::Kind::\w+:\s+return "([a-z_]+)"', code))
        used |= set(re.findall(r'deadlock \? "([a-z_]+)" : "([a-z_]+)"', code)[0])
        used |= set(re.findall(r'error_line\((?:[\w.>-]+|\{\}),\s*"([a-z_]+)"', code))
        used |= {name for pair in re.findall(r'EMFILE.*\? "([a-z_]+)" : "([a-z_]+)"', code) for name in pair}
        self.assertEqual(listed, used)


if __name__ == "__main__":
    main()
