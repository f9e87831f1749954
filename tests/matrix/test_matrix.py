"""Every client's protocol to every upstream's, whole and streamed, with the official SDKs: 4 × 4 × cases, twice over,
in Python and in Node.

`make matrix` prints the table. A cell is n/a only where the client's protocol has no words for the question.
"""

import copy
import tempfile
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import anthropic
import msgspec
import pytest
import requests

from tests.kit import node
from tests.kit.gateway import Customer, Gateway
from tests.kit.ports import eventually
from tests.matrix import again, clients, node_clients, table
from tests.matrix.cases import ANSWER, CASES, SIGNED, Case
from tests.matrix.neutral import Ask, Outcome, Plan, Turn, Usage
from tests.matrix.server import Providers
from tests.matrix.views import view

PROTOCOLS = ("openai", "responses", "anthropic", "gemini")
# The clients' names, each with its protocol.
CLIENTS = {protocol: protocol for protocol in clients.CLIENTS} | node_clients.CLIENTS
_GPT = {"plain": "gpt-4o", "thinking": "gpt-5.1", "hearing": "gpt-4o-audio-preview", "caching": "gpt-5.6"}
_CLAUDE = dict.fromkeys(("plain", "thinking", "hearing", "caching"), "claude-sonnet-4-5")
_GEMINI = dict.fromkeys(("plain", "hearing", "caching"), "gemini-2.5-flash") | {"thinking": "gemini-3-flash"}
MODELS = {"openai": _GPT, "responses": _GPT, "anthropic": _CLAUDE, "gemini": _GEMINI}
PRICE = {"input": "1", "cache_read": "0.5", "output": "2"}


@pytest.fixture(scope="session")
def providers() -> Iterator[Providers]:
    plans = {f"{case.name}": case.plan for case in CASES} | {"again": Plan(text=ANSWER)}
    server = Providers(plans | {"unreported": Plan(text=ANSWER, reports=False)}).start()
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
        for streams in ("only", "never"):
            served = {f"{name}-{streams}": upstream for name, upstream in offered.items()}
            for name in served:
                found.model(name, PRICE, max_output=8000)
            capabilities = {name: {"streams": streams} for name in served}
            found.channel(
                f"{protocol}-{streams}", providers.base(protocol), served, protocol=protocol, capabilities=capabilities
            )
    found.start()
    yield found
    found.stop()


@pytest.fixture(scope="session")
def payer(installation: Gateway) -> Customer:
    return installation.customer()


Sdk = Callable[..., Outcome]  # clients.ask, and with `before` again.ask


def python_sdk(
    protocol: str, url: str, token: str, model: str, question: Ask, *, stream: bool, before: Outcome | None = None
) -> Outcome:
    if before is None:
        return clients.ask(protocol, url, token, model, question, stream=stream)
    return again.ask(protocol, url, token, model, question, before, stream=stream)


@pytest.fixture(scope="session")
def node_sdk() -> Iterator[Sdk]:
    program = node.program(node_clients.FOLDER)
    with tempfile.TemporaryFile("w+") as complaints:
        process = node_clients.Node(program, complaints)
        yield process.ask
        process.stop()


@pytest.fixture
def sdk(client: str, request: pytest.FixtureRequest) -> Sdk:
    """The cell's client. Without Node, only its own cells are left out."""
    found: Sdk = request.getfixturevalue("node_sdk") if client in node_clients.CLIENTS else python_sdk
    return found


def sayable(protocol: str, case: Case) -> bool:
    """Whether the protocol's SDKs have words for the case."""
    try:
        clients.try_to_say(protocol, case.ask)
    except clients.Unsayable:
        return False
    return True


CELLS = [
    pytest.param(
        client, upstream, case, stream, id=f"{client}-{upstream}-{case.name}-{'stream' if stream else 'whole'}"
    )
    for client, protocol in CLIENTS.items()
    for upstream in PROTOCOLS
    for case in CASES
    for stream in (False, True)
    if sayable(protocol, case)
]


@pytest.mark.parametrize(("client", "upstream", "case", "stream"), CELLS)
def test_every_client_speaks_with_every_upstream(
    client: str,
    upstream: str,
    case: Case,
    stream: bool,
    sdk: Sdk,
    installation: Gateway,
    payer: Customer,
    providers: Providers,
) -> None:
    with table.cell(client, upstream, case.name, stream=stream):
        _play(sdk, CLIENTS[client], upstream, case, stream, installation, payer, providers)


