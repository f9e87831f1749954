"""What somebody should be told, found from the tables alone. A finder is a function that yields `Due`.

Each names its subject and its occasion so that the same thing is told once: `telling` keeps a row for each.
"""

import datetime as dt
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
from django.conf import settings
from django.db.models import F, Q
from django.utils import timezone

from billing import money, windows
from billing.models import AccountKind, Budget, BudgetOwner, InvoiceState, PaymentState, Plan, PlanState
from keys.models import ApiKey, KeyState
from portal.models import BalanceWatch, Membership, NoticeKind, NoticeSettings, Role, User
from relay import statements
from relay.models import Channel, Credential

SOON = (dt.timedelta(days=7), dt.timedelta(days=1))  # before something expires
RISEN = 6, 5  # a balance is low no more from this much of the threshold on


class Due(msgspec.Struct, frozen=True):
    """Something to tell, to a team's owners or, where `team` is None, to the administrators; or to one `user`."""

    kind: NoticeKind
    subject: str
    occasion: str
    facts: dict[str, Any]
    team: int | None = None
    user: int | None = None


Finder = Callable[[dt.datetime], Iterator[Due]]
finders: list[Finder] = []


def finder(function: Finder) -> Finder:
    """Adds a finder; one that fails does not keep the others from looking."""
    finders.append(function)
    return function


# ---- low balance ----------------------------------------------------------------------------------------------------


@finder
def low_balances(now: dt.datetime) -> Iterator[Due]:
    """Told once when a wallet falls below the threshold, and again only after it rose to 6/5 of it.

    What may be spent counts: the balance and the credit limit. A wallet that is first seen low is not told of.
    """
    usual = money.parse(settings.LOW_BALANCE)
    rows = NoticeSettings.objects.values_list("user", "threshold")
    chosen = {user: threshold for user, threshold in rows if threshold is not None}
    watches = {(row.user_id, row.account_id): row for row in BalanceWatch.objects.all()}
    owners = Membership.objects.filter(
        role=Role.OWNER, user__is_active=True, team__accounts__kind=AccountKind.WALLET
    ).values_list("user", "team__name", "team__accounts", "team__accounts__balance", "team__accounts__credit_limit")
    for user, team, account, balance, limit in owners:
        threshold, left = chosen.get(user, usual), balance + limit
        watch = watches.get((user, account))
        if watch is None:
            BalanceWatch.objects.get_or_create(user_id=user, account_id=account, defaults={"low": left < threshold})
        elif _falls(watch, left, threshold):
            facts = {"team": team, "left": left, "threshold": threshold}
            yield Due(NoticeKind.LOW_BALANCE, f"wallet {account}", str(watch.round), facts, user=user)


def _falls(watch: BalanceWatch, left: int, threshold: int) -> bool:
    """Moves the watch on; whether the wallet is low and the user has to be told. Asked again until it was."""
    if not watch.low and left < threshold:
        row = BalanceWatch.objects.filter(pk=watch.pk, low=False, round=watch.round)
        if row.update(low=True, round=F("round") + 1):
            watch.low, watch.round = True, watch.round + 1
    elif watch.low and left * RISEN[1] >= threshold * RISEN[0] and left > 0:
        BalanceWatch.objects.filter(pk=watch.pk, low=True).update(low=False)
        watch.low = False
    return watch.low and watch.round > 0


# ---- quotas, expiry, invoices ---------------------------------------------------------------------------------------


@finder
def quotas(now: dt.datetime) -> Iterator[Due]:
    """At 80 and at 100 per cent of what a key or a team may spend in its running window."""
    spent = Budget.objects.filter(cap__gt=0, used__gte=F("cap") - F("cap") / 5)
    for budget in spent:
        start = windows.running(
            budget.window, budget.zone, starts_at=budget.starts_at, kept_until=budget.kept_until, now=now
        )
        if start > budget.starts_at or budget.used * 100 < budget.limit * 80:
            continue
        percent = 100 if budget.used >= budget.limit else 80
        owner = _owner(budget)
        if owner is None:
            continue
        team, name = owner
        occasion = f"{int(budget.starts_at.timestamp())} {budget.limit} {percent}"
        facts = {"name": name, "window": budget.window, "percent": percent, "used": budget.used, "limit": budget.limit}
        yield Due(NoticeKind.QUOTA, f"budget {budget.pk}", occasion, facts, team=team)


