"""OpenRouter: `credits`, what the account has used up in all. A running total, where there is no management key."""

import datetime as dt
from collections.abc import Mapping

from relay.statements.values import Bill, Get, Script, running_total

LABEL = "OpenRouter: credits"
BASE_URL = "https://openrouter.ai/api/v1"
CUMULATIVE = True


def headers(secret: str) -> Mapping[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def read(day: dt.date, scope: tuple[str, ...]) -> Script:
    answer = yield Get("/credits")
    found = answer.get("data") if isinstance(answer, dict) else None
    return Bill("USD", running_total(found, "total_usage"))
