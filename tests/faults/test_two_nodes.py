"""Two servers and two workers on one PostgreSQL and one Redis behave as one; without the Redis, calls go on."""

import collections
import contextlib
import datetime as dt
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import requests
from django.db import connection, transaction
from django.utils import timezone

from billing import connections, ids, ledger
from billing.models import Hold
from billing.operations import ActiveHold, OpenHold
from relay import tasks
from relay.models import Heartbeat
from tests.kit import client, forked, load, scripts, soak
from tests.kit.gateway import Gateway
from tests.kit.plugin import PRICE, furnish
from tests.kit.ports import eventually, in_force
from tests.kit.services import Redis, services
from tests.kit.upstream import Upstream

COST = 200_000


class Nodes:
    """`a` and `b` have a folder, and with it a journal, of their own, as two machines have."""

    def __init__(self, upstream: Upstream, black_hole: str) -> None:
        self.redis = Redis()
        self.gateway = Gateway("postgres", REDIS_URL=self.redis.url)
        furnish(self.gateway, upstream, black_hole)
        folders = [self.gateway.folder / name for name in ("a", "b")]
        for folder in folders:
            folder.mkdir()
        self.gateway.start_each(*({"VAR_DIR": str(folder)} for folder in folders))

    @property
    def urls(self) -> list[str]:
        return [server.url for server in self.gateway.servers]

    def stop(self) -> None:
        self.gateway.stop()
        self.redis.stop()


@pytest.fixture(scope="module")
def nodes(upstream: Upstream, black_hole: str) -> Iterator[Nodes]:
    for name in ("postgres", "redis"):
        services.get(name)
    made = Nodes(upstream, black_hole)
    yield made
    assert made.gateway.audit() == []
    made.stop()


@contextlib.contextmanager
def worker(gateway: Gateway) -> Iterator[forked.Running]:
    process = gateway.work()
    try:
        yield process
    finally:
        process.terminate()
        process.wait(timeout=30)


def test_a_wallet_and_a_budget_let_in_exactly_what_they_can_pay_over_both_nodes(
    nodes: Nodes, upstream: Upstream
) -> None:
    script = upstream.play(scripts.whole(after=0.4))
    for credit, spec, exactly in (("0.19", {}, 19), ("10", {"quota": 70_000_000, "window": "day"}, 7)):
        customer = nodes.gateway.customer(credit, **spec)
        seen = load.at_once(nodes.urls, customer.token, 100, model="per-call", x_script=script)
        counts = collections.Counter((one.status, one.code) for one in seen)
        assert counts == {(200, ""): exactly, (403, "insufficient_user_quota"): 100 - exactly}
        assert nodes.gateway.wallet(customer.wallet)["held"] == 0


def everywhere(nodes: Nodes, probe: Callable[[str], bool]) -> None:
    in_force(lambda: all(probe(url) for url in nodes.urls))


def test_a_revoked_key_stops_on_both_nodes(nodes: Nodes) -> None:
    customer = nodes.gateway.customer()
    assert all(client.chat(url, customer.token).status_code == 200 for url in nodes.urls)
    nodes.gateway.change_key(customer.key, "revoke")
    everywhere(nodes, lambda url: client.chat(url, customer.token, model="free").status_code == 401)


def test_a_new_price_is_charged_on_both_nodes_and_running_calls_keep_theirs(nodes: Nodes, upstream: Upstream) -> None:
    nodes.gateway.model("repriced", PRICE, max_output=1000)
    nodes.gateway.channel("repriced", upstream.url, {"repriced": "up-repriced"})
    customer = nodes.gateway.customer()
    eventually(lambda: all(client.chat(url, customer.token, model="repriced").status_code == 200 for url in nodes.urls))
    slow = upstream.play(scripts.whole(after=1.6))
    running: list[str] = []

    def run() -> None:
        answer = client.chat(nodes.urls[0], customer.token, model="repriced", x_script=slow)
        running.append(answer.json()["pisces"]["cost"])

    thread = threading.Thread(target=run)
    thread.start()
    upstream.one(slow)
    nodes.gateway.model("repriced", {"input": "2", "output": "4"}, max_output=1000)
    everywhere(
        nodes, lambda url: client.chat(url, customer.token, model="repriced").json()["pisces"]["cost"] == "0.0004"
    )
    thread.join(20)
    assert running == ["0.0002"]


