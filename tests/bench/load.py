"""The load: raw HTTP over asyncio, so that the generator costs as little as it can on a machine that it shares.

`python -m tests.bench.load` reads a JSON order on standard input and prints a JSON result: latencies of calls, or gaps
between the chunks of held streams, in seconds. Before that it prints a line once all held streams flow.
"""

import asyncio
import json
import sys
import time
from array import array
from typing import Any, cast

import uvloop

LAST = b"0\r\n\r\n"  # the end of a chunked body


class Calls(asyncio.Protocol):
    """One connection that sends the same request again as soon as it has the whole answer, streamed or not, or, where
    the run has a period, in its next turn."""

    def __init__(self, run: "Run") -> None:
        self.run = run
        self.buffer = bytearray()
        self.need = 0  # bytes of the answer; 0 before its head has come, -1 where only its last chunk tells
        self.began = 0.0
        self.waiting = True  # for the first event
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's has the methods, not the class
        self.send()

    def send(self) -> None:
        if self.transport is None:  # the connection was lost while it waited for its turn
            return
        self.buffer.clear()
        self.need = 0
        self.waiting = True
        self.began = time.perf_counter()
        self.transport.write(self.run.request)

    def data_received(self, data: bytes) -> None:
        if self.run.first and self.waiting and b"data: {" in data:
            self.waiting = False
            self.run.samples.append(time.perf_counter() - self.began)
        self.buffer += data
        if self.need == 0:
            self.read_head()
        if (self.need > 0 and len(self.buffer) >= self.need) or (self.need < 0 and self.buffer.endswith(LAST)):
            self.answered()

    def read_head(self) -> None:
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = bytes(self.buffer[:end]).lower()
        at = head.find(b"content-length:")
        self.need = end + 4 + int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else -1

    def answered(self) -> None:
        assert self.transport is not None
        if not self.run.first:
            self.run.samples.append(time.perf_counter() - self.began)
        whole = not self.run.streamed or b"[DONE]" in self.buffer[-64:]
        if not whole or not self.buffer.startswith(b"HTTP/1.1 200"):
            self.run.errors += 1
        if self.run.is_over():
            self.transport.close()
            self.transport = None
        elif (early := self.began + self.run.period - time.perf_counter()) > 0:
            asyncio.get_running_loop().call_later(early, self.send)
        else:
            self.send()

    def connection_lost(self, error: Exception | None) -> None:
        if self.transport is not None:
            self.run.errors += 1
            self.transport = None
        self.run.gone()


class Held(asyncio.Protocol):
    """One stream: the gaps between its reads, and whether it ended as it should."""

    def __init__(self, run: "Run") -> None:
        self.run = run
        self.last = 0.0
        self.tail = b""
        self.size = 0
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's has the methods, not the class
        self.transport.write(self.run.request)

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        if not self.size:
            self.run.flows()
        if self.size and b"data: {" in data:
            self.run.samples.append(now - self.last)
        self.run.chunks += data.count(b"data: {")
        self.last = now
        self.size += len(data)
        self.tail = (self.tail + data)[-64:]
        if self.tail.endswith(LAST) and self.transport is not None:
            if b"[DONE]" not in self.tail:
                self.run.errors += 1
            self.transport.close()
            self.transport = None

    def connection_lost(self, error: Exception | None) -> None:
        if self.transport is not None:
            self.run.errors += 1
        if not self.size:
            self.run.flows()
        self.run.gone()


class Run:
    """Calls over `connections` sockets, each at least one and none begun after `seconds`; or, `held`, one stream each,
    opened over `ramp` seconds. `first`: a sample is the time to a stream's first event. With a `period` each connection
    calls once in so many seconds, so that those which were opened one after another stay apart."""

    def __init__(self, order: dict[str, Any]) -> None:
        self.order = order
        body = json.dumps(order["body"]).encode()
        head = (
            f"POST {order['path']} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {order['key']}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self.request = head.encode() + body
        self.streamed = "stream" in order["body"]
        self.first = bool(order.get("first"))
        self.period = float(order.get("period", 0.0))
        self.ends = 0.0
        self.samples: array[float] = array("d")
        self.errors = 0
        self.chunks = 0
        self.open = 0
        self.begun = 0
        self.done = asyncio.Event()
        self.ticks: list[tuple[float, int]] = []

    def is_over(self) -> bool:
        return time.perf_counter() >= self.ends

    def flows(self) -> None:
        """Another stream has begun, or never will. Says so when it was the last one."""
        self.begun += 1
        if self.begun == self.order["connections"]:
            print("flowing", flush=True)

    def gone(self) -> None:
        self.open -= 1
        if self.open == 0:
            self.done.set()

    async def go(self) -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        kind = Held if self.order.get("held") else Calls
        sockets = self.order["connections"]
        self.open = sockets
        began = time.perf_counter()
        self.ends = began + self.order.get("seconds", 0)
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
