"""What a call costs, over HTTP: tiers, groups, prices to come, the provider's charges; and what changes in mid-call."""

import asyncio
import datetime as dt
import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
import requests
from django.utils import timezone

from billing import budgets, catalog, groups, money, prices, revisions
from billing.models import Account, BudgetOwner
from relay.models import Channel
from tests.kit import client, scripts
from tests.kit.gateway import Customer, Gateway
from tests.kit.ports import eventually, in_force
from tests.kit.upstream import Exchange, Script, Upstream

COST = 100 * 1000 + 50 * 2000  # of the usual usage at the kit's price, in nano-units


class Running:
    """A call whose provider waits for `finish`."""

    def __init__(self, upstream: Upstream, *, streamed: bool) -> None:
        self._open = threading.Event()
        self._answer: Future[requests.Response] | None = None
        self._pool = ThreadPoolExecutor(1)
        self._upstream = upstream
        self.streamed = streamed
        self.script = upstream.play(self._stream if streamed else self._whole)

    def begin(self, gateway: Gateway, token: str, **body: Any) -> None:
        """Returns once the provider has the call."""
        asked = {"x_script": self.script, "stream": self.streamed, **body}
        self._answer = self._pool.submit(client.chat, gateway.url, token, **asked)
        self._upstream.one(self.script)

    def finish(self) -> requests.Response:
        assert self._answer is not None
        self._open.set()
        answer = self._answer.result(timeout=20)
        assert answer.status_code == 200, answer.text
        if self.streamed:
            assert client.events(answer)[-1] == "[DONE]"
        return answer

    def close(self) -> None:
        self._open.set()
        self._pool.shutdown()

    async def _whole(self, exchange: Exchange) -> None:
        await asyncio.to_thread(self._open.wait, 20)
        await scripts.whole()(exchange)

    async def _stream(self, exchange: Exchange) -> None:
        first, *rest = scripts.chunks(exchange.json["model"])
        await exchange.head(200, scripts.SSE)
        await exchange.chunk(first)
        await asyncio.to_thread(self._open.wait, 20)
        for data in rest:
            await exchange.chunk(data)
        await exchange.write(b"0\r\n\r\n")


@pytest.fixture(params=[False, True], ids=["whole", "streamed"])
def running(request: pytest.FixtureRequest, upstream: Upstream) -> Iterator[Running]:
    call = Running(upstream, streamed=request.param)
    yield call
    call.close()


def cost(answer: requests.Response) -> str:
    return str(answer.json()["pisces"]["cost"])


def reporting(prompt: int, completion: int, **details: int) -> Script:
    usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    return scripts.whole(usage={**usage, "prompt_tokens_details": details})


@contextmanager
def served(gateway: Gateway, upstream: Upstream, name: str, **fields: Any) -> Iterator[Channel]:
    """A channel of the test's own for one model."""
    gateway.channel(name, upstream.url, {name: "up"}, **fields)
    with gateway.inside():
        channel = Channel.objects.get(name=name)
    yield channel
    with gateway.inside():
        Channel.objects.filter(pk=channel.pk).delete()
        revisions.bump(revisions.CHANNELS)


def offered(gateway: Gateway, token: str, name: str) -> None:
    """Waits until the server knows the model."""

    def listed() -> bool:
        headers = {"Authorization": f"Bearer {token}"}
        rows = requests.get(f"{gateway.url}/v1/models", headers=headers, timeout=5).json()["data"]
        return name in {row["id"] for row in rows}

    eventually(listed)


# ---- tiers ----------------------------------------------------------------------------------------------------------


