"""Sources, statements and what follows from them: the only writer of their tables.

A statement is kept as it was read and never changed; a newer one of the same day takes its place beside our cost. The
comparison is made anew with each, so it can be repeated by anybody at any time and says the same.
"""

import datetime as dt
from collections.abc import Mapping
from urllib.parse import urlsplit

import msgspec
import structlog
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.utils.translation import gettext_noop

from relay import services as channels
from relay import vault
from relay.models import Channel
from relay.statement_models import RATE_ONE, DriftState, Reconciliation, Statement, StatementReading, StatementSource
from relay.statements import comparing, fetching, selectors, uploaded
from relay.statements.comparing import Compared
from relay.statements.fetching import Fetched
from relay.statements.registry import ADAPTERS
from relay.statements.values import Bill, Unreadable

log = structlog.get_logger(__name__)

DAYS_BACK = 7  # a provider corrects its bill for some days
READY = dt.timedelta(hours=1)  # after a day's end; before that its bill is hardly whole
SOON, LATER = dt.timedelta(minutes=50), dt.timedelta(hours=20)  # between two looks at a day: yesterday, and before
NEAR = dt.timedelta(hours=2)  # of midnight, in which a running total must have been read


class NotExplained(Exception):
    """The figures are not those that the administrator saw, or there is nothing to explain."""


class SourceSpec(msgspec.Struct, kw_only=True):
    """Where a channel's bill is. `rate` is in millionths (`statement_models`); `secret` None keeps the stored one."""

    adapter: str
    base_url: str = ""
    secret: str | None = None
    scope: str = ""
    rate: int = RATE_ONE
    enabled: bool = True


# ---- sources --------------------------------------------------------------------------------------------------------


@transaction.atomic
def save_source(channel: Channel, spec: SourceSpec) -> StatementSource:
    """Makes or changes where the channel's bill is read. Raises ValidationError.

    A credential is never sent to an address that it was not given for, nor by another kind of bill.
    """
    url = check_source(channel, spec)
    row = StatementSource.objects.select_for_update().filter(channel=channel).first()
    if row is not None and _is_moved(row, url, spec):
        row.readings.all().delete()  # a running total of another place
    row = row or StatementSource(channel=channel)
    row.adapter, row.base_url, row.scope = spec.adapter, url, ",".join(scope_of(spec.scope))
    row.rate, row.enabled = spec.rate, spec.enabled
    if spec.secret:
        row.secret, row.last_four = vault.encrypt(spec.secret, row=row.uid), channels.shown(spec.secret)
    row.save()
    return row


def check_source(channel: Channel, spec: SourceSpec) -> str:
    """The address that the source would have. Raises ValidationError."""
    adapter = ADAPTERS.get(spec.adapter)
    if adapter is None:
        raise ValidationError({"adapter": _("Unknown kind of bill.")})
    url = (spec.base_url.strip() or adapter.BASE_URL).rstrip("/")
    _check(channel, url, spec)
    row = StatementSource.objects.filter(channel=channel).first()
    if (row is None or _is_moved(row, url, spec)) and not spec.secret:
        raise ValidationError({"secret": _("The address is new: enter the credential for it.")})
    return url


def _is_moved(row: StatementSource, url: str, spec: SourceSpec) -> bool:
    return (row.base_url, row.adapter) != (url, spec.adapter)


def _check(channel: Channel, url: str, spec: SourceSpec) -> None:
    errors = {}
    if problem := channels.url_problem(url):
        errors["base_url"] = problem
    elif not fetching.may_be_private(channel, url):
        if channels.is_private(url):
            errors["base_url"] = _("This is a private address, and not the one that the operator's file allows.")
        elif urlsplit(url).scheme != "https":
            errors["base_url"] = _("The credential of a bill is sent by https only.")
    if spec.secret and (problem := channels.secret_problem(spec.secret)):
        errors["secret"] = problem
    if not 0 < spec.rate <= 10**12:
        errors["rate"] = _("A rate of exchange is a decimal above 0.")
    if len(spec.scope) > 500 or not all(name.isascii() and name.isprintable() for name in scope_of(spec.scope)):
        errors["scope"] = _("Names are separated by commas.")
    if errors:
        raise ValidationError(errors)


def scope_of(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for part in text.split(",") if (name := part.strip())))


# ---- reading --------------------------------------------------------------------------------------------------------


def due(now: dt.datetime | None = None) -> list[tuple[int, dt.date]]:
    """The sources and days that should be asked about now: yesterday every hour while its bill is missing or differs,
    the days before it once a day, for a week."""
    now = now or timezone.now()
    today = (now - READY).astimezone(dt.UTC).date()
    found = []
    for source in StatementSource.objects.filter(enabled=True).order_by("pk"):
        days = [today - dt.timedelta(days=age) for age in range(1, DAYS_BACK + 1)]
        rows = {row.day: row for row in Reconciliation.objects.filter(channel=source.channel_id, day__in=days)}
        found += [(source.pk, day) for day in days if _is_due(rows.get(day), day, now)]
    return found


