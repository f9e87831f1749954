"""The read side of keys: a team's keys, found and sorted, and how each one stands."""

import datetime as dt
from collections.abc import Collection, Sequence
from enum import StrEnum

import msgspec
from django.db.models import Q, QuerySet
from django.utils.translation import gettext as _

from billing.models import Budget
from keys.models import ApiKey, KeyState

SOON = dt.timedelta(days=7)
NEARLY_SPENT = 80  # per cent of a quota


class Tone(StrEnum):
    OK = "ok"
    WARN = "warn"
    BAD = "bad"
    OFF = "off"


class Standing(msgspec.Struct, frozen=True):
    """A key's state as a person reads it: icon, word and tone."""

    tone: Tone
    icon: str
    word: str


def of_team(team: int) -> QuerySet[ApiKey]:
    """All keys of the team, revoked ones too. Every look-up of a key starts here."""
    return ApiKey.objects.filter(team_id=team)


def masks(keys: Collection[int]) -> dict[int, str]:
    """What is shown of these keys' secrets, by their numbers: no key ever changes it, and none is ever deleted."""
    return {key.pk: key.masked for key in ApiKey.objects.filter(pk__in=keys).only("prefix", "last_four")}


def name_of(key: int) -> str:
    return str(ApiKey.objects.filter(pk=key).values_list("name", flat=True).first() or "")


def searched(keys: QuerySet[ApiKey], text: str) -> QuerySet[ApiKey]:
    """Keys whose name contains the text, or whose shown beginning or end is in it (a whole key may be pasted)."""
    text = text.strip()
    if not text:
        return keys
    found = Q(name__icontains=text) | Q(prefix__startswith=text) | Q(last_four=text[-4:])
    if "…" in text:
        head, _mark, tail = text.partition("…")
        found = Q(prefix__startswith=head, last_four=tail)
    return keys.filter(found)


def kept(keys: QuerySet[ApiKey]) -> QuerySet[ApiKey]:
    return keys.exclude(state=KeyState.REVOKED)


def revoked(keys: QuerySet[ApiKey]) -> QuerySet[ApiKey]:
    return keys.filter(state=KeyState.REVOKED)


def active(keys: QuerySet[ApiKey], now: dt.datetime) -> QuerySet[ApiKey]:
    """Keys that are in force."""
    return keys.filter(Q(expires_at__isnull=True) | Q(expires_at__gt=now), state=KeyState.ACTIVE)


def expiring(keys: QuerySet[ApiKey], now: dt.datetime) -> QuerySet[ApiKey]:
    """Keys that expire within a week, or have."""
    return kept(keys).filter(expires_at__lte=now + SOON)


def spent_percent(quota: Budget) -> int:
    """How much of the cap, raised as it may be, is used: in whole per cent, rounded down so that 100 means spent."""
    return 100 if quota.limit <= 0 else min(100, quota.used * 100 // quota.limit)


def tightest(quotas: Sequence[Budget]) -> Budget | None:
    """Of several caps the one that is nearest to being spent."""
    return max(quotas, key=spent_percent, default=None)


def standing(key: ApiKey, quota: Budget | None, now: dt.datetime) -> Standing:
    """What matters most about the key now."""
    if key.state == KeyState.REVOKED:
        return Standing(Tone.OFF, "bad", _("Revoked"))
    if key.state == KeyState.PAUSED:
        return Standing(Tone.OFF, "pause", _("Paused"))
    if key.expires_at is not None and key.expires_at <= now:
        return Standing(Tone.BAD, "clock", _("Expired"))
    percent = spent_percent(quota) if quota else 0
    if percent >= 100:
        return Standing(Tone.BAD, "bad", _("Quota spent"))
    if key.expires_at is not None and key.expires_at <= now + SOON:
        return Standing(Tone.WARN, "clock", _expires_in(key.expires_at - now))
    if percent >= NEARLY_SPENT:
        return Standing(Tone.WARN, "warn", _("%(percent)s %% used") % {"percent": percent})
    return Standing(Tone.OK, "ok", _("Active"))


def _expires_in(left: dt.timedelta) -> str:
    if left.days >= 1:
        return _("Expires in %(n)d d") % {"n": left.days}
    return _("Expires in %(n)d h") % {"n": left.seconds // 3600}
