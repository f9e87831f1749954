"""Spending caps: the only writers of `Budget` besides the hold's own transaction. Each change is kept with its actor.

Several budgets are locked in the order of their ids, as the books lock them.
"""

import datetime as dt
from collections.abc import Mapping, Sequence

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from billing import money, revisions, windows
from billing.models import Budget, BudgetAction, BudgetChange, BudgetOwner

LONGEST_RAISE = dt.timedelta(days=366)


# ---- caps -----------------------------------------------------------------------------------------------------------


def set_cap(
    *, owner: BudgetOwner, owner_id: int, window: str, cap: int | None, zone: str = "UTC", actor: str = ""
) -> Budget | None:
    """One window's cap: see `set_caps`. The budget, None where it was taken away."""
    return set_caps(owner=owner, owner_id=owner_id, caps={window: cap}, zone=zone, actor=actor).get(window)


@transaction.atomic
def set_caps(
    *,
    owner: BudgetOwner,
    owner_id: int,
    caps: Mapping[str, int | None],
    zone: str = "UTC",
    actor: str = "",
    reason: str = "",
) -> dict[str, Budget]:
    """Sets the caps (nano-units) of these windows, or takes those away that are None; others stay as they are.

    What was spent in the current window stays counted. A cap below that, or below what calls hold, is allowed; it
    stops the next call. A new budget counts in `zone`. A key's caps are the business of whoever changes the key; a
    team's concern all of its keys, on every process. Raises money.InvalidAmount.
    """
    for cap in caps.values():
        if cap is not None and not 0 <= cap < money.LIMIT:
            raise money.InvalidAmount("a cap must not be negative and must fit the ledger")
    if owner == BudgetOwner.TEAM:
        revisions.bump(revisions.TEAM_BUDGETS)
    found = {budget.window: budget for budget in _locked(Budget.objects.filter(owner_kind=owner, owner_id=owner_id))}
    for window, cap in caps.items():
        budget = found.get(window)
        if cap is None:
            if budget is not None:
                del found[window]
                _note(budget, BudgetAction.UNCAP, actor, reason)
                budget.delete()
        elif budget is None:
            found[window] = _made(owner, owner_id, window, cap, zone)
            _note(found[window], BudgetAction.CAP, actor, reason)
        elif budget.cap != cap:
            budget.cap = cap
            _save(budget, "cap")
            _note(budget, BudgetAction.CAP, actor, reason)
    return found


def _made(owner: BudgetOwner, owner_id: int, window: str, cap: int, zone: str) -> Budget:
    start = windows.start_of(window, timezone.now(), zone)
    return Budget.objects.create(
        owner_kind=owner, owner_id=owner_id, window=window, cap=cap, zone=zone, starts_at=start
    )


def _locked(budgets: QuerySet[Budget]) -> list[Budget]:
    return list(budgets.select_for_update().order_by("id"))


def _save(budget: Budget, *fields: str) -> None:
    """The row is locked, so its counters are those that count."""
    budget.over = max(0, budget.used + budget.held - budget.cap)
    budget.save(update_fields=[*fields, "over"])


def _note(budget: Budget, action: BudgetAction, actor: str, reason: str) -> None:
    removed = action == BudgetAction.UNCAP
    BudgetChange.objects.create(
        owner_kind=budget.owner_kind,
        owner_id=budget.owner_id,
        window=budget.window,
        action=action,
        cap=None if removed else budget.cap,
        extra=0 if removed else budget.extra,
        until=None if removed else budget.extra_until,
        zone=budget.zone,
        actor=actor[:200],
        reason=reason.strip()[:500],
    )


# ---- raises ---------------------------------------------------------------------------------------------------------


@transaction.atomic
def raise_cap(*, budget: int, extra: int, until: dt.datetime, actor: str, reason: str) -> Budget:
    """Adds `extra` nano-units to the cap until a moment, instead of a raise that is running. In force at once.

    It counts in each window that it reaches into. Raises ValidationError, or Budget.DoesNotExist.
    """
    row = Budget.objects.select_for_update().get(pk=budget)
    now = timezone.now()
    errors = {}
    if not 0 < extra < money.LIMIT - row.cap:
        errors["extra"] = _("A raise is more than zero and fits the ledger.")
    if until <= now:
        errors["until"] = _("This moment lies in the past.")
    elif until > now + LONGEST_RAISE:
        errors["until"] = _("A raise lasts at most a year; change the cap instead.")
    if not reason.strip():
        errors["reason"] = _("A raise needs a reason; it is kept.")
    if errors:
        raise ValidationError(errors)
    row.extra, row.extra_until = extra, until
    _save(row, "extra", "extra_until")
    _note(row, BudgetAction.RAISE, actor, reason)
    return row


