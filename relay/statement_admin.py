"""The providers' own bills in the administration: by channel and day beside our cost, their sources, margins."""

import datetime as dt
import hashlib
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_POST
from unfold.decorators import action, display
from unfold.widgets import (
    UnfoldAdminFileFieldWidget,
    UnfoldAdminPasswordWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextInputWidget,
)

from billing import admin_steps, money, prices
from billing.admin import Kept, ReadOnly, money_column
from billing.admin_steps import Cell, Head, Previewed, Table, Verb
from billing.books_admin import Bounded
from relay.models import Channel
from relay.statement_models import DriftState, Reconciliation, Statement, StatementSource
from relay.statements import comparing, registry, selectors, services, uploaded
from relay.statements.services import SourceSpec
from relay.statements.values import Bill, Unreadable

PERIODS = ((1, _("yesterday")), (7, _("7 days")), (30, _("30 days")), (90, _("90 days")))
_COLOURS = {
    DriftState.WAITING.value: "info",
    DriftState.AGREED.value: "success",
    DriftState.OPEN.value: "danger",
    DriftState.EXPLAINED.value: "warning",
}
_WORDS = {
    "input": _("input"),
    "cache_read": _("read from the cache"),
    "cache_write": _("written to the cache"),
    "cache_write_1h": _("written to the cache for an hour"),
    "prompt": _("input, all of it"),
    "output": _("output"),
    "audio_in": _("audio in"),
    "audio_out": _("audio out"),
    "images": _("pictures"),
    "seconds": _("seconds"),
    "searches": _("searches"),
    "requests": _("requests"),
    "other": _("other"),
}


def written(nano: int | None) -> str:
    return "—" if nano is None else f"{money.to_text(nano, decimals=2)} {settings.CURRENCY}"


def signed(nano: int) -> str:
    return ("+" if nano > 0 else "") + written(nano)


def _more(units: int) -> str:
    return f"{units:+,}" if units else "0"


def percent(ours: int, theirs: int | None) -> str:
    """The difference in parts of our figure."""
    if theirs is None or not ours:
        return "—"
    return f"{100 * (theirs - ours) / ours:+.2f} %" if theirs != ours else "0 %"


# ---- where bills come from ------------------------------------------------------------------------------------------


class SourceForm(forms.ModelForm):  # type: ignore[type-arg]
    """A source with room for its credential, which is never shown."""

    adapter = forms.ChoiceField(label=_("Kind of bill"), choices=registry.CHOICES, widget=UnfoldAdminSelectWidget())
    base_url = forms.CharField(
        label=_("Base URL"),
        required=False,
        max_length=500,
        help_text=_("empty: the provider's own"),
        widget=UnfoldAdminTextInputWidget(),
    )
    new_credential = forms.CharField(
        label=_("Credential"),
        required=False,
        max_length=4096,
        help_text=_("an administrator's key at the provider, not the channel's; stored encrypted, never shown again"),
        widget=UnfoldAdminPasswordWidget(attrs={"autocomplete": "off"}),
    )
    scope = forms.CharField(
        label=_("Projects or workspaces"),
        required=False,
        max_length=500,
        help_text=_("the provider's ids of those that are this channel's, separated by commas; empty for all"),
        widget=UnfoldAdminTextInputWidget(),
    )
    exchange = forms.CharField(
        label=_("Rate of exchange"),
        initial="1",
        max_length=30,
        help_text=_("units of the ledger's currency for one unit of the bill's"),
        widget=UnfoldAdminTextInputWidget(attrs={"inputmode": "decimal", "autocomplete": "off"}),
    )

    class Meta:
        model = StatementSource
        fields = ("channel", "enabled")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk:
            for name in ("adapter", "base_url", "scope"):
                self.initial[name] = getattr(self.instance, name)
            self.initial["exchange"] = prices.write_multiplier(self.instance.rate)

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if self.errors:
            return cleaned
        try:
            self.spec = SourceSpec(
                adapter=cleaned["adapter"],
                base_url=cleaned["base_url"],
                secret=cleaned["new_credential"].strip() or None,
                scope=cleaned["scope"],
                rate=rate_of(cleaned["exchange"]),
                enabled=cleaned["enabled"],
            )
        except money.InvalidAmount as error:
            raise ValidationError({"exchange": str(error)}) from error
        try:
            services.check_source(self.channel, self.spec)
        except ValidationError as error:
            names = {"rate": "exchange", "secret": "new_credential"}
            for name, problems in error.error_dict.items():
                self.add_error(names.get(name, name), ValidationError(problems))
        return cleaned

    @property
    def channel(self) -> Channel:
        found: Channel = self.cleaned_data.get("channel") or self.instance.channel
        return found


