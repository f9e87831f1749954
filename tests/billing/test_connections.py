"""How a batch gets to the database and what is known of it afterwards; and reading from an event loop."""

import asyncio
import datetime as dt
import os
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any
from zoneinfo import ZoneInfo

import django.db
import msgspec
import psycopg
import pytest
from django.db import connection

from billing import connections, ids, ledger, postgres, sqlite
from billing.books import Proof
from billing.connections import Connection
from billing.models import Account, Hold, Revision
from billing.operations import ActiveHold, CloseHold, Done, Operation, Outcome, Record, RenewLeases, Row, Table
from billing.postgres import AsyncConnection, Decided, Fate
from tests.billing.conftest import Ledger
from tests.kit.ports import eventually

on_sqlite = pytest.mark.parametrize("books", ["sqlite"], indirect=True)
on_postgres = pytest.mark.parametrize("books", ["postgres"], indirect=True)
TAKEN = Row(Table("billing_revision", (("name", "text"), ("value", "bigint"))), ("taken", 1))


# ---- reading --------------------------------------------------------------------------------------------------------


def test_a_reading_says_what_its_function_says_and_leaves_no_connection_in_its_thread(book: Ledger) -> None:
    def balance(account: int, more: int) -> int:
        return Account.objects.get(pk=account).balance + more

    async def scene() -> int:
        found = await connections.read(balance, book.account, 5, within=5)
        closed = await asyncio.to_thread(lambda: connection.connection is None)
        assert closed
        return found

    assert asyncio.run(scene()) == 1005


@on_sqlite
def test_a_reading_raises_what_its_function_raises(book: Ledger) -> None:
    def broken() -> None:
        raise LookupError("nothing there")

    with pytest.raises(LookupError, match="nothing there"):
        asyncio.run(connections.read(broken, within=5))


@on_sqlite
def test_a_reading_that_nobody_answers_ends_in_time(book: Ledger) -> None:
    silence = threading.Event()

    async def scene() -> float:
        began = time.monotonic()
        try:
            with pytest.raises(django.db.OperationalError) as refused:
                await connections.read(silence.wait, 20, within=0.1)
        finally:
            silence.set()
        assert str(refused.value) == "the database did not answer in time"
        return time.monotonic() - began

    assert 0.1 <= asyncio.run(scene()) < 10


@on_sqlite
def test_a_reading_waits_for_a_database_that_answers_others(book: Ledger) -> None:
    """It is busy then, not away. Reading ends soon after the others' answers do."""
    slow = threading.Event()

    async def scene() -> bool:
        waiting = asyncio.create_task(connections.read(slow.wait, 20, within=0.2))
        for _ in range(8):
            await asyncio.sleep(0.06)
            await connections.read(bool, within=5)
        assert not waiting.done()
        slow.set()
        return await waiting

    assert asyncio.run(scene()) is True


@on_sqlite
def test_a_reading_does_not_blame_the_database_for_an_event_loop_that_stood_still(book: Ledger) -> None:
    slow = threading.Event()

    async def scene() -> bool:
        waiting = asyncio.create_task(connections.read(slow.wait, 20, within=1))
        await asyncio.sleep(0.05)
        time.sleep(1.2)  # noqa: ASYNC251 - this is what the test is about
        await asyncio.sleep(0.1)
        assert not waiting.done()
        slow.set()
        return await waiting

    assert asyncio.run(scene()) is True


@on_postgres
def test_a_thread_whose_database_says_nothing_is_not_left_waiting(book: Ledger) -> None:
    ended: list[str] = []

    def sleep(seconds: float) -> None:
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_sleep(%s)", [seconds])
        except django.db.Error as error:
            ended.append(type(error).__name__)
            raise

    async def scene() -> None:
        with pytest.raises(django.db.OperationalError):
            await connections.read(sleep, 60, within=0.3)

    asyncio.run(asyncio.wait_for(scene(), 15))
    eventually(lambda: ended)
    assert ended == ["OperationalError"]
    assert book.wallet.balance == 1000


