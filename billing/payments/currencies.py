"""Currencies that payers pay in: minor units as integers, and what an amount of the ledger costs in them. Pure.

A minor unit is what a currency counts in: a cent, a fen, a yen. The only rounding is in `due`: up to the next one.
"""

import re

from billing import money

# Digits after the point, as ISO 4217 has them and as payment providers count; others are not offered. Those of three
# digits are left out, because card networks take only some of their amounts.
_ZERO = ("JPY", "KRW", "VND", "CLP", "XAF", "XOF", "PYG")
_TWO: tuple[str, ...] = (
    "AED",
    "AUD",
    "BRL",
    "CAD",
    "CHF",
    "CNY",
    "CZK",
    "DKK",
    "EUR",
    "GBP",
    "HKD",
    "IDR",
    "ILS",
    "INR",
    "MXN",
    "MYR",
)
_TWO += ("NOK", "NZD", "PHP", "PLN", "RON", "RUB", "SAR", "SEK", "SGD", "THB", "TRY", "TWD", "USD", "ZAR")
EXPONENTS = {**dict.fromkeys(_ZERO, 0), **dict.fromkeys(_TWO, 2)}
SIGNS = {"USD": "$", "EUR": "€", "CNY": "¥", "GBP": "£", "JPY": "¥", "KRW": "₩", "INR": "₹", "HKD": "HK$", "TWD": "NT$"}
LARGEST_DUE = 99_999_999  # minor units: what the strictest card network takes in one payment

_AMOUNT = re.compile(r"([0-9]{1,10})(?:\.([0-9]{1,2}))?")


def sign_of(currency: str) -> str:
    """What stands before an amount."""
    return SIGNS.get(currency, currency + " ")


def due(amount: int, *, currency: str, rate: int) -> int:
    """What `amount` nano-units of the ledger cost at `rate`, in minor units of `currency`, rounded up."""
    return money.round_up(amount * rate * 10 ** EXPONENTS[currency], money.NANO * money.NANO)


def to_text(minor: int, currency: str) -> str:
    """`1999` of USD as `19.99`."""
    digits = EXPONENTS.get(currency, 2)
    whole, fraction = divmod(minor, 10**digits)
    return f"{whole}.{fraction:0{digits}d}" if digits else str(whole)


def parse(text: str, currency: str) -> int | None:
    """Minor units of a decimal such as `19.9`; None for what is none, or has more digits than the currency."""
    match = _AMOUNT.fullmatch(text)
    if match is None:
        return None
    whole, fraction = match.group(1), match.group(2) or ""
    digits = EXPONENTS[currency]
    if fraction.rstrip("0")[digits:]:
        return None
    return int(whole + fraction[:digits].ljust(digits, "0"))
