"""Anthropic messages requests: the few fields that the gateway must know, everything else kept as the bytes it came in.

Source: Anthropic API reference, "Create a Message" and "Count tokens in a Message", both versions of the API.
"""

import copy
from collections.abc import Mapping
from typing import Any, Self

import msgspec

from relay.errors import Cause, RelayError
from relay.protocols import bodies, extent, markdown
from relay.protocols.anthropic import foreign, reading
from relay.protocols.asked import BaseAsked
from relay.protocols.canonical import Media, Request
from relay.protocols.capabilities import Capabilities
from relay.protocols.raws import NULL

VERSION = "2023-06-01"  # under which every field of ours is allowed; the later one refuses sampling
LIMIT = 4096  # output tokens for a client that names none, where nobody knows the model's own limit
LEAST_BUDGET = 1024


class _Wanted(msgspec.Struct):
    """What is read of a request. Raw: known to exist, not looked into."""

    model: str | None = None
    messages: list[msgspec.Raw] | None = None
    stream: bool | None = None
    max_tokens: int | None = None
    thread: msgspec.Raw = NULL
    api_key: str | None = None


class _Thinking(msgspec.Struct):
    type: str | None = None
    budget_tokens: int | None = None


class MessagesRequest(BaseAsked):
    """A client's request, as `codec.Asked` promises it."""

    __slots__ = ("_fields", "_messages", "_own")

    protocol = "anthropic"
    MEDIA = (b'"image"', b'"document"', markdown.MARK, b"\\u")
    PROMPT = frozenset(("system", "messages", "tools"))

    def __init__(self, body: bytes, wanted: _Wanted, fields: dict[str, msgspec.Raw], model: str, stream: bool) -> None:
        self._fields = fields
        self._messages = wanted.messages or []
        self._own: list[msgspec.Raw] | None = None
        super().__init__(body, model=model, stream=stream, limit=wanted.max_tokens)

    def encode(self, *, model: str, limit: int | None, caps: Capabilities | None = None) -> bytes:
        """The body for the upstream: its own bytes, but for the model's name, a limit that the gateway set or lowered
        (and thinking that no longer fits into it), what comes from other vendors' models (and thinking that these have
        not begun), an `api_key` that belongs to us, and a field written twice."""
        changes: dict[str, Any] = {}
        if model != self.model:
            changes["model"] = model
        if limit is not None and limit != self.limit:
            changes |= {"max_tokens": limit, **self._thinking_within(limit)}
        changes |= self._missing(limit)
        if self._history is not self._messages:
            changes["messages"] = self._history
        if not changes and bodies.is_plain(self.body, _QUOTED):
            return self.body
        merged: dict[str, Any] = {**self._fields, **changes}
        for name in ("api_key", *self.losses):
            merged.pop(name, None)
        return msgspec.json.encode(merged)

    def canonical(self) -> Request:
        """For another vendor's model. Raises RelayError (400) also for calls and tools that bear no name."""
        found = super().canonical()
        reading.refuse_nameless(found)
        return found

    def stateless(self) -> Self | None:
        rest = foreign.without_thoughts(self._history)
        if rest is self._history:
            return None
        found = copy.copy(self)
        found._own = rest
        return found

    @property
    def losses(self) -> list[str]:
        """Thinking by a budget has to begin before a turn's calls (Anthropic, "Extended thinking"), so there is none in
        the middle of a turn that another vendor's model has begun."""
        if self._history is self._messages or self._thinking().type != "enabled":
            return []
        return ["thinking"] if foreign.calls_without_thought(self._history) else []

    @property
    def shown(self) -> int:
        """This protocol has no other pictures in the model's turns."""
        if markdown.MARK not in self.body:
            return 0
        turns = [message for message in self._counted().messages if message.role == "assistant"]
        return sum(len(part.data) for turn in turns for part in turn.parts if isinstance(part, Media))

    @property
    def _history(self) -> list[msgspec.Raw]:
        """The messages as Anthropic may see them."""
        if self._own is None:
            self._own = foreign.without(self._messages, self.body)
        return self._own

    def _missing(self, limit: int | None) -> dict[str, Any]:
        return {"max_tokens": LIMIT} if limit is None and self.limit is None else {}

    def _thinking_within(self, limit: int) -> dict[str, Any]:
        """A budget has to stay below `max_tokens`, and to be 1024 at least."""
        budget = self._thinking().budget_tokens
        if budget is None or budget < limit:
            return {}
        if limit <= LEAST_BUDGET:
            return {"thinking": {"type": "disabled"}}
        written: dict[str, Any] = _fields_decoder.decode(self._fields["thinking"])
        return {"thinking": {**written, "budget_tokens": limit - 1}}

    def _thinking(self) -> _Thinking:
        try:
            return msgspec.json.decode(self._fields.get("thinking", b"null"), type=_Thinking | None) or _Thinking()
        except (msgspec.DecodeError, RecursionError):
            return _Thinking()  # the upstream says what is wrong with it

    def _decode(self, body: bytes) -> Request:
        return reading.decode_request(body, model=self.model, stream=self.stream)


