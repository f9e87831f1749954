"""The books and what the audit says of them, in the administration: looked at, never changed.

The tables may have any number of rows. Pages are counted up to `MOST_COUNTED` only, and searches go by keys that have
an index (`billing.selectors`).
"""

import datetime as dt
from typing import Any

from django.contrib import admin
from django.core.paginator import Paginator
from django.http import HttpRequest
from django.urls import reverse
from django.utils.functional import cached_property
from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _
from unfold.decorators import display

from billing import ids, selectors
from billing.admin import ReadOnly, ReadOnlyInline, money_column
from billing.audit import reports
from billing.models import OPEN_STATES, Account, AuditFinding, AuditReport, Hold, HoldState, ReportState, Transfer

MOST_COUNTED = 10_000
_HOLD_COLOURS: dict[str, str] = {
    **{state.value: "warning" for state in OPEN_STATES},
    HoldState.REVIEW.value: "danger",
    HoldState.SETTLED.value: "success",
    HoldState.VOIDED.value: "info",
}
_REPORT_COLOURS: dict[str, str] = {
    ReportState.OK.value: "success",
    ReportState.RUNNING.value: "info",
    ReportState.VIOLATED.value: "danger",
    ReportState.FAILED.value: "warning",
}


class Bounded(Paginator):  # type: ignore[type-arg]
    """Counts no further than `MOST_COUNTED`; what lies beyond is found by searching."""

    @cached_property
    def count(self) -> int:
        rows: Any = self.object_list
        return int(rows[:MOST_COUNTED].count())


class Book(ReadOnly):
    paginator = Bounded
    search_fields: tuple[str, ...] = ("pk",)  # shows the field; the search is the selectors'
    ordering: tuple[str, ...] = ("-pk",)


@admin.register(Transfer)
class TransferAdmin(Book):
    list_display = ("created_at", "kind", "debit", "credit", "amount_shown", "reference", "actor", "reason")
    list_filter = ("kind",)
    search_help_text = _("a call's id, a reference, a team, an address, or “account 7”")
    list_select_related = ("debit__team", "credit__team")
    amount_shown = money_column("amount", _("amount"))
    fields = (
        "kind",
        "debit",
        "credit",
        "amount_shown",
        "reference",
        "call",
        "reverses",
        "actor",
        "reason",
        "created_at",
    )
    readonly_fields = fields

    def get_search_results(self, request: HttpRequest, queryset: Any, search_term: str) -> tuple[Any, bool]:
        return (selectors.transfers_found(queryset, search_term) if search_term else queryset), False

    @admin.display(description=_("hold"))
    def call(self, transfer: Transfer) -> str:
        number = ids.read(transfer.reference)
        return "—" if number is None else link("admin:billing_hold_change", number, str(number))


@admin.register(Hold)
class HoldAdmin(Book):
    list_display: tuple[str, ...] = ("number", "wallet", "state_shown", "amount_shown", "charged_shown", "leased")
    list_display += ("created_at", "resolved_at")
    list_filter = ("state",)
    search_help_text = _("a call's id, a team, an address, or “account 7”")
    list_select_related = ("account__team",)
    amount_shown = money_column("amount", _("held"))
    charged_shown = money_column("charged", _("charged"))
    fields: tuple[str, ...] = ("id", "account", "state", "amount_shown", "charged_shown", "transfers", "price", "facts")
    fields += (
        "progress",
        "generation",
        "lease_owner",
        "lease_until",
        "suspected_at",
        "created_at",
        "resolved_at",
        "note",
    )
    readonly_fields = fields

    def get_search_results(self, request: HttpRequest, queryset: Any, search_term: str) -> tuple[Any, bool]:
        return (selectors.holds_found(queryset, search_term) if search_term else queryset), False

    @display(description=_("state"), label=_HOLD_COLOURS)  # type: ignore[untyped-decorator]  # unfold has no types
    def state_shown(self, hold: Hold) -> tuple[str, Any]:
        return hold.state, hold.get_state_display()

    @admin.display(description=_("call"), ordering="id")
    def number(self, hold: Hold) -> str:
        return str(hold.pk)

    @admin.display(description=_("account"))
    def wallet(self, hold: Hold) -> Account:
        return hold.account

    @admin.display(description=_("leased until"), ordering="lease_until")
    def leased(self, hold: Hold) -> dt.datetime | None:
        return hold.lease_until if hold.state in OPEN_STATES else None

    @admin.display(description=_("transfers"))
    def transfers(self, hold: Hold) -> str:
        found = Transfer.objects.filter(reference=str(hold.pk)).select_related("debit__team")
        return joined(link("admin:billing_transfer_change", row.pk, str(row)) for row in found)


