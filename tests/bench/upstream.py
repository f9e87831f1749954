"""The provider of the benchmark: raw asyncio, as little work as possible for an answer.

`python -m tests.bench.upstream PORT` prints nothing and serves until it is ended. A request whose body has
`"stream"` gets CHUNKS chunks, one each INTERVAL seconds; any other one the static answer.
"""

import asyncio
import os
import sys

import uvloop

CHUNKS = int(os.environ.get("CHUNKS", "50"))
INTERVAL = float(os.environ.get("INTERVAL", "0.02"))

ANSWER = (
    b'{"id":"chatcmpl-bench","object":"chat.completion","created":1795000000,"model":"bench-upstream","choices":'
    b'[{"index":0,"message":{"role":"assistant","content":"'
    + b"An answer of some length. "
    * 20
    + b'","refusal":null},'
    b'"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":20,"completion_tokens":120,"total_tokens":140,'
    b'"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":0}}}'
)
_WHOLE = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(ANSWER) + ANSWER
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
_BEFORE = (
    b'data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1795000000,"model":"bench-upstream",'
    b'"service_tier":"default","system_fingerprint":"fp_bench","choices":[{"index":0,"delta":'
)
_AFTER = b',"logprobs":null,"finish_reason":null}],"usage":null}\n\n'
_FINISH = _BEFORE + b'{},"logprobs":null,"finish_reason":"stop"}],"usage":null}\n\n'
_USAGE = (
    b'data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1795000000,"model":"bench-upstream",'
    b'"choices":[],"usage":{"prompt_tokens":20,"completion_tokens":50,"total_tokens":70}}\n\n'
)


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


_TOKEN = _chunk(_BEFORE + b'{"content":" word"}' + _AFTER)
_TAIL = _chunk(_FINISH) + _chunk(_USAGE) + _chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"


class Provider(asyncio.Protocol):
    def __init__(self) -> None:
        self.buffer = b""
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # uvloop's has the methods, not the class

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = self.buffer[:end].lower()
            at = head.find(b"content-length:")
            size = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(self.buffer) < end + 4 + size:
                return
            body = self.buffer[end + 4 : end + 4 + size]
            self.buffer = self.buffer[end + 4 + size :]
            self.answer(body)

    def answer(self, body: bytes) -> None:
        assert self.transport is not None
        if b'"stream"' not in body:
            self.transport.write(_WHOLE)
            return
        self.transport.write(_HEAD)
        self.token(CHUNKS)

    def token(self, left: int) -> None:
        assert self.transport is not None
        if self.transport.is_closing():
            return
        if left == 0:
            self.transport.write(_TAIL)
            return
        self.transport.write(_TOKEN)
        asyncio.get_running_loop().call_later(INTERVAL, self.token, left - 1)


async def _serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Provider, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))
