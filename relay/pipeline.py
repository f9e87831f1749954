"""The life of a call, from door to door (DESIGN, section 1). Reads top to bottom; no step knows the step after it.

Money's two rules hold on every path through here: the hold is durable before the first byte goes to an upstream, and
the settlement is durable before the last byte goes to the client. All of it runs in the request's task, which reads
the upstream and owns the settlement; the client only takes from the outlet what is there.
"""

import time
from collections.abc import Sequence
from typing import cast

import msgspec
import structlog

from billing import holds, prices
from billing.catalog import Model
from billing.prices import Bound
from billing.usage import Source, Usage
from keys import limits
from keys import services as keys
from keys.models import KeyType
from keys.services import Principal
from relay import counting, delivery, demo, dispatch, settlement, snapshot, streams
from relay.channels.routing import Candidate
from relay.errors import Cause, RelayError
from relay.guard import Guard, Interrupted
from relay.http import Answer, Request
from relay.protocols import lasting, searches
from relay.protocols.codec import Asked, Chat
from relay.records import Call
from relay.settlement import Ending

log = structlog.get_logger(__name__)

# A model whose longest answer nobody wrote down is held, and asked, for this many tokens.
USUAL_OUTPUT = 4096
# Below this many affordable output tokens an answer is not worth asking for.
LEAST_OUTPUT = 16


async def chat(request: Request, call: Call, asked: Asked) -> Answer:
    """One answer of a model, whole or streamed, for `call.principal`. Raises RelayError for a call that gets none, and
    holds.KeyClaimed where its idempotency key has just been taken by another."""
    view = await snapshot.ready()
    model, candidates = find_model(view, asked, call)
    await within_limits(asked, _wanted_output(asked, model), call)
    dispatch.plan(candidates, asked, call, request)
    try:
        limit = await open_hold(asked, model, call)
    except BaseException:
        dispatch.abandon(call)
        raise
    guard = Guard(lasting=request.client.watch)
    try:
        begun = await dispatch.attempts(asked, limit, call, guard, request)
    except BaseException as failure:
        await void(asked, call, failure)
        raise
    if isinstance(begun, dispatch.Begun):
        return delivery.stream(begun, cast(Chat, asked), call, guard)
    return await delivery.whole(begun, asked, call, guard)


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
    if principal.type == KeyType.MANAGEMENT:
        raise RelayError(Cause.PERMISSION_DENIED, "A management key calls no models; it is for the management API.")
    return principal


def _key_message(error: keys.InvalidKey) -> str:
    if error.why == "missing":
        return "No API key was given. Send it as `Authorization: Bearer pisces-…`."
    what = {"paused": "is paused", "revoked": "was revoked", "expired": "has expired"}.get(error.why, "is not valid")
    return f"The API key {error.masked} {what}."


def find_model(view: snapshot.Snapshot, asked: Asked, call: Call) -> tuple[Model, Sequence[Candidate]]:
    """The model and the channels that have it; its price in force becomes the call's. Raises RelayError where one of
    them is missing."""
    assert call.principal
    call.model = asked.model or view.defaults.get(call.endpoint, "")
    call.streamed = asked.stream
    if not call.model:
        raise RelayError(Cause.INVALID_PARAMETER, "`model` is missing.", param="model")
    model = view.models.get(call.model)
    price = model.price_at(time.time(), group=call.principal.group) if model else None
    if model is None or price is None or model.kind != asked.kind or call.model not in view.routes:
        raise RelayError(Cause.INVALID_MODEL, f"The model {call.model[:200]!r} is not offered here.", param="model")
    if not call.principal.may_use(call.model):
        raise RelayError(Cause.PERMISSION_DENIED, f"This key may not use the model {call.model!r}.", param="model")
    call.price, call.multiplier = price, price.times(call.principal.multiplier)
    candidates = within_reach(call.principal, view.routes[call.model])
    if not candidates:
        raise RelayError(Cause.INVALID_MODEL, "A test key reaches the demo channel's models only.", param="model")
    if call.principal.type == KeyType.TEST:
        call.at_flat_rate(0)
    return model, candidates


