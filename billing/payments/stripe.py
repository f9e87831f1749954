"""Stripe Checkout: the payer is sent to Stripe's page, webhooks tell what became of it.

Wire: https://docs.stripe.com/api/checkout/sessions, /api/refunds, /api/disputes and /webhooks. The library signs and
sends; what it brings is read here field by field, only those that are needed. Amounts are Stripe's minor units, which
are ours (`currencies`). Nothing is believed from metadata: an event is about the session or the payment intent that
it names, and the row decides whose that is.

The webhook needs a secret. Without one, anybody could sign: so without one Stripe is neither offered nor listened to.
"""

from collections.abc import Iterator
from typing import Any

import msgspec
import stripe
from django.conf import settings

from billing.payments import (
    Checkout,
    Delivery,
    Event,
    Expired,
    Fact,
    Failed,
    Forged,
    Malformed,
    Method,
    Order,
    Outcome,
    Paid,
    Problem,
    ProviderFailed,
    Reversal,
    Stage,
    TakenBack,
    Waiting,
    addresses,
)

NAME = "stripe"
TOLERANCE = 300  # seconds that a signature is good for, as Stripe advises
SHORTEST_SECRET = 16
TIMEOUT = (5, 20)  # seconds to connect, to answer
METHODS = (Method("", "Stripe"),)

stripe.enable_telemetry = False  # how long our requests take is nobody else's

_REFUND_FAILED = ("failed", "canceled")
_DISPUTE_OVER = ("won", "warning_closed", "prevented")


# ---- settings -------------------------------------------------------------------------------------------------------


def _secrets() -> list[str]:
    """The webhook's secrets that can be one; several while one is rolled."""
    return [text for secret in settings.STRIPE_WEBHOOK_SECRETS if len(text := secret.strip()) >= SHORTEST_SECRET]


def configured() -> bool:
    return bool(settings.STRIPE_SECRET_KEY and _secrets() and addresses.allowed(settings.STRIPE_API_BASE))


def problems() -> Iterator[Problem]:
    key, secrets = settings.STRIPE_SECRET_KEY, _secrets()
    given = [secret for secret in settings.STRIPE_WEBHOOK_SECRETS if secret.strip()]
    if key and not secrets:
        what = "Stripe has a key and no webhook secret: its webhook is not there and nobody can pay with it"
        yield Problem(True, what, "Set STRIPE_WEBHOOK_SECRETS to the endpoint's signing secret (whsec_…)")
    if given and not key:
        yield Problem(True, "Stripe has a webhook secret and no key", "Set STRIPE_SECRET_KEY, or unset both")
    if len(secrets) < len(given):
        yield Problem(True, "a webhook secret of Stripe is too short to be one", "Copy it whole from the endpoint")
    if any(not secret.startswith("whsec_") for secret in secrets):
        yield Problem(False, "a webhook secret of Stripe does not begin with whsec_", "Compare it with the endpoint's")
    if key and not key.startswith(("sk_", "rk_")):
        yield Problem(False, "Stripe's key is no secret key", "Use one that begins with sk_ or rk_")
    if key and not addresses.allowed(settings.STRIPE_API_BASE):
        yield Problem(True, "STRIPE_API_BASE is neither HTTPS nor on the loopback", "Unset it: Stripe's own is used")


def currencies() -> tuple[str, ...]:
    return tuple(settings.STRIPE_CURRENCIES)


def methods() -> tuple[Method, ...]:
    return METHODS


def answer(outcome: Outcome) -> tuple[int, str]:
    """Whatever was received and kept is a success to Stripe, or it sends it for three days and shuts the endpoint."""
    return 200, outcome.value


# ---- asking Stripe --------------------------------------------------------------------------------------------------


def _client() -> stripe.StripeClient:
    return stripe.StripeClient(
        settings.STRIPE_SECRET_KEY,
        base_addresses={"api": settings.STRIPE_API_BASE},
        max_network_retries=2,
        http_client=stripe.RequestsClient(timeout=TIMEOUT),
    )


