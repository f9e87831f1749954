"""Requests of the Gemini protocol, as its tests make and read them."""

from typing import Any

from relay.protocols.canonical import (
    Message,
    Request,
    Text,
)
from relay.protocols.capabilities import Capabilities
from tests.relay.protocols.gemini_wire import (
    CAPS_25,
    encoded,
)


def ask(*messages: Message, **more: Any) -> Request:
    return Request(model="m", messages=list(messages) or [said("x")], **more)


def said(*parts: Any, role: Any = "user") -> Message:
    return Message(role=role, parts=[Text(text=part) if isinstance(part, str) else part for part in parts])


def contents(request: Request, caps: Capabilities = CAPS_25) -> list[tuple[str, list[dict[str, Any]]]]:
    return [(content["role"], content["parts"]) for content in encoded(request, caps)["contents"]]