@pytest.mark.parametrize("error", [OSError(), psycopg.OperationalError()])
def test_a_thread_that_ends_by_itself_meanwhile_is_no_trouble(error: Exception) -> None:
    class Gone(psycopg.Connection[Any]):
        closed = False

        def __init__(self) -> None:
            """Connected to nothing."""

        def __del__(self, __warn: object = None) -> None:
            """Nothing is open."""

        def fileno(self) -> int:
            raise error

    class Wrapper:
        connection = Gone()

    reading = connections._Reading()
    reading.give_up()  # it has not begun, or is over
    reading._wrapper = Wrapper()
    reading.give_up()


# ---- the writer's connection ----------------------------------------------------------------------------------------


async def batch(used: Connection, *operations: Operation) -> list[Outcome]:
    return await used.run(operations, revenue=ledger.known_revenue_account() or 0)


def on_one(book: Ledger, scene: Any) -> Any:
    """Runs the scene with one connection of a writer."""
    ledger.revenue_account()

    async def whole() -> Any:
        used = connections.new_connection()
        try:
            return await scene(used)
        finally:
            await used.close()

    return asyncio.run(asyncio.wait_for(whole(), 30))


def backends() -> set[int]:
    """The server's processes that serve others in this database."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pid FROM pg_stat_activity "
            "WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )
        found = {pid for (pid,) in cursor.fetchall()}
    connection.close()  # the thread's own
    return found


@on_postgres
def test_a_connection_is_used_again_and_closed_in_the_end(book: Ledger) -> None:
    seen: list[set[int]] = []

    async def scene(used: Connection) -> None:
        seen.append(await asyncio.to_thread(backends))
        for _ in range(2):
            await batch(used, book.opening(10))
            seen.append(await asyncio.to_thread(backends))

    on_one(book, scene)
    others, first, second = seen
    assert first == second
    assert len(first - others) == 1
    eventually(lambda: not backends() & (first - others))
    assert book.wallet.held == 20


def test_after_a_batch_that_failed_the_next_one_is_written(book: Ledger) -> None:
    Revision.objects.create(name="taken")

    async def scene(used: Connection) -> list[Outcome]:
        active = (await batch(used, book.opening(10)))[0]
        assert not isinstance(active, Done)
        with pytest.raises(connections.DEFECTS):
            await batch(used, book.opening(20), Record((TAKEN,)))
        if used.decided is not None:
            assert await used.fate(used.decided) is Fate.UNDONE
        found = await batch(used, book.opening(30))
        assert used.decided is None
        return found

    on_one(book, scene)
    assert book.wallet.held == 40
    assert book.findings() == []


@on_postgres
def test_a_batch_without_money_leaves_no_transaction_to_ask_after(book: Ledger) -> None:
    Revision.objects.create(name="taken")

    async def scene(used: Connection) -> list[Decided | None]:
        known = [used.decided]
        with pytest.raises(connections.DEFECTS):
            await batch(used, Record((TAKEN,)))
        assert await used.fate(Decided("", [])) is Fate.UNDONE
        return [*known, used.decided]

    assert on_one(book, scene) == [None, Decided("", [Done()])]


@on_postgres
def test_libpq_is_told_what_it_knows_and_nothing_that_only_django_does(
    book: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = connections._parameters()
    assert f"dbname={connection.settings_dict['NAME']}" in psycopg.conninfo.make_conninfo(**told)  # raises on others
    with monkeypatch.context() as simple:
        simple.setattr(connection, "get_connection_params", lambda: {"dbname": "plain"})
        assert connections._parameters() == {"dbname": "plain"}


@on_postgres
def test_a_connection_that_is_closed_twice_leaves_the_next_owner_of_its_number_alone(book: Ledger) -> None:
    async def scene() -> None:
        used, loop = await AsyncConnection.open(connections._parameters()), asyncio.get_running_loop()
        with socket.socket() as plain:
            used.close()
            os.dup2(plain.fileno(), used._socket)
        try:
            loop.add_reader(used._socket, print)
            used.close()
            assert loop.remove_reader(used._socket)
        finally:
            os.close(used._socket)

    asyncio.run(scene())


def test_times_are_written_in_utc_wherever_the_machine_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        written = sqlite.time_text(dt.datetime(2026, 6, 10, 1, 2, 3, tzinfo=dt.timezone(dt.timedelta(hours=2))))
    time.tzset()
    assert written == "2026-06-09 23:02:03"


def test_of_an_hour_that_clocks_show_twice_each_is_written_as_itself() -> None:
    """Python takes the two for equal, so they must not be one another's in any memory."""
    once = dt.datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"))
    assert sqlite.time_text(once) == "2026-10-25 00:30:00"
    assert sqlite.time_text(once.replace(fold=1)) == "2026-10-25 01:30:00"


