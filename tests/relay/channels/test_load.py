"""A channel that fails in every way while calls keep coming: others answer, and each answer is charged once."""

import asyncio
import itertools
import random
import time
from collections import Counter

import msgspec
import pytest

from tests.kit import load, scripts, soak
from tests.kit.gateway import Customer, Gateway
from tests.kit.load import Seen
from tests.kit.upstream import Exchange, Script, Upstream
from tests.relay.channels.conftest import Make

ENOUGH = 600  # calls of the short form: fewer would make a single lost one too many
SHORT_SECONDS = 60  # at most, on a machine with other work
FAULTS: dict[str, tuple[Script, ...]] = {
    "429s": (scripts.error(429), scripts.error(429, Retry_After="1")),
    "hangs": (scripts.silence,),
    "cuts": (scripts.hang_up, scripts.noise, scripts.cut(3), scripts.half_a_body),
    "all of it": (
        scripts.hang_up,
        scripts.error(500),
        scripts.silence,
        scripts.error(429, Retry_After="1"),
        scripts.noise,
        scripts.cut(2),
        scripts.error(429),
        scripts.half_a_body,
    ),
}
IMPATIENT = {"connect": 0.4, "first_byte": 0.4, "idle": 0.4, "total": 5.0}


def failing(faults: tuple[Script, ...]) -> Script:
    """The model `up-0` always fails, by these in turn; others answer."""
    turns = itertools.cycle(faults)

    async def script(exchange: Exchange) -> None:
        if exchange.json["model"] == "up-0":
            await next(turns)(exchange)
        else:
            await scripts.default(exchange)

    return script


class Load(msgspec.Struct):
    """So many calls, or for so long, with so many in flight; whole and streamed."""

    lanes: int
    most: float
    seconds: float


async def calls(url: str, token: str, wanted: Load, source: random.Random, **body: str) -> list[Seen]:
    seen: list[Seen] = []
    until = time.monotonic() + wanted.seconds

    async def lane() -> None:
        while time.monotonic() < until and len(seen) < wanted.most:
            seen.append(await load.call(session, url, token, streamed=source.random() < 0.4, **body))

    async with load.open_session() as session:
        await asyncio.gather(*(lane() for _ in range(wanted.lanes)))
    return seen


def check(gateway: Gateway, customer: Customer, seen: list[Seen], seed: int) -> tuple[int, int]:
    """At least 99.5 % answered; one charge for each that was, none for what nobody saw a byte of."""
    lost = [one for one in seen if not one.complete]
    told = f"seed {seed}: {len(lost)} of {len(seen)}: {Counter((one.status, one.code) for one in lost)}"
    assert len(lost) <= 0.005 * len(seen), told
    rows = {call["request_id"]: call for call in gateway.calls(customer.key)}
    assert all(rows[one.id]["state"] == "settled" for one in seen if one.complete)
    assert all(len(rows[one.id]["attempts"]) <= 3 for one in seen if one.id in rows)
    charged = Counter(row["reference"] for row in gateway.transfers(customer.wallet) if row["kind"] == "charge")
    assert set(charged.values()) == {1}
    assert gateway.spent(customer) == sum(call["cost"] for call in rows.values())
    return len(lost), len(seen)


def run(gateway: Gateway, upstream: Upstream, offer: Make, fault: str, wanted: Load) -> tuple[int, int]:
    seed = random.randrange(2**32)
    source = random.Random(seed)
    customer = gateway.customer("100")
    model = offer((upstream.url, {"timeouts": IMPATIENT}), (upstream.url, {}))
    script = upstream.play(failing(FAULTS[fault]))
    seen = asyncio.run(calls(gateway.url, customer.token, wanted, source, model=model, x_script=script))
    return check(gateway, customer, seen, seed)


def test_a_channel_that_fails_in_every_way_costs_hardly_a_call(
    gateway: Gateway, upstream: Upstream, offer: Make
) -> None:
    run(gateway, upstream, offer, "all of it", Load(8, ENOUGH, SHORT_SECONDS))


@pytest.mark.soak
@pytest.mark.parametrize("fault", FAULTS)
def test_a_failing_channel_under_load_for_long(gateway: Gateway, upstream: Upstream, offer: Make, fault: str) -> None:
    lost, every = run(gateway, upstream, offer, fault, Load(64, float("inf"), soak.count("LOAD_SECONDS", soak.MINUTE)))
    soak.note(f"{fault}, {gateway.kind}", f"{every - lost} of {every} answered ({100 - 100 * lost / every:.2f} %)")
