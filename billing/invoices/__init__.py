"""Invoices and statements of wallets.

`closing` ends months, `issuing` writes documents, `standing` says what is paid, `statements` lists what moved. What
others need of all that:
"""

from billing.invoices.closing import begin, close_all
from billing.invoices.issuing import InvalidCreditNote, credit
from billing.invoices.standing import enforce, mark_overdue, overdue

__all__ = ["InvalidCreditNote", "begin", "close_all", "credit", "enforce", "mark_overdue", "overdue"]
