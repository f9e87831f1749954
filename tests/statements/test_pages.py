"""The pages of providers' bills, files as bills, the jobs, and what a channel is worth."""

import datetime as dt
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse

from billing import tasks as beside
from portal.models import User
from relay import tasks, vault
from relay.models import Attempt, CallLog, Channel
from relay.statement_models import Reconciliation, Statement, StatementSource
from relay.statements import comparing, selectors, services, uploaded
from relay.statements.services import SourceSpec
from relay.statements.values import Unreadable
from tests.statements.conftest import CENT, DAY, SECRET, Ours, openai, spent, used

CSV = "date,model,category,quantity,amount,currency\n2026-11-20,gpt-4o,input,1000,0.06,USD\n"
CSV += "2026-11-20,gpt-4o,output,100,0.04,USD\n2026-11-21,,,,0.5,USD\n"


@pytest.fixture
def root(ours: Ours) -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("root@example.com", "x"))
    return client


def source_form(ours: Ours, **fields: Any) -> dict[str, Any]:
    form = {"channel": ours.channel.pk, "adapter": "openai", "base_url": ours.provider.origin, "new_credential": SECRET}
    return {**form, "scope": "", "exchange": "1", "enabled": "on", **fields}


# ---- sources --------------------------------------------------------------------------------------------------------


def test_a_source_is_made_and_its_credential_is_never_shown(ours: Ours, root: Client) -> None:
    assert root.post(reverse("admin:relay_statementsource_add"), source_form(ours)).status_code == 302
    source = StatementSource.objects.get()
    assert vault.decrypt(bytes(source.secret), row=source.uid) == SECRET
    assert SECRET.encode() not in bytes(source.secret)
    change = reverse("admin:relay_statementsource_change", args=[source.pk])
    wrong = root.post(change, source_form(ours, exchange="0"))
    assert "rate of exchange" in str(wrong.context["errors"])
    for answer in (wrong, root.get(change), root.get(reverse("admin:relay_statementsource_changelist"))):
        assert SECRET not in answer.content.decode()
        assert f"…{SECRET[-4:]}" in answer.content.decode()
    assert root.post(change, source_form(ours, new_credential="", exchange="7.25")).status_code == 302
    source.refresh_from_db()
    assert (source.rate, vault.decrypt(bytes(source.secret), row=source.uid)) == (7_250_000, SECRET)
    moved = root.post(change, source_form(ours, new_credential="", adapter="anthropic"))
    assert "enter the credential" in str(moved.context["errors"])


def test_where_a_bill_may_not_be_asked_for(ours: Ours) -> None:
    wrong = {
        "http://127.0.0.1:9/": "private", "http://169.254.169.254/": "private", "http://8.8.8.8/": "https only",
        "https://user:pw@8.8.8.8": "no user", "ftp://8.8.8.8/": "http", "": "", "https://localhost/": "private",
    }  # fmt: skip
    for url, said in wrong.items():
        adapter = "one-api" if not url else "openai"
        with pytest.raises(ValidationError) as refused:
            services.save_source(ours.channel, SourceSpec(adapter=adapter, base_url=url, secret=SECRET))
        assert said in str(refused.value), url
    Channel.objects.update(private=False)
    with pytest.raises(ValidationError):
        services.save_source(
            Channel.objects.get(), SourceSpec(adapter="openai", base_url=ours.provider.origin, secret=SECRET)
        )
    assert not StatementSource.objects.exists()


# ---- pages ----------------------------------------------------------------------------------------------------------


def test_a_day_is_read_shown_with_its_calls_and_explained(ours: Ours, root: Client) -> None:
    mine = ours.call(10 * CENT, input=1000)
    ours.call(CENT, hour=30)
    other = ours.call(CENT)
    Attempt.objects.filter(call=other).update(channel="another")
    ours.source()
    openai(ours.provider, used(input_tokens=900), spent(("gpt-4o, input", 0.2)))
    Reconciliation.objects.create(channel=ours.channel, day=DAY)
    row = Reconciliation.objects.get()
    root.post(reverse("admin:relay_reconciliation_act", args=[row.pk, "read"]))
    url = reverse("admin:relay_reconciliation_change", args=[row.pk])
    page = root.get(url).content.decode()
    for shown in ("0.10 USD", "0.20 USD", "+0.10 USD", "+100.00 %", "1,000", "900", "-100", "-10.00 %"):
        assert shown in page, shown
    calls = root.get(reverse("admin:relay_calllog_changelist"), _query(page)).context["cl"].result_list
    assert [call.pk for call in calls] == [mine.pk]
    explain = reverse("admin:relay_reconciliation_act", args=[row.pk, "explain"])
    root.post(explain, {"drift": 1, "note": "seen otherwise"})
    row.refresh_from_db()
    assert row.state == "open"
    root.post(explain, {"drift": 10 * CENT, "note": "their fee"})
    row.refresh_from_db()
    assert (row.state, row.note, row.explained_by) == ("explained", "their fee", User.objects.get(is_superuser=True))
    listed = root.get(reverse("admin:relay_reconciliation_changelist")).content.decode()
    assert "explained" in listed
    assert root.get(reverse("admin:relay_statement_change", args=[row.statement_id])).status_code == 200
    assert SECRET not in page + listed


