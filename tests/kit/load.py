"""Many calls at once, each under an id of its own that client, gateway and upstream all see."""

import asyncio
import json
import random
import uuid
from collections.abc import Sequence
from typing import Any

import aiohttp
import msgspec

from tests.kit import client


class Seen(msgspec.Struct):
    """What a client saw of one call. `complete`: the whole JSON, or a stream up to `[DONE]`."""

    id: str
    streamed: bool
    status: int = 0
    complete: bool = False
    cost: str = ""
    code: str = ""


async def call(session: aiohttp.ClientSession, url: str, token: str, *, streamed: bool, **body: Any) -> Seen:
    """One call; a connection that breaks leaves it incomplete."""
    seen = Seen(str(uuid.uuid4()), streamed)
    content = {"model": "chat", "messages": client.HELLO, "stream": streamed, "x_call": seen.id, **body}
    headers = {"Authorization": f"Bearer {token}", "X-Request-Id": seen.id}
    try:
        async with session.post(f"{url}/v1/chat/completions", json=content, headers=headers) as answer:
            seen.status = answer.status
            _note(seen, (await answer.read()).decode())
    except (aiohttp.ClientError, OSError):
        pass
    return seen


def _note(seen: Seen, text: str) -> None:
    if seen.status != 200:
        seen.code = json.loads(text)["error"]["code"]
    elif not seen.streamed:
        seen.cost, seen.complete = json.loads(text)["pisces"]["cost"], True
    elif text.endswith("data: [DONE]\n\n"):
        last = text.split("\n\n")[-3]
        seen.cost, seen.complete = json.loads(last.removeprefix("data: "))["pisces"]["cost"], True


def at_once(urls: Sequence[str], token: str, count: int, **body: Any) -> list[Seen]:
    """`count` calls in flight together, spread over the servers."""

    async def scene() -> list[Seen]:
        async with open_session() as session:
            calls = [call(session, urls[n % len(urls)], token, streamed=False, **body) for n in range(count)]
            return await asyncio.gather(*calls)

    return asyncio.run(scene())


async def until(stop: asyncio.Event, urls: Sequence[str], tokens: Sequence[str], source: random.Random) -> list[Seen]:
    """Calls one after another on many lanes, whole and streamed, until told to stop; then what was seen."""
    seen: list[Seen] = []

    async def lane(session: aiohttp.ClientSession, number: int) -> None:
        while not stop.is_set():
            streamed = source.random() < 0.4
            done = await call(session, urls[number % len(urls)], source.choice(tokens), streamed=streamed)
            seen.append(done)
            if not done.status:
                return

    async with open_session() as session:
        await asyncio.gather(*(lane(session, number) for number in range(24)))
    return seen


def open_session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=60), trust_env=False
    )
