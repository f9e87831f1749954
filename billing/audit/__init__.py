"""The audit: every invariant of the ledger, checked against the tables, now and then whole and all the time in parts.

`run` reads and returns what it found. `reports.full` and `reports.recent` do so too, keep a report, stop the accounts
concerned and raise an alert; nothing is ever repaired, and no account set free, by itself. A violation is a `Finding`.
"""

from collections.abc import Iterator

from billing.audit import checks, invariants, snapshot
from billing.audit.checks import Check, Finding, Rows, Subject, register, register_sql
from billing.invoices import audit as invoices
from billing.payments import audit as payments

__all__ = [
    "Check",
    "Finding",
    "Rows",
    "Subject",
    "invariants",
    "invoices",
    "payments",
    "register",
    "register_sql",
    "run",
]


def run(*, ledger_only: bool = False) -> list[Finding]:
    """Every violated invariant, read in one snapshot; an empty list says that the books are whole.

    `ledger_only` leaves out what apps above billing have registered: usage records, keys and teams.
    """
    with snapshot.taken():
        return list(_everything(ledger_only))


def _everything(ledger_only: bool) -> Iterator[Finding]:
    for check in checks.registered:
        if check.of_ledger or not ledger_only:
            yield from check.findings(checks.ALL)
