"""Reranking, of which Jina's and Cohere's form is the one that others follow: `POST /v1/rerank`."""

from relay.protocols import codec
from relay.protocols.rerank import answer, request

DIALECT = codec.Endpoint(
    protocol="openai", kind="rerank", path=lambda model: "/rerank", read=request.read, whole=answer.whole
)
