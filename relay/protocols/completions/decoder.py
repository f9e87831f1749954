"""An upstream's text completion, streamed or whole, into the hub's events. Pure."""

import msgspec

from billing.usage import Usage
from relay.errors import Cause, RelayError
from relay.protocols import completion_usage, envelope
from relay.protocols.canonical import Finish, Text
from relay.protocols.chunks import Chunk
from relay.protocols.events import Event, Failed, Finished, PartDelta, PartEnded, PartStarted, Started
from relay.protocols.raws import is_given


class Choice(msgspec.Struct, gc=False):
    index: int | None = None
    text: str | None = None
    finish_reason: str | None = None


_decoder = msgspec.json.Decoder(Chunk[Choice])
_UNREADABLE = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)
_FINISHES = {"length": Finish.LENGTH, "content_filter": Finish.FILTER}
_NO_ANSWER = "The provider's stream had no answer in it."


class TextDecoder:
    """`codec.Decoder`. `whole` reads an answer that was not streamed, by the same rules."""

    __slots__ = ("_begun", "_over", "_said", "_text", "finished", "outdated", "usage")

    def __init__(self) -> None:
        self.finished = self.outdated = False
        self._begun = self._text = self._over = False
        self._said: Finish | None = None
        self.usage: Usage | None = None

    def feed(self, data: bytes) -> list[Event]:
        if self._over:
            return []
        if data == b"[DONE]":
            return self._end()
        try:
            return self._chunk(_decoder.decode(data))
        except _UNREADABLE:
            return self._fail("The provider sent an event that is not a chunk.")
        except RelayError as error:
            return self._fail(error.message)

    def close(self) -> list[Event]:
        if self._over:
            return []
        if self._begun and self._said is None:
            return self._fail("The provider's stream ended before its answer did.")
        return self._end()

    def whole(self, body: bytes) -> list[Event]:
        """Raises RelayError for what is no answer."""
        try:
            events = self._chunk(_decoder.decode(body))
        except _UNREADABLE as error:
            raise RelayError(Cause.UPSTREAM_ERROR, "The provider's answer is not a completion.") from error
        return events + self._end()

    def _chunk(self, chunk: Chunk[Choice]) -> list[Event]:
        if is_given(chunk.error):
            raise RelayError(Cause.UPSTREAM_ERROR, f"The provider failed: {envelope.error_text(chunk.error)}")
        told = completion_usage.decode(chunk.usage) if is_given(chunk.usage) else None
        if told is not None:
            self.usage, self.outdated = told, False
        if not chunk.choices:
            return []
        out: list[Event] = []
        if not self._begun:
            self._begun = True
            out.append(Started(chunk.id or "", chunk.model or ""))
        choice = chunk.choices[0]
        if choice.text:
            self.outdated = told is None
            if not self._text:
                self._text = True
                out.append(PartStarted(0, Text()))
            out.append(PartDelta(0, choice.text))
        if choice.finish_reason:
            self._said = _FINISHES.get(choice.finish_reason, Finish.STOP)
            self.finished = True
        return out

    def _end(self) -> list[Event]:
        if not self._begun:
            return self._fail(_NO_ANSWER)
        self._over = self.finished = True
        closed: list[Event] = [PartEnded(0)] if self._text else []
        return [*closed, Finished(self._said or Finish.STOP, self.usage)]

    def _fail(self, text: str) -> list[Event]:
        self._over = True
        return [Failed(RelayError(Cause.UPSTREAM_ERROR, text))]
