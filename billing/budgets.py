"""Spending caps: the only writers of `Budget` besides the hold's own transaction."""

from django.db import transaction
from django.db.models import F
from django.db.models.functions import Greatest
from django.utils import timezone

from billing import revisions, windows
from billing.models import Budget, BudgetOwner


@transaction.atomic
def set_cap(*, owner: BudgetOwner, owner_id: int, window: str, cap: int | None, zone: str = "UTC") -> Budget | None:
    """Sets the cap (nano-units) of a window, or takes it away where `cap` is None.

    What was spent in the current window stays counted. A cap below that is allowed; it stops the next call. A key's
    caps are the business of whoever changes the key; a team's concern all of its keys, on every process.
    """
    if owner == BudgetOwner.TEAM:
        revisions.bump(revisions.TEAM_BUDGETS)
    found = Budget.objects.select_for_update().filter(owner_kind=owner, owner_id=owner_id, window=window)
    if cap is None:
        found.delete()
        return None
    budget = found.first()
    if budget is None:
        start = windows.start_of(window, timezone.now(), zone)
        return Budget.objects.create(
            owner_kind=owner, owner_id=owner_id, window=window, cap=cap, zone=zone, starts_at=start
        )
    found.update(cap=cap, zone=zone, over=Greatest(0, F("used") + F("held") - cap))
    budget.refresh_from_db()
    return budget


def ids_of(*, key: int, team: int) -> tuple[int, ...]:
    """The budgets that a call with this key must fit, in the order in which they are locked."""
    mine = Budget.objects.filter(owner_kind=BudgetOwner.KEY, owner_id=key)
    ours = Budget.objects.filter(owner_kind=BudgetOwner.TEAM, owner_id=team)
    return tuple(sorted((mine | ours).values_list("id", flat=True)))


def of_keys(keys: list[int]) -> dict[int, list[Budget]]:
    """The budgets of these keys as they stand now, a window that has ended shown as new."""
    grouped: dict[int, list[Budget]] = {}
    now = timezone.now()
    for budget in Budget.objects.filter(owner_kind=BudgetOwner.KEY, owner_id__in=keys).order_by("id"):
        if windows.start_of(budget.window, now, budget.zone) > budget.starts_at:
            budget.used = 0
        grouped.setdefault(budget.owner_id, []).append(budget)
    return grouped
