"""Requests of OpenAI's Responses: the few fields that every call needs, everything else kept as the bytes it came in.

Source: OpenAI API reference, "Create a model response".
"""

import uuid
from typing import Any

import msgspec

from billing import ids
from relay.errors import Cause, RelayError
from relay.protocols import bodies, capabilities, extent
from relay.protocols.asked import BaseAsked
from relay.protocols.canonical import Request
from relay.protocols.capabilities import Capabilities
from relay.protocols.responses import kept, reading

_NULL = b"null"
# What is kept where we cannot look: the size of such a prompt is nobody's but the provider's.
_KEPT_ELSEWHERE = ("conversation", "prompt")


class _Wanted(msgspec.Struct):
    """What is read of a request. Raw: known to exist, not looked into."""

    model: str | None = None
    input: str | list[msgspec.Raw] | None = None
    stream: bool | None = None
    max_output_tokens: int | None = None
    store: bool | None = None
    background: bool | None = None
    previous_response_id: str | None = None
    api_key: str | None = None


class ResponsesRequest(BaseAsked):
    """A decoded request. `answer` is the id of its answer, which is ours whoever answers: by it the client finds it
    again. `items` are the request's own input items; the body's input has those of the earlier turns before them once
    these are known (`after`). `answered` is the response object as the client got it, once it did.
    """

    __slots__ = ("answer", "answered", "created_at", "fields", "items", "previous", "store", "waits")

    protocol = "responses"
    MEDIA = (b"input_image", b"input_file", b"input_audio", b"image_generation_call", b"\\u")
    PROMPT = frozenset(("instructions", "input", "tools"))

    def __init__(self, body: bytes, wanted: _Wanted, fields: dict[str, msgspec.Raw], *, answer: uuid.UUID) -> None:
        self.fields = fields
        self.items = _items(wanted.input)
        self.previous = wanted.previous_response_id or ""
        self.waits = bool(self.previous)  # for the earlier turns
        self.store = wanted.store is not False
        self.answer = answer
        self.answered: bytes | None = None
        self.created_at = answer.int >> 80  # the id's milliseconds
        super().__init__(body, model=wanted.model or "", stream=bool(wanted.stream), limit=wanted.max_output_tokens)

    @property
    def id(self) -> str:
        return kept.answer_id(self.answer)

    def after(self, turns: list[msgspec.Raw], items: list[msgspec.Raw]) -> "ResponsesRequest":
        """The same request with the items of the earlier turns before its own `items`, which stand for themselves: any
        upstream can go on with it."""
        fields: dict[str, Any] = {**self.fields, "input": [*turns, *items]}
        fields.pop("previous_response_id", None)
        body = msgspec.json.encode(fields)
        found = _request(body, self.answer)
        found.items, found.previous, found.waits, found.store = items, self.previous, False, self.store
        return found

    def stateless(self) -> "ResponsesRequest | None":
        if b'"encrypted_content"' not in self.body:
            return None
        items = kept.history(_items(_decoder.decode(self.body).input), stateless=True)
        return _request(msgspec.json.encode({**self.fields, "input": items}), self.answer)

    def encode(self, *, model: str, limit: int | None, caps: Capabilities | None = None) -> bytes:
        """The body for the upstream: its own bytes, but for the model's name, a `limit` that the gateway set or
        lowered, other vendors' thoughts, the state of its own where the answer is kept here, an `api_key` that belongs
        to us, and a field written twice."""
        assert not self.waits, "the earlier turns are not in it"
        changes: dict[str, Any] = {}
        if model != self.model:
            changes["model"] = model
        if self.body.count(_THOUGHT) > ("reasoning" in self.fields):  # which is the settings' name too
            items = _items(_decoder.decode(self.body).input)
            own = kept.without_foreign(items)
            if own != items:
                changes["input"] = own
        if limit is not None:
            changes["max_output_tokens"] = limit
        if self.store and (caps or capabilities.of(model, self.protocol)).thinking != "none":
            changes |= self._with_state()
        return bodies.rewritten(self.body, self.fields, changes, _QUOTED)

    def _with_state(self) -> dict[str, Any]:
        """What has to be asked for besides, so that the thoughts that are kept can go back to where they came from."""
        written = self.fields.get("include")
        included = (msgspec.json.decode(written) if written is not None else None) or []
        if not isinstance(included, list) or reading.STATE_OF_THOUGHTS in included:
            return {}  # what is no list the upstream refuses in its own words
        return {"include": [*included, reading.STATE_OF_THOUGHTS]}

    def _decode(self, body: bytes) -> Request:
        return reading.decode_request(body)


_THOUGHT = b'"reasoning"'
_READ = frozenset(_Wanted.__struct_fields__)
_QUOTED = bodies.quoted(_READ)
_decoder = msgspec.json.Decoder(_Wanted)


def read(body: bytes, *, model: str = "", stream: bool | None = None) -> ResponsesRequest:
    """Raises RelayError: invalid_json, invalid_messages or invalid_parameter, with the field's name. The path says
    nothing in this protocol; what it might say counts where the body does not."""
    found = _request(body, ids.uuid7())
    found.model = found.model or model
    if stream is not None and "stream" not in found.fields:
        found.stream = stream
    return found


def _request(body: bytes, answer: uuid.UUID) -> ResponsesRequest:
    extent.bounded(body)
    try:
        body.decode()
        wanted = _decoder.decode(body)
    except msgspec.ValidationError as error:
        raise reading.wrong_type(error) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise bodies.no_json(error) from error
    fields = bodies.fields(body, _READ)
    _check(wanted, fields)
    return ResponsesRequest(body, wanted, fields, answer=answer)


def _check(wanted: _Wanted, fields: dict[str, msgspec.Raw]) -> None:
    for name in _KEPT_ELSEWHERE:
        if name in fields and bytes(fields[name]) != _NULL:
            raise _invalid(f"`{name}` names what a provider keeps; send the whole input instead.", name)
    if wanted.background:
        raise _invalid("`background` is not supported yet; stream the answer, or wait for it.", "background")
    if not wanted.input and not (wanted.previous_response_id and isinstance(wanted.input, list)):
        message = "`input` must be a text or a list with at least one item."
        raise RelayError(Cause.INVALID_MESSAGES, message, param="input")
    if isinstance(wanted.input, list):
        extent.few_turns(len(wanted.input), "input")
    if isinstance(wanted.input, list) and any(not _is_object(item) for item in wanted.input):
        raise RelayError(Cause.INVALID_MESSAGES, "Each item of `input` must be an object.", param="input")
    if wanted.max_output_tokens is not None and not 1 <= wanted.max_output_tokens <= 2**31:
        raise _invalid("`max_output_tokens` must be a positive integer.", "max_output_tokens")


def _invalid(message: str, param: str) -> RelayError:
    return RelayError(Cause.INVALID_PARAMETER, message, param=param)


def _items(given: str | list[msgspec.Raw] | None) -> list[msgspec.Raw]:
    if isinstance(given, str):
        content = [{"type": "input_text", "text": given}]
        return [msgspec.Raw(msgspec.json.encode({"type": "message", "role": "user", "content": content}))]
    return given or []


def _is_object(raw: msgspec.Raw) -> bool:
    return bytes(memoryview(raw)[:1]) == b"{"