def _is_due(row: Reconciliation | None, day: dt.date, now: dt.datetime) -> bool:
    if row is None or row.asked_at is None:
        return True
    fresh = now - comparing.span(day)[1] < dt.timedelta(days=1)
    settled = row.state in (DriftState.AGREED, DriftState.EXPLAINED)
    return now - row.asked_at >= (SOON if fresh and not settled else LATER)


def read_totals(now: dt.datetime | None = None) -> int:
    """Asks those providers that tell a running total only, each once an hour. How many answered."""
    now = now or timezone.now()
    hour = now.replace(minute=0, second=0, microsecond=0)
    rows = StatementSource.objects.filter(enabled=True).select_related("channel")
    running = [row for row in rows if _is_cumulative(row) and not row.readings.filter(at__gte=hour).exists()]
    return sum(_read_total(source) for source in running)


def _is_cumulative(source: StatementSource) -> bool:
    return source.adapter in ADAPTERS and ADAPTERS[source.adapter].CUMULATIVE


def _read_total(source: StatementSource) -> bool:
    try:
        found = _fetched(source, timezone.now().date())
        assert found.bill.total is not None
        total = comparing.in_nano(found.bill.total, source.rate)
        StatementReading.objects.create(source=source, at=timezone.now(), total=total, digest=found.digest)
    except Unreadable as error:
        log.warning("statement.unreadable", channel=source.channel.name, why=error.message % error.facts)
        return False
    return True


def reconcile(source: int, day: dt.date, *, asked: dt.datetime | None = None) -> Reconciliation | None:
    """Reads a day's bill and compares it with our cost. None where another worker does, or there is no such source.

    What goes wrong stands in the row's `problem`; a statement that was read before stays in force.
    """
    row = StatementSource.objects.filter(pk=source, enabled=True).select_related("channel").first()
    if row is None or not _claimed(row.channel, day, asked or timezone.now()):
        return None
    try:
        statement = _daily(row, day)
    except Unreadable as error:
        return _troubled(row.channel, day, error)
    return compare(row.channel, day, statement)


def _claimed(channel: Channel, day: dt.date, now: dt.datetime) -> bool:
    """Whether the day is this worker's to ask about: of several, one a minute."""
    row, _made = Reconciliation.objects.get_or_create(channel=channel, day=day)
    if row.asked_at is not None and now - row.asked_at < dt.timedelta(minutes=1):
        return False
    return bool(Reconciliation.objects.filter(pk=row.pk, asked_at=row.asked_at).update(asked_at=now))


def _fetched(source: StatementSource, day: dt.date) -> Fetched:
    adapter = ADAPTERS.get(source.adapter)
    if adapter is None:
        raise Unreadable(gettext_noop("Nobody here can read this kind of bill any more."))
    return fetching.fetch(source, adapter, adapter.read(day, scope_of(source.scope)))


def _daily(source: StatementSource, day: dt.date) -> Statement:
    if _is_cumulative(source):
        return _between(source, day)
    found = _fetched(source, day)
    start, end = comparing.span(day)
    return _keep(
        source.channel,
        day,
        source.adapter,
        found.bill,
        found.digest,
        rate=source.rate,
        starts_at=start,
        ends_at=end,
    )


def _between(source: StatementSource, day: dt.date) -> Statement:
    """The day as the difference of two readings of a running total. Our cost is then taken between the same moments."""
    start, end = (_reading(source, moment) for moment in comparing.span(day))
    if end.total < start.total:
        raise Unreadable(gettext_noop("The provider's running total went back, so nothing can be said of this day."))
    statement, _made = Statement.objects.get_or_create(
        channel=source.channel,
        day=day,
        adapter=source.adapter,
        digest=end.digest,
        defaults={"starts_at": start.at, "ends_at": end.at, "amount": end.total - start.total},
    )
    return statement


def _reading(source: StatementSource, moment: dt.datetime) -> StatementReading:
    found = source.readings.filter(at__gte=moment, at__lt=moment + NEAR).order_by("at").first()
    if found is None:
        message = gettext_noop("The running total was not read near %(moment)s UTC.")
        raise Unreadable(message, moment=f"{moment:%Y-%m-%d %H:%M}")
    return found


def _keep(
    channel: Channel,
    day: dt.date,
    adapter: str,
    bill: Bill,
    digest: str,
    *,
    rate: int,
    starts_at: dt.datetime,
    ends_at: dt.datetime,
    actor: str = "",
) -> Statement:
    statement, _made = Statement.objects.get_or_create(
        channel=channel,
        day=day,
        adapter=adapter,
        digest=digest,
        defaults={
            "starts_at": starts_at,
            "ends_at": ends_at,
            "amount": None if bill.total is None else comparing.in_nano(bill.total, rate),
            "lines": comparing.stored(bill, rate),
            "actor": actor[:200],
        },
    )
    return statement


