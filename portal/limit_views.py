"""The pages of limits: thin views. The dialogs are pages of their own, over the page of limits."""

from typing import Any

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from billing import budgets, windows
from billing.models import Budget, BudgetOwner
from keys import selectors
from keys import services as keys
from portal import limits, services
from portal.limit_forms import CapsForm, RaiseForm, ZoneForm
from portal.models import Team


@require_GET
def index(request: HttpRequest, team: Team) -> HttpResponse:
    return _page(request, team, "limits/index.html")


@require_http_methods(["GET", "POST"])
def zone(request: HttpRequest, team: Team) -> HttpResponse:
    form = ZoneForm(_data(request), zone=team.time_zone)
    if form.is_valid():
        services.set_time_zone(team, form.cleaned_data["zone"], actor=str(request.user))
        return _done(request, _("Windows are counted in %(zone)s") % {"zone": team.time_zone})
    return _page(request, team, "limits/zone.html", form=form)


@require_http_methods(["GET", "POST"])
def team_caps(request: HttpRequest, team: Team) -> HttpResponse:
    form = CapsForm(_data(request), caps=budgets.of_team(team.pk))
    if form.is_valid():
        budgets.set_caps(
            owner=BudgetOwner.TEAM, owner_id=team.pk, caps=form.caps(), zone=team.time_zone, actor=str(request.user)
        )
        return _done(request, _("The team's limits are saved"))
    return _page(request, team, "limits/caps.html", form=form)


@require_http_methods(["GET", "POST"])
def key_caps(request: HttpRequest, team: Team, pk: int) -> HttpResponse:
    key = get_object_or_404(selectors.kept(selectors.of_team(team.pk)), pk=pk)
    form = CapsForm(_data(request), caps=budgets.of_keys([key.pk]).get(key.pk, []))
    if form.is_valid():
        keys.set_caps(key, form.caps(), actor=str(request.user))
        return _done(request, _("Limits of “%(name)s” saved") % {"name": key.name})
    return _page(request, team, "limits/caps.html", form=form, key=key)


@require_http_methods(["GET", "POST"])
def raise_cap(request: HttpRequest, team: Team, pk: int) -> HttpResponse:
    budget = _budget(team, pk)
    with timezone.override(windows.zone(team.time_zone)):
        form = RaiseForm(_data(request), budget=budget, zone=team.time_zone)
        if form.is_valid() and _raised(request, form):
            return _done(request, _("The limit is raised"))
    return _page(request, team, "limits/raise.html", form=form, budget=budget, whose=_whose(budget))


def _raised(request: HttpRequest, form: RaiseForm) -> bool:
    try:
        budgets.raise_cap(budget=form.budget.pk, actor=str(request.user), **form.cleaned_data)
    except ValidationError as error:
        form.add_error(None, error)
        return False
    return True


@require_POST
def end_raise(request: HttpRequest, team: Team, pk: int) -> HttpResponse:
    budgets.end_raise(budget=_budget(team, pk).pk, actor=str(request.user))
    return _done(request, _("The raise has ended"))


def _budget(team: Team, pk: int) -> Budget:
    """A budget of the team or of its keys; those of others do not exist."""
    found = budgets.one(pk, team=team.pk, keys=limits.key_ids(team))
    if found is None:
        raise Http404
    return found


def _whose(budget: Budget) -> str:
    if budget.owner_kind == BudgetOwner.TEAM:
        return _("Team")
    return str(selectors.name_of(budget.owner_id))


def _data(request: HttpRequest) -> Any:
    return request.POST if request.method == "POST" else None


def _done(request: HttpRequest, message: str) -> HttpResponse:
    messages.success(request, message)
    return redirect("limits")


def _page(request: HttpRequest, team: Team, template: str, **context: Any) -> HttpResponse:
    form = context.get("form")
    context |= {"limits": limits.limits(team, request.GET.get("page", "1")), "team": team}
    return render(request, template, context, status=422 if form is not None and form.errors else 200)
