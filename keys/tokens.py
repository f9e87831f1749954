"""The text of an API key. Pure.

`pisces-` and 40 base62 characters, of which the last six are the CRC-32 of all before them: a mistyped or invented
key is refused without a look-up, and a scanner can tell a key from noise. `PATTERN` is published for scanners.
"""

import re
import secrets
import string
import zlib

ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
PREFIX = "pisces-"
RANDOM, CHECK = 34, 6
PATTERN = r"pisces-(?:test-)?[0-9A-Za-z]{40}"
_WHOLE = re.compile(PATTERN)


def new(*, test: bool = False) -> str:
    """A fresh key with some 202 random bits."""
    start = PREFIX + ("test-" if test else "") + "".join(secrets.choice(ALPHABET) for _ in range(RANDOM))
    return start + checksum(start)


def checksum(text: str) -> str:
    number = zlib.crc32(text.encode())
    digits = []
    for _ in range(CHECK):
        number, digit = divmod(number, 62)
        digits.append(ALPHABET[digit])
    return "".join(reversed(digits))


def is_genuine(token: str) -> bool:
    """Whether the text has a key's form and its checksum fits."""
    return _WHOLE.fullmatch(token) is not None and checksum(token[:-CHECK]) == token[-CHECK:]


def mask(token: str) -> str:
    """For messages: enough to recognise a key by, never enough to use it."""
    visible = "".join(c if 33 <= ord(c) < 127 else "?" for c in token)
    if len(visible) < 20:
        return visible[:3] + "…"
    return f"{visible[:11]}…{visible[-4:]}"


def shown_parts(token: str) -> tuple[str, str]:
    """What is stored in the clear: the beginning and the last four characters."""
    head = PREFIX + ("test-" if token.startswith(PREFIX + "test-") else "")
    return token[: len(head) + 4], token[-4:]
