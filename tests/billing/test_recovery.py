"""A hold whose process died is closed by the sweep, inside Django's own transaction."""

import datetime as dt
import uuid

import pytest
from django.db import transaction
from django.utils import timezone

from billing import audit, budgets, catalog, connections, holds, ids, ledger, money, prices
from billing.journal import Journal
from billing.models import BudgetOwner, Hold, HoldState
from billing.operations import ActiveHold, OpenHold
from portal.models import Team
from relay.models import CallLog
from relay.tasks import sweep_holds


def _orphan(team: Team, budget: int) -> uuid.UUID:
    """A hold of 2 units in the team's wallet and this budget, whose lease ended a minute ago."""
    row = catalog.save_model(name="priced")
    version = catalog.set_price(row, prices.parse_card({"input": "1", "output": "2"}), actor="tests")
    assert version is not None
    call, past = ids.uuid7(), timezone.now() - dt.timedelta(minutes=1)
    wallet = ledger.wallet_of(team.pk).pk
    amount = money.parse("2")
    facts = {"team": team.pk, "endpoint": "chat.completions", "protocol": "openai", "model": "priced"}
    owner = Journal().open()  # it knows nothing of the call, so that was never sent
    opening = OpenHold(call, wallet, amount, amount, version.pk, (budget,), facts, owner, -60.0, past)
    with transaction.atomic():
        (outcome,) = connections.run_in_transaction([opening], revenue=ledger.revenue_account())
    assert isinstance(outcome, ActiveHold)
    Hold.objects.filter(pk=call).update(suspected_at=past)
    return call


def test_the_sweep_gives_a_dead_calls_hold_back_to_the_wallet_and_to_the_quota(team: Team) -> None:
    budget = budgets.set_cap(owner=BudgetOwner.TEAM, owner_id=team.pk, window="day", cap=money.parse("5"))
    assert budget is not None
    call = _orphan(team, budget.pk)
    budget.refresh_from_db()
    assert budget.held == money.parse("2")

    assert sweep_holds() == 1

    budget.refresh_from_db()
    assert (budget.used, budget.held) == (0, 0)
    assert ledger.wallet_of(team.pk).held == 0
    assert Hold.objects.get(pk=call).state == HoldState.VOIDED
    assert not list(holds.expired())
    assert audit.run() == []


def test_a_dead_call_is_charged_by_its_own_multiplier_and_tier(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "_revenue", {})  # another test's account was rolled back
    budget = budgets.set_cap(owner=BudgetOwner.TEAM, owner_id=team.pk, window="day", cap=money.parse("5"))
    assert budget is not None
    call = _orphan(team, budget.pk)
    hold = Hold.objects.get(pk=call)
    card = prices.parse_card({"input": "1", "output": "2", "tiers": [{"above": 10, "input": "3"}]})
    later = catalog.set_price(catalog.rows()["priced"], card, actor="tests")
    assert later is not None
    Hold.objects.filter(pk=call).update(
        price=later,
        facts={**hold.facts, "multiplier": 500_000},
        progress={"attempt": 1, "usage": {"input": 20, "output": 5}},
    )

    assert sweep_holds() == 1

    record = CallLog.objects.get(pk=call)
    assert record.cost == (20 * 3000 + 5 * 2000) // 2
    assert {(line["multiplier"], line["above"]) for line in record.lines} == {(500_000, 10)}
    assert audit.run() == []


def test_the_audit_finds_a_hold_whose_account_is_missing(team: Team) -> None:
    budget = budgets.set_cap(owner=BudgetOwner.TEAM, owner_id=team.pk, window="day", cap=money.parse("5"))
    assert budget is not None
    call = _orphan(team, budget.pk)
    Hold.objects.filter(pk=call).update(account_id=0)

    found = {finding.check: finding.detail for finding in audit.run()}

    assert found["every hold has its account and its price"] == "account missing"
