"""`POST /v1/chat/completions`."""

from relay import pipeline
from relay.http import Answer, Request
from relay.records import Call
from relay.views import door


async def completions(request: Request, call: Call, _: str) -> Answer:
    token = door.token_in_headers(request)
    if token is None:  # then only the body can bear a key, and is read before anyone is known
        await request.read()
        principal = await pipeline.authenticate(door.token_in_body(request), call)
    else:
        principal = await pipeline.authenticate(token, call)
        await request.read()
    return await pipeline.chat(request, call, principal)
