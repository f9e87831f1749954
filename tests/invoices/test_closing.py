"""A month's invoice is its ledger to the last nano-unit, and no later row can change it."""

import datetime as dt
from typing import Any

import pytest
from django.db import DatabaseError, connection, connections, transaction
from hypothesis import given
from hypothesis import strategies as st

from billing import invoices, ledger, money
from billing.invoices import amounts, closing, entries, issuing, months, numbers
from billing.models import AccountKind, ClosedMonth, ClosingOutcome, Invoice, InvoiceSeries, LineKind, Transfer
from portal import services
from tests.invoices.made import Past, at

CENT = money.NANO // 100
APRIL = at("2026-04-02 12:00")


def closed(past: Past, now: dt.datetime = APRIL) -> list[ClosedMonth]:
    return closing.close_due(past.wallet, now=now)


def invoice_of(row: ClosedMonth) -> Invoice:
    assert row.invoice is not None
    return Invoice.objects.get(pk=row.invoice.pk)


def begun(past: Past, now: str = "2026-03-05 00:00") -> Past:
    closing.begin(past.wallet, moment=at(now))
    return past


def test_an_invoice_is_what_the_ledger_charged_in_the_month_by_model_and_key(books: str) -> None:
    past = begun(Past())
    past.call(1_000_000_001, at("2026-03-01 00:00"))
    past.call(2_000_000_001, at("2026-03-31 23:59"), tokens=50)
    past.call(5_000_000_000, at("2026-03-10 10:00"), model=1, key=1)
    past.call(7_000_000_000, at("2026-04-01 00:00"))  # April's
    (march,) = closed(past)
    document = invoice_of(march)
    assert march.outcome == ClosingOutcome.INVOICED
    assert (document.items, document.amount, document.carried_out) == (8_000_000_002, 8_000_000_000, 2)
    usage = list(document.lines.filter(kind=LineKind.USAGE))
    assert [(line.model, line.key, line.calls, line.quantities, line.amount) for line in usage] == [
        ("claude", past.keys[1].masked, 1, {"input": 100}, 5_000_000_000),
        ("gpt-4o-mini", past.keys[0].masked, 2, {"input": 150}, 3_000_000_002),
    ]
    assert sum(line.amount for line in document.lines.all() if line.kind in issuing.OWED) == document.amount
    assert document.number == f"INV-{document.year}-00001"
    assert march.position == -8_000_000_002


def test_what_is_too_little_to_be_paid_is_carried_on_until_it_is_enough(books: str) -> None:
    past = begun(Past(), "2026-01-05 00:00")
    past.call(6_000_000, at("2026-01-10 00:00"))
    past.call(3_000_000, at("2026-02-10 00:00"))
    past.call(5_000_000, at("2026-03-10 00:00"))
    rows = closed(past)
    assert [row.outcome for row in rows] == ["carried", "carried", "invoiced"]
    document = invoice_of(rows[-1])
    assert (document.carried_in, document.items, document.amount) == (9_000_000, 5_000_000, CENT)
    assert document.carried_out == 4_000_000
    kinds = list(document.lines.values_list("kind", "amount"))
    assert ("carried_in", 9_000_000) in kinds
    assert ("carried_out", -4_000_000) in kinds


def test_an_empty_month_makes_no_invoice_and_says_so(books: str) -> None:
    past = begun(Past())
    past.pay(money.NANO, at("2026-03-03 00:00"))
    (march,) = closed(past)
    assert march.outcome == ClosingOutcome.EMPTY
    assert "no invoice" in str(ClosingOutcome(march.outcome).label)
    assert not Invoice.objects.exists()
    assert not InvoiceSeries.objects.exists()


def test_months_are_those_of_the_teams_time_zone(books: str) -> None:
    past = begun(Past(zone="Asia/Shanghai"))
    past.call(CENT, at("2026-02-28 16:00"))  # midnight of 1 March there
    past.call(CENT, at("2026-03-31 15:59"))
    past.call(CENT, at("2026-03-31 16:00"))  # April
    (march,) = closed(past)
    assert (march.starts_at, march.ends_at) == (at("2026-02-28 16:00"), at("2026-03-31 16:00"))
    assert invoice_of(march).amount == 2 * CENT


