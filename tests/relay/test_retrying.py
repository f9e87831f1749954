"""Turns at what ails: how many have one at once, and that nobody waits in vain or for ever."""

import asyncio
import time
from collections.abc import Coroutine
from typing import Any

import pytest

from relay.channels.health import Kind, Registry, Retries
from relay.guard import Guard, Interrupted
from relay.retrying import Turns


class Provider:
    """A target that others have just failed at, and calls that go on to it."""

    def __init__(self, *, within: float = 5.0) -> None:
        self.registry, self.retries = Registry(), Retries()
        self.turns = Turns(self.registry, self.retries, within=within)
        self.trying = self.most = self.done = 0
        self.fails()

    def fails(self) -> None:
        passage = self.registry.enter("k1", anyway=True)
        assert passage is not None
        passage.failed(Kind.SERVER, "no")

    def answers(self) -> None:
        passage = self.registry.enter("k1", anyway=True)
        assert passage is not None
        passage.began()

    async def call(self, seconds: float = 0.05, guard: Guard | None = None) -> None:
        async with self.turns.turn("k1", guard or Guard()):
            self.trying += 1
            self.most = max(self.most, self.trying)
            await asyncio.sleep(seconds)
            self.trying -= 1
            self.done += 1


def play(scene: Coroutine[Any, Any, None]) -> float:
    """The seconds that it took."""
    began = time.monotonic()
    asyncio.run(asyncio.wait_for(scene, 10))
    return time.monotonic() - began


def test_three_at_a_time_go_on_to_a_target_that_ails_and_each_is_followed_by_the_next() -> None:
    async def scene() -> None:
        found = Provider()
        await asyncio.gather(*(found.call() for _ in range(12)))
        assert (found.most, found.done, found.retries.retries) == (3, 12, 0)

    play(scene())


def test_all_go_on_at_once_to_a_target_that_works_and_those_that_wait_as_soon_as_it_does() -> None:
    async def scene() -> None:
        found = Provider()
        waiting = [asyncio.create_task(found.call(0.2)) for _ in range(12)]
        await asyncio.sleep(0.1)
        found.answers()
        await asyncio.gather(*waiting, *(found.call(0.2) for _ in range(5)))
        assert (found.most, found.done) == (17, 17)

    assert play(scene()) < 0.8


def test_whoever_has_waited_for_long_goes_on_without_a_turn() -> None:
    async def scene() -> None:
        found = Provider(within=0.1)
        await asyncio.gather(*(found.call(0.5) for _ in range(12)))
        assert (found.most, found.done, found.retries.retries) == (12, 12, 0)

    assert play(scene()) < 1.0


def test_nobody_waits_for_a_target_that_lets_nothing_through_any_more() -> None:
    async def scene() -> None:
        found = Provider()
        waiting = [asyncio.create_task(found.call(0.1)) for _ in range(12)]
        await asyncio.sleep(0)
        for _ in range(5):
            found.fails()
        await asyncio.gather(*waiting)
        assert found.done == 12
        assert found.most >= 9

    assert play(scene()) < 1.0


def test_a_client_that_leaves_while_it_waits_keeps_nobody_behind_it_waiting() -> None:
    async def scene() -> None:
        found, guard = Provider(), Guard()
        others = [asyncio.create_task(found.call(0.5)) for _ in range(2)]

        async def one() -> None:
            await found.call(0.1)
            guard.client_left(drain=None)  # at the very moment at which it is its turn

        first = asyncio.create_task(one())
        await asyncio.sleep(0)
        leaving = asyncio.create_task(found.call(guard=guard))
        await asyncio.sleep(0)
        behind = asyncio.create_task(found.call(0))
        with pytest.raises(Interrupted):
            await leaving
        await asyncio.gather(first, behind)
        assert not any(task.done() for task in others)
        await asyncio.gather(*others)
        assert (found.done, found.retries.retries) == (4, 0)

    play(scene())
