"""Beginning to pay: what may be paid with, what it costs, and the order with its checkout."""

import datetime as dt
import uuid
from collections.abc import Callable

import msgspec
import structlog
from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import QuerySet, Sum
from django.utils import timezone
from django.utils.translation import gettext as _

from billing import money
from billing.models import Account, PlanOffer
from billing.payments import (
    Method,
    NotOffered,
    Order,
    PaymentError,
    Provider,
    ProviderFailed,
    Stage,
    addresses,
    currencies,
    rates,
    registry,
)
from billing.payments.models import OPEN, Payment, PaymentState
from billing.payments.rates import Rate

log = structlog.get_logger(__name__)

LASTS = dt.timedelta(hours=2)  # that a checkout may be paid
FIRST_LOOK = dt.timedelta(minutes=2)
MOST_OPEN = 20  # orders of a wallet that wait at once
LONGEST_URL = 2048


class OrderReused(PaymentError):
    """The order began another payment than the one that is asked for now."""


class Choice(msgspec.Struct, frozen=True):
    """A way to pay that is offered: `provider:method` is its name in a form. `rate` says in which currency."""

    provider: str
    method: Method
    rate: Rate

    @property
    def name(self) -> str:
        return f"{self.provider}:{self.method.code}" if self.method.code else self.provider

    @property
    def sign(self) -> str:
        return currencies.sign_of(self.rate.currency)

    def price(self, amount: int) -> str:
        """What `amount` nano-units cost this way, as text without the sign."""
        return currencies.to_text(self.due(amount), self.rate.currency)

    def due(self, amount: int) -> int:
        return currencies.due(amount, currency=self.rate.currency, rate=self.rate.rate)


class Links(msgspec.Struct, frozen=True):
    """Our own addresses that a provider is told of."""

    done: str
    cancelled: str
    notify: str


class Range(msgspec.Struct, frozen=True):
    """Amounts that may be paid in, in nano-units."""

    smallest: int
    largest: int
    presets: tuple[int, ...]

    def allows(self, amount: int) -> bool:
        return self.smallest <= amount <= self.largest


def limits() -> Range:
    presets = tuple(money.parse(text) for text in settings.TOPUP_PRESETS)
    return Range(money.parse(settings.TOPUP_MIN), money.parse(settings.TOPUP_MAX), presets)


def choices(currency: str = "") -> list[Choice]:
    """The ways to pay that are configured, each in the reader's currency where it takes that, else in its first one
    that has a rate."""
    found: list[Choice] = []
    for provider in registry.configured():
        if (rate := _rate(provider, currency)) is not None:
            found.extend(Choice(provider.NAME, method, rate) for method in provider.methods())
    return found


def _rate(provider: Provider, wanted: str) -> Rate | None:
    taken = [name for name in provider.currencies() if name in currencies.EXPONENTS]
    for currency in sorted(taken, key=lambda name: name != wanted):
        if (rate := rates.in_force(currency)) is not None:
            return rate
    return None


def begin(
    *,
    wallet: Account,
    choice: Choice,
    amount: int,
    actor: str,
    email: str,
    title: str,
    links: Callable[[uuid.UUID], Links],
    order: uuid.UUID | None = None,
    offer: PlanOffer | None = None,
) -> Payment:
    """An order of `amount` nano-units, with its checkout's address. Raises NotOffered, ProviderFailed.

    With an `offer` it buys that plan when it is paid.

    The row is committed before the provider is asked, so that whatever it says later finds it. Not for use inside a
    transaction. The same `order` of the wallet again gives the payment that it began, as that stands now; asked for
    something else, it raises OrderReused.
    """
    if (begun := _begun(wallet, order)) is not None:
        return _same(begun, choice, amount, offer)
    provider = registry.find(choice.provider)
    if provider is None:
        raise NotOffered(_("This way to pay is not offered any more."))
    due = _checked(wallet, choice, amount)
    try:
        with transaction.atomic():
            payment = _written(wallet, choice, amount=amount, due=due, actor=actor, order=order, offer=offer)
    except IntegrityError:  # the same order, in another process, a moment earlier
        return _same(Payment.objects.get(wallet=wallet, order=order), choice, amount, offer)
    _open(provider, payment, title=title, email=email, links=links(payment.pk))
    return payment


