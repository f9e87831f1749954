"""Each kind of bill is read from a real socket, and stands beside our cost to the last nano-unit."""

import datetime as dt
from typing import Any

import pytest
from structlog.testing import capture_logs

from relay import statements
from relay.models import Channel
from relay.statement_models import Reconciliation, Statement, StatementReading, StatementSource
from relay.statements import comparing, fetching, services
from tests.kit.upstream import Exchange
from tests.statements.conftest import CENT, DAY, SECRET, Ours, bucket, openai, page, spent, used

CHAT = {"input": 700, "cache_read": 300, "output": 150, "reasoning": 50}
REPORTED = {
    "input_tokens": 2000, "input_cached_tokens": 600, "output_tokens": 400, "num_model_requests": 2,
    "input_audio_tokens": 0, "output_audio_tokens": 0,
}  # fmt: skip


def read(ours: Ours, source: StatementSource | None = None) -> Reconciliation:
    """What the job makes of the day, whenever it was asked for last."""
    Reconciliation.objects.update(asked_at=None)
    found = services.reconcile((source or StatementSource.objects.get()).pk, DAY)
    assert found is not None
    return found


def parts(row: Reconciliation) -> dict[str, tuple[int, int, bool]]:
    return {part["category"]: (part["ours"], part["theirs"], part["off"]) for part in row.categories}


# ---- OpenAI ---------------------------------------------------------------------------------------------------------


def test_a_bill_of_openai_that_agrees(ours: Ours) -> None:
    for _ in range(2):
        ours.call(6_150_000, **CHAT)
    ours.call(99, hour=-0.01)  # of the day before
    ours.call(99, hour=24)  # of the day after
    ours.source(scope="proj_a, proj_b")
    openai(
        ours.provider,
        used(**REPORTED),
        spent(("gpt-4o-2024-08-06, input", 0.0035), ("gpt-4o-2024-08-06, cached input", 0.0008)),
        spent(("gpt-4o-2024-08-06, output", 0.008), ("Web search", 0)),
    )
    row = read(ours)
    assert (row.state, row.ours, row.theirs, row.drift) == ("agreed", 12_300_000, 12_300_000, 0)
    assert parts(row) == {
        "input": (1400, 1400, False), "cache_read": (600, 600, False), "output": (400, 400, False),
        "requests": (2, 2, False),
    }  # fmt: skip
    assert row.per_model == [{"model": "gpt-4o", "ours": 12_300_000, "theirs": 12_300_000}]
    start = int(comparing.span(DAY)[0].timestamp())
    first, second = ours.provider.queries("/organization/costs")
    assert first == {
        "start_time": [str(start)], "end_time": [str(start + 86400)], "bucket_width": ["1d"],
        "group_by[]": ["line_item"], "project_ids[]": ["proj_a", "proj_b"],
    }  # fmt: skip
    assert second["page"] == ["page_0="]
    assert all(headers["authorization"] == f"Bearer {SECRET}" for _, _, headers in ours.provider.asked)
    statement = Statement.objects.get()
    assert (statement.amount, statement.starts_at, len(statement.digest)) == (12_300_000, comparing.span(DAY)[0], 64)


def test_a_bill_that_differs_is_told_explained_and_told_again_when_it_changes(ours: Ours) -> None:
    ours.call(10 * CENT, **CHAT)
    ours.source()
    usage = used(input_tokens=1000, input_cached_tokens=300, output_tokens=200, num_model_requests=1)
    openai(ours.provider, usage, spent(("gpt-4o, output", 0.1002)))
    with capture_logs() as logs:
        row = read(ours)
    told = [line for line in logs if line["event"] == "statement.drift"]
    assert [(line["channel"], line["day"], line["drift"]) for line in told] == [("main", "2026-11-20", 200_000)]
    assert (row.state, row.drift, row.alerted_at is not None) == ("open", 200_000, True)
    (alert,) = statements.alerts()
    assert (alert.channel, alert.day, alert.ours, alert.theirs, alert.drift) == (
        "main", DAY, 100_000_000, 100_200_000, 200_000,
    )  # fmt: skip
    with capture_logs() as logs:
        read(ours)
    assert not [line for line in logs if line["event"] == "statement.drift"]  # once for the same figures

    from portal.models import User

    root = User.objects.create_superuser("root@example.com", "x")
    with pytest.raises(services.NotExplained):
        services.explain(reconciliation=row.pk, drift=200_001, note="seen otherwise", user=root.pk)
    with pytest.raises(services.NotExplained):
        services.explain(reconciliation=row.pk, drift=200_000, note=" ", user=root.pk)
    services.explain(reconciliation=row.pk, drift=200_000, note="a fee of theirs", user=root.pk)
    assert statements.alerts() == []
    assert read(ours).state == "explained"
    openai(ours.provider, usage, spent(("gpt-4o, output", 0.1003)))
    assert (read(ours).state, [alert.drift for alert in statements.alerts()]) == ("open", [300_000])
    openai(ours.provider, usage, spent(("gpt-4o, output", 0.1)))
    row = read(ours)
    assert (row.state, row.note, row.alerted_at) == ("agreed", "a fee of theirs", None)
    assert Statement.objects.count() == 3


