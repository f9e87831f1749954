"""`GET /v1/models` and `/v1/models/{id}`: what this key may use (requirement B11), as the caller's SDK reads it."""

import datetime as dt
import re
import time
from typing import Any

from billing.catalog import Model
from relay import pipeline, snapshot
from relay.errors import Cause, RelayError
from relay.http import Answer, Request, json_answer
from relay.records import Call

_VERBS = ["generateContent", "streamGenerateContent", "countTokens"]


async def index(request: Request, call: Call, _: str) -> Answer:
    models = await _usable(call)
    match call.protocol:
        case "anthropic":
            return json_answer(200, _page(models, request))
        case "gemini":
            return json_answer(200, {"models": [_gemini(model) for model in models]})
    # What all three can read: who sends no header of a vendor may still be any of them.
    shapes = [{**_anthropic(model), **_openai(model)} for model in models]
    ends = {"first_id": models[0].name, "last_id": models[-1].name} if models else {"first_id": None, "last_id": None}
    return json_answer(200, {"object": "list", "data": shapes, "has_more": False, **ends})


async def detail(request: Request, call: Call, name: str) -> Answer:
    wanted = {name, name.removeprefix("models/")}
    for model in await _usable(call):
        if model.name in wanted:
            shape = {"anthropic": _anthropic, "gemini": _gemini}.get(call.protocol)
            return json_answer(200, shape(model) if shape else {**_anthropic(model), **_openai(model)})
    raise RelayError(Cause.INVALID_MODEL, f"The model {name[:200]!r} is not offered here.", param="model")


async def _usable(call: Call) -> list[Model]:
    assert call.principal
    view = await snapshot.ready()
    offered = view.offered(time.time(), group=call.principal.group)
    return [
        model
        for model in offered
        if call.principal.may_use(model.name) and pipeline.within_reach(call.principal, view.routes[model.name])
    ]


def _openai(model: Model) -> dict[str, Any]:
    return {"id": model.name, "object": "model", "created": model.created, "owned_by": model.provider or "pisces"}


def _anthropic(model: Model) -> dict[str, Any]:
    created = dt.datetime.fromtimestamp(model.created, dt.UTC).isoformat().replace("+00:00", "Z")
    found: dict[str, Any] = {
        "type": "model",
        "id": model.name,
        "display_name": model.name,
        "created_at": created,
        "lifecycle": "active",
    }
    limits = {"max_input_tokens": model.context_window, "max_tokens": model.max_output}
    return found | {name: number for name, number in limits.items() if number}


def _gemini(model: Model) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": f"models/{model.name}",
        "displayName": model.name,
        "description": model.description,
        "version": "1",
        "supportedGenerationMethods": ["embedContent"] if model.kind == "embedding" else _VERBS,
    }
    limits = {"inputTokenLimit": model.context_window, "outputTokenLimit": model.max_output}
    return found | {name: number for name, number in limits.items() if number}


def _page(models: list[Model], request: Request) -> dict[str, Any]:
    """Anthropic's pages: `limit` (20, at most 1000) after or before an id."""
    after, before = request.query_value("after_id"), request.query_value("before_id")
    names = [model.name for model in models]
    if after in names:
        models = models[names.index(after) + 1 :]
    if before in names:
        models = models[: names.index(before)]
    limit = _limit(request.query_value("limit"))
    shown = models[-limit:] if before in names else models[:limit]
    return {
        "data": [_anthropic(model) for model in shown],
        "has_more": len(shown) < len(models),
        "first_id": shown[0].name if shown else None,
        "last_id": shown[-1].name if shown else None,
    }


def _limit(given: str | None) -> int:
    if given is None:
        return 20
    if not re.fullmatch("[0-9]{1,4}", given) or not 1 <= int(given) <= 1000:
        raise RelayError(Cause.INVALID_PARAMETER, "`limit` must be a number from 1 to 1000.", param="limit")
    return int(given)
