"""Redeem codes and adjustments in the administration: asked for with a preview, approved by another administrator.

Codes are on one page, or in one file, when they are made, and nowhere afterwards.
"""

import base64
import uuid
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.html import format_html
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.debug import sensitive_variables
from django.views.decorators.http import require_POST
from unfold.decorators import display
from unfold.widgets import (
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminRadioSelectWidget,
    UnfoldAdminSplitDateTimeWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
)

from billing import admin_steps, money
from billing.admin import ReadOnly, money_column
from billing.admin_steps import Previewed, Verb
from billing.books_admin import Bounded, link
from billing.credit_models import (
    Adjustment,
    AdjustmentKind,
    AdjustmentState,
    BatchState,
    CodeState,
    RedeemBatch,
    RedeemCode,
)
from billing.models import Account, AccountKind
from billing.payments import manual, redeem

MOST_SHOWN = 500  # codes on a page; more go into the file
_BATCH_COLOURS = {BatchState.WAITING.value: "warning", BatchState.ACTIVE.value: "success"}
_CODE_COLOURS = {CodeState.UNUSED.value: "info", CodeState.REDEEMED.value: "success"}
_ADJUSTMENT_COLOURS = {
    AdjustmentState.PENDING.value: "warning",
    AdjustmentState.DONE.value: "success",
    AdjustmentState.REJECTED.value: "danger",
}


def written(nano: int) -> str:
    return f"{money.to_text(nano, decimals=2)} {settings.CURRENCY}"


def signed(nano: int) -> str:
    return ("+" if nano > 0 else "") + written(nano)


def _amount_widget() -> UnfoldAdminTextInputWidget:
    return UnfoldAdminTextInputWidget(attrs={"inputmode": "decimal", "autocomplete": "off"})


# ---- redeem codes ---------------------------------------------------------------------------------------------------


class BatchForm(forms.Form):
    """A batch to be made. `reference` makes a form that is sent twice count once."""

    label = forms.CharField(label=_("Label"), max_length=100, widget=UnfoldAdminTextInputWidget())
    amount = forms.CharField(label=_("Amount of each code"), max_length=30, widget=_amount_widget())
    number = forms.IntegerField(
        label=_("How many codes"), min_value=1, max_value=redeem.MOST_CODES, widget=UnfoldAdminIntegerFieldWidget()
    )
    expires_at = forms.SplitDateTimeField(
        label=_("Valid until"),
        required=False,
        help_text=_("UTC; empty for as long as the batch is not disabled"),
        widget=UnfoldAdminSplitDateTimeWidget(),
    )
    per_team = forms.IntegerField(
        label=_("Codes a team may redeem"),
        required=False,
        min_value=1,
        max_value=redeem.MOST_CODES,
        help_text=_("empty for any number"),
        widget=UnfoldAdminIntegerFieldWidget(),
    )
    per_user = forms.IntegerField(
        label=_("Codes a person may redeem"),
        required=False,
        min_value=1,
        max_value=redeem.MOST_CODES,
        help_text=_("empty for any number"),
        widget=UnfoldAdminIntegerFieldWidget(),
    )
    note = forms.CharField(
        label=_("Note"), required=False, max_length=500, widget=UnfoldAdminTextareaWidget(attrs={"rows": 2})
    )
    reference = forms.UUIDField(widget=forms.HiddenInput, initial=uuid.uuid4)

    def clean_amount(self) -> str:
        text = str(self.cleaned_data["amount"]).strip()
        try:
            money.parse(text)
        except money.InvalidAmount as error:
            raise ValidationError(str(error)) from error
        return text

    def wanted(self) -> redeem.Wanted:
        """Raises Refused for a batch that cannot be."""
        asked = self.cleaned_data
        names = ("label", "number", "expires_at", "per_team", "per_user", "note")
        wanted = redeem.Wanted(amount=money.parse(asked["amount"]), **{name: asked[name] for name in names})
        try:
            redeem.check(wanted)
        except redeem.Impossible as error:
            raise admin_steps.Refused(admin_steps.said(error)) from error
        except money.InvalidAmount as error:
            raise admin_steps.Refused(str(error)) from error
        return wanted


