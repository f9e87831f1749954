"""Holds whose process died: what was seen of them is settled, the rest given back or reviewed."""

import datetime as dt
import uuid
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from django.conf import settings
from django.db import connection, transaction
from django.test import override_settings
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from billing import budgets, holds
from billing.journal import Journal
from billing.models import Budget, BudgetOwner, Hold, IdempotencyKey, Revision, Transfer
from billing.operations import ActiveHold, Claim, CloseHold, OpenHold, Progress, Row
from tests.billing.conftest import Ledger
from tests.billing.lapsing import LONG_AGO, REVISIONS, nothing_open, on_sqlite

__all__ = ["nothing_open"]


async def noted(active: ActiveHold, progress: Progress) -> None:
    holds.note(active, progress)


def lapse(active: ActiveHold, **fields: Any) -> Hold:
    """As the row of a process that died five minutes ago, and was suspected then."""
    past = timezone.now() - LONG_AGO
    Hold.objects.filter(pk=active.id).update(**{"lease_until": past, "suspected_at": past, **fields})
    return Hold.objects.get(pk=active.id)


def test_a_lapsed_hold_is_suspected_first_and_claimed_when_nobody_renews_it(book: Ledger) -> None:
    lapsed, living = book.open(100), book.open(100)
    lapse(lapsed, suspected_at=None)
    assert list(holds.expired()) == []
    suspected = book.hold(lapsed).suspected_at
    assert suspected is not None
    assert book.hold(living).suspected_at is None
    assert list(holds.expired()) == []
    assert book.hold(lapsed).suspected_at == suspected
    Hold.objects.filter(pk=lapsed.id).update(suspected_at=timezone.now() - holds.SUSPECT_FOR + dt.timedelta(seconds=5))
    assert list(holds.expired()) == []
    Hold.objects.filter(pk=lapsed.id).update(suspected_at=timezone.now() - holds.SUSPECT_FOR - dt.timedelta(seconds=1))
    (orphan,) = holds.expired()
    assert (orphan.row.pk, orphan.row.generation) == (lapsed.id, 2)
    row = book.hold(lapsed)
    assert (row.state, row.generation, row.suspected_at) == ("recovering", 2, None)
    lease = dt.timedelta(seconds=settings.HOLD_LEASE)
    assert timezone.now() + lease - dt.timedelta(seconds=20) < row.lease_until <= timezone.now() + lease
    assert list(holds.expired()) == []


def plan_of(sql: str) -> str:
    """How the database would carry it out in tables that are large, which a test's are not."""
    with transaction.atomic(), connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute(f"EXPLAIN QUERY PLAN {sql}")
        else:
            cursor.execute("SET LOCAL enable_seqscan = off")
            cursor.execute(f"EXPLAIN {sql}")
        return "\n".join(str(row[-1]) for row in cursor.fetchall())


def test_the_sweep_looks_at_open_holds_only(book: Ledger) -> None:
    """Every few seconds, in a table of all the holds that there ever were."""
    with CaptureQueriesContext(connection) as seen:
        assert list(holds.expired()) == []
        holds.remove_journals()
    plans = [plan_of(query["sql"]) for query in seen.captured_queries if "billing_hold" in query["sql"]]
    assert len(plans) == 3
    assert ["hold_open" in plan for plan in plans] == [True] * 3, plans


def test_every_open_state_but_review_is_recovered_the_oldest_first(book: Ledger) -> None:
    made = {state: book.open(10) for state in ("review", "recovering", "held", "dispatched")}
    past = timezone.now() - LONG_AGO
    for number, (state, active) in enumerate(made.items()):
        lapse(active, state=state, lease_until=past - dt.timedelta(seconds=number))
    closed = book.open(10)
    book.run(CloseHold(closed, 5))
    lapse(closed)
    assert [orphan.row.pk for orphan in holds.expired(limit=2)] == [made["dispatched"].id, made["held"].id]
    assert [orphan.row.pk for orphan in holds.expired()] == [made["recovering"].id]


def test_a_hold_that_changes_while_the_others_are_claimed_is_left_to_whoever_changed_it(book: Ledger) -> None:
    actives = [book.open(10) for _ in range(5)]
    past = timezone.now() - LONG_AGO
    for number, active in enumerate(actives):
        lapse(active, lease_until=past + dt.timedelta(seconds=number))
    changes: list[dict[str, Any]] = [{"generation": 2}, {"state": "recovering"}, {"suspected_at": None}]
    claimed = []
    for orphan in holds.expired():
        claimed.append(orphan.row.pk)
        for active, change in zip(actives[1:4], changes, strict=True):
            Hold.objects.filter(pk=active.id).update(**change)
    assert claimed == [actives[0].id, actives[4].id]


