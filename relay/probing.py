"""Asks a provider what tells whether a credential is taken and costs nothing: for its list of models, mostly."""

import asyncio
import datetime as dt
from enum import StrEnum

import msgspec
import structlog
from django.utils import timezone
from django.utils.translation import gettext_noop

from relay import services, snapshot
from relay.channels import presets, upstream
from relay.channels.routing import Candidate, Secret
from relay.errors import RelayError
from relay.models import Channel, Credential

log = structlog.get_logger(__name__)

WITHIN = 10.0  # seconds
AGAIN, LATEST = dt.timedelta(minutes=1), dt.timedelta(minutes=30)  # the first probe, and how far they come apart


class Verdict(StrEnum):
    """`unknown`: the provider cannot be asked so, or cannot be reached: nothing is known of the credential."""

    TAKEN = "taken"
    REFUSED = "refused"
    UNKNOWN = "unknown"


class Found(msgspec.Struct, frozen=True):
    """What a probe found. `models` are the upstream's names, where it told them."""

    verdict: Verdict
    detail: str  # to be translated, and filled with `facts`
    models: tuple[str, ...] = ()
    status: int = 0

    @property
    def facts(self) -> dict[str, int]:
        return {"status": self.status, "models": len(self.models)}


def probe(row: services.Disabled) -> Found:
    """Asks, and puts a credential that is taken back into use. Reads and writes the database; waits up to WITHIN."""
    channel = row.channel if isinstance(row, Credential) else row
    secret = None
    if isinstance(row, Credential):
        value = services.opened(row)
        if value is None:
            return Found(Verdict.UNKNOWN, gettext_noop("The credential cannot be decrypted."))
        secret = Secret(row.pk, row.last_four, value)
    path = presets.of(channel.preset).probe or "/models"  # an operator may ask where nobody else does
    found = asyncio.run(ask(snapshot.candidate_of(channel), secret, path))
    if found.verdict is Verdict.TAKEN and services.enable(row, by_probe=True):
        log.warning("credential.enabled", channel=channel.name, credential=str(row) if secret else None)
    return found


async def ask(candidate: Candidate, secret: Secret | None, path: str) -> Found:
    try:
        status, content = await upstream.get(candidate, secret, path, within=WITHIN)
    except RelayError as error:
        return Found(Verdict.UNKNOWN, error.message.replace("%", "%%"))
    if status in (401, 403) or (status == 400 and b"API_KEY_INVALID" in content):  # the last is Gemini's 401
        refused = gettext_noop("The provider refuses the credential (status %(status)s).")
        return Found(Verdict.REFUSED, refused, status=status)
    if status != 200:
        untold = gettext_noop("The provider does not tell whether it takes the credential (status %(status)s).")
        return Found(Verdict.UNKNOWN, untold, status=status)
    models = names_in(content)
    taken = gettext_noop("The provider takes the credential.")
    if models:
        taken = gettext_noop("The provider takes the credential and lists %(models)s models.")
    return Found(Verdict.TAKEN, taken, models, status)


class _Named(msgspec.Struct):
    id: str = ""
    name: str = ""


class _List(msgspec.Struct):
    data: list[_Named] = msgspec.field(default_factory=list)
    models: list[_Named] = msgspec.field(default_factory=list)


def names_in(content: bytes) -> tuple[str, ...]:
    """The models of a list in any protocol's words; none of what is no such list."""
    try:
        found = msgspec.json.decode(content, type=_List)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return ()
    names = [(one.id or one.name).removeprefix("models/") for one in (*found.data, *found.models)]
    return tuple(dict.fromkeys(name for name in names if name))


def due(now: dt.datetime | None = None) -> list[services.Disabled]:
    """What was disabled by itself and should be asked again: after a minute, then after as long as it has been refused
    already, at most half an hour. A probe that was wrong does not begin this anew."""
    now = now or timezone.now()
    found: list[services.Disabled] = [
        *Channel.objects.filter(enabled=True, disabled_at__isnull=False),
        *Credential.objects.filter(enabled=True, channel__enabled=True, disabled_at__isnull=False).select_related(
            "channel"
        ),
    ]
    return [row for row in found if _is_due(row, now) and _can_tell(row)]


def _is_due(row: services.Disabled, now: dt.datetime) -> bool:
    assert row.disabled_at is not None
    last = row.probed_at or row.disabled_at
    return now - last >= min(LATEST, max(AGAIN, last - (row.failing_since or row.disabled_at)))


def _can_tell(row: services.Disabled) -> bool:
    channel = row.channel if isinstance(row, Credential) else row
    return bool(presets.of(channel.preset).probe)
