"""What a notice says: a letter in the reader's language, and the body that webhooks get, which has none."""

import datetime as dt
from typing import Any

import msgspec
from django.conf import settings
from django.template.loader import render_to_string
from django.utils import formats, translation
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from billing import money
from portal.models import Notice, NoticeKind

WINDOWS = {
    "total": gettext_lazy("in total"),
    "day": gettext_lazy("today"),
    "week": gettext_lazy("this week"),
    "month": gettext_lazy("this month"),
}

TOO_MANY_LETTERS = gettext_lazy("You have been sent as many letters as you may ask for in an hour. Try again later.")


class Letter(msgspec.Struct, frozen=True):
    subject: str
    text: str
    html: str


class Said(msgspec.Struct, frozen=True):
    """A notice in a title and a sentence, with the page where something can be done about it."""

    title: str
    sentence: str
    path: str


def letter(notice: Notice) -> Letter:
    """In the language that is active."""
    said = say(notice)
    context = {"said": said, "address": settings.BASE_URL + said.path, "settings": settings.BASE_URL + "/notices/"}
    text = f"{said.sentence}\n\n{context['address']}\n\n{_('Which notices you get')}: {context['settings']}\n"
    html = render_to_string("notices/letter.html", {**context, "language": translation.get_language()})
    return Letter(f"Pisces: {said.title}", text, html)


def body(notice: Notice) -> bytes:
    """JSON: amounts are decimal strings of the currency, the sentence is English."""
    with translation.override("en"):
        said = say(notice)
    return msgspec.json.encode(
        {
            "id": str(notice.pk),
            "kind": notice.kind,
            "created_at": notice.created_at.astimezone(dt.UTC).isoformat(),
            "subject": notice.subject,
            "title": said.title,
            "text": said.sentence,
            "url": settings.BASE_URL + said.path,
            "facts": _written(notice.facts),
            "currency": settings.CURRENCY,
        }
    )


_AMOUNTS = frozenset(("left", "threshold", "used", "limit", "amount"))


def _written(facts: dict[str, Any]) -> dict[str, Any]:
    return {name: money.to_text(value) if name in _AMOUNTS else value for name, value in facts.items()}


def say(notice: Notice) -> Said:
    """In the language that is active."""
    facts = notice.facts
    told = {name: _amount(value) if name in _AMOUNTS else value for name, value in facts.items()}
    if "at" in facts:
        told["at"] = formats.date_format(dt.datetime.fromisoformat(facts["at"]), "Y-m-d H:i") + " UTC"
    match notice.kind:
        case NoticeKind.LOW_BALANCE:
            text = _("The wallet of %(team)s has %(left)s left, less than %(threshold)s.")
            return Said(_("Low balance"), text % told, "/")
        case NoticeKind.QUOTA:
            return _quota(facts, told)
        case NoticeKind.KEY_EXPIRY:
            return Said(_("A key expires"), _("Key “%(name)s” (%(key)s) expires at %(at)s.") % told, "/keys/")
        case NoticeKind.PLAN_EXPIRY:
            text = _("The plan “%(name)s” ends at %(at)s; what is left of it is lost then.")
            return Said(_("A plan ends"), text % told, "/plans/")
        case NoticeKind.INVOICE:
            text = _("Invoice %(number)s is overdue: %(amount)s is still to be paid. Keys stop until it is.")
            return Said(_("An invoice is overdue"), text % told, f"/invoices/{facts['invoice']}/")
        case NoticeKind.CHANNEL:
            text = _("Channel %(channel)s %(credential)s was disabled: %(reason)s")
            return Said(_("A channel was disabled"), text % told, "/admin/relay/channel/")
        case NoticeKind.DRIFT:
            text = _("Our books and the bill of channel %(channel)s differ by %(percent)s %% on %(day)s.")
            return Said(_("Drift from a provider's bill"), text % told, "/admin/relay/reconciliation/")
    return Said(_("This is a test"), _("Notices arrive here."), "/notices/")


def _quota(facts: dict[str, Any], told: dict[str, Any]) -> Said:
    told["window"] = WINDOWS.get(facts["window"], facts["window"])
    whole = facts["percent"] >= 100
    title = _("A limit is used up") if whole else _("A limit is nearly used up")
    if facts["name"]:
        text = _("Key “%(name)s” has used %(used)s of %(limit)s %(window)s.")
    else:
        text = _("The team has used %(used)s of %(limit)s %(window)s.")
    return Said(title, text % told, "/limits/")


def _amount(nano: int) -> str:
    return f"{settings.CURRENCY_SIGN}{money.to_text(nano, decimals=2)}"
