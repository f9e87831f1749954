"""`GET /api/public/spec` and `/api/public/openapi.json`: what the relay serves and how it fails, drawn from the tables
that the code itself uses."""

from typing import Any

from django.conf import settings
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from keys import tokens
from relay import errors, openapi, urls

AUTHENTICATION = (
    {"in": "header", "name": "Authorization", "form": "Bearer <key>"},
    {"in": "header", "name": "Authorization", "form": "<key>"},
    {"in": "header", "name": "Authorization", "form": "Basic base64(<anything>:<key>)"},
    {"in": "header", "name": "x-api-key", "form": "<key>"},
    {"in": "header", "name": "x-goog-api-key", "form": "<key>"},
    {"in": "query", "name": "key", "form": "<key>"},
    {"in": "body", "name": "api_key", "form": "<key>", "note": "JSON bodies only; taken out before forwarding"},
)
CONVENTIONS = {
    "base_paths": "Every /v1 path works without /v1 too.",
    "request_id": {
        "header": "X-Request-Id",
        "description": "Yours where it has at most 128 visible ASCII characters, else the gateway's. On every answer; "
        "on Anthropic's endpoints as request-id too.",
    },
    "pisces": {
        "where": "In JSON bodies, errors too, and in a stream's last event.",
        "fields": {
            "gateway": "Always Pisces.",
            "protocol": "The protocol of the answer.",
            "request_id": "As in X-Request-Id.",
            "channel": "The channel that answered.",
            "timestamp": "Unix seconds.",
            "cost": "What was charged, a decimal string of the currency; there once it is known.",
            "dropped": "Parameters that could not be passed on.",
            "retries": "How many further channels were tried.",
        },
    },
    "headers": {
        "X-Pisces-Channel": "The channel that answered.",
        "X-Pisces-Cost": "What was charged; on answers that are not streamed.",
    },
    "idempotency": "Endpoints that say so take Idempotency-Key (1 to 255 visible ASCII characters, kept 24 hours, one "
    "space for a team's keys). The same request with the same key is answered once and charged once: later ones get "
    "the stored answer with Idempotent-Replayed: true, 409 while the first one runs, 422 where the request differs. "
    "A call that cost nothing frees its key.",
    "retry": "Retry where the error's entry says so, after Retry-After seconds where that header is given. "
    "x-should-retry: false marks refusals for lack of money.",
    "streams": "Server-sent events. After the first byte an error comes as an event, without the usual last event.",
}


class SpecView(APIView):
    """The contract, for people, tools and tests. Public, the same for everyone."""

    authentication_classes = ()
    permission_classes = (AllowAny,)

    def get(self, request: Request) -> Response:
        return Response(spec(), headers={"Cache-Control": "public, max-age=300"})


class OpenApiView(APIView):
    """The relay as an OpenAPI document. Public, the same for everyone."""

    authentication_classes = ()
    permission_classes = (AllowAny,)

    def get(self, request: Request) -> Response:
        document = openapi.document(urls.ROUTES, base_url=settings.BASE_URL)
        return Response(document, headers={"Cache-Control": "public, max-age=300"})


def spec() -> dict[str, Any]:
    return {
        "name": "Pisces",
        "base_url": settings.BASE_URL,
        "currency": settings.CURRENCY,
        "endpoints": [_endpoint(route) for route in urls.ROUTES],
        "authentication": {"key_pattern": tokens.PATTERN, "ways": AUTHENTICATION},
        "errors": [_error(cause, entry) for cause, entry in errors.TABLE.items()],
        "conventions": CONVENTIONS,
        "limits": {"json_body_bytes": settings.MAX_BODY_JSON},
    }


def _endpoint(route: urls.Route) -> dict[str, Any]:
    return {
        "endpoint": route.endpoint,
        "protocol": route.protocol,
        "method": route.method,
        "path": route.path,
        "streaming": route.streaming,
        "idempotency": route.paid,
        "description": route.description,
    }


def _error(cause: errors.Cause, entry: errors.Entry) -> dict[str, Any]:
    return {
        "cause": cause.value,
        "http": entry.status,
        "code": entry.code,
        "types": {"openai": entry.openai, "anthropic": entry.anthropic, "gemini": entry.gemini},
        "retry": entry.retry,
        "description": entry.description,
    }
