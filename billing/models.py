"""The tables of the ledger. Other apps reach them through billing's functions, not through these classes.

All amounts are integer nano-units of the one currency (`billing.money`). What must always be true is a named
constraint here; triggers (migration 0002) refuse to change or delete a transfer or a price version.
"""

from django.db import models
from django.db.models import F, Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from billing import ids, prices


class AccountKind(models.TextChoices):
    """Wallets and bought plans keep totals; every other account is the sum of its transfers, so that no row of it is
    hot. `plans` is the other side of plans: what they were bought for comes in, what they are worth goes out."""

    WALLET = "wallet", _("wallet")
    PLAN = "plan", _("plan")
    PLANS = "plans", _("plans sold")
    REVENUE = "revenue", _("revenue")
    RECEIVABLE = "receivable", _("receivable")
    PAYMENTS = "payments", _("payments")
    PROMO = "promo", _("promotion")
    PROVIDER_COST = "provider_cost", _("provider cost")


class PriceGroup(models.Model):
    """Customers whose wallets pay every price times `multiplier`, in parts per million. None is a multiplier of 1."""

    name = models.CharField(_("name"), max_length=100, unique=True)
    multiplier = models.BigIntegerField(_("multiplier"))
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    class Meta:
        verbose_name = _("price group")
        verbose_name_plural = _("price groups")
        constraints = [
            models.CheckConstraint(name="group_multiplier_not_negative", condition=Q(multiplier__gte=0)),
            models.CheckConstraint(
                name="group_multiplier_at_most_100", condition=Q(multiplier__lte=prices.HIGHEST_MULTIPLIER)
            ),
            models.CheckConstraint(name="group_has_a_name", condition=~Q(name="")),
        ]

    def __str__(self) -> str:
        return self.name