def orphan_of(book: Ledger, owner: str, progress: object = None, noted: Progress | None = None) -> holds.Orphan:
    """The claimed hold of a process whose journal says `noted`."""
    active = book.open(100)
    lapse(active, lease_owner=owner, progress=progress)
    (orphan,) = holds.expired()
    assert orphan.row.pk == active.id
    return orphan


@pytest.fixture
def dead(tmp_path: Any) -> Iterator[Journal]:
    """The journal of a process that has died, and this process's folder of journals."""
    with override_settings(VAR_DIR=tmp_path):
        yield Journal()


@on_sqlite
def test_a_call_that_its_processs_journal_does_not_know_was_never_sent(book: Ledger, dead: Journal) -> None:
    orphan = orphan_of(book, dead.open())
    assert (orphan.progress, orphan.was_sent) == (None, False)


@on_sqlite
def test_a_call_whose_process_left_no_journal_here_is_one_that_nobody_can_tell_of(book: Ledger, dead: Journal) -> None:
    orphan = orphan_of(book, "elsewhere:1:0123456789abcdef")
    assert (orphan.progress, orphan.was_sent) == (None, None)


@on_sqlite
def test_a_crowded_journal_proves_nothing_of_a_call_that_it_does_not_know(
    book: Ledger, dead: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("billing.journal.SLOTS", 1)
    owner = dead.open()
    for _ in range(2):
        dead.note(uuid.uuid4(), 1, Progress(1))
    orphan = orphan_of(book, owner)
    assert (orphan.progress, orphan.was_sent) == (None, None)


@on_sqlite
def test_the_journal_knows_more_than_the_last_renewal(book: Ledger, dead: Journal) -> None:
    active = book.open(100)
    owner = dead.open()
    dead.note(active.id, 1, Progress(2, 30, 99, answering=True))
    lapse(active, lease_owner=owner, progress={"attempt": 1, "input_bytes": 30})
    (orphan,) = holds.expired()
    assert (orphan.progress, orphan.was_sent) == (Progress(2, 30, 99, answering=True), True)


@on_sqlite
def test_the_last_renewal_is_believed_where_there_is_no_journal(book: Ledger, dead: Journal) -> None:
    orphan = orphan_of(book, "elsewhere:1:0123456789abcdef", {"attempt": 1, "usage": {"input": 3}})
    assert (orphan.progress, orphan.was_sent) == (Progress(1, usage={"input": 3}), True)


@on_sqlite
def test_a_progress_that_cannot_be_read_is_as_good_as_none(book: Ledger, dead: Journal) -> None:
    orphan = orphan_of(book, "elsewhere:1:0123456789abcdef", {"attempt": "many"})
    assert (orphan.progress, orphan.was_sent) == (None, None)


@pytest.mark.parametrize(("charged", "taken"), [(60, 60), (100, 100), (101, 100), (None, 0), (0, 0)])
def test_a_recovered_hold_costs_what_was_used_and_never_more_than_was_held(
    book: Ledger, charged: int | None, taken: int
) -> None:
    day = budgets.set_cap(owner=BudgetOwner.KEY, owner_id=1, window="day", cap=500)
    assert day is not None
    active = book.open(100, budgets=[day.pk])
    lapse(active)
    (orphan,) = holds.expired()
    assert holds.recover(orphan.row, charged=charged, rows=[Row(REVISIONS, ("a", 7))], note="x" * 600)
    row = book.hold(active)
    assert (row.state, row.charged) == ("voided" if charged is None else "settled", taken)
    assert row.note == "x" * 500
    assert (book.wallet.balance, book.wallet.held) == (1000 - taken, 0)
    day.refresh_from_db()
    assert (day.used, day.held) == (taken, 0)
    assert Revision.objects.get(name="a").value == 7
    assert Transfer.objects.filter(kind="charge").count() == (1 if taken else 0)
    assert book.findings() == []


def test_what_somebody_else_has_closed_or_claimed_is_not_recovered_again(book: Ledger) -> None:
    closed, claimed = book.open(100), book.open(100)
    stale = lapse(claimed)
    for active in (closed, claimed):
        lapse(active)
    first, second = holds.expired()
    assert holds.recover(first.row, charged=60, note="first")
    assert not holds.recover(first.row, charged=70, rows=[Row(REVISIONS, ("a", 7))], note="second")
    assert not holds.recover(stale, charged=70, note="stale")
    assert (Hold.objects.get(pk=first.row.pk).charged, Hold.objects.get(pk=first.row.pk).note) == (60, "first")
    assert Hold.objects.get(pk=second.row.pk).note == ""
    assert not Revision.objects.filter(name="a").exists()
    assert (book.wallet.balance, book.wallet.held) == (940, 100)
    assert holds.recover(second.row, charged=1)
    assert Hold.objects.get(pk=second.row.pk).note == ""


@pytest.mark.parametrize(("charged", "kept"), [(None, 0), (5, 1)])
def test_a_recovered_call_keeps_its_key_if_it_was_paid(book: Ledger, charged: int | None, kept: int) -> None:
    opening = msgspec.structs.replace(book.opening(100), claim=Claim("order-1", "abc"))
    (active,) = book.run(opening)
    assert isinstance(active, ActiveHold)
    lapse(active)
    (orphan,) = holds.expired()
    assert holds.recover(orphan.row, charged=charged)
    assert IdempotencyKey.objects.count() == kept


def test_what_nobody_can_tell_waits_for_an_administrator_with_its_money_reserved(book: Ledger) -> None:
    active, other = book.open(100), book.open(50)
    lapse(active)
    lapse(other, lease_until=timezone.now() - LONG_AGO + dt.timedelta(seconds=1))
    orphan, _ = holds.expired()
    stale = Hold.objects.get(pk=active.id)
    stale.generation = 1
    assert not holds.review(stale, why="not mine")
    assert holds.review(orphan.row, why="w" * 600)
    row = book.hold(active)
    assert (row.state, row.note, row.generation) == ("review", "w" * 500, 2)
    assert (book.wallet.held, book.hold(other).state) == (150, "recovering")
    assert not holds.review(orphan.row, why="again")
    assert book.hold(active).note == "w" * 500
    assert holds.recover(row, charged=30, note="resolved")
    assert (book.wallet.balance, book.wallet.held) == (970, 50)
    assert book.findings() == []


@on_sqlite
def test_journals_are_kept_for_holds_that_are_open_and_not_for_those_that_wait_for_people(
    book: Ledger, dead: Journal, tmp_path: Any
) -> None:
    folder = tmp_path / "journals"
    folder.mkdir()
    tokens = {}
    for number, state in enumerate(("held", "dispatched", "recovering", "review", "settled")):
        active = book.open(10)
        tokens[state] = f"{number:016x}"
        (folder / f"{tokens[state]}.journal").write_bytes(b"")
        if state == "settled":
            book.run(CloseHold(active, 1))
            state = "settled"
        Hold.objects.filter(pk=active.id).update(lease_owner=f"host:1:{tokens[state]}", state=state)
    holds.remove_journals()
    assert {path.stem for path in folder.iterdir()} == {tokens["held"], tokens["dispatched"], tokens["recovering"]}


def test_the_lease_of_a_hold_is_its_own(book: Ledger) -> None:
    opening = book.opening(10)
    (active,) = book.run(
        OpenHold(opening.id, opening.account, 10, 10, book.price, (), {}, "somebody", 7.0, opening.created_at)
    )
    assert isinstance(active, ActiveHold)
    row = book.hold(active)
    assert row.lease_owner == "somebody"
    assert timezone.now() < row.lease_until <= timezone.now() + dt.timedelta(seconds=7)


def test_a_window_that_is_kept_and_a_raise_that_runs_are_read_from_the_budgets_row(book: Ledger) -> None:
    now = timezone.now()
    day = budgets.set_cap(owner=BudgetOwner.KEY, owner_id=1, window="day", cap=100)
    assert day is not None
    began, soon = day.starts_at - dt.timedelta(days=1), now + dt.timedelta(hours=1)
    Budget.objects.filter(pk=day.pk).update(
        starts_at=began, kept_until=soon, used=70, over=0, extra=50, extra_until=soon
    )
    assert book.open(900, 1, budgets=[day.pk]).amount == 80
    day.refresh_from_db()
    assert (day.starts_at, day.used, day.held, day.over) == (began, 70, 80, 50)
