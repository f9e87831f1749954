"""The wallet's pages: figures, the one list, paying in, and the receipt; for the team's own people only."""

import datetime as dt
import html
import re
import uuid
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from billing import ledger, money
from billing.models import Account, PriceVersion, Transfer
from billing.payments import rates
from billing.payments.models import Payment
from keys.models import ApiKey
from portal import wallet
from portal.models import Team
from tests.payments.scripted import ScriptedStripe
from tests.portal import made

FORM = {"preset": "25", "other": "", "method": "stripe"}


def row(team: Team, **fields: Any) -> Payment:
    """A payment as the table has it."""
    now = timezone.now()
    usual = {"provider": "stripe", "amount": 20 * money.NANO, "currency": "USD", "due": 2000, "rate": money.NANO}
    usual |= {"expires_at": now + dt.timedelta(hours=1), "ask_at": now}
    return Payment.objects.create(wallet=ledger.wallet_of(team.pk), **{**usual, **fields})


def charge(team: Team, amount: str, *, days: int = 0) -> None:
    """What a call cost, so many days ago. Made by hand: a transfer's time is the books' own."""
    ledger_wallet = ledger.wallet_of(team.pk)
    revenue = Account.objects.get(pk=ledger.revenue_account())
    Transfer.objects.create(
        kind="charge",
        debit=ledger_wallet,
        credit=revenue,
        amount=money.parse(amount),
        reference=str(uuid.uuid4()),
        created_at=timezone.now() - dt.timedelta(days=days),
    )
    Account.objects.filter(pk=ledger_wallet.pk).update(balance=ledger_wallet.balance - money.parse(amount))


def test_an_amount_below_zero_has_its_minus_before_the_currency_s_sign(as_alice: Client, team: Team) -> None:
    row = ledger.wallet_of(team.pk)
    Account.objects.filter(pk=row.pk).update(credit_limit=500 * money.NANO)
    ledger.adjust(wallet=row, amount=-105 * money.NANO, actor="root", reason="a test")
    shown = as_alice.get("/wallet/").content.decode()
    assert "−$95.00" in shown
    assert "$−" not in shown


@pytest.mark.parametrize(
    ("spent", "said"), [("7", "about 10 days"), ("0.01", "more than a year"), ("", "nothing spent in 7 days")]
)
def test_how_long_the_money_lasts_is_said_as_far_as_it_can_be_foreseen(
    as_alice: Client, key: ApiKey, price: PriceVersion, spent: str, said: str
) -> None:
    if spent:
        made.call(key, price, ago=dt.timedelta(hours=1), cost=money.parse(spent))
    assert said in as_alice.get("/wallet/").content.decode()


def test_the_list_sums_charges_by_day_and_its_balances_add_up(as_alice: Client, team: Team) -> None:
    for days in (40, 1, 1, 1, 0, 0):
        charge(team, "0.000000001", days=days)
    row(team)
    lines = as_alice.get(reverse("wallet")).context["statement"].lines
    assert [(line.day, line.effect, line.balance) for line in lines] == [
        (True, -2, 10 * money.NANO - 6),
        (False, 0, None),  # the payment that waits
        (False, 10 * money.NANO, 10 * money.NANO - 4),
        (True, -3, -4),
    ]


def test_a_days_charges_lead_to_that_days_calls(as_alice: Client, key: ApiKey, price: PriceVersion) -> None:
    yesterday = made.call(key, price, ago=dt.timedelta(days=1))
    made.call(key, price)
    charge(key.team, "0.01", days=1)
    page = as_alice.get(reverse("wallet")).content.decode()
    link = re.search(r'<a href="([^"]*)">1 call</a>', page)
    assert link is not None
    assert [call.pk for call in as_alice.get(html.unescape(link[1])).context["page"].calls] == [yesterday.pk]


def test_pages_go_on_where_the_last_one_ended(as_alice: Client, team: Team) -> None:
    """Every line once, and each balance is the one before less what the line did, to the first transfer of all."""
    account = ledger.wallet_of(team.pk)
    for number in range(47):
        ledger.adjust(wallet=account, amount=number + 1, actor="tests", reason=f"number {number}")
    for days in (200, 80, 34, 33, 3, 1, 0):
        charge(team, "0.01", days=days)
    seen, cursor = [], ""
    for _ in range(12):
        page = as_alice.get(reverse("wallet"), {"cursor": cursor}).context["statement"]
        seen += page.lines
        if not (cursor := page.older):
            break
    assert len(seen) == 47 + 1 + 7
    balance = Account.objects.get(pk=account.pk).balance
    for line in seen:
        assert line.balance == balance
        balance -= line.effect
    assert balance == 0