class Account(models.Model):
    """One side of transfers. `balance` is what came in minus what went out; `held` is reserved by open holds.

    A team has one wallet and any number of plans, which pay until they end (`ends_at`) and never on credit.
    """

    kind = models.CharField(_("kind"), max_length=16, choices=AccountKind)
    team = models.ForeignKey("portal.Team", models.PROTECT, null=True, blank=True, related_name="accounts")
    currency = models.CharField(_("currency"), max_length=3)
    balance = models.BigIntegerField(_("balance"), default=0)
    held = models.BigIntegerField(_("held"), default=0)
    credit_limit = models.BigIntegerField(_("credit limit"), default=0)
    frozen = models.CharField(_("frozen because"), max_length=200, blank=True)
    ends_at = models.DateTimeField(_("ends"), null=True, blank=True)
    group = models.ForeignKey(
        PriceGroup, models.PROTECT, null=True, blank=True, related_name="wallets", verbose_name=_("price group")
    )
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    class Meta:
        verbose_name = _("account")
        verbose_name_plural = _("accounts")
        constraints = [
            models.CheckConstraint(name="account_held_not_negative", condition=Q(held__gte=0)),
            models.CheckConstraint(name="account_credit_not_negative", condition=Q(credit_limit__gte=0)),
            models.CheckConstraint(
                name="account_available_not_negative", condition=Q(balance__gte=F("held") - F("credit_limit"))
            ),
            models.CheckConstraint(
                name="account_totals_on_wallets_only",
                condition=Q(kind=AccountKind.WALLET)
                | Q(kind=AccountKind.PLAN, credit_limit=0)
                | Q(balance=0, held=0, credit_limit=0),
            ),
            models.CheckConstraint(
                name="account_wallet_has_team",
                condition=~Q(kind__in=[AccountKind.WALLET, AccountKind.PLAN]) | Q(team__isnull=False),
            ),
            models.CheckConstraint(
                name="account_plan_ends", condition=Q(kind=AccountKind.PLAN) ^ Q(ends_at__isnull=True)
            ),
            models.UniqueConstraint(
                name="account_one_per_team",
                fields=["team", "kind", "currency"],
                condition=~Q(kind=AccountKind.PLAN),
            ),
            models.UniqueConstraint(
                name="account_one_platform", fields=["kind", "currency"], condition=Q(team__isnull=True)
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} {self.team or ''}".strip()

    @property
    def free(self) -> int:
        """Its own money that nothing holds."""
        return self.balance - self.held

    @property
    def available(self) -> int:
        """What can be spent, with the credit."""
        return self.free + self.credit_limit


class TransferKind(models.TextChoices):
    CHARGE = "charge", _("charge")
    SHORTFALL = "shortfall", _("shortfall")
    CREDIT = "credit", _("credit")
    PAYMENT = "payment", _("payment")
    REDEMPTION = "redemption", _("redeem code")
    REFUND = "refund", _("refund")
    DISPUTE = "dispute", _("dispute")
    PURCHASE = "purchase", _("plan bought")
    GRANT = "grant", _("plan filled")
    DRAW = "draw", _("paid by plan")
    EXPIRY = "expiry", _("plan expired")
    ADJUSTMENT = "adjustment", _("adjustment")
    REVERSAL = "reversal", _("reversal")


class Transfer(models.Model):
    """`amount` leaves `debit` and enters `credit`: one row is both sides, so the books cannot be out of balance.

    Append-only. `reference` names what caused it, once: a hold's id, a payment's id, an administrator's request.
    """

    kind = models.CharField(_("kind"), max_length=16, choices=TransferKind)
    # No foreign key checks: the books write only to accounts that they have locked, and no account is ever deleted
    # (migration 0002 refuses it), so the checks would cost every charge and find nothing.
    debit = models.ForeignKey(
        Account, models.PROTECT, related_name="debits", verbose_name=_("from"), db_constraint=False, db_index=False
    )
    credit = models.ForeignKey(
        Account, models.PROTECT, related_name="credits", verbose_name=_("to"), db_constraint=False, db_index=False
    )
    amount = models.BigIntegerField(_("amount"))
    reference = models.CharField(_("reference"), max_length=64)
    reverses = models.ForeignKey(
        "self", models.PROTECT, null=True, blank=True, related_name="reversed_by", db_index=False
    )
    actor = models.CharField(_("by"), max_length=200, blank=True)
    reason = models.CharField(_("reason"), max_length=500, blank=True)
    created_at = models.DateTimeField(_("time"))

    class Meta:
        verbose_name = _("transfer")
        verbose_name_plural = _("transfers")
        indexes = [
            models.Index(name="transfer_credit_not_charge", fields=["credit"], condition=~Q(kind=TransferKind.CHARGE)),
            # What invoices and statements ask for: a wallet's payments at once, its charges by time.
            models.Index(name="transfer_debit_not_charge", fields=["debit"], condition=~Q(kind=TransferKind.CHARGE)),
            models.Index(name="transfer_debit_time", fields=["debit", "created_at"]),
        ]
        constraints = [
            models.CheckConstraint(name="transfer_amount_positive", condition=Q(amount__gt=0)),
            models.CheckConstraint(name="transfer_two_accounts", condition=~Q(debit=F("credit"))),
            models.UniqueConstraint(name="transfer_once", fields=["reference", "kind"]),
            models.UniqueConstraint(
                name="transfer_reversed_once", fields=["reverses"], condition=Q(reverses__isnull=False)
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} {self.reference}"


class Window(models.TextChoices):
    TOTAL = "total", _("in total")
    DAY = "day", _("a day")
    WEEK = "week", _("a week")
    MONTH = "month", _("a month")


class BudgetOwner(models.TextChoices):
    KEY = "key", _("key")
    TEAM = "team", _("team")


class Budget(models.Model):
    """A spending cap of a key or a team, counted in calendar windows.

    The row holds the current window: `starts_at`, what was spent in it, what open holds may still spend. `over` is
    what both exceed the cap by: after a cap was lowered, a charge above its hold, or under a raise.

    A raise adds `extra` to the cap until `extra_until`, then ends by itself. Where the time zone was changed in the
    middle of a window, that window lasts until `kept_until` (`billing.windows`).
    """

    owner_kind = models.CharField(max_length=8, choices=BudgetOwner)
    owner_id = models.BigIntegerField()
    window = models.CharField(_("window"), max_length=8, choices=Window)
    cap = models.BigIntegerField(_("cap"))
    zone = models.CharField(_("time zone"), max_length=64, default="UTC")
    starts_at = models.DateTimeField(_("window began"))
    used = models.BigIntegerField(_("used"), default=0)
    held = models.BigIntegerField(_("held"), default=0)
    over = models.BigIntegerField(_("over"), default=0)
    extra = models.BigIntegerField(_("raised by"), default=0)
    extra_until = models.DateTimeField(_("raised until"), null=True, blank=True)
    kept_until = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name = _("budget")
        verbose_name_plural = _("budgets")
        constraints = [
            models.UniqueConstraint(name="budget_one_per_window", fields=["owner_kind", "owner_id", "window"]),
            models.CheckConstraint(name="budget_cap_not_negative", condition=Q(cap__gte=0)),
            models.CheckConstraint(name="budget_used_not_negative", condition=Q(used__gte=0)),
            models.CheckConstraint(name="budget_held_not_negative", condition=Q(held__gte=0)),
            models.CheckConstraint(name="budget_over_not_negative", condition=Q(over__gte=0)),
            models.CheckConstraint(name="budget_within_cap", condition=Q(used__lte=F("cap") + F("over") - F("held"))),
            models.CheckConstraint(
                name="budget_raise_has_an_end",
                condition=Q(extra=0, extra_until__isnull=True) | Q(extra__gt=0, extra_until__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.owner_kind} {self.owner_id} {self.get_window_display()}"

    @property
    def limit(self) -> int:
        """The cap and what it is raised by now: what `used` and `held` have to fit."""
        return self.cap + (self.extra if self.raised else 0)

    @property
    def raised(self) -> bool:
        return self.extra_until is not None and timezone.now() < self.extra_until

    @property
    def left(self) -> int:
        return max(0, self.limit - self.used - self.held)


class BudgetAction(models.TextChoices):
    CAP = "cap", _("cap set")
    UNCAP = "uncap", _("cap removed")
    RAISE = "raise", _("raised")
    LOWER = "lower", _("raise ended")
    ZONE = "zone", _("time zone")


class BudgetChange(models.Model):
    """Who changed a spending cap, when, how and why. Append-only; names the budget, which may be no more.

    `cap` is nano-units, None where there is none any more; `extra` what it was raised by, until `until`.
    """

    owner_kind = models.CharField(max_length=8, choices=BudgetOwner)
    owner_id = models.BigIntegerField()
    window = models.CharField(_("window"), max_length=8, choices=Window)
    action = models.CharField(_("change"), max_length=8, choices=BudgetAction)
    cap = models.BigIntegerField(_("cap"), null=True)
    extra = models.BigIntegerField(_("raised by"), default=0)
    until = models.DateTimeField(_("raised until"), null=True)
    zone = models.CharField(_("time zone"), max_length=64)
    actor = models.CharField(_("by"), max_length=200, blank=True)
    reason = models.CharField(_("reason"), max_length=500, blank=True)
    created_at = models.DateTimeField(_("time"), auto_now_add=True)

    class Meta:
        verbose_name = _("change of a budget")
        verbose_name_plural = _("changes of budgets")
        indexes = [models.Index(name="budget_change_owner", fields=["owner_kind", "owner_id", "-id"])]

    def __str__(self) -> str:
        return f"{self.owner_kind} {self.owner_id} {self.get_window_display()}: {self.get_action_display()}"


class ModelKind(models.TextChoices):
    CHAT = "chat", _("chat")
    EMBEDDING = "embedding", _("embedding")
    RERANK = "rerank", _("rerank")
    MODERATION = "moderation", _("moderation")
    IMAGE = "image", _("picture")
    SPEECH = "speech", _("speech")
    TRANSCRIPTION = "transcription", _("transcription")
    VIDEO = "video", _("video")
    TASK = "task", _("task")


class CatalogModel(models.Model):
    """A model that is offered under this name. Without a price in force it cannot be called."""

    name = models.CharField(_("name"), max_length=200, unique=True)
    kind = models.CharField(_("kind"), max_length=16, choices=ModelKind, default=ModelKind.CHAT)
    provider = models.CharField(_("provider"), max_length=100, blank=True)
    description = models.CharField(_("description"), max_length=500, blank=True)
    context_window = models.PositiveIntegerField(_("context window (tokens)"), null=True, blank=True)
    max_output = models.PositiveIntegerField(_("longest answer (tokens)"), null=True, blank=True)
    active = models.BooleanField(_("offered"), default=True)
    capabilities = models.JSONField(
        _("capabilities"),
        default=dict,
        blank=True,
        help_text=_("where the model differs from what is known of its kind"),
    )
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    class Meta:
        verbose_name = _("model")
        verbose_name_plural = _("models and prices")

    def __str__(self) -> str:
        return self.name


class PriceVersion(models.Model):
    """What a model costs from a moment on: nano-units per 1,000,000 units by bucket. Immutable.

    `tiers` lists `[above, rates]` for long inputs, None where there are none (`billing.prices`). With a `group` it is
    that group's own price, to which no multiplier applies; `rates` None ends it, and the list's price counts again.
    """

    model = models.ForeignKey(CatalogModel, models.PROTECT, related_name="prices")
    group = models.ForeignKey(
        PriceGroup, models.PROTECT, null=True, blank=True, related_name="prices", verbose_name=_("price group")
    )
    rates = models.JSONField(_("rates"), null=True, blank=True)
    tiers = models.JSONField(_("tiers"), null=True, blank=True)
    valid_from = models.DateTimeField(_("in force from"))
    created_at = models.DateTimeField(_("written"), auto_now_add=True)
    actor = models.CharField(_("by"), max_length=200, blank=True)

    class Meta:
        verbose_name = _("price version")
        verbose_name_plural = _("price versions")
        constraints = [
            models.UniqueConstraint(
                name="price_one_per_moment", fields=["model", "valid_from"], condition=Q(group__isnull=True)
            ),
            models.UniqueConstraint(
                name="group_price_one_per_moment",
                fields=["group", "model", "valid_from"],
                condition=Q(group__isnull=False),
            ),
            models.CheckConstraint(
                name="price_of_the_list_has_rates", condition=Q(rates__isnull=False) | Q(group__isnull=False)
            ),
        ]

    def __str__(self) -> str:
        return f"{self.model} {self.valid_from:%Y-%m-%d %H:%M}"


class HoldState(models.TextChoices):
    HELD = "held", _("held")
    DISPATCHED = "dispatched", _("dispatched")
    RECOVERING = "recovering", _("recovering")
    REVIEW = "review", _("in review")
    SETTLED = "settled", _("settled")
    VOIDED = "voided", _("voided")


OPEN_STATES = (HoldState.HELD, HoldState.DISPATCHED, HoldState.RECOVERING, HoldState.REVIEW)


class HoldQuerySet(models.QuerySet["Hold"]):
    def open(self) -> "HoldQuerySet":
        """Those that are neither settled nor voided, in words by which both databases know the index of these few."""
        return self.filter(resolved_at__isnull=True)

    def leased(self) -> "HoldQuerySet":
        """The open ones whose end is a process's business: those in review wait for an administrator."""
        return self.open().exclude(state=HoldState.REVIEW)


class Hold(models.Model):
    """Money reserved for one call, whose id it bears, until the call is settled or voided.

    It is made DISPATCHED: from the same commit on the call may be sent. One whose lease ended without a renewal is
    first suspected, then RECOVERING, and ends SETTLED, VOIDED or, where nobody can tell whether the upstream did the
    work, in REVIEW, which an administrator resolves.

    `generation` is the lease's fencing number: whoever recovers the hold raises it, and the process that lost it can
    change nothing any more. `budgets` lists `[budget id, start of its window in Unix seconds]`, `parts`
    `[plan's account, amount]` of what plans pay first. `facts` is what the caller wants back with a hold that is
    recovered; `progress` is `billing.operations.Progress`, as last renewed.
    `note` says why it is in review, and who resolved it.
    """

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    account = models.ForeignKey(Account, models.PROTECT, related_name="holds", db_constraint=False, db_index=False)
    amount = models.BigIntegerField(_("amount"))
    charged = models.BigIntegerField(_("charged"), default=0)
    state = models.CharField(_("state"), max_length=12, choices=HoldState)
    generation = models.IntegerField(default=1)
    price = models.ForeignKey(PriceVersion, models.PROTECT, related_name="+", db_constraint=False, db_index=False)
    budgets = models.JSONField(default=list)
    parts = models.JSONField(default=list, db_default=[])
    facts = models.JSONField(default=dict)
    progress = models.JSONField(null=True, blank=True)
    lease_owner = models.CharField(max_length=64)
    lease_until = models.DateTimeField()
    suspected_at = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(_("created"))
    resolved_at = models.DateTimeField(_("resolved"), null=True, blank=True)
    note = models.CharField(_("note"), max_length=500, blank=True, db_default="")

    objects = HoldQuerySet.as_manager()

    class Meta:
        verbose_name = _("hold")
        verbose_name_plural = _("holds")
        indexes = [
            # A condition on `state` would name four: SQLite builds a table of these for every row that it writes, and
            # knows the index by no query but one that names the same four.
            models.Index(name="hold_open", fields=["lease_until"], condition=Q(resolved_at__isnull=True)),
        ]
        constraints = [
            models.CheckConstraint(name="hold_amount_not_negative", condition=Q(amount__gte=0)),
            models.CheckConstraint(name="hold_charged_not_negative", condition=Q(charged__gte=0)),
            models.CheckConstraint(
                name="hold_resolved_when_closed",
                condition=Q(state__in=[s.value for s in OPEN_STATES], resolved_at__isnull=True)
                | Q(state__in=["settled", "voided"], resolved_at__isnull=False),
            ),
            models.CheckConstraint(
                name="hold_charged_when_settled", condition=Q(state=HoldState.SETTLED) | Q(charged=0)
            ),
        ]

    def __str__(self) -> str:
        return str(self.id)


class IdempotencyKey(models.Model):
    """A client's `Idempotency-Key` within a wallet, and the call that it stands for. Kept 24 hours.

    Written in the transaction of the call's hold, deleted in that of its void: a call that cost nothing may be
    repeated. `fingerprint` is the SHA-256 of what was asked for, in hexadecimal.
    """

    pk = models.CompositePrimaryKey("account_id", "key")
    account = models.ForeignKey(Account, models.DO_NOTHING, db_constraint=False, db_index=False, related_name="+")
    key = models.CharField(max_length=255)
    hold = models.OneToOneField(Hold, models.DO_NOTHING, db_constraint=False, related_name="claim")
    fingerprint = models.CharField(max_length=64)
    created_at = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return f"{self.account_id} {self.key}"


class Revision(models.Model):
    """Counts the changes of a snapshot's tables, so that every process learns of them (`billing.revisions`)."""

    name = models.CharField(max_length=32, primary_key=True)
    value = models.BigIntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.name} {self.value}"


class ReportKind(models.TextChoices):
    FULL = "full", _("full")
    RECENT = "recent", _("incremental")


class ReportState(models.TextChoices):
    RUNNING = "running", _("running")
    OK = "ok", _("books are whole")
    VIOLATED = "violated", _("violations")
    FAILED = "failed", _("did not finish")


class AuditReport(models.Model):
    """One run of the audit (`billing.audit`). It is there from the beginning, so one that dies leaves it RUNNING.

    `figures` counts the rows that were looked at and says where the run began; `violations` counts what was found,
    known or new; `note` says why a run did not finish.
    """

    kind = models.CharField(_("kind"), max_length=8, choices=ReportKind)
    state = models.CharField(_("result"), max_length=8, choices=ReportState, default=ReportState.RUNNING)
    began_at = models.DateTimeField(_("began"))
    ended_at = models.DateTimeField(_("ended"), null=True, blank=True)
    figures = models.JSONField(_("looked at"), default=dict)
    violations = models.PositiveIntegerField(_("violations"), default=0)
    note = models.CharField(_("note"), max_length=500, blank=True)

    class Meta:
        verbose_name = _("audit report")
        verbose_name_plural = _("audit reports")
        indexes = [models.Index(name="report_kind_state", fields=["kind", "state", "-id"])]

    def __str__(self) -> str:
        return f"{self.pk} {self.get_kind_display()}"


class AuditFinding(models.Model):
    """A violated invariant, from the report that first had it until one that looked again and did not find it.

    `invariant` is the promise that is broken, `subject` the row, `account` the one that it concerns. `freezes` where
    that is to be stopped for it, `froze` where it was: another reason may have stopped it already. `alerted_at` is when
    the administrators were written to.
    """

    report = models.ForeignKey(AuditReport, models.PROTECT, related_name="findings", verbose_name=_("report"))
    invariant = models.CharField(_("invariant"), max_length=100)
    subject = models.CharField(_("subject"), max_length=60)
    detail = models.CharField(_("detail"), max_length=500)
    account = models.ForeignKey(
        Account, models.DO_NOTHING, null=True, db_constraint=False, related_name="findings", verbose_name=_("account")
    )
    freezes = models.BooleanField(default=False, db_default=False, editable=False)
    froze = models.BooleanField(_("account frozen"), default=False)
    first_seen = models.DateTimeField(_("first seen"))
    last_seen = models.DateTimeField(_("last seen"))
    gone_at = models.DateTimeField(_("gone"), null=True, blank=True)
    alerted_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        verbose_name = _("audit finding")
        verbose_name_plural = _("audit findings")
        constraints = [
            models.UniqueConstraint(
                name="finding_once", fields=["invariant", "subject"], condition=Q(gone_at__isnull=True)
            )
        ]

    def __str__(self) -> str:
        return f"{self.invariant}: {self.subject}"


class AuditMark(models.Model):
    """What the audit had counted of a wallet or a budget up to a transfer, so that it need not count it again.

    `subject` and `number` name it, `total` is its balance or what was used. For a budget, `since` is the start of its
    window in Unix seconds. No foreign key: a check of it would wait for the row that every call locks.
    """

    pk = models.CompositePrimaryKey("subject", "number")
    subject = models.CharField(max_length=8)
    number = models.BigIntegerField()
    transfer = models.BigIntegerField()
    total = models.BigIntegerField()
    since = models.BigIntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.subject} {self.number} up to {self.transfer}"


class AuditCursor(models.Model):
    """How far the incremental audit has looked; its one row's `state` is `billing.audit.recent.State`."""

    name = models.CharField(max_length=16, primary_key=True)
    state = models.JSONField(default=dict)

    def __str__(self) -> str:
        return self.name


# The tables of everything but the ledger itself stand in files of their own; Django looks for an app's tables here.
from billing import credit_models  # noqa: E402, F401
from billing.invoice_models import (  # noqa: E402, F401
    BillingDetails,
    ClosedMonth,
    ClosingOutcome,
    DocumentKind,
    Invoice,
    InvoicedWallet,
    InvoiceLine,
    InvoiceSeries,
    InvoiceState,
    LineKind,
    PaymentState,
)
from billing.payments import models as payment_models  # noqa: E402, F401
from billing.plan_models import Plan, PlanKind, PlanOffer, PlanState  # noqa: E402, F401
from billing.proposal_models import MarginRule, PriceProposal, ProposalItem  # noqa: E402, F401