def _owner(budget: Budget) -> tuple[int, str] | None:
    if budget.owner_kind == BudgetOwner.TEAM:
        return budget.owner_id, ""
    key = ApiKey.objects.filter(pk=budget.owner_id).exclude(state=KeyState.REVOKED).first()
    return None if key is None else (key.team_id, key.name)


@finder
def expiring_keys(now: dt.datetime) -> Iterator[Due]:
    """A week and a day before a key expires."""
    for key in ApiKey.objects.filter(state=KeyState.ACTIVE, expires_at__gt=now, expires_at__lte=now + SOON[0]):
        assert key.expires_at is not None
        facts = {"name": key.name, "key": key.masked, "at": key.expires_at.isoformat()}
        yield Due(NoticeKind.KEY_EXPIRY, f"key {key.pk}", _stage(key.expires_at, now), facts, team=key.team_id)


@finder
def expiring_plans(now: dt.datetime) -> Iterator[Due]:
    """A week and a day before a plan ends, of those that last longer than that."""
    for plan in Plan.objects.filter(state=PlanState.RUNNING, ends_at__gt=now, ends_at__lte=now + SOON[0]):
        stage = SOON[1] if plan.ends_at - now <= SOON[1] else SOON[0]
        if plan.ends_at - plan.starts_at <= stage * 2:
            continue
        facts = {"name": plan.name, "at": plan.ends_at.isoformat()}
        yield Due(NoticeKind.PLAN_EXPIRY, f"plan {plan.pk}", _stage(plan.ends_at, now), facts, team=plan.team_id)


def _stage(at: dt.datetime, now: dt.datetime) -> str:
    return f"{int(at.timestamp())} {1 if at - now <= SOON[1] else 7}"


@finder
def overdue_invoices(now: dt.datetime) -> Iterator[Due]:
    rows = InvoiceState.objects.filter(state=PaymentState.OVERDUE).select_related("invoice__account")
    for row in rows:
        invoice, since = row.invoice, row.overdue_since or now
        facts = {"number": invoice.number, "amount": row.outstanding, "invoice": invoice.pk}
        occasion = str(int(since.timestamp()))
        yield Due(NoticeKind.INVOICE, f"invoice {invoice.pk}", occasion, facts, team=invoice.account.team_id)


# ---- for administrators ---------------------------------------------------------------------------------------------


@finder
def disabled_channels(now: dt.datetime) -> Iterator[Due]:
    for channel in Channel.objects.exclude(disabled_at=None):
        yield _disabled("channel", channel.pk, channel.name, "", channel)
    for credential in Credential.objects.exclude(disabled_at=None).select_related("channel"):
        yield _disabled("credential", credential.pk, credential.channel.name, str(credential), credential)


def _disabled(what: str, number: int, channel: str, credential: str, row: Channel | Credential) -> Due:
    assert row.disabled_at is not None
    facts = {"channel": channel, "credential": credential, "reason": row.disabled_reason}
    return Due(NoticeKind.CHANNEL, f"{what} {number}", str(int(row.disabled_at.timestamp())), facts)


@finder
def drifts(now: dt.datetime) -> Iterator[Due]:
    """Days of a channel whose bill differs from our books, and that nobody has explained; told anew as it changes."""
    for alert in statements.alerts():
        share = abs(alert.drift) * 10_000 // max(alert.ours, alert.theirs or 0, 1)
        facts = {"channel": alert.channel, "day": alert.day.isoformat(), "percent": f"{share // 100}.{share % 100:02d}"}
        yield Due(NoticeKind.DRIFT, f"reconciliation {alert.reconciliation}", str(alert.drift), facts)


def recipients(due: Due) -> list[User]:
    """Who is told."""
    active = User.objects.filter(is_active=True)
    if due.user is not None:
        return list(active.filter(pk=due.user))
    if due.team is None:
        return list(active.filter(is_superuser=True))
    owners = Q(memberships__team=due.team, memberships__role=Role.OWNER)
    return list(active.filter(owners).distinct())


def everything(now: dt.datetime | None = None) -> Iterator[tuple[Finder, Iterator[Due]]]:
    """Each finder with what it finds."""
    moment = now or timezone.now()
    return ((find, find(moment)) for find in finders)
