"""The product with everything that money needs: teams, keys, prices, offers, administrators, providers, and a clock.

The clock is the world's own: everything that asks for the time is told it, but for the databases themselves, whose own
clock stamps only what `stamp` corrects. It stands long before the real time, so that the past is past for them too.
"""

import asyncio
import datetime as dt
import itertools
import random
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest import mock

import msgspec
from django.db import OperationalError, connection
from django.db.models import Q
from django.test import Client
from django.utils import timezone

from billing import catalog, ledger, plans, prices, rules
from billing.catalog import Price
from billing.group_commit import GroupCommit
from billing.models import OPEN_STATES, Account, AccountKind, Hold, PlanKind, PlanOffer, Window
from billing.operations import ActiveHold, Operation, Outcome
from billing.payments import orders, rates, redeem
from billing.payments.models import Payment
from billing.payments.orders import Links
from keys import services as keys
from keys.services import Principal
from portal import services
from portal.models import Team, User
from relay.records import Call
from tests.payments import scripted
from tests.payments.scripted import ScriptedEPay, ScriptedStripe

START = dt.datetime(2019, 1, 30, 22, 0, tzinfo=dt.UTC)
ZONES = ("UTC", "Asia/Shanghai", "America/New_York", "Pacific/Auckland")
UNIT = 10**9
CENT = UNIT // 100
RATES = {"small": "0.333333333", "large": "3"}  # of a million tokens; the first leaves a fraction of a nano-unit
PAYMENTS = ("prepaid", "postpaid", "plan")
LEASE = 45.0

