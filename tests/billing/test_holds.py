"""The life of a hold in its own process, and what becomes of it when that process dies."""

import asyncio
import datetime as dt
import itertools
import uuid
from collections.abc import Awaitable
from typing import Any

import django.db
import psycopg
import pytest
from django.conf import settings
from django.utils import timezone

from billing import budgets, connections, failpoints, holds, ids
from billing.group_commit import writer
from billing.journal import journal, last_words
from billing.models import Account, BudgetOwner, Hold, IdempotencyKey, Revision
from billing.operations import ActiveHold, Claim, CloseHold, Done, Operation, Progress, Row
from billing.rules import OVERDUE
from tests.billing.conftest import Ledger
from tests.billing.lapsing import LONG_AGO, REVISIONS, kept, nothing_open, on_sqlite

__all__ = ["nothing_open"]


def run(*work: Awaitable[Any]) -> Any:
    """The last one's result. They run one after another on the process's own writer, which is closed then."""

    async def scene() -> Any:
        found = None
        try:
            for each in work:
                found = await each
        finally:
            await writer.close()
        return found

    return asyncio.run(scene())


async def opened(book: Ledger, **changed: Any) -> ActiveHold:
    """A hold of 100 nano-units by this process."""
    wanted: dict[str, Any] = {
        "call": ids.uuid7(),
        "account": book.account,
        "wanted": 100,
        "minimum": 100,
        "price": book.price,
        "budgets": (),
        "facts": {"model": "chat"},
        "created_at": timezone.now(),
    }
    return await holds.hold(**{**wanted, **changed})


# ---- hold, settle, release ------------------------------------------------------------------------------------------


def test_a_hold_is_durable_with_everything_that_its_recovery_needs(book: Ledger) -> None:
    call, created = ids.uuid7(), timezone.now() - dt.timedelta(seconds=3)
    day = budgets.set_cap(owner=BudgetOwner.KEY, owner_id=1, window="day", cap=500)
    assert day is not None
    before = timezone.now()
    active = run(opened(book, call=call, wanted=300, minimum=50, budgets=(day.pk,), created_at=created))
    start = int(day.starts_at.timestamp())
    assert active == ActiveHold(call, book.account, 300, 1, ((day.pk, start),), False)
    row = book.hold(active)
    assert (row.amount, row.charged, row.state, row.generation) == (300, 0, "dispatched", 1)
    assert (row.account_id, row.price_id, row.budgets) == (book.account, book.price, [[day.pk, start]])
    assert (row.facts, row.progress, row.created_at) == ({"model": "chat"}, None, created)
    assert row.lease_owner == journal.open()
    lease = dt.timedelta(seconds=settings.HOLD_LEASE)
    assert before + lease - dt.timedelta(seconds=1) <= row.lease_until <= timezone.now() + lease
    assert (row.suspected_at, row.resolved_at, row.note) == (None, None, "")


@on_sqlite
def test_a_hold_is_granted_between_its_minimum_and_what_is_wanted(book: Ledger) -> None:
    assert run(opened(book, wanted=5000, minimum=1000)).amount == 1000
    with pytest.raises(holds.Insufficient):
        run(opened(book, wanted=5000, minimum=1))


@on_sqlite
def test_each_refusal_has_its_own_name_and_reserves_nothing(book: Ledger) -> None:
    day = budgets.set_cap(owner=BudgetOwner.KEY, owner_id=1, window="day", cap=5)
    assert day is not None
    with pytest.raises(holds.BudgetSpent):
        run(opened(book, budgets=(day.pk,)))
    with pytest.raises(holds.KeyChanged):
        run(opened(book, budgets=(day.pk + 1,)))
    with pytest.raises(holds.Insufficient) as refused:
        run(opened(book, wanted=1001, minimum=1001))
    assert type(refused.value) is holds.Insufficient
    with pytest.raises(holds.Insufficient):
        run(opened(book, account=10**9))
    Account.objects.filter(pk=book.account).update(frozen="stopped")
    with pytest.raises(holds.AccountFrozen):
        run(opened(book))
    Account.objects.filter(pk=book.account).update(frozen=f"{OVERDUE}2026-000012")
    with pytest.raises(holds.InvoiceOverdue):
        run(opened(book))
    assert (book.wallet.held, Hold.objects.count()) == (0, 0)


