"""OpenAI's legacy completions: a text that goes on. For clients; only old models and those that fill gaps speak it.

Towards any other model the prompt is one turn of a user, and the answer's text is what goes on.
"""

from relay.protocols import codec, envelope
from relay.protocols.completions import reading, request, response, writing
from relay.protocols.completions.decoder import TextDecoder
from relay.protocols.completions.encoder import TextEncoder
from relay.protocols.completions.stream import TextStream


def _path(model: str, stream: bool) -> str:
    return "/completions"


def _passing(asked: request.CompletionRequest, *, model: str, upstream_model: str) -> TextStream:
    return TextStream(asked, model=model, wants_usage=asked.wants_usage, upstream_model=upstream_model)


DIALECT = codec.Dialect(
    name="completions",
    path=_path,
    read=request.read,
    whole=response.decode,
    passing=_passing,
    encode_request=writing.encode_request,
    decode_response=reading.decode_response,
    encode_response=writing.encode_response,
    decoder=TextDecoder,
    encoder=TextEncoder,
    decode_error=envelope.decode,
    encode_error=envelope.encode,
)
