"""The text of a redeem code. Pure.

`PX-` and 20 characters of Crockford's base 32, in groups of four: 16 drawn at random (80 bits), then 4 of checksum.
The checksum is the number that the 16 write, modulo the largest prime below 2^20. So a code with one wrong character,
or with two neighbours exchanged, is never a code: both change the number by what this prime does not divide.
"""

import re
import secrets
import unicodedata

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # no I, L, O, U
PREFIX = "PX"
RANDOM, CHECK, GROUP = 16, 4, 4
PRIME = 1_048_573
LONGEST = 100  # characters of what somebody typed that are looked at
_VALUES = {character: value for value, character in enumerate(ALPHABET)}
_MISREAD = str.maketrans("OIL", "011")
_BETWEEN = re.compile(r"[\s\u00ad\u200b\u2060\ufeff_.\-\u2010-\u2015\u2212]+")


def new() -> str:
    """A fresh code with 80 random bits, as it is stored under its digest: without prefix and dashes."""
    drawn = "".join(secrets.choice(ALPHABET) for _ in range(RANDOM))
    return drawn + checksum(drawn)


def checksum(drawn: str) -> str:
    rest = _number(drawn) % PRIME
    return "".join(ALPHABET[rest >> 5 * place & 31] for place in reversed(range(CHECK)))


def canonical(text: str) -> str | None:
    """The code that was typed, or None where it cannot be one.

    Small letters, spaces and dashes of any kind, and full-width characters are as good; O is taken for 0, I and L
    for 1. The prefix may be missing.
    """
    plain = _BETWEEN.sub("", unicodedata.normalize("NFKC", text[:LONGEST])).upper()
    plain = plain.removeprefix(PREFIX) if len(plain) == len(PREFIX) + RANDOM + CHECK else plain
    plain = plain.translate(_MISREAD)
    if len(plain) != RANDOM + CHECK or any(character not in _VALUES for character in plain):
        return None
    return plain if checksum(plain[:RANDOM]) == plain[RANDOM:] else None


def written(code: str) -> str:
    """As people are given it: `PX-49TD-0QEM-…`."""
    return "-".join([PREFIX, *(code[start : start + GROUP] for start in range(0, len(code), GROUP))])


def _number(text: str) -> int:
    number = 0
    for character in text:
        number = number * 32 + _VALUES[character]
    return number
