"""Whether calls can be served: the database answers, can be written and has all migrations, and Redis answers where one
is set."""

from typing import Any

import redis
from django.conf import settings
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, JsonResponse

_migrated: set[str] = set()  # databases that had all migrations once: they do not lose them


def pending_migrations() -> list[str]:
    """The migrations that the database lacks, as `app.name`. Raises DatabaseError."""
    executor = MigrationExecutor(connection)
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    return [f"{migration.app_label}.{migration.name}" for migration, _ in plan]


def database_problem() -> str | None:
    name = str(connection.settings_dict["NAME"])
    try:
        with connection.cursor() as cursor:
            if connection.vendor == "postgresql":  # a standby reads, and no call can be served by it
                cursor.execute("SHOW transaction_read_only")
                if cursor.fetchone() == ("on",):
                    return "cannot be written"
            else:
                cursor.execute("SELECT 1")
        if name not in _migrated:
            if pending_migrations():
                return "migrations are missing"
            _migrated.add(name)
    except DatabaseError:
        return "cannot be reached"
    return None


def redis_problem() -> str | None:
    if not settings.REDIS_URL:
        return None
    try:
        client = redis.Redis.from_url(settings.REDIS_URL, socket_timeout=1, socket_connect_timeout=1)
    except ValueError:
        return "has no address of Redis"
    try:
        client.ping()
    except redis.RedisError:
        return "cannot be reached"
    finally:
        client.close()
    return None


def readyz(request: HttpRequest) -> JsonResponse:
    """`GET /readyz`: 200 where calls can be served, else 503; says what is missing, never where it is."""
    problems: dict[str, Any] = {"database": database_problem(), "redis": redis_problem()}
    ready = not any(problems.values())
    checks = {name: problem or "ok" for name, problem in problems.items()}
    answer = JsonResponse({"ready": ready, "checks": checks}, status=200 if ready else 503)
    answer["Cache-Control"] = "no-store"
    return answer
