"""When a budget's window began, wherever its team lives."""

import datetime as dt

import pytest

from billing import windows


def moment(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).astimezone(dt.UTC)


@pytest.mark.parametrize(
    ("window", "zone", "now", "start"),
    [
        ("total", "Asia/Shanghai", "2026-05-14T13:14:15.5+00:00", "1970-01-01T00:00+00:00"),
        ("day", "UTC", "2026-05-14T13:14:15.5+00:00", "2026-05-14T00:00+00:00"),
        ("day", "UTC", "2026-05-14T00:00+00:00", "2026-05-14T00:00+00:00"),
        ("day", "UTC", "2026-05-14T23:59:59.999999+00:00", "2026-05-14T00:00+00:00"),
        ("day", "Asia/Shanghai", "2026-05-14T13:14:15.5+00:00", "2026-05-13T16:00+00:00"),
        ("day", "Asia/Shanghai", "2026-05-14T16:00+00:00", "2026-05-14T16:00+00:00"),
        ("week", "UTC", "2026-05-14T13:14:15.5+00:00", "2026-05-11T00:00+00:00"),
        ("week", "UTC", "2026-05-11T00:00+00:00", "2026-05-11T00:00+00:00"),
        ("week", "UTC", "2026-05-10T23:59+00:00", "2026-05-04T00:00+00:00"),
        ("week", "America/New_York", "2026-05-11T03:00+00:00", "2026-05-04T04:00+00:00"),
        ("month", "UTC", "2026-05-14T13:14:15.5+00:00", "2026-05-01T00:00+00:00"),
        ("month", "UTC", "2026-05-01T00:00+00:00", "2026-05-01T00:00+00:00"),
        ("month", "America/New_York", "2026-05-01T03:59+00:00", "2026-04-01T04:00+00:00"),
    ],
)
def test_a_window_begins_at_midnight_where_the_team_is(window: str, zone: str, now: str, start: str) -> None:
    found = windows.start_of(window, moment(now), zone)
    assert found == moment(start)
    assert found.tzinfo is dt.UTC


@pytest.mark.parametrize(
    ("now", "start"),
    [
        ("2026-03-29T12:00+00:00", "2026-03-28T23:00+00:00"),  # 23 hours long: clocks go forward at 01:00 UTC
        ("2026-03-30T12:00+00:00", "2026-03-29T22:00+00:00"),
        ("2026-10-25T12:00+00:00", "2026-10-24T22:00+00:00"),  # 25 hours long
        ("2026-10-26T12:00+00:00", "2026-10-25T23:00+00:00"),
    ],
)
def test_a_day_on_which_clocks_are_changed_begins_once(now: str, start: str) -> None:
    assert windows.start_of("day", moment(now), "Europe/Berlin") == moment(start)


def test_a_midnight_that_comes_twice_begins_the_day_when_it_comes_first() -> None:
    """Havana's clocks went back from 01:00 to 00:00 on 2025-11-02, so the hour after midnight came twice."""
    for now in ("2025-11-02T04:30+00:00", "2025-11-02T05:30+00:00", "2025-11-02T20:00+00:00"):
        assert windows.start_of("day", moment(now), "America/Havana") == moment("2025-11-02T04:00+00:00")


@pytest.mark.parametrize("name", ["Nowhere/Land", "", "../etc/passwd", "/etc/passwd"])
def test_a_zone_that_is_none_is_utc(name: str) -> None:
    assert windows.start_of("day", moment("2026-05-14T13:14+00:00"), name) == moment("2026-05-14T00:00+00:00")


def test_a_window_that_is_none_is_an_error_that_names_it() -> None:
    with pytest.raises(ValueError, match="unknown window 'year'"):
        windows.start_of("year", moment("2026-05-14T13:14+00:00"), "UTC")


