"""Anthropic messages, both known versions of the API."""

from relay.protocols.anthropic import errors, reading, request, usage, writing
from relay.protocols.anthropic.decoder import MessagesDecoder
from relay.protocols.anthropic.encoder import MessagesEncoder
from relay.protocols.anthropic.stream import MessagesStream
from relay.protocols.codec import Dialect
from relay.protocols.passing import PassedWhole


def _path(model: str, stream: bool) -> str:
    return "/messages"


def _whole(body: bytes, asked: object) -> PassedWhole:
    return PassedWhole(body, reading.decode_response(body), usage.encode)


DIALECT = Dialect(
    name="anthropic",
    path=_path,
    read=request.read,
    whole=_whole,
    passing=MessagesStream,
    encode_request=writing.encode_request,
    decode_response=reading.decode_response,
    encode_response=writing.encode_response,
    decoder=MessagesDecoder,
    encoder=MessagesEncoder,
    decode_error=errors.decode,
    encode_error=errors.encode,
    forwarded=request.forwarded,
)
