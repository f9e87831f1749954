"""OpenAI's Responses: `POST /v1/responses`."""

from relay.protocols import envelope
from relay.protocols.codec import Dialect
from relay.protocols.responses import encoder, errors, received, request, stream, writing
from relay.protocols.responses.decoder import Decoder

DIALECT = Dialect(
    name="responses",
    path=lambda model, streamed: "/responses",
    read=request.read,
    whole=stream.ResponsesAnswer,
    passing=stream.ResponsesStream,
    encode_request=writing.encode_request,
    decode_response=received.decode_response,
    encode_response=encoder.encode_response,
    decoder=Decoder,
    encoder=encoder.Encoder,
    decode_error=envelope.decode,
    encode_error=errors.encode,
)
