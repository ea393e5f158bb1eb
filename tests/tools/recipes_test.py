# SPDX-License-Identifier: MIT
"""Recipes of the manual with tools that need nothing but themselves. Those with daemons: services_test.py."""

import json
import os
import re
import shlex
import signal
import subprocess

import recipes
from recipes import put, recipe, rules

SOURCES = 15


class Builds(recipes.Test):
    """Two builds at once are one: each compiler run of the second joins one of the first."""

    def setUp(self):
        super().setUp()
        self.box.program("compiler", f"echo compiled >>{self.box.work}/runs\n{self.box.hold}\nexec \"$REAL\" \"$@\"\n")

    def build_twice(self, build, count):
        with self.box.holding():
            builds = [self.box.shell(build) for _ in range(2)]
            self.box.wait_for_requesters(2, count)
        for one in builds:
            self.end(one)
        self.assertEqual(self.box.runs(), count)

    def test_make(self):
        self.need("make", "gcc")
        self.box.env["REAL"] = "gcc"
        for number in range(SOURCES):
            self.box.file(f"f{number}.c", f"int f{number}(void) {{ return {number}; }}\n")
        self.box.file("main.c", "int f7(void); int main(void) { return f7(); }\n")
        self.box.file("Makefile", "CC = compiler\nobjects = $(patsubst %.c,%.o,$(wildcard *.c))\n"
                                  "program: $(objects)\n\tgcc -o $@ $(objects)\n%.o: %.c\n\t$(CC) -c $< -o $@\n")
        self.build_twice(put(recipe("make"), **{"-j4": "-j99"}), SOURCES + 1)
        # Not by each of them: the link is not held, so that the other may be at it.
        self.end(self.box.shell("./program"), status=7)

    def test_cmake(self):
        self.need("cmake", "make", "g++")
        self.box.env["REAL"] = "g++"
        for number in range(3):
            self.box.file(f"f{number}.cpp", f"int f{number}() {{ return {number}; }}\n")
        self.box.file("CMakeLists.txt", "cmake_minimum_required(VERSION 3.20)\nproject(p CXX)\n"
                                        "add_library(f OBJECT f0.cpp f1.cpp f2.cpp)\n")
        configure, build = recipe("cmake").splitlines()
        # Its own looks at the compiler go without the launcher.
        self.end(self.box.shell(configure + " -G 'Unix Makefiles' -DCMAKE_CXX_COMPILER_WORKS=1 "
                                            "-DCMAKE_CXX_COMPILER=" + self.box.bin + "/compiler"))
        os.remove(self.box.file("runs"))
        self.build_twice(build + " -j 9", 3)


class Watchers(recipes.Test):
    def test_git_hook(self):
        """Two pushes, and somebody who runs the hook by hand."""
        self.need("git")
        self.box.program("make", f"echo checked >>{self.box.work}/runs\n{self.box.hold}\n")
        self.end(self.box.shell("git init -q --bare ../other; git init -q; git remote add other ../other; mkdir below; "
                                "git -c user.name=a -c user.email=a@b commit -q --allow-empty -m first"))
        self.box.file(".git/hooks/pre-push", recipe("git"), 0o755)
        with self.box.holding():
            asked = [self.box.shell("git push -q other HEAD:refs/heads/one"),
                     self.box.shell("cd below; git push -q other HEAD:refs/heads/two"),
                     self.box.shell("git hook run pre-push")]
            self.box.wait_for_requesters(3)
        for one in asked:
            self.assertEqual(self.end(one), "")
        self.assert_ran_once()
        self.assertEqual(self.end(self.box.shell("git -C ../other for-each-ref --format '%(refname:short)'")), "one\ntwo\n")

    def test_entr(self):
        """Two watchers that see one change share a build; the next change is another."""
        self.need("entr", "git")
        self.box.program("make", f"echo made >>{self.box.work}/runs\n{self.box.hold}\ncat source\n")
        self.box.file("source", "first\n")
        self.end(self.box.shell("git init -q; git add source"))
        for age in ("1s", "10s", "100s", "1000s"):  # a busy machine may be slow to see it
            watch = put(recipe("entr"), **{"entr": "entr -n", "1s": age}).strip()
            with self.box.holding():  # each builds once at its start
                watchers = [subprocess.Popen(["sh", "-c", watch], cwd=self.box.work, env=self.box.env, text=True,
                                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True)
                            for _ in range(2)]
                self.box.started += watchers
                while sum(flight["requesters"] for flight in self.box.status()) != 2:
                    recipes.a_moment()
                shared = len(self.box.status()) == 1 and self.box.runs() == 1
            if shared:
                seen = [watcher.stdout.readline() for watcher in watchers]
            for watcher in watchers:
                os.killpg(watcher.pid, signal.SIGTERM)
                watcher.wait()
                watcher.stdout.close()
            self.box.nothing_in_flight()
            if shared:
                self.assertEqual(seen, ["first\n"] * 2)
                return
            os.remove(self.box.file("runs"))
        self.fail("the watchers did not share a build")

    def test_tmux(self):
        """The status line of two clients is one look at the tree."""
        self.need("tmux", "git")
        real = self.end(self.box.shell("command -v git")).strip()
        self.end(self.box.shell("git init -q; git symbolic-ref HEAD refs/heads/trunk"))
        self.box.program("git", f"echo asked >>{self.box.work}/runs\nexec {real} \"$@\"\n")
        self.box.file("tmux.conf", put(recipe("tmux"), **{"5s": "1h"}) + "set -g status-right-length 99\n")
        inner = f"env -u TMUX tmux -S {self.box.path('inner')} -f tmux.conf"
        outer = f"env -u TMUX tmux -S {self.box.path('outer')} -f /dev/null"
        self.addCleanup(lambda: self.box.shell(f"{outer} kill-server; {inner} kill-server").communicate())
        self.end(self.box.shell(f"{inner} new -d cat"))
        self.end(self.box.shell(f"{outer} new -d -x 150 -y 9 '{inner} attach'; {outer} new -d -x 150 -y 9 '{inner} attach'"))
        for window in ("0", "1"):
            while "No commits yet on trunk" not in self.end(self.box.shell(f"{outer} capture-pane -p -t {window}")):
                recipes.a_moment()
        self.assert_ran_once()


