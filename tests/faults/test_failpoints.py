"""A process that dies at a named place: what the sweep makes of its call, and what a client that asks again gets."""

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import requests

from billing import failpoints
from tests.kit import client, databases, scripts, soak
from tests.kit.gateway import Customer, Gateway, Server
from tests.kit.ports import eventually
from tests.kit.upstream import Upstream

COST = 200_000
ASKED_AGAIN = {"Idempotency-Key": "the-one-call"}


def call(url: str, token: str, script: str, *, streamed: bool) -> requests.Response:
    return client.chat(url, token, stream=streamed, headers=ASKED_AGAIN, x_script=script)


def dies(server: Server, customer: Customer, script: str, *, streamed: bool) -> None:
    """One call to a server that dies of it."""
    with pytest.raises(requests.RequestException):
        call(server.url, customer.token, script, streamed=streamed)
    assert eventually(lambda: server.process.poll() is not None)
    assert server.process.returncode == -9


def the_call(gateway: Gateway, customer: Customer) -> tuple[dict[str, Any], dict[str, Any]]:
    """Its hold, and its record if it has one."""
    (hold,) = gateway.holds(customer.wallet)
    calls = gateway.calls(customer.key)
    return hold, calls[0] if calls else {}


def given_back(gateway: Gateway, customer: Customer) -> None:
    hold, call = the_call(gateway, customer)
    assert (hold["state"], call["state"], call["cost"]) == ("voided", "lost", 0)
    assert gateway.wallet(customer.wallet)["balance"] == 10 * 10**9


def in_review(gateway: Gateway, customer: Customer) -> None:
    hold, call = the_call(gateway, customer)
    assert (hold["state"], call) == ("review", {})
    assert gateway.wallet(customer.wallet)["held"] == hold["amount"] > 0


def counted(gateway: Gateway, customer: Customer) -> None:
    hold, call = the_call(gateway, customer)
    assert (hold["state"], call["state"], call["usage_source"]) == ("settled", "lost", "partial")
    assert 0 < call["cost"] == gateway.spent(customer) <= call["held"]


def charged_in_full(gateway: Gateway, customer: Customer) -> None:
    hold, call = the_call(gateway, customer)
    assert (hold["state"], call["cost"], gateway.spent(customer)) == ("settled", COST, COST)


Verdict = Callable[[Gateway, Customer], None]
WHOLE: dict[str, Verdict] = {
    "after_hold_commit": given_back,
    "before_dispatch": in_review,
    "after_first_byte": counted,
    "before_settle_commit": charged_in_full,
    "after_commit_before_reply": charged_in_full,
    "after_store_answer": charged_in_full,
}
STREAMED: dict[str, Verdict] = {**WHOLE, "mid_stream:2": counted}


def test_every_failpoint_has_its_test() -> None:
    assert {name.partition(":")[0] for name in (*WHOLE, *STREAMED)} == failpoints.NAMES


def dies_everywhere(gateway: Gateway, upstream: Upstream, *, streamed: bool) -> None:
    """A server and a customer for each failpoint. Then the sweep comes, twice, and somebody asks again."""
    verdicts = STREAMED if streamed else WHOLE
    script = upstream.play(scripts.stream(pause=0.4) if streamed else scripts.whole())
    servers = gateway.start_each(*({"FAILPOINT": where, "FAILPOINTS_ALLOWED": "1"} for where in verdicts))
    customers = [gateway.customer() for _ in verdicts]
    for server, customer in zip(servers, customers, strict=True):
        dies(server, customer, script, streamed=streamed)
    gateway.servers.clear()
    gateway.sweep(later=3600)
    for customer, verdict in zip(customers, verdicts.values(), strict=True):
        verdict(gateway, customer)
    before = [gateway.spent(customer) for customer in customers]
    assert gateway.sweep(later=3600) == 0
    assert [gateway.spent(customer) for customer in customers] == before
    assert gateway.audit() == []
    paid = customers[list(verdicts).index("after_store_answer")]
    answer = call(gateway.start().url, paid.token, script, streamed=streamed)
    assert (answer.status_code, answer.headers["Idempotent-Replayed"]) == (200, "true")
    assert '"cost":"0.0002"' in answer.text
    assert gateway.spent(paid) == COST


@pytest.mark.parametrize("breakable", ["postgres"], indirect=True)
def test_a_call_whose_process_died_anywhere_costs_what_it_should(breakable: Gateway, upstream: Upstream) -> None:
    dies_everywhere(breakable, upstream, streamed=False)


@pytest.mark.soak
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_a_call_whose_process_died_anywhere_on_both_databases(
    breakable: Gateway, upstream: Upstream, streamed: bool
) -> None:
    dies_everywhere(breakable, upstream, streamed=streamed)
    named = STREAMED if streamed else WHOLE
    soak.note(f"failpoints, {breakable.kind}, {'streamed' if streamed else 'whole'}", f"{len(named)} deaths")


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"FAILPOINT": "somewhere", "FAILPOINTS_ALLOWED": "1"}, "unknown name 'somewhere'"),
        ({"FAILPOINT": "mid_stream"}, "it is for tests"),
    ],
)
def test_a_failpoint_that_is_unknown_or_not_allowed_ends_the_start(variables: dict[str, str], said: str) -> None:
    environment = databases.environment(DATABASE_URL="sqlite://:memory:", VAR_DIR=os.environ["VAR_DIR"], **variables)
    done = subprocess.run(
        [sys.executable, "manage.py", "check"], cwd=databases.ROOT, env=environment, capture_output=True, text=True,
        check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode != 0
    assert said in done.stderr
