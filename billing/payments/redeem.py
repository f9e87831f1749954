"""Redeem codes: made in batches, shown once, redeemed once. The only writer of `RedeemBatch` and `RedeemCode`.

Only digests are stored: HMAC-SHA256 under the installation's pepper. Whoever guesses learns nothing: a code that does
not exist, one that another has used and one that has expired are answered alike, and tries are counted for each
person and for each address before the code is looked up.
"""

import datetime as dt
import hashlib
import hmac
import uuid
from collections.abc import Iterator

import msgspec
from django.conf import settings
from django.contrib.auth import get_user_model
from django.db import IntegrityError, transaction
from django.db.models import Count, F, Max, Q, QuerySet
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.translation import gettext_noop

from billing import ledger, money
from billing.credit_models import BatchState, CodeState, RedeemAttempt, RedeemBatch, RedeemCode
from billing.models import AccountKind, TransferKind
from billing.payments import PaymentError, codes

MOST_CODES = 10_000  # in a batch: they are in memory once, when they are made
WINDOW = dt.timedelta(hours=1)
TRIES_OF_A_PERSON, TRIES_OF_AN_ADDRESS = 10, 50  # in a window
_AT_ONCE = 500  # rows in one statement
# Sets these digests apart from those of keys, which are made with the same pepper.
_PURPOSE = b"pisces.redeem\x00"


class NotRedeemed(PaymentError):
    """Nothing was redeemed. The message is to be translated and filled with `facts`, and is fit for whoever tried."""

    def __init__(self, message: str, **facts: object) -> None:
        super().__init__(message)
        self.message = message
        self.facts = facts


class Unknown(NotRedeemed):
    """No code that can be redeemed; the same for all of those, whatever the reason."""


class Again(NotRedeemed):
    """This team or this person has redeemed the code already, at `at`, for `amount` nano-units."""

    def __init__(self, code: RedeemCode) -> None:
        super().__init__(gettext_noop("You have redeemed this code already, on %(day)s."), day=code.redeemed_at)
        self.at = code.redeemed_at
        self.amount = code.batch.amount


