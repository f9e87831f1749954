"""The ledger's writer: many operations in one transaction, each answered for itself, none lost, none done twice."""

import asyncio
import datetime as dt
import sqlite3
import time
from collections.abc import Coroutine, Iterator
from typing import Any

import psycopg
import pytest
from django.db import connection

from billing import catalog, group_commit, holds, ids, ledger, prices
from billing.group_commit import GroupCommit, LedgerUnavailable, writer
from billing.models import Hold, Revision, Transfer
from billing.operations import ActiveHold, CloseHold, Done, Operation, Outcome, Row, Table
from portal import services as portal
from tests.billing.conftest import Ledger
from tests.faults.proxy import Proxy
from tests.kit import databases
from tests.kit.ports import free_port
from tests.kit.services import services


def submit(*operations: Operation, group: GroupCommit | None = None) -> list[Outcome | BaseException]:
    """What a writer answers to operations that come at once, which makes them one batch."""
    used = group or GroupCommit()

    async def scene() -> list[Outcome | BaseException]:
        waiting = [used.submit(operation) for operation in operations]
        try:
            return await asyncio.gather(*waiting, return_exceptions=True)
        finally:
            await used.close()

    return asyncio.run(asyncio.wait_for(scene(), 30))


def run(*work: Coroutine[Any, Any, None]) -> None:
    """Runs what uses the process's own writer, and closes that."""

    async def scene() -> None:
        try:
            await asyncio.gather(*work)
        finally:
            await writer.close()

    asyncio.run(scene())


def test_a_batch_answers_each_operation_in_its_order(book: Ledger) -> None:
    outcomes = submit(*(book.opening(300) for _ in range(5)))
    assert [isinstance(outcome, ActiveHold) for outcome in outcomes] == [True, True, True, False, False]
    assert book.findings() == []


@pytest.mark.parametrize("books", ["sqlite"], indirect=True)
def test_a_file_that_another_process_is_writing_to_is_waited_for(book: Ledger) -> None:
    """It is busy, and not away: a worker's transaction, or a slow disk."""
    ledger.revenue_account()  # is known from a process's start

    async def scene() -> Outcome:
        group = GroupCommit()
        other = sqlite3.connect(connection.settings_dict["NAME"], isolation_level=None, uri=True)
        try:
            other.execute("BEGIN IMMEDIATE")
            waiting = group.submit(book.opening(10))
            await asyncio.sleep(1.5)
            other.execute("ROLLBACK")
            return await waiting
        finally:
            other.close()
            await group.close()

    assert isinstance(asyncio.run(scene()), ActiveHold)


def test_one_operation_that_cannot_be_written_does_not_take_the_others(book: Ledger) -> None:
    known = book.opening(10)
    book.run(known)
    operations: list[Operation] = [book.opening(20), known, book.opening(30), book.opening(40)]
    outcomes = submit(*operations)
    assert isinstance(outcomes[1], psycopg.IntegrityError | sqlite3.IntegrityError)
    assert [outcome.amount for outcome in outcomes if isinstance(outcome, ActiveHold)] == [20, 30, 40]
    assert book.wallet.held == 100
    assert book.findings() == []


async def life(book: Ledger, charged: int | None) -> None:
    active = await holds.hold(
        call=ids.uuid7(),
        account=book.account,
        wanted=3,
        minimum=3,
        price=book.price,
        budgets=(),
        facts={},
        created_at=dt.datetime.now(dt.UTC),
    )
    await (holds.release(active) if charged is None else holds.settle(active, charged=charged))


def test_three_hundred_calls_at_once_are_all_in_the_books(book: Ledger) -> None:
    run(*(life(book, None if n % 3 == 0 else n % 3) for n in range(300)))
    assert book.wallet.balance == 1000 - 100 * 1 - 100 * 2
    assert Hold.objects.filter(state="voided").count() == 100
    assert book.findings() == []


def test_refusals_have_names(book: Ledger) -> None:
    async def hold(wanted: int, account: int) -> None:
        now = dt.datetime.now(dt.UTC)
        arguments = {"price": book.price, "budgets": (), "facts": {}, "created_at": now}
        await holds.hold(call=ids.uuid7(), account=account, wanted=wanted, minimum=wanted, **arguments)  # type: ignore[arg-type]

    with pytest.raises(holds.Insufficient):
        run(hold(1001, book.account))
    type(book.wallet).objects.filter(pk=book.account).update(frozen="stopped")
    with pytest.raises(holds.AccountFrozen):
        run(hold(1, book.account))


