"""What a protocol's folder offers, and what all of them share: the shapes that the pipeline speaks to. Pure.

A call whose client and upstream speak the same protocol is passed: the original bytes, with the model's name replaced
and usage overheard. Any other is translated: decoded into the hub (`canonical`, `events`) and encoded from it.
"""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import msgspec

from billing.usage import Usage
from relay.counting.output import Output
from relay.counting.prompt import Prompt
from relay.errors import RelayError
from relay.protocols import vectors
from relay.protocols.canonical import Request, Response
from relay.protocols.capabilities import Capabilities
from relay.protocols.events import Event

Told = dict[str, Any]  # the gateway's own object, `pisces`, in an answer


class Asked(Protocol):
    """A client's request, read as far as every call needs it. `kind` is what a model must be to answer it, as the
    catalogue says (chat, embedding, rerank, moderation …); only chat puts out tokens. `limit` is the client's own bound
    on these for each of `n` answers, `text_bytes` the size of its text without the data of pictures and files, `shown`
    that of the pictures which it shows as markdown: an upstream of the same protocol gets them as text, and counts them
    so. `body` is the whole request: what an earlier answer had to say to it is in it.
    """

    body: bytes
    model: str
    stream: bool
    limit: int | None
    n: int

    @property
    def protocol(self) -> str: ...

    @property
    def kind(self) -> str: ...

    @property
    def text_bytes(self) -> int: ...

    @property
    def shown(self) -> int: ...

    def input_bound(self, *upstream_models: str) -> int:
        """Input tokens that none of these models reports more than, with what is `shown` as pictures. Raises RelayError
        for media past their limits."""

    def prompt(self) -> Prompt:
        """What the model is given, for counting. Reads the whole body."""

    def encode(self, *, model: str, limit: int | None) -> bytes:
        """The body for an upstream of the same protocol: the client's own bytes but for what has to differ."""


class Chat(Asked, Protocol):
    """A request of `kind` chat, which can be translated. `stream_type` is the content type of its streams."""

    @property
    def stream_type(self) -> bytes: ...

    @property
    def losses(self) -> list[str]:
        """The client's parameters that an upstream of the same protocol cannot have, and that `encode` leaves out."""

    def encode(self, *, model: str, limit: int | None, caps: Capabilities | None = None) -> bytes:
        """As of any request. `caps` is what the upstream's model accepts; None: as far as its name says."""

    def canonical(self) -> Request:
        """The request in the hub's values. Raises RelayError (400) for what cannot be read."""

    def stateless(self) -> "Chat | None":
        """The same request for an upstream of the same protocol, without what vendors have written into it that only
        they can read; None where there is nothing of it."""


class VectorsAsked(Asked, Protocol):
    """A request of `kind` embedding. `inputs` is how many vectors there will be."""

    inputs: int

    def vectors(self) -> vectors.Request:
        """The request in values. Raises RelayError (400) for what no other protocol can be asked."""


class Whole(Protocol):
    """An upstream's whole answer, on its way to the client. `usage` is None where the upstream reported none;
    `output_bytes` is the size of what the model put out as it stood in the JSON."""

    id: str
    usage: Usage | None
    finish: str

    @property
    def output_bytes(self) -> int: ...

    def seen(self, upstream_model: str) -> Output:
        """What was put out, for counting."""

    def encode(self, *, model: str, pisces: Told, counted: Usage | None = None) -> bytes:
        """The client's body, under the offered name, with the gateway's own object in it. It tells the upstream's
        usage, or what was `counted` in its place where the endpoint's answers tell any."""


class Stream(Protocol):
    """An upstream's stream on its way to the client: its bytes in, the client's bytes out.

    `usage` is the upstream's newest report, `outdated` whether that is silent about output that came after it.
    `finish` is set with the first finish reason, `finished` once the answer is complete and only usage or the end may
    still come, `done` when nothing more will; what ends the client's stream is kept back until `last`, which is called
    once the books are written. `failure` is set where the upstream failed or sent what cannot be read: what was
    returned until then is valid, and nothing but `fail` follows it.
    """

    id: str
    finish: str
    done: bool
    failure: RelayError | None
    seen: Output

    @property
    def usage(self) -> Usage | None: ...

    @property
    def outdated(self) -> bool: ...

    @property
    def finished(self) -> bool: ...

    @property
    def output_bytes(self) -> int: ...

    def feed(self, data: bytes) -> bytes: ...

    def close(self) -> bytes:
        """The upstream has ended. Sets `failure` where its answer had not."""

    def last(self, pisces: Told, counted: Usage | None = None) -> bytes:
        """The end of the client's stream. It is told the upstream's usage, or what was `counted` in its place: where
        that reported none, or told of less than came."""

    def fail(self, error: RelayError, pisces: Told) -> bytes:
        """The protocol's in-band error, after which the stream is over and does not look whole."""

    def ping(self) -> bytes:
        """What keeps a silent connection alive and means nothing to the client."""


