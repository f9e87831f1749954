"""The page of limits: time zone, caps of the team and of its keys, raises; for the team's own people only."""

import datetime as dt
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from billing import budgets, money
from billing.models import Budget, BudgetChange, BudgetOwner
from keys import services as keys
from keys.models import ApiKey
from portal import limits
from portal.models import Team

DAY = dt.timedelta(days=1)


def caps(**windows: str) -> dict[str, str]:
    return {"day": "", "week": "", "month": "", "total": "", **windows}


def stored(owner: BudgetOwner, owner_id: int) -> dict[str, int]:
    return dict(Budget.objects.filter(owner_kind=owner, owner_id=owner_id).values_list("window", "cap"))


def team_budget(team: Team, cap: str = "100", window: str = "month", **fields: int) -> Budget:
    budget = budgets.set_cap(owner=BudgetOwner.TEAM, owner_id=team.pk, window=window, cap=money.parse(cap))
    assert budget is not None
    Budget.objects.filter(pk=budget.pk).update(**fields)
    return budget


def raised(**fields: str) -> dict[str, str]:
    until = (timezone.now() + 3 * DAY).strftime("%Y-%m-%dT%H:%M")
    return {"extra": "50", "until": until, "reason": "a demonstration", **fields}


def test_a_page_without_limits_says_so(as_alice: Client, key: ApiKey) -> None:
    page = as_alice.get(reverse("limits")).content.decode()
    for text in ("Limits", "UTC", "Nothing caps what the team spends", "agent-prod", "No limit"):
        assert text in page


def test_used_held_and_left_are_shown(as_alice: Client, team: Team, key: ApiKey) -> None:
    team_budget(team, used=money.parse("60"), held=money.parse("15"))
    page = as_alice.get(reverse("limits")).content.decode()
    for text in ("60.00 used", "15.00 held", "limit 100.00", "25.00", 'width="60.00%"', 'x="60.00%" width="15.00%"'):
        assert text in page


def test_the_team_has_a_limit_for_each_window(as_alice: Client, team: Team) -> None:
    answer = as_alice.post(reverse("limit_team"), caps(day="5", month="100.50"))
    assert answer.headers["Location"] == reverse("limits")
    assert stored(BudgetOwner.TEAM, team.pk) == {"day": money.parse("5"), "month": money.parse("100.5")}
    as_alice.post(reverse("limit_team"), caps(month="80"))
    assert stored(BudgetOwner.TEAM, team.pk) == {"month": money.parse("80")}
    told = [(change.action, change.actor) for change in BudgetChange.objects.order_by("id")]
    assert told == [(action, "alice@example.com") for action in ("cap", "cap", "uncap", "cap")]


def test_a_key_has_several_limits_at_once_and_keeps_them_when_it_is_edited(as_alice: Client, key: ApiKey) -> None:
    before = key.revision
    as_alice.post(reverse("limit_key", args=[key.pk]), caps(day="5", total="50"))
    both = {"day": money.parse("5"), "total": money.parse("50")}
    assert stored(BudgetOwner.KEY, key.pk) == both
    key.refresh_from_db()
    assert key.revision > before
    page = as_alice.get(reverse("key_edit", args=[key.pk])).content.decode()
    assert "This key has several quotas." in page
    assert 'name="quota"' not in page
    form = {"name": "renamed", "expires": "never", "billing": "metered", "models": "", "networks": ""}
    assert as_alice.post(reverse("key_edit", args=[key.pk]), form).status_code == 302
    key.refresh_from_db()
    assert key.name == "renamed"
    assert stored(BudgetOwner.KEY, key.pk) == both


def test_the_list_of_keys_shows_the_limit_that_is_nearest_to_its_end(as_alice: Client, key: ApiKey) -> None:
    keys.set_caps(key, {"day": money.parse("5"), "total": money.parse("50")}, actor="t")
    Budget.objects.filter(window="total").update(used=money.parse("49"))
    page = as_alice.get(reverse("keys")).content.decode()
    assert "<b>49.00</b> / 50.00" in page


