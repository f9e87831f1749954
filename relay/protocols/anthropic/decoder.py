"""An Anthropic stream into the hub's events. Pure.

Parts are numbered here and not by the wire, whose numbers are believed only as far as one block goes: some upstreams
skip the events around a block, begin a block within another or write thoughts into a text.
"""

from typing import Any

import msgspec

from billing.usage import Usage
from relay.errors import Cause, RelayError
from relay.protocols import names, states
from relay.protocols.anthropic import errors, reading, usage
from relay.protocols.canonical import Finish, Json, Opaque, Part, Raw, Reasoning, Text, ToolCall
from relay.protocols.events import Event, Failed, Finished, PartDelta, PartEnded, PartStarted, Started
from relay.protocols.raws import NULL


class _Delta(msgspec.Struct, gc=False):
    type: str | None = None
    text: str | None = None
    thinking: str | None = None
    partial_json: str | None = None
    signature: str | None = None
    citation: dict[str, Any] | None = None
    stop_reason: str | None = None
    stop_sequence: str | None = None
    stop_details: msgspec.Raw = NULL


class _Message(msgspec.Struct, gc=False):
    id: str | None = None
    model: str | None = None
    usage: msgspec.Raw = NULL


class _Event(msgspec.Struct, gc=False):
    type: str = ""
    index: int | None = None
    delta: _Delta | None = None
    content_block: msgspec.Raw = NULL
    message: _Message | None = None
    usage: msgspec.Raw = NULL
    error: msgspec.Raw = NULL


class _Explained(msgspec.Struct):
    explanation: str | None = None


class _RawDelta(msgspec.Struct):
    delta: dict[str, Any]


_decoder = msgspec.json.Decoder(_Event)
_raw_delta_decoder = msgspec.json.Decoder(_RawDelta)
_explained_decoder = msgspec.json.Decoder(_Explained | None)
# What a delta's text may be written to, and its field.
_TARGETS: dict[str, type[Text | Reasoning | ToolCall]] = {
    "text_delta": Text, "thinking_delta": Reasoning, "input_json_delta": ToolCall,
}  # fmt: skip
_LARGEST_RAW = 8 * 1024 * 1024  # bytes of a block that is kept until it is whole


