"""OpenAI's organisation: usage of completions and embeddings by model, and costs by line item. Admin key.

Sources: the API reference of `/v1/organization/usage/*` and `/v1/organization/costs`, 2026-11. `input_tokens` has the
cached ones in it, and text only: audio is counted apart.
"""

import datetime as dt
from collections.abc import Generator, Mapping
from typing import Any

from relay.statements.values import Bill, Get, Line, Script, amount, one_currency, pages, results, text, units

LABEL = "OpenAI: usage and costs of the organisation"
BASE_URL = "https://api.openai.com/v1"
CUMULATIVE = False
# In a line item such as "gpt-4o-2024-08-06, cached input".
_ITEMS = {
    "input": "input",
    "cached input": "cache_read",
    "output": "output",
    "audio input": "audio_in",
    "audio output": "audio_out",
}


def headers(secret: str) -> Mapping[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def read(day: dt.date, scope: tuple[str, ...]) -> Script:
    start = int(dt.datetime.combine(day, dt.time(), dt.UTC).timestamp())
    span = (("start_time", str(start)), ("end_time", str(start + 86400)), ("bucket_width", "1d"))
    projects = tuple(("project_ids[]", name) for name in scope)
    lines: list[Line] = []
    for kind in ("completions", "embeddings"):
        query = (*span, ("group_by[]", "model"), *projects)
        lines += yield from _usage(f"/organization/usage/{kind}", query, start)
    costs = yield from pages("/organization/costs", (*span, ("group_by[]", "line_item"), *projects))
    currencies = set()
    money = []
    for row in results(costs, start.__eq__, field="start_time"):
        found = row.get("amount")
        found = found if isinstance(found, dict) else {}
        currencies.add(text(found.get("currency")))
        model, _, item = text(row.get("line_item")).rpartition(", ")
        money.append(Line(model, _ITEMS.get(item, "other"), amount=amount(found.get("value"), "amount")))
    total = sum((line.amount for line in money if line.amount is not None), start=amount(0, ""))
    return Bill(one_currency(currencies), total, (*lines, *money))


def _usage(path: str, query: tuple[tuple[str, str], ...], start: int) -> Generator[Get, Any, list[Line]]:
    buckets = yield from pages(path, query)
    lines = []
    for row in results(buckets, start.__eq__, field="start_time"):
        model, cached = text(row.get("model")), units(row, "input_cached_tokens")
        counts = {
            "input": max(0, units(row, "input_tokens") - cached),
            "cache_read": cached,
            "output": units(row, "output_tokens"),
            "audio_in": units(row, "input_audio_tokens"),
            "audio_out": units(row, "output_audio_tokens"),
            "requests": units(row, "num_model_requests"),
        }
        lines += [Line(model, category, quantity=count) for category, count in counts.items() if count]
    return lines
