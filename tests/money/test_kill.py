"""`kill -9` under load: after a restart and the sweep the books are whole, and who saw an answer paid for it once."""

import asyncio
import datetime as dt
import random
import time
from collections import Counter
from typing import Any

import pytest
from django.db import transaction
from django.test import override_settings
from django.utils import timezone

from billing import connections, holds, ids, ledger, money
from billing.journal import Journal
from billing.models import Hold, PriceVersion
from billing.operations import OpenHold
from relay import recovery, services
from relay.models import Channel
from tests.kit import client, load, scripts
from tests.kit.gateway import Customer, Gateway
from tests.kit.ports import eventually
from tests.kit.upstream import Script, Upstream
from tests.money import test_payment_types as payment_types

ROUNDS = 1


def under_load(gateway: Gateway, upstream: Upstream, token: str, source: random.Random) -> list[load.Seen]:
    """Load on all servers, which are killed in its middle."""
    enough = len(upstream.exchanges) + source.randrange(100, 300)

    async def scene() -> list[load.Seen]:
        stop = asyncio.Event()
        running = asyncio.create_task(load.until(stop, [s.url for s in gateway.servers], [token], source))
        await asyncio.to_thread(eventually, lambda: len(upstream.exchanges) > enough, within=60)
        for server in gateway.servers:
            server.kill()
        stop.set()
        return await running

    return asyncio.run(scene())


def review_by_truth(gateway: Gateway, upstream: Upstream, customer: Customer, seen: list[load.Seen]) -> None:
    """What is left in review was sent, and nobody saw an answer; the administrator gives it back."""
    complete = {one.id for one in seen if one.complete}
    with gateway.inside():
        for hold in Hold.objects.filter(account_id=customer.wallet).exclude(state__in=["settled", "voided"]):
            assert hold.state == "review"
            assert hold.facts["request_id"] not in complete
            recovery.resolve(hold=hold, charged=0, actor="tests", reason="no answer was seen")


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
        seen += under_load(breakable, upstream, customer.token, source)
        count = len(breakable.servers)
        breakable.servers.clear()
        for _ in range(count):
            breakable.start()
        breakable.sweep(later=120)
        review_by_truth(breakable, upstream, customer, seen)
        check(breakable, upstream, customer, seen)
    assert len([call for call in seen if call.complete]) > 30
    assert client.chat(breakable.url, customer.token).status_code == 200


def killed_in(
    gateway: Gateway, upstream: Upstream, customer: Customer, script: Script, *, after: bytes = b"", **body: Any
) -> str:
    """A call whose server is killed once its client has read `after`, or the upstream has been asked; its id."""
    gateway.start()
    name = upstream.play(script)
    with client.open_socket(gateway.url, customer.token, {"x_script": name, **body}) as connection:
        upstream.one(name)
        received = b""
        while after not in received:
            received += connection.recv(65536)
        if after:
            time.sleep(holds.NOTE_EVERY + 0.2)  # what came since the last note would be forgotten
        gateway.servers[-1].kill()
    assert gateway.sweep() == 0, "its lease has not ended"
    (hold,) = gateway.holds(customer.wallet)
    return str(hold["id"])


def test_a_killed_stream_is_charged_for_what_had_come(breakable: Gateway, upstream: Upstream) -> None:
    customer = breakable.customer()
    script = scripts.stalling_after(3)
    killed_in(breakable, upstream, customer, script, after=b"Hello", stream=True)
    assert breakable.sweep(later=120) == 1
    assert breakable.sweep(later=120) == 0
    (call,) = breakable.calls(customer.key)
    assert (call["state"], call["usage_source"], call["channel"]) == ("lost", "partial", "main")
    assert 0 < call["cost"] < call["held"]
    assert call["usage"]["output"] > 0
    assert [(attempt["channel"], attempt["outcome"]) for attempt in call["attempts"]] == [("main", "lost")]
    assert breakable.spent(customer) == call["cost"]
    assert breakable.audit() == []


def test_a_killed_stream_is_charged_for_what_was_reported_and_for_the_output_that_came_since(
    breakable: Gateway, upstream: Upstream
) -> None:
    customer = breakable.customer()
    told = {"prompt_tokens": 20, "completion_tokens": 0, "total_tokens": 20}
    first = scripts.event(scripts.delta("m", {"role": "assistant", "content": ""}, usage=told))
    words = scripts.event(scripts.delta("m", {"content": "Hello, dear world, how are you"}))
    killed_in(breakable, upstream, customer, scripts.stalling_after([first, words]), after=b"Hello", stream=True)
    assert breakable.sweep(later=120) == 1
    (call,) = breakable.calls(customer.key)
    assert (call["state"], call["usage_source"], call["usage"]["input"]) == ("lost", "partial", 20)
    assert 5 <= call["usage"]["output"] <= 20
    assert call["cost"] == 20 * 1000 + call["usage"]["output"] * 2000 == breakable.spent(customer)
    assert breakable.audit() == []


