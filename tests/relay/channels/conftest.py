"""Channels of a test's own, on the shared installations: with a breaker, unlike those that all tests share."""

import itertools
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.kit import client
from tests.kit.gateway import Customer, Gateway
from tests.kit.plugin import PRICE

_numbers = itertools.count(1)
STRICT: dict[str, Any] = {"breaker": {}, "auto_disable": True}
Make = Callable[..., str]


@pytest.fixture
def offer(gateway: Gateway, customer: Customer) -> Make:
    """`offer((url, fields), …)` offers a new model over these channels, in force when it returns; its name. `kind` is
    what it is for, if not for chats."""

    def make(*channels: tuple[str, dict[str, Any]], kind: str = "chat") -> str:
        name = f"own-{next(_numbers)}"
        for number, (url, fields) in enumerate(channels):
            values = {**STRICT, **fields}
            served = {name: values.pop("model", f"up-{number}")}
            gateway.channel(f"{name}-{number}", url, served, **values)
        gateway.model(name, PRICE, kind=kind, max_output=1000)  # the last, so that whoever knows it knows them all
        deadline = time.monotonic() + 10
        while client.models(gateway.url, customer.token, name).status_code != 200:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        return name

    return make
