"""Google's Gemini API: `models.generateContent` and its stream, and beside them counting and embedding."""

from relay.protocols.codec import Dialect
from relay.protocols.gemini import errors, reading, request, writing
from relay.protocols.gemini.decoder import Decoder
from relay.protocols.gemini.encoder import Encoder
from relay.protocols.gemini.stream import GeminiStream
from relay.protocols.gemini.whole import GeminiWhole


def _path(model: str, streamed: bool) -> str:
    return request.path(model, "streamGenerateContent?alt=sse" if streamed else "generateContent")


DIALECT = Dialect(
    name="gemini",
    path=_path,
    read=request.read,
    whole=GeminiWhole,
    passing=GeminiStream,
    encode_request=writing.encode_request,
    decode_response=reading.decode_response,
    encode_response=writing.encode_response,
    decoder=Decoder,
    encoder=Encoder,
    decode_error=errors.decode,
    encode_error=errors.encode,
)
