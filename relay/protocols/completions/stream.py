"""A streamed text completion on its way to a client of the same protocol: bytes in, bytes out, usage overheard."""

from collections.abc import Sequence

import msgspec

from relay.protocols.chunks import Chunk, ChunkStream
from relay.protocols.completions import response
from relay.protocols.completions.echo import Asking, Echoes
from relay.protocols.completions.response import Choice
from relay.protocols.raws import is_given


class TextStream(ChunkStream[Choice]):
    __slots__ = ("_echoes",)

    def __init__(self, asked: Asking, *, model: str, wants_usage: bool, upstream_model: str) -> None:
        super().__init__(model=model, wants_usage=wants_usage, choices=asked.choices, upstream_model=upstream_model)
        self._echoes = Echoes(asked)

    def _decode(self, data: bytes) -> Chunk[Choice]:
        return response.decoder.decode(data)

    def _note_output(self, choice: Choice) -> None:
        response.note(choice, self.seen, self._echoes)

    def _texts(self, choice: Choice) -> Sequence[tuple[str, msgspec.Raw]] | None:
        if self._echoes.lasts(choice.index or 0):
            return None  # the next one has to be looked into
        return [("text", choice.text)] if is_given(choice.text) else []
