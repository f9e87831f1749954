"""The `thoughtSignature` of a part: Gemini's own state as it is, another vendor's in base64. Pure.

The field is bytes, which JSON has as base64, and typed SDKs decode it as that: a mark of ours that is none would break
the whole answer for them. Some write it back in the alphabet for URLs.
"""

import base64
import binascii

from relay.protocols import states
from relay.protocols.canonical import Opaque

# What any base64 of a text begins with that begins with our mark.
_HEAD = base64.b64encode(states.MARK.encode()).decode().rstrip("=")[:-1]
_MARKS = tuple(b'"%b' % mark.encode() for mark in (_HEAD, states.MARK))
# Google's last resort for a call that it did not make itself ("Thought signatures", FAQ).
SKIP = "skip_thought_signature_validator"


def read(field: object) -> Opaque | None:
    """Whose state this is; None for none."""
    if not isinstance(field, str) or not field:
        return None
    return states.unwrapped(_unpacked(field) or field, native="gemini")


def for_client(state: Opaque | None) -> str:
    """ "" for none."""
    if state is None or state.owner == "gemini":
        return state.data if state else ""
    return base64.b64encode(states.wrapped(state, native="gemini").encode()).decode()


def for_upstream(state: Opaque | None) -> str:
    """Only what is Gemini's own; "" for none."""
    return state.data if state is not None and state.owner == "gemini" else ""


def may_be_foreign(body: bytes) -> bool:
    """Whether another vendor's state may be in this JSON: our own mark is."""
    return any(mark in body for mark in _MARKS)


def _unpacked(field: str) -> str:
    if not field.startswith(_HEAD):
        return ""
    try:
        padded = field.rstrip("=")
        found = base64.urlsafe_b64decode(
            (padded + "=" * (-len(padded) % 4)).replace("+", "-").replace("/", "_").encode("ascii")
        ).decode()
    except (binascii.Error, UnicodeError, ValueError):
        return ""
    return found if found.startswith(states.MARK) else ""
