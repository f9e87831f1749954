"""Breakers, cool-downs, the budget of retries and the figures, by a clock that the test owns."""

import datetime as dt
import math
import random
from email.utils import format_datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from relay.channels import health
from relay.channels.health import Breaker, Figures, Kind, Registry, Report, Retries, State, Tolerance
from relay.errors import Cause, RelayError
from relay.protocols import refusals


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def registry() -> tuple[Registry, Clock]:
    clock = Clock()
    return Registry(clock, lambda: 1_700_000_000.0 + clock.now), clock


def fail(found: Registry, times: int, kind: Kind = Kind.SERVER) -> None:
    for _ in range(times):
        passage = found.enter("k1")
        assert passage is not None
        passage.failed(kind, "no")


def succeed(found: Registry) -> None:
    passage = found.enter("k1")
    assert passage is not None
    passage.began()
    passage.succeeded()


def test_five_failures_in_a_row_open_it_and_four_do_not() -> None:
    found, _ = registry()
    fail(found, 4)
    succeed(found)
    fail(found, 4)
    assert found.passes("k1")
    fail(found, 1)
    assert not found.passes("k1")


def test_half_of_the_last_twenty_open_it_if_these_came_within_thirty_seconds() -> None:
    for pause, opens in ((1.5, True), (1.7, False)):
        found, clock = registry()
        for _ in range(10):
            assert found.passes("k1")
            succeed(found)
            clock.now += pause
            fail(found, 1)
            clock.now += pause
        assert found.passes("k1") is not opens, pause


def test_it_lets_one_call_try_after_thirty_seconds_and_waits_twice_as_long_each_time() -> None:
    found, clock = registry()
    fail(found, 5)
    for pause in (30, 60, 120, 240, 300, 300):
        clock.now += pause - 1
        assert found.enter("k1") is None
        clock.now += 1
        probe = found.enter("k1")
        assert probe is not None
        assert found.enter("k1") is None
        probe.failed(Kind.TIMEOUT, "no")
    clock.now += 300
    succeed(found)
    fail(found, 4)
    assert found.passes("k1")
    fail(found, 1)
    clock.now += 30
    assert found.passes("k1")


def test_a_probe_that_says_nothing_lets_the_next_one_try() -> None:
    found, clock = registry()
    fail(found, 5)
    clock.now += 30
    probe = found.enter("k1")
    assert probe is not None
    probe.dropped()
    assert found.enter("k1") is not None
    assert found.enter("k1") is None
    clock.now += health.PROBE_LEASE
    assert found.enter("k1") is not None


def test_an_answer_that_begins_and_breaks_off_closes_it_for_no_more_than_that() -> None:
    found, clock = registry()
    fail(found, 5)
    clock.now += 30
    probe = found.enter("k1")
    assert probe is not None
    probe.began()
    assert found.passes("k1")
    probe.failed(Kind.CUT, "gone")
    clock.now += 59
    assert not found.passes("k1")
    clock.now += 1
    assert found.passes("k1")


def test_what_was_under_way_when_it_opened_neither_closes_it_nor_opens_it_longer() -> None:
    found, clock = registry()
    late = [found.enter("k1") for _ in range(12)]
    fail(found, 5)
    for passage in late[:6]:
        assert passage is not None
        passage.failed(Kind.TIMEOUT, "no")
    for passage in late[6:]:
        assert passage is not None
        passage.began()
        passage.succeeded()
    assert not found.passes("k1")
    clock.now += 30
    assert found.passes("k1")


@pytest.mark.parametrize("kind", [Kind.REJECTED, Kind.NONE, Kind.MISSING, Kind.LIMITED, Kind.REFUSED, Kind.FORBIDDEN])
def test_what_is_not_the_provider_s_failure_does_not_open_it(kind: Kind) -> None:
    found, clock = registry()
    for _ in range(30):
        passage = found.enter("k1", anyway=True)
        assert passage is not None
        passage.failed(kind, "", wait=1.0)
        clock.now += 2
    assert found.passes("k1")


