"""The relay as an OpenAPI 3.1 document, drawn from the tables that the code itself uses: its routes, its errors, and
what each protocol says of its requests. Pure.

What a success looks like is told loosely: answers are a provider's, and grow with it.
"""

import re
from collections.abc import Iterable
from typing import Any, Protocol

from relay import errors
from relay.protocols import shapes
from relay.protocols.anthropic import described as anthropic
from relay.protocols.canonical import Json
from relay.protocols.completions import described as completions
from relay.protocols.embeddings import described as embeddings
from relay.protocols.gemini import described as gemini
from relay.protocols.moderations import described as moderations
from relay.protocols.openai import described as openai
from relay.protocols.rerank import described as rerank
from relay.protocols.responses import described as responses

VERSION = "3.1.0"
# The body of each route that takes one, by the name under which the document has it.
REQUESTS: dict[str, tuple[str, Json]] = {
    "/v1/chat/completions": ("ChatRequest", openai.CHAT),
    "/v1/completions": ("CompletionRequest", completions.COMPLETION),
    "/v1/responses": ("ResponseRequest", responses.RESPONSE),
    "/v1/messages": ("MessagesRequest", anthropic.MESSAGES),
    "/v1/messages/count_tokens": ("MessagesCountRequest", anthropic.COUNT_TOKENS),
    "/v1beta/models/{model}:generateContent": ("GenerateRequest", gemini.GENERATE),
    "/v1beta/models/{model}:streamGenerateContent": ("GenerateRequest", gemini.GENERATE),
    "/v1beta/models/{model}:countTokens": ("GeminiCountRequest", gemini.COUNT_TOKENS),
    "/v1beta/models/{model}:embedContent": ("GeminiEmbedRequest", gemini.EMBED),
    "/v1beta/models/{model}:batchEmbedContents": ("GeminiBatchRequest", gemini.EMBED_BATCH),
    "/v1/embeddings": ("EmbeddingsRequest", embeddings.EMBEDDINGS),
    "/v1/rerank": ("RerankRequest", rerank.RERANK),
    "/v1/moderations": ("ModerationRequest", moderations.MODERATION),
}
_PARAMETER = re.compile(r"\{(\w+)\}")
# What routes read of a query besides the key.
_QUERIES: dict[tuple[str, str], tuple[Json, ...]] = {
    ("POST", "/v1beta/models/{model}:streamGenerateContent"): (
        {"name": "alt", "description": "`sse` for server-sent events, else one array.", "schema": shapes.STRING},
    ),
    ("GET", "/v1/responses/{response}/input_items"): (
        {"name": "limit", "schema": {**shapes.INTEGER, "minimum": 1, "maximum": 100, "default": 20}},
        {"name": "order", "schema": {**shapes.words("asc", "desc"), "default": "desc"}},
        {"name": "after", "schema": shapes.STRING},
    ),
    ("GET", "/v1/models"): (
        {
            "name": "limit",
            "description": "Of Anthropic's pages.",
            "schema": {**shapes.INTEGER, "minimum": 1, "maximum": 1000, "default": 20},
        },
        {"name": "after_id", "description": "Of Anthropic's pages.", "schema": shapes.STRING},
        {"name": "before_id", "description": "Of Anthropic's pages.", "schema": shapes.STRING},
    ),
}
SECURITY: dict[str, Json] = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "`Authorization: Bearer <key>`, or the bare key."},
    "basic": {"type": "http", "scheme": "basic", "description": "The key as the password, with any name."},
    "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
    "x-goog-api-key": {"type": "apiKey", "in": "header", "name": "x-goog-api-key"},
    "key": {"type": "apiKey", "in": "query", "name": "key"},
}
# Where a provider refuses a request, its status is passed on.
_REFUSED_AS = (400, 413, 422)
# Those of the others that only some routes have.
_OF_PAID = frozenset(
    (
        errors.Cause.INSUFFICIENT_QUOTA,
        errors.Cause.IDEMPOTENCY_IN_USE,
        errors.Cause.IDEMPOTENCY_REUSED,
        errors.Cause.IDEMPOTENCY_NOT_STORED,
    )
)


