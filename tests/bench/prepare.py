"""Fills an empty installation for the benchmark; prints the key. Run with the installation's environment."""

import os
import sys

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings")

import django

django.setup()

from billing import catalog, ledger, money, prices, revisions  # noqa: E402
from keys import services as keys  # noqa: E402
from portal import services  # noqa: E402
from relay.models import Channel  # noqa: E402


def prepare(upstream: str) -> str:
    _, team = services.user_with_team("bench@example.com")
    ledger.credit(wallet=ledger.wallet_of(team.pk), amount=money.parse("1000000"), actor="bench", reason="bench")
    model = catalog.save_model(name="bench", kind="chat", max_output=1000)
    catalog.set_price(model, prices.parse_card({"input": "0.15", "output": "0.60"}), actor="bench")
    Channel.objects.create(name="bench", base_url=upstream, private=True, models={"bench": "bench-upstream"})
    revisions.bump(revisions.CHANNELS)
    _, token = keys.issue(team_id=team.pk, spec=keys.Spec(name="bench"))
    return token


if __name__ == "__main__":
    print(prepare(sys.argv[1]))
