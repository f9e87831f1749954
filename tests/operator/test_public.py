"""What is told without a key: the spec, which must match the code, and whether the gateway is ready."""

import asyncio
from typing import Any

import pytest
from django.db import connection
from django.test import Client, override_settings

from portal import readiness
from relay import errors, handler, urls

pytestmark = pytest.mark.django_db


def _spec() -> Any:
    answer = Client().get("/api/public/spec")
    assert answer.status_code == 200
    assert answer["Cache-Control"] == "public, max-age=300"
    assert "Access-Control-Allow-Origin" not in answer
    return answer.json()


def _status_and_body(method: str, path: str) -> tuple[int, bytes]:
    """Asks the relay's handler without a key."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if not sent_request:
            sent_request.append(True)
            return {"type": "http.request", "body": b"{}", "more_body": False}
        await asyncio.sleep(60)
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    sent_request: list[bool] = []
    scope = {
        "type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": b"",
        "headers": [], "client": ("127.0.0.1", 1),
    }  # fmt: skip
    asyncio.run(handler.handle(scope, receive, send))
    return sent[0]["status"], sent[1]["body"]


def test_every_endpoint_of_the_spec_is_served() -> None:
    for endpoint in _spec()["endpoints"]:
        path = endpoint["path"].replace("{model}", "some/model")
        for spelling in (path, path.removeprefix("/v1beta").removeprefix("/v1")):
            status, body = _status_and_body(endpoint["method"], spelling)
            assert status == 401, (spelling, body)
            assert handler.is_relay_path(spelling)


def test_no_route_is_missing_from_the_spec() -> None:
    told = {(e["method"], e["path"], e["endpoint"], e["protocol"], e["streaming"]) for e in _spec()["endpoints"]}
    assert told == {(r.method, r.path, r.endpoint, r.protocol, r.streaming) for r in urls.ROUTES}


def test_the_spec_tells_every_error_as_it_is_answered() -> None:
    told = {error["cause"]: error for error in _spec()["errors"]}
    assert told.keys() == {cause.value for cause in errors.Cause}
    for cause, entry in errors.TABLE.items():
        error = told[cause.value]
        assert (error["http"], error["code"], error["retry"]) == (entry.status, entry.code, entry.retry)
        assert error["types"] == {"openai": entry.openai, "anthropic": entry.anthropic, "gemini": entry.gemini}
        assert error["description"]


def test_an_unknown_path_is_answered_as_the_spec_says() -> None:
    error = next(error for error in _spec()["errors"] if error["cause"] == "unknown_path")
    status, body = _status_and_body("GET", "/v1/nothing")
    assert status == error["http"]
    assert f'"{error["code"]}"'.encode() in body


def test_a_ready_gateway_says_so() -> None:
    answer = Client().get("/readyz")
    assert (answer.status_code, answer.json()) == (200, {"ready": True, "checks": {"database": "ok", "redis": "ok"}})


def test_missing_migrations_and_a_redis_that_is_away_are_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "_migrated", set())
    monkeypatch.setattr(readiness, "pending_migrations", lambda: ["relay.0009_later"])
    with override_settings(REDIS_URL="redis://127.0.0.1:1/0"):
        answer = Client().get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["checks"] == {"database": "migrations are missing", "redis": "cannot be reached"}


@pytest.mark.parametrize("books", ["postgres"], indirect=True)
def test_a_database_that_can_only_be_read_is_not_ready(books: str) -> None:
    """As a server that is a standby after a failover, or whose disk is full and which was told to write no more."""
    with connection.cursor() as cursor:
        cursor.execute("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY")
        answer = Client().get("/readyz")
        cursor.execute("SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE")
    assert (answer.status_code, answer.json()["checks"]["database"]) == (503, "cannot be written")
    assert Client().get("/readyz").status_code == 200


def test_a_database_that_is_away_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "database_problem", lambda: "cannot be reached")
    assert Client().get("/readyz").status_code == 503
