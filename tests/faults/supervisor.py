"""An installation whose every part may be killed: servers, a worker with its clock, PostgreSQL and Redis of its own.

The scripted upstream keeps the truth: what it served, and to whom. After each round of load and killing the books are
compared with it, and with what the clients saw.
"""

import asyncio
import contextlib
import datetime as dt
import random
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator

from django.utils import timezone

from billing.models import Hold
from relay.models import Heartbeat
from tests.kit import load
from tests.kit.gateway import Customer, Gateway
from tests.kit.plugin import furnish
from tests.kit.ports import eventually
from tests.kit.services import Postgres, Redis, services
from tests.kit.upstream import Upstream

COST, COST_TEXT = 200_000, "0.0002"
CREDIT = "100000"
LEASE = 5.0  # seconds
RESOLVED_WITHIN = 60.0  # seconds from a lease's end
PARTS = ("server", "worker", "postgres", "redis")


class Supervisor:
    """Started with `running`. `kill(part)` is `kill -9`, and starts that part again."""

    def __init__(self, upstream: Upstream, black_hole: str) -> None:
        self.upstream = upstream
        self.postgres, self.redis = Postgres(durable=True), Redis()
        self.gateway = Gateway("postgres", postgres=self.postgres, REDIS_URL=self.redis.url, HOLD_LEASE=str(LEASE))
        furnish(self.gateway, upstream, black_hole)
        self.customers: list[Customer] = []  # of the last round
        self.everybody: list[Customer] = []
        self.seen: list[load.Seen] = []  # in the last round
        self.all_seen: list[load.Seen] = []
        self.served: Counter[str] = Counter()
        self._counted = len(upstream.exchanges)
        self.killed: Counter[str] = Counter()
        self._begin_worker()
        for _ in range(2):
            self.gateway.start()

    def stop(self) -> None:
        self._end_worker(signal.SIGTERM)
        self.gateway.stop()
        self.postgres.stop()
        self.redis.stop()

    # ---- killing

    def kill(self, part: str, source: random.Random) -> None:
        self.killed[part] += 1
        if part == "server":
            victim = source.choice(self.gateway.servers)
            victim.kill()
            self.gateway.servers.remove(victim)
            self.gateway.start()
            return
        # A worker that is killed before it has ever worked is none, nor is one that finds no database when it starts:
        # nobody promises anything of an empty place.
        eventually(lambda: self._swept_since(self.worker_began), within=RESOLVED_WITHIN, every=0.2)
        if part == "worker":
            self._end_worker(signal.SIGKILL)
            self._begin_worker()
        else:
            service = self.postgres if part == "postgres" else self.redis
            service.kill()
            service.restart()

    def _begin_worker(self) -> None:
        self.worker_began = timezone.now()
        self.worker = self.gateway.work()

    def _swept_since(self, moment: dt.datetime) -> bool:
        with self.gateway.inside():
            return Heartbeat.objects.filter(name="sweep_holds", at__gt=moment).exists()

    def _end_worker(self, how: signal.Signals) -> None:
        self.worker.send_signal(how)
        try:
            self.worker.wait(timeout=15)
        except subprocess.TimeoutExpired:
            self.worker.kill()
            self.worker.wait()

    # ---- load

    def round(self, part: str, source: random.Random) -> None:
        """Load of new customers on all servers; in its middle one part is killed and started again."""
        self.customers = [self.gateway.customer(CREDIT) for _ in range(3)]
        self.everybody += self.customers
        tokens = [customer.token for customer in self.customers]

        async def scene() -> list[load.Seen]:
            stop = asyncio.Event()
            urls = [server.url for server in self.gateway.servers]
            running = asyncio.create_task(load.until(stop, urls, tokens, source))
            await asyncio.sleep(0.2 + source.random() * 0.6)
            await asyncio.to_thread(self.kill, part, source)
            await asyncio.sleep(0.3)
            stop.set()
            return await running

        self.seen = asyncio.run(scene())
        self.all_seen += self.seen

    # ---- the truth

    def check(self) -> None:
        """The books of the last round against what clients saw and what the upstream served, as far as both got."""
        self._compare(self.customers, self.seen)
        for customer in self.customers:
            assert self.gateway.audit_of(customer.team) == []
        self._orphans_are_resolved()

    def _compare(self, customers: list[Customer], seen: list[load.Seen]) -> None:
        served, new = self._count_served()
        calls = [call for customer in customers for call in self.gateway.calls(customer.key)]
        records = {call["request_id"]: call for call in calls}
        transfers = [row for customer in customers for row in self.gateway.transfers(customer.wallet)]
        charges = Counter(row["reference"] for row in transfers if row["kind"] == "charge")
        assert len(records) == len(calls), "a call is recorded once"
        for one in (answer for answer in seen if answer.complete):
            call = records[one.id]
            assert (call["state"], call["cost"], one.cost) == ("settled", COST, COST_TEXT), (one, call)
            assert charges[str(call["id"])] == 1, one
            assert served[one.id] == 1, one
        for one in (answer for answer in seen if answer.status == 503):
            assert one.id not in records or records[one.id]["cost"] == 0 or served[one.id], one
        for call in calls:
            assert charges[str(call["id"])] == (1 if call["cost"] else 0), call
            if call["cost"]:
                assert served[call["request_id"]] == 1, f"charged for what the upstream never saw: {call}"
        unknown = new - self._held_by(customers)
        assert not unknown or not unknown - self._held_by(self.everybody), "a call left without a durable hold"

    def _count_served(self) -> tuple[Counter[str], set[str]]:
        """How often the upstream served each call, and which are new among them."""
        fresh = self.upstream.exchanges[self._counted :]
        self._counted += len(fresh)
        ids = [str(exchange.json.get("x_call")) for exchange in fresh if exchange.body]
        self.served.update(ids)
        return self.served, set(ids)

    def _held_by(self, customers: list[Customer]) -> set[str]:
        holds = (hold for customer in customers for hold in self.gateway.holds(customer.wallet))
        return {hold["facts"]["request_id"] for hold in holds}

    def _orphans_are_resolved(self) -> None:
        late = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=RESOLVED_WITHIN)
        waiting = self._open("held", "dispatched", "recovering")
        assert not [hold for hold in waiting if hold.lease_until < late], "an orphan was not resolved in time"

    def settled_down(self, *, within: float) -> None:
        """Every hold is resolved or waits for an administrator."""
        eventually(lambda: not self._open("held", "dispatched", "recovering"), within=within, every=0.5)

    def resolve_reviews(self) -> int:
        """Decides for the customer wherever nobody can tell. How many."""
        from relay import recovery

        unclear = self._open("review")
        with self.gateway.inside():
            for hold in unclear:
                recovery.resolve(hold=hold, charged=0, actor="tests", reason="nobody can tell")
        return len(unclear)

    def _open(self, *states: str) -> list[Hold]:
        with self.gateway.inside():
            return list(Hold.objects.filter(state__in=states))

    def finish(self) -> None:
        """Nothing is held, and what the wallets have lost is what the calls cost."""
        self.resolve_reviews()
        self._compare(self.everybody, self.all_seen)
        assert self.gateway.audit() == []
        for customer in self.everybody:
            wallet = self.gateway.wallet(customer.wallet)
            spent = sum(call["cost"] for call in self.gateway.calls(customer.key))
            assert (wallet["held"], wallet["balance"]) == (0, int(CREDIT) * 10**9 - spent)

    @property
    def complete(self) -> int:
        return sum(seen.complete for seen in self.all_seen)


@contextlib.contextmanager
def running(upstream: Upstream, black_hole: str) -> Iterator[Supervisor]:
    for name in ("postgres", "redis"):
        services.get(name)
    supervisor = Supervisor(upstream, black_hole)
    try:
        yield supervisor
    finally:
        supervisor.stop()
