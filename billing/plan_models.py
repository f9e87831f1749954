"""The tables of plans: what is for sale, and what teams have bought. `billing.plans` is their only writer.

Amounts are integer nano-units.
"""

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from billing.models import Account, Window


class PlanKind(models.TextChoices):
    CREDIT = "credit", _("credit")
    CALLS = "calls", _("calls")


class PlanOffer(models.Model):
    """A package that teams can buy: `price` nano-units for `value` nano-units, or for `calls` calls, until it ends.

    It lasts `days`; with a `refill` it is filled anew every day, week or month, and what was left is lost. It pays for
    `models`, an empty list being all. A team may have `at_once` of it that run, any number where that is null. What
    was bought keeps the terms that it was bought on (`Plan`).
    """

    name = models.CharField(_("name"), max_length=100, unique=True)
    description = models.CharField(_("description"), max_length=500, blank=True)
    kind = models.CharField(_("kind"), max_length=8, choices=PlanKind)
    price = models.BigIntegerField(_("price"))
    value = models.BigIntegerField(_("worth"))
    calls = models.PositiveIntegerField(_("calls"), null=True, blank=True)
    days = models.PositiveIntegerField(_("days"))
    refill = models.CharField(_("refilled"), max_length=8, choices=Window, default=Window.TOTAL)
    at_once = models.PositiveIntegerField(_("at once"), null=True, blank=True)
    active = models.BooleanField(_("for sale"), default=True)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    # Last, because from here on the class body's `models` is this field.
    models = models.JSONField(_("models"), default=list, blank=True)

    class Meta:
        verbose_name = _("plan for sale")
        verbose_name_plural = _("plans for sale")
        constraints = [
            models.CheckConstraint(name="offer_price_not_negative", condition=Q(price__gte=0)),
            models.CheckConstraint(name="offer_worth_something", condition=Q(value__gt=0)),
            models.CheckConstraint(name="offer_lasts", condition=Q(days__gt=0)),
            models.CheckConstraint(
                name="offer_calls_of_calls",
                condition=Q(kind=PlanKind.CREDIT, calls__isnull=True) | Q(kind=PlanKind.CALLS, calls__gt=0),
            ),
        ]

    def __str__(self) -> str:
        return self.name


class PlanState(models.TextChoices):
    RUNNING = "running", _("running")
    ENDED = "ended", _("ended")
    CANCELLED = "cancelled", _("cancelled")


class Plan(models.Model):
    """A package that a team has bought, with the terms of its offer at that time, and the account that has its money.

    A call that a plan of calls pays costs `rate` nano-units, whatever it used. `steps` counts fillings and expiries,
    each of which is a transfer that bears the number; `fill_at` is when the next filling is due, at midnight in
    `zone`, which was the team's at the purchase. `carried` names the calls that ran when it was last filled and of
    which it is not known yet what they cost it. `order` is the buyer's request: the same one twice buys once.
    """

    account = models.OneToOneField(Account, models.PROTECT, related_name="plan")
    team = models.ForeignKey("portal.Team", models.PROTECT, related_name="plans", verbose_name=_("team"))
    offer = models.ForeignKey(PlanOffer, models.PROTECT, related_name="sold", verbose_name=_("plan for sale"))
    order = models.UUIDField(unique=True, editable=False)
    name = models.CharField(_("name"), max_length=100)
    kind = models.CharField(_("kind"), max_length=8, choices=PlanKind)
    price = models.BigIntegerField(_("price"))
    value = models.BigIntegerField(_("worth"))
    rate = models.BigIntegerField(_("a call"), null=True, blank=True)
    refill = models.CharField(_("refilled"), max_length=8, choices=Window)
    zone = models.CharField(_("time zone"), max_length=64, default="UTC", db_default="UTC")
    state = models.CharField(_("state"), max_length=10, choices=PlanState, default=PlanState.RUNNING)
    steps = models.PositiveIntegerField(default=1)
    fill_at = models.DateTimeField(_("next filling"), null=True, blank=True)
    carried = models.JSONField(default=list, db_default=[], editable=False)
    starts_at = models.DateTimeField(_("bought"))
    ends_at = models.DateTimeField(_("ends"))
    actor = models.CharField(_("by"), max_length=200, blank=True)
    # Last, because from here on the class body's `models` is this field.
    models = models.JSONField(_("models"), default=list, blank=True)

    class Meta:
        verbose_name = _("plan")
        verbose_name_plural = _("plans")
        indexes = [
            models.Index(name="plan_running", fields=["team", "ends_at"], condition=Q(state=PlanState.RUNNING)),
            models.Index(name="plan_fill", fields=["fill_at"], condition=Q(fill_at__isnull=False)),
        ]
        constraints = [
            models.CheckConstraint(
                name="plan_rate_of_calls",
                condition=Q(kind=PlanKind.CREDIT, rate__isnull=True) | Q(kind=PlanKind.CALLS, rate__gt=0),
            ),
            models.CheckConstraint(
                name="plan_filled_while_it_runs", condition=Q(state=PlanState.RUNNING) | Q(fill_at__isnull=True)
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.team})"

    @property
    def calls(self) -> int | None:
        """How many calls it pays for when it is full; None for a plan of credit."""
        return self.value // self.rate if self.rate else None

    @property
    def calls_left(self) -> int | None:
        return self.account.free // self.rate if self.rate else None

    @property
    def percent_left(self) -> int:
        return min(100, self.account.free * 100 // self.value)
