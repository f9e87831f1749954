"""The algorithm by a clock of the test's own, beside the plain list of what was admitted."""

import random

import pytest

from keys import rates
from keys.limits.counters import SWEEP_AT, Counters
from keys.rates import GRAIN, SECOND, WINDOW, Kind, Limit, Owner
from tests.keys.limits import history
from tests.keys.limits.history import START, Truth

SEEDS = range(40)
STEPS = 250


def one(**most: int) -> Limit:
    scope = rates.scope(Owner.KEY, 1, **most)
    assert scope is not None
    (limit,) = scope.limits
    return limit


@pytest.mark.parametrize("seed", SEEDS)
def test_no_minute_ever_has_more_than_the_limit_and_no_call_is_refused_that_fits(seed: int) -> None:
    source = random.Random(seed)
    limits = history.limits(history.scopes(source, parallel=False))
    counters, now = Counters(), START
    truths = [Truth(limit) for limit in limits]
    for step in history.steps(source, STEPS):
        now += step.pause
        admitted, readings = counters.admit(limits, step.tokens, now)
        for truth, reading in zip(truths, readings, strict=True):
            # A grain is kept until a minute after its end: room comes back late by less than one grain.
            kept = truth.within(now, WINDOW + GRAIN) + rates.amount(truth.limit, step.tokens)
            assert not reading.wait or kept > truth.limit.most, (seed, step, reading)
            if admitted:
                truth.add(now, step.tokens)
        assert admitted == (not any(reading.wait for reading in readings))
    for truth in truths:
        assert truth.worst() <= truth.limit.most, (seed, truth.limit)


