"""A streamed OpenAI chat answer on its way to an OpenAI client: bytes in, bytes out, usage overheard."""

from collections.abc import Sequence

import msgspec

from relay.protocols.chunks import Chunk, ChunkStream
from relay.protocols.openai import response
from relay.protocols.openai.response import Delta
from relay.protocols.raws import is_given


class _Choice(msgspec.Struct, gc=False):
    index: int | None = None
    delta: Delta | None = None
    finish_reason: str | None = None


_decoder = msgspec.json.Decoder(Chunk[_Choice])


class ChatStream(ChunkStream[_Choice]):
    """`feed` → bytes for the client; `close` once the upstream has ended; `last` once the books are written.

    `failure` is set where an event was an error, or no event at all, or the answer was empty or did not end; what was
    returned until then is valid and nothing follows it.
    """

    __slots__ = ()

    def __init__(self, *, model: str, wants_usage: bool, n: int = 1, upstream_model: str = "") -> None:
        super().__init__(model=model, wants_usage=wants_usage, choices=n, upstream_model=upstream_model)

    def _decode(self, data: bytes) -> Chunk[_Choice]:
        return _decoder.decode(data)

    def _note_output(self, choice: _Choice) -> None:
        if choice.delta is not None:
            response.note(choice.delta, choice.index or 0, self.seen)

    def _texts(self, choice: _Choice) -> Sequence[tuple[str, msgspec.Raw]] | None:
        delta = choice.delta
        if delta is None or is_given(delta.tool_calls) or is_given(delta.function_call):
            return None
        return [(part, raw) for part in response.TEXTS if is_given(raw := getattr(delta, part))]
