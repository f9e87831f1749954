"""HTTP as the server speaks it: uvicorn's protocol, and what clients may not do with it."""

import asyncio

import httptools
from django.conf import settings
from uvicorn._types import ASGI3Application, ASGISendEvent, HTTPScope
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from relay import transports
from relay.ticking import Ticker

MOST_HEAD = 64 * 1024  # bytes of a request's head, or of what follows its body; of one in several reads, to within one
MOST_HEADERS = 100
MOST_WAITING = 8  # requests behind the one that is answered; their bodies have uvicorn's HIGH_WATER_LIMIT together
LOOK_EVERY = 1.0  # seconds

NO_PROXY = (400, "This server is no proxy.")
INVALID = (400, "Invalid HTTP request received.")
LATE = (408, "The head of the request did not arrive in time.")
TOO_LARGE = (431, "The head of the request is too large.")


class HeadTooLarge(Exception):
    """Stops the parser."""


class _Unframed(RequestResponseCycle):
    """An answer to HTTP/1.0, which knows no chunks (RFC 9112, 6.1): one without a length ends with the connection."""

    measured = True

    async def send(self, message: ASGISendEvent) -> None:
        if message["type"] == "http.response.start":
            self.measured = any(name.lower() == b"content-length" for name, _ in message.get("headers", ()))
            self.chunked_encoding = None if self.measured else False
            self.keep_alive = False
        elif message["type"] == "http.response.body" and not self.measured:
            self.expected_content_length = len(message.get("body", b""))  # whatever it is, it is what was expected
        await super().send(message)


class Protocol(HttpToolsProtocol):
    """Declines to upgrade, and goes on as HTTP/1.1, which a server may (RFC 9110, 7.8). Java's client offers h2c with
    every first request; the parser ends at the head of such a one and takes its body for another protocol's.

    A head has a limit, for it is read before anyone is known: `unplaced` bytes have come since the end of the last one,
    or since a part of a body, and may be of the next.
    """

    unplaced = 0
    running: RequestResponseCycle | None = None  # the request that is answered; `cycle` is the newest

    unsent = -1  # bytes at the last look
    awaited: HTTPScope | None = None  # the request that was being read then
    same_since = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        _sweep.add(self, self.loop)

    def look(self, now: float) -> None:
        """Ends what would wait for its client without end: to take its answer, which is complete or has been given up,
        for SEND_STALL without any progress; or to send a first byte or the rest of a head, for HEAD_TIMEOUT each. While
        an answer is made whoever makes it waits, and where uvicorn's timer of idle connections runs, that does."""
        unsent = self.transport.get_write_buffer_size()
        idle = not unsent and self.timeout_keep_alive_task is not None
        if idle or self._is_answering() or unsent != self.unsent or self.scope is not self.awaited:
            self.unsent, self.awaited, self.same_since = unsent, self.scope, now
        elif unsent and now - self.same_since >= settings.SEND_STALL:
            transports.reset(self.transport)
        elif not unsent and now - self.same_since >= settings.HEAD_TIMEOUT:
            self._end_waiting()

    def _end_waiting(self) -> None:
        if self.scope and not self._has_head():
            self._refuse(*LATE)
        else:  # of a next request nothing has come
            self.transport.close()

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete and not self.transport.is_closing()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.running is not None and not self.running.response_complete:  # uvicorn tells only the newest
            self.running.disconnected = True
            self.running.message_event.set()
        _sweep.at_work.discard(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        self.unplaced += len(data)
        while True:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as offer:
                if self.scope["method"] != "CONNECT":
                    data = self._declined() + data[offer.args[0] :]
                    continue
                self._refuse(*NO_PROXY)
            except httptools.HttpParserError as error:
                self._refuse(*(TOO_LARGE if isinstance(error.__context__, HeadTooLarge) else INVALID))
            else:
                # With every read the parser copies what it has of a header, so that a long one costs its square.
                if self.unplaced > MOST_HEAD:
                    self._refuse(*TOO_LARGE)
            break
        if self.pipeline:
            self._read_on()

    def on_headers_complete(self) -> None:
        if len(self.headers) > MOST_HEADERS or (self.unplaced > MOST_HEAD and self._head_length() > MOST_HEAD):
            raise HeadTooLarge
        super().on_headers_complete()
        if self.scope["http_version"] < "1.1" and not self.parser.should_upgrade():
            self.cycle.__class__ = _Unframed  # its application has not begun
        self.unplaced = 0
        # What follows a body in chunks is told as headers are, and would be added to the request's, which are read when
        # its application starts: who calls, and from where, would be said by what no proxy has looked at.
        self.headers = []

    def on_body(self, body: bytes) -> None:
        self.unplaced = 0
        super().on_body(body)

    def _head_length(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self.running = cycle
        super()._start_asgi_task(cycle, app)

    def _read_on(self) -> None:
        """uvicorn stops reading where a request waits for the one before it, and would not hear of a hang-up. It stays
        so where more wait than cost little: then it hears of one with the next answer."""
        waiting = self.pipeline
        if len(waiting) <= MOST_WAITING and sum(len(cycle.body) for cycle, _ in waiting) <= HIGH_WATER_LIMIT:
            self.flow.resume_reading()
        else:
            self.flow.pause_reading()

    def _refuse(self, status: int, message: str) -> None:
        """Reads no more, and says why where the request that is being read is the next to be answered. Nothing is put
        into another answer, or before one: then the connection ends, and so does what it asked for."""
        if self._is_next():
            headers = [*self.server_state.default_headers, (b"content-type", b"text/plain; charset=utf-8")]
            headers += [(b"content-length", b"%d" % len(message)), (b"connection", b"close")]
            lines = [b"%s: %s\r\n" % header for header in headers]
            self.transport.write(b"".join([STATUS_LINE[status], *lines, b"\r\n", message.encode()]))
            self.transport.close()
        else:
            self.transport.abort()

    def _is_next(self) -> bool:
        if self._has_head():
            return not self.cycle.response_started and not self.pipeline
        return self.cycle is None or self.cycle.response_complete

    def _has_head(self) -> bool:
        """Whether of the request that is being read the head is complete."""
        return self.cycle is not None and self.cycle.scope is self.scope

    def _should_upgrade(self) -> bool:
        """So that the request is not begun without its body. It is asked only where an upgrade is offered."""
        return True

    def _declined(self) -> bytes:
        """The head of the request without the offer, for a new parser."""
        method, version = self.scope["method"].encode(), self.parser.get_http_version().encode()
        lines = [b"%s %s HTTP/%s" % (method, self.url, version)]
        lines += [b"%s: %s" % (name, value) for name, value in self.scope["headers"] if name != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as it was
        return b"\r\n".join([*lines, b"", b""])


# A request sets no timer for it, and a chunk notes nothing. What it ends, it ends to within two looks.
_sweep: Ticker[Protocol] = Ticker(LOOK_EVERY)
