"""Workers whose Redis, or whoever else they ask, says nothing any more."""

import contextlib
import datetime as dt
import socket
import sqlite3
import time
from collections.abc import Iterator
from typing import NamedTuple

import pytest
from django.conf import LazySettings
from django.utils import timezone
from redis import Redis as Client

from billing import tasks
from portal.models import Delivery, NoticeKind, NoticeSettings
from portal.notices import tasks as notices
from portal.notices import telling
from portal.notices.finding import Due
from relay import services as channels
from relay import tasks as relay
from relay.models import Channel
from relay.statement_models import Reconciliation
from relay.statements import services as statements
from relay.statements.services import SourceSpec
from tests.faults.proxy import Proxy
from tests.invoices.made import Past
from tests.kit.forked import Running
from tests.kit.gateway import Gateway
from tests.kit.ports import eventually
from tests.kit.services import Redis, services


def swept_at(gateway: Gateway) -> dt.datetime | None:
    """When the worker last began to sweep."""
    from relay.models import Heartbeat

    with gateway.inside():
        return Heartbeat.objects.filter(name="sweep_holds").values_list("at", flat=True).first()


class Work(NamedTuple):
    """A worker in an installation of its own, a Redis of its own, and the wire between them."""

    gateway: Gateway
    worker: Running
    redis: Redis
    wire: Proxy

    def goes_on(self, *, within: float) -> None:
        """Fails where no sweep begins in that many seconds."""
        before = swept_at(self.gateway)
        eventually(lambda: swept_at(self.gateway) != before, within=within)


@pytest.fixture
def work() -> Iterator[Work]:
    """Has swept already."""
    services.get("redis")
    redis = Redis()
    wire = Proxy(redis.port)
    gateway = Gateway("sqlite", REDIS_URL=f"redis://127.0.0.1:{wire.port}/0")
    worker = gateway.work(PROBE_EVERY="0.5")  # so often the clock asks for something
    try:
        eventually(lambda: swept_at(gateway), within=60)
        yield Work(gateway, worker, redis, wire)
    finally:
        worker.kill()
        worker.wait()
        gateway.stop()
        wire.close()
        redis.stop()


def test_the_clock_goes_on_after_its_connections_to_redis_have_fallen_silent(work: Work) -> None:
    """As after a failover: what was connected is never answered or closed; who connects anew is served."""
    work.wire.mode = "hole"
    time.sleep(3)
    work.wire.mode = "pass"
    time.sleep(1)
    work.goes_on(within=120)


def test_the_worker_goes_on_after_a_job_whose_end_redis_could_not_be_told(work: Work) -> None:
    with contextlib.closing(sqlite3.connect(work.gateway.database.removeprefix("sqlite:///"))) as other:
        other.isolation_level = None
        other.execute("BEGIN IMMEDIATE")
        time.sleep(2)  # a job is under way, and cannot write
        work.wire.mode = "hole"
        other.execute("ROLLBACK")
    time.sleep(11)  # longer than an answer of Redis is waited for
    work.wire.mode = "pass"
    work.goes_on(within=60)


def test_the_worker_goes_on_after_its_redis_was_for_a_while_the_copy_of_another(work: Work) -> None:
    """As at a failover and back: a copy lets nobody wait for jobs, and refuses what would change it."""
    with Client(port=work.redis.port) as client:
        client.replicaof("127.0.0.1", 1)
        time.sleep(3)
        client.replicaof("NO", "ONE")
    work.goes_on(within=60)
    assert work.worker.poll() is None


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """A listener that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


def wait_for(listener: socket.socket, job: str) -> None:
    """Lets the job go whose question is waiting, and waits for its end."""
    listener.settimeout(20)
    listener.accept()[0].close()
    tasks._running[job].join(20)
    assert not tasks._running[job].is_alive()


def test_a_receiver_of_notices_that_says_nothing_keeps_no_other_job_waiting(
    books: str, silent: socket.socket, settings: LazySettings
) -> None:
    host, port = silent.getsockname()
    settings.WEBHOOKS_TO = [f"{host}:{port}"]
    past = Past()
    NoticeSettings.objects.update_or_create(user=past.user, defaults={"by_email": False})
    telling.add_webhook(user=past.user, url=f"http://{host}:{port}/hook")
    facts = {"team": "a", "left": 1, "threshold": 2}
    telling.tell(Due(NoticeKind.LOW_BALANCE, "wallet 1", "1", facts, user=past.user.pk))
    assert notices.send_alerts()
    assert not notices.send_alerts()  # it is at it
    assert Delivery.objects.get().state == "waiting"
    wait_for(silent, "send-alerts")
    row = Delivery.objects.get()
    assert (row.state, row.attempt, row.answer) == ("waiting", 1, "no connection, or no answer")


def test_a_provider_that_says_nothing_to_a_probe_keeps_no_other_job_waiting(books: str, silent: socket.socket) -> None:
    host, port = silent.getsockname()
    spec = channels.ChannelSpec(name="silent", base_url=f"http://{host}:{port}/v1", models={"a": "b"}, private=True)
    row = channels.save_channel(None, spec, secrets=["sk-silent-00001111"])
    channels.disable(row.credentials.get(), reason="401")
    row.credentials.update(disabled_at=timezone.now() - dt.timedelta(minutes=2))
    assert relay.probe_channels()
    assert not relay.probe_channels()
    wait_for(silent, "probe-channels")
    only = row.credentials.get()
    assert only.disabled_at is not None
    assert only.probed_at is not None


def test_a_provider_that_says_nothing_of_its_bill_keeps_no_other_job_waiting(books: str, silent: socket.socket) -> None:
    host, port = silent.getsockname()
    address = f"http://{host}:{port}"
    for name, adapter in (("of a day", "openai"), ("of all time", "openrouter-credits")):
        row = Channel.objects.create(name=name, base_url=f"{address}/v1", models={"a": "b"}, private=True)
        spec = SourceSpec(adapter=adapter, base_url=address, secret="sk-admin-00001111")
        statements.save_source(row, spec)
    assert relay.read_statements()
    assert not relay.read_statements()
    assert tasks._running["read-bills"].is_alive()
    assert tasks._running["read-totals"].is_alive()
    silent.close()
    for job in ("read-totals", "read-bills"):
        tasks._running[job].join(20)
        assert not tasks._running[job].is_alive()
    assert {row.problem for row in Reconciliation.objects.filter(channel__name="of a day")} != {""}