def test_a_limit_below_one_unit_can_be_read(as_alice: Client, key: ApiKey) -> None:
    keys.set_caps(key, {"day": money.parse("0.0004")}, actor="t")
    Budget.objects.update(used=money.parse("0.0001"))
    budget = Budget.objects.get()
    assert "<b>0.000100</b> / 0.000400" in as_alice.get(reverse("keys")).content.decode()
    page = as_alice.get(reverse("limits")).content.decode()
    assert "$0.000300" in page
    assert "limit 0.000400" in page
    assert "$0.000400. The raise ends" in as_alice.get(reverse("limit_raise", args=[budget.pk])).content.decode()


def test_new_budgets_count_in_the_teams_zone(as_alice: Client, team: Team, key: ApiKey) -> None:
    as_alice.post(reverse("limit_zone"), {"zone": "Asia/Shanghai"})
    team.refresh_from_db()
    assert team.time_zone == "Asia/Shanghai"
    as_alice.post(reverse("limit_team"), caps(day="5"))
    as_alice.post(reverse("limit_key", args=[key.pk]), caps(week="5"))
    _, _token = keys.issue(team_id=team.pk, spec=keys.Spec(name="new", quota=5, window="month"))
    assert set(Budget.objects.values_list("zone", flat=True)) == {"Asia/Shanghai"}
    for budget in Budget.objects.all():
        assert budget.starts_at.astimezone(dt.timezone(8 * dt.timedelta(hours=1))).hour == 0


def test_another_zone_is_that_of_the_teams_and_its_keys_budgets_and_loses_nothing(
    as_alice: Client, team: Team, key: ApiKey
) -> None:
    team_budget(team, window="day", used=money.parse("60"))
    keys.set_caps(key, {"day": money.parse("5"), "total": money.parse("50")}, actor="t")
    Budget.objects.filter(owner_kind="key").update(used=money.parse("3"))
    for zone in ("America/Los_Angeles", "Asia/Tokyo"):
        as_alice.post(reverse("limit_zone"), {"zone": zone})
        assert set(Budget.objects.values_list("zone", flat=True)) == {zone}
        assert [bar.budget.used for bar in limits.limits(team).team] == [money.parse("60")]
        assert [bar.budget.used for bar in limits.limits(team).lines[0].bars] == [money.parse("3")] * 2


@pytest.mark.parametrize("zone", ["Mars/Olympus", "", "../etc/passwd", "UTC+8", "Asia/Tokyo\x00"])
def test_a_zone_that_nobody_knows_is_refused(as_alice: Client, team: Team, zone: str) -> None:
    assert as_alice.post(reverse("limit_zone"), {"zone": zone}).status_code == 422
    team.refresh_from_db()
    assert team.time_zone == "UTC"


def test_a_raise_is_shown_with_its_end_and_can_be_ended_early(as_alice: Client, team: Team) -> None:
    budget = team_budget(team, used=money.parse("99"))
    assert as_alice.post(reverse("limit_raise", args=[budget.pk]), raised()).status_code == 302
    page = as_alice.get(reverse("limits")).content.decode()
    for text in ("raised by $50.00 until", "limit 150.00", "51.00", "a demonstration", "alice@example.com"):
        assert text in page
    as_alice.post(reverse("limit_lower", args=[budget.pk]))
    budget.refresh_from_db()
    assert (budget.extra, budget.extra_until, budget.limit) == (0, None, money.parse("100"))
    assert "raise ended" in as_alice.get(reverse("limits")).content.decode()


