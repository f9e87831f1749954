"""Forms of an account that ask for more than allauth's."""

from allauth.account import forms
from allauth.account.models import EmailAddress
from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _


class AddEmailForm(forms.AddEmailForm):  # type: ignore[misc]
    """A further address is for whoever has shown that the first one is theirs.

    Anybody may sign up with the address of somebody else, who gets the account by resetting its password. An address
    that the first one had added by then would open it again.
    """

    def clean_email(self) -> str:
        email: str = super().clean_email()
        confirmed = EmailAddress.objects.filter(user=self.user, verified=True)
        if email != self.user.email.lower() and not confirmed.exists():
            raise ValidationError(_("Confirm the address that you have before you add another one."))
        return email
