"""`make bench`: Pisces beside the bare pass-through of the same libraries, in one run, with the ledger on.

Prints requests a second, added latency and CPU for each request over all processes, PostgreSQL's too; the CPU of a
forwarded chunk; the memory of a held stream and the gaps between its tokens. Single times on a shared machine mean
little; the ratios are what counts. The load generator and the upstream are not counted.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from tests.bench import processes
from tests.bench.postgres import Postgres

ROOT = Path(__file__).resolve().parent.parent.parent
SERVER = (
    "--host",
    "127.0.0.1",
    "--no-access-log",
    "--log-level",
    "warning",
    "--loop",
    "uvloop",
    "--http",
    "httptools",
    "--no-proxy-headers",
)


class Target:
    """Something to send load to: a port, and the processes whose CPU is its price."""

    def __init__(self, name: str, port: int, pids: list[int], key: str = "") -> None:
        self.name, self.port, self.pids, self.key = name, port, pids, key

    def order(self, *, count: int, connections: int, stream: bool = False, **more: Any) -> bytes:
        """What the load generator reads."""
        body: dict[str, Any] = {
            "model": "bench",
            "max_tokens": 200,
            "messages": [
                {"role": "system", "content": "You are a helpful assistant."},
                {"role": "user", "content": "Say something of some length about the sea, please. " * 4},
            ],
        }
        if stream:
            body["stream"] = True
        return json.dumps({
            "port": self.port, "path": "/v1/chat/completions", "key": self.key, "body": body, "count": count,
            "connections": connections, "stream": stream, **more,
        }).encode()  # fmt: skip

    def load(self, **order: Any) -> dict[str, Any]:
        """Sends the load and returns its result, with the CPU that it cost this target."""
        before = processes.cpu(self.pids)
        done = subprocess.run(
            processes.python("tests.bench.load"), input=self.order(**order), stdout=subprocess.PIPE, check=True
        )
        result: dict[str, Any] = json.loads(done.stdout)
        result["cpu"] = processes.cpu(self.pids) - before
        if result["errors"]:
            print(f"  ! {self.name}: {result['errors']} errors", file=sys.stderr)
        return result


class Bench:
    """The processes of one run, ended with it."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="pisces-bench-"))
        self.endings: list[Callable[[], None]] = []

    def __enter__(self) -> "Bench":
        return self

    def __exit__(self, *_: object) -> None:
        for end in reversed(self.endings):
            end()
        shutil.rmtree(self.folder, ignore_errors=True)

    def upstream(self, **env: str) -> int:
        port = processes.free_port()
        process = processes.start(processes.python("tests.bench.upstream", str(port)), port=port, env=env)
        self.endings.append(lambda: processes.stop(process))
        return port

    def bare(self, upstream: int) -> Target:
        port = processes.free_port()
        process = processes.start(
            processes.python("uvicorn", "tests.bench.bare:app", "--port", str(port), *SERVER),
            port=port,
            env={"UPSTREAM": f"http://127.0.0.1:{upstream}"},
        )
        self.endings.append(lambda: processes.stop(process))
        return Target("bare", port, [process.pid])

    def pisces(self, name: str, upstream: int, postgres: Postgres | None) -> Target:
        port = processes.free_port()
        var = self.folder / f"{name}-{port}"
        var.mkdir()
        env = {
            "VAR_DIR": str(var), "SECRET_KEY": "bench-" + "s" * 40, "ENCRYPTION_KEYS": "bench-" + "e" * 40,
            "PORT": str(port), "LOG_LEVEL": "WARNING", "DJANGO_SETTINGS_MODULE": "portal.settings",
        }  # fmt: skip
        if postgres is not None:
            env["DATABASE_URL"] = postgres.create(f"bench_{port}")
        run = {**os.environ, **env}
        subprocess.run([sys.executable, "manage.py", "migrate", "-v0"], cwd=ROOT, env=run, check=True)
        made = subprocess.run(
            processes.python("tests.bench.prepare", f"http://127.0.0.1:{upstream}/v1"),
            cwd=ROOT, env=run, check=True, stdout=subprocess.PIPE,
        )  # fmt: skip
        process = processes.start(
            processes.python("uvicorn", "portal.asgi:application", "--port", str(port), *SERVER), port=port, env=env
        )
        self.endings.append(lambda: processes.stop(process))
        pids = [process.pid] + ([postgres.pid] if postgres else [])
        return Target(name, port, pids, made.stdout.decode().strip())


def percentile(samples: list[float], share: float) -> float:
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


