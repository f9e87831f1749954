"""The tables of credit that an operator gives: redeem codes, and adjustments that an administrator asks for.

Amounts are integer nano-units. `billing.payments.redeem` and `billing.payments.manual` are their only writers.
"""

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _


class BatchState(models.TextChoices):
    WAITING = "waiting", _("waits for a second administrator")
    ACTIVE = "active", _("can be redeemed")
    DISABLED = "disabled", _("disabled")


class RedeemBatch(models.Model):
    """Redeem codes that were made together: `number` of them, each worth `amount`.

    `per_team` and `per_user` are how many of them one team, and one person, may redeem; None for any number. A batch
    that is worth more than one administrator may give (`settings.SECOND_ADMIN_ABOVE`) waits for another one. The
    `reference` makes a form that is sent twice make one batch.
    """

    reference = models.UUIDField(unique=True, editable=False)
    label = models.CharField(_("label"), max_length=100)
    amount = models.BigIntegerField(_("amount of each"))
    number = models.PositiveIntegerField(_("codes"))
    expires_at = models.DateTimeField(_("valid until"), null=True, blank=True)
    per_team = models.PositiveIntegerField(_("codes a team may redeem"), null=True, blank=True)
    per_user = models.PositiveIntegerField(_("codes a person may redeem"), null=True, blank=True)
    note = models.CharField(_("note"), max_length=500, blank=True)
    state = models.CharField(_("state"), max_length=8, choices=BatchState)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, related_name="+", verbose_name=_("made by")
    )
    created_at = models.DateTimeField(_("made"), auto_now_add=True)
    approved_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True, related_name="+", verbose_name=_("approved by")
    )
    approved_at = models.DateTimeField(_("approved"), null=True, blank=True)

    class Meta:
        verbose_name = _("batch of redeem codes")
        verbose_name_plural = _("redeem codes")
        constraints = [
            models.CheckConstraint(name="redeem_batch_amount_positive", condition=Q(amount__gt=0)),
            models.CheckConstraint(name="redeem_batch_number_positive", condition=Q(number__gt=0)),
            models.CheckConstraint(name="redeem_batch_has_a_label", condition=~Q(label="")),
            models.CheckConstraint(
                name="redeem_batch_limits_positive",
                condition=(Q(per_team__isnull=True) | Q(per_team__gt=0))
                & (Q(per_user__isnull=True) | Q(per_user__gt=0)),
            ),
            models.CheckConstraint(
                name="redeem_batch_approved_by_another",
                condition=Q(approved_by__isnull=True, approved_at__isnull=True)
                | (Q(approved_by__isnull=False, approved_at__isnull=False) & ~Q(approved_by=F("created_by"))),
            ),
        ]

    def __str__(self) -> str:
        return self.label


class CodeState(models.TextChoices):
    UNUSED = "unused", _("unused")
    REDEEMED = "redeemed", _("redeemed")
    DISABLED = "disabled", _("disabled")


class RedeemCode(models.Model):
    """One code, known by its digest only. Who redeemed it, when, and the transfer that it became.

    `team_turn` and `user_turn` count the codes of the batch that this team, and this person, have redeemed: no two
    can have the same, however many try at once.
    """

    batch = models.ForeignKey(RedeemBatch, models.PROTECT, related_name="codes", verbose_name=_("batch"))
    digest = models.CharField(max_length=64, unique=True, editable=False)
    last_four = models.CharField(_("ends with"), max_length=4)
    state = models.CharField(_("state"), max_length=8, choices=CodeState, default=CodeState.UNUSED)
    team = models.ForeignKey(
        "portal.Team", models.PROTECT, null=True, blank=True, related_name="+", verbose_name=_("redeemed for")
    )
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True, related_name="+", verbose_name=_("redeemed by")
    )
    redeemed_at = models.DateTimeField(_("redeemed"), null=True, blank=True)
    team_turn = models.PositiveIntegerField(null=True, blank=True, editable=False)
    user_turn = models.PositiveIntegerField(null=True, blank=True, editable=False)
    transfer = models.OneToOneField(
        "billing.Transfer",
        models.PROTECT,
        null=True,
        blank=True,
        related_name="redeem_code",
        verbose_name=_("transfer"),
    )

    class Meta:
        verbose_name = _("redeem code")
        verbose_name_plural = _("single codes")
        constraints = [
            models.CheckConstraint(
                name="redeem_code_redeemed_by_somebody",
                condition=Q(
                    state=CodeState.REDEEMED,
                    team__isnull=False,
                    user__isnull=False,
                    redeemed_at__isnull=False,
                    team_turn__isnull=False,
                    user_turn__isnull=False,
                )
                | (
                    Q(state__in=(CodeState.UNUSED, CodeState.DISABLED), team__isnull=True, user__isnull=True)
                    & Q(redeemed_at__isnull=True, team_turn__isnull=True, user_turn__isnull=True, transfer__isnull=True)
                ),
            ),
            models.UniqueConstraint(name="redeem_code_team_turn_once", fields=["batch", "team", "team_turn"]),
            models.UniqueConstraint(name="redeem_code_user_turn_once", fields=["batch", "user", "user_turn"]),
        ]

    def __str__(self) -> str:
        return f"…{self.last_four}"


