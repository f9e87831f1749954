"""Exchange rates: rows that are written once and hold from their moment on. The ledger itself has one currency.

A rate is what one unit of the ledger's currency costs in another, times 10**9. What a payer owes is computed from it
once and frozen on the payment; what a page shows in another currency names the rate's date.
"""

import datetime as dt

import msgspec
from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from billing import money
from billing.payments import currencies
from billing.payments.models import ExchangeRate


class Rate(msgspec.Struct, frozen=True):
    """A rate in force. `since` is None for the ledger's own currency, whose rate is 10**9 for ever."""

    currency: str
    rate: int
    since: dt.datetime | None

    def shown(self, amount: int) -> int:
        """Nano-units of the ledger as nano-units of this currency, for reading: rounded down in size."""
        return -(-amount * self.rate // money.NANO) if amount < 0 else amount * self.rate // money.NANO


def in_force(currency: str, moment: dt.datetime | None = None) -> Rate | None:
    """The rate of a currency, None where it has none yet."""
    if currency == settings.CURRENCY:
        return Rate(currency, money.NANO, None)
    rows = ExchangeRate.objects.filter(currency=currency, valid_from__lte=moment or timezone.now())
    row = rows.order_by("-valid_from").first()
    return Rate(currency, row.rate, row.valid_from) if row else None


def offered() -> list[str]:
    """The currencies that amounts can be shown in: the ledger's first, then those with a rate, by code."""
    known = ExchangeRate.objects.filter(valid_from__lte=timezone.now()).values_list("currency", flat=True).distinct()
    return [settings.CURRENCY, *sorted(set(known) - {settings.CURRENCY})]


def parse(text: object) -> int:
    """A rate as it is written, such as `7.1035`. Raises money.InvalidAmount."""
    rate = money.parse(text)
    if not rate:
        raise money.InvalidAmount(_("a rate must be more than zero"))
    return rate


def put(*, currency: str, rate: int, actor: str, valid_from: dt.datetime | None = None) -> ExchangeRate | None:
    """A rate from a moment on, by default now. None where it is the rate in force already.

    Raises ValidationError for a currency that is not known, and for a moment in the past: what was paid at the rate of
    that time stays explainable.
    """
    now = timezone.now()
    if currency not in currencies.EXPONENTS or currency == settings.CURRENCY:
        raise ValidationError(_("%(code)s is no currency that a rate can be given for.") % {"code": currency[:10]})
    if not 0 < rate < money.LIMIT:
        raise ValidationError(_("A rate must be more than zero."))
    if valid_from is not None and valid_from < now:
        raise ValidationError(_("This moment lies in the past."))
    before = in_force(currency, valid_from or now)
    if valid_from is None and before is not None and before.rate == rate:
        return None
    try:
        with transaction.atomic():
            return ExchangeRate.objects.create(
                currency=currency, rate=rate, valid_from=valid_from or now, actor=actor[:200]
            )
    except IntegrityError as error:
        raise ValidationError(_("There is a rate of this moment already.")) from error
