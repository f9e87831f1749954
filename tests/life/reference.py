"""What each team paid, got, spent and owes, in the fewest words: lists of what happened, and sums over them.

Deliberately unlike `billing`: it keeps no row and knows no order of locks, no event's id and no number. It is told
what happened in the world (a payment, a call's tokens, a month that ended), never what the books made of it.
"""

import datetime as dt
from collections.abc import Iterator
from zoneinfo import ZoneInfo

import msgspec

from billing import windows

CENT = 10**7
CUT = dt.timedelta(minutes=10)
TERM = dt.timedelta(days=14)


class Move(msgspec.Struct, frozen=True):
    """Nano-units that came into a team's wallet, or its debt (`of_debt`): `sold` for what was sold, else a payment."""

    at: dt.datetime
    amount: int
    sold: bool
    of_debt: bool = False


class Pot(msgspec.Struct):
    """A plan that a team has bought; `rate` is what one of its calls costs, None where it has money."""

    number: int
    value: int
    rate: int | None
    refill: str
    models: list[str]
    ends_at: dt.datetime
    zone: str
    fill_at: dt.datetime | None = None
    balance: int = 0
    running: bool = True
    carried: set[object] = msgspec.field(default_factory=set)  # calls that ran when it was last filled
    owed: int = 0  # what those that have ended since have cost it


class Held(msgspec.Struct, frozen=True):
    amount: int
    parts: tuple[tuple[int, int], ...]

    @property
    def of_wallet(self) -> int:
        return self.amount - sum(part for _, part in self.parts)


class Taken(msgspec.Struct):
    """A refund or a dispute of an order; `stage` is 1 while the money is gone, 2 once it is back."""

    kind: str
    due: int
    stage: int
    since: dt.datetime = dt.datetime.min.replace(tzinfo=dt.UTC)
    at: dt.datetime = since  # of its stage


class Order(msgspec.Struct):
    """What somebody wants to pay. `early` is what was told of refunds before the payment itself."""

    amount: int
    due: int
    credited: bool = False
    gone: int = 0
    taken: dict[str, Taken] = msgspec.field(default_factory=dict)
    early: list[tuple[str, Taken]] = msgspec.field(default_factory=list)

    @property
    def is_disputed(self) -> bool:
        return any(one.kind == "dispute" and one.stage < 2 for one in self.taken.values())


class Bill(msgspec.Struct):
    """A month that was closed: what it came to, and what is asked for. `credited` is what credit notes gave back."""

    month: dt.date
    ends_at: dt.datetime
    items: int
    amount: int
    carried: int
    due_at: dt.datetime
    credited: int = 0


