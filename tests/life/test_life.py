"""A life of money, on SQLite and on PostgreSQL, beside a reference that only knows what happened in the world.

A failure names its seed and size: `LIFE_SEED=… LIFE_STEPS=… pytest tests/life -k sqlite` plays the same again.
"""

import os
import random
import time

import pytest

from tests.kit import databases, soak
from tests.life.play import Play
from tests.life.world import World
from tests.payments import conftest as payments
from tests.payments.scripted import ScriptedEPay, ScriptedStripe

_stripe, _epay, stripe, epay = payments._stripe, payments._epay, payments.stripe, payments.epay

SEED = int(os.environ.get("LIFE_SEED", "0")) or random.SystemRandom().randrange(1, 2**32)
STEPS = {"sqlite": 400, "postgres": 300}
LIFE = 1_500  # steps of one life in the long form: its checks read everything that was before
EVERY = 40


def live(seed: int, steps: int, stripe: ScriptedStripe, epay: ScriptedEPay, kind: str) -> Play:
    """A whole life in the database that this process works in."""
    print(f"LIFE_SEED={seed} LIFE_STEPS={steps}, on {kind}")
    draw = random.Random(seed)
    world = World(draw, stripe, epay)
    try:
        with world.clock():
            play = Play(world, draw)
            for number in range(1, steps + 1):
                play.step()
                if number % EVERY == 0:
                    play.checks.everything(share=0.1)
            play.finish()
            return play
    finally:
        world.close()


def test_whatever_happens_the_money_is_where_the_world_says(
    books: str, stripe: ScriptedStripe, epay: ScriptedEPay
) -> None:
    play = live(SEED, int(os.environ.get("LIFE_STEPS", STEPS[books])), stripe, epay, books)
    print(dict(sorted(play.steps.items())), f"{play.faults} faults, {len(play.checks.documents)} documents")


@pytest.mark.soak
@pytest.mark.parametrize("kind", databases.KINDS)
def test_many_lives_break_nothing(kind: str, stripe: ScriptedStripe, epay: ScriptedEPay) -> None:
    wanted = soak.count("LIFE", 60_000) // len(databases.KINDS)
    source, done, faults, documents, began = random.Random(SEED), 0, 0, 0, time.monotonic()
    while done < wanted:
        size, url = min(LIFE, wanted - done), databases.new(kind)
        try:
            with databases.inside(url):
                play = live(source.randrange(1, 2**32), size, stripe, epay, kind)
        finally:
            databases.drop(url)
        done, faults, documents = done + size, faults + play.faults, documents + len(play.checks.documents)
    took = time.monotonic() - began
    figure = f"{done:,} in {took:.0f} s, {faults:,} faults, {documents:,} invoices and notes, nothing broken"
    soak.note(f"life of money: steps, {kind}", figure)
