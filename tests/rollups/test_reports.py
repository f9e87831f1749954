"""Reports say what the naive sums over the call log say, to the nano-unit, however much of it is rolled up."""

import csv
import datetime as dt
import io
import itertools
import random
from collections.abc import Iterator
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.db.models import Sum
from django.utils import timezone
from hypothesis import given, seed
from hypothesis import strategies as st

from billing import audit, money
from billing.models import Transfer
from portal import exports, periods
from relay import reports, rollups, selectors
from relay.models import CallLog
from relay.reports import Dimension, Wanted
from tests.rollups import naive
from tests.rollups.conftest import House
from tests.rollups.naive import seeded

ZONES = ("UTC", "Europe/Berlin", "Asia/Kolkata", "Asia/Kathmandu", "Australia/Lord_Howe", "America/St_Johns")
DIMENSIONS: tuple[Dimension, ...] = ("key_id", "model", "channel", "state")


def scatter(house: House, source: random.Random, count: int, now: dt.datetime) -> None:
    """Calls of some days, many of them near the edges of quarters, hours and days."""
    for _ in range(count):
        at = now - dt.timedelta(seconds=source.uniform(0, 5 * 86400))
        if source.random() < 0.4:
            minute = source.choice((0, 15, 30, 45))
            at = at.replace(minute=minute, second=0, microsecond=0) + source.choice((0, 1, -1)) * periods.HOUR / 3.6e9
        house.call(
            at,
            who=source.randrange(3),
            model=source.choice(("chat", "other")),
            channels=source.choice((("main",), ("spare",), ("spare", "main"), ("main", "spare"))),
            state=source.choice(("settled", "settled", "settled", "left", "failed")),
            tokens=(source.randrange(5000), source.randrange(500)),
        )


def asked(
    source: random.Random, house: House, now: dt.datetime
) -> tuple[Wanted, tuple[Dimension, ...], list[dt.datetime]]:
    """Some question: with edges in some zone, or a period that begins and ends anywhere."""
    by = tuple(name for name in DIMENSIONS if source.random() < 0.4)
    team = source.choice((*house.teams, rollups.EVERYBODY))
    narrow = {"model": source.choice(("", "", "chat")), "channel": source.choice(("", "", "spare"))}
    narrow["state"] = source.choice(("", "", "settled", "failed"))
    if team == rollups.EVERYBODY:
        by, key = tuple(name for name in by if name != "key_id"), None
    else:
        key = source.choice((None, None, *(p.key for p in house.principals if p.team == team)))
    if source.random() < 0.4:
        start = now - dt.timedelta(seconds=source.uniform(0, 6 * 86400))
        edges = [start, start + dt.timedelta(seconds=source.choice((1, 600, 1200, 7000, 200_000)))]
    else:
        zone, last = ZoneInfo(source.choice(ZONES)), now.date()
        first = last - dt.timedelta(days=source.randrange(6))
        edges = list(periods.edges(first, last, source.choice(("hour", "day")), zone))
    wanted = Wanted(team=team, start=edges[0], end=edges[-1], key=key, **narrow)
    return wanted, by, edges


def test_reports_are_the_sums_over_the_calls_however_much_is_rolled_up(house: House) -> None:
    source, now = seeded(), timezone.now()
    for _ in range(3):
        scatter(house, source, 40, now)
        if source.random() < 0.7:
            rollups.roll_up()
        for _ in range(25):
            wanted, by, edges = asked(source, house, now)
            found = reports.lines(wanted, by=by, edges=edges)
            naive.same(found, by, naive.lines(wanted, by, edges))
    rollups.roll_up()
    assert audit.run() == []


def test_every_grouping_of_an_export_sums_to_the_ledger(house: House) -> None:
    source, now = seeded(), timezone.now()
    scatter(house, source, 60, now)
    rollups.roll_up()
    scatter(house, source, 20, now)
    days = (now - dt.timedelta(days=7)).date(), (now + dt.timedelta(days=1)).date()
    for team in house.teams:
        wallet = next(p.account for p in house.principals if p.team == team)
        charged = Transfer.objects.filter(debit=wallet, kind="charge").aggregate(total=Sum("amount"))["total"] or 0
        for count in range(len(exports.DIMENSIONS) + 1):
            for by in itertools.combinations(exports.DIMENSIONS, count):
                step, zone = source.choice(("hour", "day", "whole")), source.choice(ZONES)
                grouped = exports.grouping([*by, step], zone)
                start, end = (periods.midnight(day, ZoneInfo(zone)) for day in (days[0], days[1] + periods.DAY))
                wanted = selectors.Wanted(team=team, start=start, end=end)
                assert cost_of("".join(exports.sums(wanted, grouped, days))) == charged, (by, step, zone)
        wanted = selectors.Wanted(team=team, start=now - 8 * periods.DAY, end=now + periods.DAY)
        assert cost_of("".join(exports.calls(wanted))) == charged


def cost_of(text: str) -> int:
    return sum(money.parse(row["cost"]) for row in csv.DictReader(io.StringIO(text)))


def test_what_attempts_cost_us_is_told_by_their_own_channel(house: House) -> None:
    now = timezone.now()
    for rolled in (False, True):
        for _ in range(3):
            house.call(now, channels=("spare", "main"))
        if rolled:
            rollups.roll_up()
        count = 6 if rolled else 3
        wanted = Wanted(team=rollups.EVERYBODY, start=now - periods.DAY, end=now + periods.DAY)
        found = {line.channel: line for line in reports.lines(wanted, by=("channel",), of=rollups.MEASURES)}
        assert (found["main"].calls, found["main"].attempts, found["spare"].attempts) == (count, count, count)
        assert found["main"].provider_cost == count * 600_000  # 1,000 tokens in at 0.5, 100 out at 1
        assert (found["main"].uncosted, found["spare"].provider_cost) == (0, 0)
        customers = reports.lines(wanted, by=("channel",))
        assert [(line.channel, line.provider_cost, line.attempts) for line in customers] == [("main", 0, 0)]


