"""The response object of an answer of ours: the request's settings, as OpenAI repeats them, around what was put out.

The SDK's type demands more than what an answer is about; what the client did not say stands there as OpenAI's default.
"""

import time
from typing import Any

import msgspec

from relay.errors import RelayError
from relay.protocols.responses import errors
from relay.protocols.responses.request import ResponsesRequest

# Fields that are repeated as the client wrote them, with what stands there where it did not.
_ECHOED: dict[str, Any] = {
    "background": False,
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "prompt_cache_key": None,
    "reasoning": {"effort": None, "summary": None},
    "safety_identifier": None,
    "service_tier": "default",
    "temperature": 1.0,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": 1.0,
    "truncation": "disabled",
    "user": None,
}
_NULL = b"null"


class Shell:
    """The object without its end. `of` makes it whole: with a status and an output."""

    __slots__ = ("_fields", "asked")

    def __init__(self, asked: ResponsesRequest, model: str) -> None:
        self.asked = asked
        said = {name: raw for name, raw in asked.fields.items() if bytes(memoryview(raw)[:4]) != _NULL}
        echoed = {name: said.get(name, usual) for name, usual in _ECHOED.items()}
        self._fields: dict[str, Any] = {
            "id": asked.id,
            "object": "response",
            "created_at": asked.created_at // 1000,
            "status": "in_progress",
            "error": None,
            "incomplete_details": None,
            "model": model,
            "output": [],
            "usage": None,
            **echoed,
            "previous_response_id": asked.previous or None,
            "store": asked.store,
        }

    def begun(self) -> bytes:
        return msgspec.json.encode(self._fields)

    def of(
        self, status: str, output: list[Any], usage: dict[str, Any] | None, *, reason: str | None = None
    ) -> dict[str, Any]:
        """`reason` is why it is incomplete."""
        whole = {**self._fields, "status": status, "output": output, "usage": usage}
        if reason is not None:
            whole["incomplete_details"] = {"reason": reason}
        if status == "completed":
            whole["completed_at"] = int(time.time())
        return whole

    def failed(self, output: list[Any], error: RelayError) -> dict[str, Any]:
        return {**self.of("failed", output, None), "error": errors.of_failed(error)}


def event(kind: str, number: int, response: Any, **more: Any) -> bytes:
    """An event about the response as a whole."""
    content = {"type": kind, "sequence_number": number, "response": response, **more}
    return b"event: " + kind.encode() + b"\ndata: " + msgspec.json.encode(content) + b"\n\n"
