"""Where a call goes: priority, weight, what is shut, and who stays with whom."""

import json
import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.channels import routing
from relay.channels.routing import Candidate, Secret, Timeouts


def candidate(number: int, *, keys: dict[int, int] | None = None, **fields: Any) -> Candidate:
    """Channel `number`, with credentials by id and weight."""
    secrets = tuple(Secret(key, "", f"secret-{key}", weight) for key, weight in (keys or {}).items())
    values: dict[str, Any] = {"priority": 0, "weight": 1, "keyless": not keys, **fields}
    return Candidate(
        channel=f"channel-{number}", protocol="openai", base_url="http://127.0.0.1/v1", model="m", on_hangup="cancel",
        private=True, timeouts=Timeouts(), credentials=secrets, id=number, **values,
    )  # fmt: skip


def keys(found: list[routing.Target]) -> list[str]:
    return [target.key for target in found]


channels = st.lists(
    st.builds(
        lambda priority, weight, count: (priority, weight, count),
        st.integers(0, 3),
        st.integers(0, 5),
        st.integers(0, 4),
    ),
    min_size=1,
    max_size=6,
)


def made(drawn: list[tuple[int, int, int]]) -> list[Candidate]:
    return [
        candidate(n, keys={n * 10 + k: 1 + k for k in range(count)}, priority=priority, weight=weight)
        for n, (priority, weight, count) in enumerate(drawn)
    ]


@given(channels, st.integers(0, 2**32), st.sets(st.integers(0, 60)), st.binary(max_size=8))
def test_a_plan_has_each_open_target_at_most_once_and_every_channel_before_a_second_credential_of_one(
    drawn: list[tuple[int, int, int]], seed: int, shut: set[int], affinity: bytes
) -> None:
    found = made(drawn)
    shut_keys = {routing.credential_key(n) for n in shut}
    every = {t.key: t for c in found for t in routing.targets(c)}
    plan = routing.plan(found, random.Random(seed), passes=lambda key: key not in shut_keys, affinity=affinity)
    count = Counter(t.candidate.channel for key, t in every.items() if key not in shut_keys)
    reached = sum(min(routing.MOST_ATTEMPTS, n) for n in count.values())
    assert len(keys(plan)) == len(set(keys(plan))) == min(routing.LONGEST_PLAN, reached)
    assert not shut_keys & set(keys(plan))
    open_channels = {t.candidate.channel for key, t in every.items() if key not in shut_keys}
    first = [target.candidate for target in plan][: len(open_channels)]
    assert len({c.channel for c in first}) == len(first)
    assert [c.priority for c in first] == sorted(c.priority for c in first)


def test_a_plan_of_very_many_targets_is_cut() -> None:
    found = [candidate(n, keys={n * 10 + k: 1 for k in range(5)}) for n in range(50)]
    assert len(routing.plan(found, random.Random(1))) == routing.LONGEST_PLAN
    alone = routing.plan(found[:1], random.Random(1))
    assert len(alone) == routing.MOST_ATTEMPTS


@given(channels, st.integers(0, 2**32), st.sets(st.integers(0, 60)))
def test_chance_is_the_seed_s_alone(drawn: list[tuple[int, int, int]], seed: int, shut: set[int]) -> None:
    plans = [keys(routing.plan(made(drawn), random.Random(seed))) for _ in range(2)]
    assert plans[0] == plans[1]


def test_calls_are_shared_by_weight_among_channels_and_among_the_credentials_of_one() -> None:
    found = [candidate(1, weight=3, keys={11: 1, 12: 4}), candidate(2, weight=1), candidate(3, weight=0)]
    source = random.Random(7)
    first = Counter(routing.plan(found, source)[0].key for _ in range(20_000))
    assert first.keys() == {"k11", "k12", "c2"}
    for key, share in (("k11", 0.15), ("k12", 0.60), ("c2", 0.25)):
        assert abs(first[key] / 20_000 - share) < 0.015, first


def test_an_affinity_is_shared_by_weight_too_and_always_goes_the_same_way() -> None:
    found = [candidate(1, weight=3, keys={11: 1, 12: 1}), candidate(2, weight=1, keys={21: 1})]
    names = [str(n).encode() for n in range(8000)]
    went = {name: routing.plan(found, random.Random(1), affinity=name)[0].key for name in names}
    again = {name: routing.plan(found[::-1], random.Random(2), affinity=name)[0].key for name in names}
    assert went == again
    shares = Counter(went.values())
    assert all(abs(shares[key] / 8000 - share) < 0.02 for key, share in (("k11", 0.375), ("k12", 0.375), ("k21", 0.25)))


