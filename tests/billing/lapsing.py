"""Holds of processes that died, as the tests of holds and their recovery make them."""

import asyncio
import datetime as dt

import pytest

from billing import holds
from billing.operations import Table

# For what no statement of a driver decides.
on_sqlite = pytest.mark.parametrize("books", ["sqlite"], indirect=True)


REVISIONS = Table("billing_revision", (("name", "text"), ("value", "bigint")))


LONG_AGO = dt.timedelta(minutes=5)


@pytest.fixture(autouse=True)
def nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holds, "_open", {})


async def kept(seconds: float) -> None:
    keeper = asyncio.create_task(holds.keep_leases())
    await asyncio.sleep(seconds)
    assert not keeper.done()
    keeper.cancel()
