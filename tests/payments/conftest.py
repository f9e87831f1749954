"""Payments of alice's team, with scripted providers on the loopback and the webhooks by Django's client."""

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from django.test import Client

from billing import audit, ledger, money
from billing.models import Account, Transfer
from billing.payments import orders, rates
from billing.payments.models import Payment
from billing.payments.orders import Links
from portal import services
from tests.payments import scripted
from tests.payments.scripted import ScriptedEPay, ScriptedStripe


class Till(msgspec.Struct):
    """A team's wallet, and what is done to it."""

    wallet: int
    client: Client

    def begin(self, amount: str = "20", way: str = "stripe", currency: str = "", **more: Any) -> Payment:
        """An order, for an `offer` and with an `order` of the caller's where these are given."""
        choice = next(one for one in orders.choices(currency) if one.name == way)
        return orders.begin(
            wallet=Account.objects.get(pk=self.wallet),
            choice=choice,
            amount=money.parse(amount),
            actor="alice@example.com",
            email="alice@example.com",
            title="Credit",
            links=lambda pk: Links("http://127.0.0.1/done", "http://127.0.0.1/not", "http://127.0.0.1/notify"),
            **more,
        )

    def tell(self, said: dict[str, Any], **signing: Any) -> Any:
        """A webhook of Stripe's."""
        body, headers = scripted.signed(said, **signing)
        return self.client.post("/webhooks/stripe/", body, content_type="application/json", headers=headers)

    def notify(self, parameters: dict[str, str], method: str = "GET") -> Any:
        """A notification of EPay's."""
        if method == "GET":
            return self.client.get("/webhooks/epay/", parameters)
        form = "application/x-www-form-urlencoded"
        return self.client.post("/webhooks/epay/", scripted.written(parameters), content_type=form)

    def paid(self, amount: str = "20") -> Payment:
        """A payment that is credited."""
        return self.confirm(self.begin(amount))

    def confirm(self, payment: Payment) -> Payment:
        """Stripe says that it is paid."""
        content = scripted.session(1, order=str(payment.pk), due=payment.due, id=payment.checkout)
        content["payment_intent"] = f"pi_{payment.checkout}"
        assert self.tell(scripted.event("checkout.session.completed", content)).status_code == 200
        payment.refresh_from_db()
        assert payment.state == "paid"
        return payment

    @property
    def account(self) -> Account:
        return Account.objects.get(pk=self.wallet)

    @property
    def balance(self) -> str:
        return money.to_text(self.account.balance)

    def spend(self, amount: str) -> None:
        """Money that is gone."""
        ledger.adjust(wallet=self.account, amount=-money.parse(amount), actor="tests", reason="spent")

    def moved(self, kind: str) -> list[tuple[str, str, str]]:
        """The transfers of a kind: from, to, amount."""
        rows = Transfer.objects.filter(kind=kind).order_by("pk").select_related("debit", "credit")
        return [(row.debit.kind, row.credit.kind, money.to_text(row.amount)) for row in rows]


@pytest.fixture(scope="session")
def _stripe() -> Iterator[ScriptedStripe]:
    server = ScriptedStripe()
    yield server
    server.stop()


@pytest.fixture
def stripe(_stripe: ScriptedStripe, settings: Any) -> ScriptedStripe:
    """Stripe, configured and answering."""
    _stripe.failing = 0
    _stripe.asked.clear()
    settings.STRIPE_SECRET_KEY = scripted.KEY
    settings.STRIPE_WEBHOOK_SECRETS = [scripted.SECRET]
    settings.STRIPE_API_BASE = _stripe.url
    settings.STRIPE_CURRENCIES = ["USD"]
    return _stripe


@pytest.fixture(scope="session")
def _epay() -> Iterator[ScriptedEPay]:
    server = ScriptedEPay()
    yield server
    server.stop()


@pytest.fixture
def epay(_epay: ScriptedEPay, settings: Any) -> ScriptedEPay:
    _epay.failing = 0
    settings.EPAY_URL, settings.EPAY_PID, settings.EPAY_KEY = _epay.url, scripted.EPAY_PID, scripted.EPAY_KEY
    settings.EPAY_TYPES = ["alipay", "wxpay"]
    return _epay


@pytest.fixture
def till(books: str, stripe: ScriptedStripe, epay: ScriptedEPay) -> Iterator[Till]:
    """Alice's wallet on each kind of database, with CNY at 7.2. Whatever the test did, the books are whole."""
    _, team = services.user_with_team("alice@example.com")
    rates.put(currency="CNY", rate=rates.parse("7.2"), actor="tests")
    yield Till(ledger.wallet_of(team.pk).pk, Client())
    assert [str(finding) for finding in audit.run()] == []