class Customer(msgspec.Struct):
    """A team. `stopped` says why its wallet lets no call in."""

    zone: str
    limit: int = 0
    stopped: str = ""
    moves: list[Move] = msgspec.field(default_factory=list)
    pots: dict[int, Pot] = msgspec.field(default_factory=dict)
    holds: dict[object, Held] = msgspec.field(default_factory=dict)
    orders: dict[str, Order] = msgspec.field(default_factory=dict)
    bills: list[Bill] = msgspec.field(default_factory=list)
    overdue_since: dt.datetime = dt.datetime.min.replace(tzinfo=dt.UTC)
    invoiced_from: tuple[dt.date, dt.datetime] | None = None  # the month before the first that is invoiced, and its end

    # ---- what follows

    @property
    def wallet(self) -> int:
        return sum(move.amount for move in self.moves if not move.of_debt)

    @property
    def debt(self) -> int:
        return -sum(move.amount for move in self.moves if move.of_debt)

    @property
    def held(self) -> int:
        return sum(hold.of_wallet for hold in self.holds.values())

    @property
    def room(self) -> int:
        return self.wallet - self.held + self.limit

    def pot_held(self, number: int) -> int:
        return sum(part for hold in self.holds.values() for pot, part in hold.parts if pot == number)

    def pot_room(self, number: int) -> int:
        return self.pots[number].balance - self.pot_held(number)

    def between(self, start: dt.datetime, end: dt.datetime) -> int:
        return sum(move.amount for move in self.moves if not move.of_debt and start <= move.at < end)

    def position(self, before: dt.datetime) -> int:
        return sum(move.amount for move in self.moves if move.at < before)

    # ---- money in, and back

    def pay(self, at: dt.datetime, amount: int) -> None:
        self.moves.append(Move(at, amount, sold=False))

    def correct(self, at: dt.datetime, amount: int) -> None:
        """What is taken by a correction is sold; what is given is paid."""
        self.moves.append(Move(at, amount, sold=amount < 0))

    def settle_debt(self, at: dt.datetime, amount: int) -> None:
        self.moves.append(Move(at, amount, sold=False, of_debt=True))

    def settle_from_wallet(self, at: dt.datetime) -> None:
        """What the wallet has of its own pays the debt; what was stopped for it runs again."""
        paid = max(0, min(self.debt, self.wallet - self.held))
        self._move(at, -paid)
        self._move(at, paid, of_debt=True)
        if not self.debt and self.stopped_for_debt:
            self.free(self._owing_since())

    @property
    def stopped_for_debt(self) -> bool:
        return self.stopped in ("call", "owing") or self.stopped.endswith(" owed")

    def _owing_since(self) -> dt.datetime:
        began, owed = dt.datetime.min.replace(tzinfo=dt.UTC), 0
        for move in self.moves:
            if move.of_debt:
                began = move.at if owed <= 0 else began
                owed -= move.amount
        return began

    def told_paid(self, name: str, at: dt.datetime) -> None:
        order = self.orders[name]
        if order.credited:
            return
        order.credited = True
        self.pay(at, order.amount)
        early, order.early = order.early, []
        for reference, taken in early:
            self.told_taken(name, reference, taken, at)

    def told_taken(self, name: str, reference: str, told: Taken, at: dt.datetime) -> None:
        order = self.orders[name]
        if not order.credited:
            order.early.append((reference, told))
            return
        known = order.taken.get(reference)
        if known is not None and told.stage <= known.stage:
            return
        told.since, told.at = known.since if known is not None else at, at
        order.taken[reference] = told
        gone = sum(one.due for one in order.taken.values() if one.stage == 1)
        change = order.amount * min(gone, order.due) // order.due - order.gone
        order.gone += change
        if change > 0:
            self._take(name, change, at)
        elif change < 0:
            settled = min(-change, max(0, self.debt))
            self._move(at, settled, of_debt=True)
            self._move(at, -change - settled)
        if told.stage == 2:
            if not order.is_disputed and self.stopped.startswith(f"payment {name} "):
                self.free(told.since)
        elif told.kind == "dispute":
            self.stop(f"payment {name} is disputed")

    def _take(self, name: str, amount: int, at: dt.datetime) -> None:
        there = min(amount, max(0, self.room))
        self._move(at, -there)
        if amount > there:
            self._move(at, there - amount, of_debt=True)
            self.stop(f"payment {name} is owed")

    def _move(self, at: dt.datetime, amount: int, *, of_debt: bool = False, sold: bool = False) -> None:
        if amount:
            self.moves.append(Move(at, amount, sold, of_debt))

    # ---- stopping

    def stop(self, why: str) -> None:
        self.stopped = self.stopped or why

    def free(self, since: dt.datetime) -> None:
        """The reason is gone that stopped it then; a payment that was disputed meanwhile is another."""
        for name, order in self.orders.items():
            if any(one.kind == "dispute" and one.stage == 1 and one.at >= since for one in order.taken.values()):
                self.stopped = f"payment {name} is disputed"
                return
        self.stopped = "owing" if self.debt else ""

    # ---- calls

    def admit(self, model: str, wanted: int, minimum: int, *, payment: str, now: dt.datetime) -> Held | None:
        """Plans of calls first and wholly, then those of money, each by their ends, then the wallet."""
        if self.stopped:
            return None
        paying = []
        if payment == "plan":
            running = [pot for pot in self.pots.values() if pot.running and pot.ends_at > now]
            paying = [pot for pot in running if not pot.models or model in pot.models]
            paying.sort(key=lambda pot: (pot.ends_at, pot.number))
        for pot in paying:
            if pot.rate is not None and self.pot_room(pot.number) >= pot.rate:
                return Held(pot.rate, ((pot.number, pot.rate),))
        parts, left = [], wanted
        for pot in paying:
            if pot.rate is None and (part := min(left, self.pot_room(pot.number))):
                parts.append((pot.number, part))
                left -= part
        of_wallet = min(left, max(0, self.room if payment == "postpaid" else self.room - self.limit))
        amount = sum(part for _, part in parts) + of_wallet
        return Held(amount, tuple(parts)) if amount >= minimum else None

    def close(self, call: object, cost: int, at: dt.datetime) -> None:
        hold = self.holds.pop(call)
        for number, part in hold.parts:
            pot, drawn = self.pots[number], min(part, cost)
            pot.balance -= drawn
            pot.owed += drawn if call in pot.carried else 0
            cost -= drawn
        paid = min(cost, max(0, self.room))
        self._move(at, -paid, sold=True)
        if cost > paid:
            self._move(at, paid - cost, of_debt=True, sold=True)
            self.stop("call")

    # ---- plans

    def buy(self, pot: Pot, price: int, at: dt.datetime) -> None:
        self._move(at, -price, sold=True)
        pot.balance = pot.value
        pot.fill_at = self._next_filling(pot, at)
        self.pots[pot.number] = pot

    def cancel(self, number: int, now: dt.datetime) -> None:
        pot = self.pots[number]
        pot.running, pot.fill_at, pot.ends_at = False, None, now
        pot.balance = self.pot_held(number)

    def tend(self, now: dt.datetime) -> None:
        for pot in self.pots.values():
            if not pot.running or pot.ends_at <= now:
                pot.running, pot.fill_at = False, None
                pot.balance = self.pot_held(pot.number)
            elif pot.fill_at is not None and pot.fill_at <= now:
                pot.balance, pot.owed = pot.value, 0
                pot.carried = {call for call, hold in self.holds.items() if pot.number in dict(hold.parts)}
                pot.fill_at = self._next_filling(pot, now)
            else:
                pot.balance, pot.owed = pot.balance + pot.owed, 0

    def _next_filling(self, pot: Pot, now: dt.datetime) -> dt.datetime | None:
        moment = windows.end_of(pot.refill, now, pot.zone)
        return moment if moment is not None and moment < pot.ends_at else None

    # ---- months

    def end_months(self, now: dt.datetime) -> None:
        """Closes those that are over. A wallet is invoiced once it has a limit, or owes."""
        if self.invoiced_from is None:
            if not self.limit and self.wallet >= 0:
                return
            month = now.astimezone(ZoneInfo(self.zone)).date().replace(day=1)
            while self.position(_midnight(month, self.zone)) < 0:
                month = _month(month, -1)
            self.invoiced_from = _month(month, -1), _midnight(month, self.zone)
        month, start = (
            (self.bills[-1].month, self.bills[-1].ends_at) if self.bills else self.invoiced_from
        )  # fmt: skip
        carried = self.bills[-1].carried if self.bills else 0
        while (end := _midnight(_month(month, 2), self.zone)) + CUT <= now:
            month = _month(month, 1)
            items = -sum(move.amount for move in self.moves if move.sold and start <= move.at < end)
            amount = max(0, (items + carried) // CENT * CENT)
            carried += items - amount
            self.bills.append(Bill(month, end, items, amount, carried, now + TERM))
            start = end

    def standing(self) -> Iterator[tuple[Bill, int]]:
        """What is still to be paid of each invoice, newest first: who pays, pays the oldest."""
        if not self.bills:
            return
        last = self.bills[-1]
        paid = sum(move.amount for move in self.moves if not move.sold and move.at >= last.ends_at)
        unpaid = -self.position(last.ends_at) - last.carried - paid
        for bill in reversed(self.bills):
            if bill.amount:
                open_part = min(max(0, unpaid), bill.amount - bill.credited)
                unpaid -= open_part
                yield bill, open_part

    def enforce(self, now: dt.datetime) -> None:
        late = [bill.due_at for bill, left in self.standing() if left and bill.due_at <= now]
        if late and not self.stopped:
            self.stop("overdue")
            self.overdue_since = late[-1]
        elif not late and self.stopped == "overdue":
            self.free(self.overdue_since)


def _month(month: dt.date, by: int) -> dt.date:
    number = month.year * 12 + month.month - 1 + by
    return dt.date(number // 12, number % 12 + 1, 1)


def _midnight(day: dt.date, zone: str) -> dt.datetime:
    return dt.datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(zone)).astimezone(dt.UTC)
