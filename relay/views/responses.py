"""`/v1/responses`: a model answers, and what it answered can be asked for again.

Source: OpenAI API reference, "Responses".
"""

import re

from relay import pipeline, stored_responses
from relay.errors import Cause, RelayError
from relay.http import Answer, Request, json_answer
from relay.protocols.responses import kept, request
from relay.records import Call

_JSON = [(b"content-type", b"application/json")]


async def create(asked_by: Request, call: Call, _: str) -> Answer:
    """`POST /v1/responses`."""
    assert call.principal
    asked = await stored_responses.prepared(request.read(asked_by.body), call.principal)
    return await pipeline.chat(asked_by, call, asked)


async def retrieve(asked_by: Request, call: Call, response: str) -> Answer:
    """`GET /v1/responses/{id}`."""
    assert call.principal
    if asked_by.query_value("stream") == "true":
        raise RelayError(Cause.INVALID_PARAMETER, "A response that has ended is not streamed again.", param="stream")
    return Answer(200, _JSON, await stored_responses.retrieved(response, call.principal))


async def delete(asked_by: Request, call: Call, response: str) -> Answer:
    """`DELETE /v1/responses/{id}`."""
    assert call.principal
    await stored_responses.deleted(response, call.principal)
    return json_answer(200, {"id": response, "object": "response", "deleted": True})


async def cancel(asked_by: Request, call: Call, response: str) -> Answer:
    """`POST /v1/responses/{id}/cancel`. All that is kept has ended, and none of it ran in the background."""
    assert call.principal
    await stored_responses.retrieved(response, call.principal)
    raise RelayError(Cause.INVALID_PARAMETER, "Cannot cancel a synchronous response.")


async def input_items(asked_by: Request, call: Call, response: str) -> Answer:
    """`GET /v1/responses/{id}/input_items`."""
    assert call.principal
    order = asked_by.query_value("order") or "desc"
    if order not in ("asc", "desc"):
        raise RelayError(Cause.INVALID_PARAMETER, "`order` must be asc or desc.", param="order")
    limit = _limit(asked_by.query_value("limit"))
    items = await stored_responses.input_items(response, call.principal)
    after = asked_by.query_value("after")
    return json_answer(200, kept.page(items, after=after, limit=limit, ascending=order == "asc"))


def _limit(given: str | None) -> int:
    if given is None:
        return 20
    if not re.fullmatch("[0-9]{1,3}", given) or not 1 <= int(given) <= 100:
        raise RelayError(Cause.INVALID_PARAMETER, "`limit` must be a number from 1 to 100.", param="limit")
    return int(given)
