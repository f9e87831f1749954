"""The official OpenAI SDK for Python as the client, on both databases."""

import asyncio
import io
from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest
import requests
from google import genai
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam

from relay import demo
from tests.kit import scripts
from tests.kit.gateway import Customer, Gateway
from tests.kit.upstream import Upstream

HELLO: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Hello"}]
TOOLS: list[ChatCompletionToolParam] = [
    {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
]


@pytest.fixture
def sdk(gateway: Gateway, customer: Customer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=customer.token, max_retries=0) as client:
        yield client


def play(upstream: Upstream, script: Any) -> dict[str, str]:
    return {"x_script": upstream.play(script)}


def test_a_whole_answer(sdk: openai.OpenAI, gateway: Gateway, customer: Customer) -> None:
    answer = sdk.chat.completions.create(model="chat", messages=HELLO)
    assert answer.choices[0].message.content == "Hello, world."
    assert answer.model == "chat"
    assert answer.usage is not None
    assert answer.usage.total_tokens == 150
    assert answer.model_extra is not None
    assert answer.model_extra["pisces"]["cost"] == "0.0002"
    assert gateway.spent(customer) == 200_000


@pytest.mark.parametrize("with_usage", [False, True])
def test_a_stream(sdk: openai.OpenAI, with_usage: bool) -> None:
    options: Any = {"stream_options": {"include_usage": True}} if with_usage else {}
    chunks = list(sdk.chat.completions.create(model="chat", messages=HELLO, stream=True, **options))
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "Hello, world."
    assert (chunks[-1].usage is not None) is with_usage
    assert chunks[-1].model_extra is not None
    assert chunks[-1].model_extra["pisces"]["cost"] == "0.0002"


def test_the_sdk_s_own_stream_helper(sdk: openai.OpenAI) -> None:
    with sdk.chat.completions.stream(model="chat", messages=HELLO) as stream:
        for _ in stream:
            pass
        final = stream.get_final_completion()
    assert final.choices[0].message.content == "Hello, world."


def test_tools(sdk: openai.OpenAI, upstream: Upstream) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    body = play(upstream, scripts.whole(choices=[{"index": 0, "message": message, "finish_reason": "tool_calls"}]))
    answer = sdk.chat.completions.create(model="chat", messages=HELLO, tools=TOOLS, extra_body=body)
    (found,) = answer.choices[0].message.tool_calls or []
    assert found.type == "function"
    assert found.function.name == "weather"


def test_models(sdk: openai.OpenAI) -> None:
    names = {model.id for model in sdk.models.list()}
    assert {"chat", "[M]vendor/model-1"} <= names
    assert sdk.models.retrieve("chat").id == "chat"
    assert sdk.models.retrieve("[M]vendor/model-1").id == "[M]vendor/model-1"


def test_the_demo_provider_answers_through_the_gateway(
    gateway: Gateway, customer: Customer, sdk: openai.OpenAI
) -> None:
    answer = sdk.chat.completions.create(model="demo-chat", messages=HELLO)
    chunks = list(sdk.chat.completions.create(model="demo-chat", messages=HELLO, stream=True))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert answer.choices[0].message.content == text
    assert "Hello" in text
    whole, streamed = gateway.calls(customer.key)
    assert whole["usage"] == streamed["usage"]
    assert whole["cost"] == streamed["cost"] > 0
    assert whole["usage_source"] == streamed["usage_source"] == "reported"
    asked = sdk.chat.completions.create(model="demo-chat", messages=HELLO, tools=TOOLS, tool_choice="required")
    assert asked.choices[0].finish_reason == "tool_calls"


def test_the_demo_provider_answers_only_the_gateway(gateway: Gateway, customer: Customer) -> None:
    for token in ("wrong", customer.token):
        headers = {"Authorization": f"Bearer {token}"}
        assert requests.get(f"{gateway.url}{demo.PATH}/models", headers=headers, timeout=30).status_code == 401


ERRORS: list[tuple[Any, type[openai.APIStatusError], str]] = [
    (scripts.error(400), openai.BadRequestError, "upstream_rejected"),
    (scripts.error(422), openai.UnprocessableEntityError, "upstream_rejected"),
    (scripts.error(429), openai.RateLimitError, "rate_limit_exceeded"),
    (scripts.error(500), openai.InternalServerError, "upstream_error"),
    (scripts.error(503), openai.InternalServerError, "unavailable"),
]


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("script", "kind", "code"), ERRORS, ids=[code + str(n) for n, (_, _, code) in enumerate(ERRORS)]
)
def test_an_upstream_s_failures_are_the_sdk_s_errors(
    sdk: openai.OpenAI, upstream: Upstream, script: Any, kind: type[openai.APIStatusError], code: str, streamed: bool
) -> None:
    with pytest.raises(kind) as raised:
        sdk.chat.completions.create(model="chat", messages=HELLO, stream=streamed, extra_body=play(upstream, script))
    assert raised.value.code == code
    assert raised.value.request_id


