"""Values that stay the bytes they came in: whether one is there, and what it says where it is a text. Pure."""

import msgspec

ABSENT = msgspec.Raw(b"")  # the default of a field; told by identity
NULL = msgspec.Raw(b"null")


def is_given(raw: msgspec.Raw) -> bool:
    """Whether a field is there and not null. A value is compared where it lies, however long it is."""
    return raw is not ABSENT and raw != NULL


def text(raw: msgspec.Raw | None) -> str | None:
    """A JSON string's text, None for anything else."""
    if raw is None or bytes(memoryview(raw)[:1]) != b'"':
        return None
    return msgspec.json.decode(raw, type=str)
