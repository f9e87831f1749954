"""Redeeming a code: the box of the wallet page, and the page that answers it."""

from django import forms
from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables
from django.views.decorators.http import require_http_methods

from billing import money
from billing.payments import redeem
from portal import addresses, redeeming
from portal.models import Team

SHOWN = 20  # codes that the team has redeemed


class RedeemForm(forms.Form):
    """One code, as it was typed."""

    code = forms.CharField(
        label=gettext_lazy("Redeem code"),
        max_length=100,
        widget=forms.TextInput(
            {"autocomplete": "off", "autocapitalize": "characters", "spellcheck": "false", "placeholder": "PX-…"}
        ),
    )


@require_http_methods(["GET", "POST"])
@sensitive_post_parameters("code")
@sensitive_variables()
def index(request: HttpRequest, team: Team) -> HttpResponse:
    form = RedeemForm(request.POST if request.method == "POST" else None)
    status = 200
    if form.is_valid():
        status = _redeem(request, team, form)
        if status == 200:
            return redirect("redeem")
    elif form.errors:
        status = 422
    context = {"redeem_form": form, "codes": redeem.of_team(team.pk, SHOWN)}
    return render(request, "billing/redeem.html", context, status=status)


def _redeem(request: HttpRequest, team: Team, form: RedeemForm) -> int:
    """The status of the answer; what went wrong stands in the form."""
    try:
        done = redeem.redeem(
            text=form.cleaned_data["code"],
            team=team.pk,
            user=int(request.user.pk or 0),
            actor=str(request.user),
            address=addresses.of(request),
        )
    except redeem.NotRedeemed as error:
        form.add_error("code", redeeming.said(error))
        return 429 if isinstance(error, redeem.TooMany) else 422
    except money.InvalidAmount:
        form.add_error("code", _("The wallet cannot hold that much more."))
        return 422
    told = {"amount": money.to_text(done.amount, decimals=2), "currency": settings.CURRENCY}
    messages.success(request, _("%(amount)s %(currency)s are in the wallet") % told)
    return 200