@admin.register(RedeemBatch)
class RedeemBatchAdmin(ReadOnly):
    list_display: tuple[str, ...] = ("label", "amount_shown", "number", "state_shown", "redeemed", "expires_at")
    list_display += ("created_by", "created_at")
    list_filter = ("state",)
    search_fields = ("label", "note")
    list_select_related = ("created_by",)
    ordering = ("-pk",)
    amount_shown = money_column("amount", _("amount of each"))
    fields: tuple[str, ...] = ("label", "amount_shown", "number", "counted", "single", "state", "expires_at")
    fields += ("per_team", "per_user", "note", "created_by", "created_at", "approved_by", "approved_at")
    readonly_fields = fields
    change_form_outer_after_template = "admin/parts/verbs.html"

    @display(description=_("state"), label=_BATCH_COLOURS)  # type: ignore[untyped-decorator]  # unfold has no types
    def state_shown(self, batch: RedeemBatch) -> tuple[str, Any]:
        return batch.state, batch.get_state_display()

    @admin.display(description=_("redeemed"))
    def redeemed(self, batch: RedeemBatch) -> str:
        return f"{redeem.sums(batch.pk).redeemed} / {batch.number}"

    @admin.display(description=_("codes now"))
    def counted(self, batch: RedeemBatch) -> str:
        found = redeem.sums(batch.pk)
        words = _("%(unused)s unused, %(redeemed)s redeemed, %(disabled)s disabled")
        return words % {name: getattr(found, name) for name in found.__struct_fields__}

    @admin.display(description=_("single codes"))
    def single(self, batch: RedeemBatch) -> str:
        where = reverse("admin:billing_redeemcode_changelist") + f"?batch__id__exact={batch.pk}"
        return link_to(where, gettext("See them"))

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.has_perm("billing.add_redeembatch"))

    def may_decide(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("billing.change_redeembatch"))

    def get_urls(self) -> Any:
        act = self.admin_site.admin_view(require_POST(self.act))
        return [path("act/<int:pk>/<str:verb>/", act, name="billing_redeembatch_act"), *super().get_urls()]

    # ---- making

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        if not self.has_add_permission(request):
            raise PermissionDenied
        context = {
            **self.admin_site.each_context(request),
            "title": gettext("New redeem codes"),
            "opts": self.model._meta,
            "back": reverse("admin:billing_redeembatch_changelist"),
            "lead": gettext(
                "The codes are shown, or come as a file, once: only their digests are stored. Keep them safe; they "
                "are money."
            ),
        }
        form = BatchForm(request.POST or None)
        return admin_steps.run(
            request,
            form,
            context=context,
            preview=self._preview,
            do=lambda form, step: self._make(request, form, step),
        )

    def _preview(self, form: BatchForm) -> Previewed:
        wanted = form.wanted()
        until = f"{wanted.expires_at:%Y-%m-%d %H:%M} UTC" if wanted.expires_at else gettext("until disabled")
        facts = [
            (gettext("Label"), wanted.label),
            (gettext("Codes"), f"{wanted.number:,}"),
            (gettext("Amount of each code"), written(wanted.amount)),
            (gettext("All together"), written(wanted.worth)),
            (gettext("Valid until"), until),
            (gettext("Codes a team may redeem"), wanted.per_team or gettext("any number")),
            (gettext("Codes a person may redeem"), wanted.per_user or gettext("any number")),
        ]
        show = [("show", gettext("Make and show them"))] if wanted.number <= MOST_SHOWN else []
        warning = ""
        if redeem.needs_two(wanted):
            warning = gettext("Worth more than one administrator may give: another one has to approve the batch first.")
        return Previewed(facts=facts, buttons=[*show, ("file", gettext("Make and download as CSV"))], warning=warning)

    @sensitive_variables("fresh", "text")
    def _make(self, request: HttpRequest, form: BatchForm, step: str) -> HttpResponse:
        wanted = form.wanted()
        try:
            batch, fresh = redeem.make(wanted=wanted, reference=form.cleaned_data["reference"], user=_user(request))
        except redeem.AlreadyMade as error:
            raise admin_steps.Refused(gettext("This batch was made already; its codes are not shown again.")) from error
        self.log_addition(request, batch, f"{batch.number} codes of {written(batch.amount)}")
        text = "".join(redeem.lines(batch, fresh))
        if step == "show" and wanted.number <= MOST_SHOWN:
            return self._shown(request, batch, fresh, text)
        answer = HttpResponse(text, content_type="text/csv; charset=utf-8")
        answer["Content-Disposition"] = f'attachment; filename="codes-{batch.pk}.csv"'
        answer["Cache-Control"] = "no-store"
        return answer

    @sensitive_variables("fresh", "text")
    def _shown(self, request: HttpRequest, batch: RedeemBatch, fresh: list[str], text: str) -> HttpResponse:
        """The one page that has the codes. It goes into no session and no cache."""
        context = {
            **self.admin_site.each_context(request),
            "title": batch.label,
            "opts": self.model._meta,
            "batch": batch,
            "codes": fresh,
            "rows": min(len(fresh), 20),
            "file": "data:text/csv;base64," + base64.b64encode(text.encode()).decode(),
            "where": reverse("admin:billing_redeembatch_change", args=[batch.pk]),
        }
        answer = TemplateResponse(request, "admin/billing/codes.html", context, status=201)
        answer["Cache-Control"] = "no-store"
        return answer

    # ---- what is done with one

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        batch = RedeemBatch.objects.filter(pk=object_id).first() if object_id.isdecimal() else None
        verbs = self._verbs(batch, _user(request)) if batch and self.may_decide(request) else []
        answer: HttpResponse = super().change_view(
            request, object_id, form_url, {**(extra_context or {}), "verbs": verbs}
        )
        return answer

    def _verbs(self, batch: RedeemBatch, user: int) -> list[Verb]:
        found: list[Verb] = []
        left = redeem.sums(batch.pk)
        if batch.state == BatchState.WAITING and batch.created_by_id != user:
            meaning = gettext("The codes can be redeemed from then on.")
            found.append(_verb(batch, "approve", gettext("Approve"), meaning, main=True))
        if batch.state != BatchState.DISABLED:
            meaning = gettext("No code of the batch can be redeemed any more. This cannot be undone.")
            found.append(_verb(batch, "disable", gettext("Disable the unused codes"), meaning))
        if left.unused or left.disabled:
            meaning = gettext("The codes that nobody has redeemed are deleted for good.")
            found.append(_verb(batch, "delete", gettext("Delete the unused codes"), meaning, danger=True))
        return found

    def act(self, request: HttpRequest, pk: int, verb: str) -> HttpResponse:
        batch = get_object_or_404(RedeemBatch, pk=pk)
        if not self.may_decide(request):
            raise PermissionDenied
        if verb == "approve":
            self._approve(request, batch)
        elif verb == "disable":
            self._say(request, batch, redeem.disable(batch=pk), verb)
        elif verb == "delete":
            self._say(request, batch, redeem.delete_unused(batch=pk), verb)
        return HttpResponseRedirect(reverse("admin:billing_redeembatch_change", args=[pk]))

    def _approve(self, request: HttpRequest, batch: RedeemBatch) -> None:
        try:
            done = redeem.approve(batch=batch.pk, user=_user(request))
        except redeem.NotYours:
            messages.error(request, _("Another administrator than the one who made the batch has to approve it."))
            return
        if not done:
            messages.warning(request, _("This has been decided already."))
            return
        self.log_change(request, batch, "approved")
        messages.success(request, _("The codes can be redeemed now."))

    def _say(self, request: HttpRequest, batch: RedeemBatch, count: int, verb: str) -> None:
        self.log_change(request, batch, f"{verb} {count} unused codes")
        messages.success(request, ngettext("%(n)d code.", "%(n)d codes.", count) % {"n": count})


