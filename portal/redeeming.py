"""What a page and the management API share of redeeming a code: in words why it was not."""

from typing import Any

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
