"""The management API's money: payments, redeem codes, invoices, statements, prices of the team's group."""

import csv
import datetime as dt
import io
import uuid
from typing import Any

import pytest
from django.utils import timezone

from billing import catalog, groups, ledger, money, prices
from billing.invoices import closing, standing
from billing.models import Account, BillingDetails, Invoice, PlanOffer, Transfer
from billing.payments import redeem
from billing.payments.models import Payment
from portal.models import Team, User
from tests.invoices.made import Past, at
from tests.payments import scripted
from tests.payments.scripted import ScriptedStripe
from tests.portal.test_api import Program, management, team_of

UNIT = money.NANO


@pytest.fixture
def robot(alice: User) -> Program:
    return management(team_of(alice))


@pytest.fixture
def stranger(charlie: User) -> Program:
    return management(team_of(charlie))


def wish(**changed: Any) -> dict[str, Any]:
    return {"provider": "stripe", "amount": "25", "order": str(uuid.uuid4()), **changed}


# ---- payments -------------------------------------------------------------------------------------------------------


def test_a_payment_for_a_plan_names_it_and_has_its_price(robot: Program, stripe: ScriptedStripe) -> None:
    offer = PlanOffer.objects.create(name="Starter", kind="credit", price=25 * UNIT, value=30 * UNIT, days=30)
    begun = robot("post", "payments", wish(offer=offer.pk))
    assert (begun.status_code, begun.json()["offer"]) == (201, offer.pk), begun.content
    refused = robot("post", "payments", wish(offer=offer.pk, amount="24"))
    assert (refused.status_code, "amount" in refused.json()) == (400, True), refused.content
    offer.active = False
    offer.save()
    assert robot("post", "payments", wish(offer=offer.pk)).status_code == 400


def test_an_order_begins_one_payment_however_often_it_is_sent(robot: Program, stripe: ScriptedStripe) -> None:
    order = wish()
    begun = robot("post", "payments", order)
    assert begun.status_code == 201, begun.content
    found = begun.json()
    assert (found["amount"], found["due"], found["currency"], found["state"]) == ("25", "25.00", "USD", "created")
    assert found["checkout_url"].startswith("http")
    asked = len(stripe.asked)
    assert robot("post", "payments", order).json() == found
    assert (len(stripe.asked), Payment.objects.count()) == (asked, 1)
    changed = robot("post", "payments", {**order, "amount": "30"})
    assert (changed.status_code, Payment.objects.get().amount) == (409, 25 * UNIT)
    assert robot("get", f"payments/{found['id']}").json() == {**found, "reversals": []}
    assert [row["id"] for row in robot("get", "payments").json()["results"]] == [found["id"]]


def test_the_same_order_of_another_team_is_another_payment(
    robot: Program, stranger: Program, stripe: ScriptedStripe
) -> None:
    order = wish()
    mine, theirs = robot("post", "payments", order).json(), stranger("post", "payments", order).json()
    assert mine["id"] != theirs["id"]
    assert stranger("get", f"payments/{mine['id']}").status_code == 404
    assert [row["id"] for row in stranger("get", "payments").json()["results"]] == [theirs["id"]]


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"amount": "0"}, "amount"), ({"amount": "-5"}, "amount"), ({"amount": 25}, "amount"),
        ({"amount": "1e3"}, "amount"), ({"amount": "999999999"}, "amount"), ({"order": "x"}, "order"),
        ({"provider": "paypal"}, "provider"), ({"method": "gold"}, "provider"), ({"currency": "XXX"}, "currency"),
    ],
)  # fmt: skip
def test_what_cannot_be_paid_is_said_of_its_field(
    robot: Program, stripe: ScriptedStripe, changed: Any, field: str
) -> None:
    refused = robot("post", "payments", wish(**changed))
    assert (refused.status_code, list(refused.json())) == (400, [field])
    assert not Payment.objects.exists()


def test_a_provider_that_fails_is_told_and_its_order_stays_failed(robot: Program, stripe: ScriptedStripe) -> None:
    stripe.failing, order = 500, wish()
    assert robot("post", "payments", order).status_code == 502
    stripe.failing = 0
    again = robot("post", "payments", order).json()
    assert (again["state"], again["checkout_url"]) == ("failed", "")


