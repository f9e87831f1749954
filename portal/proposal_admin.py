"""The catalogue's import in the administration: margin rules, proposals, and the page on which one is decided."""

import datetime as dt
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import Count, Q
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils import timezone
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _
from unfold.decorators import action, display
from unfold.widgets import UnfoldAdminSplitDateTimeWidget, UnfoldAdminTextInputWidget

from billing import money, prices
from billing.admin import Kept
from billing.catalog_import import difference, proposals
from billing.price_forms import amount, percent
from billing.prices import PriceCard
from billing.proposal_models import Change, ItemState, MarginRule, PriceProposal, ProposalItem, ProposalState
from portal import proposing, tasks, wording
from portal.configuration.nodes import InvalidFile

_STATES = {ProposalState.OPEN: "warning", ProposalState.DECIDED: "success", ProposalState.SUPERSEDED: "default"}
_CHANGES = {Change.NEW: "success", Change.CHANGED: "info", Change.GONE: "danger"}
_STOPS = {
    "factor": _("its price moves by more than ten times"),
    "free": _("something that cost would cost nothing"),
}
_FACTS = {
    "kind": _("kind"),
    "provider": _("provider"),
    "description": _("description"),
    "context_window": _("context window (tokens)"),
    "max_output": _("longest answer (tokens)"),
    "capabilities": _("capabilities"),
}


# ---- margins --------------------------------------------------------------------------------------------------------


def _decimal(label: Any, help_text: Any, *, required: bool = True) -> forms.CharField:
    attrs = {"inputmode": "decimal", "autocomplete": "off"}
    widget = UnfoldAdminTextInputWidget(attrs=attrs)
    return forms.CharField(label=label, max_length=30, required=required, help_text=help_text, widget=widget)


class MarginForm(forms.ModelForm):  # type: ignore[type-arg]
    """A rule with its figures as decimals."""

    times = _decimal(_("Multiplier"), _("such as 1.2: what we ask is the list's price times this"))
    least = _decimal(_("Minimum"), _("the least that 1,000,000 tokens cost, whatever they are"), required=False)
    rate = _decimal(_("Exchange rate"), _("what one of the list's currency is in ours; empty if equal"), required=False)

    class Meta:
        model = MarginRule
        fields = ("position", "provider", "model", "digits", "adds", "active")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        rule = self.instance
        self.initial["times"] = prices.write_multiplier(rule.multiplier)
        self.initial["least"] = money.to_text(rule.minimum) if rule.minimum else ""
        self.initial["rate"] = money.to_text(rule.exchange) if rule.exchange else ""

    def clean_times(self) -> str:
        self.instance.multiplier = self._read("times", prices.parse_multiplier)
        if not self.instance.multiplier:
            raise ValidationError(_("A multiplier is more than zero."))
        return str(self.cleaned_data["times"])

    def clean_least(self) -> str:
        self.instance.minimum = self._read("least", money.parse) or 0
        return str(self.cleaned_data["least"])

    def clean_rate(self) -> str:
        rate = self._read("rate", money.parse)
        if rate == 0:
            raise ValidationError(_("An exchange rate is more than zero."))
        self.instance.exchange = rate
        return str(self.cleaned_data["rate"])

    def _read(self, field: str, parse: Any) -> int | None:
        text = str(self.cleaned_data[field]).strip()
        try:
            return int(parse(text)) if text else None
        except money.InvalidAmount as error:
            raise ValidationError(str(error)) from error


@admin.register(MarginRule)
class MarginRuleAdmin(Kept):
    form = MarginForm
    list_display = ("__str__", "position", "times_shown", "digits", "adds", "active")
    ordering = ("position", "pk")
    fieldsets = (
        (None, {"fields": ("position", "provider", "model", "active", "adds")}),
        (_("Margin"), {"fields": ("times", "least", "digits", "rate")}),
    )

    @admin.display(description=_("multiplier"), ordering="multiplier")
    def times_shown(self, rule: MarginRule) -> str:
        return prices.write_multiplier(rule.multiplier, decimals=2)


# ---- proposals ------------------------------------------------------------------------------------------------------


