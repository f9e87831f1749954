"""Finds what was never delivered: asks the providers about open orders, ends old ones, matches early events.

The rows are the truth and the work: each is claimed by moving the time of its next question, so that several workers
ask once; what a provider says goes into the books as its delivery would.
"""

import datetime as dt
import hashlib

import msgspec
import structlog
from django.utils import timezone

from billing.payments import Event, Fact, Outcome, ProviderFailed, booking, orders, registry
from billing.payments.models import OPEN, Payment, PaymentEvent, PaymentState

log = structlog.get_logger(__name__)

AT_ONCE = 20  # orders asked about in a run: it must end within the job's time even where a provider is slow
LONGEST_WAIT = dt.timedelta(hours=6)  # between two questions
LATE = dt.timedelta(minutes=15)  # after its end in which a checkout's delivery may still come
NEVER_ANSWERED = dt.timedelta(days=3)
UNMATCHED_FOR = dt.timedelta(days=30)


def sweep() -> int:
    """One run; how many orders and events it changed."""
    return sum(_look(payment) for payment in _claimed()) + _matched()


def _claimed() -> list[Payment]:
    now = timezone.now()
    due = Payment.objects.filter(state__in=OPEN, ask_at__lte=now).order_by("ask_at")[:AT_ONCE]
    return [payment for payment in due if _claim(payment, now)]


def _claim(payment: Payment, now: dt.datetime) -> bool:
    """Moves the next question twice as far away as the last one was. False where another worker was first."""
    wait = min(orders.FIRST_LOOK * 2 ** min(payment.asked, 20), LONGEST_WAIT)
    mine = Payment.objects.filter(pk=payment.pk, asked=payment.asked, ask_at=payment.ask_at)
    return bool(mine.update(asked=payment.asked + 1, ask_at=now + wait))


def _look(payment: Payment) -> bool:
    provider = registry.find(payment.provider)
    if provider is None:
        return _end(payment, after=NEVER_ANSWERED)
    try:
        facts = provider.ask(orders.order_of(payment))
    except ProviderFailed as error:
        log.warning("payment.unanswered", provider=payment.provider, payment=str(payment.pk), error=str(error))
        return _end(payment, after=NEVER_ANSWERED)
    if facts:
        outcome = booking.deliver(provider=payment.provider, event=_asked(payment, facts))
        return outcome is Outcome.APPLIED
    return _end(payment, after=LATE)


def _asked(payment: Payment, facts: tuple[Fact, ...]) -> Event:
    """An event of our own making; the same answer is the same event."""
    digest = hashlib.sha256(msgspec.json.encode(facts)).hexdigest()[:32]
    return Event(f"asked:{payment.pk}:{digest}", "asked", facts)


def _end(payment: Payment, *, after: dt.timedelta) -> bool:
    """An order that nobody has paid in its time. Should its money come after all, it is credited all the same."""
    if timezone.now() < payment.expires_at + after:
        return False
    waiting = Payment.objects.filter(pk=payment.pk, state=PaymentState.CREATED)
    return bool(waiting.update(state=PaymentState.EXPIRED))


def _matched() -> int:
    """Events that came before their payment, where both were booked at the same moment and missed each other."""
    since = timezone.now() - UNMATCHED_FOR
    waiting = PaymentEvent.objects.filter(outcome=Outcome.UNMATCHED.value, received_at__gte=since)
    known = {
        (provider, subject)
        for provider, subject in waiting.values_list("provider", "subject")
        if Payment.objects.filter(provider=provider, receipt=subject).exists()
    }
    return sum(booking.rematch(provider, subject) for provider, subject in known)