def rate_of(text: str) -> int:
    """Millionths of a rate of exchange, exactly. Raises money.InvalidAmount."""
    nano = money.parse(text)
    if nano <= 0 or nano % 1000:
        raise money.InvalidAmount("a rate of exchange is a decimal above 0 with at most six decimals")
    return nano // 1000


@admin.register(StatementSource)
class StatementSourceAdmin(Kept):
    form = SourceForm
    list_display = ("channel", "adapter", "base_url", "credential", "enabled")
    list_select_related = ("channel",)
    ordering = ("channel__name",)
    fields = ("channel", "adapter", "base_url", "new_credential", "credential", "scope", "exchange", "enabled")
    readonly_fields: tuple[str, ...] = ("credential",)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return (*self.readonly_fields, "channel") if obj else self.readonly_fields

    @admin.display(description=_("stored credential"))
    def credential(self, source: StatementSource) -> str:
        return f"…{source.last_four}" if source.pk else "—"

    def save_model(self, request: HttpRequest, obj: StatementSource, form: Any, change: bool) -> None:
        saved = services.save_source(form.channel, form.spec)
        obj.pk, obj.channel = saved.pk, saved.channel

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        answer: HttpResponse = sensitive_post_parameters("new_credential")(super().add_view)(
            request, form_url, extra_context
        )
        return answer

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        view = sensitive_post_parameters("new_credential")(super().change_view)
        answer: HttpResponse = view(request, object_id, form_url, extra_context)
        return answer


# ---- bills beside costs ---------------------------------------------------------------------------------------------


class UploadForm(forms.Form):
    """A bill as a file. The preview carries its text along."""

    channel = forms.ModelChoiceField(
        Channel.objects.order_by("name"), label=_("Channel"), widget=UnfoldAdminSelectWidget()
    )
    file = forms.FileField(
        label=_("CSV file"),
        required=False,
        help_text=_("columns: %(known)s; see docs/reconciliation.md") % {"known": ", ".join(uploaded.COLUMNS)},
        widget=UnfoldAdminFileFieldWidget(),
    )
    exchange = forms.CharField(
        label=_("Rate of exchange"),
        initial="1",
        max_length=30,
        help_text=_("units of the ledger's currency for one unit of the bill's"),
        widget=UnfoldAdminTextInputWidget(attrs={"inputmode": "decimal", "autocomplete": "off"}),
    )
    text = forms.CharField(required=False, widget=forms.HiddenInput, strip=False, max_length=uploaded.LARGEST)
    bills: dict[dt.date, Bill]
    rate = 0

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        given = cleaned.get("file")
        if given is not None and given.size > uploaded.LARGEST:
            raise ValidationError(_("The file is too large."))
        content = given.read() if given is not None else (cleaned.get("text") or "").encode()
        if not content:
            self.add_error("file", ValidationError(_("Choose a file.")))
            return cleaned
        try:
            self.bills = uploaded.read(content)
            self.rate = rate_of(cleaned.get("exchange", ""))
        except Unreadable as error:
            self.add_error("file", ValidationError(admin_steps.said(error)))
            return cleaned
        except money.InvalidAmount as error:
            self.add_error("exchange", ValidationError(str(error)))
            return cleaned
        self.digest = hashlib.sha256(content).hexdigest()
        carried: Any = self.data.copy()  # type: ignore[attr-defined]  # a QueryDict
        carried["text"] = content.decode("utf-8-sig")
        self.data = carried
        return cleaned