class ImportForm(forms.Form):
    """A file of prices."""

    file = forms.FileField(label=_("File"), help_text=_("YAML, JSON or CSV, at most 4 MiB"))
    listed = forms.BooleanField(
        required=False, label=_("It has a provider's list prices: apply the margin rules to them")
    )


class DecisionForm(forms.Form):
    """From when accepted prices count."""

    valid_from = forms.SplitDateTimeField(
        required=False, label=_("In force from (UTC)"), widget=UnfoldAdminSplitDateTimeWidget()
    )

    def clean_valid_from(self) -> dt.datetime | None:
        moment: dt.datetime | None = self.cleaned_data["valid_from"]
        if moment is not None and moment < timezone.now():
            raise ValidationError(_("This moment lies in the past."))
        return moment


@admin.register(PriceProposal)
class PriceProposalAdmin(Kept):
    list_display = ("__str__", "state_shown", "open_lines", "lines", "unchanged", "actor", "created_at")
    list_filter = ("state", "source")
    ordering = ("-pk",)
    actions_list = ("bring",)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def get_queryset(self, request: HttpRequest) -> Any:
        still = Count("items", filter=Q(items__state=ItemState.OPEN))
        return super().get_queryset(request).annotate(still=still, number=Count("items"))

    @display(description=_("state"), label=_STATES)  # type: ignore[untyped-decorator]  # unfold has no types
    def state_shown(self, proposal: PriceProposal) -> tuple[str, Any]:
        return proposal.state, proposal.get_state_display()

    @admin.display(description=_("still open"))
    def open_lines(self, proposal: Any) -> int:
        return int(proposal.still)

    @admin.display(description=_("lines"))
    def lines(self, proposal: Any) -> int:
        return int(proposal.number)

    # ---- getting one

    def get_urls(self) -> Any:
        view = self.admin_site.admin_view(self.bring_page)
        return [path("import/", view, name="billing_priceproposal_import"), *super().get_urls()]

    @action(description=_("Import prices"), icon="upload", url_path="bring")  # type: ignore[untyped-decorator]
    def bring(self, request: HttpRequest) -> HttpResponse:
        return HttpResponseRedirect(reverse("admin:billing_priceproposal_import"))

    def bring_page(self, request: HttpRequest) -> HttpResponse:
        """Compares the installed package in the background, or a file at once."""
        if not self.has_change_permission(request):
            raise PermissionDenied
        form = ImportForm(request.POST or None, request.FILES or None)
        if request.method == "POST" and "compare" in request.POST:
            if tasks.ask_for_prices():
                messages.success(request, _("The list prices are compared now. A proposal stands here if they differ."))
            else:
                messages.error(request, _("The jobs cannot be reached now. Try again soon."))
            return HttpResponseRedirect(reverse("admin:billing_priceproposal_changelist"))
        if request.method == "POST" and form.is_valid() and (made := self._propose(request, form)) is not None:
            return made
        context = {
            **self.admin_site.each_context(request),
            "title": _("Import prices"),
            "opts": self.model._meta,
            "form": form,
            "rules": proposals.rules(),
        }
        return TemplateResponse(request, "admin/billing/priceproposal/import.html", context)

    def _propose(self, request: HttpRequest, form: ImportForm) -> HttpResponse | None:
        """The way to the proposal; None where the file cannot be taken, which the form says."""
        file = form.cleaned_data["file"]
        try:
            content = file.read(proposing.LARGEST + 1)
            found = proposing.of_file(file.name, content, listed=form.cleaned_data["listed"])
        except InvalidFile as error:
            for problem in error.problems[:50]:
                form.add_error("file", str(problem))
            return None
        except proposals.Refused as error:
            form.add_error("file", str(error))
            return None
        proposal = proposals.propose(found, actor=str(request.user))
        if proposal is None:
            messages.info(request, _("Nothing would change: every price is in force already."))
            return HttpResponseRedirect(reverse("admin:billing_priceproposal_changelist"))
        self.log_change(request, proposal, f"proposed from {file.name}")
        return HttpResponseRedirect(reverse("admin:billing_priceproposal_change", args=[proposal.pk]))

    # ---- deciding one

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        proposal = get_object_or_404(PriceProposal, pk=object_id if object_id.isdecimal() else 0)
        form = DecisionForm(request.POST or None)
        if request.method == "POST":
            if not self.has_change_permission(request, proposal):
                raise PermissionDenied
            if form.is_valid() and self._decide(request, proposal, form.cleaned_data["valid_from"]):
                return HttpResponseRedirect(request.get_full_path())
        typed = {pk: request.POST.get(f"confirm-{pk}", "") for pk in _chosen(request)}
        items = proposal.items.select_related("version").order_by("change", "model")
        context = {
            **self.admin_site.each_context(request),
            "title": str(proposal),
            "opts": self.model._meta,
            "proposal": proposal,
            "form": form,
            "currency": settings.CURRENCY,
            "lines": [_shown(item, typed) for item in items],
            "may_decide": proposal.state == ProposalState.OPEN and self.has_change_permission(request, proposal),
        }
        return TemplateResponse(request, "admin/billing/priceproposal/review.html", context)

    def _decide(self, request: HttpRequest, proposal: PriceProposal, valid_from: dt.datetime | None) -> bool:
        """False where it was refused, which a message says."""
        chosen, actor = _chosen(request), str(request.user)
        if "all" not in request.POST and not chosen:
            messages.error(request, _("Choose the lines that you mean."))
            return False
        if "dismiss" in request.POST:
            count = proposals.dismiss(proposal=proposal, actor=actor, lines=chosen)
            messages.success(request, ngettext("%d line was dismissed.", "%d lines were dismissed.", count) % count)
            self.log_change(request, proposal, f"dismissed {count} lines")
            return True
        confirmed = {pk: request.POST.get(f"confirm-{pk}", "") for pk in chosen}
        lines = None if "all" in request.POST else chosen
        try:
            done = proposals.accept(
                proposal=proposal, actor=actor, lines=lines, valid_from=valid_from, confirmed=confirmed
            )
        except proposals.Refused as error:
            messages.error(request, str(error))
            return False
        count = len(done)
        messages.success(request, ngettext("%d line was accepted.", "%d lines were accepted.", count) % count)
        self.log_change(request, proposal, f"accepted {', '.join(item.model for item in done) or 'nothing'}")
        return True


