"""Everywhere an amount is entered, what is not plainly one is refused with a message, and nothing is written."""

import contextlib
import datetime as dt
import html
import json
import re
import uuid
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import msgspec
import pytest
from django.core.management import CommandError, call_command
from django.db import transaction
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from billing import budgets, catalog, connections, groups, ids, ledger, money, prices
from billing.credit_models import RedeemBatch
from billing.models import (
    Account,
    Budget,
    BudgetOwner,
    CatalogModel,
    Hold,
    HoldState,
    PriceGroup,
    PriceVersion,
    Transfer,
)
from billing.operations import OpenHold
from keys import services as keys
from keys.models import ApiKey
from portal import services
from portal.models import Team, User
from relay import services as channels
from relay.models import Channel
from tests.operator.test_admin import _channel_form, _model_form
from tests.portal.conftest import browser

pytestmark = pytest.mark.django_db

BAD = {
    "negative": "-1",
    "negative by a nano-unit": "-0.000000001",
    "huge": "9" * 11,
    "huger": "9" * 29,
    "a word": "ten",
    "NaN": "NaN",
    "Infinity": "Infinity",
    "minus infinity": "-inf",
    "an exponent": "1e3",
    "a small exponent": "1E-3",
    "hexadecimal": "0x10",
    "ten decimals": "1.0000000001",
    "two points": "1.2.3",
    "a comma": "1,5",
    "a group mark": "1_000",
    "a plus": "+1",
    "a sign of a currency": "$5",
    "a bare point": ".5",
    "a last point": "5.",
    "wide digits": "５",
    "Arabic digits": "٣.٥",
    "a fraction": "½",
    "a space inside": "1 000",
    "a no-break space inside": "1\u00a0000",
}


class World(msgspec.Struct):
    """What the entrances work on."""

    alice: Client
    staff: Client
    team: Team
    key: ApiKey
    wallet: Account
    budget: Budget
    group: PriceGroup
    model: CatalogModel
    channel: Channel
    review: uuid.UUID
    folder: Path

    def apply(self, text: str) -> str:
        path = self.folder / "file.yaml"
        path.write_text(text, encoding="utf-8")
        return command("apply", str(path))

    def page(self, client: Client, view: str, /, *parts: Any, **form: Any) -> str:
        """What the page says of the form where it was refused, else nothing."""
        answer = client.post(reverse(view, args=parts), form)
        if answer.status_code in (201, 302):
            return ""
        found = answer.context
        refused = found["adminform"].form if "adminform" in found else found["form"]
        said = html.unescape(str(refused.errors.as_text()))
        assert all(line.strip("* ")[:40] in html.unescape(answer.content.decode()) for line in said.splitlines()[1::2])
        return said


def command(*arguments: str) -> str:
    try:
        call_command(*arguments, stdout=StringIO(), stderr=StringIO())
    except CommandError as error:
        return str(error)
    return ""


def quoted(text: str) -> str:
    return json.dumps(text)


def key_form(text: str) -> dict[str, str]:
    form = {"name": "k", "expires": "never", "billing": "metered", "type": "standard", "payment": "prepaid"}
    return {**form, "window": "day", "quota": text}


def caps_form(window: str, text: str) -> dict[str, str]:
    return {"day": "", "week": "", "month": "", "total": "", window: text}


