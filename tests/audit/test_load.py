"""An audit that runs while the books are written finds nothing that is not there."""

import asyncio
import random
import threading
from collections.abc import Callable

from django.db import connection

from billing import audit, ledger
from billing.audit import reports
from billing.models import Account, AuditFinding, AuditMark, AuditReport, ReportState
from tests.kit import load
from tests.kit.gateway import Gateway
from tests.kit.ports import eventually

SECONDS = 2.0


def test_audits_find_nothing_while_two_servers_and_a_worker_write(breakable: Gateway) -> None:
    rich, poor = breakable.customer(quota=10**9, window="day"), breakable.customer(credit="0.005")
    _, other = breakable.issue(rich.team, quota=2 * 10**7)
    for _ in range(2):
        breakable.start()
    urls, tokens = [server.url for server in breakable.servers], [rich.token, poor.token, other]
    with breakable.inside():
        wallet, done = Account.objects.get(pk=rich.wallet), threading.Event()
        found: list[object] = []
        writers = [
            threading.Thread(target=_until, args=(done, lambda: _move(wallet), found)),
            # Two incremental audits at once, and a full one.
            *(threading.Thread(target=_until, args=(done, reports.look_at_recent, found)) for _ in range(2)),
            threading.Thread(target=_until, args=(done, audit.run, found)),
        ]
        for thread in writers:
            thread.start()
        seen = asyncio.run(_load(urls, tokens))
        done.set()
        for thread in writers:
            thread.join()
        assert found == []
        assert sum(call.complete for call in seen) > 50
        eventually(lambda: not Account.objects.exclude(held=0).exists())
        assert reports.look_at_recent() == reports.look_at_recent() == audit.run() == []
        assert not AuditFinding.objects.exists()
        assert set(AuditReport.objects.values_list("state", flat=True)) == {ReportState.OK}
        assert sum(figures.get("new transfers", 0) for figures in AuditReport.objects.values_list("figures", flat=True))
        balances = dict(Account.objects.filter(pk__in=[rich.wallet, poor.wallet]).values_list("pk", "balance"))
        assert dict(AuditMark.objects.filter(subject="account").values_list("number", "total")) == balances
        assert AuditMark.objects.filter(subject="budget").count() == 2


async def _load(urls: list[str], tokens: list[str]) -> list[load.Seen]:
    stop = asyncio.Event()
    asyncio.get_running_loop().call_later(SECONDS, stop.set)
    return await load.until(stop, urls, tokens, random.Random(7))


def _until(done: threading.Event, what: Callable[[], object], found: list[object]) -> None:
    """Again and again, noting what is not nothing."""
    try:
        while not done.is_set():
            if result := what():
                found.append(result)
    except Exception as error:
        found.append(error)
    finally:
        connection.close()


def _move(wallet: Account) -> None:
    """Money in, out and back in, as administrators do it."""
    ledger.adjust(wallet=wallet, amount=5, actor="tests", reason="there")
    taken = ledger.adjust(wallet=wallet, amount=-3, actor="tests", reason="and back")
    ledger.reverse(transfer=taken, actor="tests", reason="again")
