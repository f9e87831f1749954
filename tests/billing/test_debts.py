"""What a team owes is paid by what comes into its wallet next, and a wallet that was stopped for it runs again."""

from billing import debts, ledger, selectors
from billing.models import Account, AccountKind, Transfer, TransferKind
from billing.operations import CloseHold
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
    assert Transfer.objects.filter(kind="adjustment", credit=debt).count() == 1
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