class Decoder(Protocol):
    """An upstream's stream into events. `feed` takes the data of one server-sent event. What cannot be read, and an
    error in the stream, is a `Failed`. After `Finished` or `Failed` nothing comes any more. `finished`: the answer's
    end has been read, and only usage or the end of the stream may still come. `usage` and `outdated` are as a stream's.
    """

    finished: bool

    @property
    def usage(self) -> Usage | None: ...

    @property
    def outdated(self) -> bool: ...

    def feed(self, data: bytes) -> list[Event]: ...

    def close(self) -> list[Event]:
        """The upstream has ended. Closes what is open; `Finished`, or `Failed` if the answer had no end."""


class Encoder(Protocol):
    """Events into a client's stream. `feed` of `Finished` returns what may go before the books are written, mostly
    nothing; the rest comes with `last`, as of a stream. Raises BrokenGrammar."""

    def feed(self, event: Event) -> bytes: ...

    def last(self, pisces: Told, counted: Usage | None = None) -> bytes: ...

    def fail(self, error: RelayError, pisces: Told) -> bytes: ...

    def ping(self) -> bytes: ...


class Encoded(msgspec.Struct):
    """A request for an upstream. `losses` names the client's parameters that it cannot have, `names` the tools that had
    to be renamed (the upstream's name to the client's), `customs` those that take free text and were made functions
    with one argument, `input` (by the upstream's name)."""

    body: dict[str, Any]
    losses: list[str] = msgspec.field(default_factory=list)
    names: dict[str, str] = msgspec.field(default_factory=dict)
    customs: frozenset[str] = frozenset()


class Dialect(msgspec.Struct, frozen=True):
    """One protocol. `path` is where an upstream takes a call for (model, streamed), below its base URL.

    `read` takes a body and what the path says (the model and whether to stream, "" and None where it says nothing);
    `whole` and `passing` are for upstreams of the client's own protocol; `usage` is what that client's stream shows of
    it. `encode_request` takes the output tokens to ask for, None for the request's own. `forwarded` picks the headers
    that go to the upstream from those of a client of its protocol (lower-case names), and adds what it always wants.
    """

    name: str
    path: Callable[[str, bool], str]
    read: Callable[..., Chat]  # (body, *, model: str = "", stream: bool | None = None)
    whole: Callable[..., Whole]  # (body: bytes, asked)
    passing: Callable[..., Stream]  # (asked, *, model: offered name, upstream_model: str)
    encode_request: Callable[..., Encoded]  # (Request, *, model: str, limit: int | None, caps: Capabilities)
    decode_response: Callable[[bytes], Response]  # raises RelayError (upstream_error)
    encode_response: Callable[..., bytes]  # (Response, *, asked, model: str, pisces: Told)
    decoder: Callable[[], Decoder]
    encoder: Callable[..., Encoder]  # (asked, *, model: str, prompt_tokens: int)
    decode_error: Callable[..., RelayError]  # (status: int, content: bytes, *, retry_after: str | None)
    encode_error: Callable[[RelayError, Told], bytes]
    forwarded: Callable[[Mapping[str, str]], dict[str, str]] | None = None


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """What a protocol has for models of another `kind` than chat: their answers are whole, and have no tokens of their
    own. Errors and headers are those of the dialect `protocol`, below whose base URL `path` is for an upstream's model.
    """

    protocol: str
    kind: str
    path: Callable[[str], str]
    read: Callable[..., Asked]  # (body)
    whole: Callable[..., Whole]  # (body, asked): of an upstream of the same protocol


class Vectors(Endpoint, frozen=True, kw_only=True):
    """Embeddings, which can be translated by way of `relay.protocols.vectors`."""

    encode_request: Callable[..., Encoded]  # (vectors.Request, *, model: str)
    decode_response: Callable[[bytes, int], vectors.Response]  # of so many inputs; raises RelayError (upstream_error)
    encode_response: Callable[..., bytes]  # (vectors.Response, *, asked, model: str, usage: Usage | None, pisces)


__all__ = [
    "Asked", "Capabilities", "Chat", "Decoder", "Dialect", "Encoded", "Encoder", "Endpoint", "Stream", "Told",
    "Vectors", "VectorsAsked", "Whole",
]  # fmt: skip