def whole(targets: list[Target], direct: Target, *, scale: float) -> None:
    print("\nWhole answers           in flight      req/s   CPU ms/req    ×bare   added p50 ms   added p99 ms")
    for connections, count in ((1, 1500), (16, 6000), (64, 12000)):
        base = direct.load(count=int(count * scale), connections=connections)["samples"]
        rounds: dict[str, list[dict[str, Any]]] = {}
        for _ in range(3):  # in turns, so that a slow moment of the machine meets everyone
            for target in targets:
                rounds.setdefault(target.name, []).append(
                    target.load(count=int(count * scale / 3), connections=connections)
                )
        costs = {
            name: sum(r["cpu"] for r in runs) / sum(len(r["samples"]) for r in runs) for name, runs in rounds.items()
        }
        for name, runs in rounds.items():
            samples = [sample for run in runs for sample in run["samples"]]
            rate = len(samples) / sum(run["seconds"] for run in runs)
            print(
                f"{name:<24}{connections:>9}{rate:>11.0f}{costs[name] * 1000:>13.3f}{costs[name] / costs['bare']:>9.2f}"
                f"{(percentile(samples, 0.5) - percentile(base, 0.5)) * 1000:>15.2f}"
                f"{(percentile(samples, 0.99) - percentile(base, 0.99)) * 1000:>15.2f}"
            )


def streams(targets: list[Target], *, held: int, chunks: int, interval: float) -> None:
    print(f"\n{held} streams held at once, a token each {interval * 1000:.0f} ms; CPU while all of them flow")
    print("                        µs/chunk    ×bare   KiB/stream   gap p50 ms   gap p99 ms    ×bare   errors")
    rounds: dict[str, list[Flow]] = {target.name: [] for target in targets}
    for _ in range(2):
        for target in targets:
            rounds[target.name].append(flow(target, held, chunks, interval))
    cost = {name: statistics.mean(each.cost for each in runs) for name, runs in rounds.items()}
    late = {name: statistics.mean(percentile(each.gaps, 0.99) for each in runs) for name, runs in rounds.items()}
    for name, runs in rounds.items():
        print(
            f"{name:<24}{cost[name] * 1e6:>8.1f}{cost[name] / cost['bare']:>9.2f}"
            f"{max(each.memory for each in runs) / held / 1024:>13.1f}"
            f"{statistics.median(gap for each in runs for gap in each.gaps) * 1000:>13.1f}"
            f"{late[name] * 1000:>13.1f}{late[name] / late['bare']:>9.2f}{sum(each.errors for each in runs):>9}"
        )


class Flow(NamedTuple):
    """CPU seconds for a chunk, bytes that the held streams took, the gaps between tokens, failed streams."""

    cost: float
    memory: int
    gaps: list[float]
    errors: int


def flow(target: Target, held: int, chunks: int, interval: float) -> Flow:
    """One run. CPU is taken between two moments at which every stream flows: opening and closing one is a call's
    price, which the first table has."""
    target.load(count=20, connections=20, stream=True)  # warm
    idle = processes.memory(target.pids[0])
    length, ramp = chunks * interval, min(2.0, chunks * interval / 4)
    order = target.order(count=held, connections=held, stream=True, ramp=ramp, timeout=length + 120)
    with subprocess.Popen(processes.python("tests.bench.load"), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as load:
        assert load.stdin
        assert load.stdout
        load.stdin.write(order)
        load.stdin.close()
        time.sleep(ramp + 1.5)
        begin, before = time.time(), processes.cpu(target.pids)
        most = processes.memory(target.pids[0])
        time.sleep(max(1.0, length - ramp - 2.5))
        end, after = time.time(), processes.cpu(target.pids)
        result = json.loads(load.stdout.read())
    forwarded = _chunks_at(result["ticks"], end) - _chunks_at(result["ticks"], begin)
    return Flow((after - before) / max(1, forwarded), most - idle, result["samples"], result["errors"])


def _chunks_at(ticks: list[tuple[float, int]], moment: float) -> int:
    return max((chunks for when, chunks in ticks if when <= moment), default=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", type=float, default=1.0, help="more or fewer requests")
    parser.add_argument("--only", choices=("whole", "streams"), help="one half of the benchmark")
    parser.add_argument("--held", type=int, default=500)
    arguments = parser.parse_args()
    os.chdir(ROOT)
    with Bench() as bench:
        postgres = Postgres.start(bench.folder)
        if postgres:
            bench.endings.append(postgres.stop)
        else:
            print("PostgreSQL is not installed: SQLite only", file=sys.stderr)
        if arguments.only != "streams":
            port = bench.upstream()
            targets = [bench.bare(port)]
            if postgres:
                targets.append(bench.pisces("Pisces on PostgreSQL", port, postgres))
            targets.append(bench.pisces("Pisces on SQLite", port, None))
            for target in targets:
                target.load(count=400, connections=16)
            whole(targets, Target("direct", port, []), scale=arguments.scale)
        if arguments.only != "whole":
            for held, chunks, interval in ((arguments.held, 100, 0.1), (1000, 300, 0.02)):
                port = bench.upstream(CHUNKS=str(chunks), INTERVAL=str(interval))
                targets = [bench.bare(port)]
                if postgres:
                    targets.append(bench.pisces("Pisces on PostgreSQL", port, postgres))
                else:
                    targets.append(bench.pisces("Pisces on SQLite", port, None))
                streams(targets, held=held, chunks=chunks, interval=interval)
                time.sleep(0.5)


if __name__ == "__main__":
    main()
