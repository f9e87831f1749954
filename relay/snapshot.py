"""What every call needs to know, in memory: prices, channels, defaults. At most a second old, never read per call."""

import asyncio
from typing import Any

import msgspec
import structlog
from django.db import close_old_connections

from billing import catalog, connections, money, prices, revisions
from billing.prices import PriceCard
from keys import limits
from keys import services as keys
from relay import calibration, counting, vault
from relay.channels.routing import Candidate, Secret, Timeouts
from relay.models import Channel, DefaultModel
from relay.protocols import capabilities

log = structlog.get_logger(__name__)

POLL_EVERY = 0.5  # seconds
REFRESH_WITHIN = 5.0  # seconds, after which the next look begins with a connection of its own


class Snapshot(msgspec.Struct):
    """`models` by offered name, `routes` their candidates, `defaults` the model of an endpoint's nameless calls."""

    models: catalog.Catalog
    routes: dict[str, tuple[Candidate, ...]]
    defaults: dict[str, str]

    def upstream_models(self) -> set[str]:
        """The names by which providers know what is routed to them."""
        return {candidate.model for found in self.routes.values() for candidate in found}

    def offered(self, now: float) -> list[catalog.Model]:
        """The models that can be called: priced, and served by a channel."""
        return [m for name, m in self.models.items() if name in self.routes and m.price_at(now) is not None]


_current: Snapshot | None = None
_seen: dict[str, int] = {}


def current() -> Snapshot:
    """Raises LookupError before the first load."""
    if _current is None:
        raise LookupError("the relay has not loaded its snapshot yet")
    return _current


async def ready() -> Snapshot:
    """The snapshot, loaded now if this process has none."""
    if _current is None:
        await connections.read(refresh, within=REFRESH_WITHIN)
    return current()


async def keep_fresh() -> None:
    """Runs for the life of the process. A database that is away leaves the last snapshot in force."""
    while True:
        await asyncio.sleep(POLL_EVERY)
        try:
            await connections.read(refresh, within=REFRESH_WITHIN)
        except Exception as error:
            log.warning("snapshot.stale", error=type(error).__name__)


def refresh() -> None:
    """Reloads what has changed since the last look. Synchronous: it reads the database."""
    global _current
    try:
        found = revisions.current()
        keys.forget_changed(found.get(revisions.KEYS, 0))
        if _changed(found, revisions.TEAM_BUDGETS, revisions.PRICE_GROUPS, revisions.TEAM_RATES):
            keys.forget_all()
        if _current is None or _changed(found, revisions.CATALOG, revisions.CHANNELS):
            started = _current is not None
            _current = load()
            if started:
                counting.warm(_current.upstream_models())
        if _changed(found, revisions.CALIBRATION):
            calibration.load()
        _seen.update(found)
    finally:
        close_old_connections()


def _changed(found: dict[str, int], *names: str) -> bool:
    return any(found.get(name, 0) != _seen.get(name, 0) for name in names)


def load() -> Snapshot:
    routes: dict[str, list[Candidate]] = {}
    for channel in Channel.objects.filter(enabled=True).prefetch_related("credentials").order_by("priority", "id"):
        try:
            found = _candidates(channel)
        except (msgspec.ValidationError, money.InvalidAmount, AttributeError, TypeError) as error:
            log.error("channel.unusable", channel=channel.name, why=str(error))
            continue
        for offered, candidate in found.items():
            routes.setdefault(offered, []).append(candidate)
    models = catalog.load()
    return Snapshot(
        models=models,
        routes={name: tuple(_capable(c, models.get(name)) for c in found) for name, found in routes.items()},
        defaults=dict(DefaultModel.objects.values_list("endpoint", "model")),
    )


def _capable(candidate: Candidate, model: catalog.Model | None) -> Candidate:
    """With what its model accepts, by its kind and by what the catalogue's row says otherwise."""
    caps = capabilities.of(candidate.model, candidate.protocol)
    if model is not None and model.capabilities:
        try:
            caps = capabilities.corrected(caps, model.capabilities)
        except msgspec.ValidationError as error:
            log.error("model.capabilities_unusable", model=model.name, why=str(error))
    return msgspec.structs.replace(candidate, caps=caps)


def _candidates(channel: Channel) -> dict[str, Candidate]:
    """The channel's candidates by offered name. Raises where its row holds what no channel can be made of."""
    secrets = _secrets(channel)
    costs = {offered: prices.parse_card(written) for offered, written in channel.costs.items()}
    return {offered: _candidate(channel, name, secrets, costs.get(offered)) for offered, name in channel.models.items()}


def _candidate(
    channel: Channel, upstream_name: str, secrets: tuple[Secret, ...], cost_card: PriceCard | None
) -> Candidate:
    return Candidate(
        channel=channel.name,
        protocol=channel.protocol,
        base_url=channel.base_url,
        model=upstream_name,
        priority=channel.priority,
        weight=channel.weight,
        on_hangup=channel.on_hangup,
        private=channel.private,
        timeouts=msgspec.convert(channel.timeouts, Timeouts),
        credentials=secrets,
        cost_card=cost_card,
        scope=limits.scope(
            limits.Owner.CHANNEL, channel.pk, rpm=channel.rpm, tpm=channel.tpm, parallel=channel.parallel
        ),
    )


def _secrets(channel: Channel) -> tuple[Secret, ...]:
    found: list[Any] = []
    for row in channel.credentials.all():
        if row.enabled:
            try:
                found.append(Secret(row.pk, row.last_four, vault.decrypt(bytes(row.secret), row=row.uid)))
            except vault.Undecryptable as error:
                log.error("credential.undecryptable", channel=channel.name, credential=row.pk, why=str(error))
    return tuple(found)
