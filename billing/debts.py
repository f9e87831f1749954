"""How a team pays what it owes besides its wallet: out of what comes into the wallet, without anybody's doing.

A debt arises where a call cost more than its wallet could pay, and where a payment that was spent is taken back. It
stops the wallet. Money that comes in later, by whatever way, pays the debt first; what is left is the wallet's, and a
wallet that was stopped for the debt alone runs again. A credit limit pays no debt: that would only be another one.
"""

import datetime as dt
import uuid

import structlog
from django.db import transaction
from django.db.models import Exists, OuterRef

from billing import ledger, selectors, stops
from billing.models import Account, AccountKind, Transfer, TransferKind
from billing.rules import OVERRUN, UNPAID

log = structlog.get_logger(__name__)


def settle_all() -> int:
    """Lets every team that owes pay what it can. How many wallets it changed."""
    ever = Exists(Transfer.objects.filter(debit=OuterRef("pk")))
    debts = Account.objects.filter(ever, kind=AccountKind.RECEIVABLE)
    return sum(settle(debt) for debt in debts)


def settle(debt: Account) -> bool:
    """Pays a team's debt from its wallet, as far as the wallet has money of its own that nothing is held of. Sets the
    wallet free that was stopped for a debt, where there is none any more. Whether anything was changed."""
    owed = selectors.owed(debt)
    wallet = Account.objects.get(kind=AccountKind.WALLET, team=debt.team_id, currency=debt.currency)
    if min(owed, wallet.free) <= 0 and (owed > 0 or not _is_stopped(wallet)):
        return False
    with transaction.atomic():
        locked = Account.objects.select_for_update().filter(pk__in=(wallet.pk, debt.pk)).order_by("pk")
        wallet = next(account for account in locked if account.pk == wallet.pk)
        owed = selectors.owed(debt)
        paid = max(0, min(owed, wallet.free))
        if paid:
            _pay(wallet, debt, paid)
        if paid == owed and _is_stopped(wallet):
            why = stops.still(wallet, since=_owing_since(debt))
            Account.objects.filter(pk=wallet.pk, frozen=wallet.frozen).update(frozen=why)
    log.info("debt.settled", account=wallet.pk, paid=paid, left=owed - paid)
    return True


def _pay(wallet: Account, debt: Account, amount: int) -> None:
    ledger.post(
        kind=TransferKind.ADJUSTMENT,
        debit=wallet,
        credit=debt,
        amount=amount,
        reference=str(uuid.uuid4()),
        actor="pisces",
        reason="pays what the team owed",
    )


def _is_stopped(wallet: Account) -> bool:
    return wallet.frozen.endswith((OVERRUN, UNPAID))


def _owing_since(debt: Account) -> dt.datetime | None:
    """When the debt that was last paid began: whatever stopped the wallet for it came no sooner."""
    began, owed = None, 0
    for transfer in Transfer.objects.filter(debit=debt).union(Transfer.objects.filter(credit=debt)).order_by("id"):
        began = transfer.created_at if owed <= 0 else began
        owed += transfer.amount if transfer.debit_id == debt.pk else -transfer.amount
    return began
