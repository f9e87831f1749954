"""What is wrong with the settings of payments is said; a webhook's body is bounded before it is read."""

from typing import Any

import pytest

from billing.payments import rates, registry
from portal import doctor
from tests.kit.client import send_raw
from tests.kit.gateway import Gateway
from tests.payments import scripted

BARE = {
    "STRIPE_SECRET_KEY": "",
    "STRIPE_WEBHOOK_SECRETS": [],
    "STRIPE_API_BASE": "https://api.stripe.com",
    "EPAY_URL": "",
    "EPAY_PID": "",
    "EPAY_KEY": "",
}
STRIPE = {"STRIPE_SECRET_KEY": scripted.KEY, "STRIPE_WEBHOOK_SECRETS": [scripted.SECRET]}
EPAY = {"EPAY_URL": "https://pay.example.com/", "EPAY_PID": "1001", "EPAY_KEY": scripted.EPAY_KEY}


def said(settings: Any, given: dict[str, Any]) -> str:
    for name, value in {**BARE, **given}.items():
        setattr(settings, name, value)
    return "\n".join(str(finding) for finding in doctor._payments())


def test_without_payments_there_is_nothing_to_say(settings: Any, db: None) -> None:
    assert said(settings, {}) == ""
    assert registry.configured() == []


def test_providers_with_all_they_need_are_offered(settings: Any, db: None) -> None:
    rates.put(currency="CNY", rate=rates.parse("7.2"), actor="tests")
    assert said(settings, STRIPE | EPAY) == ""
    assert [provider.NAME for provider in registry.configured()] == ["stripe", "epay"]


@pytest.mark.parametrize(
    ("given", "what"),
    [
        (STRIPE | {"STRIPE_WEBHOOK_SECRETS": []}, "error: Stripe has a key and no webhook secret"),
        (STRIPE | {"STRIPE_WEBHOOK_SECRETS": ["", " "]}, "error: Stripe has a key and no webhook secret"),
        (STRIPE | {"STRIPE_WEBHOOK_SECRETS": ["whsec_x"]}, "too short"),
        (STRIPE | {"STRIPE_SECRET_KEY": ""}, "error: Stripe has a webhook secret and no key"),
        (STRIPE | {"STRIPE_API_BASE": "http://10.0.0.7"}, "neither HTTPS nor on the loopback"),
        (EPAY | {"EPAY_KEY": ""}, "error: EPAY_KEY is missing"),
        (EPAY | {"EPAY_KEY": "short"}, "error: EPAY_KEY has less than 16"),
        (EPAY | {"EPAY_URL": "http://pay.example.com"}, "error: EPAY_URL is neither"),
    ],
)
def test_the_doctor_says_what_keeps_a_provider_from_being_offered(
    settings: Any, db: None, given: dict[str, Any], what: str
) -> None:
    found = said(settings, given)
    assert what in found
    assert registry.configured() == []
    for secret in (scripted.KEY, scripted.SECRET, scripted.EPAY_KEY):
        assert secret not in found


def test_the_doctor_misses_a_rate(settings: Any, db: None) -> None:
    assert "epay is paid in CNY, for which there is no exchange rate" in said(settings, EPAY)


def test_a_weak_looking_secret_is_a_warning(settings: Any, db: None) -> None:
    given = {"STRIPE_SECRET_KEY": "pk_live_0123456789", "STRIPE_WEBHOOK_SECRETS": ["0123456789abcdef"]}
    found = said(settings, given)
    assert "warning: a webhook secret of Stripe does not begin with whsec_" in found
    assert "warning: Stripe's key is no secret key" in found


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"Content-Length: 524289\r\n", b"413"),
        (b"Content-Length: 99999999999999\r\n", b"413"),
        (b"Transfer-Encoding: chunked\r\n", b"411"),
    ],
)
def test_a_long_delivery_is_refused_before_it_is_read(gateway: Gateway, head: bytes, status: bytes) -> None:
    request = b"POST /webhooks/stripe/ HTTP/1.1\r\nHost: 127.0.0.1\r\n" + head + b"\r\n"
    answer = send_raw(gateway.url, request)
    assert answer.startswith(b"HTTP/1.1 " + status)
