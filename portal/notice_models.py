"""The tables of notices: what somebody was told, and how it went out. `portal.notices` writes them."""

import uuid

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _


class NoticeKind(models.TextChoices):
    LOW_BALANCE = "low_balance", _("Low balance")
    QUOTA = "quota", _("Limit nearly or wholly used")
    KEY_EXPIRY = "key_expiry", _("Key expires")
    PLAN_EXPIRY = "plan_expiry", _("Plan expires")
    INVOICE = "invoice_overdue", _("Invoice overdue")
    DRIFT = "drift", _("Drift from a provider's bill")
    CHANNEL = "channel_disabled", _("Channel disabled")
    TEST = "test", _("Test")


# What is only told to administrators.
ADMINISTRATORS = frozenset((NoticeKind.DRIFT.value, NoticeKind.CHANNEL.value))


class NoticeSettings(models.Model):
    """What a user wants to be told, and where. Who has no row is told everything by e-mail.

    `threshold` is nano-units; below it a balance is low. None is the installation's own, 0 is never.
    """

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, models.CASCADE, primary_key=True, related_name="notice_settings"
    )
    by_email = models.BooleanField(_("by e-mail"), default=True)
    muted = models.JSONField(_("not told"), default=list, blank=True)
    threshold = models.BigIntegerField(_("low balance below"), null=True)
    language = models.CharField(_("language"), max_length=10, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="notice_threshold_not_negative", condition=Q(threshold__isnull=True) | Q(threshold__gte=0)
            )
        ]

    def __str__(self) -> str:
        return f"{self.user_id}"


class Webhook(models.Model):
    """An address of a user's that notices are posted to, signed with `secret` (`relay.vault`, bound to `uid`).

    One that has failed for a day is disabled by itself: `disabled_at` and `disabled_reason`.
    """

    uid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="webhooks")
    url = models.CharField(_("address"), max_length=500)
    secret = models.BinaryField(editable=False)
    failing_since = models.DateTimeField(null=True)
    disabled_at = models.DateTimeField(null=True)
    disabled_reason = models.CharField(max_length=200, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name = _("webhook")
        verbose_name_plural = _("webhooks")
        constraints = [
            models.CheckConstraint(
                name="webhook_disabled_with_a_reason",
                condition=(Q(disabled_at__isnull=True) & Q(disabled_reason=""))
                | (Q(disabled_at__isnull=False) & ~Q(disabled_reason="")),
            )
        ]

    def __str__(self) -> str:
        return self.url


class BalanceWatch(models.Model):
    """Whether a user has been told that a wallet is low: told again only after it rose well above the threshold.

    `round` counts how often it has been low, so that each time is an occasion of its own.
    """

    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="+")
    account_id = models.BigIntegerField()
    low = models.BooleanField()
    round = models.PositiveIntegerField(default=0)

    class Meta:
        constraints = [models.UniqueConstraint(name="watch_once", fields=["user", "account_id"])]

    def __str__(self) -> str:
        return f"{self.user_id} {self.account_id}"


class Notice(models.Model):
    """What a user was told, once: `subject` is what it is about, `occasion` which time. `facts` fill its words."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="notices")
    kind = models.CharField(_("kind"), max_length=16, choices=NoticeKind)
    subject = models.CharField(max_length=64)
    occasion = models.CharField(max_length=64)
    facts = models.JSONField(default=dict)
    created_at = models.DateTimeField(_("time"), auto_now_add=True)

    class Meta:
        verbose_name = _("notice")
        verbose_name_plural = _("notices")
        indexes = [models.Index(name="notice_user_time", fields=["user", "-created_at"])]
        constraints = [
            models.UniqueConstraint(name="notice_once", fields=["user", "kind", "subject", "occasion"]),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} {self.subject}"


class DeliveryState(models.TextChoices):
    WAITING = "waiting", _("Waiting")
    DELIVERED = "delivered", _("Delivered")
    FAILED = "failed", _("Failed")


class Delivery(models.Model):
    """A notice on its way by e-mail, or to `webhook`: when it is tried next, and what came of the last attempt.

    `attempt` counts the attempts and fences them: who delivers has raised it by a compare-and-set.
    """

    notice = models.ForeignKey(Notice, models.CASCADE, related_name="deliveries")
    webhook = models.ForeignKey(Webhook, models.CASCADE, null=True, related_name="deliveries")
    state = models.CharField(max_length=10, choices=DeliveryState, default=DeliveryState.WAITING)
    attempt = models.PositiveIntegerField(default=0)
    began_at = models.DateTimeField()
    next_at = models.DateTimeField()
    status = models.PositiveSmallIntegerField(null=True)
    answer = models.CharField(max_length=300, blank=True)
    ended_at = models.DateTimeField(null=True)

    class Meta:
        verbose_name = _("delivery")
        verbose_name_plural = _("deliveries")
        indexes = [models.Index(name="delivery_due", fields=["next_at"], condition=Q(state="waiting"))]
        constraints = [
            models.UniqueConstraint(name="delivery_once", fields=["notice", "webhook"]),
            models.UniqueConstraint(name="delivery_one_mail", fields=["notice"], condition=Q(webhook__isnull=True)),
        ]

    def __str__(self) -> str:
        return f"{self.notice_id} {self.state}"