def test_units_that_differ_are_told_where_the_money_agrees(ours: Ours) -> None:
    ours.call(10 * CENT, input=1000, output=100)
    ours.source()
    openai(ours.provider, used(input_tokens=1000, input_cached_tokens=400, output_tokens=100), spent(("x, input", 0.1)))
    row = read(ours)
    assert (row.state, row.drift) == ("open", 0)
    assert parts(row) == {
        "input": (1000, 600, True), "cache_read": (0, 400, True), "output": (100, 100, False),
    }  # fmt: skip
    (alert,) = statements.alerts()
    assert alert.parts == (("input", 1000, 600), ("cache_read", 0, 400))


def test_an_attempt_without_a_cost_is_counted_as_one(ours: Ours) -> None:
    ours.call(None, input=1000)
    ours.source()
    openai(ours.provider, used(input_tokens=1000), spent(("gpt-4o, input", 0.5)))
    row = read(ours)
    assert (row.state, row.unpriced, row.ours, row.theirs) == ("open", 1, 0, 500_000_000)


def test_a_day_of_nothing_agrees_with_a_bill_of_nothing(ours: Ours) -> None:
    ours.source()
    openai(ours.provider, bucket([]), bucket([]))
    row = read(ours)
    assert (row.state, row.ours, row.theirs) == ("agreed", 0, 0)


# ---- what providers do wrong ----------------------------------------------------------------------------------------


async def _cut(exchange: Exchange) -> None:
    await exchange.head(200, {"Content-Type": "application/json", "Content-Length": "100"})
    await exchange.write(b'{"data": [')
    exchange.abort()


async def _silent(exchange: Exchange) -> None:
    import asyncio

    await asyncio.sleep(30)


async def _elsewhere(exchange: Exchange) -> None:
    await exchange.answer(302, b"", {"Location": "http://127.0.0.1:9/costs"})


WRONG: dict[str, tuple[Any, str]] = {
    "unauthorised": (401, "refuses the credential"),
    "forbidden": (403, "refuses the credential"),
    "limited": (429, "rate limit"),
    "broken": (500, "status 500"),
    "redirected": (_elsewhere, "status 302"),
    "cut": (_cut, "broke off"),
    "silent": (_silent, "did not answer in time"),
    "no JSON": (b"<html>", "no JSON"),
    "no number": (b'{"data": NaN}', "no JSON"),
    "a list": ([], "no list"),
    "no list": ({"data": {}}, "no list"),
    "rows that are none": ({"data": [1]}, "no list"),
    "more and not where": ({"data": [], "has_more": True}, "not where"),
    "the same page for ever": ({"data": [], "has_more": True, "next_page": "a"}, "not where"),
    "another day": (page(bucket([], DAY - dt.timedelta(days=1))), "no bill of this day"),
    "nothing at all": (page(), "no bill of this day"),
    "no amount": (page(spent(("x", "much"))), "no amount"),
    "an endless amount": (page(spent(("x", "Infinity"))), "no amount"),
    "an absurd amount": (page(spent(("x", 1e300))), "no amount"),
    "true": (page(spent(("x", True))), "no amount"),
    "two currencies": (page(spent(("x", 1)), bucket([{"amount": {"value": 1, "currency": "eur"}}])), "currency"),
    "deep": (b"[" * 100_000, "no JSON"),
}


