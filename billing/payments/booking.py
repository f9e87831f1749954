"""What providers' events do to the books: the only place where payments move money.

`deliver` writes the event's row first, which is unique, and then everything that follows from it, in one transaction:
an event counts once or, where something fails, not at all and may come again. Besides, a payment is credited by one
transfer whose reference is its id, and each refund or dispute takes and gives back by transfers that begin with its
own, so no way of arriving can book anything twice.

Locks, in this order: the event's row, the payment's, the accounts by id, as the books themselves lock them.
"""

import uuid
from typing import Any

import msgspec
import structlog
from django.db import IntegrityError, transaction
from django.db.models import Sum
from django.utils import timezone

from billing import debts, ledger, money, plans, selectors, stops
from billing.models import Account, AccountKind, TransferKind
from billing.payments import (
    Event,
    Expired,
    Fact,
    Failed,
    Outcome,
    Paid,
    Reversal,
    Stage,
    TakenBack,
    Waiting,
    currencies,
)
from billing.payments.models import OPEN, Payment, PaymentEvent, PaymentReversal, PaymentState
from billing.rules import UNPAID

log = structlog.get_logger(__name__)

_OWED_FIRST = "the plan was not bought; what the team owed was paid first, the rest is in the wallet"
_KINDS = {Reversal.REFUND.value: TransferKind.REFUND, Reversal.DISPUTE.value: TransferKind.DISPUTE}
# Of several facts in one event the gravest says what became of it.
_GRAVITY = (
    Outcome.REFUSED,
    Outcome.UNMATCHED,
    Outcome.APPLIED,
    Outcome.UNKNOWN,
    Outcome.REPEATED,
    Outcome.IGNORED,
)


class Result(msgspec.Struct, frozen=True):
    """What became of a fact, of which payment, and why where it was refused."""

    outcome: Outcome
    payment: Payment | None = None
    note: str = ""


def seen(provider: str, event: Event) -> bool:
    return PaymentEvent.objects.filter(provider=provider, event=event.id).exists()


def deliver(*, provider: str, event: Event) -> Outcome:
    """Books an event, once. One that is there already does nothing and has the outcome that it had, or REPEATED."""
    with transaction.atomic():
        row = _first(provider, event)
        if row is None:
            return _before(provider, event)
        result = _gravest([_apply(provider, fact) for fact in event.facts])
        _conclude(row, result, event)
    if result.outcome is Outcome.REFUSED:
        log.warning("payment.refused", provider=provider, event_id=event.id, note=result.note)
    return result.outcome


def rematch(provider: str, subject: str) -> bool:
    """Books what was told of a payment before it was known to us. Whether there was any."""
    with transaction.atomic():
        payment = Payment.objects.select_for_update().filter(provider=provider, receipt=subject).first()
        return payment is not None and _told_before(payment)


# ---- the event's row ------------------------------------------------------------------------------------------------


def _first(provider: str, event: Event) -> PaymentEvent | None:
    """The event's row, which only one delivery can make; the others wait here for its transaction."""
    facts = msgspec.to_builtins(event.facts)
    try:
        with transaction.atomic():
            return PaymentEvent.objects.create(
                provider=provider, event=event.id, kind=event.kind, outcome=Outcome.IGNORED.value, facts=list(facts)
            )
    except IntegrityError:
        return None


def _before(provider: str, event: Event) -> Outcome:
    found = PaymentEvent.objects.filter(provider=provider, event=event.id).values_list("outcome", flat=True).first()
    lasting = (Outcome.REFUSED.value, Outcome.UNKNOWN.value)
    return Outcome(found) if found in lasting else Outcome.REPEATED


def _conclude(row: PaymentEvent, result: Result, event: Event) -> None:
    row.outcome, row.payment, row.note = result.outcome.value, result.payment, result.note[:300]
    if result.outcome is Outcome.UNMATCHED:
        row.subject = next(fact.receipt for fact in event.facts if isinstance(fact, TakenBack))
    row.save(update_fields=["outcome", "payment", "note", "subject"])


