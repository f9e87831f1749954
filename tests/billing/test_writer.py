"""The ledger's writer alone, on a connection that does as it is told: who is answered what, and what is tried again."""

import asyncio
import datetime as dt
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import psycopg
import pytest
from django.db import connection
from structlog.testing import capture_logs

from billing import connections, group_commit, ids, ledger
from billing.group_commit import GroupCommit, LedgerUnavailable
from billing.operations import ActiveHold, CloseHold, Done, OpenHold, Operation, Outcome, Record, Row, Table
from billing.postgres import Decided, Fate
from tests.billing.conftest import Ledger

REVENUE = 42
NOW = dt.datetime(2026, 5, 14, tzinfo=dt.UTC)
ROW = Row(Table("somewhere", (("id", "bigint"),)), (1,))
DID_NOT_ANSWER = "the database did not answer"
AWAY = "the database is away, or too many operations are waiting"
NOT_IN_TIME = "the database did not answer in time"

_sleep = asyncio.sleep


def opening() -> OpenHold:
    return OpenHold(ids.uuid7(), 7, 10, 10, 1, (), {}, "tests", 45.0, NOW)


def hold_of(operation: OpenHold) -> ActiveHold:
    return ActiveHold(operation.id, operation.account, operation.wanted, 1)


def closing(*rows: Row) -> CloseHold:
    return CloseHold(ActiveHold(ids.uuid7(), 7, 10, 1), 5, rows)


def outcome_of(operation: Operation) -> Outcome:
    return hold_of(operation) if isinstance(operation, OpenHold) else Done()


