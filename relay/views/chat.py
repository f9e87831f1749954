"""`POST /v1/chat/completions`."""

from relay import pipeline
from relay.http import Answer, Request
from relay.records import Call


async def completions(request: Request, call: Call, _: str) -> Answer:
    return await pipeline.chat(request, call)
