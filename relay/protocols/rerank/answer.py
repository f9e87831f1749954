"""Rankings: looked into for usage and faults, passed on as the bytes they came in.

Jina tells its tokens in `usage`, Cohere and SiliconFlow in `meta` (billed units before all tokens).
"""

import msgspec

from relay.errors import Cause, RelayError
from relay.protocols import once, raws
from relay.protocols.rerank.request import RerankAsked


class _Meta(msgspec.Struct):
    billed_units: msgspec.Raw = raws.ABSENT
    tokens: msgspec.Raw = raws.ABSENT


class _Result(msgspec.Struct):
    index: int
    relevance_score: float


class _Answer(msgspec.Struct):
    results: list[_Result]
    id: str | None = None
    usage: msgspec.Raw = raws.ABSENT
    meta: _Meta | None = None


_decoder = msgspec.json.Decoder(_Answer)


def whole(body: bytes, asked: RerankAsked) -> once.OnceWhole:
    """Raises RelayError (upstream_error) for what ranks no documents of the request."""
    found = once.answer(body, _decoder, "ranking")
    if any(not 0 <= result.index < len(asked.documents) for result in found.results):
        raise RelayError(Cause.UPSTREAM_ERROR, "The provider ranked a document that it was not given.")
    meta = found.meta or _Meta()
    usage = once.usage(found.usage, meta.billed_units, meta.tokens)
    return once.OnceWhole(body, id=found.id or "", usage=usage, write_usage=once.write_usage)
