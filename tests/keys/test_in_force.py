"""What is decided about a key is in force within a second, on every process."""

import datetime as dt
import json
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from billing import budgets, revisions
from billing.models import BudgetOwner
from relay import snapshot
from relay.models import Channel
from tests.kit import client, scripts
from tests.kit.gateway import Gateway
from tests.kit.ports import PROMISE, eventually, in_force
from tests.kit.upstream import Upstream

COST = 200_000


def says(gateway: Gateway, token: str, status: int, code: str = "", **body: Any) -> Callable[[], bool]:
    def probe() -> bool:
        for server in gateway.servers:
            answer = client.chat(server.url, token, model="free", **body)
            if answer.status_code != status or (code and answer.json()["error"]["code"] != code):
                return False
        return True

    return probe


def test_a_process_looks_for_changes_twice_in_the_time_that_is_promised() -> None:
    assert 2 * snapshot.POLL_EVERY <= PROMISE


@pytest.mark.parametrize(("verb", "word"), [("revoke", "revoked"), ("pause", "paused")])
def test_a_stopped_key_stops_on_both_processes(pair: Gateway, verb: str, word: str) -> None:
    customer = pair.customer()
    eventually(says(pair, customer.token, 200))
    pair.change_key(customer.key, verb)
    in_force(says(pair, customer.token, 401, "invalid_api_key"))
    message = client.chat(pair.url, customer.token).json()["error"]["message"]
    assert word in message
    assert customer.token not in message


def test_a_key_that_is_stopped_while_its_request_s_body_comes_has_stopped(pair: Gateway) -> None:
    customer = pair.customer()
    content = json.dumps({"model": "free", "messages": client.HELLO}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {customer.token}\r\n"
    head += f"Content-Length: {len(content)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", pair.servers[0].port), timeout=20) as slow:
        slow.sendall(head.encode() + content[:-1])
        pair.change_key(customer.key, "revoke")
        time.sleep(PROMISE)
        slow.sendall(content[-1:])
        assert client.receive(slow).startswith(b"HTTP/1.1 401 ")
    assert pair.calls(customer.key) == []


def test_a_paused_key_works_again_when_resumed(pair: Gateway) -> None:
    customer = pair.customer()
    pair.change_key(customer.key, "pause")
    eventually(says(pair, customer.token, 401))
    pair.change_key(customer.key, "resume")
    in_force(says(pair, customer.token, 200))


def test_a_new_key_works_at_once_on_both_processes(pair: Gateway) -> None:
    customer = pair.customer()
    assert says(pair, customer.token, 200)()


def test_an_expired_key_stops_by_itself(pair: Gateway) -> None:
    customer = pair.customer()
    _, token = pair.issue(customer.team, expires_at=timezone.now() + dt.timedelta(seconds=1.5))
    assert says(pair, token, 200)()
    time.sleep(1.5)
    assert says(pair, token, 401, "invalid_api_key")()
    assert "has expired" in client.chat(pair.url, token).json()["error"]["message"]


def test_changed_models_endpoints_and_addresses_are_in_force(pair: Gateway) -> None:
    customer = pair.customer()
    for limits in ({"models": ["chat"]}, {"endpoints": ["models"]}, {"networks": ["203.0.113.9"]}):
        eventually(says(pair, customer.token, 200))
        pair.change_key(customer.key, "change", **limits)
        in_force(says(pair, customer.token, 403, "permission_denied"))
        pair.change_key(customer.key, "change")
    in_force(says(pair, customer.token, 200))


def test_the_forwarded_address_of_a_stranger_is_not_believed(pair: Gateway) -> None:
    customer = pair.customer()
    _, token = pair.issue(customer.team, networks=["203.0.113.9"])
    headers = {"X-Forwarded-For": "203.0.113.9", "X-Real-IP": "203.0.113.9", "Forwarded": "for=203.0.113.9"}
    assert says(pair, token, 403, "permission_denied", headers=headers)()


def test_a_new_quota_is_in_force_on_both_processes(pair: Gateway) -> None:
    customer = pair.customer()
    eventually(says(pair, customer.token, 200))
    pair.change_key(customer.key, "change", quota=1)
    refused = lambda: all(  # noqa: E731
        client.chat(server.url, customer.token, max_tokens=100).status_code == 403 for server in pair.servers
    )
    in_force(refused)


def test_a_cap_for_the_team_is_in_force_for_its_keys_on_both_processes(pair: Gateway) -> None:
    customer = pair.customer()
    eventually(says(pair, customer.token, 200))
    with pair.inside():
        budgets.set_cap(owner=BudgetOwner.TEAM, owner_id=customer.team, window="month", cap=1)
    refused = lambda: all(  # noqa: E731
        client.chat(server.url, customer.token).status_code == 403 for server in pair.servers
    )
    in_force(refused)
    assert pair.audit() == []


def test_a_channel_that_makes_no_sense_does_not_stop_the_others(pair: Gateway) -> None:
    customer = pair.customer()
    with pair.inside():
        broken = Channel.objects.create(
            name="broken", base_url="http://x", timeouts={"idle": "soon"}, models={"m": "m"}
        )
        revisions.bump(revisions.CHANNELS)
    try:
        pair.change_key(customer.key, "pause")
        in_force(says(pair, customer.token, 401))
    finally:
        with pair.inside():
            broken.delete()
            revisions.bump(revisions.CHANNELS)


