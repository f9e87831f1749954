"""The audit as it is run: a report each time, the accounts concerned stopped, an alert for what is new.

Nothing is repaired and no account is set free by itself. An account that was stopped already keeps its reason, and one
that an administrator has set free is stopped again by a new finding only.
"""

import datetime as dt
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import structlog
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core import mail
from django.db import transaction
from django.utils import timezone, translation
from django.utils.translation import gettext, gettext_noop

from billing import audit, ledger
from billing.audit import checks, recent, snapshot
from billing.audit.checks import Finding
from billing.models import AuditFinding, AuditReport, ReportKind, ReportState

log = structlog.get_logger(__name__)

MOST_FINDINGS = 1_000  # that a run keeps as rows; it stops every account, and counts them all
MOST_IN_MAIL = 50
# After which a report without an end is of a run that died.
LONGEST = {ReportKind.FULL: dt.timedelta(hours=6), ReportKind.RECENT: dt.timedelta(minutes=15)}
CARRIED_OUT = gettext_noop("the audit can be carried out")
KEPT = dt.timedelta(days=30)  # reports of incremental runs that found nothing


def full() -> list[Finding]:
    """Everything, in one snapshot. The findings, which are dealt with when it returns."""
    return _reported(ReportKind.FULL, _look_at_everything)


def look_at_recent() -> list[Finding]:
    """What is new, and the next slice of everything. The findings, which are dealt with when it returns."""
    return _reported(ReportKind.RECENT, _look_at_recent)


class _Looked:
    """What a run has to say: its findings, the known ones that it looked for again, and what it keeps when done."""

    def __init__(
        self, findings: list[Finding], figures: dict[str, Any], again: Callable[[str], bool], keep: Callable[[], None]
    ) -> None:
        self.findings = findings
        self.figures = figures
        self.again = again
        self.keep = keep


def tell(findings: Sequence[Finding], *, looked: frozenset[str]) -> None:
    """What a job found that audits its own tables: reported as all findings are. `looked` are the subjects that it
    looked at, whose other findings are gone."""
    _reported(ReportKind.RECENT, lambda: _Looked(list(findings), {}, looked.__contains__, lambda: None))


# Subjects of findings that a full audit does not look for by that name.
_OTHERS = ("audit ", "hour ")


def _look_at_everything() -> _Looked:
    with snapshot.taken():
        findings = audit.run()
        figures = {subject.value: checks.count(subject, checks.ALL) for subject in checks.TABLES}
    return _Looked(findings, figures, lambda subject: not subject.startswith(_OTHERS), lambda: None)


def _look_at_recent() -> _Looked:
    suspects = AuditFinding.objects.filter(gone_at=None).values_list("subject", flat=True).distinct()
    seen = recent.look(recent.load(), list(suspects))
    return _Looked(seen.findings, seen.figures, seen.again.__contains__, lambda: recent.save(seen))


def _reported(kind: ReportKind, look: Callable[[], _Looked]) -> list[Finding]:
    began = timezone.now()
    _bury(began)
    report = AuditReport.objects.create(kind=kind, began_at=began)
    try:
        looked = look()
        new = _stop(report, looked.findings)
        _record(report, looked, new)
    except BaseException as error:
        log.error("audit.failed", report=report.pk, error=type(error).__name__)
        _give_up(report, f"{type(error).__name__}: {error}"[:500])
        raise
    _alert()
    log.info("audit.done", report=report.pk, kind=kind.value, violations=len(looked.findings))
    return looked.findings


def _bury(now: dt.datetime) -> None:
    """Runs that died are said to have, and reports of nothing are not kept for ever."""
    for kind, longest in LONGEST.items():
        running = AuditReport.objects.filter(kind=kind, state=ReportState.RUNNING, began_at__lt=now - longest)
        running.update(state=ReportState.FAILED, note="the process ended before the audit did")
    idle = AuditReport.objects.filter(kind=ReportKind.RECENT, state=ReportState.OK, began_at__lt=now - KEPT)
    idle.filter(findings=None).delete()


def _end(report: AuditReport, state: ReportState, **fields: Any) -> None:
    AuditReport.objects.filter(pk=report.pk).update(state=state, ended_at=timezone.now(), **fields)


def _give_up(report: AuditReport, why: str) -> None:
    """An audit that cannot be carried out is a finding too, until one is."""
    _end(report, ReportState.FAILED, note=why)
    now = timezone.now()
    finding = {"report": report, "detail": why, "first_seen": now, "last_seen": now}
    row, _ = AuditFinding.objects.get_or_create(
        invariant=CARRIED_OUT, subject=f"audit {report.kind}", gone_at=None, defaults=finding
    )
    AuditFinding.objects.filter(pk=row.pk).update(last_seen=now, detail=why)
    _alert()


# ---- consequences ---------------------------------------------------------------------------------------------------


