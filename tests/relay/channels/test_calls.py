"""What channels do to calls: overrides on the wire, breakers, cool-downs, disabled credentials, affinity, marks."""

import asyncio
import datetime as dt
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.kit import client, load, scripts
from tests.kit.gateway import Customer, Gateway
from tests.kit.plugin import SHORT
from tests.kit.ports import eventually
from tests.kit.upstream import Exchange, Upstream
from tests.relay.channels.conftest import Make
from tests.relay.channels.made import answered, ask, credentials

# ---- the wire -------------------------------------------------------------------------------------------------------


def test_overrides_of_headers_and_parameters_and_the_provider_s_quirks_are_on_the_wire(
    gateway: Gateway, customer: Customer, upstream: Upstream, offer: Make
) -> None:
    overrides = {
        "preset": "groq",
        "secret": "sk-override-00001",
        "headers": {"Authorization": "Token {key}", "X-Team": "blue", "User-Agent": None, "Accept": None},
        "parameters": {"temperature": 0.5, "user": None, "provider": {"order": ["a"]}},
    }
    model = offer((upstream.url, overrides))
    script = upstream.play(scripts.whole())
    answer = client.chat(
        gateway.url, customer.token, model=model, x_script=script, user="u", logprobs=True, temperature=2
    )
    assert answer.status_code == 200, answer.text
    assert answer.json()["pisces"]["dropped"] == ["logprobs"]
    sent = upstream.one(script)
    assert (sent.headers["authorization"], sent.headers["x-team"]) == ("Token sk-override-00001", "blue")
    assert not {"user-agent", "accept"} & sent.headers.keys()
    assert (sent.json["temperature"], sent.json["provider"]) == (0.5, {"order": ["a"]})
    assert not {"user", "logprobs"} & sent.json.keys()


