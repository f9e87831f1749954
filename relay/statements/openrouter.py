"""OpenRouter: `activity` of one day by model and endpoint, once it is over, for 30 days. Needs a management key.

Sources: openrouter.ai, API reference of `/api/v1/activity`, 2026-11. `prompt_tokens` does not tell cached ones apart;
`completion_tokens` has the reasoning ones in it. What was paid to a provider with one's own key is not in `usage`.
"""

import datetime as dt
from collections.abc import Mapping

from relay.statements.values import Bill, Get, Line, Script, amount, rows, text, units

LABEL = "OpenRouter: activity"
BASE_URL = "https://openrouter.ai/api/v1"
CUMULATIVE = False


def headers(secret: str) -> Mapping[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def read(day: dt.date, scope: tuple[str, ...]) -> Script:
    answer = yield Get("/activity", (("date", day.isoformat()),))
    lines = []
    for row in rows(answer):
        if not text(row.get("date")).startswith(day.isoformat()):
            continue
        model = text(row.get("model"))
        counts = {
            "prompt": units(row, "prompt_tokens"),
            "output": units(row, "completion_tokens"),
            "requests": units(row, "requests"),
        }
        lines += [Line(model, category, quantity=count) for category, count in counts.items() if count]
        lines.append(Line(model, "other", amount=amount(row.get("usage"), "usage")))
    total = sum((line.amount for line in lines if line.amount is not None), start=amount(0, ""))
    return Bill("USD", total, tuple(lines))
