"""A stream of OpenAI's completions, chat or text, on its way to a client of the same protocol. Pure.

The chunks pass as they came, under the offered model's name. From the first `finish_reason` on, the newest event is
kept back until the books are written: it is the last one the client sees before `[DONE]` and carries `pisces`.
"""

import re
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from billing.usage import Usage
from relay.counting.output import BLOCK, Text
from relay.errors import Cause, RelayError
from relay.protocols import completion_usage, envelope, sse
from relay.protocols.codec import Told
from relay.protocols.passing import PassingStream
from relay.protocols.raws import ABSENT, is_given

KEEP_ALIVE = b": keep-alive\n\n"
_NO_USAGE = b',"usage":null}'
# Text inside a JSON string that needs no looking into: no quote, no escape, no control character.
_PLAIN = re.compile(rb'[^"\\\x00-\x1f]*')
_fields_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])


class Choice(Protocol):
    @property
    def index(self) -> int | None: ...

    @property
    def finish_reason(self) -> str | None: ...


AnyChoice = TypeVar("AnyChoice", bound=Choice)


class Chunk(msgspec.Struct, Generic[AnyChoice], gc=False):
    id: str | None = None
    model: str | None = None
    choices: list[AnyChoice] | None = None
    usage: msgspec.Raw = ABSENT
    error: msgspec.Raw = ABSENT


class Familiar:
    """An ordinary event that was looked into, split around its text. The next one mostly differs in the text only, and
    is then known to be as sound as the one that was parsed, without being parsed itself. Its text is only added to
    what is to be counted, `gathered`."""

    __slots__ = ("_after", "_before", "_out_after", "_out_before", "gathered", "seen")

    def __init__(self, event: bytes, out: bytes, text: bytes, seen: Text) -> None:
        """`text` is the JSON string, which occurs once in the event and once in `out`."""
        at, out_at = event.index(text), out.index(text)
        self._before, self._after = event[: at + 1], event[at + len(text) - 1 :]
        self._out_before, self._out_after = out[: out_at + 1], out[out_at + len(text) - 1 :]
        self.seen = seen
        self.gathered = seen.raw

    def pass_on(self, event: bytes) -> bytes | None:
        """The event for the client; None for one that has to be looked into."""
        if not (event.startswith(self._before) and event.endswith(self._after)):
            return None
        begin, end = len(self._before), len(event) - len(self._after)
        if begin > end or _PLAIN.fullmatch(event, begin, end) is None:
            return None
        text = event[begin:end]
        if not text.isascii():
            try:
                text.decode()
            except UnicodeDecodeError:
                return None
        self.gathered += text
        return self._out_before + text + self._out_after


