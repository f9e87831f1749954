"""Moderation results: looked into for faults, passed on as the bytes they came in.

OpenAI reports no usage with them; Mistral and others do. Nobody misses what was counted, so it is not written in.
"""

import msgspec

from relay.errors import Cause, RelayError
from relay.protocols import once, raws
from relay.protocols.moderations.request import ModerationAsked


class _Answer(msgspec.Struct):
    results: list[msgspec.Raw]
    id: str | None = None
    usage: msgspec.Raw = raws.ABSENT


_decoder = msgspec.json.Decoder(_Answer)


def whole(body: bytes, asked: ModerationAsked) -> once.OnceWhole:
    """Raises RelayError (upstream_error) for what is no judgement."""
    found = once.answer(body, _decoder, "moderation result")
    if not found.results:
        raise RelayError(Cause.UPSTREAM_ERROR, "The provider's answer has no moderation results.")
    return once.OnceWhole(body, id=found.id or "", usage=once.usage(found.usage))