def _begun(wallet: Account, order: uuid.UUID | None) -> Payment | None:
    return Payment.objects.filter(wallet=wallet, order=order).first() if order is not None else None


def _same(payment: Payment, choice: Choice, amount: int, offer: PlanOffer | None) -> Payment:
    asked = (choice.provider, choice.method.code, amount, offer and offer.pk)
    if (payment.provider, payment.method, payment.amount, payment.offer_id) != asked:
        raise OrderReused(_("This order has begun another payment. Give each payment an order of its own."))
    return payment


def _written(
    wallet: Account,
    choice: Choice,
    *,
    amount: int,
    due: int,
    actor: str,
    order: uuid.UUID | None,
    offer: PlanOffer | None,
) -> Payment:
    now = timezone.now()
    return Payment.objects.create(
        wallet=wallet,
        provider=choice.provider,
        method=choice.method.code,
        amount=amount,
        currency=choice.rate.currency,
        due=due,
        rate=choice.rate.rate,
        order=order,
        offer=offer,
        actor=actor[:200],
        expires_at=now + LASTS,
        ask_at=now + FIRST_LOOK,
    )


def _checked(wallet: Account, choice: Choice, amount: int) -> int:
    """The price of an amount that may be paid in."""
    allowed = limits()
    if not allowed.allows(amount):
        raise NotOffered(
            _("Between %(smallest)s and %(largest)s can be added at once.")
            % {
                "smallest": money.to_text(allowed.smallest, decimals=2),
                "largest": money.to_text(allowed.largest, decimals=2),
            }
        )
    due = choice.due(amount)
    if due > currencies.LARGEST_DUE:
        raise NotOffered(_("This is more than can be paid at once."))
    if Payment.objects.filter(wallet=wallet, state__in=OPEN).count() >= MOST_OPEN:
        raise NotOffered(_("Too many payments are waiting. Finish one, or try again later."))
    return due


def _open(provider: Provider, payment: Payment, *, title: str, email: str, links: Links) -> None:
    order = order_of(payment, title=title, email=email, links=links)
    waiting = Payment.objects.filter(pk=payment.pk)
    try:
        checkout = provider.begin(order)
        if len(checkout.url) > LONGEST_URL or not addresses.allowed(checkout.url):
            raise ProviderFailed(f"{provider.NAME}: the checkout's address cannot be used")
    except ProviderFailed as error:
        log.warning("payment.not_begun", provider=provider.NAME, payment=str(payment.pk), error=str(error))
        waiting.filter(state=PaymentState.CREATED).update(state=PaymentState.FAILED, note=str(error)[:300])
        raise
    payment.checkout, payment.checkout_url = checkout.id, checkout.url
    waiting.update(checkout=checkout.id, checkout_url=checkout.url)


def order_of(payment: Payment, *, title: str = "", email: str = "", links: Links | None = None) -> Order:
    """A payment as its provider knows it."""
    ours = links or Links("", "", "")
    return Order(
        id=payment.pk,
        due=payment.due,
        currency=payment.currency,
        method=payment.method,
        title=title,
        return_url=ours.done,
        cancel_url=ours.cancelled,
        notify_url=ours.notify,
        expires_at=payment.expires_at,
        email=email,
        checkout=payment.checkout,
    )


def refund(payment: Payment, *, due: int, key: str) -> None:
    """Asks the provider to give `due` minor units of a payment back. Its own event books it, as any refund's.

    `key` makes a request that is sent twice count once. Raises NotOffered, ProviderFailed.
    """
    provider = registry.find(payment.provider)
    if provider is None or not payment.is_credited:
        raise NotOffered(_("This payment cannot be refunded here."))
    if not 0 < due <= left(payment):
        raise NotOffered(_("This is more than is left of the payment."))
    provider.refund(receipt=payment.receipt, due=due, key=key)


def of_team(team: int) -> QuerySet[Payment]:
    """The payments into the team's wallet."""
    return Payment.objects.filter(wallet__team_id=team)


def left(payment: Payment) -> int:
    """What refunds and disputes have left of a payment, in minor units of its currency."""
    if not payment.is_credited:
        return 0
    gone = payment.reversals.filter(stage=Stage.TAKEN).aggregate(total=Sum("due"))["total"] or 0
    return max(0, payment.due - gone)
