"""What the audit says of one team among many."""

from collections.abc import Iterator
from typing import Any

from django.db.models import Q

from billing.audit import Finding, Rows, Subject, checks
from billing.models import Account, Budget, BudgetChange, Hold, Transfer
from keys.models import ApiKey
from relay.models import Attempt, CallLog


def findings_of(team: int) -> Iterator[Finding]:
    """Every check, asked about the rows of this team."""
    keys = {subject: tuple(found.values_list("pk", flat=True)) for subject, found in _rows_of(team).items()}
    for check in checks.registered:
        if found := keys.get(check.subject):
            yield from check.findings(Rows(keys=found))


def _rows_of(team: int) -> dict[Subject, Any]:
    accounts = Account.objects.filter(team=team)
    keys = ApiKey.objects.filter(team=team)
    owned = Q(owner_kind="team", owner_id=team) | Q(owner_kind="key", owner_id__in=keys.values("pk"))
    calls = CallLog.objects.filter(team=team)
    return {
        Subject.ACCOUNT: accounts,
        Subject.TRANSFER: Transfer.objects.filter(Q(debit__in=accounts) | Q(credit__in=accounts)),
        Subject.HOLD: Hold.objects.filter(account__in=accounts),
        Subject.BUDGET: Budget.objects.filter(owned),
        Subject.CHANGE: BudgetChange.objects.filter(owned),
        Subject.CALL: calls,
        Subject.ATTEMPT: Attempt.objects.filter(call_id__in=calls.values("pk")),
    }
