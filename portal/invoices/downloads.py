"""An invoice as a file."""

from importlib import import_module
from typing import Any

from django.http import HttpResponse
from django.utils.translation import get_language

from billing.models import Invoice
from portal.invoices import document


def pdf(invoice: Invoice) -> HttpResponse:
    """The invoice as PDF, in the language that is active.

    The library that writes it takes a fifth of a second to load, which a process that never writes one is spared.
    """
    writer: Any = import_module("portal.invoices.pdf")
    response = HttpResponse(writer.render(document.of(invoice)), content_type="application/pdf")
    language = "" if get_language() == "en" else f"-{get_language()}"
    response["Content-Disposition"] = f'attachment; filename="{invoice.number}{language}.pdf"'
    return response
