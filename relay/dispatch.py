"""A call's attempts at its channels, until one answers or the first bytes of its stream are there."""

import os
import random
from collections.abc import Callable
from typing import NamedTuple, cast

from django.conf import settings

from billing import failpoints, holds
from billing.operations import Progress
from relay import dialects, inlining
from relay.bridge import Bridge, Single
from relay.channels import upstream
from relay.channels.routing import Candidate
from relay.channels.upstream import Reply
from relay.errors import Cause, RelayError
from relay.guard import Guard, Interrupted, Why
from relay.http import Request
from relay.protocols.codec import Asked, Chat, Stream, Whole
from relay.records import Attempt, Call

MOST_ATTEMPTS = 3
source = random.Random(os.urandom(32))


class Begun(NamedTuple):
    """A stream whose first bytes for the client are there."""

    reply: Reply
    stream: Stream
    first: bytes


async def attempts(asked: Asked, limit: int | None, call: Call, guard: Guard, request: Request) -> Whole | Begun:
    """A whole answer or the beginning of a stream, from the first channel that gives one.

    A failure before the upstream's first byte goes to the next channel, one after it does not; nor does what the
    channel's model cannot be asked, unless another channel's can.
    """
    failure: RelayError | None = None
    strict = request.headers.get(b"x-pisces-strict", b"").lower() == b"true"
    for candidate in call.candidates:
        secret = source.choice(candidate.credentials) if candidate.credentials else None
        attempt = Attempt(candidate, secret, call.elapsed_ms())
        call.attempts.append(attempt)
        # Whoever brings an idempotency key means to ask again: there should be an answer then.
        drained = candidate.on_hangup == "drain" or call.claim is not None
        request.client.drain = settings.DRAIN_ON_HANGUP if drained else None
        try:
            return await _attempt(attempt, limit, asked, call, guard, request, strict=strict)
        except RelayError as error:
            note_failure(attempt, error, call)
            if error.cause is Cause.UPSTREAM_REJECTED or guard.left or attempt.first_byte_ms is not None:
                raise
            failure = error
    raise failure or RelayError(Cause.UNAVAILABLE, "No channel can serve this model now.", retry_after=5)


async def _attempt(
    attempt: Attempt, limit: int | None, asked: Asked, call: Call, guard: Guard, request: Request, *, strict: bool
) -> Whole | Begun:
    timeouts = attempt.candidate.timeouts
    guard.limit(timeouts.total)
    guard.expect(Why.FIRST_BYTE, timeouts.first_byte)
    reply: Reply | None = None
    begun: Begun | None = None
    assert call.hold
    try:
        with guard:
            bridge = await _bridge(asked, attempt.candidate, limit, strict=strict)
            call.dropped = bridge.losses
            holds.note(call.hold, Progress(len(call.attempts), asked.text_bytes))
            failpoints.hit("before_dispatch")
            reply = await upstream.post(
                attempt.candidate,
                attempt.secret,
                bridge.path,
                bridge.body,
                stream=bridge.streams,
                headers=bridge.headers(request.headers),
            )
            attempt.status = reply.status
            if reply.status != 200:
                raise bridge.error(reply.status, await reply.read_error(), retry_after=reply.retry_after)
            if isinstance(bridge, Bridge) and asked.stream and bridge.streams:
                begun = await _first_events(reply, bridge.stream(call.model), attempt, call)
                return begun
            attempt.first_byte_ms = call.elapsed_ms()
            holds.watch(call.hold, _arrival(reply, asked, call))
            failpoints.hit("after_first_byte")
            guard.expect(Why.IDLE, timeouts.idle)
            body = await reply.read(guard)
            if isinstance(bridge, Single) or not asked.stream:
                return bridge.whole(body)
            begun = Begun(reply, *bridge.unfolded(body, call.model))
            return begun
    except Interrupted as stopped:
        if stopped.why is Why.LEFT or guard.left:
            call.arrived = reply.received if reply else 0
            raise
        raise RelayError(Cause.UPSTREAM_TIMEOUT, f"The provider was silent for too long ({stopped.why}).") from stopped
    finally:
        if reply is not None and begun is None:
            reply.close()


async def _bridge(asked: Asked, candidate: Candidate, limit: int | None, *, strict: bool) -> Bridge | Single:
    if asked.kind != "chat":
        return Single(asked, candidate, strict=strict)
    chat = cast(Chat, asked)
    if not dialects.passes(chat, candidate):
        await inlining.inline(chat.canonical(), candidate.caps)
    return Bridge(chat, candidate, limit=limit, strict=strict)


def _arrival(reply: Reply, asked: Asked, call: Call) -> Callable[[], Progress]:
    """How much of a whole answer has come."""
    number = len(call.attempts)
    return lambda: Progress(number, asked.text_bytes, reply.received, answering=True)


async def _first_events(reply: Reply, stream: Stream, attempt: Attempt, call: Call) -> Begun:
    """Reads until there is something for the client, so that an upstream that fails at once is a plain error."""
    while True:
        with reply.reading():
            data = await reply.chunk()
        out = stream.feed(data) if data else stream.close()
        if stream.failure is not None and not out:
            raise stream.failure
        if out or stream.done or stream.finish or not data:
            attempt.first_byte_ms = call.elapsed_ms()  # comments are no answer: nothing is owed for them
            return Begun(reply, stream, out)


def note_failure(attempt: Attempt, error: RelayError, call: Call) -> None:
    if attempt.secret is not None:  # some providers repeat the key that they refuse
        error.message = error.message.replace(attempt.secret.value, "***")
    attempt.outcome, attempt.detail, attempt.ended_ms = error.cause.value, error.message, call.elapsed_ms()
