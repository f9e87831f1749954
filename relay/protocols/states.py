"""A vendor's opaque state in the fields of another vendor's protocol. Pure.

A client that gets a thought from elsewhere keeps its signature and brings it back; the mark tells then whose it is, so
that its owner gets it byte for byte and nobody else ever sees it. No vendor's own signature begins so.
"""

import base64
import binascii

import msgspec

from relay.protocols.canonical import Media, Message, Opaque, Owner, Part, Reasoning, Text, ToolCall

MARK = "pisces."
_OWNERS: dict[str, Owner] = {"o": "openai", "a": "anthropic", "g": "gemini"}


def wrapped(state: Opaque | None, *, native: Owner) -> str:
    """What goes into `native`'s signature field: its own state as it is, another's marked, "" for none."""
    if state is None:
        return ""
    if state.owner == native:
        return state.data
    packed = base64.urlsafe_b64encode(f"{state.id}\n{state.data}".encode()).decode()
    return f"{MARK}{state.owner[0]}.{packed}"


def unwrapped(field: str | None, *, native: Owner, item: str = "") -> Opaque | None:
    """Whose state this is. None for none, and for a mark that nobody here has made."""
    if not field:
        return None
    if not field.startswith(MARK):
        return Opaque(native, field, item)
    letter, _, packed = field.removeprefix(MARK).partition(".")
    try:
        found = base64.urlsafe_b64decode(packed.encode("ascii")).decode()
    except (binascii.Error, UnicodeError, ValueError):
        return None
    item, _, data = found.partition("\n")
    owner = _OWNERS.get(letter)
    return Opaque(owner, data, item) if owner and data else None


def without(messages: list[Message]) -> list[Message] | None:
    """The conversation without anybody's state; None where there is none in it."""
    found = [msgspec.structs.replace(message, parts=_bare(message.parts)) for message in messages]
    return None if found == messages else found


def _bare(parts: list[Part]) -> list[Part]:
    """Thoughts of which only the state can be seen are left out."""
    return [
        msgspec.structs.replace(part, state=None) if isinstance(part, Text | Reasoning | ToolCall | Media) else part
        for part in parts
        if not (isinstance(part, Reasoning) and part.redacted)
    ]