def _gravest(results: list[Result]) -> Result:
    return min(results, key=lambda result: _GRAVITY.index(result.outcome), default=Result(Outcome.IGNORED))


def _told_before(payment: Payment) -> bool:
    """Events about this payment that came before the one that made it known. Its row is locked."""
    rows = PaymentEvent.objects.filter(
        provider=payment.provider, subject=payment.receipt, outcome=Outcome.UNMATCHED.value
    )
    found = list(rows.order_by("pk"))
    for row in found:
        facts = msgspec.convert(row.facts, type=tuple[Fact, ...])
        result = _gravest([_apply(payment.provider, fact) for fact in facts])
        row.outcome, row.payment, row.note = result.outcome.value, payment, result.note[:300]
        row.save(update_fields=["outcome", "payment", "note"])
    return bool(found)


# ---- facts ----------------------------------------------------------------------------------------------------------


def _apply(provider: str, fact: Fact) -> Result:
    match fact:
        case Paid():
            return _paid(provider, fact)
        case TakenBack():
            return _taken_back(provider, fact)
        case _:
            return _step(provider, fact)


def _order(provider: str, fact: Paid | Waiting | Failed | Expired) -> Payment | None:
    """The payment that a fact is about, locked; one of another provider's does not exist here."""
    of = Payment.objects.select_for_update().filter(provider=provider)
    if fact.checkout and (found := of.filter(checkout=fact.checkout).first()) is not None:
        return found
    try:
        return of.filter(pk=uuid.UUID(fact.order)).first()
    except ValueError:
        return None


def _other(payment: Payment, fact: Paid | Waiting | Failed | Expired) -> str:
    """Why a fact cannot be about this payment although it names it; empty if it can."""
    if fact.order and fact.order not in (str(payment.pk), payment.pk.hex):
        return f"the checkout is of order {payment.pk}, the event names {fact.order[:64]}"
    if fact.checkout and payment.checkout and fact.checkout != payment.checkout:
        return f"the order's checkout is {payment.checkout}, the event is about {fact.checkout[:255]}"
    return ""


def _paid(provider: str, fact: Paid) -> Result:
    payment = _order(provider, fact)
    if payment is None:
        return Result(Outcome.UNKNOWN, note=f"order {fact.order[:64]}")
    if why := _other(payment, fact) or _wrong_sum(payment, fact) or _wrong_receipt(payment, fact):
        return Result(Outcome.REFUSED, payment, why)
    if payment.is_credited:
        return Result(Outcome.REPEATED, payment)
    return _credit(payment, fact)


def _wrong_sum(payment: Payment, fact: Paid) -> str:
    if (fact.due, fact.currency) == (payment.due, payment.currency):
        return ""
    asked = f"{currencies.to_text(payment.due, payment.currency)} {payment.currency}"
    return f"asked for {asked}, paid {fact.due} minor units of {fact.currency[:10] or 'nothing'}"


def _wrong_receipt(payment: Payment, fact: Paid) -> str:
    """A second payment of one order, or one payment for two orders."""
    if not 0 < len(fact.receipt) <= 255:
        return "the payment has no name"
    if payment.is_credited and payment.receipt != fact.receipt:
        return f"paid already as {payment.receipt}, and again as {fact.receipt}"
    others = Payment.objects.filter(provider=payment.provider, receipt=fact.receipt).exclude(pk=payment.pk)
    return f"{fact.receipt} has paid another order" if others.exists() else ""


