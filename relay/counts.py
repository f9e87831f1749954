"""Tokens of a prompt for whoever asks beforehand: from an upstream of the same protocol, which knows, else counted."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import NamedTuple

import msgspec
import structlog

from billing.usage import Usage
from relay import bridge, counting, dialects, dispatch, pipeline, snapshot, standing
from relay.channels import health, quirks, routing, upstream
from relay.channels.health import Kind
from relay.channels.routing import Candidate, Target
from relay.errors import Cause, RelayError
from relay.guard import Guard, Interrupted, Why
from relay.http import Request
from relay.protocols import reported
from relay.protocols.codec import Chat
from relay.protocols.gemini import count_tokens as gemini
from relay.records import Attempt, Call

log = structlog.get_logger(__name__)

WITHIN = 10.0  # seconds that all upstreams together may take; after them it is counted here
# What a failure to count tells of the provider's other answers too. All else may be this endpoint's alone: it may be
# missing, forbidden, or have limits of its own, as Anthropic's has.
_TELLING = frozenset((Kind.CONNECT, Kind.TIMEOUT, Kind.SERVER, Kind.REFUSED, Kind.UNPAID))
_NOT_BUILT = (405, 501)
# Of a request's fields what Anthropic's endpoint does not know, and so refuses. Source: Anthropic API reference, "Count
# tokens in a Message".
_NOT_COUNTED = frozenset((
    "temperature", "top_p", "top_k", "stop_sequences", "metadata", "service_tier", "inference_geo", "container",
))  # fmt: skip


class _Way(NamedTuple):
    """How the upstreams of a protocol are asked: `encode` writes the request whose prompt is counted, for a candidate
    of it, and `question` what is asked of that. `unknown` are parameters of a channel that the endpoint refuses."""

    path: Callable[[str], str]
    encode: Callable[[Chat, Candidate], bytes]
    question: Callable[[bytes, str], bytes]
    decode: Callable[[bytes], int]
    unknown: frozenset[str] = frozenset()


class Count(msgspec.Struct, frozen=True):
    """`told`: all fields of the upstream's answer, its count among them; none where it was counted here."""

    tokens: int
    told: dict[str, msgspec.Raw] = {}


class _Anthropic(msgspec.Struct):
    input_tokens: int


def _anthropic_tokens(body: bytes) -> int:
    try:
        found = msgspec.json.decode(body, type=_Anthropic).input_tokens
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RelayError(Cause.UPSTREAM_ERROR, "The provider sent no count of tokens.") from error
    if not reported.make_sense((found,)):
        raise RelayError(Cause.UPSTREAM_ERROR, "The provider sent a count of tokens that makes no sense.")
    return found


_WAYS = {
    "anthropic": _Way(
        lambda model: "/messages/count_tokens",
        lambda asked, candidate: asked.encode(model=candidate.model, limit=None),
        lambda body, model: body,
        _anthropic_tokens,
        _NOT_COUNTED,
    ),
    "gemini": _Way(
        gemini.path,
        lambda asked, candidate: gemini.encode_request(asked, model=candidate.model, caps=candidate.caps),
        lambda body, model: gemini.question(body, model=model),
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
    told = await _told(targets, asked, call, request)
    return told or Count(await counting.prompt_tokens(asked, targets[0].candidate.model))


async def _targets(asked: Chat, call: Call) -> list[Target]:
    view = await snapshot.ready()
    _, candidates = pipeline.find_model(view, asked, call)
    standing.notice()
    plan = routing.plan(candidates, dispatch.source, passes=health.registry.passes)
    if not plan:
        raise RelayError(Cause.UNAVAILABLE, "No channel can serve this model now.", retry_after=5)
    return plan


async def _told(targets: list[Target], asked: Chat, call: Call, request: Request) -> Count | None:
    """None where no upstream tells, or none within the time that there is."""
    guard = Guard(lasting=request.client.watch)
    ends = asyncio.get_running_loop().time() + WITHIN
    shut: set[str] = set()
    sent = 0
    for target in targets:
        candidate = target.candidate
        way = _WAYS.get(candidate.protocol)
        if way is None or candidate.protocol != asked.protocol or candidate.channel in shut:
            continue
        passage = health.registry.enter(target.key, candidate.tolerance)
        if passage is None:
            continue
        attempt = Attempt(candidate, target.secret, call.elapsed_ms(), target=target, passage=passage)
        try:
            return await _ask(attempt, way, asked, request, guard, ends)
        except _TooLate:
            break
        except RelayError as error:
            if _noted(attempt, error, call) in health.OF_THE_CHANNEL:
                shut.add(candidate.channel)
            if error.cause is Cause.UPSTREAM_REJECTED:
                raise
            log.info("counts.not_told", channel=candidate.channel, cause=error.cause.value)
        finally:
            passage.dropped()  # where nothing else has ended it: that it counts does not say that it answers
        sent += 1
        if sent == routing.MOST_ATTEMPTS:
            break
    return None


def _noted(attempt: Attempt, error: RelayError, call: Call) -> Kind:
    """Notes what went wrong as of any other call, where it would meet those too."""
    kind = health.kind_of(error, attempt.status, began=False)
    if kind not in _TELLING or attempt.status in _NOT_BUILT:
        attempt.passage = None
    return dispatch.note_failure(attempt, error, call)


class _TooLate(Exception):
    """All the time that upstreams have together is over."""


async def _ask(attempt: Attempt, way: _Way, asked: Chat, request: Request, guard: Guard, ends: float) -> Count:
    candidate, timeouts = attempt.candidate, attempt.candidate.timeouts
    body = way.question(_dressed(way.encode(asked, candidate), way, candidate), candidate.model)
    left = ends - asyncio.get_running_loop().time()
    guard.limit(min(left, timeouts.total))
    guard.expect(Why.FIRST_BYTE, timeouts.first_byte)
    try:
        with guard:
            return await _answer(attempt, way, body, request, guard)
    except Interrupted as stopped:
        if guard.left:
            raise
        if stopped.why is Why.TOTAL and left < timeouts.total:
            raise _TooLate from stopped
        raise RelayError(Cause.UPSTREAM_TIMEOUT, "The provider did not count in time.") from stopped


def _dressed(body: bytes, way: _Way, candidate: Candidate) -> bytes:
    """The request as this provider takes it, with those of the operator's overrides that concern a count."""
    dress = candidate.dress
    parameters = {name: value for name, value in (dress.parameters or {}).items() if name not in way.unknown}
    return quirks.apply(body, dress.quirks.of("chat"), parameters).body


async def _answer(attempt: Attempt, way: _Way, body: bytes, request: Request, guard: Guard) -> Count:
    candidate = attempt.candidate
    dialect = dialects.of(candidate.protocol)
    assert attempt.passage
    attempt.passage.sent()
    headers = bridge.forwarded(dialect, request.headers)
    path = way.path(candidate.model)
    reply = await upstream.post(candidate, attempt.secret, path, body, stream=False, headers=headers)
    with contextlib.closing(reply):
        attempt.status = reply.status
        if reply.status != 200:
            raise await dispatch.refused(reply, attempt, dialect.decode_error)
        guard.expect(Why.IDLE, candidate.timeouts.idle)
        content = await reply.read(guard)
        return Count(way.decode(content), _fields(content))


def _fields(content: bytes) -> dict[str, msgspec.Raw]:
    try:
        content.decode()  # what is passed on is not looked at otherwise
        return msgspec.json.decode(content, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RelayError(Cause.UPSTREAM_ERROR, "The provider sent no count of tokens.") from error