@on_sqlite
def test_a_commit_that_sqlite_refused_was_rolled_back(book: Ledger) -> None:
    async def scene(used: Connection) -> Fate:
        assert used.decided is None
        return await used.fate(Decided("1", []))

    assert on_one(book, scene) is Fate.UNDONE


@on_sqlite
def test_other_work_in_threads_does_not_hold_up_the_ledger(book: Ledger) -> None:
    gate = threading.Event()

    async def scene(used: Connection) -> list[Outcome]:
        loop = asyncio.get_running_loop()
        others = [loop.run_in_executor(None, gate.wait, 20) for _ in range(100)]
        try:
            return await asyncio.wait_for(batch(used, book.opening(10)), 10)
        finally:
            gate.set()
            await asyncio.gather(*others)

    assert len(on_one(book, scene)) == 1


@on_sqlite
def test_two_batches_at_once_are_written_one_after_the_other_in_the_ledgers_thread(book: Ledger) -> None:
    async def scene(used: Connection) -> list[list[Outcome]]:
        await batch(used, book.opening(10))
        return list(await asyncio.gather(batch(used, book.opening(20)), batch(used, book.opening(30))))

    assert [outcome.amount for (outcome,) in on_one(book, scene)] == [20, 30]
    assert book.wallet.held == 60