def test_what_is_no_bill_is_a_problem_in_words_and_changes_no_figure(
    ours: Ours, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "WITHIN", 0.5)
    ours.call(10 * CENT, input=1000)
    ours.source()
    openai(ours.provider, used(input_tokens=1000), spent(("x", 0.1)))
    for name, (answer, said) in WRONG.items():
        if name == "silent":
            continue
        ours.provider.says("/organization/costs", answer)
        with capture_logs() as logs:
            row = read(ours)
        assert said in row.problem % row.problem_facts, name
        assert (row.state, row.ours, row.theirs, row.statement) == ("waiting", 100_000_000, None, None), name
        assert SECRET not in repr(logs) + repr(row.__dict__)
    ours.provider.says("/organization/costs", page(spent(("x", 0.1))))
    assert (read(ours).problem, read(ours).state) == ("", "agreed")
    ours.provider.says("/organization/costs", _silent)
    row = read(ours)
    assert (row.problem, row.state, row.theirs) == ("The provider did not answer in time.", "agreed", 100_000_000)


def test_counts_that_cannot_be_are_refused(ours: Ours) -> None:
    ours.source()
    for wrong in (-1, 1.5, "7", True, 2**60):
        openai(ours.provider, used(input_tokens=wrong), spent(("x", 0.1)))
        row = read(ours)
        assert "is no count" in row.problem, wrong
    assert not Statement.objects.exists()


def test_a_bill_that_comes_late_replaces_what_there_was_of_it(ours: Ours) -> None:
    ours.call(10 * CENT, input=1000)
    ours.source()
    openai(ours.provider, used(input_tokens=400), spent(("x, input", 0.04)))
    assert read(ours).state == "open"
    openai(ours.provider, used(input_tokens=1000), spent(("x, input", 0.1)))
    assert (read(ours).state, statements.alerts()) == ("agreed", [])


# ---- Anthropic ------------------------------------------------------------------------------------------------------


def test_a_bill_of_anthropic_is_in_cents_and_its_tokens_are_disjoint(ours: Ours) -> None:
    ours.call(4_128_750, input=1500, cache_read=200, cache_write=500, cache_write_1h=1000, output=500, searches=4)
    ours.source("anthropic", scope="wrkspc_1")
    day = {"starting_at": f"{DAY}T00:00:00Z", "ending_at": f"{DAY + dt.timedelta(days=1)}T00:00:00Z"}
    tokens = {
        "model": "claude-sonnet-4-20250514", "uncached_input_tokens": 1500, "cache_read_input_tokens": 200,
        "cache_creation": {"ephemeral_5m_input_tokens": 500, "ephemeral_1h_input_tokens": 1000}, "output_tokens": 500,
        "server_tool_use": {"web_search_requests": 4},
    }  # fmt: skip
    lines = [
        {"currency": "USD", "amount": "0.40", "token_type": "uncached_input_tokens", "workspace_id": "wrkspc_1"},
        {"currency": "USD", "amount": "0.012875", "token_type": "output_tokens", "workspace_id": "wrkspc_1"},
        {"currency": "USD", "amount": "999", "token_type": "output_tokens", "workspace_id": "wrkspc_2"},
    ]
    ours.provider.says("/v1/organizations/usage_report/messages", {"data": [{**day, "results": [tokens]}]})
    ours.provider.says("/v1/organizations/cost_report", {"data": [{**day, "results": lines}], "has_more": False})
    row = read(ours)
    assert (row.state, row.theirs, row.drift) == ("agreed", 4_128_750, 0)
    assert parts(row) == {
        "input": (1500, 1500, False), "cache_read": (200, 200, False), "cache_write": (500, 500, False),
        "cache_write_1h": (1000, 1000, False), "output": (500, 500, False),
        "searches": (4, 4, False),
    }  # fmt: skip
    headers = ours.provider.asked[0][2]
    assert (headers["x-api-key"], headers["anthropic-version"]) == (SECRET, "2023-06-01")
    assert "authorization" not in headers


# ---- running totals -------------------------------------------------------------------------------------------------


def _total(source: StatementSource, at: dt.datetime, units: int) -> None:
    StatementReading.objects.create(source=source, at=at, total=units, digest=f"{units:064d}")


