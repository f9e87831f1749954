"""Writing notices down, each once, with a delivery for every place where their reader wants them."""

import datetime as dt
import secrets
import uuid
from collections.abc import Collection

import structlog
from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone

from portal.models import Delivery, DeliveryState, Notice, NoticeKind, NoticeSettings, User, Webhook
from portal.notice_models import ADMINISTRATORS
from portal.notices import finding
from portal.notices.finding import Due
from relay import vault
from relay.channels import egress

log = structlog.get_logger(__name__)

MOST_WEBHOOKS = 10  # of one user
MOST_LETTERS = 10  # to one user within HOUR, past which none is sent because somebody asks for it
HOUR = dt.timedelta(hours=1)
PREFIX = "whsec_"


def tell_everything(now: dt.datetime | None = None) -> int:
    """Looks for all that is due; how many notices are new. A finder that fails does not stop the others."""
    told = 0
    for find, found in finding.everything(now):
        try:
            told += sum(tell(due) for due in found)
        except Exception:
            log.exception("notices.not_found", finder=getattr(find, "__name__", ""))
    return told


def tell(due: Due) -> int:
    """Writes it down for each of its readers who has not been told yet; how many."""
    known = set(
        Notice.objects.filter(kind=due.kind, subject=due.subject, occasion=due.occasion).values_list("user", flat=True)
    )
    return sum(_write(user, due) is not None for user in finding.recipients(due) if user.pk not in known)


def _write(user: User, due: Due) -> Notice | None:
    """None where another worker was quicker."""
    try:
        with transaction.atomic():
            notice = Notice.objects.create(
                user=user, kind=due.kind, subject=due.subject, occasion=due.occasion, facts=due.facts
            )
            send(notice)
            return notice
    except IntegrityError:
        return None


def send(notice: Notice) -> None:
    """A delivery to every place that its reader has chosen: none where the kind is muted."""
    wanted = wishes(notice.user)
    if notice.kind in wanted.muted:
        return
    now = timezone.now()
    places: list[Webhook | None] = list(Webhook.objects.filter(user=notice.user, disabled_at=None))
    if wanted.by_email and notice.user.email:
        places.append(None)
    for place in places:
        Delivery.objects.create(notice=notice, webhook=place, began_at=now, next_at=now)


def wishes(user: User) -> NoticeSettings:
    """What the user has chosen, else what holds for everybody; not written down before it is chosen."""
    return NoticeSettings.objects.filter(user=user).first() or NoticeSettings(user=user)


def offered(user: User) -> list[NoticeKind]:
    """What the user can choose to be told: administrators more than others."""
    return [
        kind for kind in NoticeKind if kind != NoticeKind.TEST and (user.is_superuser or kind not in ADMINISTRATORS)
    ]


def chosen(user: User) -> list[str]:
    """What of it the user is told."""
    muted = wishes(user).muted
    return [kind.value for kind in offered(user) if kind not in muted]


def choose(
    *, user: User, kinds: Collection[str], threshold: int | None, by_email: bool, language: str
) -> NoticeSettings:
    """Writes down what a user wants to be told. Kinds that are not offered to the user stay as they were.

    `threshold` is nano-units; None is the installation's, 0 is never.
    """
    choice = {kind.value for kind in offered(user)}
    kept = [kind for kind in wishes(user).muted if kind not in choice]
    muted = sorted(kept + [kind for kind in choice if kind not in kinds])
    values = {"muted": muted, "threshold": threshold, "by_email": by_email, "language": language}
    return NoticeSettings.objects.update_or_create(user=user, defaults=values)[0]


def language_of(user: User) -> str:
    return wishes(user).language or settings.LANGUAGE_CODE


# ---- what users do --------------------------------------------------------------------------------------------------


class TooManyWebhooks(Exception):
    """The user has as many as there may be."""


@transaction.atomic
def add_webhook(*, user: User, url: str) -> tuple[Webhook, str]:
    """The webhook and its secret, which is never shown again. Raises egress.Undeliverable or TooManyWebhooks."""
    egress.check(url, private=settings.WEBHOOKS_TO)
    User.objects.select_for_update().get(pk=user.pk)  # two at once are counted one after the other
    if Webhook.objects.filter(user=user).count() >= MOST_WEBHOOKS:
        raise TooManyWebhooks
    uid, secret = uuid.uuid4(), PREFIX + secrets.token_urlsafe(32)
    return Webhook.objects.create(user=user, uid=uid, url=url, secret=vault.encrypt(secret, row=uid)), secret


def remove_webhook(webhook: Webhook) -> None:
    """With what is on its way there."""
    webhook.delete()


def enable_webhook(webhook: Webhook) -> None:
    """Uses one again that was disabled because it failed."""
    Webhook.objects.filter(pk=webhook.pk).update(disabled_at=None, disabled_reason="", failing_since=None)


class TooManyLetters(Exception):
    """So many went out that whoever reads them may never have asked for one: nobody has to confirm the address that he
    signs up with. `seconds` until there may be another."""

    def __init__(self, seconds: int) -> None:
        super().__init__(seconds)
        self.seconds = seconds


def test(user: User, webhook: Webhook | None) -> Delivery:
    """A notice that says that notices arrive: to that webhook, or by e-mail. It waits to be delivered. Raises
    TooManyLetters."""
    now, number = timezone.now(), uuid.uuid4()
    with transaction.atomic():
        if webhook is None:
            _ration_letters(user, now)
        notice = Notice.objects.create(
            id=number, user=user, kind=NoticeKind.TEST, subject="test", occasion=str(number), facts={}
        )
        return Delivery.objects.create(notice=notice, webhook=webhook, began_at=now, next_at=now)


@transaction.atomic
def redeliver(delivery: Delivery) -> bool:
    """Sends it again, whatever became of it. False while it is still on its way. Raises TooManyLetters."""
    now = timezone.now()
    ended = Delivery.objects.filter(pk=delivery.pk).exclude(state=DeliveryState.WAITING)
    if delivery.webhook_id is None and ended.exists():
        _ration_letters(delivery.notice.user, now)
        if ended.filter(state=DeliveryState.DELIVERED, began_at__gt=now - HOUR).exists():
            raise TooManyLetters(_seconds_until(delivery, now))
    return bool(ended.update(state=DeliveryState.WAITING, began_at=now, next_at=now, ended_at=None))


def _ration_letters(user: User, now: dt.datetime) -> None:
    User.objects.select_for_update().get(pk=user.pk)  # two at once are counted one after the other
    recent = Delivery.objects.filter(notice__user=user, webhook=None, began_at__gt=now - HOUR).order_by("-began_at")
    if found := recent[MOST_LETTERS - 1 : MOST_LETTERS]:
        raise TooManyLetters(_seconds_until(found[0], now))


def _seconds_until(letter: Delivery, now: dt.datetime) -> int:
    """Until the letter has gone out an hour ago."""
    return int((letter.began_at + HOUR - now).total_seconds()) + 1
