"""The samples that are programs, run as their readers run them. What they print is the upstream's answer."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from portal.docs import snippets
from tests.docs.conftest import Filled
from tests.kit import client
from tests.kit import node as kit_node
from tests.kit.gateway import Customer, Gateway
from tests.kit.ports import eventually
from tests.kit.services import services
from tests.kit.upstream import Exchange, Upstream

# One kind of database: what a sample says has nothing to do with it.
pytestmark = pytest.mark.parametrize("gateway", ["sqlite"], indirect=True)

PROTOCOLS = {"openai": "openai", "responses": "responses", "anthropic": "anthropic", "gemini": "gemini"}
# What each set is: whether it streams, and how many calls it makes in a language.
STREAMS = ("stream",)
TWICE = ("responses/create.py", "responses/create.mjs", "langchain/chat.py")
LISTS = "openai/models.sh"
PROGRAMS = [
    name
    for name in snippets.names()
    if name.split("/")[0] in {*PROTOCOLS, "langchain"} and name != LISTS and not name.endswith(".php")
]
PHP = [name for name in snippets.names() if name.endswith(".php")]


def run(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def command_for(path: Path, node: Callable[[], str]) -> list[str]:
    match path.suffix:
        case ".sh":
            return ["bash", "-euo", "pipefail", str(path)]
        case ".py":
            return [sys.executable, "-W", "error::DeprecationWarning:__main__", str(path)]
        case _:
            (path.parent / "node_modules").symlink_to(kit_node.FOLDER / "node_modules")
            return [node(), str(path)]


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_sample_runs_and_prints_the_answer(
    name: str,
    filled: Filled,
    gateway: Gateway,
    customer: Customer,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    path = tmp_path / f"sample{Path(name).suffix}"
    path.write_text(filled(name))
    said = run(command_for(path, lambda: request.getfixturevalue("node")), tmp_path)
    assert_answered(name, said, gateway, customer)


@pytest.mark.parametrize("name", PHP)
def test_a_sample_in_php_runs_and_prints_the_answer(
    name: str, filled: Filled, gateway: Gateway, customer: Customer, tmp_path: Path
) -> None:
    php = services.get("php").path
    path = tmp_path / "sample.php"
    path.write_text(filled(name))
    assert_answered(name, run([php, str(path)], tmp_path), gateway, customer)


def assert_answered(name: str, said: str, gateway: Gateway, customer: Customer) -> None:
    folder, _, file = name.partition("/")
    if name.endswith(".sh"):  # what curl prints is the protocol's own
        assert "Hello" in said
        assert "world" in said
    else:
        assert "Hello, world." in said
    calls = gateway.calls(customer.key)
    assert [call["state"] for call in calls] == ["settled"] * (2 if name in TWICE else 1)
    assert calls[0]["protocol"] == PROTOCOLS.get(folder, "openai")
    assert calls[0]["streamed"] is file.startswith(STREAMS)


THINKING = Path(__file__).parents[1] / "wire" / "anthropic"


async def thinks(exchange: Exchange) -> None:
    """Anthropic's model that thinks before it answers, in a block of its own, as its newest ones do unasked."""
    if exchange.json.get("stream"):
        await exchange.answer(200, (THINKING / "thinking.sse").read_bytes(), {"Content-Type": "text/event-stream"})
    else:
        await exchange.answer(200, (THINKING / "thinking.json").read_bytes())


@pytest.fixture
def thinking(gateway: Gateway, customer: Customer) -> Iterator[str]:
    """The name of a model that thinks."""
    provider = Upstream(thinks).start()
    name = f"thinking-{provider.port}"
    gateway.model(name, {"input": "1", "output": "2"}, max_output=1000)
    gateway.channel(name, provider.url.removesuffix("/v1"), {name: "claude-opus-5-5"}, protocol="anthropic")
    eventually(lambda: client.models(gateway.url, customer.token, name).status_code == 200)
    yield name
    provider.stop()


@pytest.mark.parametrize(
    "name", [name for name in (*PROGRAMS, *PHP) if name.startswith(("anthropic", "gemini")) and name[-3:] != ".sh"]
)
def test_a_sample_prints_the_answer_of_a_model_that_thinks_and_not_what_it_thought(
    name: str, thinking: str, gateway: Gateway, customer: Customer, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    path = tmp_path / f"sample{Path(name).suffix}"
    path.write_text(snippets.one(name, snippets.Values(gateway.url, customer.token, thinking)).text)
    if name in PHP:
        command = [services.get("php").path, str(path)]
    else:
        command = command_for(path, lambda: request.getfixturevalue("node"))
    assert run(command, tmp_path).strip() == "391."


def test_the_list_of_models_names_the_model_of_the_samples(filled: Filled, tmp_path: Path, gateway: Gateway) -> None:
    assert '"id":"chat"' in run(["bash", "-c", filled(LISTS)], tmp_path).replace(" ", "")


def test_a_model_s_name_of_any_letters_works_in_a_path(gateway: Gateway, customer: Customer, tmp_path: Path) -> None:
    values = snippets.Values(base_url=gateway.url, key=customer.token, model="[M]vendor/model-1")
    for name in ("gemini/generate.sh", "gemini/stream.sh"):
        assert "world" in run(["bash", "-c", snippets.one(name, values).text], tmp_path)
    assert [call["model"] for call in gateway.calls(customer.key)] == ["[M]vendor/model-1"] * 2
