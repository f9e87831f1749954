"""An answer on its way to the client, whole or streamed, and the settlement that has to be durable before its end."""

import asyncio
import math
import time
from typing import Any

import structlog
from django.conf import settings

from billing import money
from billing import usage as usages
from billing.usage import Source
from relay import counting, settlement, stored_responses, streams
from relay.channels.upstream import Reply
from relay.dispatch import Begun, note_end, note_failure
from relay.errors import Cause, RelayError
from relay.guard import Guard, Interrupted, Why
from relay.http import Answer, Outlet
from relay.keepalive import KeepAlive
from relay.protocols.codec import Asked, Chat, Stream, Whole
from relay.records import Call
from relay.settlement import Ending

log = structlog.get_logger(__name__)

CLIENT_LEFT = 499  # nginx's number for it; no client ever sees it


async def whole(answer: Whole, asked: Asked, call: Call, guard: Guard) -> Answer:
    """Settles the answer, and hands it over with what it cost."""
    attempt = call.attempts[-1]
    note_end(attempt, "complete", call)
    call.upstream_id, call.finish = answer.id, answer.finish
    ending = Ending("left" if guard.left else "settled", status=200)
    model = attempt.candidate.model
    if answer.usage is not None:
        ending.usage, ending.source = answer.usage, Source.REPORTED
        ending.error = settlement.doubt(answer)
        counting.learn(asked, lambda: answer.seen(model), model, answer.usage)
    else:
        ending.usage, ending.source = await counting.usage(asked, answer.seen(model), model), Source.COUNTED
    ending.usage = usages.searched(ending.usage, attempt.searches)
    settlement.price(call, ending)
    told = pisces(call)
    body = answer.encode(model=call.model, pisces=told, counted=ending.counted)
    full = Answer(200, [(b"content-type", b"application/json"), *_headers(call), *_cost_header(told)], body)
    await settlement.book(call, ending, full, await stored_responses.rows(call, asked))
    return full


def stream(begun: Begun, asked: Chat, call: Call, guard: Guard) -> Answer:
    """The answer's head now, and a pump for the rest. The pump owns the settlement, whatever the client does."""
    reply, stream, first = begun
    kind = (b"content-type", asked.stream_type)
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
            error = unforeseen(broken)
            if not call.closed:
                ending = await _stream_ending(stream, asked, call, guard, error)
                settlement.price(call, ending)
                await settlement.book(call, ending)
            outlet.put(stream.fail(error, pisces(call)))
            if not isinstance(broken, asyncio.CancelledError):
                log.error("relay.defect", call=str(call.id), exc_info=broken)
            raise
        finally:
            reply.close()

    return Answer(200, headers, pump=pump)


async def _forward(
    reply: Reply, stream: Stream, first: bytes, asked: Asked, call: Call, guard: Guard, outlet: Outlet
) -> RelayError | None:
    """Chunk by chunk until the upstream has ended. What went wrong, or None; a client that left is `guard.left`."""
    streams.watch(stream, asked, call)
    idle = call.attempts[-1].candidate.timeouts.idle
    guard.expect(Why.IDLE, idle)
    try:
        with guard, reply.reading, KeepAlive(guard, stream, outlet):
            outlet.put(first)
            while not stream.done and stream.failure is None:
                if stream.finished:
                    guard.expect(Why.IDLE, streams.AFTER_FINISH)
                data = await reply.chunk()
                guard.signs += 1
                out = stream.feed(data) if data else stream.close()
                if out:
                    outlet.put(out)
                if not data:
                    break
                if outlet.behind and not guard.left:
                    guard.expect(Why.IDLE, math.inf)  # the provider waits for the client now
                    if not await outlet.caught_up(within=settings.SEND_STALL):
                        raise Interrupted(Why.STALLED)
                    guard.expect(Why.IDLE, idle)
    except Interrupted as stopped:
        if stopped.why is Why.STALLED:
            guard.left = True
        if stream.finished:
            outlet.put(stream.close())  # only the report of its usage did not come
            return stream.failure
        if guard.left:
            return None
        return RelayError(Cause.UPSTREAM_TIMEOUT, f"The provider stopped in mid-answer ({stopped.why}).")
    except RelayError as error:
        return error
    return stream.failure


async def _finish_stream(
    stream: Stream,
    asked: Asked,
    call: Call,
    guard: Guard,
    answer: Answer,
    outlet: Outlet,
    failure: RelayError | None,
) -> bytes:
    """Books the stream and returns its last bytes. `answer` is its head, to be kept with what was put out."""
    attempt = call.attempts[-1]
    if failure is not None:
        note_failure(attempt, failure, call)
    else:
        note_end(attempt, "client_left" if guard.left else "complete", call)
    ending = await _stream_ending(stream, asked, call, guard, failure)
    settlement.price(call, ending)
    told = pisces(call)
    broken_off = guard.left and not stream.finished
    end = b""  # an answer that nobody waits for any more has no last bytes
    if failure is not None:
        end = stream.fail(failure, told)
    elif not broken_off:
        end = stream.last(told, ending.counted)
    body = outlet.kept(end) if not broken_off else None
    kept = await stored_responses.rows(call, asked)
    try:
        await settlement.book(call, ending, Answer(200, answer.headers, body) if body is not None else None, kept)
    except RelayError as error:
        return stream.fail(error, pisces(call))
    return end


async def _stream_ending(stream: Stream, asked: Asked, call: Call, guard: Guard, failure: RelayError | None) -> Ending:
    """How the stream ended, and what it used."""
    model = call.attempts[-1].candidate.model
    call.upstream_id, call.finish = stream.id, stream.finish
    if failure is not None:
        ending = Ending("failed", status=failure.status, error=failure.entry.code)
    elif guard.left:
        ending = Ending("left", status=CLIENT_LEFT, error="client_left")
    else:
        ending = Ending("settled", status=200)
    await streams.reckon(ending, stream, asked, model)
    return ending


def unforeseen(failure: BaseException) -> RelayError:
    """A task is cancelled by nobody but a server that ends and has waited long enough."""
    if isinstance(failure, asyncio.CancelledError):
        return RelayError(Cause.UNAVAILABLE, "The gateway is shutting down.", retry_after=1)
    return RelayError(Cause.INTERNAL, "The gateway failed.")


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
    told["dropped"] = call.dropped
    told["retries"] = max(0, sum(attempt.sent for attempt in call.attempts) - 1)
    return told


def _headers(call: Call) -> list[tuple[bytes, bytes]]:
    return [(b"x-pisces-channel", call.channel.encode("ascii", "replace"))]


def _cost_header(told: dict[str, Any]) -> list[tuple[bytes, bytes]]:
    return [(b"x-pisces-cost", told["cost"].encode())] if "cost" in told else []