@pytest.mark.parametrize(
    ("window", "zone", "now", "end"),
    [
        ("day", "UTC", "2026-05-14T13:14+00:00", "2026-05-15T00:00+00:00"),
        ("day", "Europe/Berlin", "2026-03-29T12:00+00:00", "2026-03-29T22:00+00:00"),
        ("week", "UTC", "2026-05-14T13:14+00:00", "2026-05-18T00:00+00:00"),
        ("month", "UTC", "2026-11-30T13:14+00:00", "2026-12-01T00:00+00:00"),
        ("month", "Asia/Shanghai", "2026-12-31T13:14+00:00", "2026-12-31T16:00+00:00"),
        ("month", "Asia/Shanghai", "2026-12-31T16:00+00:00", "2027-01-31T16:00+00:00"),
    ],
)
def test_a_window_ends_where_the_next_begins(window: str, zone: str, now: str, end: str) -> None:
    found = windows.end_of(window, moment(now), zone)
    assert found == moment(end)
    assert found.tzinfo is dt.UTC


def test_a_total_never_ends() -> None:
    assert windows.end_of("total", moment("2026-05-14T13:14+00:00"), "UTC") is None


def test_a_window_that_is_kept_ends_at_its_moment_and_not_a_microsecond_later() -> None:
    began, kept = moment("2026-05-13T15:00+00:00"), moment("2026-05-14T15:00+00:00")
    for now, start in (
        ("2026-05-14T14:59:59.999999+00:00", began),
        ("2026-05-14T15:00:00+00:00", moment("2026-05-14T00:00+00:00")),
    ):
        assert windows.running("day", "UTC", starts_at=began, kept_until=kept, now=moment(now)) == start


def test_a_window_never_begins_earlier_than_it_did() -> None:
    """Where the clock was set back, or another node's clock is behind."""
    ahead, now = moment("2026-05-15T00:00+00:00"), moment("2026-05-14T13:00+00:00")
    assert windows.running("day", "UTC", starts_at=ahead, kept_until=None, now=now) == ahead


def test_a_zone_to_choose_is_a_place_or_utc() -> None:
    zones = windows.known_zones()
    assert zones[0] == "UTC"
    assert list(zones[1:]) == sorted(zones[1:])
    assert {"Asia/Shanghai", "America/Argentina/Ushuaia"} <= set(zones)
    assert not {"EST", "Etc/GMT+5", "localtime", "Factory"} & set(zones)


@pytest.mark.parametrize(
    ("window", "zone", "since", "until", "turns"),
    [
        ("total", "UTC", "2026-05-14T13:14+00:00", "2036-05-14T13:14+00:00", 0),
        ("day", "UTC", "2026-05-14T00:00+00:00", "2026-05-14T23:59:59.999999+00:00", 0),
        ("day", "UTC", "2026-05-14T00:00+00:00", "2026-05-15T00:00+00:00", 1),
        ("day", "UTC", "2026-12-31T23:59+00:00", "2027-03-01T00:00+00:00", 60),
        ("day", "Europe/Berlin", "2026-03-28T12:00+00:00", "2026-03-29T22:00+00:00", 2),  # one of 23 hours
        ("day", "Europe/Berlin", "2026-10-24T12:00+00:00", "2026-10-25T22:59+00:00", 1),  # one of 25
        ("week", "UTC", "2026-05-11T00:00+00:00", "2026-05-17T23:59+00:00", 0),
        ("week", "America/New_York", "2026-05-17T12:00+00:00", "2026-05-25T04:00+00:00", 2),
        ("month", "UTC", "2026-05-14T00:00+00:00", "2026-05-31T23:59+00:00", 0),
        ("month", "Asia/Shanghai", "2026-12-14T00:00+00:00", "2027-02-28T16:00+00:00", 3),
    ],
)
def test_windows_that_begin_meanwhile_are_counted(window: str, zone: str, since: str, until: str, turns: int) -> None:
    assert windows.turns(window, moment(since), moment(until), zone) == turns


@pytest.mark.parametrize("window", ["day", "week", "month"])
@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/Havana", "Pacific/Apia", "Pacific/Pago_Pago"])
def test_half_a_window_after_its_beginning_it_is_the_same_window(window: str, zone: str) -> None:
    begins, last = windows.start_of(window, moment("2026-01-01T00:00+00:00"), zone), moment("2027-01-01T00:00+00:00")
    while begins < last:
        for apart in (dt.timedelta(hours=-2), dt.timedelta(), dt.timedelta(hours=2)):
            assert windows.start_of(window, begins + windows.HALF[window] + apart, zone) == begins
        following = windows.end_of(window, begins, zone)
        assert following is not None
        begins = following
