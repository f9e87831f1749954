"""What a new installation shows itself with: an administrator, the demo channel, priced models, a key with credit.

The password and the key are kept in `var/demo.json`, readable by the owner only, so that every start can print them;
the database has their hashes alone. What an operator has changed since stays changed.
"""

import json
import os
import secrets
from pathlib import Path
from typing import Any

import msgspec
from allauth.account.models import EmailAddress
from django.conf import settings
from django.db import transaction

from billing import catalog, ledger, money, prices
from keys import services as keys
from keys.models import ApiKey, KeyState
from portal import services
from portal.models import User
from relay import demo
from relay import services as channels
from relay.models import Channel
from relay.services import ChannelSpec

CHANNEL = "demo"
CREDIT = "10"
PRICES = {
    "demo-chat": {"input": "0.15", "cache_read": "0.075", "output": "0.60"},
    "demo-chat-pro": {"input": "2.50", "cache_read": "1.25", "output": "10.00"},
    "gpt-4o-mini": {"input": "0.15", "cache_read": "0.075", "output": "0.60"},
}
DESCRIPTION = "Answers from the demo provider inside the gateway"


class Demo(msgspec.Struct):
    """What is printed at the start. `password` is None where it has been changed since."""

    email: str
    password: str | None
    key: str


def notes_path() -> Path:
    return Path(settings.VAR_DIR) / "demo.json"


@transaction.atomic
def seed() -> Demo:
    """Makes what is missing, and returns what works now. The second time it changes nothing."""
    notes = _read_notes()
    email = os.environ.get("ADMIN_EMAIL", "").strip().lower() or notes.get("email") or "admin@example.com"
    user, password = _administrator(email, notes.get("password"))
    _models()
    _channel()
    found = Demo(email=email, password=password, key=_key(user, notes.get("key")))
    if msgspec.to_builtins(found) != notes:
        _write_notes(found)
    return found


def _administrator(email: str, noted: str | None) -> tuple[User, str | None]:
    user = User.objects.filter(email=email).first()
    if user is not None:
        return user, noted if noted and user.check_password(noted) else None
    password = secrets.token_urlsafe(12)
    user = User.objects.create_superuser(email, password)
    EmailAddress.objects.create(user=user, email=email, verified=True, primary=True)
    return user, password


def _models() -> None:
    known = catalog.rows()
    for name, written in PRICES.items():
        if name not in known:
            row = catalog.save_model(
                name=name, provider="demo", description=DESCRIPTION, context_window=32_000, max_output=4_096
            )
            catalog.set_price(row, prices.parse_card(written), actor="demo")


def _channel() -> None:
    """After every real one in the order, so that a real channel for the same model is asked first."""
    if not Channel.objects.filter(name=CHANNEL).exists():
        models = {name: name for name in demo.MODELS} | {"gpt-4o-mini": "demo-chat"}
        spec = ChannelSpec(name=CHANNEL, base_url=demo.ADDRESS, models=models, priority=1000, private=True)
        channels.save_channel(None, spec)


def _key(user: User, noted: str | None) -> str:
    """The noted key while it works, else a new one. Its credit is given once an installation."""
    team = services.personal_team(user)
    try:
        ledger.credit(
            wallet=ledger.wallet_of(team.pk),
            amount=money.parse(CREDIT),
            actor="demo",
            reason="credit of the demo",
            reference="demo-credit",
        )
    except ledger.AlreadyPosted:
        pass
    if noted and ApiKey.objects.filter(digest=keys.digest(noted), state=KeyState.ACTIVE).exists():
        return noted
    _, token = keys.issue(team_id=team.pk, spec=keys.Spec(name="Demo"), created_by=user.pk)
    return token


def _read_notes() -> dict[str, Any]:
    try:
        found = json.loads(notes_path().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write_notes(found: Demo) -> None:
    path = notes_path().with_suffix(".new")
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        json.dump(msgspec.to_builtins(found), file)
    path.replace(notes_path())