def _stop(report: AuditReport, findings: Sequence[Finding]) -> dict[tuple[str, str], bool]:
    """Freezes the accounts of findings that are not known yet. Those findings, and whether they froze their account.

    Before anything is recorded: a run that dies in between leaves findings that are new to the next.
    """
    known = set(AuditFinding.objects.filter(gone_at=None).values_list("invariant", "subject"))
    new: dict[tuple[str, str], bool] = {}
    for finding in sorted(findings, key=lambda finding: finding.account or 0):
        if (name := (finding.check, finding.subject)) in known:
            continue
        reason = f"audit report {report.pk}: {finding.check}"
        new[name] = finding.freezes and finding.account is not None and ledger.stop(finding.account, reason=reason)
        if len(new) > MOST_FINDINGS:
            continue
        log.error(
            "audit.violation",
            report=report.pk,
            check=finding.check,
            subject=finding.subject,
            detail=finding.detail,
            account=finding.account,
            frozen=new[name],
        )
    return new


@transaction.atomic
def _record(report: AuditReport, looked: _Looked, new: dict[tuple[str, str], bool]) -> None:
    now = timezone.now()
    found = {(finding.check, finding.subject): finding for finding in looked.findings}
    opened = AuditFinding.objects.filter(gone_at=None)
    for row in opened:
        if seen := found.get((row.invariant, row.subject)):
            # What was found before it was kept whether it stops is known now; what has stopped its account once does
            # so as long as it stands, also a call that is none of the last day any more.
            freezes = row.freezes or seen.freezes
            opened.filter(pk=row.pk).update(last_seen=now, detail=seen.detail[:500], freezes=freezes)
        elif (looked.again(row.subject) or row.subject == f"audit {report.kind}") and row.last_seen < report.began_at:
            opened.filter(pk=row.pk).update(gone_at=now)
    rows = [
        AuditFinding(
            report=report,
            invariant=name[0],
            subject=name[1],
            detail=found[name].detail[:500],
            account_id=found[name].account,
            freezes=found[name].freezes,
            froze=froze,
            first_seen=now,
            last_seen=now,
        )
        for name, froze in list(new.items())[:MOST_FINDINGS]
    ]
    AuditFinding.objects.bulk_create(rows, ignore_conflicts=True)  # another run may have been quicker
    looked.keep()
    state = ReportState.VIOLATED if found else ReportState.OK
    _end(report, state, figures=looked.figures, violations=len(found))


def _alert() -> None:
    """One letter to the administrators with every finding that none has told of yet."""
    untold = [
        row
        for row in AuditFinding.objects.filter(alerted_at=None, gone_at=None).order_by("pk")[:MOST_FINDINGS]
        if AuditFinding.objects.filter(pk=row.pk, alerted_at=None).update(alerted_at=timezone.now())
    ]
    if not untold:
        return
    try:
        _write_to_administrators(untold)
    except Exception as error:  # the post may be down: the next run tries again
        log.error("audit.alert_not_sent", error=type(error).__name__)
        AuditFinding.objects.filter(pk__in=[row.pk for row in untold]).update(alerted_at=None)


def _write_to_administrators(findings: Sequence[AuditFinding]) -> None:
    administrators = get_user_model().objects.filter(is_superuser=True, is_active=True).exclude(email="")
    addresses = list(administrators.values_list("email", flat=True))
    if not addresses:
        log.error("audit.nobody_to_alert", findings=len(findings))
        return
    with translation.override(settings.LANGUAGE_CODE):
        subject = gettext("Pisces: the books have %(count)d new violations") % {"count": len(findings)}
        lines = [
            _opening(findings),
            *_lines(findings),
            f"{settings.BASE_URL}/admin/billing/auditfinding/",
        ]
    for address in addresses:  # one each: they need not learn of one another
        mail.send_mail(subject, "\n\n".join(lines), settings.DEFAULT_FROM_EMAIL, [address])


def _opening(findings: Sequence[AuditFinding]) -> str:
    if all(finding.invariant == CARRIED_OUT for finding in findings):
        return gettext("The audit could not be carried out, so nobody knows whether the books are whole.")
    return gettext("The audit found what must not be. The wallets concerned were stopped; nothing was changed.")


def _lines(findings: Sequence[AuditFinding]) -> Iterable[str]:
    for finding in findings[:MOST_IN_MAIL]:
        stopped = gettext("account %(number)s stopped") % {"number": finding.account_id} if finding.froze else ""
        yield f"{gettext(finding.invariant)}: {finding.subject}: {finding.detail} {stopped}".strip()
    if len(findings) > MOST_IN_MAIL:
        yield gettext("and %(count)d more") % {"count": len(findings) - MOST_IN_MAIL}


# ---- what is known --------------------------------------------------------------------------------------------------


def open_findings() -> int:
    """How many violations stand."""
    return AuditFinding.objects.filter(gone_at=None).count()


def latest(kind: ReportKind) -> AuditReport | None:
    """The last run of this kind that has ended."""
    ended = AuditReport.objects.filter(kind=kind).exclude(state=ReportState.RUNNING)
    return ended.order_by("-pk").first()
