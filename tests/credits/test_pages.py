"""The pages of redeem codes and adjustments: asked for, previewed, done by two; codes are seen once."""

import re
import uuid
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse

from billing import audit, ledger, money
from billing.credit_models import Adjustment, RedeemAttempt, RedeemBatch, RedeemCode
from billing.models import Transfer
from billing.payments import redeem
from portal.models import Team, User

CODE = re.compile(r"PX(?:-[0-9A-Z]{4}){5}")


def signed_in(email: str) -> Client:
    client = Client()
    client.force_login(User.objects.filter(email=email).first() or User.objects.create_superuser(email, "x"))
    return client


@pytest.fixture
def root(db: None) -> Client:
    return signed_in("root@example.com")


@pytest.fixture
def boss(db: None) -> Client:
    return signed_in("boss@example.com")


def batch_form(**fields: Any) -> dict[str, Any]:
    form = {"label": "spring", "amount": "5", "number": "3", "expires_at_0": "", "expires_at_1": "", "note": ""}
    return {**form, "per_team": "", "per_user": "1", "reference": str(uuid.uuid4()), "step": "preview", **fields}


def new_codes(client: Client, **fields: Any) -> list[str]:
    answer = client.post(reverse("admin:billing_redeembatch_add"), batch_form(step="file", **fields))
    return CODE.findall(answer.content.decode())


# ---- redeem codes in the administration -----------------------------------------------------------------------------


def test_a_batch_is_previewed_made_and_its_codes_are_shown_once(root: Client) -> None:
    url, form = reverse("admin:billing_redeembatch_add"), batch_form()
    assert root.get(url).status_code == 200
    preview = root.post(url, form)
    assert "15.00 USD" in preview.content.decode()
    assert not RedeemBatch.objects.exists()
    answer = root.post(url, {**form, "step": "show"})
    page = answer.content.decode()
    shown = CODE.findall(page)
    assert (answer.status_code, len(shown)) == (201, 3)
    assert "no-store" in answer["Cache-Control"]
    assert "data:text/csv;base64," in page
    batch = RedeemBatch.objects.get()
    assert (batch.amount, batch.number, batch.per_user, batch.created_by.email) == (
        5 * money.NANO, 3, 1, "root@example.com",
    )  # fmt: skip
    again = root.post(url, {**form, "step": "show"}).content.decode()
    assert "made already" in again
    for where in (
        reverse("admin:billing_redeembatch_change", args=[batch.pk]),
        reverse("admin:billing_redeembatch_changelist"),
        reverse("admin:billing_redeemcode_changelist"),
        reverse("admin:billing_redeemcode_changelist") + f"?batch__id__exact={batch.pk}",
        reverse("admin:billing_redeemcode_change", args=[RedeemCode.objects.latest("pk").pk]),
        reverse("admin:billing_redeembatch_history", args=[batch.pk]),
    ):
        found = root.get(where)
        assert found.status_code == 200, where
        assert not CODE.search(found.content.decode())
    assert not CODE.search(repr(list(LogEntry.objects.values())))


def test_the_file_has_the_codes_with_their_worth(root: Client) -> None:
    answer = root.post(reverse("admin:billing_redeembatch_add"), batch_form(step="file", number="700"))
    lines = answer.content.decode().splitlines()
    assert answer["Content-Type"] == "text/csv; charset=utf-8"
    assert "no-store" in answer["Cache-Control"]
    assert "attachment" in answer["Content-Disposition"]
    assert lines[0] == "code,amount,currency,valid_until"
    assert len(lines) == 701
    assert re.fullmatch(CODE.pattern + ",5,USD,", lines[1])


