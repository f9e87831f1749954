"""Upstream credentials at rest: AES-256-GCM, each ciphertext bound to its row.

`ENCRYPTION_KEYS` is a list: the first key encrypts, all decrypt, so a key is replaced by putting a new one first. What
others encrypted is encrypted anew by `portal.sealed`. A stored value is one byte of format, four bytes that name the
key, a 12-byte nonce, then the ciphertext.
"""

import base64
import hashlib
import os
import uuid
from functools import lru_cache

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.conf import settings

FORMAT = b"\x01"


class Undecryptable(Exception):
    """None of the installation's keys opens this value, or it was moved from another row."""


@lru_cache(maxsize=8)
def _ciphers(keys: tuple[str, ...]) -> dict[bytes, AESGCM]:
    """Ciphers by the short name of their key, in the order of the setting."""
    ciphers = {}
    for key in keys:
        material = hashlib.sha256(b"pisces.vault\x00" + key.encode()).digest()
        ciphers[hashlib.sha256(material).digest()[:4]] = AESGCM(material)
    return ciphers


def encrypt(secret: str, *, row: uuid.UUID) -> bytes:
    return seal(secret.encode(), row=row)


def decrypt(value: bytes, *, row: uuid.UUID) -> str:
    """The secret. Raises Undecryptable, which says nothing of the value."""
    return unseal(value, row=row).decode()


def seal(content: bytes, *, row: uuid.UUID) -> bytes:
    name, cipher = next(iter(_ciphers(tuple(settings.ENCRYPTION_KEYS)).items()))
    nonce = os.urandom(12)
    return FORMAT + name + nonce + cipher.encrypt(nonce, content, row.bytes)


def seal_text(content: bytes, *, row: uuid.UUID) -> str:
    """As `seal`, in base64: for what is written beside the books, whose rows are texts and numbers."""
    return base64.b64encode(seal(content, row=row)).decode()


def unseal_text(value: str, *, row: uuid.UUID) -> bytes:
    """The inverse of `seal_text`. Raises Undecryptable."""
    return unseal(base64.b64decode(value), row=row)


def opens(value: bytes, *, row: uuid.UUID) -> bool:
    """Whether one of the keys opens it."""
    try:
        unseal(value, row=row)
    except Undecryptable:
        return False
    return True


def is_by_first(value: bytes) -> bool:
    """Whether it says that it was sealed with the first of the keys. It is not opened for that."""
    return value[:5] == FORMAT + next(iter(_ciphers(tuple(settings.ENCRYPTION_KEYS))))


def unseal(value: bytes, *, row: uuid.UUID) -> bytes:
    """The inverse of `seal`. Raises Undecryptable."""
    cipher = _ciphers(tuple(settings.ENCRYPTION_KEYS)).get(bytes(value[1:5]))
    if cipher is None or value[:1] != FORMAT:
        raise Undecryptable("encrypted with a key that is not in ENCRYPTION_KEYS")
    try:
        return cipher.decrypt(bytes(value[5:17]), bytes(value[17:]), row.bytes)
    except InvalidTag as error:
        raise Undecryptable("not encrypted for this row") from error