def test_a_strict_call_is_refused_rather_than_sent_without_a_parameter(
    gateway: Gateway, customer: Customer, upstream: Upstream, offer: Make
) -> None:
    model = offer((upstream.url, {"preset": "groq"}))
    answer = client.chat(gateway.url, customer.token, model=model, logprobs=True, headers={"X-Pisces-Strict": "true"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "logprobs")


@pytest.mark.parametrize(
    ("kind", "path", "answer"),
    [
        ("embedding", "/v1/embeddings", scripts.embeddings("up-0")),
        ("moderation", "/v1/moderations", scripts.moderation("up-0")),
    ],
)
def test_a_preset_s_list_of_a_chat_s_fields_is_not_held_against_calls_of_another_kind(
    gateway: Gateway, customer: Customer, upstream: Upstream, offer: Make, kind: str, path: str, answer: Any
) -> None:
    script = upstream.play(scripts.value(answer))
    mistral = {"preset": "mistral", "parameters": {"x_script": script}}
    model = offer((upstream.url, mistral), kind=kind)
    told = ask(gateway, customer, path, model=model, input="Hello", user="u")
    assert (told.status_code, told.json()["pisces"]["dropped"]) == (200, ["user"]), told.text
    assert upstream.one(script).json == {"model": "up-0", "input": "Hello", "x_script": script}


def test_azure_s_deployments_have_their_own_path_and_header(
    gateway: Gateway, customer: Customer, upstream: Upstream, offer: Make
) -> None:
    azure = {"preset": "azure", "secret": "azure-secret-0001", "model": "my deployment"}
    model = offer((upstream.url.removesuffix("/v1"), azure))
    script = upstream.play(scripts.whole())
    assert answered(gateway.url, customer, model, x_script=script) == 200
    sent = upstream.one(script)
    assert sent.target == "/openai/deployments/my%20deployment/chat/completions?api-version=2024-10-21"
    assert sent.headers["api-key"] == "azure-secret-0001"
    assert "authorization" not in sent.headers


@pytest.mark.parametrize("base", ["", "/openai/v1"])
def test_azure_s_responses_are_at_no_deployment_s_address(
    gateway: Gateway, customer: Customer, upstream: Upstream, offer: Make, base: str
) -> None:
    """Source: Azure OpenAI, "Use the Responses API": POST https://NAME.openai.azure.com/openai/v1/responses."""
    script = upstream.play(scripts.error(400))
    azure = {"preset": "azure", "protocol": "responses", "secret": "azure-secret-0001", "model": "my deployment"}
    model = offer((upstream.url.removesuffix("/v1") + base, {**azure, "parameters": {"x_script": script}}))
    assert ask(gateway, customer, "/v1/responses", model=model, input="Hello").status_code == 400
    sent = upstream.one(script)
    assert (sent.target, sent.json["model"]) == ("/openai/v1/responses", "my deployment")
    assert sent.headers["api-key"] == "azure-secret-0001"


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1beta/models/{model}:batchEmbedContents"])
def test_vertex_ai_is_not_asked_for_embeddings_at_an_address_that_it_does_not_have(
    gateway: Gateway, customer: Customer, upstream: Upstream, offer: Make, path: str
) -> None:
    address = upstream.url + "/projects/p/locations/us/publishers/google"
    vertex = (address, {"preset": "vertex", "protocol": "gemini", "model": "gemini-embedding-001"})
    script = upstream.play(scripts.value(scripts.embeddings("up-1")))
    alone = offer(vertex, kind="embedding")
    helped = offer(vertex, (upstream.url, {"priority": 1, "parameters": {"x_script": script}}), kind="embedding")
    given: dict[str, Any] = {"input": "Hello", "requests": [{"content": {"parts": [{"text": "Hello"}]}}]}
    refused = ask(gateway, customer, path.format(model=alone), model=alone, **given)
    assert refused.status_code == 404, refused.text
    assert "has no endpoint for embedding models" in refused.json()["error"]["message"]
    assert [sent for sent in upstream.exchanges if "publishers/google" in sent.target] == []
    assert ask(gateway, customer, path.format(model=helped), model=helped, **given).status_code == 200
    upstream.one(script)


def test_dashscope_is_not_asked_for_rankings_at_an_address_that_it_does_not_have(
    gateway: Gateway, customer: Customer, upstream: Upstream, offer: Make
) -> None:
    """Alibaba Cloud Model Studio, "Rerank": POST /compatible-api/v1/reranks."""
    dashscope = (upstream.url + "/compatible-mode", {"preset": "dashscope"})
    script = upstream.play(scripts.value(scripts.ranking()))
    helped = (upstream.url, {"priority": 1, "parameters": {"x_script": script}})
    alone, two = offer(dashscope, kind="rerank"), offer(dashscope, helped, kind="rerank")
    given = {"query": "q", "documents": ["a", "b"]}
    refused = ask(gateway, customer, "/v1/rerank", model=alone, **given)
    assert refused.status_code == 404, refused.text
    assert "has no endpoint for rerank models" in refused.json()["error"]["message"]
    assert [sent for sent in upstream.exchanges if "compatible-mode" in sent.target] == []
    assert ask(gateway, customer, "/v1/rerank", model=two, **given).status_code == 200
    upstream.one(script)


def test_calls_go_through_the_channel_s_proxy(
    gateway: Gateway, customer: Customer, upstream: Upstream, offer: Make
) -> None:
    """The provider's name resolves nowhere; the proxy is asked for it, and here answers itself."""
    model = offer(("http://provider.invalid/v1", {"proxy": upstream.url.removesuffix("/v1")}))
    script = upstream.play(scripts.whole())
    assert answered(gateway.url, customer, model, x_script=script) == 200
    assert upstream.one(script).target == "http://provider.invalid/v1/chat/completions"


def test_a_proxy_that_is_not_there_is_a_failure_of_the_channel(
    gateway: Gateway, customer: Customer, upstream: Upstream, offer: Make
) -> None:
    model = offer((upstream.url, {"proxy": "http://127.0.0.1:9"}), (upstream.url, {"priority": 1}))
    answer = client.chat(gateway.url, customer.token, model=model)
    assert (answer.status_code, answer.json()["pisces"]["retries"]) == (200, 1)
    (call,) = gateway.calls(customer.key)
    assert call["attempts"][0]["detail"] == "The channel's proxy refused the connection."


# ---- breakers -------------------------------------------------------------------------------------------------------


def test_after_five_failures_the_provider_is_left_alone_and_the_caller_told_for_how_long(
    gateway: Gateway, customer: Customer, upstream: Upstream, offer: Make
) -> None:
    model = offer((upstream.url, {}))
    script = upstream.play(scripts.error(500))
    assert [answered(gateway.url, customer, model, x_script=script) for _ in range(5)] == [502] * 5
    refused = client.chat(gateway.url, customer.token, model=model, x_script=script)
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "unavailable")
    assert 25 <= int(refused.headers["Retry-After"]) <= 30
    assert len(upstream.served(script)) == 5
    assert len(gateway.holds(customer.wallet)) == 5


