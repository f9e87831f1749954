"""A streamed Gemini answer into events.

Every event on the wire is an answer with the new parts only. Texts of one kind that follow one another are one part
until a signature ends it; a call is whole at once. The end of the stream is the end of the connection: what comes after
a `finishReason` is still read, for some versions write one into every event.
"""

import msgspec

from billing.usage import Usage
from relay.errors import Cause, RelayError
from relay.protocols import names, raws
from relay.protocols.canonical import Finish, Json, Opaque, Part, Raw, Reasoning, Text, ToolCall
from relay.protocols.events import Event, Failed, Finished, PartDelta, PartEnded, PartStarted, Started
from relay.protocols.gemini import errors, finish, media, signatures, usage, wire

_TEXT, _THOUGHT = 1, 2
_BESIDE = frozenset(("thought", "thoughtSignature", "partMetadata", "mediaResolution", "videoMetadata"))


class Decoder:
    """As `codec.Decoder` promises it. `whole`: the one event is a whole answer, which may lack its end."""

    __slots__ = (
        "_called", "_cited", "_ended", "_model", "_note", "_number", "_open", "_reason", "_searches", "_started",
        "_state", "_usage", "_whole", "finished", "outdated",
    )  # fmt: skip

    def __init__(self, *, whole: bool = False) -> None:
        self.finished = self.outdated = False
        self._whole = whole
        self._started = self._ended = self._called = False
        self._number = -1
        self._open = 0
        self._state: Opaque | None = None
        self._reason: Finish | None = None
        self._note: str | None = None
        self._usage: msgspec.Raw = raws.ABSENT
        self._cited: set[str] = set()
        self._searches, self._model = usage.Searches(), ""

    def feed(self, data: bytes) -> list[Event]:
        if self._ended:
            return []
        out: list[Event] = []
        try:
            self._read(wire.read(data), data, out)
        except RelayError as error:
            self._ended = True
            out.append(Failed(error))
        return out

    def close(self) -> list[Event]:
        if self._ended:
            return []
        self._ended = True
        if self._whole and self._reason is None and self._number >= 0:
            self._reason = Finish.STOP
        if self._reason is None:
            why = "ended before its answer did" if self._number >= 0 else "had no answer in it"
            return [Failed(RelayError(Cause.UPSTREAM_ERROR, f"The provider's stream {why}."))]
        out: list[Event] = []
        self._end(out)
        reason = Finish.TOOL_CALLS if self._called and self._reason is Finish.STOP else self._reason
        out.append(Finished(reason, self.usage, None, self._note))
        return out

    @property
    def usage(self) -> Usage | None:
        return self._searches.added(usage.decode(self._usage), self._model) if self._usage is not raws.ABSENT else None

    def _read(self, answer: wire.Answer, data: bytes, out: list[Event]) -> None:
        if raws.is_given(answer.error):
            raise errors.decode_event(answer.error)
        if answer.usageMetadata is not raws.ABSENT:
            self._usage = answer.usageMetadata
        self._model = self._model or answer.modelVersion or ""
        if not self._started:
            self._started = True
            out.append(Started(answer.responseId or "", answer.modelVersion or "", self.usage))
        if (reason := answer.blocked) is not None:
            assert answer.promptFeedback is not None
            message = answer.promptFeedback.blockReasonMessage
            self._reason, self._note = Finish.FILTER, f"{reason}: {message}" if message else reason
            self.finished = True
        for place, candidate in enumerate(answer.candidates or ()):
            if not candidate.index:
                self._candidate(candidate, data, place, out)
        if answer.usageMetadata is not raws.ABSENT:
            self.outdated = False

    def _candidate(self, candidate: wire.Candidate, data: bytes, place: int, out: list[Event]) -> None:
        content = candidate.content
        for number, part in enumerate((content.parts or ()) if content is not None else ()):
            self.outdated = True
            if part.text is not None:
                self._text(part.text, part, out)
            elif part.functionCall is not None:
                self._call(part.functionCall, part, out)
            else:
                self._other(part, data, place, number, out)
        self._searches.see(candidate)
        if candidate.groundingMetadata is not None and self._open == _TEXT:
            self._cite(candidate.groundingMetadata, out)
        if candidate.finishReason:
            self._reason, self._note = finish.decode(candidate.finishReason, candidate.finishMessage)
            self.finished = True

    def _text(self, text: str, part: wire.Part, out: list[Event]) -> None:
        kind = _THOUGHT if part.thought else _TEXT
        signed = part.thoughtSignature is not None
        if not text and not signed:
            return
        if self._open != kind or self._state is not None:
            self._begin(Reasoning(summary=True) if part.thought else Text(), out)
            self._open = kind
        if text:
            out.append(PartDelta(self._number, text))
        if signed:
            self._state = signatures.read(part.thoughtSignature)

    def _call(self, call: wire.Call, part: wire.Part, out: list[Event]) -> None:
        if not call.name:
            return
        state = signatures.read(part.thoughtSignature)
        self._begin(ToolCall(id=call.id or names.new_call_id(), name=call.name, state=state), out)
        arguments = wire.arguments(call.args)
        if arguments:
            out.append(PartDelta(self._number, arguments))
        out.append(PartEnded(self._number))
        self._called = True

    def _other(self, part: wire.Part, data: bytes, place: int, number: int, out: list[Event]) -> None:
        state = signatures.read(part.thoughtSignature)
        if part.inlineData is not None or part.fileData is not None:
            if part.thought:
                return None  # a draft of a picture that is to come
            blob, file = part.inlineData, part.fileData
            whole: Part
            if blob is not None:
                whole = media.from_inline(blob.mimeType or "", blob.data or "", state)
            else:
                assert file is not None
                whole = media.from_file(file.mimeType or "", file.fileUri or "", state)
        else:
            value = wire.part_at(data, place, number)
            label = next((name for name in value if name not in _BESIDE), None)
            if label is not None:
                whole = Raw(owner="gemini", label=label, value=value)
            elif not part.thought and part.thoughtSignature is not None:
                return self._text("", part, out)
            elif state is not None:
                whole = Reasoning(state=state, redacted=True)
            else:
                return None
        self._begin(whole, out)
        out.append(PartEnded(self._number))
        return None

    def _cite(self, grounding: wire.Grounding, out: list[Event]) -> None:
        for chunk in grounding.groundingChunks or ():
            source = chunk.web or chunk.retrievedContext
            if source is not None and source.uri and source.uri not in self._cited:
                self._cited.add(source.uri)
                out.append(PartDelta(self._number, "", citation(source.uri, source.title or "")))

    def _begin(self, part: Part, out: list[Event]) -> None:
        self._end(out)
        self._number += 1
        out.append(PartStarted(self._number, part))

    def _end(self, out: list[Event]) -> None:
        if self._open:
            out.append(PartEnded(self._number, self._state))
            self._open, self._state = 0, None


def citation(uri: str, title: str) -> Json:
    """A source as the hub has it. Gemini does not say which of the source's words were used, and has no index of it."""
    told = {"cited_text": "", "encrypted_index": ""}
    return {"type": "web_search_result_location", "url": uri, "title": title, **told}
