"""Whatever way a provider's answer ends: it costs what is written down, and it ends in time."""

import asyncio
import time
from typing import Any

import aiohttp

from tests.faults import endings
from tests.faults.endings import Ending
from tests.kit import client
from tests.kit.gateway import Customer, Gateway
from tests.kit.ports import eventually
from tests.kit.upstream import Upstream

AT_ONCE = 24
LONGEST = 5.0  # seconds; the longest of all timeouts here, and what a busy machine adds


class Seen:
    """What the client saw of a call."""

    def __init__(self, status: int, text: str, took: float) -> None:
        self.status, self.took = status, took
        streamed = "data: " in text
        self.whole = status == 200 and (text.endswith("data: [DONE]\n\n") if streamed else '"choices"' in text)
        self.told_error = '"error":{' in text


async def play(url: str, customer: Customer, upstream: Upstream, cases: list[Ending]) -> list[Seen]:
    room = asyncio.Semaphore(AT_ONCE)

    async def one(session: aiohttp.ClientSession, number: int, case: Ending) -> Seen:
        options = {"stream_options": {"include_usage": True}} if case.include_usage else {}
        body = {
            "model": case.model, "messages": client.HELLO, "stream": case.streamed, **options,
            "x_script": upstream.play(case.script),
        }  # fmt: skip
        headers = {"Authorization": f"Bearer {customer.token}", "X-Request-Id": f"case-{number}"}
        async with room:
            began = time.monotonic()
            async with session.post(f"{url}/v1/chat/completions", json=body, headers=headers) as answer:
                text = (await answer.read()).decode()
            return Seen(answer.status, text, time.monotonic() - began)

    timeout = aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(timeout=timeout, trust_env=False) as session:
        return await asyncio.gather(*(one(session, number, case) for number, case in enumerate(cases)))


def problem(case: Ending, seen: Seen, call: dict[str, Any]) -> str:
    """What is not as it is written down, "" where all is well."""
    name = f"{case.name} ({'streamed' if case.streamed else 'whole'})"
    cost, source = call["cost"], call["usage_source"]
    if case.price.source != source:
        return f"{name}: usage is {source}, not {case.price.source}; cost {cost}, state {call['state']}"
    if case.price.amount is not None and cost != case.price.amount:
        return f"{name}: costs {cost}, not {case.price.amount}"
    if case.price.amount is None and not 0 < cost <= call["held"]:
        return f"{name}: counted at {cost} of {call['held']}"
    if seen.whole != case.whole or seen.told_error == case.whole:
        return f"{name}: the client saw {'a whole answer' if seen.whole else 'no whole answer'}, {seen.status}"
    if seen.took > LONGEST:
        return f"{name}: took {seen.took:.1f} s"
    return ""


def test_three_hundred_bad_endings_cost_what_is_written_down(
    gateway: Gateway, customer: Customer, upstream: Upstream
) -> None:
    cases = endings.all_endings()
    assert len(cases) >= 300
    seen = asyncio.run(play(gateway.url, customer, upstream, cases))
    eventually(lambda: gateway.wallet(customer.wallet)["held"] == 0)
    calls = {call["request_id"]: call for call in gateway.calls(customer.key)}
    records = [calls[f"case-{number}"] for number in range(len(cases))]
    problems = [said for said in map(problem, cases, seen, records) if said]
    assert not problems, "\n".join(problems)
    assert gateway.spent(customer) == sum(call["cost"] for call in calls.values())


def test_what_a_usage_is_worth_does_not_depend_on_how_it_comes() -> None:
    """The table itself: the same usage is priced alike in a whole answer, at a stream's end and on its finish."""
    prices: dict[str, set[endings.Price]] = {}
    for case in endings.all_endings():
        if case.name.startswith("usage ") and "then" not in case.name and case.name.split(",")[0][6:] in endings.USAGES:
            prices.setdefault(case.name.split(",")[0], set()).add(case.price)
    assert len(prices) == len(endings.USAGES)
    assert all(len(found) == 1 for found in prices.values())
