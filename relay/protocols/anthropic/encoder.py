"""The hub's events into an Anthropic stream. Pure.

Blocks are numbered here, from 0 without a gap, and each begins only once there is something in it: an empty text block
would be refused when it comes back.
"""

import msgspec

from billing.usage import Usage
from relay.errors import RelayError
from relay.protocols import names
from relay.protocols.anthropic import blocks, errors, usage, writing
from relay.protocols.canonical import Json, Opaque, Part, Reasoning, Refusal, Text, ToolCall
from relay.protocols.codec import Asked, Told
from relay.protocols.events import Event, Finished, Grammar, PartDelta, PartEnded, PartStarted, Started

_encode = msgspec.json.encode
PING = b'event: ping\ndata: {"type":"ping"}\n\n'
_DELTA = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":'
_STOP = b'event: content_block_stop\ndata: {"type":"content_block_stop","index":%d}\n\n'


def frame(kind: str, fields: Json) -> bytes:
    return f"event: {kind}\ndata: ".encode() + _encode({"type": kind, **fields}) + b"\n\n"


class MessagesEncoder:
    """As `codec.Encoder` promises it. `prompt_tokens` is an estimate that stands until the upstream reports."""

    __slots__ = (
        "_called", "_finished", "_grammar", "_held", "_index", "_model", "_part", "_prefix", "_prompt_tokens", "_wrote",
    )  # fmt: skip

    def __init__(self, asked: Asked, *, model: str, prompt_tokens: int) -> None:
        self._model = model
        self._prompt_tokens = prompt_tokens
        self._grammar = Grammar()
        self._index = 0  # of the open block, or of the next one
        self._part: Part | None = None
        self._held = b""  # the beginning of a block in which there is nothing yet
        self._prefix = b""  # what stands before the text of a delta; empty where none may come
        self._wrote = False
        self._called = False
        self._finished: Finished | None = None

    def feed(self, event: Event) -> bytes:
        self._grammar.see(event)
        match event:
            case PartDelta(text=text, citation=citation):
                if not self._prefix:
                    return b""
                held, self._held = self._held, b""
                if citation is not None:
                    return held + self._piece("citations_delta", "citation", citation)
                if not text:
                    self._held = held
                    return b""
                self._wrote = True
                return held + self._prefix + _encode(text) + b"}}\n\n"
            case PartStarted(part=part):
                return self._begin(part)
            case PartEnded(state=state):
                return self._end(state)
            case Started():
                return self._start(event)
            case Finished():
                self._finished = event
        return b""

    def last(self, pisces: Told, counted: Usage | None = None) -> bytes:
        """`message_delta` with the whole usage, and the end."""
        finished = self._finished
        assert finished is not None
        delta = writing.ending(
            finished.reason, called=self._called, stop_sequence=finished.stop_sequence, note=finished.note
        )
        told = usage.encode(counted or finished.usage, prompt_tokens=self._prompt_tokens)
        return frame("message_delta", {"delta": delta, "usage": told}) + frame("message_stop", {"pisces": pisces})

    def fail(self, error: RelayError, pisces: Told) -> bytes:
        return errors.encode_event(error, pisces)

    def ping(self) -> bytes:
        return PING

    # ---- blocks -----------------------------------------------------------------------------------------------------

    def _start(self, started: Started) -> bytes:
        message: Json = {
            "id": started.id or writing.new_id(),
            "type": "message",
            "role": "assistant",
            "model": self._model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": usage.encode(started.usage, prompt_tokens=self._prompt_tokens),
        }
        return frame("message_start", {"message": message})

    def _begin(self, part: Part) -> bytes:
        self._part, self._wrote, self._held, self._prefix = part, False, b"", b""
        match part:
            case Text() | Refusal():
                self._held = self._opening({"type": "text", "text": ""})
                self._prefix = _DELTA % self._index + b'{"type":"text_delta","text":'
            case Reasoning(redacted=False):
                self._held = self._opening({"type": "thinking", "thinking": "", "signature": ""})
                self._prefix = _DELTA % self._index + b'{"type":"thinking_delta","thinking":'
            case ToolCall():
                return self._begin_call(part)
            case _:
                return b"".join(self._whole(block) for block in writing.answer_blocks(part))
        return b""

    def _begin_call(self, part: ToolCall) -> bytes:
        self._called = True
        carried = blocks.carrier(part)
        before = self._whole(carried) if carried else b""
        called = names.call_id(part.id, blocks.LONGEST_ID) or names.new_call_id()
        opening = self._opening({"type": "tool_use", "id": called, "name": part.name, "input": {}})
        self._prefix = _DELTA % self._index + b'{"type":"input_json_delta","partial_json":'
        return before + opening

    def _end(self, late: Opaque | None) -> bytes:
        part, prefix, self._part, self._prefix = self._part, self._prefix, None, b""
        match part:
            case ToolCall():
                empty = b"" if self._wrote else prefix + b'""}}\n\n'
                return empty + self._close()
            case Reasoning(redacted=False):
                return self._end_thought(late or part.state)
            case Text():
                carried = blocks.carrier(Text(state=late or part.state))
                return (b"" if self._held else self._close()) + (self._whole(carried) if carried else b"")
            case Refusal():
                return b"" if self._held else self._close()
        return b""

    def _end_thought(self, state: Opaque | None) -> bytes:
        held, self._held = self._held, b""
        if held and state is None:
            return b""
        return held + self._piece("signature_delta", "signature", blocks.signature(state)) + self._close()

    def _piece(self, kind: str, name: str, value: object) -> bytes:
        return _DELTA % self._index + _encode({"type": kind, name: value}) + b"}\n\n"

    def _opening(self, block: Json) -> bytes:
        return frame("content_block_start", {"index": self._index, "content_block": block})

    def _close(self) -> bytes:
        closed = _STOP % self._index
        self._index += 1
        return closed

    def _whole(self, block: Json) -> bytes:
        """A block that has all that it will ever have."""
        if block["type"] == "text":  # a reader takes the text of a block from its deltas
            opening = self._opening({**block, "text": ""})
            return opening + self._piece("text_delta", "text", block["text"]) + self._close()
        return self._opening(block) + self._close()
