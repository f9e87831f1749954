"""Every grouping of a statement adds up to the ledger, and the same statement has the same bytes for ever."""

import csv
import datetime as dt
import itertools
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from billing import ledger, money
from billing.invoices import entries, statements
from billing.invoices.statements import GROUPS, Statement
from billing.models import AccountKind, Hold, Transfer
from keys import services as keys
from portal import services
from relay.models import CallLog
from tests.invoices.made import Past, at

START, END = at("2026-03-01 00:00"), at("2026-03-08 00:00")
EVERY = [groups for size in range(1, 5) for groups in itertools.combinations(GROUPS, size)]


def read(statement: Statement) -> list[dict[str, str]]:
    return list(csv.DictReader("".join(statements.as_csv(statement)).splitlines()))


def sums(rows: list[dict[str, str]]) -> int:
    """The file's amounts, which have to lead from its opening balance to its closing one."""
    opening, *body, closing = rows
    assert (opening["kind"], closing["kind"]) == ("opening", "closing")
    total = sum(money.parse(row["amount"], negative=True) for row in body)
    first, last = (money.parse(row["balance"], negative=True) for row in (opening, closing))
    assert first + total == last
    for row in body:
        into, out = money.parse(row["in"]), money.parse(row["out"])
        assert into - out == money.parse(row["amount"], negative=True)
    return total


def of_ledger(past: Past, start: dt.datetime, end: dt.datetime) -> int:
    """The same from the tables alone."""
    rows = Transfer.objects.filter(created_at__gte=start, created_at__lt=end)
    came = sum(rows.filter(credit=past.number).values_list("amount", flat=True))
    went = sum(rows.filter(debit=past.number).values_list("amount", flat=True))
    return came - went


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[str, int, int, int, int]]:
    """What happened, as (kind, minutes after the start, amount, model, key)."""
    kinds = st.sampled_from(["charge", "charge", "charge", "payment", "refund", "adjustment", "purchase"])
    one = st.tuples(kinds, st.integers(-600, 12_000), st.integers(1, 10**12), st.integers(0, 1), st.integers(0, 1))
    return draw(st.lists(one, max_size=25))


def write(past: Past, history: list[tuple[str, int, int, int, int]]) -> None:
    for kind, minutes, amount, model, key in history:
        moment = START + dt.timedelta(minutes=minutes)
        if kind == "charge":
            past.call(amount, moment, model=model, key=key)
        else:
            past.move(kind, amount, moment, out=kind in ("refund", "purchase"))


def test_every_grouping_of_every_period_adds_up_to_the_ledger(books: str) -> None:
    past = Past(limit=10**18)
    written = 0

    @given(histories(), st.integers(0, 9_000), st.integers(1, 9_000), st.sampled_from(["UTC", "Asia/Shanghai"]))
    def holds(history: list[Any], begin: int, length: int, zone: str) -> None:
        nonlocal written
        if written < 120:  # the histories pile up in one wallet: each example reads all of those before it too
            write(past, history)
            written += len(history)
        start = START + dt.timedelta(minutes=begin)
        end = start + dt.timedelta(minutes=length)
        expected = of_ledger(past, start, end)
        for groups in EVERY:
            rows = read(Statement(past.wallet, start, end, zone, groups))
            assert sums(rows) == expected
            assert len({tuple(row[name] for name in groups) for row in rows[1:-1]}) == len(rows) - 2
        assert money.parse(rows[-1]["balance"], negative=True) == entries.net([past.number], before=end)

    settings(max_examples=12)(holds)()


def test_a_statement_says_day_kind_model_and_key(books: str) -> None:
    past = Past()
    past.pay(5 * money.NANO, at("2026-02-20 00:00"))
    past.call(1, at("2026-03-01 00:00"))
    past.call(2, at("2026-03-01 23:59"))
    past.call(4, at("2026-03-02 00:00"), model=1, key=1)
    past.move("refund", money.NANO, at("2026-03-02 10:00"), out=True)
    opening, *rows, closing = read(Statement(past.wallet, START, END))
    assert (opening["day"], opening["balance"]) == ("2026-03-01T00:00:00+00:00", "5.000000000")
    told = [tuple(row[name] for name in (*GROUPS, "transfers", "amount", "balance")) for row in rows]
    assert told == [
        ("2026-03-01", "charge", "gpt-4o-mini", past.keys[0].masked, "2", "-0.000000003", "4.999999997"),
        ("2026-03-02", "charge", "claude", past.keys[1].masked, "1", "-0.000000004", "4.999999993"),
        ("2026-03-02", "refund", "", "", "1", "-1.000000000", "3.999999993"),
    ]
    assert (closing["day"], closing["balance"]) == ("2026-03-08T00:00:00+00:00", "3.999999993")
    shanghai = read(Statement(past.wallet, START, END, "Asia/Shanghai"))
    assert [row["day"] for row in shanghai[1:-1]] == ["2026-03-01", "2026-03-02", "2026-03-02", "2026-03-02"]


def test_the_same_statement_has_the_same_bytes_whatever_happens_later(books: str) -> None:
    past = Past()
    past.call(10, at("2026-03-01 12:00"))
    past.pay(50, at("2026-03-02 12:00"))
    before = "".join(statements.as_csv(Statement(past.wallet, START, END)))
    keys.revoke(past.keys[0])
    type(past.keys[0]).objects.update(name="another")
    services.set_time_zone(past.team, "Asia/Tokyo", actor="tests")
    CallLog.objects.all().delete()  # usage records are pruned
    ledger.credit(wallet=past.wallet, amount=7, actor="tests", reason="later")
    past.call(10, END)
    assert "".join(statements.as_csv(Statement(past.wallet, START, END))) == before


def test_no_cell_is_a_formula(books: str) -> None:
    past = Past()
    past.call(10, at("2026-03-01 12:00"))
    for hold in Hold.objects.all():
        Hold.objects.filter(pk=hold.pk).update(facts={**hold.facts, "model": '=HYPERLINK("http://x")'})
    (row,) = read(Statement(past.wallet, START, END))[1:-1]
    assert row["model"] == '\'=HYPERLINK("http://x")'


def test_a_long_statement_is_written_in_bounded_memory(books: str, monkeypatch: pytest.MonkeyPatch) -> None:
    past = Past()
    payments = ledger.platform_account(AccountKind.PAYMENTS)
    wallet = past.wallet

    def fill(count: int, begin: dt.datetime) -> None:
        Transfer.objects.bulk_create(
            (
                Transfer(
                    kind="payment",
                    debit=payments,
                    credit=wallet,
                    amount=1,
                    reference=f"{begin}-{number}",
                    created_at=begin + dt.timedelta(seconds=number),
                )
                for number in range(count)
            ),
            batch_size=2_000,
        )

    def peak(start: dt.datetime) -> int:
        tracemalloc.start()
        total = sum(1 for _ in statements.as_csv(Statement(wallet, start, start + dt.timedelta(days=2))))
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert total > 3
        return most

    monkeypatch.setattr(entries, "CHUNK", 100)
    fill(500, START)
    fill(3_000, END)
    small, large = peak(START), peak(END)
    assert large < small * 1.5, (small, large)


def test_groups_are_read_from_an_address() -> None:
    assert statements.parse_groups("kind, day") == ("day", "kind")
    assert statements.parse_groups("") == GROUPS
    with pytest.raises(ValueError, match="secret"):
        statements.parse_groups("day,secret")
