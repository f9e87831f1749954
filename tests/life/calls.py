"""Calls of every payment type: admitted and closed by the real writer, with the records that the relay writes."""

import datetime as dt
import random
import uuid

import msgspec

from billing import holds, prices
from billing.operations import ActiveHold, CloseHold, Done, OpenHold, Outcome, Refused
from billing.prices import NOTHING, Charge
from billing.usage import Source, Usage
from relay import records, recovery, settlement
from relay.records import Call
from tests.life.reference import Customer
from tests.life.world import PAYMENTS, RATES, UNIT, ZONES, Purse, World

MOST_OPEN = 12
PER_MILLION = {"small": 333_333_333, "large": 3 * UNIT}


class Open(msgspec.Struct):
    customer: int
    call: Call
    hold: ActiveHold


class Calls:
    """A world, its customers as the reference knows them, and the steps of calls."""

    def __init__(self, world: World, draw: random.Random) -> None:
        self.world, self.draw = world, draw
        self.customers = [Customer(ZONES[number % len(ZONES)]) for number in range(len(world.purses))]
        self.open: dict[uuid.UUID, Open] = {}
        self.closed: list[Open] = []

    @property
    def now(self) -> dt.datetime:
        return self.world.now

    def anybody(self) -> tuple[int, Purse, Customer]:
        number = self.draw.randrange(len(self.customers))
        return number, self.world.purses[number], self.customers[number]

    def call(self) -> None:
        if len(self.open) >= MOST_OPEN:
            self.close()
        number, purse, customer = self.anybody()
        payment, model = self.draw.choice(PAYMENTS), self.draw.choice(list(RATES))
        call = self.world.call(self.world.principal(purse.tokens[payment]), model)
        assert call.price is not None
        tokens = self.draw.choice((1, 1000, 10**6, self.draw.randrange(1, 12 * 10**6)))
        wanted = prices.charge(Usage(input=tokens), call.price.card).amount
        minimum = self.draw.choice((wanted, wanted, wanted // 2))
        expected = customer.admit(model, wanted, minimum, payment=payment, now=self.now)
        outcome = self._admitted(call, wanted, minimum)
        if not isinstance(outcome, ActiveHold):
            assert isinstance(outcome, Refused)
            assert expected is None, (outcome, expected)
            return
        assert expected is not None, outcome
        assert (outcome.amount, outcome.parts) == (expected.amount, expected.parts)
        call.hold = outcome
        customer.holds[call.id] = expected
        self.open[call.id] = Open(number, call, outcome)

    def _admitted(self, call: Call, wanted: int, minimum: int) -> Outcome:
        """As the relay asks: each plan of calls for the whole, then plans of money and the wallet."""
        assert call.principal is not None
        price = call.price
        for plan in call.principal.plans:
            if plan.rate is not None and plan.covers(call.model):
                call.at_flat_rate(plan.rate)
                outcome = self._hold(call, plan.rate, plan.rate, (plan.account,), wallet_pays=False)
                if isinstance(outcome, ActiveHold):
                    return outcome
                call.price, call.flat = price, None
        paying = tuple(plan.account for plan in call.principal.plans if plan.rate is None and plan.covers(call.model))
        return self._hold(call, wanted, minimum, paying)

    def _hold(
        self, call: Call, wanted: int, minimum: int, paying: tuple[int, ...], *, wallet_pays: bool = True
    ) -> Outcome:
        assert call.principal is not None
        assert call.price is not None
        principal = call.principal
        operation = OpenHold(
            *(call.id, principal.account, wanted, minimum, call.price.id, principal.budgets, call.facts()),
            *("life", 45.0, self.now, None, paying, wallet_pays, principal.on_credit),
        )
        (outcome,) = self.world.run(operation)
        return outcome

    def close(self) -> None:
        if self.open:
            self._close(self.open.pop(self.draw.choice(list(self.open))))

    def _close(self, one: Open) -> None:
        """It is settled for what it used, which may be more than was held, or void; perhaps said twice."""
        draw = self.draw.random()
        if draw < 0.15:
            charge, charged = NOTHING, None
            rows = one.call.rows("failed", status=502, error="upstream_error")
        else:
            usage = Usage(input=self._used(one, beyond=draw > 0.9))
            charge = self._charge(one, usage)
            charged = charge.amount
            rows = one.call.rows("settled", status=200, usage=usage, source=Source.REPORTED, charge=charge)
        operation = CloseHold(one.hold, charged, tuple(rows))
        outcomes = self.world.run(*[operation] * self.draw.choice((1, 1, 2)))
        assert outcomes == [Done(), Done(changed=False)][: len(outcomes)]
        self._ended(one, charge)

    def _used(self, one: Open, *, beyond: bool) -> int:
        rate = PER_MILLION[one.call.model]
        most = max(1, one.hold.amount * 10**6 // rate)
        return most + self.draw.choice((1, 1000, 4 * 10**6, 10**8)) if beyond else self.draw.randint(1, most)

    def _charge(self, one: Open, usage: Usage) -> Charge:
        """What the product makes of the usage; the reference multiplies by itself."""
        assert one.call.price is not None
        charge = prices.charge(usage, one.call.price.card, multiplier=one.call.multiplier)
        rate = PER_MILLION[one.call.model]
        assert charge.amount == (one.call.flat if one.call.flat is not None else -(-(usage.input or 0) * rate // 10**6))
        return charge

    def _ended(self, one: Open, charge: Charge) -> None:
        self.world.stamp(one.call.id)
        self.customers[one.customer].close(one.call.id, charge.amount, self.now)
        self.closed.append(one)
        del self.closed[:-20]

    def close_again(self) -> None:
        """Its process was away, and believes that the call is still open."""
        if self.closed:
            one = self.draw.choice(self.closed)
            rows = tuple(one.call.rows("failed", status=502, error="upstream_error"))
            outcomes = self.world.run(CloseHold(one.hold, self.draw.choice((None, one.hold.amount)), rows))
            assert outcomes == [Done(changed=False)]

    def lose(self) -> None:
        """A process dies with a call. The sweep finds it: void, settled for what is known, or for an administrator."""
        if not self.open:
            return
        one = self.open.pop(self.draw.choice(list(self.open)))
        self.world.orphan(one.hold)
        (orphan,) = holds.expired()
        assert orphan.row.pk == one.call.id
        charge = NOTHING
        way = self.draw.choice(("void", "known", "review"))
        if way == "review":
            assert holds.review(orphan.row, why="nobody can tell")
            orphan.row.refresh_from_db()
            charge = recovery.decided(self.draw.choice((0, one.hold.amount, self.draw.randint(0, one.hold.amount))))
            recovery.resolve(hold=orphan.row, charged=charge.amount, actor="root", reason="looked at it")
        else:
            usage = Usage(input=self._used(one, beyond=self.draw.random() < 0.3)) if way == "known" else None
            if usage is not None:
                most = settlement.most(Source.PARTIAL, "lost", one.hold.amount)
                charge = prices.capped(self._charge(one, usage), most)
            rows = records.lost_rows(orphan.row, None, usage, charge)
            assert holds.recover(orphan.row, charged=charge.amount if usage is not None else None, rows=rows)
        self._ended(one, charge)
