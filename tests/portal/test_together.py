"""What limits sign-ins, counted in Redis for all processes together."""

from collections.abc import Iterator
from typing import Any

import pytest
import redis
from django.core.cache import cache
from django.test import Client
from django.urls import reverse

from portal import together
from portal.models import User
from tests.kit.services import Redis, services

MANY = "Too many failed login attempts."


@pytest.fixture
def server(settings: Any) -> Iterator[Redis]:
    """A Redis that the portal counts in."""
    services.get("redis")
    made = Redis()
    settings.CACHES = {"default": {"BACKEND": "portal.together.Together", "LOCATION": made.url}}
    together.Together.away_until = 0.0
    yield made
    together.Together.away_until = 0.0
    made.stop()


def is_refused(address: str) -> bool:
    """Whether a wrong password is not even looked at."""
    sent = {"login": address, "password": "wrong"}
    return MANY in Client().post(reverse("account_login"), sent).content.decode()


def test_failed_sign_ins_are_counted_for_all_processes_and_expire(server: Redis, alice: User) -> None:
    with redis.Redis(port=server.port) as client:
        client.set("another's", "kept")
        assert [is_refused(alice.email) for _ in range(5)] == [False] * 5
        cache.clear()  # as in another process
        assert is_refused(alice.email)
        assert client.get("another's") == b"kept"
        counted = list(client.scan_iter("pisces:*"))
        assert counted
        assert all(0 < client.ttl(key) <= 300 for key in counted)


def test_a_redis_that_is_away_is_done_without_and_nobody_waits_for_it_again(server: Redis, alice: User) -> None:
    server.kill()
    assert [is_refused(alice.email) for _ in range(6)] == [False] * 5 + [True]
    server.restart()
    assert is_refused(alice.email)  # by what was counted here, until Redis is asked again
    together.Together.away_until = 0.0
    assert not is_refused(alice.email)


def test_what_is_no_json_in_redis_is_not_run(server: Redis) -> None:
    cache.set("x", [1.5, 2.5], 60)
    with redis.Redis(port=server.port) as client:
        (key,) = client.keys()
        assert client.get(key) == b"[1.5, 2.5]"
        client.set(key, b"cos\nsystem\n(S'true'\ntR.")
    assert cache.get("x") is None
