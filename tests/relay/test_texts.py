"""Embeddings, reranking and moderation from door to door: answers, charges, what goes wrong (requirements B12, B13)."""

import uuid
from collections.abc import Iterator
from typing import Any

import openai
import pytest
import requests
from google import genai

from tests.kit import scripts
from tests.kit.gateway import Customer, Gateway
from tests.kit.ports import eventually
from tests.kit.upstream import Exchange, Upstream

PRICE = {"input": "1"}  # 1,000 nano-units a token
MODELS = {
    "embed": ("embedding", PRICE, "text-embedding-3-small"),
    "rank": ("rerank", PRICE, "up-rank"),
    "rank-by-call": ("rerank", {"per_call": "0.002"}, "up-rank"),
    "judge": ("moderation", {"input": "0"}, "omni-moderation-latest"),
}
MESSAGE = [{"role": "user", "content": "Hello"}]


async def vectors(exchange: Exchange) -> None:
    """What a provider of embeddings answers, Google or any other, by what it is asked."""
    asked = exchange.json
    if "requests" in asked:
        values = [{"values": [n + 0.5, -0.25]} for n in range(len(asked["requests"]))]
        content: Any = {"embeddings": values}
    else:
        content = scripts.embeddings(asked["model"], len(asked["input"]) if isinstance(asked["input"], list) else 1)
    await scripts.value(content)(exchange)


@pytest.fixture(scope="module")
def google() -> Iterator[Upstream]:
    server = Upstream(vectors).start()
    yield server
    server.stop()


@pytest.fixture(autouse=True, scope="module")
def offers(gateway: Gateway, upstream: Upstream, google: Upstream) -> None:
    for name, (kind, price, _) in MODELS.items():
        gateway.model(name, price, kind=kind)
    gateway.model("google-embed", PRICE, kind="embedding")
    gateway.model("elsewhere", PRICE, kind="rerank")
    gateway.model("openai-embed", PRICE, kind="embedding")
    gateway.channel("texts", upstream.url, {name: upstream_name for name, (_, _, upstream_name) in MODELS.items()})
    gateway.channel("texts-openai", google.url, {"openai-embed": "text-embedding-3-small"})
    names = {"google-embed": "gemini-embedding-001", "elsewhere": "x"}
    gateway.channel("texts-google", google.url.removesuffix("/v1"), names, protocol="gemini")
    token = gateway.customer().token
    eventually(lambda: {*MODELS, "google-embed", "openai-embed"} <= offered(gateway, token))


def offered(gateway: Gateway, token: str) -> set[str]:
    answer = requests.get(f"{gateway.url}/v1/models", headers={"Authorization": f"Bearer {token}"}, timeout=10)
    return {model["id"] for model in answer.json()["data"]}


@pytest.fixture
def sdk(gateway: Gateway, customer: Customer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=customer.token, max_retries=0) as made:
        yield made


def ask(gateway: Gateway, customer: Customer, path: str, *, headers: Any = None, **body: Any) -> requests.Response:
    named = {"Authorization": f"Bearer {customer.token}", **(headers or {})}
    return requests.post(gateway.url + path, json=body, headers=named, timeout=30)


def embed(gateway: Gateway, customer: Customer, **body: Any) -> requests.Response:
    return ask(gateway, customer, "/v1/embeddings", **{"model": "embed", "input": "Hello", **body})


def rank(gateway: Gateway, customer: Customer, **body: Any) -> requests.Response:
    usual = {"model": "rank", "query": "snow", "documents": ["sun", {"text": "ice"}]}
    return ask(gateway, customer, "/v1/rerank", **{**usual, **body})


def record(gateway: Gateway, customer: Customer) -> dict[str, Any]:
    (call,) = gateway.calls(customer.key)
    return call


def refused(gateway: Gateway, customer: Customer, answer: requests.Response, status: int, code: str) -> Any:
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (status, code), answer.text
    assert gateway.spent(customer) == 0
    return error


