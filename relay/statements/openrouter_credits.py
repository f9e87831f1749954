"""OpenRouter: `credits`, what the account has used up in all. A running total, where there is no management key."""

import datetime as dt
from collections.abc import Mapping

from django.utils.translation import gettext_noop as _

from relay.statements.values import Bill, Get, Script, Unreadable, amount

LABEL = "OpenRouter: credits"
BASE_URL = "https://openrouter.ai/api/v1"
CUMULATIVE = True


def headers(secret: str) -> Mapping[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def read(day: dt.date, scope: tuple[str, ...]) -> Script:
    answer = yield Get("/credits")
    found = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(found, dict):
        raise Unreadable(_("The provider's answer has no list “%(name)s”."), name="data")
    total = amount(found.get("total_usage"), "total_usage")
    if total < 0:
        raise Unreadable(_("“%(name)s” is no amount."), name="total_usage")
    return Bill("USD", total)
