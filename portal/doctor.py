"""What is misconfigured, each finding in one line with what to do about it."""

import datetime as dt
import os
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
from django.conf import settings
from django.core import checks
from django.db import DatabaseError, connection
from django.db.models import Q
from django.utils import timezone

from billing import catalog, ledger
from billing.audit import reports
from billing.catalog import Catalog
from billing.models import AuditReport, Hold, HoldState, ReportKind, ReportState
from billing.payments import Outcome, rates, registry
from billing.payments.models import PaymentEvent
from keys.models import ApiKey
from portal import demo_data, readiness
from portal.models import Team, Webhook
from relay import demo, partitions, services, vault
from relay.models import Channel, DefaultModel, Heartbeat
from relay.services import Disabled
from relay.statement_models import StatementSource

# What Django finds wrong with an address that is not HTTPS, four times over.
_HTTPS_CHECKS = frozenset({"security.W004", "security.W008", "security.W012", "security.W016"})
WORKER_SILENT = dt.timedelta(seconds=60)
AUDIT_SILENT = dt.timedelta(minutes=10)
REFUSED_LATELY = dt.timedelta(days=7)
ERROR, WARNING = "error", "warning"


class Finding(msgspec.Struct, frozen=True):
    """An `error` keeps something from working or from being safe; a `warning` may be meant."""

    level: str
    what: str
    do: str

    def __str__(self) -> str:
        return f"{self.level}: {self.what}. {self.do}."


def examine() -> list[Finding]:
    """Every finding, errors first. Reads; changes nothing."""
    findings = [finding for part in (_files, _addresses, _deployment, _concurrency, _redis) for finding in part()]
    reachable = True
    try:
        pending = readiness.pending_migrations()
    except DatabaseError:
        reachable, pending = False, []
        findings.append(Finding(ERROR, "the database cannot be reached", "Check DATABASE_URL and that it is running"))
    if pending:
        findings.append(
            Finding(ERROR, f"the database lacks {len(pending)} migrations", "Run `manage.py prepare`, then start again")
        )
    elif reachable:
        for part in _TABLES:
            findings.extend(part())
    return sorted(findings, key=lambda finding: finding.level != ERROR)


# ---- the machine ----------------------------------------------------------------------------------------------------


def _files() -> Iterator[Finding]:
    folder = Path(settings.VAR_DIR)
    if not os.access(folder, os.W_OK | os.X_OK):
        yield Finding(ERROR, f"{folder} cannot be written", "Make it writable, or set VAR_DIR to a folder that is")
    for name in ("pisces.env", demo_data.notes_path().name):
        path = folder / name
        if path.exists() and stat.S_IMODE(path.stat().st_mode) & 0o077:
            yield Finding(ERROR, f"{path} can be read by others", f"Run `chmod 600 {path}`")


def _addresses() -> Iterator[Finding]:
    host = urlsplit(settings.BASE_URL).hostname or ""
    allowed = settings.ALLOWED_HOSTS
    if not host or urlsplit(settings.BASE_URL).scheme not in ("http", "https"):
        yield Finding(ERROR, "BASE_URL is no http or https address", "Set it to the address that people open")
    elif not any(
        name in ("*", host, f"[{host}]") or (name.startswith(".") and f".{host}".endswith(name)) for name in allowed
    ):
        yield Finding(ERROR, f"BASE_URL's host {host} is not among ALLOWED_HOSTS", f"Add {host} to ALLOWED_HOSTS")
    if "*" in allowed:
        yield Finding(WARNING, "ALLOWED_HOSTS lets any name in", "List the names that people use")


def _is_local() -> bool:
    return urlsplit(settings.BASE_URL).hostname in ("127.0.0.1", "localhost", "::1")


def _deployment() -> Iterator[Finding]:
    """Django's own checks. On a machine of one's own the ones about HTTPS say nothing."""
    plain = not _is_local() and not settings.BASE_URL.startswith("https://")
    if plain:
        yield Finding(WARNING, "passwords and keys travel over plain HTTP", "Serve by HTTPS; set BASE_URL=https://…")
    for message in checks.run_checks(include_deployment_checks=not _is_local()):
        if plain and message.id in _HTTPS_CHECKS:
            continue
        level = ERROR if message.level >= checks.ERROR else WARNING
        text = " ".join(str(message.msg).split()).rstrip(".")
        yield Finding(
            level, f"{text} ({message.id})", message.hint.rstrip(".") if message.hint else "See Django's docs"
        )
    if settings.DEBUG and not _is_local():
        yield Finding(ERROR, "DEBUG is on", "Set DEBUG=0: error pages show settings and code")
    if settings.DEMO_PROVIDER and not _is_local():
        yield Finding(WARNING, "this is a demo installation at a public address", "Set DEMO_PROVIDER=0")


