"""What every page's frame needs."""

from typing import Any

from django.conf import settings
from django.http import HttpRequest

from billing import ledger
from portal import currency, services

THEMES = ("light", "dark")


def portal(request: HttpRequest) -> dict[str, Any]:
    """The theme that the server renders, the currency's sign, and for members their team and balance."""
    theme = request.COOKIES.get("theme", "")
    found: dict[str, Any] = {
        "theme": theme if theme in THEMES else "",
        "currency": settings.CURRENCY,
        "currency_sign": settings.CURRENCY_SIGN,
        "signup_open": settings.SIGNUP_OPEN,
        "base_url": settings.BASE_URL,
        "shown_rate": currency.rate(request),
    }
    user = getattr(request, "user", None)
    if user is not None and user.is_authenticated and not request.path.startswith("/admin/"):
        team = services.current_team(request)
        wallet = ledger.wallet_of(team.pk)
        found |= {"team": team, "wallet": wallet, "available": wallet.free}
    return found
