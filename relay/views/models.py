"""`GET /v1/models` and `/v1/models/{id}`: only what this key may use (requirement B11)."""

import time
from typing import Any

from billing.catalog import Model
from relay import snapshot
from relay.errors import Cause, RelayError
from relay.http import Answer, Request, json_answer
from relay.records import Call


async def index(request: Request, call: Call, _: str) -> Answer:
    return json_answer(200, {"object": "list", "data": [_shape(model) for model in await _usable(call)]})


async def detail(request: Request, call: Call, name: str) -> Answer:
    for model in await _usable(call):
        if model.name == name:
            return json_answer(200, _shape(model))
    raise RelayError(Cause.INVALID_MODEL, f"The model {name[:200]!r} is not offered here.", param="model")


async def _usable(call: Call) -> list[Model]:
    assert call.principal
    view = await snapshot.ready()
    return [model for model in view.offered(time.time()) if call.principal.may_use(model.name)]


def _shape(model: Model) -> dict[str, Any]:
    return {"id": model.name, "object": "model", "created": model.created, "owned_by": model.provider or "pisces"}
