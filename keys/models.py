"""API keys. The secret itself is never stored: only its HMAC, the beginning and the last four characters."""

from typing import Any

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from keys import rates


class KeyType(models.TextChoices):
    STANDARD = "standard", _("Standard")
    RESTRICTED = "restricted", _("Restricted")
    TEST = "test", _("Test")
    MANAGEMENT = "management", _("Management")


class PaymentType(models.TextChoices):
    PREPAID = "prepaid", _("Prepaid")
    POSTPAID = "postpaid", _("Postpaid")
    PLAN = "plan", _("Plan")


class BillingMode(models.TextChoices):
    METERED = "metered", _("Metered, by usage")
    PER_CALL = "per_call", _("Per call")


class KeyState(models.TextChoices):
    ACTIVE = "active", _("Active")
    PAUSED = "paused", _("Paused")
    REVOKED = "revoked", _("Revoked")


def rate_field(name: Any) -> "models.PositiveIntegerField[int | None, int | None]":
    """A rate limit (`keys.limits`) of whichever owner; none where it is null."""
    bounds = [MinValueValidator(1), MaxValueValidator(rates.LARGEST)]
    return models.PositiveIntegerField(name, null=True, blank=True, validators=bounds)


def rates_positive(name: str) -> models.CheckConstraint:
    """Rate limits are above zero where there are any: zero is not stored, it means none."""
    positive = [Q(**{f"{field}__isnull": True}) | Q(**{f"{field}__gt": 0}) for field in rates.FIELDS]
    return models.CheckConstraint(name=name, condition=positive[0] & positive[1] & positive[2])


class ApiKey(models.Model):
    """`models`, `endpoints` and `networks` are lists; an empty one allows all. Quotas are `billing.Budget` rows.

    `rpm`, `tpm` and `parallel` are what `keys.limits` counts: requests and tokens a minute, calls at once.
    """

    team = models.ForeignKey("portal.Team", models.PROTECT, related_name="api_keys")
    created_by = models.ForeignKey("portal.User", models.SET_NULL, null=True, related_name="+")
    name = models.CharField(_("name"), max_length=100)
    prefix = models.CharField(_("begins with"), max_length=20)
    last_four = models.CharField(_("ends with"), max_length=4)
    digest = models.CharField(max_length=64, unique=True)
    type = models.CharField(_("type"), max_length=12, choices=KeyType, default=KeyType.STANDARD)
    payment = models.CharField(_("payment"), max_length=12, choices=PaymentType, default=PaymentType.PREPAID)
    billing = models.CharField(_("billing"), max_length=12, choices=BillingMode, default=BillingMode.METERED)
    state = models.CharField(_("state"), max_length=12, choices=KeyState, default=KeyState.ACTIVE)
    endpoints = models.JSONField(_("endpoints"), default=list, blank=True)
    networks = models.JSONField(_("allowed addresses"), default=list, blank=True)
    rpm = rate_field(_("requests a minute"))
    tpm = rate_field(_("tokens a minute"))
    parallel = rate_field(_("calls at once"))
    expires_at = models.DateTimeField(_("expires"), null=True, blank=True)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    revoked_at = models.DateTimeField(_("revoked"), null=True, blank=True)
    revision = models.BigIntegerField(default=0, db_index=True)
    # Last, because from here on the class body's `models` is this field.
    models = models.JSONField(_("models"), default=list, blank=True)

    class Meta:
        verbose_name = _("API key")
        verbose_name_plural = _("API keys")
        constraints = [
            models.CheckConstraint(
                name="key_revoked_has_time",
                condition=Q(state="revoked", revoked_at__isnull=False)
                | Q(state__in=["active", "paused"], revoked_at__isnull=True),
            ),
            rates_positive("key_rates_positive"),
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.masked})"

    @property
    def masked(self) -> str:
        return f"{self.prefix}…{self.last_four}"
