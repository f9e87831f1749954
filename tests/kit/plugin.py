"""The kit's fixtures: databases, the upstream, gateways that live as long as the session, fresh customers."""

import gc
import os
import re
import socket
import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection
from hypothesis import HealthCheck, settings
from pytest_django import DjangoDbBlocker
from xdist.scheduler import LoadScopeScheduling

from relay import demo
from tests.kit import databases, lending, scripts, soak
from tests.kit.gateway import Customer, Gateway
from tests.kit.ports import eventually
from tests.kit.services import required, services
from tests.kit.upstream import Upstream
from tests.matrix import table

# No example is held to a time, nor its making: the machine may have other work. The durations show what is too slow.
settings.register_profile(
    "suite", deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large], print_blob=True
)
settings.load_profile("suite")

SECRET = "sk-upstream-secret-7f3a9c41"
PRICE = {"input": "1", "cache_read": "0.5", "output": "2"}  # 1,000 nano-units a token in, 2,000 a token out
SHORT = {"connect": 0.4, "first_byte": 0.5, "idle": 0.5, "total": 1.5}


@pytest.fixture(scope="session", autouse=True)
def _blocker(django_db_blocker: DjangoDbBlocker) -> None:
    databases.use_blocker(django_db_blocker)


@pytest.fixture(scope="session")
def django_db_setup(django_test_environment: None, django_db_blocker: DjangoDbBlocker) -> None:
    """The tests' own database, in memory: a copy of the one that was migrated for all."""
    with django_db_blocker.unblock(), sqlite3.connect(databases.template("sqlite")) as source:
        connection.close()
        connection.settings_dict["NAME"] = "file:tests?mode=memory&cache=shared"
        connection.ensure_connection()
        source.backup(connection.connection)