# ---- embeddings -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["usual", "float"])
def test_the_sdk_gets_vectors_and_the_books_their_charge(
    sdk: openai.OpenAI, gateway: Gateway, customer: Customer, upstream: Upstream, encoding: str
) -> None:
    """The SDK asks for base64 by itself and takes lists of numbers too."""
    script = upstream.play(scripts.value(scripts.embeddings("text-embedding-3-small", 2)))
    options: Any = {} if encoding == "usual" else {"encoding_format": "float"}
    found = sdk.embeddings.create(
        model="embed", input=["a", "b"], dimensions=2, extra_body={"x_script": script}, **options
    )
    assert [each.embedding for each in found.data] == [[0.5, -0.25], [1.5, -0.25]]
    assert (found.model, found.usage.prompt_tokens) == ("embed", 7)
    assert found.model_extra is not None
    assert (found.model_extra["pisces"]["cost"], found.model_extra["pisces"]["protocol"]) == ("0.000007", "openai")
    sent = upstream.one(script)
    assert sent.target.endswith("/v1/embeddings")
    assert (sent.json["model"], sent.json["input"], sent.json["dimensions"]) == (
        "text-embedding-3-small",
        ["a", "b"],
        2,
    )
    assert sent.json.get("encoding_format") == ("base64" if encoding == "usual" else "float")
    assert gateway.spent(customer) == 7000
    call = record(gateway, customer)
    assert (call["endpoint"], call["protocol"], call["state"]) == ("embeddings", "openai", "settled")
    assert (call["usage"], call["usage_source"], call["error"]) == ({"input": 7}, "reported", "")


def test_base64_of_the_upstream_is_passed_as_it_came(sdk: openai.OpenAI, upstream: Upstream) -> None:
    data = [{"object": "embedding", "index": 0, "embedding": "AAAAPwAAgL4="}]
    script = upstream.play(scripts.value(scripts.embeddings("up", data=data)))
    found = sdk.embeddings.create(model="embed", input="a", extra_body={"x_script": script})
    assert found.data[0].embedding == [0.5, -0.25]


@pytest.mark.parametrize(("given", "tokens"), [("hello world", 2), ([15339, 1917, 0], 3), ([[1], [2, 3]], 3)])
def test_tokens_that_nobody_reports_are_counted_and_told(
    sdk: openai.OpenAI, gateway: Gateway, customer: Customer, upstream: Upstream, given: Any, tokens: int
) -> None:
    count = 2 if given == [[1], [2, 3]] else 1
    script = upstream.play(scripts.value(scripts.embeddings("up", count, usage=None)))
    found = sdk.embeddings.create(model="embed", input=given, extra_body={"x_script": script})
    assert (found.usage.prompt_tokens, found.usage.total_tokens) == (tokens, tokens)
    assert gateway.spent(customer) == tokens * 1000
    call = record(gateway, customer)
    assert (call["usage"], call["usage_source"]) == ({"input": tokens}, "counted")


def test_the_same_request_is_answered_and_charged_once(
    gateway: Gateway, customer: Customer, upstream: Upstream
) -> None:
    for path, content, body in (
        ("/v1/embeddings", scripts.embeddings("up"), {"model": "embed", "input": "a"}),
        ("/v1/rerank", scripts.ranking(), {"model": "rank", "query": "a", "documents": ["b", "c"]}),
        ("/v1/moderations", scripts.moderation("up"), {"model": "judge", "input": "a"}),
    ):
        script, headers = upstream.play(scripts.value(content)), {"Idempotency-Key": str(uuid.uuid4())}
        first = ask(gateway, customer, path, headers=headers, x_script=script, **body)
        again = ask(gateway, customer, path, headers=headers, x_script=script, **body)
        assert (first.status_code, again.content) == (200, first.content), first.text
        assert again.headers["Idempotent-Replayed"] == "true"
        assert len(upstream.served(script)) == 1
    assert gateway.spent(customer) == 7000 + 9000