def test_a_long_input_is_charged_wholly_at_its_tier(gateway: Gateway, upstream: Upstream, customer: Customer) -> None:
    card = {"input": "1", "cache_read": "0.5", "output": "2", "tiers": [{"above": 1000, "input": "3", "output": "5"}]}
    gateway.model("tiered", card, max_output=1000)  # type: ignore[arg-type]
    with served(gateway, upstream, "tiered"):
        offered(gateway, customer.token, "tiered")
        short, long, cached = (
            client.chat(gateway.url, customer.token, model="tiered", x_script=upstream.play(script))
            for script in (reporting(1000, 50), reporting(1001, 50), reporting(1001, 50, cached_tokens=900))
        )
    assert cost(short) == "0.0011"
    assert cost(long) == "0.003253"
    assert cost(cached) == "0.001003"
    rows = gateway.calls(customer.key)
    assert [{line.get("above", 0) for line in row["lines"]} for row in rows] == [{0}, {1000}, {1000}]
    assert all(sum(line["amount"] for line in row["lines"]) == row["cost"] for row in rows)


def test_the_hold_covers_the_dearest_tier_that_the_input_can_reach(
    gateway: Gateway, upstream: Upstream, customer: Customer
) -> None:
    gateway.model("steep", {"input": "1", "output": "2", "tiers": [{"above": 500, "output": "9"}]}, max_output=100)  # type: ignore[dict-item]
    with served(gateway, upstream, "steep"):
        offered(gateway, customer.token, "steep")
        for words in ("short", "long " * 400):
            message = [{"role": "user", "content": words}]
            assert client.chat(gateway.url, customer.token, model="steep", messages=message).status_code == 200
    short, long = gateway.calls(customer.key)
    assert short["held"] < 100 * 9000
    assert long["held"] > 100 * 9000 + 2000 * 1000


# ---- groups ---------------------------------------------------------------------------------------------------------