def test_a_running_total_is_read_once_an_hour_in_hundredths(ours: Ours) -> None:
    source = ours.source("one-api")
    ours.provider.says("/dashboard/billing/subscription", {"hard_limit_usd": 100.0})
    ours.provider.says("/dashboard/billing/usage", {"object": "list", "total_usage": 1234.5678})
    now = dt.datetime.now(dt.UTC)
    assert services.read_totals(now) == 1
    assert services.read_totals(now) == 0
    assert source.readings.get().total == 12_345_678_000
    ours.provider.says("/dashboard/billing/subscription", 404)
    StatementReading.objects.all().delete()
    assert services.read_totals(now) == 0


def test_a_day_of_a_running_total_is_the_difference_and_our_cost_is_of_the_same_time(ours: Ours) -> None:
    source = ours.source("one-api")
    start, end = comparing.span(DAY)
    first, last = start + dt.timedelta(seconds=7), end + dt.timedelta(minutes=2)
    _total(source, first, 50 * CENT)
    _total(source, first + dt.timedelta(hours=5), 55 * CENT)
    _total(source, last, 60 * CENT)
    ours.call_at(start + dt.timedelta(seconds=3), 1)  # in the reading before
    ours.call(4 * CENT, input=10)
    ours.call_at(end + dt.timedelta(minutes=1), 6 * CENT, input=10)
    row = read(ours, source)
    assert (row.state, row.ours, row.theirs) == ("agreed", 10 * CENT, 10 * CENT)
    assert row.statement is not None
    assert (row.statement.starts_at, row.statement.ends_at) == (first, last)


def test_a_running_total_that_was_not_read_or_went_back_says_nothing(ours: Ours) -> None:
    source = ours.source("openrouter-credits")
    start, end = comparing.span(DAY)
    row = read(ours, source)
    assert "was not read near 2026-11-20 00:00" in row.problem % row.problem_facts
    _total(source, start, 50)
    _total(source, end + services.NEAR, 60)
    assert "was not read near 2026-11-21 00:00" in read(ours, source).problem % read(ours, source).problem_facts
    _total(source, end, 49)
    assert "went back" in read(ours, source).problem


def test_credits_of_openrouter_are_a_running_total(ours: Ours) -> None:
    source = ours.source("openrouter-credits")
    ours.provider.says("/credits", {"data": {"total_credits": 100.5, "total_usage": 25.750000001}})
    assert services.read_totals() == 1
    assert source.readings.get().total == 25_750_000_001


# ---- OpenRouter -----------------------------------------------------------------------------------------------------


def test_the_activity_of_openrouter_has_all_input_together(ours: Ours) -> None:
    ours.call(15_000_000, input=30, cache_read=20, output=100, reasoning=25)
    ours.source("openrouter")
    row = {
        "date": "2026-11-20 00:00:00", "model": "openai/gpt-4o", "usage": 0.015, "byok_usage_inference": 0.2,
        "requests": 1, "prompt_tokens": 50, "completion_tokens": 125, "reasoning_tokens": 25,
    }  # fmt: skip
    other = {**row, "date": "2026-11-19", "usage": 9}
    ours.provider.says("/activity", {"data": [row, other]})
    found = read(ours)
    assert (found.state, found.theirs) == ("agreed", 15_000_000)
    assert parts(found) == {"prompt": (50, 50, False), "output": (125, 125, False), "requests": (1, 1, False)}
    assert ours.provider.queries("/activity") == [{"date": ["2026-11-20"]}]


# ---- where it may go ------------------------------------------------------------------------------------------------


def test_a_public_channels_bill_is_never_asked_of_a_private_address(ours: Ours) -> None:
    source = ours.source()
    Channel.objects.update(private=False)
    for address in (ours.provider.origin, ours.provider.origin.replace("127.0.0.1", "localhost")):
        StatementSource.objects.filter(pk=source.pk).update(base_url=address)
        assert read(ours).problem == "The channel's address is not allowed."
    Channel.objects.update(private=True, base_url="http://127.0.0.1:9/v1")  # another origin than the bill's
    assert read(ours).problem == "The channel's address is not allowed."
    assert ours.provider.asked == []


def test_bills_in_another_currency_are_turned_into_the_ledgers(ours: Ours) -> None:
    ours.call(7_250_000, input=10)
    ours.source(rate=7_250_000)
    openai(ours.provider, used(input_tokens=10), spent(("gpt-4o, input", 0.001)))
    assert (read(ours).theirs, read(ours).state) == (7_250_000, "agreed")
