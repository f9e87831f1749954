"""Calls that were really settled, in an empty database of each kind, by the ledger's writer and with its rows."""

import datetime as dt
import uuid
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from django.db import transaction

from billing import catalog, connections, ids, ledger, money, prices
from billing.catalog import Price
from billing.operations import ActiveHold, CloseHold, OpenHold
from billing.prices import NOTHING
from billing.usage import Source, Usage
from keys import services as keys
from keys.services import Principal
from portal import services
from relay.channels.routing import Candidate, Timeouts
from relay.records import Attempt, Call

COSTS = prices.parse_card({"input": "0.5", "output": "1"})


class House:
    """Teams with keys and models, and calls of theirs at any time."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        ledger.forget_revenue_account()
        self.revenue = ledger.revenue_account()
        card = prices.parse_card({"input": "1", "output": "2"})
        self.prices = {}
        for name in ("chat", "other"):
            version = catalog.set_price(catalog.save_model(name=name), card, actor="tests")
            assert version is not None
            self.prices[name] = Price(version.pk, 0.0, card)
        self.principals = [self._principal(number) for number in (1, 1, 2)]

    def _principal(self, number: int) -> Principal:
        _, team = services.user_with_team(f"team{number}@example.com")
        wallet = ledger.wallet_of(team.pk)
        ledger.credit(wallet=wallet, amount=money.parse("1000"), actor="tests", reason="credit")
        key, _ = keys.issue(team_id=team.pk, spec=keys.Spec(name=f"key {uuid.uuid4().hex[:4]}"))
        known: dict[str, Any] = {
            "key": key.pk,
            "team": team.pk,
            "account": wallet.pk,
            "budgets": (),
            "billing": "metered",
        }
        known |= {"state": "active", "expires_at": None, "models": frozenset(), "endpoints": frozenset()}
        known |= {"networks": (), "multiplier": prices.ONE}
        wanted = {field.name for field in msgspec.structs.fields(Principal) if field.required}
        assert wanted <= known.keys(), wanted - known.keys()
        return Principal(**known)

    @property
    def teams(self) -> list[int]:
        return sorted({principal.team for principal in self.principals})

    def begin(
        self,
        at: dt.datetime,
        *,
        who: int = 0,
        model: str = "chat",
        channels: tuple[str, ...] = ("main",),
        plans: tuple[int, ...] = (),
    ) -> Call:
        """A call that holds money, and tried these channels."""
        call = Call("", "chat.completions", "openai", "127.0.0.1", principal=self.principals[who], model=model)
        call.created_at = at
        call.id = uuid.UUID(int=ids.first(at).int | ids.uuid7().int & (1 << 80) - 1)
        call.request_id, call.price = str(call.id), self.prices[model]
        call.candidates = [self._candidate(name, model) for name in channels]
        price = self.prices[model].id
        account = self.principals[who].account
        opening = OpenHold(call.id, account, 10_000_000, 1, price, (), call.facts(), "tests", 45.0, at, plans=plans)
        (outcome,) = run(opening, revenue=self.revenue)
        assert isinstance(outcome, ActiveHold)
        call.hold = outcome
        for candidate in call.candidates:
            call.attempts.append(Attempt(candidate, None, 0.1, 502, None, 2.0, "upstream_error"))
        return call

    def _candidate(self, channel: str, model: str) -> Candidate:
        known: dict[str, Any] = {"cost_card": COSTS} if channel == "main" else {}
        made = Candidate(channel, "openai", "http://127.0.0.1/v1", model, 0, 1, "cancel", True, Timeouts(), ())
        return msgspec.structs.replace(made, **known)

    def settle(self, call: Call, *, state: str = "settled", tokens: tuple[int, int] = (1000, 100)) -> int:
        """Ends it: what it cost, 0 for one that failed."""
        run(self.closing(call, state=state, tokens=tokens), revenue=self.revenue)
        return call.charge.amount if call.charge else 0

    def closing(self, call: Call, *, state: str = "settled", tokens: tuple[int, int] = (1000, 100)) -> CloseHold:
        assert call.hold is not None
        assert call.price is not None
        if state == "failed":
            rows = call.rows("failed", status=502, error="upstream_error")
            return CloseHold(call.hold, None, tuple(rows))
        usage = Usage(input=tokens[0] or None, output=tokens[1] or None)
        call.charge = prices.charge(usage, call.price.card)
        call.attempts[-1].outcome, call.attempts[-1].status = "complete", 200
        status = 499 if state == "left" else 200
        rows = call.rows(state, status=status, usage=usage, source=Source.REPORTED, charge=call.charge)
        return CloseHold(call.hold, call.charge.amount, tuple(rows))

    def call(
        self, at: dt.datetime, *, state: str = "settled", tokens: tuple[int, int] = (1000, 100), **what: Any
    ) -> Call:
        call = self.begin(at, **what)
        self.settle(call, state=state, tokens=tokens)
        call.charge = call.charge or NOTHING
        return call


def run(*operations: Any, revenue: int) -> list[Any]:
    with transaction.atomic():
        return connections.run_in_transaction(list(operations), revenue=revenue)


@pytest.fixture
def house(books: str) -> Iterator[House]:
    yield House(books)
    ledger.forget_revenue_account()