def _redis() -> Iterator[Finding]:
    if problem := readiness.redis_problem():
        yield Finding(ERROR, f"Redis {problem}", "Check REDIS_URL and that it is running; without it, unset REDIS_URL")


def _database() -> Iterator[Finding]:
    if connection.vendor != "sqlite":
        return
    with connection.cursor() as cursor:
        mode = cursor.execute("PRAGMA journal_mode").fetchone()[0]
    if mode not in ("wal", "memory"):
        yield Finding(ERROR, f"SQLite's journal is {mode}, not WAL", "Put VAR_DIR on a local disk, not a network one")
    if _processes() > 1:
        yield Finding(
            WARNING, "several server processes share SQLite", "Use PostgreSQL (DATABASE_URL) for more than one"
        )


def _currency() -> Iterator[Finding]:
    if other := ledger.other_currency():
        yield Finding(
            ERROR, f"the books are kept in {other} and CURRENCY is {settings.CURRENCY}", f"Set CURRENCY={other}"
        )


def _processes() -> int:
    """1 for what is no number of them, which `serve` refuses."""
    given = os.environ.get("WEB_CONCURRENCY", "1")
    return int(given) if given.isdecimal() and 0 < int(given) <= 256 else 1


def _concurrency() -> Iterator[Finding]:
    given = os.environ.get("WEB_CONCURRENCY", "1")
    if not given.isdecimal() or not 0 < int(given) <= 256:
        yield Finding(ERROR, f"WEB_CONCURRENCY is {given!r}", "Set it to a number of processes, from 1 to 256")


def _rates() -> Iterator[Finding]:
    """Several processes count rate limits together only through Redis."""
    if settings.REDIS_URL or _processes() == 1:
        return
    some = Q(rpm__gt=0) | Q(tpm__gt=0) | Q(parallel__gt=0)
    by_default = any((settings.DEFAULT_RPM, settings.DEFAULT_TPM, settings.DEFAULT_PARALLEL))
    if by_default or any(owner.objects.filter(some).exists() for owner in (ApiKey, Team, Channel)):
        yield Finding(
            WARNING,
            f"{_processes()} server processes count rate limits each for itself",
            "Set REDIS_URL; without it together they let through up to that many times a limit",
        )


def _payments() -> Iterator[Finding]:
    """Settings of the providers; deliveries that contradicted an order."""
    for provider in registry.PROVIDERS.values():
        for problem in provider.problems():
            yield Finding(ERROR if problem.error else WARNING, problem.what, problem.do)
        if provider.configured() and not any(rates.in_force(name) for name in provider.currencies()):
            names = ", ".join(provider.currencies())
            yield Finding(
                ERROR,
                f"{provider.NAME} is paid in {names}, for which there is no exchange rate",
                "Add one at /admin/billing/exchangerate/",
            )
    since = timezone.now() - REFUSED_LATELY
    refused = PaymentEvent.objects.filter(outcome=Outcome.REFUSED.value, received_at__gte=since).count()
    if refused:
        yield Finding(
            WARNING,
            f"{refused} events of payments contradicted their orders in the last {REFUSED_LATELY.days} days",
            "Look at /admin/billing/paymentevent/?outcome=refused",
        )


def _worker() -> Iterator[Finding]:
    beat = Heartbeat.objects.filter(name="sweep_holds").first()
    if beat is None or timezone.now() - beat.at > WORKER_SILENT:
        since = f"has not run since {beat.at:%Y-%m-%d %H:%M} UTC" if beat else "has never run"
        yield Finding(WARNING, f"the worker {since}", "Start `manage.py worker`; without it, lost calls stay held")


def _call_log() -> Iterator[Finding]:
    if missing := partitions.missing_ahead():
        yield Finding(
            WARNING,
            f"the call log has no partition {' and '.join(missing)}",
            "Start `manage.py worker`; until then these calls are kept with the rest, and are slower to read",
        )
    if 0 < settings.CALL_LOG_MONTHS < 3:
        yield Finding(
            WARNING,
            f"calls are kept for {settings.CALL_LOG_MONTHS} months only",
            "Set CALL_LOG_MONTHS to 3 or more: customers may ask about the calls of an invoice",
        )


def _reviews() -> Iterator[Finding]:
    if waiting := Hold.objects.open().filter(state=HoldState.REVIEW).count():
        yield Finding(
            WARNING,
            f"{waiting} calls are in review: their process died before it was known what they cost",
            "Decide each at /admin/relay/review/; until then their money stays reserved",
        )


