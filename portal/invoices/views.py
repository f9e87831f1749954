"""The pages of invoices and statements: thin views. What another team has does not exist."""

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_http_methods

from billing import ledger
from billing.models import Invoice
from portal import services, streaming
from portal.invoices import document, downloads, reading
from portal.invoices.forms import DetailsForm, StatementForm
from portal.models import Team


@require_GET
def index(request: HttpRequest, team: Team) -> HttpResponse:
    return _page(request, team, "invoices/index.html")


@require_http_methods(["GET", "POST"])
def details(request: HttpRequest, team: Team) -> HttpResponse:
    known = reading.details(team)
    form = DetailsForm(request.POST if request.method == "POST" else None, instance=known)
    if form.is_bound and form.is_valid():
        services.set_billing_details(team, **form.cleaned_data)
        messages.success(request, _("Billing details saved. They are on the next invoice."))
        return redirect("invoices")
    return _page(request, team, "invoices/details.html", status=422 if form.errors else 200, form=form)


def _page(request: HttpRequest, team: Team, template: str, status: int = 200, **context: Any) -> HttpResponse:
    context |= {"found": reading.overview(team), "details": reading.details(team)}
    return render(request, template, context, status=status)


@require_GET
def show(request: HttpRequest, team: Team, pk: int) -> HttpResponse:
    invoice = _invoice(team, pk)
    notes = invoice.credit_notes.order_by("pk")
    context = {"invoice": invoice, "shown": document.of(invoice), "notes": notes, "line": reading.line(invoice)}
    return render(request, "invoices/show.html", context)


@require_GET
def as_pdf(request: HttpRequest, team: Team, pk: int) -> HttpResponse:
    return downloads.pdf(_invoice(team, pk))


def _invoice(team: Team, pk: int) -> Invoice:
    return get_object_or_404(reading.documents(team), pk=pk)


@require_GET
def statements(request: HttpRequest, team: Team) -> HttpResponse:
    found = reading.statement(team, request.GET.get("month", ""))
    initial = {"start": found.first.isoformat(), "end": found.last.isoformat(), "by": "day,kind,model,key"}
    form = StatementForm(account=found.account, zone=team.time_zone, initial=initial)
    return render(request, "invoices/statements.html", {"found": found, "form": form})


@require_GET
def statement_csv(request: HttpRequest, team: Team) -> HttpResponseBase:
    form = StatementForm(request.GET, account=ledger.wallet_of(team.pk), zone=team.time_zone)
    if not form.is_valid():
        found = reading.statement(team, "")
        return render(request, "invoices/statements.html", {"found": found, "form": form}, status=422)
    return streaming.download(
        request, reading.csv(form.statement()), name=reading.file_name(form), content_type="text/csv; charset=utf-8"
    )
