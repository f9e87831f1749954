"""The life of a call, from door to door (DESIGN, section 1). Reads top to bottom; no step knows the step after it.

Money's two rules hold on every path through here: the hold is durable before the first byte goes to an upstream, and
the settlement is durable before the last byte goes to the client. All of it runs in a task of the call's own, which
reads the upstream and owns the settlement; the client only takes from the outlet what is there.
"""

import asyncio
import os
import random
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import structlog
from django.conf import settings

from billing import failpoints, holds, money, prices
from billing.catalog import Model, Price
from billing.operations import Progress
from billing.usage import Source
from keys import services as keys
from keys.services import Principal
from relay import counting, settlement, snapshot
from relay.channels import routing, upstream
from relay.channels.routing import Candidate
from relay.channels.upstream import Reply
from relay.errors import Cause, RelayError
from relay.guard import Guard, Interrupted, Why
from relay.http import Answer, Outlet, Request
from relay.protocols.openai import errors as wire_errors
from relay.protocols.openai import request as wire_request
from relay.protocols.openai import response as wire_response
from relay.protocols.openai.request import ChatRequest
from relay.protocols.openai.response import ChatAnswer
from relay.protocols.openai.stream import ChatStream
from relay.records import Attempt, Call
from relay.settlement import Ending

log = structlog.get_logger(__name__)

MOST_ATTEMPTS = 3
# A model whose longest answer nobody wrote down is held, and asked, for this many tokens.
USUAL_OUTPUT = 4096
# Below this many affordable output tokens an answer is not worth asking for.
LEAST_OUTPUT = 16
AFTER_FINISH = 2.0  # seconds that usage and the end of a stream may take once all of its answers are finished
CLIENT_LEFT = 499  # nginx's number for it; no client ever sees it
_random = random.Random(os.urandom(32))


async def chat(request: Request, call: Call) -> Answer:
    """One chat completion, whole or streamed, for `call.principal`. Raises RelayError for a call that gets no answer,
    and holds.KeyClaimed where its idempotency key has just been taken by another."""
    asked = wire_request.decode(request.body)
    view = await snapshot.ready()
    model, price, call.candidates = find_model(view, asked, call)
    limit = await open_hold(asked, model, price, call)
    guard = Guard(lasting=request.client.watch)
    try:
        begun = await attempts(asked, limit, call, guard, request)
    except BaseException as failure:
        await void(asked, call, failure)
        raise
    if isinstance(begun, ChatAnswer):
        return await deliver_whole(begun, asked, call, guard)
    return deliver_stream(begun, asked, call, guard)


# ---- before anything moves ------------------------------------------------------------------------------------------


async def authenticate(token: str | None, call: Call) -> Principal:
    """Who calls. Raises RelayError for a key that is not in force, or not from this address or for this endpoint."""
    try:
        principal = await keys.authenticate(token)
    except keys.InvalidKey as error:
        raise RelayError(Cause.INVALID_API_KEY, _key_message(error)) from error
    except Exception as error:
        log.error("keys.unavailable", error=type(error).__name__)
        raise RelayError(Cause.UNAVAILABLE, "The gateway cannot check the key now.", retry_after=1) from error
    if not principal.may_come_from(call.client_ip):
        raise RelayError(Cause.PERMISSION_DENIED, "This key may not be used from this address.")
    if not principal.may_call(call.endpoint):
        raise RelayError(Cause.PERMISSION_DENIED, "This key may not use this endpoint.")
    return principal


def _key_message(error: keys.InvalidKey) -> str:
    if error.why == "missing":
        return "No API key was given. Send it as `Authorization: Bearer pisces-…`."
    what = {"paused": "is paused", "revoked": "was revoked", "expired": "has expired"}.get(error.why, "is not valid")
    return f"The API key {error.masked} {what}."


