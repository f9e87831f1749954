"""EPay: the scheme's signature, and notifications that count once."""

from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from billing.payments import addresses, currencies, epay, orders, rates
from billing.payments.models import PaymentEvent
from tests.payments import scripted
from tests.payments.conftest import Till


def test_the_signature_is_the_schemes() -> None:
    """An example worked by hand: empty values, `sign` and `sign_type` are left out, the rest is sorted."""
    said = {"b": "2", "a": "1", "empty": "", "sign": "x", "sign_type": "MD5"}
    assert epay.sign(said, "key") == "1c123a5dc12e90deeaa1cd94681f0d88"  # of a=1&b=2key


def test_the_payer_is_sent_with_a_signed_order_in_the_gateways_currency(till: Till) -> None:
    payment = till.begin("20", way="epay:wxpay")
    assert (payment.currency, payment.due, payment.rate) == ("CNY", 14_400, 7_200_000_000)
    address = urlsplit(payment.checkout_url)
    asked = dict(parse_qsl(address.query))
    assert address.path == "/submit.php"
    assert asked["money"] == "144.00"
    assert asked["type"] == "wxpay"
    assert asked["out_trade_no"] == payment.pk.hex
    assert asked["sign"] == epay.sign(asked, scripted.EPAY_KEY)
    assert scripted.EPAY_KEY not in payment.checkout_url


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_notification_is_credited_once_and_hears_success(till: Till, method: str) -> None:
    payment = till.begin("20", way="epay:alipay")
    said = scripted.notification(payment.pk.hex, "144.00")
    for _ in range(3):
        answer = till.notify(said, method)
        assert (answer.status_code, answer.content) == (200, b"success")
    again = scripted.notification(payment.pk.hex, "144", trade_no=said["trade_no"], param="")
    assert till.notify(again, method).content == b"success"
    assert till.balance == "20"
    assert till.moved("payment") == [("payments", "wallet", "20")]


@pytest.mark.parametrize(
    "wrong",
    [
        {"money": "143.99"},
        {"money": "0"},
        {"money": "0.00"},
        {"out_trade_no": "0" * 32},
        {"out_trade_no": "another-shop-17"},
    ],
)
def test_a_notification_that_contradicts_its_order_fails(till: Till, wrong: dict[str, str]) -> None:
    payment = till.begin("20", way="epay:alipay")
    said = scripted.notification(payment.pk.hex, "144.00", **wrong)
    for _ in range(2):
        answer = till.notify(said)
        assert (answer.status_code, answer.content) == (400, b"fail")
    assert till.balance == "0"
    assert till.notify(scripted.notification(payment.pk.hex, "144.00")).content == b"success"
    assert till.balance == "20"


@pytest.mark.parametrize("money", ["", "-144.00", "144.001", "1e5", "１４４", " 144.00", "144,00", "99999999999.00"])
def test_an_amount_that_is_none_is_malformed(till: Till, money: str) -> None:
    payment = till.begin("20", way="epay:alipay")
    assert till.notify(scripted.notification(payment.pk.hex, money)).status_code == 400
    assert till.balance == "0"


def test_an_order_that_is_paid_twice_is_credited_once_and_told(till: Till) -> None:
    payment = till.begin("20", way="epay:alipay")
    till.notify(scripted.notification(payment.pk.hex, "144.00"))
    assert till.notify(scripted.notification(payment.pk.hex, "144.00")).content == b"fail"
    assert till.balance == "20"
    assert "and again as" in PaymentEvent.objects.get(outcome="refused").note


def test_a_trade_that_paid_one_order_pays_no_other(till: Till) -> None:
    one, other = till.begin("20", way="epay:alipay"), till.begin("20", way="epay:alipay")
    said = scripted.notification(one.pk.hex, "144.00")
    till.notify(said)
    stolen = scripted.notification(other.pk.hex, "144.00", trade_no=said["trade_no"])
    assert till.notify(stolen).content == b"fail"
    assert till.balance == "20"


def test_a_stripe_order_cannot_be_paid_by_epay(till: Till) -> None:
    payment = till.begin("20")
    assert till.notify(scripted.notification(payment.pk.hex, "20.00")).content == b"fail"
    assert till.balance == "0"


