"""The load: raw HTTP over asyncio, so that the generator costs as little as it can on a machine that it shares.

`python -m tests.bench.load` reads a JSON order on standard input and prints a JSON result: latencies of whole answers,
or gaps between chunks of streams, in seconds.
"""

import asyncio
import json
import sys
import time
from array import array
from typing import Any

import uvloop


class Whole(asyncio.Protocol):
    """One connection that sends the same request again as soon as it has its answer."""

    def __init__(self, run: "Run") -> None:
        self.run = run
        self.buffer = b""
        self.need = -1
        self.began = 0.0
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # uvloop's has the methods, not the class
        self.send()

    def send(self) -> None:
        assert self.transport is not None
        if not self.run.take():
            self.transport.close()
            return
        self.buffer, self.need = b"", -1
        self.began = time.perf_counter()
        self.transport.write(self.run.request)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if self.need < 0:
            end = self.buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            head = self.buffer[:end].lower()
            at = head.find(b"content-length:")
            if at >= 0:
                self.need = end + 4 + int(head[at + 15 :].split(b"\r\n", 1)[0])
            if not self.buffer.startswith(b"HTTP/1.1 200"):
                self.run.errors += 1
        chunked_end = self.need < 0 and self.buffer.endswith(b"0\r\n\r\n")
        if chunked_end or (self.need >= 0 and len(self.buffer) >= self.need):
            self.run.samples.append(time.perf_counter() - self.began)
            self.send()

    def connection_lost(self, error: Exception | None) -> None:
        self.run.gone()


class Stream(asyncio.Protocol):
    """One stream: the gaps between its reads, and whether it ended as it should."""

    def __init__(self, run: "Run") -> None:
        self.run = run
        self.last = 0.0
        self.tail = b""
        self.size = 0
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # uvloop's has the methods, not the class
        self.transport.write(self.run.request)

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        if self.size and b"data: {" in data:
            self.run.samples.append(now - self.last)
        self.run.chunks += data.count(b"data: {")
        self.last = now
        self.size += len(data)
        self.tail = (self.tail + data)[-64:]
        if self.tail.endswith(b"0\r\n\r\n") and self.transport is not None:
            if b"[DONE]" not in self.tail:
                self.run.errors += 1
            self.transport.close()
            self.transport = None

    def connection_lost(self, error: Exception | None) -> None:
        if self.transport is not None:
            self.run.errors += 1
        self.run.gone()


class Run:
    """`count` requests over `connections` sockets; for streams, one a socket, opened over `ramp` seconds."""

    def __init__(self, order: dict[str, Any]) -> None:
        self.order = order
        body = json.dumps(order["body"]).encode()
        head = (
            f"POST {order['path']} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {order['key']}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self.request = head.encode() + body
        self.left = order["count"]
        self.samples: array[float] = array("d")
        self.errors = 0
        self.chunks = 0
        self.open = 0
        self.done = asyncio.Event()
        self.ticks: list[tuple[float, int]] = []

    def take(self) -> bool:
        self.left -= 1
        return self.left >= 0

    def gone(self) -> None:
        self.open -= 1
        if self.open == 0:
            self.done.set()

    async def go(self) -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        kind = Stream if self.order["stream"] else Whole
        sockets = self.order["connections"]
        self.open = sockets
        began = time.perf_counter()
        ticking = loop.create_task(self.tick())
        for _ in range(sockets):
            await loop.create_connection(lambda: kind(self), "127.0.0.1", self.order["port"])
            if self.order.get("ramp"):
                await asyncio.sleep(self.order["ramp"] / sockets)
        await asyncio.wait_for(self.done.wait(), self.order.get("timeout", 120))
        seconds = time.perf_counter() - began
        ticking.cancel()
        return {
            "seconds": seconds,
            "errors": self.errors,
            "chunks": self.chunks,
            "samples": self.samples.tolist(),
            "ticks": self.ticks,
        }

    async def tick(self) -> None:
        """How many chunks had come by which time, so that a part of the run can be looked at."""
        while True:
            self.ticks.append((time.time(), self.chunks))
            await asyncio.sleep(0.05)


async def _main() -> None:
    print(json.dumps(await Run(json.loads(sys.stdin.read())).go()))


if __name__ == "__main__":
    uvloop.run(_main())