def test_sweeps_on_several_machines_at_once_close_each_orphan_once(nodes: Nodes) -> None:
    customer = nodes.gateway.customer()
    assert client.chat(nodes.urls[0], customer.token).status_code == 200
    closed: list[int] = []

    def sweep() -> None:
        closed.append(int(tasks.sweep_holds()))
        connection.close()

    with nodes.gateway.inside():  # and so do its threads
        _orphans(customer.wallet, 40)
        threads = [threading.Thread(target=sweep) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert sum(closed) == 40, closed
    assert nodes.gateway.wallet(customer.wallet)["held"] == 0
    lost = [call for call in nodes.gateway.calls(customer.key) if call["state"] == "lost"]
    assert len(lost) == 40
    assert nodes.gateway.spent(customer) == COST + sum(call["cost"] for call in lost) > COST
    assert nodes.gateway.audit() == []


def _orphans(wallet: int, count: int) -> None:
    """Holds as a process leaves them that died after the first byte of its answers, an hour ago."""
    past = timezone.now() - dt.timedelta(hours=1)
    done = Hold.objects.filter(account_id=wallet).first()
    assert done is not None
    openings = [
        OpenHold(ids.uuid7(), wallet, 10**6, 10**6, done.price_id, (), done.facts, "elsewhere:1:0", -3600.0, past)
        for _ in range(count)
    ]
    with transaction.atomic():
        outcomes = connections.run_in_transaction(openings, revenue=ledger.revenue_account())
    made = [outcome.id for outcome in outcomes if isinstance(outcome, ActiveHold)]
    progress = {"attempt": 1, "answering": True, "usage": {"input": 10, "output": 5}}
    Hold.objects.filter(pk__in=made).update(suspected_at=past, progress=progress)


# ---- without Redis --------------------------------------------------------------------------------------------------


def test_while_redis_is_away_calls_are_served_and_nothing_is_let_past_the_wallet(nodes: Nodes) -> None:
    customer = nodes.gateway.customer("0.05")
    nodes.redis.kill()
    try:
        seen = load.at_once(nodes.urls, customer.token, 20, model="per-call")
        assert collections.Counter(one.status for one in seen) == {200: 5, 403: 15}
        ready = requests.get(f"{nodes.urls[0]}/readyz", timeout=10)
        assert (ready.status_code, ready.json()["checks"]["redis"]) == (503, "cannot be reached")
    finally:
        nodes.redis.restart()
    assert nodes.gateway.wallet(customer.wallet)["balance"] == 0


@pytest.mark.soak
def test_redis_away_for_ten_minutes(nodes: Nodes) -> None:
    """Calls go on all the time; when it is back, the worker's sweep resumes by itself."""
    away = soak.count("REDIS_SECONDS", 600)
    customer = nodes.gateway.customer("1000")
    with worker(nodes.gateway):
        eventually(lambda: _swept(nodes.gateway) is not None, within=60, every=0.5)
        nodes.redis.kill()
        served, end = 0, time.monotonic() + away
        while time.monotonic() < end:
            assert {one.status for one in load.at_once(nodes.urls, customer.token, 10)} == {200}
            served += 10
            time.sleep(0.5)
        nodes.redis.restart()
        began, before = time.monotonic(), timezone.now()
        eventually(lambda: (_swept(nodes.gateway) or before) > before, within=120, every=0.5)
        resumed = time.monotonic() - began
    assert nodes.gateway.spent(customer) == served * COST
    assert nodes.gateway.audit() == []
    soak.note("Redis away", f"{away} s: {served} calls served; the sweep resumed {resumed:.0f} s after its return")


def _swept(gateway: Gateway) -> dt.datetime | None:
    """When the sweep ran last."""
    with gateway.inside():
        return Heartbeat.objects.filter(name="sweep_holds").values_list("at", flat=True).first()
