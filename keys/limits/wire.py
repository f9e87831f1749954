"""One connection to Redis for many callers at once, without a thread, a task or a timer for each of them.

Commands go out as they come, and answers come back in their order. So whoever sends two commands knows that Redis
carries them out in this order too, and the oldest unanswered command tells whether Redis is still there: when it has
waited for `patience` seconds, the connection is given up, and everybody who waits for it is told so (`Away`).

The general client costs several times as much for each command, most of it for what is not needed here.
"""

import asyncio
import hashlib
import ssl
from collections import deque
from collections.abc import Callable
from typing import Any, cast

import msgspec
from redis.asyncio import connection as addresses

# A busy event loop may see its timer before the answer that has long come: it is given one more look at the socket.
SECOND_LOOK = 0.005
LONGEST_ANSWER = 64 * 1024


class Away(Exception):
    """Redis cannot be asked now. The message has no secret of its address."""


class Refused(Exception):
    """Redis answered with an error."""


class Script:
    """A script that Redis is told once, and known by its digest from then on."""

    __slots__ = ("digest", "text")

    def __init__(self, text: bytes) -> None:
        self.text = text
        self.digest = hashlib.sha1(text, usedforsecurity=False).hexdigest().encode()


Answered = Callable[[Any], None]
Lost = Callable[[], None]


class _Asked(msgspec.Struct):
    """A command that waits for its answer. `call` is kept of a script's, to send again to a Redis that forgot it."""

    sent: float
    waiter: "asyncio.Future[Any] | None" = None
    late: Answered | None = None
    lost: Lost | None = None
    call: tuple[Script, tuple[bytes, ...]] | None = None


class Wire(asyncio.Protocol):
    def __init__(self, *, patience: float) -> None:
        self.patience = patience
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.WriteTransport | None = None
        self._asked: deque[_Asked] = deque()
        self._buffer = b""
        self._out: list[bytes] = []
        self._watch: asyncio.TimerHandle | None = None

    # ---- asking

    async def command(self, *parts: bytes) -> Any:
        """The answer to one command. Raises Away and Refused."""
        waiter = self._loop.create_future()
        self._send(_encoded(parts), _Asked(self._loop.time(), waiter))
        return await waiter

    async def run(
        self, script: Script, *arguments: bytes, late: Answered | None = None, lost: Lost | None = None
    ) -> Any:
        """The script's answer; `late` gets it where nobody waits any more. `lost` is called where none comes, or an
        error: whether the script has run is not known then. Raises Away and Refused."""
        waiter = self._loop.create_future()
        self._run(script, arguments, _Asked(self._loop.time(), waiter, late, lost))
        return await waiter

    def post(self, script: Script, *arguments: bytes, lost: Lost | None = None) -> None:
        """Has the script run without waiting for it; `lost` as above."""
        self._run(script, arguments, _Asked(self._loop.time(), lost=lost))

    def _run(self, script: Script, arguments: tuple[bytes, ...], asked: _Asked) -> None:
        asked.call = script, arguments
        self._send(_encoded((b"EVALSHA", script.digest, *arguments)), asked)

    def _send(self, data: bytes, asked: _Asked) -> None:
        if self._transport is None or self.lost.done():
            _tell(asked, Away("the connection is closed"))
            return
        self._asked.append(asked)
        self._out.append(data)
        if len(self._out) == 1:
            self._loop.call_soon(self._flush)
        if self._watch is None:
            self._watch = self._loop.call_later(self.patience, self._look)

    def _flush(self) -> None:
        """What came up in one turn of the loop goes out at once: a write costs more than all else here."""
        if self._transport is not None and not self.lost.done():
            self._transport.write(b"".join(self._out))
        self._out.clear()

    # ---- waiting

    def hurry(self, patience: float) -> None:
        """From now on nobody waits longer than this; for a connection of which nothing is asked at the moment."""
        self.patience = patience
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    def _look(self, again: bool = False) -> None:
        """Gives the connection up when the oldest command has waited for too long."""
        self._watch = None
        if not self._asked:
            return
        left = self._asked[0].sent + self.patience - self._loop.time()
        if left > 0:
            self._watch = self._loop.call_later(left, self._look)
        elif not again:
            self._watch = self._loop.call_later(SECOND_LOOK, self._look, True)
        else:
            self.close("Redis does not answer")

    def close(self, why: str = "the connection was closed") -> None:
        """Ends the connection; whoever waits is told."""
        if self.lost.done():
            return
        self.lost.set_result(None)
        if self._watch is not None:
            self._watch.cancel()
        if self._transport is not None:
            self._transport.abort()
        while self._asked:
            _tell(self._asked.popleft(), Away(why))

    # ---- what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.close("Redis closed the connection")

    def data_received(self, data: bytes) -> None:
        data = self._buffer + data
        start = 0
        try:
            while start < len(data) and (found := _answer(data, start)) is not None:
                answer, start = found
                self._answered(answer)
        except (ValueError, IndexError):
            self.close("this is not Redis")
            return
        self._buffer = data[start:]
        if len(self._buffer) > LONGEST_ANSWER:
            self.close("the answer is too long")

    def _answered(self, answer: Any) -> None:
        asked = self._asked.popleft()
        if isinstance(answer, Refused) and asked.call and str(answer).startswith("NOSCRIPT"):
            (script, arguments), asked.call = asked.call, None
            asked.sent = self._loop.time()
            self._send(_encoded((b"EVAL", script.text, *arguments)), asked)
        else:
            _tell(asked, answer)


