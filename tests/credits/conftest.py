"""What the tests of redeem codes and adjustments are about: administrators, a customer, a batch."""

import uuid
from typing import Any

import pytest

from billing import ledger
from billing.credit_models import RedeemBatch
from billing.models import Account
from billing.payments import redeem
from portal import services
from portal.models import Team, User

UNIT = 10**9


class Cast:
    """Two administrators, and alice with her team and wallet, in this process's database."""

    def __init__(self) -> None:
        self.root = User.objects.create_superuser("root@example.com", "x")
        self.boss = User.objects.create_superuser("boss@example.com", "x")
        self.alice, self.team = services.user_with_team("alice@example.com")

    @property
    def wallet(self) -> Account:
        return ledger.wallet_of(self.team.pk)

    def other(self, name: str) -> tuple[User, Team]:
        return services.user_with_team(f"{name}@example.com")

    def batch(self, number: int = 1, amount: int = 5 * UNIT, **fields: Any) -> tuple[RedeemBatch, list[str]]:
        wanted = redeem.Wanted(label="spring", amount=amount, number=number, **fields)
        return redeem.make(wanted=wanted, reference=uuid.uuid4(), user=self.root.pk)

    def redeem(self, text: str, *, user: User | None = None, team: Team | None = None, at: str = "") -> redeem.Redeemed:
        who, whose = user or self.alice, team or self.team
        return redeem.redeem(text=text, team=whose.pk, user=who.pk, actor=str(who), address=at)


@pytest.fixture
def cast(books: str) -> Cast:
    ledger.forget_revenue_account()
    return Cast()
