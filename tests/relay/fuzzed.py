"""An installation that speaks to providers of every kind, for whatever somebody sends: its gateway and its cast."""

from collections.abc import Iterator

import pytest

from tests.kit import databases, plausible, soak
from tests.kit.gateway import Customer, Gateway
from tests.kit.plugin import PRICE
from tests.kit.ports import eventually
from tests.kit.upstream import Upstream

CHATS = tuple(f"to-{protocol}" for protocol in plausible.PROTOCOLS)
# The model of a route that does not chat.
MODELS = {"embeddings": ("embed-openai", "embed-gemini"), "rerank": ("rank",), "moderations": ("judge",)}
KINDS = databases.KINDS if soak.on() else databases.KINDS[:1]


@pytest.fixture(scope="module")
def provider() -> Iterator[Upstream]:
    server = Upstream(plausible.script).start()
    yield server
    server.stop()


@pytest.fixture(scope="module", params=KINDS)
def everything(request: pytest.FixtureRequest, provider: Upstream) -> Iterator[Gateway]:
    """A gateway with a chat model for each protocol of a provider, and one of every other kind."""
    installation = Gateway(request.param)
    for protocol in plausible.PROTOCOLS:
        installation.model(f"to-{protocol}", PRICE, max_output=1000)
        served = {f"to-{protocol}": f"up-{protocol}"}
        others = {"openai": ("embed-openai", "rank", "judge"), "gemini": ("embed-gemini",)}.get(protocol, ())
        served |= {name: f"up-{name}" for name in others}
        installation.channel(protocol, plausible.base(provider, protocol), served, protocol=protocol)
    for name, kind in (("embed-openai", "embedding"), ("embed-gemini", "embedding"), ("rank", "rerank")):
        installation.model(name, PRICE, kind=kind)
    installation.model("judge", PRICE, kind="moderation")
    installation.start()
    yield installation
    assert installation.audit() == []
    installation.stop()


@pytest.fixture
def stranger(everything: Gateway) -> Iterator[Customer]:
    """Somebody with money, who may send anything. Whatever it was, the books are whole, and errors cost nothing."""
    made = everything.customer("1000000")
    before = len(everything.servers[0].log())
    yield made
    log = everything.servers[0].log()[before:]
    assert "relay.defect" not in log, log[log.index("relay.defect") :][-6000:]
    eventually(lambda: everything.wallet(made.wallet)["held"] == 0)
    calls = everything.calls(made.key)
    assert [call for call in calls if call["status"] != 200 and call["cost"]] == []
    assert everything.spent(made) == sum(call["cost"] for call in calls)
    assert everything.audit_of(made.team) == []
