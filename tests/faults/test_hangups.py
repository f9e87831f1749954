"""Clients that hang up anywhere: never free after output, never above the hold, the upstream let go at once."""

import asyncio
import json
import random
import time
import uuid
from typing import Any

import pytest

from tests.kit import client, scripts, soak
from tests.kit.gateway import Customer, Gateway
from tests.kit.ports import eventually
from tests.kit.upstream import Exchange, Upstream

LANES = 24
PROMISE = 1.0  # seconds from the hang-up until the upstream is let go
LONGEST = 3200  # bytes; an answer here has fewer
PAUSE = 0.02


class HangUp:
    """One call and where its client leaves: after so many bytes of the answer, or so many seconds without one."""

    def __init__(self, source: random.Random) -> None:
        self.id = str(uuid.uuid4())
        self.streamed = source.random() < 0.65
        self.drained = source.random() < 0.3
        self.after = source.randrange(LONGEST)
        self.patience = source.random() * 0.4
        self.rude = source.random() < 0.5  # a reset instead of a farewell
        self.received = b""
        self.left_at = 0.0

    @property
    def saw_output(self) -> bool:
        return b'"content":"word' in self.received.replace(b'": "', b'":"')

    @property
    def saw_all(self) -> bool:
        return b'"cost"' in self.received and (not self.streamed or b"[DONE]" in self.received)


async def _words(exchange: Exchange) -> None:
    """A slow stream, or a whole answer whose body takes as long to come."""
    model = exchange.json["model"]
    if exchange.json.get("stream"):
        await scripts.stream(words=["word "] * 10, pause=PAUSE)(exchange)
        return
    content = json.dumps(scripts.completion(model, text="word " * 100)).encode()
    await exchange.head(200, {"Content-Type": "application/json", "Content-Length": str(len(content))})
    for start in range(0, len(content), 100):
        await asyncio.sleep(PAUSE)
        await exchange.write(content[start : start + 100])


async def _call(url: str, token: str, script: str, one: HangUp) -> None:
    host, _, port = url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    model = "drained" if one.drained else "chat"
    body = {"model": model, "messages": client.HELLO, "stream": one.streamed, "x_script": script, "x_call": one.id}
    content = json.dumps(body).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
    writer.write(f"{head}X-Request-Id: {one.id}\r\nContent-Length: {len(content)}\r\n\r\n".encode() + content)
    try:
        async with asyncio.timeout(one.patience + 0.1):
            while len(one.received) < one.after and not one.saw_all:
                part = await reader.read(one.after - len(one.received))
                if not part:
                    break
                one.received += part
    except TimeoutError:
        pass
    one.left_at = time.monotonic()
    if one.rude:
        writer.transport.abort()
    else:
        writer.close()


async def _play(url: str, token: str, script: str, ones: list[HangUp]) -> None:
    left = list(ones)

    async def lane() -> None:
        while left:
            await _call(url, token, script, left.pop())

    await asyncio.gather(*(lane() for _ in range(LANES)))


def _check(one: HangUp, call: dict[str, Any] | None, exchange: Exchange | None) -> str:
    """What is not as promised, "" where all is."""
    if call is None:  # it left before its request had been read
        return "" if not one.received and exchange is None else "there is no record"
    cost, state = call["cost"], call["state"]
    if cost > call["held"]:
        return f"costs {cost}, of {call['held']}"
    if one.saw_output and not cost:
        return f"saw output and paid nothing ({state})"
    if one.saw_all and (state not in ("settled", "left") or not cost):
        return f"saw all of it and is {state}"
    if exchange is None:
        return f"costs {cost} without a provider" if cost else ""
    let_go = exchange.closed_at or exchange.ended_at
    if let_go is None:
        return "the upstream was never let go"
    if not one.drained and let_go - one.left_at > PROMISE:
        return f"the upstream was let go after {let_go - one.left_at:.2f} s"
    if one.drained and call["usage_source"] != "reported":
        return f"a drained answer was not read to its end ({state}, {call['usage_source']})"
    # What had come a while before the client left, the gateway had seen.
    if call["first_byte_ms"] is not None and not cost:
        return f"an answer had begun, and it cost nothing ({state}, {call['usage_source']})"
    return ""


def _hang_up(gateway: Gateway, customer: Customer, upstream: Upstream, count: int) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print("seed", seed)
    source = random.Random(seed)
    script = upstream.play(_words)
    ones = [HangUp(source) for _ in range(count)]
    asyncio.run(_play(gateway.url, customer.token, script, ones))
    eventually(lambda: gateway.wallet(customer.wallet)["held"] == 0, within=20)
    calls = {call["request_id"]: call for call in gateway.calls(customer.key)}
    exchanges = {exchange.json["x_call"]: exchange for exchange in upstream.served(script)}
    problems = [
        f"{one.id} {said}; streamed {one.streamed}, drained {one.drained}, left after {one.received[-300:]!r}"
        for one in ones
        if (said := _check(one, calls.get(one.id), exchanges.get(one.id)))
    ]
    assert not problems, "\n".join(problems[:20])
    assert gateway.spent(customer) == sum(call["cost"] for call in calls.values())
    assert len([one for one in ones if not one.saw_all]) > count / 3, "hardly anybody hung up"


def test_whoever_hangs_up_anywhere_pays_for_what_was_put_out_and_no_more_than_was_held(
    gateway: Gateway, customer: Customer, upstream: Upstream
) -> None:
    _hang_up(gateway, customer, upstream, 75)


@pytest.mark.soak
def test_ten_thousand_hang_ups(gateway: Gateway, customer: Customer, upstream: Upstream) -> None:
    count = soak.count("HANGUPS", 10_000) // 2  # on each of two databases
    gateway.credit(customer.wallet, "1000")
    for begun in range(0, count, 500):
        _hang_up_more(gateway, upstream, min(500, count - begun))
    soak.note(f"hang-ups, {gateway.kind}", f"{count}: none free after output, none above its hold, all let go")


def _hang_up_more(gateway: Gateway, upstream: Upstream, count: int) -> None:
    someone = gateway.customer()
    _hang_up(gateway, someone, upstream, count)
    assert gateway.audit() == []