def test_a_batch_worth_much_is_approved_by_another(root: Client, boss: Client, alice: User, team: Team) -> None:
    codes = new_codes(root, amount="1000", number="2")
    batch = RedeemBatch.objects.get()
    act = reverse("admin:billing_redeembatch_act", args=[batch.pk, "approve"])
    root.post(act)
    batch.refresh_from_db()
    assert batch.state == "waiting"
    assert "Approve" in boss.get(reverse("admin:billing_redeembatch_change", args=[batch.pk])).content.decode()
    boss.post(act)
    batch.refresh_from_db()
    assert (batch.state, batch.approved_by) == ("active", User.objects.get(email="boss@example.com"))
    redeem.redeem(text=codes[0], team=team.pk, user=alice.pk, actor="alice", address="")
    for verb in ("disable", "delete"):
        boss.post(reverse("admin:billing_redeembatch_act", args=[batch.pk, verb]))
    assert RedeemCode.objects.get().state == "redeemed"


def test_wrong_batches_are_refused_on_the_page(root: Client) -> None:
    wrong = [{"amount": "0"}, {"amount": "-5"}, {"number": "0"}, {"number": "10001"}, {"label": ""}, {"per_team": "0"}]
    wrong += [{"expires_at_0": "2020-01-01", "expires_at_1": "00:00:00"}, {"reference": "x"}]
    for fields in wrong:
        for step in ("preview", "show", "file"):
            answer = root.post(reverse("admin:billing_redeembatch_add"), batch_form(**{"step": step, **fields}))
            assert answer.status_code == 200
            assert answer.context["form"].errors, fields
    assert not RedeemBatch.objects.exists()


def test_staff_without_the_right_make_and_decide_nothing(db: None) -> None:
    user = User.objects.create_user("staff@example.com", "x", is_staff=True)
    user.user_permissions.add(*Permission.objects.filter(codename__startswith="view_"))
    client = signed_in("staff@example.com")
    assert client.get(reverse("admin:billing_redeembatch_add")).status_code == 403
    codes = new_codes(signed_in("root@example.com"), amount="900", number="2")
    batch = RedeemBatch.objects.get()
    assert len(codes) == 2
    for verb in ("approve", "disable", "delete"):
        assert client.post(reverse("admin:billing_redeembatch_act", args=[batch.pk, verb])).status_code == 403
    assert client.get(reverse("admin:billing_redeembatch_act", args=[batch.pk, "disable"])).status_code == 405
    assert RedeemBatch.objects.get().state == "waiting"


# ---- adjustments ----------------------------------------------------------------------------------------------------


def adjust_form(**fields: Any) -> dict[str, Any]:
    form = {"kind": "balance", "amount": "5", "reason": "goodwill", "before": "0", "step": "do"}
    return {**form, "reference": str(uuid.uuid4()), **fields}


def test_an_adjustment_is_previewed_made_with_its_reason_and_counts_once(root: Client, team: Team) -> None:
    wallet = ledger.wallet_of(team.pk)
    url, form = reverse("admin:billing_adjustment_ask", args=[wallet.pk]), adjust_form(amount="-2.50")
    assert root.get(url).status_code == 200
    preview = root.post(url, {**form, "step": "preview"}).content.decode()
    assert "10.00 USD → 7.50 USD" in preview
    assert not Adjustment.objects.exists()
    assert f'value="{form["reference"]}"' in preview
    for _ in range(2):
        assert root.post(url, form).status_code == 302
    transfer = Transfer.objects.get(kind="adjustment")
    assert (transfer.amount, transfer.reason, transfer.actor) == (
        2_500_000_000, "goodwill", "root@example.com",
    )  # fmt: skip
    assert ledger.wallet_of(team.pk).balance == money.parse("7.5")
    assert audit.run() == []


def test_back_from_the_preview_the_form_is_as_it_was(root: Client, team: Team) -> None:
    url = reverse("admin:billing_adjustment_ask", args=[ledger.wallet_of(team.pk).pk])
    page = root.post(url, adjust_form(amount="1.25", step="edit")).content.decode()
    assert 'value="1.25"' in page
    assert 'value="preview"' in page
    assert not Adjustment.objects.exists()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"reason": " "}, "required"),
        ({"amount": "five"}, "not an amount"),
        ({"amount": "0"}, "changes nothing"),
        ({"amount": "-10.01"}, "less than that"),
        ({"kind": "credit_limit", "amount": "-1"}, "negative"),
        ({"kind": "credit_limit", "amount": "5", "before": "1"}, "meanwhile"),
        ({"kind": "other"}, "valid choice"),
    ],
)
def test_an_impossible_adjustment_is_refused(root: Client, team: Team, fields: dict[str, str], said: str) -> None:
    url = reverse("admin:billing_adjustment_ask", args=[ledger.wallet_of(team.pk).pk])
    for step in ("preview", "do"):
        assert said in str(root.post(url, adjust_form(**{**fields, "step": step})).context["form"].errors)
    assert ledger.wallet_of(team.pk).balance == money.parse("10")