def begin(order: Order) -> Checkout:
    """The session of an order: the same one, however often it is asked for. Raises ProviderFailed."""
    named = {"payment": str(order.id)}
    line = {
        "quantity": 1,
        "price_data": {
            "currency": order.currency.lower(),
            "unit_amount": order.due,
            "product_data": {"name": order.title},
        },
    }
    wanted: dict[str, Any] = {
        "mode": "payment",
        "client_reference_id": str(order.id),
        "line_items": [line],
        "success_url": order.return_url,
        "cancel_url": order.cancel_url,
        "expires_at": int(order.expires_at.timestamp()),
        "adaptive_pricing": {"enabled": False},  # the price was computed from our rate, and is checked against it
        "metadata": named,
        "payment_intent_data": {"metadata": named},
    }
    if order.email:
        wanted["customer_email"] = order.email
    try:
        made = _client().v1.checkout.sessions.create(wanted, {"idempotency_key": str(order.id)})  # type: ignore[arg-type]
    except stripe.StripeError as error:
        raise ProviderFailed(_described(error)) from None
    if not made.url:
        raise ProviderFailed("Stripe gave no address")
    return Checkout(made.url, made.id)


def ask(order: Order) -> tuple[Fact, ...]:
    """What became of an order's session. One whose session we never learnt of was shown to nobody."""
    if not order.checkout:
        return ()
    try:
        found = _client().v1.checkout.sessions.retrieve(order.checkout).to_dict(for_json=True)
    except stripe.StripeError as error:
        raise ProviderFailed(_described(error)) from None
    session = _read(found, _Session)
    if session.status == "complete":
        return _completed(session)
    return (Expired(session.order, session.id),) if session.status == "expired" else ()


def refunds(receipt: str) -> tuple[Fact, ...]:
    try:
        found = _client().v1.refunds.list({"payment_intent": receipt, "limit": 100}).to_dict(for_json=True)
    except stripe.StripeError as error:
        raise ProviderFailed(_described(error)) from None
    return tuple(fact for refund in _read(found, _Refunds).data for fact in _refunded(refund))


def refund(*, receipt: str, due: int, key: str) -> None:
    """Gives `due` minor units back; `key` makes it happen once. Raises ProviderFailed."""
    try:
        _client().v1.refunds.create({"payment_intent": receipt, "amount": due}, {"idempotency_key": key})
    except stripe.StripeError as error:
        raise ProviderFailed(_described(error)) from None


def _described(error: stripe.StripeError) -> str:
    """What may be shown of an error: its kind. Its text may quote what was sent."""
    return f"Stripe: {error.code or type(error).__name__}"


# ---- deliveries -----------------------------------------------------------------------------------------------------


class _Object(msgspec.Struct):
    object: msgspec.Raw


class _Envelope(msgspec.Struct):
    id: str
    type: str
    livemode: bool
    data: _Object


class _Session(msgspec.Struct):
    id: str
    mode: str
    payment_status: str
    client_reference_id: str | None = None
    status: str | None = None
    amount_total: int | None = None
    currency: str | None = None
    payment_intent: str | None = None

    @property
    def order(self) -> str:
        return self.client_reference_id or ""


class _Refund(msgspec.Struct):
    id: str
    amount: int
    currency: str
    payment_intent: str | None = None
    status: str | None = None


class _Refunds(msgspec.Struct):
    data: list[_Refund]


class _Dispute(msgspec.Struct):
    id: str
    amount: int
    currency: str
    status: str
    payment_intent: str | None = None


class _Charge(msgspec.Struct):
    payment_intent: str | None = None
    metadata: dict[str, str] = {}