def test_a_credential_that_goes_away_moves_only_its_own_affinities_and_gets_them_back() -> None:
    found = [candidate(n, keys={n: 1}) for n in range(5)]
    names = [str(n).encode() for n in range(500)]
    before = {name: routing.plan(found, random.Random(), affinity=name)[0].key for name in names}
    without = {
        name: routing.plan(found, random.Random(), affinity=name, passes=lambda key: key != "k3")[0].key
        for name in names
    }
    assert all(without[name] == key for name, key in before.items() if key != "k3")
    assert "k3" not in without.values()


def test_a_channel_whose_credentials_are_all_out_of_use_is_not_called_without_one() -> None:
    assert routing.plan([candidate(1, keyless=False)], random.Random()) == []
    (target,) = routing.plan([candidate(1)], random.Random())
    assert target.secret is None


# ---- affinity -------------------------------------------------------------------------------------------------------

LONG = "word " * 1000


def affinity(
    body: Any, *, team: int = 1, model: str = "m", headers: dict[bytes, bytes] | None = None, stateful: bool = False
) -> bytes:
    return routing.affinity(json.dumps(body).encode(), headers or {}, team=team, model=model, stateful=stateful)


TURNS = [{"role": "system", "content": LONG}, {"role": "user", "content": "hello"}]
CONVERSATIONS: dict[str, dict[str, Any]] = {
    "openai": {"messages": TURNS},
    "anthropic": {"system": LONG, "messages": TURNS[1:]},
    "gemini": {"systemInstruction": {"parts": [{"text": LONG}]}, "contents": [{"role": "user", "parts": []}]},
    "responses": {"instructions": LONG, "input": "hello"},
}


@pytest.mark.parametrize("protocol", CONVERSATIONS)
def test_a_conversation_that_goes_on_keeps_its_affinity_and_another_has_another(protocol: str) -> None:
    body = CONVERSATIONS[protocol]
    named = next(name for name in ("messages", "contents", "input") if name in body)
    started = affinity(body)
    assert started
    assert affinity({**body, "temperature": 1, "stream": True}) == started
    if named != "input":
        more = [*body[named], {"role": "assistant", "content": "hi"}, {"role": "user", "content": "and?"}]
        assert affinity({**body, named: more}) == started
    assert affinity(body, team=2) != started
    assert affinity(body, model="other") != started
    assert affinity({**body, "tools": [{"name": "t"}]}) != started
    other = "goodbye" if named == "input" else [*body[named][:-1], {"role": "user", "content": "bye"}]
    assert affinity({**body, named: other}) != started


def test_a_short_prompt_has_no_affinity_because_nobody_caches_it() -> None:
    assert affinity({"messages": [{"role": "user", "content": "hello"}]}) == b""


def test_a_stateful_conversation_keeps_its_affinity_however_short_it_is_and_in_whatever_form() -> None:
    said = "Hé"
    parts = [{"type": "input_text", "text": said}]
    history = [{"role": "user", "content": said}, {"type": "reasoning", "encrypted_content": "x"}]
    forms: list[dict[str, Any]] = [
        {"input": said},
        {"input": history, "tools": [{"name": "t"}]},
        {"input": [{"type": "message", "role": "user", "content": parts}, *history[1:]], "instructions": "Be brief."},
    ]
    started = {affinity(form, stateful=True) for form in forms}
    assert len(started) == 1
    assert started != {b""}
    assert affinity({"input": "Hé!"}, stateful=True) not in started
    assert affinity({"messages": history[:1]}, stateful=True) in started


def test_a_name_that_the_client_gives_counts_alone() -> None:
    short = {"messages": [{"role": "user", "content": "hello"}]}
    for named in ({"prompt_cache_key": "x"}, {"metadata": {"user_id": "x"}}):
        assert affinity({**short, **named}) == affinity({**CONVERSATIONS["openai"], **named}) != b""
        assert affinity({**short, **named}, team=2) != affinity({**short, **named})
    session = affinity(short, headers={b"session_id": b"s1"})
    assert session == affinity(CONVERSATIONS["anthropic"], headers={b"session_id": b"s1"})
    assert session != affinity(short, headers={b"session_id": b"s2"})


@given(st.binary(max_size=200))
def test_no_body_is_too_strange_to_be_asked_for_its_affinity(junk: bytes) -> None:
    routing.affinity(junk + b" " * 4096, {}, team=1, model="m")
    routing.affinity(b'{"input": ' + junk + b"}", {}, team=1, model="m", stateful=True)
    routing.affinity(b'{"messages": ' + junk + b" " * 4096 + b"}", {}, team=1, model="m")
