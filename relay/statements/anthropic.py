"""Anthropic's Admin API: tokens by model (`usage_report/messages`) and money by description (`cost_report`).

Sources: platform.claude.com, "Usage and Cost API", 2026-11. Amounts are decimal texts in cents. The tokens are
disjoint as they come: uncached, read from the cache, written to it for five minutes or for an hour.
"""

import datetime as dt
from collections.abc import Mapping
from typing import Any

from relay.statements.values import Bill, Line, Script, amount, one_currency, pages, results, text, units

LABEL = "Anthropic: usage and cost report"
BASE_URL = "https://api.anthropic.com"
CUMULATIVE = False
_TYPES = {
    "uncached_input_tokens": "input",
    "cache_read_input_tokens": "cache_read",
    "cache_creation.ephemeral_5m_input_tokens": "cache_write",
    "cache_creation.ephemeral_1h_input_tokens": "cache_write_1h",
    "output_tokens": "output",
}


def headers(secret: str) -> Mapping[str, str]:
    return {"x-api-key": secret, "anthropic-version": "2023-06-01"}


def read(day: dt.date, scope: tuple[str, ...]) -> Script:
    span = (
        ("starting_at", f"{day}T00:00:00Z"),
        ("ending_at", f"{day + dt.timedelta(days=1)}T00:00:00Z"),
        ("bucket_width", "1d"),
    )
    workspaces = tuple(("workspace_ids[]", name) for name in scope)
    query = (*span, ("group_by[]", "model"), *workspaces)
    lines = []
    usage = yield from pages("/v1/organizations/usage_report/messages", query)
    for row in results(usage, _of(day), field="starting_at"):
        lines += _counted(row)
    by = (("group_by[]", "description"), ("group_by[]", "workspace_id"))
    costs = yield from pages("/v1/organizations/cost_report", (*span, *by))
    currencies, money = set(), []
    for row in results(costs, _of(day), field="starting_at"):
        if scope and text(row.get("workspace_id")) not in scope:
            continue
        currencies.add(text(row.get("currency")))
        other = "searches" if row.get("cost_type") == "web_search" else "other"
        category = _TYPES.get(text(row.get("token_type")), other)
        money.append(Line(text(row.get("model")), category, amount=amount(row.get("amount"), "amount") / 100))
    total = sum((line.amount for line in money if line.amount is not None), start=amount(0, ""))
    return Bill(one_currency(currencies), total, (*lines, *money))


def _counted(row: Mapping[str, Any]) -> list[Line]:
    model, written = text(row.get("model")), row.get("cache_creation")
    written, tools = written if isinstance(written, dict) else {}, row.get("server_tool_use")
    counts = {
        "input": units(row, "uncached_input_tokens"),
        "cache_read": units(row, "cache_read_input_tokens"),
        "cache_write": units(written, "ephemeral_5m_input_tokens"),
        "cache_write_1h": units(written, "ephemeral_1h_input_tokens"),
        "output": units(row, "output_tokens"),
        "searches": units(tools if isinstance(tools, dict) else {}, "web_search_requests"),
    }
    return [Line(model, category, quantity=count) for category, count in counts.items() if count]


def _of(day: dt.date) -> Any:
    """Whether a bucket begins with this day."""
    return lambda begins: text(begins).startswith(f"{day}T00:00:00")