def _query(page: str) -> dict[str, str]:
    import html
    import re
    from urllib.parse import parse_qsl

    found = re.search(r'href="/admin/relay/calllog/\?([^"]+)"', page)
    assert found is not None
    return dict(parse_qsl(html.unescape(found.group(1))))


def test_only_those_who_may_change_a_day_do(ours: Ours) -> None:
    row = Reconciliation.objects.create(channel=ours.channel, day=DAY)
    client = Client()
    client.force_login(User.objects.create_user("staff@example.com", "x", is_staff=True))
    for verb in ("read", "explain"):
        assert client.post(reverse("admin:relay_reconciliation_act", args=[row.pk, verb])).status_code == 403
    for name in ("upload", "margin"):
        assert client.get(reverse(f"admin:relay_reconciliation_{name}")).status_code == 403


# ---- files ----------------------------------------------------------------------------------------------------------


def test_a_file_is_previewed_kept_and_compared(ours: Ours, root: Client) -> None:
    ours.call(10 * CENT, input=1000, output=100)
    url = reverse("admin:relay_reconciliation_upload")
    assert root.get(url).status_code == 200
    form = {"channel": ours.channel.pk, "exchange": "1", "step": "preview"}
    preview = root.post(url, {**form, "file": SimpleUploadedFile("bill.csv", CSV.encode())})
    page = preview.content.decode()
    assert ("2026-11-20" in page, "2026-11-21" in page, "+0.50 USD" in page) == (True, True, True)
    assert not Statement.objects.exists()
    carried = preview.context["form"].data["text"]
    for _ in range(2):  # the same file again is the same bill
        assert root.post(url, {**form, "text": carried, "step": "do"}).status_code == 302
    first, second = Reconciliation.objects.order_by("day")
    assert (first.state, first.theirs, first.drift) == ("agreed", 10 * CENT, 0)
    assert (second.state, second.theirs, second.drift) == ("open", 50 * CENT, 50 * CENT)
    assert Statement.objects.count() == 2
    assert {row.actor for row in Statement.objects.all()} == {"root@example.com"}


WRONG = {
    "": "no lines", "date\n": "amount", "day,amount\n": "first line", "date,amount,date\n": "first line",
    "date,amount\n": "no lines", "date,amount\n20.11.2026,1\n": "Line 2", "date,amount\n2026-11-20,1,5\n": "as many",
    "date,amount\n2026-11-20\n": "as many", "date,amount\n2026-11-20,\n": "neither",
    "date,amount\n2026-11-20,1e5\n": "decimal", "date,amount\n2026-11-20,NaN\n": "decimal",
    "date,quantity\n2026-11-20,-5\n": "whole number", "date,quantity\n2026-11-20,٥\n": "whole number",
    "date,amount,category\n2026-11-20,1,tea\n": "categories",
    "date,amount,currency\n2026-11-20,1,USD\n2026-11-20,1,EUR\n": "more than one",
    "date,amount\n9999-12-31,1\n": "Line 2: the year", "date,amount\n2026-11-20,1\n0001-01-01,1\n": "Line 3: the year",
    "date,amount\n2026-11-20,1\nx,2\n": "Line 3", 'date,amount\n"2026': "no CSV",
}  # fmt: skip


def test_a_file_that_is_no_bill_is_refused_with_its_line() -> None:
    for text, said in WRONG.items():
        with pytest.raises(Unreadable) as refused:
            uploaded.read(text.encode())
        shown = refused.value.message % refused.value.facts
        assert said in shown or (not text and "first line" in shown), text
    for content in (b"\xff\xfe", b"date,amount\n" + b"2026-11-20,1\n" * 60_000):
        with pytest.raises(Unreadable):
            uploaded.read(content)


def test_a_wrong_file_is_told_on_the_page_and_nothing_is_kept(ours: Ours, root: Client) -> None:
    url, form = reverse("admin:relay_reconciliation_upload"), {"channel": ours.channel.pk, "exchange": "1"}
    for step in ("preview", "do"):
        for day in ("9999-12-31", "0001-01-01"):
            answer = root.post(url, {**form, "step": step, "text": f"date,amount\n{day},1.00\n"})
            assert "Line 2: the year is from 2000 to 2999." in str(answer.context["form"].errors)
        answer = root.post(url, {**form, "step": step, "text": "date,amount\n2026-11-20,x\n"})
        assert "decimal such as" in str(answer.context["form"].errors)
        assert root.post(url, {**form, "step": step}).context["form"].errors
        assert root.post(url, {**form, "step": step, "text": CSV, "exchange": "-1"}).context["form"].errors
    assert not Statement.objects.exists()


