"""The pages of keys. They stand here and not in `keys`, because they show what the relay knows of a key's use.

The dialogs are pages of their own: the list with a dialog over it, at an address, so that they work without script.
"""

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from billing import catalog
from keys import selectors, services
from keys.forms import KeyForm
from keys.models import ApiKey
from portal import key_pages
from portal.models import Team
from portal.periods import DAY
from portal.templatetags.pisces import decimals_of
from relay import selectors as calls


@require_GET
def index(request: HttpRequest, team: Team) -> HttpResponse:
    return _page(request, team, "keys/index.html")


@require_http_methods(["GET", "POST"])
def create(request: HttpRequest, team: Team) -> HttpResponse:
    form = _form(request)
    if form.is_bound and form.is_valid():
        key, secret = services.issue(
            team_id=team.pk, spec=form.spec(), created_by=request.user.pk, actor=str(request.user)
        )
        return _reveal(request, team, key, secret)
    return _page(request, team, "keys/create.html", status=422 if form.errors else 200, form=form)


def _reveal(request: HttpRequest, team: Team, key: ApiKey, secret: str) -> HttpResponse:
    """The one answer that holds the secret. It goes into no session and no cache."""
    answer = _page(
        request,
        team,
        "keys/created.html",
        status=201,
        key=key,
        secret=secret,
        quota=selectors.tightest(key_pages.quotas_of(key)),
        sample_model=calls.sample_model(),
    )
    answer["Cache-Control"] = "no-store"
    return answer


@require_http_methods(["GET", "POST"])
def edit(request: HttpRequest, team: Team, pk: int) -> HttpResponse:
    key = get_object_or_404(selectors.kept(selectors.of_team(team.pk)), pk=pk)
    form = _form(request, key)
    if form.is_bound and form.is_valid():
        services.change(key, form.spec(), actor=str(request.user))
        messages.success(request, _("Key “%(name)s” saved") % {"name": key.name})
        return _back(request)
    return _page(request, team, "keys/edit.html", status=422 if form.errors else 200, form=form, key=key)


def _form(request: HttpRequest, key: ApiKey | None = None) -> KeyForm:
    return KeyForm(
        request.POST if request.method == "POST" else None,
        endpoints=key_pages.ENDPOINTS,
        known_models=set(catalog.load()),
        key=key,
        quotas=key_pages.quotas_of(key) if key else (),
    )


@require_POST
def pause(request: HttpRequest, team: Team, pk: int) -> HttpResponse:
    key = get_object_or_404(selectors.of_team(team.pk), pk=pk)
    services.pause(key)
    undo = reverse("key_resume", args=[key.pk]) + _asked(request)
    messages.success(request, _("Key “%(name)s” paused") % {"name": key.name}, extra_tags=undo)
    return _back(request)


@require_POST
def resume(request: HttpRequest, team: Team, pk: int) -> HttpResponse:
    key = get_object_or_404(selectors.of_team(team.pk), pk=pk)
    services.resume(key)
    undo = reverse("key_pause", args=[key.pk]) + _asked(request)
    messages.success(request, _("Key “%(name)s” resumed") % {"name": key.name}, extra_tags=undo)
    return _back(request)


@require_http_methods(["GET", "POST"])
def revoke(request: HttpRequest, team: Team, pk: int) -> HttpResponse:
    key = get_object_or_404(selectors.kept(selectors.of_team(team.pk)), pk=pk)
    if request.method == "POST":
        services.revoke(key)
        messages.success(request, _("Key “%(name)s” revoked") % {"name": key.name})
        return _back(request)
    used = calls.calls_with_key(team.pk, key.pk, timezone.now() - DAY)
    return _page(request, team, "keys/revoke.html", key=key, used=used)


def _asked(request: HttpRequest) -> str:
    """What the address asks of the list, for addresses that go on from here."""
    return key_pages.query(**{name: request.GET.get(name, "")[:100] for name in ("view", "q", "page")})


def _back(request: HttpRequest) -> HttpResponse:
    """To the list as it was when the dialog was opened or the button clicked."""
    return redirect(reverse("keys") + _asked(request))


def _page(request: HttpRequest, team: Team, template: str, status: int = 200, **context: Any) -> HttpResponse:
    """The list as the address asks for it, and over it the dialog that the template adds."""
    asked = request.GET
    context["listing"] = key_pages.listing(
        team, view=asked.get("view", "all"), search=asked.get("q", "")[:100], page=asked.get("page", "1")
    )
    context["spend_decimals"] = decimals_of(context["listing"].total)
    return render(request, template, context, status=status)
