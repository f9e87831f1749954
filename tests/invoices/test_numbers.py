"""Numbers have no gap and none is given twice: many workers at once, whatever goes wrong."""

import random
import threading

from django.db import OperationalError, connections, transaction

from billing import money
from billing.invoices import closing, numbers
from billing.models import ClosedMonth, Invoice, InvoiceLine, InvoiceSeries
from tests.invoices.made import Past, at

WORKERS = 6
CENT = money.NANO // 100


def test_workers_that_close_the_same_months_at_once_make_each_invoice_once(books: str) -> None:
    pasts = [Past(f"team{number}@example.com") for number in range(4)]
    for past in pasts:
        closing.begin(past.wallet, moment=at("2026-01-05 00:00"))
        for month in (1, 2, 3):
            past.call(CENT * month, at(f"2026-0{month}-10 00:00"))
    start = threading.Barrier(WORKERS)

    def work() -> None:
        try:
            start.wait()
            closing.close_all(at("2026-04-02 00:00"))
        finally:
            connections.close_all()

    threads = [threading.Thread(target=work) for _ in range(WORKERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    closing.close_all(at("2026-04-02 00:00"))  # where a worker had to give way
    assert sorted(Invoice.objects.values_list("serial", flat=True)) == list(range(1, 13))
    assert ClosedMonth.objects.filter(outcome="invoiced").count() == 12
    assert InvoiceSeries.objects.get().last == 12
    assert InvoiceLine.objects.filter(kind="usage").count() == 12


def test_transactions_that_fail_after_their_number_leave_no_gap(books: str) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    kept: list[int] = []
    lock = threading.Lock()

    def work(number: int) -> None:
        draw = random.Random(seed + number)
        try:
            for _ in range(12):
                _try_once(draw, kept, lock)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(WORKERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(kept) == list(range(1, len(kept) + 1))
    assert InvoiceSeries.objects.get().last == len(kept) > 0


class Fault(Exception):
    pass


def _try_once(draw: random.Random, kept: list[int], lock: threading.Lock) -> None:
    """Takes a number; often enough the transaction fails, or its connection is lost in the middle."""
    fate = draw.random()
    try:
        with transaction.atomic():
            number = numbers.take("INV", 2026)
            if fate < 0.3:
                raise Fault
            if fate < 0.4:
                connections["default"].connection.close()
                raise Fault
        with lock:
            kept.append(number)
    except (Fault, OperationalError):
        connections["default"].close()
