"""Every client's protocol to every upstream's, whole and streamed, with the official SDKs: 4 × 4 × cases.

`make matrix` prints the table. A cell is n/a only where the client's protocol has no words for the question.
"""

import copy
from collections.abc import Iterator
from decimal import Decimal

import msgspec
import pytest

from tests.kit.gateway import Customer, Gateway
from tests.kit.ports import eventually
from tests.matrix import again, clients, table
from tests.matrix.cases import ANSWER, CASES, SIGNED, Case
from tests.matrix.clients import CLIENTS
from tests.matrix.neutral import Ask, Plan, Usage
from tests.matrix.server import Providers
from tests.matrix.views import view

PROTOCOLS = ("openai", "responses", "anthropic", "gemini")
_GPT = {"plain": "gpt-4o", "thinking": "gpt-5.1", "hearing": "gpt-4o-audio-preview", "caching": "gpt-5.6"}
_CLAUDE = dict.fromkeys(("plain", "thinking", "hearing", "caching"), "claude-sonnet-4-5")
_GEMINI = dict.fromkeys(("plain", "hearing", "caching"), "gemini-2.5-flash") | {"thinking": "gemini-3-flash"}
MODELS = {"openai": _GPT, "responses": _GPT, "anthropic": _CLAUDE, "gemini": _GEMINI}
PRICE = {"input": "1", "cache_read": "0.5", "output": "2"}


@pytest.fixture(scope="session")
def providers() -> Iterator[Providers]:
    plans = {f"{case.name}": case.plan for case in CASES} | {"again": Plan(text=ANSWER)}
    server = Providers(plans).start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def installation(providers: Providers) -> Iterator[Gateway]:
    """One gateway with a channel for each protocol, named after it."""
    found = Gateway("sqlite", FETCH_FROM=providers.address)
    for protocol, models in MODELS.items():
        offered = {f"{protocol}-{kind}": name for kind, name in models.items()}
        for name in offered:
            found.model(name, PRICE, max_output=8000)
        found.channel(protocol, providers.base(protocol), offered, protocol=protocol, secret=f"sk-{protocol}-0001")
    found.start()
    yield found
    found.stop()


@pytest.fixture(scope="session")
def payer(installation: Gateway) -> Customer:
    return installation.customer()


def sayable(client: str, case: Case) -> bool:
    """Whether the client's SDK has words for the case."""
    try:
        clients.try_to_say(client, case.ask)
    except clients.Unsayable:
        return False
    return True


CELLS = [
    pytest.param(
        client, upstream, case, stream, id=f"{client}-{upstream}-{case.name}-{'stream' if stream else 'whole'}"
    )
    for client in CLIENTS
    for upstream in PROTOCOLS
    for case in CASES
    for stream in (False, True)
    if sayable(client, case)
]


@pytest.mark.parametrize(("client", "upstream", "case", "stream"), CELLS)
def test_every_client_speaks_with_every_upstream(
    client: str, upstream: str, case: Case, stream: bool, installation: Gateway, payer: Customer, providers: Providers
) -> None:
    with table.cell(client, upstream, case.name, stream=stream):
        _play(client, upstream, case, stream, installation, payer, providers)


def _play(
    client: str, upstream: str, case: Case, stream: bool, gateway: Gateway, payer: Customer, providers: Providers
) -> None:
    model = f"{upstream}-{case.kind}"
    providers.plans[case.name] = msgspec.structs.replace(
        case.plan, signature=case.plan.signature.replace("{signed}", SIGNED[upstream])
    )
    asked = _located(case.ask, providers)
    already, paid = len(providers.of(case.name)), gateway.spent(payer)
    outcome = clients.ask(client, gateway.url, payer.token, model, asked, stream=stream)
    came = providers.of(case.name)[already:]
    if upstream in case.refused:
        assert (outcome.error, came) == (400, []), outcome
        assert gateway.spent(payer) == paid
        return
    assert not outcome.error, outcome.text
    (seen,) = came
    case.asked(msgspec.structs.replace(view(seen), passed=client == upstream), upstream)
    case.got(outcome, client, upstream)
    assert outcome.model == model
    assert seen.body.get("model", MODELS[upstream][case.kind]) == MODELS[upstream][case.kind]
    assert outcome.usage is not None
    assert (outcome.usage.input, outcome.usage.output) == (case.plan.usage.input, case.plan.usage.output)
    eventually(lambda: gateway.spent(payer) == paid + _price(case.plan.usage))
    if case.again is not None:
        outcome = again.ask(client, gateway.url, payer.token, model, asked, outcome, stream=stream)
        assert outcome.text == ANSWER, outcome
        case.again(view(providers.of("again")[-1]), upstream, client)


def _price(usage: Usage) -> int:
    """Nano-units: what the call is worth by its disjoint buckets."""
    units = (usage.input - usage.cached) * Decimal(PRICE["input"]) + usage.cached * Decimal(PRICE["cache_read"])
    return int((units + usage.output * Decimal(PRICE["output"])) * 1000)


def _located(ask: Ask, providers: Providers) -> Ask:
    """With the address of the files in it."""
    found = copy.deepcopy(ask)
    for turn in found.turns:
        turn.file_url = turn.file_url.replace("{files}", f"http://{providers.address}")
        for picture in turn.pictures:
            picture.url = picture.url.replace("{files}", f"http://{providers.address}")
    return found
