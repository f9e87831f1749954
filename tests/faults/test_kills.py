"""`kill -9` of a server, the worker, PostgreSQL and Redis under load: nothing lost, nothing double or invented."""

import random

import pytest

from tests.faults import supervisor
from tests.faults.supervisor import PARTS, RESOLVED_WITHIN
from tests.kit import client, soak
from tests.kit.upstream import Upstream


def seeded() -> random.Random:
    seed = random.SystemRandom().randrange(2**32)
    print("seed", seed)
    return random.Random(seed)


def test_whatever_is_killed_under_load_the_books_say_what_clients_and_upstream_saw(
    upstream: Upstream, black_hole: str
) -> None:
    source = seeded()
    with supervisor.running(upstream, black_hole) as all_parts:
        for part in ("postgres", source.choice(("server", "redis", "worker"))):
            all_parts.round(part, source)
            all_parts.check()
        assert all_parts.complete > 20
        all_parts.gateway.sweep(later=120)
        all_parts.settled_down(within=10)
        all_parts.finish()
        gateway = all_parts.gateway
        assert client.chat(gateway.url, all_parts.everybody[0].token).status_code == 200


@pytest.mark.soak
def test_two_hundred_rounds_of_killing(upstream: Upstream, black_hole: str) -> None:
    source, rounds = seeded(), soak.count("ROUNDS", 200)
    with supervisor.running(upstream, black_hole) as all_parts:
        for number in range(rounds):
            all_parts.round(source.choice(PARTS), source)
            all_parts.check()
            print("round", number + 1, "complete", all_parts.complete)
        all_parts.settled_down(within=RESOLVED_WITHIN + supervisor.LEASE)
        unclear = len(all_parts._open("review"))
        all_parts.finish()
        kills = ", ".join(f"{part} {count}" for part, count in sorted(all_parts.killed.items()))
        soak.note("kills: rounds", f"{rounds} ({kills})")
        soak.note(
            "kills: calls",
            f"{len(all_parts.all_seen)} made, {all_parts.complete} seen whole, {unclear} in review",
        )