# ---- uploading ------------------------------------------------------------------------------------------------------


def keep_upload(
    channel: Channel, bills: Mapping[dt.date, Bill], digest: str, *, rate: int, actor: str
) -> list[Reconciliation]:
    """Keeps a file's bills and compares them, all or none. Raises Unreadable."""
    with transaction.atomic():
        kept = []
        for day, bill in bills.items():
            start, end = comparing.span(day)
            statement = _keep(
                channel, day, uploaded.NAME, bill, digest, rate=rate, starts_at=start, ends_at=end, actor=actor
            )
            Reconciliation.objects.get_or_create(channel=channel, day=day)
            kept.append(compare(channel, day, statement))
        return kept


def previewed(channel: Channel, bills: Mapping[dt.date, Bill], *, rate: int) -> list[tuple[dt.date, Compared]]:
    """What keeping a file's bills would say. Raises Unreadable."""
    found = []
    for day, bill in bills.items():
        ours = selectors.ours(channel, *comparing.span(day))
        total = None if bill.total is None else comparing.in_nano(bill.total, rate)
        found.append((day, comparing.compare(ours, total, comparing.stored(bill, rate))))
    return found


# ---- comparing ------------------------------------------------------------------------------------------------------


def compare(channel: Channel, day: dt.date, statement: Statement) -> Reconciliation:
    """Puts our cost beside the statement. What was explained stays so while the figures stay."""
    found = comparing.compare(
        selectors.ours(channel, statement.starts_at, statement.ends_at), statement.amount, statement.lines
    )
    with transaction.atomic():
        row = Reconciliation.objects.select_for_update().get(channel=channel, day=day)
        same = (row.ours, row.theirs, row.categories) == (found.ours, found.theirs, _written(found.parts))
        row.statement, row.compared_at = statement, timezone.now()
        row.problem, row.problem_facts = "", {}
        row.ours, row.theirs, row.drift = found.ours, found.theirs, found.drift
        row.attempts, row.unpriced = found.attempts, found.unpriced
        row.categories, row.per_model = _written(found.parts), _written(found.shares)
        row.state = _state(row, found, same)
        if row.state == DriftState.OPEN and (row.alerted_at is None or not same):
            row.alerted_at = timezone.now()
            _alert(row)
        elif row.state == DriftState.AGREED:
            row.alerted_at = None
        row.save()
    return row


def _state(row: Reconciliation, found: Compared, same: bool) -> str:
    if not found.off:
        return DriftState.AGREED
    return row.state if same and row.state == DriftState.EXPLAINED else DriftState.OPEN


def _alert(row: Reconciliation) -> None:
    differing = ",".join(part["category"] for part in row.categories if part["off"])
    log.warning(
        "statement.drift",
        channel=row.channel.name,
        day=row.day.isoformat(),
        ours=row.ours,
        theirs=row.theirs,
        drift=row.drift,
        categories=differing,
    )


def _written(rows: tuple[comparing.Part, ...] | tuple[comparing.Share, ...]) -> list[object]:
    return [msgspec.structs.asdict(row) for row in rows]


def _troubled(channel: Channel, day: dt.date, error: Unreadable) -> Reconciliation:
    """Our cost is shown all the same; a statement that is there stays."""
    row = Reconciliation.objects.get(channel=channel, day=day)
    Reconciliation.objects.filter(pk=row.pk).update(problem=error.message[:300], problem_facts=error.facts)
    if row.state == DriftState.WAITING:
        ours = selectors.ours(channel, *comparing.span(day))
        found = comparing.compare(ours, None, ())
        Reconciliation.objects.filter(pk=row.pk, state=DriftState.WAITING).update(
            ours=found.ours, attempts=found.attempts, unpriced=found.unpriced
        )
    log.warning("statement.unreadable", channel=channel.name, day=day.isoformat(), why=error.message % error.facts)
    row.refresh_from_db()
    return row


def explain(*, reconciliation: int, drift: int, note: str, user: int) -> None:
    """Somebody knows why the bill differs by so much. Raises NotExplained where it does not any more."""
    if not note.strip():
        raise NotExplained(gettext_noop("An explanation is needed; it stays with the day."))
    found = Reconciliation.objects.filter(
        pk=reconciliation, drift=drift, state__in=(DriftState.OPEN, DriftState.EXPLAINED)
    )
    done = found.update(
        state=DriftState.EXPLAINED, note=note.strip()[:500], explained_by=user, explained_at=timezone.now()
    )
    if not done:
        raise NotExplained(gettext_noop("The figures have changed meanwhile: look at them again."))
