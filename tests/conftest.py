"""The shared cast: alice pays, bob is in her team, charlie must see nothing."""

import pytest

from billing import ledger, money
from portal import services
from portal.models import Membership, Role, Team, User

pytest_plugins = ["tests.kit.plugin", "tests.kit.browser"]


@pytest.fixture
def alice(db: None) -> User:
    """Has a wallet with 10 units of money."""
    ledger.forget_revenue_account()  # of a database whose rows an earlier test has rolled back
    user, team = services.user_with_team("alice@example.com")
    wallet = ledger.wallet_of(team.pk)
    ledger.credit(wallet=wallet, amount=money.parse("10"), actor="tests", reason="opening balance")
    return user


@pytest.fixture
def team(alice: User) -> Team:
    """Alice's personal team."""
    return services.personal_team(alice)


@pytest.fixture
def bob(team: Team) -> User:
    user, _ = services.user_with_team("bob@example.com")
    Membership.objects.create(team=team, user=user, role=Role.MEMBER)
    return user


@pytest.fixture
def charlie(db: None) -> User:
    return services.user_with_team("charlie@example.com")[0]