class Jobs(recipes.Test):
    def test_parallel(self):
        self.need("parallel")
        self.box.program("fetch", f"echo $1 >>{self.box.work}/runs\n{self.box.hold}\necho got $1\n")
        self.box.file("list", "a\nb\na\n")
        with self.box.holding():
            jobs = self.box.shell(put(recipe("parallel"), **{"parallel ": "parallel -j 3 "}))
            self.box.wait_for_requesters(2)
            self.box.wait_for_requesters(1)
        self.assertEqual(sorted(self.end(jobs).split("\n")[:3]), ["got a", "got a", "got b"])
        self.assertEqual(sorted(self.box.read("runs").split()), ["a", "b"])

    def test_systemd(self):
        """The timer's units are right, and who runs the same by hand joins the service."""
        self.need("systemd-analyze")
        service, timer = re.findall(r"^# \S*/(report\.\w+)\n(.*?)(?=^# |\Z)", recipe("systemd.timer"), re.M | re.S)
        self.assertEqual((service[0], timer[0]), ("report.service", "report.timer"))
        service = (service[0], put(service[1], **{"/usr/bin/coalesce": self.box.bin + "/coalesce"}))
        units = [self.box.file(name, text) for name, text in (service, timer)]
        self.assertEqual(self.end(self.box.shell("systemd-analyze verify --user --man=no " + shlex.join(units))), "")
        self.box.file(timer[0], put(timer[1], OnCalendar="OnCallendar"))
        self.assertIn("OnCallendar", self.box.shell("systemd-analyze verify --user --man=no " + shlex.join(units)).communicate()[0])

        os.mkdir(self.box.path("home/bin"))
        self.box.program("report", f"echo reported >>{self.box.work}/runs\n{self.box.hold}\n")
        os.rename(self.box.path("bin/report"), self.box.path("home/bin/report"))
        home = self.box.path("home")
        start = re.search("ExecStart=(.*)", service[1]).group(1).replace("%h", home)
        units_env = {name: self.box.env[name] for name in ("HOME", "XDG_RUNTIME_DIR")}
        units_env |= {"PATH": "/usr/bin:/bin", "INVOCATION_ID": "1", "SYSTEMD_EXEC_PID": "2", "USER": "u"}
        with self.box.holding():
            asked = [self.box.shell(start, cwd=home, env=units_env),
                     self.box.shell("cd; coalesce run --only-env HOME ~/bin/report")]
            self.box.wait_for_requesters(2)
        for one in asked:
            self.end(one)
        self.assert_ran_once()

    def test_sudo(self):
        """Two who become root meet there, though sudo tells them apart."""
        self.need("sudo")
        if subprocess.run(["sudo", "-n", "true"], check=False, capture_output=True).returncode != 0:
            self.skipTest("the manual's recipe for sudo: it asks for a password")
        update = self.box.program("apt-get", f"echo updated >>{self.box.work}/runs\n{self.box.hold}\n")
        place = self.box.path("place")
        line = put(recipe("sudo").strip(), **{"sudo ": "sudo -n ", "apt-get": update,
                                              "coalesce run": f"{self.box.bin}/coalesce run --place {place}"})
        with self.box.holding():
            asked = [self.box.shell(line), self.box.shell(line.replace("sudo -n", "sudo -n env"))]
            while subprocess.run(["sudo", "-n", recipes.COALESCE, "status", "--json", "--place", place], check=False,
                                 capture_output=True, text=True).stdout.count('"requesters":2') != 1:
                pass
        for one in asked:
            self.end(one)
        self.assert_ran_once()


