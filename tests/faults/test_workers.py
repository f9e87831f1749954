"""Workers whose Redis, or whoever else they ask, says nothing any more."""

import datetime as dt
import time

from tests.faults.proxy import Proxy
from tests.kit.gateway import Gateway
from tests.kit.ports import eventually
from tests.kit.services import Redis, services


def swept_at(gateway: Gateway) -> dt.datetime | None:
    """When the worker last began to sweep."""
    from relay.models import Heartbeat

    with gateway.inside():
        return Heartbeat.objects.filter(name="sweep_holds").values_list("at", flat=True).first()


def test_the_clock_goes_on_after_its_connections_to_redis_have_fallen_silent() -> None:
    """As after a failover: what was connected is never answered or closed; who connects anew is served."""
    services.get("redis")
    redis = Redis()
    proxy = Proxy(redis.port)
    gateway = Gateway("sqlite", REDIS_URL=f"redis://127.0.0.1:{proxy.port}/0")
    worker = gateway.work(PROBE_EVERY="0.5")  # so often the clock asks for something
    try:
        eventually(lambda: swept_at(gateway), within=60)
        proxy.mode = "hole"
        time.sleep(3)
        proxy.mode = "pass"
        time.sleep(1)
        before = swept_at(gateway)
        eventually(lambda: swept_at(gateway) != before, within=120)
    finally:
        worker.kill()
        worker.wait()
        gateway.stop()
        proxy.close()
        redis.stop()