def test_only_providers_that_are_configured_are_offered(robot: Program, settings: Any) -> None:
    assert robot("get", "payment-methods").json()["methods"] == []
    settings.STRIPE_SECRET_KEY, settings.STRIPE_WEBHOOK_SECRETS = scripted.KEY, [scripted.SECRET]
    settings.STRIPE_CURRENCIES = ["USD"]
    found = robot("get", "payment-methods").json()
    assert [(row["provider"], row["currency"], row["rate"]) for row in found["methods"]] == [("stripe", "USD", "1")]
    assert money.parse(found["smallest"]) < money.parse(found["largest"])
    assert robot("get", "payment-methods", currency="nonsense").status_code == 400


# ---- redeem codes ---------------------------------------------------------------------------------------------------


def test_a_code_is_redeemed_once(robot: Program, stranger: Program, alice: User) -> None:
    wanted = redeem.Wanted(label="spring", amount=5 * UNIT, number=1)
    _batch, (code,) = redeem.make(wanted=wanted, reference=uuid.uuid4(), user=alice.pk)
    before = money.parse(robot("get", "wallet").json()["balance"])
    done = robot("post", "redeem", {"code": code})
    assert (done.status_code, done.json()["amount"]) == (201, "5")
    assert robot("post", "redeem", {"code": code}).status_code == 409
    assert stranger("post", "redeem", {"code": code}).json().keys() == {"code"}
    assert money.parse(robot("get", "wallet").json()["balance"]) == before + 5 * UNIT
    assert Transfer.objects.get(kind="redemption").pk == done.json()["transfer"]


GUESS = "PX-0000-0000-0000-0000-0000"


def test_guesses_are_refused_by_field_and_then_for_an_hour(robot: Program, alice: User) -> None:
    for _ in range(redeem.TRIES_OF_A_PERSON):
        refused = robot("post", "redeem", {"code": GUESS})
        assert (refused.status_code, list(refused.json())) == (400, ["code"])
    late = robot("post", "redeem", {"code": GUESS})
    assert (late.status_code, 0 < int(late["Retry-After"]) <= 3600) == (429, True)
    assert not Transfer.objects.filter(kind="redemption").exists()


# ---- invoices and statements ----------------------------------------------------------------------------------------


@pytest.fixture
def past(db: None) -> Past:
    made = Past()
    closing.begin(made.wallet, moment=at("2026-03-05 00:00"))
    made.pay(2 * UNIT, at("2026-03-02 00:00"))
    made.call(5 * UNIT + 3, at("2026-03-03 00:00"), tokens=1_234)
    made.move("purchase", 10 * UNIT, at("2026-03-04 00:00"), out=True)
    closing.close_due(made.wallet, now=at("2026-04-02 00:00"))
    standing.refresh(made.number, at("2026-04-02 00:00"))
    return made


def nano(text: str) -> int:
    return money.parse(text, negative=True)


def test_an_invoices_lines_add_up_to_its_amount_and_it_comes_as_pdf(past: Past) -> None:
    program, row = management(past.team), Invoice.objects.get()
    (listed,) = program("get", "invoices").json()["results"]
    whole = program("get", f"invoices/{row.pk}").json()
    assert whole.items() >= listed.items()
    owed = [
        line for line in whole["lines"] if line["kind"] in ("usage", "plan", "correction", "carried_in", "carried_out")
    ]
    assert sum(nano(line["amount"]) for line in owed) == nano(whole["amount"]) == row.amount
    assert (whole["amount"], whole["standing"]["outstanding"]) == ("15", "13")
    assert nano(whole["items"]) == nano(whole["amount"]) + nano(whole["carried_out"]) - nano(whole["carried_in"])
    paper = program.client.get(f"/api/v1/invoices/{row.pk}/pdf", headers={"accept": "application/pdf"})
    assert (paper.status_code, paper["Content-Type"], paper.content[:5]) == (200, "application/pdf", b"%PDF-")


