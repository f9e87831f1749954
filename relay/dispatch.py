"""A call's attempts at its channels, until one answers or the first bytes of its stream are there."""

import asyncio
import contextlib
import os
import random
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, cast

from django.conf import settings

from billing import failpoints, holds
from billing.operations import Progress
from keys import limits
from relay import dialects, inlining, records, retrying, snapshot, standing, streams
from relay.bridge import Bridge, Single
from relay.channels import health, quirks, routing, upstream
from relay.channels.health import Kind
from relay.channels.routing import Candidate, Target
from relay.channels.upstream import Reply
from relay.errors import Cause, RelayError
from relay.guard import Guard, Interrupted, Why
from relay.http import Request
from relay.protocols import refusals, searches
from relay.protocols.codec import Asked, Chat, Stream, Whole
from relay.protocols.translating import Folding
from relay.records import Attempt, Call

source = random.Random(os.urandom(32))
_turns = retrying.Turns(health.registry, health.retries)
_AT_ONCE = contextlib.nullcontext()


class Begun(NamedTuple):
    """A stream whose first bytes for the client are there."""

    reply: Reply
    stream: Stream
    first: bytes


def plan(candidates: Sequence[Candidate], asked: Asked, call: Call, request: Request) -> None:
    """Sets where the call is tried, in which order, and enters the first target's breaker. Raises RelayError where no
    target lets it through now. Whoever cannot go on from here says so (`abandon`)."""
    standing.notice()
    affinity = b""
    if routing.has_choice(candidates):
        assert call.principal
        affinity = routing.affinity(  # of the whole conversation, and not only of what the client sent of it
            asked.body,
            request.headers,
            team=call.principal.team,
            model=call.model,
            stateful=routing.gives_state(candidates),
        )
    call.targets = routing.plan(candidates, source, passes=health.registry.passes, affinity=affinity)
    if not call.targets:
        keys = [target.key for candidate in candidates for target in routing.targets(candidate)]
        raise health.registry.refusal(keys)
    call.candidates = [target.candidate for target in call.targets]
    first = call.targets[0]
    call.passage = health.registry.enter(first.key, first.candidate.tolerance, anyway=True)


def abandon(call: Call) -> None:
    """The call is sent nowhere: its way through the breaker, which `plan` entered, is free again."""
    if call.passage is not None:
        call.passage.dropped()


async def attempts(asked: Asked, limit: int | None, call: Call, guard: Guard, request: Request) -> Whole | Begun:
    """A whole answer or the beginning of a stream, from the first channel that gives one.

    The client has had no byte yet. So a failure goes to the next channel where `retry_on` has its kind, and so does
    what the channel's model cannot be asked. At most MOST_ATTEMPTS requests are sent.
    """
    failure: RelayError | None = None
    full: list[RelayError] = []  # of channels whose own limits are reached, and of credentials that rest
    shut: dict[str, RelayError] = {}  # channels that another credential cannot help
    passed: list[tuple[Target, RelayError]] = []  # over, since the last attempt
    sent = 0
    strict = request.headers.get(b"x-pisces-strict", b"").lower() == b"true"
    health.retries.calls += 1
    try:
        for target in call.targets:
            if sent == routing.MOST_ATTEMPTS:
                break
            if target.candidate.channel in shut:
                passed.append((target, shut[target.candidate.channel]))
                continue
            async with _turns.turn(target.key, guard) if sent else _AT_ONCE:
                if call.attempts and (unfit := _unfit(target, call)) is not None:
                    passed.append((target, unfit))
                    full += [unfit] if unfit.retry_after else []
                    continue
                while passed:
                    _pass_over(*passed.pop(0), call)
                scope = target.candidate.scope
                slip = await _place_in(scope, asked, call) if scope is not None else limits.NOTHING
                if isinstance(slip, RelayError):
                    _pass_over(target, slip, call)
                    full.append(slip)
                    shut[target.candidate.channel] = slip
                    continue
                attempt = _entered(target, call)
                # Whoever brings an idempotency key means to ask again: there should be an answer then.
                drained = target.candidate.on_hangup == "drain" or call.claim is not None
                request.client.drain = settings.DRAIN_ON_HANGUP if drained else None
                try:
                    return await _attempt(attempt, limit, asked, call, guard, request, strict=strict)
                except RelayError as error:
                    slip.finish(0)
                    kind = note_failure(attempt, error, call)
                    if guard.left or not _another(kind, target.candidate):
                        raise
                    _disown(attempt, asked, call)
                    if kind in health.OF_THE_CHANNEL:
                        shut[target.candidate.channel] = error
                    sent += attempt.sent
                    failure = _told(failure, error)
    finally:
        health.retries.calls -= 1
    if full and (failure is None or not failure.entry.retry):
        raise min(full, key=lambda error: error.retry_after or 0.0)
    raise failure or RelayError(Cause.UNAVAILABLE, "No channel can serve this model now.", retry_after=5)