# ---- jobs -----------------------------------------------------------------------------------------------------------


def test_the_days_that_are_due(ours: Ours) -> None:
    source = ours.source()
    now = dt.datetime(2026, 11, 21, 1, 0, 5, tzinfo=dt.UTC)
    days = [DAY - dt.timedelta(days=age) for age in range(7)]
    assert services.due(now - dt.timedelta(minutes=10)) == [(source.pk, day - dt.timedelta(days=1)) for day in days]
    assert services.due(now) == [(source.pk, day) for day in days]
    for day in days:
        Reconciliation.objects.create(channel=ours.channel, day=day, asked_at=now)
    assert services.due(now + dt.timedelta(minutes=30)) == []
    assert services.due(now + dt.timedelta(minutes=60)) == [(source.pk, DAY)]  # its bill is missing
    assert len(services.due(now + dt.timedelta(hours=21))) == 7
    StatementSource.objects.update(enabled=False)
    assert services.due(now + dt.timedelta(hours=21)) == []


def test_a_day_is_read_by_one_worker_and_again_changes_nothing(ours: Ours) -> None:
    ours.call(10 * CENT, input=1000)
    source = ours.source()
    openai(ours.provider, used(input_tokens=1000), spent(("x, input", 0.1)))
    assert services.reconcile(source.pk, DAY) is not None
    assert services.reconcile(source.pk, DAY) is None
    assert services.reconcile(10**6, DAY) is None
    Reconciliation.objects.update(asked_at=None)
    assert services.reconcile(source.pk, DAY) is not None
    assert (Reconciliation.objects.count(), Statement.objects.count()) == (1, 1)


def test_the_hours_job_reads_each_day_that_is_due(ours: Ours) -> None:
    source = ours.source()
    openai(ours.provider, used(input_tokens=1000), spent(("x, input", 0.1)))
    days = {day for _source, day in services.due()}
    assert tasks.read_statements()
    ended("read-totals", "read-bills")
    assert {row.day for row in Reconciliation.objects.filter(channel=source.channel_id)} == days
    assert services.due() == []


def test_a_bill_that_cannot_be_compared_keeps_no_other_waiting(ours: Ours, monkeypatch: pytest.MonkeyPatch) -> None:
    ours.source()
    tried: list[dt.date] = []

    def broken(source: int, day: dt.date) -> None:
        tried.append(day)
        raise ArithmeticError

    monkeypatch.setattr(services, "reconcile", broken)
    assert tasks.read_statements()
    ended("read-totals", "read-bills")
    assert tried == [day for _source, day in services.due()]


def ended(*jobs: str) -> None:
    """Waits for the ends of jobs that run beside the worker's."""
    for job in jobs:
        beside._running[job].join(20)
        assert not beside._running[job].is_alive()


# ---- figures --------------------------------------------------------------------------------------------------------


def test_a_thousandth_is_tolerated_and_one_more_is_not() -> None:
    assert not comparing.differs(1_000_000, 1_001_000)
    assert not comparing.differs(1_001_000, 1_000_000)
    assert comparing.differs(1_000_000, 1_001_002)
    assert comparing.differs(0, 1)
    assert not comparing.differs(0, 0)


def test_what_is_left_of_the_revenue_by_channel_and_model(ours: Ours, root: Client) -> None:
    ours.call(10 * CENT, input=10)
    failed = ours.call(4 * CENT, input=10)
    ours.call(None, input=10)
    CallLog.objects.filter(pk=failed.pk).update(channel="second")  # it was tried here and answered there
    start, end = comparing.span(DAY)
    rows = {(one.channel, one.model): one for one in selectors.margins(start, end)}
    main, second = rows["main", "chat"], rows["second", "chat"]
    assert (main.calls, main.revenue, main.cost, main.margin, main.unpriced) == (2, 30 * CENT, 14 * CENT, 16 * CENT, 1)
    assert (second.calls, second.revenue, second.cost, second.share) == (1, 12 * CENT, 0, 100.0)
    assert selectors.margins(end, end + dt.timedelta(days=1)) == []
    assert root.get(reverse("admin:relay_reconciliation_margin") + "?days=90").status_code == 200


def test_a_dated_name_is_its_alias() -> None:
    dated = ("gpt-4o-2024-08-06", "claude-sonnet-4-20250514", "gpt-4-0613", "claude-3-opus-latest", "gpt-4o")
    names = ["gpt-4o", "claude-sonnet-4", "gpt-4", "claude-3-opus", "gpt-4o"]
    assert [comparing.family(name) for name in dated] == names