@admin.register(Reconciliation)
class ReconciliationAdmin(ReadOnly):
    list_display: tuple[str, ...] = ("day", "channel", "ours_shown", "theirs_shown", "drift_shown", "percent")
    list_display += ("state_shown", "trouble", "explained_by")
    list_filter = ("state", "channel")
    list_select_related = ("channel", "explained_by")
    date_hierarchy = "day"
    ordering = ("-day", "channel__name")
    paginator = Bounded
    fields: tuple[str, ...] = ("day", "channel", "state", "ours_shown", "theirs_shown", "drift_shown", "percent")
    fields += ("attempts", "unpriced", "calls", "bill", "trouble", "note", "explained_by", "explained_at")
    readonly_fields = fields
    actions_list = ("upload", "margin")
    change_form_outer_after_template = "admin/relay/reconciliation/below.html"
    ours_shown = money_column("ours", _("our cost"))

    @admin.display(description=_("their bill"), ordering="theirs")
    def theirs_shown(self, row: Reconciliation) -> str:
        return written(row.theirs)

    @admin.display(description=_("difference"), ordering="drift")
    def drift_shown(self, row: Reconciliation) -> str:
        return "—" if row.theirs is None else signed(row.drift)

    @admin.display(description=_("of our cost"))
    def percent(self, row: Reconciliation) -> str:
        return percent(row.ours, row.theirs)

    @display(description=_("state"), label=_COLOURS)  # type: ignore[untyped-decorator]  # unfold has no types
    def state_shown(self, row: Reconciliation) -> tuple[str, Any]:
        return row.state, row.get_state_display()

    @admin.display(description=_("problem"))
    def trouble(self, row: Reconciliation) -> str:
        return gettext(row.problem) % row.problem_facts if row.problem else "—"

    @admin.display(description=_("calls behind it"))
    def calls(self, row: Reconciliation) -> str:
        start, end = _span(row)
        wanted = {
            "attempts__channel": row.channel.name,
            "created_at__gte": start.isoformat(),
            "created_at__lt": end.isoformat(),
        }
        where = reverse("admin:relay_calllog_changelist") + "?" + urlencode(wanted)
        return format_html('<a class="text-primary-600 underline" href="{}">{}</a>', where, gettext("See them"))

    @admin.display(description=_("statement"))
    def bill(self, row: Reconciliation) -> str:
        if row.statement is None:
            return "—"
        where = reverse("admin:relay_statement_change", args=[row.statement_id])
        shown = f"{row.statement.created_at:%Y-%m-%d %H:%M} UTC, SHA-256 {row.statement.digest[:12]}…"
        return format_html('<a class="text-primary-600 underline" href="{}">{}</a>', where, shown)

    def may_change(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("relay.change_reconciliation"))

    def get_urls(self) -> Any:
        act = self.admin_site.admin_view(require_POST(self.act))
        return [path("act/<int:pk>/<str:verb>/", act, name="relay_reconciliation_act"), *super().get_urls()]

    # ---- one day

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        found = Reconciliation.objects.select_related("channel", "statement")
        row = found.filter(pk=object_id).first() if object_id.isdecimal() else None
        context = dict(extra_context or {})
        if row is not None:
            context["tables"] = [_categories(row), _models(row)]
            context["verbs"] = self._verbs(row) if self.may_change(request) else []
        answer: HttpResponse = super().change_view(request, object_id, form_url, context)
        return answer

    def _verbs(self, row: Reconciliation) -> list[Verb]:
        def where(verb: str) -> str:
            return reverse("admin:relay_reconciliation_act", args=[row.pk, verb])

        found = []
        if row.state in (DriftState.OPEN, DriftState.EXPLAINED):
            found.append(
                Verb(
                    where=where("explain"),
                    label=gettext("Mark as explained"),
                    meaning=gettext("It holds for these figures. Where they change, the day is open again."),
                    note=gettext("Why the bill differs"),
                    required=True,
                    main=True,
                    hidden={"drift": row.drift},
                )
            )
        if StatementSource.objects.filter(channel=row.channel_id, enabled=True).exists():
            meaning = gettext("The provider is asked for the bill of this day.")
            found.append(Verb(where=where("read"), label=gettext("Read it now"), meaning=meaning))
        return found

    def act(self, request: HttpRequest, pk: int, verb: str) -> HttpResponse:
        row = get_object_or_404(Reconciliation.objects.select_related("channel"), pk=pk)
        if not self.may_change(request) or verb not in ("explain", "read"):
            raise PermissionDenied
        if verb == "explain":
            self._explain(request, row)
        else:
            self._read(request, row)
        return HttpResponseRedirect(reverse("admin:relay_reconciliation_change", args=[pk]))

    def _explain(self, request: HttpRequest, row: Reconciliation) -> None:
        note, drift = request.POST.get("note", ""), request.POST.get("drift", "")
        seen = int(drift) if drift.removeprefix("-").isdecimal() and len(drift) < 20 else row.drift + 1
        try:
            services.explain(reconciliation=row.pk, drift=seen, note=note, user=int(request.user.pk or 0))
        except services.NotExplained as error:
            messages.error(request, gettext(str(error)))
            return
        self.log_change(request, row, f"explained {signed(row.drift)}: {note.strip()}")
        messages.success(request, _("The day is explained."))

    def _read(self, request: HttpRequest, row: Reconciliation) -> None:
        source = get_object_or_404(StatementSource, channel=row.channel_id, enabled=True)
        found = services.reconcile(source.pk, row.day)
        if found is None:
            messages.warning(request, _("It was read less than a minute ago."))
        elif found.problem:
            messages.error(request, self.trouble(found))
        else:
            messages.success(request, _("The bill was read: it %(state)s.") % {"state": found.get_state_display()})

    # ---- a file

    @action(description=_("Upload a bill"), icon="upload_file", url_path="upload")  # type: ignore[untyped-decorator]
    def upload(self, request: HttpRequest) -> HttpResponse:
        if not self.may_change(request):
            raise PermissionDenied
        form = UploadForm(request.POST or None, request.FILES or None)
        context = {
            **self.admin_site.each_context(request),
            "title": gettext("Upload a bill"),
            "opts": self.model._meta,
            "back": reverse("admin:relay_reconciliation_changelist"),
        }
        return admin_steps.run(
            request,
            form,
            context=context,
            preview=self._preview,
            do=lambda form, step: self._keep(request, form),
        )

    def _preview(self, form: UploadForm) -> Previewed:
        channel = form.cleaned_data["channel"]
        try:
            found = services.previewed(channel, form.bills, rate=form.rate)
        except Unreadable as error:
            raise admin_steps.Refused(admin_steps.said(error)) from error
        table = Table(
            _heads(gettext("Day"), gettext("Our cost"), gettext("Their bill"), gettext("Difference")),
            [_previewed(day, one) for day, one in found],
        )
        facts = [(gettext("Channel"), channel.name), (gettext("Days"), len(found))]
        if form.rate != prices.ONE:
            facts.append((gettext("Rate of exchange"), prices.write_multiplier(form.rate)))
        return Previewed(facts=facts, tables=[table], buttons=[("do", gettext("Keep it"))])

    def _keep(self, request: HttpRequest, form: UploadForm) -> HttpResponse:
        channel = form.cleaned_data["channel"]
        try:
            kept = services.keep_upload(channel, form.bills, form.digest, rate=form.rate, actor=str(request.user))
        except Unreadable as error:
            raise admin_steps.Refused(admin_steps.said(error)) from error
        self.log_change(request, kept[0], f"bill uploaded for {len(kept)} days")
        messages.success(request, _("The bill is kept."))
        where = reverse("admin:relay_reconciliation_changelist")
        return HttpResponseRedirect(f"{where}?channel__id__exact={channel.pk}")

    # ---- margins

    @action(description=_("Margin"), icon="monitoring", url_path="margin")  # type: ignore[untyped-decorator]
    def margin(self, request: HttpRequest) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        asked = request.GET.get("days", "30")
        days = int(asked) if asked in {str(count) for count, _label in PERIODS} else 30
        _start, end = comparing.span(timezone.now().astimezone(dt.UTC).date() - dt.timedelta(days=1))
        start = end - dt.timedelta(days=days)
        context = {
            **self.admin_site.each_context(request),
            "title": gettext("Margin by channel and model"),
            "opts": self.model._meta,
            "table": _margins(selectors.margins(start, end)),
            "start": start,
            "end": end - dt.timedelta(days=1),
            "days": days,
            "periods": PERIODS,
        }
        return TemplateResponse(request, "admin/relay/reconciliation/margin.html", context)