def _credit(payment: Payment, fact: Paid) -> Result:
    """Puts the money into the wallet, whatever the order had come to before: what is paid is paid."""
    _accounts(payment)  # all that follows finds them locked, in their order
    try:
        ledger.post(
            kind=TransferKind.PAYMENT,
            debit=ledger.platform_account(AccountKind.PAYMENTS),
            credit=payment.wallet,
            amount=payment.amount,
            reference=str(payment.pk),
            actor=payment.provider,
            reason=f"{currencies.to_text(payment.due, payment.currency)} {payment.currency}, {fact.receipt}",
        )
    except money.InvalidAmount as error:
        return Result(Outcome.REFUSED, payment, str(error))
    payment.state, payment.paid_at = PaymentState.PAID, timezone.now()
    payment.receipt = fact.receipt
    payment.checkout = payment.checkout or fact.checkout
    payment.note = _bought(payment)
    payment.save(update_fields=["state", "paid_at", "receipt", "note", "checkout"])
    _told_before(payment)
    return Result(Outcome.APPLIED, payment)


def _bought(payment: Payment) -> str:
    """Buys the plan that the payment is for, once; why not, where it cannot be had any more for what was paid.

    What the team owes is paid first, as by all that comes into its wallet, and the plan from what is left.
    """
    offer = payment.offer
    if offer is None:
        return ""
    debts.settle(selectors.debt_of(payment.wallet))
    try:
        plans.buy(
            team=_team(payment.wallet), offer=offer, at_most=payment.amount, order=payment.pk, actor=payment.actor
        )
    except (plans.NotForSale, plans.TooMany, plans.Owing, ledger.InsufficientFunds) as error:
        log.warning("payment.plan_not_bought", payment=str(payment.pk), offer=offer.pk, why=type(error).__name__)
        # A wallet that was just paid the price has too little only where a debt took some of it.
        owed = isinstance(error, plans.Owing | ledger.InsufficientFunds)
        return _OWED_FIRST if owed else "the plan was not bought; the money is in the wallet"
    return ""


_NEXT: dict[type[Any], tuple[PaymentState, tuple[PaymentState, ...]]] = {
    Waiting: (PaymentState.PROCESSING, (PaymentState.CREATED, PaymentState.EXPIRED)),
    Failed: (PaymentState.FAILED, OPEN),
    Expired: (PaymentState.EXPIRED, (PaymentState.CREATED,)),
}


def _step(provider: str, fact: Waiting | Failed | Expired) -> Result:
    """A step of an order on which no money moves."""
    payment = _order(provider, fact)
    if payment is None:
        return Result(Outcome.UNKNOWN, note=f"order {fact.order[:64]}")
    if why := _other(payment, fact):
        return Result(Outcome.REFUSED, payment, why)
    state, before = _NEXT[type(fact)]
    if payment.state not in before:
        return Result(Outcome.REPEATED, payment)
    payment.state, payment.checkout = state, payment.checkout or fact.checkout
    payment.save(update_fields=["state", "checkout"])
    return Result(Outcome.APPLIED, payment)


# ---- refunds and disputes -------------------------------------------------------------------------------------------


def _taken_back(provider: str, fact: TakenBack) -> Result:
    payment = Payment.objects.select_for_update().filter(provider=provider, receipt=fact.receipt).first()
    if payment is None:
        return Result(Outcome.UNMATCHED, note=f"payment {fact.receipt[:200]}")
    if not 0 < fact.due < money.LIMIT or not 0 < len(fact.id) <= 255:
        return Result(Outcome.REFUSED, payment, f"{fact.kind.value} of {fact.due} minor units")
    if fact.currency != payment.currency and fact.kind is Reversal.REFUND:
        return Result(Outcome.REFUSED, payment, f"a refund in {fact.currency[:10]}")
    # A bank may dispute in the currency of its card: then it is about the whole payment.
    due = fact.due if fact.currency == payment.currency else payment.due
    reversal, made = PaymentReversal.objects.get_or_create(
        payment=payment, reference=fact.id, defaults={"kind": fact.kind.value, "due": due, "stage": fact.stage.value}
    )
    if not made:
        if fact.stage <= reversal.stage:
            return Result(Outcome.REPEATED, payment)
        reversal.stage, reversal.due = fact.stage.value, due
        reversal.save(update_fields=["stage", "due", "updated_at"])
    _balance(payment, reversal)
    return Result(Outcome.APPLIED, payment)


