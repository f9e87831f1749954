"""The amounts of invoices. Pure. The one rounding of an invoice is in `payable`.

The ledger counts nano-units; nobody can pay those. An invoice is for whole minor units (cents): what is owed is rounded
down, and the rest is carried on to the next month, as a line of both invoices. So nobody ever pays more than the ledger
says, and all invoices of a wallet and what it carries now are its ledger to the last nano-unit.

Prices include the tax: what the ledger charges is what is paid, and the invoice says how much of it is tax.
"""

import msgspec

from billing import money

MILLION = 1_000_000
# Currencies whose minor unit is not a hundredth (ISO 4217).
_DECIMALS = {"JPY": 0, "KRW": 0, "VND": 0, "CLP": 0, "ISK": 0, "BHD": 3, "KWD": 3, "OMR": 3, "JOD": 3, "TND": 3}


class Payable(msgspec.Struct, frozen=True):
    """What is asked for now, and what is carried on, both nano-units; they add up to what was owed."""

    amount: int
    carried: int


def decimals(currency: str) -> int:
    """How many decimals an amount has that can be paid."""
    return _DECIMALS.get(currency, 2)


def minor_unit(currency: str) -> int:
    """The smallest amount that can be paid, in nano-units."""
    return int(money.NANO // 10 ** decimals(currency))


def payable(owed: int, currency: str) -> Payable:
    """Rounded down to whole minor units; nothing where less than one is owed, or the wallet is owed something."""
    amount = max(0, owed - owed % minor_unit(currency))
    return Payable(amount, owed - amount)


def tax_within(amount: int, rate: int, currency: str) -> int:
    """How much of an amount is tax at `rate` parts per million on the rest, in whole minor units, half up."""
    unit = minor_unit(currency)
    numerator, denominator = amount * rate, (MILLION + rate) * unit
    return (2 * numerator + denominator) // (2 * denominator) * unit