def test_a_model_of_another_kind_is_invalid(gateway: Gateway, customer: Customer) -> None:
    kinds = {"chat": "chat", **{kind: name for name, (kind, _, _) in MODELS.items()}}
    for path, kind, body in (
        ("/v1/embeddings", "embedding", {"input": "a"}),
        ("/v1/rerank", "rerank", {"query": "a", "documents": ["b"]}),
        ("/v1/moderations", "moderation", {"input": "a"}),
        ("/v1/chat/completions", "chat", {"messages": MESSAGE}),
    ):
        for other in kinds.keys() - {kind}:
            answer = ask(gateway, customer, path, model=kinds[other], **body)
            assert refused(gateway, customer, answer, 404, "invalid_model")["param"] == "model"
    answer = ask(gateway, customer, "/v1beta/models/rank:embedContent", content={"parts": [{"text": "a"}]})
    assert (answer.status_code, answer.json()["error"]["status"]) == (404, "NOT_FOUND")
    assert gateway.calls(customer.key) == []


def test_a_channel_whose_protocol_has_no_such_endpoint_is_told_and_nothing_is_charged(
    gateway: Gateway, customer: Customer
) -> None:
    refused(gateway, customer, rank(gateway, customer, model="elsewhere"), 404, "invalid_model")


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/v1/embeddings", {"model": "embed"}, "input"),
        ("/v1/embeddings", {"model": "embed", "input": [1, "a"]}, "input"),
        ("/v1/embeddings", {"model": "embed", "input": "a", "dimensions": 0}, "dimensions"),
        ("/v1/embeddings", {"input": "a"}, "model"),
        ("/v1/rerank", {"model": "rank", "documents": ["a"]}, "query"),
        ("/v1/rerank", {"model": "rank", "query": "a", "documents": []}, "documents"),
        ("/v1/moderations", {"model": "judge", "input": [{"type": "sound"}]}, "input"),
    ],
)
def test_bad_input_names_its_field_before_any_money_moves(
    gateway: Gateway, customer: Customer, path: str, body: Any, param: str
) -> None:
    error = refused(gateway, customer, ask(gateway, customer, path, **body), 400, "invalid_parameter")
    assert error["param"] == param
    assert gateway.holds(customer.wallet) == []


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/rerank", "/v1/moderations"])
def test_bodies_that_are_no_json_are_refused(gateway: Gateway, customer: Customer, path: str) -> None:
    headers = {"Authorization": f"Bearer {customer.token}"}
    for content in (b"", b"[]", b"{", b'{"input": "\xff"}', b'{"input": ' + b"[" * 200_000):
        answer = requests.post(gateway.url + path, data=content, headers=headers, timeout=30)
        refused(gateway, customer, answer, 400, "invalid_json")


@pytest.mark.parametrize(
    ("script", "status", "code"),
    [
        (scripts.error(400, "too long"), 400, "upstream_rejected"),
        (scripts.error(500), 502, "upstream_error"),
        (scripts.error(429), 429, "rate_limit_exceeded"),
        (scripts.body(b"<html>"), 502, "upstream_error"),
        (scripts.value({"data": []}), 502, "upstream_error"),
        (scripts.value({"error": {"message": "no"}}), 502, "upstream_error"),
    ],
)
def test_an_upstream_that_fails_costs_nothing(
    gateway: Gateway, customer: Customer, upstream: Upstream, script: Any, status: int, code: str
) -> None:
    answer = embed(gateway, customer, x_script=upstream.play(script))
    refused(gateway, customer, answer, status, code)
    assert record(gateway, customer)["state"] == "failed"


def test_a_wallet_that_cannot_pay_is_told_before_the_upstream_is_asked(gateway: Gateway, upstream: Upstream) -> None:
    poor = gateway.customer(credit="0")
    script = upstream.play(scripts.value(scripts.embeddings("up")))
    refused(gateway, poor, embed(gateway, poor, x_script=script), 403, "insufficient_user_quota")
    assert upstream.served(script) == []


