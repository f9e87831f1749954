"""The forms of notices: which, where, from when on; and a webhook's address."""

from typing import Any

from django import forms
from django.conf import settings
from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

from billing import money
from portal.models import NoticeSettings, User
from portal.notices import telling


class SettingsForm(forms.Form):
    """What a user is told. A threshold of 0 is never; an empty one is the installation's."""

    kinds = forms.MultipleChoiceField(required=False, label=_("Tell me"), widget=forms.CheckboxSelectMultiple)
    threshold = forms.CharField(
        required=False,
        max_length=24,
        label=_("Low balance below"),
        widget=forms.TextInput({"inputmode": "decimal", "autocomplete": "off"}),
    )
    by_email = forms.BooleanField(required=False, label=_("By e-mail"))
    language = forms.ChoiceField(label=_("Language of e-mails"), choices=settings.LANGUAGES)

    def __init__(self, data: Any = None, *, user: User, chosen: NoticeSettings) -> None:
        told = [(kind.value, kind.label) for kind in telling.offered(user)]
        super().__init__(
            data,
            initial={
                "kinds": [kind for kind, _label in told if kind not in chosen.muted],
                "threshold": "" if chosen.threshold is None else money.to_text(chosen.threshold),
                "by_email": chosen.by_email,
                "language": chosen.language or settings.LANGUAGE_CODE,
            },
        )
        self.chosen = chosen
        kinds, threshold = self.fields["kinds"], self.fields["threshold"]
        assert isinstance(kinds, forms.MultipleChoiceField)
        kinds.choices = told
        threshold.widget.attrs["placeholder"] = settings.LOW_BALANCE
        threshold.help_text = _("0 for never; told again only after it rose a fifth above")

    def clean_threshold(self) -> int | None:
        text = self.cleaned_data["threshold"].strip()
        if not text:
            return None
        try:
            return int(money.parse(text))
        except money.InvalidAmount as error:
            raise ValidationError(str(error)) from error

    def save(self) -> None:
        """Writes down what was chosen, of a form that is valid."""
        telling.choose(user=self.chosen.user, **self.cleaned_data)


class WebhookForm(forms.Form):
    url = forms.CharField(
        max_length=500,
        label=_("Address"),
        widget=forms.URLInput({"placeholder": "https://", "autocomplete": "off"}),
        help_text=_("a public address with https; notices are posted to it, signed"),
    )