@admin.register(RedeemCode)
class RedeemCodeAdmin(ReadOnly):
    list_display: tuple[str, ...] = ("__str__", "batch", "state_shown", "team", "user", "redeemed_at", "moved")
    list_filter = ("state",)
    search_fields = ("=last_four", "team__name", "user__email")
    search_help_text = _("the last four characters, a team, an address")
    list_select_related = ("batch", "team", "user", "transfer")
    paginator = Bounded
    ordering = ("-pk",)
    fields: tuple[str, ...] = ("__str__", "batch", "state", "team", "user", "redeemed_at", "moved")
    readonly_fields = fields

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest | None = None) -> bool:
        return lookup == "batch__id__exact" or super().lookup_allowed(lookup, value, request)

    @display(description=_("state"), label=_CODE_COLOURS)  # type: ignore[untyped-decorator]  # unfold has no types
    def state_shown(self, code: RedeemCode) -> tuple[str, Any]:
        return code.state, code.get_state_display()

    @admin.display(description=_("transfer"))
    def moved(self, code: RedeemCode) -> str:
        return link("admin:billing_transfer_change", code.transfer_id, str(code.transfer)) if code.transfer else "—"


# ---- adjustments ----------------------------------------------------------------------------------------------------


class AdjustForm(forms.Form):
    """What to change of a wallet, and why. `before` is the credit limit that the administrator saw."""

    kind = forms.ChoiceField(
        label=_("Change"),
        choices=[
            (AdjustmentKind.BALANCE.value, _("the balance, by an amount")),
            (AdjustmentKind.CREDIT_LIMIT.value, _("the credit limit, to an amount")),
        ],
        initial=AdjustmentKind.BALANCE.value,
        widget=UnfoldAdminRadioSelectWidget(),
    )
    amount = forms.CharField(
        label=_("Amount"),
        max_length=30,
        help_text=_("such as 5 or -2.50 for the balance; what the credit limit shall be"),
        widget=_amount_widget(),
    )
    reason = forms.CharField(
        label=_("Reason"),
        max_length=500,
        help_text=_("It stays in the books, with your name."),
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 2}),
    )
    before = forms.IntegerField(widget=forms.HiddenInput)
    reference = forms.UUIDField(widget=forms.HiddenInput, initial=uuid.uuid4)

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if "amount" in cleaned and "kind" in cleaned:
            try:
                money.parse(cleaned["amount"], negative=cleaned["kind"] == AdjustmentKind.BALANCE)
            except money.InvalidAmount as error:
                self.add_error("amount", ValidationError(str(error)))
        return cleaned

    def wanted(self, account: int) -> manual.Wanted:
        asked = self.cleaned_data
        kind = AdjustmentKind(asked["kind"])
        amount = money.parse(asked["amount"], negative=True)
        if kind is AdjustmentKind.BALANCE:
            return manual.Wanted(account=account, kind=kind, amount=amount, reason=asked["reason"])
        before = asked["before"]
        return manual.Wanted(account=account, kind=kind, amount=amount - before, reason=asked["reason"], before=before)