def test_a_key_may_be_restricted_to_an_endpoint(gateway: Gateway, customer: Customer, upstream: Upstream) -> None:
    from keys.models import KeyType

    _, token = gateway.issue(customer.team, type=KeyType.RESTRICTED, endpoints=["embeddings"])
    script = upstream.play(scripts.value(scripts.embeddings("up")))
    body = {"model": "embed", "input": "a", "x_script": script}
    headers = {"Authorization": f"Bearer {token}"}
    assert requests.post(f"{gateway.url}/v1/embeddings", json=body, headers=headers, timeout=30).status_code == 200
    body = {"model": "judge", "input": "a"}
    answer = requests.post(f"{gateway.url}/v1/moderations", json=body, headers=headers, timeout=30)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "permission_denied")


# ---- reranking ------------------------------------------------------------------------------------------------------


def test_documents_are_ranked_and_their_tokens_charged(
    gateway: Gateway, customer: Customer, upstream: Upstream
) -> None:
    script = upstream.play(scripts.value(scripts.ranking()))
    answer = rank(gateway, customer, top_n=2, return_documents=False, x_script=script)
    told = answer.json()
    assert (answer.status_code, answer.headers["X-Pisces-Cost"]) == (200, "0.000009")
    assert [result["index"] for result in told["results"]] == [1, 0]
    assert (told["model"], told["pisces"]["cost"]) == ("rank", "0.000009")
    sent = upstream.one(script)
    assert sent.target.endswith("/v1/rerank")
    assert (sent.json["model"], sent.json["documents"], sent.json["top_n"]) == ("up-rank", ["sun", {"text": "ice"}], 2)
    assert record(gateway, customer)["usage"] == {"input": 9}


def test_a_ranking_without_a_count_of_tokens_is_counted_or_paid_by_the_call(
    gateway: Gateway, customer: Customer, upstream: Upstream
) -> None:
    cohere = {"id": "rank-1", "meta": {"billed_units": {"search_units": 1}}, "usage": None}
    script = upstream.play(scripts.value(scripts.ranking(**cohere)))
    assert rank(gateway, customer, model="rank-by-call", x_script=script).status_code == 200
    assert gateway.spent(customer) == 2_000_000
    told = rank(gateway, customer, x_script=script).json()
    assert told["meta"] == cohere["meta"]
    by_call, counted = gateway.calls(customer.key)
    assert told["usage"]["total_tokens"] == counted["usage"]["input"] > 0
    assert (by_call["usage_source"], counted["usage_source"], counted["upstream_id"]) == (
        "counted",
        "counted",
        "rank-1",
    )
    assert 0 < counted["cost"] <= counted["held"]


# ---- moderation -----------------------------------------------------------------------------------------------------


def test_moderation_is_free_where_its_price_is_0(
    sdk: openai.OpenAI, gateway: Gateway, customer: Customer, upstream: Upstream
) -> None:
    script = upstream.play(scripts.value(scripts.moderation("omni-moderation-2024-09-26")))
    picture: Any = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    given: list[Any] = [{"type": "text", "text": "hello"}, picture]
    found = sdk.moderations.create(model="judge", input=given, extra_body={"x_script": script})
    assert (found.model, found.results[0].flagged) == ("judge", True)
    assert found.results[0].categories.violence is True
    assert upstream.one(script).json["input"] == given
    assert upstream.one(script).target.endswith("/v1/moderations")
    call = record(gateway, customer)
    assert (call["state"], call["cost"], call["held"], call["upstream_id"]) == ("settled", 0, 0, "modr-upstream")
    assert gateway.transfers(customer.wallet) == []


def test_an_empty_wallet_may_ask_for_what_is_free(gateway: Gateway, upstream: Upstream) -> None:
    poor = gateway.customer(credit="0")
    script = upstream.play(scripts.value(scripts.moderation("up")))
    answer = ask(gateway, poor, "/v1/moderations", model="judge", input="a", x_script=script)
    assert (answer.status_code, answer.headers["X-Pisces-Cost"]) == (200, "0")