def find_model(view: snapshot.Snapshot, asked: ChatRequest, call: Call) -> tuple[Model, Price, list[Candidate]]:
    """The model, its price in force and the channels to try. Raises RelayError where one of them is missing."""
    assert call.principal
    call.model = asked.model or view.defaults.get(call.endpoint, "")
    call.streamed = asked.stream
    if not call.model:
        raise RelayError(Cause.INVALID_PARAMETER, "`model` is missing.", param="model")
    model = view.models.get(call.model)
    price = model.price_at(time.time()) if model else None
    if model is None or price is None or model.kind != "chat" or call.model not in view.routes:
        raise RelayError(Cause.INVALID_MODEL, f"The model {call.model[:200]!r} is not offered here.", param="model")
    if not call.principal.may_use(call.model):
        raise RelayError(Cause.PERMISSION_DENIED, f"This key may not use the model {call.model!r}.", param="model")
    call.price = price
    return model, price, routing.in_order(view.routes[call.model], _random)[:MOST_ATTEMPTS]


async def open_hold(asked: ChatRequest, model: Model, price: Price, call: Call) -> int | None:
    """Reserves the most that the call can cost. Returns the output limit to ask for, None to leave the request's.

    The prompt's bytes bound its tokens; it is counted only where the money does not reach for these.
    """
    models = {candidate.model for candidate in call.candidates}
    by_bytes = asked.input_bound(*models)
    try:
        return await _hold(by_bytes, asked, model, price, call)
    except RelayError as refused:
        if refused.cause is not Cause.INSUFFICIENT_QUOTA:
            raise
        counted = await counting.tighter_bound(asked, *models)
        if counted is None or counted >= by_bytes:
            raise
    return await _hold(counted, asked, model, price, call)


