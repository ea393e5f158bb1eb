# SPDX-License-Identifier: MIT
"""M8, A13: `coalesce cluster check`, whose words are enough to mend what it finds. Unfit engines are of A6, too."""

import os
import shutil
import socket
import subprocess
import threading
import unittest

import machines


class Check(machines.Test):
    def check(self, url, **more):
        return self.box.host(f"host{len(os.listdir(self.box.directory))}").call("cluster", "check", "--cluster", url, **more)

    def acl(self, engine, *rights):
        engine.ask("ACL", "SETUSER", "john", "reset", "on", ">geheim", *rights)
        password = self.box.file("password", "geheim\n", 0o600)
        return (f"redis+unix://john@{engine.socket}?secret={self.box.secret}"
                f"&password={password}")

    def test_a_good_engine(self):
        engine = self.box.engine()
        status, out, err = self.check(self.box.url(engine))
        self.assertEqual((status, err), (0, ""), out)
        for word in ("Redis", "round trip", "persistence", "fingerprint", "ACL SETUSER", "all play as they should",
                     "grants nothing for another"):
            self.assertIn(word, out)
        # M40: nothing is left of it.
        self.assertEqual(engine.ask("DBSIZE"), 0)

    def test_the_variable_names_it_too(self):
        engine = self.box.engine("--appendonly", "yes")
        status, out, err = self.box.host().call("cluster", "check", env={"COALESCE_CLUSTER": self.box.url(engine)})
        self.assertEqual((status, err), (0, ""), out)
        self.assertIn("append-only", out)
        self.assertNotIn("grants nothing", out)

    def test_equal_secrets_have_one_fingerprint(self):
        engine = self.box.engine()
        def fingerprint(secret):
            self.box.file("secret", secret, 0o600)
            return self.check(self.box.url(engine))[1].splitlines()[0]
        self.assertEqual(fingerprint("s" * 32), fingerprint("s" * 32 + "\n"))
        self.assertNotEqual(fingerprint("s" * 32), fingerprint("t" * 32))

    def test_no_engine(self):
        status, _, err = self.check(f"redis+unix://{self.box.path('none')}?secret={self.box.secret}")
        self.assertEqual(status, 125)
        self.assertIn(self.box.path("none"), err)

    def test_no_secret_and_a_secret_for_all(self):
        engine = self.box.engine()
        status, out, err = self.check(f"redis+unix://{engine.socket}")
        self.assertEqual(status, 125)
        self.assertIn("secret=FILE", err)
        self.assertIn("Redis", out)  # the rest is looked at all the same
        os.chmod(self.box.secret, 0o644)
        status, _, err = self.check(self.box.url(engine))
        self.assertEqual(status, 125)
        self.assertIn("chmod o= " + self.box.secret, err)

    def test_M6_an_engine_that_evicts(self):
        engine = self.box.engine("--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru")
        status, _, err = self.check(self.box.url(engine))
        self.assertEqual(status, 125)
        self.assertIn("CONFIG SET maxmemory-policy noeviction", err)
        engine.ask("CONFIG", "SET", "maxmemory-policy", "noeviction")
        self.assertEqual(self.check(self.box.url(engine))[0], 0)

    def test_M6_a_replica(self):
        engine = self.box.engine("--replicaof", "127.0.0.1", "1")
        status, _, err = self.check(self.box.url(engine))
        self.assertEqual(status, 125)
        self.assertIn("primary", err)

    def test_M6_an_old_engine(self):
        info = b"redis_version:6.0.16\r\nrole:master\r\nmaxmemory_policy:noeviction\r\nuptime_in_seconds:9\r\n"
        with FakeEngine(self.box.path("fake"), lambda word: b"$%d\r\n%s\r\n" % (len(info), info) if word == b"INFO" else b"+PONG\r\n"):
            status, _, err = self.check(f"redis+unix://{self.box.path('fake')}?secret={self.box.secret}")
        self.assertEqual(status, 125)
        self.assertIn("6.0.16", err)
        self.assertIn("7.0", err)

    def test_what_is_no_engine(self):
        with FakeEngine(self.box.path("fake"), lambda word: b"HTTP/1.1 400 Bad Request\r\n\r\n"):
            status, _, err = self.check(f"redis+unix://{self.box.path('fake')}?secret={self.box.secret}")
        self.assertEqual(status, 125)
        self.assertIn("understand", err)

    def test_passwords(self):
        engine = self.box.engine("--requirepass", "geheim")
        status, _, err = self.check(self.box.url(engine))
        self.assertEqual(status, 125)
        self.assertIn("password=FILE", err)
        password = self.box.file("password", "falsch\n", 0o600)
        status, _, err = self.check(self.box.url(engine, f"&password={password}"))
        self.assertEqual(status, 125)
        self.assertIn("does not take the password", err)
        self.assertNotIn("falsch", err)
        self.assertNotIn("Permission denied", err)
        self.box.file("password", "geheim\n", 0o600)
        self.assertEqual(self.check(self.box.url(engine, f"&password={password}"))[0], 0)
        os.chmod(password, 0o604)
        status, _, err = self.check(self.box.url(engine, f"&password={password}"))
        self.assertEqual(status, 125)
        self.assertIn("chmod o= " + password, err)

    def test_a_user_without_a_password_is_not_taken_for_another(self):
        engine = self.box.engine()
        url = f"redis+unix://nobody@{engine.socket}?secret={self.box.secret}"
        status, out, err = self.check(url)
        self.assertEqual(status, 125, out)
        self.assertIn("does not let its user nobody in without a password (password=FILE)", err)
        engine.ask("ACL", "SETUSER", "nobody", "on", "nopass", "allkeys", "allchannels", "allcommands")
        status, out, err = self.check(url)
        self.assertEqual((status, err), (0, ""), out)
        self.assertIn("nobody has all", out)

    def test_an_engine_that_is_full(self):
        engine = self.box.engine("--maxmemory", "1mb")
        status, _, err = self.check(self.box.url(engine))
        self.assertEqual(status, 125)
        self.assertIn("the engine's memory is full: OOM", err)

    def test_an_engine_that_serves_only_its_own_machine(self):
        path = self.box.path("protected")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen()
            def deny():
                listener.accept()[0].send(b"-DENIED Redis is running in protected mode because protected mode is enabled\r\n")
            thread = threading.Thread(target=deny)
            thread.start()
            status, _, err = self.check(f"redis+unix://{path}?secret={self.box.secret}")
            thread.join()
        self.assertEqual(status, 125)
        self.assertIn("--protected-mode no", err)

    def test_M4_an_engine_that_repeats_the_password_is_not_quoted(self):
        password = self.box.file("password", "geheim\n", 0o600)
        refusal = b"-ERR unknown command 'AUTH', with args beginning with: 'geheim'\r\n"
        with FakeEngine(self.box.path("fake"), lambda word: refusal if word == b"AUTH" else b"+OK\r\n"):
            url = f"redis+unix://{self.box.path('fake')}?secret={self.box.secret}&password={password}"
            for words in (("cluster", "check", "--cluster", url), ("run", "--cluster", url, "--cluster-scope", "tonight", "true")):
                status, _, err = self.box.host(words[0]).call(*words)
                self.assertEqual(status, 125)
                self.assertNotIn("geheim", err)
                self.assertIn("ERR", err)

    def test_M39_the_rights_that_it_names_are_enough(self):
        engine = self.box.engine()
        url = self.acl(engine, *machines.KEYS, "-@all", *machines.RIGHTS)
        status, out, err = self.check(url)
        self.assertEqual((status, err), (0, ""), out)
        # And the line that it prints makes such a user.
        [line] = [line for line in out.splitlines() if "ACL SETUSER" in line]
        words = line[line.index("ACL SETUSER"):].replace(">PASSWORD", ">geheim").split()
        self.assertEqual(sorted(words[7:]), sorted(["-@all", *machines.RIGHTS]))
        engine.ask("ACL", "DELUSER", "john")
        self.assertEqual(engine.ask(*words), "OK")
        self.assertEqual(self.check(url)[0], 0)

    def test_M39_each_right_that_is_missing_is_named(self):
        engine = self.box.engine()
        for missing in machines.RIGHTS:
            if missing == "+auth":  # everybody may
                continue
            url = self.acl(engine, *machines.KEYS, "-@all",
                           *(right for right in machines.RIGHTS if right != missing))
            status, _, err = self.check(url)
            self.assertEqual(status, 125, missing)
            self.assertIn(f"john lacks rights: {missing};", err)
            for key in engine.ask("KEYS", "*"):
                self.assertGreaterEqual(engine.ask("PTTL", key), 0, missing)  # M40
        for what in machines.KEYS:
            rights = [right for right in machines.KEYS if right != what]
            status, _, err = self.check(self.acl(engine, *rights, "-@all", *machines.RIGHTS))
            self.assertEqual(status, 125)
            self.assertIn(what, err.split("; on the engine")[0])

    def test_M3_what_is_wrong_with_a_URL(self):
        for url, word in (("rediss://e", "proxy="), ("redis://e?colour=red", "colour"), ("redis://:geheim@e", "password=FILE")):
            status, _, err = self.check(url)
            self.assertEqual(status, 125)
            self.assertIn(word, err)
            self.assertNotIn("geheim", err)

    def test_misuse(self):
        host = self.box.host()
        for words, word in ((("cluster",), "check"), (("cluster", "look"), "'look'"), (("cluster", "check"), "COALESCE_CLUSTER"),
                            (("cluster", "check", "x"), "'x'")):
            status, _, err = host.call(*words)
            self.assertEqual(status, 125)
            self.assertIn(word, err)

    def listens(self, kind, engine):
        """A port before the engine's socket."""
        server = subprocess.Popen(["socat", "-d", "-d", kind, f"UNIX-CONNECT:{engine.socket}"], stderr=subprocess.PIPE, text=True)
        self.box.started.append(server)
        port = next(line for line in server.stderr if "listening on" in line).rsplit(":", 1)[1].strip()
        threading.Thread(target=server.stderr.read, daemon=True).start()
        return port

    def test_A13_M5_TLS_by_a_proxy(self):
        for tool in ("socat", "openssl"):
            if not shutil.which(tool):
                self.skipTest(f"M5: TLS by a proxy: there is no {tool}")
        engine = self.box.engine()
        for name in ("right", "other"):
            subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=engine.test", "-days", "1",
                            "-addext", "subjectAltName=DNS:engine.test", "-keyout", self.box.path(name + ".key"),
                            "-out", self.box.path(name + ".crt")], check=True, capture_output=True)
        sealed = self.listens(f"OPENSSL-LISTEN:0,bind=127.0.0.1,fork,reuseaddr,verify=0,cert={self.box.path('right.crt')},"
                              f"key={self.box.path('right.key')}", engine)
        plain = self.listens("TCP-LISTEN:0,bind=127.0.0.1,fork,reuseaddr", engine)

        def check(port, ca, name):
            return self.check(f"redis://127.0.0.1:{port}?secret={self.box.secret}&proxy=socat STDIO "
                              f"OPENSSL:%h:%p,cafile={self.box.path(ca)},commonname={name} 2>/dev/null")
        self.assertEqual(check(sealed, "right.crt", "engine.test")[0], 0)
        for port, ca, name in ((sealed, "other.crt", "engine.test"), (sealed, "right.crt", "other.test"), (plain, "right.crt", "engine.test")):
            status, _, err = check(port, ca, name)
            self.assertEqual(status, 125)
            self.assertRegex(err, "proxy has ended" if port == sealed else "no answer")


class FakeEngine(machines.Listening):
    """Answers each word with what it is given, on one connection after another."""

    def __init__(self, path, answer):
        super().__init__(path)
        self.answer = answer

    def serve(self, connection):
        with connection, connection.makefile("rb") as file:
            while line := file.readline():
                words = []
                for _ in range(int(line[1:])):
                    words.append(file.read(int(file.readline()[1:]) + 2)[:-2])
                try:
                    connection.sendall(self.answer(words[0]))
                except OSError:
                    break


if __name__ == "__main__":
    machines.main()
