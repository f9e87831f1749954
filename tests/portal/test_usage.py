"""The list of calls and the page of one: what is filtered, how it pages, and that the price lines add up."""

import csv
import datetime as dt
import io
import re
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from billing import catalog, money
from billing.models import PriceVersion
from billing.usage import Usage
from keys import services
from keys.models import ApiKey
from portal import wording
from portal.models import Team, User
from relay import rollups
from relay.errors import Cause
from relay.models import CallLog, CallState
from tests.portal import made


def shown(answer: Any) -> list[Any]:
    return [call.pk for call in answer.context["page"].calls]


@pytest.fixture
def calls(key: ApiKey, team: Team, price: PriceVersion) -> dict[str, CallLog]:
    other, _ = services.issue(team_id=team.pk, spec=services.Spec(name="other"))
    return {
        "now": made.call(key, price),
        "failed": made.call(key, price, ago=dt.timedelta(hours=2), state="failed"),
        "labelled": made.call(key, price, ago=dt.timedelta(hours=3), request_id="order-4711"),
        "other key": made.call(other, price, ago=dt.timedelta(days=3)),
        "other model": made.call(key, price, ago=dt.timedelta(days=10), model="gpt-4o"),
        "long ago": made.call(key, price, ago=dt.timedelta(days=60)),
    }


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ({"period": "24h"}, ["now", "failed", "labelled"]),
        ({"period": "7d"}, ["now", "failed", "labelled", "other key"]),
        ({}, ["now", "failed", "labelled", "other key", "other model"]),
        ({"period": "90d"}, ["now", "failed", "labelled", "other key", "other model", "long ago"]),
        ({"state": "failed"}, ["failed"]),
        ({"model": "gpt-4o"}, ["other model"]),
        ({"q": "order-4711"}, ["labelled"]),
        ({"q": "order"}, ["labelled"]),
        ({"q": "nothing"}, []),
        ({"model": "never-called"}, []),
        (
            {"state": "nonsense", "key": "x", "period": "century"},
            ["now", "failed", "labelled", "other key", "other model"],
        ),
    ],
)
def test_filters_are_kept_in_the_address(
    as_alice: Client, calls: dict[str, CallLog], query: dict[str, str], names: list[str]
) -> None:
    answer = as_alice.get(reverse("usage"), query)
    assert shown(answer) == [calls[name].pk for name in names]
    totals = answer.context["totals"]
    assert (totals.calls, totals.spend) == (len(names), sum(calls[name].cost for name in names))
    assert totals.errors == ("failed" in names)


def test_a_day_shows_its_own_calls_by_hour(as_alice: Client, calls: dict[str, CallLog]) -> None:
    call = calls["other model"]
    day = call.created_at.date().isoformat()
    page = as_alice.get(reverse("usage"), {"period": day})
    assert shown(page) == [call.pk]
    assert [group.name for group in page.context["report"].groups] == [f"{call.created_at:%Y-%m-%d %H:00}"]
    assert f'<option value="{day}" selected>' in page.content.decode()
    (row,) = downloaded(as_alice, "usage_calls", {"period": day})
    assert row["id"] == str(call.pk)


@pytest.mark.parametrize("day", ["2019-12-31", "0001-01-01", "9999-12-31", "2026-02-30"])
def test_a_day_that_has_no_calls_yet_or_never_had_is_no_period(
    as_alice: Client, calls: dict[str, CallLog], day: str
) -> None:
    page = as_alice.get(reverse("usage"), {"period": day})
    assert page.context["period"].name == "30d"
    assert '<option value="30d" selected>' in page.content.decode()


def test_calls_of_one_key(as_alice: Client, calls: dict[str, CallLog]) -> None:
    call = calls["other key"]
    assert shown(as_alice.get(reverse("usage"), {"key": str(call.key_id)})) == [call.pk]


def test_a_call_is_found_by_its_own_id_whenever_it_was(as_alice: Client, calls: dict[str, CallLog]) -> None:
    call = calls["long ago"]
    assert shown(as_alice.get(reverse("usage"), {"q": str(call.pk), "period": "24h"})) == [call.pk]


