"""The hub's events into a chat stream for a client, as OpenAI writes it. Pure but for the clock.

Nothing is written before the first part: an upstream that fails until then can still be replaced by another. What ends
the stream waits for `last`; the newest event before `[DONE]` carries `pisces`.
"""

import time
import uuid
from typing import Any, Protocol

import msgspec

from billing.usage import Usage
from relay.errors import RelayError
from relay.protocols import completion_usage, envelope, markdown
from relay.protocols.canonical import Finish, Json, Media, Part, Reasoning, Refusal, Text, ToolCall
from relay.protocols.chunks import KEEP_ALIVE
from relay.protocols.codec import Told
from relay.protocols.events import BrokenGrammar, Event, Finished, Grammar, PartDelta, PartEnded, PartStarted, Started
from relay.protocols.openai import details, wire

_json = msgspec.json.Encoder().encode


class Asking(Protocol):
    """What of the client's request its answer depends on."""

    wants_usage: bool
    legacy: bool


def new_id() -> str:
    return f"chatcmpl-{uuid.uuid4().hex}"


class ChatEncoder:
    """`codec.Encoder`. A client that knows only `function_call` is told of one call: it answers that, and the model
    calls again."""

    __slots__ = (
        "_after", "_before", "_calls", "_citations", "_entries", "_finished", "_grammar", "_head", "_legacy",
        "_model", "_open", "_refused", "_sent", "_started", "_tail", "_text", "_wants_usage",
    )  # fmt: skip

    def __init__(self, asked: Asking, *, model: str, prompt_tokens: int = 0) -> None:
        self._wants_usage, self._legacy = asked.wants_usage, asked.legacy
        self._model = model
        self._grammar = Grammar()
        self._head = self._tail = self._before = self._after = b""
        self._started: Json = {}
        self._open: Part | None = None
        self._text: list[str] | None = None  # of the open part, where it has to be known at its end
        self._calls = self._citations = self._entries = 0  # so many have been told
        self._sent = self._refused = False
        self._finished: Finished | None = None

    def feed(self, event: Event) -> bytes:
        self._grammar.see(event)
        kind = type(event)
        if kind is PartDelta:  # nearly always
            return self._delta(event)  # type: ignore[arg-type]
        if kind is PartStarted:
            return self._begin(event.part)  # type: ignore[union-attr]
        if kind is PartEnded:
            return self._end(event)  # type: ignore[arg-type]
        if kind is Started:
            self._start(event)  # type: ignore[arg-type]
        elif kind is Finished:
            self._finished = event  # type: ignore[assignment]
        return b""

    def last(self, pisces: Told, counted: Usage | None = None) -> bytes:
        finished = self._finished
        if finished is None:
            raise BrokenGrammar("The answer has not ended.")
        out = b"" if self._sent else self._role(Text())
        if finished.reason is Finish.FILTER and finished.note and not self._refused:
            out += self._chunk({"refusal": finished.note})
        word = wire.finish_word(finished.reason, calls=self._calls > 0, legacy=self._legacy)
        end: Json = {**self._started, "choices": [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": word}]}
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

    # ---- parts ------------------------------------------------------------------------------------------------------

    def _start(self, event: Started) -> None:
        self._started = {
            "id": event.id or new_id(),
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": self._model,
        }
        self._head = b"data: " + _json(self._started)[:-1] + b',"choices":[{"index":0,"delta":'
        usage = b',"usage":null' if self._wants_usage else b""
        self._tail = b',"logprobs":null,"finish_reason":null}]' + usage + b"}\n\n"

    def _delta(self, event: PartDelta) -> bytes:
        if event.citation is not None:
            return self._cite(annotations([event.citation], 0))
        if not event.text or not self._before:
            return b""
        if self._text is not None:
            self._text.append(event.text)
        return self._before + _json(event.text) + self._after

    def _cite(self, found: list[Json]) -> bytes:
        """OpenAI's SDK joins the pieces of a list by their `index` and breaks off where there is none."""
        numbered = [{"index": number, **one} for number, one in enumerate(found, self._citations)]
        self._citations += len(numbered)
        return self._chunk({"annotations": numbered}) if numbered else b""

    def _begin(self, part: Part) -> bytes:
        self._open, self._text, self._before = part, None, b""
        match part:
            case Text():
                self._around(b'{"content":', b"}")
            case Refusal():
                self._refused = True
                self._around(b'{"refusal":', b"}")
            case Reasoning():
                self._text = []
                if not part.redacted:
                    self._around(b'{"reasoning_content":', b"}")
            case ToolCall():
                return self._begin_call(part)
            case Media():
                return self._first(part) + self._chunk({"content": markdown.shown(part)})
            case _:
                return b""  # only its own vendor's clients could read it
        return self._first(part)

    def _begin_call(self, part: ToolCall) -> bytes:
        number, self._calls = self._calls, self._calls + 1
        if self._legacy:
            if number:
                return b""
            self._text = []
            self._around(b'{"function_call":{"arguments":', b"}}")
            return self._first(part) + self._chunk({"function_call": {"name": part.name, "arguments": ""}})
        kind, field = (b"custom", b"input") if part.custom else (b"function", b"arguments")
        self._text = None if part.custom else []
        self._around(b'{"tool_calls":[{"index":%d,"%s":{"%s":' % (number, kind, field), b"}}]}")
        call = {"index": number, **wire.written_call(part, arguments=""), **wire.extra_content(part.state)}
        return self._first(part) + self._chunk({"tool_calls": [call]})

    def _end(self, event: PartEnded) -> bytes:
        part, text, before = self._open, self._text, self._before
        self._open, self._text, self._before = None, None, b""
        if isinstance(part, ToolCall) and text == []:
            return before + b'"{}"' + self._after
        if isinstance(part, Reasoning):
            state = part.state if part.redacted else event.state
            if state is not None:
                whole = Reasoning(text="".join(text or ()), state=state, redacted=part.redacted, summary=part.summary)
                entries = details.entries([whole], self._entries)
                self._entries += len(entries)
                return self._chunk({"reasoning_details": entries})
        return b""

    def _around(self, before: bytes, after: bytes) -> None:
        self._before, self._after = self._head + before, after + self._tail

    def _first(self, part: Part) -> bytes:
        return b"" if self._sent else self._role(part)

    def _role(self, part: Part) -> bytes:
        self._sent = True
        content = None if isinstance(part, ToolCall | Reasoning) else ""
        return self._chunk({"role": "assistant", "content": content, "refusal": None})

    def _chunk(self, delta: Json) -> bytes:
        return self._head + _json(delta) + self._tail


def _event(chunk: Json) -> bytes:
    return b"data: " + _json(chunk) + b"\n\n"


# ---- what whole answers share ---------------------------------------------------------------------------------------


def annotations(citations: list[Json], end: int) -> list[Json]:
    """The sources that have an address; OpenAI knows no others. `end` is the length of the text that they stand for."""
    return [
        {
            "type": "url_citation",
            "url_citation": {
                "start_index": 0,
                "end_index": end,
                "title": _word(citation.get("title")),
                "url": citation["url"],
            },
        }
        for citation in citations
        if isinstance(citation.get("url"), str)
    ]


def _word(value: Any) -> str:
    return value if isinstance(value, str) else ""


def counted(usage: Usage | None) -> Json:
    return {} if usage is None else {"usage": completion_usage.encode(usage)}
