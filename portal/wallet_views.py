"""The wallet's pages: thin views."""

import uuid
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_POST

from billing.payments import NotOffered, ProviderFailed, orders, rates
from billing.payments.models import Payment
from portal import currency as shown
from portal import paying, wallet
from portal.models import Team, User
from portal.redeem_views import RedeemForm
from portal.wallet_forms import TopUpForm

FRESH = 600  # seconds after its beginning in which a payment's page looks again by itself
LOOK_AGAIN = "5"
YEAR = 365 * 24 * 3600


@require_GET
def index(request: HttpRequest, team: Team) -> HttpResponse:
    return _page(request, team, _form(request))


@require_POST
def pay(request: HttpRequest, team: Team) -> HttpResponse:
    """Begins a payment and sends the payer to its provider."""
    form = _form(request, request.POST)
    if form.is_valid():
        try:
            payment = _begun(request, team, form)
            return redirect(payment.checkout_url)
        except NotOffered as error:
            form.add_error("other", ValidationError(str(error)))
        except ProviderFailed:
            form.add_error(None, ValidationError(_("The payment could not be begun. Try again in a minute.")))
    return _page(request, team, form)


def _form(request: HttpRequest, data: Any = None) -> TopUpForm:
    return TopUpForm(data, choices=orders.choices(shown.chosen(request)))


def _begun(request: HttpRequest, team: Team, form: TopUpForm) -> Payment:
    assert isinstance(request.user, User)
    asked, email = form.cleaned_data, request.user.email
    return paying.begin(team=team, choice=asked["choice"], amount=asked["amount"], actor=email, email=email)


def _page(request: HttpRequest, team: Team, form: TopUpForm) -> HttpResponse:
    figures = wallet.figures(team.pk)
    wanted = request.GET.get("type", "")
    context = {
        "form": form,
        "redeem_form": RedeemForm(),
        "figures": figures,
        "filters": [(name, label) for name, (label, _kinds) in wallet.FILTERS.items()],
        "wanted": wanted if wanted in wallet.FILTERS else "",
        "statement": wallet.statement(figures.wallet, wanted=wanted, cursor=request.GET.get("cursor", "")),
    }
    return render(request, "wallet/index.html", context, status=422 if form.errors else 200)


@require_GET
def payment(request: HttpRequest, team: Team, pk: uuid.UUID) -> HttpResponse:
    """A payment as the books have it: where the payer comes back to, whatever the address says, and the receipt."""
    found = get_object_or_404(orders.of_team(team.pk), pk=pk)
    context = {
        "payment": found,
        "paid_by": wallet.paid_by(found),
        "reversals": found.reversals.order_by("created_at"),
        "payable": found.is_payable(timezone.now()),
    }
    response = render(request, "wallet/payment.html", context)
    if found.is_open and (timezone.now() - found.created_at).total_seconds() < FRESH:
        response["Refresh"] = LOOK_AGAIN
    return response


@require_POST
def currency(request: HttpRequest) -> HttpResponse:
    """The currency that amounts are shown in besides the ledger's, kept in a cookie."""
    wanted, back = request.POST.get("currency", ""), request.POST.get("next", "")
    safe = back.startswith("/") and url_has_allowed_host_and_scheme(back, allowed_hosts={request.get_host()})
    response = HttpResponseRedirect(back if safe else reverse("pricing"))
    if wanted in rates.offered():
        response.set_cookie(shown.COOKIE, wanted, max_age=YEAR, samesite="Lax", secure=settings.SECURE, httponly=True)
    return response
