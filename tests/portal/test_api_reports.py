"""The management API's usage and limits: sums that are those of the calls, caps that hold from then on."""

import csv
import datetime as dt
import io
import uuid
from typing import Any

import pytest
from django.utils import timezone

from billing import money
from billing.models import Budget, PriceVersion
from keys.models import ApiKey
from portal.models import Team, User
from tests.portal import made
from tests.portal.test_api import Program, management, team_of


@pytest.fixture
def robot(team: Team) -> Program:
    return management(team)


@pytest.fixture
def stranger(charlie: User) -> Program:
    return management(team_of(charlie))


@pytest.fixture
def calls(key: ApiKey, price: PriceVersion) -> int:
    """What four calls cost together, one of them 40 days ago."""
    hours = [dt.timedelta(hours=hours) for hours in (0, 1, 30, 960)]
    rows = [made.call(key, price, ago=ago) for ago in hours] + [made.call(key, price, state="failed")]
    return sum(row.cost for row in rows)


def file(answer: Any) -> list[dict[str, str]]:
    assert (answer.status_code, answer["Content-Type"]) == (200, "text/csv; charset=utf-8")
    return list(csv.DictReader(io.StringIO(b"".join(answer.streaming_content).decode())))


LONG = (timezone.now() - dt.timedelta(days=60)).isoformat()


@pytest.mark.parametrize("step", ["day", "none"])
@pytest.mark.parametrize("by", [[], ["model"], ["key", "channel", "state"]])
def test_every_grouping_sums_to_what_the_calls_cost(
    robot: Program, calls: int, key: ApiKey, step: str, by: list[str]
) -> None:
    asked: Any = {"start": LONG, "step": step, "by": by, "zone": "Asia/Tokyo"}
    found = robot("get", "usage", **asked).json()
    assert (found["calls"], found["errors"], money.parse(found["cost"])) == (5, 1, calls)
    assert sum(money.parse(row["cost"]) for row in found["results"]) == calls
    assert sum(money.parse(row["cost"]) for row in file(robot("get", "usage.csv", **asked))) == calls
    for row in found["results"]:
        assert (row["key"], row["key_name"]) == ((key.pk, key.name) if "key" in by else (None, None))
        assert (row["model"] is not None) == ("model" in by)
    assert sum(row["usage"].get("input", 0) for row in found["results"]) == 4_000


def test_sums_and_files_are_filtered_and_of_the_own_team(
    robot: Program, stranger: Program, calls: int, key: ApiKey
) -> None:
    assert robot("get", "usage", step="hour", state="failed").json()["calls"] == 1
    assert robot("get", "usage", key=str(key.pk + 1)).json()["calls"] == 0
    assert [len(file(robot("get", "calls.csv", start=start))) for start in ("2021-01-01T00:00:00Z", LONG)] == [5, 5]
    assert len(file(robot("get", "calls.csv", model="gpt-4o-mini"))) == 4
    assert stranger("get", "usage", start=LONG).json()["calls"] == 0
    assert file(stranger("get", "calls.csv", start=LONG)) == []


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"start": "x"}, "start"), ({"start": "0001-01-01T00:00:00+14:00"}, "start"), ({"by": "colour"}, "by"),
        ({"step": "year"}, "step"), ({"step": "hour", "start": LONG}, "step"), ({"zone": "Moon/Base"}, "zone"),
        ({"key": str(2**63)}, "key"), ({"start": "2100-01-01T00:00:00Z"}, "end"), ({"state": "lost?"}, "state"),
    ],
)  # fmt: skip
def test_sums_that_cannot_be_are_said_of_their_field(robot: Program, asked: Any, field: str) -> None:
    refused = robot("get", "usage", **asked)
    assert (refused.status_code, list(refused.json())) == (400, [field])


# ---- limits ---------------------------------------------------------------------------------------------------------


def test_caps_are_set_raised_lowered_and_taken_away(robot: Program, key: ApiKey) -> None:
    for path, owner in (("limits/team", "team"), (f"limits/keys/{key.pk}", "key")):
        (cap,) = robot("patch", path, {"day": "5"}).json()
        assert (cap["window"], cap["cap"], cap["left"], cap["extra"]) == ("day", "5", "5", "0")
        assert Budget.objects.get(pk=cap["id"]).owner_kind == owner
        until = (timezone.now() + dt.timedelta(hours=2)).isoformat()
        raised = robot("post", f"limits/{cap['id']}/raise", {"extra": "2.5", "until": until, "reason": "a launch"})
        assert (raised.status_code, raised.json()["left"], raised.json()["extra"]) == (200, "7.5", "2.5")
        assert robot("post", f"limits/{cap['id']}/lower").json()["left"] == "5"
        assert [row["window"] for row in robot("patch", path, {"month": "9"}).json()] == ["day", "month"]
        assert robot("patch", path, {"day": None, "month": None}).json() == []
    told = [(row["action"], row["key"]) for row in robot("get", "limits/changes").json()["results"]]
    mine = ["uncap", "uncap", "cap", "lower", "raise", "cap"]
    assert told == [(action, key.pk) for action in mine] + [(action, None) for action in mine]


def test_windows_are_counted_in_the_teams_zone(robot: Program) -> None:
    robot("patch", "limits/team", {"day": "5"})
    found = robot("patch", "limits", {"time_zone": "Asia/Shanghai"}).json()
    assert (found["time_zone"], robot("get", "limits").json()) == ("Asia/Shanghai", found)
    assert dt.datetime.fromisoformat(found["quotas"][0]["resets_at"]) > timezone.now()
    refused = robot("patch", "limits", {"time_zone": "Moon/Base"})
    assert (refused.status_code, list(refused.json())) == (400, ["time_zone"])


def test_a_raise_that_cannot_be_is_said_of_its_field(robot: Program) -> None:
    (cap,) = robot("patch", "limits/team", {"total": "5"}).json()
    good = {"extra": "1", "until": (timezone.now() + dt.timedelta(hours=2)).isoformat(), "reason": "x"}
    for field, value in (("extra", "0"), ("extra", "-1"), ("until", "2001-01-01T00:00:00Z"), ("reason", " ")):
        refused = robot("post", f"limits/{cap['id']}/raise", {**good, field: value})
        assert (refused.status_code, list(refused.json())) == (400, [field])
    assert robot("patch", "limits/team", {"day": 5}).json().keys() == {"day"}
    assert Budget.objects.get().extra == 0


def test_limits_of_another_team_do_not_exist(robot: Program, stranger: Program, key: ApiKey) -> None:
    (cap,) = robot("patch", "limits/team", {"day": "5"}).json()
    for method, path in (
        ("patch", f"limits/keys/{key.pk}"),
        ("post", f"limits/{cap['id']}/raise"), ("post", f"limits/{cap['id']}/lower"),
    ):  # fmt: skip
        assert stranger(method, path, {"day": "1"}).status_code == 404, path
    assert stranger("get", "limits").json()["quotas"] == []
    assert stranger("get", "limits/changes").json()["results"] == []


@pytest.mark.parametrize("cursor", ["cD1hYmM=", "x", "cD0yMDI2", "%00"])
@pytest.mark.parametrize("path", ["keys", "payments", "invoices", "limits/changes"])
def test_a_cursor_that_somebody_wrote_is_not_found_or_is_the_first_page(robot: Program, path: str, cursor: str) -> None:
    assert robot("get", path, cursor=cursor).status_code in (200, 404)
    assert robot("get", f"payments/{uuid.uuid4()}").status_code == 404
