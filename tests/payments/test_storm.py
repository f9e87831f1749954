"""Thousands of forged, cut, replayed, reordered and concurrent deliveries: each true payment is credited once.

Through HTTP on a server of its own, on both databases. What is drawn prints its seed; `STORM_SEED=…` draws it again.
"""

import contextlib
import os
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pytest
import requests
from django.test import override_settings

from billing import ledger, money
from billing.models import Account, Transfer
from billing.payments import orders, rates, sweep
from billing.payments.models import Payment, PaymentEvent
from billing.payments.orders import Links
from tests.kit import databases, soak
from tests.kit.gateway import Gateway
from tests.payments import scripted
from tests.payments.scripted import ScriptedStripe

THREADS = 16
SHORT = 300
ORDERS = {"short": 12, "soak": 200}


class Sent(msgspec.Struct):
    """One delivery: what to send, and the answers that it may get."""

    send: Callable[[requests.Session], int]
    good: tuple[int, ...]
    what: str


class Storm:
    """An installation with orders of one provider, and what is sent to its webhook."""

    def __init__(self, gateway: Gateway, provider: str, payments: list[Payment], draw: random.Random) -> None:
        self.gateway, self.provider, self.payments, self.draw = gateway, provider, payments, draw
        self.url = f"{gateway.url}/webhooks/{provider}/"
        self.paid = set(payments[: len(payments) * 3 // 4])  # of the others only lies are told

    # ---- Stripe

    def stripe(self) -> Iterator[Sent]:
        """For each order its true events, as often as it comes; between them what is none."""
        for payment in self.payments:
            intent = f"pi_{payment.checkout}"
            content = scripted.session(1, order=str(payment.pk), due=payment.due, id=payment.checkout)
            content["payment_intent"] = intent
            true = [
                scripted.event("checkout.session.completed", content),
                scripted.event("checkout.session.async_payment_succeeded", content),
            ]
            other = [
                scripted.event("checkout.session.expired", content),
                scripted.event("checkout.session.async_payment_failed", content),
                scripted.event("checkout.session.completed", content | {"payment_status": "unpaid"}),
            ]
            back = scripted.refund(intent, payment.due // 4)
            refunds = [
                scripted.event("refund.created", back | {"status": "pending"}),
                scripted.event("refund.updated", back),
            ]
            if payment in self.paid:
                for said in (*true, *other, *refunds):
                    for _ in range(self.draw.randint(1, 3)):
                        yield self._said(said)
            for said in (*true, *refunds):
                yield from self._lies(said)
            stranger = self.draw.choice(self.payments)
            for wrong in (
                content | {"amount_total": payment.due - 1},
                content | {"amount_total": payment.due, "currency": "cny"},
                content | {"amount_total": 0},
                content | {"amount_total": -payment.due},
                content | {"id": f"cs_other_{payment.pk.hex}"},
                content | {"client_reference_id": str(stranger.pk)}
                if stranger != payment
                else content | {"id": "cs_x"},
                scripted.session(2, order="nobody", due=payment.due),
            ):
                yield self._said(scripted.event("checkout.session.completed", wrong))

    def _said(self, said: dict[str, Any]) -> Sent:
        """Signed when it is sent, as Stripe does each time: a long storm outlasts a signature."""
        return Sent(lambda http: self._post(http, *scripted.signed(said)), (200,), said["type"])

    def _lies(self, said: dict[str, Any]) -> Iterator[Sent]:
        body, headers = scripted.signed(said)
        cut = self.draw.randrange(len(body))
        flipped = bytearray(body)
        flipped[cut] ^= 1 << self.draw.randrange(7)
        old = scripted.signed(said, at=time.time() - 400)[1]
        forged = scripted.signed(said, secret=self.draw.choice(("", "whsec_guessed_0123456789", scripted.KEY)))[1]
        for wrong, header in (
            (body[:cut], headers),
            (bytes(flipped), headers),
            (body, old),
            (body, forged),
            (body, {}),
            (body, {"Stripe-Signature": headers["Stripe-Signature"][:-1]}),
        ):
            yield Sent(lambda http, b=wrong, h=header: self._post(http, b, h), (400,), "forged")  # type: ignore[misc]
        yield Sent(lambda http: self._hang_up(body, headers), (0,), "cut off")

    def _post(self, http: requests.Session, body: bytes, headers: dict[str, str]) -> int:
        return http.post(self.url, data=body, headers=headers, timeout=60).status_code

    def _hang_up(self, body: bytes, headers: dict[str, str]) -> int:
        """Half a body, then the line is cut."""
        host, _, port = self.gateway.url.removeprefix("http://").partition(":")
        head = f"POST /webhooks/{self.provider}/ HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in headers.items()) + "\r\n"
        with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=20) as connection:
            connection.sendall(head.encode() + body[: len(body) // 2])
        return 0

    # ---- EPay

    def epay(self) -> Iterator[Sent]:
        for payment in self.payments:
            order, price = payment.pk.hex, f"{payment.due // 100}.{payment.due % 100:02d}"
            true = scripted.notification(order, price)
            if payment in self.paid:
                for _ in range(self.draw.randint(3, 8)):
                    yield self._notified(true, (200,))
                yield self._notified(scripted.notification(order, price, trade_status="WAIT_BUYER_PAY"), (200,))
            stranger = self.draw.choice(self.payments).pk.hex
            for wrong in (
                true | {"money": "0.01"},
                true | {"sign": true["sign"][:-1]},
                true | {"sign": ""},
                true | {"out_trade_no": stranger, "x": "1"},
                {name: value for name, value in true.items() if name != self.draw.choice(list(true)[:-2])} | {"y": "1"},
                scripted.notification(order, price, key=""),
                scripted.notification(order, price, key="guessed-0123456789"),
                scripted.notification(order, price, pid="1002"),
                {},
            ):
                yield self._notified(wrong, (400,))
            for wrong in (
                scripted.notification(order, "0.01"),
                scripted.notification(order, "0"),
                scripted.notification("nobody", price),
                scripted.notification("0" * 32, price),
            ):
                yield self._notified(wrong, (400,))

    def _notified(self, said: dict[str, str], good: tuple[int, ...]) -> Sent:
        if self.draw.random() < 0.5:
            return Sent(lambda http: http.get(self.url, params=said, timeout=60).status_code, good, "GET")
        return Sent(lambda http: http.post(self.url, data=said, timeout=60).status_code, good, "POST")

    # ---- what comes of it

    def rage(self, wanted: int) -> Counter[str]:
        """All deliveries in a drawn order, by many at once; then replays until there were as many as wanted."""
        sent = list(getattr(self, self.provider)())
        while len(sent) < wanted:
            sent.append(self.draw.choice(sent))
        self.draw.shuffle(sent)
        own = threading.local()
        with contextlib.ExitStack() as sessions, ThreadPoolExecutor(THREADS) as pool:

            def deliver(one: Sent) -> str:
                if not hasattr(own, "http"):
                    own.http = sessions.enter_context(requests.Session())
                status = one.send(own.http)
                assert status in one.good, f"{one.what}: {status}\n{self._complaint()}"
                return f"{one.what} {status}"

            return Counter(pool.map(deliver, sent))

    def _complaint(self) -> str:
        """The first error in the server's log, without the rest of it."""
        return "".join(self.gateway.servers[0].log().partition("Traceback")[1:])[:8000]

    def check(self) -> None:
        """Each true payment once, a quarter of Stripe's taken back, and nothing else."""
        part = 4 if self.provider == "stripe" else 0
        with self.gateway.inside():
            sweep.sweep()  # a refund and its payment may have been booked at the same moment, each without the other
            for payment in self.payments:
                row = Payment.objects.get(pk=payment.pk)
                credited = Transfer.objects.filter(kind="payment", reference=str(payment.pk))
                assert [one.amount for one in credited] == ([row.amount] if payment in self.paid else [])
                back = row.amount * (row.due // 4) // row.due if part and payment in self.paid else 0
                assert row.taken == back, (row.state, row.taken)
            for wallet in Account.objects.filter(kind="wallet"):
                mine = [payment for payment in self.paid if payment.wallet_id == wallet.pk]
                taken = sum(Payment.objects.filter(wallet=wallet).values_list("taken", flat=True))
                assert (wallet.balance, wallet.frozen) == (sum(one.amount for one in mine) - taken, "")
            assert Transfer.objects.filter(kind="payment").count() == len(self.paid)
            assert Transfer.objects.filter(kind="refund").count() == (len(self.paid) if part else 0)
            assert not PaymentEvent.objects.filter(outcome="unmatched", payment__isnull=False).exists()
        assert self.gateway.audit() == []
        assert "Traceback" not in "".join(server.log() for server in self.gateway.servers)


@pytest.fixture
def stripe() -> Iterator[ScriptedStripe]:
    server = ScriptedStripe()
    yield server
    server.stop()


@contextlib.contextmanager
def _storm(kind: str, provider: str, stripe: ScriptedStripe, *, size: str) -> Iterator[Storm]:
    given: dict[str, Any] = {
        "STRIPE_SECRET_KEY": scripted.KEY,
        "STRIPE_API_BASE": stripe.url,
        "EPAY_URL": stripe.url,
        "EPAY_PID": scripted.EPAY_PID,
        "EPAY_KEY": scripted.EPAY_KEY,
    }
    seed = int(os.environ.get("STORM_SEED", random.SystemRandom().randrange(2**32)))
    print(f"STORM_SEED={seed}")
    draw = random.Random(seed)
    gateway = Gateway(kind, STRIPE_WEBHOOK_SECRETS=scripted.SECRET, **given)
    teams = [gateway.customer("0").team for _ in range(0, ORDERS[size], orders.MOST_OPEN)]
    with gateway.inside(), override_settings(STRIPE_WEBHOOK_SECRETS=[scripted.SECRET], **given):
        rates.put(currency="CNY", rate=rates.parse("7.1035"), actor="tests")
        choice = next(one for one in orders.choices() if one.provider == provider)
        payments = []
        for number in range(ORDERS[size]):
            payments.append(
                orders.begin(
                    wallet=ledger.wallet_of(teams[number // orders.MOST_OPEN]),
                    choice=choice,
                    amount=draw.randrange(5 * 100, 2000 * 100) * money.NANO // 100,
                    actor="tests",
                    email="",
                    title="Credit",
                    links=lambda pk: Links("http://127.0.0.1/", "http://127.0.0.1/", "http://127.0.0.1/"),
                )
            )
            if draw.random() < 0.2:
                Payment.objects.filter(pk=payments[-1].pk).update(state=draw.choice(("expired", "failed")))
    try:
        for _ in range(1 if size == "short" else 2):
            gateway.start()
        yield Storm(gateway, provider, payments, draw)
    finally:
        gateway.stop()


@pytest.mark.parametrize("provider", ["stripe", "epay"])
@pytest.mark.parametrize("kind", databases.KINDS)
def test_each_true_payment_is_credited_once_in_a_storm(kind: str, provider: str, stripe: ScriptedStripe) -> None:
    with _storm(kind, provider, stripe, size="short") as storm:
        storm.rage(SHORT)
        storm.check()


@pytest.mark.soak
@pytest.mark.parametrize("provider", ["stripe", "epay"])
@pytest.mark.parametrize("kind", databases.KINDS)
def test_each_true_payment_is_credited_once_in_ten_thousand_deliveries(
    kind: str, provider: str, stripe: ScriptedStripe
) -> None:
    with _storm(kind, provider, stripe, size="soak") as storm:
        began = time.monotonic()
        answers = storm.rage(soak.count("DELIVERIES", 10_000))
        took = time.monotonic() - began
        storm.check()
        number = sum(answers.values())
        soak.note(f"{provider} on {kind}: deliveries", f"{number:,} in {took:.0f} s, {len(storm.paid)} true payments")