def test_a_settlement_that_somebody_else_made_otherwise_is_reported_as_lost(book: Ledger) -> None:
    active = book.open(100)
    book.run(CloseHold(active, None))
    with pytest.raises(holds.HoldLost):
        run(holds.settle(active, charged=50))
    other = book.open(100)
    book.run(CloseHold(other, 50))
    run(holds.settle(other, charged=50))  # the same result: written before an answer got lost
    assert book.wallet.balance == 950
    assert book.findings() == []


def test_a_full_queue_refuses_openings_and_keeps_closings(book: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    active = book.open(100)
    monkeypatch.setattr(group_commit, "LONGEST_QUEUE", -1)
    with pytest.raises(LedgerUnavailable):
        run(life(book, 1))
    run(holds.settle(active, charged=1))
    assert book.wallet.balance == 999


def test_a_database_that_was_never_there_is_unavailable_not_a_defect(book: Ledger) -> None:
    opening = book.opening(1)
    nowhere = f"postgres://postgres@127.0.0.1:{free_port()}/nowhere-{ids.uuid7().hex}"
    with databases.inside(nowhere):
        (refused,) = submit(opening)
    assert isinstance(refused, LedgerUnavailable)


# ---- a commit whose answer is lost ----------------------------------------------------------------------------------


@pytest.fixture
def cuttable() -> Iterator[tuple[Ledger, Proxy]]:
    """A wallet with 1,000 nano-units on a PostgreSQL whose wire can be cut."""
    proxy = Proxy(services.postgres.port)
    url = databases.new("postgres")
    with databases.inside(url.replace(str(services.postgres.port), str(proxy.port))):
        _, team = portal.user_with_team("alice@example.com")
        wallet = ledger.wallet_of(team.pk)
        ledger.credit(wallet=wallet, amount=1000, actor="tests", reason="opening balance")
        price = catalog.set_price(catalog.save_model(name="x"), prices.parse_card({"input": "1"}), actor="tests")
        assert price is not None
        ledger.revenue_account()
        yield Ledger("postgres", wallet.pk, price.pk), proxy
    proxy.close()
    databases.drop(url)


def test_a_commit_that_happened_though_nobody_heard_of_it_is_found_out(
    cuttable: tuple[Ledger, Proxy],
) -> None:
    book, proxy = cuttable
    proxy.cut_at(b"COMMIT", "after")
    (active,) = submit(book.opening(300))
    assert proxy.cuts == 1
    assert isinstance(active, ActiveHold)
    assert (book.wallet.held, Hold.objects.count()) == (300, 1)
    proxy.cut_at(b"COMMIT", "after")
    assert submit(CloseHold(active, 120)) == [Done()]
    assert proxy.cuts == 2
    assert (book.wallet.balance, book.wallet.held) == (880, 0)
    assert Transfer.objects.filter(kind="charge").count() == 1
    assert book.findings() == []


def test_a_commit_that_did_not_happen_refuses_openings_and_tries_closings_again(
    cuttable: tuple[Ledger, Proxy],
) -> None:
    book, proxy = cuttable
    (active,) = submit(book.opening(300))
    assert isinstance(active, ActiveHold)
    proxy.cut_at(b"COMMIT", "before")
    (refused,) = submit(book.opening(300))
    assert isinstance(refused, LedgerUnavailable)
    assert book.wallet.held == 300
    proxy.cut_at(b"COMMIT", "before")
    (done,) = submit(CloseHold(active, 120))
    assert done == Done()
    assert proxy.cuts == 2
    assert (book.wallet.balance, book.wallet.held) == (880, 0)
    assert book.findings() == []


def test_the_fate_of_an_earlier_batch_is_not_taken_for_that_of_the_next(cuttable: tuple[Ledger, Proxy]) -> None:
    book, proxy = cuttable
    group = GroupCommit()

    async def scene() -> tuple[Outcome, BaseException | Outcome]:
        proxy.cut_at(b"COMMIT", "after")
        first = await group.submit(book.opening(300))
        proxy.mode = "refuse"
        proxy.drop()
        (second,) = await asyncio.gather(group.submit(book.opening(100)), return_exceptions=True)
        await group.close()
        return first, second

    first, second = asyncio.run(asyncio.wait_for(scene(), 30))
    proxy.mode = "pass"
    connection.close()
    assert isinstance(first, ActiveHold)
    assert isinstance(second, LedgerUnavailable)
    assert (book.wallet.held, Hold.objects.count()) == (300, 1)


@pytest.mark.parametrize("books", ["postgres"], indirect=True)  # SQLite has no server
def test_a_connection_that_the_server_closed_in_a_quiet_hour_costs_no_call(book: Ledger) -> None:
    group = GroupCommit()

    async def scene() -> list[Outcome]:
        found = [await group.submit(book.opening(10))]
        await asyncio.to_thread(_terminate_others)
        await asyncio.sleep(0.2)
        found.append(await group.submit(book.opening(20)))
        await group.close()
        return found

    outcomes = asyncio.run(asyncio.wait_for(scene(), 30))
    assert [outcome.amount for outcome in outcomes if isinstance(outcome, ActiveHold)] == [10, 20]


def _terminate_others() -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    connection.close()


def test_while_a_closing_waits_for_the_database_a_new_call_is_refused_at_once(
    cuttable: tuple[Ledger, Proxy],
) -> None:
    book, proxy = cuttable
    (active,) = submit(book.opening(300))
    assert isinstance(active, ActiveHold)
    group = GroupCommit()

    async def scene() -> tuple[BaseException | Outcome, float, Outcome, Outcome]:
        proxy.mode = "refuse"
        closing = group.submit(CloseHold(active, 120))
        await asyncio.sleep(3)  # by now the pauses between two attempts are long
        began = time.monotonic()
        (refused,) = await asyncio.gather(group.submit(book.opening(1)), return_exceptions=True)
        took = time.monotonic() - began
        proxy.mode = "pass"
        done = await closing
        later = await group.submit(book.opening(1))
        await group.close()
        return refused, took, done, later

    refused, took, done, later = asyncio.run(asyncio.wait_for(scene(), 30))
    assert isinstance(refused, LedgerUnavailable)
    assert took < 0.5
    assert done == Done()
    assert isinstance(later, ActiveHold)
    assert book.wallet.balance == 880


def test_a_renewal_that_fails_for_any_reason_is_followed_by_the_next(
    book: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[Operation] = []

    class Broken:
        def submit(self, operation: Operation) -> "asyncio.Future[Outcome]":
            tried.append(operation)
            raise RuntimeError("anything")

    async def scene() -> None:
        await holds.hold(
            call=ids.uuid7(), account=book.account, wanted=3, minimum=3, price=book.price, budgets=(), facts={},
            created_at=dt.datetime.now(dt.UTC),
        )  # fmt: skip
        await writer.close()
        monkeypatch.setattr(holds, "NOTE_EVERY", 0.02)
        monkeypatch.setattr(holds, "RENEW_EVERY", 0.02)
        monkeypatch.setattr(holds, "writer", Broken())
        keeper = asyncio.create_task(holds.keep_leases())
        await asyncio.sleep(0.3)
        assert not keeper.done()
        keeper.cancel()

    monkeypatch.setattr(holds, "_open", {})
    asyncio.run(asyncio.wait_for(scene(), 30))
    assert len(tried) > 1


def test_a_process_ends_though_the_database_is_away(cuttable: tuple[Ledger, Proxy]) -> None:
    book, proxy = cuttable
    (active,) = submit(book.opening(300))
    assert isinstance(active, ActiveHold)
    group = GroupCommit()

    async def scene() -> float:
        proxy.mode = "refuse"
        closing = group.submit(CloseHold(active, 120))
        began = time.monotonic()
        await group.close(within=0.5)
        closing.cancel()
        return time.monotonic() - began

    assert asyncio.run(asyncio.wait_for(scene(), 30)) < 3
    proxy.mode = "pass"
    assert book.hold(active).state == "dispatched"
    assert book.findings() == []


def test_a_record_that_cannot_be_written_does_not_make_its_call_free(book: Ledger) -> None:
    active = book.open(100)
    Revision.objects.create(name="taken")
    bad = Row(Table("billing_revision", (("name", "text"), ("value", "bigint"))), ("taken", 1))
    neighbour = book.opening(30)
    first, second = submit(CloseHold(active, 60, (bad,)), neighbour)
    assert first == Done()
    assert isinstance(second, ActiveHold)
    assert (book.hold(active).state, book.hold(active).charged) == ("settled", 60)
    assert book.findings() == []