def receive(delivery: Delivery) -> Event:
    """A webhook's event. Raises Forged, Malformed."""
    _verify(delivery)
    envelope = _read(delivery.body, _Envelope)
    if not 0 < len(envelope.id) <= 200 or not 0 < len(envelope.type) <= 64:
        raise Malformed("the event's id or type is too long")
    if envelope.livemode != _is_live():
        return Event(envelope.id, envelope.type)  # a test's money is none
    facts, of = _facts(envelope.type, envelope.data.object)
    return Event(envelope.id, envelope.type, facts, of)


def _verify(delivery: Delivery) -> None:
    """By the library, with each secret. A signature is ASCII; the library would stumble over another."""
    header = delivery.headers.get("stripe-signature", "")
    if delivery.method != "POST" or not header or not header.isascii():
        raise Forged("there is no signature")
    for secret in _secrets():
        try:
            stripe.WebhookSignature.verify_header(delivery.body, header, secret, TOLERANCE)
        except (stripe.SignatureVerificationError, ValueError):
            continue
        return
    raise Forged("the signature is not of this endpoint, or too old")


def _is_live() -> bool:
    return not settings.STRIPE_SECRET_KEY.startswith(("sk_test_", "rk_test_"))


def _read(source: Any, kind: Any) -> Any:
    try:
        if isinstance(source, bytes | msgspec.Raw):
            return msgspec.json.decode(source, type=kind)
        return msgspec.convert(source, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise Malformed("the event lacks what an event of its kind has") from None


def _facts(kind: str, content: msgspec.Raw) -> tuple[tuple[Fact, ...], str]:
    """What an event says, and the payment whose refunds have to be asked for."""
    if kind.startswith("checkout.session."):
        return _session_facts(kind, _read(content, _Session)), ""
    if kind.startswith("refund.") or kind == "charge.refund.updated":
        return _refunded(_read(content, _Refund)), ""
    if kind.startswith("charge.dispute."):
        return _disputed(kind, _read(content, _Dispute)), ""
    if kind == "charge.refunded":
        charge = _read(content, _Charge)
        ours = "payment" in charge.metadata  # only whether it is worth a question; the row decides
        return (), (charge.payment_intent or "") if ours else ""
    return (), ""


def _session_facts(kind: str, session: _Session) -> tuple[Fact, ...]:
    if session.mode != "payment":
        return ()  # a subscription or a card's set-up is of somebody else on this account
    if kind in ("checkout.session.completed", "checkout.session.async_payment_succeeded"):
        return _completed(session)
    if kind == "checkout.session.async_payment_failed":
        return (Failed(session.order, session.id),)
    return (Expired(session.order, session.id),) if kind == "checkout.session.expired" else ()


def _completed(session: _Session) -> tuple[Fact, ...]:
    if session.payment_status == "unpaid":
        return (Waiting(session.order, session.id),)
    paid = Paid(
        order=session.order,
        checkout=session.id,
        receipt=session.payment_intent or session.id,
        due=session.amount_total or 0,
        currency=(session.currency or "").upper(),
    )
    return (paid,)


def _refunded(refund: _Refund) -> tuple[Fact, ...]:
    if not refund.payment_intent:
        return ()
    stage = Stage.RETURNED if refund.status in _REFUND_FAILED else Stage.TAKEN
    currency = refund.currency.upper()
    return (TakenBack(refund.payment_intent, Reversal.REFUND, refund.id, refund.amount, currency, stage),)


def _disputed(kind: str, dispute: _Dispute) -> tuple[Fact, ...]:
    if not dispute.payment_intent:
        return ()
    stage = _stage(kind, dispute.status)
    currency = dispute.currency.upper()
    return (TakenBack(dispute.payment_intent, Reversal.DISPUTE, dispute.id, dispute.amount, currency, stage),)


def _stage(kind: str, status: str) -> Stage:
    """An inquiry (`warning_…`) moves no money; a dispute takes it when it is opened, and gives it back if won."""
    if kind.endswith(".funds_reinstated") or status in _DISPUTE_OVER:
        return Stage.RETURNED
    if kind.endswith(".funds_withdrawn") or not status.startswith("warning_"):
        return Stage.TAKEN
    return Stage.OPEN
