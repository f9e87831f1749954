"""System checks of Pisces' own: what Django cannot know to be wrong."""

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, register


@register(Tags.security)
def ledger_currency(**_: Any) -> list[CheckMessage]:
    if len(settings.CURRENCY) == 3 and settings.CURRENCY.isalpha():
        return []
    return [Error("CURRENCY must be a three-letter code such as USD.", id="pisces.E001")]


@register(Tags.security)
def encryption_keys(**_: Any) -> list[CheckMessage]:
    if all(len(key) >= 32 for key in settings.ENCRYPTION_KEYS):
        return []
    return [Error("Each of ENCRYPTION_KEYS must have 32 characters or more.", id="pisces.E002")]
