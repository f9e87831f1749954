"""The page of plans: what is for sale, what the team has, and buying one from the wallet or by a payment."""

import uuid

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from billing import ledger, plans
from billing.models import PlanOffer
from billing.payments import NotOffered, ProviderFailed, orders
from billing.payments.models import Payment
from portal import currency, paying
from portal.models import Team, User


@require_GET
def index(request: HttpRequest, team: Team) -> HttpResponse:
    return _page(request, team, "plans/index.html")


@require_http_methods(["GET", "POST"])
def buy(request: HttpRequest, team: Team, pk: int) -> HttpResponse:
    """Asks first. The form bears the order's number, so sending it twice buys once, and the price that was seen."""
    offer = get_object_or_404(plans.for_sale(), pk=pk)
    if request.method == "GET":
        return _page(request, team, "plans/buy.html", offer=offer, order=uuid.uuid4())
    try:
        order, seen = _agreed(request)
        bought = plans.buy(team=team.pk, offer=offer, at_most=seen, order=order, actor=str(request.user))
    except ValueError:
        problem = _("The order was incomplete. Please try again.")
    except ledger.InsufficientFunds:
        problem = _("The wallet has too little for this plan.")
    except plans.Owing:
        problem = str(paying.OWING)
    except plans.TooMany:
        problem = _("Your team has as many of these plans as it may have at once.")
    except plans.Dearer:
        problem = str(paying.DEARER)
    except plans.NotForSale:
        problem = _("This plan is not for sale any more.")
    else:
        messages.success(request, _("“%(name)s” is yours") % {"name": bought.name})
        return redirect("plans")
    return _page(request, team, "plans/buy.html", status=422, offer=offer, order=uuid.uuid4(), problem=problem)


@require_POST
def pay(request: HttpRequest, team: Team, pk: int) -> HttpResponse:
    """Begins a payment of the plan's price, which buys it when it is confirmed, and sends the payer to its provider."""
    offer = get_object_or_404(plans.for_sale(), pk=pk)
    try:
        payment = _begun(request, team, offer)
    except ValueError:
        problem = _("The order was incomplete. Please try again.")
    except (NotOffered, orders.OrderReused) as error:
        problem = str(error)
    except plans.Dearer:
        problem = str(paying.DEARER)
    except ProviderFailed:
        problem = _("The payment could not be begun. Try again in a minute.")
    else:
        return redirect(payment.checkout_url)
    return _page(request, team, "plans/buy.html", status=422, offer=offer, order=uuid.uuid4(), problem=problem)


def _agreed(request: HttpRequest) -> tuple[uuid.UUID, int]:
    """The order that the form bears, and the price that its reader saw, in nano-units. Raises ValueError."""
    return uuid.UUID(request.POST.get("order", "")), int(request.POST.get("price", ""))


def _begun(request: HttpRequest, team: Team, offer: PlanOffer) -> Payment:
    """Raises ValueError for a form that is not whole, plans.Dearer, and what `orders.begin` raises."""
    assert isinstance(request.user, User)
    order, seen = _agreed(request)
    if offer.price > seen:
        raise plans.Dearer(offer.name)
    wanted, email = request.POST.get("method"), request.user.email
    choice = next((one for one in _choices(request) if one.name == wanted), None)
    if choice is None:
        raise NotOffered(_("This way to pay is not offered any more."))
    return paying.begin(
        team=team, choice=choice, amount=offer.price, actor=email, email=email, order=order, offer=offer
    )


def _ways(request: HttpRequest, offer: PlanOffer) -> list[tuple[str, str, str]]:
    """The ways to pay for it, where such an amount may be paid: name, label and price."""
    if not orders.limits().allows(offer.price):
        return []
    return [(one.name, str(one.method.name), f"{one.sign}{one.price(offer.price)}") for one in _choices(request)]


def _choices(request: HttpRequest) -> list[orders.Choice]:
    return orders.choices(currency.chosen(request))


def _page(
    request: HttpRequest,
    team: Team,
    template: str,
    status: int = 200,
    offer: PlanOffer | None = None,
    order: uuid.UUID | None = None,
    problem: str = "",
) -> HttpResponse:
    spendable = ledger.wallet_of(team.pk).available
    context = {
        "spendable": spendable,
        "is_short": offer is not None and offer.price > spendable,
        "offers": plans.for_sale(),
        "running": plans.running(team.pk),
        "ended": plans.ended(team.pk)[:20],
        "offer": offer,
        "ways": _ways(request, offer) if offer else (),
        "order": order,
        "problem": problem,
    }
    return render(request, template, context, status=status)