def test_a_retry_after_is_heeded_for_as_long_as_it_says_and_an_hour_at_most() -> None:
    for wait, seconds in ((7.0, 7.0), (None, refusals.USUAL_WAIT), (1e9, refusals.LONGEST_WAIT)):
        found, clock = registry()
        passage = found.enter("k1")
        assert passage is not None
        passage.failed(Kind.LIMITED, "slow down", wait=wait)
        error = found.refusal(["k1"])
        assert (error.cause, error.retry_after) == (Cause.RATE_LIMITED, seconds)
        clock.now += seconds - 0.5
        assert not found.passes("k1")
        clock.now += 0.5
        assert found.passes("k1")


def test_a_channel_that_wants_no_breaker_is_never_shut() -> None:
    found, _ = registry()
    tolerance = Tolerance(failures=0, cool_down=0)
    for kind in [Kind.SERVER, Kind.LIMITED] * 50:
        passage = found.enter("k1", tolerance)
        assert passage is not None
        passage.failed(kind, "no", wait=100.0)


def test_a_401_refuses_the_credential_and_a_403_only_when_it_comes_three_times_in_a_row() -> None:
    found, _ = registry()

    def ended(kind: Kind, *, by_input: bool = False) -> bool:
        passage = found.enter("k1")
        assert passage is not None
        return passage.failed(kind, "no", forbids_by_input=by_input)

    assert ended(Kind.REFUSED)
    assert [ended(Kind.FORBIDDEN) for _ in range(2)] == [False, False]
    succeed(found)
    assert [ended(Kind.FORBIDDEN) for _ in range(3)] == [False, False, True]
    found, _ = registry()
    assert not any(ended(Kind.FORBIDDEN, by_input=True) for _ in range(9))


def test_when_nothing_lets_a_call_through_it_is_told_when_something_will() -> None:
    found, clock = registry()
    fail(found, 5)
    clock.now += 12
    assert (found.refusal(["k1"]).cause, found.refusal(["k1"]).retry_after) == (Cause.UNAVAILABLE, 18.0)
    assert found.refusal([]).retry_after == 5


KINDS = [
    (RelayError(Cause.UPSTREAM_REJECTED, "", status=400), 400, False, Kind.REJECTED),
    (RelayError(Cause.RATE_LIMITED, ""), 429, False, Kind.LIMITED),
    (RelayError(Cause.UPSTREAM_TIMEOUT, ""), None, False, Kind.TIMEOUT),
    (RelayError(Cause.UPSTREAM_ERROR, ""), None, False, Kind.CONNECT),
    (RelayError(Cause.UPSTREAM_ERROR, ""), 200, False, Kind.GARBAGE),
    (RelayError(Cause.UPSTREAM_ERROR, ""), 200, True, Kind.CUT),
    (RelayError(Cause.UNAVAILABLE, ""), 529, False, Kind.SERVER),
    (RelayError(Cause.UPSTREAM_ERROR, ""), 500, False, Kind.SERVER),
    (RelayError(Cause.UPSTREAM_ERROR, ""), 401, False, Kind.REFUSED),
    (RelayError(Cause.UPSTREAM_ERROR, ""), 402, False, Kind.UNPAID),
    (RelayError(Cause.UPSTREAM_ERROR, ""), 403, False, Kind.FORBIDDEN),
    (RelayError(Cause.UPSTREAM_ERROR, ""), 404, False, Kind.MISSING),
    (RelayError(Cause.UPSTREAM_ERROR, "", meant=401), 400, False, Kind.REFUSED),
    (RelayError(Cause.UPSTREAM_ERROR, "", meant=402), 429, False, Kind.UNPAID),
    (RelayError(Cause.UPSTREAM_ERROR, "", meant=402), 200, False, Kind.UNPAID),
    (RelayError(Cause.INVALID_PARAMETER, ""), None, False, Kind.NONE),
    (RelayError(Cause.INTERNAL, ""), 200, True, Kind.NONE),
]


