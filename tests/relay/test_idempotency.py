"""`Idempotency-Key`: the same request is answered once and charged once, however often it is sent (requirement F3)."""

import asyncio
import datetime as dt
import json
import uuid
from collections import Counter
from typing import Any

import aiohttp
import pytest
import requests

from relay.urls import ROUTES
from tests.kit import client, scripts
from tests.kit.gateway import Customer, Gateway
from tests.kit.ports import eventually
from tests.kit.upstream import Upstream

COST = 100 * 1000 + 50 * 2000
KINDS = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])


def ask(gateway: Gateway, customer: Customer, key: str, **body: Any) -> requests.Response:
    headers = {"Idempotency-Key": key, **body.pop("headers", {})}
    return client.chat(gateway.url, customer.token, headers=headers, **body)


def fresh() -> str:
    return str(uuid.uuid4())


def code(answer: requests.Response) -> tuple[int, str, str]:
    error = answer.json()["error"]
    return answer.status_code, error["code"], error["type"]


def is_replay(answer: requests.Response) -> bool:
    return answer.headers.get("Idempotent-Replayed") == "true"


def charged(gateway: Gateway, customer: Customer) -> list[int]:
    return [row["amount"] for row in gateway.transfers(customer.wallet)]


@KINDS
def test_the_same_request_is_answered_with_the_same_bytes_and_charged_once(
    gateway: Gateway, customer: Customer, upstream: Upstream, streamed: bool
) -> None:
    key, script = fresh(), upstream.play(scripts.default)
    first = ask(gateway, customer, key, stream=streamed, x_script=script)
    again = [ask(gateway, customer, key, stream=streamed, x_script=script) for _ in range(3)]
    assert (first.status_code, is_replay(first)) == (200, False)
    for answer in again:
        assert (answer.status_code, answer.content, is_replay(answer)) == (200, first.content, True)
        for name in ("Content-Type", "X-Pisces-Channel", "X-Pisces-Cost"):
            assert answer.headers.get(name) == first.headers.get(name)
    assert len(upstream.served(script)) == 1
    assert charged(gateway, customer) == [COST]
    assert len(gateway.calls(customer.key)) == 1


@KINDS
def test_another_request_with_the_same_key_is_refused(
    gateway: Gateway, customer: Customer, upstream: Upstream, streamed: bool
) -> None:
    key, script = fresh(), upstream.play(scripts.default)
    ask(gateway, customer, key, stream=streamed, x_script=script)
    others: list[dict[str, Any]] = [{"temperature": 0.5}, {"model": "same-name"}, {"stream": not streamed}]
    for other in others:
        answer = ask(gateway, customer, key, **{"stream": streamed, "x_script": script, **other})
        assert code(answer) == (422, "idempotency_key_reused", "idempotency_error")
    assert charged(gateway, customer) == [COST]


@pytest.mark.parametrize("queries", [("?alt=sse", ""), ("", "?alt=sse"), ("?alt=sse", "?alt=json")])
def test_another_framing_of_a_stream_is_another_request(
    gateway: Gateway, customer: Customer, queries: tuple[str, str]
) -> None:
    """Whoever asks for one array is not answered with events, nor the reverse."""
    url, key = f"{gateway.url}/v1beta/models/chat:streamGenerateContent", fresh()
    headers = {"Authorization": f"Bearer {customer.token}", "Idempotency-Key": key}
    body = {"contents": [{"role": "user", "parts": [{"text": "Hello"}]}]}
    first, again, other = (
        requests.post(url + query, json=body, headers=headers, timeout=30) for query in (queries[0], *queries)
    )
    assert (again.content, is_replay(again)) == (first.content, True)
    assert (other.status_code, other.json()["error"]["details"][0]["reason"]) == (422, "IDEMPOTENCY_KEY_REUSED")
    assert charged(gateway, customer) == [COST]


