"""The pages of usage and their exports: thin views."""

import datetime as dt

from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_GET

from portal import exports, periods, usage_report
from portal.forms import ExportForm, UsageFilter
from portal.models import Team
from relay import selectors


@require_GET
def usage(request: HttpRequest, team: Team) -> HttpResponse:
    period = periods.asked(request.GET.get("period", ""), timezone.now())
    form = UsageFilter(request.GET, team=team, period=period)
    wanted, by = form.wanted(), usage_report.group_named(request.GET.get("by", ""))
    report = None if wanted.search else usage_report.report(team, wanted, period, by)
    context = {
        "form": form,
        "period": period,
        "by": by,
        "groups": usage_report.LABELS,
        "report": report,
        "page": selectors.page(wanted, request.GET.get("cursor", "")),
        "totals": usage_report.totals(report) if report else selectors.totals(wanted),
        "export": ExportForm(team=team, period=period),
    }
    return render(request, "portal/usage.html", context)


@require_GET
def export_sums(request: HttpRequest, team: Team) -> HttpResponseBase:
    """What is on the page, or what the form of exports asks for."""
    wanted, days = _asked(request, team)
    grouped = exports.grouping(request.GET.getlist("by"), request.GET.get("zone", "UTC"))
    return exports.download(request, "usage", wanted, exports.sums(wanted, grouped, days))


@require_GET
def export_calls(request: HttpRequest, team: Team) -> HttpResponseBase:
    wanted, _days = _asked(request, team)
    return exports.download(request, "calls", wanted, exports.calls(wanted))


def _asked(request: HttpRequest, team: Team) -> tuple[selectors.Wanted, tuple[dt.date, dt.date] | None]:
    """The filters of the page, over the days that are asked for by date or else over the page's period."""
    period = periods.asked(request.GET.get("period", ""), timezone.now())
    wanted = UsageFilter(request.GET, team=team, period=period).wanted()
    return ExportForm(request.GET, team=team, period=period).applied(wanted)
