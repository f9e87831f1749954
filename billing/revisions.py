"""How every process learns within a second that keys, prices or channels have changed.

Whoever changes one of them bumps its revision in the same transaction. A process polls the few rows and reloads the
snapshot whose revision it has not seen; nothing is read from the database per call.
"""

from django.db import transaction
from django.db.models import F

from billing.models import Revision

KEYS, CATALOG, CHANNELS, TEAM_BUDGETS = "keys", "catalog", "channels", "team_budgets"
PRICE_GROUPS, CALIBRATION, TEAM_RATES, PLANS = "price_groups", "calibration", "team_rates", "plans"
OF_PRINCIPALS = (TEAM_BUDGETS, PRICE_GROUPS, TEAM_RATES, PLANS)  # what keys' principals are made of besides keys


def bump(name: str) -> int:
    """The new revision. Locks the row to the transaction's end, so revisions become visible in their order."""
    with transaction.atomic():
        if not Revision.objects.filter(name=name).update(value=F("value") + 1):
            Revision.objects.get_or_create(name=name)
            Revision.objects.filter(name=name).update(value=F("value") + 1)
        return Revision.objects.get(name=name).value


def current() -> dict[str, int]:
    return dict(Revision.objects.values_list("name", "value"))