def test_a_claimed_key_names_the_call_that_has_it_until_that_is_voided(book: Ledger) -> None:
    claim = Claim("order-1", "abc")
    first = run(opened(book, claim=claim))
    assert first.claimed
    row = IdempotencyKey.objects.get()
    assert (row.account_id, row.key, row.hold_id, row.fingerprint) == (book.account, "order-1", first.id, "abc")
    with pytest.raises(holds.KeyClaimed) as claimed:
        run(opened(book, claim=Claim("order-1", "another body")))
    assert (claimed.value.call, claimed.value.fingerprint, str(claimed.value)) == (first.id, "abc", str(first.id))
    assert run(opened(book, claim=Claim("order-2", "abc"))).claimed
    run(holds.release(first))
    again = run(opened(book, claim=claim))
    run(holds.settle(again, charged=1))
    with pytest.raises(holds.KeyClaimed):
        run(opened(book, claim=claim))
    assert book.findings() == []


def test_a_claim_lasts_a_day_and_is_anybodys_from_then_on(book: Ledger) -> None:
    first = run(opened(book, claim=Claim("order-1", "abc")))
    day = dt.timedelta(days=1)
    IdempotencyKey.objects.update(created_at=timezone.now() - day + dt.timedelta(minutes=1))
    with pytest.raises(holds.KeyClaimed):
        run(opened(book, claim=Claim("order-1", "abc")))
    IdempotencyKey.objects.update(created_at=timezone.now() - day - dt.timedelta(minutes=1))
    second = run(opened(book, claim=Claim("order-1", "def")))
    row = IdempotencyKey.objects.get()
    assert (row.hold_id, row.fingerprint) == (second.id, "def")
    assert timezone.now() - row.created_at < dt.timedelta(minutes=1)
    run(holds.release(first))  # it is no longer the key's call
    assert IdempotencyKey.objects.get().hold_id == second.id


@pytest.mark.parametrize("charged", [60, None])
def test_a_closing_is_written_with_its_rows(book: Ledger, charged: int | None) -> None:
    active, rows = run(opened(book)), [Row(REVISIONS, ("a", 1)), Row(REVISIONS, ("b", 2))]
    if charged is None:
        run(holds.release(active, rows=rows))
    else:
        run(holds.settle(active, charged=charged, rows=rows))
    assert book.hold(active).state == ("voided" if charged is None else "settled")
    assert book.wallet.balance == 1000 - (charged or 0)
    assert dict(Revision.objects.filter(name__in="ab").values_list("name", "value")) == {"a": 1, "b": 2}


@on_sqlite
def test_a_record_needs_no_hold(book: Ledger) -> None:
    run(holds.record([Row(REVISIONS, ("a", 7))]))
    assert Revision.objects.get(name="a").value == 7


@on_sqlite
@pytest.mark.parametrize(("mine", "theirs"), [(50, 51), (50, None), (None, 50), (0, None), (None, 0)])
def test_a_hold_that_was_closed_otherwise_is_reported_as_lost(
    book: Ledger, mine: int | None, theirs: int | None
) -> None:
    active = run(opened(book))
    book.run(CloseHold(active, theirs))
    with pytest.raises(holds.HoldLost, match=str(active.id)):
        run(holds.release(active) if mine is None else holds.settle(active, charged=mine))


@on_sqlite
@pytest.mark.parametrize("charged", [50, 0, None])
def test_a_closing_whose_answer_was_lost_is_recognised_as_its_own(book: Ledger, charged: int | None) -> None:
    active = run(opened(book))
    book.run(CloseHold(active, charged))
    run(holds.release(active) if charged is None else holds.settle(active, charged=charged))


def test_a_hold_that_somebody_else_has_claimed_is_lost_whatever_it_says(book: Ledger) -> None:
    active = run(opened(book))
    book.run(CloseHold(active, 50))
    Hold.objects.filter(pk=active.id).update(generation=2)
    with pytest.raises(holds.HoldLost):
        run(holds.settle(active, charged=50))
    unknown = ActiveHold(ids.uuid7(), book.account, 5, 1)
    with pytest.raises(holds.HoldLost):
        run(holds.settle(unknown, charged=0))


def confirming(monkeypatch: pytest.MonkeyPatch, *answers: object) -> list[tuple[Any, ...]]:
    """What the reading of a hold's row meets, in turn; what it was asked, and the pauses between."""
    asked: list[tuple[Any, ...]] = []
    left = list(answers)

    async def read(*arguments: Any, within: float) -> object:
        asked.append((*arguments, within))
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def slept(seconds: float) -> None:
        asked.append((seconds,))

    async def lost(operation: Operation) -> Done:
        return Done(changed=False)

    monkeypatch.setattr(connections, "read", read)
    monkeypatch.setattr(asyncio, "sleep", slept)
    monkeypatch.setattr(writer, "submit", lost)
    return asked


