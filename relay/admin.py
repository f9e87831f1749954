"""Calls in the administration. Channels are in `relay.channel_admin`."""

from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import Q
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _
from unfold.widgets import UnfoldAdminTextInputWidget

from billing import ids, money
from billing.admin import Kept, ReadOnly, ReadOnlyInline, money_column
from billing.books_admin import Bounded
from billing.models import Hold, HoldState
from billing.usage import Source
from relay import recovery
from relay.models import Attempt, CallLog, Review


class ReviewForm(forms.ModelForm):  # type: ignore[type-arg]
    """What the call is charged, and why."""

    charge = forms.CharField(
        label=_("Charge"),
        initial="0",
        help_text=_("at most what is held; 0 gives all of it back"),
        widget=UnfoldAdminTextInputWidget(attrs={"inputmode": "decimal", "autocomplete": "off"}),
    )
    reason = forms.CharField(
        label=_("Reason"),
        max_length=300,
        help_text=_("stays with the call; for example what the provider's bill says"),
        widget=UnfoldAdminTextInputWidget(),
    )

    class Meta:
        model = Review
        fields = ()

    def clean_charge(self) -> int:
        try:
            amount = money.parse(self.cleaned_data["charge"].strip())
        except money.InvalidAmount as error:
            raise ValidationError(str(error)) from error
        if amount > self.instance.amount:
            raise ValidationError(_("The charge is more than what is held."))
        return amount


@admin.register(Review)
class ReviewAdmin(Kept):
    """Calls that nobody can tell the cost of. Resolving one is final: it is then a call like any other."""

    form = ReviewForm
    list_display = ("created_at", "account", "model", "channel", "held_shown", "note", "id")
    list_select_related = ("account__team",)
    search_fields = ("=id",)
    ordering = ("created_at",)
    actions = ("give_back",)
    held_shown = money_column("amount", _("held"))
    _facts = ("id", "account", "model", "channel", "request_id", "client", "held_shown", "note", "created_at")
    readonly_fields = _facts
    fieldsets = ((None, {"fields": _facts}), (_("Decide"), {"fields": ("charge", "reason")}))

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).open().filter(state=HoldState.REVIEW)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @admin.display(description=_("model"))
    def model(self, hold: Hold) -> str:
        return str(hold.facts.get("model", ""))

    @admin.display(description=_("channel"))
    def channel(self, hold: Hold) -> str:
        return ", ".join(map(str, hold.facts.get("channels") or ()))

    @admin.display(description=_("request id"))
    def request_id(self, hold: Hold) -> str:
        return str(hold.facts.get("request_id", ""))

    @admin.display(description=_("client"))
    def client(self, hold: Hold) -> str:
        return str(hold.facts.get("ip", ""))

    @admin.action(description=_("Give back what the selected calls hold"), permissions=["change"])
    def give_back(self, request: HttpRequest, selected: Any) -> None:
        for hold in selected:
            self._resolve(request, hold, charged=0, reason="given back")

    def save_model(self, request: HttpRequest, obj: Review, form: Any, change: bool) -> None:
        self._resolve(request, obj, charged=form.cleaned_data["charge"], reason=form.cleaned_data["reason"])

    def _resolve(self, request: HttpRequest, hold: Review, *, charged: int, reason: str) -> None:
        try:
            recovery.resolve(hold=hold, charged=charged, actor=str(request.user), reason=reason)
        except recovery.NotInReview:
            messages.warning(request, _("The call %(id)s has been decided already.") % {"id": hold.pk})

    def construct_change_message(self, request: HttpRequest, form: Any, formsets: Any, add: bool = False) -> Any:
        """The history says what was decided and why, as the books do."""
        return f"charged {money.to_text(form.cleaned_data['charge'])}: {form.cleaned_data['reason']}"


class AttemptInline(ReadOnlyInline):
    model = Attempt
    fields: tuple[str, ...] = ("number", "channel", "credential", "outcome", "status", "detail")
    fields += ("usage", "usage_source", "cost_shown", "began_ms", "first_byte_ms", "ended_ms")
    readonly_fields = fields

    @admin.display(description=_("cost to us"))
    def cost_shown(self, attempt: Attempt) -> str:
        return "—" if attempt.cost is None else f"{money.to_text(attempt.cost, decimals=2)} {settings.CURRENCY}"

    ordering = ("number",)


class SourceFilter(admin.SimpleListFilter):
    """By where a call's usage comes from. Django's own would read every call to know what there is."""

    title = _("usage source")
    parameter_name = "usage_source"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(source.value, source.value) for source in Source]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        return queryset.filter(usage_source=self.value()) if self.value() else queryset


@admin.register(CallLog)
class CallLogAdmin(ReadOnly):
    list_display = (
        "created_at",
        "team",
        "model",
        "channel",
        "state",
        "status",
        "cost_shown",
        "duration_ms",
        "request_id",
    )
    list_filter = ("state", SourceFilter)
    search_fields = ("id", "request_id")
    search_help_text = _("the id of a call, or its request id, in full")
    paginator = Bounded
    list_select_related = ("team",)
    ordering = ("-id",)  # by time too, and by the primary key
    inlines = (AttemptInline,)
    cost_shown = money_column("cost", _("cost"))
    held_shown = money_column("held", _("held"))

    # The providers' bills lead here: to the calls that were tried at a channel.
    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest | None = None) -> bool:
        return lookup == "attempts__channel" or super().lookup_allowed(lookup, value, request)

    fields: tuple[str, ...] = (
        "id",
        "request_id",
        "team",
        "key",
        "endpoint",
        "protocol",
        "model",
        "upstream_model",
        "channel",
        "streamed",
    )
    fields += ("state", "status", "error", "usage", "usage_source", "lines", "cost_shown", "held_shown", "finish")
    fields += ("upstream_id", "client_ip", "hold_ms", "first_byte_ms", "duration_ms", "created_at")
    readonly_fields = fields

    def get_search_results(self, request: HttpRequest, queryset: Any, search_term: str) -> Any:
        """By what has an index: nothing else can be found among millions."""
        text = search_term.strip()
        if not text:
            return queryset, False
        found = Q(request_id=text)
        if (number := ids.read(text)) is not None:
            found |= Q(pk=number)
        return queryset.filter(found), False


# Channels register themselves.
from relay import channel_admin, statement_admin  # noqa: E402, F401
