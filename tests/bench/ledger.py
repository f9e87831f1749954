"""The hot wallet: hold-and-settle pairs a second on ONE wallet, through the ledger's writer, in one process.

Each pair is what a paid call costs the books: a hold, committed; what the journal notes of its progress; a settlement,
committed, with the usage record and the attempt that the relay writes. No HTTP and no provider. `make bench` runs it
after the relay, `python -m tests.bench --ledger` alone.
"""

import asyncio
import gc
import time
from collections.abc import Callable
from typing import NamedTuple

import uvloop

from billing import audit, catalog, holds, ledger, money, prices
from billing.catalog import Price
from billing.group_commit import writer
from billing.operations import Progress
from billing.usage import Source, Usage
from keys import services as keys
from keys.services import Principal
from portal import services as portal
from relay.channels.routing import Candidate, Timeouts
from relay.records import Attempt, Call
from tests.bench import processes
from tests.bench.measure import percentile
from tests.kit import databases
from tests.kit.services import services

IN_FLIGHT = 192
BARS = {"postgres": (5000, 25.0), "sqlite": (3000, None)}
NAMES = {"postgres": "PostgreSQL", "sqlite": "SQLite"}
USAGE = Usage(input=100, output=50)


class Round(NamedTuple):
    """Pairs a second; microseconds of CPU for a pair, in this process and in PostgreSQL's; milliseconds that a hold
    took, and a settlement."""

    rate: float
    own: float
    server: float
    hold_p50: float
    hold_p99: float
    settle_p99: float


class Wallet:
    """One rich team in the database that this process works in, and calls of it that no provider ever sees."""

    def __init__(self) -> None:
        ledger.forget_revenue_account()
        _, team = portal.user_with_team("bench@example.com")
        wallet = ledger.wallet_of(team.pk)
        ledger.credit(wallet=wallet, amount=money.parse("1000000"), actor="bench", reason="bench")
        card = prices.parse_card({"input": "0.15", "output": "0.60"})
        version = catalog.set_price(catalog.save_model(name="bench"), card, actor="bench")
        assert version is not None
        ledger.revenue_account()
        self._price = Price(version.pk, 0.0, card)
        self._candidate = Candidate(
            "bench", "openai", "http://127.0.0.1/v1", "bench", 0, 1, "cancel", True, Timeouts(), ()
        )
        key, _ = keys.issue(team_id=team.pk, spec=keys.Spec(name="bench"))
        self._principal = Principal(
            key=key.pk, team=team.pk, account=wallet.pk, budgets=(), billing="metered", state="active", expires_at=None,
            models=frozenset(), endpoints=frozenset(), networks=(), multiplier=prices.ONE,
        )  # fmt: skip

    async def pair(self) -> tuple[float, float]:
        """The seconds of one hold and of its settlement."""
        call = Call("", "chat.completions", "openai", "127.0.0.1", principal=self._principal, model="bench")
        call.request_id, call.price, call.candidates = str(call.id), self._price, [self._candidate]
        began = time.perf_counter()
        call.hold = await holds.hold(
            call=call.id, account=self._principal.account, wanted=1_000_000, minimum=10_000, price=self._price.id,
            budgets=(), facts=call.facts(), created_at=call.created_at, late=call.late_rows,
        )  # fmt: skip
        held = time.perf_counter()
        attempt = Attempt(self._candidate, None, 0.1, 200, 1.0, 2.0, "complete", usage=USAGE, source=Source.REPORTED)
        call.attempts.append(attempt)
        charge = prices.charge(USAGE, self._price.card)
        holds.note(call.hold, Progress(1, answering=True, usage=dict(USAGE.buckets())))
        rows = call.rows("settled", status=200, usage=USAGE, source=Source.REPORTED, charge=charge)
        settling = time.perf_counter()
        await holds.settle(call.hold, charged=charge.amount, rows=rows)
        return held - began, time.perf_counter() - settling


async def _lanes(wallet: Wallet, count: int) -> Round:
    """So many pairs, IN_FLIGHT at a time."""
    left, times = count, list[tuple[float, float]]()

    async def lane() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            times.append(await wallet.pair())

    server = [services.postgres.pid] if "postgres" in services.used else []
    own, theirs, began = time.process_time(), processes.cpu(server), time.perf_counter()
    await asyncio.gather(*(lane() for _ in range(IN_FLIGHT)))
    rate = len(times) / (time.perf_counter() - began)
    own, theirs = time.process_time() - own, processes.cpu(server) - theirs
    held, settled = [hold * 1e3 for hold, _ in times], [settle * 1e3 for _, settle in times]
    own, theirs = own / len(times) * 1e6, theirs / len(times) * 1e6
    return Round(rate, own, theirs, percentile(held, 0.5), percentile(held, 0.99), percentile(settled, 0.99))


async def _rounds(count: int, rounds: int) -> list[Round]:
    wallet = await asyncio.to_thread(Wallet)
    try:
        await _lanes(wallet, max(IN_FLIGHT, count // 4))  # warm
        gc.collect()
        gc.freeze()
        gc.set_threshold(10_000, 20, 20)  # as a server's (`relay.service`)
        return [await _lanes(wallet, count) for _ in range(rounds)]
    finally:
        gc.unfreeze()
        await writer.close()


def measure(kind: str, *, count: int, rounds: int) -> list[Round]:
    """Rounds on a fresh database of this kind, whose books are whole in the end."""
    url = databases.new(kind)
    try:
        with databases.inside(url):
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                found = runner.run(_rounds(count, rounds))
            found_wrong = audit.run()
            assert found_wrong == [], f"the books are not whole: {found_wrong[:3]}"
        return found
    finally:
        databases.drop(url)


def run(kinds: list[str], *, quick: bool, say: Callable[[str], None] = print) -> None:
    """Prints a table of its own, each figure the median of its rounds."""
    say(f"\nHold-and-settle pairs on one wallet, {IN_FLIGHT} in flight, usage record and attempt written with each\n")
    say("| Database   | pairs/s | CPU µs/pair, and PostgreSQL's | hold p50 ms | hold p99 ms | settle p99 ms | Bars |")
    say("| ---------- | ------- | ----------------------------- | ----------- | ----------- | ------------- | ---- |")
    for kind in kinds:
        rounds = measure(kind, count=1000 if quick else 20_000, rounds=1 if quick else 3)
        middle = Round(*(sorted(column)[len(rounds) // 2] for column in zip(*rounds, strict=True)))
        say(
            f"| {NAMES[kind]:<10} | {middle.rate:>7.0f} | {middle.own:>18.0f} + {middle.server:>8.0f} "
            f"| {middle.hold_p50:>11.1f} | {middle.hold_p99:>11.1f} | {middle.settle_p99:>13.1f} "
            f"| {_verdict(kind, middle)} |"
        )


def _verdict(kind: str, found: Round) -> str:
    least, slowest = BARS[kind]
    said = [f"≥ {least} pairs/s: {'pass' if found.rate >= least else 'below'}"]
    if slowest is not None:
        said.append(f"hold p99 ≤ {slowest:g} ms: {'pass' if found.hold_p99 <= slowest else 'over'}")
    return "; ".join(said)
