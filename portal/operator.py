"""What operators do from the command line to keys and books: issue a key, look at a balance, at calls."""

import datetime as dt
from typing import Any

import msgspec
from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils.translation import gettext as _

from billing import catalog, ledger, money, prices
from billing.models import Account
from keys import services as keys
from keys.models import ApiKey
from portal import key_pages, services
from portal.models import Team, User
from relay.models import Attempt, CallLog


class UnknownUser(Exception):
    """Nobody has this e-mail address."""


class Issued(msgspec.Struct, frozen=True):
    """A new key with its secret, which is not stored, and the wallet that pays for it."""

    key: ApiKey
    secret: str
    email: str
    team: Team
    wallet: Account


@transaction.atomic
def issue_key(*, email: str, spec: keys.Spec, credit: int = 0, actor: str) -> Issued:
    """A key for the user's personal team; both are made where unknown. `credit` (nano-units) is one transfer.

    Raises ValidationError for a key that cannot be.
    """
    if unknown := sorted(set(spec.endpoints) - set(key_pages.ENDPOINTS)):
        raise ValidationError({"endpoints": _("Unknown endpoints: %(names)s.") % {"names": ", ".join(unknown)}})
    user, team = services.user_with_team(email)
    known = set(catalog.rows()) if spec.models else None
    key, secret = keys.issue(team_id=team.pk, spec=spec, created_by=user.pk, known_models=known, actor=actor)
    wallet = ledger.wallet_of(team.pk)
    if credit:
        ledger.credit(wallet=wallet, amount=credit, actor=actor, reason=f"credit given with the key {key.name}")
        wallet.refresh_from_db()
    return Issued(key, secret, user.email, team, wallet)


def team_of(email: str) -> Team:
    """The personal team of the user with this address. Raises UnknownUser."""
    user = User.objects.filter(email=email.strip().lower()).first()
    if user is None:
        raise UnknownUser(email)
    return services.personal_team(user)


def balance(email: str) -> dict[str, Any]:
    """What the user's wallet has, as decimal strings of the currency. `available` includes the credit limit."""
    wallet = ledger.wallet_of(team_of(email).pk)
    return {
        "email": email.strip().lower(),
        "currency": wallet.currency,
        "balance": money.to_text(wallet.balance),
        "held": money.to_text(wallet.held),
        "available": money.to_text(wallet.available),
        "credit_limit": money.to_text(wallet.credit_limit),
        "frozen": wallet.frozen or None,
    }


def calls(email: str, *, request_id: str = "", limit: int = 100) -> list[dict[str, Any]]:
    """The usage records of the user's team, the newest first."""
    found = CallLog.objects.filter(team_id=team_of(email).pk).prefetch_related("attempts").order_by("-created_at")
    if request_id:
        found = found.filter(request_id=request_id)
    return [_call(call) for call in found[:limit]]


def _call(call: CallLog) -> dict[str, Any]:
    return {
        "id": str(call.pk),
        "request_id": call.request_id,
        "time": call.created_at.astimezone(dt.UTC).isoformat(),
        "endpoint": call.endpoint,
        "model": call.model,
        "upstream_model": call.upstream_model,
        "channel": call.channel,
        "attempts": [_attempt(attempt) for attempt in sorted(call.attempts.all(), key=lambda a: a.number)],
        "state": call.state,
        "status": call.status,
        "error": call.error or None,
        "streamed": call.streamed,
        "usage": call.usage,
        "usage_source": call.usage_source,
        "lines": [_line(line) for line in call.lines],
        "cost": money.to_text(call.cost),
        "held": money.to_text(call.held),
        "currency": settings.CURRENCY,
        "duration_ms": call.duration_ms,
    }


def _attempt(attempt: Attempt) -> dict[str, Any]:
    return {
        "number": attempt.number,
        "channel": attempt.channel,
        "outcome": attempt.outcome,
        "status": attempt.status,
        "detail": attempt.detail or None,
        "usage": attempt.usage,
        "usage_source": attempt.usage_source,
        "cost": money.to_text(attempt.cost) if attempt.cost is not None else None,
    }


def _line(line: dict[str, Any]) -> dict[str, Any]:
    """A charge's line: `unit_price` is for `per` units, `multiplier` a decimal string.

    `above` is the length of input from which the price's tier counts, 0 for a model's first prices.
    """
    per = prices.units_of(line["bucket"])
    return {
        "bucket": line["bucket"],
        "quantity": line["quantity"],
        "unit_price": money.to_text(line["rate"] * per // money.MILLION),
        "per": per,
        "multiplier": prices.write_multiplier(line["multiplier"]),
        "above": line.get("above", 0),
        "amount": money.to_text(line["amount"]),
    }