def test_everybodys_calls_cannot_be_told_apart_by_key(books: str) -> None:
    wanted = Wanted(team=rollups.EVERYBODY, start=timezone.now(), end=timezone.now() + periods.DAY)
    with pytest.raises(ValueError, match="without their keys"):
        reports.lines(wanted, by=("key_id",))


EDGES = st.lists(
    st.integers(0, 400).map(lambda number: 1_700_000_000 // 900 * 900 + number * 900), min_size=2, unique=True
)


@seed(8)
@given(EDGES)
def test_segments_cover_each_bucket_once_with_whole_grains(edges: list[int]) -> None:
    edges = sorted(edges)
    for number, (low, high) in enumerate(itertools.pairwise(edges)):
        own = [segment for segment in reports.segments(edges) if segment.number == number]
        assert own[0].low == low
        assert own[-1].high == high
        for one, following in itertools.pairwise(own):
            assert one.high == following.low
        for segment in own:
            assert segment.low % segment.grain == segment.high % segment.grain == 0
            assert segment.low < segment.high
        assert len(own) <= 5


@pytest.mark.parametrize("zone", [*ZONES, "America/New_York", "Pacific/Chatham", "Africa/Cairo"])
def test_the_days_of_every_zone_begin_with_a_quarter_of_an_hour(zone: str) -> None:
    found = list(periods.edges(dt.date(2026, 1, 1), dt.date(2026, 12, 31), "day", ZoneInfo(zone)))
    assert len(found) == 366
    assert all(edge.timestamp() % 900 == 0 for edge in found)
    hours = list(periods.edges(dt.date(2026, 3, 1), dt.date(2026, 11, 30), "hour", ZoneInfo(zone)))
    assert all(0 < (b - a).total_seconds() <= 3600 for a, b in itertools.pairwise(hours))


# ---- the list of calls ----------------------------------------------------------------------------------------------


def test_filtered_pages_show_every_call_once_whatever_is_rolled_up(house: House) -> None:
    source, now = seeded(), timezone.now()
    scatter(house, source, 80, now)
    rollups.roll_up()
    scatter(house, source, 20, now)
    for _ in range(12):
        team = source.choice(house.teams)
        narrow = {"model": source.choice(("", "chat")), "channel": source.choice(("", "spare"))}
        narrow["state"] = source.choice(("", "settled", "failed"))
        asked: dict[str, Any] = dict(narrow)
        wanted = selectors.Wanted(team=team, start=now - 4 * periods.DAY, end=now + periods.DAY, **asked)
        calls = CallLog.objects.filter(team_id=team, created_at__gte=wanted.start)
        calls = calls.filter(**{name: value for name, value in narrow.items() if value})
        expected = list(calls.order_by("-created_at", "-id").values_list("pk", flat=True))
        pages = list(walk(wanted, 7, "older"))
        assert [call.pk for page in pages for call in page.calls] == expected
        assert selectors.totals(wanted).calls == len(expected)
        if len(expected) > 14:
            back = selectors.page(wanted, pages[-1].newer, size=7)
            assert [call.pk for call in back.calls] == expected[len(expected) - len(pages[-1].calls) - 7 :][:7]


def test_a_page_that_ends_at_the_edge_of_a_bucket_is_not_taken_for_the_last(house: House) -> None:
    """The calls of the last and of the first microsecond of a quarter: its roll-up counts those of the page before."""
    edge = timezone.now().replace(hour=12, minute=0, second=0, microsecond=0) - periods.DAY
    tick = dt.timedelta(microseconds=1)
    times = [edge + number * periods.HOUR / 4 + side for number in range(4) for side in (-tick, -tick, 0 * tick, tick)]
    for at in times:
        house.call(at)
    rollups.roll_up()
    wanted = selectors.Wanted(team=house.teams[0], start=edge - periods.DAY, end=edge + periods.DAY, state="settled")
    expected = list(selectors.of_team(wanted.team).order_by("-created_at", "-id").values_list("pk", flat=True))
    for size in range(1, len(times)):
        older = list(walk(wanted, size, "older"))
        assert [call.pk for page in older for call in page.calls] == expected, size
        newer = list(walk(wanted, size, "newer", older[-1]))
        assert [call.pk for page in reversed(newer) for call in page.calls] == expected, size


def walk(
    wanted: selectors.Wanted, size: int, towards: str, page: selectors.Page | None = None
) -> Iterator[selectors.Page]:
    """The page, the newest if it is not given, and all that follow it in this direction."""
    page = page or selectors.page(wanted, size=size)
    yield page
    while cursor := getattr(page, towards):
        page = selectors.page(wanted, cursor, size=size)
        yield page


@pytest.mark.parametrize("most", [5_000, 1])
def test_a_label_is_found_by_its_beginning_among_the_teams_own_calls(
    house: House, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(selectors, "MOST_FOUND", most)
    now = timezone.now()
    mine = []
    for number, who in enumerate((0, 1, 2, 0)):
        call = house.begin(now - number * periods.HOUR, who=who)
        call.request_id = f"order-{number}"
        house.settle(call)
        mine += [call.id] if who != 2 else []
    wanted = selectors.Wanted(team=house.teams[0], start=now - periods.DAY, end=now + periods.DAY, search="order-")
    assert [call.pk for call in selectors.page(wanted).calls] == mine
    assert selectors.totals(wanted).calls == 3
