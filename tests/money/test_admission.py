"""Exactly what can be paid is let in, however many ask at once and on however many processes."""

from collections import Counter

import pytest

from tests.kit import load, scripts
from tests.kit.gateway import Gateway
from tests.kit.upstream import Upstream

CALLS = 200
PRICE = 10_000_000  # nano-units of `per-call`


def admitted(
    gateway: Gateway, upstream: Upstream, urls: list[str], *, wallet: str, exactly: int, **spec: object
) -> None:
    poor = gateway.customer(credit=wallet, **spec)
    script = upstream.play(scripts.whole(after=0.7))
    seen = load.at_once(urls, poor.token, CALLS, model="per-call", x_script=script)
    counts = Counter((call.status, call.code) for call in seen)
    assert counts == Counter({(200, ""): exactly, (403, "insufficient_user_quota"): CALLS - exactly})
    assert len(upstream.served(script)) == exactly
    assert gateway.spent(poor) == exactly * PRICE
    assert gateway.wallet(poor.wallet)["held"] == 0
    assert len(gateway.holds(poor.wallet)) == exactly
    assert gateway.audit() == []


def test_two_hundred_at_once_on_a_wallet_for_thirty_seven(gateway: Gateway, upstream: Upstream) -> None:
    admitted(gateway, upstream, [gateway.url], wallet="0.379999999", exactly=37)


def test_two_hundred_at_once_on_two_processes(pair: Gateway, upstream: Upstream) -> None:
    admitted(pair, upstream, [server.url for server in pair.servers], wallet="0.41", exactly=41)


def test_two_hundred_at_once_on_a_quota_for_eleven(pair: Gateway, upstream: Upstream) -> None:
    urls = [server.url for server in pair.servers]
    admitted(pair, upstream, urls, wallet="10", exactly=11, quota=11 * PRICE + PRICE - 1)


@pytest.mark.parametrize("credit", ["0", "0.009999999"])
def test_a_wallet_that_cannot_pay_for_one_lets_nobody_in(gateway: Gateway, upstream: Upstream, credit: str) -> None:
    admitted(gateway, upstream, [gateway.url], wallet=credit, exactly=0)


def test_metered_calls_at_once_never_take_the_wallet_below_zero(pair: Gateway, upstream: Upstream) -> None:
    poor = pair.customer(credit="0.004")
    script = upstream.play(scripts.whole(after=0.05, usage={"prompt_tokens": 30, "completion_tokens": 16}))
    urls = [server.url for server in pair.servers]
    seen = load.at_once(urls, poor.token, CALLS, x_script=script, max_tokens=200)
    complete = [call for call in seen if call.complete]
    assert {call.status for call in seen} <= {200, 403}
    assert complete
    assert pair.spent(poor) == len(complete) * (30 * 1000 + 16 * 2000)
    wallet = pair.wallet(poor.wallet)
    assert (wallet["held"], wallet["frozen"]) == (0, "")
    assert wallet["balance"] >= 0
    assert pair.audit() == []
