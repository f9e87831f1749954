"""Who pays for a call, by the key's type and payment: the wallet, its credit, plans first, or nobody."""

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests

from billing import money
from tests.kit import client, load, scripts
from tests.kit.gateway import Customer, Gateway
from tests.kit.ports import eventually
from tests.kit.upstream import Upstream

PRICE = 10_000_000  # nano-units of `per-call`


@pytest.fixture(autouse=True)
def _whole(gateway: Gateway) -> Iterator[None]:
    yield
    assert gateway.audit() == []


def buy(gateway: Gateway, customer: Customer, **terms: Any) -> int:
    """A plan for the customer's team, in force in every server; its account."""
    from billing import plans
    from billing.models import PlanOffer

    usual: dict[str, Any] = {"kind": "credit", "price": 0, "value": PRICE, "days": 30, "name": uuid.uuid4().hex}
    with gateway.inside():
        offer = PlanOffer.objects.create(**{**usual, **terms})
        return plans.buy(
            team=customer.team, offer=offer, at_most=offer.price, order=uuid.uuid4(), actor="tests"
        ).account_id


def set_credit(gateway: Gateway, customer: Customer, amount: str) -> None:
    from billing.models import Account

    with gateway.inside():
        Account.objects.filter(pk=customer.wallet).update(credit_limit=money.parse(amount))


def left(gateway: Gateway, account: int) -> int:
    return int(gateway.wallet(account)["balance"])


def call(gateway: Gateway, customer: Customer, model: str = "per-call") -> requests.Response:
    return client.chat(gateway.url, customer.token, model=model)


def paid(gateway: Gateway, customer: Customer, model: str = "per-call") -> None:
    """One call, once this server knows of what was bought a moment ago."""
    eventually(lambda: call(gateway, customer, model).status_code == 200, within=3)


