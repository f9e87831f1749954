"""Tokens of a prompt for whoever asks beforehand: from an upstream of the same protocol, which knows, else counted."""

import time
from collections.abc import Callable
from typing import NamedTuple

import msgspec
import structlog

from billing.usage import Usage
from relay import bridge, counting, dialects, pipeline, snapshot
from relay.channels import health, routing, upstream
from relay.channels.routing import Candidate, Target
from relay.dispatch import source
from relay.errors import Cause, RelayError
from relay.guard import Guard, Interrupted, Why
from relay.http import Request
from relay.protocols.codec import Chat
from relay.protocols.gemini import count_tokens as gemini
from relay.records import Call

log = structlog.get_logger(__name__)

WITHIN = 10.0  # seconds that an upstream may take; after them it is counted here


class _Way(NamedTuple):
    """How the upstreams of a protocol are asked; `encode` is for a candidate of it."""

    path: Callable[[str], str]
    encode: Callable[[Chat, Candidate], bytes]
    decode: Callable[[bytes], int]


class Count(msgspec.Struct, frozen=True):
    """`told`: all fields of the upstream's answer, its count among them; none where it was counted here."""

    tokens: int
    told: dict[str, msgspec.Raw] = {}


class _Anthropic(msgspec.Struct):
    input_tokens: int


_LARGEST = 2**40


def _anthropic_tokens(body: bytes) -> int:
    try:
        found = msgspec.json.decode(body, type=_Anthropic).input_tokens
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RelayError(Cause.UPSTREAM_ERROR, "The provider sent no count of tokens.") from error
    if not 0 <= found < _LARGEST:
        raise RelayError(Cause.UPSTREAM_ERROR, "The provider sent a count of tokens that makes no sense.")
    return found


_WAYS = {
    "anthropic": _Way(
        lambda model: "/messages/count_tokens",
        lambda asked, candidate: asked.encode(model=candidate.model, limit=None),
        _anthropic_tokens,
    ),
    "gemini": _Way(
        gemini.path,
        lambda asked, candidate: gemini.encode_request(asked, model=candidate.model, caps=candidate.caps),
        gemini.decode_response,
    ),
}


async def tokens(asked: Chat, call: Call, request: Request) -> Count:
    """By the first channel of the caller's own protocol that tells, else counted for the first channel's model.

    Raises RelayError for a model that this key cannot call, and for a request that an upstream refuses.
    """
    targets = await _targets(asked, call)
    await pipeline.within_limits(asked, 0, call)
    call.used = Usage()
    for target in targets:
        candidate = target.candidate
        way = _WAYS.get(candidate.protocol)
        if way is None or candidate.protocol != asked.protocol:
            continue
        try:
            return await _ask(target, way, asked, request)
        except RelayError as error:
            if error.cause is Cause.UPSTREAM_REJECTED:
                raise
            log.info("counts.not_told", channel=candidate.channel, cause=error.cause.value)
    return Count(await counting.prompt_tokens(asked, targets[0].candidate.model))


async def _targets(asked: Chat, call: Call) -> list[Target]:
    assert call.principal
    view = await snapshot.ready()
    call.model = asked.model
    model = view.models.get(asked.model)
    price = model.price_at(time.time(), group=call.principal.group) if model else None
    if price is None or asked.model not in view.routes:
        raise RelayError(Cause.INVALID_MODEL, f"The model {asked.model[:200]!r} is not offered here.", param="model")
    if not call.principal.may_use(asked.model):
        raise RelayError(Cause.PERMISSION_DENIED, f"This key may not use the model {asked.model!r}.", param="model")
    plan = routing.plan(view.routes[asked.model], source, passes=health.registry.passes)
    if not plan:
        raise RelayError(Cause.UNAVAILABLE, "No channel can serve this model now.", retry_after=5)
    return plan


async def _ask(target: Target, way: _Way, asked: Chat, request: Request) -> Count:
    candidate = target.candidate
    dialect = dialects.of(candidate.protocol)
    path, body = way.path(candidate.model), way.encode(asked, candidate)
    headers = bridge.forwarded(dialect, request.headers)
    guard = Guard(lasting=request.client.watch)
    guard.limit(WITHIN)
    guard.expect(Why.FIRST_BYTE, WITHIN)
    try:
        with guard:
            reply = await upstream.post(candidate, target.secret, path, body, stream=False, headers=headers)
            try:
                if reply.status != 200:
                    content = await reply.read_error()
                    raise dialect.decode_error(reply.status, content, retry_after=reply.retry_after)
                content = await reply.read(guard)
                return Count(way.decode(content), _fields(content))
            finally:
                reply.close()
    except Interrupted as stopped:
        if guard.left:
            raise
        raise RelayError(Cause.UPSTREAM_TIMEOUT, "The provider did not count in time.") from stopped


def _fields(content: bytes) -> dict[str, msgspec.Raw]:
    try:
        content.decode()  # what is passed on is not looked at otherwise
        return msgspec.json.decode(content, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RelayError(Cause.UPSTREAM_ERROR, "The provider sent no count of tokens.") from error
