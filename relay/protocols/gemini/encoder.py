"""Events into a stream for a Gemini client: whole answers with the new parts only, calls and thoughts' state whole."""

from typing import Any

import msgspec

from billing.usage import Usage
from relay.errors import RelayError
from relay.protocols.canonical import Json, Media, Opaque, Part, Raw, Reasoning, Refusal, Text, ToolCall
from relay.protocols.codec import Told
from relay.protocols.events import Event, Finished, Grammar, PartDelta, PartEnded, PartStarted, Started
from relay.protocols.gemini import errors, parts, usage, writing
from relay.protocols.gemini.framing import PING, Framing
from relay.protocols.gemini.request import GeminiRequest

_encode = msgspec.json.Encoder().encode
_HEAD = b'{"candidates":[{"content":{"parts":['
_TEXT = _HEAD + b'{"text":'
_THOUGHT = b',"thought":true'


class Encoder:
    """As `codec.Encoder` promises it. `model` is the offered name. Thoughts of which the client has not asked to see
    any are gathered, and sent with their state or not at all."""

    __slots__ = (
        "_after", "_citations", "_finished", "_framing", "_gathered", "_grammar", "_id", "_middle", "_model", "_part",
        "_tail", "_thoughts",
    )  # fmt: skip

    def __init__(self, asked: GeminiRequest, *, model: str, prompt_tokens: int) -> None:
        self._framing = Framing(array=asked.array)
        self._thoughts = writing.shows_thoughts(asked)
        self._grammar = Grammar()
        self._model = model
        self._id = ""
        self._tail = self._after = b""
        self._middle: bytes | None = b""  # what follows a text of the open part; None where pieces are gathered
        self._part: Part = Text()
        self._gathered: list[str] = []
        self._citations: list[Json] = []
        self._finished: Finished | None = None

    def feed(self, event: Event) -> bytes:
        self._grammar.see(event)
        if type(event) is PartDelta:
            return self._delta(event)
        if type(event) is PartStarted:
            return self._begin(event.part)
        if type(event) is PartEnded:
            return self._end(event.state)
        if type(event) is Started:
            self._start(event)
        elif type(event) is Finished:
            self._finished = event
        return b""

    def last(self, pisces: Told, counted: Usage | None = None) -> bytes:
        finished = self._finished
        assert finished is not None
        body = writing.closing([], finished.reason, finished.note, self._citations)
        if (told := counted or finished.usage) is not None:
            body["usageMetadata"] = usage.encode(told)
        body.update(modelVersion=self._model, responseId=self._id, pisces=pisces)
        return self._framing.event(_encode(body)) + self._framing.end()

    def fail(self, error: RelayError, pisces: Told) -> bytes:
        return self._framing.event(errors.encode(error, pisces)) + self._framing.end()

    def ping(self) -> bytes:
        return PING

    def _start(self, event: Started) -> None:
        self._id = event.id
        self._tail = b'],"role":"model"},"index":0}],"modelVersion":%b,"responseId":%b}' % (
            _encode(self._model),
            _encode(event.id),
        )

    def _begin(self, part: Part) -> bytes:
        self._part, self._gathered, self._middle = part, [], None
        match part:
            case Text() | Refusal():
                self._after = b"}" + self._tail
                self._middle = b""
            case Reasoning() if self._thoughts and not part.redacted:
                self._after = _THOUGHT + b"}" + self._tail
                self._middle = b""
            case Media() | Raw():
                return self._whole(part)
        return b""

    def _delta(self, event: PartDelta) -> bytes:
        if event.citation is not None:
            self._citations.append(event.citation)
        if self._middle is None:
            self._gathered.append(event.text)
            return b""
        if not event.text:
            return b""
        return self._framing.event(b"%b%b%b" % (_TEXT, _encode(event.text), self._after))

    def _end(self, state: Opaque | None) -> bytes:
        part = self._part
        match part:
            case Text() if self._middle is not None:
                return self._whole(Text(state=state or part.state))
            case Reasoning() if self._middle is not None:
                return self._whole(Reasoning(state=state or part.state))
            case Reasoning():
                text = part.text + "".join(self._gathered)
                return self._whole(msgspec.structs.replace(part, text=text, state=state or part.state))
            case ToolCall():
                arguments = part.arguments + "".join(self._gathered)
                return self._whole(msgspec.structs.replace(part, arguments=arguments, state=state or part.state))
        return b""

    def _whole(self, part: Part) -> bytes:
        """An event with this one part; nothing for one that a Gemini client cannot be given."""
        found: dict[str, Any] | None = parts.for_client(part, thoughts=self._thoughts)
        return b"" if found is None else self._framing.event(_HEAD + _encode(found) + self._tail)
