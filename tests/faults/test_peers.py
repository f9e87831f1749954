"""The money failures that users of other gateways report (numbers 1 to 13 of our list), each shown not to happen here.

10 (a task's refund), 11 (a payment's callback) and 12 (redeem codes) are about things that do not exist yet; what they
will stand on is tested here, and they get tests of their own with the things themselves.
"""

import collections
import threading
from collections.abc import Callable
from typing import Any

import pytest
import requests
from django.db import connection
from django.test import Client

from billing import ledger
from billing.models import Account, Hold, Transfer
from relay import tasks
from tests.kit import client, load, scripts
from tests.kit.gateway import Customer, Gateway
from tests.kit.plugin import PRICE
from tests.kit.ports import eventually
from tests.kit.upstream import Upstream

COST = 200_000
FULL = 10 * 10**9


def ask(gateway: Gateway, customer: Customer, upstream: Upstream, script: Any, **body: Any) -> requests.Response:
    return client.chat(gateway.url, customer.token, x_script=upstream.play(script), **body)


def last(gateway: Gateway, customer: Customer) -> dict[str, Any]:
    return gateway.calls(customer.key)[-1]


def at_once(gateway: Gateway, count: int, work: Callable[[], object]) -> list[object]:
    """What `work` returned or raised in so many threads, each with a connection of its own."""
    found: list[object] = []

    def run() -> None:
        try:
            found.append(work())
        except Exception as error:
            found.append(error)
        finally:
            connection.close()

    with gateway.inside():
        threads = [threading.Thread(target=run) for _ in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    return found


def test_peer_01_overdraft_under_concurrency(gateway: Gateway, upstream: Upstream) -> None:
    """A cached balance, a check, a decrement without a condition; and no hold at all for the rich."""
    poor = gateway.customer("0.059999999")
    seen = load.at_once([gateway.url], poor.token, 60, model="per-call")
    assert collections.Counter(one.status for one in seen) == {200: 5, 403: 55}
    rich = gateway.customer("1000000", quota=70_000_000)
    script = upstream.play(scripts.whole(after=0.3))
    seen = load.at_once([gateway.url], rich.token, 60, model="per-call", x_script=script)
    assert collections.Counter(one.status for one in seen) == {200: 7, 403: 53}
    assert len(gateway.holds(rich.wallet)) == 7, "no trust bypasses a hold"
    assert gateway.audit() == []


def test_peer_02_pre_charge_never_returned(gateway: Gateway, customer: Customer, upstream: Upstream) -> None:
    """Failures that forgot the refund: an error without a flag, an answer without usage, a panic."""
    for script in (
        scripts.error(500), scripts.error(400), scripts.hang_up, scripts.noise, scripts.half_a_body, scripts.cut(0),
        scripts.body(b"{}"), scripts.body(b'{"choices": []}'), scripts.body(b"\xff"), scripts.error(429),
    ):  # fmt: skip
        for streamed in (False, True):
            ask(gateway, customer, upstream, script, stream=streamed)
    assert gateway.wallet(customer.wallet)["balance"] == FULL
    assert {hold["state"] for hold in gateway.holds(customer.wallet)} == {"voided"}


def test_peer_03_phantom_budget_exceeded(gateway: Gateway, upstream: Upstream) -> None:
    """Reservations in a counter that some ways of ending do not give back: spent budgets that nobody has spent."""
    customer = gateway.customer(quota=10_000_000)  # one call of `per-call`
    for _ in range(10):
        assert ask(gateway, customer, upstream, scripts.error(500), model="per-call").status_code == 502
    with client.open_socket(
        gateway.url, customer.token, {"model": "per-call", "x_script": upstream.play(scripts.silence)}
    ):
        assert eventually(lambda: gateway.budgets(customer.key)[0]["held"] == 10_000_000)
    eventually(lambda: gateway.budgets(customer.key)[0]["held"] == 0)
    assert ask(gateway, customer, upstream, scripts.whole(), model="per-call").status_code == 200
    assert ask(gateway, customer, upstream, scripts.whole(), model="per-call").status_code == 403
    (budget,) = gateway.budgets(customer.key)
    assert (budget["used"], budget["held"]) == (10_000_000, 0)
    assert gateway.audit() == []


def test_peer_04_interrupted_stream_billed_zero(gateway: Gateway, customer: Customer, upstream: Upstream) -> None:
    """The client hangs up before the usage comes: nothing is charged, and nothing is even recorded."""
    script = upstream.play(scripts.endless())
    with client.open_socket(gateway.url, customer.token, {"stream": True, "x_script": script}) as connected:
        received = b""
        while b"word" not in received:
            received += connected.recv(65536)
    eventually(lambda: gateway.calls(customer.key))
    call = last(gateway, customer)
    assert (call["state"], call["usage_source"]) == ("left", "counted")
    assert 0 < call["cost"] == gateway.spent(customer) <= call["held"]


def test_peer_05_failed_or_partial_stream_overcharged(gateway: Gateway, customer: Customer, upstream: Upstream) -> None:
    """An error's text counted as output; a reported zero taken for a missing report."""
    words = scripts.chunks("up-chat")[:3]
    long_error = scripts.event({"error": {"message": "overloaded " * 2000}})
    costs = []
    for script in (scripts.stream(words), scripts.stream([*words, long_error])):
        ask(gateway, customer, upstream, script, stream=True)
        costs.append(last(gateway, customer)["cost"])
    assert costs[0] == costs[1] > 0
    zero = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    for script, streamed in ((scripts.whole(usage=zero), False), (scripts.stream(usage=zero), True)):
        assert ask(gateway, customer, upstream, script, stream=streamed).status_code == 200
        call = last(gateway, customer)
        assert (call["cost"], call["usage_source"], call["error"]) == (0, "reported", "zero_usage")


def test_peer_06_no_usage_no_charge(gateway: Gateway, customer: Customer, upstream: Upstream) -> None:
    for script, streamed in ((scripts.whole(usage=None), False), (scripts.stream(usage=None), True)):
        answer = ask(gateway, customer, upstream, script, stream=streamed)
        assert answer.status_code == 200
        call = last(gateway, customer)
        assert (call["state"], call["usage_source"]) == ("settled", "counted")
        assert 0 < call["cost"] <= call["held"]
    asked = upstream.exchanges[-1].json
    assert asked["stream_options"]["include_usage"] is True, "usage is asked for whether or not the client does"


def test_peer_07_cache_tokens_mispriced(gateway: Gateway, customer: Customer, upstream: Upstream) -> None:
    """Cached tokens that are part of the input charged twice, or taken off until the price is negative."""
    for cached, owed in ((0, COST), (40, 180_000), (100, 150_000), (16_638, 150_000)):
        usage = {**scripts.USAGE, "prompt_tokens_details": {"cached_tokens": cached}}
        for script, streamed in ((scripts.whole(usage=usage), False), (scripts.stream(usage=usage), True)):
            ask(gateway, customer, upstream, script, stream=streamed)
            call = last(gateway, customer)
            assert call["cost"] == owed, (cached, streamed)
            assert sum(call["usage"].values()) == 150, "each token is in one bucket"


def test_peer_08_unpriced_model_costs_nothing(gateway: Gateway, customer: Customer, upstream: Upstream) -> None:
    script = scripts.whole()
    before = len(upstream.exchanges)
    answer = ask(gateway, customer, upstream, script, model="unpriced")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "invalid_model")
    listed = requests.get(
        f"{gateway.url}/v1/models", headers={"Authorization": f"Bearer {customer.token}"}, timeout=20
    ).json()["data"]
    assert "unpriced" not in {model["id"] for model in listed}
    assert "free" in {model["id"] for model in listed}, "free is a price that somebody wrote"
    assert len(upstream.exchanges) == before


