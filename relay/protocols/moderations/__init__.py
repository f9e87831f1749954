"""OpenAI's moderation: `POST /v1/moderations`."""

from relay.protocols import codec
from relay.protocols.moderations import answer, request

DIALECT = codec.Endpoint(
    protocol="openai", kind="moderation", path=lambda model: "/moderations", read=request.read, whole=answer.whole
)
