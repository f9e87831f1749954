"""Random operations on the ledger, in memory, on SQLite and on PostgreSQL, beside a reference model.

`make soak` runs the million. A failure names its seed and size: `MODEL_SEED=… MODEL_OPERATIONS=… pytest tests/model -k
sqlite` plays the same again.
"""

import os
import random
import time

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.kit import databases, soak
from tests.model import rules, systems

SEED = int(os.environ.get("MODEL_SEED", "0")) or random.SystemRandom().randrange(1, 2**32)
WORLD = 4000  # operations on one database: its full audit stays quick


def play(kind: str, seed: int, operations: int, *, every: int) -> int:
    print(f"MODEL_SEED={seed} MODEL_OPERATIONS={operations}, on {kind}")
    if kind == "memory":
        system: systems.System = systems.Memory()
        with systems.clock(system):
            return rules.drive(system, seed, operations, every=every)
    url = databases.new(kind)
    try:
        with databases.inside(url):
            system = systems.Database()
            with systems.clock(system):
                try:
                    return rules.drive(system, seed, operations, every=every)
                finally:
                    system.close()
    finally:
        databases.drop(url)


@pytest.mark.parametrize("kind", ["memory", *databases.KINDS])
def test_whatever_happens_the_ledger_is_what_the_reference_says_and_no_invariant_breaks(kind: str) -> None:
    usual = {"memory": 25_000, "sqlite": 1500, "postgres": 800}[kind]
    operations = int(os.environ.get("MODEL_OPERATIONS", usual))
    assert play(kind, SEED, operations, every=1 if kind == "memory" else 20) >= operations


def test_a_clock_that_is_set_back_between_two_changes_of_a_zone_alarms_nobody() -> None:
    """An open hold's day ended in another zone before the hold was made."""
    assert play("sqlite", 3288453194, 4000, every=1000) >= 4000


@pytest.mark.soak
@pytest.mark.parametrize(("kind", "share"), [("memory", 0.5), ("sqlite", 0.25), ("postgres", 0.25)])
def test_a_million_operations_break_nothing(kind: str, share: float) -> None:
    wanted = int(soak.count("OPERATIONS", 1_000_000) * share)
    source, done, began = random.Random(SEED), 0, time.monotonic()
    while done < wanted:
        size = min(wanted - done, WORLD * (5 if kind == "memory" else 1))
        done += play(kind, source.randrange(1, 2**32), size, every=1 if kind == "memory" else 25)
    soak.note(f"model: random operations, {kind}", f"{done} in {time.monotonic() - began:.0f} s, nothing broken")


class Machine(RuleBasedStateMachine):
    """The same rules, drawn by hypothesis, which makes a failure small."""

    @initialize(source=st.randoms(use_true_random=False))
    def begin(self, source: random.Random) -> None:
        self.play = rules.Play(systems.Memory(), source)
        self.clock = systems.clock(self.play.system)
        self.clock.__enter__()

    @rule()
    def batch(self) -> None:
        self.play.batch()

    @rule()
    def pass_time(self) -> None:
        self.play.pass_time()

    @rule()
    def administer(self) -> None:
        self.play.administer()

    @rule()
    def lapse(self) -> None:
        self.play.lapse()

    @precondition(lambda self: any(hold.state != "dispatched" for hold in self.play.model.open.values()))
    @rule()
    def recover(self) -> None:
        self.play.recover()

    @invariant()
    def books_are_whole(self) -> None:
        self.play.check()

    def teardown(self) -> None:
        if hasattr(self, "clock"):
            self.clock.__exit__(None, None, None)


def test_hypothesis_finds_no_history_that_breaks_the_books() -> None:
    checked = settings(
        max_examples=60, stateful_step_count=40, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    run_state_machine_as_test(Machine, settings=checked)