def test_a_group_and_its_multiplier_are_in_force_on_both_processes(pair: Gateway) -> None:
    customer = pair.customer()

    def costs(expected: int) -> Callable[[], bool]:
        text = money.to_text(expected)
        return lambda: all(cost(client.chat(server.url, customer.token)) == text for server in pair.servers)

    name = f"group-{customer.team}"
    eventually(costs(COST))
    with pair.inside():
        wallet = Account.objects.get(pk=customer.wallet)
        groups.put(wallet=wallet, group=groups.save(name=name, multiplier=800_000))
    in_force(costs(COST * 8 // 10))
    with pair.inside():
        groups.save(name=name, multiplier=1_250_000)
    in_force(costs(COST * 125 // 100))
    assert {line["multiplier"] for line in pair.calls(customer.key)[-1]["lines"]} == {1_250_000}
    with pair.inside():
        groups.put(wallet=wallet, group=None)
    in_force(costs(COST))
    assert pair.audit() == []


def test_a_call_keeps_the_multiplier_that_it_began_with(gateway: Gateway, customer: Customer, running: Running) -> None:
    running.begin(gateway, customer.token)
    (hold,) = gateway.holds(customer.wallet)
    assert hold["facts"]["multiplier"] == prices.ONE
    with gateway.inside():
        wallet = Account.objects.get(pk=customer.wallet)
        groups.put(wallet=wallet, group=groups.save(name=f"dear-{customer.team}", multiplier=100 * prices.ONE))
    dear = money.to_text(COST * 100)
    eventually(lambda: cost(client.chat(gateway.url, customer.token)) == dear)
    running.finish()
    assert gateway.calls(customer.key)[0]["cost"] == COST


def test_the_hold_is_multiplied_as_the_charge_is(gateway: Gateway, customer: Customer) -> None:
    client.chat(gateway.url, customer.token)
    with gateway.inside():
        wallet = Account.objects.get(pk=customer.wallet)
        groups.put(wallet=wallet, group=groups.save(name=f"half-{customer.team}", multiplier=500_000))
    eventually(lambda: cost(client.chat(gateway.url, customer.token)) == money.to_text(COST // 2))
    first, *_, last = gateway.calls(customer.key)
    assert abs(first["held"] - 2 * last["held"]) <= 4


def test_a_multiplier_of_zero_makes_calls_free(gateway: Gateway, customer: Customer) -> None:
    with gateway.inside():
        wallet = Account.objects.get(pk=customer.wallet)
        groups.put(wallet=wallet, group=groups.save(name=f"free-{customer.team}", multiplier=0))
    assert cost(client.chat(gateway.url, customer.token)) == "0"
    (row,) = gateway.calls(customer.key)
    assert (row["cost"], row["held"], row["usage"]["input"]) == (0, 0, 100)


def test_a_groups_own_price_counts_as_it_is_until_it_ends(pair: Gateway) -> None:
    """Without the multiplier, in the hold as in the charge, on both processes; others go on paying the list's."""
    customer, other = pair.customer(), pair.customer()

    def costs(expected: int) -> Callable[[], bool]:
        text = money.to_text(expected)
        return lambda: all(cost(client.chat(server.url, customer.token)) == text for server in pair.servers)

    with pair.inside():
        group = groups.save(name=f"own-{customer.team}", multiplier=2 * prices.ONE)
        groups.put(wallet=Account.objects.get(pk=customer.wallet), group=group)
    eventually(costs(2 * COST))
    dear = pair.calls(customer.key)[-1]
    with pair.inside():
        model = catalog.rows()["chat"]
        own = catalog.set_price(model, prices.parse_card({"input": "0.5", "output": "1"}), actor="tests", group=group)
    assert own is not None
    eventually(costs(COST // 2))
    cheap = pair.calls(customer.key)[-1]
    assert cheap["price_id"] == own.pk
    assert {line["multiplier"] for line in cheap["lines"]} == {prices.ONE}
    assert abs(dear["held"] - 4 * cheap["held"]) <= 8
    assert cost(client.chat(pair.servers[0].url, other.token)) == money.to_text(COST)
    with pair.inside():
        catalog.set_price(model, None, actor="tests", group=group)
    eventually(costs(2 * COST))
    assert pair.audit() == []


def test_a_model_with_a_groups_price_only_is_there_for_that_group_only(
    gateway: Gateway, upstream: Upstream, customer: Customer
) -> None:
    name, other = f"exclusive-{customer.team}", gateway.customer()
    with gateway.inside():
        group = groups.save(name=f"club-{customer.team}", multiplier=prices.ONE)
        groups.put(wallet=Account.objects.get(pk=customer.wallet), group=group)
        catalog.set_price(catalog.save_model(name=name), prices.parse_card({"input": "1"}), actor="t", group=group)
    with served(gateway, upstream, name):
        offered(gateway, customer.token, name)
        assert client.chat(gateway.url, customer.token, model=name).status_code == 200
        refused = client.chat(gateway.url, other.token, model=name)
        assert (refused.status_code, refused.json()["error"]["code"]) == (404, "invalid_model")


# ---- prices to come -------------------------------------------------------------------------------------------------


def test_a_call_is_settled_by_the_price_at_which_it_was_let_in(
    gateway: Gateway, upstream: Upstream, customer: Customer, running: Running
) -> None:
    name = f"planned-{customer.team}"
    gateway.model(name, {"input": "1", "output": "2"}, max_output=1000)
    with served(gateway, upstream, name):
        with gateway.inside():
            moment = timezone.now() + dt.timedelta(seconds=1.6)
            row = catalog.rows()[name]
            catalog.set_price(row, prices.parse_card({"input": "5", "output": "5"}), actor="t", valid_from=moment)
        offered(gateway, customer.token, name)
        running.begin(gateway, customer.token, model=name)
        assert timezone.now() < moment
        time.sleep((moment - timezone.now()).total_seconds() + 0.01)
        after = client.chat(gateway.url, customer.token, model=name)
        running.finish()
    assert cost(after) == money.to_text(150 * 5000)
    early, late = gateway.calls(customer.key)
    assert (early["cost"], late["cost"]) == (COST, 150 * 5000)
    assert early["price_id"] != late["price_id"]


# ---- what the provider charges us -----------------------------------------------------------------------------------


def test_an_attempt_knows_what_it_cost_us(
    gateway: Gateway, upstream: Upstream, customer: Customer, running: Running
) -> None:
    name = f"costly-{customer.team}"
    gateway.model(name, {"input": "1", "output": "2"}, max_output=1000)
    with served(gateway, upstream, name, costs={name: {"input": "0.10", "output": "0.40"}}):
        offered(gateway, customer.token, name)
        running.begin(gateway, customer.token, model=name)
        running.finish()
    (row,) = gateway.calls(customer.key)
    (attempt,) = row["attempts"]
    assert (attempt["cost"], attempt["usage_source"]) == (100 * 100 + 50 * 400, "reported")
    assert attempt["usage"] == row["usage"] == {"input": 100, "output": 50}


def test_what_an_attempt_cost_us_is_unknown_without_a_card_or_without_usage(
    gateway: Gateway, upstream: Upstream, customer: Customer
) -> None:
    script = upstream.play(scripts.in_turn(scripts.error(500), scripts.whole()))
    assert client.chat(gateway.url, customer.token, model="two-channels", x_script=script).status_code == 200
    failed, served = gateway.calls(customer.key)[0]["attempts"]
    assert (failed["usage"], failed["usage_source"], failed["cost"]) == (None, "none", None)
    assert (served["usage"], served["usage_source"], served["cost"]) == ({"input": 100, "output": 50}, "reported", None)


# ---- what is changed while a call runs ------------------------------------------------------------------------------


def removed_budget(gateway: Gateway, customer: Customer) -> None:
    gateway.change_key(customer.key, "change")


def lowered_budget(gateway: Gateway, customer: Customer) -> None:
    gateway.change_key(customer.key, "change", quota=1)


def lowered_team_budget(gateway: Gateway, customer: Customer) -> None:
    with gateway.inside():
        budgets.set_cap(owner=BudgetOwner.TEAM, owner_id=customer.team, window="day", cap=0)


def revoked_key(gateway: Gateway, customer: Customer) -> None:
    gateway.change_key(customer.key, "revoke")


def dearer_price(gateway: Gateway, customer: Customer) -> None:
    gateway.model(f"changed-{customer.team}", {"input": "900", "output": "900"})


def withdrawn_model(gateway: Gateway, customer: Customer) -> None:
    with gateway.inside():
        catalog.save_model(name=f"changed-{customer.team}", active=False)


def deleted_channel(gateway: Gateway, customer: Customer) -> None:
    with gateway.inside():
        Channel.objects.filter(name=f"changed-{customer.team}").delete()
        revisions.bump(revisions.CHANNELS)


CHANGES = (removed_budget, lowered_budget, lowered_team_budget, revoked_key, dearer_price, withdrawn_model)


@pytest.mark.parametrize("change", [*CHANGES, deleted_channel], ids=lambda change: change.__name__)
def test_a_call_ends_well_whatever_is_changed_in_its_middle(
    gateway: Gateway,
    upstream: Upstream,
    running: Running,
    change: Callable[[Gateway, Customer], None],
) -> None:
    customer = gateway.customer(quota=5_000_000)
    name = f"changed-{customer.team}"
    gateway.model(name, {"input": "1", "output": "2"}, max_output=1000)
    with gateway.inside():
        budgets.set_cap(owner=BudgetOwner.TEAM, owner_id=customer.team, window="day", cap=10**9)
    with served(gateway, upstream, name):
        offered(gateway, customer.token, name)
        running.begin(gateway, customer.token, model=name)
        change(gateway, customer)
        obeyed = lambda: cost_or_refusal(gateway, customer.token, name) != "0.0002"  # noqa: E731
        if change is not removed_budget:  # all others have something to say to the next call
            eventually(obeyed)
        running.finish()
    first = gateway.calls(customer.key)[0]
    assert (first["state"], first["cost"]) == ("settled", COST)
    assert gateway.wallet(customer.wallet)["held"] == 0
    assert all(row["held"] == 0 for row in gateway.budgets(customer.key))
    assert gateway.audit() == []


def cost_or_refusal(gateway: Gateway, token: str, model: str) -> str:
    answer = client.chat(gateway.url, token, model=model)
    content = json.loads(answer.content)
    return str(content["pisces"]["cost"] if answer.status_code == 200 else content["error"]["code"])