class ChunkStream(PassingStream, Generic[AnyChoice]):
    """`codec.Stream`. `choices` is how many answers the stream has. A subclass says how its chunks are read."""

    __slots__ = ("_familiar", "_held", "_model", "_unfinished", "_upstream_model", "wants_usage")

    NOT_BEGUN = PassingStream.NOT_ENDED  # that nothing came at all is told where the end says so

    def __init__(self, *, model: str, wants_usage: bool, choices: int, upstream_model: str) -> None:
        super().__init__(upstream_model)
        self.wants_usage = wants_usage
        self._unfinished = choices
        self._model = b'"model":' + msgspec.json.encode(model)
        self._upstream_model = b""
        self._familiar: Familiar | None = None
        self._held: bytes | None = None

    @abstractmethod
    def _decode(self, data: bytes) -> Chunk[AnyChoice]: ...

    @abstractmethod
    def _note_output(self, choice: AnyChoice) -> None:
        """Adds to `seen` what a choice put out."""

    @abstractmethod
    def _texts(self, choice: AnyChoice) -> Sequence[tuple[str, msgspec.Raw]] | None:
        """The names and JSON of its texts; None for a choice that has more than texts."""

    @property
    def finished(self) -> bool:
        """Every choice has its finish reason: what may still come is usage and `[DONE]`, and some never send them."""
        return self._unfinished <= 0

    def feed(self, data: bytes) -> bytes:
        familiar = self._familiar
        if familiar is not None and not self._splitter.carry:
            out = familiar.pass_on(data)
            if out is not None:
                if len(familiar.gathered) > BLOCK:
                    familiar.seen.fold()
                return out
        return super().feed(data)

    def last(self, pisces: Told, counted: Usage | None = None) -> bytes:
        """The event that was kept back, and the end of the stream. The newest event has `pisces`: where the client
        wants usage and has not been told all of it, that is one with what was counted."""
        events: list[dict[str, Any]] = []
        if self._held is not None:
            events.append(_fields_decoder.decode(self._held))
            if counted is not None and self.wants_usage:
                events.append({**events[0], "choices": [], "usage": completion_usage.encode(counted)})
            events[-1]["pisces"] = pisces
        return b"".join(b"data: " + msgspec.json.encode(fields) + b"\n\n" for fields in events) + b"data: [DONE]\n\n"

    def fail(self, error: RelayError, pisces: Told) -> bytes:
        return envelope.encode_event(error, pisces)

    def ping(self) -> bytes:
        return KEEP_ALIVE

    def _event(self, event: bytes) -> bytes:
        familiar = self._familiar
        if familiar is not None and (known := familiar.pass_on(event + b"\n\n")) is not None:
            if len(familiar.gathered) > BLOCK:
                familiar.seen.fold()
            return known
        data = sse.payload(event)
        if data is None:
            return b""
        if data == b"[DONE]":
            self.done = True
            if not self._begun:
                self.failure = RelayError(Cause.UPSTREAM_ERROR, "The provider's stream had no answer in it.")
            return b""
        return self._chunk(data)

    def _chunk(self, data: bytes) -> bytes:
        try:
            data.decode()  # what is passed on as raw bytes has not been looked at
            chunk = self._decode(data)
            data = sse.on_one_line(data)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise RelayError(Cause.UPSTREAM_ERROR, "The provider sent an event that is not a chunk.") from error
        if is_given(chunk.error):
            raise RelayError(Cause.UPSTREAM_ERROR, f"The provider failed: {envelope.error_text(chunk.error)}")
        self._note(chunk)
        original = data
        has_usage = is_given(chunk.usage)
        if has_usage and (usage := completion_usage.decode(chunk.usage)) is not None:
            self.usage, self._told = usage, self.seen.size
        if not chunk.choices and not (has_usage and self.wants_usage):
            return b""
        data = self._renamed(data, chunk.model)
        if not self.wants_usage:
            # A null may stay where it does not stand at the end: it says nothing.
            if data.endswith(_NO_USAGE):
                data = data[: -len(_NO_USAGE)] + b"}"
            elif has_usage:
                data = _without_usage(data)
        out = self._pass_or_keep(data, keep=bool(self.finish))
        self._familiar = None if has_usage or self.finish else self._learn(chunk, original, out)
        return out

    def _note(self, chunk: Chunk[AnyChoice]) -> None:
        if not self.id:
            self.id = chunk.id or ""
        for choice in chunk.choices or ():
            self._begun = True
            self._note_output(choice)
            if choice.finish_reason:
                self.seen.ended += choice.finish_reason != "length"
                self.finish = choice.finish_reason
                self._unfinished -= 1

    def _renamed(self, data: bytes, model: str | None) -> bytes:
        """The upstream's name for the model replaced. Its bytes are learnt once: inside a JSON string the quotes of
        this fragment would be escaped, so where it occurs only once it is the field itself."""
        if model is None:
            return data
        if self._upstream_model and data.count(self._upstream_model) == 1:
            return data.replace(self._upstream_model, self._model)
        fragment = self._upstream_model = b'"model":' + msgspec.json.encode(model)
        if data.count(fragment) == 1:
            return data.replace(fragment, self._model)
        fields: dict[str, Any] = _fields_decoder.decode(data)
        fields["model"] = msgspec.Raw(self._model[8:])
        return msgspec.json.encode(fields)

    def _learn(self, chunk: Chunk[AnyChoice], data: bytes, out: bytes) -> Familiar | None:
        """What can be learnt from a chunk with one choice that has one text."""
        if not out or not chunk.choices or len(chunk.choices) != 1:
            return None
        texts = self._texts(chunk.choices[0])
        if texts is None or len(texts) != 1 or not (text := bytes(texts[0][1])).startswith(b'"'):
            return None
        event = b"data: " + data + b"\n\n"
        if not event.count(text) == out.count(text) == 1:
            return None
        return Familiar(event, out, text, self.seen.text(chunk.choices[0].index or 0, texts[0][0]))

    def _pass_or_keep(self, data: bytes, *, keep: bool) -> bytes:
        released, self._held = self._held, data if keep else None
        if released is not None:
            return b"data: " + released + b"\n\n" + (b"" if keep else b"data: " + data + b"\n\n")
        return b"" if keep else b"data: " + data + b"\n\n"


def _without_usage(data: bytes) -> bytes:
    fields = _fields_decoder.decode(data)
    fields.pop("usage", None)
    return msgspec.json.encode(fields)
