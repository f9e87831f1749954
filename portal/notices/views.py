"""The pages of notices: thin views. What is another user's does not exist."""

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST

from portal.models import Delivery, DeliveryState, Notice, Team, User, Webhook
from portal.notices import delivery, telling, words
from portal.notices.forms import SettingsForm, WebhookForm
from relay.channels import egress

RECENT = 20


def _user(request: HttpRequest) -> User:
    assert isinstance(request.user, User)
    return request.user


@require_http_methods(["GET", "POST"])
def index(request: HttpRequest, team: Team) -> HttpResponse:
    user = _user(request)
    form = SettingsForm(_data(request), user=user, chosen=telling.wishes(user))
    if form.is_valid():
        form.save()
        messages.success(request, _("Saved"))
        return redirect("notices")
    return _page(request, "notices/index.html", form=form, status=422 if form.errors else 200)


@require_http_methods(["GET", "POST"])
def add(request: HttpRequest, team: Team) -> HttpResponse:
    adding = WebhookForm(_data(request))
    if adding.is_valid():
        try:
            webhook, secret = telling.add_webhook(user=_user(request), url=adding.cleaned_data["url"])
        except egress.Undeliverable as error:
            adding.add_error("url", _("Notices cannot be posted there: %(why)s.") % {"why": str(error)})
        except telling.TooManyWebhooks:
            adding.add_error("url", _("There are as many webhooks as there may be."))
        else:
            return _reveal(request, webhook, secret)
    return _page(request, "notices/add.html", adding=adding, status=422 if adding.errors else 200)


def _reveal(request: HttpRequest, webhook: Webhook, secret: str) -> HttpResponse:
    """The one answer that holds the secret. It goes into no session and no cache."""
    answer = _page(request, "notices/added.html", webhook=webhook, secret=secret, status=201)
    answer["Cache-Control"] = "no-store"
    return answer


@require_POST
def remove(request: HttpRequest, team: Team, pk: int) -> HttpResponse:
    telling.remove_webhook(_webhook(request, pk))
    messages.success(request, _("The webhook is removed"))
    return redirect("notices")


@require_POST
def enable(request: HttpRequest, team: Team, pk: int) -> HttpResponse:
    telling.enable_webhook(_webhook(request, pk))
    messages.success(request, _("The webhook is in use again"))
    return redirect("notices")


@require_POST
def test_webhook(request: HttpRequest, team: Team, pk: int) -> HttpResponse:
    return _tested(request, delivery.test(_user(request), _webhook(request, pk)))


@require_POST
def test_email(request: HttpRequest, team: Team) -> HttpResponse:
    try:
        return _tested(request, delivery.test(_user(request), None))
    except telling.TooManyLetters:
        return _too_many(request)


def _too_many(request: HttpRequest) -> HttpResponse:
    messages.error(request, words.TOO_MANY_LETTERS)
    return redirect("notices")


def _tested(request: HttpRequest, row: Delivery) -> HttpResponse:
    if row.state == DeliveryState.DELIVERED:
        messages.success(request, _("The test arrived"))
    else:
        messages.error(request, _("The test did not arrive: %(why)s") % {"why": row.status or row.answer})
    return redirect("notices")


@require_POST
def redeliver(request: HttpRequest, team: Team, pk: int) -> HttpResponse:
    row = get_object_or_404(Delivery, pk=pk, notice__user=_user(request))
    try:
        if telling.redeliver(row):
            messages.success(request, _("The notice is sent again"))
    except telling.TooManyLetters:
        return _too_many(request)
    return redirect("notices")


def _webhook(request: HttpRequest, pk: int) -> Webhook:
    return get_object_or_404(Webhook, pk=pk, user=_user(request))


def _data(request: HttpRequest) -> Any:
    return request.POST if request.method == "POST" else None


def _page(request: HttpRequest, template: str, status: int = 200, **context: Any) -> HttpResponse:
    user = _user(request)
    context.setdefault("form", SettingsForm(user=user, chosen=telling.wishes(user)))
    recent = Notice.objects.filter(user=user).order_by("-created_at").prefetch_related("deliveries__webhook")
    context |= {
        "webhooks": Webhook.objects.filter(user=user).order_by("pk"),
        "recent": [(notice, words.say(notice)) for notice in recent[:RECENT]],
        "waiting": DeliveryState.WAITING,
    }
    return render(request, template, context, status=status)
