# SPDX-License-Identifier: MIT
"""Does with the clients in Python what clients_test.py says, line by line.

usage: driver.py asyncio|blocking [SOCKET]
"""

import asyncio
import base64
import hashlib
import json
import sys
import threading

import coalesce


def tell(name, **what):
    sys.stdout.write(json.dumps({"name": name, **what}) + "\n")
    sys.stdout.flush()


def told_of(completed):
    return {"returncode": completed.returncode, "signal": completed.signal, "joined": completed.joined, "requesters": completed.requesters,
            "kept": completed.kept}


def tell_result(name, completed):
    if completed.stdout is not None and len(completed.stdout) > 1 << 20:
        tell(name, bytes=len(completed.stdout), sha256=hashlib.sha256(completed.stdout).hexdigest(), **told_of(completed))
    else:
        out, err = (base64.b64encode(stream).decode() for stream in (completed.stdout, completed.stderr))
        tell(name, stdout=out, stderr=err, **told_of(completed))


def tell_error(name, error):
    if isinstance(error, coalesce.Error):
        result = error.result and {**told_of(error.result), "stdout": base64.b64encode(error.result.stdout).decode()}
        tell(name, error=error.code, message=error.message, result=result)
    else:
        tell(name, error=type(error).__name__, message=str(error))


def options_of(order):
    options = order.get("options", {})
    if "hold" in order:  # until somebody opens the other end nothing else is done
        with open(order["hold"]):
            pass
    if "input" in options:
        options["input"] = base64.b64decode(options["input"])
    return options


class Taken:
    """What has been taken of a stream."""

    def __init__(self, name):
        self.name, self.hash, self.bytes, self.streams = name, hashlib.sha256(), 0, set()

    def add(self, piece):
        self.streams.add(piece[0])
        self.hash.update(piece[1])
        self.bytes += len(piece[1])

    def tell(self, **more):
        tell(self.name, taken=self.bytes, sha256=self.hash.hexdigest(), streams=sorted(self.streams), **more)


async def with_asyncio(path):
    lines = asyncio.StreamReader(limit=1 << 24)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    tasks, streams, contexts = {}, {}, {}

    async def run(client, name, order):
        try:
            tell_result(name, await client.run(order["command"], **options_of(order)))
        except asyncio.CancelledError:
            tell(name, cancelled=True)
        except Exception as error:
            tell_error(name, error)

    async def forget(client, name, order):
        try:
            await client.forget(order["command"], **options_of(order))
            tell(name, forgotten=True)
        except coalesce.Error as error:
            tell_error(name, error)

    async def take(name, wanted):
        stream, taken = streams[name]
        try:
            async for piece in stream:
                taken.add(piece)
                if wanted is not None and taken.bytes >= wanted:
                    return taken.tell()
            taken.tell(**told_of(stream.completed))
        except coalesce.Error as error:
            tell_error(name, error)

    async with coalesce.Client(path) as client:
        while line := await lines.readline():
            await asyncio.sleep(0)  # what was ordered before has begun
            order = json.loads(line)
            name = order["name"]
            if order["do"] == "run":
                for i in range(order.get("times", 1)):
                    tasks[name, i] = asyncio.create_task(run(client, name, order))
            elif order["do"] == "forget":
                tasks[name, 0] = asyncio.create_task(forget(client, name, order))
            elif order["do"] == "cancel":
                tasks[name, 0].cancel()
            elif order["do"] == "stream":
                contexts[name] = client.stream(order["command"], **options_of(order))
                streams[name] = (await contexts[name].__aenter__(), Taken(name))
            elif order["do"] == "take":
                tasks[name, 0] = asyncio.create_task(take(name, order["bytes"]))
            elif order["do"] == "drop":
                await contexts[name].__aexit__(None, None, None)
                tell(name, dropped=True)
            elif order["do"] == "close":
                client.close()
            elif order["do"] == "close when connected":  # before anything of that connection was read
                connect = asyncio.open_unix_connection

                async def connected(**options):
                    reader_and_writer = await connect(**options)
                    asyncio.get_running_loop().call_soon(client.close)
                    return reader_and_writer

                asyncio.open_unix_connection = connected


def blocking(path):
    streams, contexts = {}, {}

    def run(client, name, order):
        try:
            tell_result(name, client.run(order["command"], **options_of(order)))
        except Exception as error:
            tell_error(name, error)

    def take(name, wanted):
        stream, taken = streams[name]
        try:
            for piece in stream:
                taken.add(piece)
                if wanted is not None and taken.bytes >= wanted:
                    return taken.tell()
            taken.tell(**told_of(stream.completed))
        except coalesce.Error as error:
            tell_error(name, error)

    with coalesce.BlockingClient(path) as client:
        for line in sys.stdin:
            order = json.loads(line)
            name = order["name"]
            if order["do"] == "run":
                for _ in range(order.get("times", 1)):
                    threading.Thread(target=run, args=(client, name, order)).start()
            elif order["do"] == "forget":
                try:
                    client.forget(order["command"], **options_of(order))
                    tell(name, forgotten=True)
                except coalesce.Error as error:
                    tell_error(name, error)
            elif order["do"] == "run here":  # where a signal interrupts it
                try:
                    client.run(order["command"], **options_of(order))
                except KeyboardInterrupt:
                    tell(name, cancelled=True)
            elif order["do"] == "stream":
                contexts[name] = client.stream(order["command"], **options_of(order))
                streams[name] = (contexts[name].__enter__(), Taken(name))
            elif order["do"] == "take":
                threading.Thread(target=take, args=(name, order["bytes"])).start()
            elif order["do"] == "take here":  # where a signal interrupts it
                stream, taken = streams[name]
                try:
                    tell(name, begun=True)
                    for piece in stream:
                        taken.add(piece)
                except KeyboardInterrupt:
                    tell(name, interrupted=True)
            elif order["do"] == "drop":
                contexts[name].__exit__(None, None, None)
                tell(name, dropped=True)
            elif order["do"] == "close":
                client.close()


if __name__ == "__main__":
    chosen = sys.argv[2] if len(sys.argv) > 2 else None
    if sys.argv[1] == "asyncio":
        asyncio.run(with_asyncio(chosen))
    else:
        blocking(chosen)
