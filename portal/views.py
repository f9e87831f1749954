"""The portal's pages apart from those of keys: thin views over the read sides."""

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.templatetags.static import static
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_GET

from billing import ledger, money
from billing import selectors as billing_selectors
from billing.models import PriceGroup
from portal import dashboard, periods, services, timeline, wording
from portal import pricing as prices
from portal.dashboard import By
from portal.models import Team
from portal.templatetags.pisces import amount
from relay import selectors

RECENT = 8
CENT = money.NANO // 100
SEGMENTS = (("24h", _("24 h")), ("7d", _("7 d")), ("30d", _("30 d")))


@require_GET
def overview(request: HttpRequest, team: Team) -> HttpResponse:
    wallet = ledger.wallet_of(team.pk)
    if not selectors.any_call(team.pk):
        steps = dashboard.first_steps(team, wallet)
        context = {"steps": steps, "sample_model": selectors.sample_model()}
        return render(request, "portal/first_run.html", context)
    period = periods.named(request.GET.get("period", ""), timezone.now())
    by: By = "key" if request.GET.get("by") == "key" else "model"
    context = {
        "period": period,
        "periods": SEGMENTS,
        "by": by,
        "overview": dashboard.overview(team, period, by),
        "calls": selectors.recent(team.pk, RECENT),
        "held_decimals": 2 if wallet.held >= CENT else 6,
        "open_calls": billing_selectors.open_holds(wallet.pk),
    }
    return render(request, "portal/overview.html", context)


@require_GET
def call(request: HttpRequest, team: Team, pk: object) -> HttpResponse:
    found = get_object_or_404(selectors.of_team(team.pk), pk=pk)
    attempts = list(found.attempts.order_by("number"))
    held = f"{settings.CURRENCY_SIGN}{amount(found.held, 6)}"
    context = {
        "call": found,
        "attempts": attempts,
        "timeline": timeline.of(found, attempts, held),
        "price_since": billing_selectors.price_valid_from(found.price_id),
        "reason": wording.reason(found) if found.error else "",
        "verdict": wording.verdict(found),
    }
    return render(request, "portal/call.html", context)


@require_GET
def pricing(request: HttpRequest) -> HttpResponse:
    search, provider = request.GET.get("q", "")[:100], request.GET.get("provider", "")[:100]
    group = _price_group(request)
    found = prices.price_list(search=search, provider=provider, group=group)
    context = {"prices": found, "search": search, "provider": provider, "group": group}
    return render(request, "billing/pricing.html", context)


def _price_group(request: HttpRequest) -> PriceGroup | None:
    """The group by which whoever looks pays."""
    if not request.user.is_authenticated:
        return None
    return ledger.wallet_of(services.current_team(request).pk).group


@require_GET
def account(request: HttpRequest, team: Team) -> HttpResponse:
    return render(request, "portal/account.html", {})


@require_GET
def favicon(request: HttpRequest) -> HttpResponse:
    """For browsers that ask without reading the page."""
    return redirect(static("logo.svg"), permanent=True)
