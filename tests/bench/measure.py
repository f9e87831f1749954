"""One round is one load on one target; figures are medians of rounds in which the targets took turns.

A multiple is the median of the multiples of single rounds, so that a slow moment of the machine, which meets target and
bare pass-through alike, does not move it.
"""

import json
import math
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from tests.bench import processes
from tests.bench.stage import Target
from tests.bench.upstream import EVENTS

STREAM = 1.1  # seconds between the beginnings of two streams on one connection; one lasts a little less


class Round(NamedTuple):
    """Seconds and bytes. `cost` is CPU for one call, or for one chunk of a stream."""

    rate: float
    cost: float
    p50: float
    p99: float
    errors: int
    memory: float = 0.0


class Figures(NamedTuple):
    """The medians of a target's rounds. `ratio` and `late` are multiples of the bare cost and the bare 99th percentile.
    `memory` is the most of any round: what an earlier round left behind is used again and does not show."""

    rate: float
    cost: float
    ratio: float
    p50: float
    p99: float
    late: float
    errors: int
    memory: float


def in_turns(targets: Sequence[Target], count: int, measure: Callable[[Target], Round]) -> dict[str, Figures]:
    """Where `direct` is among the targets, latencies are what is added to its own in the same round."""
    rounds = [{target.name: measure(target) for target in targets} for _ in range(count)]
    return {target.name: _figures(rounds, target.name) for target in targets if target.name != "direct"}


def _figures(rounds: list[dict[str, Round]], name: str) -> Figures:
    none = Round(0, 0, 0, 0, 0)
    triples = [(each[name], each["bare"], each.get("direct", none)) for each in rounds]
    return Figures(
        rate=statistics.median(own.rate for own, _, _ in triples),
        cost=statistics.median(own.cost for own, _, _ in triples),
        ratio=statistics.median(own.cost / bare.cost for own, bare, _ in triples),
        p50=statistics.median(own.p50 - direct.p50 for own, _, direct in triples),
        p99=statistics.median(own.p99 - direct.p99 for own, _, direct in triples),
        late=statistics.median(own.p99 / bare.p99 for own, bare, _ in triples),
        errors=sum(own.errors for own, _, _ in triples),
        memory=max(own.memory for own, _, _ in triples),
    )


def calls(target: Target, way: str, *, connections: int, seconds: float) -> Round:
    """Calls one after another on each connection for so long; whole answers, or streams that come at once."""
    streamed = way not in ("whole", "claude")
    order = _order(target, way, connections=connections, seconds=seconds, stream=streamed)
    before = processes.cpu(target.pids)
    done = subprocess.run(_LOAD, input=order, stdout=subprocess.PIPE, process_group=0, check=True)
    spent = processes.cpu(target.pids) - before
    result = json.loads(done.stdout)
    samples = result["samples"]
    each = spent / len(samples) / (EVENTS if streamed else 1)
    return Round(
        len(samples) / result["seconds"], each, percentile(samples, 0.5), percentile(samples, 0.99), result["errors"]
    )


def first(target: Target, way: str, *, connections: int, seconds: float) -> Round:
    """Paced streams on each connection, begun evenly over time: those that all began in one moment would wait for one
    another, whatever is between them and the provider. Latencies are those of their first tokens; CPU is not looked at.
    """
    turns = {"ramp": STREAM, "period": STREAM}
    order = _order(target, way, connections=connections, seconds=STREAM + seconds, stream=True, first=True, **turns)
    done = subprocess.run(_LOAD, input=order, stdout=subprocess.PIPE, process_group=0, check=True)
    result = json.loads(done.stdout)
    samples = result["samples"]
    return Round(0, math.nan, percentile(samples, 0.5), percentile(samples, 0.99), result["errors"])


def held(target: Target, way: str, *, streams: int, length: float) -> Round:
    """That many paced streams of `length` seconds at once. CPU is taken between two moments at which every stream
    flows: opening and closing one is a call's price, which the calls have."""
    ramp = min(2.0, length / 4)
    order = _order(target, way, connections=streams, held=True, stream=True, ramp=ramp, timeout=length + 120)
    idle = processes.memory(target.pids[0])
    load = subprocess.Popen(_LOAD, stdin=subprocess.PIPE, stdout=subprocess.PIPE, process_group=0)
    try:
        assert load.stdin
        assert load.stdout
        load.stdin.write(order)
        load.stdin.close()
        started = time.time()
        load.stdout.readline()  # all of them flow now
        begin, before = time.time(), processes.cpu(target.pids)
        time.sleep(max(1.0, length - 0.5 - (begin - started)))
        end, after = time.time(), processes.cpu(target.pids)
        most = processes.memory(target.pids[0])
        result = json.loads(load.stdout.read())
    finally:
        load.kill()
        load.wait()
    cost = (after - before) / max(1, _chunks_at(result["ticks"], end) - _chunks_at(result["ticks"], begin))
    gaps = result["samples"]
    return Round(
        0, cost, percentile(gaps, 0.5), percentile(gaps, 0.99), result["errors"], max(0, most - idle) / streams
    )


_LOAD = processes.python("tests.bench.load")


def _order(target: Target, way: str, *, stream: bool, **more: Any) -> bytes:
    """What the load generator reads."""
    question = "Say something of some length about the sea, please. " * 4
    body: dict[str, Any] = {
        "model": way,
        "max_tokens": 1000,
        "messages": [
            {"role": "system", "content": "You are a helpful assistant."},
            {"role": "user", "content": question},
        ],
    }
    if stream:
        body["stream"] = True
    order = {"port": target.port, "path": target.path.format(way=way), "key": target.key, "body": body, **more}
    return json.dumps(order).encode()


def percentile(samples: Sequence[float], share: float) -> float:
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


def _chunks_at(ticks: list[tuple[float, int]], moment: float) -> int:
    return max((chunks for when, chunks in ticks if when <= moment), default=0)
