"""What an admission hands out: what it holds is given back once, however the call ends."""

import asyncio
import random

import pytest

from keys import limits
from keys.limits.limiter import Limiter
from keys.rates import SECOND, WINDOW, Kind, Owner, Scope
from tests.keys.limits.history import START


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> int:
        return self.now


def scope(owner: Owner = Owner.KEY, id: int = 1, **most: int) -> Scope:
    found = limits.scope(owner, id, **most)
    assert found is not None
    return found


async def used(limiter: Limiter, *scopes: Scope) -> list[int]:
    """How the limits stand, by a call that is cancelled."""
    try:
        slip = await limiter.admit(scopes)
    except limits.LimitReached as reached:
        return [reading.used for reading in reached.readings]
    slip.cancel()
    return [reading.used - 1 for reading in slip.readings]


def test_who_has_no_limits_gets_a_slip_that_holds_nothing() -> None:
    async def body() -> None:
        slip = await limits.admit(())
        assert slip is limits.NOTHING
        slip.finish(1000)
        slip.cancel()
        assert slip.headers("openai") == []

    asyncio.run(body())


def test_a_place_is_given_back_once() -> None:
    async def body() -> None:
        limiter, key = Limiter(), scope(parallel=2)
        first, _second = await limiter.admit([key]), await limiter.admit([key])
        with pytest.raises(limits.LimitReached) as refused:
            await limiter.admit([key])
        assert (refused.value.kind, refused.value.retry_after) == (Kind.PARALLEL, 1.0)
        for _ in range(3):
            first.finish()
            first.cancel()
        await limiter.admit([key])
        with pytest.raises(limits.LimitReached):
            await limiter.admit([key])

    asyncio.run(body())


def test_a_place_is_given_back_by_a_call_that_fails() -> None:
    async def body() -> None:
        limiter, key = Limiter(), scope(parallel=1)
        with pytest.raises(ZeroDivisionError), await limiter.admit([key]):
            raise ZeroDivisionError
        assert await used(limiter, key) == [0]

    asyncio.run(body())


def test_a_finished_call_keeps_its_request_and_corrects_its_tokens() -> None:
    async def body() -> None:
        limiter, key = Limiter(), scope(rpm=10, tpm=10_000, parallel=5)
        for tokens_used, tokens in ((400, 400), (None, 900), (0, 900), (150, 1050)):
            slip = await limiter.admit([key], tokens=500)
            slip.finish(tokens_used)
            assert (await used(limiter, key))[1] == tokens
        assert await used(limiter, key) == [4, 1050, 0]

    asyncio.run(body())


def test_a_cancelled_call_was_never_there() -> None:
    async def body() -> None:
        limiter, key, team = Limiter(), scope(rpm=10, tpm=1000, parallel=5), scope(Owner.TEAM, tpm=100)
        slip = await limiter.admit([key, team], tokens=500)
        slip.cancel()
        slip.finish(500)
        assert await used(limiter, key, team) == [0, 0, 0, 0]

    asyncio.run(body())


def test_the_refusal_names_the_limit_that_takes_longest() -> None:
    async def body() -> None:
        clock = Clock()
        limiter, key, team = Limiter(clock=clock), scope(rpm=1, parallel=1), scope(Owner.TEAM, 2, tpm=100)
        await limiter.admit([team], tokens=100)
        clock.now += 30 * SECOND
        await limiter.admit([key])
        with pytest.raises(limits.LimitReached) as refused:
            await limiter.admit([key, team], tokens=1)
        error = refused.value
        assert (error.scope, error.kind) == (Owner.KEY, Kind.REQUESTS)
        assert WINDOW / SECOND <= error.retry_after <= WINDOW / SECOND + 0.25
        assert {(r.limit.owner, r.limit.kind) for r in error.reached} == {
            (Owner.KEY, Kind.REQUESTS), (Owner.KEY, Kind.PARALLEL), (Owner.TEAM, Kind.TOKENS),
        }  # fmt: skip
        assert str(error) == "The key's limit of 1 requests a minute is reached."

    asyncio.run(body())


def test_two_hundred_calls_at_once_never_are_more_than_allowed() -> None:
    async def body() -> None:
        limiter, key, team = Limiter(), scope(parallel=7), scope(Owner.TEAM, parallel=9, rpm=150)
        running = most = done = refused = 0
        source = random.Random(7)

        async def call(number: int) -> None:
            nonlocal running, most, done, refused
            await asyncio.sleep(source.random() / 50)
            try:
                slip = await limiter.admit([key, team] if number % 2 else [team])
            except limits.LimitReached:
                refused += 1
                return
            running, done = running + 1, done + 1
            most = max(most, running)
            await asyncio.sleep(source.random() / 500)
            running -= 1
            slip.finish()

        await asyncio.gather(*(call(number) for number in range(200)))
        assert most <= 9
        assert done <= 150
        assert done + refused == 200
        assert await used(limiter, key) == [0]
        assert (await used(limiter, team)) == [done, 0]

    asyncio.run(body())