@on_sqlite
def test_the_writers_sqlite_is_as_durable_as_it_can_be(book: Ledger) -> None:
    raw = sqlite.open_connection(str(connection.settings_dict["NAME"]))
    modes = [raw.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous", "foreign_keys")]
    assert modes == ["wal", 2, 1]
    assert raw.execute("PRAGMA busy_timeout").fetchone()[0] == 20_000
    assert raw.isolation_level is None
    raw.close()
    memory = sqlite.open_connection("file:nowhere?mode=memory")
    assert memory.execute("PRAGMA database_list").fetchone()[2] == ""  # a URI is understood, and is no file's name
    memory.close()


@on_postgres
def test_the_fate_of_a_transaction_is_the_servers_word(book: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "FATE_EVERY", 0.001)
    with psycopg.connect(**connections._parameters()) as committed:
        done = str(committed.execute("SELECT pg_current_xact_id()").fetchone()[0])  # type: ignore[index]
    with psycopg.connect(**connections._parameters()) as undone:
        gone = str(undone.execute("SELECT pg_current_xact_id()").fetchone()[0])  # type: ignore[index]
        undone.rollback()

    async def scene(used: Connection) -> list[Fate]:
        fates = [await used.fate(Decided(transaction, [])) for transaction in (done, gone, "", done)]
        return [*fates, await used.fate(Decided(open_one, []))]

    with psycopg.connect(**connections._parameters()) as running:
        open_one = str(running.execute("SELECT pg_current_xact_id()").fetchone()[0])  # type: ignore[index]
        fates = on_one(book, scene)
    assert fates == [Fate.COMMITTED, Fate.UNDONE, Fate.UNDONE, Fate.COMMITTED, Fate.UNKNOWN]


@on_postgres
def test_the_number_of_a_lost_transaction_that_another_one_got_proves_nothing(book: Ledger) -> None:
    """A server that is killed before a transaction's log is on disk forgets that its number was ever given out."""
    with psycopg.connect(**connections._parameters()) as another:
        reused = str(another.execute("SELECT pg_current_xact_id()").fetchone()[0])  # type: ignore[index]
    kept, lost = book.opening(10), ids.uuid7()

    async def scene(used: Connection) -> list[Fate]:
        (hold,) = await batch(used, kept)
        assert isinstance(hold, ActiveHold)
        found = [Proof("opened", str(kept.id)), Proof("opened", str(lost)), Proof("closed", str(kept.id), "1")]
        fates = [await used.fate(Decided(reused, [], proof)) for proof in found]
        await batch(used, CloseHold(hold, 4))
        found = [Proof("closed", str(kept.id), "1"), Proof("closed", str(kept.id), "2")]
        found += [Proof("posted", str(kept.id), "charge"), Proof("posted", str(kept.id), "credit")]
        return [*fates, *[await used.fate(Decided(reused, [], proof)) for proof in found]]

    yes, no = Fate.COMMITTED, Fate.UNDONE
    assert on_one(book, scene) == [yes, no, no, yes, no, yes, no]


@on_postgres
@pytest.mark.parametrize("number", [2**60 + 5, 2**60])  # one to come, for which it has an error; one there never is
def test_a_transaction_whose_number_the_server_has_yet_to_give_out_is_lost(book: Ledger, number: int) -> None:
    async def scene(used: Connection) -> tuple[Fate, int]:
        return await used.fate(Decided(str(number), [])), len(await batch(used, book.opening(10)))

    assert on_one(book, scene) == (Fate.UNDONE, 1)


@on_postgres
@pytest.mark.parametrize("what", ["opened", "posted", "closed", "nothing"])
def test_a_batch_that_may_have_been_committed_knows_a_proof_of_it(
    book: Ledger, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    opening = book.opening(10)

    async def scene(used: Connection) -> Decided | None:
        (hold,) = await batch(used, opening)
        assert isinstance(hold, ActiveHold)
        operations: dict[str, Operation] = {
            "opened": book.opening(20),
            "posted": CloseHold(hold, 3),
            "closed": CloseHold(hold, 0),
            "nothing": RenewLeases(()),
        }
        answers = AsyncConnection._answers

        async def cut(self: AsyncConnection) -> list[Any]:
            found = await answers(self)
            if self.decided is not None:
                raise psycopg.OperationalError("the connection was cut")
            return found

        monkeypatch.setattr(AsyncConnection, "_answers", cut)
        with pytest.raises(psycopg.OperationalError):
            await batch(used, operations[what])
        monkeypatch.setattr(AsyncConnection, "_answers", answers)
        decided = used.decided
        assert decided is not None
        if decided.transaction:
            assert await used.fate(decided) is Fate.COMMITTED
        return decided

    decided = on_one(book, scene)
    assert decided is not None
    assert (decided.proof.what if decided.proof else "nothing") == what


@on_postgres
def test_a_transaction_that_is_not_over_is_asked_after_until_it_is(
    book: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    answers = [Fate.UNKNOWN, Fate.UNKNOWN, Fate.COMMITTED]

    async def fate(self: AsyncConnection, decided: Decided) -> Fate:
        asked.append(decided.transaction)
        return answers.pop(0) if answers else Fate.UNKNOWN

    monkeypatch.setattr(AsyncConnection, "fate", fate)
    monkeypatch.setattr(connections, "FATE_EVERY", 0.001)

    async def scene(used: Connection) -> list[Fate]:
        return [await used.fate(Decided("5", [])), await used.fate(Decided("6", []))]

    assert on_one(book, scene) == [Fate.COMMITTED, Fate.UNKNOWN]
    assert asked == ["5"] * 3 + ["6"] * connections.FATE_AT_MOST


@on_postgres
def test_a_fate_that_cannot_be_asked_is_unknown_and_costs_the_connection(book: Ledger) -> None:
    with psycopg.connect(**connections._parameters()) as committed:
        done = str(committed.execute("SELECT pg_current_xact_id()").fetchone()[0])  # type: ignore[index]

    async def scene(used: Connection) -> list[Any]:
        await batch(used, book.opening(10))
        found = await used.fate(Decided(done, [], Proof("opened", "no id")))
        return [found, await used.fate(Decided(done, [])), await batch(used, book.opening(20))]

    first, second, outcomes = on_one(book, scene)
    assert (first, second) == (Fate.UNKNOWN, Fate.COMMITTED)
    assert len(outcomes) == 1
    assert book.wallet.held == 30


@pytest.fixture
def deaf() -> Iterator[int]:
    """The port of somebody who takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@on_postgres
def test_a_server_that_says_nothing_is_given_up_in_time(
    book: Ledger, deaf: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "CONNECT_WITHIN", 0.2)
    parameters = {**connections._parameters(), "port": deaf}
    began = time.monotonic()
    with pytest.raises(psycopg.OperationalError, match=r"^the database cannot be reached$"):
        asyncio.run(AsyncConnection.open(parameters))
    assert 0.2 <= time.monotonic() - began < 10


@on_postgres
def test_an_answer_that_does_not_come_costs_the_connection_and_nothing_is_written(
    book: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "ANSWER_WITHIN", 0.3)

    async def scene(used: Connection) -> list[Outcome]:
        with psycopg.connect(**connections._parameters()) as other:
            other.execute("SELECT 1 FROM billing_account FOR UPDATE")
            with pytest.raises(psycopg.OperationalError, match=r"^the database did not answer in time$"):
                await batch(used, book.opening(10))
            assert used.decided is None
        monkeypatch.setattr(postgres, "ANSWER_WITHIN", 10)
        return await batch(used, book.opening(20))

    assert len(on_one(book, scene)) == 1
    assert book.wallet.held == 20


@on_postgres
def test_a_batch_that_is_larger_than_the_sockets_buffers_is_written_whole(book: Ledger) -> None:
    large = {"text": "x" * 12_000_000}
    wanted = msgspec.structs.replace(book.opening(10), facts=large)

    async def scene(used: Connection) -> list[Outcome]:
        (active,) = await batch(used, wanted)
        assert not isinstance(active, Done)
        return await batch(used, CloseHold(active, 5))  # type: ignore[arg-type]

    assert on_one(book, scene) == [Done()]
    assert Hold.objects.get(pk=wanted.id).facts == large


@on_postgres
def test_a_wire_that_breaks_while_a_batch_is_sent_is_an_error_of_whoever_waits(book: Ledger) -> None:
    class Broken:
        def flush(self) -> int:
            raise psycopg.OperationalError("broken")

    class Slow:
        left = 2

        def flush(self) -> int:
            self.left -= 1
            return self.left

    async def scene() -> None:
        used = await AsyncConnection.open(connections._parameters())
        whole: Any = used._pg
        used._waiter = asyncio.get_running_loop().create_future()
        used._pg = Slow()  # type: ignore[assignment]
        used._loop.add_writer(used._socket, used._writable)
        used._writable()
        used._writable()
        assert not used._loop.remove_writer(used._socket)  # removed when everything was sent, which the second call saw
        used._pg = Broken()  # type: ignore[assignment]
        used._writable()
        with pytest.raises(psycopg.OperationalError, match="broken"):
            await used._waiter
        found = used.lost
        used._writable()  # nobody waits any more
        assert (found, used.lost) == (False, True)
        used._pg = whole
        used.close()
        used.close()

    asyncio.run(scene())


@on_postgres
def test_a_connection_that_broke_between_two_trips_is_not_waited_for(book: Ledger) -> None:
    async def scene() -> None:
        used = await AsyncConnection.open(connections._parameters())
        used._wake(psycopg.OperationalError("too late"))  # when nobody waits
        assert used.lost
        with pytest.raises(psycopg.OperationalError, match=r"^the connection is lost$"):
            await used.fate(Decided("1", []))

    asyncio.run(asyncio.wait_for(scene(), 10))
