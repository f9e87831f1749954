"""What an audit leaves behind: a report, stopped wallets, a letter, and nothing repaired."""

import datetime as dt
import json
import uuid
from io import StringIO
from typing import Any

import psycopg
import pytest
from django.core import mail
from django.core.management import call_command
from django.db import connection
from django.utils import timezone

from billing import audit, debts, ledger, tasks
from billing.audit import recent, reports
from billing.models import Account, AuditFinding, AuditMark, AuditReport, ReportKind, ReportState, Transfer
from billing.operations import CloseHold
from portal import doctor, services
from portal.celery import app
from portal.models import User
from tests.billing.conftest import Ledger
from tests.billing.conftest import book as book  # the fixture

BALANCE = "a wallet's balance is the sum of its transfers"


@pytest.fixture
def operator(db: None) -> User:
    return User.objects.create_superuser("operator@example.com", "a long enough password")


@pytest.fixture
def wallet(alice: User, operator: User) -> Account:
    return ledger.wallet_of(services.personal_team(alice).pk)


def drift(wallet: Account, by: int = 1) -> None:
    Account.objects.filter(pk=wallet.pk).update(balance=ledger.wallet_of(wallet.team_id or 0).balance + by)


def frozen(wallet: Account) -> str:
    return Account.objects.get(pk=wallet.pk).frozen


@pytest.mark.parametrize("look", [reports.full, reports.look_at_recent])
def test_books_that_are_whole_leave_a_report_that_says_so(wallet: Account, look: Any) -> None:
    assert look() == []
    report = AuditReport.objects.get()
    assert (report.state, report.violations, report.note) == (ReportState.OK, 0, "")
    assert report.ended_at is not None
    assert report.ended_at >= report.began_at
    assert report.figures["transfer"] == 1
    assert frozen(wallet) == ""
    assert mail.outbox == []


@pytest.mark.parametrize("look", [reports.full, reports.look_at_recent])
def test_a_violation_stops_the_wallet_names_the_report_and_is_told_once(wallet: Account, bob: User, look: Any) -> None:
    drift(wallet)
    assert [finding.check for finding in look()] == [BALANCE]
    report, finding = AuditReport.objects.get(), AuditFinding.objects.get()
    assert (report.state, report.violations) == (ReportState.VIOLATED, 1)
    assert (finding.report, finding.account_id, finding.froze) == (report, wallet.pk, True)
    assert finding.subject == f"account {wallet.pk}"
    assert frozen(wallet) == f"audit report {report.pk}: {BALANCE}"
    (letter,) = mail.outbox
    assert letter.to == ["operator@example.com"]
    assert BALANCE in letter.body
    assert f"account {wallet.pk}" in letter.body
    balance = Account.objects.get(pk=wallet.pk).balance
    look()
    again = AuditFinding.objects.get()
    assert again.last_seen > again.first_seen == finding.first_seen
    assert len(mail.outbox) == 1
    assert Account.objects.get(pk=wallet.pk).balance == balance  # nothing is repaired


def test_a_wallet_that_was_set_free_is_stopped_again_by_a_new_finding_only(wallet: Account) -> None:
    drift(wallet)
    reports.look_at_recent()
    ledger.unfreeze(wallet=wallet)
    reports.look_at_recent()
    assert frozen(wallet) == ""
    drift(wallet, -1)
    reports.look_at_recent()
    assert AuditFinding.objects.get().gone_at is not None
    assert AuditReport.objects.latest("pk").state == ReportState.OK
    drift(wallet, -5)
    reports.look_at_recent()
    assert AuditFinding.objects.filter(gone_at=None).count() == 1
    assert frozen(wallet).startswith("audit report")
    assert len(mail.outbox) == 2


def test_a_wallet_frozen_for_another_reason_keeps_it(wallet: Account) -> None:
    ledger.freeze(wallet=wallet, reason="owes rent")
    drift(wallet)
    reports.full()
    assert frozen(wallet) == "owes rent"
    assert not AuditFinding.objects.get().froze


