"""The tables of invoices. `billing.invoices` writes them; what was said once is never changed (migration 0011).

All amounts are nano-units. What a wallet has been invoiced and what it still carries add up to its ledger exactly:
every closed month says what was owed, what came over from the month before, what was invoiced, and what goes on.
"""

from typing import ClassVar

from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from billing.models import Account, AccountKind


class BillingDetails(models.Model):
    """Who a team's invoices are written to. Each invoice keeps a copy of what stood here when it was issued."""

    team = models.OneToOneField("portal.Team", models.PROTECT, primary_key=True, related_name="billing_details")
    name = models.CharField(_("name or company"), max_length=200)
    address = models.CharField(_("address"), max_length=1000, blank=True)
    tax_id = models.CharField(_("tax number"), max_length=64, blank=True)
    email = models.EmailField(_("e-mail for invoices"), blank=True)
    changed_at = models.DateTimeField(auto_now=True)

    def __str__(self) -> str:
        return self.name


class InvoiceSeries(models.Model):
    """The last number given in a series and a year. It is raised in the transaction that writes the document."""

    series = models.CharField(max_length=8)
    year = models.PositiveSmallIntegerField()
    last = models.PositiveIntegerField(default=0)

    class Meta:
        constraints = [models.UniqueConstraint(name="series_once_a_year", fields=["series", "year"])]

    def __str__(self) -> str:
        return f"{self.series} {self.year}: {self.last}"


class DocumentKind(models.TextChoices):
    INVOICE = "invoice", _("invoice")
    CREDIT_NOTE = "credit_note", _("credit note")


class Invoice(models.Model):
    """An invoice of a wallet's month, or the credit note that corrects one. Immutable; its state is `InvoiceState`.

    `amount` is what is to be paid, in whole minor units of the currency; of it, `tax` is what is tax, at `tax_rate`
    parts per million. `items` is what the ledger says was owed for the month. A credit note has the transfer that gave
    `amount` back, and no items.
    """

    kind = models.CharField(_("kind"), max_length=12, choices=DocumentKind, default=DocumentKind.INVOICE)
    account = models.ForeignKey("billing.Account", models.PROTECT, related_name="invoices", verbose_name=_("wallet"))
    series = models.CharField(max_length=8)
    year = models.PositiveSmallIntegerField()
    serial = models.PositiveIntegerField()
    number = models.CharField(_("number"), max_length=32, unique=True)
    corrects = models.ForeignKey("self", models.PROTECT, null=True, related_name="credit_notes", verbose_name=_("of"))
    transfer = models.ForeignKey("billing.Transfer", models.PROTECT, null=True, related_name="+")
    reason = models.CharField(_("reason"), max_length=500, blank=True)
    month = models.DateField(_("month"))
    starts_at = models.DateTimeField(_("from"))
    ends_at = models.DateTimeField(_("until"))
    zone = models.CharField(_("time zone"), max_length=64)
    currency = models.CharField(_("currency"), max_length=3)
    items = models.BigIntegerField(_("used"), default=0)
    carried_in = models.BigIntegerField(_("carried over"), default=0)
    carried_out = models.BigIntegerField(_("carried on"), default=0)
    amount = models.BigIntegerField(_("amount"))
    tax_name = models.CharField(_("tax"), max_length=40, blank=True)
    tax_rate = models.PositiveIntegerField(_("tax rate"), default=0)
    tax = models.BigIntegerField(_("tax included"), default=0)
    seller = models.JSONField(_("seller"), default=dict)
    buyer = models.JSONField(_("buyer"), default=dict)
    actor = models.CharField(_("by"), max_length=200, blank=True)
    issued_at = models.DateTimeField(_("issued"))
    due_at = models.DateTimeField(_("due"), null=True)

    class Meta:
        verbose_name = _("invoice")
        verbose_name_plural = _("invoices")
        ordering = ("-pk",)
        constraints = [
            models.UniqueConstraint(name="invoice_numbered_once", fields=["series", "year", "serial"]),
            models.UniqueConstraint(
                name="invoice_one_a_month", fields=["account", "month"], condition=Q(kind=DocumentKind.INVOICE)
            ),
            models.CheckConstraint(name="invoice_amount_positive", condition=Q(amount__gt=0)),
            models.CheckConstraint(name="invoice_serial_positive", condition=Q(serial__gt=0)),
            models.CheckConstraint(name="invoice_period_in_order", condition=Q(starts_at__lt=F("ends_at"))),
            models.CheckConstraint(name="invoice_tax_within_amount", condition=Q(tax__gte=0, tax__lt=F("amount"))),
            models.CheckConstraint(
                name="invoice_adds_up",
                condition=Q(kind=DocumentKind.CREDIT_NOTE) | Q(items=F("amount") + F("carried_out") - F("carried_in")),
            ),
            models.CheckConstraint(
                name="invoice_credit_note_names_its_invoice",
                condition=Q(kind=DocumentKind.INVOICE, corrects__isnull=True, transfer__isnull=True)
                | (Q(kind=DocumentKind.CREDIT_NOTE, corrects__isnull=False, transfer__isnull=False) & ~Q(reason="")),
            ),
        ]

    def __str__(self) -> str:
        return self.number

    @property
    def net(self) -> int:
        """What of `amount` is no tax."""
        return self.amount - self.tax


