"""Gemini's wire as it was seen, and what the tests of its codec share."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from relay.protocols import capabilities, names
from relay.protocols.canonical import Opaque, Request, ToolResult
from relay.protocols.gemini import DIALECT
from relay.protocols.gemini.request import GeminiRequest

WIRE = Path(__file__).parents[2] / "wire" / "gemini"
CAPS_25 = capabilities.of("gemini-2.5-flash", "gemini")
CAPS_3 = capabilities.of("gemini-3-pro", "gemini")
CAPS_OLD = capabilities.of("gemini-2.0-flash", "gemini")
SIGNATURE = "CiQB0e2Kb3+lHnVqJX/8m0QkzJx1qKZyYy9sVw4cYw2c1nqcXm4KaAHR7YpvOw=="
SIGNED, FOREIGN = Opaque("gemini", SIGNATURE), Opaque("anthropic", "EqQBCkgIARABGAIiQ/sig+", "")
PICTURE = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
PISCES = {"gateway": "Pisces", "cost": "0.1"}
# Both a stream and the same answer whole.
ANSWERS = (
    "text", "thinking", "tools", "tool_without_id", "blocked", "safety", "cut", "usage", "grounded", "picture", "code",
)  # fmt: skip


def wire(name: str) -> bytes:
    return (WIRE / name).read_bytes()


@pytest.fixture
def one_id(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls without an id get the same one in every reading, so that readings can be compared."""
    monkeypatch.setattr(names, "new_call_id", lambda: "call_" + "0" * 24)


def asked(
    body: dict[str, Any] | None = None, *, stream: bool = True, array: bool = False, **more: Any
) -> GeminiRequest:
    """A client that wants to see thoughts, unless it is told otherwise."""
    given = body or {
        "contents": [{"parts": [{"text": "x"}]}],
        "generationConfig": {"thinkingConfig": {"includeThoughts": True}},
    }
    found = DIALECT.read(msgspec.json.encode({**given, **more}), model="offered", stream=stream, array=array)
    assert isinstance(found, GeminiRequest)
    return found


def encoded(request: Request, caps: capabilities.Capabilities = CAPS_25, limit: int | None = None) -> dict[str, Any]:
    """The body that an upstream gets, as it reads it."""
    body = DIALECT.encode_request(request, model="gemini-x", limit=limit, caps=caps).body
    found = msgspec.json.decode(msgspec.json.encode(body))
    assert isinstance(found, dict)
    return found


def with_results_in_order(request: Request) -> Request:
    """Results are sent in the order of their calls, whatever order they came in."""
    for message in request.messages:
        message.parts.sort(key=lambda part: (0, part.call) if isinstance(part, ToolResult) else (1, ""))
    return request