def test_what_is_not_signed_with_our_key_is_not_read(till: Till) -> None:
    payment = till.begin("20", way="epay:alipay")
    true = scripted.notification(payment.pk.hex, "144.00")
    forged: list[dict[str, str]] = [
        {},
        true | {"sign": ""},
        true | {"sign": "é" * 16},
        true | {"money": "1.00"},
        true | {"extra": "1"},
        {name: value for name, value in true.items() if name != "type"},
        scripted.notification(payment.pk.hex, "144.00", key=""),
        scripted.notification(payment.pk.hex, "144.00", key="another-key-of-the-gateway-01234"),
        scripted.notification(payment.pk.hex, "144.00", pid="1002"),
    ]
    for said in forged:
        for method in ("GET", "POST"):
            assert till.notify(said, method).status_code == 400
    twice = scripted.written(true) + "&money=144.00"
    assert till.client.get(f"/webhooks/epay/?{twice}").status_code == 400
    assert till.client.get("/webhooks/epay/?" + "&".join(f"a{n}=1" for n in range(100))).status_code == 400
    assert not PaymentEvent.objects.exists()
    assert till.balance == "0"


def test_our_own_signed_order_is_no_notification(till: Till) -> None:
    """The payer sees the signature of what we ask for; it proves nothing that came from the gateway."""
    payment = till.begin("20", way="epay:alipay")
    asked = dict(parse_qsl(urlsplit(payment.checkout_url).query))
    assert till.notify(asked).status_code == 400
    assert till.notify(asked | {"trade_no": "1", "trade_status": "TRADE_SUCCESS"}).status_code == 400
    assert till.balance == "0"


def test_another_state_of_a_trade_is_taken_and_no_money(till: Till) -> None:
    payment = till.begin("20", way="epay:alipay")
    waiting = scripted.notification(payment.pk.hex, "144.00", trade_status="WAIT_BUYER_PAY")
    assert till.notify(waiting).content == b"success"
    assert till.balance == "0"


@pytest.mark.parametrize("missing", ["EPAY_KEY", "EPAY_PID", "EPAY_URL"])
def test_without_its_settings_there_are_no_notifications(till: Till, settings: Any, missing: str) -> None:
    payment = till.begin("20", way="epay:alipay")
    setattr(settings, missing, "")
    said = scripted.notification(payment.pk.hex, "144.00", key="" if missing == "EPAY_KEY" else scripted.EPAY_KEY)
    assert till.notify(said).status_code == 404
    assert "epay" not in {choice.provider for choice in orders.choices()}


def test_a_short_key_switches_it_off(till: Till, settings: Any) -> None:
    settings.EPAY_KEY = "123456"
    assert not epay.configured()
    assert any("EPAY_KEY has less than 16" in problem.what for problem in epay.problems())


# ---- amounts and rates ----------------------------------------------------------------------------------------------


def test_the_price_is_rounded_up_to_the_next_minor_unit() -> None:
    assert currencies.due(10**9, currency="CNY", rate=7_200_000_000) == 720
    assert currencies.due(10**9, currency="CNY", rate=7_200_000_001) == 721
    assert currencies.due(1, currency="USD", rate=10**9) == 1
    assert currencies.due(10**9, currency="JPY", rate=155_100_000_000) == 156


@pytest.mark.parametrize(
    ("text", "currency", "minor"),
    [
        ("1", "CNY", 100),
        ("1.5", "CNY", 150),
        ("1.05", "CNY", 105),
        ("12", "JPY", 12),
        ("12.00", "JPY", 12),
        ("12.10", "JPY", None),
        ("1.005", "CNY", None),
        ("", "CNY", None),
        ("+1", "CNY", None),
    ],
)
def test_an_amount_is_read_exactly_or_not_at_all(text: str, currency: str, minor: int | None) -> None:
    assert currencies.parse(text, currency) == minor


def test_a_rate_that_changes_leaves_an_order_as_it_was(till: Till) -> None:
    payment = till.begin("20", way="epay:alipay")
    rates.put(currency="CNY", rate=rates.parse("8"), actor="tests")
    assert till.notify(scripted.notification(payment.pk.hex, "144.00")).content == b"success"
    assert till.begin("20", way="epay:alipay").due == 16_000
    assert till.balance == "20"


@pytest.mark.parametrize(
    ("url", "good"),
    [
        ("https://pay.example.com", True),
        ("https://8.8.8.8/x", True),
        ("http://127.0.0.1:9000", True),
        ("http://[::1]:9000", True),
        ("http://pay.example.com", False),
        ("https://10.0.0.1", False),
        ("https://192.168.1.7", False),
        ("https://169.254.169.254", False),
        ("https://[fd00::1]", False),
        ("https://user:pw@pay.example.com", False),
        ("ftp://pay.example.com", False),
        ("", False),
    ],
)
def test_only_public_addresses_and_the_loopback_are_spoken_to(url: str, good: bool) -> None:
    assert addresses.allowed(url) is good