def test_a_closing_waits_for_a_database_that_cannot_say_what_became_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    away, active = django.db.OperationalError(), ActiveHold(uuid.uuid4(), 1, 10, 3)
    asked = confirming(monkeypatch, away, psycopg.OperationalError(), ("settled", 5, 3))
    asyncio.run(holds.settle(active, charged=5))
    question = (holds._resolution, active.id, connections.READ_WITHIN)
    assert asked == [question, (holds.CONFIRM_EVERY,), question, (holds.CONFIRM_EVERY,), question]


def test_a_closing_that_nobody_can_tell_of_is_said_to_be_unwritten_after_half_a_minute(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    active = ActiveHold(uuid.uuid4(), 1, 10, 3)
    asked = confirming(monkeypatch, *(django.db.OperationalError() for _ in range(99)))
    with pytest.raises(holds.LedgerUnavailable) as refused:
        asyncio.run(holds.release(active))
    assert str(refused.value) == "what became of the hold cannot be read"
    assert len([each for each in asked if len(each) == 3]) == holds.CONFIRM_AT_MOST
    assert asked[-1] != (holds.CONFIRM_EVERY,)


def test_a_hold_whose_caller_has_gone_is_given_back_with_the_record_that_was_left_for_it(book: Ledger) -> None:
    async def gone() -> None:
        waiting = asyncio.create_task(opened(book, late=lambda late: [Row(REVISIONS, ("late", late.amount))]))
        await asyncio.sleep(0)  # it is submitted, and nothing is written yet
        waiting.cancel()

    run(gone())
    assert Hold.objects.get().state == "voided"
    assert Revision.objects.get(name="late").value == 100
    assert (book.wallet.balance, book.wallet.held) == (1000, 0)


@on_sqlite
def test_the_moment_after_a_hold_is_durable_has_its_failpoint(book: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    passed: list[str] = []
    monkeypatch.setattr(failpoints, "hit", passed.append)
    run(opened(book))
    with pytest.raises(holds.Insufficient):
        run(opened(book, wanted=5000, minimum=5000))
    assert passed == ["after_hold_commit"]


# ---- how far a call has got -----------------------------------------------------------------------------------------


def known(call: ActiveHold) -> Progress | None:
    words = last_words(journal.open())
    assert words is not None
    return words.calls.get(call.id)


@on_sqlite
def test_what_is_noted_is_in_the_journal_and_nothing_more_once_the_hold_is_closed(book: Ledger) -> None:
    active = run(opened(book))
    assert known(active) is None
    holds.note(active, Progress(1, 30))
    assert known(active) == Progress(1, 30)
    holds.note(active, Progress(2, 30, 5, answering=True))
    assert known(active) == Progress(2, 30, 5, answering=True)
    run(holds.settle(active, charged=1))
    holds.note(active, Progress(3))
    holds.watch(active, lambda: Progress(4))
    assert known(active) == Progress(2, 30, 5, answering=True)
    following = run(opened(book))
    holds.note(following, Progress(1, 40))
    holds.note(following, Progress(1, 50))
    assert (known(active), known(following)) == (None, Progress(1, 50)), "the place is the next hold's"


@on_sqlite
def test_a_watched_call_is_looked_at_now_and_a_note_ends_the_watch(book: Ledger) -> None:
    active = run(opened(book))
    seen = [Progress(1, 30, 5, answering=True)]
    holds.watch(active, lambda: seen[-1])
    assert known(active) == seen[0]
    assert holds._open[active.id.int].seen() == seen[0]
    seen.append(Progress(1, 30, 9, answering=True))
    assert holds._open[active.id.int].seen() == seen[1]
    holds.note(active, Progress(2, 30))
    assert holds._open[active.id.int].seen() == Progress(2, 30)


@on_sqlite
def test_a_hold_is_open_for_exactly_as_long_as_it_is(book: Ledger) -> None:
    active = run(opened(book))
    assert list(holds._open) == [active.id.int]
    book.run(CloseHold(active, None))
    with pytest.raises(holds.HoldLost):
        run(holds.settle(active, charged=5))
    assert holds._open == {}
    with pytest.raises(holds.Insufficient):
        run(opened(book, wanted=5000, minimum=5000))
    assert holds._open == {}


def test_leases_of_calls_that_go_on_are_renewed_with_their_progress(
    book: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holds, "NOTE_EVERY", 0.02)
    monkeypatch.setattr(holds, "RENEW_EVERY", 0.1)
    quiet, told, streamed = run(opened(book), opened(book)), run(opened(book)), run(opened(book))
    holds.note(told, Progress(1, 30))
    seen = Progress(1, 30, 5, answering=True)
    holds.watch(streamed, lambda: seen)
    seen = Progress(1, 30, 77, answering=True, usage={"input": 7})
    past = timezone.now() - LONG_AGO
    Hold.objects.update(lease_until=past, suspected_at=past)
    run(kept(0.6))
    lease = dt.timedelta(seconds=settings.HOLD_LEASE)
    for active, progress in (
        (quiet, None),
        (told, {"attempt": 1, "input_bytes": 30}),
        (streamed, {"attempt": 1, "input_bytes": 30, "output_bytes": 77, "answering": True, "usage": {"input": 7}}),
    ):
        row = book.hold(active)
        assert timezone.now() < row.lease_until <= timezone.now() + lease
        assert (row.suspected_at, row.progress, row.generation, row.state) == (None, progress, 1, "dispatched")
    assert known(streamed) == seen


def test_a_renewal_that_knows_nothing_new_keeps_what_was_known(book: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holds, "NOTE_EVERY", 0.02)
    monkeypatch.setattr(holds, "RENEW_EVERY", 0.1)
    active = run(opened(book))
    Hold.objects.update(progress={"attempt": 1})
    run(kept(0.4))
    assert book.hold(active).progress == {"attempt": 1}


class Listening:
    """A writer that writes nothing and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    async def submit(self, operation: Operation) -> None:
        self.asked.append(operation)


def test_only_calls_that_last_are_renewed_in_the_order_of_their_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    writing = Listening()
    monkeypatch.setattr(holds, "writer", writing)
    elder, younger = ActiveHold(uuid.UUID(int=2), 1, 5, 3), ActiveHold(uuid.UUID(int=1), 1, 5, 4)
    newest = ActiveHold(uuid.UUID(int=3), 1, 5, 5)
    now = 1000.0
    for active, since in (
        (elder, now - 60),
        (younger, now - holds.RENEW_EVERY / 2),
        (newest, now - holds.RENEW_EVERY / 2 + 0.1),
    ):
        holds._open[active.id.int] = holds._Leased(active, since)
    asyncio.run(holds._renew(now))
    (renewal,) = writing.asked
    lease = settings.HOLD_LEASE
    assert renewal.renewals == ((younger.id, 4, lease, None), (elder.id, 3, lease, None))
    holds._open.clear()
    asyncio.run(holds._renew(now))
    assert len(writing.asked) == 1


@on_sqlite
def test_a_process_that_ends_waits_for_its_last_hold_but_not_without_end(book: Ledger) -> None:
    async def scene() -> None:
        active = await opened(book)
        await asyncio.wait_for(holds.all_closed(within=0.05), 5)
        ended = asyncio.create_task(holds.all_closed(within=60))
        await asyncio.sleep(0.1)
        assert not ended.done()
        await holds.release(active)
        await asyncio.wait_for(ended, 5)

    run(scene())


def test_leases_are_renewed_at_their_pace_and_not_with_every_note(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []

    async def renew(now: float) -> None:
        asked.append(now)

    monkeypatch.setattr(holds, "_renew", renew)
    monkeypatch.setattr(holds, "NOTE_EVERY", 0.01)
    monkeypatch.setattr(holds, "RENEW_EVERY", 0.2)
    asyncio.run(kept(0.7))
    assert 1 <= len(asked) <= 3
    assert all(later - earlier >= 0.2 for earlier, later in itertools.pairwise(asked))


def test_what_a_watched_call_has_produced_is_noted_when_it_has_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[tuple[uuid.UUID, int, Progress]] = []

    class Book:
        def note(self, hold: uuid.UUID, generation: int, progress: Progress) -> None:
            written.append((hold, generation, progress))

    monkeypatch.setattr(holds, "journal", Book())
    monkeypatch.setattr(holds, "NOTE_EVERY", 0.01)
    watched, told = ActiveHold(uuid.UUID(int=1), 1, 5, 3), ActiveHold(uuid.UUID(int=2), 1, 5, 1)
    for active in (told, watched):
        holds._open[active.id.int] = holds._Leased(active, 0)
    holds.note(told, Progress(1))
    produced = 5
    holds.watch(watched, lambda: Progress(1, 0, produced))
    produced = 6
    asyncio.run(kept(0.2))
    assert written == [
        (told.id, 1, Progress(1)),
        (watched.id, 3, Progress(1, 0, 5)),
        (watched.id, 3, Progress(1, 0, 6)),
    ]
