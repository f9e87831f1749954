"""The benchmark's own provider: raw asyncio, as little work as possible for an answer.

`python -m tests.bench.upstream PORT` prints nothing and serves until it is ended. `tests.bench.provider` says what the
paths mean.
"""

import asyncio
import sys
from functools import partial
from typing import NamedTuple, cast

import uvloop

EVENTS = 500  # of a stream that comes at once, its end not counted

ANSWER = (
    b'{"id":"chatcmpl-bench","object":"chat.completion","created":1795000000,"model":"bench-upstream","choices":'
    b'[{"index":0,"message":{"role":"assistant","content":"'
    + b"An answer of some length. "
    * 20
    + b'","refusal":null},'
    b'"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":20,"completion_tokens":120,"total_tokens":140,'
    b'"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":0}}}'
)
_BEFORE = (
    b'data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1795000000,"model":"bench-upstream",'
    b'"service_tier":"default","system_fingerprint":"fp_bench","choices":[{"index":0,"delta":'
)
_TOKEN = _BEFORE + b'{"content":" word"},"logprobs":null,"finish_reason":null}],"usage":null}\n\n'
_FINISH = _BEFORE + b'{},"logprobs":null,"finish_reason":"stop"}],"usage":null}\n\n'
_USAGE = (
    b'data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1795000000,"model":"bench-upstream",'
    b'"choices":[],"usage":{"prompt_tokens":20,"completion_tokens":50,"total_tokens":70}}\n\n'
)
_DONE = b"data: [DONE]\n\n"
STREAM = _TOKEN * EVENTS + _FINISH + _USAGE + _DONE

# The same on Anthropic's wire.
OTHER_ANSWER = (
    b'{"id":"msg_bench","type":"message","role":"assistant","model":"bench-upstream","content":[{"type":"text","text":"'
    + b"An answer of some length. " * 20
    + b'"}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":20,"cache_creation_input_tokens":0,'
    b'"cache_read_input_tokens":0,"output_tokens":120,"service_tier":"standard"}}'
)
_OTHER_HEAD = (
    b'event: message_start\ndata: {"type":"message_start","message":{"id":"msg_bench","type":"message","role":'
    b'"assistant","model":"bench-upstream","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens"'
    b':20,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":1}}}\n\n'
    b'event: content_block_start\ndata: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":'
    b'""}}\n\n'
)
_OTHER_TOKEN = (
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":'
    b'" word"}}\n\n'
)
_OTHER_TAIL = (
    b'event: content_block_stop\ndata: {"type":"content_block_stop","index":0}\n\n'
    b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},'
    b'"usage":{"output_tokens":50}}\n\n'
    b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
)


def _static(kind: bytes, body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s" % (kind, len(body), body)


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


_WHOLE_REPLY, _STREAM_REPLY = _static(b"application/json", ANSWER), _static(b"text/event-stream", STREAM)
_OTHER_REPLY = _static(b"application/json", OTHER_ANSWER)
_PACED_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
_END = b"0\r\n\r\n"


class _Paced(NamedTuple):
    """What a paced stream begins with, its token, and its end."""

    head: bytes
    token: bytes
    tail: bytes


_OWN = _Paced(_PACED_HEAD, _chunk(_TOKEN), _chunk(_FINISH) + _chunk(_USAGE) + _chunk(_DONE) + _END)
_OTHER = _Paced(_PACED_HEAD + _chunk(_OTHER_HEAD), _chunk(_OTHER_TOKEN), _chunk(_OTHER_TAIL) + _END)


class Connection(asyncio.Protocol):
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.buffer = b""
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's has the methods, not the class

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = self.buffer[:end].lower()
            at = head.find(b"content-length:")
            size = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(self.buffer) < end + 4 + size:
                return
            self.buffer = self.buffer[end + 4 + size :]
            self.answer(head.split(b"/", 2)[1])

    def answer(self, way: bytes) -> None:
        assert self.transport is not None
        if way == b"whole":
            self.transport.write(_WHOLE_REPLY)
        elif way == b"claude":
            self.transport.write(_OTHER_REPLY)
        elif way == b"stream":
            self.transport.write(_STREAM_REPLY)
        else:
            kind, tokens, milliseconds = way.split(b"-")
            paced = _OTHER if kind == b"claude" else _OWN
            self.transport.write(paced.head)
            self.token(paced, int(tokens), int(milliseconds) / 1000)

    def token(self, paced: _Paced, left: int, interval: float) -> None:
        assert self.transport is not None
        if self.transport.is_closing():
            return
        if left == 0:
            self.transport.write(paced.tail)
            return
        self.transport.write(paced.token)
        self.loop.call_later(interval, self.token, paced, left - 1, interval)


async def _serve(port: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(partial(Connection, loop), "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))