class TooMany(NotRedeemed):
    """So many tries that they might be guesses. `seconds` until the next one may be made."""

    def __init__(self, seconds: int) -> None:
        super().__init__(gettext_noop("Too many codes were tried. Try again in %(minutes)s minutes."))
        self.facts = {"minutes": -(-seconds // 60)}
        self.seconds = seconds


class Exhausted(NotRedeemed):
    """The code is good, but the team or the person has had as many of its batch as they may."""


class Impossible(ValueError):
    """A batch that cannot be; the message is to be translated and filled with `facts`."""

    def __init__(self, message: str, **facts: object) -> None:
        super().__init__(message)
        self.message = message
        self.facts = facts


class AlreadyMade(Exception):
    """The form was sent before: the batch is there, and its codes were shown."""


class NotYours(Exception):
    """Whoever made the batch cannot be the second administrator who approves it."""


class Redeemed(msgspec.Struct, frozen=True):
    amount: int
    transfer: int
    code: int


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """A batch to be made: `amount` nano-units a code."""

    label: str
    amount: int
    number: int
    expires_at: dt.datetime | None = None
    per_team: int | None = None
    per_user: int | None = None
    note: str = ""

    @property
    def worth(self) -> int:
        return self.amount * self.number


class Sums(msgspec.Struct, frozen=True):
    """How many codes of a batch there are in each state."""

    unused: int
    redeemed: int
    disabled: int


def digest(code: str) -> str:
    return hmac.new(settings.KEY_PEPPER.encode(), _PURPOSE + code.encode(), hashlib.sha256).hexdigest()


# ---- making them ----------------------------------------------------------------------------------------------------


def check(wanted: Wanted) -> None:
    """Raises Impossible, or money.InvalidAmount, for a batch that cannot be made."""
    if not wanted.label.strip() or len(wanted.label) > 100 or not wanted.label.isprintable():
        raise Impossible(gettext_noop("A label of 1 to 100 printable characters is needed."))
    if wanted.amount <= 0:
        raise money.InvalidAmount("a code must be worth something")
    if not 1 <= wanted.number <= MOST_CODES:
        raise Impossible(gettext_noop("A batch has 1 to %(most)s codes."), most=MOST_CODES)
    if wanted.worth >= money.LIMIT:
        raise money.InvalidAmount("the amount is too large for the ledger")
    if wanted.expires_at is not None and wanted.expires_at <= timezone.now():
        raise Impossible(gettext_noop("This moment lies in the past."))
    if any(limit is not None and limit < 1 for limit in (wanted.per_team, wanted.per_user)):
        raise Impossible(gettext_noop("A limit is at least 1."))


def needs_two(wanted: Wanted) -> bool:
    """Whether a second administrator has to approve the batch before its codes can be redeemed."""
    return wanted.worth > settings.SECOND_ADMIN_ABOVE


def make(*, wanted: Wanted, reference: uuid.UUID, user: int) -> tuple[RedeemBatch, list[str]]:
    """The batch and its codes, as they are to be given out: the only time that anybody sees them.

    Raises AlreadyMade the second time with this reference, and what `check` raises.
    """
    check(wanted)
    fresh = [codes.new() for _ in range(wanted.number)]
    state = BatchState.WAITING if needs_two(wanted) else BatchState.ACTIVE
    with transaction.atomic():
        try:
            with transaction.atomic():
                batch = RedeemBatch.objects.create(
                    reference=reference, state=state, created_by_id=user, **msgspec.structs.asdict(wanted)
                )
        except IntegrityError as error:
            raise AlreadyMade(str(reference)) from error
        rows = (RedeemCode(batch=batch, digest=digest(code), last_four=code[-4:]) for code in fresh)
        RedeemCode.objects.bulk_create(rows, batch_size=_AT_ONCE)
    return batch, [codes.written(code) for code in fresh]


def lines(batch: RedeemBatch, fresh: list[str]) -> Iterator[str]:
    """The CSV of a batch that was just made, line by line."""
    until = batch.expires_at.isoformat() if batch.expires_at else ""
    yield "code,amount,currency,valid_until\r\n"
    for code in fresh:
        yield f"{code},{money.to_text(batch.amount)},{settings.CURRENCY},{until}\r\n"


def approve(*, batch: int, user: int) -> bool:
    """Lets the codes of a batch that waits be redeemed. False where it does not wait. Raises NotYours."""
    waiting = RedeemBatch.objects.filter(pk=batch, state=BatchState.WAITING)
    if waiting.filter(created_by=user).exists():
        raise NotYours
    return bool(waiting.update(state=BatchState.ACTIVE, approved_by=user, approved_at=timezone.now()))


@transaction.atomic
def disable(*, batch: int) -> int:
    """No code of the batch can be redeemed any more. How many unused ones that were."""
    RedeemBatch.objects.select_for_update().get(pk=batch)
    RedeemBatch.objects.filter(pk=batch).update(state=BatchState.DISABLED)
    return RedeemCode.objects.filter(batch=batch, state=CodeState.UNUSED).update(state=CodeState.DISABLED)


@transaction.atomic
def delete_unused(*, batch: int) -> int:
    """Deletes the codes of a batch that nobody has redeemed, for good. How many that were."""
    RedeemBatch.objects.select_for_update().get(pk=batch)
    count, _ = RedeemCode.objects.filter(batch=batch).exclude(state=CodeState.REDEEMED).delete()
    return count


def disable_code(*, code: int) -> bool:
    """One code can be redeemed no more. False where it was not unused."""
    return bool(RedeemCode.objects.filter(pk=code, state=CodeState.UNUSED).update(state=CodeState.DISABLED))


def sums(batch: int) -> Sums:
    found = RedeemCode.objects.filter(batch=batch).aggregate(
        **{state.value: Count("pk", filter=Q(state=state)) for state in CodeState}
    )
    return Sums(**found)


# ---- redeeming them -------------------------------------------------------------------------------------------------


def redeem(*, text: str, team: int, user: int, actor: str, address: str) -> Redeemed:
    """The code's amount into the team's wallet, once, however many try at once. Raises NotRedeemed, or
    money.InvalidAmount where the wallet would have more than the ledger can add up.

    `address` is where the person is; a mistyped code, which its checksum betrays, is refused without a query.
    """
    code = codes.canonical(text)
    if code is None:
        raise Unknown(gettext_noop("This is not a code. It may be mistyped: look at it again."))
    attempt = _counted(user=user, address=address)
    done = _redeem(digest(code), team=team, user=user, actor=actor)
    RedeemAttempt.objects.filter(pk=attempt).delete()
    return done


def _redeem(sought: str, *, team: int, user: int, actor: str) -> Redeemed:
    wallet = ledger.wallet_of(team)
    with transaction.atomic():
        code = RedeemCode.objects.select_related("batch").filter(digest=sought).first()
        if code is None:
            raise _unknown()
        if code.state != CodeState.UNUSED:
            raise _used(code, team=team, user=user)
        # Its turns are counted under the batch's lock; nobody locks a batch who holds anything else.
        batch = _open_batch(code.batch_id)
        if batch is None:
            raise _unknown()
        team_turn, user_turn = _turns(batch, team=team, user=user)
        changed = RedeemCode.objects.filter(pk=code.pk, state=CodeState.UNUSED).update(
            state=CodeState.REDEEMED, team=team, user=user, redeemed_at=Now(), team_turn=team_turn, user_turn=user_turn
        )
        if not changed:
            raise _used(RedeemCode.objects.select_related("batch").get(pk=code.pk), team=team, user=user)
        transfer = ledger.post(
            kind=TransferKind.REDEMPTION,
            debit=ledger.platform_account(AccountKind.PROMO),
            credit=wallet,
            amount=batch.amount,
            reference=reference(code.pk),
            actor=actor,
            reason=f"{batch.label}: …{code.last_four}",
        )
        RedeemCode.objects.filter(pk=code.pk).update(transfer=transfer)
    return Redeemed(batch.amount, transfer.pk, code.pk)


def reference(code: int) -> str:
    """What the transfer of a code is known by: it happens once."""
    return f"code:{code}"


def _open_batch(batch: int) -> RedeemBatch | None:
    """The batch, locked, where its codes can be redeemed now, by the database's clock."""
    in_time = Q(expires_at__isnull=True) | Q(expires_at__gt=Now())
    return RedeemBatch.objects.select_for_update().filter(in_time, pk=batch, state=BatchState.ACTIVE).first()


def _turns(batch: RedeemBatch, *, team: int, user: int) -> tuple[int, int]:
    """The next turn of the team and of the person. Raises Exhausted."""
    redeemed = RedeemCode.objects.filter(batch=batch)
    team_turn = 1 + (redeemed.filter(team=team).aggregate(last=Max("team_turn"))["last"] or 0)
    user_turn = 1 + (redeemed.filter(user=user).aggregate(last=Max("user_turn"))["last"] or 0)
    if batch.per_team is not None and team_turn > batch.per_team:
        raise Exhausted(gettext_noop("Your team has redeemed as many codes of this kind as it may."))
    if batch.per_user is not None and user_turn > batch.per_user:
        raise Exhausted(gettext_noop("You have redeemed as many codes of this kind as you may."))
    return team_turn, user_turn


def _unknown() -> Unknown:
    return Unknown(gettext_noop("This code cannot be redeemed: it does not exist, was used, or is no longer valid."))


def _used(code: RedeemCode, *, team: int, user: int) -> NotRedeemed:
    own = code.state == CodeState.REDEEMED and (code.team_id == team or code.user_id == user)
    return Again(code) if own else _unknown()


# ---- against guessing -----------------------------------------------------------------------------------------------


@transaction.atomic
def _counted(*, user: int, address: str) -> int:
    """Notes a try, and its id. Raises TooMany where there were too many.

    One person's tries come one after another here, so that of any number at once no more pass than may. An address
    may have a few more, of several people at the same moment.
    """
    get_user_model().objects.select_for_update(no_key=True).only("pk").get(pk=user)
    now = timezone.now()
    recent = RedeemAttempt.objects.filter(at__gt=now - WINDOW)
    for tries, most in ((recent.filter(user=user), TRIES_OF_A_PERSON), (_from(recent, address), TRIES_OF_AN_ADDRESS)):
        if tries.count() >= most:
            raise TooMany(_seconds_until(tries, most, now))
    return RedeemAttempt.objects.create(user_id=user, address=address[:45], at=now).pk


def _from(tries: QuerySet[RedeemAttempt], address: str) -> QuerySet[RedeemAttempt]:
    return tries.filter(address=address[:45]) if address else tries.none()


def _seconds_until(tries: QuerySet[RedeemAttempt], most: int, now: dt.datetime) -> int:
    """Until the try that stands in the way is older than a window."""
    in_the_way = tries.order_by("-at").values_list("at", flat=True)[most - 1]
    return max(1, int((in_the_way + WINDOW - now).total_seconds()))


def forget_attempts() -> int:
    """Deletes the tries that count no more. How many."""
    return RedeemAttempt.objects.filter(at__lt=timezone.now() - WINDOW).delete()[0]


# ---- read side ------------------------------------------------------------------------------------------------------


def of_team(team: int, count: int) -> list[RedeemCode]:
    """The codes that the team redeemed, newest first."""
    return list(
        RedeemCode.objects.filter(team=team, state=CodeState.REDEEMED)
        .select_related("batch", "user")
        .order_by(F("redeemed_at").desc(), "-pk")[:count]
    )
