"""The tables of the catalogue's import: by which margin we sell, and what was proposed and decided.

A proposal changes nothing. Its items are what a source says otherwise than the catalogue did; each is accepted or
dismissed once, and says by whom. Cards are as they are written (`billing.prices.write_card`).
"""

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from billing import prices


class MarginRule(models.Model):
    """What we ask for a provider's models: the first rule, by `position`, whose patterns match counts.

    A price is the list's times `multiplier` (parts per million), times `exchange` (nano-units of our currency for one
    of the list's; None where they are the same), at least `minimum` (nano-units for 1,000,000 tokens), rounded up to
    `digits` significant digits (0: exact). What no rule matches is not compared; `adds` proposes models that are new.
    """

    position = models.PositiveSmallIntegerField(_("position"), default=10)
    provider = models.CharField(
        _("provider"), max_length=100, help_text=_("its name in the source, such as openai; * and ? stand for anything")
    )
    model = models.CharField(_("models"), max_length=200, default="*", help_text=_("such as gpt-4o*"))
    multiplier = models.BigIntegerField(_("multiplier"), default=prices.ONE)
    minimum = models.BigIntegerField(_("minimum"), default=0)
    digits = models.PositiveSmallIntegerField(
        _("significant digits"), default=0, help_text=_("prices are rounded up to as many; 0 for exact ones")
    )
    exchange = models.BigIntegerField(_("exchange rate"), null=True, blank=True)
    adds = models.BooleanField(_("proposes new models"), default=False)
    active = models.BooleanField(_("in use"), default=True)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    class Meta:
        verbose_name = _("margin rule")
        verbose_name_plural = _("margin rules")
        ordering = ("position", "pk")
        constraints = [
            models.UniqueConstraint(name="margin_rule_once", fields=["provider", "model"]),
            models.CheckConstraint(
                name="margin_multiplier_in_range",
                condition=Q(multiplier__gt=0, multiplier__lte=prices.HIGHEST_MULTIPLIER),
            ),
            models.CheckConstraint(name="margin_minimum_not_negative", condition=Q(minimum__gte=0)),
            models.CheckConstraint(name="margin_digits_at_most_9", condition=Q(digits__lte=9)),
            models.CheckConstraint(
                name="margin_exchange_positive", condition=Q(exchange__isnull=True) | Q(exchange__gt=0)
            ),
        ]

    def __str__(self) -> str:
        return f"{self.provider} {self.model}"


class ProposalState(models.TextChoices):
    OPEN = "open", _("open")
    DECIDED = "decided", _("decided")
    SUPERSEDED = "superseded", _("superseded")


class PriceProposal(models.Model):
    """What a source would change in the catalogue. `digest` is of its items: the same is not proposed twice.

    `source` is the source's name, `edition` its version or the file's name. `unchanged` and `skipped` are what it has
    besides: how many models cost the same, and what was left out, with the reason.
    """

    source = models.CharField(_("source"), max_length=40)
    edition = models.CharField(_("edition"), max_length=200)
    digest = models.CharField(max_length=64)
    state = models.CharField(_("state"), max_length=12, choices=ProposalState, default=ProposalState.OPEN)
    unchanged = models.PositiveIntegerField(_("unchanged"), default=0)
    skipped = models.JSONField(_("left out"), default=list)
    actor = models.CharField(_("by"), max_length=200)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    class Meta:
        verbose_name = _("price proposal")
        verbose_name_plural = _("price proposals")
        constraints = [
            models.UniqueConstraint(
                name="proposal_open_once", fields=["source", "digest"], condition=Q(state=ProposalState.OPEN)
            )
        ]

    def __str__(self) -> str:
        return f"{self.edition} {self.created_at:%Y-%m-%d %H:%M}"


class Change(models.TextChoices):
    NEW = "new", _("new")
    CHANGED = "changed", _("changed")
    GONE = "gone", _("gone")


class ItemState(models.TextChoices):
    OPEN = "open", _("open")
    ACCEPTED = "accepted", _("accepted")
    DISMISSED = "dismissed", _("dismissed")
    SUPERSEDED = "superseded", _("superseded")


class ProposalItem(models.Model):
    """One model of a proposal. `facts` are the model's fields that would change, `[before, after]` by name.

    `old_card` is the price it was compared with, `new_card` what we would ask, `list_card` what the source says, in the
    source's currency. `stopped` says why the line needs a confirmation of its own. `version` is the price that its
    acceptance made.
    """

    proposal = models.ForeignKey(PriceProposal, models.PROTECT, related_name="items")
    model = models.CharField(_("model"), max_length=200)
    provider = models.CharField(_("provider"), max_length=100, blank=True)
    change = models.CharField(_("change"), max_length=8, choices=Change)
    facts = models.JSONField(_("facts"), default=dict)
    old_card = models.JSONField(_("price now"), null=True)
    new_card = models.JSONField(_("proposed price"), null=True)
    list_card = models.JSONField(_("list price"), null=True)
    notes = models.JSONField(_("notes"), default=list)
    stopped = models.CharField(_("stopped because"), max_length=200, blank=True)
    state = models.CharField(_("state"), max_length=12, choices=ItemState, default=ItemState.OPEN)
    decided_by = models.CharField(_("decided by"), max_length=200, blank=True)
    decided_at = models.DateTimeField(_("decided"), null=True, blank=True)
    valid_from = models.DateTimeField(_("in force from"), null=True, blank=True)
    version = models.OneToOneField(
        "billing.PriceVersion", models.PROTECT, null=True, blank=True, related_name="proposed_by"
    )

    class Meta:
        verbose_name = _("proposed change")
        verbose_name_plural = _("proposed changes")
        indexes = [models.Index(name="proposal_item_model", fields=["model", "-id"])]
        constraints = [
            models.UniqueConstraint(name="proposal_item_once", fields=["proposal", "model"]),
            models.CheckConstraint(
                name="proposal_item_decided_by_somebody",
                condition=Q(state__in=[ItemState.OPEN.value, ItemState.SUPERSEDED.value], decided_at__isnull=True)
                | (
                    Q(state__in=[ItemState.ACCEPTED.value, ItemState.DISMISSED.value], decided_at__isnull=False)
                    & ~Q(decided_by="")
                ),
            ),
        ]

    def __str__(self) -> str:
        return self.model
