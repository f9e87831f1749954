"""The administration's pages of the books and of the audit: found by what people know, quick however long they are."""

import re

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from billing.audit import reports
from billing.models import Account, Transfer
from billing.operations import CloseHold
from portal.models import User
from tests.billing.conftest import Ledger
from tests.billing.conftest import book as book  # the fixture


@pytest.fixture
def staff(book: Ledger) -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("operator@example.com", "a long enough password"))
    return client


def listed(staff: Client, name: str, **query: str) -> list[object]:
    page = staff.get(reverse(f"admin:billing_{name}_changelist"), query)
    assert page.status_code == 200
    return [row.pk for row in page.context["cl"].result_list]


def test_transfers_and_holds_are_found_by_call_team_address_and_account(book: Ledger, staff: Client) -> None:
    settled, voided, still = (book.open(100) for _ in range(3))
    book.run(CloseHold(settled, 60), CloseHold(voided, None))
    charge, credit = Transfer.objects.get(kind="charge"), Transfer.objects.get(kind="credit")
    assert listed(staff, "transfer", q=str(settled.id)) == [charge.pk]
    assert listed(staff, "transfer", q=credit.reference) == [credit.pk]
    for text in ("alice@example.com", f"account {book.account}", book.wallet.team.name if book.wallet.team else ""):
        assert listed(staff, "transfer", q=text) == [charge.pk, credit.pk], text
        assert set(listed(staff, "hold", q=text)) == {settled.id, still.id}, text  # a void one by its id only
    assert listed(staff, "hold", q=str(voided.id)) == [voided.id]
    assert listed(staff, "transfer", q="nobody@example.com") == listed(staff, "hold", q="nobody") == []
    page = staff.get(reverse("admin:billing_hold_change", args=[settled.id])).content.decode()
    assert reverse("admin:billing_transfer_change", args=[charge.pk]) in page
    page = staff.get(reverse("admin:billing_transfer_change", args=[charge.pk])).content.decode()
    assert reverse("admin:billing_hold_change", args=[settled.id]) in page


@pytest.mark.parametrize("name", ["transfer", "hold", "auditreport", "auditfinding"])
def test_no_page_counts_a_whole_table(book: Ledger, staff: Client, name: str) -> None:
    with CaptureQueriesContext(connection) as queries:
        staff.get(reverse(f"admin:billing_{name}_changelist"))
    counts = [query["sql"] for query in queries if re.search(r"count\(\*\)", query["sql"], re.I)]
    assert counts
    assert all("LIMIT" in sql for sql in counts if f"billing_{name}" in sql)


def test_an_account_leads_to_all_that_is_known_of_it(book: Ledger, staff: Client) -> None:
    Account.objects.filter(pk=book.account).update(balance=999)
    reports.look_at_recent()
    page = staff.get(reverse("admin:billing_account_change", args=[book.account])).content.decode()
    assert "audit report 1" in page
    for name in ("transfer", "hold", "auditfinding"):
        assert f"{reverse(f'admin:billing_{name}_changelist')}?q=account+{book.account}" in page
    assert len(listed(staff, "auditfinding", q=f"account {book.account}")) == 1


def test_what_a_team_owes_is_shown_with_its_receivable_account(book: Ledger, staff: Client) -> None:
    book.run(CloseHold(book.open(1000), 1750))
    owing = Account.objects.get(kind="receivable", team=book.wallet.team)
    page = staff.get(reverse("admin:billing_account_change", args=[owing.pk])).content.decode()
    assert "0.00000075 USD" in page


def test_reports_and_findings_are_shown_in_english_and_chinese_and_nothing_can_be_changed(
    book: Ledger, staff: Client
) -> None:
    Account.objects.filter(pk=book.account).update(balance=999)
    reports.look_at_recent()
    address = reverse("admin:billing_auditreport_change", args=[1])
    assert "a wallet&#x27;s balance is the sum of its transfers" in staff.get(address).content.decode()
    chinese = staff.get(address, headers={"Accept-Language": "zh-hans"}).content.decode()
    assert "钱包余额等于其转账之和" in chinese
    for name in ("auditreport", "auditfinding"):
        assert staff.get(reverse(f"admin:billing_{name}_add")).status_code == 403
        assert staff.post(reverse(f"admin:billing_{name}_change", args=[1]), {"detail": "x"}).status_code == 403


def test_the_first_page_says_that_there_are_violations_until_there_are_none(book: Ledger, staff: Client) -> None:
    index = reverse("admin:index")
    assert "violation" not in staff.get(index).content.decode()
    Account.objects.filter(pk=book.account).update(balance=999)
    reports.look_at_recent()
    page = staff.get(index).content.decode()
    assert "The books have 1 violation." in page
    where = re.search(r'href="(/admin/billing/auditfinding/[^"]*)"', page)
    assert where
    assert "999" in staff.get(where[1]).content.decode()
    Account.objects.filter(pk=book.account).update(balance=1000)
    reports.look_at_recent()
    assert "violation" not in staff.get(index).content.decode()


def test_who_may_not_see_the_books_is_not_let_in(book: Ledger) -> None:
    client = Client()
    client.force_login(User.objects.get(email="alice@example.com"))
    for name in ("transfer", "hold", "auditreport", "auditfinding"):
        assert client.get(reverse(f"admin:billing_{name}_changelist")).status_code in (302, 403)