def within_reach(principal: Principal, candidates: Sequence[Candidate]) -> Sequence[Candidate]:
    """Those of a model's channels that a key of this type is sent to."""
    if principal.type != KeyType.TEST:
        return candidates
    return tuple(candidate for candidate in candidates if candidate.base_url == demo.ADDRESS)


async def within_limits(asked: Asked, most_output: int, call: Call) -> None:
    """Takes the call's place in the limits of its key and its team. Raises RelayError where one of them is reached."""
    assert call.principal
    if not call.principal.scopes:
        return
    call.estimate = limits.estimate(text_bytes=asked.text_bytes, max_output=most_output, answers=asked.n)
    try:
        slip = await limits.admit(call.principal.scopes, tokens=call.estimate)
    except limits.LimitReached as reached:
        call.rate_headers = reached.headers(call.protocol)
        raise RelayError(Cause.RATE_LIMITED, str(reached), retry_after=reached.retry_after) from reached
    call.slips.append(slip)
    call.rate_headers = slip.headers(call.protocol)


async def open_hold(asked: Asked, model: Model, call: Call) -> int | None:
    """Reserves the most that the call can cost. Returns the output limit to ask for, None to leave the request's.

    The prompt's bytes bound its tokens; it is counted only where the money does not reach for these.
    """
    assert call.principal
    wanted = _wanted_output(asked, model)
    if call.flat is None and call.principal.plans and await _by_plan(call):
        return None
    models = {candidate.model for candidate in call.candidates}
    by_bytes = asked.input_bound(*models) + _passed_as_text(asked, call)
    units = _units(by_bytes, asked, call)
    bound = _bound(by_bytes, units, call)
    try:
        await _hold(bound, wanted, asked, call)
    except RelayError as refused:
        if refused.cause is not Cause.INSUFFICIENT_QUOTA or (tighter := await _counted(by_bytes, asked, call)) is None:
            raise
        bound = _bound(tighter, units, call)
        await _hold(bound, wanted, asked, call)
    else:
        if (
            _affordable(bound, wanted, asked, call) < wanted
            and (tighter := await _counted(by_bytes, asked, call)) is not None
        ):  # of the same money more is left for the answer
            bound = _bound(tighter, units, call)
    affordable = _affordable(bound, wanted, asked, call)
    return affordable if wanted and bound.per_million and (asked.limit is None or affordable < asked.limit) else None


async def _by_plan(call: Call) -> bool:
    """Whether one of the team's plans of calls pays for this one, wholly."""
    assert call.principal
    assert call.price
    for plan in call.principal.plans:
        if plan.rate is not None and plan.covers(call.model):
            listed, multiplier = call.price, call.multiplier
            call.at_flat_rate(plan.rate)
            try:
                await _reserve(call, plan.rate, plan.rate, plans=(plan.account,), wallet_pays=False)
            except holds.Insufficient:
                call.price, call.multiplier, call.flat = listed, multiplier, None
            else:
                return True
    return False


def _wanted_output(asked: Asked, model: Model) -> int:
    """The most tokens that each answer may have."""
    if asked.kind != "chat":
        return 0
    return asked.limit if asked.limit is not None else model.max_output or USUAL_OUTPUT


def _bound(input_tokens: int, units: Usage, call: Call) -> Bound:
    assert call.principal
    assert call.price
    card, mode = call.price.card, call.principal.billing
    return prices.bound(card, input_tokens=input_tokens, units=units, mode=mode, multiplier=call.multiplier)


def _units(input_tokens: int, asked: Asked, call: Call) -> Usage:
    """What of the call's price only some calls may come to."""
    assert call.price
    added = [candidate.dress.parameters for candidate in call.candidates if candidate.dress.parameters]
    # What the client asks for, and what the operators of its channels do.
    bodies = [asked.body, *map(msgspec.json.encode, added)]
    kept = input_tokens if any(map(lasting.for_an_hour, bodies)) else None
    found = (max(map(searches.most, bodies)) or None) if "searches" in call.price.card.rates else None
    return Usage(cache_write_1h=kept, searches=found) if kept or found else prices.NO_UNITS


async def _counted(by_bytes: int, asked: Asked, call: Call) -> int | None:
    """A bound on the input by counting it; None where that is no less than the one by its bytes."""
    counted = await counting.tighter_bound(asked, *{candidate.model for candidate in call.candidates})
    bound = None if counted is None else counted + _passed_as_text(asked, call)
    return bound if bound is not None and bound < by_bytes else None


