"""one-api and new-api: `dashboard/billing`, by the key that calls are made with. A running total, in hundredths.

These gateways answer OpenAI's old billing endpoints for the key's own quota and pay no heed to dates: `usage` has what
the key has used up since it was made, `subscription` what it was given, which is asked for to tell a gateway without
such endpoints from one on which nothing was used.
"""

import datetime as dt
from collections.abc import Mapping

from django.utils.translation import gettext_noop as _

from relay.statements.values import Bill, Get, Script, Unreadable, running_total

LABEL = "one-api, new-api: dashboard/billing"
BASE_URL = ""
CUMULATIVE = True


def headers(secret: str) -> Mapping[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def read(day: dt.date, scope: tuple[str, ...]) -> Script:
    subscription = yield Get("/dashboard/billing/subscription")
    if not isinstance(subscription, dict) or "hard_limit_usd" not in subscription:
        raise Unreadable(_("The gateway tells nothing of its billing (dashboard/billing/subscription)."))
    usage = yield Get("/dashboard/billing/usage")
    return Bill("USD", running_total(usage, "total_usage") / 100)
