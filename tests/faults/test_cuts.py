"""The wire to PostgreSQL cut after every message, in both directions, of every transaction that moves money.

Whatever was cut, whoever asked tries again as he does in the product: the writer by itself, everybody else by asking
once more. Then it has happened once, or, for what is new, it may not have happened and nothing of it is left.
"""

import contextlib
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator

import psycopg
import pytest
from django.db import DatabaseError

from billing import ledger
from billing.group_commit import LedgerUnavailable, writer
from billing.models import Account, Hold, Transfer
from billing.operations import ActiveHold, Progress, RenewLeases
from relay import tasks
from tests.faults.proxy import Direction, How
from tests.faults.wire import OPENING, Wire, lease_ended, wire
from tests.kit import soak

LONGEST = 400  # messages; no transaction has as many
STRIDE = 7  # `make test` takes every seventh, `make soak` all of them


@pytest.fixture(scope="module")
def cuttable() -> Iterator[Wire]:
    with wire() as made:
        yield made


class Scene(ABC):
    """One transaction: `prepare` on a whole wire, `act` on one that is cut, `check` on a whole one again."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire

    def prepare(self) -> None:  # noqa: B027 - most need nothing
        """What has to be there before."""

    @abstractmethod
    def act(self) -> None: ...

    @abstractmethod
    def check(self) -> None: ...


class OneHold(Scene):
    amounts: tuple[int, ...] = (300,)

    def act(self) -> None:
        self.found = self.wire.run(*(self.wire.hold(amount) for amount in self.amounts))

    def check(self) -> None:
        granted = [hold for hold in self.found if isinstance(hold, ActiveHold)]
        assert all(isinstance(hold, ActiveHold | LedgerUnavailable) for hold in self.found), self.found
        # Refused holds that were written after all have been given back by the writer before it ended.
        assert sorted(self.wire.open_holds()) == sorted(hold.id for hold in granted)
        assert self.wire.wallet().held == sum(hold.amount for hold in granted)
        for hold in granted:
            assert self.wire.run(self.wire.close(hold, None)) == [None]


class ManyHolds(OneHold):
    amounts = (100, 200, 50, 1)


class Settle(Scene):
    charges: tuple[tuple[int, int | None], ...] = ((300, 120),)

    def prepare(self) -> None:
        self.before = self.wire.wallet().balance
        self.holds = self.wire.opened(*(amount for amount, _ in self.charges))

    found: list[object]

    def act(self) -> None:
        pairs = zip(self.holds, self.charges, strict=True)
        self.found = [*self.wire.run(*(self.wire.close(hold, charged) for hold, (_, charged) in pairs))]

    def check(self) -> None:
        assert self.found == [None] * len(self.charges)
        expected = [("voided", 0) if charged is None else ("settled", charged) for _, charged in self.charges]
        assert self.wire.state_of([hold.id for hold in self.holds]) == expected
        spent = sum(charged or 0 for _, charged in self.charges)
        wallet = self.wire.wallet()
        assert (wallet.balance, wallet.held) == (self.before - spent, 0)


class Release(Settle):
    charges = ((300, None),)


class ManyClosings(Settle):
    charges = ((300, 2), (200, None), (100, 1), (50, None))


class Shortfall(Settle):
    charges = ((300, 5000),)

    def check(self) -> None:
        assert self.found == [None]
        (hold,) = self.holds
        amounts = dict(Transfer.objects.filter(reference=str(hold.id)).values_list("kind", "amount"))
        assert amounts == {"charge": self.before, "shortfall": 5000 - self.before}
        assert self.wire.wallet().frozen
        ledger.unfreeze(wallet=self.wire.wallet())


class Mixed(Settle):
    """Openings and closings in one batch."""

    def act(self) -> None:
        (hold,) = self.holds
        self.found = [*self.wire.run(self.wire.close(hold, 120), self.wire.hold(77))]
        self.new = self.found.pop()

    def check(self) -> None:
        if isinstance(self.new, ActiveHold):
            assert self.wire.run(self.wire.close(self.new, None)) == [None]
        else:
            assert isinstance(self.new, LedgerUnavailable)
        super().check()


class Credit(Scene):
    """By a page or a command, in Django's transaction. It fails or not; asked again, it has happened once."""

    count = 0

    def prepare(self) -> None:
        Credit.count += 1
        self.before = self.wire.wallet().balance

    def act(self) -> None:
        with contextlib.suppress(DatabaseError, psycopg.Error):
            self._post()

    def check(self) -> None:
        with contextlib.suppress(ledger.AlreadyPosted):
            self._post()
        assert self.wire.wallet().balance == self.before + 7
        assert Transfer.objects.filter(reference=f"payment-{self.count}").count() == 1

    def _post(self) -> None:
        wallet = Account(pk=self.wire.account)
        ledger.credit(wallet=wallet, amount=7, actor="tests", reason="r", reference=f"payment-{self.count}")


