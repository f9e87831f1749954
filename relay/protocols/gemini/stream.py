"""A streamed Gemini answer on its way to a Gemini client: bytes in, bytes out, usage overheard.

Each event passes as it came, under the offered model's name. From the first `finishReason` on, the newest event is kept
back until the books are written: it is the last one that the client sees, and carries `pisces`. Every event reports the
usage so far; only the newest report is looked into, and only when somebody asks.
"""

from typing import Any

import msgspec

from billing.usage import Usage
from relay.errors import RelayError
from relay.protocols import raws, sse
from relay.protocols.canonical import Finish
from relay.protocols.codec import Told
from relay.protocols.gemini import errors, finish, usage, whole, wire
from relay.protocols.gemini.framing import PING, Framing
from relay.protocols.gemini.request import GeminiRequest
from relay.protocols.passing import PassingStream

_fields_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
_encode = msgspec.json.Encoder().encode


class GeminiStream(PassingStream):
    """As `codec.Stream` promises it, for the client that asked `asked`. `model` is the offered name."""

    _report: msgspec.Raw | None
    _reported: Usage | None

    __slots__ = (
        "_calls", "_ended", "_framing", "_held", "_model", "_n", "_report", "_reported", "_searches", "_untold",
        "_upstream_model", "_version",
    )  # fmt: skip

    def __init__(self, asked: GeminiRequest, *, model: str, upstream_model: str) -> None:
        super().__init__(upstream_model)
        self._framing = Framing(array=asked.array)
        self._model = b'"modelVersion":' + _encode(model)
        self._upstream_model = b""
        self._n = asked.n
        self._ended: set[int] = set()
        self._calls = 0
        self._untold = False
        self._held: bytes | None = None
        self._searches, self._version = usage.Searches(), upstream_model

    @property
    def usage(self) -> Usage | None:
        """As the newest event told it that said anything of use."""
        if self._report is not None:
            report, self._report = self._report, None
            self._reported = usage.decode(report) or self._reported
        return self._searches.added(self._reported, self._version)

    @usage.setter
    def usage(self, value: Usage | None) -> None:
        self._report, self._reported = None, value

    @property
    def outdated(self) -> bool:
        """Every event tells the usage as it stands by then; some leave it out."""
        return self._untold

    @property
    def finished(self) -> bool:
        return len(self._ended) >= self._n

    def last(self, pisces: Told, counted: Usage | None = None) -> bytes:
        held = b""
        if self._held is not None:
            fields: dict[str, Any] = _fields_decoder.decode(self._held)
            if counted is not None:
                fields["usageMetadata"] = usage.encode(counted)
            fields["pisces"] = pisces
            held = self._framing.event(_encode(fields))
        return held + self._framing.end()

    def fail(self, error: RelayError, pisces: Told) -> bytes:
        return self._framing.event(errors.encode(error, pisces)) + self._framing.end()

    def ping(self) -> bytes:
        return PING

    def feed(self, data: bytes) -> bytes:
        if self._splitter.carry or self.done or self.failure is not None:
            return super().feed(data)
        end = len(data) - 4
        if (
            data.startswith(b"data: {")
            and data.endswith(b"\r\n\r\n")
            and data.find(b"\n") == data.find(b"\r") + 1 > end
        ):
            try:  # nearly always: one event of one line, as Google ends it
                return self._data(self._mender.feed(data[6:end]))
            except RelayError as error:
                self.failure = error
                return b""
        return super().feed(data)

    def _event(self, event: bytes) -> bytes:
        data = sse.payload(event)
        return self._data(data) if data is not None else b""

    def _data(self, data: bytes) -> bytes:
        answer = wire.read(data)
        if raws.is_given(answer.error):
            raise errors.decode_event(answer.error)
        self._note(answer)
        data = self._renamed(sse.on_one_line(data), answer.modelVersion)
        released, self._held = self._held, data if self.finish else None
        out = b"" if released is None else self._framing.event(released)
        return out if self.finish else out + self._framing.event(data)

    def _note(self, answer: wire.Answer) -> None:
        if not self.id:
            self.id = answer.responseId or ""
        if told := answer.usageMetadata is not raws.ABSENT:
            self._report, self._untold = answer.usageMetadata, False
        if answer.promptFeedback is not None and answer.blocked is not None:
            self._begun = True
            self.finish = Finish.FILTER.value
            self._ended.update(range(self._n))
        self._version = answer.modelVersion or self._version
        for candidate in answer.candidates or ():
            self._begun = True
            self._searches.see(candidate)
            index = candidate.index or 0
            content = candidate.content
            for part in (content.parts or ()) if content is not None else ():
                self._calls += part.functionCall is not None
                self._untold = not told
                whole.see(part, index, self._calls, self.seen)
            if candidate.finishReason:
                self._finish(index, candidate.finishReason)

    def _finish(self, index: int, reason: str) -> None:
        """Some versions write it into every event of a candidate: it has ended once."""
        found = finish.named(reason)
        if not self.finish:
            self.finish = (Finish.TOOL_CALLS if self._calls and found is Finish.STOP else found).value
        if index not in self._ended:
            self._ended.add(index)
            self.seen.ended += found is Finish.STOP

    def _renamed(self, data: bytes, model: str | None) -> bytes:
        """The upstream's name for the model replaced. Its bytes are learnt once: inside a JSON string the quotes of
        this fragment would be escaped, so where it occurs only once it is the field itself."""
        if model is None:
            return data
        if self._upstream_model and data.count(self._upstream_model) == 1:
            return data.replace(self._upstream_model, self._model)
        for gap in (b"", b" "):
            fragment = b'"modelVersion":%b%b' % (gap, _encode(model))
            if data.count(fragment) == 1:
                self._upstream_model = fragment
                return data.replace(fragment, self._model)
        fields: dict[str, Any] = _fields_decoder.decode(data)
        fields["modelVersion"] = msgspec.Raw(self._model[15:])
        return _encode(fields)