def test_a_wallet_whose_books_are_wrong_stays_stopped_when_the_debt_is_paid_that_had_stopped_it(
    book: Ledger,
) -> None:
    book.run(CloseHold(book.open(100), 5000))
    drift(book.wallet)
    reports.full()
    assert frozen(book.wallet).endswith("could pay")
    ledger.credit(wallet=book.wallet, amount=10_000, actor="tests", reason="more")
    assert debts.settle_all() == 1
    report = AuditReport.objects.get()
    assert frozen(book.wallet) == f"audit report {report.pk}: {BALANCE}"


def test_a_finding_from_before_it_was_kept_whether_it_stops_is_known_to_when_it_is_found_again(book: Ledger) -> None:
    book.run(CloseHold(book.open(100), 5000))
    drift(book.wallet)
    reports.full()
    AuditFinding.objects.update(freezes=False)  # as the migration leaves it: the wallet had been stopped already
    reports.look_at_recent()
    ledger.credit(wallet=book.wallet, amount=10_000, actor="tests", reason="more")
    assert debts.settle_all() == 1
    assert frozen(book.wallet).startswith("audit report")


def test_a_finding_that_has_stopped_its_account_keeps_it_stopped_when_it_would_stop_no_other(book: Ledger) -> None:
    priced = "a usage record's lines follow from usage and price, and add up to its cost"
    subject = f"call {uuid.uuid4()}"
    book.run(CloseHold(book.open(100), 5000))
    for freezes in (True, False):
        found = audit.Finding(priced, subject, "cost 2, due 1", book.account, freezes=freezes)
        reports.tell([found], looked=frozenset())
    ledger.credit(wallet=book.wallet, amount=10_000, actor="tests", reason="more")
    assert debts.settle_all() == 1
    assert frozen(book.wallet).startswith("audit report")


def test_what_is_told_and_stops_nobody_keeps_no_wallet_stopped_when_its_debt_is_paid(book: Ledger) -> None:
    book.run(CloseHold(book.open(100), 5000))
    priced = "a usage record's lines follow from usage and price, and add up to its cost"
    old_call = audit.Finding(priced, f"call {uuid.uuid4()}", "cost 2, due 1", book.account, freezes=False)
    reports.tell([old_call], looked=frozenset())
    ledger.credit(wallet=book.wallet, amount=10_000, actor="tests", reason="more")
    assert debts.settle_all() == 1
    assert frozen(book.wallet) == ""


def test_what_an_administrator_has_let_run_is_not_stopped_for_it_when_a_later_debt_is_paid(book: Ledger) -> None:
    drift(book.wallet)
    reports.full()
    ledger.unfreeze(wallet=book.wallet)
    book.run(CloseHold(book.open(100), 5000))
    ledger.credit(wallet=book.wallet, amount=10_000, actor="tests", reason="more")
    assert debts.settle_all() == 1
    assert frozen(book.wallet) == ""


def test_a_violation_of_no_account_stops_nobody_and_is_told(wallet: Account) -> None:
    Account.objects.filter(kind="payments").update(currency="XXX")
    assert {finding.freezes for finding in reports.full() if finding.account != wallet.pk} == {False}
    assert len(mail.outbox) == 1


