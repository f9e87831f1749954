"""What this process knows of its channels' health, on its way to the others: disabled credentials at once, figures
every few seconds. And the read side: what all processes know, for the administration's page.
"""

import asyncio
import datetime as dt
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec
import structlog
from asgiref.sync import sync_to_async
from django.db import InterfaceError, OperationalError, close_old_connections
from django.utils import timezone

from relay import services, snapshot
from relay.channels import health, routing
from relay.channels.health import Figures, Mishap, Report, State
from relay.models import Channel, Credential, HealthReport

log = structlog.get_logger(__name__)

FLUSH_EVERY = 5.0  # seconds
LOOK_EVERY = 0.5
ALIVE = dt.timedelta(seconds=60)  # a process that has reported nothing for so long says nothing of the present
KEPT = dt.timedelta(minutes=health.MINUTES + 5)


class Refused(msgspec.Struct, frozen=True):
    """A credential, or a channel without one (`credential` None), that its provider wants nothing of."""

    channel: int
    credential: int | None
    reason: str


class _Keeper:
    """This process's: what waits to be written, and who writes it."""

    def __init__(self) -> None:
        self.process = uuid.uuid4()
        self.refused: dict[tuple[int, int | None], Refused] = {}
        self.seen: object = None
        self.keys: frozenset[str] = frozenset()
        self.flushed = 0.0


_keeper = _Keeper()


def refused(target: routing.Target, reason: str) -> None:
    """Disables the target's credential, soon and off the path of any call."""
    found = Refused(target.candidate.id, target.secret.id if target.secret else None, reason)
    _keeper.refused.setdefault((found.channel, found.credential), found)


async def keep() -> None:
    """Runs for the life of the process."""
    while True:
        await asyncio.sleep(LOOK_EVERY)
        notice()
        await flush()


def notice() -> None:
    """A credential that is new here, or enabled again, begins anew; what is gone is forgotten. Asked before each call,
    so that what a call learns is never forgotten for being new."""
    view = snapshot.current()
    if view is _keeper.seen:
        return
    keys = view.keys()
    for key in keys - _keeper.keys:
        health.registry.forget(key)
    health.registry.keep_only(keys)
    _keeper.seen, _keeper.keys = view, keys


async def flush(*, at_once: bool = False) -> None:
    """Writes what waits. A database that is away is tried again the next time."""
    if _keeper.refused:
        waiting, _keeper.refused = _keeper.refused, {}
        try:
            await sync_to_async(_disable, thread_sensitive=False)(list(waiting.values()))
        except Exception as error:
            _keeper.refused = {**waiting, **_keeper.refused}
            log.warning("credentials.not_disabled", error=type(error).__name__)
    now = time.monotonic()
    if not at_once and now - _keeper.flushed < FLUSH_EVERY:
        return
    _keeper.flushed = now
    if fresh := health.registry.take_changes():
        try:
            await sync_to_async(_store, thread_sensitive=False)(_keeper.process, fresh)
        except Exception as error:
            health.registry.give_back(fresh)
            log.warning("health.not_stored", error=type(error).__name__)


def _disable(found: Iterable[Refused]) -> None:
    try:
        for one in found:
            named = {"channel": one.channel, "credential": one.credential}
            _taken(partial(_disable_one, one), "credential.not_disabled", **named)
    finally:
        close_old_connections()


def _disable_one(one: Refused) -> None:
    row: services.Disabled | None
    if one.credential is None:
        row = Channel.objects.filter(pk=one.channel, auto_disable=True, credentials=None).first()
    else:
        row = Credential.objects.filter(pk=one.credential, channel__auto_disable=True).first()
    if row is not None and services.disable(row, reason=one.reason):
        log.warning("credential.disabled", channel=one.channel, credential=one.credential, why=one.reason)


def _taken(write: Callable[[], None], event: str, **what: Any) -> bool:
    """Whether the database took it. What it will not take stops nothing else, and is given up: the next failure brings
    it again. Raises where it is the database that is away."""
    try:
        write()
    except (OperationalError, InterfaceError):
        raise
    except Exception as error:
        log.error(event, error=type(error).__name__, **what)
        return False
    return True


def _store(process: uuid.UUID, fresh: Mapping[str, Report]) -> None:
    now = timezone.now()
    rows = [
        HealthReport(process=process, key=key, content=msgspec.to_builtins(report, str_keys=True), at=now)
        for key, report in sorted(fresh.items())
    ]
    try:
        if not _taken(partial(_write, rows), "health.not_stored_together"):
            for row in rows:
                _taken(partial(_write, [row]), "health.not_stored", key=row.key)
    finally:
        close_old_connections()