@admin.register(Adjustment)
class AdjustmentAdmin(ReadOnly):
    """All that was asked for, and what became of it; what waits is decided here."""

    list_display: tuple[str, ...] = ("requested_at", "wallet", "kind", "change", "state_shown", "reason")
    list_display += ("requested_by", "decided_by", "decided_at")
    list_filter = ("state", "kind", "large")
    search_fields = ("reason", "account__team__name", "requested_by__email")
    list_select_related = ("account__team", "requested_by", "decided_by")
    paginator = Bounded
    ordering = ("-pk",)
    fields: tuple[str, ...] = ("wallet", "kind", "change", "after", "reason", "state", "large", "requested_by")
    fields += ("requested_at", "decided_by", "decided_at", "note", "moved")
    readonly_fields = fields
    change_form_outer_after_template = "admin/parts/verbs.html"

    @display(description=_("state"), label=_ADJUSTMENT_COLOURS)  # type: ignore[untyped-decorator]  # unfold has no types
    def state_shown(self, row: Adjustment) -> tuple[str, Any]:
        return row.state, row.get_state_display()

    @admin.display(description=_("wallet"), ordering="account")
    def wallet(self, row: Adjustment) -> str:
        return link("admin:billing_account_change", row.account_id, str(row.account.team))

    @admin.display(description=_("change"), ordering="amount")
    def change(self, row: Adjustment) -> str:
        return signed(row.amount)

    @admin.display(description=_("comes to"))
    def after(self, row: Adjustment) -> str:
        """The credit limit that it makes; for a balance that waits, what it would be now."""
        if row.kind == AdjustmentKind.CREDIT_LIMIT:
            assert row.before is not None
            return f"{written(row.before)} → {written(row.before + row.amount)}"
        if row.state != AdjustmentState.PENDING:
            return "—"
        return f"{written(row.account.balance)} → {written(row.account.balance + row.amount)}"

    @admin.display(description=_("transfer"))
    def moved(self, row: Adjustment) -> str:
        return link("admin:billing_transfer_change", row.transfer_id, str(row.transfer)) if row.transfer else "—"

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest | None = None) -> bool:
        return lookup == "account__id__exact" or super().lookup_allowed(lookup, value, request)

    def may_ask(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("billing.change_account"))

    def may_decide(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("billing.change_adjustment"))

    def get_urls(self) -> Any:
        view, act = self.admin_site.admin_view(self.ask), self.admin_site.admin_view(require_POST(self.act))
        return [
            path("of/<int:account>/", view, name="billing_adjustment_ask"),
            path("act/<int:pk>/<str:verb>/", act, name="billing_adjustment_act"),
            *super().get_urls(),
        ]

    # ---- asking

    def ask(self, request: HttpRequest, account: int) -> HttpResponse:
        """A change of a wallet: the form, its preview, the deed."""
        if not self.may_ask(request):
            raise PermissionDenied
        wallet = get_object_or_404(Account.objects.select_related("team"), pk=account, kind=AccountKind.WALLET)
        context = {
            **self.admin_site.each_context(request),
            "title": gettext("Adjust %(team)s") % {"team": wallet.team},
            "opts": self.model._meta,
            "back": reverse("admin:billing_account_change", args=[account]),
            "lead": gettext("%(team)s: balance %(balance)s, held %(held)s, credit limit %(limit)s.")
            % {
                "team": wallet.team,
                "balance": written(wallet.balance),
                "held": written(wallet.held),
                "limit": written(wallet.credit_limit),
            },
        }
        form = AdjustForm(request.POST or None, initial={"before": wallet.credit_limit})
        return admin_steps.run(
            request,
            form,
            context=context,
            preview=lambda form: self._preview(request, form, wallet),
            do=lambda form, step: self._ask(request, form, wallet),
        )

    def _preview(self, request: HttpRequest, form: AdjustForm, wallet: Account) -> Previewed:
        wanted = form.wanted(wallet.pk)
        try:
            found = manual.preview(wanted=wanted, user=_user(request))
        except (manual.NotAdjusted, money.InvalidAmount) as error:
            raise admin_steps.Refused(_why(error)) from error
        facts = [
            (gettext("Wallet"), wallet.team),
            (gettext("Change"), signed(wanted.amount)),
            (gettext("Balance"), f"{written(wallet.balance)} → {written(found.balance)}"),
            (gettext("Credit limit"), f"{written(wallet.credit_limit)} → {written(found.credit_limit)}"),
            (gettext("Available"), written(found.available)),
            (gettext("Reason"), wanted.reason),
        ]
        if not found.large:
            return Previewed(facts=facts, buttons=[("do", gettext("Change it"))])
        warning = gettext(
            "With what you changed alone in the last 24 hours this is more than %(limit)s: another administrator has "
            "to approve it."
        ) % {"limit": written(settings.SECOND_ADMIN_ABOVE)}
        return Previewed(facts=facts, buttons=[("do", gettext("Ask for approval"))], warning=warning)

    def _ask(self, request: HttpRequest, form: AdjustForm, wallet: Account) -> HttpResponse:
        try:
            row = manual.ask(
                wanted=form.wanted(wallet.pk), reference=form.cleaned_data["reference"], user=_user(request)
            )
        except manual.AlreadyAsked as error:
            messages.warning(request, _("This adjustment had been made already."))
            return HttpResponseRedirect(reverse("admin:billing_adjustment_change", args=[error.adjustment.pk]))
        except (manual.NotAdjusted, money.InvalidAmount) as error:
            raise admin_steps.Refused(_why(error)) from error
        self.log_addition(request, row, f"{row.kind} {signed(row.amount)}: {row.reason}")
        if row.state == AdjustmentState.PENDING:
            messages.info(request, _("It waits for another administrator."))
            return HttpResponseRedirect(reverse("admin:billing_adjustment_change", args=[row.pk]))
        messages.success(request, _("The wallet was adjusted."))
        return HttpResponseRedirect(reverse("admin:billing_account_change", args=[wallet.pk]))

    # ---- deciding

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        row = Adjustment.objects.filter(pk=object_id).first() if object_id.isdecimal() else None
        verbs = self._verbs(request, row) if row and row.state == AdjustmentState.PENDING else []
        answer: HttpResponse = super().change_view(
            request, object_id, form_url, {**(extra_context or {}), "verbs": verbs}
        )
        return answer

    def _verbs(self, request: HttpRequest, row: Adjustment) -> list[Verb]:
        note = gettext("Note")
        if row.requested_by_id == _user(request):
            meaning = gettext("You asked for it, so another administrator has to decide. You may withdraw it.")
            return [_verb(row, "withdraw", gettext("Withdraw"), meaning, note=note)]
        if not self.may_decide(request):
            return []
        return [
            _verb(row, "approve", gettext("Approve"), gettext("The change is made at once."), note=note, main=True),
            _verb(row, "reject", gettext("Reject"), gettext("Nothing is changed."), note=note, danger=True),
        ]

    def act(self, request: HttpRequest, pk: int, verb: str) -> HttpResponse:
        row = get_object_or_404(Adjustment, pk=pk)
        decide = {"approve": manual.approve, "reject": manual.reject, "withdraw": manual.withdraw}.get(verb)
        allowed = self.may_ask(request) if verb == "withdraw" else self.may_decide(request)
        if decide is None or not allowed:
            raise PermissionDenied
        try:
            row = decide(adjustment=pk, user=_user(request), note=request.POST.get("note", ""))
        except (manual.NotAdjusted, money.InvalidAmount) as error:
            messages.error(request, _why(error))
        else:
            self.log_change(request, row, f"{verb}: {row.note}" if row.note else verb)
            messages.success(request, row.get_state_display())
        return HttpResponseRedirect(reverse("admin:billing_adjustment_change", args=[pk]))


# ---- what both need -------------------------------------------------------------------------------------------------


def _verb(row: RedeemBatch | Adjustment, verb: str, label: str, meaning: str, **fields: Any) -> Verb:
    name = f"admin:billing_{row._meta.model_name}_act"
    return Verb(where=reverse(name, args=[row.pk, verb]), label=label, meaning=meaning, **fields)


def _why(error: Exception) -> str:
    return admin_steps.said(error) if isinstance(error, manual.NotAdjusted) else str(error)


def _user(request: HttpRequest) -> int:
    assert request.user.pk is not None
    return int(request.user.pk)


def link_to(where: str, text: str) -> str:
    return format_html('<a class="text-primary-600 underline" href="{}">{}</a>', where, text)
