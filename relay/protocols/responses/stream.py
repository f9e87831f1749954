"""A stream of Responses on its way to a client of the same protocol: bytes in, bytes out, usage overheard.

Text passes untouched. The few events that have the response as a whole are written anew: under the offered model's name
and the id by which the client finds the answer again. The terminal one is kept back until the books are written.
"""

import re
from typing import Any

import msgspec

from billing.usage import Usage
from relay.errors import Cause, RelayError
from relay.protocols import raws, sse
from relay.protocols import seen as seeing
from relay.protocols.canonical import Finish, Part, ToolCall
from relay.protocols.codec import Told
from relay.protocols.fold import text_of
from relay.protocols.passing import PassedWhole, PassingStream
from relay.protocols.raws import ABSENT
from relay.protocols.responses import answer, errors, reading, received, usage
from relay.protocols.responses.answer import Shell
from relay.protocols.responses.decoder import ENDS
from relay.protocols.responses.encoder import PING
from relay.protocols.responses.request import ResponsesRequest

# Where the text of a delta goes in what is counted, and whether each item has one of its own.
_COUNTED = {
    "response.output_text.delta": "content",
    "response.refusal.delta": "refusal",
    "response.reasoning_summary_text.delta": "reasoning",
    "response.reasoning_text.delta": "reasoning",
    "response.function_call_arguments.delta": "arguments",
    "response.custom_tool_call_input.delta": "arguments",
}
_BEGINS = frozenset(("response.created", "response.in_progress", "response.queued"))
_fields_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])


class _Event(msgspec.Struct, gc=False):
    type: str
    sequence_number: int = 0
    output_index: int = 0
    delta: msgspec.Raw = ABSENT


class _More(msgspec.Struct):
    """What the events have besides that are no text."""

    item: msgspec.Raw = ABSENT
    response: msgspec.Raw = ABSENT
    error: msgspec.Raw = ABSENT
    message: str | None = None
    code: str | None = None


_decoder = msgspec.json.Decoder(_Event)
_more_decoder = msgspec.json.Decoder(_More)
# An ordinary text chunk as OpenAI writes it. Inside a JSON string no quote stands unescaped, so what these are is sure.
_CHUNK = re.compile(
    rb'event: (response\.[a-z_]+\.delta)\ndata: \{"type":"\1","sequence_number":(\d{1,9}),"item_id":"[\w.-]*",'
    rb'"output_index":(\d{1,6}),(?:"(?:content|summary)_index":\d{1,6},)?"delta":"([^"\\\x00-\x1f]*)"'
    rb'(?:,"logprobs":\[\])?(?:,"obfuscation":"[\w.-]*")?\}'
)


