"""The relay's routes: one table, from which the handler resolves paths and `/api/public/spec` is drawn."""

from collections.abc import Awaitable, Callable

import msgspec

from relay.errors import Cause, RelayError
from relay.http import Answer, Request
from relay.records import Call
from relay.views import chat, counting, models, responses, texts

View = Callable[[Request, Call, str], Awaitable[Answer]]


class Route(msgspec.Struct, frozen=True):
    """`path` works with `/v1`, with `/v1beta`, without either, and with several: an SDK that adds a version of its own
    may have been given a base URL that ends with one. `{name}` at its end takes the rest, slashes included; before more
    of the path it takes all up to that.

    A `paid` route may cost money: it takes `Idempotency-Key`. Views find the caller in `call.principal` and, for POST,
    the body in `request.body`. `protocol` is "" where several share the path: then the caller's headers tell.
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
    Route("POST", "/v1/chat/completions", "chat.completions", "openai", True, "Chat completion", chat.answer, True),
    Route("POST", "/v1/completions", "completions", "completions", True, "Completion of a text", chat.answer, True),
    Route("POST", "/v1/responses", "responses", "responses", True, "OpenAI response", responses.create, True),
    Route(
        "POST", "/v1/responses/{response}/cancel", "responses", "responses", False,
        "Only what runs in the background can be cancelled", responses.cancel,
    ),
    Route(
        "GET", "/v1/responses/{response}/input_items", "responses", "responses", False,
        "What a stored response was an answer to", responses.input_items,
    ),
    Route("GET", "/v1/responses/{response}", "responses", "responses", False, "A stored response", responses.retrieve),
    Route(
        "DELETE", "/v1/responses/{response}", "responses", "responses", False,
        "Forgets a stored response", responses.delete,
    ),
    Route("POST", "/v1/messages", "messages", "anthropic", True, "Anthropic message", chat.answer, True),
    Route(
        "POST", "/v1/messages/count_tokens", "count_tokens", "anthropic", False,
        "The tokens of a message, without charge", counting.count_tokens,
    ),
    Route(
        "POST", "/v1beta/models/{model}:generateContent", "generate_content", "gemini", False,
        "Gemini answer", chat.generate, True,
    ),
    Route(
        "POST", "/v1beta/models/{model}:streamGenerateContent", "generate_content", "gemini", True,
        "Gemini answer, streamed", chat.stream_generate, True,
    ),
    Route(
        "POST", "/v1beta/models/{model}:countTokens", "count_tokens", "gemini", False,
        "The tokens of a prompt, without charge", counting.gemini_count_tokens,
    ),
    Route("POST", "/v1/embeddings", "embeddings", "openai", False, "Embeddings of texts or tokens", texts.answer, True),
    Route(
        "POST", "/v1beta/models/{model}:embedContent", "embeddings", "gemini", False,
        "Gemini embedding of one content", texts.embed, True,
    ),
    Route(
        "POST", "/v1beta/models/{model}:batchEmbedContents", "embeddings", "gemini", False,
        "Gemini embeddings of several contents", texts.embed_batch, True,
    ),
    Route("POST", "/v1/rerank", "rerank", "openai", False, "Documents by their relevance", texts.answer, True),
    Route("POST", "/v1/moderations", "moderations", "openai", False, "What is unfit in a text", texts.answer, True),
    Route("GET", "/v1/models", "models", "", False, "The models that this key may use", models.index),
    Route("GET", "/v1/models/{model}", "models", "", False, "One model", models.detail),
)  # fmt: skip
VERSIONS = ("/v1", "/v1beta")
_BELOW_A_VERSION = tuple(f"{version}/" for version in VERSIONS)


class _Place:
    """The routes of one stem by method, and those whose path goes on after the parameter by how it ends."""

    def __init__(self) -> None:
        self.methods: dict[str, Route] = {}
        self.endings: dict[str, dict[str, Route]] = {}


_exact: dict[str, dict[str, Route]] = {}
_prefix: dict[str, _Place] = {}
for _route in ROUTES:
    _bare = _route.path.removeprefix("/v1beta").removeprefix("/v1")
    _stem, _parameter, _rest = _bare.partition("{")
    if not _parameter:
        _exact.setdefault(_bare, {})[_route.method] = _route
        continue
    _ending = _rest.partition("}")[2]
    _place = _prefix.setdefault(_stem, _Place())
    (_place.endings.setdefault(_ending, {}) if _ending else _place.methods)[_route.method] = _route


def resolve(method: str, path: str) -> tuple[Route, str]:
    """The route and its parameter. Raises RelayError for a path or a method that there is none for.

    What is posted to below a parameter is a verb, such as `models/x:predict` or `responses/compact`: one that there is
    none for is no other method of the thing itself.
    """
    methods, parameter = _find(_without_version(path))
    if methods is None or (method == "POST" and all(route.path.endswith("}") for route in methods.values())):
        raise unknown(path)
    route = methods.get(method)
    if route is None:
        allowed = sorted(methods)
        message = f"{path[:200]!r} takes {', '.join(allowed)}, not {method}."
        raise RelayError(Cause.WRONG_METHOD, message, allow=allowed)
    return route, parameter


def unknown(path: str) -> RelayError:
    return RelayError(Cause.UNKNOWN_PATH, f"There is no endpoint at {path[:200]!r}.")


def _find(path: str) -> tuple[dict[str, Route] | None, str]:
    if (found := _exact.get(path)) is not None:
        return found, ""
    for stem, place in _prefix.items():
        if path.startswith(stem):
            rest = path[len(stem) :]
            for ending, methods in place.endings.items():
                if rest.endswith(ending):
                    return methods, rest.removesuffix(ending)
            return place.methods or None, rest
    return None, ""


def _without_version(path: str) -> str:
    path = path.rstrip("/") or "/"
    while path.startswith(_BELOW_A_VERSION):
        path = path[path.index("/", 1) :]
    return path


def belongs(path: str) -> bool:
    """All below a version is the relay's, and of the bare paths those that it serves."""
    if path.startswith(_BELOW_A_VERSION) or path in VERSIONS:
        return True
    return _find(path.rstrip("/"))[0] is not None
