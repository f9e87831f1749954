"""Plans: packages of credit or of calls that are bought from the wallet and pay before it.

A plan is an account of its own. Buying it moves its price from the wallet to the platform's account of plans, and what
it is worth from there into the plan; a call that it pays for moves money from the plan to the revenue, as any charge
does; what is left when it ends, or when it is filled anew, goes back to the account of plans, whose balance is so what
customers paid less what they were given. A plan of calls is money, too: each call costs its `rate`.

Keys whose payment type is `plan` draw on the running plans of their team, plans of calls first, then by expiry, and
then on the wallet. A hold that is open when a plan ends keeps its part; what it does not use is lost with the next
step.

A plan never has more than its worth, or what was left of one window could be spent in the next. So what a hold has
that is open at a filling counts as filled until it ends. What it gives back is the new window's; what it costs is paid
from the old one, and the plan is given that much more.
"""

import datetime as dt
import uuid
from collections.abc import Iterable, Sequence

import msgspec
from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import F, Q, QuerySet, Sum
from django.utils import timezone

from billing import ledger, money, revisions, rules, selectors, windows
from billing.models import (
    Account,
    AccountKind,
    Hold,
    Plan,
    PlanKind,
    PlanOffer,
    PlanState,
    Transfer,
    TransferKind,
)

LONGEST = 3660  # days


class NotForSale(Exception):
    """The offer was taken back."""


class Dearer(NotForSale):
    """It costs more by now than the buyer agreed to."""


class TooMany(Exception):
    """The team has as many of these running as it may."""


class Owing(Exception):
    """The team owes something besides, which is paid before anything is bought."""


class Paying(msgspec.Struct, frozen=True):
    """A plan as a call sees it. `rate` is what a call costs, None for a plan of credit; `models` empty: all."""

    account: int
    ends_at: float
    rate: int | None
    models: frozenset[str]

    def covers(self, model: str) -> bool:
        return not self.models or model in self.models


def of_team(team: int) -> tuple[Paying, ...]:
    """The team's running plans in the order in which they pay: of calls first, then the one that ends first."""
    found = [
        Paying(plan.account_id, plan.ends_at.timestamp(), plan.rate, frozenset(plan.models)) for plan in running(team)
    ]
    return tuple(sorted(found, key=lambda plan: plan.rate is None))


def running(team: int) -> QuerySet[Plan]:
    """The team's plans that pay, the one that ends first before the others."""
    found = Plan.objects.filter(team_id=team, state=PlanState.RUNNING, ends_at__gt=timezone.now())
    return found.select_related("account").order_by("ends_at", "pk")


def ended(team: int) -> QuerySet[Plan]:
    """The team's plans that pay no more, the latest first."""
    gone = ~Q(state=PlanState.RUNNING) | Q(ends_at__lte=timezone.now())
    return Plan.objects.filter(gone, team_id=team).order_by("-ends_at", "-pk")


# ---- what is for sale ------------------------------------------------------------------------------------------------


def for_sale() -> QuerySet[PlanOffer]:
    return PlanOffer.objects.filter(active=True).order_by("price", "pk")


def worth(*, kind: str, price: int, value: int | None, calls: int | None) -> int:
    """Nano-units that a plan is filled with: as given, or so that its calls cost together at least its price.

    Raises ValueError for an offer that cannot be.
    """
    if not 0 <= price < money.LIMIT:
        raise ValueError("the price must fit the ledger")
    if kind == PlanKind.CREDIT:
        if value is None or not 0 < value < money.LIMIT or calls is not None:
            raise ValueError("a plan of credit is worth something, and has no number of calls")
        return value
    if not calls or value is not None:
        raise ValueError("a plan of calls has a number of calls, and no worth besides")
    return rate(price, calls) * calls


