"""OpenAI chat requests: the few fields that the gateway must know, everything else kept as the bytes it came in.

Source: OpenAI API reference, "Create chat completion".
"""

from typing import Any

import msgspec

from relay.counting import families, media
from relay.counting.prompt import Prompt
from relay.errors import Cause, RelayError
from relay.protocols import bodies, capabilities, extent, sse
from relay.protocols.canonical import Request
from relay.protocols.capabilities import Capabilities
from relay.protocols.openai import details, prompt, reading

MOST_ANSWERS = 128
LIMITS = ("max_tokens", "max_completion_tokens")  # two names of one limit


class StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class _Wanted(msgspec.Struct):
    """What is read of a request. Raw: known to exist, not looked into."""

    model: str | None = None
    messages: list[msgspec.Raw] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    n: int | None = None
    api_key: str | None = None


class ChatRequest:
    """A decoded request, as `codec.Asked` promises it. `limit` is the client's own bound on output tokens, for each of
    `n` answers; `text_bytes` the size of its messages without the data of pictures and files; `legacy` whether it
    knows functions only, and none of the tools that came after them."""

    protocol: str = "openai"
    kind: str = "chat"
    stream_type: bytes = sse.CONTENT_TYPE

    __slots__ = (
        "_canonical",
        "_fields",
        "_media",
        "_messages",
        "body",
        "legacy",
        "limit",
        "model",
        "n",
        "shown",
        "stream",
        "text_bytes",
        "wants_usage",
    )

    def __init__(self, body: bytes, wanted: _Wanted, fields: dict[str, msgspec.Raw]) -> None:
        self.body = body
        self._fields = fields
        self._canonical: Request | None = None
        self._messages = wanted.messages or []
        self._media = prompt.find_media(body, self._messages)
        self.shown = sum(thing.inside for thing in self._media if isinstance(thing, media.Shown)) if self._media else 0
        self.model = wanted.model or ""
        self.stream = bool(wanted.stream)
        self.wants_usage = bool(wanted.stream_options and wanted.stream_options.include_usage)
        self.n = wanted.n or 1
        self.legacy = "functions" in fields and "tools" not in fields
        limits = [limit for name in LIMITS if (limit := getattr(wanted, name)) is not None]
        self.limit = min(limits) if limits else None
        self.text_bytes = sum(len(memoryview(message)) for message in self._messages)
        self.text_bytes -= sum(thing.inside for thing in self._media)

    def input_bound(self, *upstream_models: str) -> int:
        """Input tokens that none of these models reports more than: the body's bytes, its media by each vendor's rule,
        and what the vendor writes around a prompt by itself."""
        has_tools = "tools" in self._fields or "functions" in self._fields
        most = 0
        for family in {families.of(model) for model in upstream_models or (self.model,)}:
            beside = family.framing + (family.tools if has_tools else 0)
            most = max(most, beside + (sum(thing.most(family) for thing in self._media) if self._media else 0))
        inside = sum(thing.inside for thing in self._media) if self._media else 0
        return len(self.body) - inside + most

    def prompt(self) -> Prompt:
        """What the model is given, for counting. Reads the whole body."""
        try:
            return prompt.read(self._fields, self._messages, self._media)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            return Prompt(texts=[self.body.decode()], media=self._media)

    @property
    def losses(self) -> list[str]:
        return []

    def stateless(self) -> None:
        """OpenAI's chat has no state."""

    def canonical(self) -> Request:
        """Raises RelayError (400) for what cannot be read, and for several answers: only OpenAI has them."""
        if self.n > 1:
            raise RelayError(Cause.INVALID_PARAMETER, "This model gives one answer: `n` must be 1.", param="n")
        if self._canonical is None:
            self._canonical = reading.decode_request(self.body, self._fields, limit=self.limit)
        return self._canonical

    def encode(self, *, model: str, limit: int | None, caps: Capabilities | None = None) -> bytes:
        """The body for the upstream: its own bytes, but for the model's name, a `limit` that the gateway set or
        lowered, thoughts with another vendor's state, the usage that a stream must report, an `api_key` that belongs to
        us, and a field written twice. A limit under both of its names is one of them, the one that is held for:
        providers take the larger, or either."""
        given = self._fields
        changes: dict[str, Any] = {}
        if model != self.model:
            changes["model"] = model
        if details.may_be_in(self.body):
            own = details.without_foreign(self._messages, model)
            if own is not self._messages:
                changes["messages"] = own
        if self.stream and not self.wants_usage:
            changes["stream_options"] = bodies.with_usage(given)
        if limit is None and LIMITS[0] in given and LIMITS[1] in given:
            limit = self.limit
        if limit is not None:
            named = self._limit_name(caps or capabilities.of(model, self.protocol))
            given = {name: value for name, value in given.items() if name == named or name not in LIMITS}
            changes[named] = limit
        return bodies.rewritten(self.body, given, changes, _QUOTED)

    def _limit_name(self, caps: Capabilities) -> str:
        """The client's own name of the limit; the model's where it wrote none with a value, or both."""
        written = [name for name in LIMITS if name in self._fields and bytes(self._fields[name]) != b"null"]
        if len(written) == 1:
            return written[0]
        return "max_completion_tokens" if caps.new_limit else "max_tokens"


_READ = frozenset(_Wanted.__struct_fields__)
_QUOTED = bodies.quoted(_READ)
_decoder = msgspec.json.Decoder(_Wanted)


def read(body: bytes, *, model: str = "", stream: bool | None = None) -> ChatRequest:
    """As `codec.Dialect` wants it. The path of this protocol says nothing; the body says all."""
    return decode(body)


def decode(body: bytes) -> ChatRequest:
    """Raises RelayError: invalid_json, invalid_messages or invalid_parameter, with the field's name."""
    wanted = bodies.decode(body, _decoder)
    fields = bodies.fields(body, _READ)
    if not wanted.messages:
        raise RelayError(
            Cause.INVALID_MESSAGES, "`messages` must be a list with at least one message.", param="messages"
        )
    extent.few_turns(len(wanted.messages), "messages")
    if any(not _is_object(message) for message in wanted.messages):
        raise RelayError(Cause.INVALID_MESSAGES, "Each of `messages` must be an object.", param="messages")
    bodies.bounded(wanted, (*LIMITS, "n"))
    if wanted.n is not None and wanted.n > MOST_ANSWERS:
        raise RelayError(Cause.INVALID_PARAMETER, f"`n` must be at most {MOST_ANSWERS}.", param="n")
    return ChatRequest(body, wanted, fields)


def key_in_body(body: bytes) -> str | None:
    """The `api_key` that some samples send inside the JSON body (requirement A4)."""
    if b'"api_key"' not in body:
        return None
    try:
        return msgspec.json.decode(body, type=_OnlyKey).api_key
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None


class _OnlyKey(msgspec.Struct):
    api_key: str | None = None


def _is_object(raw: msgspec.Raw) -> bool:
    return memoryview(raw)[0] == 0x7B  # {
