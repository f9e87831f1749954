"""What every call needs to know, in memory: prices, channels, defaults. At most a second old, never read per call."""

import asyncio
from typing import Any

import msgspec
import structlog
from django.db import close_old_connections

from billing import catalog, connections, money, prices, revisions
from billing.audit import snapshot as moment
from keys import limits
from keys import services as keys
from relay import calibration, counting, services, vault
from relay.channels import presets, routing
from relay.channels.health import Tolerance
from relay.channels.routing import Candidate, Secret, Timeouts
from relay.models import Channel, DefaultModel
from relay.protocols import capabilities
from relay.protocols.capabilities import Capabilities

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

    def keys(self) -> frozenset[str]:
        """The circuits that calls may go through (`health.Registry`)."""
        return frozenset(
            target.key for found in self.routes.values() for candidate in found for target in routing.targets(candidate)
        )

    def offered(self, now: float, *, group: int | None = None) -> list[catalog.Model]:
        """The models that can be called from this price group: priced for it, and served by a channel."""
        served = (model for name, model in self.models.items() if name in self.routes)
        return [model for model in served if model.price_at(now, group=group) is not None]


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
        if _changed(found, *revisions.OF_PRINCIPALS):
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
    """As all of it stood at one moment: between two reads a channel may move, and its new credential is not for the
    address that it had."""
    with moment.taken():
        return _load()


def _load() -> Snapshot:
    routes: dict[str, list[Candidate]] = {}
    models = catalog.load()
    for channel in Channel.objects.filter(enabled=True).prefetch_related("credentials").order_by("priority", "id"):
        try:
            found = _candidates(channel, models)
        except (msgspec.ValidationError, money.InvalidAmount, AttributeError, TypeError) as error:
            log.error("channel.unusable", channel=channel.name, why=str(error))
            continue
        for offered, candidate in found.items():
            routes.setdefault(offered, []).append(candidate)
    return Snapshot(
        models=models,
        routes={name: tuple(found) for name, found in routes.items()},
        defaults=dict(DefaultModel.objects.values_list("endpoint", "model")),
    )


def _candidates(channel: Channel, models: catalog.Catalog) -> dict[str, Candidate]:
    """The channel's candidates by offered name. Raises where its row holds what no channel can be made of."""
    costs = {offered: prices.parse_card(written) for offered, written in channel.costs.items()}
    shared = candidate_of(channel)
    return {
        offered: msgspec.structs.replace(
            shared, model=name, cost_card=costs.get(offered), caps=_capabilities(channel, name, offered, models)
        )
        for offered, name in channel.models.items()
    }


def candidate_of(channel: Channel) -> Candidate:
    """The channel, for no model. One that is disabled by itself offers its models and serves nothing, like one whose
    credentials all are. Raises where its row holds what no channel can be made of."""
    in_use = channel.disabled_at is None
    return Candidate(
        channel=channel.name,
        protocol=channel.protocol,
        base_url=channel.base_url,
        model="",
        priority=channel.priority,
        weight=channel.weight,
        on_hangup=channel.on_hangup,
        private=channel.private,
        timeouts=msgspec.convert(channel.timeouts, Timeouts),
        credentials=_secrets(channel) if in_use else (),
        scope=limits.scope(
            limits.Owner.CHANNEL, channel.pk, rpm=channel.rpm, tpm=channel.tpm, parallel=channel.parallel
        ),
        keyless=in_use and not channel.credentials.all(),
        id=channel.pk,
        dress=services.dress_of(channel),
        tolerance=msgspec.convert(channel.breaker, Tolerance),
        retry_on=frozenset(channel.retry_on),
        auto_disable=channel.auto_disable,
        forbids_by_input=presets.of(channel.preset).forbids_by_input,
    )


def _capabilities(channel: Channel, name: str, offered: str, models: catalog.Catalog) -> Capabilities:
    """What the model accepts: by its kind, by what the catalogue's row says otherwise, and by what the channel's
    does."""
    caps = capabilities.of(name, channel.protocol)
    model = models.get(offered)
    for written in (model.capabilities if model else None, channel.capabilities.get(offered)):
        if written:
            try:
                caps = capabilities.corrected(caps, written)
            except msgspec.ValidationError as error:
                log.error("model.capabilities_unusable", model=offered, channel=channel.name, why=str(error))
    return caps


def _secrets(channel: Channel) -> tuple[Secret, ...]:
    found: list[Any] = []
    for row in channel.credentials.all():
        if row.enabled and row.disabled_at is None:
            try:
                value = vault.decrypt(bytes(row.secret), row=row.uid)
            except vault.Undecryptable as error:
                log.error("credential.undecryptable", channel=channel.name, credential=row.pk, why=str(error))
            else:
                found.append(Secret(row.pk, row.last_four, value, row.weight))
    return tuple(found)
