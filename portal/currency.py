"""The currency that a reader wants to see amounts in besides the ledger's. Kept in a cookie; it changes no price."""

from django.conf import settings
from django.http import HttpRequest

from billing.payments import currencies, rates
from billing.payments.rates import Rate

COOKIE = "currency"


def chosen(request: HttpRequest) -> str:
    """The code in the cookie if it can be one, else the ledger's."""
    code = request.COOKIES.get(COOKIE, "")
    return code if code in currencies.EXPONENTS else str(settings.CURRENCY)


def rate(request: HttpRequest) -> Rate | None:
    """The rate to show amounts at; None where the ledger's own currency is wanted, or there is no rate."""
    code = chosen(request)
    return None if code == settings.CURRENCY else rates.in_force(code)