async def _hold(input_tokens: int, asked: ChatRequest, model: Model, price: Price, call: Call) -> int | None:
    principal = call.principal
    assert principal
    bound = prices.bound(price.card, input_tokens=input_tokens, mode=principal.billing, multiplier=principal.multiplier)
    wanted_tokens = asked.limit or model.max_output or USUAL_OUTPUT
    least_tokens = min(wanted_tokens, LEAST_OUTPUT)
    began = call.elapsed_ms()
    try:
        call.hold = await holds.hold(
            call=call.id,
            account=principal.account,
            wanted=bound.amount(wanted_tokens * asked.n),
            minimum=bound.amount(least_tokens * asked.n),
            price=price.id,
            budgets=principal.budgets,
            facts=call.facts(),
            created_at=call.created_at,
            claim=call.claim,
            late=call.late_rows,
        )
    except holds.BudgetSpent as error:
        raise RelayError(Cause.INSUFFICIENT_QUOTA, "The quota of this key is spent.") from error
    except holds.Insufficient as error:
        raise RelayError(Cause.INSUFFICIENT_QUOTA, "The balance cannot pay for this call.") from error
    except holds.AccountFrozen as error:
        raise RelayError(Cause.PERMISSION_DENIED, "The account is frozen.") from error
    except holds.KeyChanged as error:
        keys.forget_all()
        raise RelayError(Cause.UNAVAILABLE, "The key's quota has just been changed.", retry_after=1) from error
    except holds.LedgerUnavailable as error:
        raise RelayError(Cause.UNAVAILABLE, "The ledger cannot be written now.", retry_after=1) from error
    call.hold_ms = round(call.elapsed_ms() - began, 3)
    if bound.per_million == 0:
        return None
    affordable = min(wanted_tokens, bound.affordable(call.hold.amount) // asked.n)
    return affordable if asked.limit is None or affordable < asked.limit else None


# ---- the upstream ---------------------------------------------------------------------------------------------------


class Begun(NamedTuple):
    """A stream whose first bytes for the client are there."""

    reply: Reply
    stream: ChatStream
    first: bytes


async def attempts(
    asked: ChatRequest, limit: int | None, call: Call, guard: Guard, request: Request
) -> ChatAnswer | Begun:
    """A whole answer or the beginning of a stream, from the first channel that gives one.

    A failure before the upstream's first byte goes to the next channel, one after it does not.
    """
    failure: RelayError | None = None
    for candidate in call.candidates:
        secret = _random.choice(candidate.credentials) if candidate.credentials else None
        attempt = Attempt(candidate, secret, call.elapsed_ms())
        call.attempts.append(attempt)
        # Whoever brings an idempotency key means to ask again: there should be an answer then.
        drained = candidate.on_hangup == "drain" or call.claim is not None
        request.client.drain = settings.DRAIN_ON_HANGUP if drained else None
        body = asked.encode(model=candidate.model, limit=limit)
        try:
            return await _attempt(attempt, body, asked, call, guard)
        except RelayError as error:
            _note_failure(attempt, error, call)
            if error.cause is Cause.UPSTREAM_REJECTED or guard.left or attempt.first_byte_ms is not None:
                raise
            failure = error
    raise failure or RelayError(Cause.UNAVAILABLE, "No channel can serve this model now.", retry_after=5)


async def _attempt(attempt: Attempt, body: bytes, asked: ChatRequest, call: Call, guard: Guard) -> ChatAnswer | Begun:
    timeouts = attempt.candidate.timeouts
    guard.limit(timeouts.total)
    guard.expect(Why.FIRST_BYTE, timeouts.first_byte)
    reply: Reply | None = None
    begun: Begun | None = None
    assert call.hold
    holds.note(call.hold, Progress(len(call.attempts), asked.text_bytes))
    failpoints.hit("before_dispatch")
    try:
        with guard:
            reply = await upstream.post(
                attempt.candidate, attempt.secret, "/chat/completions", body, stream=asked.stream
            )
            attempt.status = reply.status
            if reply.status != 200:
                content = await reply.read_error()
                raise wire_errors.decode(reply.status, content, retry_after=reply.retry_after)
            if asked.stream:
                begun = await _first_events(reply, asked, attempt, call)
                return begun
            attempt.first_byte_ms = call.elapsed_ms()
            holds.watch(call.hold, _arrival(reply, asked, call))
            failpoints.hit("after_first_byte")
            guard.expect(Why.IDLE, timeouts.idle)
            return wire_response.decode(await reply.read(guard))
    except Interrupted as stopped:
        if stopped.why is Why.LEFT or guard.left:
            call.arrived = reply.received if reply else 0
            raise
        raise RelayError(Cause.UPSTREAM_TIMEOUT, f"The provider was silent for too long ({stopped.why}).") from stopped
    finally:
        if reply is not None and begun is None:
            reply.close()


def _arrival(reply: Reply, asked: ChatRequest, call: Call) -> Callable[[], Progress]:
    """How much of a whole answer has come."""
    number = len(call.attempts)
    return lambda: Progress(number, asked.text_bytes, reply.received, answering=True)


async def _first_events(reply: Reply, asked: ChatRequest, attempt: Attempt, call: Call) -> Begun:
    """Reads until there is something for the client, so that an upstream that fails at once is a plain error."""
    stream = ChatStream(
        model=call.model, wants_usage=asked.wants_usage, n=asked.n, upstream_model=attempt.candidate.model
    )
    while True:
        with reply.reading():
            data = await reply.chunk()
        out = stream.feed(data) if data else stream.close()
        if stream.failure is not None and not out:
            raise stream.failure
        if out or stream.done or stream.finish or not data:
            attempt.first_byte_ms = call.elapsed_ms()  # comments are no answer: nothing is owed for them
            return Begun(reply, stream, out)


def _note_failure(attempt: Attempt, error: RelayError, call: Call) -> None:
    if attempt.secret is not None:  # some providers repeat the key that they refuse
        error.message = error.message.replace(attempt.secret.value, "***")
    attempt.outcome, attempt.detail, attempt.ended_ms = error.cause.value, error.message, call.elapsed_ms()


async def void(asked: ChatRequest, call: Call, failure: BaseException) -> None:
    """Nothing was put out: gives the hold back and records why. A client that left in mid-answer pays for what came."""
    attempt = call.attempt
    if isinstance(failure, Interrupted):
        ending = Ending("left", status=CLIENT_LEFT, error="client_left")
        if attempt is not None:
            attempt.outcome, attempt.ended_ms = "client_left", call.elapsed_ms()
            if attempt.first_byte_ms is not None:
                ending.usage = await counting.usage(asked, call.arrived, attempt.candidate.model)
                ending.source = Source.COUNTED
        settlement.price(call, ending)
        await settlement.book(call, ending)
        return
    error = failure if isinstance(failure, RelayError) else _unforeseen(failure)
    if attempt is not None and not attempt.outcome:
        _note_failure(attempt, error, call)
    await settlement.book(call, Ending("failed", status=error.status, error=error.entry.code))


def _unforeseen(failure: BaseException) -> RelayError:
    """A task is cancelled by nobody but a server that ends and has waited long enough."""
    if isinstance(failure, asyncio.CancelledError):
        return RelayError(Cause.UNAVAILABLE, "The gateway is shutting down.", retry_after=1)
    return RelayError(Cause.INTERNAL, "The gateway failed.")


# ---- the answer -----------------------------------------------------------------------------------------------------


async def deliver_whole(answer: ChatAnswer, asked: ChatRequest, call: Call, guard: Guard) -> Answer:
    """Settles the answer, and hands it over with what it cost."""
    attempt = call.attempts[-1]
    attempt.outcome, attempt.ended_ms = "complete", call.elapsed_ms()
    call.upstream_id, call.finish = answer.id, answer.finish
    ending = Ending("left" if guard.left else "settled", status=200)
    model = attempt.candidate.model
    if answer.usage is not None:
        ending.usage, ending.source = answer.usage, Source.REPORTED
        counting.learn(asked, lambda: answer.seen(model), model, answer.usage)
    else:
        ending.usage, ending.source = await counting.usage(asked, answer.seen(model), model), Source.COUNTED
    ending.error = settlement.doubt(answer.usage, answer.output_bytes)
    settlement.price(call, ending)
    body = answer.encode(model=call.model, pisces=pisces(call))
    whole = Answer(200, [(b"content-type", b"application/json"), *_headers(call), *_cost_header(call)], body)
    await settlement.book(call, ending, whole)
    return whole


def deliver_stream(begun: Begun, asked: ChatRequest, call: Call, guard: Guard) -> Answer:
    """The answer's head now, and a pump for the rest. The pump owns the settlement, whatever the client does."""
    reply, stream, first = begun
    kind = (b"content-type", b"text/event-stream; charset=utf-8")
    headers = [kind, (b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no"), *_headers(call)]

    async def pump(outlet: Outlet) -> None:
        if call.claim is not None:
            outlet.keep(most=settings.MAX_STORED_ANSWER)
        try:
            failure = await _forward(reply, stream, first, asked, call, guard, outlet)
            if failure is not None or guard.left:
                reply.close()
            end = await _finish_stream(stream, asked, call, guard, Answer(200, headers), outlet, failure)
            outlet.put(end)
            await reply.finish()
        except BaseException as broken:
            error = _unforeseen(broken)
            if not call.closed:
                ending = await _stream_ending(stream, asked, call, guard, error)
                settlement.price(call, ending)
                await settlement.book(call, ending)
            outlet.put(wire_errors.encode_event(error, pisces(call)))
            if not isinstance(broken, asyncio.CancelledError):
                log.error("relay.defect", call=str(call.id), exc_info=broken)
            raise
        finally:
            reply.close()

    return Answer(200, headers, pump=pump)


async def _forward(
    reply: Reply, stream: ChatStream, first: bytes, asked: ChatRequest, call: Call, guard: Guard, outlet: Outlet
) -> RelayError | None:
    """Chunk by chunk until the upstream has ended. What went wrong, or None; a client that left is `guard.left`."""
    assert call.hold is not None
    number = len(call.attempts)
    holds.watch(call.hold, lambda: _stream_progress(stream, asked, number))
    failpoints.hit("after_first_byte")
    idle = call.attempts[-1].candidate.timeouts.idle
    guard.expect(Why.IDLE, idle)
    try:
        with guard, reply.reading():
            outlet.put(first)
            while not stream.done and stream.failure is None:
                if stream.finish and stream.finished:
                    guard.expect(Why.IDLE, AFTER_FINISH)
                data = await reply.chunk()
                guard.signs += 1
                out = stream.feed(data) if data else stream.close()
                if out:
                    outlet.put(out)
                if not data:
                    break
                if outlet.behind and not guard.left:
                    guard.expect(Why.STALLED, settings.SEND_STALL)
                    await outlet.caught_up()
                    guard.expect(Why.IDLE, idle)
    except Interrupted as stopped:
        if stopped.why is Why.STALLED:
            guard.left = True
        if guard.left or stream.finished:
            return None
        return RelayError(Cause.UPSTREAM_TIMEOUT, f"The provider stopped in mid-answer ({stopped.why}).")
    except RelayError as error:
        return error
    return stream.failure


def _stream_progress(stream: ChatStream, asked: ChatRequest, number: int) -> Progress:
    failpoints.hit("mid_stream")
    buckets = dict(stream.usage.buckets()) if stream.usage else None
    return Progress(number, asked.text_bytes, stream.output_bytes, answering=True, usage=buckets)


async def _finish_stream(
    stream: ChatStream,
    asked: ChatRequest,
    call: Call,
    guard: Guard,
    answer: Answer,
    outlet: Outlet,
    failure: RelayError | None,
) -> bytes:
    """Books the stream and returns its last bytes. `answer` is its head, to be kept with what was put out."""
    attempt = call.attempts[-1]
    attempt.ended_ms = call.elapsed_ms()
    if failure is not None:
        _note_failure(attempt, failure, call)
    else:
        attempt.outcome = "client_left" if guard.left else "complete"
    ending = await _stream_ending(stream, asked, call, guard, failure)
    settlement.price(call, ending)
    told = pisces(call)
    end = wire_errors.encode_event(failure, told) if failure is not None else stream.last(told)
    broken_off = guard.left and not stream.finished
    body = outlet.kept(end) if not broken_off else None
    try:
        await settlement.book(call, ending, Answer(200, answer.headers, body) if body is not None else None)
    except RelayError as error:
        return wire_errors.encode_event(error, pisces(call))
    return end


async def _stream_ending(
    stream: ChatStream, asked: ChatRequest, call: Call, guard: Guard, failure: RelayError | None
) -> Ending:
    """Reported usage is believed; without it, what was seen is counted. An answer that failed without any output costs
    nothing; whoever left after its first event pays for the input at least."""
    model = call.attempts[-1].candidate.model
    call.upstream_id, call.finish = stream.id, stream.finish
    if failure is not None:
        ending = Ending("failed", status=failure.status, error=failure.entry.code)
    elif guard.left:
        ending = Ending("left", status=CLIENT_LEFT, error="client_left")
    else:
        ending = Ending("settled", status=200, error=settlement.doubt(stream.usage, stream.output_bytes))
    if stream.usage is not None:
        ending.usage, ending.source = stream.usage, Source.REPORTED
        if ending.state == "settled":
            counting.learn(asked, lambda: stream.seen, model, stream.usage)
    elif stream.output_bytes or ending.state != "failed":
        ending.usage, ending.source = await counting.usage(asked, stream.seen, model), Source.COUNTED
    return ending


# ---- what the caller is told ----------------------------------------------------------------------------------------


def pisces(call: Call) -> dict[str, Any]:
    """The gateway's own object in an answer (requirement F1). `cost` is there once it is known."""
    told: dict[str, Any] = {
        "gateway": "Pisces",
        "protocol": call.protocol,
        "request_id": call.request_id,
        "channel": call.channel,
        "timestamp": int(time.time()),
    }
    if call.charge is not None:
        told["cost"] = money.to_text(call.charge.amount)
    told["dropped"] = []
    told["retries"] = max(0, len(call.attempts) - 1)
    return told


def _headers(call: Call) -> list[tuple[bytes, bytes]]:
    return [(b"x-pisces-channel", call.channel.encode("ascii", "replace"))]


def _cost_header(call: Call) -> list[tuple[bytes, bytes]]:
    return [(b"x-pisces-cost", money.to_text(call.charge.amount).encode())] if call.charge else []