def _play(
    sdk: Sdk,
    client: str,
    upstream: str,
    case: Case,
    stream: bool,
    gateway: Gateway,
    payer: Customer,
    providers: Providers,
    *,
    passed: bool | None = None,
    other: str = "",
) -> None:
    """`client` is its protocol; `other` what the model's name ends in that is not the usual one; `passed` whether the
    client's bytes go through, which otherwise is where client and upstream speak the same."""
    model = f"{upstream}-{case.kind}{other}"
    providers.plans[case.name] = msgspec.structs.replace(
        case.plan, signature=case.plan.signature.replace("{signed}", SIGNED[upstream])
    )
    asked = _located(case.ask, providers)
    already, paid = len(providers.of(case.name)), gateway.spent(payer)
    outcome = sdk(client, gateway.url, payer.token, model, asked, stream=stream)
    came = providers.of(case.name)[already:]
    if upstream in case.refused:
        assert (outcome.error, came) == (400, []), outcome
        assert gateway.spent(payer) == paid
        return
    assert not outcome.error, outcome.text
    (seen,) = came
    case.asked(msgspec.structs.replace(view(seen), passed=client == upstream if passed is None else passed), upstream)
    case.got(outcome, client, upstream)
    assert outcome.model == model
    assert seen.body.get("model", MODELS[upstream][case.kind]) == MODELS[upstream][case.kind]
    assert outcome.usage is not None
    assert (outcome.usage.input, outcome.usage.output) == (case.plan.usage.input, case.plan.usage.output)
    eventually(lambda: gateway.spent(payer) == paid + _price(case.plan.usage))
    if case.again is not None:
        outcome = sdk(client, gateway.url, payer.token, model, asked, stream=stream, before=outcome)
        assert outcome.text == ANSWER, outcome
        case.again(view(providers.of("again")[-1]), upstream, client)


@pytest.mark.parametrize("name", ["text", "tools-parallel", "json-schema", "usage", "thoughts", "thoughts-and-tool"])
@pytest.mark.parametrize("streams", ["only", "never"])
@pytest.mark.parametrize("upstream", PROTOCOLS)
@pytest.mark.parametrize("client", PROTOCOLS)
def test_a_client_gets_a_stream_or_none_as_it_asks_whatever_the_upstream_does(
    client: str, upstream: str, streams: str, name: str, installation: Gateway, payer: Customer, providers: Providers
) -> None:
    case = next(case for case in CASES if case.name == name)
    stream = streams == "never"
    _play(python_sdk, client, upstream, case, stream, installation, payer, providers, passed=False, other=f"-{streams}")
    asked = providers.of(name)[-1]
    asked_to_stream = asked.body.get("stream") is True or ":streamGenerateContent" in asked.path
    assert asked_to_stream is (streams == "only")


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("upstream", PROTOCOLS)
@pytest.mark.parametrize("client", PROTOCOLS)
def test_usage_that_the_gateway_counted_is_what_the_client_is_told(
    client: str, upstream: str, stream: bool, installation: Gateway
) -> None:
    customer = installation.customer()
    question = Ask([Turn("user", "[[unreported]] What is the answer?")])
    outcome = python_sdk(client, installation.url, customer.token, f"{upstream}-plain", question, stream=stream)
    (call,) = eventually(lambda: installation.calls(customer.key))
    assert call["usage_source"] == "counted"
    assert outcome.usage is not None
    told = {"input": outcome.usage.input, "output": outcome.usage.output}
    assert told == call["usage"]
    assert min(told.values()) > 0