@admin.register(Statement)
class StatementAdmin(ReadOnly):
    list_display = ("day", "channel", "adapter", "amount_shown", "created_at", "actor")
    list_filter = ("channel", "adapter")
    list_select_related = ("channel",)
    paginator = Bounded
    ordering = ("-pk",)
    fields: tuple[str, ...] = ("day", "channel", "adapter", "amount_shown", "starts_at", "ends_at", "digest", "actor")
    fields += ("created_at", "lines")
    readonly_fields = fields

    @admin.display(description=_("amount"), ordering="amount")
    def amount_shown(self, row: Statement) -> str:
        return written(row.amount)


# ---- tables ---------------------------------------------------------------------------------------------------------


def _span(row: Reconciliation) -> tuple[dt.datetime, dt.datetime]:
    if row.statement is not None:
        return row.statement.starts_at, row.statement.ends_at
    return comparing.span(row.day)


def _heads(first: str, *others: str) -> list[Head]:
    return [Head(first), *(Head(name, True) for name in others)]


def _categories(row: Reconciliation) -> Table:
    rows = [
        [
            Cell(_WORDS.get(part["category"], part["category"])),
            Cell(f"{part['ours']:,}", True),
            Cell(f"{part['theirs']:,}", True),
            Cell(_more(part["theirs"] - part["ours"]), True, bad=part["off"]),
            Cell(percent(part["ours"], part["theirs"]), True, bad=part["off"]),
        ]
        for part in row.categories
    ]
    if row.theirs is not None:
        off = comparing.differs(row.ours, row.theirs)
        money_row = [Cell(_("money")), Cell(written(row.ours), True), Cell(written(row.theirs), True)]
        share = percent(row.ours, row.theirs)
        rows.append([*money_row, Cell(signed(row.drift), True, bad=off), Cell(share, True, bad=off)])
    heads = _heads(gettext("Category"), gettext("Ours"), gettext("Theirs"), gettext("Difference"), gettext("of ours"))
    return Table(heads, rows, gettext("By category"), gettext("What the bill does not tell is not compared."))