class Told:
    """A connection. `script` has what a batch meets: an error, one with what was decided, something to wait for."""

    patience = 0.8

    def __init__(self) -> None:
        self.script: list[Any] = []
        self.fates: list[Fate] = []
        self.batches: list[list[Operation]] = []
        self.revenues: set[int] = set()
        self.asked: list[Decided] = []
        self.decided: Decided | None = None
        self.closed = 0
        self.poison: list[tuple[Operation, Exception]] = []

    async def run(self, operations: Sequence[Operation], *, revenue: int) -> list[Outcome]:
        self.batches.append(list(operations))
        self.revenues.add(revenue)
        self.decided = None
        step = self.script.pop(0) if self.script else None
        if isinstance(step, asyncio.Event):
            await step.wait()
        elif isinstance(step, asyncio.Future):
            await step
        elif isinstance(step, tuple):
            step, self.decided = step[0], Decided(step[1], [outcome_of(operation) for operation in operations])
        if isinstance(step, Exception):
            raise step
        for operation, error in self.poison:
            if operation in operations:
                raise error
        return [outcome_of(operation) for operation in operations]

    async def fate(self, decided: Decided) -> Fate:
        self.asked.append(decided)
        return self.fates.pop(0) if self.fates else Fate.UNKNOWN

    async def close(self) -> None:
        self.closed += 1


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    made = Told()
    monkeypatch.setattr(connections, "new_connection", lambda: made)
    monkeypatch.setattr(ledger, "known_revenue_account", lambda: REVENUE)
    return made


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long the writer wanted to wait, each time; it does not have to. Chance is at its longest."""
    wanted: list[float] = []

    async def slept(seconds: float) -> None:
        wanted.append(round(seconds, 6))
        await _sleep(0)

    monkeypatch.setattr(asyncio, "sleep", slept)
    monkeypatch.setattr(random, "random", lambda: 1.0)
    return wanted


def play(scene: Callable[[GroupCommit], Awaitable[Any]]) -> Any:
    """The scene with a writer of its own, which is closed in the end."""

    async def whole() -> Any:
        writer = GroupCommit()
        try:
            return await scene(writer)
        finally:
            await writer.close(within=1)

    return asyncio.run(asyncio.wait_for(whole(), 10))


def submit(*operations: Operation) -> list[Any]:
    """What comes at once is one batch."""

    async def scene(writer: GroupCommit) -> list[Any]:
        return list(await asyncio.gather(*(writer.submit(each) for each in operations), return_exceptions=True))

    found: list[Any] = play(scene)
    return found


def unavailable(error: object, said: str) -> bool:
    return isinstance(error, LedgerUnavailable) and str(error) == said


# ---- batches --------------------------------------------------------------------------------------------------------


def test_what_comes_while_a_batch_commits_is_the_next_batch(told: Told) -> None:
    operations: list[Operation] = [opening(), closing(), Record((ROW,)), opening(), closing()]

    async def scene(writer: GroupCommit) -> list[Any]:
        told.script = [gate := asyncio.Event()]
        waiting = [writer.submit(each) for each in operations[:2]]
        await _sleep(0.01)
        waiting += [writer.submit(each) for each in operations[2:]]
        await _sleep(0.01)
        assert not any(future.done() for future in waiting)
        gate.set()
        return await asyncio.gather(*waiting)

    assert play(scene) == [outcome_of(each) for each in operations]
    assert told.batches == [operations[:2], operations[2:]]
    assert (told.revenues, told.closed) == ({REVENUE}, 1)


def test_a_batch_has_an_upper_bound_and_keeps_the_order(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_commit, "LARGEST_BATCH", 2)
    operations = [opening() for _ in range(5)]
    assert submit(*operations) == [hold_of(each) for each in operations]
    assert told.batches == [operations[:2], operations[2:4], operations[4:]]


def test_a_queue_that_is_too_long_takes_closings_only(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_commit, "LONGEST_QUEUE", 1)
    first, second, third, last = submit(opening(), opening(), opening(), closing())
    assert isinstance(first, ActiveHold)
    assert isinstance(second, ActiveHold)
    assert unavailable(third, AWAY)
    assert last == Done()


def test_the_revenue_account_is_read_where_it_is_not_known(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Any] = []

    async def reading(function: Callable[[], int], *, within: float) -> int:
        read.append((function, within))
        return 43

    monkeypatch.setattr(ledger, "known_revenue_account", lambda: None)
    monkeypatch.setattr(connections, "read", reading)
    submit(opening())
    assert read == [(group_commit._read_revenue_account, connections.READ_WITHIN)]
    assert told.revenues == {43}


@pytest.mark.parametrize("books", ["sqlite"], indirect=True)
def test_reading_the_revenue_account_leaves_no_connection_behind(book: Ledger) -> None:
    assert group_commit._read_revenue_account() == ledger.revenue_account()
    assert connection.connection is None


def test_a_writer_belongs_to_a_loop_and_begins_anew_in_the_next(told: Told) -> None:
    writer = GroupCommit()

    async def once() -> Outcome:
        outcome = await writer.submit(closing())
        await writer.close()
        await writer.close()  # nothing is open any more
        return outcome

    assert asyncio.run(once()) == asyncio.run(once()) == Done()
    assert (len(told.batches), told.closed) == (2, 2)

    async def left_open() -> None:
        await writer.submit(closing())

    asyncio.run(left_open())
    asyncio.run(writer.close())  # another loop's, which has ended
    assert asyncio.run(once()) == Done()


def test_whoever_has_gone_gets_no_answer_and_disturbs_nobody(told: Told) -> None:
    async def scene(writer: GroupCommit) -> list[Any]:
        waiting = [writer.submit(each) for each in (closing(), Record((ROW,)), closing())]
        waiting[0].cancel()
        waiting[1].cancel()
        return [await waiting[2]]

    assert play(scene) == [Done()]
    assert [len(batch) for batch in told.batches] == [3]


def test_a_hold_that_nobody_waits_for_any_more_is_given_back_with_its_record(told: Told) -> None:
    wanted, silent = opening(), opening()
    seen: list[ActiveHold] = []

    def late(hold: ActiveHold) -> list[Row]:
        seen.append(hold)
        return [ROW]

    async def scene(writer: GroupCommit) -> None:
        told.script = [gate := asyncio.Event()]
        futures = writer.submit(wanted, late=late), writer.submit(silent)
        await _sleep(0.01)
        for future in futures:
            future.cancel()
        gate.set()

    with capture_logs() as logs:
        play(scene)
    assert seen == [hold_of(wanted)]
    given_back = [CloseHold(hold_of(wanted), None, (ROW,)), CloseHold(hold_of(silent), None, ())]
    assert told.batches == [[wanted, silent], given_back]
    assert [line["call"] for line in logs] == [str(wanted.id), str(silent.id)]


# ---- errors ---------------------------------------------------------------------------------------------------------


def test_a_database_that_says_no_refuses_openings_and_keeps_closings_until_it_takes_them(
    told: Told, pauses: list[float]
) -> None:
    told.script = [psycopg.OperationalError()] * 8
    begins, ends, record = opening(), closing(ROW), Record((ROW,))
    refused, done, unrecorded = submit(begins, ends, record)
    assert unavailable(refused, DID_NOT_ANSWER)
    assert unavailable(unrecorded, DID_NOT_ANSWER)
    assert done == Done()
    assert told.batches == [[begins, ends, record], *([[ends]] * 8)]
    assert pauses == [0.04, 0.08, 0.16, 0.32, 0.64, 1.0, 1.0, 1.0]


def test_pauses_are_spread_so_that_processes_do_not_come_back_together(
    told: Told, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(random, "random", lambda: 0.0)
    told.script = [psycopg.OperationalError()] * 2
    submit(closing())
    assert pauses == [0.02, 0.04]


def test_while_closings_are_tried_again_nothing_new_is_let_in(told: Told, pauses: list[float]) -> None:
    async def scene(writer: GroupCommit) -> list[Any]:
        told.script = [psycopg.OperationalError(), gate := asyncio.Event()]
        kept = writer.submit(closing())
        await _sleep(0.02)
        refused, another = writer.submit(opening()), writer.submit(closing())
        gate.set()
        first = await asyncio.gather(refused, kept, another, return_exceptions=True)
        return [*first, await writer.submit(opening())]

    refused, kept, another, later = play(scene)
    assert unavailable(refused, AWAY)
    assert (kept, another) == (Done(), Done())
    assert isinstance(later, ActiveHold)


def test_what_comes_while_a_batch_fails_is_not_lost_and_comes_after_it(told: Told, pauses: list[float]) -> None:
    first, second, third = closing(), closing(), closing()

    async def scene(writer: GroupCommit) -> list[Any]:
        told.script = [answer := asyncio.get_running_loop().create_future()]
        waiting = [writer.submit(first)]
        await _sleep(0.01)
        waiting += [writer.submit(second), writer.submit(third)]
        answer.set_exception(psycopg.OperationalError())
        return list(await asyncio.gather(*waiting))

    assert play(scene) == [Done()] * 3
    assert told.batches == [[first], [first, second, third]]


@pytest.mark.parametrize("code", ["40001", "40P01", "55P03"])
def test_what_passes_by_itself_is_tried_five_times_for_everybody(told: Told, pauses: list[float], code: str) -> None:
    error = psycopg.errors.lookup(code)
    begins, ends = opening(), closing()
    told.script = [error()] * 5
    assert submit(begins, ends) == [hold_of(begins), Done()]
    assert told.batches == [[begins, ends]] * 6
    assert pauses == [0.04, 0.08, 0.16, 0.32, 0.64]
    told.script = [error()] * 6
    refused, done = submit(begins, ends)
    assert unavailable(refused, DID_NOT_ANSWER)
    assert done == Done()
    assert told.batches[6:] == [*([[begins, ends]] * 6), [ends]]


def test_what_passes_by_itself_keeps_the_door_open(told: Told, pauses: list[float]) -> None:
    async def scene(writer: GroupCommit) -> list[Any]:
        told.script = [psycopg.errors.LockNotAvailable(), gate := asyncio.Event()]
        first = writer.submit(opening())
        await _sleep(0.02)
        second = writer.submit(opening())
        gate.set()
        return list(await asyncio.gather(first, second))

    assert [isinstance(found, ActiveHold) for found in play(scene)] == [True, True]


def test_a_success_forgets_the_failures_before_it(told: Told, pauses: list[float]) -> None:
    async def scene(writer: GroupCommit) -> None:
        for _ in range(2):
            told.script = [psycopg.OperationalError(), psycopg.OperationalError()]
            await writer.submit(closing())

    play(scene)
    assert pauses == [0.04, 0.08, 0.04, 0.08]


def test_who_has_gone_is_not_tried_again_for(told: Told, pauses: list[float]) -> None:
    gone, kept = opening(), closing()

    async def scene(writer: GroupCommit) -> Any:
        told.script = [gate := asyncio.Event(), psycopg.errors.DeadlockDetected()]
        await_first = writer.submit(closing())
        await _sleep(0.01)
        left, paid = writer.submit(gone), writer.submit(kept)
        left.cancel()
        paid.cancel()
        gate.set()
        await await_first
        await _sleep(0.02)

    play(scene)
    assert told.batches[1:] == [[gone, kept], [kept]]


@pytest.mark.parametrize(
    "error", [psycopg.IntegrityError("defect"), psycopg.DataError("defect"), RuntimeError("defect")]
)
def test_one_bad_operation_does_not_take_the_others(told: Told, pauses: list[float], error: Exception) -> None:
    operations: list[Operation] = [opening() for _ in range(5)]
    told.poison = [(operations[1], error)]
    outcomes = submit(*operations)
    assert outcomes[1] is error
    assert [outcome for outcome in outcomes if outcome is not error] == [
        outcome_of(operation) for operation in operations if operation is not operations[1]
    ]
    a, b, c, d, e = operations
    assert told.batches == [[a, b, c, d, e], [a, b], [a], [b], [c, d, e]]
    assert pauses == []


def test_a_bad_record_does_not_make_its_call_free(told: Told, pauses: list[float]) -> None:
    bad, plain = closing(ROW), closing()
    told.poison = [(bad, psycopg.DataError())]
    with capture_logs() as logs:
        assert submit(bad, plain) == [Done(), Done()]
    assert told.batches == [[bad, plain], [bad], [CloseHold(bad.hold, 5)], [plain]]
    assert [line["call"] for line in logs if "call" in line] == [str(bad.hold.id)]
    error = psycopg.DataError()
    told.poison = [(plain, error), (Record((ROW,)), error)]
    assert submit(plain) == [error]
    assert submit(Record((ROW,))) == [error]


# ---- commits that nobody heard of -----------------------------------------------------------------------------------


def test_a_batch_that_was_committed_all_the_same_is_answered_with_what_it_had_decided(
    told: Told, pauses: list[float]
) -> None:
    begins, ends = opening(), closing()
    told.script, told.fates = [(psycopg.OperationalError(), "123")], [Fate.COMMITTED]
    assert submit(begins, ends) == [hold_of(begins), Done()]
    assert (told.batches, pauses) == ([[begins, ends]], [])
    assert [decided.transaction for decided in told.asked] == ["123"]


def test_a_batch_that_was_undone_is_as_if_it_had_never_been_sent(told: Told, pauses: list[float]) -> None:
    begins, ends = opening(), closing()
    told.script, told.fates = [(psycopg.OperationalError(), "123")], [Fate.UNDONE]
    refused, done = submit(begins, ends)
    assert unavailable(refused, DID_NOT_ANSWER)
    assert done == Done()
    assert told.batches == [[begins, ends], [ends]]
    assert len(told.asked) == 1


@pytest.mark.parametrize("later", [Fate.COMMITTED, Fate.UNDONE])
def test_a_batch_in_doubt_is_asked_after_until_it_is_known_and_its_holds_are_given_back(
    told: Told, pauses: list[float], later: Fate
) -> None:
    begins, ends = opening(), closing()
    lock = psycopg.errors.LockNotAvailable()  # passing, but it may have been written: holds are not tried twice
    told.script, told.fates = [(lock, "123")], [Fate.UNKNOWN, Fate.UNKNOWN, Fate.UNKNOWN, later]

    async def scene(writer: GroupCommit) -> list[Any]:
        waiting = writer.submit(begins, late=lambda _: [ROW]), writer.submit(ends)
        return list(await asyncio.gather(*waiting, return_exceptions=True))

    refused, done = play(scene)
    assert unavailable(refused, DID_NOT_ANSWER)
    assert done == Done()
    given_back = [[CloseHold(hold_of(begins), None, (ROW,))]] if later is Fate.COMMITTED else []
    assert told.batches == [[begins, ends], [ends], *given_back]
    assert [decided.transaction for decided in told.asked] == ["123"] * 4
    assert pauses == [0.04, 0.25, 0.25]
    assert told.closed == 1


def test_a_closing_in_doubt_again_and_again_is_tried_ever_more_seldom(told: Told, pauses: list[float]) -> None:
    told.script = [(psycopg.OperationalError(), "123")] * 3
    told.fates = [Fate.UNKNOWN] * 3 + [Fate.UNDONE] * 3
    assert submit(closing()) == [Done()]
    assert pauses[:3] == [0.04, 0.08, 0.16]


def test_a_doubt_does_not_hold_up_who_comes_meanwhile(told: Told, pauses: list[float]) -> None:
    async def scene(writer: GroupCommit) -> Any:
        told.script = [(psycopg.OperationalError(), "123")]
        told.fates = [Fate.UNKNOWN, *([Fate.UNKNOWN] * 3), Fate.UNDONE]
        await asyncio.gather(writer.submit(opening()), return_exceptions=True)
        return await writer.submit(opening())

    assert isinstance(play(scene), ActiveHold)


def test_a_release_that_cannot_be_written_is_noted_and_left_to_the_sweep(told: Told) -> None:
    begins = opening()
    error = psycopg.DataError()

    async def scene(writer: GroupCommit) -> None:
        told.script = [gate := asyncio.Event()]
        future = writer.submit(begins)
        await _sleep(0.01)
        future.cancel()
        told.poison = [(CloseHold(hold_of(begins), None), error)]
        gate.set()

    with capture_logs() as logs:
        play(scene)
    assert [line["error"] for line in logs if line["log_level"] == "error"] == ["DataError"]
    assert told.closed == 1


# ---- a database that says nothing -----------------------------------------------------------------------------------


@pytest.fixture
def hasty(told: Told) -> None:
    told.patience = 0.16


def test_who_wants_something_new_is_refused_in_time_and_what_was_granted_is_given_back(told: Told, hasty: None) -> None:
    first, queued, ends = opening(), opening(), closing()

    async def scene(writer: GroupCommit) -> list[Any]:
        told.script = [gate := asyncio.Event()]
        loop = asyncio.get_running_loop()
        began = loop.time()
        one = writer.submit(first)
        await _sleep(0.01)
        two, three = writer.submit(queued), writer.submit(ends)
        refused = await asyncio.gather(one, two, return_exceptions=True)
        took = loop.time() - began
        assert not three.done()
        gate.set()
        return [*refused, took, await three]

    one, two, took, three = play(scene)
    assert unavailable(one, NOT_IN_TIME)
    assert unavailable(two, NOT_IN_TIME)
    assert took >= 0.16 - 0.005
    assert three == Done()
    assert told.batches == [[first], [ends, CloseHold(hold_of(first), None, ())]]


def test_who_waits_is_looked_at_eight_times_evenly_spread_whoever_else_comes(
    told: Told, hasty: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    delays: list[float] = []
    looks_at_the_refusal: list[int] = []

    async def scene(writer: GroupCommit) -> None:
        loop, told.script = asyncio.get_running_loop(), [gate := asyncio.Event()]
        call_later = loop.call_later

        def noted(delay: float, function: Callable[..., object], *arguments: Any) -> asyncio.TimerHandle:
            if function == writer._watch:
                delays.append(delay)
            return call_later(delay, function, *arguments)

        monkeypatch.setattr(loop, "call_later", noted)
        waiting = writer.submit(opening())
        waiting.add_done_callback(lambda _: looks_at_the_refusal.append(len(delays) - 1))
        while len(delays) < 3:
            await _sleep(0.001)
        before = len(delays)
        other = writer.submit(closing())
        assert len(delays) == before
        await asyncio.gather(waiting, return_exceptions=True)
        gate.set()
        await other

    play(scene)
    assert looks_at_the_refusal == [8]
    assert {round(delay, 9) for delay in delays} == {0.02}


def test_a_queue_that_moves_is_not_the_databases_silence(
    told: Told, hasty: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each batch takes a third of what anybody waits; the last in the queue waits for three times as long."""
    monkeypatch.setattr(group_commit, "LARGEST_BATCH", 1)

    async def scene(writer: GroupCommit) -> list[Any]:
        told.script = gates = [asyncio.Event() for _ in range(9)]
        gates = list(gates)
        waiting = [writer.submit(opening()) for _ in gates]
        for gate in gates:
            await _sleep(0.05)
            gate.set()
        return list(await asyncio.gather(*waiting, return_exceptions=True))

    assert [isinstance(found, ActiveHold) for found in play(scene)] == [True] * 9


def test_the_watch_ends_with_the_queue_and_begins_again_with_the_next(told: Told, hasty: None) -> None:
    async def scene(writer: GroupCommit) -> list[Any]:
        await writer.submit(opening())
        await _sleep(0.1)
        assert not writer._watching
        told.script = [gate := asyncio.Event()]
        found = await asyncio.gather(writer.submit(opening()), return_exceptions=True)
        gate.set()
        return list(found)

    assert unavailable(play(scene)[0], NOT_IN_TIME)


def test_a_process_ends_in_time_though_the_database_says_nothing(told: Told) -> None:
    async def scene() -> tuple[float, list[Any]]:
        writer = GroupCommit()
        told.script = [asyncio.Event()]
        kept = writer.submit(closing())
        await _sleep(0.01)
        queued = writer.submit(closing())
        began = asyncio.get_running_loop().time()
        with capture_logs() as logs:
            await writer.close(within=0.1)
        took = asyncio.get_running_loop().time() - began
        kept.cancel()
        queued.cancel()
        return took, logs

    took, logs = asyncio.run(asyncio.wait_for(scene(), 10))
    assert 0.1 <= took < 5
    assert [(line["log_level"], line["operations"]) for line in logs] == [("error", 1)]