@pytest.mark.parametrize(("error", "status", "began", "kind"), KINDS)
def test_each_failure_is_of_one_kind(error: RelayError, status: int | None, began: bool, kind: Kind) -> None:
    assert health.kind_of(error, status, began=began) is kind


def test_a_retry_after_may_be_a_number_or_a_date_and_nonsense_is_nothing() -> None:
    now = 1_700_000_000.0
    later = format_datetime(dt.datetime.fromtimestamp(now + 90, dt.UTC), usegmt=True)
    found = [refusals.waiting(text, now) for text in ("7", "0.5", later, "-3", "1e12", None, "", "soon", "nan", "inf")]
    assert found == [7.0, 0.5, 90.0, 0.0, refusals.LONGEST_WAIT, None, None, None, None, None]


# ---- any history ----------------------------------------------------------------------------------------------------


class Histories(RuleBasedStateMachine):
    """Calls enter, end in any way and order, and time goes on. The model knows only what is promised."""

    @initialize()
    def begin(self) -> None:
        self.found, self.clock = registry()
        self.under_way: list[tuple[health.Passage, bool]] = []
        self.shut_until = 0.0

    @rule()
    def enter(self) -> None:
        passage = self.found.enter("k1")
        if passage is not None:
            half_open = self.breaker.state(self.clock.now) is State.HALF_OPEN
            assert self.clock.now >= self.shut_until
            assert not (half_open and any(probe for _, probe in self.under_way)), "one probe at a time"
            self.under_way.append((passage, half_open))

    @precondition(lambda self: self.under_way)
    @rule(data=st.data(), kind=st.sampled_from([*Kind]), wait=st.sampled_from([None, 0.0, 3.0, 50.0]))
    def fail(self, data: st.DataObject, kind: Kind, wait: float | None) -> None:
        passage, _ = self.under_way.pop(data.draw(st.integers(0, len(self.under_way) - 1)))
        passage.failed(kind, "no", wait=wait)
        if kind is Kind.LIMITED:
            self.shut_until = max(self.shut_until, self.clock.now + (5.0 if wait is None else wait))
        self.ended(passage)

    @precondition(lambda self: self.under_way)
    @rule(data=st.data(), way=st.sampled_from(["began", "succeeded", "dropped"]))
    def end(self, data: st.DataObject, way: str) -> None:
        number = data.draw(st.integers(0, len(self.under_way) - 1))
        passage, _ = self.under_way[number]
        getattr(passage, way)()
        if way == "began":
            self.under_way[number] = (passage, False)
        else:
            self.under_way.pop(number)
            self.ended(passage)

    @rule(seconds=st.sampled_from([0.1, 1.0, 29.0, 31.0, 301.0]))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds
        if seconds > health.PROBE_LEASE:  # whoever is still under way has lost its turn
            self.under_way = [(passage, False) for passage, _ in self.under_way]

    def ended(self, passage: health.Passage) -> None:
        """What comes after the end says nothing."""
        before = (self.breaker.until, self.breaker._cooling, len(self.breaker._outcomes))
        passage.failed(Kind.SERVER, "again")
        passage.succeeded()
        passage.dropped()
        assert before == (self.breaker.until, self.breaker._cooling, len(self.breaker._outcomes))

    @property
    def breaker(self) -> Breaker:
        circuit = self.found._circuits.get("k1")
        return circuit.breaker if circuit else Breaker()

    @invariant()
    def it_opens_again_in_time(self) -> None:
        wait = self.breaker.wait(self.clock.now)
        assert 0 <= wait <= refusals.LONGEST_WAIT
        assert (wait == 0) == self.breaker.passes(self.clock.now)
        assert self.breaker.until <= self.clock.now + 300