def test_refusals_are_the_sdk_s_errors(gateway: Gateway, sdk: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as unknown:
        sdk.chat.completions.create(model="unknown", messages=HELLO)
    assert (unknown.value.code, unknown.value.param) == ("invalid_model", "model")
    with pytest.raises(openai.AuthenticationError):
        sdk.with_options(api_key="sk-wrong").chat.completions.create(model="chat", messages=HELLO)
    with pytest.raises(openai.BadRequestError):
        sdk.chat.completions.create(model="chat", messages=[])
    poor = gateway.customer(credit="0")
    with pytest.raises(openai.PermissionDeniedError) as spent:
        sdk.with_options(api_key=poor.token, max_retries=5).chat.completions.create(model="chat", messages=HELLO)
    assert spent.value.code == "insufficient_user_quota"


def test_the_sdk_tries_a_failed_call_again_and_pays_once(
    gateway: Gateway, customer: Customer, upstream: Upstream, sdk: openai.OpenAI
) -> None:
    body = play(upstream, scripts.in_turn(scripts.error(429, Retry_After="1"), scripts.whole()))
    answer = sdk.with_options(max_retries=2).chat.completions.create(model="chat", messages=HELLO, extra_body=body)
    assert answer.choices[0].message.content == "Hello, world."
    assert gateway.spent(customer) == 200_000
    assert [call["state"] for call in gateway.calls(customer.key)] == ["failed", "settled"]


def test_a_stream_that_breaks_is_an_error_and_not_a_short_answer(sdk: openai.OpenAI, upstream: Upstream) -> None:
    body = play(upstream, scripts.cut(3))
    words: list[str] = []
    stream = sdk.chat.completions.create(model="chat", messages=HELLO, stream=True, extra_body=body)
    with pytest.raises(openai.APIError, match="broke off"):
        words.extend(chunk.choices[0].delta.content or "" for chunk in stream)
    assert "".join(words) == "Hello, "


async def async_answer(url: str, token: str) -> str:
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=token, max_retries=0) as client:
        answer = await client.chat.completions.create(model="chat", messages=HELLO)
        return answer.choices[0].message.content or ""


def test_the_asynchronous_client(gateway: Gateway, customer: Customer) -> None:
    assert asyncio.run(async_answer(gateway.url, customer.token)) == "Hello, world."


def test_an_old_sdk_s_base_without_the_version(gateway: Gateway, customer: Customer) -> None:
    with openai.OpenAI(base_url=gateway.url, api_key=customer.token, max_retries=0) as client:
        answer = client.chat.completions.create(model="chat", messages=HELLO)
    assert answer.choices[0].message.content == "Hello, world."


@pytest.mark.parametrize("base", ["", "/v1", "/v1/", "/v1beta"])
def test_every_sdk_takes_a_base_with_the_version_and_without_it(
    gateway: Gateway, customer: Customer, base: str
) -> None:
    """As the quick start says. Anthropic's and Google's add a version of their own to whatever they are given."""
    url = gateway.url + base
    with openai.OpenAI(base_url=url, api_key=customer.token, max_retries=0) as chat:
        assert chat.chat.completions.create(model="chat", messages=HELLO).choices[0].message.content == "Hello, world."
    with anthropic.Anthropic(base_url=url, api_key=customer.token, max_retries=0) as claude:
        said = claude.messages.create(model="chat", max_tokens=10, messages=[{"role": "user", "content": "Hello"}])
        assert [block.text for block in said.content if block.type == "text"] == ["Hello, world."]
        assert claude.models.retrieve("chat").id == "chat"
    with genai.Client(api_key=customer.token, http_options=genai.types.HttpOptions(base_url=url)) as gemini:
        assert gemini.models.generate_content(model="chat", contents="Hello").text == "Hello, world."
        assert gemini.models.get(model="chat").name == "models/chat"


def test_what_vendors_have_outside_of_the_relay_s_paths_is_refused_in_their_sdk_s_words(
    gateway: Gateway, customer: Customer
) -> None:
    """Google's files are put at `/upload/v1beta/files`; a base without the version leaves `/files` of OpenAI's."""
    with openai.OpenAI(base_url=gateway.url, api_key=customer.token, max_retries=0) as chat:
        with pytest.raises(openai.NotFoundError, match="There is no endpoint at '/files'") as unknown:
            chat.files.list()
        assert (unknown.value.code, unknown.value.type) == ("unknown_path", "invalid_request_error")
        assert unknown.value.request_id
    with anthropic.Anthropic(base_url=f"{gateway.url}/claude", api_key=customer.token, max_retries=0) as claude:
        with pytest.raises(anthropic.NotFoundError, match="There is no endpoint at '/claude/v1/models'") as absent:
            claude.models.list()
        assert absent.value.request_id
    with genai.Client(api_key=customer.token, http_options=genai.types.HttpOptions(base_url=gateway.url)) as gemini:
        with pytest.raises(genai.errors.ClientError, match="There is no endpoint at '/upload/") as refused:
            gemini.files.upload(file=io.BytesIO(b"x"), config={"mime_type": "text/plain"})
        assert (refused.value.code, refused.value.status) == (404, "NOT_FOUND")
