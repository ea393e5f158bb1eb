# SPDX-License-Identifier: MIT
"""Servers that a row starts for its own use, ours and others': each is there when its `with` begins, and gone after it."""

import contextlib
import json
import os
import socket
import subprocess
import tempfile

from harness import await_that, resident


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def succeeds(*words):
    return subprocess.run(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode == 0


class Process:
    """One that ends by TERM."""

    def __init__(self, process, ready):
        self.process = process
        try:
            await_that(lambda: self.alive() and ready())
        except BaseException:
            self.__exit__()
            raise

    def alive(self):
        assert self.process.poll() is None, f"{self.process.args[0]} ended with {self.process.returncode}"
        return True

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()


class Served(Process):
    """`coalesce serve`, and `load` to ask it."""

    def __init__(self, bench, *options, program=None):
        self.path = f"{bench.scratch}/served"
        self.bench = bench
        self.load_program = bench.compiled("load", "load.cpp")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)
        program = program or bench.coalesce
        super().__init__(bench.start(program, "serve", "--socket", self.path, "--log-level", "error", *options, program=program),
                         lambda: os.path.exists(self.path))

    def load(self, *words):
        return self.bench.start(self.load_program, *words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def seconds(self, *words):
        with self.load(*words) as load:
            return float(load.stdout.readline())

    def resident(self):
        return resident(self.process.pid)

    def stats(self):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(self.path)
            connection.sendall(b'{"op":"stats"}\n')
            return json.loads(connection.makefile().readline())


class Redis(Process):
    """A redis-server on a port of its own, which writes to memory if to anything."""

    def __init__(self, bench, *options):
        bench.needs("redis-server", "redis-cli", "redis-benchmark")
        self.bench = bench
        self.port = free_port()
        super().__init__(bench.start("redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "",
                                     "--dir", tempfile.mkdtemp(dir=bench.shm), *options, stdout=subprocess.DEVNULL),
                         lambda: succeeds("redis-cli", "-p", str(self.port), "ping"))

    def ask(self, *words):
        return subprocess.run(["redis-cli", "-e", "-p", str(self.port), *words], stdout=subprocess.PIPE, check=True, text=True).stdout

    def info(self, section, name):
        return next(int(line.split(":")[1]) for line in self.ask("info", section).splitlines() if line.startswith(name + ":"))

    def benchmark(self, *words):
        """What redis-benchmark says of a request: its figures, by name."""
        told = subprocess.run(["redis-benchmark", "-p", str(self.port), "--csv", *words], stdout=subprocess.PIPE, check=True,
                              stderr=subprocess.DEVNULL, text=True).stdout
        names, *_, values = told.strip().splitlines()
        names = names.replace('"', "").split(",")
        return dict(zip(reversed(names), (float(value.strip('"')) for value in reversed(values.split(",")[-len(names) + 1:]))))


class Etcd(Process):
    """An etcd that keeps its log in memory."""

    def __init__(self, bench):
        bench.needs("etcd", "etcdctl")
        self.url, peers = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
        process = bench.start("etcd", "--data-dir", tempfile.mkdtemp(dir=bench.shm), "--listen-client-urls", self.url,
                              "--advertise-client-urls", self.url, "--listen-peer-urls", peers,
                              "--initial-advertise-peer-urls", peers, "--initial-cluster", f"default={peers}",
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        super().__init__(process, lambda: succeeds("etcdctl", "--endpoints", self.url, "endpoint", "health"))


class Gearman(Process):
    """A gearmand, and a worker that runs this command for each job."""

    def __init__(self, bench, *command):
        bench.needs("gearmand", "gearman", "gearadmin")
        self.port = str(free_port())
        self.worker = None
        super().__init__(bench.start("gearmand", "-p", self.port, "-L", "127.0.0.1", "-l", f"{bench.scratch}/gearmand.log"),
                         lambda: succeeds("gearadmin", "-p", self.port, "--status"))
        self.worker = bench.start("gearman", "-p", self.port, "-h", "127.0.0.1", "-w", "-f", "run", "--", *command,
                                  stdout=subprocess.DEVNULL)
        self.line = f"gearman -p {self.port} -h 127.0.0.1 -f run x"

    def __exit__(self, *_):
        if self.worker:
            self.worker.terminate()
            self.worker.wait()
        super().__exit__()