def test_nothing_that_matches_differs_from_nothing_at_all(as_alice: Client, key: ApiKey) -> None:
    empty = as_alice.get(reverse("usage")).content.decode()
    assert "There were no calls in this period." in empty
    nothing = as_alice.get(reverse("usage"), {"state": "failed"}).content.decode()
    assert "No call in this period matches the filters." in nothing


def test_pages_show_every_call_once_even_of_one_moment(as_alice: Client, key: ApiKey, price: PriceVersion) -> None:
    moment = timezone.now()
    for number in range(120):
        made.call(key, price, created_at=moment - dt.timedelta(seconds=number // 40))
    seen: list[Any] = []
    cursors = [""]
    while cursors[-1] or not seen:
        answer = as_alice.get(reverse("usage"), {"cursor": cursors[-1]})
        assert len(shown(answer)) <= 50
        seen += shown(answer)
        cursors.append(answer.context["page"].older)
    assert len(seen) == len(set(seen)) == 120
    assert seen == list(CallLog.objects.order_by("-created_at", "-id").values_list("pk", flat=True))
    back = as_alice.get(reverse("usage"), {"cursor": answer.context["page"].newer})
    assert shown(back) == seen[50:100]
    first = as_alice.get(reverse("usage"), {"cursor": back.context["page"].newer})
    assert shown(first) == seen[:50]
    assert first.context["page"].newer == ""


@pytest.mark.parametrize("cursor", ["x", "older~x~y", "older~2026-01-01T00:00:00~0", "sideways~a~b", "~~"])
def test_a_malformed_cursor_shows_the_first_page(as_alice: Client, calls: dict[str, CallLog], cursor: str) -> None:
    assert len(shown(as_alice.get(reverse("usage"), {"cursor": cursor}))) == 5


def test_the_price_lines_of_a_call_add_up_to_its_charge(as_alice: Client, key: ApiKey, price: PriceVersion) -> None:
    call = made.call(key, price, usage=Usage(input=1842, cache_read=11264, output=913))
    page = as_alice.get(reverse("call", args=[call.pk])).content.decode()
    table = page[page.index('<table class="lines">') : page.index("</table>")]
    *lines, charged = [money.parse(text) for text in re.findall(r">(\d+\.\d{9})<", table)]
    assert len(lines) == 3
    assert sum(lines) == charged == call.cost


def test_what_was_kept_for_an_hour_has_a_line_and_is_in_the_tokens(
    as_alice: Client, key: ApiKey, price: PriceVersion
) -> None:
    call = made.call(key, price, usage=Usage(input=100, cache_write=20, cache_write_1h=3000, output=5))
    page = as_alice.get(reverse("call", args=[call.pk])).content.decode()
    assert "Cache write for an hour" in page
    listed = as_alice.get(reverse("usage"))
    assert listed.context["report"].total.tokens_in == 3120
    assert listed.content.decode().count("3,120") >= 2, "in the call's row and in the sums"


def test_a_call_paid_by_the_call_says_so(as_alice: Client, key: ApiKey, price: PriceVersion) -> None:
    rate = catalog.card_of(price).rates["calls"]
    line = {"bucket": "calls", "quantity": 1, "rate": rate, "multiplier": 1_000_000}
    call = made.call(key, price, lines=[line | {"amount": 10_000_000}], cost=10_000_000)
    page = as_alice.get(reverse("call", args=[call.pk])).content.decode()
    assert "per call" in page
    assert "0.010000000" in page


def test_the_page_of_a_call_tells_its_facts(as_alice: Client, key: ApiKey, price: PriceVersion) -> None:
    call = made.call(
        key, price, request_id="order-4711", upstream_id="chatcmpl-9", client_ip="203.0.113.24", streamed=True
    )
    made.attempt(call, 1, channel="backup", outcome="upstream_error", status=None, first_byte_ms=None, ended_ms=100.0)
    made.attempt(call, 2)
    page = as_alice.get(reverse("call", args=[call.pk])).content.decode()
    for fact in ("order-4711", str(call.pk), "chatcmpl-9", "203.0.113.24", "backup", "Provider failed", "streamed"):
        assert fact in page
    assert money.to_text(call.held - call.cost, decimals=9) in page


def test_credentials_are_named_to_staff_only(as_alice: Client, alice: Any, key: ApiKey, price: PriceVersion) -> None:
    call = made.call(key, price)
    made.attempt(call)
    assert "k81Q" not in as_alice.get(reverse("call", args=[call.pk])).content.decode()
    alice.is_staff = True
    alice.save()
    assert "k81Q" in as_alice.get(reverse("call", args=[call.pk])).content.decode()


def test_a_failed_call_says_that_nothing_was_charged_and_why(
    as_alice: Client, key: ApiKey, price: PriceVersion
) -> None:
    call = made.call(key, price, state="failed", error="upstream_timeout", status=504)
    page = as_alice.get(reverse("call", args=[call.pk])).content.decode()
    assert "Nothing was charged" in page
    assert "The provider was silent for too long." in page
    assert "504 timeout" in page


def test_a_call_whose_client_left_says_what_was_charged(as_alice: Client, key: ApiKey, price: PriceVersion) -> None:
    call = made.call(key, price, state="left", status=499, error="client_left")
    page = as_alice.get(reverse("call", args=[call.pk])).content.decode()
    assert "What had been produced by then was charged" in page
    free = made.call(key, price, state="left", status=499, error="client_left", cost=0, lines=[])
    assert "Nothing was charged" in as_alice.get(reverse("call", args=[free.pk])).content.decode()


def test_every_cause_and_state_has_words() -> None:
    assert {cause.value for cause in Cause} <= wording.REASONS.keys()
    assert set(CallState.values) == set(wording.LOOKS)


def test_a_call_names_the_tier_that_it_was_charged_by(as_alice: Client, key: ApiKey, price: PriceVersion) -> None:
    line = {"bucket": "input", "quantity": 9, "rate": 10**9, "multiplier": 875_000, "amount": 9, "above": 200_000}
    page = as_alice.get(reverse("call", args=[made.call(key, price, lines=[line]).pk])).content.decode()
    assert "prices for more than 200,000 tokens of input" in page
    assert "× 0.875" in page
    plain = as_alice.get(reverse("call", args=[made.call(key, price).pk])).content.decode()
    assert "prices for more than" not in plain


def test_what_an_attempt_cost_us_is_for_staff_only(
    as_alice: Client, alice: User, key: ApiKey, price: PriceVersion
) -> None:
    call = made.call(key, price)
    made.attempt(call, usage={"input": 5}, usage_source="reported", cost=123_456_789)
    url = reverse("call", args=[call.pk])
    customers = as_alice.get(url).content.decode()
    assert "0.123456789" not in customers
    assert "Cost to us" not in customers
    alice.is_staff = True
    alice.save()
    staffs = as_alice.get(url).content.decode()
    assert "0.123456789" in staffs
    assert "Cost to us ($)" in staffs


# ---- sums and files -------------------------------------------------------------------------------------------------


def downloaded(client: Client, name: str, query: dict[str, Any]) -> list[dict[str, str]]:
    """The rows of a file that is streamed."""
    answer: Any = client.get(reverse(name), query)
    assert answer.status_code == 200
    assert answer["Content-Type"] == "text/csv; charset=utf-8"
    assert answer["Content-Disposition"].startswith("attachment; filename=")
    return list(csv.DictReader(io.StringIO(b"".join(answer.streaming_content).decode())))


def cost_of(rows: list[dict[str, str]]) -> int:
    return sum(money.parse(row["cost"]) for row in rows)


@pytest.mark.parametrize("by", ["day", "model", "key", "channel"])
@pytest.mark.parametrize("rolled", [False, True])
def test_usage_is_grouped_and_every_grouping_has_the_same_sums(
    as_alice: Client, calls: dict[str, CallLog], by: str, rolled: bool
) -> None:
    if rolled:
        rollups.roll_up()
    page = as_alice.get(reverse("usage"), {"by": by, "period": "30d"})
    report = page.context["report"]
    spend = sum(call.cost for name, call in calls.items() if name != "long ago")
    assert (report.total.calls, report.total.errors, report.total.cost) == (5, 1, spend)
    assert sum(group.cost for group in report.groups) == spend
    assert sum(one.total for one in report.drawn.series) == spend
    names = {"model": {"gpt-4o-mini", "gpt-4o"}, "key": {"agent-prod", "other"}, "channel": {"—"}}
    if by != "day":
        assert {group.name for group in report.groups} == names[by]
    rows = downloaded(as_alice, "usage_sums", {"by": by, "period": "30d"})
    assert (len(rows), cost_of(rows)) == (len(report.groups), spend)


def test_a_file_has_the_days_of_a_zone(as_alice: Client, key: ApiKey, price: PriceVersion) -> None:
    late = made.call(key, price, created_at=dt.datetime(2026, 3, 1, 18, 20, tzinfo=dt.UTC))
    early = made.call(key, price, created_at=dt.datetime(2026, 3, 1, 18, 40, tzinfo=dt.UTC))
    asked = {"start": "2026-03-01", "end": "2026-03-02", "by": ["day", "key"], "zone": "Asia/Kolkata"}
    rows = downloaded(as_alice, "usage_sums", asked)
    assert [(row["from"], row["key_name"], row["calls"]) for row in rows] == [
        ("2026-03-01T00:00:00+05:30", "agent-prod", "1"),
        ("2026-03-02T00:00:00+05:30", "agent-prod", "1"),
    ]
    assert cost_of(rows) == late.cost + early.cost
    (whole,) = downloaded(as_alice, "usage_sums", {**asked, "by": "model"})
    assert (whole["model"], whole["calls"]) == ("gpt-4o-mini", "2")
    assert [row["id"] for row in downloaded(as_alice, "usage_calls", asked)] == [str(late.pk), str(early.pk)]
    nobody = downloaded(as_alice, "usage_sums", {**asked, "zone": "Nowhere/At_All"})
    assert [row["from"] for row in nobody] == ["2026-03-01T00:00:00+00:00"]


@pytest.mark.parametrize("language", ["en", "zh-hans"])
def test_the_form_of_files_has_dates_that_a_browser_reads(
    as_alice: Client, calls: dict[str, CallLog], language: str
) -> None:
    as_alice.cookies["django_language"] = language
    page = as_alice.get(reverse("usage"), {"period": "7d"})
    period = page.context["period"]
    for name, day in (("start", period.start), ("end", period.buckets[-1])):
        assert f'name="{name}" value="{day:%Y-%m-%d}"' in page.content.decode()


def test_a_file_of_calls_has_what_the_filters_show(as_alice: Client, calls: dict[str, CallLog]) -> None:
    rows = downloaded(as_alice, "usage_calls", {"period": "90d"})
    assert [row["id"] for row in rows] == [str(call.pk) for call in reversed(calls.values())]
    assert cost_of(rows) == sum(call.cost for call in calls.values())
    (row,) = downloaded(as_alice, "usage_calls", {"q": "order-4711"})
    assert (row["request_id"], row["key_name"], row["used_input"]) == ("order-4711", "agent-prod", "1000")
    assert downloaded(as_alice, "usage_calls", {"model": "never-called"}) == []


def test_a_file_is_of_ones_own_team(as_charlie: Client, calls: dict[str, CallLog]) -> None:
    key = calls["now"].key_id
    for name in ("usage_sums", "usage_calls"):
        assert downloaded(as_charlie, name, {"period": "90d"}) == []
        assert downloaded(as_charlie, name, {"period": "90d", "key": str(key)}) == []


def test_a_label_cannot_become_a_formula(as_alice: Client, key: ApiKey, price: PriceVersion) -> None:
    made.call(key, price, request_id='=HYPERLINK("http://evil")')
    (row,) = downloaded(as_alice, "usage_calls", {})
    assert row["request_id"].startswith("'=")


@pytest.mark.parametrize(
    "query",
    [
        {"start": "x"},
        {"start": "2026-03-02", "end": "2026-03-01"},
        {"start": "0001-01-01", "end": "9999-12-31"},
        {"start": "9999-12-31", "end": "9999-12-31"},
        {"start": "0001-01-01", "end": "0001-01-01"},
        {"by": "nonsense"},
        {"zone": "../etc"},
        {"period": "century"},
        {"key": "x"},
    ],
)
def test_a_file_that_is_asked_for_badly_is_a_file_all_the_same(
    as_alice: Client, calls: dict[str, CallLog], query: dict[str, Any]
) -> None:
    downloaded(as_alice, "usage_sums", query)
    downloaded(as_alice, "usage_calls", query)