class Route(Protocol):
    """What is read of a row of `relay.urls.ROUTES`."""

    @property
    def method(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def endpoint(self) -> str: ...
    @property
    def protocol(self) -> str: ...
    @property
    def streaming(self) -> bool: ...
    @property
    def description(self) -> str: ...
    @property
    def paid(self) -> bool: ...


def document(routes: Iterable[Route], *, base_url: str) -> Json:
    """The whole document. Every path works without its version too; each is told once."""
    paths: Json = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": VERSION,
        "info": {
            "title": "Pisces",
            "version": "1",
            "description": "One relay for the clients of OpenAI, Anthropic and Gemini. Every path works without its "
            "version too. Unknown fields of a request are passed on.",
        },
        "servers": [{"url": base_url}],
        # The body's own `api_key` is a field of the requests: OpenAPI has no scheme for it.
        "security": [{name: []} for name in SECURITY],
        "paths": paths,
        "components": {
            "securitySchemes": SECURITY,
            "schemas": {**dict(REQUESTS.values()), "Pisces": _PISCES, **_error_schemas()},
            "parameters": {"IdempotencyKey": _IDEMPOTENCY_KEY, "RequestId": _REQUEST_ID},
            "headers": {
                "RetryAfter": {"description": "Seconds to wait.", "schema": shapes.INTEGER},
                "RequestId": {"description": "The call's id, yours where you gave one.", "schema": shapes.STRING},
            },
        },
    }


# ---- requests -------------------------------------------------------------------------------------------------------

_IDEMPOTENCY_KEY: Json = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "The same request with the same key is answered once and charged once, for 24 hours.",
    "schema": {"type": "string", "pattern": "^[!-~]{1,255}$"},
}
_REQUEST_ID: Json = {
    "name": "X-Request-Id",
    "in": "header",
    "required": False,
    "description": "A label for the call, kept where it has at most 128 visible ASCII characters.",
    "schema": {"type": "string", "pattern": "^[!-~]{1,128}$"},
}


