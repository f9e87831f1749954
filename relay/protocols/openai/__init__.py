"""OpenAI's chat completions: the protocol of most clients and of most vendors."""

from relay.protocols import codec
from relay.protocols.openai import errors, reading, request, response, writing
from relay.protocols.openai.decoder import ChatDecoder
from relay.protocols.openai.encoder import ChatEncoder
from relay.protocols.openai.stream import ChatStream


def _path(model: str, stream: bool) -> str:
    return "/chat/completions"


def _passing(asked: request.ChatRequest, *, model: str, upstream_model: str) -> ChatStream:
    return ChatStream(model=model, wants_usage=asked.wants_usage, n=asked.n, upstream_model=upstream_model)


DIALECT = codec.Dialect(
    name="openai",
    path=_path,
    read=request.read,
    whole=response.decode,
    passing=_passing,
    encode_request=writing.encode_request,
    decode_response=reading.decode_response,
    encode_response=writing.encode_response,
    decoder=ChatDecoder,
    encoder=ChatEncoder,
    decode_error=errors.decode,
    encode_error=errors.encode,
)
