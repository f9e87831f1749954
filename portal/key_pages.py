"""The list of keys, put together for the page: the keys' own rows, their quotas, and what they were used for."""

import datetime as dt
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import msgspec
from django.core.paginator import Paginator
from django.db.models import F, QuerySet
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from billing import budgets
from billing.models import Budget
from keys import selectors
from keys.models import ApiKey
from keys.selectors import Standing
from portal.models import Team
from relay import selectors as calls
from relay.urls import ROUTES

PER_PAGE = 50
SPENT_IN = dt.timedelta(days=30)
# What a restricted key may be limited to.
ENDPOINTS = sorted({route.endpoint for route in ROUTES})

Chosen = Callable[[QuerySet[ApiKey], dt.datetime], QuerySet[ApiKey]]
VIEWS: dict[str, tuple[Any, Chosen]] = {
    "all": (_("All"), lambda keys, now: selectors.kept(keys)),
    "active": (_("Active"), selectors.active),
    "expiring": (_("Expires soon"), selectors.expiring),
    "unused": (_("Never used"), lambda keys, now: calls.never_used(selectors.kept(keys))),
    "revoked": (_("Revoked"), lambda keys, now: selectors.revoked(keys)),
}


class Chip(msgspec.Struct, frozen=True):
    view: str
    label: Any
    count: int


class Line(msgspec.Struct, frozen=True):
    """A key with what stands beside it. `percent` is of the quota, `spend` nano-units in 30 days."""

    key: ApiKey
    quota: Budget | None
    percent: int
    standing: Standing
    spend: int
    last_used: dt.datetime | None


class Listing(msgspec.Struct, frozen=True):
    """`total` is what the keys of the view and the search, on all pages, spent in 30 days."""

    lines: tuple[Line, ...]
    chips: tuple[Chip, ...]
    view: str
    search: str
    page: Any
    total: int

    @property
    def query(self) -> str:
        """What asks for the same list again, `?view=active&page=2`; empty for the first page of all keys."""
        page = self.page.number if self.page.number > 1 else ""
        return query(view=self.view if self.view != "all" else "", q=self.search, page=page)


def query(**asked: Any) -> str:
    """The query of an address that asks for this; what is empty is left out."""
    text = urlencode({name: value for name, value in asked.items() if value})
    return f"?{text}" if text else ""


def listing(team: Team, *, view: str = "all", search: str = "", page: str = "1") -> Listing:
    """The keys of a view, last used first, with the number of keys in each view."""
    now = timezone.now()
    view = view if view in VIEWS else "all"
    mine = selectors.of_team(team.pk)
    chips = tuple(Chip(name, label, chosen(mine, now).count()) for name, (label, chosen) in VIEWS.items())
    found = selectors.searched(VIEWS[view][1](mine, now), search)
    ordered = calls.with_last_use(found).order_by(F("last_used").desc(nulls_last=True), "-created_at", "-pk")
    shown = Paginator(ordered, PER_PAGE).get_page(page)
    spend = calls.spend_by_key(team.pk, now - SPENT_IN, now)
    return Listing(
        lines=_lines(list(shown), spend, now),
        chips=chips,
        view=view,
        search=search,
        page=shown,
        total=sum(spend.get(pk, 0) for pk in found.values_list("pk", flat=True)),
    )


def _lines(keys: list[Any], spend: dict[int, int], now: dt.datetime) -> tuple[Line, ...]:
    quotas = budgets.of_keys([key.pk for key in keys])
    return tuple(_line(key, selectors.tightest(quotas.get(key.pk, [])), spend, now) for key in keys)


def _line(key: Any, quota: Budget | None, spend: dict[int, int], now: dt.datetime) -> Line:
    return Line(
        key=key,
        quota=quota,
        percent=selectors.spent_percent(quota) if quota else 0,
        standing=selectors.standing(key, quota, now),
        spend=spend.get(key.pk, 0),
        last_used=key.last_used,
    )


def quotas_of(key: ApiKey) -> list[Budget]:
    return budgets.of_keys([key.pk]).get(key.pk, [])