class Recovery(Scene):
    """By the sweep of a worker, which is cut off while it closes a dead process's hold, and comes again."""

    def prepare(self) -> None:
        self.before = self.wire.wallet().balance
        (self.hold,) = self.wire.opened(300)
        progress = {"attempt": 1, "answering": True, "usage": {"input": 3}}
        Hold.objects.filter(pk=self.hold.id).update(progress=progress)
        lease_ended(self.hold.id)

    def act(self) -> None:
        with contextlib.suppress(DatabaseError, psycopg.Error):
            tasks.sweep_holds()

    def check(self) -> None:
        lease_ended(self.hold.id)
        tasks.sweep_holds()
        ((state, charged),) = self.wire.state_of([self.hold.id])
        assert state == "settled"
        assert (self.wire.wallet().balance, self.wire.wallet().held) == (self.before - charged, 0)


class Renewal(Scene):
    def prepare(self) -> None:
        (self.hold,) = self.wire.opened(300)

    def act(self) -> None:
        self.wire.run(self._renewed())

    async def _renewed(self) -> None:
        await writer.submit(RenewLeases(((self.hold.id, 1, 45.0, Progress(1, output_bytes=3)),)))

    def check(self) -> None:
        stored = Hold.objects.get(pk=self.hold.id)
        assert stored.progress in (None, {"attempt": 1, "output_bytes": 3})
        assert (stored.state, stored.generation, self.wire.wallet().held) == ("dispatched", 1, 300)
        assert self.wire.run(self.wire.close(self.hold, None)) == [None]


SCENES: list[type[Scene]] = [
    OneHold, ManyHolds, Settle, Release, ManyClosings, Shortfall, Mixed, Credit, Recovery, Renewal,
]  # fmt: skip


def cut_everywhere(
    wire: Wire, scene: Callable[[Wire], Scene], direction: Direction, *, how: How = "end", first: int = 0, step: int = 1
) -> int:
    """Plays the scene with the wire cut after `first` messages, after `first + step` and so on. How many were cut."""
    for after in range(first, LONGEST, step):
        if wire.wallet().balance < OPENING:
            ledger.credit(wallet=wire.wallet(), amount=OPENING, actor="tests", reason="more")
        play = scene(wire)
        play.prepare()
        wire.fresh()
        cuts = wire.proxy.cuts
        wire.proxy.cut_next(direction, after, how=how)
        play.act()
        wire.proxy.spare()
        wire.fresh()
        play.check()
        wire.is_whole()
        if wire.proxy.cuts == cuts:
            assert after > 10, "the wire was never cut"
            return (after - first) // step
    raise AssertionError("the transaction never ended")


@pytest.mark.parametrize("direction", ["up", "down"])
@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
def test_a_wire_cut_in_the_middle_of_a_transaction_loses_nothing_and_doubles_nothing(
    cuttable: Wire, scene: type[Scene], direction: Direction
) -> None:
    first = random.randrange(STRIDE)
    print("first cut after", first)
    cut_everywhere(cuttable, scene, direction, first=first, step=STRIDE)


@pytest.mark.soak
@pytest.mark.parametrize("direction", ["up", "down"])
@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
def test_a_wire_cut_after_every_single_message(cuttable: Wire, scene: type[Scene], direction: Direction) -> None:
    cut = cut_everywhere(cuttable, scene, direction)
    soak.note(f"cuts: {scene.__name__}, {direction}", f"{cut} messages, each cut once")


@pytest.mark.soak
@pytest.mark.parametrize("direction", ["up", "down"])
@pytest.mark.parametrize("scene", [OneHold, Settle, Mixed], ids=lambda scene: scene.__name__)
def test_a_wire_that_falls_silent_in_the_middle_of_a_transaction(
    cuttable: Wire, scene: type[Scene], direction: Direction
) -> None:
    """Each silence costs the seconds that the writer waits, so not after every message."""
    first = random.randrange(STRIDE)
    print("first silence after", first)
    silent = cut_everywhere(cuttable, scene, direction, how="silence", first=first, step=STRIDE)
    soak.note(f"silence: {scene.__name__}, {direction}", f"{silent} messages, silent after each once")