def _tell(asked: _Asked, answer: Any) -> None:
    waiter = asked.waiter
    if asked.lost and isinstance(answer, Exception):
        asked.lost()
    if waiter is None:
        return
    if waiter.done():  # cancelled
        if asked.late and not isinstance(answer, Exception):
            asked.late(answer)
    elif isinstance(answer, Exception):
        waiter.set_exception(answer)
    else:
        waiter.set_result(answer)


def _encoded(parts: tuple[bytes, ...]) -> bytes:
    return b"*%d\r\n" % len(parts) + b"".join([b"$%d\r\n%b\r\n" % (len(part), part) for part in parts])


def _answer(data: bytes, start: int) -> tuple[Any, int] | None:
    """The answer that begins there and where it ends; None while it is not whole. Raises ValueError for no answer."""
    end = data.find(b"\r\n", start)
    if end < 0:
        return None
    kind, head, after = data[start], data[start + 1 : end], end + 2
    if kind == 0x24:  # $, a text with its length
        length = int(head)
        if length < 0:
            return None, after
        if len(data) < after + length + 2:
            return None
        return data[after : after + length], after + length + 2
    if kind == 0x3A:  # :
        return int(head), after
    if kind == 0x2B:  # +
        return head, after
    if kind == 0x2D:  # -
        return Refused(head.decode("utf-8", "replace")), after
    raise ValueError(chr(kind))


# ---- the address ----------------------------------------------------------------------------------------------------


async def connect(url: str, *, patience: float) -> Wire:
    """A connection that has signed in and chosen its database. Raises Away."""
    try:
        options = addresses.parse_url(url)
        wire = await _opened(options, patience)
    except (OSError, ValueError, TypeError) as error:
        raise Away(type(error).__name__) from error
    try:
        if password := options.get("password"):
            user = options.get("username")
            await wire.command(b"AUTH", *([user.encode()] if user else []), password.encode())
        if number := options.get("db"):
            await wire.command(b"SELECT", b"%d" % number)
    except Refused as error:
        wire.close()
        raise Away("Redis refused the sign-in") from error
    except BaseException:
        wire.close()
        raise
    return wire


async def _opened(options: Any, patience: float) -> Wire:
    loop = asyncio.get_running_loop()
    if path := options.get("path"):
        _, wire = await loop.create_unix_connection(lambda: Wire(patience=patience), path)
        return wire
    host, port = options.get("host") or "localhost", options.get("port") or 6379
    secure = _tls(options) if options.get("connection_class") is addresses.SSLConnection else None
    _, wire = await loop.create_connection(lambda: Wire(patience=patience), host, port, ssl=secure)
    return wire


def _tls(options: Any) -> ssl.SSLContext:
    """As the address says: `ssl_cert_reqs=none` checks no certificate, `ssl_ca_certs` names who may have issued it."""
    context = ssl.create_default_context(cafile=options.get("ssl_ca_certs"))
    if options.get("ssl_certfile"):
        context.load_cert_chain(options["ssl_certfile"], options.get("ssl_keyfile"))
    wanted = str(options.get("ssl_cert_reqs", "required")).lower().removeprefix("cert_")
    if wanted != "required":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE if wanted == "none" else ssl.CERT_OPTIONAL
    return context