def test_a_letter_that_cannot_be_sent_is_sent_by_the_next_run(wallet: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    drift(wallet)
    with monkeypatch.context() as patched:
        patched.setattr(mail, "send_mail", lambda *_: (_ for _ in ()).throw(OSError("no post today")))
        reports.look_at_recent()
    assert mail.outbox == []
    reports.look_at_recent()
    assert len(mail.outbox) == 1


def test_an_audit_that_fails_says_so_and_tells_until_one_succeeds(
    wallet: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(audit, "run", lambda: 1 / 0)
        for _ in range(2):
            with pytest.raises(ZeroDivisionError):
                reports.full()
    assert [report.state for report in AuditReport.objects.all()] == [ReportState.FAILED] * 2
    assert "ZeroDivisionError" in AuditReport.objects.latest("pk").note
    (letter,) = mail.outbox
    assert "could not be carried out" in letter.body
    assert "stopped" not in letter.body
    assert any("did not finish" in finding.what for finding in doctor.examine())
    reports.look_at_recent()
    assert reports.open_findings() == 1
    reports.full()
    assert reports.open_findings() == 0


def test_a_run_that_died_is_said_to_have_by_the_next(wallet: Account) -> None:
    long_ago = timezone.now() - dt.timedelta(hours=7)
    dead = AuditReport.objects.create(kind=ReportKind.FULL, began_at=long_ago)
    alive = AuditReport.objects.create(kind=ReportKind.RECENT, began_at=timezone.now())
    reports.look_at_recent()
    dead.refresh_from_db()
    alive.refresh_from_db()
    assert (dead.state, alive.state) == (ReportState.FAILED, ReportState.RUNNING)
    assert "ended before" in dead.note


def test_reports_of_nothing_are_kept_for_a_month(wallet: Account) -> None:
    month_ago = timezone.now() - dt.timedelta(days=31)
    for state in (ReportState.OK, ReportState.VIOLATED):
        AuditReport.objects.create(kind=ReportKind.RECENT, state=state, began_at=month_ago)
    AuditReport.objects.create(kind=ReportKind.FULL, state=ReportState.OK, began_at=month_ago)
    reports.look_at_recent()
    assert AuditReport.objects.filter(began_at=month_ago).count() == 2


def test_a_past_that_was_changed_with_its_balance_is_found_by_what_was_counted_before(book: Ledger) -> None:
    """A full audit cannot know: the transfer and the balance agree."""
    for _ in range(2):
        assert reports.look_at_recent()[:0] == []
    ledger.adjust(wallet=book.wallet, amount=500, actor="tests", reason="counted")
    reports.look_at_recent()
    assert AuditMark.objects.get(subject="account").total == 1500
    with connection.cursor() as cursor:
        _without_triggers(cursor)
        cursor.execute("UPDATE billing_transfer SET amount = amount - 1 WHERE kind = 'adjustment'")
        cursor.execute("UPDATE billing_account SET balance = balance - 1 WHERE kind = 'wallet'")
    ledger.credit(wallet=book.wallet, amount=5, actor="tests", reason="later")
    found = [str(finding) for finding in reports.look_at_recent()]
    assert found == [
        f"what was counted in a wallet before has not changed: account {book.account}: "
        f"up to transfer {Transfer.objects.get(kind='adjustment').pk} there was 1500, there is 1499"
    ]
    assert frozen(book.wallet).startswith("audit report")
    assert reports.look_at_recent() == []  # said once, then counted anew
    assert AuditMark.objects.get(subject="account").total == 1504


def _without_triggers(cursor: Any) -> None:
    if connection.vendor == "postgresql":
        cursor.execute("SET session_replication_role = replica")
        return
    cursor.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")
    for (name,) in cursor.fetchall():
        cursor.execute(f"DROP TRIGGER {name}")


@pytest.mark.parametrize("books", ["postgres"], indirect=True)  # SQLite has one writer at a time
def test_a_transfer_that_is_committed_late_is_not_passed_over(books: str, book: Ledger) -> None:
    """Its id is smaller than one that was seen before it."""
    _, team = services.user_with_team("bob@example.com")
    other = ledger.wallet_of(team.pk)
    ledger.credit(wallet=other, amount=10, actor="tests", reason="opening balance")
    for _ in range(2):
        reports.look_at_recent()
    settings = connection.settings_dict
    with psycopg.connect(
        host=settings["HOST"], port=settings["PORT"], dbname=settings["NAME"], user=settings["USER"]
    ) as slow:
        slow.execute("SELECT pg_current_xact_id()")
        slow.execute("UPDATE billing_account SET balance = balance + 7 WHERE id = %s", [book.account])
        slow.execute(
            "INSERT INTO billing_transfer (kind, debit_id, credit_id, amount, reference, actor, reason, created_at) "
            "SELECT 'credit', id, %s, 7, 'late', '', '', now() FROM billing_account WHERE kind = 'payments'",
            [book.account],
        )
        ledger.credit(wallet=other, amount=1, actor="tests", reason="quick")
        assert reports.look_at_recent() == []
        assert _new() == 1
        assert reports.look_at_recent() == []
        slow.commit()
    assert reports.look_at_recent() == []
    marks = dict(AuditMark.objects.filter(subject="account").values_list("number", "total"))
    assert marks == {book.account: 1007, other.pk: 11}
    # Until the slow one had ended, nothing above its id was done with.
    assert recent.load().floor == Transfer.objects.latest("pk").pk


def _new() -> int:
    return int(AuditReport.objects.latest("pk").figures["new transfers"])


def test_an_older_run_that_is_recorded_last_takes_nothing_back(book: Ledger) -> None:
    for _ in range(2):
        reports.look_at_recent()
    before = recent.look(recent.load())
    ledger.adjust(wallet=book.wallet, amount=5, actor="tests", reason="between")
    reports.look_at_recent()
    mark = AuditMark.objects.get(subject="account")
    recent.save(before)
    assert AuditMark.objects.get(subject="account").total == mark.total == 1005
    ledger.adjust(wallet=book.wallet, amount=-2, actor="tests", reason="after")
    assert reports.look_at_recent() == []
    assert AuditMark.objects.get(subject="account").total == 1003


# ---- who runs it ----------------------------------------------------------------------------------------------------


def test_the_command_keeps_a_report_and_exits_with_1_on_a_violation(wallet: Account) -> None:
    for arguments in ([], ["--recent"]):
        call_command("audit", *arguments, stdout=StringIO())
    assert sorted(AuditReport.objects.values_list("kind", flat=True)) == ["full", "recent"]
    drift(wallet)
    call_only_to_look = StringIO()
    with pytest.raises(SystemExit) as status:
        call_command("audit", "--look", "--json", stdout=call_only_to_look)
    assert status.value.code == 1
    assert json.loads(call_only_to_look.getvalue())[0]["check"] == BALANCE
    assert AuditReport.objects.count() == 2
    assert frozen(wallet) == ""
    with pytest.raises(SystemExit):
        call_command("audit", stdout=StringIO())
    assert frozen(wallet).startswith("audit report 3")


def test_the_doctor_names_violations_and_an_audit_that_is_silent(wallet: Account) -> None:
    def said() -> list[str]:
        return [
            str(finding) for finding in doctor.examine() if "audited" in finding.what or "violation" in finding.what
        ]

    assert said() == []
    reports.look_at_recent()
    assert said() == []
    AuditReport.objects.update(began_at=timezone.now() - dt.timedelta(minutes=11))
    (silent,) = said()
    assert silent.startswith("warning: the books have not been audited since")
    drift(wallet)
    reports.look_at_recent()
    assert [finding.level for finding in doctor.examine() if "violations" in finding.what] == ["error"]


def test_the_worker_audits_every_minute_and_everything_at_night(book: Ledger) -> None:
    schedule = app.conf.beat_schedule
    assert schedule["audit_recent"]["schedule"] == 60.0
    assert schedule["audit_books"]["schedule"].hour == {3}
    for job in (tasks.audit_recent, tasks.audit_books):
        assert job()
    for thread in tasks._running.values():
        thread.join(20)
    assert sorted(AuditReport.objects.values_list("kind", "state")) == [("full", "ok"), ("recent", "ok")]
