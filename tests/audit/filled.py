"""A book with one of everything that a ledger can contain, made by real calls through a real server."""

import uuid
from typing import Any

import msgspec
from django.utils import timezone

from billing import audit, budgets, catalog, connections, ids, ledger, prices
from billing.models import Account, BudgetOwner, CatalogModel, Hold, HoldState, PriceVersion
from billing.operations import ActiveHold, CloseHold, OpenHold
from billing.payments import redeem
from portal import services
from tests.kit import client, scripts
from tests.kit.gateway import Customer, Gateway
from tests.kit.ports import eventually
from tests.kit.upstream import Upstream

HUGE = {"prompt_tokens": 9_000_000, "completion_tokens": 50, "total_tokens": 9_000_050}


class Filled(msgspec.Struct):
    """The installation and its customers: `rich` has a quota and a team's budget, `poor` owes."""

    gateway: Gateway
    rich: Customer
    poor: Customer


def fill(gateway: Gateway, upstream: Upstream) -> Filled:
    bystander = gateway.customer()
    gateway.issue(bystander.team)  # so that the number of no key is that of its team
    rich = gateway.customer(quota=5_000_000_000, window="day")
    poor = gateway.customer(credit="0.01")
    with gateway.inside():
        budgets.set_cap(owner=BudgetOwner.TEAM, owner_id=rich.team, window="total", cap=8_000_000_000)
    gateway.start()
    _calls(gateway, rich, upstream)
    script = upstream.play(scripts.whole(usage=HUGE))
    assert client.chat(gateway.url, poor.token, max_tokens=16, x_script=script).status_code == 200
    _, token = gateway.issue(rich.team, billing="per_call")
    assert client.chat(gateway.url, token, model="both").status_code == 200
    eventually(lambda: gateway.wallet(rich.wallet)["held"] == 0)
    for server in gateway.servers:
        server.stop()
    gateway.servers.clear()
    with gateway.inside():
        _by_hand(rich, poor)
        assert audit.run() == []
    return Filled(gateway, rich, poor)


def _calls(gateway: Gateway, rich: Customer, upstream: Upstream) -> None:
    """Settled, streamed, counted and capped, tried twice, failed, left."""
    for body in ({}, {"stream": True}, {"model": "per-call"}, {"model": "[M]vendor/model-1"}):
        assert client.chat(gateway.url, rich.token, **body).status_code == 200
    counted = upstream.play(scripts.whole(usage=None, text="word " * 400))
    assert client.chat(gateway.url, rich.token, max_tokens=20, x_script=counted).status_code == 200
    second = upstream.play(scripts.in_turn(scripts.error(503), scripts.whole()))
    assert client.chat(gateway.url, rich.token, model="two-channels", x_script=second).status_code == 200
    assert client.chat(gateway.url, rich.token, x_script=upstream.play(scripts.error(400))).status_code == 400
    endless = upstream.play(scripts.endless())
    connection = client.open_socket(gateway.url, rich.token, {"stream": True, "x_script": endless})
    received = b""
    while b"word" not in received:
        received += connection.recv(65536)
    connection.close()


def _by_hand(rich: Customer, poor: Customer) -> None:
    """Adjustments both ways, a reversal; a call in flight, one in review."""
    wallet, other = Account.objects.get(pk=rich.wallet), Account.objects.get(pk=poor.wallet)
    ledger.adjust(wallet=wallet, amount=3_000, actor="tests", reason="goodwill")
    taken = ledger.adjust(wallet=wallet, amount=-1_000, actor="tests", reason="taken back")
    ledger.reverse(transfer=taken, actor="tests", reason="given again")
    ledger.credit(wallet=other, amount=500, actor="tests", reason="a little")
    _redeemed(rich)
    again = catalog.set_price(CatalogModel.objects.get(name="chat"), prices.parse_card({"input": "3"}), actor="tests")
    assert again is not None
    reviewed = open_hold(rich, 700)
    open_hold(rich, 900)
    Hold.objects.filter(pk=reviewed.id).update(state=HoldState.REVIEW)


def _redeemed(rich: Customer) -> None:
    """One redeem code's worth."""
    person = services.user_with_team("codes@example.com")[0].pk
    wanted = redeem.Wanted(label="spring", amount=7_000, number=1)
    _, (text,) = redeem.make(wanted=wanted, reference=uuid.uuid4(), user=person)
    redeem.redeem(text=text, team=rich.team, user=person, actor="tests", address="127.0.0.1")


def open_hold(customer: Customer, amount: int) -> ActiveHold:
    """A call in flight, with its customer's budgets."""
    now = timezone.now()
    price = PriceVersion.objects.filter(model__name="chat").earliest("pk")
    named = budgets.ids_of(key=customer.key, team=customer.team)
    facts = {"team": customer.team, "key": customer.key, "billing": "metered", "model": "chat", "request_id": "mine"}
    opening = OpenHold(ids.uuid7(), customer.wallet, amount, amount, price.pk, named, facts, "tests", 100.0, now)
    (outcome,) = run(opening)
    assert isinstance(outcome, ActiveHold)
    return outcome


def run(*operations: Any) -> list[Any]:
    """Operations in one transaction, as a worker carries them out."""
    from django.db import transaction

    with transaction.atomic():
        return connections.run_in_transaction(list(operations), revenue=ledger.revenue_account())


def settle(active: ActiveHold, charged: int) -> None:
    run(CloseHold(active, charged))