@pytest.mark.parametrize("seed", SEEDS)
def test_what_calls_really_took_is_what_counts(seed: int) -> None:
    source = random.Random(seed)
    limit, counters, now = one(tpm=1000), Counters(), START
    truth, running = Truth(limit), dict[int, tuple[int, int]]()
    for step in history.steps(source, STEPS):
        now += step.pause
        while running and source.random() < 0.6:
            number = source.choice(list(running))
            reserved, since = running.pop(number)
            used = source.choice([0, reserved // 3, reserved, reserved + 5, 700])
            counters.correct(limit, used - reserved, since, now)
            truth.correct(number, used, now)
        admitted, (reading,) = counters.admit([limit], step.tokens, now)
        amount = rates.amount(limit, step.tokens)
        if admitted:
            running[len(truth.log)] = amount, now
            truth.add(now, step.tokens)
            assert truth.within(now, WINDOW) <= 1000, (seed, step)
        else:
            assert truth.within(now, WINDOW + GRAIN) + amount > 1000, (seed, step)
        assert truth.within(now, WINDOW) <= reading.used <= truth.within(now, WINDOW + GRAIN)


@pytest.mark.parametrize("seed", SEEDS)
def test_waiting_exactly_as_long_as_was_said_admits_and_less_does_not(seed: int) -> None:
    source = random.Random(seed)
    limits = history.limits(history.scopes(source, parallel=False))
    counters, now, refused = Counters(), START, 0
    for step in history.steps(source, STEPS):
        now += step.pause
        admitted, readings = counters.admit(limits, step.tokens, now)
        if admitted:
            continue
        refused += 1
        wait = round(max(reading.wait for reading in readings) * SECOND)
        assert not counters.admit(limits, step.tokens, now + wait - 1)[0], (seed, step)
        assert counters.admit(limits, step.tokens, now + wait)[0], (seed, step)
        now += wait
    assert refused


def test_a_burst_of_the_whole_limit_is_admitted_and_the_next_one_a_minute_later() -> None:
    limit, counters = one(rpm=60), Counters()
    assert all(counters.admit([limit], 0, START)[0] for _ in range(60))
    admitted, (reading,) = counters.admit([limit], 0, START)
    assert not admitted
    assert WINDOW <= round(reading.wait * SECOND) <= WINDOW + GRAIN
    assert (reading.used, reading.remaining) == (60, 0)
    later = START + WINDOW + GRAIN
    assert all(counters.admit([limit], 0, later)[0] for _ in range(60))


def test_what_one_limit_refuses_no_other_one_counts() -> None:
    wide, narrow, counters = one(rpm=100), one(tpm=10), Counters()
    assert counters.admit([wide, narrow], 10, START)[0]
    for _ in range(5):
        admitted, (first, second) = counters.admit([wide, narrow], 10, START)
        assert (admitted, first.used, first.wait, second.used) == (False, 1, 0.0, 10)
        assert second.wait > 0


def test_a_call_that_alone_is_larger_than_the_limit_takes_all_of_it() -> None:
    limit, counters = one(tpm=100), Counters()
    assert counters.admit([limit], 5000, START)[0]
    admitted, (reading,) = counters.admit([limit], 1, START)
    assert (admitted, reading.used) == (False, 100)
    assert counters.admit([limit], 5000, START + WINDOW + GRAIN)[0]


def test_tokens_that_were_not_used_go_back_to_when_they_were_taken() -> None:
    limit, counters = one(tpm=100), Counters()
    counters.admit([limit], 60, START)
    counters.admit([limit], 40, START + 10 * SECOND)
    counters.correct(limit, -50, START, START + 20 * SECOND)
    admitted, (reading,) = counters.admit([limit], 50, START + 20 * SECOND)
    assert (admitted, reading.used) == (True, 100)
    # A minute after the first call's ten tokens, and not its sixty, have left.
    _, (reading,) = counters.admit([limit], 100, START + WINDOW + GRAIN)
    assert reading.used == 90


def test_tokens_that_were_used_beyond_the_reservation_count_from_when_they_are_known() -> None:
    limit, counters = one(tpm=100), Counters()
    counters.admit([limit], 10, START)
    counters.correct(limit, 190, START, START + 30 * SECOND)
    _, (reading,) = counters.admit([limit], 1, START + 30 * SECOND)
    assert (reading.used, reading.remaining) == (200, 0)
    end = START + 30 * SECOND + round(reading.wait * SECOND)
    assert end >= START + 90 * SECOND
    assert counters.admit([limit], 1, end)[0]


def test_what_has_left_the_window_is_not_given_back() -> None:
    limit, counters = one(tpm=100), Counters()
    counters.admit([limit], 60, START)
    later = START + WINDOW + GRAIN
    counters.admit([limit], 100, later)
    counters.correct(limit, -60, START, later)
    assert counters.admit([limit], 1, later)[1][0].used == 100


def test_a_lower_limit_is_obeyed_with_what_was_admitted_under_the_higher_one() -> None:
    high, low, counters = one(rpm=100), one(rpm=10), Counters()
    for second in range(30):
        assert counters.admit([high], 0, START + second * SECOND)[0]
    now = START + 30 * SECOND
    admitted, (reading,) = counters.admit([low], 0, now)
    assert (admitted, reading.used) == (False, 30)
    assert counters.admit([low], 0, now + round(reading.wait * SECOND))[1][0].used == 10


def test_idle_owners_are_forgotten() -> None:
    counters, now = Counters(), START
    for number in range(20 * SWEEP_AT):
        now += WINDOW // SWEEP_AT
        scope = rates.scope(Owner.KEY, number, rpm=5)
        assert scope is not None
        counters.admit(scope.limits, 0, now)
    assert len(counters) <= 3 * SWEEP_AT


def test_nothing_and_zero_are_no_limit() -> None:
    assert rates.scope(Owner.KEY, 1) is None
    assert rates.scope(Owner.KEY, 1, rpm=0, tpm=0, parallel=0) is None
    scope = rates.scope(Owner.TEAM, 1, rpm=0, tpm=7)
    assert scope is not None
    assert [(limit.kind, limit.most) for limit in scope.limits] == [(Kind.TOKENS, 7)]


@pytest.mark.parametrize(
    ("asked", "tokens"),
    [
        ({"prompt_tokens": 100}, 1124),
        ({"prompt_tokens": 100, "max_output": 20}, 120),
        ({"prompt_tokens": 100, "max_output": 100_000}, 1124),
        ({"prompt_tokens": 0, "max_output": 10, "answers": 3}, 30),
        ({"text_bytes": 4001, "max_output": 1}, 1002),
        ({"text_bytes": 4001, "max_output": 0}, 1001),
    ],
)
def test_an_estimate_is_the_prompt_and_a_bounded_allowance(asked: dict[str, int], tokens: int) -> None:
    assert rates.estimate(**asked) == tokens
