"""The books' script alone, beside a database that is a dictionary: what is asked, what is written, and when."""

import datetime as dt
from typing import Any

from billing import books, ids
from billing.books import HOLD, TRANSFER, Trip, Verb
from billing.operations import (
    ActiveHold,
    Claim,
    CloseHold,
    Done,
    OpenHold,
    Operation,
    Outcome,
    Post,
    Record,
    Row,
    Table,
)

# A database whose clock is not ours.
THERE = dt.datetime(2031, 2, 3, 4, 5, 6, tzinfo=dt.UTC)
WALLET, RECEIVABLE, REVENUE = 7, 8, 90
WALLET_ROW = (WALLET, True, 1000, 300, 0, "", THERE)
ROW = Row(Table("somewhere", (("id", "bigint"),)), (1,))


class Dictionary:
    """Answers from `rows` and keeps every trip."""

    def __init__(self, **rows: list[tuple[Any, ...]]) -> None:
        self.rows = {Verb[verb]: found for verb, found in rows.items()}
        self.trips: list[Trip] = []

    def run(self, *operations: Operation) -> list[Outcome]:
        return books.drive(books.script(operations, revenue=REVENUE), self._carry_out)

    def _carry_out(self, trip: Trip) -> list[list[tuple[Any, ...]]]:
        self.trips.append(trip)
        return [
            self.rows.get(statement.what, []) if isinstance(statement.what, Verb) and statement.rows else []
            for statement in trip.statements
        ]

    def told(self, number: int) -> dict[Any, list[Any]]:
        """The statements of a trip that are not empty, in their order."""
        return {statement.what: statement.rows for statement in self.trips[number].statements if statement.rows}


def opening(**extra: Any) -> OpenHold:
    wanted: dict[str, Any] = {"facts": {"x": 1}, "lease_owner": "me", "lease": 45.0, "created_at": THERE, **extra}
    return OpenHold(id=ids.uuid7(), account=WALLET, wanted=100, minimum=50, price=3, budgets=(), **wanted)


def test_a_hold_is_written_with_the_databases_clock_and_the_callers_facts() -> None:
    database, created = Dictionary(LOCK_ACCOUNTS=[WALLET_ROW]), THERE - dt.timedelta(days=1)
    wanted = opening(created_at=created, claim=Claim("k", "abc"))
    assert database.run(wanted) == [ActiveHold(wanted.id, WALLET, 100, 1, (), True)]
    assert database.told(0) == {Verb.LOCK_ACCOUNTS: [WALLET], Verb.FIND_CLAIMS: [(WALLET, "k")]}
    lease_until = THERE + dt.timedelta(seconds=45)
    assert database.told(1) == {
        HOLD: [(wanted.id, WALLET, 100, 0, "dispatched", 1, 3, (), (), {"x": 1}, "me", lease_until, created)],
        Verb.WRITE_CLAIMS: [(WALLET, "k", wanted.id, "abc", THERE)],
        Verb.WRITE_ACCOUNTS: [(WALLET, 1000, 400, "")],
    }
    assert len(database.trips) == 2


def test_locks_are_taken_in_one_order_whatever_order_the_operations_have() -> None:
    database = Dictionary()
    first, second = ActiveHold(ids.uuid7(), 9, 5, 1, ((4, 0), (2, 0))), ActiveHold(ids.uuid7(), 5, 5, 2, ((3, 0),))
    database.run(CloseHold(first, 5), Post("credit", 6, 1, 1, "r"), CloseHold(second, None), CloseHold(first, 7))
    assert [statement.what for statement in database.trips[0].statements] == [
        Verb.CLOSE_HOLDS, Verb.RENEW_LEASES, Verb.LOCK_BUDGETS, Verb.LOCK_ACCOUNTS, Verb.FIND_CLAIMS,
    ]  # fmt: skip
    told = database.told(0)
    assert sorted(told[Verb.CLOSE_HOLDS]) == sorted([(first.id, 1, 5), (second.id, 2, None)])  # the first one counts
    assert told[Verb.LOCK_BUDGETS] == [2, 3, 4]
    assert told[Verb.LOCK_ACCOUNTS] == [1, 5, 6, 9]


def test_a_debt_is_booked_against_the_account_that_its_team_owes_with() -> None:
    hold = ActiveHold(ids.uuid7(), WALLET, 300, 1, (), True)
    database = Dictionary(
        CLOSE_HOLDS=[(hold.id, 1)], LOCK_ACCOUNTS=[WALLET_ROW], FIND_RECEIVABLES=[(WALLET, RECEIVABLE)]
    )
    assert database.run(CloseHold(hold, 1200, (ROW,)), Record((ROW,))) == [Done(), Done()]
    assert database.told(1) == {Verb.FIND_RECEIVABLES: [WALLET]}
    frozen = f"call {hold.id} cost more than the wallet could pay"
    call = str(hold.id)
    assert database.told(2) == {
        Verb.WRITE_ACCOUNTS: [(WALLET, 0, 0, frozen)],
        TRANSFER: [
            ("charge", WALLET, REVENUE, 1000, call, "", "", None, THERE),
            ("shortfall", RECEIVABLE, REVENUE, 200, call, "", "", None, THERE),
        ],
        ROW.table: [(1,), (1,)],
    }


def test_a_void_drops_the_claim_of_its_hold() -> None:
    hold = ActiveHold(ids.uuid7(), WALLET, 300, 1, (), True)
    database = Dictionary(CLOSE_HOLDS=[(hold.id, 1)], LOCK_ACCOUNTS=[WALLET_ROW])
    database.run(CloseHold(hold, None))
    assert database.told(1) == {Verb.DROP_CLAIMS: [(hold.id,)], Verb.WRITE_ACCOUNTS: [(WALLET, 1000, 0, "")]}


def test_a_batch_that_locks_no_account_has_this_machines_time() -> None:
    database = Dictionary(LOCK_BUDGETS=[(3, "day", 100, "UTC", THERE, 5, 0, 0, 0, None, None)])
    database.run(CloseHold(ActiveHold(ids.uuid7(), WALLET, 1, 1, ((3, 0),)), None), Record((ROW,)))
    assert database.told(1) == {Verb.WRITE_BUDGETS: [(3, THERE, 5, 0, 0)], ROW.table: [(1,)]}