def test_peer_09_spend_rows_lost_to_deadlocks(pair: Gateway) -> None:
    """Queues emptied before they were written, deadlocks of writers of the same totals: no charge goes missing."""
    customers = [pair.customer() for _ in range(3)]
    keys = {customer.key: pair.issue(customer.team)[1] for customer in customers}
    urls = [server.url for server in pair.servers]
    threads = [
        threading.Thread(target=load.at_once, args=(urls, token, 40))
        for customer in customers
        for token in (customer.token, keys[customer.key])
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    for customer in customers:
        charges = [row for row in pair.transfers(customer.wallet) if row["kind"] == "charge"]
        assert len(charges) == len(pair.holds(customer.wallet)) == 80
        assert pair.wallet(customer.wallet)["balance"] == FULL - 80 * COST
    assert pair.audit() == []


def test_peer_10_task_refund_missing_or_doubled(gateway: Gateway, customer: Customer, upstream: Upstream) -> None:
    """Several sweeps, and an owner that is not dead after all, resolve one hold: it is given back once."""
    script = upstream.play(scripts.whole(after=1.0))
    thread = threading.Thread(target=client.chat, args=(gateway.url, customer.token), kwargs={"x_script": script})
    thread.start()
    upstream.one(script)
    with gateway.inside():
        (number,) = Hold.objects.filter(account_id=customer.wallet).values_list("pk", flat=True)
        long_ago = "2020-01-01T00:00:00Z"
        progress = {"attempt": 1, "answering": True, "usage": {"input": 1}}
        Hold.objects.filter(pk=number).update(lease_until=long_ago, suspected_at=long_ago, progress=progress)
    closed = at_once(gateway, 4, tasks.sweep_holds)
    thread.join(30)
    assert sum(found for found in closed if isinstance(found, int)) == 1
    assert gateway.wallet(customer.wallet)["held"] == 0
    assert len(gateway.calls(customer.key)) == 1
    assert gateway.wallet(customer.wallet)["balance"] == FULL - gateway.spent(customer)


def test_peer_11_forged_top_up_callback(gateway: Gateway, customer: Customer) -> None:
    """Without a provider's secrets nobody takes its messages (forged ones: tests/payments); a payment counts once."""
    with gateway.inside():
        for path in ("/webhooks/stripe/", "/webhooks/epay/", "/webhooks/nobody/", "/stripe/webhook"):
            answer = Client().post(path, {"paid": True, "team": customer.team}, content_type="application/json")
            assert answer.status_code == 404, path
    assert gateway.wallet(customer.wallet)["balance"] == FULL

    def pay() -> Transfer:
        wallet = Account.objects.get(pk=customer.wallet)
        return ledger.credit(wallet=wallet, amount=5, actor="a provider", reason="paid", reference=f"e-{customer.key}")

    found = at_once(gateway, 6, pay)
    assert sum(isinstance(each, Transfer) for each in found) == 1
    assert sum(isinstance(each, ledger.AlreadyPosted) for each in found) == 5
    assert gateway.wallet(customer.wallet)["balance"] == FULL + 5


def test_peer_12_row_locks_that_do_not_lock(gateway: Gateway, customer: Customer) -> None:
    """The whole balance is taken by six at once: one gets it."""

    def take() -> Transfer:
        wallet = Account.objects.get(pk=customer.wallet)
        return ledger.adjust(wallet=wallet, amount=-FULL, actor="tests", reason="all of it")

    found = at_once(gateway, 6, take)
    assert sum(isinstance(each, Transfer) for each in found) == 1
    assert sum(isinstance(each, ledger.InsufficientFunds) for each in found) == 5
    assert gateway.wallet(customer.wallet)["balance"] == 0


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_peer_13_bill_explanation_contradicts_the_charge(
    gateway: Gateway, customer: Customer, upstream: Upstream, streamed: bool
) -> None:
    """Pages that compute a price anew show another one than was charged; ours show the lines that were."""
    name = f"explained-{customer.key}"
    gateway.model(name, {**PRICE, "input": "0.333333333"}, max_output=1000)
    gateway.channel(name, upstream.url, {name: "up-explained"})
    usage = {**scripts.USAGE, "prompt_tokens": 7, "prompt_tokens_details": {"cached_tokens": 3}}
    script = scripts.stream(usage=usage) if streamed else scripts.whole(usage=usage)
    eventually(lambda: ask(gateway, customer, upstream, script, model=name, stream=streamed).status_code == 200)
    call = last(gateway, customer)
    gateway.model(name, {"input": "900", "output": "900"}, max_output=1000)
    again = last(gateway, customer)
    assert again["lines"] == call["lines"]
    assert sum(line["amount"] for line in again["lines"]) == again["cost"] == gateway.spent(customer)
    assert {line["bucket"]: line["quantity"] for line in again["lines"]} == again["usage"]
    exact = sum(line["quantity"] * line["rate"] * line["multiplier"] for line in again["lines"])
    assert again["cost"] == -(-exact // 10**12)
