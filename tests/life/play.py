"""The steps of a life, drawn from a seeded source: each does something to the product and tells the reference of it."""

import datetime as dt
import random
import uuid
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from billing import debts, invoices, ledger, plans, tasks
from billing.credit_models import Adjustment, AdjustmentKind, AdjustmentState
from billing.invoices import issuing
from billing.models import (
    Account,
    AccountKind,
    DocumentKind,
    Invoice,
    Plan,
    PlanState,
    Transfer,
    TransferKind,
)
from billing.payments import manual, redeem, sweep
from billing.payments.models import Payment
from portal import services
from portal.models import Team
from tests.life.calls import Calls
from tests.life.checks import Checks
from tests.life.reference import Order, Pot, Taken
from tests.life.world import CENT, UNIT, ZONES, Broken, World, breaking
from tests.payments import scripted

_T = TypeVar("_T")

FAULTY = 0.3  # of what can be broken
LARGE = 1000 * UNIT  # what an administrator may not do alone


class Said(msgspec.Struct):
    """A delivery of a provider's that is under way: what it says, and to whose order."""

    provider: str
    said: dict[str, Any]
    customer: int
    order: str
    reference: str = ""
    taken: Taken | None = None


class Play(Calls):
    """All steps. `steps` counts what was done, by name, `faults` what was broken."""

    def __init__(self, world: World, draw: random.Random) -> None:
        super().__init__(world, draw)
        self.under_way: list[Said] = []
        self.delivered: list[Said] = []
        self.true: set[str] = set()  # payments that somebody has made at a provider
        self.receipts: dict[str, str] = {}  # of Stripe's, by order
        self.reversals: list[tuple[int, str, dict[str, Any]]] = []
        self.pending: list[tuple[int, int]] = []  # adjustments that wait, with their customer
        self.used: list[str] = []  # redeem codes
        self.steps: dict[str, int] = {}
        self.faults = 0
        self.checks = Checks(self)
        self.ways: list[tuple[int, Callable[[], None]]] = [
            (6, self.order), (6, self.pay), (16, self.deliver), (4, self.take_back), (4, self.go_on_with_reversal),
            (3, self.redeem), (3, self.credit), (3, self.adjust), (3, self.set_limit), (3, self.decide),
            (6, self.buy), (1, self.cancel), (5, self.tend), (22, self.call), (20, self.close), (2, self.close_again),
            (2, self.lose), (10, self.pass_time), (6, self.end_months), (3, self.pay_invoices), (2, self.credit_note),
            (3, self.settle_debt), (3, self.settle_debts), (1, self.move), (3, self.ask_providers), (2, self.rename),
        ]  # fmt: skip

    def step(self) -> None:
        self.world.pass_time(dt.timedelta(seconds=1, microseconds=self.draw.randrange(10**6)))
        (way,) = self.draw.choices([way for _, way in self.ways], [weight for weight, _ in self.ways])
        self.steps[way.__name__] = self.steps.get(way.__name__, 0) + 1
        way()

    def finish(self) -> None:
        """Everything that is under way comes to its end: deliveries, calls, months, and the jobs of days."""
        self.draw.shuffle(self.under_way)
        while self.under_way:
            self.deliver()
        for number in list(self.open):
            self._close(self.open.pop(number))
        for _ in range(2):
            self.world.pass_time(dt.timedelta(days=33))
            self.tend()
            self.ask_providers()
            self.end_months()
        self.checks.everything()

    # ---- faults

    def attempt(self, action: Callable[[], _T], *again: type[Exception]) -> _T | None:
        """Does it, sometimes after it broke somewhere in the middle, sometimes twice; each counts once.

        `again` is how the product says that it was done before; then there is nothing to answer.
        """
        if self.draw.random() < FAULTY:
            self.faults += 1
            try:
                with breaking(self.draw.randrange(25)):
                    action()
            except Broken:
                pass
            try:
                return action()
            except again:
                return None
        return action()

    # ---- payments

    def order(self, amount: int = 0, number: int | None = None) -> None:
        if number is None:
            number = self.draw.randrange(len(self.customers))
        way = self.draw.choice(("stripe", "stripe", "epay:alipay", "epay:wxpay"))
        amount = amount or self.draw.randrange(500, 12_000) * CENT
        waiting = Payment.objects.filter(wallet=self.world.purses[number].wallet, state__in=("created", "processing"))
        if waiting.count() >= 15:
            return
        payment = self.world.begin(self.world.purses[number], amount, way)
        self.customers[number].orders[str(payment.pk)] = Order(amount, payment.due)
        if way == "stripe":
            assert payment.due * CENT == amount

    def pay(self) -> None:
        """At the provider's. Its deliveries are under way: one or several, or none that ever comes."""
        number, _, customer = self.anybody()
        unpaid = [name for name in customer.orders if name not in self.true]
        if unpaid:
            self._pay(number, self.draw.choice(unpaid))

    def _pay(self, number: int, name: str) -> None:
        payment = Payment.objects.get(pk=name)
        self.true.add(name)
        if payment.provider == "epay":
            money = f"{payment.due // 100}.{payment.due % 100:02d}"
            said = scripted.notification(payment.pk.hex, money, trade_no=f"T{payment.pk.hex}")
            self.world.epay.paid[payment.pk.hex] = {
                "out_trade_no": payment.pk.hex, "trade_no": said["trade_no"], "money": money,
            }  # fmt: skip
            events = [said]
        else:
            content = self.world.stripe.pay(payment.checkout)
            self.receipts[name] = content["payment_intent"]
            kinds = ("checkout.session.completed", "checkout.session.async_payment_succeeded")
            events = [scripted.event(kind, dict(content)) for kind in kinds]
        for said in events[: self.draw.choice((1, 1, 2))]:
            self.under_way.append(Said(payment.provider, said, number, name))

    def deliver(self) -> None:
        """One of those under way, in any order; some are lost on the way back and come again, much later too."""
        again = self.delivered and self.draw.random() < 0.2
        if not self.under_way and not again:
            return
        source = self.delivered if again and self.under_way == [] else self.under_way
        said = source[self.draw.randrange(len(source))]
        broken = self.draw.random() < FAULTY
        if broken:
            self.faults += 1
            with breaking(self.draw.randrange(25)):
                status, _ = self._tell(said)
            assert status in (200, 500)
        for _ in range(self.draw.choice((1, 1, 2))):
            status, text = self._tell(said)
            assert status == 200, (said, text)
            assert text not in ("refused", "unknown", "fail"), (said, text)
        self._book(said)
        if source is self.under_way and self.draw.random() < 0.85:
            self.under_way.remove(said)
        self.delivered.append(said)
        del self.delivered[:-30]

    def _tell(self, said: Said) -> tuple[int, str]:
        return self.world.tell_epay(said.said) if said.provider == "epay" else self.world.tell_stripe(said.said)

    def _book(self, said: Said) -> None:
        customer = self.customers[said.customer]
        if said.taken is None:
            customer.told_paid(said.order, self.now)
        elif not self._told_early(said):
            customer.told_taken(said.order, said.reference, msgspec.structs.replace(said.taken), self.now)

    def _told_early(self, said: Said) -> bool:
        """Whether the very same delivery came before its payment: it waits there already."""
        assert said.taken is not None
        order = self.customers[said.customer].orders[said.order]
        return not order.credited and any(
            (reference, taken.stage) == (said.reference, said.taken.stage) for reference, taken in order.early
        )

    def take_back(self) -> None:
        """A refund or a dispute of something that was paid at Stripe's, perhaps told before the payment."""
        number, _, customer = self.anybody()
        paid = [name for name in customer.orders if name in self.receipts]
        if not paid:
            return
        name = self.draw.choice(paid)
        order = customer.orders[name]
        if self.draw.random() < 0.55:
            due = self.draw.choice((order.due, self.draw.randint(1, order.due)))
            self._say(number, name, scripted.refund(self.receipts[name], due, status="pending"), "refund.created")
        else:
            self._say(number, name, scripted.dispute(self.receipts[name], order.due), "charge.dispute.created")

    def _say(self, number: int, name: str, content: dict[str, Any], kind: str) -> None:
        stage = 2 if content["status"] in ("failed", "won") else 1
        taken = Taken(content["object"], content["amount"], stage)
        said = scripted.event(kind, content)
        self.under_way.append(Said("stripe", said, number, name, content["id"], taken))
        if stage == 1:
            self.reversals.append((number, name, content))

    def go_on_with_reversal(self) -> None:
        """A refund fails, a dispute is won or lost; what was said before may come after it."""
        if not self.reversals:
            return
        number, name, content = self.reversals.pop(self.draw.randrange(len(self.reversals)))
        if content["object"] == "refund":
            status, kind = self.draw.choice((("failed", "refund.failed"), ("succeeded", "refund.updated")))
        else:
            status, kind = self.draw.choice((("won", "charge.dispute.closed"), ("lost", "charge.dispute.closed")))
        self._say(number, name, content | {"status": status}, kind)
        if status in ("succeeded", "lost"):
            self.reversals.pop()

    def ask_providers(self) -> None:
        """The sweep, which finds payments whose deliveries were lost, and credits no other."""
        last = Transfer.objects.order_by("-pk").values_list("pk", flat=True).first() or 0
        self.attempt(sweep.sweep)
        found = Transfer.objects.filter(pk__gt=last, kind=TransferKind.PAYMENT).order_by("pk")
        for name in found.values_list("reference", flat=True):
            assert name in self.true, "nobody has paid this"
            customer = next(one for one in self.customers if name in one.orders)
            assert not customer.orders[name].credited
            customer.told_paid(name, self.now)

    # ---- what needs no provider

    def redeem(self) -> None:
        _, purse, customer = self.anybody()
        if self.used and self.draw.random() < 0.2:
            text, used = self.draw.choice(self.used), True
        else:
            amount = self.draw.randint(1, 20 * UNIT)
            text, used = self.world.code(amount), False

        def action() -> redeem.Redeemed:
            return redeem.redeem(
                text=text, team=purse.team.pk, user=purse.user.pk, actor=str(purse.user), address=""
            )  # fmt: skip

        try:
            self.attempt(action, redeem.Again)
        except (redeem.Again, redeem.Unknown):
            assert used, "a code that nobody has used"
        except redeem.TooMany:
            self.world.pass_time(redeem.WINDOW * 2)
            self.attempt(action, redeem.Again)
        if not used:
            customer.pay(self.now, amount)
            self.used.append(text)

    def credit(self) -> None:
        _, purse, customer = self.anybody()
        amount, reference = self.draw.randint(1, 30 * UNIT), self._reference()
        self.attempt(
            lambda: ledger.credit(
                wallet=purse.account, amount=amount, actor="root", reason="cash", reference=reference
            ),
            ledger.AlreadyPosted,
        )  # fmt: skip
        customer.pay(self.now, amount)

    def _reference(self) -> str:
        return str(uuid.UUID(int=self.draw.getrandbits(128)))

    def adjust(self) -> None:
        number, _, customer = self.anybody()
        amount = self.draw.choice((1, -1)) * self.draw.choice((1, 3 * UNIT, self.draw.randint(1, 20 * UNIT)))
        if self.draw.random() < 0.15:
            amount = self.draw.randint(LARGE + 1, 2 * LARGE)
        self._ask(number, AdjustmentKind.BALANCE, amount, possible=customer.room + amount >= 0)

    def set_limit(self) -> None:
        """A credit limit of up to a few hundred; now and then of none."""
        number, _, customer = self.anybody()
        limit = self.draw.choice((0, 40 * UNIT, 40 * UNIT, 250 * UNIT, 1500 * UNIT))
        if limit != customer.limit:
            possible = limit >= customer.held - customer.wallet
            self._ask(number, AdjustmentKind.CREDIT_LIMIT, limit - customer.limit, possible=possible)

    def _ask(self, number: int, kind: AdjustmentKind, amount: int, *, possible: bool) -> None:
        before = self.customers[number].limit if kind == AdjustmentKind.CREDIT_LIMIT else None
        wanted = manual.Wanted(
            account=self.world.purses[number].wallet, kind=kind, amount=amount, reason="drawn", before=before
        )
        reference = uuid.UUID(self._reference())

        def action() -> Any:
            try:
                return manual.ask(wanted=wanted, reference=reference, user=self.world.root.pk)
            except manual.AlreadyAsked as asked:
                return asked.adjustment

        try:
            row = self.attempt(action)
        except manual.NotAdjusted:
            assert not possible, (kind, amount)
            return
        assert possible
        assert row is not None
        if row.state == AdjustmentState.PENDING:
            self.pending.append((number, row.pk))
            return
        assert amount <= LARGE, "one administrator alone"
        self._adjusted(number, row)

    def _adjusted(self, number: int, row: Any) -> None:
        if row.kind == AdjustmentKind.CREDIT_LIMIT:
            self.customers[number].limit += row.amount
        else:
            self.customers[number].correct(self.now, row.amount)

    def decide(self) -> None:
        """The second administrator's yes or no; a yes to what cannot be done any more changes nothing."""
        if not self.pending:
            return
        number, pk = self.pending.pop(self.draw.randrange(len(self.pending)))
        customer = self.customers[number]
        if self.draw.random() < 0.2:
            manual.reject(adjustment=pk, user=self.world.boss.pk)
            return
        row = Adjustment.objects.get(pk=pk)
        if row.kind == AdjustmentKind.CREDIT_LIMIT:
            possible = row.before == customer.limit and customer.limit + row.amount >= customer.held - customer.wallet
        else:
            possible = customer.room + row.amount >= 0
        for _ in range(2):  # the second yes finds it decided
            try:
                with breaking(self.draw.randrange(40)):
                    manual.approve(adjustment=pk, user=self.world.boss.pk)
            except (Broken, manual.NotAdjusted):
                self.faults += 1
        try:
            manual.approve(adjustment=pk, user=self.world.boss.pk)
        except manual.NotAdjusted:
            row.refresh_from_db()
        else:
            row.refresh_from_db()
        assert (row.state == AdjustmentState.DONE) == possible
        if possible:
            self._adjusted(number, row)

    def settle_debt(self) -> None:
        """What a team owes is paid outside, and an administrator lets its wallet run again."""
        _, purse, customer = self.anybody()
        if customer.debt > 0:
            amount = self.draw.choice((customer.debt, self.draw.randint(1, customer.debt)))
            reference = self._reference()
            self.attempt(
                lambda: ledger.post(
                    kind=TransferKind.CREDIT,
                    debit=ledger.platform_account(AccountKind.PAYMENTS),
                    credit=Account.objects.get(pk=purse.debt),
                    amount=amount,
                    reference=reference,
                    actor="root",
                    reason="the debt is paid",
                ),
                ledger.AlreadyPosted,
            )
            customer.settle_debt(self.now, amount)
        if not customer.debt and customer.stopped_for_debt:
            ledger.unfreeze(wallet=purse.account)
            customer.stopped = ""

    def settle_debts(self) -> None:
        """The job that lets teams pay what they owe out of their wallets."""
        self.attempt(debts.settle_all)
        for customer in self.customers:
            customer.settle_from_wallet(self.now)

    # ---- plans

    def buy(self) -> None:
        _, purse, customer = self.anybody()
        offer, order = self.draw.choice(self.world.offers), uuid.UUID(self._reference())
        try:
            plan = self.attempt(
                lambda: plans.buy(team=purse.team.pk, offer=offer, at_most=offer.price, order=order, actor="alice")
            )
        except plans.Owing:
            assert customer.debt
            return
        except ledger.InsufficientFunds:
            assert customer.room < offer.price
            return
        except plans.TooMany:
            assert offer.at_once is not None
            return
        assert plan is not None
        assert customer.room >= offer.price
        assert not customer.debt
        calls = offer.calls
        rate = (offer.price + calls - 1) // calls if calls else None
        ends_at = self.now + dt.timedelta(days=offer.days)
        pot = Pot(plan.account_id, offer.value, rate, offer.refill, offer.models, ends_at, customer.zone)
        customer.buy(pot, offer.price, self.now)

    def cancel(self) -> None:
        _, _, customer = self.anybody()
        running = [pot for pot in customer.pots.values() if pot.running]
        if not running:
            return
        pot = self.draw.choice(running)

        def action() -> bool:
            plan = Plan.objects.get(account=pot.number)
            return plan.state == PlanState.CANCELLED or plans.cancel(plan=plan, actor="root", reason="asked for")

        assert self.attempt(action)
        customer.cancel(pot.number, self.now)

    def tend(self) -> None:
        """The job, which may run twice or break at one plan; once it has run whole, nothing is due."""
        self.attempt(tasks.tend_plans)
        tasks.tend_plans()
        for customer in self.customers:
            customer.tend(self.now)
        assert not plans.due(self.now)

    # ---- time, and what it brings

    def pass_time(self) -> None:
        """Mostly hours; a worker that was away for days, or months; a clock that is set back a little."""
        hours = self.draw.choice((0, 1, 5, 5, 24, 24, 24 * 3, 24 * 10, 24 * 31, 24 * 70))
        seconds = self.draw.choice((-290, -20, 5, 60))
        self.world.pass_time(dt.timedelta(hours=hours, seconds=seconds) if hours else dt.timedelta(seconds=seconds))

    def end_months(self) -> None:
        """The jobs of invoices, in their order, each of which may break, and run twice."""
        self.attempt(invoices.close_all)
        invoices.close_all()
        for customer in self.customers:
            customer.end_months(self.now)
        self.attempt(invoices.mark_overdue)
        self.attempt(invoices.enforce)
        for customer in self.customers:
            customer.enforce(self.now)
        self.checks.keep()

    def pay_invoices(self) -> None:
        """Somebody pays what is asked for: the whole, or some of it."""
        number, _, customer = self.anybody()
        owed = sum(left for _, left in customer.standing())
        if owed:
            amount = max(500 * CENT, self.draw.choice((owed, owed // 2)) // CENT * CENT)
            if amount > 2000 * UNIT:
                return
            before = set(customer.orders)
            self.order(amount, number)
            for name in set(customer.orders) - before:
                self._pay(number, name)

    def credit_note(self) -> None:
        _, purse, customer = self.anybody()
        bills = [bill for bill in customer.bills if bill.amount > bill.credited]
        if not bills:
            return
        bill = self.draw.choice(bills)
        left = bill.amount - bill.credited
        amount = self.draw.choice((left, self.draw.randint(1, left // CENT) * CENT))
        invoice = Invoice.objects.get(account=purse.wallet, month=bill.month, kind=DocumentKind.INVOICE)
        request = self._reference()
        try:
            invoices.credit(invoice=invoice, amount=left + CENT, reason="too much", actor="root", request="never")
        except issuing.InvalidCreditNote:
            pass
        else:
            raise AssertionError("more was credited than invoiced")
        self.attempt(
            lambda: invoices.credit(
                invoice=invoice, amount=amount, reason="goodwill", actor="root", request=request
            )
        )  # fmt: skip
        bill.credited += amount
        customer.pay(self.now, amount)
        self.checks.keep()

    def move(self) -> None:
        """The team's months are those of another time zone from now on."""
        _, purse, customer = self.anybody()
        customer.zone = self.draw.choice(ZONES)
        services.set_time_zone(purse.team, customer.zone, actor="alice")

    def rename(self) -> None:
        """What no document of the past may show."""
        _, purse, _ = self.anybody()
        Team.objects.filter(pk=purse.team.pk).update(name=f"team {self.draw.randrange(10**6)}")