async def _place_in(scope: limits.Scope, asked: Asked, call: Call) -> limits.Slip | RelayError:
    """The call's place in a channel's own limits, or what to tell the caller where no other channel has one."""
    output = asked.limit if asked.kind == "chat" else 0
    tokens = call.estimate or limits.estimate(text_bytes=asked.text_bytes, max_output=output, answers=asked.n)
    try:
        slip = await limits.admit((scope,), tokens=tokens)
    except limits.LimitReached as reached:
        return RelayError(Cause.RATE_LIMITED, str(reached), retry_after=reached.retry_after)
    call.slips.append(slip)
    return slip


def _unfit(target: Target, call: Call) -> RelayError | None:
    """Why nothing new is sent there, though it was planned: since then it has been taken out of use, or its breaker has
    shut, which says until when."""
    candidates = snapshot.current().routes.get(call.model, ())
    if all(target.key != found.key for candidate in candidates for found in routing.targets(candidate)):
        return RelayError(Cause.UNAVAILABLE, "The channel is no longer in use.")
    return None if health.registry.passes(target.key) else health.registry.refusal((target.key,))


def _pass_over(target: Target, why: RelayError, call: Call) -> None:
    """Leaves a channel alone that is at its own limit, or known to fail: the attempt that it was to have is on the
    record, unsent."""
    if not call.attempts:
        abandon(call)
    attempt = Attempt(target.candidate, target.secret, call.elapsed_ms(), target=target)
    attempt.outcome, attempt.detail, attempt.ended_ms = why.cause.value, why.message, call.elapsed_ms()
    call.attempts.append(attempt)


def _entered(target: Target, call: Call) -> Attempt:
    """The attempt, on its way through its breaker."""
    candidate, first = target.candidate, not call.attempts
    passage = call.passage if first else health.registry.enter(target.key, candidate.tolerance, anyway=True)
    attempt = Attempt(candidate, target.secret, call.elapsed_ms(), target=target, passage=passage)
    call.attempts.append(attempt)
    return attempt


def _another(kind: Kind, candidate: Candidate) -> bool:
    """Whether another channel is tried after such a failure. What this one's model cannot be asked, another's may."""
    return kind is Kind.NONE or kind in candidate.retry_on


def _told(before: RelayError | None, error: RelayError) -> RelayError:
    """What the caller is told of two failures: the later one, but of what may pass before what will not."""
    return before if before is not None and before.entry.retry and not error.entry.retry else error


def _disown(attempt: Attempt, asked: Asked, call: Call) -> None:
    """What came of an answer that failed counts no more: whoever recovers the call finds that it was sent, as after any
    other failure, and nothing to charge."""
    assert call.hold
    if attempt.first_byte_ms is not None:
        holds.note(call.hold, Progress(len(call.attempts), asked.text_bytes))