class Typed(recipes.Test):
    def test_prompt(self):
        self.need("bash", "git")
        self.end(self.box.shell("git init -q; git symbolic-ref HEAD refs/heads/trunk"))
        self.box.file("profile", recipe("bash"))
        shell = subprocess.run(["bash", "--rcfile", "profile", "-i"], cwd=self.box.work, env=self.box.env, check=False,
                               input="echo typed\n", capture_output=True, text=True)
        self.assertEqual((shell.returncode, shell.stdout), (0, "typed\n"))
        self.assertIn("## No commits yet on trunk " + ("#" if os.geteuid() == 0 else "$") + " ", shell.stderr)

    def test_agents(self):
        """A2, Y1: two agents that know nothing of us, and read different ends of one suite"""
        self.box.file("src/a", "a\n")
        self.box.file("tests/b", "b\n")
        self.box.program("pytest", f"echo tested >>{self.box.work}/runs\n{self.box.hold}\necho a; echo b; exit 1\n")
        os.makedirs(self.box.path("home/.config/coalesce"))
        os.makedirs(self.box.path("links"))
        os.symlink(recipes.COALESCE, self.box.path("links/pytest"))
        with open(self.box.path("home/.config/coalesce/config.toml"), "w", encoding="utf-8") as file:
            file.write(rules("AGENTS THAT SHARE A CHECKOUT"))
        self.box.env["PATH"] = self.box.path("links") + ":" + self.box.env["PATH"]
        with self.box.holding():
            asked = [self.box.shell(f"pytest -q | tail -n {lines}", env={**self.box.env, "CLAUDE_CODE_SESSION_ID": str(lines)})
                     for lines in (1, 2)]
            self.box.wait_for_requesters(2)
        self.assertEqual([self.end(one) for one in asked], ["b\n", "a\nb\n"])
        self.assertEqual(self.end(self.box.shell("pytest -q | head -n 1")), "a\n")  # kept
        self.assert_ran_once()
        self.box.file("src/a", "changed\n")
        self.assertEqual(self.end(self.box.shell("pytest -q"), 1), "a\nb\n")
        self.assertEqual(self.box.runs(), 2)


CONTAINER = ["unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"]
NO_ZOMBIES = ("while grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null | grep -q .; do :; done; ")
ORPHANS = "for i in 1 2 3 4 5; do (true & true) & done; wait; "


class Containers(recipes.Test):
    def setUp(self):
        super().setUp()
        if subprocess.run([*CONTAINER, "true"], check=False, capture_output=True).returncode != 0:
            self.skipTest("the manual's recipes for containers: no namespaces can be had")

    def container(self, *words, **more):
        process = subprocess.Popen([*CONTAINER, *words], cwd=self.box.work, env=self.box.env, stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **more)
        self.box.started.append(process)
        return process

    def entry(self):
        [line] = [line for line in recipe("docker").splitlines() if line.startswith("ENTRYPOINT")]
        return json.loads(line.removeprefix("ENTRYPOINT"))

    def test_first_process(self):
        """F13: as PID 1 run reaps whatever comes, and the command does not learn of it"""
        here = self.container(*self.entry(), "sh", "-c", ORPHANS + NO_ZOMBIES + "grep SigIgn /proc/self/status; exit 3")
        self.assertEqual(self.end(here, 3).split(), ["SigIgn:", "0" * 16])

    def test_first_process_is_told_to_stop(self):
        """TERM, which a PID 1 without a handler does not hear, ends the run in order."""
        begun = self.box.gate("begun")
        here = self.container(*self.entry(), "sh", "-c", f"trap 'echo told; exit 4' TERM; echo >{begun}; sleep 700 & wait")
        with open(begun, encoding="utf-8") as file:
            file.read()
        with open(f"/proc/{here.pid}/task/{here.pid}/children", encoding="utf-8") as children:
            [first] = children.read().split()
        os.kill(int(first), signal.SIGTERM)
        self.assertEqual(self.end(here, 4), "told\n")

    def test_under_a_shell(self):
        """F13: nothing of ours is left to a PID 1 that does not reap"""
        script = ("for i in 1 2 3; do coalesce run true; done; coalesce run -c 'sleep 700 & true'; "
                  "printf 'true\\nfalse\\n' | coalesce || true; grep -l '^State:.Z' /proc/[0-9]*/status || echo none")
        self.assertEqual(self.end(self.container("sh", "-c", script)), "none\n")

    def test_two_that_share_a_tree(self):
        self.box.program("make", f"echo tested >>{self.box.work}/runs\n{self.box.hold}\n")
        [line] = [line for line in recipe("docker").splitlines() if "coalesce run" in line and "ENTRYPOINT" not in line]
        words = shlex.split(put(line, **{"/place": self.box.path("place")}))
        with self.box.holding():
            both = [self.container("env", f"HOSTNAME={name}", *words) for name in ("one", "two")]
            self.box.wait_for_requesters(2, 1, "--place", self.box.path("place"))
        for one in both:
            self.assertEqual(self.end(one), "")
        self.assert_ran_once()


if __name__ == "__main__":
    recipes.main()