Histories.TestCase.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
TestHistories = Histories.TestCase


# ---- retries and figures --------------------------------------------------------------------------------------------


def test_a_fifth_of_the_calls_in_flight_may_be_tried_again_and_three_at_least() -> None:
    for calls, allowed in ((0, 3), (1, 3), (15, 3), (64, 12), (1000, 200)):
        retries = Retries()
        retries.calls = calls
        while retries.may():
            retries.retries += 1
        assert retries.retries == allowed


@given(st.lists(st.floats(0.01, 200_000), min_size=1, max_size=300), st.sampled_from([0.5, 0.95]))
def test_a_quantile_is_within_a_bucket_of_the_truth(times: list[float], share: float) -> None:
    figures = Figures()
    for time in times:
        figures.first_byte[health.bucket(time)] = figures.first_byte.get(health.bucket(time), 0) + 1
    truth = max(1.0, sorted(times)[math.ceil(len(times) * share) - 1])
    told = figures.quantile(share)
    assert told is not None
    assert truth * 0.999 <= told <= truth * 1.2501


def test_figures_of_several_processes_add_up_and_old_minutes_go() -> None:
    found, clock = registry()
    for _ in range(health.MINUTES + 5):
        passage = found.enter("k1")
        assert passage is not None
        passage.sent()
        passage.failed(Kind.SERVER, "x" * 999)
        succeed(found)
        clock.now += 60
    (report,) = found.take_changes().values()
    assert len(report.minutes) == health.MINUTES
    assert len(report.mishaps) == health.ERRORS
    assert all(len(mishap.detail) == 200 for mishap in report.mishaps)
    both = health.joined([report, report], since=0)
    assert (both.calls, both.failed) == (2 * health.MINUTES, 2 * health.MINUTES)
    assert found.take_changes() == {}
    found.give_back(["k1", "gone"])
    assert found.take_changes().keys() == {"k1"}


def test_a_report_is_read_back_as_it_was_written_and_another_version_s_is_empty() -> None:
    import msgspec

    found, _ = registry()
    fail(found, 5)
    (report,) = found.take_changes().values()
    stored = msgspec.json.decode(msgspec.json.encode(report))
    assert health.read(stored) == report
    assert report.state == State.OPEN
    assert health.read({"minutes": "none"}) == Report()


def test_an_enabled_credential_begins_anew_and_a_removed_one_is_forgotten() -> None:
    found, _ = registry()
    fail(found, 5)
    found.forget("k1")
    assert found.passes("k1")
    fail(found, 5)
    found.keep_only(frozenset())
    assert found.passes("k1")


def test_figures_of_a_credential_that_goes_out_of_use_are_told_and_go_on_when_it_comes_back() -> None:
    found, clock = registry()
    succeed(found)
    fail(found, 1, Kind.REFUSED)
    found.keep_only(frozenset())
    (told,) = found.take_changes().values()
    assert ([mishap.kind for mishap in told.mishaps], told.state) == (["refused"], State.CLOSED)
    clock.now += 60
    found.forget("k1")
    fail(found, 1)
    (told,) = found.take_changes().values()
    assert [mishap.kind for mishap in told.mishaps] == ["refused", "server"]
    assert health.joined([told], since=0).failures == {"refused": 1, "server": 1}
    clock.now += 60 * health.MINUTES
    found.keep_only(frozenset())
    assert found.take_changes() == {}


def test_random_calls_never_leave_a_healthy_provider_shut_for_good() -> None:
    seed = random.randrange(2**32)
    source = random.Random(seed)
    found, clock = registry()
    fail(found, 5)
    for _ in range(2000):
        clock.now += source.random() * 2
        if passage := found.enter("k1"):
            passage.dropped() if source.random() < 0.3 else passage.succeeded()
    assert found.passes("k1"), f"seed {seed}"
