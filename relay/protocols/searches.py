"""Searches of the web that a provider makes by itself: what of an answer is one, and how many a call may ask for. Pure.

Sources: Anthropic, "Web search tool" (each costs, `max_uses` limits them); OpenAI, pricing of built-in tools (an item
whose action is `search` costs, opening a page or looking within it does not; `max_tool_calls` limits all tools), and
"Web search" (chat completions search before every answer and do not tell of it).
"""

import re
from typing import Any

import msgspec

from relay.protocols.canonical import Raw

USUAL = 10  # of a call that names no limit of its own
_WORDS = re.compile(rb"search|\\u", re.IGNORECASE)
_GOOGLE = ("googleSearch", "google_search", "googleSearchRetrieval", "google_search_retrieval")


class _Wanted(msgspec.Struct):
    tools: Any = None
    web_search_options: Any = None
    max_tool_calls: Any = None


_decoder = msgspec.json.Decoder(_Wanted)


def is_one(part: Raw) -> bool:
    """Whether this part of an answer is a search."""
    if part.label == "web_search_call":
        action = part.value.get("action")
        return not isinstance(action, dict) or action.get("type", "search") == "search"
    return part.label == "server_tool_use" and part.value.get("name") == "web_search"


def unseen(body: bytes) -> int:
    """The searches of which the answer has nothing where a provider of chat completions is sent this."""
    if b"web_search_options" not in body and b"\\u" not in body:
        return 0
    try:
        return int(_decoder.decode(body).web_search_options is not None)
    except (msgspec.DecodeError, RecursionError):
        return 0


def most(body: bytes) -> int:
    """The searches that a request of any protocol may lead to: by its own limits, else as many as are usual; 0 for one
    that asks for none."""
    if _WORDS.search(body) is None:
        return 0
    try:
        wanted = _decoder.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return USUAL  # the provider says what is wrong with it
    tools = wanted.tools if isinstance(wanted.tools, list) else []
    limits = [_limit(tool.get("max_uses")) for tool in tools if isinstance(tool, dict) and _searches(tool)]
    if wanted.web_search_options is not None:
        limits.append(None)
    if not limits:
        return 0
    every = _limit(wanted.max_tool_calls)
    if every is not None:
        return every
    return sum(USUAL if limit is None else limit for limit in limits)


def _searches(tool: dict[str, Any]) -> bool:
    return str(tool.get("type", "")).startswith("web_search") or any(name in tool for name in _GOOGLE)


def _limit(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31 else None
