"""Accounts, transfers and freezing: who gets what, under which name, and what is refused."""

import itertools
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from django.conf import settings
from django.db import connection, transaction
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

from billing import ledger, money
from billing.models import Account, Revision, Transfer, TransferKind
from portal import services as portal
from tests.billing.conftest import Ledger

on_sqlite = pytest.mark.parametrize("books", ["sqlite"], indirect=True)


def told(transfer: Transfer) -> tuple[str, int, int, int, str, str, str, int | None]:
    return (
        transfer.kind,
        transfer.debit_id,
        transfer.credit_id,
        transfer.amount,
        transfer.reference,
        transfer.actor,
        transfer.reason,
        transfer.reverses_id,
    )


def refused(error: type[Exception], **changed: Any) -> str:
    """What is said of a transfer that is refused."""
    payments = ledger.platform_account("payments")
    wanted: dict[str, Any] = {"kind": TransferKind.CREDIT, "debit": payments, "credit": payments, "amount": 1}
    wanted |= {"reference": "r-1", "actor": "a", "reason": "r", **changed}
    with pytest.raises(error) as found, transaction.atomic():
        ledger.post(**wanted)
    return str(found.value)


def test_every_way_to_move_money_says_from_where_to_where_and_why(book: Ledger) -> None:
    wallet = book.wallet
    payments, promo = ledger.platform_account("payments").pk, ledger.platform_account("promo").pk
    credit = ledger.credit(wallet=wallet, amount=5, actor="root", reason="a gift", reference="ref-1")
    assert told(credit) == ("credit", payments, wallet.pk, 5, "ref-1", "root", "a gift", None)
    more = ledger.adjust(wallet=wallet, amount=7, actor="root", reason="more", reference="ref-2")
    assert told(more) == ("adjustment", promo, wallet.pk, 7, "ref-2", "root", "more", None)
    less = ledger.adjust(wallet=wallet, amount=-9, actor="root", reason="less", reference="ref-3")
    assert told(less) == ("adjustment", wallet.pk, promo, 9, "ref-3", "root", "less", None)
    undone = ledger.reverse(transfer=less, actor="boss", reason="wrong")
    assert told(undone) == ("reversal", promo, wallet.pk, 9, f"reversal:{less.pk}", "boss", "wrong", less.pk)
    assert book.wallet.balance == 1012
    assert book.findings() == []


def test_a_credit_limit_is_set_from_what_it_was_and_never_below_what_is_in_use(book: Ledger) -> None:
    wallet = book.wallet
    assert ledger.set_credit_limit(wallet=wallet, before=0, limit=500)
    assert not ledger.set_credit_limit(wallet=wallet, before=0, limit=700), "it has been changed meanwhile"
    book.open(1300)  # of 1,000 and 500 on credit
    assert not ledger.set_credit_limit(wallet=wallet, before=500, limit=299)
    assert ledger.set_credit_limit(wallet=wallet, before=500, limit=300)
    assert not ledger.set_credit_limit(wallet=ledger.platform_account("payments"), before=0, limit=1)
    assert (book.wallet.credit_limit, book.wallet.available) == (300, 0)


@on_sqlite
def test_a_transfer_without_a_reference_gets_one_of_its_own(book: Ledger) -> None:
    given = [
        move(wallet=book.wallet, amount=1, actor="a", reason="r").reference
        for move in (ledger.credit, ledger.credit, ledger.adjust, ledger.adjust)
    ]
    assert len({uuid.UUID(reference) for reference in given}) == 4


@on_sqlite
def test_a_correction_of_one_nano_unit_has_a_direction_and_one_of_nothing_is_none(book: Ledger) -> None:
    promo = ledger.platform_account("promo")
    for amount, sides in ((1, (promo.pk, book.account)), (-1, (book.account, promo.pk))):
        made = ledger.adjust(wallet=book.wallet, amount=amount, actor="a", reason="r")
        assert (made.debit_id, made.credit_id, made.amount) == (*sides, 1)
    with pytest.raises(money.InvalidAmount):
        ledger.adjust(wallet=book.wallet, amount=0, actor="a", reason="r")


@on_sqlite
def test_the_smallest_and_the_largest_amount_can_be_posted(book: Ledger) -> None:
    payments, promo = ledger.platform_account("payments"), ledger.platform_account("promo")
    for amount in (1, money.LIMIT - 1):
        posted = ledger.post(
            kind=TransferKind.CREDIT, debit=payments, credit=promo, amount=amount, reference=str(amount),
            actor="x" * 300, reason="y" * 600,
        )  # fmt: skip
        assert (posted.amount, posted.actor, posted.reason) == (amount, "x" * 200, "y" * 500)


def test_a_transfer_that_is_refused_says_why_and_leaves_nothing(book: Ledger) -> None:
    payments, wallet, nobody = ledger.platform_account("payments"), book.wallet, Account(pk=10**9)
    before = Transfer.objects.count()
    positive = "the amount must be positive and fit the ledger"
    for amount in (0, -1, money.LIMIT):
        assert refused(money.InvalidAmount, credit=wallet, amount=amount) == positive
    assert refused(ledger.InsufficientFunds, debit=wallet, credit=payments, amount=1001) == "r-1"
    unknown = f"account {payments.pk} or {nobody.pk} does not exist"
    assert refused(ValueError, debit=payments, credit=nobody) == unknown
    too_much = "the wallet would have more than the ledger can add up"
    assert refused(money.InvalidAmount, credit=wallet, amount=money.LIMIT - 1) == too_much
    ledger.credit(wallet=wallet, amount=1, actor="a", reason="r", reference="r-1")
    assert refused(ledger.AlreadyPosted, credit=wallet) == "r-1"
    assert (Transfer.objects.count(), book.wallet.balance) == (before + 1, 1001)
    assert book.findings() == []


