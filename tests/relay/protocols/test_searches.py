"""What of an answer is a search that its provider made, and how many a request may lead to."""

import json
from pathlib import Path
from typing import Any

import pytest

from billing.usage import Usage
from relay.protocols import gemini, responses, searches
from relay.protocols.anthropic import usage as anthropic_usage
from relay.protocols.canonical import Raw

WIRE = Path(__file__).parents[2] / "wire"


@pytest.mark.parametrize(
    ("asked", "most"),
    [
        ({"tools": [{"type": "web_search_20250305", "name": "web_search", "max_uses": 3}]}, 3),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, searches.USUAL),
        ({"tools": [{"type": "web_search"}], "max_tool_calls": 4}, 4),
        ({"tools": [{"type": "web_search_preview"}]}, searches.USUAL),
        ({"tools": [{"googleSearch": {}}]}, searches.USUAL),
        ({"tools": [{"google_search": {}}]}, searches.USUAL),
        ({"web_search_options": {}}, searches.USUAL),
        ({"tools": [{"type": "web_search_20250305", "max_uses": "3"}]}, searches.USUAL),
        ({"tools": [{"type": "function", "name": "web_search"}]}, 0),
        ({"tools": [{"type": "web_search", "max_uses": 0}]}, 0),
        ({"tools": "search"}, 0),
        ({"messages": [{"role": "user", "content": "search for it"}], "max_tool_calls": 4}, 0),
        ({}, 0),
    ],
)
def test_a_request_leads_to_as_many_searches_as_it_allows_or_as_are_usual(asked: dict[str, Any], most: int) -> None:
    assert searches.most(json.dumps(asked).encode()) == most
    escaped = json.dumps(asked).replace("earch", "\\u0065arch").encode()
    assert searches.most(escaped) == most


@pytest.mark.parametrize(
    ("asked", "count"),
    [(b'{"web_search_options":{}}', 1), (b'{"web_search_option\\u0073":{}}', 1), (b'{"web_search_options":null}', 0),
     (b'{"x":"web_search_options"}', 0), (b'{"web_search_options"', 0), (b"{}", 0)],
)  # fmt: skip
def test_a_chat_that_searches_does_so_once_unseen(asked: bytes, count: int) -> None:
    assert searches.unseen(asked) == count


def test_a_body_that_cannot_be_read_leads_to_as_many_as_are_usual() -> None:
    assert searches.most(b'{"search') == searches.USUAL


@pytest.mark.parametrize(
    ("label", "value", "counts"),
    [
        ("web_search_call", {"action": {"type": "search"}}, True), ("web_search_call", {}, True),
        ("web_search_call", {"action": {"type": "open_page"}}, False),
        ("server_tool_use", {"name": "web_search"}, True), ("server_tool_use", {"name": "web_fetch"}, False),
        ("web_search_tool_result", {}, False),
    ],
)  # fmt: skip
def test_only_searches_are_counted(label: str, value: dict[str, Any], counts: bool) -> None:
    assert searches.is_one(Raw(owner="anthropic", label=label, value=value)) is counts


def test_anthropics_own_number_is_read_and_written() -> None:
    told = {"web_search_requests": 2, "web_fetch_requests": 0}
    wire = {"input_tokens": 1, "output_tokens": 1, "server_tool_use": told}
    found = anthropic_usage.decode(json.dumps(wire).encode())
    assert found is not None
    assert found.searches == 2
    assert anthropic_usage.encode(found)["server_tool_use"] == told
    assert "server_tool_use" not in anthropic_usage.encode(Usage(input=1, output=1))


def test_responses_searches_are_its_items() -> None:
    body = json.loads((WIRE / "responses" / "search.json").read_bytes())
    first, *rest = body["output"]
    opened = {**first, "id": "ws_2", "action": {"type": "open_page", "url": "https://example.org"}}
    body["output"] = [first, opened, {**first, "id": "ws_3"}, *rest]
    found = responses.DIALECT.whole(json.dumps(body).encode(), responses.DIALECT.read(b'{"model":"m","input":"x"}'))
    assert found.usage is not None
    assert found.usage.searches == 2


@pytest.mark.parametrize(
    ("model", "count"), [("gemini-3-pro-preview", 2), ("gemini-2.5-flash", 1), ("models/gemini-2.0-flash", 1)]
)
@pytest.mark.parametrize("alias", [False, True])
def test_geminis_queries_count_each_or_once_by_the_model(model: str, alias: bool, count: int) -> None:
    body = json.loads((WIRE / "gemini" / "grounded.json").read_bytes())
    body["modelVersion"] = model
    body["candidates"][0]["groundingMetadata"]["webSearchQueries"] = ["one", "two", ""]
    asked = gemini.DIALECT.read(b'{"contents":[{"parts":[{"text":"x"}]}]}', model="m", stream=False)
    content = json.dumps(body).encode()
    passed, decoder = gemini.DIALECT.whole(content, asked), gemini.DIALECT.decoder()
    decoder.feed(content)
    streamed = gemini.DIALECT.passing(asked, model="m", upstream_model="gemini-flash-latest" if alias else model)
    streamed.feed(b"data: " + content + b"\r\n\r\n")
    for found in (passed, decoder, streamed, gemini.DIALECT.decode_response(content)):
        assert found.usage is not None
        assert found.usage.searches == count
