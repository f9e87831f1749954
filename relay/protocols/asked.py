"""What requests of every protocol have in common once they are read: bounds, prompt, the way into the hub. Pure."""

from abc import ABC, abstractmethod
from typing import ClassVar, Self

import msgspec

from relay.counting import families, media
from relay.counting.prompt import Prompt
from relay.errors import Cause, RelayError
from relay.protocols import prompt, sse
from relay.protocols.canonical import Request
from relay.protocols.capabilities import Capabilities

_fields_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])


class BaseAsked(ABC):
    """A request as `codec.Asked` promises it, by what its protocol's subclass reads.

    A subclass says with MEDIA which words a body with pictures, files or sound must contain: only with one of them is
    the body decoded just to bound what it costs. JSON may write any of them with an escape, so `\\u` is one of them.
    PROMPT are the fields that the model is given to read.
    """

    __slots__ = ("_canonical", "_inside", "_things", "body", "limit", "model", "n", "stream")

    protocol: ClassVar[str]
    kind: ClassVar[str] = "chat"
    stream_type: bytes = sse.CONTENT_TYPE
    MEDIA: ClassVar[tuple[bytes, ...]]
    PROMPT: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, body: bytes, *, model: str, stream: bool, limit: int | None, n: int = 1) -> None:
        self.body = body
        self.model = model
        self.stream = stream
        self.limit = limit
        self.n = n
        self._canonical: Request | None = None
        self._things: list[media.Media] = self._find_media()
        self._inside = sum(thing.inside for thing in self._things)

    @abstractmethod
    def encode(self, *, model: str, limit: int | None, caps: Capabilities | None = None) -> bytes: ...

    @abstractmethod
    def _decode(self, body: bytes) -> Request:
        """A body in the hub's values. Raises RelayError."""

    @property
    def losses(self) -> list[str]:
        return []

    @property
    def text_bytes(self) -> int:
        return len(self.body) - self._inside

    @property
    def shown(self) -> int:
        return 0

    def stateless(self) -> Self | None:
        return None

    def canonical(self) -> Request:
        """Raises RelayError for several answers at once: only an upstream of the same protocol can give them."""
        if self.n > 1:
            raise RelayError(
                Cause.INVALID_PARAMETER, f"This model gives one answer to a call, not {self.n}.", param="n"
            )
        return self._decoded()

    def _decoded(self) -> Request:
        if self._canonical is None:
            self._canonical = self._decode(self.body)
        return self._canonical

    def _counted(self) -> Request:
        """The request as it is counted: its prompt alone where a setting is none that is known here, for an upstream of
        the same protocol may know it. Raises RelayError."""
        try:
            return self._decoded()
        except RelayError:
            fields = _fields_decoder.decode(self.body)
            alone = {name: raw for name, raw in fields.items() if name in self.PROMPT}
            if not alone:
                raise
            return self._decode(msgspec.json.encode(alone))

    def input_bound(self, *upstream_models: str) -> int:
        has_tools = b"tools" in self.body
        most = 0
        for family in {families.of(model) for model in upstream_models or (self.model,)}:
            beside = family.framing + (family.tools if has_tools else 0)
            most = max(most, beside + sum(thing.most(family) for thing in self._things))
        return self.text_bytes + most

    def prompt(self) -> Prompt:
        return prompt.read(self._counted())

    def _find_media(self) -> list[media.Media]:
        if not any(word in self.body for word in self.MEDIA):
            return []
        return prompt.media_of(self._counted())
