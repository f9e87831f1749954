"""A streamed text completion on its way to a client of the same protocol: bytes in, bytes out, usage overheard."""

from collections.abc import Sequence

import msgspec

from relay.protocols.chunks import Chunk, ChunkStream, is_given
from relay.protocols.completions import response
from relay.protocols.completions.response import Choice


class TextStream(ChunkStream[Choice]):
    __slots__ = ()

    def _decode(self, data: bytes) -> Chunk[Choice]:
        return response.decoder.decode(data)

    def _note_output(self, choice: Choice) -> None:
        response.note(choice, self.seen)

    def _texts(self, choice: Choice) -> Sequence[tuple[str, msgspec.Raw]] | None:
        return [("text", choice.text)] if is_given(choice.text) else []
