"""A streamed Anthropic answer on its way to an Anthropic client: bytes in, bytes out, usage overheard. Pure.

The events pass as they came, under the offered model's name in the first. From the `message_delta` that says why the
answer ends, all is kept back until the books are written; the last of them, `message_stop`, bears `pisces`.
"""

import re
from typing import Any

import msgspec

from billing.usage import Usage
from relay.counting.output import BLOCK, Text
from relay.errors import Cause, RelayError
from relay.protocols import sse
from relay.protocols.anthropic import encoder, errors, reading, usage
from relay.protocols.anthropic.request import MessagesRequest
from relay.protocols.canonical import Finish
from relay.protocols.codec import Told
from relay.protocols.passing import PassingStream
from relay.protocols.raws import NULL

# An ordinary piece of text, thoughts or arguments; the vendor pads its events with spaces. What is written with `\u` is
# looked into.
_ORDINARY = re.compile(
    rb'event: content_block_delta\ndata: ?\{"type": ?"content_block_delta", ?"index": ?(\d{1,6}), ?"delta": ?\{'
    rb'"type": ?"(?:text|thinking|input_json)_delta", ?"(text|thinking|partial_json)": ?'
    rb'"([^"\\\x00-\x1f]*(?:\\["\\/bfnrt][^"\\\x00-\x1f]*)*)" *\} *\} *'
)
_NAMED = re.compile(rb"(?:^|\n)event:")
_PLACES = {"text": "content", "thinking": "reasoning", "partial_json": "arguments"}
_NOT_BY_ITSELF = frozenset((Finish.LENGTH, Finish.CONTEXT, Finish.PAUSE, Finish.FILTER))


class _Delta(msgspec.Struct, gc=False):
    text: msgspec.Raw = NULL
    thinking: msgspec.Raw = NULL
    partial_json: msgspec.Raw = NULL
    stop_reason: str | None = None


class _Block(msgspec.Struct, gc=False):
    type: str = ""
    name: str = ""
    text: msgspec.Raw = NULL
    thinking: msgspec.Raw = NULL
    input: msgspec.Raw = NULL


class _Message(msgspec.Struct, gc=False):
    id: str | None = None
    model: str | None = None
    usage: msgspec.Raw = NULL


class _Event(msgspec.Struct, gc=False):
    type: str = ""
    index: int | None = None
    delta: _Delta | None = None
    content_block: _Block | None = None
    message: _Message | None = None
    usage: msgspec.Raw = NULL
    error: msgspec.Raw = NULL


_decoder = msgspec.json.Decoder(_Event)
_fields_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])