def test_a_shut_channel_opens_for_one_call_that_decides(
    gateway: Gateway, customer: Customer, upstream: Upstream, offer: Make
) -> None:
    model = offer((upstream.url, {"breaker": {"failures": 2, "open": 0.3}}))
    bad, good = upstream.play(scripts.error(500)), upstream.play(scripts.whole())
    assert [answered(gateway.url, customer, model, x_script=bad) for _ in range(3)] == [502, 502, 503]
    assert eventually(lambda: answered(gateway.url, customer, model, x_script=good) == 200, every=0.1)
    assert answered(gateway.url, customer, model, x_script=good) == 200


def test_a_429_rests_its_credential_for_as_long_as_it_says_while_the_other_one_works(
    gateway: Gateway, customer: Customer, upstream: Upstream, offer: Make
) -> None:
    model = offer((upstream.url, {"secret": "sk-limited-000001"}))
    limited, good = upstream.play(scripts.error(429, Retry_After="2")), upstream.play(scripts.whole())
    assert answered(gateway.url, customer, model, x_script=limited) == 429
    refused = client.chat(gateway.url, customer.token, model=model, x_script=good)
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "2")
    assert upstream.served(good) == []
    credentials(gateway, model, 0, "sk-another-0000002")
    eventually(lambda: answered(gateway.url, customer, model, x_script=good) == 200, within=1.9, every=0.05)
    eventually(
        lambda: (
            answered(gateway.url, customer, model, x_script=good) == 200
            and {e.headers["authorization"] for e in upstream.served(good)}
            == {"Bearer sk-limited-000001", "Bearer sk-another-0000002"}
        )
    )


def test_a_provider_that_says_until_when_to_wait_has_its_caller_told_how_long(
    gateway: Gateway, customer: Customer, upstream: Upstream, offer: Make
) -> None:
    """`Retry-After` may be a date (RFC 9110, section 10.2.3)."""
    model = offer((upstream.url, {}))
    until = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=90)
    script = upstream.play(scripts.error(429, Retry_After=format_datetime(until, usegmt=True)))
    for _ in range(2):  # by the provider, and by the credential that rests
        told = client.chat(gateway.url, customer.token, model=model, x_script=script)
        assert told.status_code == 429
        assert 80 <= int(told.headers["Retry-After"]) <= 90


def test_a_client_that_hangs_up_and_a_refused_request_do_not_shut_a_channel(
    gateway: Gateway, customer: Customer, upstream: Upstream, offer: Make
) -> None:
    model = offer((upstream.url, {"breaker": {"failures": 1}}))
    bad, slow, good = (upstream.play(s) for s in (scripts.error(400), scripts.silence, scripts.whole()))
    assert answered(gateway.url, customer, model, x_script=bad) == 400
    left = client.open_socket(gateway.url, customer.token, {"model": model, "x_script": slow})
    exchange = upstream.one(slow)
    left.close()
    eventually(lambda: exchange.closed_at)
    assert answered(gateway.url, customer, model, x_script=good) == 200


