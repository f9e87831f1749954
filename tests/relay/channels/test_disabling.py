"""Credentials and channels that take themselves out of use, and how they come back."""

import datetime as dt
import json

import pytest

from tests.kit import client, scripts
from tests.kit.gateway import Customer, Gateway
from tests.kit.ports import eventually
from tests.kit.upstream import Exchange, Upstream
from tests.relay.channels.conftest import Make
from tests.relay.channels.made import answered, credentials, reported, row


def test_a_credential_that_is_refused_disables_itself_and_the_call_is_answered_by_another(
    gateway: Gateway, customer: Customer, upstream: Upstream, offer: Make
) -> None:
    async def script(exchange: Exchange) -> None:
        bad = "first" in exchange.headers["authorization"]
        await (scripts.error(401, "bad key sk-first-0000001") if bad else scripts.whole())(exchange)

    model = offer((upstream.url, {"secret": "sk-first-0000001"}))
    first, _ = credentials(gateway, model, 0, "sk-second-000002")
    played = upstream.play(script)
    eventually(
        lambda: (
            answered(gateway.url, customer, model, x_script=played) == 200
            and any("second" in e.headers["authorization"] for e in upstream.served(played))
        )
    )
    eventually(
        lambda: answered(gateway.url, customer, model, x_script=played) == 200 and row(gateway, first)["disabled_at"]
    )
    disabled = row(gateway, first)
    assert disabled["disabled_reason"].startswith("401: ")
    assert "sk-first" not in disabled["disabled_reason"]
    assert disabled["enabled"]
    refused = [e for e in upstream.served(played) if "first" in e.headers["authorization"]]
    assert len(refused) == 1


@pytest.mark.parametrize("protocol", ["gemini", "openai"])
def test_a_bad_key_of_google_s_disables_itself_although_google_says_400(
    gateway: Gateway, customer: Customer, upstream: Upstream, offer: Make, protocol: str
) -> None:
    content = google_error(protocol, 400, "INVALID_ARGUMENT", "API key not valid.", {"reason": "API_KEY_INVALID"})
    parameters = {"x_script": upstream.play(scripts.body(content, status=400))}
    fields = {"preset": "gemini", "protocol": protocol, "secret": "google-key-00001", "parameters": parameters}
    model = offer((upstream.url, fields))
    (only,) = credentials(gateway, model, 0)
    assert answered(gateway.url, customer, model) == 502
    eventually(lambda: row(gateway, only)["disabled_at"])


def test_words_of_one_team_that_google_quotes_shut_no_channel(
    gateway: Gateway, customer: Customer, upstream: Upstream, offer: Make
) -> None:
    content = {"error": {"code": 400, "message": 'Invalid JSON payload received. Unknown name "api key"'}}
    parameters = {"x_script": upstream.play(scripts.body(json.dumps(content).encode(), status=400))}
    overrides = {"protocol": "gemini", "breaker": {"failures": 2}, "parameters": parameters}
    model = offer((upstream.url, {**overrides, "secret": "google-key-00002"}))
    assert [answered(gateway.url, customer, model) for _ in range(4)] == [400] * 4


def test_a_bad_key_of_xai_s_disables_itself_although_xai_says_400(
    gateway: Gateway, customer: Customer, upstream: Upstream, offer: Make
) -> None:
    said = "Incorrect API key provided: xa***01. You can obtain an API key from https://console.x.ai."
    content = json.dumps({"code": "Client specified an invalid argument", "error": said}).encode()
    script = upstream.play(scripts.body(content, status=400))
    model = offer((upstream.url, {"preset": "xai", "secret": "xai-bad-key-00001"}))
    (only,) = credentials(gateway, model, 0)
    told = client.chat(gateway.url, customer.token, model=model, x_script=script)
    assert (told.status_code, "xa***" in told.text) == (502, False)
    eventually(lambda: row(gateway, only)["disabled_at"])


