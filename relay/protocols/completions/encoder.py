"""The hub's events into a stream of text completions for a client. Pure but for the clock.

Text is all that there is here: a picture is shown as markdown, thoughts and the like are passed over. With `echo` the
prompt comes first.
"""

import time
import uuid
from collections.abc import Sequence
from typing import Protocol

import msgspec

from billing.usage import Usage
from relay.errors import RelayError
from relay.protocols import completion_usage, envelope, markdown
from relay.protocols.canonical import Finish, Json, Media, Refusal, Text
from relay.protocols.chunks import KEEP_ALIVE
from relay.protocols.codec import Told
from relay.protocols.events import BrokenGrammar, Event, Finished, Grammar, PartDelta, PartStarted, Started

_json = msgspec.json.Encoder().encode
_WORDS = {
    Finish.LENGTH: "length",
    Finish.PAUSE: "length",
    Finish.CONTEXT: "length",
    Finish.FILTER: "content_filter",
}


class Asking(Protocol):
    """What of the client's request its answer depends on."""

    wants_usage: bool
    echo: bool

    @property
    def texts(self) -> Sequence[str]: ...


def new_id() -> str:
    return f"cmpl-{uuid.uuid4().hex}"


def finish_word(reason: Finish) -> str:
    return _WORDS.get(reason, "stop")


def echoed(asked: Asking) -> str:
    return "".join(asked.texts[:1]) if asked.echo else ""


class TextEncoder:
    """`codec.Encoder`."""

    __slots__ = ("_after", "_before", "_echo", "_finished", "_grammar", "_model", "_speaks", "_started", "_wants_usage")

    def __init__(self, asked: Asking, *, model: str, prompt_tokens: int = 0) -> None:
        self._wants_usage = asked.wants_usage
        self._model = model
        self._grammar = Grammar()
        self._echo = echoed(asked)
        self._before = self._after = b""
        self._started: Json = {}
        self._speaks = False
        self._finished: Finished | None = None

    def feed(self, event: Event) -> bytes:
        self._grammar.see(event)
        match event:
            case PartDelta(text=text):
                return self._text(text) if self._speaks and text else b""
            case PartStarted(part=part):
                self._speaks = isinstance(part, Text | Refusal)
                return self._first() + (self._text(markdown.shown(part)) if isinstance(part, Media) else b"")
            case Started():
                self._start(event)
            case Finished():
                self._finished = event
        return b""

    def last(self, pisces: Told, counted: Usage | None = None) -> bytes:
        finished = self._finished
        if finished is None:
            raise BrokenGrammar("The answer has not ended.")
        out = self._first()
        word = finish_word(finished.reason)
        end: Json = {**self._started, "choices": [{"text": "", "index": 0, "logprobs": None, "finish_reason": word}]}
        told = counted or finished.usage
        if not self._wants_usage or told is None:
            return out + _event({**end, "pisces": pisces}) + b"data: [DONE]\n\n"
        total = completion_usage.encode(told)
        used: Json = {**self._started, "choices": [], "usage": total, "pisces": pisces}
        return out + _event({**end, "usage": None}) + _event(used) + b"data: [DONE]\n\n"

    def fail(self, error: RelayError, pisces: Told) -> bytes:
        return envelope.encode_event(error, pisces)

    def ping(self) -> bytes:
        return KEEP_ALIVE

    def _start(self, event: Started) -> None:
        self._started = {
            "id": event.id or new_id(),
            "object": "text_completion",
            "created": int(time.time()),
            "model": self._model,
        }
        self._before = b"data: " + _json(self._started)[:-1] + b',"choices":[{"text":'
        usage = b',"usage":null' if self._wants_usage else b""
        self._after = b',"index":0,"logprobs":null,"finish_reason":null}]' + usage + b"}\n\n"

    def _first(self) -> bytes:
        echo, self._echo = self._echo, ""
        return self._text(echo) if echo else b""

    def _text(self, text: str) -> bytes:
        return self._before + _json(text) + self._after


def _event(chunk: Json) -> bytes:
    return b"data: " + _json(chunk) + b"\n\n"
