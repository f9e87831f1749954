"""Google's Gemini API: `models.generateContent` and its stream, and beside them counting and embedding."""

from relay.protocols.codec import Dialect
from relay.protocols.gemini import errors, reading, request, writing
from relay.protocols.gemini.decoder import Decoder
from relay.protocols.gemini.encoder import Encoder
from relay.protocols.gemini.stream import GeminiStream
from relay.protocols.passing import PassedWhole


def _path(model: str, streamed: bool) -> str:
    return request.path(model, "streamGenerateContent?alt=sse" if streamed else "generateContent")


def _whole(body: bytes) -> PassedWhole:
    return PassedWhole(body, reading.decode_response(body), model_field="modelVersion")


DIALECT = Dialect(
    name="gemini",
    path=_path,
    read=request.read,
    whole=_whole,
    passing=GeminiStream,
    encode_request=writing.encode_request,
    decode_response=reading.decode_response,
    encode_response=writing.encode_response,
    decoder=Decoder,
    encoder=Encoder,
    decode_error=errors.decode,
    encode_error=errors.encode,
)
