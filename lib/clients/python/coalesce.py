# SPDX-License-Identifier: MIT
"""Commands asked of `coalesce serve`, in the manner of subprocess: asyncio and blocking.

    async with coalesce.Client() as client:
        log = (await client.run(["git", "log"], cwd="/srv/repository", check=True)).stdout

What it promises is said in coalesce-protocol(7), under CLIENTS.
"""

from __future__ import annotations

import asyncio, base64, contextlib, errno, functools, itertools, json, os, select, socket, subprocess, threading, weakref
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping, Sequence
from typing import Any, TypedDict, TypeVar, Unpack

Text = str | bytes | os.PathLike[str] | os.PathLike[bytes]
Command = Sequence[Text] | str | bytes
T = TypeVar("T")

_REQUEST_BYTES_MAX = 8 << 20  # of a line, without its newline
_READ_BYTES_MAX = 64 << 10  # at a time
_UNREAD_PIECES_MAX = 4  # of a stream, before its connection is read no more
_CLOSED = "the client was closed"
_ANY_BYTES = {"argv", "line", "cwd", "env", "stdin", "key", "scope", "ignore_env", "only_env"}

# The fields of coalesce-protocol(7), times in seconds; `shell`: the command is one string; `input`: what it reads. Not told, `cwd` and `env`, all of it, are the caller's.
Options = TypedDict("Options", {
    "shell": bool, "input": bytes, "cwd": Text, "env": Mapping[str, str] | Mapping[bytes, bytes], "umask": int, "key": Text, "scope": Text, "cluster_scope": Text,
    "ignore_env": Sequence[Text], "only_env": Sequence[Text], "ignore_cwd": bool, "ignore_namespaces": bool, "ignore_platform": bool, "no_share": bool,
    "pty": bool, "pty_size": str, "class": str, "timeout": float, "grace": float, "wait": float, "fresh": bool, "keep_running": bool,
    "ttl": float, "max_age": float, "stale": float, "keep_failures": float, "warm": bool}, total=False)


class Completed(subprocess.CompletedProcess[bytes]):
    """How a command ended. `returncode` is -N where `signal` N killed it, `duration` is in seconds; where
    nothing was run, since its result had been kept, `kept` has that one's `age`, as coalesce-protocol(7) says."""

    def __init__(self, command: Command, end: Mapping[str, Any]) -> None:
        super().__init__(command, -end["signal"] if "signal" in end else end["exit"], b"", b"")
        self.signal: int | None = end.get("signal")
        self.joined, self.requesters, self.duration = bool(end["joined"]), int(end["requesters"]), float(end["duration"])
        self.kept: dict[str, Any] | None = end.get("kept")


class Error(Exception):
    """Why a command has no result, or none of its own: a word of coalesce-protocol(7), or "disconnected",
    a sentence for people, and what there is where the run was ended or could not be started."""

    def __init__(self, code: str, message: str, result: Completed | None = None) -> None:
        super().__init__(f"{message} ({code})")
        self.code, self.message, self.result = code, message, result


def _base64(value: Any) -> Any:
    return base64.b64encode(os.fsencode(value)).decode() if isinstance(value, (str, bytes, os.PathLike)) else [_base64(text) for text in value]


def _request(command: Command, *, shell: bool = False, input: bytes | None = None, cwd: Text = b"", env: Mapping[Any, Any] | None = None, **fields: Any) -> dict[str, Any]:
    """What is not known here goes as it is: the server refuses it by name."""
    if shell != isinstance(command, (str, bytes)):
        raise TypeError("a command is a sequence of arguments, or with shell=True one string")
    own = {name: value for name, value in os.environb.items() if env is None or name == b"COALESCE_ANCESTRY"}  # who waits for itself is told
    given = own | {os.fsencode(name): os.fsencode(value) for name, value in (env or {}).items()}
    fields |= {"stdin": fields.get("stdin") or input or b"", "line" if shell else "argv": command, "cwd": os.path.join(b"" if os.path.isabs(cwd) else os.getcwdb(), os.fsencode(cwd)),
               "env": [name + b"=" + value for name, value in given.items()]}
    in_base64 = {name + "_base64": _base64(fields.pop(name)) for name in _ANY_BYTES & fields.keys()}
    return {**({} if "op" in fields else {"output": "stream", "quiet": True}), **fields, **in_base64}


def _place(named: Text | None) -> bytes:
    place = os.environb.get(b"COALESCE_PLACE")
    if named := named or os.environb.get(b"COALESCE_SOCKET") or place and place + b"/server.sock":
        return os.fsencode(named)
    own, uid = os.environb.get(b"XDG_RUNTIME_DIR", b""), os.geteuid()
    is_ours = own.startswith(b"/") and os.path.isdir(own) and os.stat(own).st_uid == uid  # sudo leaves another's
    own = (own if is_ours else b"/run/user/%d" % uid) + b"/coalesce/server.sock"
    shared = b"/tmp/coalesce-%d/server.sock" % uid
    there = not os.path.exists(own) and os.path.exists(shared) and os.lstat(os.path.dirname(shared))
    return shared if there and there.st_uid == uid else own  # anybody may have made it