def test_a_plan_pays_before_the_wallet_and_the_wallet_pays_the_rest_of_the_same_call(
    gateway: Gateway, upstream: Upstream
) -> None:
    member = gateway.customer(credit="1", payment="plan")
    plan = buy(gateway, member, value=PRICE * 3 // 2)
    assert [call(gateway, member).status_code for _ in range(3)] == [200] * 3
    assert left(gateway, plan) == 0
    assert left(gateway, member.wallet) == 10**9 - 3 * PRICE + PRICE * 3 // 2
    assert [row["cost"] for row in gateway.calls(member.key)] == [PRICE] * 3


def test_several_plans_are_drawn_by_their_ends_down_to_the_last_unit(gateway: Gateway) -> None:
    member = gateway.customer(credit="0", payment="plan")
    late = buy(gateway, member, value=2 * PRICE, days=60)
    soon = buy(gateway, member, value=PRICE * 3 // 2, days=5)
    paid(gateway, member)
    assert (left(gateway, soon), left(gateway, late)) == (PRICE // 2, 2 * PRICE)
    paid(gateway, member)
    assert (left(gateway, soon), left(gateway, late)) == (0, PRICE * 3 // 2)
    paid(gateway, member)
    refused = call(gateway, member)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "insufficient_user_quota")
    assert left(gateway, late) == PRICE // 2, "half a call is left, and pays for none"


def test_a_prepaid_key_of_the_same_team_leaves_the_plan_alone(gateway: Gateway) -> None:
    member = gateway.customer(credit="1", payment="plan")
    plan = buy(gateway, member)
    _, token = gateway.issue(member.team)
    assert client.chat(gateway.url, token, model="per-call").status_code == 200
    assert left(gateway, plan) == PRICE
    assert left(gateway, member.wallet) == 10**9 - PRICE


def test_a_plan_of_calls_pays_for_as_many_calls_as_it_has_whatever_they_use(
    gateway: Gateway, upstream: Upstream
) -> None:
    member = gateway.customer(credit="0", payment="plan")
    plan = buy(gateway, member, kind="calls", calls=3, price=0, value=21)
    script = upstream.play(scripts.whole(usage={"prompt_tokens": 50_000, "completion_tokens": 9000}))
    seen = load.at_once([gateway.url], member.token, 20, model="chat", x_script=script)
    assert sorted(one.status for one in seen) == [200] * 3 + [403] * 17
    assert left(gateway, plan) == 0
    (first, *_) = [row for row in gateway.calls(member.key) if row["cost"]]
    assert first["cost"] == 7
    assert [(line["bucket"], line["quantity"], line["amount"]) for line in first["lines"]] == [("calls", 1, 7)]
    assert first["usage"]["input"] == 50_000


def test_when_its_calls_are_used_up_the_next_is_metered_and_paid_by_the_wallet(
    gateway: Gateway, upstream: Upstream
) -> None:
    member = gateway.customer(credit="1", payment="plan")
    buy(gateway, member, kind="calls", calls=1, price=0, value=5)
    script = upstream.play(scripts.whole(usage={"prompt_tokens": 10, "completion_tokens": 5}))
    for _ in range(2):
        assert client.chat(gateway.url, member.token, model="chat", x_script=script).status_code == 200
    assert sorted(row["cost"] for row in gateway.calls(member.key)) == [5, 10 * 1000 + 5 * 2000]
    assert left(gateway, member.wallet) == 10**9 - 20_000


def test_a_plan_pays_only_for_the_models_that_it_names(gateway: Gateway) -> None:
    member = gateway.customer(credit="1", payment="plan")
    plan = buy(gateway, member, kind="calls", calls=9, value=9, models=["chat"])
    assert call(gateway, member, "per-call").status_code == 200
    assert left(gateway, plan) == 9
    assert call(gateway, member, "chat").status_code == 200
    assert left(gateway, plan) == 8


def test_a_failed_call_gives_the_plan_back_what_it_held(gateway: Gateway, upstream: Upstream) -> None:
    member = gateway.customer(credit="0", payment="plan")
    plan = buy(gateway, member, kind="calls", calls=1, value=5)
    script = upstream.play(scripts.error(400))
    assert client.chat(gateway.url, member.token, model="chat", x_script=script).status_code == 400
    eventually(lambda: gateway.wallet(plan)["held"] == 0)
    assert left(gateway, plan) == 5
    assert call(gateway, member, "chat").status_code == 200


def test_a_plan_that_is_filled_while_a_call_runs_has_its_worth_when_the_call_is_paid(
    gateway: Gateway, upstream: Upstream
) -> None:
    from billing import plans
    from billing.models import Plan

    member = gateway.customer(credit="0", payment="plan")
    account = buy(gateway, member, value=PRICE, refill="month", days=90)
    script = upstream.play(scripts.whole(after=2))
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(client.chat, gateway.url, member.token, model="per-call", x_script=script)
        eventually(lambda: gateway.wallet(account)["held"] == PRICE)
        with gateway.inside():
            plan = Plan.objects.get(account=account)
            assert plan.fill_at is not None
            assert plans.tend(plan.pk, now=plan.fill_at)
        assert left(gateway, account) == PRICE, "what the call holds, and no more"
        assert answer.result().status_code == 200
    assert left(gateway, account) == 0
    with gateway.inside():
        assert [plans.tend(number, now=plan.starts_at) for number in plans.due(plan.starts_at)] == [True]
    assert left(gateway, account) == PRICE


def test_a_plan_that_was_cancelled_pays_for_nothing_within_a_second(gateway: Gateway) -> None:
    from billing import plans
    from billing.models import Plan

    member = gateway.customer(credit="0", payment="plan")
    account = buy(gateway, member, value=100 * PRICE)
    paid(gateway, member)
    with gateway.inside():
        plans.cancel(plan=Plan.objects.get(account=account), actor="tests", reason="refunded")
    assert call(gateway, member).status_code == 403  # by the ledger's own word, even where the key is remembered
    assert left(gateway, account) == 0


def test_a_prepaid_key_never_spends_credit_and_a_postpaid_one_stops_at_its_limit(gateway: Gateway) -> None:
    prepaid = gateway.customer(credit="0")
    set_credit(gateway, prepaid, "0.025")
    assert call(gateway, prepaid).status_code == 403
    postpaid = Customer(prepaid.email, prepaid.team, prepaid.wallet, *gateway.issue(prepaid.team, payment="postpaid"))
    seen = load.at_once([gateway.url], postpaid.token, 20, model="per-call")
    assert sorted(one.status for one in seen) == [200] * 2 + [403] * 18
    assert left(gateway, prepaid.wallet) == -2 * PRICE


def test_a_postpaid_key_without_a_credit_limit_spends_what_the_wallet_has(gateway: Gateway) -> None:
    customer = gateway.customer(credit="0.01", payment="postpaid")
    assert [call(gateway, customer).status_code for _ in range(2)] == [200, 403]


def test_an_overdue_invoice_stops_the_keys_and_says_why(gateway: Gateway) -> None:
    from billing import ledger
    from billing.models import Account
    from billing.rules import OVERDUE

    customer = gateway.customer(credit="1", payment="postpaid")
    with gateway.inside():
        ledger.freeze(wallet=Account.objects.get(pk=customer.wallet), reason=f"{OVERDUE}2026-000012")
    refused = call(gateway, customer)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "permission_denied")
    assert "invoice of this account is overdue" in refused.json()["error"]["message"]
    assert gateway.calls(customer.key) == []
    with gateway.inside():
        ledger.unfreeze(wallet=Account.objects.get(pk=customer.wallet))
    assert call(gateway, customer).status_code == 200


def test_a_test_key_reaches_the_demo_channel_and_is_never_charged(gateway: Gateway) -> None:
    customer = gateway.customer(credit="0", type="test")
    assert customer.token.startswith("pisces-test-")
    paid(gateway, customer, "demo-chat")
    (record,) = [row for row in gateway.calls(customer.key) if row["state"] == "settled"]
    assert (record["cost"], record["channel"], record["usage_source"]) == (0, "demo", "reported")
    refused = call(gateway, customer, "chat")
    assert (refused.status_code, refused.json()["error"]["code"]) == (404, "invalid_model")
    assert "demo channel" in refused.json()["error"]["message"]


def test_a_management_key_calls_no_models(gateway: Gateway) -> None:
    customer = gateway.customer(type="management")
    for refused in (call(gateway, customer), client.models(gateway.url, customer.token)):
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "permission_denied")
        assert "management API" in refused.json()["error"]["message"]
