"""How much JSON a body may be, apart from its bytes: values are dear to read where bytes are not. Pure.

A text of 32 MiB costs milliseconds, eleven million empty objects seconds and a gigabyte; and what reads values by
calling itself wants to know how deep they go. So both are found in the bytes, before anything is made of them.
"""

from itertools import accumulate

from relay.errors import Cause, RelayError

MOST_VALUES = 2**18  # a conversation of a million tokens with all its tools has a tenth of them
MOST_TURNS = 2**14
DEEPEST = 128

_BESIDE = bytes(set(range(256)) - set(b'[]{},"'))
_STEPS = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}


def bounded(body: bytes) -> None:
    """Raises RelayError (400) for more than MOST_VALUES values, and for values in more than DEEPEST others. What is no
    JSON may pass: it is for its reader to refuse."""
    brackets = body.count(b"{") + body.count(b"[")
    if brackets <= DEEPEST and brackets + body.count(b",") <= MOST_VALUES:
        return
    # Without escapes every quotation mark begins a string or ends one.
    skeleton = body.replace(b"\\\\", b"").replace(b'\\"', b"").translate(None, _BESIDE)
    if skeleton.count(b'"') > 4 * MOST_VALUES:
        raise _too_many()
    outside = b"".join(skeleton.split(b'"')[::2])
    if len(outside) - outside.count(b"]") - outside.count(b"}") > MOST_VALUES:
        raise _too_many()
    if brackets > DEEPEST and _depth(outside.translate(None, b",")) > DEEPEST:
        raise RelayError(Cause.INVALID_JSON, f"The body is not valid JSON: it is nested too deeply, above {DEEPEST}.")


def few_turns(count: int, field: str) -> None:
    """Raises RelayError (400) for more than MOST_TURNS entries of this field."""
    if count > MOST_TURNS:
        raise RelayError(Cause.INVALID_MESSAGES, f"`{field}` may have at most {MOST_TURNS} entries.", param=field)


def _depth(brackets: bytes) -> int:
    return max(accumulate(map(_STEPS.__getitem__, brackets)), default=0)


def _too_many() -> RelayError:
    return RelayError(
        Cause.INVALID_PARAMETER, f"The body has more than {MOST_VALUES} values; send less in one request."
    )
