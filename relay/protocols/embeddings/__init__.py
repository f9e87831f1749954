"""OpenAI's embeddings: `POST /v1/embeddings`."""

from relay.protocols import codec
from relay.protocols.embeddings import answer, request, writing

DIALECT = codec.Vectors(
    protocol="openai",
    kind="embedding",
    path=lambda model: "/embeddings",
    read=request.read,
    whole=answer.whole,
    encode_request=writing.encode_request,
    decode_response=writing.decode_response,
    encode_response=writing.encode_response,
)
