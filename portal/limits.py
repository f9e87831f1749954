"""The page of limits: what the team and each of its keys may spend, what is used, held and left, and who changed it."""

import datetime as dt
from collections.abc import Sequence
from typing import Any

import msgspec
from django.core.paginator import Paginator
from django.utils import timezone
from django.utils.translation import gettext as _

from billing import budgets, windows
from billing.models import Budget, BudgetChange, BudgetOwner
from keys import rates, selectors
from keys import services as keys
from keys.models import ApiKey
from portal.charts import percent
from portal.models import Team

PER_PAGE = 50
CHANGES = 12


class Bar(msgspec.Struct, frozen=True):
    """A cap as it stands now. `used` and `held` are widths in per cent of the cap, raised as it may be."""

    budget: Budget
    used: str
    held: str
    held_from: str
    tone: str
    resets_at: dt.datetime | None


class Line(msgspec.Struct, frozen=True):
    key: ApiKey
    bars: tuple[Bar, ...]

    @property
    def has_rates(self) -> bool:
        return any(getattr(self.key, name) for name in rates.FIELDS)


class Change(msgspec.Struct, frozen=True):
    """`whose` is the key's name, or the team."""

    row: BudgetChange
    whose: str


class Limits(msgspec.Struct, frozen=True):
    """`local` is the time now on the team's clocks, `rates` the team's rate limits in force, if there are any."""

    local: dt.datetime
    rates: dict[str, int | None] | None
    team: tuple[Bar, ...]
    lines: tuple[Line, ...]
    page: Any
    changes: tuple[Change, ...]


def limits(team: Team, page: str = "1") -> Limits:
    """Everything on the page. Times are on the team's clocks."""
    now = timezone.now()
    zone = windows.zone(team.time_zone)
    names = dict(selectors.of_team(team.pk).values_list("pk", "name"))
    shown = Paginator(selectors.kept(selectors.of_team(team.pk)).order_by("name", "pk"), PER_PAGE).get_page(page)
    caps = budgets.of_keys([key.pk for key in shown])
    changes = budgets.changes(team=team.pk, keys=list(names))[:CHANGES]
    in_force = keys.team_rates(team)
    return Limits(
        local=now.astimezone(zone),
        rates=in_force if any(in_force.values()) else None,
        team=_bars(budgets.of_team(team.pk), now, zone),
        lines=tuple(Line(key, _bars(caps.get(key.pk, []), now, zone)) for key in shown),
        page=shown,
        changes=tuple(Change(row, _whose(row, names)) for row in changes),
    )


def _whose(row: BudgetChange, names: dict[int, str]) -> str:
    return _("Team") if row.owner_kind == BudgetOwner.TEAM else names.get(row.owner_id, "—")


def _bars(found: Sequence[Budget], now: dt.datetime, zone: dt.tzinfo) -> tuple[Bar, ...]:
    return tuple(_bar(budget, now, zone) for budget in found)


def _bar(budget: Budget, now: dt.datetime, zone: dt.tzinfo) -> Bar:
    used = _share(budget.used, budget.limit)
    held = min(_share(budget.held, budget.limit), 100.0 - used)
    spent = selectors.spent_percent(budget)
    ends = budgets.resets_at(budget, now)
    if budget.extra_until is not None:
        budget.extra_until = budget.extra_until.astimezone(zone)
    return Bar(
        budget=budget,
        used=percent(used),
        held=percent(held),
        held_from=percent(used),
        tone="bad" if spent >= 100 else "warn" if spent >= selectors.NEARLY_SPENT else "",
        resets_at=ends.astimezone(zone) if ends else None,
    )


def _share(part: int, whole: int) -> float:
    return min(100.0, 100 * part / whole) if whole > 0 else 100.0


def key_ids(team: Team) -> list[int]:
    return list(selectors.of_team(team.pk).values_list("pk", flat=True))