def test_a_team_that_moves_to_another_zone_is_charged_for_every_hour_once(books: str) -> None:
    past = begun(Past(zone="Asia/Shanghai"))
    for step in range(33 * 6):  # every four hours
        past.call(CENT, at("2026-03-29 00:00") + dt.timedelta(hours=4 * step))
    (march,) = closed(past)
    services.set_time_zone(past.team, "America/New_York", actor="tests")
    (april,) = closed(past, at("2026-06-01 00:00"))[:1]
    assert (april.month, april.starts_at) == (dt.date(2026, 4, 1), march.ends_at)
    assert april.ends_at == at("2026-05-01 04:00")
    assert march.items + april.items == (33 * 6) * CENT  # of the last, at 20:00 on 30 April, too


def test_plans_and_payments_stand_where_they_fall(books: str) -> None:
    past = begun(Past())
    past.call(3 * CENT, at("2026-03-02 00:00"))
    past.move("purchase", 20 * money.NANO, at("2026-03-03 00:00"), out=True, other=AccountKind.PLANS)
    charge = Transfer.objects.filter(kind="charge").latest("pk")
    past.move("reversal", 3 * CENT, at("2026-03-04 00:00"), other=AccountKind.REVENUE, reverses=charge)
    payment = past.pay(5 * money.NANO, at("2026-03-05 00:00"))
    past.move("refund", money.NANO, at("2026-03-06 00:00"), out=True)
    past.move("reversal", 4 * money.NANO, at("2026-03-07 00:00"), out=True, reverses=payment)
    (march,) = closed(past)
    document = invoice_of(march)
    assert document.amount == 20 * money.NANO
    lines = [(line.kind, line.amount) for line in document.lines.order_by("position")]
    assert lines == [
        ("usage", 3 * CENT),
        ("plan", 20 * money.NANO),
        ("correction", -3 * CENT),
        ("opening", 0),
        ("payment", 5 * money.NANO),
        ("payment", -money.NANO),
        ("payment", -4 * money.NANO),
        ("closing", -20 * money.NANO),
    ]


def test_what_the_wallet_could_not_pay_is_on_the_invoice_too_and_its_call_counted_once(books: str) -> None:
    past = begun(Past())
    call = past.call(2 * CENT, at("2026-03-02 00:00"))
    past.shortfall(3 * CENT, at("2026-03-02 00:00"), call)
    (march,) = closed(past)
    (line,) = invoice_of(march).lines.filter(kind=LineKind.USAGE)
    assert (line.calls, line.quantities, line.amount) == (1, {"input": 100}, 5 * CENT)