def _audit() -> Iterator[Finding]:
    if violations := reports.open_findings():
        yield Finding(
            ERROR,
            f"the books have {violations} violations",
            "See the audit's findings in the administration; `manage.py audit` looks again",
        )
    for kind in ReportKind:
        last = reports.latest(kind)
        if last is not None and last.state == ReportState.FAILED:
            yield Finding(ERROR, f"the last {kind} audit did not finish: {last.note[:200]}", "Run `manage.py audit`")
    first = AuditReport.objects.order_by("pk").first()
    last = reports.latest(ReportKind.RECENT)
    if first is not None and (last is None or timezone.now() - last.began_at > AUDIT_SILENT):
        since = f"{last.began_at:%Y-%m-%d %H:%M} UTC" if last else "the installation"
        yield Finding(WARNING, f"the books have not been audited since {since}", "Start `manage.py worker`")


# ---- channels and models --------------------------------------------------------------------------------------------


def _channels() -> Iterator[Finding]:
    models = catalog.load()
    channels = list(Channel.objects.filter(enabled=True).prefetch_related("credentials"))
    for channel in channels:
        yield from _credentials(channel)
        for name in channel.models:
            if name not in models:
                yield Finding(
                    WARNING,
                    f"channel {channel.name} serves {name}, which is not an offered model",
                    f"Add {name} with a price to the models, or take it out of the channel",
                )
        if not channel.models:
            yield Finding(WARNING, f"channel {channel.name} serves no model", "Name its models, or disable it")
    yield from _models(models, channels)
    if not channels:
        yield Finding(WARNING, "no channel is enabled", "Apply a file with channels: `manage.py apply FILE.yaml`")


def _credentials(channel: Channel) -> Iterator[Finding]:
    credentials = list(channel.credentials.all())
    usable = [credential for credential in credentials if credential.enabled and credential.disabled_at is None]
    for credential in credentials:
        if credential.disabled_at is not None:
            what = f"the provider refuses the credential …{credential.last_four} of channel {channel.name}"
            yield _disabled(what, credential)
        if services.opened(credential) is None:
            yield Finding(
                ERROR,
                f"the credential …{credential.last_four} of channel {channel.name} cannot be decrypted",
                "Put its old key back into ENCRYPTION_KEYS, or give the credential again",
            )
    if channel.disabled_at is not None:
        yield _disabled(f"channel {channel.name} is disabled", channel)
    if not usable and channel.base_url != demo.ADDRESS:
        level = WARNING if channel.private else ERROR
        yield Finding(level, f"channel {channel.name} has no credential in use", "Give it api_keys, or disable it")


def _disabled(what: str, row: Disabled) -> Finding:
    since = f"{row.disabled_at:%Y-%m-%d %H:%M} UTC"
    return Finding(
        WARNING,
        f"{what} since {since}: {' '.join(row.disabled_reason.split())[:120]}",
        "Look at /admin/relay/channel/health/; give another credential, or enable it there",
    )


def _sealed() -> Iterator[Finding]:
    """What `_credentials` has not said: secrets of webhooks and of where bills are read."""
    unread = "cannot be decrypted"
    for source in StatementSource.objects.select_related("channel"):
        if not vault.opens(bytes(source.secret), row=source.uid):
            yield Finding(
                ERROR,
                f"the credential …{source.last_four} for the bill of channel {source.channel.name} {unread}",
                "Put its old key back into ENCRYPTION_KEYS, or give the credential again",
            )
    webhooks = Webhook.objects.filter(disabled_at=None).only("uid", "secret")
    if lost := sum(not vault.opens(bytes(webhook.secret), row=webhook.uid) for webhook in webhooks.iterator()):
        yield Finding(
            ERROR,
            f"the secrets of {lost} webhooks {unread}: they are sent nothing",
            "Put the old key back into ENCRYPTION_KEYS, or have their users make them anew",
        )


def _models(models: Catalog, channels: list[Channel]) -> Iterator[Finding]:
    now = time.time()
    served = {name: [channel for channel in channels if name in channel.models] for name in models}
    for name, model in models.items():
        if model.price_at(now) is None:
            yield Finding(WARNING, f"model {name} has no price in force", "Give it one; until then it is not callable")
        if not served[name]:
            yield Finding(WARNING, f"model {name} is offered, but no channel serves it", "Add it to a channel")
        kinds = {channel.base_url == demo.ADDRESS for channel in served[name]}
        if len(kinds) == 2:
            yield Finding(
                WARNING,
                f"model {name} is served by a provider and by the demo channel",
                "Disable the demo channel: it answers where the provider fails",
            )
    for default in DefaultModel.objects.all():
        if default.model not in models:
            yield Finding(
                WARNING,
                f"the default of {default.endpoint} is {default.model}, which is not an offered model",
                "Change `defaults` in the operator's file",
            )


_TABLES: tuple[Callable[[], Iterator[Finding]], ...] = (
    _database, _currency, _rates, _payments, _worker, _audit, _call_log, _reviews, _channels,
    _sealed,
)  # fmt: skip