@transaction.atomic
def end_raise(*, budget: int, actor: str, reason: str = "") -> None:
    """Ends a raise before its time; open calls keep what they hold. Nothing happens where none is running."""
    for row in _locked(Budget.objects.filter(pk=budget, extra__gt=0)):
        row.extra, row.extra_until = 0, None
        _save(row, "extra", "extra_until")
        _note(row, BudgetAction.LOWER, actor, reason)


# ---- time zones -----------------------------------------------------------------------------------------------------


@transaction.atomic
def set_zone(*, team: int, keys: Sequence[int], zone: str, actor: str) -> None:
    """The budgets of the team and of these keys count in another zone.

    A running window keeps its beginning and what was spent in it; it ends where the new zone's window that holds this
    moment ends. Raises ValueError for a zone that nobody knows.
    """
    if zone not in windows.known_zones():
        raise ValueError(f"unknown time zone {zone[:64]!r}")
    now = timezone.now()
    for row in _locked(Budget.objects.filter(_of(team, keys)).exclude(zone=zone)):
        _roll(row, now)
        row.kept_until = windows.end_of(row.window, now, zone)
        row.zone = zone
        _save(row, "zone", "kept_until", "starts_at", "used")
        _note(row, BudgetAction.ZONE, actor, "")


def _roll(row: Budget, now: dt.datetime) -> None:
    """The row as it stands now: a window that has ended is begun anew, in its own zone."""
    start = windows.running(row.window, row.zone, starts_at=row.starts_at, kept_until=row.kept_until, now=now)
    if start > row.starts_at:
        row.starts_at, row.used, row.kept_until = start, 0, None
        row.over = max(0, row.held - row.cap)


def _of(team: int, keys: Sequence[int]) -> Q:
    return Q(owner_kind=BudgetOwner.TEAM, owner_id=team) | Q(owner_kind=BudgetOwner.KEY, owner_id__in=keys)


# ---- the read side --------------------------------------------------------------------------------------------------


def ids_of(*, key: int, team: int) -> tuple[int, ...]:
    """The budgets that a call with this key must fit, in the order in which they are locked."""
    return tuple(sorted(Budget.objects.filter(_of(team, [key])).values_list("id", flat=True)))


def of_keys(keys: Sequence[int]) -> dict[int, list[Budget]]:
    """The budgets of these keys as they stand now, the shortest window first."""
    grouped: dict[int, list[Budget]] = {}
    for budget in _standing(Budget.objects.filter(owner_kind=BudgetOwner.KEY, owner_id__in=keys)):
        grouped.setdefault(budget.owner_id, []).append(budget)
    return grouped


def of_team(team: int) -> list[Budget]:
    """The team's own budgets as they stand now, the shortest window first."""
    return _standing(Budget.objects.filter(owner_kind=BudgetOwner.TEAM, owner_id=team))


def _standing(budgets: QuerySet[Budget]) -> list[Budget]:
    """A window that has ended is shown as new, a raise that has ended not at all. Nothing is written."""
    now = timezone.now()
    found = list(budgets)
    for budget in found:
        _roll(budget, now)
        if not budget.raised:
            budget.extra, budget.extra_until = 0, None
    return sorted(found, key=lambda budget: (SHORTEST_FIRST.index(budget.window), budget.pk))


SHORTEST_FIRST = ("day", "week", "month", "total")


def resets_at(budget: Budget, now: dt.datetime) -> dt.datetime | None:
    """When the running window ends and the next one begins; None for a total."""
    if budget.kept_until is not None and now < budget.kept_until:
        return budget.kept_until
    return windows.end_of(budget.window, now, budget.zone)


def one(pk: int, *, team: int, keys: Sequence[int]) -> Budget | None:
    """This budget as it stands now, if it is the team's or one of these keys'."""
    return next(iter(_standing(Budget.objects.filter(_of(team, keys), pk=pk))), None)


def changes(*, team: int, keys: Sequence[int]) -> QuerySet[BudgetChange]:
    """What was changed of these, the newest first."""
    return BudgetChange.objects.filter(_of(team, keys)).order_by("-id")
