"""The relay's routes: one table, from which the handler resolves paths and `/api/public/spec` is drawn."""

from collections.abc import Awaitable, Callable

import msgspec

from relay.errors import Cause, RelayError
from relay.http import Answer, Request
from relay.records import Call
from relay.views import chat, models

View = Callable[[Request, Call, str], Awaitable[Answer]]


class Route(msgspec.Struct, frozen=True):
    """`path` has `/v1` and works without it too. `{name}` at its end takes the rest, slashes included.

    A `paid` route may cost money: it takes `Idempotency-Key`. Views find the caller in `call.principal` and, for POST,
    the body in `request.body`.
    """

    method: str
    path: str
    endpoint: str
    protocol: str
    streaming: bool
    description: str
    view: View
    paid: bool = False


ROUTES = (
    Route(
        "POST",
        "/v1/chat/completions",
        "chat.completions",
        "openai",
        True,
        "Chat completion",
        chat.completions,
        paid=True,
    ),
    Route("GET", "/v1/models", "models", "openai", False, "The models that this key may use", models.index),
    Route("GET", "/v1/models/{model}", "models", "openai", False, "One model", models.detail),
)

_exact: dict[str, dict[str, Route]] = {}
_prefix: dict[str, dict[str, Route]] = {}
for _route in ROUTES:
    for _path in (_route.path, _route.path.removeprefix("/v1")):
        if "{" in _path:
            _prefix.setdefault(_path[: _path.index("{")], {})[_route.method] = _route
        else:
            _exact.setdefault(_path, {})[_route.method] = _route


def resolve(method: str, path: str) -> tuple[Route, str]:
    """The route and its parameter. Raises RelayError for a path or a method that there is none for."""
    path = path.rstrip("/") or "/"
    methods = _exact.get(path)
    parameter = ""
    if methods is None:
        for prefix, found in _prefix.items():
            if path.startswith(prefix):
                methods, parameter = found, path[len(prefix) :]
    if methods is None:
        raise RelayError(Cause.UNKNOWN_PATH, f"There is no endpoint at {path[:200]!r}.")
    route = methods.get(method)
    if route is None:
        raise RelayError(Cause.WRONG_METHOD, f"{path[:200]!r} takes {', '.join(sorted(methods))}, not {method}.")
    return route, parameter


def belongs(path: str) -> bool:
    """All of `/v1` is the relay's, and of the bare paths those that it serves."""
    if path.startswith("/v1/") or path == "/v1":
        return True
    bare = path.rstrip("/")
    return bare in _exact or any(bare.startswith(prefix) for prefix in _prefix)
