"""The bare pass-through that Pisces is measured against: uvicorn and aiohttp, no keys, no books, no limits.

UPSTREAM names the base URL that bodies are passed to; the answer's bytes come back as they are.
"""

import os
from typing import Any

import aiohttp

_UPSTREAM = os.environ["UPSTREAM"]
_session: aiohttp.ClientSession | None = None


def _get() -> aiohttp.ClientSession:
    global _session
    if _session is None:
        _session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), read_bufsize=64 * 1024)
    return _session


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        return
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    async with _get().post(
        _UPSTREAM + scope["path"],
        data=body,
        headers={"Content-Type": "application/json"},
        timeout=aiohttp.ClientTimeout(total=None),
    ) as response:
        kind = response.headers.get("Content-Type", "").encode()
        await send({"type": "http.response.start", "status": response.status, "headers": [(b"content-type", kind)]})
        if b"event-stream" not in kind:
            await send({"type": "http.response.body", "body": await response.read()})
            return
        async for chunk in response.content.iter_any():
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