def _models(row: Reconciliation) -> Table:
    rows = []
    for share in row.per_model:
        both = share["ours"] is not None and share["theirs"] is not None
        drift = share["theirs"] - share["ours"] if both else None
        off = both and comparing.differs(share["ours"], share["theirs"])
        shown = Cell("—" if drift is None else signed(drift), True, bad=bool(off))
        money_cells = [Cell(written(share[side]), True) for side in ("ours", "theirs")]
        rows.append([Cell(share["model"]), *money_cells, shown])
    heads = _heads(gettext("Model"), gettext("Our cost"), gettext("Their bill"), gettext("Difference"))
    return Table(heads, rows, gettext("By model"), gettext("A dated name and its alias are one model."))


def _previewed(day: dt.date, found: comparing.Compared) -> list[Cell]:
    drift = "—" if found.theirs is None else signed(found.drift)
    cells = [Cell(day.isoformat()), Cell(written(found.ours), True), Cell(written(found.theirs), True)]
    return [*cells, Cell(drift, True, bad=found.off)]


def _margins(found: list[selectors.Margin]) -> Table:
    rows = [[*_named(one), *_earned(one)] for one in found]
    total = selectors.Margin(gettext("All"), "")
    for one in found:
        total.calls, total.revenue = total.calls + one.calls, total.revenue + one.revenue
        total.cost, total.unpriced = total.cost + one.cost, total.unpriced + one.unpriced
    if found:
        rows.append([*_named(total), *_earned(total)])
    figures = [gettext("Calls"), gettext("Revenue"), gettext("Our cost"), gettext("Margin")]
    figures += [gettext("of the revenue"), gettext("Without a cost")]
    return Table([Head(gettext("Channel")), *_heads(gettext("Model"), *figures)], rows)


def _named(one: selectors.Margin) -> list[Cell]:
    return [Cell(one.channel), Cell(one.model)]


def _earned(one: selectors.Margin) -> list[Cell]:
    share = "—" if one.share is None else f"{one.share:.1f} %"
    return [
        Cell(f"{one.calls:,}", True),
        Cell(written(one.revenue), True),
        Cell(written(one.cost), True),
        Cell(signed(one.margin), True, bad=one.margin < 0),
        Cell(share, True),
        Cell(f"{one.unpriced:,}", True, bad=one.unpriced > 0),
    ]