OFFERS: tuple[dict[str, Any], ...] = (
    {"name": "credit", "price": 8 * UNIT, "value": 10 * UNIT, "days": 30},
    {"name": "daily", "price": 5 * UNIT + 1, "value": UNIT, "days": 7, "refill": Window.DAY},
    {"name": "large only", "price": 30 * UNIT, "value": 20 * UNIT, "days": 90, "refill": Window.MONTH,
     "models": ["large"]},
    {"name": "calls", "price": 2 * UNIT, "calls": 7, "days": 20, "refill": Window.WEEK},
    {"name": "trial", "price": 0, "value": UNIT // 2, "days": 5, "at_once": 1},
)  # fmt: skip


class Broken(Exception):
    """The fault: what a process that dies, or a database that goes away, is to the code in between."""


@contextmanager
def breaking(after: int) -> Iterator[None]:
    """The statement after so many others fails, once; those that end a transaction never do."""
    count = itertools.count()

    def execute(run: Callable[..., Any], sql: str, parameters: Any, many: bool, context: dict[str, Any]) -> Any:
        if not sql.startswith(("SAVEPOINT", "ROLLBACK", "RELEASE")) and next(count) == after:
            raise Broken(sql[:80])
        return run(sql, parameters, many, context)

    with connection.execute_wrapper(execute):
        yield


class Purse(msgspec.Struct):
    """A team with its wallet, and the secrets of its keys by their payment type."""

    user: User
    team: Team
    wallet: int
    debt: int
    tokens: dict[str, str]

    @property
    def account(self) -> Account:
        return Account.objects.select_related("team").get(pk=self.wallet)


class World:
    def __init__(self, draw: random.Random, stripe: ScriptedStripe, epay: ScriptedEPay, *, teams: int = 3) -> None:
        self.now = START
        self.latest = START
        self.draw, self.stripe, self.epay = draw, stripe, epay
        self.http = Client(raise_request_exception=False)
        self._writer, self._runner = GroupCommit(), asyncio.Runner()
        with self.clock():
            ledger.forget_revenue_account()
            ledger.revenue_account()
            self.root = User.objects.create_superuser("root@example.com", "x")
            self.boss = User.objects.create_superuser("boss@example.com", "x")
            rates.put(currency="CNY", rate=rates.parse("7.2"), actor="tests")
            self.prices = {name: _price(name, rate) for name, rate in RATES.items()}
            self.offers = [_offer(**terms) for terms in OFFERS]
            self.purses = [self._purse(number) for number in range(teams)]

    def _purse(self, number: int) -> Purse:
        user, team = services.user_with_team(f"team-{number}@example.com")
        Team.objects.filter(pk=team.pk).update(time_zone=ZONES[number % len(ZONES)])
        tokens = {kind: keys.issue(team_id=team.pk, spec=keys.Spec(name=kind, payment=kind))[1] for kind in PAYMENTS}
        wallet = ledger.wallet_of(team.pk)
        debt = Account.objects.get(kind=AccountKind.RECEIVABLE, team=team)
        return Purse(user, team, wallet.pk, debt.pk, tokens)

    # ---- time

    @contextmanager
    def clock(self) -> Iterator[None]:
        decide = rules.decide

        def at_that_time(given: rules.Books, batch: Sequence[Operation]) -> Any:
            given.now = self.now
            return decide(given, batch)

        moving = mock.patch.object(timezone, "now", lambda: self.now)  # noqa: PT008 - it is another one each time
        with mock.patch.object(rules, "decide", at_that_time), moving:
            yield

    def pass_time(self, by: dt.timedelta) -> None:
        """Back by no more than clocks differ, which months allow for, and never before there was a rate of exchange."""
        self.now = max(self.now + by, self.latest - dt.timedelta(minutes=5), START)
        self.latest = max(self.latest, self.now)

    def stamp(self, *calls: uuid.UUID) -> None:
        """What the database's own clock wrote: when these holds ended."""
        Hold.objects.filter(pk__in=calls, resolved_at__isnull=False).update(resolved_at=self.now)

    def renew(self) -> None:
        """As the processes do whose calls are open."""
        Hold.objects.filter(state__in=OPEN_STATES).update(lease_until=self.now + dt.timedelta(seconds=LEASE))

    # ---- calls

    def run(self, *batch: Operation) -> list[Outcome]:
        return self._runner.run(self._submit(batch))

    async def _submit(self, batch: Sequence[Operation]) -> list[Outcome]:
        return await asyncio.gather(*[self._writer.submit(operation) for operation in batch])

    def principal(self, token: str) -> Principal:
        """Who the token is. Asked twice where the machine was too busy to read it in time, as a client would."""
        keys.forget_all()
        try:
            return self._runner.run(_authenticated(token))
        except OperationalError:
            return self._runner.run(_authenticated(token))

    def call(self, principal: Principal, model: str) -> Call:
        """A call that begins now."""
        milliseconds = int(self.now.timestamp() * 1000)
        number = uuid.UUID(
            int=milliseconds << 80 | 7 << 76 | self.draw.getrandbits(12) << 64 | 2 << 62 | self.draw.getrandbits(62)
        )
        call = Call(str(number), "chat.completions", "openai", "127.0.0.1", id=number, created_at=self.now)
        call.principal, call.model, call.price = principal, model, self.prices[model]
        return call

    def orphan(self, hold: ActiveHold) -> None:
        """The process of this call has died: its lease ended long ago, and it was noticed."""
        gone = timezone.now() - dt.timedelta(hours=1)
        Hold.objects.filter(~Q(pk=hold.id)).update(suspected_at=None)
        Hold.objects.filter(pk=hold.id).update(lease_until=gone, suspected_at=gone)

    # ---- payments

    def begin(self, purse: Purse, amount: int, way: str) -> Payment:
        return orders.begin(
            wallet=purse.account,
            choice=next(one for one in orders.choices() if one.name == way),
            amount=amount,
            actor=str(purse.user),
            email=purse.user.email,
            title="Credit",
            links=lambda pk: Links("http://127.0.0.1/done", "http://127.0.0.1/not", "http://127.0.0.1/notify"),
        )

    def tell_stripe(self, said: dict[str, Any]) -> tuple[int, str]:
        body, headers = scripted.signed(said)
        answer = self.http.post("/webhooks/stripe/", body, content_type="application/json", headers=headers)
        return answer.status_code, answer.content.decode()

    def tell_epay(self, said: dict[str, str]) -> tuple[int, str]:
        answer = self.http.get("/webhooks/epay/", said)
        return answer.status_code, answer.content.decode()

    def code(self, amount: int) -> str:
        wanted = redeem.Wanted(label="spring", amount=amount, number=1)
        _, (text,) = redeem.make(wanted=wanted, reference=uuid.uuid4(), user=self.root.pk)
        return text

    def close(self) -> None:
        self._runner.run(self._writer.close())
        self._runner.close()
        connection.close()


async def _authenticated(token: str) -> Principal:
    return await keys.authenticate(token)


def _price(name: str, rate: str) -> Price:
    version = catalog.set_price(catalog.save_model(name=name), prices.parse_card({"input": rate}), actor="tests")
    assert version is not None
    return Price(version.pk, version.valid_from.timestamp(), catalog.card_of(version))


def _offer(**terms: Any) -> PlanOffer:
    kind = PlanKind.CALLS if "calls" in terms else PlanKind.CREDIT
    value = plans.worth(kind=kind, price=terms["price"], value=terms.get("value"), calls=terms.get("calls"))
    return PlanOffer.objects.create(kind=kind, **{**terms, "value": value})
