"""A wire that can be cut: TCP between two of our own processes, which knows PostgreSQL's messages.

Everything that it does to a connection is one of these, set from the test's thread at any time:

- `proxy.cut_next(...)`: the next connection is cut after so many messages or bytes in one direction, or falls silent;
- `proxy.cut_at(text, ...)`: whichever connection next carries this text towards the server is cut there;
- `proxy.mode`: `pass`, `refuse` (connections end as soon as they are made), `hole` (everything is accepted and nothing
  forwarded, ever) or `freeze` (nothing is forwarded until it is thawed, then all of it);
- `proxy.delay`: seconds before each piece is forwarded;
- `proxy.drop()`: every connection is reset.
"""

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

Direction = Literal["up", "down"]
Unit = Literal["messages", "bytes"]
How = Literal["end", "silence"]
Mode = Literal["pass", "refuse", "hole", "freeze"]


class Cut(NamedTuple):
    """Cut after this many units have been forwarded in this direction."""

    direction: Direction
    after: int
    unit: Unit = "messages"
    how: How = "end"


class Mark(NamedTuple):
    """Cut where this text goes to the server: before it, or after the server has answered it and nobody hears."""

    text: bytes
    when: Literal["before", "after"]


class Framer:
    """Finds the ends of PostgreSQL's messages in one direction (manual, "Message Formats")."""

    def __init__(self, *, typed: bool) -> None:
        self._typed = typed  # a client's first messages have a length only
        self._head = bytearray()
        self._left = 0
        self.asked = 0  # requests for encryption, each of which is answered by one byte that is no message
        self.single = 0  # such bytes to come

    def ends(self, data: bytes) -> Iterator[int]:
        """The offsets in `data` behind which a message ends."""
        for at, byte in enumerate(data, 1):
            if self._left:
                self._left -= 1
            elif self.single:
                self.single -= 1
            elif not self._is_head(byte):
                continue
            if not self._left:
                yield at

    def _is_head(self, byte: int) -> bool:
        """Whether this byte completes a head, whose body is then `_left` bytes long."""
        self._head.append(byte)
        if len(self._head) < (5 if self._typed else 4):
            return False
        length = int.from_bytes(self._head[-4:], "big")
        self._left = length - 4
        if not self._typed:
            self.asked += length == 8
            self._typed = length > 8
        self._head.clear()
        return True


class _Link:
    """One client's connection and its counterpart to the server."""

    def __init__(self, proxy: "Proxy", cut: Cut | None) -> None:
        self._proxy = proxy
        self._cut = cut
        self._counted = 0
        self._framers = {"up": Framer(typed=False), "down": Framer(typed=True)}
        self._ended = asyncio.Event()
        self.gone = asyncio.Event()
        self._swallows = False
        self._deaf = False  # what the server answers from now on is for nobody

    async def run(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            upstream, server = await asyncio.open_connection("127.0.0.1", self._proxy.target)
        except OSError:
            writer.transport.abort()
            return
        tasks: list[asyncio.Task[Any]] = [
            asyncio.create_task(self._carry("up", reader, server)),
            asyncio.create_task(self._carry("down", upstream, writer)),
            asyncio.create_task(self._ended.wait()),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            writer.transport.abort()
            server.close()  # what was forwarded still arrives

    async def end(self) -> None:
        self._ended.set()
        await self.gone.wait()

    async def _carry(self, direction: Direction, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                await self._held_back()
                if self._proxy.delay:
                    await asyncio.sleep(self._proxy.delay)
                if self._swallows or self._proxy.mode == "hole":
                    self._swallows = True
                    continue
                passed, cut = self._until_cut(direction, data)
                if passed and not (self._deaf and direction == "down"):
                    writer.write(passed)
                    await writer.drain()
                if cut:
                    self._proxy.cuts += 1
                    self._swallows = self._cut is not None and self._cut.how == "silence"
                    if not self._swallows:
                        return
        await self._held_back()

    async def _held_back(self) -> None:
        while self._proxy.mode == "freeze":  # noqa: ASYNC110 - it is set by another thread
            await asyncio.sleep(0.02)

    def _until_cut(self, direction: Direction, data: bytes) -> tuple[bytes, bool]:
        """What of it may pass, and whether the wire is cut behind that."""
        if (mark := self._proxy.mark) is not None and direction == "up" and mark.text in data:
            self._proxy.mark = None
            if mark.when == "before":
                return b"", True
            self._deaf = True
        elif self._deaf and direction == "down" and b"Z\x00\x00\x00\x05I" in data:  # idle again: it has been done
            return b"", True
        cut = self._cut
        if cut is not None and cut.unit == "bytes" and cut.direction == direction:
            self._counted += len(data)
            if self._counted > cut.after:
                return data[: cut.after - self._counted], True
            return data, False
        return self._by_messages(direction, data)

    def _by_messages(self, direction: Direction, data: bytes) -> tuple[bytes, bool]:
        cut = self._cut
        if cut is None:
            return data, False
        for end in self._framers[direction].ends(data):
            if cut.direction == direction:
                if self._counted == cut.after:
                    return b"", True
                self._counted += 1
                if self._counted == cut.after:
                    return data[:end], True
        if direction == "up":
            up, down = self._framers["up"], self._framers["down"]
            down.single, up.asked = down.single + up.asked, 0
        return data, False


class Proxy:
    """Listens on `port` of the loopback and carries to `target`. `cuts` counts the wires that were cut as planned."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.mode: Mode = "pass"
        self.delay = 0.0
        self.cuts = 0
        self.made = 0  # connections that were accepted
        self.mark: Mark | None = None
        self.port = 0
        self._next: Cut | None = None
        self._links: set[_Link] = set()
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)
        self._thread.start()
        assert self._ready.wait(10)

    def cut_next(self, direction: Direction, after: int, *, unit: Unit = "messages", how: How = "end") -> None:
        self._next = Cut(direction, after, unit, how)

    def cut_at(self, text: bytes, when: Literal["before", "after"]) -> None:
        self.mark = Mark(text, when)

    def spare(self) -> None:
        """Takes back a cut that has not happened."""
        self._next = self.mark = None

    def drop(self) -> None:
        """Resets every connection; returns when that is done."""

        async def end_all() -> None:
            await asyncio.gather(*(link.end() for link in self._links))

        asyncio.run_coroutine_threadsafe(end_all(), self._loop).result(10)

    def close(self) -> None:
        self.mode = "pass"
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=10)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.made += 1
        if self.mode == "refuse":
            writer.transport.abort()
            return
        cut, self._next = self._next, None
        link = _Link(self, cut)
        self._links.add(link)
        try:
            with contextlib.suppress(asyncio.CancelledError):  # it is this loop's end
                await link.run(reader, writer)
        finally:
            self._links.discard(link)
            link.gone.set()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._accepted, "127.0.0.1", 0, backlog=512))
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        try:
            self._loop.run_forever()
        finally:
            server.close()
            tasks = asyncio.all_tasks(self._loop)
            for task in tasks:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
            self._loop.run_until_complete(asyncio.sleep(0.01))  # the sockets are closed in the loop's next rounds
            self._loop.close()
