"""Filled books on each kind of database, shared by all tests of the audit that roll back what they do."""

from collections.abc import Iterator

import pytest

from tests.audit.filled import Filled, fill
from tests.kit import databases
from tests.kit.gateway import Gateway
from tests.kit.plugin import furnish
from tests.kit.upstream import Upstream


@pytest.fixture(scope="session", params=databases.KINDS)
def filled(request: pytest.FixtureRequest, upstream: Upstream, black_hole: str) -> Iterator[Filled]:
    installation = Gateway(request.param)
    furnish(installation, upstream, black_hole)
    yield fill(installation, upstream)
    installation.stop()