def test_prompts_that_xai_refuses_with_403_are_refused_to_their_client_and_shut_no_channel(
    gateway: Gateway, customer: Customer, upstream: Upstream, offer: Make
) -> None:
    """It names our team and the key's id beside, which are nobody's business."""
    said = "Content violates usage guidelines. Team: t-our, API key ID: k-our, Failed check: SAFETY_CHECK_TYPE_BIO"
    content = {"code": "The caller does not have permission to execute the specified operation", "error": said}
    bad = upstream.play(scripts.body(json.dumps(content).encode(), status=403))
    model = offer((upstream.url, {"preset": "xai", "secret": "xai-guideline-001"}))
    for _ in range(4):
        told = client.chat(gateway.url, customer.token, model=model, x_script=bad)
        assert (told.status_code, "Content violates usage guidelines." in told.text) == (400, True)
        assert "-our" not in told.text
    assert answered(gateway.url, customer, model, x_script=upstream.play(scripts.whole())) == 200


@pytest.mark.parametrize("protocol", ["gemini", "openai"])
def test_a_file_of_somebody_else_s_that_a_prompt_names_does_not_disable_a_key_of_google_s(
    gateway: Gateway, customer: Customer, upstream: Upstream, offer: Make, protocol: str
) -> None:
    """403 "You do not have permission to access the File … or it may not exist." whoever asks (python-genai#1218)."""
    said = "You do not have permission to access the File abc or it may not exist."
    bad = scripts.body(google_error(protocol, 403, "PERMISSION_DENIED", said, {}), status=403)
    parameters = {"x_script": upstream.play(bad)}
    fields = {"preset": "gemini", "protocol": protocol, "secret": f"google-{protocol}-003", "parameters": parameters}
    model = offer((upstream.url, fields))
    assert [answered(gateway.url, customer, model) for _ in range(5)] == [502] * 5
    (only,) = credentials(gateway, model, 0)
    assert row(gateway, only)["disabled_at"] is None


@pytest.mark.parametrize("protocol", ["gemini", "openai"])
def test_what_google_says_of_a_limit_and_how_long_it_lasts_reaches_the_caller(
    gateway: Gateway, customer: Customer, upstream: Upstream, offer: Make, protocol: str
) -> None:
    content = google_error(protocol, 429, "RESOURCE_EXHAUSTED", "Quota exceeded.", {"retryDelay": "43.2s"})
    parameters = {"x_script": upstream.play(scripts.body(content, status=429))}
    model = offer((upstream.url, {"preset": "gemini", "protocol": protocol, "parameters": parameters}))
    answer = client.chat(gateway.url, customer.token, model=model)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "44")
    assert "Quota exceeded." in answer.text


def google_error(protocol: str, status: int, word: str, message: str, detail: dict[str, str]) -> bytes:
    """As Google writes it: at the address where it speaks as OpenAI does, in an array of one."""
    envelope = {"error": {"code": status, "message": message, "status": word, "details": [detail]}}
    return json.dumps([envelope] if protocol == "openai" else envelope).encode()


def test_a_zero_byte_in_a_provider_s_error_is_left_out_of_the_reason_and_of_the_health_figures(
    gateway: Gateway, customer: Customer, upstream: Upstream, offer: Make
) -> None:
    """PostgreSQL stores none, in no text and in no JSON."""
    refuses, fails = (offer((upstream.url, {"secret": f"sk-zero-byte-000{n}"})) for n in (1, 2))
    (refused,), (failed,) = (credentials(gateway, model, 0) for model in (refuses, fails))
    answered(gateway.url, customer, refuses, x_script=upstream.play(scripts.body(b"bad\x00key", status=401)))
    answered(gateway.url, customer, fails, x_script=upstream.play(scripts.error(500, "bad \x00 thing")))
    eventually(lambda: row(gateway, refused)["disabled_reason"] == "401: badkey")
    eventually(lambda: "bad  thing" in str(reported(gateway, failed)))


def test_a_channel_whose_only_credential_is_refused_is_unavailable_and_never_called_without_one(
    gateway: Gateway, customer: Customer, upstream: Upstream, offer: Make
) -> None:
    model = offer((upstream.url, {"secret": "sk-alone-0000001"}))
    (only,) = credentials(gateway, model, 0)
    script = upstream.play(scripts.error(401))
    assert answered(gateway.url, customer, model, x_script=script) == 502
    eventually(lambda: row(gateway, only)["disabled_at"])
    for _ in range(5):
        refused = client.chat(gateway.url, customer.token, model=model, x_script=script)
        assert refused.status_code in (429, 503)
    assert len(upstream.served(script)) == 1


