"""An answer that is read in one protocol and written in another: whole or streamed, by way of the hub. Pure."""

from collections.abc import Callable, Iterable

import msgspec

from billing.usage import Usage
from relay.counting.output import Output, Text
from relay.errors import Cause, RelayError
from relay.protocols import customs, sse, surrogates, vectors
from relay.protocols import seen as seeing
from relay.protocols.canonical import Response, ToolCall
from relay.protocols.codec import Decoder, Encoded, Encoder, Told, Whole
from relay.protocols.events import Event, Failed, Finished, PartDelta, PartStarted, Started
from relay.protocols.fold import Folder


class TranslatedWhole:
    """As `codec.Whole` promises it. `encode` is the client's protocol's."""

    def __init__(self, response: Response, sent: Encoded, encode: Callable[..., bytes]) -> None:
        self.response = restored(response, sent)
        self._encode = encode
        self.id = response.id
        self.usage: Usage | None = seeing.used(response)
        self.finish = response.finish.value

    @property
    def output_bytes(self) -> int:
        return seeing.output_bytes(self.response)

    def seen(self, upstream_model: str) -> Output:
        return seeing.of(self.response, upstream_model)

    def encode(self, *, model: str, pisces: Told, counted: Usage | None = None) -> bytes:
        response = msgspec.structs.replace(self.response, usage=counted or self.usage)
        return self._encode(response, model=model, pisces=pisces)


class TranslatedVectors:
    """Embeddings, as `codec.Whole` promises it. `encode` is the client's protocol's, which is told `usage`: the
    upstream's, or what was counted in its place."""

    def __init__(self, response: vectors.Response, encode: Callable[..., bytes]) -> None:
        self._response = response
        self._encode = encode
        self.id = response.id
        self.usage: Usage | None = response.usage
        self.finish = ""
        self.output_bytes = 0

    def seen(self, upstream_model: str) -> Output:
        return Output(upstream_model)

    def encode(self, *, model: str, pisces: Told, counted: Usage | None = None) -> bytes:
        return self._encode(self._response, model=model, usage=counted or self.usage, pisces=pisces)


def restored(response: Response, sent: Encoded) -> Response:
    """The answer with the tools' names and kinds as the client knows them."""
    for part in response.parts:
        if isinstance(part, ToolCall):
            if part.name in sent.customs:
                part.arguments, part.custom = customs.input_of(part.arguments), True
            part.name = sent.names.get(part.name, part.name)
    return response


class TranslatedStream:
    """As `codec.Stream` promises it: upstream bytes → frames → events → the client's bytes."""

    __slots__ = (
        "_decoder", "_encoder", "_mender", "_places", "_restore", "_splitter", "_usage", "done", "failure", "finish",
        "id", "seen",
    )  # fmt: skip

    def __init__(self, decoder: Decoder, encoder: Encoder, sent: Encoded, *, upstream_model: str) -> None:
        self._decoder = decoder
        self._encoder = encoder
        self._restore = customs.Restorer(sent) if sent.names or sent.customs else None
        self._splitter = sse.Splitter()
        self._mender = surrogates.Mender()
        self._places: dict[int, Text | None] = {}
        self.id = ""
        self._usage: Usage | None = None
        self.finish = ""
        self.done = False
        self.failure: RelayError | None = None
        self.seen = Output(upstream_model)

    @property
    def usage(self) -> Usage | None:
        """That of the answer's end, and until then what the upstream has told on the way."""
        return self._usage if self._usage is not None else self._decoder.usage

    @property
    def outdated(self) -> bool:
        return self._decoder.outdated

    @property
    def finished(self) -> bool:
        return self.done or self._decoder.finished

    @property
    def output_bytes(self) -> int:
        return self.seen.size

    def feed(self, data: bytes) -> bytes:
        try:
            frames = self._splitter.feed(data)
        except RelayError as error:
            self.failure = error
            return b""
        return self._through(frames)

    def close(self) -> bytes:
        out = self._through(self._splitter.close())
        if not self.done and self.failure is None:
            out += self.put(self._decoder.close())
        if not self.done and self.failure is None:
            self.failure = RelayError(Cause.UPSTREAM_ERROR, "The provider's stream ended before its answer did.")
        return out

    def last(self, pisces: Told, counted: Usage | None = None) -> bytes:
        return self._encoder.last(pisces, counted)

    def fail(self, error: RelayError, pisces: Told) -> bytes:
        return self._encoder.fail(error, pisces)

    def ping(self) -> bytes:
        return self._encoder.ping()

    def _through(self, frames: list[bytes]) -> bytes:
        out = []
        for frame in frames:
            if self.done or self.failure is not None:
                break
            data = sse.payload(frame)
            if data is not None:
                out.append(self.put(self._decoder.feed(self._mender.feed(data))))
        return b"".join(out)

    def put(self, events: Iterable[Event]) -> bytes:
        """What these events are for the client."""
        if self._restore is not None:
            events = self._restore.feed(events)
        out = []
        for event in events:
            if type(event) is PartDelta:  # nearly always
                if (place := self._places.get(event.number)) is not None:
                    seeing.add(place, event.text)
            elif type(event) is Failed:
                self.failure = event.error
                break
            else:
                self._note(event)
            out.append(self._encoder.feed(event))  # which sees to the grammar
        return out[0] if len(out) == 1 else b"".join(out)

    def _note(self, event: Event) -> None:
        match event:
            case PartStarted(number=number, part=part):
                self._places[number] = seeing.place(part, number, self.seen)
            case Started():
                self.id = event.id
            case Finished():
                self._usage, self.finish = event.usage, event.reason.value
                self.seen.ended += 1
                self.done = True


class _Unwritten:
    """An encoder for a client that gets nothing of the stream."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder

    def feed(self, event: Event) -> bytes:
        self._folder.see(event)
        return b""

    def last(self, pisces: Told, counted: Usage | None = None) -> bytes:
        return b""

    def fail(self, error: RelayError, pisces: Told) -> bytes:
        return b""

    def ping(self) -> bytes:
        return b""


class Folding(TranslatedStream):
    """A stream that becomes a whole answer, once it is `done` or closed. `write` is what the client's protocol makes of
    that."""

    __slots__ = ("_folder", "_write")

    def __init__(self, decoder: Decoder, write: Callable[[Response], Whole], *, upstream_model: str) -> None:
        self._folder = Folder()
        self._write = write
        super().__init__(decoder, _Unwritten(self._folder), Encoded({}), upstream_model=upstream_model)

    @property
    def begun(self) -> bool:
        return self._folder.begun

    def whole(self) -> Whole:
        """Raises RelayError where the stream failed."""
        if self.failure is not None:
            raise self.failure
        found = self._folder.whole()
        if self.outdated:
            found.usage = None  # a report that is silent about what came after it is none of the whole
        return self._write(found)