def test_a_transfer_that_is_refused_undoes_nothing_of_the_transaction_around_it(book: Ledger) -> None:
    ledger.credit(wallet=book.wallet, amount=1, actor="a", reason="r", reference="r-1")
    with transaction.atomic():
        Revision.objects.create(name="before")
        with pytest.raises(ledger.AlreadyPosted):
            ledger.credit(wallet=book.wallet, amount=1, actor="a", reason="r", reference="r-1")
        ledger.credit(wallet=book.wallet, amount=2, actor="a", reason="r", reference="r-2")
    assert Revision.objects.filter(name="before").exists()
    assert book.wallet.balance == 1003
    assert book.findings() == []


@on_sqlite
def test_a_team_has_one_wallet_and_one_account_for_what_it_owes(book: Ledger) -> None:
    _, team = portal.user_with_team("bob@example.com")
    wallet = ledger.wallet_of(team.pk)
    assert ledger.wallet_of(team.pk) == wallet
    mine = Account.objects.filter(team=team).values_list("kind", "currency")
    assert sorted(mine) == [("receivable", settings.CURRENCY), ("wallet", settings.CURRENCY)]
    assert (wallet.kind, wallet.team_id) == ("wallet", team.pk)


@on_sqlite
def test_the_platform_has_one_account_of_each_kind(book: Ledger) -> None:
    promo = ledger.platform_account("promo")
    assert ledger.platform_account("promo") == promo
    assert (promo.kind, promo.team_id, promo.currency) == ("promo", None, settings.CURRENCY)


def test_books_of_another_currency_get_no_account_besides(book: Ledger) -> None:
    before = Account.objects.count()
    with override_settings(CURRENCY="XTS"):
        with pytest.raises(ledger.OtherCurrency, match=f"kept in {book.wallet.currency}"):
            ledger.platform_account("promo")
        with pytest.raises(ledger.OtherCurrency, match="CURRENCY is XTS"):
            ledger.wallet_of(book.wallet.team_id or 0)
    assert Account.objects.count() == before


def test_the_first_amount_that_is_booked_while_accounts_are_looked_at_is_in_no_other_currency(books: str) -> None:
    _, team = portal.user_with_team("alice@example.com")
    wallet, looks = ledger.wallet_of(team.pk), itertools.count(1)

    def booked_meanwhile(execute: Callable[..., Any], statement: str, *rest: Any) -> Any:
        found = execute(statement, *rest)
        if "billing_transfer" in statement and next(looks) == 1:
            ledger.credit(wallet=wallet, amount=1, actor="tests", reason="the first")
        return found

    with connection.execute_wrapper(booked_meanwhile):
        assert ledger.platform_account("promo").currency == settings.CURRENCY
    assert next(looks) > 1


@on_sqlite
def test_the_account_that_charges_are_credited_to_is_known_once_it_was_read(book: Ledger) -> None:
    ledger.forget_revenue_account()
    assert ledger.known_revenue_account() is None
    revenue = ledger.revenue_account()
    assert Account.objects.get(pk=revenue).kind == "revenue"
    assert ledger.known_revenue_account() == revenue == ledger.revenue_account()
    with CaptureQueriesContext(connection) as asked:
        assert ledger.revenue_account() == revenue
    assert len(asked) == 0
    ledger.forget_revenue_account()
    assert ledger.known_revenue_account() is None


def test_a_frozen_wallet_takes_money_and_settles_and_lets_no_call_in_until_it_is_unfrozen(book: Ledger) -> None:
    other = ledger.wallet_of(portal.user_with_team("bob@example.com")[1].pk)
    ledger.freeze(wallet=book.wallet, reason="  under review  ")
    assert book.wallet.frozen == "under review"
    assert Account.objects.get(pk=other.pk).frozen == ""
    ledger.credit(wallet=book.wallet, amount=5, actor="a", reason="r")
    assert book.wallet.balance == 1005
    ledger.freeze(wallet=other, reason="z" * 300)
    assert Account.objects.get(pk=other.pk).frozen == "z" * 200
    ledger.unfreeze(wallet=book.wallet)
    assert book.wallet.frozen == ""
    assert Account.objects.get(pk=other.pk).frozen == "z" * 200
    assert book.open(10).amount == 10


@on_sqlite
@pytest.mark.parametrize("reason", ["", "  "])
def test_a_wallet_is_frozen_for_a_reason(book: Ledger, reason: str) -> None:
    with pytest.raises(ValueError, match=r"^a wallet is frozen for a reason$"):
        ledger.freeze(wallet=book.wallet, reason=reason)
    assert book.wallet.frozen == ""


def test_a_wallet_that_runs_is_stopped_once_and_one_that_is_frozen_keeps_its_reason(book: Ledger) -> None:
    other = ledger.wallet_of(portal.user_with_team("bob@example.com")[1].pk)
    assert ledger.stop(book.account, reason="s" * 300)
    assert not ledger.stop(book.account, reason="another")
    assert book.wallet.frozen == "s" * 200
    assert Account.objects.get(pk=other.pk).frozen == ""
    promo = ledger.platform_account("promo")
    assert not ledger.stop(promo.pk, reason="no wallet")
    assert not ledger.stop(10**9, reason="nobody")
    assert ledger.platform_account("promo").frozen == ""