def test_a_body_that_differs_only_in_spacing_is_the_same_request(gateway: Gateway, customer: Customer) -> None:
    key = fresh()
    body: dict[str, Any] = {"model": "chat", "messages": [{"role": "user", "content": "two  spaces\n"}]}
    texts = [json.dumps(body), json.dumps(body, indent=4), json.dumps(body, separators=(",", ":")) + "\n\n"]
    first, *again = [client.post(gateway.url, customer.token, t.encode(), **{"Idempotency-Key": key}) for t in texts]
    assert [answer.content for answer in again] == [first.content] * 2
    body["messages"][0]["content"] = "two spaces\n"
    other = client.post(gateway.url, customer.token, json.dumps(body).encode(), **{"Idempotency-Key": key})
    assert code(other)[0] == 422


def test_a_path_s_other_spelling_is_the_same_endpoint(gateway: Gateway, customer: Customer) -> None:
    key = fresh()
    first = ask(gateway, customer, key)
    assert ask(gateway, customer, key, path="/chat/completions").content == first.content
    assert charged(gateway, customer) == [COST]


@KINDS
def test_a_duplicate_of_a_running_request_is_told_to_wait_and_then_gets_its_answer(
    gateway: Gateway, customer: Customer, upstream: Upstream, streamed: bool
) -> None:
    key, script = fresh(), upstream.play(scripts.stream(pause=0.2) if streamed else scripts.whole(after=0.8))
    body = {"stream": streamed, "x_script": script}
    with (
        requests.Session() as session,
        session.post(
            f"{gateway.url}/v1/chat/completions",
            json={"model": "chat", "messages": client.HELLO, **body},
            headers={"Authorization": f"Bearer {customer.token}", "Idempotency-Key": key},
            stream=True,
            timeout=20,
        )
        if streamed
        else client.open_socket(gateway.url, customer.token, body, headers={"Idempotency-Key": key}),
    ):
        upstream.one(script)
        waiting = ask(gateway, customer, key, **body)
        assert code(waiting) == (409, "idempotency_key_in_use", "idempotency_error")
        assert waiting.headers["Retry-After"] == "1"
        eventually(lambda: gateway.calls(customer.key))
    answer = ask(gateway, customer, key, **body)
    assert (answer.status_code, is_replay(answer)) == (200, True)
    assert len(upstream.served(script)) == 1
    assert charged(gateway, customer) == [COST]