def rate(price: int, calls: int) -> int:
    """What each of so many calls costs: at least one nano-unit."""
    return max(1, -(-price // calls))


# ---- a plan's life ---------------------------------------------------------------------------------------------------


def buy(*, team: int, offer: PlanOffer, at_most: int, order: uuid.UUID, actor: str) -> Plan:
    """Buys the plan from the team's wallet, for its price of this moment, `at_most` so many nano-units. The same
    `order` again gives the plan that it bought.

    Raises NotForSale, Dearer, TooMany, Owing or ledger.InsufficientFunds; then nothing has changed.
    """
    try:
        with transaction.atomic():
            wallet = Account.objects.select_for_update().get(pk=ledger.wallet_of(team).pk)
            if (bought := Plan.objects.filter(order=order).first()) is not None:
                return _own(bought, team)
            if selectors.owed(selectors.debt_of(wallet)) > 0:
                raise Owing(str(team))
            plan = _new(team, _offered(offer.pk, at_most), order, actor)
            if plan.price:
                _post(plan, TransferKind.PURCHASE, wallet, _sold(), plan.price, actor, plan.name)
            _fill(plan, plan.value, actor, plan.name)
            revisions.bump(revisions.PLANS)
            return plan
    except IntegrityError:  # the same order of another team, a moment earlier
        return _own(Plan.objects.get(order=order), team)


def _own(plan: Plan, team: int) -> Plan:
    if plan.team_id != team:
        raise NotForSale(str(plan.order))
    return plan


def _offered(pk: int, at_most: int) -> PlanOffer:
    offer = PlanOffer.objects.get(pk=pk)
    if not offer.active:
        raise NotForSale(offer.name)
    if offer.price > at_most:
        raise Dearer(offer.name)
    return offer


def _new(team: int, offer: PlanOffer, order: uuid.UUID, actor: str) -> Plan:
    now = timezone.now()
    if offer.at_once is not None and running(team).filter(offer=offer).count() >= offer.at_once:
        raise TooMany(offer.name)
    ends_at = now + dt.timedelta(days=offer.days)
    account = Account.objects.create(kind=AccountKind.PLAN, team_id=team, currency=settings.CURRENCY, ends_at=ends_at)
    assert account.team is not None
    zone = account.team.time_zone
    return Plan.objects.create(
        account=account,
        team_id=team,
        offer=offer,
        order=order,
        name=offer.name,
        kind=offer.kind,
        price=offer.price,
        value=offer.value,
        rate=offer.value // offer.calls if offer.calls else None,
        refill=offer.refill,
        zone=zone,
        models=offer.models,
        fill_at=_next_filling(offer.refill, zone, now, ends_at),
        starts_at=now,
        ends_at=ends_at,
        actor=actor[:200],
    )


def _next_filling(refill: str, zone: str, after: dt.datetime, ends_at: dt.datetime) -> dt.datetime | None:
    """The next beginning of a day, week or month in the plan's time zone, if the plan still runs then."""
    moment = windows.end_of(refill, after, zone)
    return moment if moment is not None and moment < ends_at else None


def _fill(plan: Plan, amount: int, actor: str, reason: str) -> None:
    if amount > 0:
        _post(plan, TransferKind.GRANT, _sold(), plan.account, amount, actor, reason)


def _drain(plan: Plan, actor: str, reason: str) -> int:
    """Takes what no open hold has reserved. What is left is what they have; the account stays locked."""
    account = Account.objects.select_for_update().get(pk=plan.account_id)
    if left := account.free:
        _post(plan, TransferKind.EXPIRY, account, _sold(), left, actor, reason)
    return account.held


def _post(plan: Plan, kind: TransferKind, debit: Account, credit: Account, amount: int, actor: str, why: str) -> None:
    reference = f"plan:{plan.pk}:{plan.steps}"
    ledger.post(kind=kind, debit=debit, credit=credit, amount=amount, reference=reference, actor=actor, reason=why)


def _sold() -> Account:
    return ledger.platform_account(AccountKind.PLANS)


@transaction.atomic
def cancel(*, plan: Plan, actor: str, reason: str) -> bool:
    """Ends a running plan now; what it has left is lost. False where it had ended. Money back is an adjustment."""
    if not reason.strip():
        raise ValueError("a plan is cancelled for a reason")
    now = timezone.now()
    if not _step(plan, state=PlanState.CANCELLED, fill_at=None, carried=[], ends_at=now):
        return False
    Account.objects.filter(pk=plan.account_id).update(ends_at=now)
    _drain(plan, actor, reason)
    revisions.bump(revisions.PLANS)
    return True


def _step(plan: Plan, **fields: object) -> bool:
    """Takes the plan's next step, if nobody has taken it. Refreshes the row that it is given."""
    mine = Plan.objects.filter(pk=plan.pk, steps=plan.steps, state=PlanState.RUNNING)
    if not mine.update(steps=F("steps") + 1, **fields):
        return False
    plan.refresh_from_db()
    return True


# ---- what time brings ------------------------------------------------------------------------------------------------


def due(now: dt.datetime) -> Sequence[int]:
    """Plans that are to be filled, have ended, or ended before and got something back from a call since; and those of
    which a call has ended that ran when they were filled."""
    ended = Q(state=PlanState.RUNNING, ends_at__lte=now)
    left = ~Q(state=PlanState.RUNNING) & Q(account__balance__gt=F("account__held"))
    found = set(Plan.objects.filter(Q(fill_at__lte=now) | ended | left).values_list("pk", flat=True))
    waiting = dict(Plan.objects.filter(state=PlanState.RUNNING).exclude(carried=[]).values_list("pk", "carried"))
    still = _open(call for carried in waiting.values() for call in carried)
    return sorted(found | {number for number, carried in waiting.items() if not still.issuperset(carried)})


def _open(calls: Iterable[str]) -> set[str]:
    """Those of these calls that have not ended."""
    found = Hold.objects.open().filter(pk__in=[uuid.UUID(call) for call in calls])
    return {str(number) for number in found.values_list("pk", flat=True)}


@transaction.atomic
def tend(number: int, *, now: dt.datetime) -> bool:
    """Does what is due for one plan. False where somebody else has done it."""
    plan = Plan.objects.select_related("account").get(pk=number)
    if plan.state != PlanState.RUNNING:
        return _lose_rest(plan)
    if plan.ends_at <= now:
        if not _step(plan, state=PlanState.ENDED, fill_at=None, carried=[]):
            return False
        _drain(plan, "", "ended")
        revisions.bump(revisions.PLANS)
        return True
    if plan.fill_at is not None and plan.fill_at <= now:
        return _refill(plan, max(now, plan.fill_at + windows.HALF[plan.refill]))
    return _complete(plan)


def _refill(plan: Plan, within: dt.datetime) -> bool:
    """Fills a plan up to its worth for the window that holds this moment; what was left is lost.

    The moment is well inside of its window: where a change of the zone's clocks, which nobody knew of when the filling
    was fixed, lets the window begin a little later, it is not filled twice.
    """
    if not _step(plan, fill_at=_next_filling(plan.refill, plan.zone, within, plan.ends_at)):
        return False
    held = _drain(plan, "", "filled anew")
    plan.carried = _holding(plan) if held else []
    plan.save(update_fields=["carried"])
    _fill(plan, plan.value - held, "", plan.name)
    return True


def _holding(plan: Plan) -> list[str]:
    """The calls that have something of it reserved. Its account is locked, so none begins or ends meanwhile."""
    found = Hold.objects.open().filter(account__team=plan.team_id).values_list("pk", "parts")
    return [str(call) for call, parts in found if any(number == plan.account_id for number, _ in parts)]


def _complete(plan: Plan) -> bool:
    """Gives a plan what the calls have cost it that ran when it was filled and have ended since."""
    still = _open(plan.carried)
    ended = [call for call in plan.carried if call not in still]
    if not ended or not _step(plan, carried=[call for call in plan.carried if call in still]):
        return False
    references = [rules.draw_reference(uuid.UUID(call), plan.account_id) for call in ended]
    draws = Transfer.objects.filter(kind=TransferKind.DRAW, reference__in=references)
    _fill(plan, draws.aggregate(total=Sum("amount"))["total"] or 0, "", "for calls that ran when it was filled")
    return True


def _lose_rest(plan: Plan) -> bool:
    """What an open hold gave back to a plan that had ended."""
    if not Plan.objects.filter(pk=plan.pk, steps=plan.steps).update(steps=F("steps") + 1):
        return False
    plan.refresh_from_db()
    _drain(plan, "", "ended")
    return True
