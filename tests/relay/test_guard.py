"""The guard interrupts work with the upstream and nothing else."""

import asyncio

import pytest

from relay.guard import Guard, Interrupted, Why


def test_a_client_that_left_while_nothing_was_guarded_stops_the_next_guarded_work_at_once() -> None:
    async def scene() -> Why:
        guard = Guard()
        guard.expect(Why.IDLE, 60)
        guard.client_left(drain=None)
        with pytest.raises(Interrupted) as stopped, guard:
            await asyncio.sleep(5)
        return stopped.value.why

    assert asyncio.run(asyncio.wait_for(scene(), 2)) is Why.LEFT


def test_silence_interrupts_and_touching_prevents_it() -> None:
    async def scene() -> Why:
        guard = Guard()
        guard.expect(Why.FIRST_BYTE, 0.1)
        with guard:
            for _ in range(5):
                await asyncio.sleep(0.04)
                guard.signs += 1
        guard.expect(Why.IDLE, 0.1)
        with pytest.raises(Interrupted) as stopped, guard:
            await asyncio.sleep(5)
        return stopped.value.why

    assert asyncio.run(scene()) is Why.IDLE


def test_work_outside_is_never_interrupted() -> None:
    async def scene() -> bool:
        guard = Guard()
        guard.expect(Why.IDLE, 0.01)
        with guard:
            pass
        guard.client_left(drain=None)
        await asyncio.sleep(0.05)
        return guard.left

    assert asyncio.run(scene())


def test_draining_gives_the_work_its_seconds_and_no_more() -> None:
    async def scene() -> Why:
        guard = Guard()
        guard.expect(Why.IDLE, 60)
        asyncio.get_running_loop().call_later(0.01, lambda: guard.client_left(drain=0.05))
        with pytest.raises(Interrupted) as stopped, guard:
            await asyncio.sleep(5)
        return stopped.value.why

    assert asyncio.run(asyncio.wait_for(scene(), 2)) is Why.TOTAL


def test_draining_goes_on_to_end_when_it_should_though_another_provider_is_asked() -> None:
    async def scene() -> Why:
        guard = Guard()
        guard.limit(60)
        guard.client_left(drain=0.05)
        guard.expect(Why.FIRST_BYTE, 60)
        guard.limit(60)
        with pytest.raises(Interrupted) as stopped, guard:
            await asyncio.sleep(5)
        return stopped.value.why

    assert asyncio.run(asyncio.wait_for(scene(), 2)) is Why.TOTAL


def test_a_cancellation_from_elsewhere_stays_a_cancellation() -> None:
    async def scene() -> None:
        guard = Guard()
        guard.expect(Why.IDLE, 60)
        with guard:
            await asyncio.sleep(5)

    async def cancelled() -> None:
        task = asyncio.create_task(scene())
        await asyncio.sleep(0)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(cancelled())