@pytest.mark.parametrize("strict", [False, True], ids=["dropping", "strict"])
def test_a_turn_that_another_vendor_s_model_began_goes_on_without_thinking_and_says_so(
    strict: bool, installation: Gateway, payer: Customer, providers: Providers
) -> None:
    """Anthropic refuses calls without a thought before them while it is to think by a budget."""
    thought = {"type": "thinking", "thinking": "hm", "signature": "pisces.o.Cg=="}
    body = {
        "model": "anthropic-thinking",
        "max_tokens": 3000,
        "thinking": {"type": "enabled", "budget_tokens": 1024},
        "tools": [{"name": "f", "input_schema": {"type": "object"}}],
        "messages": [
            {"role": "user", "content": "[[again]] Go on."},
            {"role": "assistant", "content": [thought, {"type": "tool_use", "id": "a", "name": "f", "input": {}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a", "content": "r"}]},
        ],
    }
    already = len(providers.of("again"))
    headers = {"x-api-key": payer.token, "X-Pisces-Strict": str(strict).lower()}
    answer = requests.post(f"{installation.url}/v1/messages", json=body, headers=headers, timeout=30)
    came = providers.of("again")[already:]
    if strict:
        assert (answer.status_code, came) == (400, [])
        return
    assert answer.json()["pisces"]["dropped"] == ["thinking"]
    assert "thinking" not in came[0].body
    assert [block["type"] for block in came[0].body["messages"][1]["content"]] == ["tool_use"]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("upstream", PROTOCOLS)
def test_anthropic_s_tool_runner_goes_on_without_a_thread(
    upstream: str, stream: bool, installation: Gateway, payer: Customer, providers: Providers
) -> None:
    """By itself it would have a provider keep the conversation, and send only what is new of it."""

    @anthropic.beta_tool
    def get_weather(city: str) -> str:
        """The weather in a city."""
        return f"4 degrees in {city} [[again]]"

    already = len(providers.seen)
    with anthropic.Anthropic(base_url=installation.url, api_key=payer.token, max_retries=0) as sdk:
        runner = sdk.beta.messages.tool_runner(
            model=f"{upstream}-plain",
            max_tokens=1000,
            system="Be short.",
            tools=[get_weather],
            messages=[{"role": "user", "content": "[[tool]] What is the weather?"}],
            stream=stream,
        )
        (said,) = runner.until_done().content
    assert said.type == "text"
    assert said.text == ANSWER
    asked, answered = (view(seen) for seen in providers.seen[already:])
    assert (asked.system, answered.system) == ("Be short.", "Be short.")
    assert answered.texts[: len(asked.texts)] == asked.texts
    assert (answered.calls, answered.results[0][1]) == (
        [("get_weather", {"city": "Oslo"})],
        "4 degrees in Oslo [[again]]",
    )


KEEPING = [  # whose SDK brings the signature of a thought or a call back to its vendor
    *((client, upstream) for client in PROTOCOLS for upstream in ("responses", "anthropic")),
    ("openai", "gemini"),
    ("gemini", "gemini"),
]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(("client", "upstream"), KEEPING)
def test_a_provider_that_cannot_read_a_conversation_s_thoughts_is_asked_once_more_without_them(
    client: str, upstream: str, stream: bool, installation: Gateway, providers: Providers
) -> None:
    """Pitfall 18: as after the conversation has moved from one account of a vendor's to another."""
    case = next(case for case in CASES if case.name == "thoughts-and-tool")
    plan = msgspec.structs.replace(case.plan, signature=SIGNED[upstream])
    providers.plans[case.name] = plan
    model = f"{upstream}-{case.kind}"
    customer = installation.customer()
    before = python_sdk(client, installation.url, customer.token, model, case.ask, stream=stream)
    already = len(providers.of("again"))
    providers.unread.add(plan.signature)
    try:
        outcome = python_sdk(client, installation.url, customer.token, model, case.ask, stream=stream, before=before)
    finally:
        providers.unread.clear()
    assert outcome.text == ANSWER, outcome
    refused, answered = providers.of("again")[already:]
    assert view(refused).signatures == [plan.signature]
    found = view(answered)
    assert found.calls == [("get_weather", {"city": "Oslo"})]
    assert found.signatures == (["skip_thought_signature_validator"] if upstream == "gemini" else [])
    assert upstream != "anthropic" or not found.thinks, "it may not go on thinking where no thought has begun the turn"
    (call,) = eventually(lambda: installation.calls(customer.key)[1:])
    assert (call["state"], [one["outcome"] for one in call["attempts"]]) == ("settled", ["complete"])


@pytest.mark.parametrize(
    ("content", "headers", "times"),
    [
        ([{"type": "thinking", "thinking": "hm", "signature": SIGNED["anthropic"]}], {}, 2),
        ([{"type": "thinking", "thinking": "hm", "signature": SIGNED["anthropic"]}], {"X-Pisces-Strict": "true"}, 1),
        ([{"type": "text", "text": SIGNED["anthropic"]}], {}, 1),
    ],
    ids=["refused again", "strict", "without thoughts"],
)
def test_what_a_provider_refuses_for_its_thoughts_is_told_where_asking_without_them_does_not_help(
    content: list[Any],
    headers: dict[str, str],
    times: int,
    installation: Gateway,
    payer: Customer,
    providers: Providers,
) -> None:
    body = {
        "model": "anthropic-plain",
        "max_tokens": 100,
        "messages": [
            {"role": "user", "content": "Hi."},
            {"role": "assistant", "content": [*content, {"type": "text", "text": "Hello."}]},
            {"role": "user", "content": f"[[again]] {SIGNED['anthropic']}"},
        ],
    }
    already, spent = len(providers.of("again")), installation.spent(payer)
    providers.unread.add(SIGNED["anthropic"])
    try:
        answer = requests.post(
            f"{installation.url}/v1/messages", json=body, headers={"x-api-key": payer.token, **headers}, timeout=30
        )
    finally:
        providers.unread.clear()
    assert (answer.status_code, len(providers.of("again")) - already) == (400, times)
    assert "Invalid `signature`" in answer.json()["error"]["message"]
    assert installation.spent(payer) == spent


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