Entrance = Callable[[World, str], str]
ISSUE = ("issue_key", "--email", "new@example.com", "--name", "x")
ENTRANCES: dict[str, Entrance] = {
    "the command's credit": lambda w, text: command(*ISSUE, f"--credit={text}"),
    "the command's quota": lambda w, text: command(*ISSUE, f"--quota={text}"),
    "a price in the file": lambda w, text: w.apply(f"models: [{{name: m, price: {{input: {quoted(text)}}}}}]"),
    "a price of a call in the file": lambda w, text: w.apply(
        f"models: [{{name: m, price: {{per_call: {quoted(text)}}}}}]"
    ),
    "a tier in the file": lambda w, text: w.apply(
        f"models: [{{name: m, price: {{input: 1, tiers: [{{above: 5, input: {quoted(text)}}}]}}}}]"
    ),
    "a price to come in the file": lambda w, text: w.apply(
        f"models: [{{name: m, price_changes: [{{from: 2099-01-01, price: {{input: {quoted(text)}}}}}]}}]"
    ),
    "a multiplier in the file": lambda w, text: w.apply(f"groups: [{{name: vip, multiplier: {quoted(text)}}}]"),
    "a cost in the file": lambda w, text: w.apply(
        f"channels: [{{name: main, costs: {{a: {{input: {quoted(text)}}}}}}}]"
    ),
    "a new key's quota": lambda w, text: w.page(w.alice, "key_create", **key_form(text)),
    "a key's quota": lambda w, text: w.page(w.alice, "key_edit", w.key.pk, **key_form(text)),
    "a key's limit": lambda w, text: w.page(w.alice, "limit_key", w.key.pk, **caps_form("week", text)),
    "the team's limit": lambda w, text: w.page(w.alice, "limit_team", **caps_form("total", text)),
    "a raise": lambda w, text: w.page(
        w.alice, "limit_raise", w.budget.pk, extra=text, until="2099-01-01T00:00", reason="r"
    ),
    "a price by hand": lambda w, text: w.page(
        w.staff, "admin:billing_catalogmodel_change", w.model.pk, **_model_form(price_input=text)
    ),
    "a tier by hand": lambda w, text: w.page(
        w.staff,
        "admin:billing_catalogmodel_change",
        w.model.pk,
        **_model_form(price_input="1", tiers=f"5: input {text}"),
    ),
    "an adjustment": lambda w, text: w.page(
        w.staff,
        "admin:billing_adjustment_ask",
        w.wallet.pk,
        kind="balance",
        amount=text,
        reason="r",
        before=0,
        reference=str(uuid.uuid4()),
        step="do",
    ),
    "a credit limit": lambda w, text: w.page(
        w.staff,
        "admin:billing_adjustment_ask",
        w.wallet.pk,
        kind="credit_limit",
        amount=text,
        reason="r",
        before=0,
        reference=str(uuid.uuid4()),
        step="do",
    ),
    "a redeem code": lambda w, text: w.page(
        w.staff,
        "admin:billing_redeembatch_add",
        label="x",
        amount=text,
        number=1,
        reference=str(uuid.uuid4()),
        step="show",
    ),
    "a multiplier by hand": lambda w, text: w.page(
        w.staff,
        "admin:billing_pricegroup_change",
        w.group.pk,
        name="vip",
        times=text,
        **{"prices-TOTAL_FORMS": 0, "prices-INITIAL_FORMS": 0},
    ),
    "a decision on a call in review": lambda w, text: w.page(
        w.staff, "admin:relay_review_change", w.review, charge=text, reason="the provider's bill"
    ),
    "a cost by hand": lambda w, text: w.page(
        w.staff,
        "admin:relay_channel_change",
        w.channel.pk,
        **_channel_form(costs=json.dumps({"a": {"input": text}})),
    ),
}
# An adjustment may take away, and is then limited by the balance; empty is none there, and no quota in a form.
EMPTY_IS_NONE = {"a new key's quota", "a key's quota", "a key's limit", "the team's limit", "an adjustment"}


@pytest.fixture
def world(alice: User, team: Team, tmp_path: Path) -> World:
    staff = Client()
    staff.force_login(User.objects.create_superuser("root@example.com", "x"))
    budget = budgets.set_cap(owner=BudgetOwner.TEAM, owner_id=team.pk, window="day", cap=money.parse("5"))
    assert budget is not None
    model = catalog.save_model(name="m")
    catalog.set_price(model, prices.parse_card({"input": "1"}), actor="tests")
    spec = channels.ChannelSpec(name="main", base_url="https://8.8.8.8/v1", models={"a": "b"})
    return World(
        alice=browser(alice),
        staff=staff,
        team=team,
        key=keys.issue(team_id=team.pk, spec=keys.Spec(name="k"))[0],
        wallet=ledger.wallet_of(team.pk),
        budget=budget,
        group=groups.save(name="vip", multiplier=800_000),
        model=model,
        channel=channels.save_channel(None, spec),
        review=in_review(ledger.wallet_of(team.pk), model),
        folder=tmp_path,
    )