class MessagesStream(PassingStream):
    """As `codec.Stream` promises it."""

    __slots__ = ("_held", "_model", "_stop", "_tally", "_texts")

    def __init__(self, asked: MessagesRequest, *, model: str, upstream_model: str) -> None:
        super().__init__(upstream_model)
        self._model = model
        self._held: list[bytes] = []  # what ends the answer
        self._stop: bytes | None = None
        self._tally = usage.Tally()
        self._texts: dict[tuple[bytes, bytes], Text] = {}

    def last(self, pisces: Told, counted: Usage | None = None) -> bytes:
        fields: dict[str, Any] = _fields_decoder.decode(self._stop) if self._stop else {"type": "message_stop"}
        stop = b"event: message_stop\ndata: " + msgspec.json.encode({**fields, "pisces": pisces}) + b"\n\n"
        if counted is not None and self._held:
            self._held[-1] = _telling(self._held[-1], counted)
        return b"".join((*self._held, stop))

    def fail(self, error: RelayError, pisces: Told) -> bytes:
        return errors.encode_event(error, pisces)

    def ping(self) -> bytes:
        return encoder.PING

    def _event(self, event: bytes) -> bytes:
        found = _ORDINARY.fullmatch(event)
        if found is not None and not self._held:
            index, kind, inside = found.groups()
            if inside.isascii() or _is_text(inside):
                text = self._texts.get((index, kind))
                if text is None:
                    self._begun = True
                    text = self._texts[index, kind] = self._place(int(index), kind.decode())
                text.raw += inside
                if len(text.raw) > BLOCK:
                    text.fold()
                return event + b"\n\n"
        data = sse.payload(event)
        if data is None:
            return event + b"\n\n" if self._begun and event.startswith(b":") else b""
        return self._looked_into(event, data)

    def _looked_into(self, event: bytes, data: bytes) -> bytes:
        if data == b"[DONE]":  # some upstreams end every stream so
            self.done = bool(self.finish)
            return b""
        try:
            data.decode()
            found = _decoder.decode(data)
            data = sse.on_one_line(data)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise RelayError(Cause.UPSTREAM_ERROR, "The provider sent an event that cannot be read.") from error
        if found.type == "error" or bytes(found.error) != b"null":
            raise errors.decode_in_band(found.error)
        match found.type:
            case "message_start":
                return self._start(data, found.message or _Message())
            case "message_delta":
                return self._near_the_end(event, data, found)
            case "message_stop":
                if not self.finish:  # it never said why: something is missing before it
                    raise RelayError(Cause.UPSTREAM_ERROR, self.NOT_ENDED if self._begun else self.NOT_BEGUN)
                self._stop = data
                self.done = True
                return b""
        self._note(found)
        # A ping is no answer, nor is a comment: until there is one, another channel may give it.
        return _named(event, found.type, data) if self._begun and not self._held else b""

    def _start(self, data: bytes, message: _Message) -> bytes:
        if self._begun:
            return b""  # a second one would break the client
        self._begun = True
        self.id = message.id or ""
        self._tally.see(message.usage)
        self.usage = self._tally.usage()  # exact for the input; its output is none that has been put out
        if message.model is not None:
            data = _renamed(data, message.model, self._model)
        return b"event: message_start\ndata: " + data + b"\n\n"

    def _near_the_end(self, event: bytes, data: bytes, found: _Event) -> bytes:
        """The end begins with its reason; until then it is news of the usage, behind which more may come."""
        if self._tally.see(found.usage):
            self._told = self.seen.size
        self.usage = self._tally.usage()
        out = _named(event, found.type, data)
        ends = found.delta is not None and found.delta.stop_reason
        if not self._held and not ends:
            return out if self._begun else b""
        if len(self._held) < 8:
            self._held.append(out)
        if ends:
            reason = reading.finish(ends)
            if not self.finish:
                self.seen.ended += reason not in _NOT_BY_ITSELF
            self.finish = reason.value
        return b""

    def _note(self, found: _Event) -> None:
        """What was put out, for counting."""
        index = found.index or 0
        block, delta = found.content_block, found.delta
        self._begun = self._begun or block is not None or delta is not None
        if block is not None:
            if block.type == "tool_use":
                self.seen.text(0, "name", index).add(msgspec.Raw(msgspec.json.encode(block.name)))
            self.seen.searches += block.type == "server_tool_use" and block.name == "web_search"
            for kind in ("text", "thinking"):
                self._count(index, kind, getattr(block, kind))
            if len(bytes(block.input)) > 4:
                self._place(index, "partial_json").add_json(block.input)
        if delta is not None:
            for kind in _PLACES:
                self._count(index, kind, getattr(delta, kind))

    def _count(self, index: int, kind: str, raw: msgspec.Raw) -> None:
        """A string with an escape that stands for no character is passed on and not counted."""
        if raw is NULL or bytes(raw) == b'""':
            return
        try:
            msgspec.json.decode(raw, type=str)
        except msgspec.DecodeError:
            return
        self._place(index, kind).add(raw)

    def _place(self, index: int, kind: str) -> Text:
        part = _PLACES[kind]
        return self.seen.text(0, part, index if part == "arguments" else 0)


def _is_text(inside: bytes) -> bool:
    try:
        inside.decode()
    except UnicodeDecodeError:
        return False
    return True


def _named(event: bytes, kind: str, data: bytes) -> bytes:
    """The event as it came; the SDKs overlook one without its name."""
    if _NAMED.search(event) is not None:
        return event + b"\n\n"
    return b"event: " + kind.encode() + b"\ndata: " + data + b"\n\n"


def _telling(event: bytes, counted: Usage) -> bytes:
    """`message_delta` with what the gateway counted."""
    fields: dict[str, Any] = _fields_decoder.decode(sse.on_one_line(sse.payload(event) or b"{}"))
    return encoder.frame("message_delta", {**fields, "usage": usage.encode(counted)})


def _renamed(data: bytes, model: str, offered: str) -> bytes:
    """The upstream's name for the model replaced: inside a JSON string the quotes of this fragment would be escaped, so
    where it occurs only once it is the field itself."""
    fragment = b'"model":' + msgspec.json.encode(model)
    if data.count(fragment) == 1:
        return data.replace(fragment, b'"model":' + msgspec.json.encode(offered))
    fields: dict[str, Any] = _fields_decoder.decode(data)
    message: dict[str, Any] = _fields_decoder.decode(fields["message"])
    message["model"] = offered
    return msgspec.json.encode({**fields, "message": message})
