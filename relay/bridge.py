"""One attempt's languages: the client's request in the upstream's protocol, and the way of its answer back. Pure."""

from collections.abc import Mapping
from functools import partial
from typing import cast

import msgspec

from relay import counting, dialects
from relay.channels.routing import Candidate
from relay.errors import Cause, RelayError
from relay.protocols import states, surrogates
from relay.protocols.canonical import Request as CanonicalRequest
from relay.protocols.canonical import Response
from relay.protocols.codec import Asked, Chat, Dialect, Encoded, Encoder, Stream, Told, Vectors, VectorsAsked, Whole
from relay.protocols.fold import unfold
from relay.protocols.translating import Folding, TranslatedStream, TranslatedVectors, TranslatedWhole

_NOTHING_SENT = Encoded({})


class Bridge:
    """Made anew for every attempt. `body` is what is sent to `path`; `streams` whether the upstream is asked to stream;
    `losses` names what of the request it cannot have. Raises RelayError (400) where it cannot be asked at all, or,
    when `strict`, not without losses.
    """

    __slots__ = (
        "_asked", "_candidate", "_client", "_limit", "_passes", "_sent", "_strict", "body", "losses", "path", "streams",
        "upstream",
    )  # fmt: skip

    def __init__(self, asked: Chat, candidate: Candidate, *, limit: int | None, strict: bool = False) -> None:
        self._asked = asked
        self._candidate = candidate
        self._client, self.upstream, self.streams, self._passes = dialects.way(asked, candidate)
        self._limit, self._strict = limit, strict
        self._sent = _NOTHING_SENT
        self.losses: list[str] = []
        self.path = self.upstream.path(candidate.model, self.streams)
        if self._passes:
            self._pass(asked)
        else:
            self._translate(asked.canonical())

    def _pass(self, asked: Chat) -> None:
        self.losses = asked.losses
        _check_losses(self.losses, self._candidate, strict=self._strict)
        self.body = asked.encode(model=self._candidate.model, limit=self._limit, caps=self._candidate.caps)

    def _translate(self, asked: CanonicalRequest) -> None:
        request, candidate = msgspec.structs.replace(asked, stream=self.streams), self._candidate
        self._sent = self.upstream.encode_request(
            request, model=candidate.model, limit=self._limit, caps=candidate.caps
        )
        self.losses = sorted(set(self._sent.losses))
        _check_losses(self.losses, candidate, strict=self._strict)
        self.body = msgspec.json.encode(self._sent.body)

    def forget_state(self) -> bool:
        """Writes the body anew without what vendors have written into the conversation that only they can read: this
        one cannot. False where there is nothing of it. Raises RelayError as making it does."""
        if self._passes:
            asked = self._asked.stateless()
            if asked is not None:
                self._pass(asked)
            return asked is not None
        request = self._asked.canonical()
        messages = states.without(request.messages)
        if messages is not None:
            self._translate(msgspec.structs.replace(request, messages=messages))
        return messages is not None

    def headers(self, client: Mapping[bytes, bytes]) -> dict[str, str]:
        """What goes with the body besides its type and the credential."""
        return forwarded(self.upstream, client if self._passes else {})

    def error(self, status: int, content: bytes, *, retry_after: str | None) -> RelayError:
        return self.upstream.decode_error(status, content, retry_after=retry_after)

    def whole(self, body: bytes) -> Whole:
        """All that the upstream answered, as one answer. Raises RelayError for what is none."""
        body = surrogates.mended(body)
        if self._passes:
            return self.upstream.whole(body, self._asked)
        return self._translated(self.upstream.decode_response(body))

    def folding(self) -> Folding:
        """The whole answer that the client wants, of an upstream that streams it."""
        return Folding(self.upstream.decoder(), self._translated, upstream_model=self._candidate.model)

    def unfolded(self, body: bytes, model: str) -> tuple[Stream, bytes]:
        """A whole answer as the stream that the client wants, of which nothing more will come, and its first bytes."""
        stream = TranslatedStream(
            self.upstream.decoder(), self._encoder(model), self._sent, upstream_model=self._candidate.model
        )
        return stream, stream.put(unfold(self.upstream.decode_response(surrogates.mended(body))))

    def stream(self, model: str) -> Stream:
        """`model` is the offered name."""
        upstream_model = self._candidate.model
        if self._passes:
            return self.upstream.passing(self._asked, model=model, upstream_model=upstream_model)
        encoder = self._encoder(model)
        return TranslatedStream(self.upstream.decoder(), encoder, self._sent, upstream_model=upstream_model)

    def _encoder(self, model: str) -> Encoder:
        prompt_tokens = counting.estimate(self._asked.text_bytes, self._candidate.model)
        return self._client.encoder(self._asked, model=model, prompt_tokens=prompt_tokens)

    def _translated(self, response: Response) -> Whole:
        return TranslatedWhole(response, self._sent, partial(self._client.encode_response, asked=self._asked))