class MessagesDecoder:
    """As `codec.Decoder` promises it."""

    __slots__ = (
        "_begun", "_called", "_given", "_index", "_kind", "_note", "_number", "_over", "_raw", "_raw_size", "_reason",
        "_state", "_stop_sequence", "_tally", "finished", "outdated",
    )  # fmt: skip

    def __init__(self) -> None:
        self.finished = self.outdated = False
        self._begun = self._called = self._over = False
        self._number = -1  # of the newest part
        self._index: int | None = None  # the wire's number of the open block
        self._kind: type[Part] | None = None  # of the open part; None while there is none
        self._state: Opaque | None = None
        self._given = ""  # a call's whole input that came with its beginning
        self._raw: Json | None = None  # an open block that only its vendor understands
        self._raw_size = 0
        self._reason: Finish | None = None
        self._stop_sequence: str | None = None
        self._note: str | None = None
        self._tally = usage.Tally()

    @property
    def usage(self) -> Usage | None:
        return self._tally.usage()

    def feed(self, data: bytes) -> list[Event]:
        if self._over:
            return []
        if data == b"[DONE]":  # some upstreams end every stream so
            return self.close()
        try:
            event = _decoder.decode(data)
            delta = event.delta
            if event.type == "content_block_delta" and delta is not None:
                if event.index == self._index and self._kind is not None:
                    kind = _TARGETS.get(delta.type or "")
                    if kind is self._kind:  # nearly always: more of the open part
                        return self._more(_text_of(delta, kind))
                return self._delta(event, delta, data)
            return self._other(event)
        except RelayError as error:
            return self._fail(error)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            return self._fail(RelayError(Cause.UPSTREAM_ERROR, "The provider sent an event that cannot be read."))

    def close(self) -> list[Event]:
        if self._over:
            return []
        if self._reason is None:
            said = "ended before its answer did" if self._begun else "had no answer in it"
            return self._fail(RelayError(Cause.UPSTREAM_ERROR, f"The provider's stream {said}."))
        return self._finish()

    def _fail(self, error: RelayError) -> list[Event]:
        self._over = True
        return [Failed(error)]

    def _other(self, event: _Event) -> list[Event]:
        match event.type:
            case "message_start":
                return self._start(event.message or _Message())
            case "content_block_start":
                return [*self._started(), *self._ended(), *self._open(event)]
            case "content_block_stop":
                return self._ended() if event.index == self._index else []
            case "message_delta":
                return self._near_the_end(event)
            case "message_stop":
                return self._finish() if self._reason is not None else self.close()
        if event.type == "error" or bytes(event.error) != b"null":
            raise errors.decode_in_band(event.error)
        return []

    # ---- the answer -------------------------------------------------------------------------------------------------

    def _start(self, message: _Message) -> list[Event]:
        """A second beginning is none, but for what it says of the usage."""
        self._tally.see(message.usage)
        if self._begun:
            return []
        self._begun = self.outdated = True  # its output is none that has been put out
        return [Started(message.id or "", message.model or "", usage.decode(message.usage))]

    def _started(self) -> list[Event]:
        if self._begun:
            return []
        self._begun = True
        return [Started("", "")]

    def _near_the_end(self, event: _Event) -> list[Event]:
        if self._tally.see(event.usage):
            self.outdated = False
        delta = event.delta or _Delta()
        if delta.stop_reason is None:
            return []
        self._reason = reading.finish(delta.stop_reason)
        self._stop_sequence = delta.stop_sequence
        explained = _explained_decoder.decode(delta.stop_details)
        self._note = explained.explanation if explained else None
        self.finished = True
        return []

    def _finish(self) -> list[Event]:
        assert self._reason is not None
        reason = self._reason
        if self._called and reason is Finish.STOP:
            reason = Finish.TOOL_CALLS
        end = Finished(reason, self.usage, self._stop_sequence, self._note)
        events = [*self._started(), *self._ended(), end]
        self._over = self.finished = True
        return events

    # ---- its parts --------------------------------------------------------------------------------------------------

    def _open(self, event: _Event) -> list[Event]:
        self._index = event.index
        begun = reading.blocks(msgspec.Raw(b"[" + bytes(event.content_block) + b"]"))
        part = begun[0] if len(begun) == 1 else None
        match part:
            case Text():
                return [*self._begin(Text()), *self._more(part.text), *self._cited(part.citations)]
            case Reasoning(redacted=True):
                return self._begin(part)
            case Reasoning():
                self._state = part.state
                return [*self._begin(Reasoning()), *self._more(part.text)]
            case ToolCall():
                self._called = True
                opened = self._begin(ToolCall(id=part.id or names.new_call_id(), name=part.name))
                self._given = part.arguments
                return opened
            case Raw():
                self._raw, self._raw_size = part.value, 0
        return []

    def _begin(self, part: Part) -> list[Event]:
        self._number += 1
        self._kind = type(part)
        self.outdated = True
        return [PartStarted(self._number, part)]

    def _more(self, text: str) -> list[Event]:
        if not text:
            return []
        self._given = ""
        self.outdated = True
        return [PartDelta(self._number, text)]

    def _cited(self, citations: list[Json]) -> list[Event]:
        return [PartDelta(self._number, "", citation) for citation in citations]

    def _delta(self, event: _Event, delta: _Delta, data: bytes) -> list[Event]:
        """What is not plainly more of the open part."""
        if self._raw is not None and event.index == self._index:
            self._gather(delta, data)
            return []
        if delta.type == "signature_delta":
            if self._kind is Reasoning:
                self._state = states.unwrapped(delta.signature, native="anthropic")
            return []
        if delta.type == "citations_delta":
            return self._cited([delta.citation]) if self._kind is Text and delta.citation is not None else []
        target = _TARGETS.get(delta.type or "")
        if target is None:
            return []
        if target is ToolCall:
            raise RelayError(Cause.UPSTREAM_ERROR, "The provider sent a call's arguments outside of any call.")
        text = _text_of(delta, target)
        if target is self._kind and event.index is None:
            return self._more(text)
        opened = [*self._started(), *self._ended(), *self._begin(Text() if target is Text else Reasoning())]
        self._index = event.index
        return [*opened, *self._more(text)]

    def _gather(self, delta: _Delta, data: bytes) -> None:
        """More of a block that is only its vendor's: it becomes a part when it is whole."""
        assert self._raw is not None
        self._raw_size += len(data)
        if self._raw_size > _LARGEST_RAW:
            raise RelayError(Cause.UPSTREAM_ERROR, "The provider sent a block that is too large.")
        if delta.type == "input_json_delta":
            self._given += delta.partial_json or ""
        else:
            more = _raw_delta_decoder.decode(data).delta
            self._raw |= {name: value for name, value in more.items() if name != "type"}

    def _ended(self) -> list[Event]:
        raw, kind, state, given = self._raw, self._kind, self._state, self._given
        self._raw = self._kind = self._state = self._index = None
        self._given = ""
        if raw is not None:
            if given:
                raw["input"] = _json(given)
            part = Raw(owner="anthropic", label=str(raw.get("type")), value=raw)
            number = self._number = self._number + 1
            return [PartStarted(number, part), PartEnded(number)]
        if kind is None:
            return []
        rest: list[Event] = [PartDelta(self._number, given)] if given else []
        return [*rest, PartEnded(self._number, state)]


def _text_of(delta: _Delta, kind: type[Part]) -> str:
    return (delta.text if kind is Text else delta.thinking if kind is Reasoning else delta.partial_json) or ""


def _json(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return text