def test_what_a_channel_s_calls_are_not_tried_again_after_is_the_operator_s_choice(
    gateway: Gateway, customer: Customer, upstream: Upstream, offer: Make
) -> None:
    model = offer((upstream.url, {"retry_on": ["limited"]}), (upstream.url, {"priority": 1}))
    for status, told, attempts in ((500, 502, 1), (429, 200, 2)):
        script = upstream.play(scripts.in_turn(scripts.error(status, Retry_After="0"), scripts.whole()))
        assert answered(gateway.url, customer, model, x_script=script) == told
        assert len(upstream.served(script)) == attempts


def test_what_a_provider_said_of_a_call_s_thoughts_is_not_how_it_failed_when_asked_without_them(
    gateway: Gateway, customer: Customer, upstream: Upstream, offer: Make
) -> None:
    first = {"protocol": "anthropic", "retry_on": ["connect"]}
    model = offer((upstream.url, first), (upstream.url, {"protocol": "anthropic", "priority": 1}))
    unread = scripts.error(400, "messages.1.content.0: Invalid `signature` in `thinking` block", Retry_After="9")
    answer = (Path(__file__).parents[2] / "wire" / "anthropic" / "text.json").read_bytes()
    script = upstream.play(scripts.in_turn(unread, scripts.hang_up, scripts.body(answer)))
    thought = {"type": "thinking", "thinking": "Hm.", "signature": "of another account"}
    said = {"role": "assistant", "content": [thought, {"type": "text", "text": "Hello"}]}
    messages = [*client.HELLO, said, {"role": "user", "content": "And?"}]
    told = ask(gateway, customer, "/v1/messages", model=model, max_tokens=9, messages=messages, x_script=script)
    assert told.status_code == 200
    assert [b"signature" in exchange.body for exchange in upstream.served(script)] == [True, False, True]
    (call,) = gateway.calls(customer.key)
    assert [attempt["status"] for attempt in call["attempts"]] == [None, 200]


@pytest.mark.parametrize("kind", ["garbage", "cut"])
def test_a_whole_answer_that_is_none_and_one_that_breaks_off_are_two_kinds_of_failure(
    gateway: Gateway, customer: Customer, upstream: Upstream, offer: Make, kind: str
) -> None:
    model = offer((upstream.url, {"retry_on": [kind]}), (upstream.url, {"priority": 1}))
    for bad, filed in ((scripts.body(b"<html>"), "garbage"), (scripts.half_a_body, "cut")):
        script = upstream.play(scripts.in_turn(bad, scripts.whole()))
        assert answered(gateway.url, customer, model, x_script=script) == (200 if filed == kind else 502)


WHOLE: dict[str, tuple[str, dict[str, Any], Any]] = {
    "embedding": ("embeddings", {"input": "x"}, scripts.embeddings("up-1")),
    "rerank": ("rerank", {"query": "q", "documents": ["a", "b"]}, scripts.ranking()),
    "moderation": ("moderations", {"input": "x"}, scripts.moderation("up-1")),
}


@pytest.mark.parametrize("kind", WHOLE)
def test_embeddings_rankings_and_judgements_that_are_none_are_asked_for_elsewhere_too(
    gateway: Gateway, customer: Customer, upstream: Upstream, offer: Make, kind: str
) -> None:
    path, asked, good = WHOLE[kind]
    model = offer((upstream.url, {}), (upstream.url, {"priority": 1}), kind=kind)
    headers = {"Authorization": f"Bearer {customer.token}"}
    for bad in (scripts.body(b""), scripts.body(b'{"error": {"message": "x"}}'), scripts.half_a_body):
        script = upstream.play(scripts.in_turn(bad, scripts.value(good)))
        body = {"model": model, "x_script": script, **asked}
        answer = requests.post(f"{gateway.url}/v1/{path}", json=body, headers=headers, timeout=30)
        assert (answer.status_code, len(upstream.served(script))) == (200, 2), answer.text


