"""The hub's values as legacy completions: a whole answer for a client, and a client's own request once more. Pure."""

import time
from typing import Any

import msgspec

from relay.errors import Cause, RelayError
from relay.protocols import completion_usage, markdown, names
from relay.protocols.canonical import Json, Media, Refusal, Request, Response, Text
from relay.protocols.capabilities import Capabilities
from relay.protocols.codec import Encoded, Told
from relay.protocols.completions import encoder


def encode_request(request: Request, *, model: str, limit: int | None, caps: Capabilities) -> Encoded:
    """For a client of completions whose upstream streams otherwise than it asked. Raises RelayError for a request that
    no such client can have made: a conversation is no text to go on with."""
    parts = request.messages[0].parts if len(request.messages) == 1 else []
    if len(parts) != 1 or not isinstance(parts[0], Text) or request.tools:
        raise RelayError(Cause.INVALID_MESSAGES, "This model completes a text and does not chat.", param="messages")
    given = request.sampling
    body: Json = {"model": model, "prompt": parts[0].text, "max_tokens": request.limit if limit is None else limit}
    for name in ("temperature", "top_p", "frequency_penalty", "presence_penalty", "seed", "logit_bias"):
        _put(body, name, getattr(given, name))
    _put(body, "stop", given.stop or None)
    _put(body, "user", request.user and names.user(request.user))
    if request.stream:
        body.update(stream=True, stream_options={"include_usage": True})
    unsaid = [name for name in ("top_k", "logprobs") if getattr(given, name) is not None]
    return Encoded(body=body, losses=[*unsaid, *request.extra])


def _put(body: Json, name: str, value: Any) -> None:
    if value is not None:
        body[name] = value


def encode_response(response: Response, *, asked: encoder.Asking, model: str, pisces: Told) -> bytes:
    shown = [part for part in response.parts if isinstance(part, Text | Refusal | Media)]
    said = "".join(markdown.shown(part) if isinstance(part, Media) else part.text for part in shown)
    choice: Json = {
        "text": encoder.echoed(asked) + said,
        "index": 0,
        "logprobs": None,
        "finish_reason": encoder.finish_word(response.finish),
    }
    body: Json = {
        "id": response.id or encoder.new_id(),
        "object": "text_completion",
        "created": int(time.time()),
        "model": model,
        "choices": [choice],
        **({} if response.usage is None else {"usage": completion_usage.encode(response.usage)}),
        "pisces": pisces,
    }
    return msgspec.json.encode(body)