@pytest.mark.parametrize("why", ["it lost its last one", "its provider refused it without one"])
def test_a_channel_without_a_credential_that_wants_one_is_unavailable_until_it_gains_one(
    gateway: Gateway, customer: Customer, upstream: Upstream, offer: Make, why: str
) -> None:
    from relay import services
    from relay.models import Channel, Credential

    async def script(exchange: Exchange) -> None:
        known = exchange.headers.get("authorization", "").startswith("Bearer sk-")
        await (scripts.whole() if known else scripts.error(401))(exchange)

    lost = why == "it lost its last one"
    model = offer((upstream.url, {"secret": "sk-lost-00000001"} if lost else {}))
    played = upstream.play(script)
    if lost:
        (only,) = credentials(gateway, model, 0)
        with gateway.inside():
            services.remove_credential(Credential.objects.get(pk=only))
    else:
        assert answered(gateway.url, customer, model, x_script=played) == 502
    eventually(lambda: answered(gateway.url, customer, model, x_script=played) == 503)
    with gateway.inside():
        assert Channel.objects.get(name=f"{model}-0").disabled_at
    refused = [e for e in upstream.served(played) if "authorization" not in e.headers]
    assert len(refused) == (0 if lost else 1)
    credentials(gateway, model, 0, "sk-gained-0000001")
    eventually(lambda: answered(gateway.url, customer, model, x_script=played) == 200)
    assert upstream.served(played)[-1].headers["authorization"] == "Bearer sk-gained-0000001"


def test_a_worker_s_probe_brings_a_credential_back(
    gateway: Gateway, customer: Customer, upstream: Upstream, offer: Make
) -> None:
    """The real task, by a real worker, beside the servers; only the minute that it waits at least is shortened."""
    from relay.models import Credential

    model = offer((upstream.url, {"secret": "sk-back-00000001"}))
    (only,) = credentials(gateway, model, 0)
    assert answered(gateway.url, customer, model, x_script=upstream.play(scripts.error(401))) == 502
    disabled = eventually(lambda: row(gateway, only)["disabled_at"])
    with gateway.inside():
        Credential.objects.filter(pk=only).update(disabled_at=disabled - dt.timedelta(minutes=2))
    worker = gateway.work(PROBE_EVERY="0.5")
    try:
        eventually(lambda: row(gateway, only)["disabled_at"] is None, within=30)
    finally:
        worker.terminate()
        worker.wait(timeout=30)
    asked = [e for e in upstream.exchanges if e.target == "/v1/models" and "sk-back" in e.headers["authorization"]]
    assert asked
    eventually(lambda: answered(gateway.url, customer, model, x_script=upstream.play(scripts.whole())) == 200)


def test_figures_outlast_that_their_credential_disables_itself_and_comes_back(
    gateway: Gateway, customer: Customer, upstream: Upstream, offer: Make
) -> None:
    from relay import services
    from relay.models import Credential

    model = offer((upstream.url, {"secret": "sk-figures-00001"}))
    (only,) = credentials(gateway, model, 0)
    good, bad = upstream.play(scripts.whole()), upstream.play(scripts.error(401))

    def figures() -> tuple[int, list[str]]:
        found = reported(gateway, only)
        minutes = [minute for content in found for minute in content["minutes"].values()]
        mishaps = [mishap["kind"] for content in found for mishap in content["mishaps"]]
        return sum(minute["calls"] for minute in minutes), mishaps

    statuses = [answered(gateway.url, customer, model, x_script=script) for script in (good, good, bad)]
    assert statuses == [200, 200, 502]
    eventually(lambda: row(gateway, only)["disabled_at"])
    eventually(lambda: figures() == (3, ["refused"]), within=15)
    with gateway.inside():
        assert services.enable(Credential.objects.get(pk=only))
    eventually(lambda: answered(gateway.url, customer, model, x_script=good) == 200)
    eventually(lambda: figures() == (4, ["refused"]), within=15)
