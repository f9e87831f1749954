"""The endpoints of models that answer a text with something else than one: embeddings, rankings, judgements."""

from relay import dialects, pipeline
from relay.http import Answer, Request
from relay.protocols.gemini import embedding
from relay.records import Call
from relay.views.chat import model_in

_KINDS = {"embeddings": "embedding", "rerank": "rerank", "moderations": "moderation"}


async def answer(request: Request, call: Call, _: str) -> Answer:
    """`POST /v1/embeddings`, `/v1/rerank` and `/v1/moderations`: the body says it all."""
    asked = dialects.endpoint(_KINDS[call.endpoint], call.protocol).read(request.body)
    return await pipeline.chat(request, call, asked)


async def embed(request: Request, call: Call, model: str) -> Answer:
    """Gemini's `POST …/models/{model}:embedContent`."""
    return await pipeline.chat(request, call, embedding.read(request.body, model=model_in(model), batch=False))


async def embed_batch(request: Request, call: Call, model: str) -> Answer:
    """Gemini's `POST …/models/{model}:batchEmbedContents`."""
    return await pipeline.chat(request, call, embedding.read(request.body, model=model_in(model), batch=True))