@KINDS
def test_many_duplicates_at_once_on_two_processes_are_executed_once(
    pair: Gateway, upstream: Upstream, streamed: bool
) -> None:
    customer, script = (
        pair.customer(),
        upstream.play(scripts.stream(pause=0.02) if streamed else scripts.whole(after=0.1)),
    )
    keys = [fresh() for _ in range(4)]

    async def scene() -> list[tuple[str, int, bytes]]:
        async def one(session: aiohttp.ClientSession, key: str, number: int) -> tuple[str, int, bytes]:
            url = f"{pair.servers[number % 2].url}/v1/chat/completions"
            content = {"model": "chat", "messages": client.HELLO, "stream": streamed, "x_script": script}
            headers = {"Authorization": f"Bearer {customer.token}", "Idempotency-Key": key}
            async with session.post(url, json=content, headers=headers) as answer:
                return key, answer.status, await answer.read()

        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector, trust_env=False) as session:
            return await asyncio.gather(*(one(session, keys[n % 4], n // 4) for n in range(80)))

    seen = asyncio.run(scene())
    assert {status for _, status, _ in seen} <= {200, 409}
    for key in keys:
        assert len({body for k, status, body in seen if k == key and status == 200}) == 1
    assert len(upstream.served(script)) == 4
    assert charged(pair, customer) == [COST] * 4
    assert pair.audit() == []


@KINDS
@pytest.mark.parametrize("fault", [scripts.error(500), scripts.error(400), scripts.hang_up])
def test_a_call_that_cost_nothing_frees_its_key(
    gateway: Gateway, customer: Customer, upstream: Upstream, fault: Any, streamed: bool
) -> None:
    key, script = fresh(), upstream.play(scripts.in_turn(fault, scripts.default))
    failed = ask(gateway, customer, key, stream=streamed, x_script=script)
    assert failed.status_code >= 400
    answer = ask(gateway, customer, key, stream=streamed, x_script=script)
    assert (answer.status_code, is_replay(answer)) == (200, False)
    assert charged(gateway, customer) == [COST]
    assert ask(gateway, customer, key, stream=streamed, x_script=script).content == answer.content


def test_a_call_that_could_not_be_paid_leaves_its_key_free(gateway: Gateway, upstream: Upstream) -> None:
    poor, key = gateway.customer(credit="0"), fresh()
    assert code(ask(gateway, poor, key, model="per-call"))[0] == 403
    gateway.credit(poor.wallet, "1")
    assert ask(gateway, poor, key, model="per-call").status_code == 200


def test_a_stream_that_broke_off_after_output_is_replayed_with_its_error_and_not_paid_twice(
    gateway: Gateway, customer: Customer, upstream: Upstream
) -> None:
    key, script = fresh(), upstream.play(scripts.cut(4))
    first = ask(gateway, customer, key, stream=True, x_script=script)
    again = ask(gateway, customer, key, stream=True, x_script=script)
    assert (again.content, is_replay(again)) == (first.content, True)
    assert b"upstream_error" in again.content
    assert len(charged(gateway, customer)) == 1
    assert len(upstream.served(script)) == 1


@KINDS
def test_a_client_that_hung_up_finds_the_whole_answer_when_it_asks_again(
    gateway: Gateway, customer: Customer, upstream: Upstream, streamed: bool
) -> None:
    """Whoever brings a key means to ask again, so the upstream is read to its end though the channel would cancel."""
    key, script = fresh(), upstream.play(scripts.stream(pause=0.1) if streamed else scripts.whole(after=0.5))
    body = {"stream": streamed, "x_script": script}
    connection = client.open_socket(gateway.url, customer.token, body, headers={"Idempotency-Key": key})
    upstream.one(script)
    connection.close()
    (call,) = eventually(lambda: gateway.calls(customer.key))
    assert (call["state"], call["usage_source"], call["cost"]) == ("left", "reported", COST)
    answer = ask(gateway, customer, key, **body)
    assert (answer.status_code, is_replay(answer)) == (200, True)
    if streamed:
        assert client.text(client.events(answer)) == "Hello, world."
    else:
        assert answer.json()["choices"][0]["message"]["content"] == "Hello, world."
    assert charged(gateway, customer) == [COST]


def test_the_answer_survives_a_kill_of_the_server_that_gave_it(breakable: Gateway, upstream: Upstream) -> None:
    customer, key = breakable.customer(), fresh()
    breakable.start()
    first = ask(breakable, customer, key, stream=True)
    breakable.servers[0].kill()
    breakable.servers.clear()
    breakable.start()
    assert ask(breakable, customer, key, stream=True).content == first.content
    assert charged(breakable, customer) == [COST]


def test_a_call_that_was_killed_keeps_its_key_until_its_money_is_decided(
    breakable: Gateway, upstream: Upstream
) -> None:
    from billing.models import Hold
    from relay import recovery

    customer = breakable.customer()
    lost, unclear = fresh(), fresh()
    breakable.start()
    sent, silent = upstream.play(scripts.stalling_after(3)), upstream.play(scripts.silence)
    one = client.open_socket(
        breakable.url, customer.token, {"stream": True, "x_script": sent}, headers={"Idempotency-Key": lost}
    )
    two = client.open_socket(breakable.url, customer.token, {"x_script": silent}, headers={"Idempotency-Key": unclear})
    received = b""
    while b"Hello" not in received:
        received += one.recv(65536)
    upstream.one(silent)
    breakable.servers[0].kill()
    for connection in (one, two):
        connection.close()
    breakable.servers.clear()
    breakable.start()
    running = ask(breakable, customer, lost, stream=True, x_script=sent)
    assert (code(running)[:2], running.headers["Retry-After"]) == ((409, "idempotency_key_in_use"), "1")
    assert breakable.sweep(later=120) == 2
    paid = ask(breakable, customer, lost, stream=True, x_script=sent)
    assert code(paid) == (409, "idempotency_answer_not_stored", "idempotency_error")
    assert paid.headers["x-should-retry"] == "false"
    waiting = ask(breakable, customer, unclear, x_script=silent)
    assert (code(waiting)[:2], waiting.headers["Retry-After"]) == ((409, "idempotency_key_in_use"), "60")
    with breakable.inside():
        recovery.resolve(hold=Hold.objects.get(state="review"), charged=0, actor="root", reason="not on the bill")
    free = ask(breakable, customer, unclear, x_script=upstream.play(scripts.whole()))
    assert free.status_code == 200
    assert breakable.audit() == []


def test_keys_are_the_wallet_s_own(gateway: Gateway, customer: Customer) -> None:
    key = fresh()
    first = ask(gateway, customer, key)
    _, colleague = gateway.issue(customer.team)
    same = client.chat(gateway.url, colleague, headers={"Idempotency-Key": key})
    assert same.content == first.content
    stranger = gateway.customer()
    other = ask(gateway, stranger, key)
    assert (other.status_code, is_replay(other)) == (200, False)
    assert charged(gateway, stranger) == [COST]


def test_a_key_that_may_not_ask_gets_no_stored_answer(gateway: Gateway, customer: Customer) -> None:
    key = fresh()
    ask(gateway, customer, key)
    _, restricted = gateway.issue(customer.team, type="restricted", models=["same-name"])
    _, revoked = gateway.issue(customer.team)
    gateway.change_key(_key_of(gateway, revoked), "revoke")
    refused = client.chat(gateway.url, restricted, headers={"Idempotency-Key": key})
    assert code(refused)[:2] == (403, "permission_denied")
    eventually(lambda: client.chat(gateway.url, revoked, headers={"Idempotency-Key": key}).status_code == 401)


def _key_of(gateway: Gateway, token: str) -> int:
    from keys import services
    from keys.models import ApiKey

    with gateway.inside():
        return ApiKey.objects.get(digest=services.digest(token)).pk


def test_what_is_paid_for_is_replayed_whatever_became_of_the_wallet_and_the_model(
    gateway: Gateway, upstream: Upstream
) -> None:
    from billing.models import Account

    customer, key = gateway.customer(credit="0.0105"), fresh()
    first = ask(gateway, customer, key, model="per-call")
    assert first.status_code == 200
    with gateway.inside():
        Account.objects.filter(pk=customer.wallet).update(frozen="by an administrator")
    assert ask(gateway, customer, key, model="per-call").content == first.content
    assert ask(gateway, customer, fresh(), model="per-call").status_code == 403
    gateway.model("short-lived", {"input": "1", "output": "1"})
    gateway.channel("short-lived", upstream.url, {"short-lived": "x"})
    other, again = gateway.customer(), fresh()
    eventually(lambda: client.chat(gateway.url, other.token, model="short-lived").status_code == 200)
    first = ask(gateway, other, again, model="short-lived")
    gateway.model("short-lived", None, active=False)
    eventually(lambda: client.chat(gateway.url, other.token, model="short-lived").status_code == 404)
    assert ask(gateway, other, again, model="short-lived").content == first.content


@pytest.mark.parametrize("key", ["", "x" * 256, "x" * 10_000, "two words", "tab\tbed", "schlüssel".encode()])
def test_a_key_that_is_no_key_is_refused_and_costs_nothing(
    gateway: Gateway, customer: Customer, key: str | bytes
) -> None:
    answer = client.chat(gateway.url, customer.token, headers={"Idempotency-Key": key})
    assert code(answer) == (400, "invalid_parameter", "invalid_request_error")
    assert answer.json()["error"]["param"] == "Idempotency-Key"
    assert gateway.holds(customer.wallet) == []


def test_the_longest_key_is_a_key(gateway: Gateway, customer: Customer) -> None:
    key = "x" * 255
    first = ask(gateway, customer, key)
    assert ask(gateway, customer, key).content == first.content


def test_bad_requests_claim_nothing(gateway: Gateway, customer: Customer) -> None:
    key = fresh()
    assert ask(gateway, customer, key, messages=[]).status_code == 400
    assert ask(gateway, customer, key, model="nobody-has-it").status_code == 404
    assert ask(gateway, customer, key).status_code == 200


def test_a_key_is_forgotten_after_a_day(gateway: Gateway, customer: Customer) -> None:
    from billing.models import IdempotencyKey
    from relay import tasks
    from relay.models import StoredAnswer

    old, young = fresh(), fresh()
    first, kept = ask(gateway, customer, old), ask(gateway, customer, young)
    with gateway.inside():
        before = dt.datetime.now(dt.UTC) - dt.timedelta(hours=24, seconds=1)
        row = IdempotencyKey.objects.filter(account_id=customer.wallet, key=old)
        call = row.get().hold_id
        row.update(created_at=before)
        StoredAnswer.objects.filter(pk=call).update(created_at=before)
    again = ask(gateway, customer, old)
    assert (again.status_code, is_replay(again)) == (200, False)
    assert again.content != first.content
    with gateway.inside():
        IdempotencyKey.objects.filter(account_id=customer.wallet, key=old).update(created_at=before)
        assert tasks.forget_answers() == 1
        assert not StoredAnswer.objects.filter(pk=call).exists()
        assert not IdempotencyKey.objects.filter(account_id=customer.wallet, key=old).exists()
    assert ask(gateway, customer, young).content == kept.content
    assert charged(gateway, customer) == [COST] * 3


def test_stored_answers_are_not_readable_in_the_database(gateway: Gateway, customer: Customer) -> None:
    from relay.models import StoredAnswer

    ask(gateway, customer, fresh())
    with gateway.inside():
        (hold,) = gateway.holds(customer.wallet)
        sealed = StoredAnswer.objects.get(pk=hold["id"]).sealed
    assert "Hello" not in sealed
    assert "SGVsbG8" not in sealed  # base64 of it


def test_an_answer_whose_encryption_key_was_taken_away_is_charged_once_and_said_so(
    breakable: Gateway, upstream: Upstream
) -> None:
    customer, key, script = breakable.customer(), fresh(), upstream.play(scripts.default)
    breakable.start()
    assert ask(breakable, customer, key, x_script=script).status_code == 200
    breakable.servers.pop().stop()
    breakable.start(ENCRYPTION_KEYS="another-key-" + "x" * 40)
    again = ask(breakable, customer, key, x_script=script)
    assert code(again) == (409, "idempotency_answer_not_stored", "idempotency_error")
    assert "cannot be read any more" in again.json()["error"]["message"]
    assert len(upstream.served(script)) == 1
    assert charged(breakable, customer) == [COST]


def test_an_answer_that_is_too_large_to_keep_is_charged_once_and_said_so(
    breakable: Gateway, upstream: Upstream
) -> None:
    customer = breakable.customer()
    breakable.start(MAX_STORED_ANSWER="2000")
    for streamed, script in ((False, scripts.whole(text="x" * 3000)), (True, scripts.stream(words=["word "] * 100))):
        key, name = fresh(), upstream.play(script)
        assert ask(breakable, customer, key, stream=streamed, x_script=name).status_code == 200
        again = ask(breakable, customer, key, stream=streamed, x_script=name)
        assert code(again)[:2] == (409, "idempotency_answer_not_stored")
        assert len(upstream.served(name)) == 1
    assert Counter(charged(breakable, customer)) == {COST: 2}


def test_every_route_that_may_cost_money_takes_a_key() -> None:
    free = {
        "/v1/messages/count_tokens",
        "/v1beta/models/{model}:countTokens",
        "/v1/responses/{response}/cancel",
    }
    posts = {route.path for route in ROUTES if route.method == "POST"}
    assert posts - free == {route.path for route in ROUTES if route.paid}
    assert free < posts


def test_the_spec_names_the_endpoints_that_take_a_key(gateway: Gateway) -> None:
    spec = requests.get(f"{gateway.url}/api/public/spec", timeout=20).json()
    assert {e["path"] for e in spec["endpoints"] if e["idempotency"]} == {r.path for r in ROUTES if r.paid}
    codes = {error["code"] for error in spec["errors"]}
    assert {"idempotency_key_in_use", "idempotency_key_reused", "idempotency_answer_not_stored"} <= codes
