"""The sweep of orphans: each hold for itself."""

import datetime as dt

from billing.models import Hold
from relay import tasks
from tests.billing.conftest import Ledger


def test_a_hold_that_cannot_be_recovered_does_not_keep_the_others_open(book: Ledger) -> None:
    bad, good = book.open(100), book.open(200)
    past = dt.datetime.now(dt.UTC) - dt.timedelta(minutes=2)
    Hold.objects.filter(pk=bad.id).update(lease_until=past, progress={"usage": {"no such bucket": 1}})
    Hold.objects.filter(pk=good.id).update(lease_until=past + dt.timedelta(seconds=1))
    assert tasks.sweep_holds() == 1
    assert (book.hold(bad).state, book.hold(good).state) == ("recovering", "voided")
    assert book.wallet.held == 100