def _balance(payment: Payment, reversal: PaymentReversal) -> None:
    """Makes the books hold back what refunds and disputes have taken of the payment, no less and no more.

    Together they take at most what was credited: of a payment that is refunded and disputed the second loss is ours.
    """
    taken = payment.reversals.filter(stage=Stage.TAKEN).aggregate(total=Sum("due"))["total"] or 0
    target = payment.amount * min(taken, payment.due) // payment.due
    wallet, receivable, payments = _accounts(payment)
    posting = _Posting(payment, reversal, wallet, receivable, payments)
    if target > payment.taken:
        posting.take(target - payment.taken)
    elif target < payment.taken:
        posting.give_back(payment.taken - target)
    payment.taken = target
    payment.state = _state(payment)
    payment.save(update_fields=["taken", "state"])
    if reversal.stage == Stage.RETURNED:
        posting.lift()
    elif reversal.kind == Reversal.DISPUTE and reversal.stage == Stage.TAKEN:
        ledger.stop(wallet.pk, reason=stops.of_dispute(payment.pk))


def _accounts(payment: Payment) -> tuple[Account, Account, Account]:
    """The team's wallet, what it owes, and the platform's payments, locked as the books lock accounts: by id."""
    wallet = ledger.wallet_of(_team(payment.wallet))
    receivable = selectors.debt_of(wallet)
    payments = ledger.platform_account(AccountKind.PAYMENTS)
    numbers = [wallet.pk, receivable.pk, payments.pk]
    found = {row.pk: row for row in Account.objects.select_for_update().filter(pk__in=numbers).order_by("pk")}
    return found[wallet.pk], found[receivable.pk], found[payments.pk]


def _team(wallet: Account) -> int:
    assert wallet.team_id is not None  # account_wallet_has_team
    return wallet.team_id


def _state(payment: Payment) -> PaymentState:
    disputed = payment.reversals.filter(kind=Reversal.DISPUTE.value, stage__lt=Stage.RETURNED)
    if disputed.exists():
        return PaymentState.DISPUTED
    if not payment.taken:
        return PaymentState.PAID
    return PaymentState.REFUNDED if payment.taken == payment.amount else PaymentState.PARTLY_REFUNDED


class _Posting(msgspec.Struct):
    """The transfers of one refund or dispute. The accounts are locked, so what they have is what there is."""

    payment: Payment
    reversal: PaymentReversal
    wallet: Account
    receivable: Account
    payments: Account

    def take(self, amount: int) -> None:
        """From the wallet what it has; the rest becomes the team's debt, and the wallet stops until it is settled."""
        there = max(0, self.wallet.available)
        paid = min(amount, there)
        if paid:
            self._post(self.wallet, self.payments, paid, "")
        if amount > paid:
            self._post(self.receivable, self.payments, amount - paid, ":owed")
            ledger.stop(self.wallet.pk, reason=f"payment {self.payment.pk} was taken back and {UNPAID}")

    def give_back(self, amount: int) -> None:
        """Books the amount back: first against what the team owes, the rest into the wallet."""
        settled = min(amount, max(0, selectors.owed(self.receivable)))
        if settled:
            self._post(self.payments, self.receivable, settled, ":settled")
        if amount > settled:
            self._post(self.payments, self.wallet, amount - settled, ":back")

    def lift(self) -> None:
        """Sets the wallet free where nothing but this payment had stopped it."""
        if self.payment.state == PaymentState.DISPUTED:
            return
        stopped = Account.objects.filter(pk=self.wallet.pk, frozen__startswith=f"payment {self.payment.pk} ")
        stopped.update(frozen=stops.still(self.wallet, since=self.reversal.created_at))

    def _post(self, debit: Account, credit: Account, amount: int, part: str) -> None:
        ledger.post(
            kind=_KINDS[self.reversal.kind],
            debit=debit,
            credit=credit,
            amount=amount,
            reference=f"{self.reversal.pk}{part}",
            actor=self.payment.provider,
            reason=f"{self.reversal.kind} {self.reversal.reference} of payment {self.payment.pk}",
        )
