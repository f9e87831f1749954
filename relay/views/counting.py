"""How many tokens a prompt has, before it is sent: Anthropic's `count_tokens` and Gemini's `countTokens`. Free."""

from relay import counts
from relay.delivery import pisces
from relay.http import Answer, Request, json_answer
from relay.protocols.anthropic import request as anthropic
from relay.protocols.gemini import count_tokens as gemini
from relay.records import Call
from relay.views.chat import model_in


async def count_tokens(request: Request, call: Call, _: str) -> Answer:
    """`POST /v1/messages/count_tokens`."""
    asked = anthropic.count_request(request.body)
    found = await counts.tokens(asked, call, request)
    return json_answer(200, {"input_tokens": found.tokens, **found.told})


async def gemini_count_tokens(request: Request, call: Call, model: str) -> Answer:
    """`POST …/models/{model}:countTokens`."""
    asked = gemini.read(request.body, model=model_in(model))
    found = await counts.tokens(asked, call, request)
    body = gemini.encode_response(found.tokens, told=found.told, pisces=pisces(call))
    return Answer(200, [(b"content-type", b"application/json")], body)