def _passed_as_text(asked: Asked, call: Call) -> int:
    """The bytes of pictures that a channel may be sent as the text in which the client shows them."""
    if not asked.shown:
        return 0
    passes = any(candidate.protocol == asked.protocol for candidate in call.candidates)
    return asked.shown if passes else 0


def _affordable(bound: Bound, wanted: int, asked: Asked, call: Call) -> int:
    """The output tokens of each answer that the hold pays for, at most those that are wanted."""
    assert call.hold
    return min(wanted, bound.affordable(call.hold.amount) // asked.n) if bound.per_million else wanted


async def _hold(bound: Bound, wanted: int, asked: Asked, call: Call) -> None:
    assert call.principal
    most, least = bound.amount(wanted * asked.n), bound.amount(min(wanted, LEAST_OUTPUT) * asked.n)
    plans = call.principal.plans
    paying = tuple(plan.account for plan in plans if plan.rate is None and plan.covers(call.model)) if plans else ()
    try:
        await _reserve(call, most, least, plans=paying)
    except holds.Insufficient as error:
        raise RelayError(Cause.INSUFFICIENT_QUOTA, "The balance cannot pay for this call.") from error


async def _reserve(call: Call, wanted: int, minimum: int, *, plans: tuple[int, ...], wallet_pays: bool = True) -> None:
    """Opens the call's hold. Raises holds.Insufficient, and RelayError where more money would not help."""
    principal = call.principal
    assert principal
    assert call.price
    began = call.elapsed_ms()
    try:
        call.hold = await holds.hold(
            call=call.id,
            account=principal.account,
            wanted=wanted,
            minimum=minimum,
            price=call.price.id,
            budgets=principal.budgets,
            facts=call.facts(),
            created_at=call.created_at,
            claim=call.claim,
            plans=plans,
            wallet_pays=wallet_pays,
            on_credit=principal.on_credit,
            late=call.late_rows,
        )
    except holds.BudgetSpent as error:
        raise RelayError(Cause.INSUFFICIENT_QUOTA, "The quota of this key is spent.") from error
    except holds.InvoiceOverdue as error:
        message = "An invoice of this account is overdue; once it is paid, its keys work again."
        raise RelayError(Cause.PERMISSION_DENIED, message) from error
    except holds.AccountFrozen as error:
        raise RelayError(Cause.PERMISSION_DENIED, "The account is frozen.") from error
    except holds.KeyChanged as error:
        keys.forget_all()
        raise RelayError(Cause.UNAVAILABLE, "The key's quota has just been changed.", retry_after=1) from error
    except holds.LedgerUnavailable as error:
        raise RelayError(Cause.UNAVAILABLE, "The ledger cannot be written now.", retry_after=1) from error
    call.hold_ms = round(call.elapsed_ms() - began, 3)


async def void(asked: Asked, call: Call, failure: BaseException) -> None:
    """Nothing was put out: gives the hold back and records why. A client that left in mid-answer pays for what came."""
    attempt = call.attempt
    if isinstance(failure, Interrupted):
        ending = Ending("left", status=delivery.CLIENT_LEFT, error="client_left")
        if attempt is not None and not attempt.outcome:  # one that has failed is owed nothing
            dispatch.note_end(attempt, "client_left", call)
            if attempt.first_byte_ms is not None:
                await _reckon(ending, asked, call, attempt.candidate.model)
        settlement.price(call, ending)
        await settlement.book(call, ending)
        return
    error = failure if isinstance(failure, RelayError) else delivery.unforeseen(failure)
    if attempt is not None and not attempt.outcome:
        dispatch.note_failure(attempt, error, call)
    await settlement.book(call, Ending("failed", status=error.status, error=error.entry.code))


async def _reckon(ending: Ending, asked: Asked, call: Call, model: str) -> None:
    """What is owed for an answer that was to come whole and did not."""
    if call.folding is not None:
        await streams.reckon(ending, call.folding, asked, model)
    else:
        ending.usage, ending.source = await counting.usage(asked, call.arrived, model), Source.COUNTED
