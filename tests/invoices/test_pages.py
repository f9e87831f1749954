"""The pages of invoices and statements, in both languages, and what they let nobody else see."""

import csv
import re
import uuid
import zlib
from base64 import a85decode
from typing import Any

import pytest
from django.conf import LazySettings
from django.test import Client
from django.utils import translation

from billing import money
from billing.invoices import closing, issuing
from billing.models import BillingDetails, ClosedMonth, Invoice
from portal import services
from portal.invoices import document, pdf
from portal.models import Team, User
from tests.invoices.made import Past, at
from tests.portal.conftest import browser

UNIT = money.NANO


@pytest.fixture
def past(db: None) -> Past:
    made = Past()
    BillingDetails.objects.create(
        team=made.team, name="北风实验室有限公司", address="上海市浦东新区\n世纪大道 1 号", tax_id="91310000MA1K"
    )
    closing.begin(made.wallet, moment=at("2026-03-05 00:00"))
    made.pay(2 * UNIT, at("2026-03-02 00:00"))
    made.call(5 * UNIT + 3, at("2026-03-03 00:00"), tokens=1_234)
    made.move("purchase", 10 * UNIT, at("2026-03-04 00:00"), out=True)
    closing.close_due(made.wallet, now=at("2026-04-02 00:00"))
    return made


@pytest.fixture
def invoice(past: Past) -> Invoice:
    return Invoice.objects.get()


@pytest.fixture
def page(past: Past) -> Client:
    return browser(past.user)


def text(client: Client, address: str, **extra: Any) -> str:
    answer = client.get(address, **extra)
    assert answer.status_code == 200, (address, answer.status_code)
    return answer.content.decode()


def test_the_list_says_what_is_to_be_paid(page: Client, invoice: Invoice) -> None:
    found = text(page, "/invoices/")
    assert invoice.number in found
    assert "13.00" in found  # 15 invoiced, 2 paid
    assert "北风实验室有限公司" in found


def test_an_invoice_shows_its_lines_and_the_payments_of_its_month(page: Client, invoice: Invoice) -> None:
    found = text(page, f"/invoices/{invoice.pk}/")
    for part in ("gpt-4o-mini", "Input 1,234", "5.000000003", "−0.000000003", "Plan bought", "15.00", "Payment"):
        assert part in found, part
    chinese = text(page, f"/invoices/{invoice.pk}/", headers={"accept-language": "zh-hans"})
    assert "世纪大道 1 号" in chinese


def test_what_another_team_has_does_not_exist(past: Past, invoice: Invoice) -> None:
    stranger = browser(services.user_with_team("charlie@example.com")[0])
    for address in (f"/invoices/{invoice.pk}/", f"/invoices/{invoice.pk}/pdf/"):
        assert stranger.get(address).status_code == 404
    assert invoice.number not in text(stranger, "/invoices/")
    assert "gpt-4o-mini" not in file(stranger, start="2026-03-01", end="2026-03-31")[0]


def test_billing_details_are_on_the_next_invoice_and_on_none_before(page: Client, past: Past, invoice: Invoice) -> None:
    wrong = page.post("/invoices/details/", {"name": "", "email": "nobody"})
    assert wrong.status_code == 422
    done = page.post("/invoices/details/", {"name": "Northwind", "address": "1 Main St", "email": "a@example.com"})
    assert done.status_code == 302
    past.call(UNIT, at("2026-04-10 00:00"))
    closing.close_due(past.wallet, now=at("2026-05-02 00:00"))
    latest = Invoice.objects.latest("pk")
    assert latest.buyer == {"name": "Northwind", "address": "1 Main St", "tax_id": "", "email": "a@example.com"}
    assert Invoice.objects.get(pk=invoice.pk).buyer["name"] == "北风实验室有限公司"


def shown(invoice: Invoice, language: str) -> bytes:
    with translation.override(language):
        return pdf.render(document.of(Invoice.objects.get(pk=invoice.pk)))


def streams(content: bytes) -> bytes:
    """What a PDF draws, unpacked."""
    found = b""
    for part in re.findall(rb"stream\r?\n(.*?)endstream", content, re.DOTALL):
        body = part.strip()
        if body.endswith(b"~>"):
            body = a85decode(b"<~" + body, adobe=True)
        found += zlib.decompress(body)
    return found


@pytest.mark.parametrize("language", ["en", "zh-hans"])
def test_the_same_invoice_has_the_same_bytes(page: Client, invoice: Invoice, language: str) -> None:
    first = shown(invoice, language)
    assert first.startswith(b"%PDF-")
    assert shown(invoice, language) == first
    assert invoice.number.encode() in streams(first)


def test_a_pdf_is_downloaded_under_its_number(page: Client, invoice: Invoice) -> None:
    answer = page.get(f"/invoices/{invoice.pk}/pdf/")
    assert answer["Content-Type"] == "application/pdf"
    assert answer["Content-Disposition"] == f'attachment; filename="{invoice.number}.pdf"'
    assert answer.content == shown(invoice, "en")


def test_chinese_is_drawn_in_a_font_that_has_it(invoice: Invoice) -> None:
    content = shown(invoice, "zh-hans")
    assert b"STSong-Light" in content or b"FontFile2" in content
    drawn = streams(content)
    name = "北风实验室有限公司".encode("utf-16-be")
    escaped = b"".join(b"\\%03o" % byte if byte < 32 or byte > 126 else bytes([byte]) for byte in name)
    assert pdf.other_font() != pdf.READERS_OWN or name in drawn or escaped in drawn


