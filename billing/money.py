"""Money as integers: nano-units (1e-9) of the ledger's one currency.

Prices are integer nano-units per 1,000,000 units (tokens, seconds, pictures, calls). The only rounding there is
happens here, in `round_up`, once a charge: up to the next nano-unit.
"""

import re

NANO = 1_000_000_000
MILLION = 1_000_000
# What fits the ledger's signed 64-bit columns, with room to add two of them.
LIMIT = 2**62
# The most that one call can be charged, whatever its provider reports: a budget can add up a thousand of them.
LARGEST_CHARGE = 2**52

_AMOUNT = re.compile(r"(-?)([0-9]{1,12})(?:\.([0-9]{1,9}))?")


class InvalidAmount(ValueError):
    """The text is not an amount of money; the message says why and is fit for a user."""


def parse(text: object, *, negative: bool = False) -> int:
    """Nano-units of a decimal such as `"12.5"`; raises InvalidAmount instead of rounding or guessing."""
    match = _AMOUNT.fullmatch(str(text).strip())
    if match is None:
        raise InvalidAmount(f"{str(text)[:40]!r} is not an amount: digits with at most nine decimals are expected")
    sign, whole, fraction = match.groups()
    value = int(whole) * NANO + int((fraction or "").ljust(9, "0"))
    if value >= LIMIT:
        raise InvalidAmount("the amount is too large for the ledger")
    if sign and value and not negative:
        raise InvalidAmount("the amount must not be negative")
    return -value if sign else value


def to_text(nano: int, *, decimals: int | None = None) -> str:
    """Exact decimal string; `decimals` pads (and never cuts a digit that counts)."""
    sign = "-" if nano < 0 else ""
    whole, fraction = divmod(abs(nano), NANO)
    digits = f"{fraction:09d}".rstrip("0")
    if decimals is not None:
        digits = digits.ljust(decimals, "0")
    return f"{sign}{whole}.{digits}" if digits else f"{sign}{whole}"


def round_up(numerator: int, denominator: int) -> int:
    """The ledger's one rounding: the smallest integer that is not below the quotient."""
    return -(-numerator // denominator)
