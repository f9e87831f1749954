"""The overview: the first steps until there is a call, then figures that agree with the usage records."""

import datetime as dt

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from billing.models import PriceVersion
from keys.models import ApiKey
from portal import periods
from portal.models import Team
from tests.portal import made


def test_the_first_steps_stand_until_the_first_call(
    as_alice: Client, team: Team, price: PriceVersion, request: pytest.FixtureRequest
) -> None:
    before = as_alice.get(reverse("overview"))
    assert (before.context["steps"].done, before.context["steps"].has_credit) == (2, True)
    key: ApiKey = request.getfixturevalue("key")
    assert as_alice.get(reverse("overview")).context["steps"].done == 3
    made.call(key, price)
    page = as_alice.get(reverse("overview"))
    assert "steps" not in page.context
    assert "Recent calls" in page.content.decode()


def test_without_credit_the_first_steps_say_whom_to_ask(as_charlie: Client) -> None:
    assert "Ask an administrator to add credit." in as_charlie.get(reverse("overview")).content.decode()


def test_figures_are_the_sums_of_the_period(as_alice: Client, key: ApiKey, price: PriceVersion) -> None:
    made.call(key, price)
    made.call(key, price, model="gpt-4o")
    made.call(key, price, state="failed")
    old = made.call(key, price, ago=dt.timedelta(days=45))
    overview = as_alice.get(reverse("overview")).context["overview"]
    assert (overview.totals.calls, overview.totals.errors, overview.error_rate) == (3, 1, "33.33")
    assert overview.totals.spend == 2 * old.cost
    assert overview.requests.delta.text == "200.0 %"
    assert sum(one.total for one in overview.series) == overview.totals.spend


def test_the_chart_and_its_table_show_the_same(as_alice: Client, key: ApiKey, price: PriceVersion) -> None:
    for number in range(9):
        made.call(key, price, model=f"model-{number}", ago=dt.timedelta(days=number))
    overview = as_alice.get(reverse("overview")).context["overview"]
    assert [one.number for one in overview.series] == [1, 2, 3, 4, 5, 6, 0]
    assert overview.series[-1].name == "Other (3)"
    assert sum(one.total for one in overview.series) == overview.totals.spend
    assert len(overview.chart.bars) == 30


def test_spend_is_grouped_by_key_too(as_alice: Client, key: ApiKey, price: PriceVersion) -> None:
    call = made.call(key, price)
    (one,) = as_alice.get(reverse("overview"), {"by": "key"}).context["overview"].series
    assert (one.name, one.total) == (key.name, call.cost)


@pytest.mark.parametrize("name", periods.NAMES)
def test_periods_are_whole_buckets_that_end_with_the_current_one(name: str) -> None:
    now = timezone.now()
    period = periods.named(name, now)
    assert period.start == period.buckets[0]
    assert period.buckets[-1] <= now < period.end
    assert period.before_start == period.start - (period.end - period.start)
    assert now - period.start == period.before_end - period.before_start


@pytest.mark.parametrize("period", ["24h", "7d", "30d", "nonsense"])
def test_each_period_has_a_page(as_alice: Client, key: ApiKey, price: PriceVersion, period: str) -> None:
    made.call(key, price)
    page = as_alice.get(reverse("overview"), {"period": period})
    assert page.status_code == 200
    assert page.context["overview"].totals.calls == 1