async def _attempt(
    attempt: Attempt, limit: int | None, asked: Asked, call: Call, guard: Guard, request: Request, *, strict: bool
) -> Whole | Begun:
    timeouts = attempt.candidate.timeouts
    call.folding = None  # of an attempt before
    guard.limit(timeouts.total)
    guard.expect(Why.FIRST_BYTE, timeouts.first_byte)
    reply: Reply | None = None
    begun: Begun | None = None
    assert call.hold
    try:
        with guard:
            bridge = await _bridge(asked, attempt.candidate, limit, strict=strict)
            reply = await _posted(bridge, attempt, asked, call, guard, request, strict=strict)
            if isinstance(bridge, Bridge) and asked.stream and bridge.streams:
                begun = await _first_events(reply, bridge.stream(call.model), attempt, call)
                return begun
            if isinstance(bridge, Bridge) and bridge.streams:
                return await _folded(reply, bridge.folding(), attempt, asked, call, guard)
            _note_first_byte(attempt, call)
            holds.watch(call.hold, _arrival(reply, asked, call))
            failpoints.hit("after_first_byte")
            guard.expect(Why.IDLE, timeouts.idle)
            content = await reply.read(guard)
            attempt.whole = True
            if isinstance(bridge, Single) or not asked.stream:
                return bridge.whole(content)
            begun = Begun(reply, *bridge.unfolded(content, call.model))
            return begun
    except Interrupted as stopped:
        if stopped.why is Why.LEFT or guard.left:
            call.arrived = reply.received if reply else 0
            raise
        raise RelayError(Cause.UPSTREAM_TIMEOUT, f"The provider was silent for too long ({stopped.why}).") from stopped
    finally:
        if reply is not None and begun is None:
            reply.close()


async def _posted(
    bridge: Bridge | Single, attempt: Attempt, asked: Asked, call: Call, guard: Guard, request: Request, *, strict: bool
) -> Reply:
    """The provider's answer, whose status is 200. Of one that cannot read what vendors have written into a conversation
    for themselves it is asked for again without that: so thoughts of one account do not end what goes on with another
    (pitfall 18). Raises RelayError."""
    assert call.hold
    for last in (strict, True):
        body = _dressed(bridge, asked.kind, attempt.candidate, call, strict=strict)
        holds.note(call.hold, Progress(len(call.attempts), asked.text_bytes))
        failpoints.hit("before_dispatch")
        if attempt.passage is not None and not attempt.sent:
            attempt.passage.sent()
        attempt.sent = True
        attempt.searches = searches.unseen(body) if bridge.path == "/chat/completions" else 0
        attempt.status, attempt.retry_after, attempt.said = None, None, ""  # of what was asked before
        reply = await upstream.post(
            attempt.candidate,
            attempt.secret,
            bridge.path,
            body,
            stream=bridge.streams,
            headers=bridge.headers(request.headers),
        )
        attempt.status = reply.status
        if reply.status == 200:
            return reply
        error = await refused(reply, attempt, bridge.error)
        if last or not refusals.is_of_state(error) or not bridge.forget_state():
            raise error
        guard.expect(Why.FIRST_BYTE, attempt.candidate.timeouts.first_byte)
    raise AssertionError("the last refusal is raised")


async def refused(reply: Reply, attempt: Attempt, decode: Callable[..., RelayError]) -> RelayError:
    """What an answer with an error's status means, as its protocol is decoded. Notes in the attempt what was said."""
    with contextlib.closing(reply):
        content, attempt.retry_after = await reply.read_error(), reply.retry_after
    attempt.said = records.clean(content[:300].decode(errors="replace"), 300)
    return decode(reply.status, content, retry_after=reply.retry_after)


async def _bridge(asked: Asked, candidate: Candidate, limit: int | None, *, strict: bool) -> Bridge | Single:
    if asked.kind != "chat":
        return Single(asked, candidate, strict=strict)
    chat = cast(Chat, asked)
    if not dialects.way(chat, candidate).passes:
        await inlining.inline(chat.canonical(), candidate.caps)
    return Bridge(chat, candidate, limit=limit, strict=strict)


def _arrival(reply: Reply, asked: Asked, call: Call) -> Callable[[], Progress]:
    """How much of a whole answer has come."""
    number = len(call.attempts)
    return lambda: Progress(number, asked.text_bytes, reply.received, answering=True)