def test_a_credit_note_is_a_document_of_its_own(page: Client, invoice: Invoice) -> None:
    note = issuing.credit(invoice=invoice, amount=UNIT, reason="宕机补偿", actor="root", request="r")
    found = text(page, f"/invoices/{note.pk}/")
    assert f"Credit note {note.number}" in found
    assert invoice.number in found
    assert "宕机补偿" in found
    assert shown(note, "en") == shown(note, "en")
    assert note.number in text(page, f"/invoices/{invoice.pk}/")


def test_tax_is_frozen_on_the_invoice_and_stands_on_it(past: Past, settings: LazySettings) -> None:
    settings.INVOICE_TAX_NAME, settings.INVOICE_TAX_RATE = "VAT", "19"
    past.call(119 * UNIT, at("2026-04-10 00:00"))
    closing.close_due(past.wallet, now=at("2026-05-02 00:00"))
    latest = Invoice.objects.latest("pk")
    assert (latest.amount, latest.tax, latest.net) == (119 * UNIT, 19 * UNIT, 100 * UNIT)
    settings.INVOICE_TAX_RATE = "0"
    assert "Includes 19 % VAT: 19.00; net 100.00" in text(browser(past.user), f"/invoices/{latest.pk}/")


# ---- statements -----------------------------------------------------------------------------------------------------


def file(client: Client, **asked: str) -> tuple[str, str]:
    answer: Any = client.get("/statements/csv/", asked)
    assert answer.status_code == 200
    return b"".join(answer.streaming_content).decode(), answer["Content-Disposition"]


def test_a_statement_leads_from_the_opening_to_the_closing_balance(page: Client, past: Past) -> None:
    found = text(page, "/statements/?month=2026-03")
    assert "−5.000000" in found
    assert 'title="-13.000000003"' in found
    content, name = file(page, start="2026-03-01", end="2026-03-31", by="kind")
    assert name == 'attachment; filename="statement-2026-03-01-2026-03-31.csv"'
    rows = list(csv.DictReader(content.splitlines()))
    assert [(row["kind"], row["amount"]) for row in rows[1:-1]] == [
        ("charge", "-5.000000003"),
        ("payment", "2.000000000"),
        ("purchase", "-10.000000000"),
    ]
    assert rows[-1]["balance"] == "-13.000000003"


@pytest.mark.parametrize(
    "asked",
    [
        {"start": "2026-03-02", "end": "2026-03-01"},
        {"start": "0001-01-01", "end": "9999-12-31"},
        {"start": "x", "end": "2026-03-01"},
        {"start": "2026-03-01", "end": "2026-03-02", "by": "secret"},
        {"start": "2026-03-01", "end": "2026-03-02", "zone": "Mars/Olympus"},
        {"start": "9999-12-31", "end": "9999-12-31"},
        {"start": "0001-01-01", "end": "0001-01-02", "zone": "Asia/Shanghai"},
    ],
)
def test_a_statement_that_cannot_be_is_answered_with_the_form(page: Client, asked: dict[str, str]) -> None:
    assert page.get("/statements/csv/", asked).status_code == 422


@pytest.mark.parametrize("month", ["2026-13", "x", "0001-01", "9999-12", "2026-02"])
def test_any_month_may_be_asked_for(page: Client, month: str) -> None:
    assert "Opening balance" in text(page, f"/statements/?month={month}")


def test_bob_sees_his_own_wallet_and_not_that_of_another_team(bob: User, team: Team) -> None:
    assert "Opening balance" in text(browser(bob), "/statements/")


# ---- the administration ---------------------------------------------------------------------------------------------


@pytest.fixture
def admin(db: None) -> Client:
    root = User.objects.create_superuser("root@example.com", "correct-horse-battery")
    services.personal_team(root)
    return browser(root)


def test_a_credit_note_is_issued_in_the_administration_once(admin: Client, invoice: Invoice) -> None:
    address = f"/admin/billing/invoice/{invoice.pk}/change/"
    assert "gpt-4o-mini" in text(admin, address)
    form = {"credit": "1.50", "why": "outage", "request": str(uuid.uuid4()), "lines-TOTAL_FORMS": "0"}
    form |= {"lines-INITIAL_FORMS": "0"}
    for _ in range(2):
        assert admin.post(address, form).status_code == 302
    (note,) = Invoice.objects.filter(kind="credit_note")
    assert (note.amount, note.reason, note.actor) == (1_500_000_000, "outage", "root@example.com")
    too_much = {**form, "credit": "14", "request": str(uuid.uuid4())}
    assert "At most 13.50 is left" in admin.post(address, too_much).content.decode()
    assert admin.post(address, {**form, "credit": "0.001", "request": str(uuid.uuid4())}).status_code == 200
    assert Invoice.objects.filter(kind="credit_note").count() == 1


def test_a_month_is_closed_by_hand_after_it_was_shown(admin: Client, past: Past) -> None:
    past.call(7 * UNIT, at("2026-04-10 00:00"))
    address = f"/admin/billing/invoicedwallet/{past.number}/change/"
    found = text(admin, address)
    assert "2026-04" in found
    assert "7.00" in found
    assert admin.post(address, {"close": "on", "month": "2026-03-01"}).status_code == 200  # closed meanwhile
    assert admin.post(address, {"close": "on", "month": "2026-04-01"}).status_code == 302
    row = ClosedMonth.objects.get(month="2026-04-01")
    assert (row.outcome, row.actor, row.invoiced) == ("invoiced", "root@example.com", 7 * UNIT)
    assert "2026-05" in text(admin, address)
    for table in ("invoice", "closedmonth", "invoicedwallet"):
        assert admin.get(f"/admin/billing/{table}/").status_code == 200
    assert admin.get(f"/admin/billing/closedmonth/{row.pk}/change/").status_code == 200
