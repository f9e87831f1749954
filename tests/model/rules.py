"""The one set of rules: what can happen to a ledger, drawn from a source of randomness, and what must be true after it.

`Play` drives a system and the reference side by side. The source is a seeded `random.Random`, or hypothesis's own.
"""

import datetime as dt
import random
import uuid
from typing import Any

import msgspec

from billing import windows
from billing.operations import ActiveHold, Claim, CloseHold, OpenHold, Operation, Post, Progress, RenewLeases
from tests.model.reference import OPEN, Budget, Failed, Reference, Wallet
from tests.model.systems import LEASE, OWNERS, START, State, System

ZONES = ("UTC", "Asia/Shanghai", "America/New_York", "Pacific/Auckland")
WINDOWS = ("total", "day", "week", "month")
UNKNOWN = 999_999
MOST_OPEN = 24
LARGE = 10**15


class Play:
    def __init__(self, system: System, source: random.Random) -> None:
        self.system, self.source = system, source
        self.model = Reference(system.revenue)
        receivables = dict(system.wallets)
        self.model.platform |= {system.payments, system.promo, system.sold, *receivables.values()}
        self.model.wallets = {wallet: Wallet(receivable) for wallet, receivable in system.wallets}
        for plan in (plan for plans in system.plans.values() for plan in plans):
            self.model.wallets[plan] = Wallet(0, ends_at=START)
        self.granted: list[ActiveHold] = []  # what owners believe to hold, closed and lost ones among them
        self.posted: list[Post] = []
        self.owners: dict[tuple[int, str], int] = {}
        self.operations = 0
        self.invariants = Invariants()

    # ---- steps

    def step(self) -> None:
        """One thing that happens: mostly a batch, else the clock, the administration or the sweep."""
        draw = self.source.random()
        if draw < 0.78:
            self.batch()
        elif draw < 0.84:
            self.pass_time()
        elif draw < 0.93:
            self.administer()
        elif draw < 0.96:
            self.lapse()
        else:
            self.recover()

    def batch(self) -> None:
        """Several operations in one commit; each is answered as if it had been alone, in its turn."""
        batch = [self._operation() for _ in range(self.source.choice((1, 1, 2, 3, 4, 6, 9)))]
        outcomes = self.system.run(batch)
        self.operations += len(batch)
        for operation, outcome in zip(batch, outcomes, strict=True):
            expected = self.model.apply(operation, self.system.now)
            if isinstance(expected, Failed):
                assert isinstance(outcome, Exception), (operation, outcome)
            else:
                assert outcome == expected, (operation, outcome, expected)
            if isinstance(outcome, ActiveHold):
                self.granted.append(outcome)
        del self.granted[:-60], self.posted[:-30]
        if not self.source.randrange(200):  # keys are kept for a day, and then forgotten
            self.model.claims.clear()
            self.system.forget_claims()

    def pass_time(self) -> None:
        """Mostly forward, sometimes across a window's end, rarely back."""
        hours = self.source.choice((0, 0, 0, 1, 5, 24, 24 * 7, 24 * 31, -2, -30))
        self.system.now += dt.timedelta(hours=hours, seconds=self.source.randrange(100), microseconds=1)
        self.operations += 1

    def administer(self) -> None:
        self.operations += 1
        wallet = self.source.choice(list(self.model.wallets))
        kind = self.source.randrange(12)
        if kind < 4:
            self._set_cap()
        elif kind == 11:
            self._set_end()
        elif kind > 7:
            self._change_budget(kind)
        elif kind < 7:
            self.system.freeze(wallet, frozen := kind == 4)
            self.model.wallets[wallet].frozen = frozen
        elif wallet in self.system.plans:  # plans have no credit
            limit = max(self.source.choice((0, 0, 500, 5000)), self.model.held(wallet) - self._balance(wallet))
            self.system.set_credit_limit(wallet, limit)
            self.model.wallets[wallet].credit_limit = limit

    def lapse(self) -> None:
        """Leases end. The sweep takes the holds whose owners do not renew them in time, and nobody tells the owners."""
        lapsing = sorted(number for number, hold in self.model.open.items() if hold.state != "review")
        lapsing = [number for number in lapsing if self.source.random() < 0.3]
        renewed = {hold.id: hold for hold in self.granted if self.source.random() < 0.2}
        alive = {
            n for n, h in renewed.items() if n in self.model.open and self.model.open[n].generation == h.generation
        }
        assert self.system.lapse(lapsing, [renewed[n] for n in sorted(renewed)]) == set(lapsing) - alive
        for number in set(lapsing) - alive:
            self.model.take(number)
        self.operations += 1

    def recover(self) -> None:
        """Who took a hold closes it, never for more than was held, or leaves it to an administrator, who closes it."""
        taken = sorted(number for number, hold in self.model.open.items() if hold.state in ("recovering", "review"))
        if not taken:
            return
        self.operations += 1
        number = self.source.choice(taken)
        hold = self.model.open[number]
        if hold.state == "recovering" and self.source.random() < 0.3:
            assert self.system.review(number)
            hold.state = "review"
            return
        active = ActiveHold(
            *(number, hold.account, hold.amount, hold.generation, hold.budgets, hold.claimed, hold.parts)
        )
        charged = self.source.choice((None, 0, hold.amount, self.source.randint(0, hold.amount)))
        assert self.system.recover(active, charged)
        self.model.apply(CloseHold(active, charged), self.system.now)

    def _catch_up(self) -> None:
        """A clock that went back stands no longer before the windows that it had begun."""
        self.system.now = max([self.system.now, *(budget.since for budget in self.model.budgets.values())])

    # ---- draws

    def _operation(self) -> Operation:
        draw = self.source.random()
        if not self.granted or (draw < 0.42 and len(self.model.open) < MOST_OPEN):
            return self._opening()
        if draw < 0.8:
            return self._closing()
        if draw < 0.94:
            return self._posting()
        return self._renewal()

    def _opening(self) -> OpenHold:
        account = self.source.choice([*self.system.plans, *self.system.plans, UNKNOWN])
        plans = [plan for plan in self.system.plans.get(account, ()) if self.source.random() < 0.6]
        wallet_pays, on_credit = self.source.random() < 0.8, self.source.random() < 0.6
        wanted = self._amount(sum(map(self.model.available, [account, *plans])) if account in self.model.wallets else 0)
        if self.source.random() < 0.02:
            plans.append(UNKNOWN)
        self.source.shuffle(plans)
        minimum = self.source.choice((wanted, wanted, 0, wanted // 2))
        budgets = [n for n in self.owners.values() if self.source.random() < 0.4]
        if self.source.random() < 0.02:
            budgets.append(UNKNOWN)
        number = self._id()
        if self.granted and self.source.random() < 0.02:
            number = self.source.choice(self.granted).id
        claim = None
        if self.source.random() < 0.3:
            claim = Claim(f"key-{self.source.randrange(12)}", f"body-{self.source.randrange(3)}")
        return OpenHold(
            number, account, wanted, minimum, self.system.price, tuple(sorted(budgets)), {}, "model", LEASE,
            self.system.now, claim, tuple(plans), wallet_pays, on_credit,
        )  # fmt: skip

    def _id(self) -> uuid.UUID:
        """A UUIDv7 of the system's time (RFC 9562, section 5.7)."""
        milliseconds = int(self.system.now.timestamp() * 1000)
        drawn = self.source.getrandbits(12) << 64 | self.source.getrandbits(62)
        return uuid.UUID(int=milliseconds << 80 | 7 << 76 | 2 << 62 | drawn)

    def _closing(self) -> CloseHold:
        """By the owner, or again, or by one who lost it, or with a generation that never was."""
        hold = self.source.choice(self.granted)
        if self.source.random() < 0.05:
            hold = msgspec.structs.replace(hold, generation=hold.generation + 1)
            if hold.id in self.model.open:  # only the sweep can know a generation that is in force
                hold = self.source.choice(self.granted)
        beyond = self.source.choice((1, 50, 1000, 10**9)) if self.source.random() < 0.1 else 0
        charged = self.source.choice((None, 0, hold.amount, self.source.randint(0, hold.amount), hold.amount + beyond))
        return CloseHold(hold, charged)

    def _posting(self) -> Post:
        """Credit from payments, corrections by way of promotion, and what no account can do."""
        if self.source.random() < 0.3:
            return self._of_a_plan()
        wallet = self.source.choice(list(self.system.plans))
        payments, promo = self.system.payments, self.system.promo
        kind, debit, credit = self.source.choice((
            ("credit", payments, wallet), ("credit", payments, wallet), ("adjustment", promo, wallet),
            ("adjustment", wallet, promo), ("adjustment", wallet, promo), ("adjustment", wallet, UNKNOWN),
            ("credit", UNKNOWN, wallet), ("credit", wallet, wallet),
        ))  # fmt: skip
        amount = max(1, self._amount(self.model.available(wallet)))
        post = Post(kind, debit, credit, amount, f"p{self.source.getrandbits(64)}")
        if self.posted and self.source.random() < 0.05:
            post = self.source.choice(self.posted)
        self.posted.append(post)
        return post

    def _of_a_plan(self) -> Post:
        """One is bought, filled, or loses what it has left; sometimes once more."""
        wallet, plan, sold = (
            *self.source.choice([(wallet, plan) for wallet, plans in self.system.plans.items() for plan in plans]),
            self.system.sold,
        )
        kind, debit, credit = self.source.choice(
            (("grant", sold, plan), ("grant", sold, plan), ("expiry", plan, sold), ("purchase", wallet, sold))
        )
        amount = max(1, self._amount(self.model.available(plan if kind == "expiry" else wallet)))
        post = Post(kind, debit, credit, amount, f"p{self.source.getrandbits(64)}")
        self.posted.append(post)
        return post

    def _set_end(self) -> None:
        plan = self.source.choice([plan for plans in self.system.plans.values() for plan in plans])
        end = self.system.now + dt.timedelta(hours=self.source.choice((-1, 1, 24, 24 * 60)))
        self.system.set_end(plan, end)
        self.model.wallets[plan].ends_at = end

    def _renewal(self) -> RenewLeases:
        some = [hold for hold in self.granted[-10:] if self.source.random() < 0.3]
        unique = {hold.id: (hold.id, hold.generation, LEASE, Progress(1, output_bytes=1)) for hold in some}
        return RenewLeases(tuple(unique[number] for number in sorted(unique)))

    def _amount(self, available: int) -> int:
        """Around what there is, where the mistakes are."""
        some = self.source.randint(0, 3000)
        near = (0, 1, available - 1, available, available + 1, available // 2, available // 7)
        # A rich wallet does not double with each post: no sum of these comes near a column's end.
        return max(0, self.source.choice((*near, some, some) if available < LARGE else (some, LARGE)))

    def _balance(self, wallet: int) -> int:
        return self.model.wallets[wallet].balance

    def _set_cap(self) -> None:
        owner, window = self.source.randrange(OWNERS), self.source.choice(WINDOWS)
        cap = self.source.choice((None, 0, 100, 2000, 10**6, 10**12))
        zone = self.source.choice(ZONES)
        number = self.system.set_cap(owner, window, cap, zone)
        if number is None or cap is None:
            if (gone := self.owners.pop((owner, window), None)) is not None:
                del self.model.budgets[gone]
            return
        self.owners[owner, window] = number
        if known := self.model.budgets.get(number):
            known.cap = cap
        else:
            since = windows.start_of(window, self.system.now, zone)
            self.model.budgets[number] = Budget(cap, window, zone, since)

    def _change_budget(self, kind: int) -> None:
        """A raise begins or is ended, or the team moves to another zone."""
        if kind == 8:
            zone = self.source.choice(ZONES)
            self._catch_up()
            self.system.set_zone(zone)
            self.model.set_zone(zone, self.system.now)
        elif self.owners:
            number = self.source.choice(sorted(self.owners.values()))
            extra, hours = self.source.choice((1, 500, 10**6)), self.source.choice((1, 24, 24 * 40))
            until = self.system.now + dt.timedelta(hours=hours)
            budget = self.model.budgets[number]
            if kind == 9:
                self.system.raise_cap(number, extra, until)
                budget.extra, budget.extra_until = extra, until
            else:
                self.system.end_raise(number)
                budget.extra = 0

    # ---- what must be true

    def check(self) -> None:
        """The rows are what the reference says, and every invariant holds among themselves."""
        state = self.system.state()
        model = self.model
        for number, wallet in model.wallets.items():
            expected = (wallet.balance, model.held(number), wallet.credit_limit, wallet.frozen)
            assert state.wallets[number] == expected, (number, state.wallets[number], expected)
        assert state.budgets.keys() == model.budgets.keys()
        for number, budget in model.budgets.items():
            used, held = model.used(number), model.budget_held(number)
            counted = (budget.since, budget.cap, used, held, max(0, used + held - budget.cap))
            assert state.budgets[number] == counted, (number, state.budgets[number], counted)
        assert state.open.keys() == model.open.keys()
        for call, (account, amount, generation, now, _, parts) in state.open.items():
            hold = model.open[call]
            assert (account, amount, generation, now) == (hold.account, hold.amount, hold.generation, hold.state)
            assert tuple(parts) == hold.parts
        for call, (now, charged, _) in state.resolved.items():
            assert (now, charged) == (model.holds[call].state, model.holds[call].charged)
        for kind, reference, *sides in state.transfers:
            assert model.transfers[kind, reference] == tuple(sides)
        self.invariants.check(state)
        assert len(model.transfers) == self.invariants.transfers

    def end(self) -> None:
        self.check()
        self._catch_up()
        assert self.system.audit() == []


class Invariants:
    """Of the rows alone, without the reference (DESIGN, section 4)."""

    def __init__(self) -> None:
        self.net: dict[int, int] = {}
        self.charges: dict[str, int] = {}
        self.spent: dict[tuple[int, int], int] = {}
        self.transfers = 0

    def check(self, state: State) -> None:
        self._take(state)
        held: dict[int, int] = {}
        reserved: dict[int, int] = {}
        for account, amount, _, now, budgets, parts in state.open.values():
            assert now in OPEN
            assert amount >= 0
            held[account] = held.get(account, 0) + amount
            for plan, part in parts:
                assert 0 < part <= amount
                held[plan] = held.get(plan, 0) + part
                held[account] -= part
            for number, _ in budgets:
                reserved[number] = reserved.get(number, 0) + amount
        for number, (balance, kept, limit, _) in state.wallets.items():
            assert balance == self.net.get(number, 0), "a wallet's balance is the sum of its transfers"
            assert kept == held.get(number, 0), "held is the sum of the open holds"
            assert balance - kept + limit >= 0, "nothing available below zero"
        for number, (since, cap, used, kept, over) in state.budgets.items():
            assert used == self.spent.get((number, int(since.timestamp())), 0), "a budget is what its window spent"
            assert kept == reserved.get(number, 0), "a budget holds what its open holds do"
            assert used + kept <= cap + over, "what exceeds a cap shows"

    def _take(self, state: State) -> None:
        """What came since the last look, added up."""
        for kind, reference, debit, credit, amount in state.transfers:
            assert amount > 0
            self.net[debit] = self.net.get(debit, 0) - amount
            self.net[credit] = self.net.get(credit, 0) + amount
            if kind in ("charge", "shortfall", "draw"):
                call = reference.partition("/")[0]
                self.charges[call] = self.charges.get(call, 0) + amount
        self.transfers += len(state.transfers)
        for number, (now, charged, budgets) in state.resolved.items():
            assert self.charges.pop(str(number), 0) == charged, "a settled hold has its charge"
            assert now == "settled" or charged == 0, "a void hold has none"
            for pair in budgets:
                self.spent[pair] = self.spent.get(pair, 0) + charged
        assert not self.charges, "a charge names a hold that is settled"
        assert sum(self.net.values()) == 0, "the books sum to zero"


def drive(system: System, seed: int, operations: int, *, every: int) -> int:
    """Plays until this many operations were done, looking at the rows after every so many steps. How many it was."""
    play = Play(system, random.Random(seed))
    steps: Any = 0
    while play.operations < operations:
        play.step()
        steps += 1
        if steps % every == 0:
            play.check()
    play.end()
    return play.operations