def test_the_file_s_default_answers_a_moderation_that_names_no_model(
    gateway: Gateway, customer: Customer, upstream: Upstream
) -> None:
    """OpenAI's SDK does not ask for one."""
    from relay import services

    script = upstream.play(scripts.value(scripts.moderation("up")))
    with gateway.inside():
        services.set_default("moderations", "judge")

    def answered() -> bool:
        return ask(gateway, customer, "/v1/moderations", input="a", x_script=script).status_code == 200

    eventually(answered)
    assert upstream.served(script)[0].json["model"] == "omni-moderation-latest"
    with gateway.inside():
        services.set_default("moderations", None)


# ---- Gemini ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["usual", "float"])
def test_openai_s_sdk_gets_the_vectors_of_a_gemini_channel(
    sdk: openai.OpenAI, gateway: Gateway, customer: Customer, google: Upstream, encoding: str
) -> None:
    """LangChain sends tokens, which become the texts that they stand for. Gemini reports no usage: it is counted, and
    the SDK wants to be told of it."""
    options: Any = {} if encoding == "usual" else {"encoding_format": "float"}
    given = [[15339, 1917], [15339]]
    found = sdk.embeddings.create(model="google-embed", input=given, dimensions=2, user="u", **options)
    assert [each.embedding for each in found.data] == [[0.5, -0.25], [1.5, -0.25]]
    sent = google.exchanges[-1]
    assert sent.target.endswith("/models/gemini-embedding-001:batchEmbedContents")
    assert [each["content"]["parts"] for each in sent.json["requests"]] == [
        [{"text": "hello world"}],
        [{"text": "hello"}],
    ]
    assert sent.json["requests"][0]["outputDimensionality"] == 2
    call = record(gateway, customer)
    assert (call["usage_source"], call["usage"]) == ("counted", {"input": found.usage.prompt_tokens})
    assert gateway.spent(customer) == found.usage.total_tokens * 1000 > 0
    assert found.model_extra is not None
    assert found.model_extra["pisces"]["dropped"] == ["user"]


def test_what_gemini_cannot_be_asked_is_refused_where_the_client_is_strict(
    gateway: Gateway, customer: Customer
) -> None:
    headers = {"X-Pisces-Strict": "true"}
    answer = embed(gateway, customer, model="google-embed", user="u", headers=headers)
    assert refused(gateway, customer, answer, 400, "invalid_parameter")["param"] == "user"
    answer = embed(gateway, customer, model="google-embed", input=[2**40])
    assert refused(gateway, customer, answer, 400, "invalid_parameter")["param"] == "input"


@pytest.mark.parametrize("model", ["google-embed", "openai-embed"])
def test_google_s_sdk_gets_vectors_of_both_kinds_of_channels(gateway: Gateway, customer: Customer, model: str) -> None:
    options = genai.types.HttpOptions(base_url=gateway.url)
    with genai.Client(api_key=customer.token, http_options=options) as google_sdk:
        found = google_sdk.models.embed_content(model=model, contents="a", config={"output_dimensionality": 2})
    assert found.embeddings is not None
    assert [each.values for each in found.embeddings] == [[0.5, -0.25]]
    call = record(gateway, customer)
    assert (call["protocol"], call["endpoint"], call["state"]) == ("gemini", "embeddings", "settled")
    assert gateway.spent(customer) == call["cost"] > 0


@pytest.mark.parametrize("model", ["google-embed", "openai-embed"])
def test_a_single_content_gets_a_single_vector(gateway: Gateway, customer: Customer, model: str) -> None:
    body = {"model": f"models/{model}", "content": {"parts": [{"text": "a"}]}}
    answer = ask(gateway, customer, f"/v1beta/models/{model}:embedContent", **body)
    assert (answer.status_code, answer.json()["embedding"]) == (200, {"values": [0.5, -0.25]}), answer.text
    assert answer.json()["pisces"]["protocol"] == "gemini"
    call = record(gateway, customer)
    assert answer.json()["usageMetadata"]["promptTokenCount"] == call["usage"]["input"] > 0
    answer = ask(gateway, customer, f"/v1beta/models/{model}:embedContent", content={"parts": []})
    assert (answer.status_code, answer.json()["error"]["status"]) == (400, "INVALID_ARGUMENT")