@pytest.mark.parametrize(
    ("chip", "kinds"),
    [("charges", {"charge"}), ("topups", {"credit", "top-up"}), ("adjustments", {"adjustment"}), ("refunds", set())],
)
def test_a_chip_shows_its_kinds_only(as_alice: Client, team: Team, chip: str, kinds: set[str]) -> None:
    charge(team, "1")
    ledger.adjust(wallet=ledger.wallet_of(team.pk), amount=5, actor="tests", reason="x")
    row(team, state="failed")
    page = as_alice.get(reverse("wallet"), {"type": chip})
    assert {line.kind.rstrip("s") for line in page.context["statement"].lines} == kinds


@pytest.mark.parametrize("query", [{"cursor": "x"}, {"type": "nothing"}, {"cursor": "a:b:c", "type": "'"}])
def test_an_address_that_makes_no_sense_shows_the_first_page(
    as_alice: Client, team: Team, query: dict[str, str]
) -> None:
    assert len(as_alice.get(reverse("wallet"), query).context["statement"].lines) == 1


def test_without_a_way_to_pay_the_page_says_so(as_alice: Client) -> None:
    assert "No way to pay is set up here" in as_alice.get(reverse("wallet")).content.decode()
    assert as_alice.post(reverse("wallet_pay"), FORM).status_code == 422


def test_paying_sends_the_payer_to_the_provider(as_alice: Client, team: Team, stripe: ScriptedStripe) -> None:
    answer = as_alice.post(reverse("wallet_pay"), FORM)
    payment = Payment.objects.get()
    assert answer.status_code == 302
    assert answer["Location"] == payment.checkout_url == stripe.sessions[payment.checkout]["url"]
    assert (payment.amount, payment.due, payment.actor) == (25 * money.NANO, 2500, "alice@example.com")
    asked = stripe.asked[0][2]
    assert asked["success_url"].endswith(reverse("payment", args=[payment.pk]))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"other": "-5"}, "Write an amount"),
        ({"other": "0"}, "Between 5.00 and 2000.00"),
        ({"other": "4.99"}, "Between 5.00 and 2000.00"),
        ({"other": "2000.01"}, "Between 5.00 and 2000.00"),
        ({"other": "ten"}, "Write an amount"),
        ({"other": "1e3"}, "Write an amount"),
        ({"preset": "1"}, "Select a valid choice"),
        ({"preset": ""}, "Choose an amount"),
        ({"method": "cash"}, "Select a valid choice"),
    ],
)
def test_what_cannot_be_paid_is_said_beside_the_form(
    as_alice: Client, team: Team, stripe: ScriptedStripe, wrong: dict[str, str], says: str
) -> None:
    answer = as_alice.post(reverse("wallet_pay"), FORM | wrong)
    assert answer.status_code == 422
    assert says in answer.content.decode()
    assert not Payment.objects.exists()


def test_a_provider_that_fails_is_said_to(as_alice: Client, team: Team, stripe: ScriptedStripe) -> None:
    stripe.failing = 402
    answer = as_alice.post(reverse("wallet_pay"), FORM)
    assert answer.status_code == 422
    assert "could not be begun" in answer.content.decode()
    assert Payment.objects.get().state == "failed"


def test_too_many_waiting_payments_are_refused(as_alice: Client, team: Team, stripe: ScriptedStripe) -> None:
    for _ in range(20):
        row(team)
    assert "Too many payments are waiting" in as_alice.post(reverse("wallet_pay"), FORM).content.decode()


def test_the_way_back_shows_the_books_and_not_the_address(as_alice: Client, team: Team) -> None:
    payment = row(team, checkout_url="https://checkout.example.com/c")
    answer = as_alice.get(reverse("payment", args=[payment.pk]), {"trade_status": "TRADE_SUCCESS", "sign": "x"})
    text = answer.content.decode()
    assert "has not been confirmed yet" in text
    assert "is in the wallet" not in text
    assert 'href="https://checkout.example.com/c"' in text
    assert answer["Refresh"] == "5"
    Payment.objects.update(state="paid", paid_at=timezone.now(), receipt="pi_1")
    answer = as_alice.get(reverse("payment", args=[payment.pk]))
    assert "$20.00 is in the wallet" in answer.content.decode()
    assert "Refresh" not in answer


@pytest.mark.parametrize("state", ["created", "processing", "failed", "expired"])
def test_each_state_of_a_payment_has_its_page(as_alice: Client, team: Team, state: str) -> None:
    payment = row(team, state=state)
    assert as_alice.get(reverse("payment", args=[payment.pk])).status_code == 200
    assert wallet.LOOKS.keys() >= {payment.state}


