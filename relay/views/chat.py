"""The endpoints at which a model answers: every protocol's own, and the legacy completions."""

from relay import dialects, pipeline
from relay.errors import Cause, RelayError
from relay.http import Answer, Request
from relay.records import Call


async def answer(request: Request, call: Call, _: str) -> Answer:
    """`POST /v1/chat/completions`, `/v1/completions` and `/v1/messages`: the body says it all."""
    return await pipeline.chat(request, call, dialects.of(call.protocol).read(request.body))


async def generate(request: Request, call: Call, model: str) -> Answer:
    """Gemini's `POST …/models/{model}:generateContent`."""
    asked = dialects.GEMINI.read(request.body, model=model_in(model), stream=False)
    return await pipeline.chat(request, call, asked)


async def stream_generate(request: Request, call: Call, model: str) -> Answer:
    """Gemini's `POST …/models/{model}:streamGenerateContent`: events with `alt=sse`, else one JSON array."""
    array = request.query_value("alt") != "sse"
    asked = dialects.GEMINI.read(request.body, model=model_in(model), stream=True, array=array)
    return await pipeline.chat(request, call, asked)


def model_in(name: str) -> str:
    """`models/x` and `x` are the same model."""
    found = name.removeprefix("models/")
    if not found:
        raise RelayError(Cause.INVALID_MODEL, "The path names no model.", param="model")
    return found