def in_review(wallet: Account, model: CatalogModel) -> uuid.UUID:
    """A hold of one unit that waits for an administrator."""
    call, price = ids.uuid7(), model.prices.get()
    opening = OpenHold(call, wallet.pk, money.NANO, money.NANO, price.pk, (), {}, "gone", 60.0, timezone.now())
    with transaction.atomic():
        connections.run_in_transaction([opening], revenue=0)
    Hold.objects.filter(pk=call).update(state=HoldState.REVIEW)
    return call


def written() -> list[Any]:
    return [
        list(Budget.objects.order_by("pk").values()), list(Hold.objects.values()),
        list(Transfer.objects.order_by("pk").values()),
        list(PriceVersion.objects.order_by("pk").values()), list(PriceGroup.objects.values()),
        list(Channel.objects.values()), list(Account.objects.order_by("pk").values()),
        list(ApiKey.objects.order_by("pk").values("pk", "name")), list(User.objects.values("email")),
        list(RedeemBatch.objects.values("label", "amount")),
    ]  # fmt: skip


@pytest.mark.parametrize("entrance", ENTRANCES)
def test_what_is_no_amount_is_refused_with_a_message_and_nothing_is_written(world: World, entrance: str) -> None:
    before = written()
    for name, text in BAD.items():
        if entrance == "an adjustment" and name.startswith("negative"):
            continue
        message = ENTRANCES[entrance](world, text)
        assert message, f"{name} was taken"
        assert re.search("amount|multiplier is at most|too large|is not written as|at most 30 characters", message), (
            name
        )
    assert written() == before


@pytest.mark.parametrize("entrance", sorted(ENTRANCES.keys() - EMPTY_IS_NONE))
def test_nothing_is_no_amount_where_one_is_needed(world: World, entrance: str) -> None:
    before = written()
    for text in ("", " "):
        assert ENTRANCES[entrance](world, text)
    assert written() == before


@pytest.mark.parametrize("entrance", ENTRANCES)
def test_a_plain_amount_is_taken(world: World, entrance: str) -> None:
    """Else the tests above would prove nothing."""
    before = written()
    text = "0.75"
    if entrance == "a raise":
        soon = (timezone.now() + dt.timedelta(days=2)).strftime("%Y-%m-%dT%H:%M")
        said = world.page(world.alice, "limit_raise", world.budget.pk, extra=text, until=soon, reason="r")
    else:
        said = ENTRANCES[entrance](world, text)
    assert said == ""
    assert written() != before


@given(st.text(max_size=24) | st.from_regex(r"\s*[-+]?[0-9]*[.,]?[0-9]*([eE][-+]?[0-9]+)?\s*", fullmatch=True))
def test_any_text_is_an_exact_amount_or_is_refused(text: str) -> None:
    with contextlib.suppress(money.InvalidAmount):
        value = money.parse(text)
        assert 0 <= value < money.LIMIT
        assert money.parse(money.to_text(value)) == value
        assert text.strip().isascii()
        assert set(text.strip()) <= set("-.0123456789")


@pytest.mark.parametrize("amount", [0, -1, money.LIMIT, 2**63, 10**40])
def test_the_books_take_no_transfer_that_is_not_above_zero_or_does_not_fit(world: World, amount: int) -> None:
    before = written()
    with pytest.raises(money.InvalidAmount):
        ledger.credit(wallet=world.wallet, amount=amount, actor="tests", reason="r")
    assert written() == before
    assert services.personal_team(world.team.personal_of) == world.team  # type: ignore[arg-type]