def _chosen(request: HttpRequest) -> list[int]:
    return [int(text) for text in request.POST.getlist("lines") if text.isascii() and text.isdecimal()]


def _shown(item: ProposalItem, typed: dict[int, str]) -> dict[str, Any]:
    """A line as its page has it: every price beside the old one and the list's."""
    old, new, listed = (_card(card) for card in (item.old_card, item.new_card, item.list_card))
    rows = [
        {
            "bucket": wording.bucket(figure.bucket),
            "above": figure.above,
            "list": amount(figure.bucket, _list_rate(listed, figure.bucket, figure.above)),
            "old": amount(figure.bucket, figure.old),
            "new": amount(figure.bucket, figure.new),
            "percent": percent(figure),
            "moved": figure.old != figure.new and old is not None,
            "up": (figure.new or 0) > (figure.old or 0),
        }
        for figure in difference.figures(old, new)
    ]
    return {
        "item": item,
        "colour": _CHANGES[Change(item.change)],
        "rows": rows,
        "facts": [
            (_FACTS.get(name, name), *(gettext("nothing") if value in (None, "", {}) else value for value in pair))
            for name, pair in item.facts.items()
        ],
        "stopped": _STOPS.get(item.stopped, item.stopped),
        "is_open": item.state == ItemState.OPEN,
        "chosen": item.pk in typed,
        "typed": typed.get(item.pk, ""),
    }


def _card(written: dict[str, Any] | None) -> PriceCard | None:
    return prices.parse_card(written) if written else None


def _list_rate(card: PriceCard | None, bucket: str, above: int) -> int | None:
    found = {(figure.bucket, figure.above): figure.new for figure in difference.figures(None, card)}
    return found.get((bucket, above))
