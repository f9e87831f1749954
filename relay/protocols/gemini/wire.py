"""Gemini's answers as they stand on the wire: what is read of one, whole or as an event of a stream.

Source: Gemini API reference, `GenerateContentResponse`.
"""

import msgspec

from relay.errors import Cause, RelayError
from relay.protocols.raws import ABSENT, is_given


class Call(msgspec.Struct, gc=False):
    id: str | None = None
    name: str | None = None
    args: msgspec.Raw = ABSENT


class Blob(msgspec.Struct, gc=False):
    mimeType: str | None = None
    data: str | None = None


class File(msgspec.Struct, gc=False):
    mimeType: str | None = None
    fileUri: str | None = None


class Part(msgspec.Struct, gc=False):
    text: str | None = None
    thought: bool | None = None
    thoughtSignature: str | None = None
    functionCall: Call | None = None
    inlineData: Blob | None = None
    fileData: File | None = None


class Content(msgspec.Struct, gc=False):
    parts: list[Part] | None = None


class Web(msgspec.Struct, gc=False):
    uri: str | None = None
    title: str | None = None


class GroundingChunk(msgspec.Struct, gc=False):
    web: Web | None = None
    retrievedContext: Web | None = None


class Grounding(msgspec.Struct, gc=False):
    groundingChunks: list[GroundingChunk] | None = None
    webSearchQueries: list[str] | None = None


class Candidate(msgspec.Struct, gc=False):
    index: int | None = None
    content: Content | None = None
    finishReason: str | None = None
    finishMessage: str | None = None
    groundingMetadata: Grounding | None = None


class Feedback(msgspec.Struct, gc=False):
    blockReason: str | None = None
    blockReasonMessage: str | None = None


class Answer(msgspec.Struct, gc=False):
    candidates: list[Candidate] | None = None
    promptFeedback: Feedback | None = None
    usageMetadata: msgspec.Raw = ABSENT
    modelVersion: str | None = None
    responseId: str | None = None
    error: msgspec.Raw = ABSENT

    @property
    def blocked(self) -> str | None:
        """Why the prompt was refused: such an answer has no candidates."""
        return self.promptFeedback.blockReason if self.promptFeedback is not None and not self.candidates else None


_decoder = msgspec.json.Decoder(Answer)


def read(data: bytes) -> Answer:
    """Raises RelayError (upstream_error) for what is no answer."""
    try:
        data.decode()  # what is passed on, or kept raw, is not looked at otherwise
        return _decoder.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise RelayError(Cause.UPSTREAM_ERROR, "The provider sent an answer that cannot be read.") from error


def arguments(raw: msgspec.Raw) -> str:
    """A call's arguments on one line, for whole answers come with line breaks; "" for none. Raises RelayError."""
    if not is_given(raw):
        return ""
    try:
        return msgspec.json.format(bytes(raw), indent=-1).decode()
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RelayError(Cause.UPSTREAM_ERROR, "The provider sent an answer that cannot be read.") from error


def part_at(data: bytes, candidate: int, number: int) -> dict[str, object]:
    """A part as it was written, for kinds that are kept whole."""
    found = msgspec.json.decode(data)["candidates"][candidate]["content"]["parts"][number]
    assert isinstance(found, dict)
    return found
