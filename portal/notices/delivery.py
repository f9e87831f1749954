"""Bringing notices where they are wanted: by e-mail, and to webhooks, which they are posted to, signed.

A delivery that fails is tried again for a day, less and less often. Every attempt is claimed by a compare-and-set
first, so that two workers do not send the same one at once; a worker that dies with it leaves it to the next after
`LEASE`. A receiver may therefore see a notice twice, and knows it by its id.
"""

import datetime as dt
import hashlib
import hmac
import time

import msgspec
import structlog
from django.conf import settings
from django.core.mail import EmailMultiAlternatives
from django.utils import timezone, translation

from portal.models import Delivery, DeliveryState, NoticeKind, User, Webhook
from portal.notices import telling, words
from relay import vault
from relay.channels import egress

log = structlog.get_logger(__name__)

LEASE = dt.timedelta(minutes=2)
# Until the next attempt; then the last of them again, until a day has passed.
WAITS = [dt.timedelta(minutes=minutes) for minutes in (1, 5, 15, 60, 180, 360)]
GIVE_UP = dt.timedelta(days=1)
AT_ONCE = 100  # in one run


class Result(msgspec.Struct, frozen=True):
    """Whether it arrived; the status and the beginning of the answer, or why there was none."""

    arrived: bool
    status: int | None
    answer: str


def deliver_due(now: dt.datetime | None = None) -> int:
    """Sends what is due; how much of it arrived. One that fails does not stop the others. Each has its own moment where
    none is given: a run of many that nobody answers takes longer than a lease."""
    moment = now or timezone.now()
    due = Delivery.objects.filter(state=DeliveryState.WAITING, next_at__lte=moment).order_by("next_at", "pk")
    return sum(deliver(row.pk, now=now) for row in due[:AT_ONCE])


def deliver(number: int, *, now: dt.datetime | None = None) -> bool:
    """One attempt, if nobody else is at it. Whether it arrived."""
    moment = now or timezone.now()
    claimed = _claim(number, moment)
    if claimed is None:
        return False
    try:
        result = _send(claimed)
    except Exception as error:  # whatever a mail server or a receiver makes of it, the next attempt may succeed
        log.warning("notice.not_sent", delivery=number, error=type(error).__name__)
        result = Result(False, None, type(error).__name__)
    _conclude(claimed, result, moment)
    return result.arrived


def test(user: User, webhook: Webhook | None) -> Delivery:
    """Sends a test to that webhook, or by e-mail, at once; the delivery says whether it arrived."""
    row = telling.test(user, webhook)
    deliver(row.pk)
    row.refresh_from_db()
    return row


def _claim(number: int, now: dt.datetime) -> Delivery | None:
    row = Delivery.objects.select_related("notice__user", "webhook").filter(pk=number).first()
    if row is None or row.state != DeliveryState.WAITING or row.next_at > now:
        return None
    mine = Delivery.objects.filter(pk=number, state=DeliveryState.WAITING, attempt=row.attempt)
    if not mine.update(attempt=row.attempt + 1, next_at=now + LEASE):
        return None
    row.attempt += 1
    return row


def _send(row: Delivery) -> Result:
    return _mail(row) if row.webhook is None else _post(row, row.webhook)


# ---- by e-mail ------------------------------------------------------------------------------------------------------


def _mail(row: Delivery) -> Result:
    user: User = row.notice.user
    with translation.override(telling.language_of(user)):
        letter = words.letter(row.notice)
    message = EmailMultiAlternatives(letter.subject, letter.text, settings.DEFAULT_FROM_EMAIL, [user.email])
    message.attach_alternative(letter.html, "text/html")
    message.send()
    return Result(True, None, "")


# ---- by webhook -----------------------------------------------------------------------------------------------------


def _post(row: Delivery, webhook: Webhook) -> Result:
    if webhook.disabled_at is not None:
        return Result(False, None, "the webhook is disabled")
    body = words.body(row.notice)
    secret = vault.decrypt(bytes(webhook.secret), row=webhook.uid)
    try:
        posted = egress.post(
            webhook.url, body, headers(body, secret, str(row.notice_id), row.notice.kind), private=settings.WEBHOOKS_TO
        )
    except egress.Undeliverable as error:
        return Result(False, None, str(error))
    return Result(200 <= posted.status < 300, posted.status, posted.answer.replace("\x00", ""))


def headers(body: bytes, secret: str, notice: str, kind: str, *, now: int | None = None) -> dict[str, str]:
    """What is sent with a body. The signature is HMAC-SHA256 over the time, a point and the body."""
    moment = int(time.time()) if now is None else now
    return {
        "Content-Type": "application/json",
        "Pisces-Notice": notice,
        "Pisces-Kind": kind,
        "Pisces-Signature": f"t={moment},v1={signature(body, secret, moment)}",
    }


def signature(body: bytes, secret: str, moment: int) -> str:
    return hmac.new(secret.encode(), f"{moment}.".encode() + body, hashlib.sha256).hexdigest()


# ---- what came of it ------------------------------------------------------------------------------------------------


def _conclude(row: Delivery, result: Result, now: dt.datetime) -> None:
    """Only where the attempt is still this one: whoever took over after a lease decides."""
    mine = Delivery.objects.filter(pk=row.pk, attempt=row.attempt, state=DeliveryState.WAITING)
    facts = {"status": result.status, "answer": result.answer[:300]}
    if result.arrived:
        mine.update(state=DeliveryState.DELIVERED, ended_at=now, **facts)
    elif now - row.began_at >= GIVE_UP or row.notice.kind == NoticeKind.TEST:
        mine.update(state=DeliveryState.FAILED, ended_at=now, **facts)
    else:
        mine.update(next_at=now + wait_after(row, now), **facts)
    if row.webhook is not None and row.notice.kind != NoticeKind.TEST:
        _judge(row.webhook, result, now)


def wait_after(row: Delivery, now: dt.datetime) -> dt.timedelta:
    """The longer it has been on its way, the longer: the first of the waits that is longer than it has lasted."""
    lasted = now - row.began_at
    total = dt.timedelta()
    for wait in WAITS:
        total += wait
        if total > lasted:
            return wait
    return WAITS[-1]


def _judge(webhook: Webhook, result: Result, now: dt.datetime) -> None:
    """An endpoint that has answered nothing for a day is disabled; one that answers is well."""
    row = Webhook.objects.filter(pk=webhook.pk)
    if result.arrived:
        row.filter(failing_since__isnull=False).update(failing_since=None)
        return
    row.filter(failing_since=None).update(failing_since=now)
    reason = f"status {result.status}" if result.status else result.answer
    long = row.filter(disabled_at=None, failing_since__lte=now - GIVE_UP)
    if long.update(disabled_at=now, disabled_reason=reason[:200] or "no answer"):
        log.warning("webhook.disabled", webhook=webhook.pk, reason=reason[:200])
