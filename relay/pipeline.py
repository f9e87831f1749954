"""The life of a call, from door to door (DESIGN, section 1). Reads top to bottom; no step knows the step after it.

Money's two rules hold on every path through here: the hold is durable before the first byte goes to an upstream, and
the settlement is durable before the last byte goes to the client.
"""

import asyncio
import os
import random
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import structlog
from django.conf import settings

from billing import holds, money, prices
from billing.catalog import Model, Price
from billing.operations import Row
from billing.prices import Charge
from billing.usage import Source, Usage
from keys import services as keys
from keys.services import Principal
from relay import counting, snapshot
from relay.channels import routing, upstream
from relay.channels.routing import Candidate
from relay.channels.upstream import Reply
from relay.errors import Cause, RelayError
from relay.guard import Guard, Interrupted, Why
from relay.http import Answer, Request, Write
from relay.protocols.openai import errors as wire_errors
from relay.protocols.openai import request as wire_request
from relay.protocols.openai import response as wire_response
from relay.protocols.openai.request import ChatRequest
from relay.protocols.openai.response import ChatAnswer
from relay.protocols.openai.stream import ChatStream
from relay.records import Attempt, Call

log = structlog.get_logger(__name__)

MOST_ATTEMPTS = 3
# A model whose longest answer nobody wrote down is held, and asked, for this many tokens.
USUAL_OUTPUT = 4096
# Below this many affordable output tokens an answer is not worth asking for.
LEAST_OUTPUT = 16
AFTER_FINISH = 2.0  # seconds that usage and the end of a stream may take once all of its answers are finished
CLIENT_LEFT = 499  # nginx's number for it; no client ever sees it
_random = random.Random(os.urandom(32))


async def chat(request: Request, call: Call, principal: Principal) -> Answer:
    """One chat completion, whole or streamed. Raises RelayError for a call that gets no answer."""
    call.principal = principal
    asked = wire_request.decode(request.body)
    view = await snapshot.ready()
    model, price, candidates = find_model(view, asked, principal, call)
    limit = await open_hold(asked, model, price, principal, call)
    guard = Guard(lasting=request.client.watch)
    try:
        begun = await attempts(asked, candidates, limit, call, guard, request)
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


def find_model(
    view: snapshot.Snapshot, asked: ChatRequest, principal: Principal, call: Call
) -> tuple[Model, Price, list[Candidate]]:
    """The model, its price in force and its channels in order. Raises RelayError where one of them is missing."""
    call.model = asked.model or view.defaults.get(call.endpoint, "")
    call.streamed = asked.stream
    if not call.model:
        raise RelayError(Cause.INVALID_PARAMETER, "`model` is missing.", param="model")
    model = view.models.get(call.model)
    price = model.price_at(time.time()) if model else None
    if model is None or price is None or model.kind != "chat" or call.model not in view.routes:
        raise RelayError(Cause.INVALID_MODEL, f"The model {call.model[:200]!r} is not offered here.", param="model")
    if not principal.may_use(call.model):
        raise RelayError(Cause.PERMISSION_DENIED, f"This key may not use the model {call.model!r}.", param="model")
    call.price = price
    return model, price, routing.in_order(view.routes[call.model], _random)


async def open_hold(asked: ChatRequest, model: Model, price: Price, principal: Principal, call: Call) -> int | None:
    """Reserves the most that the call can cost. Returns the output limit to ask for, None to leave the request's."""
    bound = prices.bound(price.card, input_tokens=asked.input_bound, mode=principal.billing)
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
    asked: ChatRequest,
    candidates: Sequence[Candidate],
    limit: int | None,
    call: Call,
    guard: Guard,
    request: Request,
) -> ChatAnswer | Begun:
    """A whole answer or the beginning of a stream, from the first channel that gives one.

    A failure before the upstream's first byte goes to the next channel, one after it does not.
    """
    failure: RelayError | None = None
    for candidate in candidates[:MOST_ATTEMPTS]:
        secret = _random.choice(candidate.credentials) if candidate.credentials else None
        attempt = Attempt(candidate, secret, call.elapsed_ms())
        call.attempts.append(attempt)
        request.client.drain = settings.DRAIN_ON_HANGUP if candidate.on_hangup == "drain" else None
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