async def _folded(reply: Reply, folding: Folding, attempt: Attempt, asked: Asked, call: Call, guard: Guard) -> Whole:
    """The whole answer of an upstream that streams it. Its own end counts, and not that of the connection, as it does
    for a client that gets the stream; so does what has come where the client leaves."""
    call.folding = folding
    with reply.reading, contextlib.suppress(TimeoutError):  # then only the report of its usage did not come
        while not folding.done and folding.failure is None:
            async with asyncio.timeout(streams.AFTER_FINISH if folding.finished else None):
                data = await reply.part()
            folding.feed(data) if data else folding.close()
            if attempt.first_byte_ms is not None:
                guard.signs += 1
            elif folding.begun:
                _note_first_byte(attempt, call)
                streams.watch(folding, asked, call)
                guard.expect(Why.IDLE, attempt.candidate.timeouts.idle)
    attempt.whole = True
    if not folding.done and folding.failure is None:
        folding.close()
    found = folding.whole()
    await reply.finish()
    return found


async def _first_events(reply: Reply, stream: Stream, attempt: Attempt, call: Call) -> Begun:
    """Reads until there is something for the client, so that an upstream that fails at once is a plain error."""
    while True:
        with reply.reading:
            data = await reply.chunk()
        out = stream.feed(data) if data else stream.close()
        if stream.failure is not None and not out:
            raise stream.failure
        if out or stream.done or stream.finish or not data:
            _note_first_byte(attempt, call)  # comments are no answer: nothing is owed for them
            return Begun(reply, stream, out)


def _dressed(bridge: Bridge | Single, kind: str, candidate: Candidate, call: Call, *, strict: bool) -> bytes:
    """The body as this provider takes it, with the operator's overrides."""
    edited = quirks.apply(bridge.body, candidate.dress.quirks.of(kind), candidate.dress.parameters)
    if strict and edited.dropped:
        message = f"{candidate.model!r} takes no {', '.join(f'`{name}`' for name in edited.dropped)}."
        raise RelayError(Cause.INVALID_PARAMETER, message, param=edited.dropped[0])
    call.dropped = sorted({*bridge.losses, *edited.dropped}) if edited.dropped else bridge.losses
    return edited.body


def _note_first_byte(attempt: Attempt, call: Call) -> None:
    attempt.first_byte_ms = call.elapsed_ms()
    if attempt.passage is not None:
        attempt.passage.began()


def note_end(attempt: Attempt, outcome: str, call: Call) -> None:
    """An attempt that did not fail: `complete`, or `client_left`."""
    attempt.outcome, attempt.ended_ms = outcome, call.elapsed_ms()
    if attempt.passage is not None:
        attempt.passage.succeeded() if outcome == "complete" else attempt.passage.dropped()


def note_failure(attempt: Attempt, error: RelayError, call: Call) -> Kind:
    """Notes what went wrong, in the call's record and in the credential's health."""
    error.message = _without_secret(attempt, error.message)
    attempt.outcome, attempt.ended_ms = error.cause.value, call.elapsed_ms()
    attempt.detail = records.clean(error.message, 200)
    midway = attempt.first_byte_ms is not None and not attempt.whole
    kind = health.kind_of(error, attempt.status, began=midway)
    passage, target, candidate = attempt.passage, attempt.target, attempt.candidate
    if passage is None or target is None:
        return kind
    wait = refusals.waiting(attempt.retry_after, time.time())
    if wait is None and kind is Kind.LIMITED:
        wait = error.retry_after
    refused = passage.failed(kind, attempt.detail, wait=wait, forbids_by_input=candidate.forbids_by_input)
    if refused and candidate.auto_disable:
        passage.bar()
        standing.refused(target, f"{attempt.status}: {_without_secret(attempt, attempt.said)}".strip())
    return kind


def _without_secret(attempt: Attempt, text: str) -> str:
    """Some providers repeat the key that they refuse."""
    return text.replace(attempt.secret.value, "***") if attempt.secret is not None else text