def test_a_payment_of_another_team_does_not_exist(as_charlie: Client, team: Team) -> None:
    payment = row(team)
    assert as_charlie.get(reverse("payment", args=[payment.pk])).status_code == 404
    assert as_charlie.get(reverse("wallet")).context["statement"].lines == []


def test_the_readers_currency_is_shown_with_the_rates_date(
    as_alice: Client, team: Team, stripe: ScriptedStripe
) -> None:
    rates.put(currency="EUR", rate=rates.parse("0.9"), actor="tests")
    answer = as_alice.post(reverse("currency"), {"currency": "EUR", "next": reverse("wallet")})
    assert answer["Location"] == reverse("wallet")
    page = as_alice.get(reverse("wallet")).content.decode()
    today = timezone.now().strftime("%Y-%m-%d")
    assert f"about €9.00, rate of {today}" in page
    assert f"in EUR, 0.90 for 1 USD, rate of {today}" in page
    as_alice.post(reverse("wallet_pay"), FORM)
    payment = Payment.objects.get()
    assert (payment.currency, payment.due, payment.amount) == ("EUR", 2250, 25 * money.NANO)


@pytest.mark.parametrize("wanted", ["XXX", "", "eur", "GBP"])
def test_a_currency_without_a_rate_is_not_kept(as_alice: Client, wanted: str) -> None:
    answer = as_alice.post(reverse("currency"), {"currency": wanted, "next": "https://evil.example/"})
    assert answer["Location"] == reverse("pricing")
    assert "currency" not in answer.cookies


@pytest.mark.parametrize("back", ["", "foo", "keys", "key_edit", "../", "\0", "//evil.example/", "javascript:alert(1)"])
def test_whoever_chose_a_currency_goes_to_a_path_of_ours_or_else_to_the_prices(
    db: None, client: Client, back: str
) -> None:
    answer = client.post(reverse("currency"), {"currency": "USD", "next": back})
    assert (answer.status_code, answer["Location"]) == (302, reverse("pricing"))


def test_the_webhook_needs_no_token_and_refuses_other_methods(stripe: ScriptedStripe, db: None) -> None:
    strict = Client(enforce_csrf_checks=True)
    assert strict.post("/webhooks/stripe/", b"{}", content_type="application/json").status_code == 400
    assert strict.put("/webhooks/stripe/").status_code == 405
    assert strict.post("/webhooks/nobody/").status_code == 404


# ---- administration -------------------------------------------------------------------------------------------------


@pytest.fixture
def staff(alice: Any, as_alice: Client) -> Client:
    alice.is_staff = alice.is_superuser = True
    alice.save()
    return as_alice


def test_staff_ask_for_a_refund_and_the_books_wait_for_the_event(
    staff: Client, team: Team, stripe: ScriptedStripe
) -> None:
    payment = row(team, state="paid", paid_at=timezone.now(), receipt="pi_1")
    page = reverse("admin:billing_payment_change", args=[payment.pk])
    assert staff.get(page).status_code == 200
    assert staff.get(reverse("admin:billing_payment_changelist")).status_code == 200
    inlines = {f"{name}-{part}_FORMS": "0" for name in ("events", "reversals") for part in ("TOTAL", "INITIAL")}
    form = {"refund": "5.00", "reference": str(uuid.uuid4()), **inlines}
    assert staff.post(page, form | {"refund": "20.01"}).status_code == 200
    assert stripe.refunds == []
    for _ in range(2):
        assert staff.post(page, form).status_code == 302
    assert [found["amount"] for found in stripe.refunds] == [500]
    payment.refresh_from_db()
    assert (payment.state, payment.taken) == ("paid", 0)


def test_staff_add_rates_and_change_none(staff: Client) -> None:
    add = reverse("admin:billing_exchangerate_add")
    form = {"code": "CNY", "written": "7.1035", "moment_0": "", "moment_1": ""}
    assert staff.get(add).status_code == 200
    answer = staff.post(add, form)
    assert answer.status_code == 302, answer.context["errors"]
    kept = rates.in_force("CNY")
    assert kept is not None
    assert kept.rate == 7_103_500_000
    for wrong in ({"written": "0"}, {"written": "-1"}, {"moment_0": "2020-01-01", "moment_1": "00:00"}, {}):
        assert staff.post(add, form | wrong).status_code == 200
    assert staff.get(reverse("admin:billing_exchangerate_changelist")).status_code == 200
    assert staff.get(reverse("admin:billing_paymentevent_changelist")).status_code == 200