async def _first_events(reply: Reply, asked: ChatRequest, attempt: Attempt, call: Call) -> Begun:
    """Reads until there is something for the client, so that an upstream that fails at once is a plain error."""
    stream = ChatStream(model=call.model, wants_usage=asked.wants_usage, n=asked.n)
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
        if attempt is not None:
            attempt.outcome, attempt.ended_ms = "client_left", call.elapsed_ms()
        if attempt is not None and attempt.first_byte_ms is not None:
            usage = _counted(asked, call.arrived)
            await _settle(call, usage, Source.COUNTED, state="left", status=CLIENT_LEFT, error="client_left")
            return
        await _close(call, None, call.rows("left", status=CLIENT_LEFT, error="client_left"))
        return
    error = failure if isinstance(failure, RelayError) else _unforeseen(failure)
    if attempt is not None and not attempt.outcome:
        _note_failure(attempt, error, call)
    await _close(call, None, call.rows("failed", status=error.status, error=error.entry.code))


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
    await _settle_whole(answer, asked, call, state="left" if guard.left else "settled")
    body = answer.encode(model=call.model, pisces=pisces(call))
    return Answer(200, [(b"content-type", b"application/json"), *_headers(call), *_cost_header(call)], body)


async def _settle_whole(answer: ChatAnswer, asked: ChatRequest, call: Call, *, state: str) -> None:
    usage, source = answer.usage, Source.REPORTED
    if usage is None:
        usage, source = _counted(asked, answer.output_bytes), Source.COUNTED
    await _settle(call, usage, source, state=state, status=200, error=_doubt(usage, answer.output_bytes))