def test_a_price_that_changes_is_in_force_on_both_processes(pair: Gateway) -> None:
    customer = pair.customer()
    pair.model("same-name", {"input": "3", "output": "2"})
    expected = 100 * 3000 + 50 * 2000

    def probe() -> bool:
        answers = [client.chat(server.url, customer.token, model="same-name") for server in pair.servers]
        return all(answer.json()["pisces"]["cost"] == f"0.000{expected // 100_000}" for answer in answers)

    in_force(probe)
    assert pair.audit() == []


def test_a_channel_that_moves_while_it_is_read_is_not_seen_with_the_credential_of_its_new_address(
    pair: Gateway, tmp_path: Path
) -> None:
    def move(port: int, secret: str) -> None:
        file = tmp_path / "channels.yaml"
        file.write_text(
            f"channels: [{{name: moving, protocol: openai, base_url: 'http://127.0.0.1:{port}', "
            f"api_keys: [{secret}], models: {{moving: up}}}}]"
        )
        pair.manage("apply", str(file))

    def moving(execute: Callable[..., Any], statement: str, *rest: Any) -> Any:
        found = execute(statement, *rest)
        if 'FROM "relay_channel"' in statement:
            move(2, "sk-of-the-new-address-2222")
        return found

    move(1, "sk-of-the-old-address-1111")
    with pair.inside(), connection.execute_wrapper(moving):
        (candidate,) = snapshot.load().routes["moving"]
    assert (candidate.base_url, [secret.last_four for secret in candidate.credentials]) == (
        "http://127.0.0.1:1",
        ["1111"],
    )


# ---- quotas ---------------------------------------------------------------------------------------------------------


def test_a_quota_is_kept_to_the_last_nano_unit(pair: Gateway) -> None:
    customer = pair.customer()
    exact, token = pair.issue(customer.team, quota=30_000_000)
    for _ in range(3):
        assert client.chat(pair.url, token, model="per-call").status_code == 200
    answer = client.chat(pair.url, token, model="per-call")
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "insufficient_user_quota")
    assert answer.headers["x-should-retry"] == "false"
    (budget,) = pair.budgets(exact)
    assert (budget["used"], budget["held"], budget["over"]) == (30_000_000, 0, 0)
    short, token = pair.issue(customer.team, quota=9_999_999)
    assert client.chat(pair.url, token, model="per-call").status_code == 403
    assert pair.budgets(short)[0]["used"] == 0
    assert pair.audit() == []


def test_a_spent_quota_stops_even_a_free_model(pair: Gateway) -> None:
    customer = pair.customer()
    _, token = pair.issue(customer.team, quota=10_000_000)
    assert client.chat(pair.url, token, model="per-call").status_code == 200
    assert client.chat(pair.url, token, model="free").status_code == 403


def test_a_metered_call_is_asked_for_no_more_than_the_quota_pays(pair: Gateway, upstream: Upstream) -> None:
    customer = pair.customer()
    key, token = pair.issue(customer.team, quota=1_000_000)
    script = upstream.play(scripts.whole())
    assert client.chat(pair.url, token, x_script=script).status_code == 200
    assert 16 <= upstream.one(script).json["max_tokens"] < 500
    assert pair.budgets(key)[0]["used"] == COST
    assert pair.calls(key)[0]["held"] <= 1_000_000


@pytest.mark.parametrize(("window", "days"), [("day", 1), ("week", 7), ("month", 31)])
def test_a_window_that_ended_gives_its_room_back(pair: Gateway, window: str, days: int) -> None:
    from billing.models import Budget, Hold

    customer = pair.customer()
    key, token = pair.issue(customer.team, quota=10_000_000, window=window)
    assert client.chat(pair.url, token, model="per-call").status_code == 200
    assert client.chat(pair.url, token, model="per-call").status_code == 403
    with pair.inside():
        budget = Budget.objects.get(owner_id=key, owner_kind="key")
        began = budget.starts_at
        earlier = began - dt.timedelta(days=days)
        Budget.objects.filter(pk=budget.pk).update(starts_at=earlier)
        Hold.objects.filter(account_id=customer.wallet).update(budgets=[[budget.pk, int(earlier.timestamp())]])
    assert client.chat(pair.url, token, model="per-call").status_code == 200
    (row,) = pair.budgets(key)
    assert (row["used"], row["starts_at"]) == (10_000_000, began)
    assert pair.audit() == []


def test_a_total_never_ends(pair: Gateway) -> None:
    customer = pair.customer()
    key, token = pair.issue(customer.team, quota=10_000_000)
    assert client.chat(pair.url, token, model="per-call").status_code == 200
    assert pair.budgets(key)[0]["starts_at"].year == 1970
    assert client.chat(pair.url, token, model="per-call").status_code == 403


def test_another_key_of_the_team_is_not_held_to_the_quota(pair: Gateway) -> None:
    customer = pair.customer()
    _, token = pair.issue(customer.team, quota=1)
    assert client.chat(pair.url, token, model="per-call").status_code == 403
    assert client.chat(pair.url, customer.token, model="per-call").status_code == 200