def test_what_a_killed_call_cost_us_is_known_by_the_card_that_it_began_with(
    breakable: Gateway, upstream: Upstream
) -> None:
    customer = breakable.customer()
    breakable.model("costly", {"input": "1", "output": "2"}, max_output=1000)
    costs = {"costly": {"input": "0.5", "output": "1"}}  # half of what the customer pays
    breakable.channel("costly", upstream.url, {"costly": "up-costly"}, costs=costs)
    killed_in(breakable, upstream, customer, scripts.stalling_after(3), after=b"Hello", stream=True, model="costly")
    with breakable.inside():
        Channel.objects.filter(name="costly").update(costs={"costly": {"input": "7", "output": "7"}})
    assert breakable.sweep(later=120) == 1
    (call,) = breakable.calls(customer.key)
    (attempt,) = call["attempts"]
    assert (attempt["outcome"], attempt["usage"]) == ("lost", call["usage"])
    assert attempt["cost"] * 2 == call["cost"] > 0
    assert breakable.audit() == []


def test_a_killed_stream_whose_usage_had_been_reported_is_charged_exactly_that(
    breakable: Gateway, upstream: Upstream
) -> None:
    customer = breakable.customer()
    events = scripts.chunks("up-chat")[:-1]
    script = scripts.stalling_after([*events[:-2], events[-1], events[-2]])  # the usage comes before the end
    killed_in(breakable, upstream, customer, script, after=b"world", stream=True)
    assert breakable.sweep(later=120) == 1
    (call,) = breakable.calls(customer.key)
    assert (call["state"], call["usage"], call["cost"]) == ("lost", {"input": 100, "output": 50}, 200_000)
    assert breakable.audit() == []


def test_a_killed_call_that_was_sent_and_not_answered_waits_for_an_administrator(
    breakable: Gateway, upstream: Upstream
) -> None:
    customer = breakable.customer()
    killed_in(breakable, upstream, customer, scripts.silence)
    assert breakable.sweep(later=120) == 1
    (hold,) = breakable.holds(customer.wallet)
    assert (hold["state"], breakable.calls(customer.key)) == ("review", [])
    assert "main" in hold["note"]
    assert breakable.wallet(customer.wallet)["held"] == hold["amount"] > 0
    assert breakable.sweep(later=120) == 0
    assert breakable.audit() == []
    with breakable.inside():
        row = Hold.objects.get(pk=hold["id"])
        recovery.resolve(hold=row, charged=1234, actor="root", reason="the provider's bill has it")
        with pytest.raises(recovery.NotInReview):
            recovery.resolve(hold=row, charged=0, actor="root", reason="twice")
    (call,) = breakable.calls(customer.key)
    assert (call["state"], call["cost"], call["lines"][0]["bucket"]) == ("lost", 1234, "review")
    assert breakable.holds(customer.wallet)[0]["state"] == "settled"
    assert "root: the provider's bill has it" in breakable.holds(customer.wallet)[0]["note"]
    assert breakable.wallet(customer.wallet)["balance"] == 10 * 10**9 - 1234
    assert breakable.audit() == []


def test_a_killed_call_is_charged_nothing_for_an_answer_that_had_broken_off_and_names_who_was_asked_after(
    breakable: Gateway, upstream: Upstream
) -> None:
    """The first channel is down with both of its credentials, and the second one's first answer broke off."""
    customer = breakable.customer()
    with breakable.inside():
        for name in ("first", "second"):
            services.add_credentials(Channel.objects.get(name=name), [f"sk-{name}-another"])
    breakable.start()
    name = upstream.play(scripts.in_turn(scripts.error(500), scripts.half_a_body, scripts.silence))
    with client.open_socket(breakable.url, customer.token, {"x_script": name, "model": "two-channels"}):
        eventually(lambda: len(upstream.served(name)) == 3)
        time.sleep(holds.NOTE_EVERY + 0.2)
        breakable.servers[-1].kill()
    assert breakable.sweep() == 0, "its lease has not ended"
    assert breakable.sweep(later=120) == 1
    (hold,) = breakable.holds(customer.wallet)
    assert (hold["state"], breakable.calls(customer.key)) == ("review", [])
    assert hold["note"].startswith("sent to second,")


