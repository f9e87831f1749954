"""PostgreSQL down, silent, slow or killed, under calls: nothing new begins, what runs is settled, all of it is back."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
import requests

from relay.snapshot import POLL_EVERY
from tests.faults.proxy import Proxy
from tests.kit import client, scripts
from tests.kit.gateway import Customer, Gateway
from tests.kit.plugin import furnish
from tests.kit.ports import eventually
from tests.kit.services import Postgres, services
from tests.kit.upstream import Upstream

COST = 200_000
REFUSED_WITHIN = 1.0  # seconds
BACK_WITHIN = 5.0


class Behind:
    """An installation whose only server reaches PostgreSQL through a wire; the test itself does not."""

    def __init__(self, gateway: Gateway, proxy: Proxy) -> None:
        self.gateway, self.proxy = gateway, proxy
        gateway.start(DATABASE_URL=gateway.database.replace(str(proxy.target), str(proxy.port)), HOLD_LEASE="20")

    @property
    def url(self) -> str:
        return self.gateway.url


@pytest.fixture(scope="module")
def behind(upstream: Upstream, black_hole: str) -> Iterator[Behind]:
    services.get("postgres")
    proxy = Proxy(services.postgres.port)
    gateway = Gateway("postgres")
    furnish(gateway, upstream, black_hole)
    yield Behind(gateway, proxy)
    proxy.close()
    gateway.stop()


@pytest.fixture
def payer(behind: Behind) -> Iterator[Customer]:
    """A customer whose key the server knows. Whatever happened, the books are whole in the end, and nothing is held."""
    customer = behind.gateway.customer()
    assert client.chat(behind.url, customer.token).status_code == 200
    time.sleep(POLL_EVERY + 0.2)  # then it learns that the key is new, and forgets it
    assert client.chat(behind.url, customer.token).status_code == 200
    yield customer
    behind.proxy.mode, behind.proxy.delay = "pass", 0.0
    eventually(lambda: behind.gateway.wallet(customer.wallet)["held"] == 0, within=20)
    assert behind.gateway.audit() == []


class InFlight:
    """Calls that a provider works on while the database goes away: they have to be paid and answered all the same."""

    def __init__(self, url: str, token: str, upstream: Upstream) -> None:
        whole = upstream.play(scripts.whole(after=0.6))
        stream = upstream.play(scripts.stream(pause=0.15))
        self._pool = ThreadPoolExecutor(6)
        self._calls: list[Future[requests.Response]] = [
            self._pool.submit(client.chat, url, token, x_script=whole if n % 2 else stream, stream=n % 2 == 0)
            for n in range(6)
        ]
        eventually(lambda: len(upstream.served(whole)) + len(upstream.served(stream)) == 6)

    def finished(self) -> int:
        """Waits for all of them; how many were answered whole."""
        answers = [call.result(60) for call in self._calls]
        self._pool.shutdown()
        assert {answer.status_code for answer in answers} == {200}
        return sum("[DONE]" in answer.text or '"pisces"' in answer.text for answer in answers)


def refused(url: str, token: str, upstream: Upstream, count: int = 8) -> None:
    """So many calls at once are told 503 within a second, and none of them reaches the provider."""
    script = upstream.play(scripts.whole())
    took: list[tuple[int, str, float]] = []

    def ask(number: int) -> None:
        headers = {"Idempotency-Key": f"{script}-{number}"} if number % 3 == 2 else {}
        began = time.monotonic()
        answer = client.chat(url, token, x_script=script, headers=headers)
        took.append((answer.status_code, answer.json()["error"]["code"], time.monotonic() - began))
        assert int(answer.headers["Retry-After"]) > 0

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert {(status, code) for status, code, _ in took} == {(503, "unavailable")}
    assert len(took) == count
    assert max(seconds for *_, seconds in took) < REFUSED_WITHIN + 0.2  # and what starting so many threads takes
    assert upstream.served(script) == [], "a call left without a durable hold"


def back(url: str, token: str) -> None:
    """Within five seconds calls are served again."""
    began = time.monotonic()
    eventually(lambda: client.chat(url, token).status_code == 200, within=BACK_WITHIN + 5, every=0.1)
    assert time.monotonic() - began < BACK_WITHIN


def down(proxy: Proxy) -> None:
    proxy.mode = "refuse"
    proxy.drop()


def silent(proxy: Proxy) -> None:
    proxy.mode = "hole"


def frozen(proxy: Proxy) -> None:
    proxy.mode = "freeze"


AWAY: list[Callable[[Proxy], None]] = [down, silent, frozen]


@pytest.mark.parametrize("away", AWAY, ids=lambda away: away.__name__)
def test_while_the_database_is_away_nothing_begins_and_what_runs_is_paid_when_it_is_back(
    behind: Behind, payer: Customer, upstream: Upstream, away: Callable[[Proxy], None]
) -> None:
    stranger = behind.gateway.customer()  # whose key the server has never seen
    running = InFlight(behind.url, payer.token, upstream)
    away(behind.proxy)
    refused(behind.url, payer.token, upstream)
    refused(behind.url, stranger.token, upstream, count=2)
    time.sleep(1.5)  # the calls in flight have ended by now, and wait to be booked
    refused(behind.url, payer.token, upstream)
    behind.proxy.mode = "pass"
    back(behind.url, payer.token)
    assert running.finished() == 6
    settled = [call for call in behind.gateway.calls(payer.key) if call["state"] == "settled"]
    assert behind.gateway.spent(payer) == len(settled) * COST
    assert len(settled) >= 8
    assert client.chat(behind.url, stranger.token).status_code == 200


def test_a_hold_that_is_written_too_late_is_given_back_with_its_record(
    behind: Behind, payer: Customer, upstream: Upstream
) -> None:
    """A slow wire: the caller is told 503 in time, and the hold is committed when nobody waits for it any more."""
    before = len(behind.gateway.holds(payer.wallet))
    behind.proxy.delay = 0.25
    refused(behind.url, payer.token, upstream, count=1)
    late = eventually(lambda: behind.gateway.holds(payer.wallet)[before:])
    behind.proxy.delay = 0.0
    eventually(lambda: {hold["state"] for hold in behind.gateway.holds(payer.wallet)[before:]} == {"voided"})
    for hold in late:
        (call,) = (call for call in behind.gateway.calls(payer.key) if call["id"] == hold["id"])
        assert (call["state"], call["status"], call["error"], call["cost"]) == ("failed", 503, "unavailable", 0)
    assert "group_commit.released" in behind.gateway.servers[0].log()


def test_a_connection_that_falls_silent_in_the_middle_keeps_nobody_else_s_wallet_locked(
    behind: Behind, payer: Customer, upstream: Upstream
) -> None:
    """The server side of the silent connection has locked the wallet and waits for a COMMIT that never comes."""
    behind.proxy.drop()
    behind.proxy.cut_at(b"FROM billing_account WHERE id = ANY", "after")  # a new connection prepares its statements
    assert eventually(lambda: client.chat(behind.url, payer.token).status_code == 503 and behind.proxy.mark is None)
    back(behind.url, payer.token)


# ---- the server process itself --------------------------------------------------------------------------------------


@pytest.fixture
def mortal() -> Iterator[Postgres]:
    """A PostgreSQL of the test's own, to be killed."""
    services.get("postgres")
    postgres = Postgres(durable=True)
    yield postgres
    postgres.stop()


def test_postgresql_killed_under_load_loses_nothing_that_anybody_saw(
    mortal: Postgres, upstream: Upstream, black_hole: str
) -> None:
    gateway = Gateway("postgres", postgres=mortal)
    furnish(gateway, upstream, black_hole)
    gateway.start()
    payer = gateway.customer()
    assert client.chat(gateway.url, payer.token).status_code == 200
    running = InFlight(gateway.url, payer.token, upstream)
    mortal.kill()
    refused(gateway.url, payer.token, upstream)
    time.sleep(1.0)
    mortal.restart()
    back(gateway.url, payer.token)
    assert running.finished() == 6
    settled: list[dict[str, Any]] = [call for call in gateway.calls(payer.key) if call["state"] == "settled"]
    assert gateway.spent(payer) == len(settled) * COST
    assert gateway.wallet(payer.wallet)["held"] == 0
    assert gateway.audit() == []
    gateway.stop()