class Single:
    """A bridge for a call of another kind than chat: its answer is whole. Raises RelayError as the other does."""

    __slots__ = ("_asked", "_client", "_dialect", "_upstream", "body", "losses", "path")

    streams = False

    def __init__(self, asked: Asked, candidate: Candidate, *, strict: bool = False) -> None:
        self._asked = asked
        self._dialect = dialects.of(candidate.protocol)
        self._client = dialects.endpoint(asked.kind, asked.protocol)
        self._upstream = dialects.endpoint(asked.kind, candidate.protocol, lacks=candidate.dress.quirks.lacks)
        self.losses: list[str] = []
        self.path = self._upstream.path(candidate.model)
        if self._upstream is self._client:
            self.body = asked.encode(model=candidate.model, limit=None)
            return
        assert isinstance(self._upstream, Vectors)  # of no other kind do two protocols have an endpoint
        sent = self._upstream.encode_request(cast(VectorsAsked, asked).vectors(), model=candidate.model)
        self.losses = sorted(set(sent.losses))
        _check_losses(self.losses, candidate, strict=strict)
        self.body = msgspec.json.encode(sent.body)

    def forget_state(self) -> bool:
        return False

    def headers(self, client: Mapping[bytes, bytes]) -> dict[str, str]:
        """What the channel's protocol always wants; nothing of the client's."""
        return forwarded(self._dialect, {})

    def error(self, status: int, content: bytes, *, retry_after: str | None) -> RelayError:
        return self._dialect.decode_error(status, content, retry_after=retry_after)

    def whole(self, body: bytes) -> Whole:
        """The upstream's answer. Raises RelayError for what is none."""
        if self._upstream is self._client:
            return self._upstream.whole(body, self._asked)
        assert isinstance(self._upstream, Vectors)
        assert isinstance(self._client, Vectors)
        response = self._upstream.decode_response(body, cast(VectorsAsked, self._asked).inputs)
        return TranslatedVectors(response, partial(self._client.encode_response, asked=self._asked))


def forwarded(dialect: Dialect, client: Mapping[bytes, bytes]) -> dict[str, str]:
    """The headers that go to an upstream, of those of a client that speaks as it does."""
    if dialect.forwarded is None:
        return {}
    return dialect.forwarded({name.decode("latin-1"): value.decode("latin-1") for name, value in client.items()})


def _check_losses(losses: list[str], candidate: Candidate, *, strict: bool) -> None:
    if strict and losses:
        message = f"{candidate.model!r} takes no {', '.join(f'`{name}`' for name in losses)}."
        raise RelayError(Cause.INVALID_PARAMETER, message, param=losses[0])


def refusal(error: RelayError, protocol: str, told: Told) -> bytes:
    """The error in the envelope of the caller's protocol."""
    return dialects.of(protocol).encode_error(error, told)
