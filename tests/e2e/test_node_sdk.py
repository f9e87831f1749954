"""The official OpenAI SDK for Node as the client. Its version is pinned in `node/package-lock.json`."""

import json
import subprocess
from typing import Any

import pytest

from tests.kit import node as kit_node
from tests.kit import scripts
from tests.kit.gateway import Customer, Gateway
from tests.kit.upstream import Upstream


@pytest.fixture(scope="session")
def node() -> str:
    """Node's program, with the SDK installed beside the scenes."""
    return kit_node.program()


@pytest.fixture
def seen(node: str, gateway: Gateway, customer: Customer, upstream: Upstream) -> dict[str, Any]:
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    tools = scripts.whole(choices=[{"index": 0, "message": message, "finish_reason": "tool_calls"}])
    named = {"tools": tools, "cut": scripts.cut(3), "limited": scripts.error(429), "failed": scripts.error(500)}
    played = {name: upstream.play(script) for name, script in named.items()}
    command = [node, "scenes.mjs", f"{gateway.url}/v1", customer.token, json.dumps(played)]
    done = subprocess.run(command, cwd=kit_node.FOLDER, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_the_node_sdk_understands_answers_streams_tools_models_and_errors(
    seen: dict[str, Any], gateway: Gateway, customer: Customer
) -> None:
    assert seen["whole"] == {"text": "Hello, world.", "model": "chat", "usage": scripts.USAGE, "cost": "0.0002"}
    assert seen["streamed"] == {"text": "Hello, world.", "usage": scripts.USAGE, "cost": "0.0002"}
    assert seen["tools"] == {"name": "weather", "arguments": "{}"}
    assert seen["models"]["one"] == "[M]vendor/model-1"
    assert "chat" in seen["models"]["names"]
    assert seen["broken"]["text"] == "Hello, "
    assert seen["broken"]["error"]["code"] == "upstream_error"
    assert seen["errors"] == {
        "unknown": {"name": "NotFoundError", "status": 404, "code": "invalid_model"},
        "wrong": {"name": "AuthenticationError", "status": 401, "code": "invalid_api_key"},
        "malformed": {"name": "BadRequestError", "status": 400, "code": "invalid_messages"},
        "limited": {"name": "RateLimitError", "status": 429, "code": "rate_limit_exceeded"},
        "failed": {"name": "InternalServerError", "status": 502, "code": "upstream_error"},
    }
    complete = [call for call in gateway.calls(customer.key) if call["state"] == "settled"]
    assert len(complete) == 3
    assert {call["cost"] for call in complete} == {200_000}