def deliver_stream(begun: Begun, asked: ChatRequest, call: Call, guard: Guard) -> Answer:
    """The answer's head now, and a pump for the rest. The pump owns the settlement, whatever the client does."""
    reply, stream, first = begun

    async def pump(write: Write) -> None:
        try:
            failure = await _forward(reply, stream, first, asked, call, guard, write)
            if failure is not None or guard.left:
                reply.close()
            await _finish_stream(stream, asked, call, guard, write, failure)
            await reply.finish()
        except BaseException as broken:
            error = _unforeseen(broken)
            if not call.closed:
                await _settle_stream(stream, asked, call, state="failed", error=error.entry.code, status=error.status)
            await _last_write(write, wire_errors.encode_event(error, pisces(call)))
            if not isinstance(broken, asyncio.CancelledError):
                log.error("relay.defect", call=str(call.id), exc_info=broken)
            raise
        finally:
            reply.close()

    kind = (b"content-type", b"text/event-stream; charset=utf-8")
    headers = [kind, (b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no"), *_headers(call)]
    return Answer(200, headers, pump=pump)


async def _forward(
    reply: Reply, stream: ChatStream, first: bytes, asked: ChatRequest, call: Call, guard: Guard, write: Write
) -> RelayError | None:
    """Chunk by chunk until the upstream has ended. What went wrong, or None; a client that left is `guard.left`."""
    assert call.hold is not None
    holds.watch(call.hold, lambda: _progress(stream, asked))
    guard.expect(Why.IDLE, call.attempts[-1].candidate.timeouts.idle)
    out = first
    try:
        with guard, reply.reading():
            while True:
                if out and not guard.left:
                    await write(out)
                out = b""
                if stream.done or stream.failure is not None:
                    break
                if stream.finish and stream.finished:
                    guard.expect(Why.IDLE, AFTER_FINISH)
                data = await reply.chunk()
                guard.signs += 1
                out = stream.feed(data) if data else stream.close()
                if not data and not out:
                    break
    except Interrupted as stopped:
        if out:  # it was the client who stood still: nobody is there to be told
            guard.left = True
        if guard.left or stream.finished:
            return None
        return RelayError(Cause.UPSTREAM_TIMEOUT, f"The provider stopped in mid-answer ({stopped.why}).")
    except RelayError as error:
        return error
    return stream.failure


async def _finish_stream(
    stream: ChatStream, asked: ChatRequest, call: Call, guard: Guard, write: Write, failure: RelayError | None
) -> None:
    attempt = call.attempts[-1]
    attempt.ended_ms = call.elapsed_ms()
    if failure is not None:
        _note_failure(attempt, failure, call)
        await _settle_stream(stream, asked, call, state="failed", error=failure.entry.code, status=failure.status)
        await _last_write(write, wire_errors.encode_event(failure, pisces(call)))
    elif guard.left:
        attempt.outcome = "client_left"
        await _settle_stream(stream, asked, call, state="left", error="client_left", status=CLIENT_LEFT)
    else:
        attempt.outcome = "complete"
        try:
            await _settle_stream(stream, asked, call, state="settled", error="", status=200)
        except RelayError as error:
            await _last_write(write, wire_errors.encode_event(error, pisces(call)))
            return
        await _last_write(write, stream.last(pisces(call)))


async def _last_write(write: Write, data: bytes) -> None:
    """The books are written; a client that does not read any more must not keep the call alive."""
    try:
        async with asyncio.timeout(settings.SEND_STALL):
            await write(data)
    except TimeoutError:
        log.info("relay.client_stalled")


async def _settle_stream(
    stream: ChatStream, asked: ChatRequest, call: Call, *, state: str, error: str, status: int
) -> None:
    """Reported usage is believed; without it, what was seen is counted. An answer without any output costs nothing."""
    call.upstream_id, call.finish = stream.id, stream.finish
    if stream.usage is not None:
        error = error or _doubt(stream.usage, stream.output_bytes)
        await _settle(call, stream.usage, Source.REPORTED, state=state, status=status, error=error)
    elif stream.output_bytes or state == "settled":
        usage = _counted(asked, stream.output_bytes)
        await _settle(call, usage, Source.COUNTED, state=state, status=status, error=error)
    else:
        await _close(call, None, call.rows(state, status=status, error=error))


# ---- money ----------------------------------------------------------------------------------------------------------


async def _settle(call: Call, usage: Usage, source: Source, *, state: str, status: int, error: str = "") -> None:
    assert call.price
    assert call.hold
    assert call.principal
    charge = prices.charge(usage, call.price.card, mode=call.principal.billing)
    # An estimate never costs more than was held, nor does whoever hung up pay more. A report that no column can hold
    # is booked as the most that one can.
    bounded = source is not Source.REPORTED or state == "left"
    charge = prices.capped(charge, call.hold.amount if bounded else money.LIMIT)
    call.charge = charge
    rows = call.rows(state, status=status, error=error, usage=usage, source=source, charge=charge)
    await _close(call, charge, rows)


async def _close(call: Call, charge: Charge | None, rows: list[Row]) -> None:
    """Closes the hold, durably. Once handed to the books it is carried out, even if nobody waits any more."""
    assert call.hold is not None
    call.closed = True
    try:
        if charge is None:
            await holds.release(call.hold, rows=rows)
        else:
            await holds.settle(call.hold, charged=charge.amount, rows=rows)
    except (holds.LedgerUnavailable, holds.HoldLost) as error:
        raise RelayError(Cause.UNAVAILABLE, "The call could not be booked.", retry_after=1) from error


def _doubt(usage: Usage, output_bytes: int) -> str:
    """A provider that reports no output where some was seen is believed, but the record says so."""
    return "zero_usage" if output_bytes and not usage.tokens_out else ""


def _counted(asked: ChatRequest, output_bytes: int) -> Usage:
    return Usage(input=counting.estimate(asked.text_bytes), output=counting.estimate(output_bytes))


def _progress(stream: ChatStream, asked: ChatRequest) -> dict[str, Any]:
    """What a renewal of the lease stores, for the sweep to charge by if this process dies."""
    return {
        "usage": dict(stream.usage.buckets()) if stream.usage else None,
        "output_bytes": stream.output_bytes,
        "input_bytes": asked.text_bytes,
    }


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
