"""The samples that are settings: each tool's documented requests, with what it would read out of the file.

The tools themselves are not installed. What they send is put together here from their documentation: the paths below
the base URL, the headers, the shape of the body, and that they stream.
"""

import json
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from tests.docs.conftest import Filled
from tests.kit.gateway import Customer, Gateway

pytestmark = pytest.mark.parametrize("gateway", ["sqlite"], indirect=True)

SCHEMA = {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}


def exported(script: str, tmp_path: Path) -> dict[str, str]:
    """What a shell has in its environment after the script."""
    done = subprocess.run(
        ["bash", "-euc", f"{script}\nenv -0"],
        env={"PATH": "/usr/bin:/bin"},
        cwd=tmp_path,
        capture_output=True,
        check=True,
    )
    return dict(line.split("=", 1) for line in done.stdout.decode().split("\0") if "=" in line)


def bearer(key: str, **more: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}", "Content-Type": "application/json", **more}


def post(url: str, body: dict[str, Any], headers: dict[str, str]) -> requests.Response:
    return requests.post(url, json=body, headers=headers, timeout=30)


def events(answer: requests.Response) -> list[dict[str, Any]]:
    """The JSON of a stream's events."""
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    lines = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: {")]
    return [json.loads(line) for line in lines]


def chat_text(found: list[dict[str, Any]]) -> str:
    return "".join(choice["delta"].get("content") or "" for event in found for choice in event.get("choices", ()))


def settled(gateway: Gateway, customer: Customer) -> list[str]:
    """The protocols of the calls that were paid."""
    return [call["protocol"] for call in gateway.calls(customer.key) if call["state"] == "settled"]


# ---- Claude Code ----------------------------------------------------------------------------------------------------


def claude_settings(name: str, filled: Filled, tmp_path: Path) -> dict[str, str]:
    text = filled(name)
    if name.endswith(".json"):
        found: dict[str, str] = json.loads(text)["env"]
        return found
    return exported(text, tmp_path)


def claude_body(model: str) -> dict[str, Any]:
    marked = {"cache_control": {"type": "ephemeral"}}
    return {
        "model": model,
        "max_tokens": 32000,
        "stream": True,
        "system": [{"type": "text", "text": "You are an agent."}, {"type": "text", "text": "Be short.", **marked}],
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Read it.", **marked}]}],
        "tools": [{"name": "Read", "description": "Reads a file", "input_schema": SCHEMA}],
        "metadata": {"user_id": "user_0_account__session_0"},
    }


@pytest.mark.parametrize("name", ["claude-code/env.sh", "claude-code/settings.json"])
def test_claude_code_works_counts_and_finds_its_models(
    name: str, filled: Filled, gateway: Gateway, customer: Customer, tmp_path: Path
) -> None:
    settings = claude_settings(name, filled, tmp_path)
    base = settings["ANTHROPIC_BASE_URL"]
    headers = bearer(
        settings["ANTHROPIC_AUTH_TOKEN"],
        **{
            "anthropic-version": "2023-06-01",
            "anthropic-beta": "claude-code-20250219,interleaved-thinking-2025-05-14",
            "x-app": "cli",
            "User-Agent": "claude-cli/2.0.0 (external, cli)",
        },
    )
    for variable in ("ANTHROPIC_MODEL", "ANTHROPIC_DEFAULT_HAIKU_MODEL"):
        found = events(post(f"{base}/v1/messages?beta=true", claude_body(settings[variable]), headers))
        assert [found[0]["type"], found[-1]["type"]] == ["message_start", "message_stop"]
        text = [event["delta"].get("text", "") for event in found if event["type"] == "content_block_delta"]
        assert "".join(text) == "Hello, world."
    counted = {k: v for k, v in claude_body("chat").items() if k not in ("stream", "max_tokens", "metadata")}
    assert post(f"{base}/v1/messages/count_tokens?beta=true", counted, headers).json()["input_tokens"] > 0
    listed = requests.get(f"{base}/v1/models?limit=1000", headers=headers, timeout=30).json()
    assert settings["ANTHROPIC_MODEL"] in [model["id"] for model in listed["data"]]
    assert settled(gateway, customer) == ["anthropic", "anthropic"]


# ---- Codex ----------------------------------------------------------------------------------------------------------


def codex_body(config: dict[str, Any]) -> dict[str, Any]:
    """Functions, its freeform patch tool, and its web search unless the configuration turns that off."""
    function = {"type": "function", "name": "shell", "description": "Runs", "strict": False, "parameters": SCHEMA}
    patch = {"type": "custom", "name": "apply_patch", "description": "Patches a file", "format": {"type": "text"}}
    search = [] if config.get("web_search") == "disabled" else [{"type": "web_search", "external_web_access": False}]
    said = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Read it."}]}
    return {
        "model": config["model"],
        "instructions": "You are an agent.",
        "input": [said],
        "tools": [function, patch, *search],
        "tool_choice": "auto",
        "parallel_tool_calls": False,
        "reasoning": None,
        "store": False,
        "stream": True,
        "include": [],
        "prompt_cache_key": "0199c5f2-7a41-7c0e-9b36-5d1f08e4c2aa",
    }


def test_codex_works_by_its_configuration_and_would_not_with_its_web_search(
    filled: Filled, gateway: Gateway, customer: Customer, tmp_path: Path
) -> None:
    config = tomllib.loads(filled("codex/config.toml"))
    provider = config["model_providers"][config["model_provider"]]
    assert provider["wire_api"] == "responses"  # the only one that Codex takes
    key = exported(filled("codex/env.sh"), tmp_path)[provider["env_key"]]
    headers = bearer(key, Accept="text/event-stream", originator="codex_cli_rs")
    url = f"{provider['base_url']}/responses"
    found = events(post(url, codex_body(config), headers))
    assert [found[0]["type"], found[-1]["type"]] == ["response.created", "response.completed"]
    assert "".join(e["delta"] for e in found if e["type"] == "response.output_text.delta") == "Hello, world."
    by_default = {name: value for name, value in config.items() if name != "web_search"}
    assert post(url, codex_body(by_default), headers).status_code == 400
    assert settled(gateway, customer) == ["responses"]


# ---- Gemini CLI -----------------------------------------------------------------------------------------------------


def test_gemini_cli_works_and_counts(filled: Filled, gateway: Gateway, customer: Customer, tmp_path: Path) -> None:
    chosen = json.loads(filled("gemini-cli/settings.json"))["security"]["auth"]["selectedType"]
    assert chosen == "gemini-api-key"  # by which the key goes into Google's header, not into a sign-in
    settings = exported(filled("gemini-cli/env.sh"), tmp_path)
    model = f"{settings['GOOGLE_GEMINI_BASE_URL']}/v1beta/models/{settings['GEMINI_MODEL']}"
    headers = {"x-goog-api-key": settings["GEMINI_API_KEY"], "User-Agent": "GeminiCLI/0.20.0 (linux; x64)"}
    contents = [{"role": "user", "parts": [{"text": "Read it."}]}]
    declared = [{"name": "read_file", "description": "Reads a file", "parametersJsonSchema": SCHEMA}]
    body = {
        "contents": contents,
        "systemInstruction": {"role": "user", "parts": [{"text": "You are an agent."}]},
        "tools": [{"functionDeclarations": declared}],
        "generationConfig": {"temperature": 0, "topP": 1},
    }
    found = events(post(f"{model}:streamGenerateContent?alt=sse", body, headers))
    parts = [part for event in found for part in event["candidates"][0]["content"].get("parts", ())]
    assert "".join(part.get("text", "") for part in parts) == "Hello, world."
    assert found[-1]["usageMetadata"]["totalTokenCount"] == 150
    assert post(f"{model}:countTokens", {"contents": contents}, headers).json()["totalTokens"] > 0
    assert settled(gateway, customer) == ["gemini"]


# ---- by way of OpenAI's chat ----------------------------------------------------------------------------------------


def test_continue_streams_a_chat(filled: Filled, gateway: Gateway, customer: Customer) -> None:
    (model,) = yaml.safe_load(filled("continue/config.yaml"))["models"]
    assert (model["provider"], model["roles"]) == ("openai", ["chat", "edit", "apply"])
    messages = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Read it."}]
    body = {"model": model["model"], "messages": messages, "stream": True, "max_tokens": 2048}
    headers = bearer(model["apiKey"], **{"api-key": model["apiKey"]})
    assert chat_text(events(post(f"{model['apiBase']}/chat/completions", body, headers))) == "Hello, world."
    assert settled(gateway, customer) == ["openai"]


def test_sillytavern_connects_and_streams_a_chat(filled: Filled, gateway: Gateway, customer: Customer) -> None:
    fields = dict(line.split(": ", 1) for line in filled("sillytavern/connection.txt").splitlines())
    base, key = fields["Custom Endpoint (Base URL)"], fields["Custom API Key"]
    listed = requests.get(f"{base}/models", headers=bearer(key), timeout=30).json()
    assert fields["Enter a Model ID"] in [model["id"] for model in listed["data"]]
    body = {
        "model": fields["Enter a Model ID"],
        "messages": [
            {"role": "system", "content": "Write the next reply."},
            {"role": "system", "content": "[Start a new Chat]"},
            {"role": "assistant", "content": "Hello."},
            {"role": "user", "content": "Hello."},
        ],
        "temperature": 1,
        "max_tokens": 300,
        "stream": True,
        "presence_penalty": 0,
        "frequency_penalty": 0,
        "top_p": 1,
    }
    assert chat_text(events(post(f"{base}/chat/completions", body, bearer(key)))) == "Hello, world."
    assert settled(gateway, customer) == ["openai"]
