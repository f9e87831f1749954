"""The sweep of orphans: each hold for itself."""

import datetime as dt

from billing.models import Hold
from relay import tasks
from tests.billing.conftest import Ledger


def test_a_hold_that_cannot_be_recovered_does_not_keep_the_others_open(book: Ledger) -> None:
    bad, good = book.open(100), book.open(200)
    past = dt.datetime.now(dt.UTC) - dt.timedelta(minutes=2)
    unusable = {"attempt": 1, "answering": True, "usage": {"no such bucket": 1}}
    Hold.objects.filter(pk=bad.id).update(lease_until=past, suspected_at=past, progress=unusable)
    usable = {"attempt": 1, "answering": True, "input_bytes": 30}
    later = past + dt.timedelta(seconds=1)
    Hold.objects.filter(pk=good.id).update(lease_until=later, suspected_at=past, progress=usable)
    assert tasks.sweep_holds() == 1
    assert (book.hold(bad).state, book.hold(good).state) == ("recovering", "settled")
    assert book.wallet.held == 100
