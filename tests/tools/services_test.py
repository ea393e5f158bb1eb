# SPDX-License-Identifier: MIT
"""Recipes of the manual that need a daemon, or more than a package or two: for `tests/run tools` only.

Daemons see directories of their own under /run and /var/spool, in a mount namespace, and
listen where nobody looks for them; what else this machine has of their kind is not touched.
"""

import os
import re
import shlex
import signal
import socket
import subprocess

import recipes
from recipes import put, recipe

LOGIN = ["setpriv", "--reuid=0", "--regid=0", "--init-groups"]  # which gives root its groups, as cron does


class Services(recipes.Test):
    def need_own_directories(self, tool):
        if subprocess.run(["unshare", "--mount", "true"], check=False, capture_output=True).returncode != 0:
            self.skipTest(f"the manual's recipe for {tool}: no mount namespace can be had")

    def test_cron(self):
        """A real cron's job, and who runs the same at a terminal meanwhile, are one run."""
        self.need("cron")
        self.need_own_directories("cron")
        home = os.path.expanduser("~root")
        self.box.file("report", f"#!/bin/sh\necho reported >>runs\n{self.box.hold}\n", 0o755)
        crontab = put(recipe("cron"), **{"*/5": "*", "/srv/x": self.box.work})
        self.box.file("crontab", f"PATH={self.box.bin}:/usr/bin:/bin\n{crontab}")
        typed = re.search("coalesce run.*", crontab).group()
        script = f"""
            for directory in /run /var/spool/cron /etc/cron.d; do mount -t tmpfs -o mode=755 none $directory; done
            mkdir -p -m 700 /run/user/0 /var/spool/cron/crontabs
            install -m 600 crontab /var/spool/cron/crontabs/root
            : >empty; mount --bind empty /etc/crontab
            export XDG_RUNTIME_DIR=/run/user/0 HOME={home}
            setpriv --pdeathsig KILL env -u XDG_RUNTIME_DIR -u HOME cron -f >cron.log 2>&1 & cron=$!
            until coalesce status --json | grep -q '"requesters":1'; do :; done
            echo started; {typed} & terminal=$!
            until coalesce status --json | grep -q '"requesters":2'; do :; done
            kill $cron
            echo both; wait $terminal; echo "status $?"
        """
        with self.box.holding():
            here = subprocess.Popen(["unshare", "--mount", *LOGIN, "sh", "-ec", script], cwd=self.box.work, env=self.box.env, text=True,
                                    stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            self.box.started.append(here)
            self.assertEqual([here.stdout.readline(), here.stdout.readline()], ["started\n", "both\n"])
        self.assertEqual(self.end(here), "status 0\n")
        self.assert_ran_once()

    def test_ssh(self):
        """Two logins join; who is cut off leaves, and the last one's end is the run's."""
        self.need("sshd", "ssh", "ssh-keygen")
        if os.geteuid() == 0:
            self.need_own_directories("ssh")
        key, place = self.box.path("key"), self.box.path("place")
        self.end(self.box.shell(f"ssh-keygen -q -t ed25519 -N '' -f {key}"))
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.box.file("sshd_config", f"ListenAddress 127.0.0.1:{port}\nHostKey {key}\nAuthorizedKeysFile {key}.pub\n"
                                     f"StrictModes no\nUsePAM no\nPidFile none\n"
                                     f"SetEnv COALESCE_PLACE={place} PATH={self.box.bin}:/usr/bin:/bin\n")
        sshd = f"exec setpriv --pdeathsig KILL /usr/sbin/sshd -D -e -f {self.box.work}/sshd_config"
        if os.geteuid() == 0:
            sshd = "unshare --mount sh -c 'mount -t tmpfs -o mode=755 none /run; mkdir /run/sshd; " + sshd + "'"
        daemon = self.box.shell("exec " + sshd)
        while "Server listening" not in (line := daemon.stdout.readline()):
            self.assertTrue(line, "sshd ended")
        self.box.program("make", "trap 'echo ended >>ended; exit 5' TERM; echo made | tee -a runs; sleep 700 & wait\n")
        options = f"-F none -i {key} -p {port} -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"
        login = "exec " + put(recipe("ssh").strip(), **{"ssh host": f"ssh {options} localhost", "project": self.box.work})
        first, second = self.box.shell(login), self.box.shell(login)
        self.box.wait_for_requesters(2, 1, "--place", place)
        self.assertEqual([first.stdout.readline(), second.stdout.readline()], ["made\n"] * 2)
        first.kill()
        first.wait()
        while [flight["requesters"] for flight in self.box.status("--place", place)] != [1]:
            recipes.a_moment()
        self.assertEqual(self.box.read("ended"), "")
        second.kill()
        second.wait()
        while self.box.status("--place", place):
            recipes.a_moment()
        self.assertEqual(self.box.read("ended"), "ended\n")
        self.assert_ran_once()
        daemon.send_signal(signal.SIGTERM)
        daemon.wait()

    def test_npm(self):
        """The script by both of its names is one run."""
        self.need("npm", "node")
        self.box.env["npm_config_update_notifier"] = "false"
        hold = shlex.split(self.box.hold)
        self.box.file("package.json", "{" + recipe("npm") + "}")
        self.box.file("test.js", "require('fs').appendFileSync('runs', 'tested\\n');\n"
                                 f"require('child_process').execFileSync({hold[0]!r}, {hold[1:]!r});\nconsole.log('passed');\n")
        with self.box.holding():
            asked = [self.box.shell("npm test"), self.box.shell("npm run test")]
            self.box.wait_for_requesters(2)
        for one in asked:
            self.assertIn("passed\n", self.end(one))
        self.assert_ran_once()


if __name__ == "__main__":
    recipes.main()