@pytest.fixture(scope="session")
def upstream() -> Iterator[Upstream]:
    server = Upstream(scripts.default).start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def black_hole() -> Iterator[str]:
    """The address of a listener whose queue is full, so that no connection is ever accepted."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        fillers = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
            fillers.append(filler)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        for filler in fillers:
            filler.close()


@pytest.fixture(params=databases.KINDS)
def books(request: pytest.FixtureRequest) -> Iterator[str]:
    """An empty database of each kind, in which this process works. The value is its kind."""
    url = lending.take(request.param)
    with databases.inside(url):
        yield request.param
    lending.give_back(url)


@pytest.fixture(scope="session", params=databases.KINDS)
def gateway(request: pytest.FixtureRequest, upstream: Upstream, black_hole: str) -> Iterator[Gateway]:
    """One installation of each kind with one server, shared by all tests that do not disturb one another."""
    installation = Gateway(request.param, MAX_BODY_JSON=str(512 * 1024), BODY_TIMEOUT="1.5", SEND_STALL="1.5")
    furnish(installation, upstream, black_hole)
    installation.start()
    yield installation
    assert installation.audit() == []
    installation.stop()


@pytest.fixture(scope="session", params=databases.KINDS)
def pair(request: pytest.FixtureRequest, upstream: Upstream, black_hole: str) -> Iterator[Gateway]:
    """One installation of each kind with two servers on one database."""
    installation = Gateway(request.param)
    furnish(installation, upstream, black_hole)
    installation.start()
    installation.start()
    yield installation
    installation.stop()


@pytest.fixture(params=databases.KINDS)
def breakable(request: pytest.FixtureRequest, upstream: Upstream, black_hole: str) -> Iterator[Gateway]:
    """An installation of each kind for one test, which may do to its servers what it likes. None is started."""
    installation = Gateway(request.param)
    furnish(installation, upstream, black_hole)
    yield installation
    installation.stop()


@pytest.fixture
def customer(gateway: Gateway) -> Iterator[Customer]:
    """A fresh team with 10 units of money and a key. Whatever the test did, it leaves its books whole."""
    made = gateway.customer()
    yield made
    eventually(lambda: gateway.wallet(made.wallet)["held"] == 0)
    assert gateway.audit_of(made.team) == []


def furnish(gateway: Gateway, upstream: Upstream, black_hole: str) -> None:
    """The models and channels that the relay's tests speak of, each named after what it is for."""
    gateway.model("chat", PRICE, max_output=1000)
    gateway.model("same-name", PRICE)
    gateway.model("[M]vendor/model-1", PRICE)
    gateway.model("per-call", {"per_call": "0.01"})
    gateway.model("both", {**PRICE, "per_call": "0.01"})
    gateway.model("free", {"input": "0", "output": "0"})
    for name in (
        "drained",
        "impatient",
        "slow-first",
        "two-channels",
        "closed-port",
        "black-hole",
        "public-only",
        "public-name",
        "gpt-4o",
        "gpt-4",
        "davinci-002",
        "claude",
        "learnt",
    ):
        gateway.model(name, PRICE, max_output=1000)
    gateway.model("unpriced", None)
    gateway.model("withdrawn", PRICE, active=False)
    gateway.model("no-channel", PRICE)
    gateway.model("not-chat", PRICE, kind="embedding")
    main = {"chat": "up-chat", "same-name": "same-name", "[M]vendor/model-1": "up-1", "not-chat": "up-embedding"}
    main |= {"per-call": "up-per-call", "both": "up-both", "free": "up-free", "unpriced": "up-x", "withdrawn": "up-y"}
    gateway.channel("main", upstream.url, main, secret=SECRET)
    # Names that say how tokens are counted.
    named = {"gpt-4o": "gpt-4o-2024-08-06", "gpt-4": "gpt-4-0613", "claude": "claude-sonnet-4", "learnt": "qwen-learnt"}
    gateway.channel("vendors", upstream.url, named | {"davinci-002": "davinci-002"})
    gateway.channel("drain", upstream.url, {"drained": "up-drained"}, on_hangup="drain")
    hasty = {"impatient": "up-impatient", "slow-first": "up-slow"}
    gateway.channel("short", upstream.url, hasty, timeouts=SHORT, priority=-1)
    gateway.channel("first", upstream.url, {"two-channels": "first-model"}, priority=0, secret="sk-first-0001")
    # Without its version, the other spelling that a base URL may have.
    second = upstream.url.removesuffix("/v1")
    gateway.channel(
        "second", second, {"two-channels": "second-model", "slow-first": "second"}, priority=1, secret="sk-second-0002"
    )
    gateway.channel("closed", "http://127.0.0.1:9/v1", {"closed-port": "x"})
    gateway.channel("hole", black_hole, {"black-hole": "x"}, timeouts=SHORT)
    gateway.channel("public", upstream.url, {"public-only": "x"}, private=False)
    gateway.model("demo-chat", PRICE)
    gateway.channel("demo", demo.ADDRESS, {"demo-chat": "demo-chat"})
    by_name = upstream.url.replace("127.0.0.1", "localhost")
    gateway.channel("public-name", by_name, {"public-name": "x"}, private=False)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The long forms are for `make soak` alone."""
    if soak.on():
        return
    long = [item for item in items if item.get_closest_marker("soak")]
    if long:
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if item not in set(long)]


class _ByInstallation(LoadScopeScheduling):  # type: ignore[misc]
    """A file's tests of one kind of database stay in one process: each installation is begun once, and each process
    changes from one kind to the other once a file."""

    def _split_scope(self, nodeid: str) -> str:
        file, _, test = nodeid.partition("::")
        kind = _KIND.search(test)
        return f"{file} {kind[1]}" if kind else file


_KIND = re.compile(rf"[\[-]({'|'.join(databases.KINDS)})[\]-]")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    return _ByInstallation(config, log)


def pytest_sessionstart(session: pytest.Session) -> None:
    """`python -m tests.run` wants to know at once what there is. Who only shares the tests out needs nothing."""
    gc.disable()  # what is imported and collected now stays: looking for garbage in it takes a quarter of the time
    if os.environ.get("TEST_ALL_SERVICES") == "1" and not session.config.getoption("numprocesses", None):
        services.start_all()
        if required() and services.missing:
            raise pytest.UsageError("REQUIRE_SERVICES=1: " + "; ".join(services.report()))


def pytest_collection_finish() -> None:
    gc.collect()
    gc.freeze()
    gc.enable()


def pytest_terminal_summary(terminalreporter: Any) -> None:
    lines = services.report() or sorted(_reported)
    if lines:
        terminalreporter.section("services" + (" (all required)" if required() else ""))
        for line in lines:
            terminalreporter.write_line(line)
    if rows := table.lines():
        terminalreporter.section("matrix")
        for line in rows:
            terminalreporter.write_line(line)
    if figures := soak.table():
        terminalreporter.section("figures")
        for line in figures:
            terminalreporter.write_line(line)


_reported: set[str] = set()  # by the processes that ran the tests


class _Gathering:
    """What the processes have used, for the summary of the one that shares the tests out."""

    @pytest.hookimpl
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        _reported.update(getattr(node, "workeroutput", {}).get("services", ()))


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("numprocesses", None):
        config.pluginmanager.register(_Gathering())


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Tests are over; the summary still wants the names, so only the processes end here."""
    if (output := getattr(session.config, "workeroutput", None)) is not None:
        output["services"] = services.report()
    for service in services.used.values():
        service.stop()
