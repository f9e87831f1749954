"""Limits in a real Redis: the same counting for all processes together, and what becomes of it when Redis goes away."""

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
import redis
import uvloop

from keys import limits, rates
from keys.limits import script, wire
from keys.limits.counters import Counters
from keys.limits.limiter import Limiter
from keys.limits.shared import MOST_OWED, Shared
from keys.limits.wire import Away
from keys.rates import GRAIN, SECOND, WINDOW, Kind, Owner, Scope
from tests.keys.limits import history, process
from tests.kit.services import Redis, services

PATIENCE = process.PATIENCE
LEASE = 2.0
SHORT = 0.5  # where a test wants Redis to be given up, and the machine may be busy
OWN_CLOCK = "local now = tonumber(redis.call('GET', 'test:now'))\n"


@pytest.fixture(scope="module")
def server() -> Iterator[Redis]:
    """A Redis that tests may kill and freeze."""
    services.get("redis")
    made = Redis()
    yield made
    made.stop()


@pytest.fixture
def client(server: Redis) -> Iterator["redis.Redis"]:
    with redis.Redis(port=server.port, decode_responses=True) as client:
        client.flushall()
        yield client


def run(body: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """On the loop that servers have."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(asyncio.wait_for(body(), 30))


@asynccontextmanager
async def limiter(url: str, patience: float = PATIENCE, **options: Any) -> AsyncIterator[Limiter]:
    made = Limiter()
    shared = Shared(url, live=made.running, patience=patience, **options)
    made.share(shared)
    await shared.start()
    yield made
    await shared.stop()


def shared_of(of: Limiter) -> Shared:
    assert of._shared is not None
    return of._shared


async def until(true: Callable[[], Any]) -> None:
    """The test as a whole has its time."""
    while not true():  # noqa: ASYNC110 - what is waited for happens in Redis
        await asyncio.sleep(0.01)


def scope(owner: Owner = Owner.KEY, id: int = 1, **most: int) -> Scope:
    found = rates.scope(owner, id, **most)
    assert found is not None
    return found


# ---- the counting ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
def test_redis_counts_as_the_process_does(client: "redis.Redis", server: Redis, seed: int) -> None:
    """The same history, the same answers to the microsecond, with corrections and calls that end in between."""

    async def body() -> None:
        source = random.Random(seed)
        scopes = history.scopes(source)
        wanted = history.limits(scopes)
        counters, now = Counters(), history.START
        running: list[tuple[bytes, int, int, int]] = []
        async with limiter(server.url, scripts=script.scripts(OWN_CLOCK), lease=10_000_000.0) as made:
            shared = shared_of(made)
            for number, step in enumerate(history.steps(source, 250)):
                now += step.pause
                client.set("test:now", now)
                admitted, readings = counters.admit(wanted, step.tokens, now)
                told = await shared.admit(b"%d" % number, wanted, step.tokens)
                assert (told.admitted, told.readings) == (admitted, readings), (seed, number, step)
                if admitted:
                    running.append((b"%d" % number, told.grain, step.tokens, now))
                if running and source.random() < 0.5:
                    call, grain, tokens, since = running.pop(source.randrange(len(running)))
                    used = source.choice([0, tokens // 2, tokens + 7, 1000])
                    by = [(limit, used - rates.amount(limit, tokens)) for limit in wanted]
                    by = [(limit, more if limit.kind is Kind.TOKENS else 0) for limit, more in by]
                    shared.settle(call, grain, by)
                    assert shared._wire is not None
                    await shared._wire.command(b"PING")  # what was posted before it is done
                    for limit, more in by:
                        if limit.kind is Kind.PARALLEL:
                            counters.release(limit)
                        else:
                            counters.correct(limit, more, since, now)

    run(body)


def test_what_redis_keeps_expires_by_itself(client: "redis.Redis", server: Redis) -> None:
    async def body() -> None:
        async with limiter(server.url) as made:
            slip = await made.admit([scope(rpm=5, tpm=500, parallel=5)], tokens=10)
            assert len(client.keys("pisces:limits:key:1:*")) == 3
            for name in client.keys("*"):
                assert 0 < client.pttl(name) <= (WINDOW + 2 * GRAIN) // 1000
            slip.finish()

    run(body)


def test_a_clock_that_is_set_back_stands_still(client: "redis.Redis", server: Redis) -> None:
    async def body() -> None:
        async with limiter(server.url, scripts=script.scripts(OWN_CLOCK)) as made:
            key = scope(rpm=3)
            for now in (history.START, history.START - 10 * SECOND, history.START - 5 * SECOND):
                client.set("test:now", now)
                await made.admit([key])
            with pytest.raises(limits.LimitReached) as refused:
                await made.admit([key])
            client.set("test:now", history.START - 5 * SECOND + round(refused.value.retry_after * SECOND))
            await made.admit([key])

    run(body)


def test_two_hundred_calls_at_once_are_never_more_than_allowed(client: "redis.Redis", server: Redis) -> None:
    async def body() -> None:
        running = most = done = 0
        key, team = scope(parallel=7), scope(Owner.TEAM, rpm=90, tpm=9_000)

        async with limiter(server.url) as one, limiter(server.url) as other:

            async def call(number: int) -> None:
                nonlocal running, most, done
                try:
                    slip = await (one if number % 2 else other).admit([key, team], tokens=100)
                except limits.LimitReached:
                    return
                running, done = running + 1, done + 1
                most = max(most, running)
                await asyncio.sleep(0.001)
                running -= 1
                slip.finish(100)

            for _ in range(20):
                await asyncio.gather(*(call(number) for number in range(200)))
        assert most <= 7
        assert done == 90
        assert client.zcard("pisces:limits:key:1:parallel") == 0
        assert client.hget("pisces:limits:team:1:tokens", "total") == "9000"

    run(body)


def test_a_cancelled_call_leaves_nothing_behind(client: "redis.Redis", server: Redis) -> None:
    async def body() -> None:
        async with limiter(server.url) as made:
            key = scope(rpm=5, tpm=500, parallel=5)
            (await made.admit([key], tokens=100)).cancel()
            waiting = asyncio.create_task(made.admit([key], tokens=100))
            await asyncio.sleep(0)  # it has asked, and is cancelled before it is told
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            (await made.admit([scope(Owner.TEAM, rpm=1)])).finish()  # told after the cancelled one
            slip = await made.admit([key], tokens=100)
            assert [reading.used for reading in slip.readings] == [1, 100, 1]

    run(body)


def test_a_redis_that_forgot_the_scripts_is_told_again(client: "redis.Redis", server: Redis) -> None:
    async def body() -> None:
        async with limiter(server.url) as made:
            slip = await made.admit([scope(parallel=1)])
            client.script_flush()
            slip.finish()
            client.script_flush()
            slip = await made.admit([scope(parallel=1)])
            assert shared_of(made).up
            assert client.zcard("pisces:limits:key:1:parallel") == 1

    run(body)


# ---- several processes ----------------------------------------------------------------------------------------------


def spawn(server: Redis, *arguments: Any) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "tests.keys.limits.process", server.url, *map(str, arguments)]
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"}
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)


def line(of: "subprocess.Popen[str]") -> str:
    assert of.stdout is not None
    return of.stdout.readline().strip()


def end(of: "subprocess.Popen[str]") -> None:
    of.kill()
    of.communicate()


def test_two_processes_share_a_limit_exactly(client: "redis.Redis", server: Redis) -> None:
    racers = [spawn(server, "race", 300, 400) for _ in range(2)]
    try:
        assert [line(racer) for racer in racers] == ["ready", "ready"]
        for racer in racers:
            assert racer.stdin is not None
            racer.stdin.write("go\n")
            racer.stdin.flush()
        shares = [int(line(racer)) for racer in racers]
    finally:
        for racer in racers:
            end(racer)
    assert sum(shares) == 300
    assert client.hget("pisces:limits:key:77:requests", "total") == "300"


def test_the_places_of_a_process_that_was_killed_come_back_and_those_of_a_living_one_stay(
    client: "redis.Redis", server: Redis
) -> None:
    async def body() -> None:
        async with limiter(server.url) as made:
            with pytest.raises(limits.LimitReached):
                await made.admit([process.scope(parallel=8)])
            os.kill(killed.pid, signal.SIGKILL)
            # When the killed one's leases have ended, the living one's have been renewed.
            (await admitted_in_time(made, process.scope(parallel=6))).finish()
            with pytest.raises(limits.LimitReached):
                await made.admit([process.scope(parallel=5)])

    killed, living = spawn(server, "hold", 3, LEASE), spawn(server, "hold", 5, LEASE)
    try:
        assert [line(killed), line(living)] == ["ready", "ready"]
        assert client.zcard("pisces:limits:key:77:parallel") == 8
        run(body)
    finally:
        end(killed)
        end(living)


async def admitted_in_time(limiter: Limiter, key: Scope) -> limits.Slip:
    while True:
        try:
            return await limiter.admit([key])
        except limits.LimitReached:
            await asyncio.sleep(0.05)


# ---- Redis goes away ------------------------------------------------------------------------------------------------


@contextmanager
def standing_still(server: Redis) -> Iterator[None]:
    """What is sent meanwhile waits in the kernel, and is carried out afterwards."""
    os.kill(server._process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server._process.pid, signal.SIGCONT)


def test_when_redis_is_killed_the_process_goes_on_from_what_it_let_in_and_comes_back(
    client: "redis.Redis", server: Redis
) -> None:
    async def body() -> None:
        async with limiter(server.url, patience=SHORT) as made:
            key = scope(rpm=10, parallel=3)
            long = await made.admit([key])
            for _ in range(4):
                (await made.admit([key])).finish()
            server.kill()
            try:
                slips = [await made.admit([key]) for _ in range(2)]
                assert [reading.used for reading in slips[-1].readings] == [7, 3]
                with pytest.raises(limits.LimitReached) as refused:
                    await made.admit([key])
                assert refused.value.kind is Kind.PARALLEL
                for slip in slips:
                    slip.finish()
                for _ in range(3):
                    (await made.admit([key])).finish()
                with pytest.raises(limits.LimitReached) as refused:
                    await made.admit([key])
                assert refused.value.kind is Kind.REQUESTS
                assert not shared_of(made).up
            finally:
                server.restart()
            await until(lambda: shared_of(made).up)
            # It was restarted empty, and learns of the call that is still running, not of the minute before.
            await until(lambda: client.zcard("pisces:limits:key:1:parallel") == 1)
            slip = await made.admit([key])
            assert [reading.used for reading in slip.readings] == [1, 2]
            slip.finish()
            long.finish()
            await until(lambda: client.zcard("pisces:limits:key:1:parallel") == 0)

    run(body)


def test_a_redis_that_hangs_keeps_nobody_waiting_after_the_first(client: "redis.Redis", server: Redis) -> None:
    async def body() -> None:
        async with limiter(server.url, patience=SHORT) as made:
            key = scope(rpm=1000)
            await made.admit([key])
            with standing_still(server):
                before = await asyncio.gather(*(made.admit([key]) for _ in range(50)))
                assert not shared_of(made).up
                assert [slip.grain for slip in before] == [None] * 50
                # Nothing is sent to it any more: an admission is over without the loop having turned once.
                with pytest.raises(StopIteration) as ended:
                    made.admit([key]).send(None)
                assert ended.value.value.readings[0].used == 52
                await asyncio.sleep(1.0)  # attempts to connect are accepted by the kernel and answered by nobody
                assert not shared_of(made).up
            await until(lambda: shared_of(made).up)
            assert (await made.admit([key])).grain is not None

    run(body)


def test_a_call_that_ends_while_redis_stands_still_leaves_no_place_behind(client: "redis.Redis", server: Redis) -> None:
    async def body() -> None:
        async with limiter(server.url, patience=SHORT) as made:
            told, untold, going_on = scope(id=1, parallel=1), scope(id=2, parallel=1), scope(id=3, parallel=1)
            before, after = await made.admit([told]), await made.admit([untold])
            await made.admit([going_on])
            with standing_still(server):
                before.finish()  # is sent, and nobody says that it was done
                await until(lambda: not shared_of(made).up)
                after.finish()
            await until(lambda: shared_of(made).up)
            for key in (told, untold):
                (await made.admit([key])).finish()
            with pytest.raises(limits.LimitReached):
                await made.admit([going_on])
        assert client.keys("*parallel") == ["pisces:limits:key:3:parallel"]

    run(body)


def test_a_place_that_redis_granted_to_nobody_who_waited_for_it_is_given_back(
    client: "redis.Redis", server: Redis
) -> None:
    async def body() -> None:
        async with limiter(server.url, patience=SHORT) as made:
            key = scope(parallel=1)
            with standing_still(server):
                asking = asyncio.create_task(made.admit([key]))
                await asyncio.sleep(0.1)
                asking.cancel()
                await until(lambda: not shared_of(made).up)
            await until(lambda: shared_of(made).up)
            assert (await made.admit([key])).grain is not None

    run(body)


def test_a_call_that_redis_admitted_without_being_heard_keeps_its_place_until_it_ends(
    client: "redis.Redis", server: Redis
) -> None:
    async def body() -> None:
        async with limiter(server.url, patience=SHORT) as made:
            key = scope(parallel=1)
            with standing_still(server):
                slip = await made.admit([key])
                assert slip.grain is None
            await until(lambda: shared_of(made).up)
            with pytest.raises(limits.LimitReached):
                await made.admit([key])
            slip.finish()
            assert (await made.admit([key])).grain is not None

    run(body)


def test_what_is_owed_to_redis_is_bounded(client: "redis.Redis", server: Redis) -> None:
    async def body() -> None:
        async with limiter(server.url, patience=SHORT) as made:
            server.kill()
            try:
                await until(lambda: not shared_of(made).up)
                for number in range(MOST_OWED + 5):
                    (await made.admit([scope(id=number, parallel=1)])).finish()
                assert len(shared_of(made)._owed) == MOST_OWED
            finally:
                server.restart()
            await until(lambda: shared_of(made).up and not shared_of(made)._owed)
            assert (await made.admit([scope(parallel=1)])).grain is not None

    run(body)


def test_from_the_first_call_on_nobody_waits_longer_than_patience(client: "redis.Redis", server: Redis) -> None:
    """Connecting may take longer; its time does not count for whoever asks just after it."""

    async def body() -> None:
        loop = asyncio.get_running_loop()
        async with limiter(server.url, patience=0.04) as made:
            connection = shared_of(made)._wire
            assert connection is not None
            asking = asyncio.create_task(made.admit([scope(rpm=5)]))
            await asyncio.sleep(0)
            assert connection._watch is not None
            assert connection._watch.when() < loop.time() + 0.045  # the loop's clock has whole milliseconds
            await asking

    run(body)


def test_a_redis_that_refuses_is_away(client: "redis.Redis", server: Redis) -> None:
    async def body() -> None:
        async with limiter(server.url) as made:
            client.set("pisces:limits:key:1:requests", "no hash")
            slip = await made.admit([scope(rpm=5)])
            assert slip.grain is None
            client.delete("pisces:limits:key:1:requests")
            await until(lambda: shared_of(made).up)
            assert (await made.admit([scope(rpm=5)])).grain is not None

    run(body)


@pytest.mark.parametrize("url", ["redis://127.0.0.1:9/0", "redis://nowhere.invalid/0", "what://is/this"])
def test_without_a_redis_at_the_address_a_process_counts_for_itself(url: str) -> None:
    async def body() -> None:
        async with limiter(url) as made:
            assert not shared_of(made).up
            (await made.admit([scope(rpm=1)])).finish()
            with pytest.raises(limits.LimitReached):
                await made.admit([scope(rpm=1)])

    run(body)


# ---- its address ----------------------------------------------------------------------------------------------------


def test_the_address_may_have_a_password_and_a_database(client: "redis.Redis", server: Redis) -> None:
    async def body() -> None:
        async with limiter(f"redis://ann:p%40ss@127.0.0.1:{server.port}/3") as made:
            assert (await made.admit([scope(rpm=5)])).grain is not None
        for address in (f"redis://ann:wrong@127.0.0.1:{server.port}/3", f"redis://127.0.0.1:{server.port}/99"):
            with pytest.raises(Away) as away:
                await connect(address)
            assert "wrong" not in str(away.value)

    client.acl_setuser("ann", enabled=True, passwords=["+p@ss"], keys=["*"], commands=["+@all"])
    run(body)
    client.select(3)
    assert client.keys("*") == ["pisces:limits:key:1:requests"]


async def connect(url: str) -> None:
    await wire.connect(url, patience=PATIENCE)
