"""The tables of the providers' own bills: where they are read, what they said, and how far that is from our costs.

Money is integer nano-units of the ledger's currency. `relay.statements.services` is their only writer.
"""

import uuid

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

RATE_ONE = 1_000_000  # of a rate of exchange: ledger's units for a unit of the statement's currency, in millionths


class StatementSource(models.Model):
    """Where a channel's provider says what it charges us, and the credential for that, which is not the channel's.

    The credential is encrypted (`relay.vault`), bound to this row by its `uid`, and never shown; a changed address
    loses it. `scope` are the provider's projects or workspaces that are this channel's, separated by commas; empty for
    all. A provider that only tells a running total (`relay.statements`) is read every hour.
    """

    uid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    channel = models.OneToOneField(
        "relay.Channel", models.CASCADE, related_name="statement_source", verbose_name=_("channel")
    )
    adapter = models.CharField(_("kind of bill"), max_length=24)
    base_url = models.CharField(_("base URL"), max_length=500)
    secret = models.BinaryField(editable=False)
    last_four = models.CharField(_("credential ends with"), max_length=4, blank=True, editable=False)
    scope = models.CharField(_("projects or workspaces"), max_length=500, blank=True)
    rate = models.BigIntegerField(_("rate of exchange"), default=RATE_ONE)
    enabled = models.BooleanField(_("enabled"), default=True)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    class Meta:
        verbose_name = _("provider's bill")
        verbose_name_plural = _("providers' bills")
        constraints = [models.CheckConstraint(name="statement_rate_positive", condition=Q(rate__gt=0))]

    def __str__(self) -> str:
        return f"{self.channel} ({self.adapter})"


class StatementReading(models.Model):
    """A running total, as a provider told it at a moment."""

    source = models.ForeignKey(StatementSource, models.CASCADE, related_name="readings")
    at = models.DateTimeField()
    total = models.BigIntegerField()
    digest = models.CharField(max_length=64)

    class Meta:
        constraints = [models.UniqueConstraint(name="statement_reading_once", fields=["source", "at"])]

    def __str__(self) -> str:
        return f"{self.source_id} {self.at:%Y-%m-%d %H:%M}"


class Statement(models.Model):
    """What a provider said of a channel's day (UTC), or of the span from `starts_at` to `ends_at` that stands for it.

    `lines` has `{model, category, quantity, amount}` as far as it told them, `amount` all of its money, None where it
    told of units only. `digest` is the SHA-256 of what it sent: the same again is the same row. Never changed.
    """

    channel = models.ForeignKey("relay.Channel", models.PROTECT, related_name="statements", verbose_name=_("channel"))
    day = models.DateField(_("day"))
    adapter = models.CharField(_("kind of bill"), max_length=24)
    starts_at = models.DateTimeField(_("from"))
    ends_at = models.DateTimeField(_("to"))
    amount = models.BigIntegerField(_("amount"), null=True)
    lines = models.JSONField(_("lines"), default=list)
    digest = models.CharField(_("SHA-256"), max_length=64)
    actor = models.CharField(_("by"), max_length=200, blank=True)
    created_at = models.DateTimeField(_("read"), auto_now_add=True)

    class Meta:
        verbose_name = _("statement")
        verbose_name_plural = _("statements")
        constraints = [
            models.UniqueConstraint(name="statement_once", fields=["channel", "day", "adapter", "digest"]),
            models.CheckConstraint(name="statement_of_a_span", condition=Q(ends_at__gt=F("starts_at"))),
        ]

    def __str__(self) -> str:
        return f"{self.channel} {self.day}"


class DriftState(models.TextChoices):
    WAITING = "waiting", _("no bill yet")
    AGREED = "agreed", _("agrees")
    OPEN = "open", _("differs")
    EXPLAINED = "explained", _("explained")


class Reconciliation(models.Model):
    """Our cost of a channel's day beside its provider's statement. `drift` is theirs less ours, in nano-units.

    `categories` and `per_model` list the figures that both sides have. `unpriced` counts attempts whose cost to us
    nobody could tell, because the channel has no card of costs for their model. `problem` says why there is no
    statement, or no newer one; it is to be translated and filled with `problem_facts`. Explaining it holds for these
    figures; where they change it is open again.
    """

    channel = models.ForeignKey(
        "relay.Channel", models.PROTECT, related_name="reconciliations", verbose_name=_("channel")
    )
    day = models.DateField(_("day"))
    statement = models.ForeignKey(Statement, models.PROTECT, null=True, related_name="+", verbose_name=_("statement"))
    ours = models.BigIntegerField(_("our cost"), default=0)
    theirs = models.BigIntegerField(_("their bill"), null=True)
    drift = models.BigIntegerField(_("difference"), default=0)
    attempts = models.PositiveIntegerField(_("attempts"), default=0)
    unpriced = models.PositiveIntegerField(_("without a cost"), default=0)
    state = models.CharField(_("state"), max_length=10, choices=DriftState, default=DriftState.WAITING)
    problem = models.CharField(_("problem"), max_length=300, blank=True)
    problem_facts = models.JSONField(default=dict, editable=False)
    note = models.CharField(_("explanation"), max_length=500, blank=True)
    explained_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, null=True, related_name="+", verbose_name=_("explained by")
    )
    explained_at = models.DateTimeField(_("explained"), null=True)
    asked_at = models.DateTimeField(_("asked"), null=True)
    compared_at = models.DateTimeField(_("compared"), null=True)
    alerted_at = models.DateTimeField(null=True, editable=False)
    categories = models.JSONField(_("categories"), default=list)
    per_model = models.JSONField(_("models"), default=list)

    class Meta:
        verbose_name = _("reconciliation")
        verbose_name_plural = _("reconciliation with providers")
        indexes = [models.Index(name="reconciliation_open", fields=["-day"], condition=Q(state="open"))]
        constraints = [
            models.UniqueConstraint(name="reconciliation_once_a_day", fields=["channel", "day"]),
            models.CheckConstraint(
                name="reconciliation_explained_by_somebody",
                condition=~Q(state="explained")
                | (~Q(note="") & Q(explained_by__isnull=False, explained_at__isnull=False)),
            ),
            models.CheckConstraint(
                name="reconciliation_decided_by_a_statement",
                condition=Q(state="waiting") | Q(statement__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.channel} {self.day}"