def test_closing_twice_is_closing_once_and_a_failing_wallet_stops_no_other(
    books: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, bob = begun(Past()), begun(Past("bob@example.com"))
    alice.call(CENT, at("2026-03-02 00:00"))
    bob.call(CENT, at("2026-03-02 00:00"))
    genuine = issuing.issue

    def broken(document: issuing.Document, *args: Any, **kwargs: Any) -> Invoice:
        made = genuine(document, *args, **kwargs)
        if document.account.pk == alice.number:
            raise RuntimeError("killed after the number was taken")
        return made

    monkeypatch.setattr(issuing, "issue", broken)
    assert [row.account_id for row in closing.close_all(APRIL)] == [bob.number]
    monkeypatch.setattr(issuing, "issue", genuine)
    assert [row.account_id for row in closing.close_all(APRIL)] == [alice.number]
    assert closing.close_all(APRIL) == []
    assert sorted(Invoice.objects.values_list("serial", flat=True)) == [1, 2]


def test_a_wallet_that_owed_before_anybody_looked_is_invoiced_from_when_it_began_to(books: str) -> None:
    past = Past()
    past.pay(5 * CENT, at("2026-01-10 00:00"))
    past.call(5 * CENT, at("2026-01-11 00:00"))
    past.call(CENT, at("2026-02-11 00:00"))
    past.call(CENT, at("2026-03-11 00:00"))
    rows = closed(past)
    assert [(row.month.month, row.invoiced) for row in rows] == [(2, CENT), (3, CENT)]


def test_no_month_is_closed_before_it_is_over(books: str) -> None:
    past = begun(Past())
    past.call(CENT, at("2026-03-02 00:00"))
    assert closed(past, at("2026-04-01 00:00")) == []  # the cut
    with pytest.raises(closing.NotOver):
        closing.close(closing.preview(past.wallet), moment=at("2026-03-20 00:00"))
    assert [row.outcome for row in closed(past, at("2026-04-01 00:10"))] == ["invoiced"]


def test_a_transaction_that_began_in_the_month_is_waited_for_however_long_it_takes(books: str) -> None:
    """A transfer bears the time at which its transaction began. So no late row can change a closed month."""
    past = begun(Past())
    wallet = past.wallet
    if books == "sqlite":
        ledger.credit(wallet=wallet, amount=1, actor="tests", reason="in time")
        ends = Transfer.objects.latest("pk").created_at + dt.timedelta(microseconds=1)
        assert entries.whole(ends)  # every transaction before ours has ended: there is one writer
        assert not entries.whole(ends + dt.timedelta(hours=1))
        return
    other = connections.create_connection("default")
    try:
        with other.cursor() as cursor:
            cursor.execute("BEGIN")
            cursor.execute("SELECT now()")
            ends = cursor.fetchone()[0] + dt.timedelta(milliseconds=1)
            while dt.datetime.now(dt.UTC) < ends:
                pass
            assert not entries.whole(ends)
            cursor.execute(
                "INSERT INTO billing_transfer (kind, debit_id, credit_id, amount, reference, actor, reason, created_at)"
                " VALUES ('payment', %s, %s, 7, 'late', '', '', now())",
                [ledger.platform_account(AccountKind.PAYMENTS).pk, wallet.pk],
            )
            assert not entries.whole(ends)
            cursor.execute("COMMIT")
        assert entries.whole(ends)
        assert sum(entry.amount for entry in entries.read([wallet.pk], ends - dt.timedelta(days=1), ends)) == 7
    finally:
        other.close()


def test_what_is_issued_cannot_be_changed(books: str) -> None:
    past = begun(Past())
    past.call(CENT, at("2026-03-02 00:00"))
    closed(past)
    for table in ("billing_invoice", "billing_invoiceline", "billing_closedmonth"):
        for sql in (f"UPDATE {table} SET id = id", f"DELETE FROM {table}"):
            with pytest.raises(DatabaseError, match="append-only"), connection.cursor() as cursor:
                cursor.execute(sql)


def test_a_number_is_taken_only_in_the_transaction_that_uses_it(books: str) -> None:
    with pytest.raises(RuntimeError):
        numbers.take("INV", 2026)
    with transaction.atomic():
        assert [numbers.take("INV", 2026), numbers.take("INV", 2027), numbers.take("INV", 2026)] == [1, 1, 2]


@given(st.lists(st.integers(-(10**12), 10**13), max_size=40), st.sampled_from(["USD", "JPY", "KWD"]))
def test_invoices_over_time_and_what_is_carried_are_the_ledger(owed: list[int], currency: str) -> None:
    carried = invoiced = 0
    for month in owed:
        found = amounts.payable(month + carried, currency)
        assert found.amount % amounts.minor_unit(currency) == 0
        assert found.amount >= 0
        carried = found.carried
        assert carried < amounts.minor_unit(currency)
        invoiced += found.amount
    assert invoiced + carried == sum(owed)


@given(st.integers(1, 10**9), st.integers(0, 10**6))
def test_the_tax_within_an_amount_is_to_be_paid_too(cents: int, rate: int) -> None:
    tax = amounts.tax_within(cents * CENT, rate, "USD")
    assert tax % CENT == 0
    assert abs(tax * (amounts.MILLION + rate) - cents * CENT * rate) * 2 <= CENT * (amounts.MILLION + rate)


@pytest.mark.parametrize("zone", ["UTC", "Asia/Shanghai", "America/New_York", "Pacific/Apia", "America/Havana"])
def test_months_follow_one_another(zone: str) -> None:
    month = dt.date(2010, 1, 1)
    for _ in range(240):
        assert months.end(month, zone) == months.start(months.after(month), zone)
        assert months.first_of(months.start(month, zone), zone) == month
        assert months.before(months.after(month)) == month
        month = months.after(month)


def test_the_job_closes_what_is_due(books: str) -> None:
    past = begun(Past())
    past.call(CENT, at("2026-03-02 00:00"))
    assert [row.month.month for row in invoices.close_all()][:1] == [3]
    assert Invoice.objects.get().buyer["name"] == past.team.name
