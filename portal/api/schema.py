"""What the OpenAPI document is about."""

from typing import Any


def only_ours(endpoints: list[tuple[str, str, str, Any]]) -> list[tuple[str, str, str, Any]]:
    """The management API; the relay has a document of its own."""
    return [endpoint for endpoint in endpoints if endpoint[0].startswith("/api/v1/")]
