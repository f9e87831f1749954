"""What a page and the management API share of redeeming a code: from where it is tried, and in words why not."""

from typing import Any

from allauth.account.adapter import get_adapter
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest
from django.utils.translation import gettext as _

from billing.payments import redeem
from portal.templatetags.pisces import day


def said(error: redeem.NotRedeemed) -> str:
    """Why nothing was redeemed, in the reader's language."""
    facts: dict[str, Any] = {
        name: day(value) if name == "day" else value  # type: ignore[arg-type]
        for name, value in error.facts.items()
    }
    return _(error.message) % facts


def address(request: HttpRequest) -> str:
    """Where the person is, as signing in counts it; empty where nobody can tell."""
    try:
        return str(get_adapter().get_client_ip(request))
    except PermissionDenied:
        return ""
