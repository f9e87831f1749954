"""Samples with a test's own values: its gateway's address, a fresh customer's key, a model that is offered."""

from collections.abc import Callable

import pytest

from portal.docs import snippets
from tests.kit import node as kit_node
from tests.kit.gateway import Customer, Gateway

Filled = Callable[[str], str]


@pytest.fixture(scope="session")
def node() -> str:
    return kit_node.program()


@pytest.fixture
def filled(gateway: Gateway, customer: Customer) -> Filled:
    """A sample's text as its page shows it to the customer."""
    values = snippets.Values(base_url=gateway.url, key=customer.token, model="chat")
    return lambda name: snippets.one(name, values).text
