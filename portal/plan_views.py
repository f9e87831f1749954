"""The page of plans: what is for sale, what the team has, and buying one from the wallet."""

import uuid

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_http_methods

from billing import ledger, plans
from billing.models import PlanOffer
from portal.models import Team


@require_GET
def index(request: HttpRequest, team: Team) -> HttpResponse:
    return _page(request, team, "plans/index.html")


@require_http_methods(["GET", "POST"])
def buy(request: HttpRequest, team: Team, pk: int) -> HttpResponse:
    """Asks first. The form bears the order's number, so sending it twice buys once."""
    offer = get_object_or_404(plans.for_sale(), pk=pk)
    if request.method == "GET":
        return _page(request, team, "plans/buy.html", offer=offer, order=uuid.uuid4())
    try:
        order = uuid.UUID(request.POST.get("order", ""))
        bought = plans.buy(team=team.pk, offer=offer, order=order, actor=str(request.user))
    except ValueError:
        problem = _("The order was incomplete. Please try again.")
    except ledger.InsufficientFunds:
        problem = _("The wallet has too little for this plan.")
    except plans.TooMany:
        problem = _("Your team has as many of these plans as it may have at once.")
    except plans.NotForSale:
        problem = _("This plan is not for sale any more.")
    else:
        messages.success(request, _("“%(name)s” is yours") % {"name": bought.name})
        return redirect("plans")
    return _page(request, team, "plans/buy.html", status=422, offer=offer, order=uuid.uuid4(), problem=problem)


def _page(
    request: HttpRequest,
    team: Team,
    template: str,
    status: int = 200,
    offer: PlanOffer | None = None,
    order: uuid.UUID | None = None,
    problem: str = "",
) -> HttpResponse:
    context = {
        "offers": plans.for_sale(),
        "running": plans.running(team.pk),
        "ended": plans.ended(team.pk)[:20],
        "offer": offer,
        "order": order,
        "problem": problem,
    }
    return render(request, template, context, status=status)
