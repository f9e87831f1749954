"""The tables of payments. Only this folder's functions write them; nothing of them is ever deleted."""

import datetime as dt

from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from billing import ids
from billing.payments import Outcome, Reversal, Stage


class PaymentState(models.TextChoices):
    CREATED = "created", _("waiting for payment")
    PROCESSING = "processing", _("being confirmed")
    PAID = "paid", _("paid")
    FAILED = "failed", _("failed")
    EXPIRED = "expired", _("expired")
    PARTLY_REFUNDED = "part_refunded", _("refunded in part")
    REFUNDED = "refunded", _("refunded")
    DISPUTED = "disputed", _("disputed")


OPEN = (PaymentState.CREATED, PaymentState.PROCESSING)
CREDITED = (PaymentState.PAID, PaymentState.PARTLY_REFUNDED, PaymentState.REFUNDED, PaymentState.DISPUTED)


class Payment(models.Model):
    """One attempt to pay into a wallet. Its id is the transfer's reference, so that it is credited once.

    `amount` is what the wallet gets (nano-units). `due` is what the payer pays, in minor units of `currency`, at
    `rate` (`ExchangeRate.rate`; 10**9 in the ledger's own currency). `taken` is what refunds and disputes hold of
    `amount` now. `checkout` and `receipt` are the provider's names for the checkout and for the payment made there.
    `order` is the number that a program gave it, so that it begins one payment, however often it asks. With an `offer`
    the money buys that plan at once, where it is still for sale for no more than was paid; else it stays in the wallet.
    """

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    wallet = models.ForeignKey("billing.Account", models.PROTECT, related_name="payments", verbose_name=_("wallet"))
    provider = models.CharField(_("provider"), max_length=16)
    method = models.CharField(_("method"), max_length=16, blank=True)
    amount = models.BigIntegerField(_("credit"))
    currency = models.CharField(_("currency"), max_length=3)
    due = models.BigIntegerField(_("price"))
    rate = models.BigIntegerField(_("rate"))
    taken = models.BigIntegerField(_("taken back"), default=0)
    state = models.CharField(_("state"), max_length=16, choices=PaymentState, default=PaymentState.CREATED)
    order = models.UUIDField(null=True, editable=False)
    offer = models.ForeignKey(
        "billing.PlanOffer", models.PROTECT, null=True, blank=True, related_name="payments", verbose_name=_("buys")
    )
    checkout = models.CharField(_("checkout"), max_length=255, blank=True)
    checkout_url = models.CharField(max_length=2048, blank=True, editable=False)
    receipt = models.CharField(_("provider's payment"), max_length=255, blank=True)
    actor = models.CharField(_("by"), max_length=200, blank=True)
    note = models.CharField(_("note"), max_length=300, blank=True)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    expires_at = models.DateTimeField(_("expires"))
    paid_at = models.DateTimeField(_("paid"), null=True, blank=True)
    ask_at = models.DateTimeField(editable=False)
    asked = models.PositiveSmallIntegerField(default=0, editable=False)

    class Meta:
        verbose_name = _("incoming payment")
        verbose_name_plural = _("incoming payments")
        indexes = [
            models.Index(name="payment_of_wallet", fields=["wallet", "-id"]),
            models.Index(name="payment_open", fields=["ask_at"], condition=Q(state__in=[s.value for s in OPEN])),
        ]
        constraints = [
            models.CheckConstraint(name="payment_amounts_positive", condition=Q(amount__gt=0, due__gt=0, rate__gt=0)),
            models.CheckConstraint(name="payment_taken_of_amount", condition=Q(taken__gte=0, taken__lte=F("amount"))),
            models.CheckConstraint(
                name="payment_paid_when_credited",
                condition=Q(state__in=[s.value for s in CREDITED], paid_at__isnull=False)
                | (~Q(state__in=[s.value for s in CREDITED]) & Q(paid_at__isnull=True, receipt="", taken=0)),
            ),
            models.UniqueConstraint(
                name="payment_one_per_order", fields=["wallet", "order"], condition=Q(order__isnull=False)
            ),
            models.UniqueConstraint(
                name="payment_one_per_checkout", fields=["provider", "checkout"], condition=~Q(checkout="")
            ),
            models.UniqueConstraint(
                name="payment_one_per_receipt", fields=["provider", "receipt"], condition=~Q(receipt="")
            ),
        ]

    def __str__(self) -> str:
        return str(self.id)

    @property
    def is_open(self) -> bool:
        return self.state in OPEN

    def is_payable(self, now: dt.datetime) -> bool:
        """Whether the payer can still go to the checkout."""
        return self.is_open and now < self.expires_at and bool(self.checkout_url)

    @property
    def is_credited(self) -> bool:
        return self.state in CREDITED