def _write(rows: Sequence[HealthReport]) -> None:
    HealthReport.objects.bulk_create(
        rows, update_conflicts=True, unique_fields=["process", "key"], update_fields=["content", "at"]
    )


def forget_old() -> int:
    """Deletes the reports that show nothing any more. How many."""
    return HealthReport.objects.filter(at__lt=timezone.now() - KEPT).delete()[0]


# ---- the read side --------------------------------------------------------------------------------------------------


class Line(msgspec.Struct):
    """A credential, or a channel by itself, as the health page shows it. `states`: of how many processes each;
    milliseconds to the first byte of half and of 95 % of the answers; `rate` is a share of the calls in percent."""

    row: Any
    label: str
    states: dict[str, int]
    until: dt.datetime | None
    figures: Figures
    mishaps: list[tuple[dt.datetime, str, str]]

    @property
    def state(self) -> str:
        """The worst that a process or the operator says."""
        if self.row.disabled_at is not None:
            return "disabled"
        if not self.row.enabled:
            return "off"
        worst = (State.OPEN, State.HALF_OPEN, State.COOLING)
        return next((state.value for state in worst if state in self.states), State.CLOSED.value)

    @property
    def p50(self) -> float | None:
        return self.figures.quantile(0.5)

    @property
    def p95(self) -> float | None:
        return self.figures.quantile(0.95)

    @property
    def rate(self) -> float | None:
        return 100.0 * self.figures.failed / self.figures.calls if self.figures.calls else None


class Sheet(msgspec.Struct):
    """A channel with its credentials; `figures` are all of theirs. A channel that has none, or is disabled itself, has
    a line of its own before them."""

    channel: Channel
    lines: list[Line]
    figures: Figures

    @property
    def whole(self) -> Line:
        return Line(self.channel, "", {}, None, self.figures, [])


def sheets(channels: Iterable[Channel]) -> list[Sheet]:
    """The channels' health in the last minutes, over all processes."""
    now = timezone.now()
    reports: dict[str, list[tuple[Report, bool]]] = {}
    for stored in HealthReport.objects.filter(at__gte=now - KEPT):
        reports.setdefault(stored.key, []).append((health.read(stored.content), now - stored.at < ALIVE))
    return [_sheet(channel, reports, now) for channel in channels]


def _sheet(channel: Channel, reports: Mapping[str, list[tuple[Report, bool]]], now: dt.datetime) -> Sheet:
    credentials = sorted(channel.credentials.all(), key=lambda row: row.pk)
    lines = [_line(row, str(row), reports.get(routing.credential_key(row.pk), []), now) for row in credentials]
    if not credentials or channel.disabled_at is not None:
        label = channel.name if credentials else ""
        lines.insert(0, _line(channel, label, reports.get(routing.channel_key(channel.pk), []), now))
    figures = Figures()
    for line in lines:
        figures.join(line.figures)
    return Sheet(channel, lines, figures)


def _line(row: Channel | Credential, label: str, found: list[tuple[Report, bool]], now: dt.datetime) -> Line:
    states: dict[str, int] = {}
    latest = 0.0
    for report, alive in found:
        if alive:
            state = _state_now(report, now)
            states[state] = states.get(state, 0) + 1
            latest = max(latest, report.until if report.until > now.timestamp() else 0.0)
    figures = health.joined((report for report, _ in found), since=int(now.timestamp() // 60) - health.MINUTES + 1)
    mishaps = sorted((mishap for report, _ in found for mishap in report.mishaps), key=lambda m: -m.at)
    return Line(row, label, states, _moment(latest), figures, [_told(mishap) for mishap in mishaps[: health.ERRORS]])


def _state_now(report: Report, now: dt.datetime) -> str:
    """What has become of the state since it was reported: time alone opens what is shut."""
    if not report.until or report.until > now.timestamp():
        return report.state
    return State.HALF_OPEN.value if report.state == State.OPEN else State.CLOSED.value


def _moment(seconds: float) -> dt.datetime | None:
    return dt.datetime.fromtimestamp(seconds, dt.UTC) if seconds else None


def _told(mishap: Mishap) -> tuple[dt.datetime, str, str]:
    return dt.datetime.fromtimestamp(mishap.at, dt.UTC), mishap.kind, mishap.detail
