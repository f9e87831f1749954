"""What the portal's tests share: compiled translations, a small catalogue, and browsers of the cast."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings
from django.core.cache import cache
from django.test import Client
from django.utils.translation import trans_real

from billing import catalog, prices
from billing.models import PriceVersion
from keys import services as keys
from keys.models import ApiKey
from portal import translations
from portal.models import Team, User
from tests.payments import scripted
from tests.payments.scripted import ScriptedStripe


@pytest.fixture(scope="session", autouse=True)
def compiled_translations() -> None:
    """The `.mo` files are built, not kept; `gettext` reads nothing else."""
    translations.compile_all(settings.LOCALE_PATHS)
    vars(trans_real)["_translations"].clear()


@pytest.fixture(autouse=True)
def forgotten_attempts() -> None:
    """One test's sign-ins do not count towards another's rate limit."""
    cache.clear()


@pytest.fixture
def price(db: None) -> PriceVersion:
    """The model that the tests call, priced for tokens and by the call."""
    model = catalog.save_model(name="gpt-4o-mini", kind="chat", provider="OpenAI", context_window=128_000)
    card = prices.parse_card({"input": "0.15", "cache_read": "0.075", "output": "0.60", "per_call": "0.01"})
    version = catalog.set_price(model, card, actor="tests")
    assert version is not None
    return version


@pytest.fixture
def key(team: Team) -> ApiKey:
    """A key of alice's."""
    return keys.issue(team_id=team.pk, spec=keys.Spec(name="agent-prod"))[0]


@pytest.fixture
def stripe(settings: Any) -> Iterator[ScriptedStripe]:
    """Stripe, configured for two currencies and answering."""
    server = ScriptedStripe()
    settings.STRIPE_SECRET_KEY, settings.STRIPE_API_BASE = scripted.KEY, server.url
    settings.STRIPE_WEBHOOK_SECRETS, settings.STRIPE_CURRENCIES = [scripted.SECRET], ["USD", "EUR"]
    yield server
    server.stop()


PASSWORD = "correct-horse-battery"


def browser(user: User) -> Client:
    user.set_password(PASSWORD)
    user.save()
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def as_alice(alice: User) -> Client:
    return browser(alice)


@pytest.fixture
def as_bob(bob: User) -> Client:
    return browser(bob)


@pytest.fixture
def as_charlie(charlie: User) -> Client:
    return browser(charlie)