def test_another_credential_of_a_channel_that_is_down_is_not_tried(
    gateway: Gateway, customer: Customer, upstream: Upstream, offer: Make
) -> None:
    model = offer((upstream.url, {"secret": "sk-down-00000001", "breaker": {"failures": 0, "cool_down": 0}}))
    credentials(gateway, model, 0, "sk-down-00000002")

    def tried(status: int) -> int:
        script = upstream.play(scripts.error(status))
        answered(gateway.url, customer, model, x_script=script)
        return len(upstream.served(script))

    eventually(lambda: tried(429) == 2)  # once the second is known
    assert tried(500) == 1
    assert tried(403) == 2


# ---- who is asked next ----------------------------------------------------------------------------------------------


def test_however_many_channels_are_at_their_limits_the_one_that_has_room_answers(
    gateway: Gateway, customer: Customer, upstream: Upstream, offer: Make
) -> None:
    full = [(upstream.url, {"priority": n, "rpm": 1, "secret": f"sk-full-{n:08}"}) for n in range(3)]
    model = offer(*full, (upstream.url, {"priority": 3}))
    for number in range(3):
        credentials(gateway, model, number, f"sk-too-{number:08}")
    answers = [client.chat(gateway.url, customer.token, model=model) for _ in range(5)]
    assert [a.headers["X-Pisces-Channel"] for a in answers] == [f"{model}-{n}" for n in (0, 1, 2, 3, 3)]
    last = gateway.calls(customer.key)[-1]
    assert [a["channel"] for a in last["attempts"]] == [f"{model}-{n}" for n in range(4)], "each channel once"


def test_after_a_channel_that_is_down_with_all_of_its_credentials_another_s_second_one_is_tried(
    gateway: Gateway, customer: Customer, upstream: Upstream, offer: Make
) -> None:
    async def script(exchange: Exchange) -> None:
        asked.append(exchange.json["model"])
        answers = {1: scripts.error(500), 2: scripts.error(429, Retry_After="0")}
        await answers.get(len(asked), scripts.whole())(exchange)

    open_to_all = {"breaker": {"failures": 0, "cool_down": 0}}
    model = offer(
        (upstream.url, {**open_to_all, "secret": "sk-down-00000001"}),
        (upstream.url, {**open_to_all, "secret": "sk-busy-00000001", "priority": 1}),
    )
    for number, secret in enumerate(("sk-down-00000002", "sk-busy-00000002")):
        credentials(gateway, model, number, secret)
    asked: list[str] = []

    def is_answered() -> bool:
        asked.clear()
        return answered(gateway.url, customer, model, x_script=upstream.play(script)) == 200

    eventually(is_answered)  # once the second ones are known
    assert asked == ["up-0", "up-1", "up-1"]
    tried = gateway.calls(customer.key)[-1]["attempts"]
    assert [(a["channel"][-1], a["status"]) for a in tried] == [("0", 500), ("1", 429), ("0", None), ("1", 200)]


def test_no_more_than_three_requests_are_sent_for_one_call_however_many_channels_there_are(
    gateway: Gateway, customer: Customer, upstream: Upstream, offer: Make
) -> None:
    model = offer(*[(upstream.url, {}) for _ in range(5)])
    script = upstream.play(scripts.error(500))
    assert answered(gateway.url, customer, model, x_script=script) == 502
    assert len(upstream.served(script)) == 3


def test_channels_that_cannot_be_asked_take_no_attempt_from_one_that_can(
    gateway: Gateway, customer: Customer, upstream: Upstream, offer: Make
) -> None:
    others = [(upstream.url, {"protocol": "anthropic", "priority": n}) for n in range(3)]
    model = offer(*others, (upstream.url, {"priority": 3}))
    script = upstream.play(scripts.whole())
    assert answered(gateway.url, customer, model, x_script=script, n=2) == 200
    assert len(upstream.served(script)) == 1