def test_invoices_of_another_team_do_not_exist(past: Past, stranger: Program) -> None:
    row = Invoice.objects.get()
    assert [stranger("get", f"invoices/{row.pk}{tail}").status_code for tail in ("", "/pdf")] == [404, 404]
    assert stranger("get", "invoices").json()["results"] == []


def test_who_invoices_are_written_to_is_read_and_changed(robot: Program, alice: User) -> None:
    assert robot("get", "billing-details").json()["name"] == team_of(alice).name
    assert not BillingDetails.objects.exists()
    changed = robot("patch", "billing-details", {"name": "Northwind", "email": "books@example.com"})
    assert (changed.status_code, changed.json()["name"]) == (200, "Northwind")
    assert BillingDetails.objects.get(team=team_of(alice)).email == "books@example.com"
    for field, value in (("name", ""), ("email", "nobody"), ("tax_id", "x" * 65)):
        refused = robot("patch", "billing-details", {field: value})
        assert (refused.status_code, list(refused.json())) == (400, [field])


def test_a_statement_adds_up_as_json_and_as_csv(past: Past) -> None:
    program, march = management(past.team), {"start": "2026-03-01", "end": "2026-03-31"}
    found = program("get", "statement", **march).json()
    assert [(row["kind"], row["amount"]) for row in found["moved"]] == [
        ("charge", "-5.000000003"), ("payment", "2"), ("purchase", "-10"),
    ]  # fmt: skip
    moved = sum(nano(row["amount"]) for row in found["moved"])
    assert nano(found["opening"]) + moved == nano(found["closing"])
    file = program("get", "statement.csv", by="kind", **march)
    assert file["Content-Type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(b"".join(file.streaming_content).decode())))
    assert nano(rows[-1]["balance"]) == nano(found["closing"])
    assert sum(nano(row["amount"]) for row in rows[1:-1]) == moved


@pytest.mark.parametrize("path", ["statement", "statement.csv"])
@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"start": "2026-03-01"}, "end"), ({"start": "x", "end": "2026-03-01"}, "start"),
        ({"start": "2026-03-02", "end": "2026-03-01"}, "end"), ({"start": "0001-01-01", "end": "9999-12-31"}, "end"),
        ({"start": "2026-03-01", "end": "2026-03-02", "zone": "Moon/Base"}, "zone"),
        ({"start": "2026-03-01", "end": "2026-03-02", "by": "colour"}, "by"),
    ],
)  # fmt: skip
def test_a_statement_that_cannot_be_is_said_of_its_field(
    robot: Program, path: str, asked: dict[str, str], field: str
) -> None:
    refused = robot("get", path, **asked)
    assert (refused.status_code, list(refused.json())) == (400, [field])


# ---- prices ---------------------------------------------------------------------------------------------------------


def test_prices_are_those_of_the_teams_group_with_those_that_come(robot: Program, alice: User) -> None:
    model = catalog.save_model(name="m")
    catalog.set_price(model, prices.parse_card({"input": "0.000000003", "per_call": "0.000000001"}), actor="tests")
    later = timezone.now() + dt.timedelta(days=3)
    catalog.set_price(model, prices.parse_card({"input": "4"}), actor="tests", valid_from=later)
    group = groups.save(name="friends", multiplier=prices.ONE // 2)
    groups.put(wallet=ledger.wallet_of(team_of(alice).pk), group=group)
    (found,) = (row for row in robot("get", "models").json() if row["model"] == "m")
    assert found["price"]["rates"] == {"input": "0.000000002", "per_call": "0.000000001"}  # up to a whole nano-unit
    assert [(row["rates"], row["own"]) for row in found["upcoming"]] == [({"input": "2"}, False)]


def test_the_wallet_is_untouched_by_whatever_was_refused(robot: Program, alice: User, team: Team) -> None:
    before = Account.objects.get(team=team_of(alice), kind="wallet").balance
    for path, body in (("payments", {}), ("redeem", {}), ("plans", {}), ("redeem", {"code": "x" * 101})):
        assert robot("post", path, body).status_code == 400
    assert Account.objects.get(team=team_of(alice), kind="wallet").balance == before
