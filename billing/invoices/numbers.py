"""Numbers without gaps: each series of a year counts 1, 2, 3 …

The counter's row is raised in the transaction that writes the document and stays locked until its end. So whoever comes
next waits, and a transaction that is rolled back gives its number back.
"""

from django.db import transaction
from django.db.models import F

from billing.models import DocumentKind, InvoiceSeries

PREFIXES = {DocumentKind.INVOICE.value: "INV", DocumentKind.CREDIT_NOTE.value: "CN"}


def take(series: str, year: int) -> int:
    """The next number. Call it inside the transaction that writes the document."""
    if not transaction.get_connection().in_atomic_block:
        raise RuntimeError("a number is taken inside the transaction that uses it")
    InvoiceSeries.objects.get_or_create(series=series, year=year)
    counter = InvoiceSeries.objects.filter(series=series, year=year)
    counter.update(last=F("last") + 1)
    return counter.values_list("last", flat=True).get()


def written(series: str, year: int, serial: int) -> str:
    """As it stands on the document: `INV-2026-00042`."""
    return f"{series}-{year}-{serial:05d}"