def test_a_channel_that_may_work_later_is_told_of_and_not_one_that_cannot_be_asked(
    gateway: Gateway, customer: Customer, upstream: Upstream, offer: Make
) -> None:
    never: dict[str, Any] = {"protocol": "anthropic", "priority": 1}
    down, full = (
        offer((upstream.url, {}), (upstream.url, never)),
        offer((upstream.url, {"rpm": 1}), (upstream.url, never)),
    )
    script = upstream.play(scripts.error(503, Retry_After="9"))
    told = client.chat(gateway.url, customer.token, model=down, x_script=script, n=2)
    assert (told.status_code, told.headers["Retry-After"]) == (503, "9")
    assert [answered(gateway.url, customer, full, n=2) for _ in range(2)] == [200, 429]
    only = offer((upstream.url, never))
    assert answered(gateway.url, customer, only, n=2) == 400


@pytest.mark.parametrize("how", ["switched off", "without its credential", "limited"])
def test_a_call_under_way_goes_to_no_channel_that_was_taken_out_of_use_or_shut_since_it_was_planned(
    gateway: Gateway, customer: Customer, upstream: Upstream, offer: Make, how: str
) -> None:
    from relay import services
    from relay.models import Channel

    released = threading.Event()

    async def slow(exchange: Exchange) -> None:
        if exchange.json["model"] == "up-0":
            await asyncio.to_thread(released.wait, 30)
        await (scripts.error(500) if exchange.json["model"] == "up-0" else scripts.whole())(exchange)

    async def quick(exchange: Exchange) -> None:
        bad = {"up-0": scripts.error(500), "up-1": scripts.error(429, Retry_After="60")}
        await bad.get(exchange.json["model"], scripts.whole())(exchange)

    second = {"secret": "sk-meanwhile-0001", "priority": 1}
    model = offer((upstream.url, {}), (upstream.url, second), (upstream.url, {"priority": 2}))
    waits, passes = upstream.play(slow), upstream.play(quick)
    with ThreadPoolExecutor() as pool:
        told = pool.submit(client.chat, gateway.url, customer.token, model=model, x_script=waits)
        upstream.one(waits)
        with gateway.inside():
            channel = Channel.objects.get(name=f"{model}-1")
            if how == "switched off":
                services.set_enabled(channel, enabled=False)
            elif how == "without its credential":
                services.remove_credential(channel.credentials.get())

        def is_known() -> bool:
            before = len(upstream.served(passes))
            assert answered(gateway.url, customer, model, x_script=passes) == 200
            asked = {exchange.json["model"] for exchange in upstream.served(passes)[before:]}
            return "up-1" not in asked

        eventually(is_known)
        released.set()
        assert told.result().headers["X-Pisces-Channel"] == f"{model}-2"
    assert [exchange.json["model"] for exchange in upstream.served(waits)] == ["up-0", "up-2"]
    (call,) = [
        call for call in gateway.calls(customer.key) if call["request_id"] == told.result().headers["X-Request-Id"]
    ]
    assert [(a["channel"][-1], a["status"]) for a in call["attempts"]] == [("0", 500), ("1", None), ("2", 200)]


# ---- who goes where -------------------------------------------------------------------------------------------------


def test_a_conversation_with_a_cached_prompt_stays_with_its_credential_and_others_are_spread(
    gateway: Gateway, customer: Customer, upstream: Upstream, offer: Make
) -> None:
    model = offer((upstream.url, {"secret": "sk-cache-0000001"}), (upstream.url, {"secret": "sk-cache-0000002"}))
    script = upstream.play(scripts.whole())
    went: dict[str, set[str]] = {}
    for number in range(36):
        key = f"{uuid.UUID(int=number % 12)}"
        assert answered(gateway.url, customer, model, x_script=script, prompt_cache_key=key) == 200
        went.setdefault(key, set()).add(upstream.served(script)[-1].headers["authorization"])
    assert all(len(found) == 1 for found in went.values())
    assert len(set.union(*went.values())) == 2