class ResponsesStream(PassingStream):
    """As `codec.Stream` promises it."""

    __slots__ = ("_asked", "_counted", "_items", "_last", "_model", "_number", "_shell", "_status")

    def __init__(self, asked: ResponsesRequest, *, model: str, upstream_model: str) -> None:
        super().__init__(upstream_model)
        self._asked = asked
        self._model = model
        self._shell = Shell(asked, model)
        self._number = -1  # of the last event that was passed on
        self._counted: set[int] = set()  # items whose text came in deltas
        self._items: list[msgspec.Raw] = []  # those that are done
        self._last: msgspec.Raw | None = None  # the response at its end
        self._status = ""

    @property
    def outdated(self) -> bool:
        """The one report comes with the answer's end, and is of all of it."""
        return self.usage is None

    def _event(self, event: bytes) -> bytes:
        chunk = _CHUNK.fullmatch(event)
        if chunk is not None and (known := _COUNTED.get(chunk[1].decode())) is not None:
            return self._chunk(event, known, int(chunk[2]), int(chunk[3]), chunk[4])
        data = sse.payload(event)
        if data is None or data == b"[DONE]":
            return b""
        try:
            data.decode()  # what is passed on as raw bytes has not been looked at
            found = _decoder.decode(data)
            return self._known(event, sse.on_one_line(data), found)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise errors.of_unreadable(data) from error

    def _chunk(self, event: bytes, known: str, number: int, index: int, text: bytes) -> bytes:
        if not text.isascii():
            try:
                text.decode()
            except UnicodeDecodeError as error:
                raise RelayError(Cause.UPSTREAM_ERROR, "The provider sent an event that cannot be read.") from error
        self._number = number
        self._begun = True
        self._counted.add(index)
        self._gather(self.seen.text(0, known, index if known == "arguments" else 0), text)
        return event + b"\n\n"

    def _known(self, event: bytes, data: bytes, found: _Event) -> bytes:
        kind = found.type
        if (known := _COUNTED.get(kind)) is not None and bytes(memoryview(found.delta)[:1]) == b'"':
            self._begun = True
            self._counted.add(found.output_index)
            self.seen.text(0, known, found.output_index if known == "arguments" else 0).add(found.delta)
        elif kind in _BEGINS:
            return self._rewritten(kind, found, data)
        elif kind in ENDS:
            self._end(_more_decoder.decode(data).response, found)
            return b""
        elif kind == "error":
            more = _more_decoder.decode(data)
            flat = msgspec.json.encode({"message": more.message, "code": more.code})
            raise errors.decode_in_band(more.error if raws.is_given(more.error) else flat)
        elif kind == "response.output_item.done":
            self._done(found, _more_decoder.decode(data).item)
        elif not self._begun and not kind.startswith("response."):
            return b""  # a sign of life (`keepalive`) is no answer: until there is one, another channel may give it
        self._number = found.sequence_number
        return event + b"\n\n"

    def _rewritten(self, kind: str, found: _Event, data: bytes) -> bytes:
        self._begun = True
        self._number = found.sequence_number
        response = _more_decoder.decode(data).response
        if not self.id:
            self.id = received.answer_decoder.decode(response).id or ""
        return answer.event(kind, found.sequence_number, renamed(response, self._asked, self._model))

    def _done(self, found: _Event, item: msgspec.Raw) -> None:
        """Keeps the item for an end that forgets it (pitfall 35), and counts a text that never came in pieces."""
        self._begun = True
        self._items.append(item)
        head = reading.head_decoder.decode(item)
        for number, part in enumerate(reading.parts_of(item, head)):
            if found.output_index in self._counted:
                if isinstance(part, ToolCall):
                    self._name(part.name, found.output_index)
            else:
                self._note(part, found.output_index + number)

    def _note(self, part: Part, number: int) -> None:
        where = seeing.place(part, number, self.seen)
        if where is not None:
            seeing.add(where, text_of(part))

    def _name(self, name: str, number: int) -> None:
        seeing.add(self.seen.text(0, "name", number), name)

    def _end(self, response: msgspec.Raw, found: _Event) -> None:
        whole = received.answer_decoder.decode(response)
        self.usage = usage.decode(whole.usage)
        self.id = self.id or whole.id or ""
        if (failure := received.failure_of(whole)) is not None:
            raise failure
        self._number = found.sequence_number - 1
        self._last, self._status = response, found.type
        reason = received.reason_of(whole)
        self.finish = reason.value
        self.seen.ended += reason is Finish.STOP
        self._begun = self.done = True
        if not whole.output and self._items:
            fields: dict[str, Any] = _fields_decoder.decode(response)
            self._last = msgspec.Raw(msgspec.json.encode({**fields, "output": self._items}))
        elif not self._items:
            for index, item in enumerate(whole.output or ()):
                self._done(_Event(found.type, output_index=index), item)

    def last(self, pisces: Told, counted: Usage | None = None) -> bytes:
        """Nothing for an answer that has not ended: nobody waits for it any more."""
        if self._last is None:
            return b""
        whole = {**renamed(self._last, self._asked, self._model, counted), "pisces": pisces}
        self._asked.answered = msgspec.json.encode(whole)
        return answer.event(self._status, self._number + 1, msgspec.Raw(self._asked.answered), pisces=pisces)

    def fail(self, error: RelayError, pisces: Told) -> bytes:
        """The error, and then the response that failed, with what was done of it."""
        whole = {**self._shell.failed(self._items, error), "pisces": pisces}
        event = errors.encode_event(error, self._number + 1, pisces)
        return event + answer.event("response.failed", self._number + 2, whole, pisces=pisces)

    def ping(self) -> bytes:
        return PING


def renamed(
    response: msgspec.Raw | bytes, asked: ResponsesRequest, model: str, counted: Usage | None = None
) -> dict[str, Any]:
    """The upstream's response object with what only the client's side knows: the id by which the gateway keeps it, the
    offered model, the earlier response that it goes on from, and what was counted in the place of its usage."""
    fields: dict[str, Any] = _fields_decoder.decode(response)
    if counted is not None:
        fields["usage"] = usage.encode(counted)
    known = {"id": asked.id, "model": model, "previous_response_id": asked.previous or None, "store": asked.store}
    return {**fields, **known}


class ResponsesAnswer(PassedWhole):
    """As `codec.Whole` promises it."""

    __slots__ = ("_asked",)

    def __init__(self, body: bytes, asked: ResponsesRequest) -> None:
        super().__init__(body, received.decode_response(body), usage.encode)
        self._asked = asked

    def encode(self, *, model: str, pisces: Told, counted: Usage | None = None) -> bytes:
        fields = renamed(self._body, self._asked, model, counted)
        whole = msgspec.json.encode({**fields, "pisces": pisces})
        self._asked.answered = whole
        return whole