def test_a_call_that_an_administrator_gives_back_costs_nothing(breakable: Gateway, upstream: Upstream) -> None:
    customer = breakable.customer()
    killed_in(breakable, upstream, customer, scripts.silence)
    breakable.sweep(later=120)
    with breakable.inside():
        row = Hold.objects.get()
        for amount, reason in ((-1, "x"), (row.amount + 1, "x"), (0, " ")):
            with pytest.raises(ValueError):
                recovery.resolve(hold=row, charged=amount, actor="root", reason=reason)
        recovery.resolve(hold=row, charged=0, actor="root", reason="never reached the provider")
    (call,) = breakable.calls(customer.key)
    assert (call["state"], call["cost"]) == ("lost", 0)
    assert breakable.holds(customer.wallet)[0]["state"] == "voided"
    assert breakable.wallet(customer.wallet)["balance"] == 10 * 10**9
    assert breakable.audit() == []


def test_a_hold_that_its_dead_owner_never_sent_anywhere_is_given_back(breakable: Gateway) -> None:
    customer = breakable.customer()
    with breakable.inside(), override_settings(VAR_DIR=breakable.folder):
        owner = Journal().open()
        price = PriceVersion.objects.filter(model__name="chat").get()
        opening = OpenHold(
            ids.uuid7(), customer.wallet, 500, 500, price.pk, (), {}, owner, 45.0, dt.datetime.now(dt.UTC)
        )
        with transaction.atomic():
            connections.run_in_transaction([opening], revenue=ledger.revenue_account())
    assert breakable.sweep(later=120) == 1
    assert breakable.holds(customer.wallet)[0]["state"] == "voided"
    assert breakable.wallet(customer.wallet)["balance"] == 10 * 10**9


def test_a_hold_of_which_nobody_knows_anything_waits_for_an_administrator(
    breakable: Gateway, upstream: Upstream
) -> None:
    """Its machine is gone with its journal, and it lived for less than a renewal."""
    customer = breakable.customer()
    killed_in(breakable, upstream, customer, scripts.endless(), after=b"word", stream=True)
    for journal in (breakable.folder / "journals").iterdir():
        journal.unlink()
    assert breakable.sweep(later=120) == 1
    assert breakable.holds(customer.wallet)[0]["state"] == "review"
    assert breakable.wallet(customer.wallet)["held"] > 0


def test_a_sweep_takes_nothing_that_is_renewed_after_it_was_suspected(breakable: Gateway, upstream: Upstream) -> None:
    """The clock was set forward, or the database was away for longer than a lease: the process lives."""
    customer = breakable.customer()
    breakable.start()
    with client.open_socket(
        breakable.url, customer.token, {"stream": True, "x_script": upstream.play(scripts.endless())}
    ):
        eventually(lambda: breakable.holds(customer.wallet))
        with breakable.inside():
            Hold.objects.update(lease_until=timezone.now() - dt.timedelta(minutes=1))
        assert breakable.sweep() == 0
        (hold,) = breakable.holds(customer.wallet)
        assert (hold["state"], hold["suspected_at"] is not None) == ("dispatched", True)
        eventually(lambda: breakable.holds(customer.wallet)[0]["suspected_at"] is None, within=25)
        assert breakable.sweep() == 0
    eventually(lambda: breakable.calls(customer.key))
    assert breakable.calls(customer.key)[0]["state"] == "left"
    assert breakable.audit() == []


def test_journals_of_processes_that_have_ended_are_deleted_once_nothing_needs_them(
    breakable: Gateway, upstream: Upstream
) -> None:
    customer = breakable.customer()
    killed_in(breakable, upstream, customer, scripts.silence)
    folder = breakable.folder / "journals"
    assert len(list(folder.iterdir())) == 1
    breakable.sweep(later=120)
    assert list(folder.iterdir()) == []
    breakable.start()
    assert client.chat(breakable.servers[-1].url, customer.token).status_code == 200
    breakable.sweep()
    assert len(list(folder.iterdir())) == 1, "its process lives"


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


def test_a_call_whose_process_died_is_drawn_from_its_plans_as_it_was_reserved(
    breakable: Gateway, upstream: Upstream
) -> None:
    breakable.start()
    member = breakable.customer(credit="1", payment="plan")
    credit = payment_types.buy(breakable, member, value=1_000_000)
    calls = payment_types.buy(breakable, member, kind="calls", calls=1, value=77, models=["per-call"])
    for model in ("per-call", "chat"):
        script = {"model": model, "stream": True, "x_script": upstream.play(scripts.endless())}
        with client.open_socket(breakable.servers[-1].url, member.token, script) as connection:
            received = b""
            while b"data:" not in received:
                received += connection.recv(65536)
            time.sleep(holds.NOTE_EVERY + 0.2)  # what came since the last note would be forgotten
            breakable.servers[-1].kill()
        breakable.start()
    breakable.sweep(later=120)
    assert breakable.wallet(calls)["held"] == breakable.wallet(credit)["held"] == 0
    assert payment_types.left(breakable, calls) == 0
    assert 0 < payment_types.left(breakable, credit) < 1_000_000
    assert payment_types.left(breakable, member.wallet) == 10**9
    assert breakable.audit() == []