# ---- the audit ------------------------------------------------------------------------------------------------------


class Findings(ReadOnlyInline):
    model = AuditFinding
    fields = ("promise", "subject", "detail", "account", "froze", "first_seen", "last_seen", "gone_at")
    readonly_fields = fields
    verbose_name_plural = _("found first by this report")

    @admin.display(description=_("invariant"))
    def promise(self, finding: AuditFinding) -> str:
        return gettext(finding.invariant)


@admin.register(AuditReport)
class AuditReportAdmin(Book):
    list_display = ("id", "kind", "state_shown", "violations", "began_at", "ended_at", "looked_at", "note")
    list_filter = ("state", "kind")
    search_fields = ()
    inlines = (Findings,)
    fields = ("kind", "state", "violations", "began_at", "ended_at", "looked_at", "note")
    readonly_fields = fields

    @display(description=_("result"), label=_REPORT_COLOURS)  # type: ignore[untyped-decorator]  # unfold has no types
    def state_shown(self, report: AuditReport) -> tuple[str, Any]:
        return report.state, report.get_state_display()

    @admin.display(description=_("looked at"))
    def looked_at(self, report: AuditReport) -> str:
        """How many rows of each table."""
        words = {"transfer": _("transfers"), "hold": _("holds"), "call": _("calls"), "account": _("accounts")}
        found = [f"{report.figures[name]} {word}" for name, word in words.items() if name in report.figures]
        if "up to transfer" in report.figures:
            new, last = report.figures.get("new transfers", 0), report.figures["up to transfer"]
            found.append(gettext("%(new)s new up to transfer %(last)s") % {"new": new, "last": last or 0})
        return ", ".join(found)


@admin.register(AuditFinding)
class AuditFindingAdmin(Book):
    list_display = ("promise", "subject", "detail", "account", "froze", "first_seen", "last_seen", "gone_at")
    list_filter = (("gone_at", admin.EmptyFieldListFilter), "froze")
    search_help_text = _("a row such as “hold 0199…”, or “account 7”")
    list_select_related = ("account__team", "report")
    fields = ("promise", "subject", "detail", "account", "froze", "report", "first_seen", "last_seen", "gone_at")
    readonly_fields = fields

    def get_search_results(self, request: HttpRequest, queryset: Any, search_term: str) -> tuple[Any, bool]:
        if not search_term:
            return queryset, False
        found = queryset.filter(subject=search_term)
        accounts = selectors.accounts_named(search_term)
        return (found | queryset.filter(account__in=accounts) if accounts else found), False

    @admin.display(description=_("invariant"), ordering="invariant")
    def promise(self, finding: AuditFinding) -> str:
        return gettext(finding.invariant)


def banner(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """What the administration's first page says above everything else (`templates/admin/index.html`)."""
    if count := reports.open_findings():
        text = ngettext(
            "The books have %(count)d violation. The wallets concerned are stopped; nothing was changed.",
            "The books have %(count)d violations. The wallets concerned are stopped; nothing was changed.",
            count,
        )
        where = reverse("admin:billing_auditfinding_changelist") + "?gone_at__isempty=1"
        return {**context, "violations": text % {"count": count}, "violations_at": where}
    return context


def link(name: str, key: Any, text: str) -> str:
    return format_html('<a class="text-primary-600 underline" href="{}">{}</a>', reverse(name, args=[key]), text)


def joined(links: Any) -> str:
    return format_html_join(" · ", "{}", ((one,) for one in links)) or "—"
