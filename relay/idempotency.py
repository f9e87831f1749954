"""`Idempotency-Key`: one call, one charge, one answer, however often it is sent (requirement F3).

The handler asks here for every route that costs money, so an endpoint has it by being routed. A key belongs to a wallet
and is claimed in the transaction of the call's hold; the answer is kept in that of its settlement, which is durable
before the last byte leaves. So whoever saw an answer whole gets the same bytes again, and whoever did not, and asks
again, is told to wait (409) or gets the answer that was paid for. A call that cost nothing frees its key.
"""

import asyncio
import datetime as dt
import hashlib
import uuid
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
from django.conf import settings
from django.utils import timezone

from billing import books, connections
from billing.models import OPEN_STATES, Hold, HoldState, IdempotencyKey
from billing.operations import Claim, Row, Table
from keys.services import Principal
from relay import vault
from relay.errors import Cause, RelayError
from relay.http import Answer, Request
from relay.models import StoredAnswer

_T = TypeVar("_T")

HEADER = b"idempotency-key"
LONGEST = 255
REPLAYED = (b"idempotent-replayed", b"true")
ASK_AGAIN = 1.0  # seconds, while the call runs
ASK_LATER = 60.0  # while an administrator has to decide what became of it
_DEAR = 64 * 1024  # bytes; sealing more than this would keep other calls waiting

STORED = Table("relay_storedanswer", (("hold_id", "uuid"), ("sealed", "text"), ("created_at", "timestamptz")))


class _Kept(msgspec.Struct, array_like=True):
    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


def claim_of(request: Request, what: str) -> Claim | None:
    """The request's key with the fingerprint of `what` (method and endpoint), how Gemini's streams are framed, and its
    body; None where it has none.

    Bodies that differ in the white space between JSON's tokens ask for the same. Raises RelayError for a key that is
    no key.
    """
    given = request.headers.get(HEADER)
    if given is None:
        return None
    if not (0 < len(given) <= LONGEST and all(32 < byte < 127 for byte in given)):
        message = f"`Idempotency-Key` must be 1 to {LONGEST} visible ASCII characters."
        raise RelayError(Cause.INVALID_PARAMETER, message, param="Idempotency-Key")
    framing = "?alt=sse" if request.query_value("alt") == "sse" else ""  # without it, one array
    digest = hashlib.sha256((what + framing).encode() + b"\n" + _plain(request.body)).hexdigest()
    return Claim(given.decode("ascii"), digest)


def _plain(body: bytes) -> bytes:
    try:
        return msgspec.json.format(body, indent=-1)
    except (msgspec.DecodeError, RecursionError):
        return body


async def earlier(claim: Claim, principal: Principal) -> Answer | None:
    """The answer of the call that the key stands for, None where it stands for none yet. Raises as `replay` does."""
    found = await _read(_find, claim.key, principal.account)
    return await replay(claim, principal, found.hold_id, found.fingerprint) if found is not None else None


async def replay(claim: Claim, principal: Principal, call: uuid.UUID, fingerprint: str) -> Answer:
    """The stored answer of that call. Raises RelayError: for another request, while it runs, where nothing was kept,
    and for an API key that may not use the model of the one that asked first."""
    if fingerprint != claim.fingerprint:
        raise RelayError(
            Cause.IDEMPOTENCY_REUSED, "This Idempotency-Key was used for another request.", param="Idempotency-Key"
        )
    state, model, sealed = await _read(_look_up, call)
    if not principal.may_use(model):
        raise RelayError(Cause.PERMISSION_DENIED, f"This key may not use the model {model!r}.", param="model")
    if state == HoldState.REVIEW:
        message = f"The call {call} was interrupted and is being looked into."
        raise RelayError(Cause.IDEMPOTENCY_IN_USE, message, retry_after=ASK_LATER)
    if state in OPEN_STATES or state == HoldState.VOIDED:  # a void has freed the key just now
        message = "The request with this Idempotency-Key is still running."
        raise RelayError(Cause.IDEMPOTENCY_IN_USE, message, retry_after=ASK_AGAIN)
    if sealed is None:
        message = f"The call {call} was paid for, but its answer was not kept: it was interrupted, or is too large."
        raise RelayError(Cause.IDEMPOTENCY_NOT_STORED, message)
    kept = _unseal(call, sealed)
    return Answer(kept.status, [*kept.headers, REPLAYED], kept.body)


_decoder = msgspec.msgpack.Decoder(_Kept)


async def rows(call: uuid.UUID, answer: Answer) -> list[Row]:
    """What keeps this answer, to be written with the call's settlement; nothing for one that is too large."""
    if len(answer.body) > settings.MAX_STORED_ANSWER:
        return []
    kept = _Kept(answer.status, answer.headers, answer.body)
    sealed = await asyncio.to_thread(_seal, call, kept) if len(answer.body) > _DEAR else _seal(call, kept)
    return [Row(STORED, (call, sealed, dt.datetime.now(dt.UTC)))]


def _seal(call: uuid.UUID, kept: _Kept) -> str:
    return vault.seal_text(msgspec.msgpack.encode(kept), row=call)


def _unseal(call: uuid.UUID, sealed: str) -> _Kept:
    """Raises RelayError for one whose key is no longer among ENCRYPTION_KEYS: nobody can read it any more."""
    try:
        content = vault.unseal_text(sealed, row=call)
    except vault.Undecryptable as error:
        message = f"The call {call} was paid for, but its answer cannot be read any more."
        raise RelayError(Cause.IDEMPOTENCY_NOT_STORED, message) from error
    return _decoder.decode(content)


async def _read(function: Callable[..., _T], *arguments: Any) -> _T:
    try:
        return await connections.read(function, *arguments, within=connections.READ_WITHIN)
    except connections.DATABASE_ERRORS as error:
        raise RelayError(Cause.UNAVAILABLE, "The Idempotency-Key cannot be looked up now.", retry_after=1) from error


def _find(key: str, account: int) -> IdempotencyKey | None:
    since = timezone.now() - books.CLAIM_LASTS
    return IdempotencyKey.objects.filter(account_id=account, key=key, created_at__gt=since).first()


def _look_up(call: uuid.UUID) -> tuple[str, str, str | None]:
    """The state of the call's hold, the model it asked for, and its stored answer as it lies in the table."""
    hold = Hold.objects.get(pk=call)
    sealed = StoredAnswer.objects.filter(pk=call).values_list("sealed", flat=True).first()
    return hold.state, str(hold.facts.get("model", "")), sealed


def forget_old() -> int:
    """Deletes keys and answers older than 24 hours; how many keys."""
    before = timezone.now() - books.CLAIM_LASTS
    StoredAnswer.objects.filter(created_at__lt=before).delete()
    return IdempotencyKey.objects.filter(created_at__lt=before).delete()[0]