def test_the_end_of_a_raise_is_read_on_the_teams_clocks(as_alice: Client, team: Team) -> None:
    budget = team_budget(team)
    as_alice.post(reverse("limit_zone"), {"zone": "Asia/Tokyo"})
    tomorrow = (timezone.now() + 2 * DAY).strftime("%Y-%m-%d")
    as_alice.post(reverse("limit_raise", args=[budget.pk]), raised(until=f"{tomorrow}T09:30"))
    budget.refresh_from_db()
    assert budget.extra_until is not None
    assert budget.extra_until.astimezone(dt.UTC).strftime("%Y-%m-%d %H:%M") == f"{tomorrow} 00:30"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"extra": "0"}, "A raise is more than zero"),
        ({"extra": "-5"}, "Write an amount such as"),
        ({"extra": ""}, "required"),
        ({"until": "2020-01-01T00:00"}, "lies in the past"),
        ({"until": "2099-01-01T00:00"}, "at most a year"),
        ({"until": "soon"}, "Enter a valid date/time"),
        ({"reason": "  "}, "required"),
    ],
)
def test_a_raise_that_makes_no_sense_is_refused(
    as_alice: Client, team: Team, fields: dict[str, str], said: str
) -> None:
    budget = team_budget(team)
    answer = as_alice.post(reverse("limit_raise", args=[budget.pk]), raised(**fields))
    assert answer.status_code == 422
    assert said in answer.content.decode()
    budget.refresh_from_db()
    assert budget.extra == 0


def test_a_limit_below_what_is_used_is_taken_and_said(as_alice: Client, team: Team) -> None:
    team_budget(team, used=money.parse("60"))
    as_alice.post(reverse("limit_team"), caps(month="40"))
    page = as_alice.get(reverse("limits")).content.decode()
    assert "$20.00 above the limit" in page
    assert '<svg class="meter bad"' in page


# ---- others ---------------------------------------------------------------------------------------------------------


def test_another_team_sees_and_changes_nothing(as_charlie: Client, team: Team, key: ApiKey) -> None:
    budget = team_budget(team)
    keys.set_caps(key, {"day": money.parse("5")}, actor="alice")
    mine = Budget.objects.get(owner_kind="key")
    page = as_charlie.get(reverse("limits")).content.decode()
    assert key.name not in page
    assert "100.00" not in page
    assert as_charlie.get(reverse("limit_key", args=[key.pk])).status_code == 404
    assert as_charlie.post(reverse("limit_key", args=[key.pk]), caps(day="1")).status_code == 404
    for pk in (budget.pk, mine.pk):
        assert as_charlie.get(reverse("limit_raise", args=[pk])).status_code == 404
        assert as_charlie.post(reverse("limit_raise", args=[pk]), raised()).status_code == 404
        assert as_charlie.post(reverse("limit_lower", args=[pk])).status_code == 404
    assert as_charlie.post(reverse("limit_team"), caps(day="1")).status_code == 302  # his own team's
    assert as_charlie.post(reverse("limit_zone"), {"zone": "Asia/Tokyo"}).status_code == 302
    team.refresh_from_db()
    assert team.time_zone == "UTC"
    assert stored(BudgetOwner.TEAM, team.pk) == {"month": money.parse("100")}
    assert not Budget.objects.exclude(extra=0).exists()


def test_a_member_who_looks_at_his_own_team_changes_nothing_of_the_other(as_bob: Client, team: Team) -> None:
    budget = team_budget(team)
    assert as_bob.post(reverse("limit_raise", args=[budget.pk]), raised()).status_code == 404
    as_bob.post(reverse("limit_team"), caps(day="1"))
    assert stored(BudgetOwner.TEAM, team.pk) == {"month": money.parse("100")}


@pytest.mark.parametrize("name", ["limit_team", "limit_zone", "limit_raise"])
def test_dialogs_open_and_are_announced(as_alice: Client, team: Team, name: str) -> None:
    parts: Any = [team_budget(team).pk] if name == "limit_raise" else []
    page = as_alice.get(reverse(name, args=parts)).content.decode()
    assert 'aria-labelledby="dialog-title"' in page