def test_a_name_with_a_mark_is_a_model_of_its_own_on_the_channel_that_offers_it(
    gateway: Gateway, customer: Customer, upstream: Upstream, offer: Make
) -> None:
    listed = {model["id"] for model in client.models(gateway.url, customer.token).json()["data"]}
    assert "[M]vendor/model-1" in listed
    assert client.models(gateway.url, customer.token, "[M]vendor/model-1").json()["id"] == "[M]vendor/model-1"
    script = upstream.play(scripts.whole())
    answer = client.chat(gateway.url, customer.token, model="[M]vendor/model-1", x_script=script)
    assert (answer.json()["model"], answer.json()["pisces"]["channel"]) == ("[M]vendor/model-1", "main")
    assert upstream.one(script).json["model"] == "up-1"


# ---- under load -----------------------------------------------------------------------------------------------------


def test_many_calls_at_once_on_a_hanging_channel_are_answered_by_the_other_and_charged_once(
    gateway: Gateway, customer: Customer, upstream: Upstream, offer: Make
) -> None:
    """More at once than may be tried again at once where tries fail."""

    async def script(exchange: Exchange) -> None:
        if exchange.json["model"] == "up-0":
            await scripts.silence(exchange)
        await scripts.whole(after=0.02)(exchange)

    model = offer((upstream.url, {"timeouts": SHORT}), (upstream.url, {"priority": 1}))
    seen = load.at_once([gateway.url], customer.token, 40, model=model, x_script=upstream.play(script))
    assert [one for one in seen if not one.complete] == []
    assert len(gateway.transfers(customer.wallet)) == 40
    assert {len(call["attempts"]) for call in gateway.calls(customer.key)} == {2}


@pytest.mark.parametrize("status", [404, 429, 500])
def test_many_calls_at_once_are_answered_by_a_channel_that_works_however_long_its_answers_take(
    gateway: Gateway, customer: Customer, upstream: Upstream, offer: Make, status: int
) -> None:
    """Nobody waits for a turn: in turns of a fifth the last ones would begin after more than ten seconds."""

    async def script(exchange: Exchange) -> None:
        await (scripts.error(status) if exchange.json["model"] == "up-0" else scripts.whole(after=2))(exchange)

    model = offer((upstream.url, {}), (upstream.url, {"priority": 1}))
    began = time.monotonic()
    seen = load.at_once([gateway.url], customer.token, 20, model=model, x_script=upstream.play(script))
    assert [one for one in seen if not one.complete] == []
    assert time.monotonic() - began < 8
    assert len(gateway.transfers(customer.wallet)) == 20


def test_when_every_channel_fails_a_fifth_of_the_calls_and_no_more_are_at_a_further_try_at_once(
    gateway: Gateway, customer: Customer, upstream: Upstream, offer: Make
) -> None:
    """Nothing else holds them back here: these channels are never shut."""
    at_second: list[int] = [0]

    async def script(exchange: Exchange) -> None:
        if exchange.json["model"] == "up-0":
            return await scripts.error(500)(exchange)
        at_second.append(at_second[-1] + 1)
        await asyncio.sleep(0.2)
        at_second.append(at_second[-1] - 1)
        return await scripts.error(500)(exchange)

    never_shut = {"breaker": {"failures": 0}}
    model = offer((upstream.url, never_shut), (upstream.url, {**never_shut, "priority": 1}))
    played = upstream.play(script)
    assert answered(gateway.url, customer, model, x_script=played) == 502  # since then both are known to fail
    seen = load.at_once([gateway.url], customer.token, 40, model=model, x_script=played)
    assert {one.status for one in seen} == {502}
    assert max(at_second) <= 8
    assert len(upstream.served(played)) == 2 * 41