class LineKind(models.TextChoices):
    """Usage to carried lines add up to the invoice's amount; openings, payments and closings say what became of it."""

    USAGE = "usage", _("usage")
    PLAN = "plan", _("plan bought")
    CORRECTION = "correction", _("correction")
    CARRIED_IN = "carried_in", _("carried over from the month before")
    CARRIED_OUT = "carried_out", _("carried on to the next month")
    OPENING = "opening", _("balance at the beginning")
    PAYMENT = "payment", _("payment")
    CLOSING = "closing", _("balance at the end")


class InvoiceLine(models.Model):
    """One line of an invoice. Of usage: all calls of a model with a key; `quantities` counts units by bucket.

    `code` is the kind of transfer where the line is one; `text` its reason or reference. Immutable.
    """

    invoice = models.ForeignKey(Invoice, models.PROTECT, related_name="lines")
    position = models.PositiveIntegerField()
    kind = models.CharField(max_length=12, choices=LineKind)
    code = models.CharField(max_length=16, blank=True)
    model = models.CharField(max_length=200, blank=True)
    key = models.CharField(max_length=120, blank=True)
    text = models.CharField(max_length=600, blank=True)
    calls = models.PositiveIntegerField(default=0)
    quantities = models.JSONField(default=dict)
    amount = models.BigIntegerField()
    at = models.DateTimeField(null=True)

    class Meta:
        constraints = [models.UniqueConstraint(name="line_one_per_position", fields=["invoice", "position"])]

    def __str__(self) -> str:
        return f"{self.invoice_id} {self.position}"


class PaymentState(models.TextChoices):
    OPEN = "open", _("Open")
    PAID = "paid", _("Paid")
    OVERDUE = "overdue", _("Overdue")
    CREDITED = "credited", _("Credited")


class InvoiceState(models.Model):
    """How an invoice stands, as last found from the ledger (`billing.invoices.standing`): the one row that changes."""

    invoice = models.OneToOneField(Invoice, models.PROTECT, primary_key=True, related_name="standing")
    state = models.CharField(_("state"), max_length=8, choices=PaymentState, default=PaymentState.OPEN)
    credited = models.BigIntegerField(_("credited"), default=0)
    outstanding = models.BigIntegerField(_("still to pay"))
    overdue_since = models.DateTimeField(_("overdue since"), null=True)
    settled_at = models.DateTimeField(_("settled"), null=True)

    class Meta:
        constraints = [
            models.CheckConstraint(name="state_credited_not_negative", condition=Q(credited__gte=0)),
            models.CheckConstraint(name="state_outstanding_not_negative", condition=Q(outstanding__gte=0)),
            models.CheckConstraint(
                name="state_says_what_is_outstanding",
                condition=Q(state__in=("open", "overdue"), outstanding__gt=0)
                | Q(state__in=("paid", "credited"), outstanding=0),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.invoice_id} {self.state}"


class ClosingOutcome(models.TextChoices):
    BEGAN = "began", _("invoicing begins")
    INVOICED = "invoiced", _("invoiced")
    EMPTY = "empty", _("nothing was used: no invoice")
    CARRIED = "carried", _("less than the smallest amount that can be paid: carried on")


class ClosedMonth(models.Model):
    """A month of a wallet that no transfer can enter any more, and what came of it. Written once.

    Months follow one another without a gap: each begins where the last one ended, in whatever time zone. `position` is
    the wallet's balance less what its team owes besides, at the end. The first row, BEGAN, only says where it starts.
    """

    account = models.ForeignKey("billing.Account", models.PROTECT, related_name="closed_months")
    month = models.DateField(_("month"))
    zone = models.CharField(max_length=64)
    starts_at = models.DateTimeField(null=True)
    ends_at = models.DateTimeField()
    outcome = models.CharField(_("outcome"), max_length=8, choices=ClosingOutcome)
    invoice = models.OneToOneField(Invoice, models.PROTECT, null=True, related_name="closing")
    items = models.BigIntegerField(default=0)
    invoiced = models.BigIntegerField(default=0)
    carried_in = models.BigIntegerField(default=0)
    carried_out = models.BigIntegerField(default=0)
    position = models.BigIntegerField()
    actor = models.CharField(max_length=200, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name = _("closed month")
        verbose_name_plural = _("closed months")
        constraints = [
            models.UniqueConstraint(name="closing_once_a_month", fields=["account", "month"]),
            models.CheckConstraint(
                name="closing_adds_up", condition=Q(carried_out=F("carried_in") + F("items") - F("invoiced"))
            ),
            models.CheckConstraint(
                name="closing_invoiced_with_an_invoice",
                condition=Q(outcome="invoiced", invoice__isnull=False, invoiced__gt=0)
                | (~Q(outcome="invoiced") & Q(invoice__isnull=True, invoiced=0)),
            ),
            models.CheckConstraint(
                name="closing_has_a_beginning",
                condition=Q(outcome="began", starts_at__isnull=True) | Q(starts_at__lt=F("ends_at")),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.account_id} {self.month:%Y-%m}"


class InvoicedWallets(models.Manager["InvoicedWallet"]):
    """Wallets with a credit limit, those that owe, and those that have been invoiced."""

    def get_queryset(self) -> models.QuerySet["InvoicedWallet"]:
        wallets = super().get_queryset().filter(kind=AccountKind.WALLET)
        return wallets.filter(
            Q(credit_limit__gt=0) | Q(balance__lt=0) | Q(pk__in=ClosedMonth.objects.values("account"))
        )


class InvoicedWallet(Account):
    """A wallet and its next month, which an administrator may look at and close by hand."""

    objects: ClassVar[InvoicedWallets] = InvoicedWallets()

    class Meta:
        proxy = True
        verbose_name = _("month to close")
        verbose_name_plural = _("months to close")
