"""What a team owes is paid by what comes into its wallet next, and a wallet that was stopped for it runs again."""

import datetime as dt

import pytest
from django.utils import timezone

from billing import debts, ledger, selectors
from billing.models import Account, AccountKind, Transfer, TransferKind
from billing.operations import CloseHold
from billing.payments import Stage
from billing.payments.models import Payment, PaymentReversal
from portal import services
from tests.billing.conftest import Ledger


def debt_of(wallet: Account) -> Account:
    return Account.objects.get(kind=AccountKind.RECEIVABLE, team=wallet.team_id)


def owing(book: Ledger, amount: int = 500) -> Account:
    """A call cost more than the wallet had, by this much."""
    book.run(CloseHold(book.open(1000), 1000 + amount))
    assert (book.wallet.balance, selectors.owed(debt_of(book.wallet))) == (0, amount)
    assert book.wallet.frozen.endswith("cost more than the wallet could pay")
    return debt_of(book.wallet)


def give(book: Ledger, amount: int) -> None:
    ledger.credit(wallet=book.wallet, amount=amount, actor="tests", reason="more")


def test_what_comes_in_pays_the_debt_first_and_the_wallet_runs_again(book: Ledger) -> None:
    debt = owing(book)
    give(book, 800)
    assert debts.settle_all() == 1
    assert (book.wallet.balance, selectors.owed(debt), book.wallet.frozen) == (300, 0, "")
    assert debts.settle_all() == 0
    paid = Transfer.objects.get(kind="adjustment", credit=debt)
    assert (paid.debit_id, paid.amount, paid.actor) == (book.account, 500, "pisces")
    assert paid.reason == "pays what the team owed"
    assert book.findings() == []


def test_a_part_pays_a_part_and_the_wallet_stays_stopped(book: Ledger) -> None:
    debt = owing(book)
    assert not debts.settle(debt)
    give(book, 200)
    assert debts.settle(debt)
    assert (book.wallet.balance, selectors.owed(debt)) == (0, 300)
    assert book.wallet.frozen
    assert not debts.settle(debt)


def test_credit_and_what_calls_hold_pay_no_debt(book: Ledger) -> None:
    debt = owing(book)
    Account.objects.filter(pk=book.account).update(credit_limit=10_000, frozen="")
    give(book, 250)
    book.open(150)
    assert debts.settle(debt)
    assert (book.wallet.balance, book.wallet.held, selectors.owed(debt)) == (150, 150, 400)
    assert book.findings() == []


def test_a_wallet_that_was_stopped_for_something_else_stays_so(book: Ledger) -> None:
    debt = owing(book)
    ledger.freeze(wallet=book.wallet, reason="looked at by the bank")
    give(book, 800)
    assert debts.settle(debt)
    assert (selectors.owed(debt), book.wallet.frozen) == (0, "looked at by the bank")


def test_what_an_administrator_paid_of_the_debt_sets_the_wallet_free_too(book: Ledger) -> None:
    debt = owing(book)
    payments = ledger.platform_account(AccountKind.PAYMENTS)
    ledger.post(
        kind=TransferKind.CREDIT, debit=payments, credit=debt, amount=500, reference="cash", actor="root", reason="cash"
    )
    assert debts.settle(debt)
    assert (book.wallet.balance, book.wallet.frozen) == (0, "")


def test_every_team_that_owes_is_looked_at_and_no_other(book: Ledger) -> None:
    debt = owing(book)
    _, team = services.user_with_team("bob@example.com")
    other = ledger.wallet_of(team.pk)
    ledger.credit(wallet=other, amount=50, actor="tests", reason="opening balance")
    ledger.freeze(wallet=other, reason="a dispute of another kind")
    give(book, 600)
    assert debts.settle_all() == 1
    assert selectors.owed(debt) == 0
    assert Account.objects.get(pk=other.pk).balance == 50


@pytest.mark.parametrize(("hours", "stays"), [(-2, ""), (1, "disputed")])
def test_only_what_was_disputed_since_the_debt_began_keeps_the_wallet_stopped(
    book: Ledger, hours: int, stays: str
) -> None:
    """What was disputed before had been let run again by somebody; also where the debt has grown since."""
    debt = owing(book)
    Account.objects.filter(pk=book.account).update(frozen="")
    give(book, 100)
    more = book.open(100)
    now = timezone.now()
    _disputed(book.wallet, now + dt.timedelta(minutes=1))
    PaymentReversal.objects.update(updated_at=now + dt.timedelta(hours=hours))
    book.run(CloseHold(more, 300))
    assert selectors.owed(debt) == 700
    give(book, 1000)
    assert debts.settle(debt)
    assert (selectors.owed(debt), book.wallet.balance) == (0, 300)
    assert stays in book.wallet.frozen
    assert bool(book.wallet.frozen) is bool(stays)


def test_a_debt_that_was_paid_before_is_another_one(book: Ledger) -> None:
    debt = owing(book)
    give(book, 600)
    assert debts.settle(debt)
    between = timezone.now()
    _disputed(book.wallet, between)
    Account.objects.filter(pk=book.account).update(frozen="")
    book.run(CloseHold(book.open(100), 250))
    PaymentReversal.objects.update(updated_at=between)
    give(book, 1000)
    assert debts.settle(debt)
    assert (selectors.owed(debt), book.wallet.frozen) == (0, "")


def _disputed(wallet: Account, at: dt.datetime) -> None:
    payment = Payment.objects.create(
        wallet=wallet,
        provider="stripe",
        amount=10,
        currency="USD",
        due=1,
        rate=10**9,
        state="disputed",
        paid_at=at,
        receipt="pi_1",
        expires_at=at,
        ask_at=at,
    )
    PaymentReversal.objects.create(
        payment=payment, kind="dispute", reference="dp_1", due=1, stage=Stage.TAKEN, updated_at=at
    )


def test_a_call_that_costs_too_much_leaves_the_reason_for_which_the_wallet_was_stopped(book: Ledger) -> None:
    hold = book.open(100)
    ledger.freeze(wallet=book.wallet, reason="card stolen")
    book.run(CloseHold(hold, 5000))
    debt = debt_of(book.wallet)
    assert selectors.owed(debt) > 0
    give(book, 10_000)
    assert debts.settle(debt)
    assert (selectors.owed(debt), book.wallet.frozen) == (0, "card stolen")
    assert book.findings() == []
