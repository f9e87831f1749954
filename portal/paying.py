"""Paying in: what a page and the management API tell a provider of a payment that begins here."""

import uuid

from django.conf import settings
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from billing import ledger
from billing.models import PlanOffer
from billing.payments import orders
from billing.payments.models import Payment
from billing.payments.orders import Choice, Links
from portal.models import Team

DEARER = gettext_lazy("The price of this plan has changed. Please look at it again.")
OWING = gettext_lazy("The team owes something. What is added to the wallet pays that first; then it can buy plans.")


def begin(
    *,
    team: Team,
    choice: Choice,
    amount: int,
    actor: str,
    email: str,
    order: uuid.UUID | None = None,
    offer: PlanOffer | None = None,
) -> Payment:
    """A payment of `amount` nano-units into the team's wallet, or for a plan: see `orders.begin`, which says what it
    raises."""
    return orders.begin(
        wallet=ledger.wallet_of(team.pk),
        choice=choice,
        amount=amount,
        actor=actor,
        email=email,
        title=(_("Plan “%(name)s”") % {"name": offer.name}) if offer else _("Credit for %(site)s") % {"site": "Pisces"},
        links=lambda pk: _links(pk, choice.provider),
        order=order,
        offer=offer,
    )


def _links(pk: uuid.UUID, provider: str) -> Links:
    own = settings.BASE_URL + reverse("payment", args=[pk])
    return Links(done=own, cancelled=own, notify=settings.BASE_URL + reverse("webhook", args=[provider]))
