"""System checks of Pisces' own: what Django cannot know to be wrong."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, register

from billing import money


@register(Tags.security)
def ledger_currency(**_: Any) -> list[CheckMessage]:
    if len(settings.CURRENCY) == 3 and settings.CURRENCY.isalpha() and settings.CURRENCY.isupper():
        return []
    return [Error("CURRENCY must be a three-letter code such as USD.", id="pisces.E001")]


@register(Tags.security)
def encryption_keys(**_: Any) -> list[CheckMessage]:
    if all(len(key) >= 32 for key in settings.ENCRYPTION_KEYS):
        return []
    return [Error("Each of ENCRYPTION_KEYS must have 32 characters or more.", id="pisces.E002")]


@register(Tags.security)
def values(**_: Any) -> list[CheckMessage]:
    """Settings that are only read when they are needed, a month later perhaps."""
    wrong = [
        *(f"{name} must be an amount such as 2.5." for name in _AMOUNTS if not _is_amount(getattr(settings, name))),
        *(
            "TOPUP_PRESETS must be amounts, separated by commas."
            for text in settings.TOPUP_PRESETS
            if not _is_amount(text)
        ),
        *(f"{name} must be more than zero." for name in _ABOVE_ZERO if getattr(settings, name) <= 0),
        *(f"{name} must not be negative." for name in _NOT_NEGATIVE if getattr(settings, name) < 0),
        *_other_values(),
    ]
    return [Error(text, id="pisces.E003") for text in dict.fromkeys(wrong)]


_AMOUNTS = ("TOPUP_MIN", "TOPUP_MAX", "LOW_BALANCE", "INVOICE_TAX_RATE")
_ABOVE_ZERO = (
    "MAX_BODY_JSON", "MAX_BODY_WEBHOOK", "MAX_ANSWER", "HEAD_TIMEOUT", "BODY_TIMEOUT", "HOLD_LEASE", "SEND_STALL",
    "PROBE_EVERY", "STORED_RESPONSE_DAYS",
)  # fmt: skip
_NOT_NEGATIVE = (
    "TRUSTED_PROXIES", "SHUTDOWN_GRACE", "DRAIN_ON_HANGUP", "MAX_STORED_ANSWER", "INVOICE_TERM_DAYS",
    "DEFAULT_RPM", "DEFAULT_TPM", "DEFAULT_PARALLEL",
)  # fmt: skip


def _is_amount(text: str) -> bool:
    try:
        money.parse(text)
    except money.InvalidAmount:
        return False
    return True


def _other_values() -> Iterator[str]:
    if settings.INVOICE_FONT and not Path(settings.INVOICE_FONT).is_file():
        yield "INVOICE_FONT must be the path of a font."
    if settings.LOG_LEVEL not in logging.getLevelNamesMapping():
        yield "LOG_LEVEL must be DEBUG, INFO, WARNING, ERROR or CRITICAL."
    for name in ("FETCH_FROM", "WEBHOOKS_TO"):
        if not all(_is_server(text) for text in getattr(settings, name)):
            yield f"{name} must be servers (host:port), separated by commas."


def _is_server(text: str) -> bool:
    host, _, port = text.rpartition(":")
    return bool(host) and port.isdigit() and 0 < int(port) < 65536