def test_a_large_one_is_decided_by_another_on_its_page(root: Client, boss: Client, team: Team) -> None:
    wallet = ledger.wallet_of(team.pk)
    url = reverse("admin:billing_adjustment_ask", args=[wallet.pk])
    form = adjust_form(kind="credit_limit", amount="5000")
    assert "another administrator" in root.post(url, {**form, "step": "preview"}).content.decode()
    where = root.post(url, form).headers["Location"]
    row = Adjustment.objects.get()
    assert (row.state, where) == ("pending", reverse("admin:billing_adjustment_change", args=[row.pk]))
    mine, his = root.get(where).content.decode(), boss.get(where).content.decode()
    assert ("Withdraw" in mine, "/approve/" in mine) == (True, False)
    assert ("/approve/" in his, "/withdraw/" in his) == (True, False)
    approve = reverse("admin:billing_adjustment_act", args=[row.pk, "approve"])
    root.post(approve)
    assert ledger.wallet_of(team.pk).credit_limit == 0
    boss.post(approve, {"note": "agreed with sales"})
    boss.post(approve)
    row.refresh_from_db()
    assert (row.state, row.note, ledger.wallet_of(team.pk).credit_limit) == (
        "done", "agreed with sales", money.parse("5000"),
    )  # fmt: skip
    listed = boss.get(reverse("admin:billing_adjustment_changelist") + f"?account__id__exact={wallet.pk}")
    assert "+5000.00 USD" in listed.content.decode()


def test_a_platform_account_and_an_unknown_one_cannot_be_adjusted(root: Client, team: Team) -> None:
    for account in (ledger.platform_account("promo").pk, 10**6):
        assert root.get(reverse("admin:billing_adjustment_ask", args=[account])).status_code == 404


# ---- the portal's page ----------------------------------------------------------------------------------------------


def test_a_member_redeems_a_code_and_sees_it(root: Client, alice: User, team: Team) -> None:
    (code, *_others) = new_codes(root)
    client, url = signed_in("alice@example.com"), reverse("redeem")
    assert "No code was redeemed yet" in client.get(url).content.decode()
    answer = client.post(url, {"code": f" {code.lower()} "}, follow=True)
    page = answer.content.decode()
    assert "5.00 USD are in the wallet" in page
    assert f"…{code[-4:]}" in page
    assert code not in page
    assert ledger.wallet_of(team.pk).balance == money.parse("15")
    answer = client.post(url, {"code": code})
    assert (answer.status_code, "You have redeemed this code already" in answer.content.decode()) == (422, True)


def test_what_cannot_be_redeemed_is_said_in_the_box(root: Client, alice: User, charlie: User) -> None:
    (code, *_others) = new_codes(root)
    his, hers = signed_in("charlie@example.com"), signed_in("alice@example.com")
    url = reverse("redeem")
    his.post(url, {"code": code})
    said = set()
    for text in (code, "PX-0000-0000-0000-0000-0000"):
        answer = hers.post(url, {"code": text})
        said |= set(answer.context["redeem_form"].errors["code"])
        assert answer.status_code == 422
    assert len(said) == 1
    assert "mistyped" in hers.post(url, {"code": "PX-49TD-0QEM"}).content.decode()
    assert hers.post(url, {"code": ""}).status_code == 422
    for _ in range(redeem.TRIES_OF_A_PERSON):
        answer = hers.post(url, {"code": "PX-0000-0000-0000-0000-0000"})
    assert (answer.status_code, "Try again in 60 minutes" in answer.content.decode()) == (429, True)
    assert RedeemAttempt.objects.filter(user=alice).count() == redeem.TRIES_OF_A_PERSON
