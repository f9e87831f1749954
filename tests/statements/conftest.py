"""A channel, what was used of it on a day, and a provider on a real socket that says what it charged for that."""

import datetime as dt
import json
import uuid
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from portal import services as user_services
from relay.models import Attempt, CallLog, Channel
from relay.statement_models import StatementSource
from relay.statements import comparing, services
from relay.statements.services import SourceSpec
from tests.kit.upstream import Exchange, Upstream

DAY = dt.date(2026, 11, 20)
SECRET = "sk-admin-statement-key-9f31c7"
CENT = 10**7
Answer = Any  # a JSON value, bytes, a status, or a script


class Provider:
    """Answers by path: a list's answers one after another, the last again and again."""

    def __init__(self) -> None:
        self.answers: dict[str, list[Answer]] = {}
        self.asked: list[tuple[str, dict[str, list[str]], dict[str, str]]] = []
        self.server = Upstream(self._serve).start()

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.server.port}"

    def says(self, path: str, *answers: Answer) -> None:
        self.answers[path] = list(answers)

    def queries(self, path: str) -> list[dict[str, list[str]]]:
        return [query for asked, query, _headers in self.asked if asked == path]

    async def _serve(self, exchange: Exchange) -> None:
        parts = urlsplit(exchange.target)
        self.asked.append((parts.path, parse_qs(parts.query), exchange.headers))
        queue = self.answers.get(parts.path, [404])
        answer = queue.pop(0) if len(queue) > 1 else queue[0]
        if callable(answer):
            await answer(exchange)
        elif isinstance(answer, int):
            await exchange.answer(answer, b"{}")
        else:
            content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            await exchange.answer(200, content)


@pytest.fixture
def provider() -> Iterator[Provider]:
    found = Provider()
    yield found
    found.server.stop()


class Ours:
    """The channel and its calls, in this process's database."""

    def __init__(self, provider: Provider) -> None:
        self.provider = provider
        self.team = user_services.user_with_team("alice@example.com")[1]
        self.channel = Channel.objects.create(
            name="main", base_url=f"{provider.origin}/v1", models={"chat": "gpt-4o"}, private=True
        )

    def source(self, adapter: str = "openai", **fields: Any) -> StatementSource:
        values = {"adapter": adapter, "base_url": self.provider.origin, "secret": SECRET, **fields}
        return services.save_source(self.channel, SourceSpec(**values))

    def call(self, cost: int | None, hour: float = 12, **usage: int) -> CallLog:
        """One answered call with one attempt at the channel, `hour` hours after the day began."""
        return self.call_at(comparing.span(DAY)[0] + dt.timedelta(hours=hour), cost, **usage)

    def call_at(self, at: dt.datetime, cost: int | None, **usage: int) -> CallLog:
        number = uuid.UUID(int=int(at.timestamp() * 1000) << 80 | 0x7 << 76 | uuid.uuid4().int & (1 << 62) - 1)
        row = CallLog.objects.create(
            id=number, team=self.team, key=None, request_id=str(number), endpoint="chat.completions", protocol="openai",
            model="chat", upstream_model="gpt-4o", channel="main", state="settled", status=200,
            usage_source="reported", usage=usage, cost=3 * (cost or 0), created_at=at,
        )  # fmt: skip
        Attempt.objects.create(
            call=row, number=1, channel="main", protocol="openai", outcome="complete", status=200, usage=usage,
            usage_source="reported", cost=cost, began_ms=1.0, ended_ms=9.0,
        )  # fmt: skip
        return row


@pytest.fixture
def ours(books: str, provider: Provider) -> Ours:
    return Ours(provider)


def bucket(results: list[dict[str, Any]], day: dt.date = DAY) -> dict[str, Any]:
    """A day of OpenAI's."""
    start = int(comparing.span(day)[0].timestamp())
    return {"object": "bucket", "start_time": start, "end_time": start + 86400, "results": results}


def page(*buckets: dict[str, Any], more: str = "") -> dict[str, Any]:
    return {"object": "page", "data": list(buckets), "has_more": bool(more), "next_page": more or None}


def spent(*lines: tuple[str, Any]) -> dict[str, Any]:
    """A day's costs: line items with their amounts in dollars."""
    return bucket([{"line_item": item, "amount": {"value": value, "currency": "usd"}} for item, value in lines])


def used(**fields: Any) -> dict[str, Any]:
    return bucket([{"model": "gpt-4o-2024-08-06", **fields}])


def openai(provider: Provider, usage: dict[str, Any], costs: dict[str, Any], *more: dict[str, Any]) -> None:
    """What OpenAI's three endpoints say: nothing of embeddings, costs in as many pages as there are."""
    provider.says("/organization/usage/completions", page(usage))
    provider.says("/organization/usage/embeddings", page(bucket([])))
    pages = [costs, *more]
    provider.says(
        "/organization/costs",
        *(page(one, more=f"page_{n}=" if n < len(pages) - 1 else "") for n, one in enumerate(pages)),
    )