class RedeemAttempt(models.Model):
    """A try at a code that might be a guess: written before the code is looked up, taken back where it was redeemed.

    Forgotten after `billing.payments.redeem.WINDOW`.
    """

    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="+", db_index=False)
    address = models.CharField(max_length=45)
    at = models.DateTimeField(db_index=True)

    class Meta:
        indexes = [
            models.Index(name="redeem_attempt_user", fields=["user", "at"]),
            models.Index(name="redeem_attempt_address", fields=["address", "at"]),
        ]

    def __str__(self) -> str:
        return f"{self.user_id} {self.at:%Y-%m-%d %H:%M:%S}"


class AdjustmentKind(models.TextChoices):
    BALANCE = "balance", _("balance")
    CREDIT_LIMIT = "credit_limit", _("credit limit")


class AdjustmentState(models.TextChoices):
    PENDING = "pending", _("waits for a second administrator")
    DONE = "done", _("done")
    REJECTED = "rejected", _("rejected")
    WITHDRAWN = "withdrawn", _("withdrawn")


class Adjustment(models.Model):
    """A change of a wallet's balance or of its credit limit by `amount`, for a reason, asked for by an administrator.

    `large` says that a second administrator had to approve it, as it was when it was asked for. `before` is the credit
    limit that is changed: where it has become another meanwhile, the change is not carried out. `reference` is the
    transfer's, and makes a form that is sent twice count once.
    """

    reference = models.UUIDField(unique=True, editable=False)
    account = models.ForeignKey("billing.Account", models.PROTECT, related_name="adjustments", verbose_name=_("wallet"))
    kind = models.CharField(_("of"), max_length=16, choices=AdjustmentKind)
    amount = models.BigIntegerField(_("change"))
    before = models.BigIntegerField(_("limit before"), null=True, blank=True)
    reason = models.CharField(_("reason"), max_length=500)
    large = models.BooleanField(_("needs two"), default=False)
    state = models.CharField(_("state"), max_length=9, choices=AdjustmentState, default=AdjustmentState.PENDING)
    requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, related_name="+", verbose_name=_("asked for by")
    )
    requested_at = models.DateTimeField(_("asked for"))
    decided_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True, related_name="+", verbose_name=_("decided by")
    )
    decided_at = models.DateTimeField(_("decided"), null=True, blank=True)
    note = models.CharField(_("note"), max_length=500, blank=True)
    transfer = models.OneToOneField(
        "billing.Transfer", models.PROTECT, null=True, blank=True, related_name="adjustment", verbose_name=_("transfer")
    )

    class Meta:
        verbose_name = _("adjustment")
        verbose_name_plural = _("adjustments")
        indexes = [models.Index(name="adjustment_by_whom", fields=["requested_by", "requested_at"])]
        constraints = [
            models.CheckConstraint(name="adjustment_not_zero", condition=~Q(amount=0)),
            models.CheckConstraint(name="adjustment_has_a_reason", condition=~Q(reason="")),
            models.CheckConstraint(
                name="adjustment_of_a_limit_knows_it",
                condition=Q(kind=AdjustmentKind.BALANCE, before__isnull=True)
                | (
                    Q(kind=AdjustmentKind.CREDIT_LIMIT, before__isnull=False, before__gte=0)
                    & Q(before__gte=-F("amount"))
                ),
            ),
            models.CheckConstraint(
                name="adjustment_decided_when_not_pending",
                condition=Q(state=AdjustmentState.PENDING, decided_by__isnull=True, decided_at__isnull=True)
                | (~Q(state=AdjustmentState.PENDING) & Q(decided_by__isnull=False, decided_at__isnull=False)),
            ),
            models.CheckConstraint(
                name="adjustment_large_by_two",
                condition=Q(large=False)
                | Q(state__in=(AdjustmentState.PENDING, AdjustmentState.WITHDRAWN))
                | ~Q(decided_by=F("requested_by")),
            ),
            models.CheckConstraint(
                name="adjustment_small_by_one", condition=Q(large=True) | Q(decided_by=F("requested_by"))
            ),
            models.CheckConstraint(
                name="adjustment_withdrawn_by_its_author",
                condition=~Q(state=AdjustmentState.WITHDRAWN) | Q(decided_by=F("requested_by")),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} {self.pk}"
