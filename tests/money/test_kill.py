"""`kill -9` under load: after a restart and the sweep the books are whole, and who saw an answer paid for it once."""

import asyncio
import random
from collections import Counter
from typing import Any

from billing import money
from tests.kit import client, load, scripts
from tests.kit.gateway import Customer, Gateway
from tests.kit.upstream import Upstream

ROUNDS = 3


def under_load(gateway: Gateway, tokens: list[str], source: random.Random) -> list[load.Seen]:
    """Load on all servers, which are killed in its middle."""

    async def scene() -> list[load.Seen]:
        stop = asyncio.Event()
        running = asyncio.create_task(load.until(stop, [s.url for s in gateway.servers], tokens, source))
        await asyncio.sleep(0.5 + source.random())
        for server in gateway.servers:
            server.kill()
        stop.set()
        return await running

    return asyncio.run(scene())


def check(gateway: Gateway, upstream: Upstream, customer: Customer, seen: list[load.Seen]) -> None:
    calls = gateway.calls(customer.key)
    records = Counter(call["request_id"] for call in calls)
    by_id: dict[str, dict[str, Any]] = {call["request_id"]: call for call in calls}
    charges = Counter(row["reference"] for row in gateway.transfers(customer.wallet) if row["kind"] == "charge")
    served = Counter(e.json.get("x_call") for e in list(upstream.exchanges) if e.body)
    for one in (call for call in seen if call.complete):
        assert records[one.id] == 1, one
        call = by_id[one.id]
        assert money.to_text(call["cost"]) == one.cost == "0.0002"
        assert charges[str(call["id"])] == 1
        assert served[one.id] == 1
    for call in calls:
        assert charges[str(call["id"])] == (1 if call["cost"] else 0)
        if call["cost"]:
            assert served[call["request_id"]] == 1, "charged for a call that the upstream never saw"
    assert gateway.wallet(customer.wallet)["held"] == 0
    assert gateway.wallet(customer.wallet)["balance"] == 10 * 10**9 - sum(call["cost"] for call in calls)
    assert gateway.audit() == []


def test_killed_under_load_every_answer_that_was_seen_is_charged_once(breakable: Gateway, upstream: Upstream) -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    source = random.Random(seed)
    customer = breakable.customer()
    seen: list[load.Seen] = []
    breakable.start()
    if breakable.kind == "postgres":
        breakable.start()
    for _ in range(ROUNDS):
        seen += under_load(breakable, [customer.token], source)
        count = len(breakable.servers)
        breakable.servers.clear()
        for _ in range(count):
            breakable.start()
        breakable.sweep(later=120)
        check(breakable, upstream, customer, seen)
    assert len([call for call in seen if call.complete]) > 30
    assert client.chat(breakable.url, customer.token).status_code == 200


def test_a_killed_stream_whose_progress_was_known_is_charged_for_it_by_the_sweep(
    breakable: Gateway, upstream: Upstream
) -> None:
    from billing.models import Hold

    customer = breakable.customer()
    breakable.start()
    script = upstream.play(scripts.endless())
    with client.open_socket(breakable.url, customer.token, {"stream": True, "x_script": script}) as connection:
        received = b""
        while b"word" not in received:
            received += connection.recv(65536)
        breakable.servers[0].kill()
    assert breakable.sweep() == 0, "its lease has not ended"
    with breakable.inside():  # what a renewal of the lease would have stored
        Hold.objects.update(progress={"usage": None, "output_bytes": 300, "input_bytes": 30})
    assert breakable.sweep(later=120) == 1
    assert breakable.sweep(later=120) == 0
    (call,) = breakable.calls(customer.key)
    assert (call["state"], call["usage_source"], call["cost"]) == ("lost", "partial", 10 * 1000 + 100 * 2000)
    assert breakable.spent(customer) == call["cost"]
    assert breakable.audit() == []


def test_a_killed_call_without_output_is_void_after_the_sweep(breakable: Gateway, upstream: Upstream) -> None:
    customer = breakable.customer()
    breakable.start()
    script = upstream.play(scripts.silence)
    with client.open_socket(breakable.url, customer.token, {"x_script": script}):
        upstream.one(script)
        assert breakable.wallet(customer.wallet)["held"] > 0
        breakable.servers[0].kill()
    assert breakable.sweep(later=120) == 1
    (call,) = breakable.calls(customer.key)
    assert (call["state"], call["cost"]) == ("lost", 0)
    assert breakable.wallet(customer.wallet)["balance"] == 10 * 10**9
    assert breakable.holds(customer.wallet)[0]["state"] == "voided"
    assert breakable.audit() == []


def test_a_server_told_to_stop_finishes_its_calls_first(breakable: Gateway, upstream: Upstream) -> None:
    customer = breakable.customer()
    server = breakable.start()
    script = upstream.play(scripts.whole(after=0.7))
    with client.open_socket(breakable.url, customer.token, {"x_script": script}) as connection:
        upstream.one(script)
        server.process.terminate()
        received = b""
        while part := connection.recv(65536):
            received += part
    assert b'"cost":"0.0002"' in received
    server.process.wait(timeout=15)
    assert breakable.wallet(customer.wallet)["held"] == 0
    assert breakable.audit() == []
