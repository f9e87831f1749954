"""The relay's tables in the reader's language: the rows of `/api/public/spec`, nothing added and nothing left out."""

from typing import Any

from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from relay.views import spec

PROTOCOLS = {
    "openai": "OpenAI",
    "completions": "OpenAI",
    "responses": "Responses",
    "anthropic": "Anthropic",
    "gemini": "Gemini",
}
PLACES = {"header": _("Header"), "query": _("Query"), "body": _("Body")}


def errors() -> list[dict[str, Any]]:
    """By HTTP status."""
    rows = [_told(row) for row in spec.spec()["errors"]]
    return sorted(rows, key=lambda row: (row["http"], row["code"]))


def endpoints() -> list[dict[str, Any]]:
    """In the order of the routes; `protocol_name` is empty where the caller's headers tell the protocol."""
    return [{**_told(row), "protocol_name": PROTOCOLS.get(row["protocol"], "")} for row in spec.spec()["endpoints"]]


def authentication() -> list[dict[str, Any]]:
    """`place` is where a request has the key, in words; `note` may be empty."""
    return [{**way, "place": PLACES[way["in"]], "note": _note(way)} for way in spec.AUTHENTICATION]


def _note(way: dict[str, str]) -> str:
    return gettext(way["note"]) if "note" in way else ""


def _told(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "description": gettext(row["description"])}
