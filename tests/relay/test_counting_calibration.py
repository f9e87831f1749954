"""What reports teach: never below what was seen, forgotten in time, shared by all processes."""

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay import calibration as store
from relay.counting import calibration, families
from relay.counting.calibration import ENOUGH, FIRST, THEN_EVERY, Calibration, Envelope, Key, Side, is_far
from relay.models import Calibration as Row
from tests.kit.gateway import Gateway

reports_of = st.lists(st.tuples(st.integers(1, 20_000), st.integers(1, 60_000)), min_size=1, max_size=60)


@given(reports_of, st.sampled_from(Side), st.booleans())
def test_the_calibrated_count_of_every_sample_is_at_least_what_was_reported(
    samples: list[tuple[int, int]], side: Side, wide: bool
) -> None:
    known = Calibration()
    learnt = [pair for pair in samples if known.learn("qwen", side, *pair, wide=wide)]
    assert learnt == [pair for pair in samples if not is_far(side, *pair)]
    for counted, reported in learnt:
        assert known.raised("qwen", side, counted, wide=wide) >= reported


@given(reports_of, reports_of, st.randoms())
def test_two_processes_envelopes_join_to_that_of_all_reports(
    one: list[tuple[int, int]], two: list[tuple[int, int]], random: Any
) -> None:
    parts, whole = [Envelope(), Envelope()], Envelope()
    for part, samples in zip(parts, (one, two), strict=True):
        for pair in samples:
            part.add(*pair)
    both = [*one, *two]
    random.shuffle(both)
    for pair in both:
        whole.add(*pair)
    parts[0].join(parts[1])
    assert parts[0] == whole


@given(reports_of, st.lists(st.integers(0, 100_000), min_size=2, max_size=9))
def test_more_text_never_has_fewer_tokens(samples: list[tuple[int, int]], counts: list[int]) -> None:
    known = Calibration()
    for pair in samples:
        known.learn("qwen", Side.INPUT, *pair, wide=False)
    raised = [known.raised("qwen", Side.INPUT, counted, wide=False) for counted in sorted(counts)]
    assert raised == sorted(raised)


def test_a_model_is_learnt_closely_a_factor_as_a_factor_and_a_hidden_prompt_as_a_sum() -> None:
    known = Calibration()
    for counted in range(10, 5000, 50):
        known.learn("claude-sonnet-4", Side.INPUT, counted, counted * 115 // 100 + 40, wide=False)
    for counted in (10, 100, 1000, 4500):
        exact = counted * 115 // 100 + 40
        assert exact <= known.raised("claude-sonnet-4", Side.INPUT, counted, wide=False) <= exact * 1.01 + 2
    assumed = families.of("claude-sonnet-4").plain / 1000
    assert known.raised("claude-sonnet-4", Side.INPUT, 100_000, wide=False) >= 95_000 * assumed


def test_before_enough_was_seen_the_family_s_factor_holds() -> None:
    known = Calibration()
    for number in range(ENOUGH - 1):
        known.learn("claude-sonnet-4", Side.OUTPUT, 100 + number, 100 + number, wide=False)
    assert known.raised("claude-sonnet-4", Side.OUTPUT, 100, wide=False) == 135
    known.learn("claude-sonnet-4", Side.OUTPUT, 100, 100, wide=False)
    assert known.raised("claude-sonnet-4", Side.OUTPUT, 100, wide=False) == 100
    assert known.raised("claude-sonnet-4", Side.OUTPUT, 100, wide=True) == 220


def test_what_is_no_matter_of_vocabulary_is_not_learnt_from() -> None:
    known = Calibration()
    assert not known.learn("qwen", Side.INPUT, 10, 9000, wide=False)
    assert not known.learn("qwen", Side.OUTPUT, 4, 50, wide=False)
    assert not known.learn("qwen", Side.OUTPUT, 4, 0, wide=False)
    assert known.take() == {}


def test_the_first_calls_of_a_model_are_compared_and_a_few_of_the_later_ones_and_none_of_openai_s() -> None:
    known = Calibration()
    assert [known.wants("qwen") for _ in range(FIRST)] == [True] * FIRST
    assert sum(known.wants("qwen") for _ in range(100 * THEN_EVERY)) == 100
    assert not any(known.wants("gpt-4o") for _ in range(FIRST))


def test_what_could_not_be_stored_is_taken_again() -> None:
    known = Calibration()
    known.learn("qwen", Side.INPUT, 10, 20, wide=False)
    taken = known.take()
    assert known.take() == {}
    known.give_back(taken)
    assert [envelope.heights for envelope in known.take().values()] == [e.heights for e in taken.values()]
    assert known.raised("qwen", Side.INPUT, 10, wide=False) >= 20


def test_bytes_of_text_that_is_gone_are_estimated_by_what_is_known_of_the_model() -> None:
    known = Calibration()
    assert known.per_byte("gpt-4o", 300) == 100
    assert known.per_byte("", 0) == known.per_byte("qwen", 0) == 0
    for counted in range(1, 200):
        known.learn("qwen", Side.OUTPUT, counted, 3 * counted, wide=False)
    assert known.per_byte("qwen", 400) == 300
    assert known.per_byte("qwen", 3) <= 3


# ---- stored -------------------------------------------------------------------------------------------------------


@pytest.fixture
def fresh() -> Iterator[Calibration]:
    """This process has learnt nothing, before and after."""
    calibration.reports.replace([])
    calibration.reports.take()
    calibration.reports.replace([])
    yield calibration.reports
    calibration.reports.take()
    calibration.reports.replace([])


def learnt(model: str, counted: int, reported: int) -> dict[Key, Envelope]:
    envelope = Envelope()
    envelope.add(counted, reported)
    return {Key(model, Side.INPUT, False): envelope}


def test_what_processes_store_is_joined_and_the_epoch_before_the_last_is_forgotten(
    gateway: Gateway, fresh: Calibration
) -> None:
    now = int(time.time() // store.EPOCH)
    with gateway.inside():
        store.store(learnt("qwen-forgotten", 100, 250), epoch=now - 2)
        store.store(learnt("qwen-shared", 100, 220), epoch=now - 1)
        store.store(learnt("qwen-shared", 100, 300), epoch=now)
        store.store(learnt("qwen-shared", 200, 240), epoch=now)
        assert not Row.objects.filter(model="qwen-forgotten").exists()
        store.load()
    assert fresh.raised("qwen-shared", Side.INPUT, 100, wide=False) == 300
    with gateway.inside():
        row = Row.objects.get(model="qwen-shared", epoch=now)
        assert (row.samples, row.longest) == (2, 200)
        Row.objects.filter(model="qwen-shared").delete()


def test_a_row_of_other_slopes_is_worth_nothing(gateway: Gateway, fresh: Calibration) -> None:
    with gateway.inside():
        now = int(time.time() // store.EPOCH)
        made = Row.objects.create(model="qwen-odd", side="input", wide=False, epoch=now, samples=99, heights=[1, 2])
        store.load()
        made.delete()
    assert fresh.raised("qwen-odd", Side.INPUT, 100, wide=False) == 120 + 32


def test_a_database_that_is_away_loses_nothing_that_was_learnt(
    fresh: Calibration, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh.learn("qwen-away", Side.INPUT, 10, 20, wide=False)

    def away(*_: Any, **__: Any) -> None:
        raise ConnectionError

    monkeypatch.setattr(store, "store", away)
    asyncio.run(store.flush())
    assert fresh.take().keys() == {Key("qwen-away", Side.INPUT, False)}
