"""A stream or a whole answer that goes to a client of the upstream's own protocol: what is the same for all. Pure."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import msgspec

from billing.usage import Usage
from relay.counting.output import BLOCK, Output, Text
from relay.errors import Cause, RelayError
from relay.protocols import seen as seeing
from relay.protocols import sse, surrogates
from relay.protocols.canonical import Response
from relay.protocols.codec import Told

_fields_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])


class PassedWhole:
    """A whole answer, decoded for its usage and passed on as it came, as `codec.Whole` promises it.

    `write_usage` writes what was counted as the protocol does.
    """

    __slots__ = ("_body", "_write_usage", "finish", "id", "response", "usage")

    def __init__(self, body: bytes, response: Response, write_usage: Callable[[Usage], Any]) -> None:
        self._body = body
        self._write_usage = write_usage
        self.response = response
        self.id = response.id
        self.usage: Usage | None = seeing.used(response)
        self.finish = response.finish.value

    @property
    def output_bytes(self) -> int:
        return seeing.output_bytes(self.response)

    def seen(self, upstream_model: str) -> Output:
        return seeing.of(self.response, upstream_model)

    def encode(self, *, model: str, pisces: Told, counted: Usage | None = None) -> bytes:
        fields: dict[str, Any] = _fields_decoder.decode(self._body)
        if "model" in fields:
            fields["model"] = model
        if counted is not None:
            fields["usage"] = self._write_usage(counted)
        fields["pisces"] = pisces
        return msgspec.json.encode(fields)


class PassingStream(ABC):
    """Cuts the upstream's bytes into events, gives each to `_event`, keeps to what `codec.Stream` promises.

    A subclass returns from `_event` the bytes for the client (mostly the event's own and its blank line), keeps back
    what ends the stream, notes `usage`, `finish`, `id` and the output that it sees, and raises RelayError for an event
    that is an error or cannot be read.
    """

    __slots__ = ("_begun", "_mender", "_splitter", "_told", "done", "failure", "finish", "id", "seen", "usage")

    NOT_BEGUN: ClassVar[str] = "The provider's stream had no answer in it."
    NOT_ENDED: ClassVar[str] = "The provider's stream ended before its answer did."

    def __init__(self, upstream_model: str) -> None:
        self.id = ""
        self.usage: Usage | None = None
        self.finish = ""
        self.done = False
        self.failure: RelayError | None = None
        self.seen = Output(upstream_model)
        self._begun = False
        self._told = -1  # bytes of output that `usage` tells of
        self._splitter = sse.Splitter()
        self._mender = surrogates.Mender()

    @abstractmethod
    def _event(self, event: bytes) -> bytes:
        """`event` is one server-sent event without its blank line, comments too."""

    @abstractmethod
    def last(self, pisces: Told, counted: Usage | None = None) -> bytes: ...

    @abstractmethod
    def fail(self, error: RelayError, pisces: Told) -> bytes: ...

    @abstractmethod
    def ping(self) -> bytes: ...

    @property
    def outdated(self) -> bool:
        return self.seen.size != self._told

    @property
    def finished(self) -> bool:
        return bool(self.finish)

    @property
    def output_bytes(self) -> int:
        return self.seen.size

    def feed(self, data: bytes) -> bytes:
        try:
            return self._through(self._splitter.feed(data))
        except RelayError as error:
            self.failure = error
            return b""

    def close(self) -> bytes:
        rest = self._through(self._splitter.close())
        if not self.done and not self.finished and self.failure is None:
            self.failure = RelayError(Cause.UPSTREAM_ERROR, self.NOT_ENDED if self._begun else self.NOT_BEGUN)
        return rest

    def _through(self, events: list[bytes]) -> bytes:
        out = []
        for event in events:
            if self.done or self.failure is not None:
                break
            try:
                out.append(self._event(self._mender.feed(event)))
            except RelayError as error:
                self.failure = error
        return b"".join(out)

    @staticmethod
    def _gather(text: Text, inside: bytes) -> None:
        """Adds the inside of a JSON string to what is to be counted."""
        text.raw += inside
        if len(text.raw) > BLOCK:
            text.fold()
