"""Why a wallet stays stopped when the reason ends for which it was: another one may have come meanwhile.

A wallet that is stopped keeps its reason, whatever comes besides (`ledger.stop`). So whoever ends a reason that ends by
itself, a debt, a dispute or an overdue invoice, puts in its place what is said here.
"""

import datetime as dt
import uuid

from billing import selectors
from billing.models import Account, AuditFinding
from billing.payments import Reversal, Stage
from billing.payments.models import PaymentReversal
from billing.rules import UNPAID


def still(wallet: Account, *, since: dt.datetime | None) -> str:
    """Why the wallet stays stopped that was stopped at that time: its books are wrong, a payment is disputed, or its
    team owes something. Empty where there is nothing, and for what an administrator had let run before."""
    return _wrong(wallet.pk, since) or _disputed(wallet.pk, since) or _owing(wallet)


def of_dispute(payment: uuid.UUID) -> str:
    return f"payment {payment} is disputed"


def _wrong(wallet: int, since: dt.datetime | None) -> str:
    findings = AuditFinding.objects.filter(account=wallet, gone_at=None, freezes=True)
    later = findings if since is None else findings.filter(first_seen__gte=since)
    finding = later.order_by("pk").first()
    return f"audit report {finding.report_id}: {finding.invariant}" if finding is not None else ""


def _disputed(wallet: int, since: dt.datetime | None) -> str:
    disputes = PaymentReversal.objects.filter(
        payment__wallet=wallet, kind=Reversal.DISPUTE.value, stage=Stage.TAKEN.value
    )
    later = disputes if since is None else disputes.filter(updated_at__gte=since)
    payment = later.order_by("payment").values_list("payment", flat=True).first()
    return of_dispute(payment) if payment is not None else ""


def _owing(wallet: Account) -> str:
    return f"what the team owes {UNPAID}" if selectors.owed(selectors.debt_of(wallet)) else ""
