"""HTTP as the relay sees it: a request that is read with limits, an answer that is whole or pumped, a client that may
leave or stand still. No Django here: a call's request object costs microseconds, not the tens of them that a
framework's does.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any, Generic, TypeVar
from urllib.parse import parse_qs

import msgspec
from django.conf import settings

from relay.errors import Cause, RelayError
from relay.guard import Guard

PIECE = 256 * 1024  # bytes of a stream that are given to a connection at once

T = TypeVar("T")
Scope = dict[str, Any]
Message = dict[str, Any]
Receive = Callable[[], Coroutine[Any, Any, Message]]
Send = Callable[[Message], Coroutine[Any, Any, None]]
Headers = list[tuple[bytes, bytes]]


class Client:
    """The other end of the connection: what it sends after its request is only that it has gone."""

    __slots__ = ("_receive", "_task", "drain")

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._task: asyncio.Task[None] | None = None
        self.drain: float | None = None

    def watch(self, guard: Guard) -> None:
        """Tells the guard when the client hangs up: the upstream is stopped, or has `drain` seconds to finish."""
        if self._task is None:
            self._task = asyncio.ensure_future(self._wait(guard))

    async def _wait(self, guard: Guard) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        guard.client_left(drain=self.drain)

    def close(self) -> None:
        if self._task is not None:
            self._task.cancel()


class Request:
    """A request whose headers have been read. Header names are lower-case bytes, as ASGI gives them. Of a header that
    came twice the last one counts, and of one that is a list (RFC 9110, 5.3) all of them."""

    __slots__ = ("_receive", "body", "client", "client_ip", "headers", "method", "path", "query")

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.query: bytes = scope["query_string"]
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        if len(self.headers) < len(scope["headers"]):  # hardly ever: some header came twice
            self.headers |= _lists(scope["headers"])
        peer = scope.get("client")
        forwarded = self.headers.get(b"x-forwarded-for", b"").decode("latin-1")
        self.client_ip = client_address(str(peer[0]) if peer else "", forwarded)
        self.client = Client(receive)
        self.body = b""
        self._receive = receive

    def header(self, name: bytes) -> str:
        return self.headers.get(name, b"").decode("latin-1")

    def query_value(self, name: str) -> str | None:
        if not self.query:
            return None
        found = parse_qs(self.query.decode("latin-1")).get(name)
        return found[0] if found else None

    async def read(self) -> bytes:
        """The body. Raises RelayError past MAX_BODY_JSON (unread where Content-Length says so) or BODY_TIMEOUT."""
        limit = settings.MAX_BODY_JSON
        length = self.headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length) > limit:
            raise _too_large(limit)
        first = _stepped(self._receive())
        if isinstance(first, dict) and not first.get("more_body", False):  # nearly always: it came with its head
            self.body = await self._body(first, limit)
            return self.body
        try:
            async with asyncio.timeout(settings.BODY_TIMEOUT):
                self.body = await self._body(first, limit)
        except TimeoutError as error:
            raise RelayError(Cause.INVALID_JSON, "The body did not arrive in time.") from error
        return self.body

    async def _body(self, first: "Message | _Begun[Message]", limit: int) -> bytes:
        message = first if isinstance(first, dict) else await first
        parts: list[bytes] = []
        size, more = 0, True
        while more:
            if message["type"] == "http.disconnect":
                raise ClientGone
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > limit:
                raise _too_large(limit)
            if more := message.get("more_body", False):
                message = await self._receive()
        return parts[0] if len(parts) == 1 else b"".join(parts)


class ClientGone(Exception):
    """Nobody is there to answer."""


class Outlet:
    """The way to the client. Whoever puts bytes in does not wait for it: what its connection's buffer does not take, a
    task of the outlet's own sends when it can. The client is `behind` then, and `caught_up` waits for it, which is how
    a slow client slows its upstream. What is long goes in pieces: so a client that takes it slowly is told from one
    that takes nothing any more.

    `keep()` makes it remember the body, up to `most` bytes, for a replay.
    """

    __slots__ = ("_begun", "_head", "_kept", "_left", "_send", "_taken_at", "_waiting", "_writer")

    def __init__(self, send: Send) -> None:
        self._send = send
        self._head: dict[str, Any] | None = None
        self._begun = False
        self._waiting: deque[dict[str, Any]] = deque()
        self._writer: asyncio.Task[None] | None = None
        self._taken_at = 0.0  # by the event loop's clock, while there is a writer
        self._kept: list[bytes] | None = None
        self._left = 0

    def head(self, status: int, headers: Headers) -> None:
        """What goes out before the first bytes."""
        self._head = {"type": "http.response.start", "status": status, "headers": headers}

    def put(self, data: bytes) -> None:
        if self._kept is not None:
            self._remember(data)
        if len(data) > PIECE:
            for start in range(0, len(data), PIECE):
                self._put({"type": "http.response.body", "body": data[start : start + PIECE], "more_body": True})
            return
        message = {"type": "http.response.body", "body": data, "more_body": True}
        if self._begun and self._writer is None:
            self._send_now(message)
        else:
            self._put(message)

    def end(self, data: bytes = b"") -> None:
        self._put({"type": "http.response.body", "body": data})

    def keep(self, *, most: int) -> None:
        self._kept, self._left = [], most

    def kept(self, *more: bytes) -> bytes | None:
        """All that was put in, with `more` at its end; None where nobody asked for it or it was too much."""
        return b"".join((*self._kept, *more)) if self._kept is not None else None

    def _remember(self, data: bytes) -> None:
        assert self._kept is not None
        self._left -= len(data)
        self._kept.append(data)
        if self._left < 0:
            self._kept = None

    def _put(self, message: dict[str, Any]) -> None:
        if not self._begun and self._head is not None:
            self._begun = True
            self._put(self._head)
        if self._writer is not None:
            self._waiting.append(message)
            return
        self._send_now(message)

    def _send_now(self, message: dict[str, Any]) -> None:
        # The server's `send` runs to its end unless the connection's buffer is full: no task has to be woken for it.
        sending = self._send(message)
        try:
            obstacle = sending.send(None)  # as `_stepped`, whose call would be felt with every chunk
        except StopIteration:
            return
        self._taken_at = asyncio.get_running_loop().time()
        self._writer = asyncio.ensure_future(self._catch_up(_Begun(sending, obstacle)))

    async def _catch_up(self, begun: "_Begun[None]") -> None:
        clock = asyncio.get_running_loop().time
        await begun
        while self._waiting:
            self._taken_at = clock()
            await self._send(self._waiting.popleft())
        self._writer = None

    @property
    def behind(self) -> bool:
        return self._writer is not None

    async def caught_up(self, *, within: float) -> bool:
        """Waits until the client has taken all. False where it takes nothing for that many seconds."""
        clock = asyncio.get_running_loop().time
        while (writer := self._writer) is not None and not writer.done():
            left = self._taken_at + within - clock()
            if left <= 0:
                return False
            await asyncio.wait([writer], timeout=left)
        return True

    async def flush(self, *, within: float) -> None:
        """Waits until all has gone, or gives the client up that takes nothing for that many seconds."""
        if not await self.caught_up(within=within) and self._writer is not None:
            self._writer.cancel()


def _stepped(coroutine: Coroutine[Any, Any, T]) -> "T | _Begun[T]":
    """What it returns, where it has nothing to wait for; else the coroutine, begun."""
    try:
        obstacle = coroutine.send(None)
    except StopIteration as done:
        returned: T = done.value
        return returned
    return _Begun(coroutine, obstacle)


class _Begun(Generic[T]):
    """A coroutine that has been stepped once and yielded what it waits for; awaiting this goes on with it."""

    def __init__(self, begun: Coroutine[Any, Any, T], obstacle: Any) -> None:
        self._coroutine = begun
        self._obstacle = obstacle

    def __await__(self) -> Generator[Any, None, T]:
        try:
            yield self._obstacle
        except BaseException:
            self._coroutine.close()
            raise
        return (yield from self._coroutine.__await__())


class Answer(msgspec.Struct):
    """`body` is whole, or `pump` puts it into the outlet piece by piece and returns when all is put and paid."""

    status: int
    headers: Headers
    body: bytes = b""
    pump: Callable[[Outlet], Awaitable[None]] | None = None


def json_answer(status: int, body: Any, headers: Headers | None = None) -> Answer:
    return Answer(status, [(b"content-type", b"application/json"), *(headers or ())], msgspec.json.encode(body))


_LISTS = (b"anthropic-beta", b"x-forwarded-for")


def _lists(lines: Headers) -> dict[bytes, bytes]:
    """The headers that are lists, each in one line."""
    several = {name: [value for known, value in lines if known == name] for name in _LISTS}
    return {name: b", ".join(values) for name, values in several.items() if values}


def client_address(peer: str, forwarded: str) -> str:
    """The client's IP address: the peer's, or what the last of our own proxies saw (`X-Forwarded-For`)."""
    if settings.TRUSTED_PROXIES and (hops := [hop.strip() for hop in forwarded.split(",") if hop.strip()]):
        peer = hops[-min(settings.TRUSTED_PROXIES, len(hops))]
    return peer[:45]


def _too_large(limit: int) -> RelayError:
    return RelayError(Cause.TOO_LARGE, f"The body is larger than {limit} bytes.")