class _Connection:
    """Requests by their numbers, and who waits for each."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer, self.numbers = reader, writer, itertools.count(1)
        self.waiting: dict[int, Stream] = {}
        self.closing = False  # takes no more requests
        self.end = select.poll()  # that has come, and was not read yet
        self.end.register(writer.get_extra_info("socket"), select.POLLRDHUP)
        self.lost: dict[str, Any] | None = None  # why there will be no answers
        self.reading = asyncio.create_task(self.read())

    def send(self, request: dict[str, Any], waiter: Stream) -> int:
        if self.lost: raise Error(**self.lost)
        number = next(self.numbers)
        # The number comes first: the server has read it then, should the rest be no JSON.
        line = json.dumps({"id": number} | request | {"id": number}, separators=(",", ":")).encode()
        if len(line) > _REQUEST_BYTES_MAX:
            raise Error("too_long", f"the request has {len(line)} bytes, and at most {_REQUEST_BYTES_MAX} are taken")
        self.waiting[number] = waiter
        self.writer.write(line + b"\n")
        return number

    def leave(self, number: int) -> None:
        if self.waiting.pop(number, None) and not self.writer.is_closing():
            self.writer.write(b'{"id":%d,"op":"leave"}\n' % number)

    def close(self, code: str = "disconnected", message: str = _CLOSED) -> None:
        """All who wait are told here: what reads may not have begun, and then it never does."""
        if self.lost: return
        self.closing, self.lost = True, {"code": code, "message": message}
        self.reading.cancel()
        for number, waiter in list(self.waiting.items()):
            self.leave(number)  # who only goes away leaves a run that is to be kept to its end
            waiter.finish(self.lost)
        self.writer.transport.abort()

    async def read(self) -> None:
        try:
            while True:
                await self.take(json.loads(await self.line()))
        except (OSError, EOFError, ValueError, RecursionError) as error:
            why = error if isinstance(error, (OSError, EOFError)) else "it does not speak coalesce-protocol(7)"
            self.close(message=f"the server went away without an answer: {why}")
        finally:
            self.close()

    async def line(self) -> bytes:
        try:
            return await self.reader.readuntil()
        except asyncio.LimitOverrunError as longer:
            return await self.reader.readexactly(longer.consumed) + await self.line()

    async def take(self, message: Any) -> None:
        match message:
            case {"id": int(number), "event": "stdout" | "stderr" as event, "bytes": int(left)}:
                while left > 0 and (data := await self.reader.read(min(left, _READ_BYTES_MAX))):
                    left -= len(data)
                    if waiter := self.waiting.get(number):
                        await waiter.pieces.put((event, data))
            case ({"id": int(number), "error": {"code": str(), "message": str()} as final} | ({"id": int(number), "event": "forgotten"} as final)
                  | ({"id": int(number), "event": "exit", "exit": int(), "joined": _, "requesters": int(), "duration": int() | float()} as final)
                  | ({"id": int(number), "event": "exit", "signal": int(), "joined": _, "requesters": int(), "duration": int() | float()} as final)):
                self.closing |= final.get("code") == "shutting_down"
                if waiter := self.waiting.pop(number, None):
                    waiter.finish(final)
            case {"error": {"code": str(code), "message": str(why)}}:  # it is about the connection
                self.close(code, why)
            case _ if not isinstance(message, dict) or "error" in message or message.get("event") in ("stdout", "stderr", "exit"):
                raise ValueError  # all else is of a later server


class Stream(AsyncIterator[tuple[str, bytes]]):
    """A command's output as it comes: `async for name, data in stream`, or `for` where the client
    is a BlockingClient, with the name "stdout" or "stderr". Then `completed` says how it ended."""

    def __init__(self, connection: _Connection, command: Command, options: Mapping[str, Any], pieces_max: int) -> None:
        self.completed: Completed
        self.pieces: asyncio.Queue[tuple[str, bytes] | None] = asyncio.Queue(pieces_max)
        self.final: Any = None
        self.ahead: Any = None
        self.loop, self.connection, self.command = asyncio.get_running_loop(), connection, command
        self.number = connection.send(_request(command, **options), self)

    async def __anext__(self) -> tuple[str, bytes]:
        if (self.final is None or not self.pieces.empty()) and (piece := await self.pieces.get()):
            return piece
        if "duration" in self.final:
            self.completed = Completed(self.command, self.final)
        if "code" in self.final:
            raise Error(self.final["code"], self.final["message"].strip().removeprefix("coalesce: "), vars(self).get("completed"))
        raise StopAsyncIteration

    def __iter__(self) -> Iterator[tuple[str, bytes]]:
        with contextlib.suppress(StopAsyncIteration):
            while True:  # what was asked for when an exception interrupted it is still to come
                self.ahead = self.ahead or asyncio.run_coroutine_threadsafe(self.__anext__(), self.loop)
                piece, self.ahead = self.ahead.result(), None
                yield piece

    def finish(self, final: dict[str, Any]) -> None:
        self.final = final
        if self.pieces.empty():  # somebody may wait
            self.pieces.put_nowait(None)


class Client(contextlib.AbstractAsyncContextManager["Client"]):
    """Asks the server at `path`, or where `coalesce run` would find one; for one event loop."""

    def __init__(self, path: Text | None = None) -> None:
        self._path, self._connecting = path, asyncio.Lock()
        self._connection: _Connection | None = None
        self._connections: weakref.WeakSet[_Connection] = weakref.WeakSet()
        self._closings = 0  # who asked before the last is not to be connected any more

    async def __aexit__(self, *_: object) -> None: self.close()

    async def run(self, command: Command, *, check: bool = False, **options: Unpack[Options]) -> Completed:
        """Runs it, or joins its run. With `check` a failure is a CalledProcessError, as by subprocess."""
        closings = self._closings
        async with self._connecting:
            if self._connection is None or self._connection.closing or self._connection.end.poll(0):
                self._connection = await self._connect(closings)
        stream = Stream(self._connection, command, options, 0)
        taken: dict[str, list[bytes]] = {"stdout": [], "stderr": []}
        try:
            async for name, data in stream:
                taken[name].append(data)
        finally:
            stream.connection.leave(stream.number)
            if completed := vars(stream).get("completed"):
                completed.stdout, completed.stderr = (b"".join(pieces) for pieces in taken.values())
        if check: stream.completed.check_returncode()
        return stream.completed

    async def forget(self, command: Command, **options: Unpack[Options]) -> None:
        """Removes what is kept under its key, of which are the options; what is under way is not kept either."""
        with contextlib.closing(await self._connect(self._closings)) as connection:
            async for _ in Stream(connection, command, {**options, "op": "forget"}, 0):
                pass

    @contextlib.asynccontextmanager
    async def stream(self, command: Command, **options: Unpack[Options]) -> AsyncIterator[Stream]:
        """The same with the output as it comes. To leave the context is to leave the run."""
        with contextlib.closing(await self._connect(self._closings)) as connection:
            yield Stream(connection, command, options, _UNREAD_PIECES_MAX)

    def close(self) -> None:
        """Leaves all that is waited for."""
        self._closings += 1
        for connection in list(self._connections):
            connection.close()

    async def _connect(self, closings: int) -> _Connection:
        address = path = _place(self._path)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as server, contextlib.ExitStack() as held:
            if len(path) > 107:  # too long for an address, but through its directory it fits
                directory = os.open(os.path.dirname(path) or b".", os.O_PATH | os.O_CLOEXEC)
                held.callback(os.close, directory)
                address = b"/proc/self/fd/%d/%s" % (directory, os.path.basename(path))
            while (refused := server.connect_ex(address)) == errno.EAGAIN:
                if closings != self._closings: raise Error("disconnected", _CLOSED)
                await asyncio.sleep(0.01)  # its queue is full, and nothing tells when there is room
            if refused: raise OSError(refused, os.strerror(refused), os.fsdecode(path))
            self._connections.add(connection := _Connection(*await asyncio.open_unix_connection(sock=server.dup(), limit=_READ_BYTES_MAX)))
        if closings != self._closings: connection.close()
        return connection


async def run(command: Command, *, check: bool = False, **options: Unpack[Options]) -> Completed:
    """One request on a connection of its own."""
    async with Client() as client:
        return await client.run(command, check=check, **options)


@functools.cache
def _blocking_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="coalesce", daemon=True).start()
    os.register_at_fork(after_in_child=_blocking_loop.cache_clear)  # which has no copy of the thread
    return loop


class BlockingClient(contextlib.AbstractContextManager["BlockingClient"]):
    """A Client for any number of threads, in the process that made it."""

    def __init__(self, path: Text | None = None) -> None:
        self._client, self._loop = Client(path), _blocking_loop()

    def __exit__(self, *_: object) -> None: self.close()

    def run(self, command: Command, *, check: bool = False, **options: Unpack[Options]) -> Completed:
        """As Client.run(). An exception that interrupts it, such as KeyboardInterrupt, leaves the run."""
        return self._wait(self._client.run(command, check=check, **options))

    def forget(self, command: Command, **options: Unpack[Options]) -> None:
        """As Client.forget()."""
        self._wait(self._client.forget(command, **options))

    @contextlib.contextmanager
    def stream(self, command: Command, **options: Unpack[Options]) -> Iterator[Stream]:
        """As Client.stream()."""
        with contextlib.ExitStack() as held:
            context = self._client.stream(command, **options)
            stream = self._wait(context.__aenter__())
            held.callback(lambda: self._wait(context.__aexit__(None, None, None)))
            yield stream

    def close(self) -> None:
        """Leaves all that is waited for; threads that wait are told."""
        self._loop.call_soon_threadsafe(self._client.close)

    def _wait(self, asked: Coroutine[Any, Any, T]) -> T:
        waited = asyncio.run_coroutine_threadsafe(asked, self._loop)
        try:
            return waited.result()
        finally:
            waited.cancel()