class CountRequest(MessagesRequest):
    """What `count_tokens` is asked: a request without what only an answer needs."""

    def _missing(self, limit: int | None) -> dict[str, Any]:
        return {}


_READ = frozenset(_Wanted.__struct_fields__)
_QUOTED = bodies.quoted(_READ)
_decoder = msgspec.json.Decoder(_Wanted)
_fields_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])


def read(body: bytes, *, model: str = "", stream: bool | None = None) -> MessagesRequest:
    """Raises RelayError: invalid_json, invalid_messages or invalid_parameter, with the field's name."""
    wanted, fields = _read(body)
    streams = bool(wanted.stream) if stream is None else stream
    return MessagesRequest(body, wanted, fields, model or wanted.model or "", streams)


def count_request(body: bytes) -> CountRequest:
    """The body of `count_tokens`: `prompt()` has what is to be counted, `encode` the body for an upstream that counts
    itself. Raises RelayError as `read` does."""
    wanted, fields = _read(body)
    return CountRequest(body, wanted, fields, wanted.model or "", False)


def forwarded(headers: Mapping[str, str]) -> dict[str, str]:
    """Of a client's headers those that an Anthropic upstream has to see. The API wants a version of every caller."""
    given = {name.lower(): value for name, value in headers.items()}
    found = {"anthropic-version": given.get("anthropic-version") or VERSION}
    if given.get("anthropic-beta"):
        found["anthropic-beta"] = given["anthropic-beta"]
    return found


def _read(body: bytes) -> tuple[_Wanted, dict[str, msgspec.Raw]]:
    wanted = bodies.decode(body, _decoder)
    fields = bodies.fields(body, _READ)
    _refuse_thread(wanted)
    if not wanted.messages:
        raise RelayError(
            Cause.INVALID_MESSAGES, "`messages` must be a list with at least one message.", param="messages"
        )
    extent.few_turns(len(wanted.messages), "messages")
    if any(bytes(memoryview(message)[:1]) != b"{" for message in wanted.messages):
        raise RelayError(Cause.INVALID_MESSAGES, "Each of `messages` must be an object.", param="messages")
    if wanted.max_tokens is not None and not 0 <= wanted.max_tokens <= 2**31:
        raise RelayError(Cause.INVALID_PARAMETER, "`max_tokens` must not be negative.", param="max_tokens")
    return wanted, fields


def _refuse_thread(wanted: _Wanted) -> None:
    """A thread is kept under the gateway's credential: anybody who has that could go on with anybody's, and how much is
    in it nobody here knows. The SDKs go on without one by themselves where the error bears this code."""
    if wanted.thread != NULL:
        text = "`thread` names what a provider keeps; send the whole conversation instead."
        raise RelayError(Cause.UNSUPPORTED_THREAD, text, param="thread")
