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
from typing import Any

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

    def load(self, *, count: int, connections: int, stream: bool = False, **more: Any) -> dict[str, Any]:
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
        order = {
            "port": self.port, "path": "/v1/chat/completions", "key": self.key, "body": body, "count": count,
            "connections": connections, "stream": stream, **more,
        }  # fmt: skip
        before = processes.cpu(self.pids)
        done = subprocess.run(
            processes.python("tests.bench.load"), input=json.dumps(order).encode(), stdout=subprocess.PIPE, check=True
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
    print(f"\n{held} streams held at once, a token each {interval * 1000:.0f} ms")
    print("                        µs/chunk    ×bare   KiB/stream   gap p50 ms   gap p99 ms    ×bare   errors")
    cost_of: dict[str, float] = {}
    gap_of: dict[str, float] = {}
    for target in targets:
        target.load(count=20, connections=20, stream=True)  # warm
        idle = processes.memory(target.pids[0])
        peak = _peak_during(target, held, chunks, interval)
        result, most = peak
        cost_of[target.name] = result["cpu"] / max(1, result["chunks"])
        gap_of[target.name] = percentile(result["samples"], 0.99)
        print(
            f"{target.name:<24}{cost_of[target.name] * 1e6:>8.1f}{cost_of[target.name] / cost_of['bare']:>9.2f}"
            f"{(most - idle) / held / 1024:>13.1f}{statistics.median(result['samples']) * 1000:>13.1f}"
            f"{gap_of[target.name] * 1000:>13.1f}{gap_of[target.name] / gap_of['bare']:>9.2f}{result['errors']:>9}"
        )


def _peak_during(target: Target, held: int, chunks: int, interval: float) -> tuple[dict[str, Any], int]:
    import threading

    most = 0
    over = threading.Event()

    def watch() -> None:
        nonlocal most
        while not over.wait(0.5):
            most = max(most, processes.memory(target.pids[0]))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        result = target.load(
            count=held,
            connections=held,
            stream=True,
            ramp=min(2.0, chunks * interval / 2),
            timeout=chunks * interval + 120,
        )
    finally:
        over.set()
        watcher.join()
    return result, most


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
            for held, chunks, interval in ((arguments.held, 60, 0.2), (1000, 250, 0.02)):
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