class PaymentReversal(models.Model):
    """A refund or a dispute of a payment, by the provider's `reference`. Its id begins its transfers' references."""

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    payment = models.ForeignKey(Payment, models.PROTECT, related_name="reversals", verbose_name=_("incoming payment"))
    kind = models.CharField(_("kind"), max_length=8, choices=[(r.value, r.value) for r in Reversal])
    reference = models.CharField(_("provider's id"), max_length=255)
    due = models.BigIntegerField(_("amount"))
    stage = models.PositiveSmallIntegerField(
        _("stage"),
        choices=[
            (Stage.OPEN.value, _("announced")),
            (Stage.TAKEN.value, _("taken")),
            (Stage.RETURNED.value, _("returned")),
        ],
    )
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    updated_at = models.DateTimeField(_("changed"), auto_now=True)

    class Meta:
        verbose_name = _("refund or dispute")
        verbose_name_plural = _("refunds and disputes")
        constraints = [
            models.UniqueConstraint(name="reversal_once", fields=["payment", "reference"]),
            models.CheckConstraint(name="reversal_positive", condition=Q(due__gt=0)),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.reference}"


class PaymentEvent(models.Model):
    """What a provider told us, once: the row is written before anything that follows from it, in one transaction.

    `facts` is what it says (`billing.payments.Fact`), `subject` the provider's payment that it is about where none of
    ours was known.
    """

    provider = models.CharField(_("provider"), max_length=16)
    event = models.CharField(_("event"), max_length=255)
    kind = models.CharField(_("kind"), max_length=64)
    payment = models.ForeignKey(
        Payment, models.PROTECT, null=True, blank=True, related_name="events", verbose_name=_("incoming payment")
    )
    outcome = models.CharField(
        _("outcome"), max_length=12, choices=[(outcome.value, outcome.value) for outcome in Outcome]
    )
    note = models.CharField(_("note"), max_length=300, blank=True)
    subject = models.CharField(max_length=255, blank=True, editable=False)
    facts = models.JSONField(_("facts"), default=list)
    received_at = models.DateTimeField(_("received"), auto_now_add=True)

    class Meta:
        verbose_name = _("event of a payment")
        verbose_name_plural = _("events of payments")
        constraints = [models.UniqueConstraint(name="payment_event_once", fields=["provider", "event"])]
        indexes = [
            models.Index(
                name="payment_event_unmatched",
                fields=["provider", "subject"],
                condition=Q(outcome=Outcome.UNMATCHED.value),
            ),
            models.Index(
                name="payment_event_refused", fields=["received_at"], condition=Q(outcome=Outcome.REFUSED.value)
            ),
        ]

    def __str__(self) -> str:
        return f"{self.provider} {self.event}"


class ExchangeRate(models.Model):
    """What one unit of the ledger's currency costs in another, times 10**9, from a moment on. Immutable."""

    currency = models.CharField(_("currency"), max_length=3)
    rate = models.BigIntegerField(_("rate"))
    valid_from = models.DateTimeField(_("valid from"))
    actor = models.CharField(_("by"), max_length=200, blank=True)
    created_at = models.DateTimeField(_("written"), auto_now_add=True)

    class Meta:
        verbose_name = _("exchange rate")
        verbose_name_plural = _("exchange rates")
        constraints = [
            models.UniqueConstraint(name="exchange_rate_once", fields=["currency", "valid_from"]),
            models.CheckConstraint(name="exchange_rate_positive", condition=Q(rate__gt=0)),
        ]

    def __str__(self) -> str:
        return f"{self.currency} {self.valid_from:%Y-%m-%d %H:%M}"
