"""A provider on a real socket that does what a test's script says, and keeps its own account of what it served.

A request chooses its script by the unknown field `x_script` in its body, which the gateway must pass on; without one
it gets `scripts.DEFAULT`. The server runs in a thread with an event loop of its own.
"""

import asyncio
import itertools
import json
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

from tests.kit.ports import eventually


class Exchange:
    """One request as it arrived, and what became of it. `closed_at`: when the peer let go (monotonic seconds)."""

    def __init__(self, method: str, target: str, headers: dict[str, str], body: bytes) -> None:
        self.method = method
        self.target = target
        self.headers = headers
        self.body = body
        self.began_at = time.monotonic()
        self.ended_at: float | None = None
        self.closed_at: float | None = None
        self.served_whole = False
        self.written = 0
        self._transport: asyncio.Transport | None = None
        self._room = asyncio.Event()
        self._room.set()

    @property
    def json(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found

    @property
    def script(self) -> str:
        try:
            return str(self.json.get("x_script", ""))
        except (ValueError, AttributeError):
            return ""

    async def write(self, data: bytes) -> None:
        """Raw bytes onto the wire, as fast as the peer takes them."""
        assert self._transport is not None
        if self.closed_at is not None:
            raise ConnectionResetError("the peer has let go")
        self._transport.write(data)
        self.written += len(data)
        await asyncio.sleep(0)
        await self._room.wait()

    async def head(self, status: int, headers: dict[str, str]) -> None:
        lines = [f"HTTP/1.1 {status} Scripted", *(f"{name}: {value}" for name, value in headers.items())]
        await self.write("\r\n".join([*lines, "", ""]).encode("latin-1"))

    async def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        """A whole answer."""
        kind = {"Content-Type": "application/json", "Content-Length": str(len(body))}
        await self.head(status, {**kind, **(headers or {})})
        await self.write(body)

    async def chunk(self, data: bytes) -> None:
        await self.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def abort(self) -> None:
        """Cuts the connection without a farewell."""
        assert self._transport is not None
        self._transport.abort()

    def close(self) -> None:
        assert self._transport is not None
        self._transport.close()


Script = Callable[[Exchange], Awaitable[None]]


class _Connection(asyncio.Protocol):
    """Parses requests one after another; an exchange learns at once that its peer has gone."""

    def __init__(self, server: "Upstream") -> None:
        self._server = server
        self._buffer = b""
        self._exchange: Exchange | None = None
        self._task: asyncio.Task[None] | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._server.connections += 1
        self._server.open.add(transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._next()

    def eof_received(self) -> None:
        self._gone()

    def connection_lost(self, error: Exception | None) -> None:
        if self._transport is not None:
            self._server.open.discard(self._transport)
        self._gone()
        if self._task is not None:
            self._task.cancel()

    def pause_writing(self) -> None:
        if self._exchange is not None:
            self._exchange._room.clear()

    def resume_writing(self) -> None:
        if self._exchange is not None:
            self._exchange._room.set()

    def _gone(self) -> None:
        if self._exchange is not None and self._exchange.closed_at is None:
            self._exchange.closed_at = time.monotonic()
            self._exchange._room.set()

    def _next(self) -> None:
        if self._exchange is not None or b"\r\n\r\n" not in self._buffer:
            return
        head, _, rest = self._buffer.partition(b"\r\n\r\n")
        start, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = int(headers.get("content-length", "0"))
        if len(rest) < length:
            return
        self._buffer = rest[length:]
        method, target, _ = start.split(" ", 2)
        self._exchange = Exchange(method, target, headers, rest[:length])
        self._exchange._transport = self._transport
        self._task = asyncio.ensure_future(self._serve(self._exchange))

    async def _serve(self, exchange: Exchange) -> None:
        self._server.note(exchange)
        try:
            await self._server.script_of(exchange)(exchange)
            exchange.served_whole = exchange.closed_at is None
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            exchange.ended_at = time.monotonic()
            self._exchange = None
        self._next()


class Upstream:
    """`start`, then `url` is a provider's base address. `exchanges` is the truth of what was served."""

    def __init__(self, default: Script) -> None:
        self.exchanges: list[Exchange] = []
        self.connections = 0  # accepted in all
        self.open: set[asyncio.Transport] = set()
        self.port = 0
        self._default = default
        self._scripts: dict[str, Script] = {}
        self._by_script: dict[str, list[Exchange]] = {}
        self._numbers = itertools.count(1)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="upstream", daemon=True)
        self._ready = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def start(self) -> "Upstream":
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=10)

    def play(self, script: Script) -> str:
        """Registers a script; the name is what a request puts into `x_script`."""
        name = f"script-{next(self._numbers)}"
        self._scripts[name] = script
        return name

    def served(self, script: str) -> list[Exchange]:
        """The requests that have come for a script so far."""
        return list(self._by_script.get(script, ()))

    def one(self, script: str, *, within: float = 10.0) -> Exchange:
        """The only request that has come for a script; waits for it."""
        (exchange,) = eventually(lambda: self.served(script), within=within)
        return exchange

    def note(self, exchange: Exchange) -> None:
        self.exchanges.append(exchange)
        self._by_script.setdefault(exchange.script, []).append(exchange)

    def script_of(self, exchange: Exchange) -> Script:
        return self._scripts.get(exchange.script, self._default)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(
            self._loop.create_server(lambda: _Connection(self), "127.0.0.1", 0, backlog=1024)
        )
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        try:
            self._loop.run_forever()
        finally:
            server.close()
            for transport in list(self.open):  # which clients keep for a next request
                transport.abort()
            tasks = asyncio.all_tasks(self._loop)
            for task in tasks:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
            self._loop.run_until_complete(asyncio.sleep(0))  # the connections' ends
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()