def _operation(route: Route) -> Json:
    verb = re.sub(r"\W+", "_", route.path).strip("_")
    found: Json = {
        "operationId": f"{route.method.lower()}_{verb}",
        "summary": route.description,
        "tags": [route.endpoint],
        "parameters": _parameters(route),
        "responses": {"200": _success(route), **_failures(route)},
    }
    if route.path in REQUESTS and route.method == "POST":
        schema = {"$ref": f"#/components/schemas/{REQUESTS[route.path][0]}"}
        found["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    return found


def _parameters(route: Route) -> list[Json]:
    found: list[Json] = [
        {"name": name, "in": "path", "required": True, "schema": {**shapes.STRING, "minLength": 1}}
        for name in _PARAMETER.findall(route.path)
    ]
    queries = _QUERIES.get((route.method, route.path), ())
    found += [{"in": "query", "required": False, **query} for query in queries]
    found.append({"$ref": "#/components/parameters/RequestId"})
    if route.paid:
        found.append({"$ref": "#/components/parameters/IdempotencyKey"})
    return found


# ---- answers --------------------------------------------------------------------------------------------------------

_PISCES: Json = shapes.structure(
    ("gateway", "protocol", "request_id", "channel", "timestamp", "dropped", "retries"),
    gateway=shapes.only("Pisces"),
    protocol=shapes.STRING,
    request_id=shapes.STRING,
    channel=shapes.STRING,
    timestamp=shapes.INTEGER,
    cost={**shapes.STRING, "description": "A decimal string of the currency; there once it is known."},
    dropped=shapes.several(shapes.STRING),
    retries={**shapes.INTEGER, "minimum": 0},
)
_REQUEST_ID_HEADER = {"X-Request-Id": {"$ref": "#/components/headers/RequestId"}}


def _success(route: Route) -> Json:
    content: Json = {"application/json": {"schema": shapes.either(shapes.OBJECT, shapes.several(shapes.OBJECT))}}
    if route.streaming:
        content["text/event-stream"] = {"schema": shapes.structure(("data",), event=shapes.STRING, data=shapes.STRING)}
    return {"description": "The answer.", "headers": _REQUEST_ID_HEADER, "content": content}


def _failures(route: Route) -> Json:
    """An answer for each status that the route can fail with, with the causes that have it."""
    found: Json = {}
    for status, causes in sorted(_by_status(route).items()):
        told = " ".join(f"`{errors.TABLE[cause].code}`: {errors.TABLE[cause].description}" for cause in causes)
        headers: Json = {**_REQUEST_ID_HEADER}
        if any(errors.TABLE[cause].retry for cause in causes):
            headers["Retry-After"] = {"$ref": "#/components/headers/RetryAfter"}
        content = {"application/json": {"schema": shapes.either(*_references(route, status))}}
        found[str(status)] = {"description": told, "headers": headers, "content": content}
    return found


def _by_status(route: Route) -> dict[int, list[errors.Cause]]:
    found: dict[int, list[errors.Cause]] = {}
    for cause, entry in errors.TABLE.items():
        if cause in _OF_PAID and not route.paid:
            continue
        for status in _REFUSED_AS if cause is errors.Cause.UPSTREAM_REJECTED else (entry.status,):
            found.setdefault(status, []).append(cause)
    return found


def _references(route: Route, status: int) -> list[Json]:
    envelopes = [_ENVELOPE_OF.get(route.protocol, "openai")] if route.protocol else [*_ENVELOPES]
    return [{"$ref": f"#/components/schemas/{_name(envelope, status)}"} for envelope in envelopes]


# ---- errors ---------------------------------------------------------------------------------------------------------

_TOLD: Json = {"$ref": "#/components/schemas/Pisces"}
_PROVIDER: Json = {**shapes.OBJECT, "description": "What the provider itself called it."}


def _openai_envelope(entries: list[errors.Entry]) -> Json:
    error = shapes.structure(
        ("message", "type", "param", "code"),
        message=shapes.STRING,
        type=_enumerated(entry.openai for entry in entries),
        param=shapes.or_null(shapes.STRING),
        code=_enumerated(entry.code for entry in entries),
        provider=_PROVIDER,
    )
    return shapes.structure(("error", "pisces"), error=error, pisces=_TOLD)


def _anthropic_envelope(entries: list[errors.Entry]) -> Json:
    """The code may be one that Anthropic itself gave."""
    code = _enumerated(entry.code for entry in entries)
    if errors.TABLE[errors.Cause.UPSTREAM_REJECTED] in entries:
        code = shapes.either(code, shapes.STRING)
    error = shapes.structure(
        ("type", "message", "details"),
        type=_enumerated(entry.anthropic for entry in entries),
        message=shapes.STRING,
        details=shapes.structure(("error_code",), error_code=code),
        param=shapes.STRING,
        provider=_PROVIDER,
    )
    top = ("type", "error", "request_id", "pisces")
    return shapes.structure(top, type=shapes.only("error"), error=error, request_id=shapes.STRING, pisces=_TOLD)


def _gemini_envelope(entries: list[errors.Entry]) -> Json:
    """The code stands in capitals as the reason of an ErrorInfo; the status may be one that Google itself gave."""
    error = shapes.structure(
        ("code", "message", "status", "details"),
        code=shapes.INTEGER,
        message=shapes.STRING,
        status=_enumerated([*(entry.gemini for entry in entries), *_OF_GOOGLE]),
        details=shapes.several(
            shapes.either(
                shapes.structure(("@type", "reason"), reason=_enumerated(_reason(entry) for entry in entries)),
                shapes.structure(("@type", "fieldViolations"), fieldViolations=shapes.several(shapes.OBJECT)),
                shapes.structure(("@type", "retryDelay"), retryDelay=shapes.STRING),
            ),
            least=1,
        ),
        provider=_PROVIDER,
    )
    return shapes.structure(("error", "pisces"), error=error, pisces=_TOLD)


_ENVELOPES = {"openai": _openai_envelope, "anthropic": _anthropic_envelope, "gemini": _gemini_envelope}
_ENVELOPE_OF = {"anthropic": "anthropic", "gemini": "gemini"}
_OF_GOOGLE = ("FAILED_PRECONDITION", "OUT_OF_RANGE")


def _reason(entry: errors.Entry) -> str:
    return "API_KEY_INVALID" if entry is errors.TABLE[errors.Cause.INVALID_API_KEY] else entry.code.upper()


def _enumerated(values: Iterable[Any]) -> Json:
    return shapes.words(*dict.fromkeys(values))


def _name(envelope: str, status: int) -> str:
    return f"Error{status}{envelope.capitalize()}"


def _error_schemas() -> Json:
    entries: dict[int, list[errors.Entry]] = {}
    for cause, entry in errors.TABLE.items():
        for status in _REFUSED_AS if cause is errors.Cause.UPSTREAM_REJECTED else (entry.status,):
            entries.setdefault(status, []).append(entry)
    return {
        _name(envelope, status): write(found)
        for status, found in sorted(entries.items())
        for envelope, write in _ENVELOPES.items()
    }
