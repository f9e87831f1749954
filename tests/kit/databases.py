"""Databases of the tests' own, on SQLite and PostgreSQL: migrated once a session, then copied for whoever needs one.

Where sessions are many and short, one harness migrates for all of them: `prepared()` says what it has made, and they
find it in `TEST_TEMPLATES`.

`inside(url)` lets the test's own process work in such a database with the project's functions, exactly as a command
beside a running server does.
"""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import environ
from django.conf import settings
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from tests.kit.services import Postgres, services

if TYPE_CHECKING:
    from pytest_django import DjangoDbBlocker

ROOT = Path(__file__).resolve().parent.parent.parent
KINDS = ("sqlite", "postgres")

_templates: dict[str, str] = json.loads(os.environ.get("TEST_TEMPLATES", "{}"))
_folder = Path(os.environ["VAR_DIR"])


def environment(**extra: str) -> dict[str, str]:
    """The environment of a gateway's process: nothing of the tests' own but the secrets and the search paths."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    secrets = {"SECRET_KEY": settings.SECRET_KEY, "ENCRYPTION_KEYS": ",".join(settings.ENCRYPTION_KEYS)}
    return {**kept, **secrets, "PYTHONPATH": str(ROOT), "DJANGO_SETTINGS_MODULE": "portal.settings", **extra}


def new(kind: str, postgres: Postgres | None = None) -> str:
    """The URL of a fresh, migrated, empty database; of a test's own PostgreSQL where one is given."""
    if postgres is not None:
        name = f"pisces_{uuid.uuid4().hex[:12]}"
        postgres.execute(f"CREATE DATABASE {name}")
        migrate(postgres.url(name))
        return postgres.url(name)
    source = template(kind)
    name = f"pisces_{uuid.uuid4().hex[:12]}"
    if kind == "postgres":
        services.postgres.execute(f"CREATE DATABASE {name} TEMPLATE {source}")
        return services.postgres.url(name)
    path = Path(tempfile.mkdtemp(prefix="sqlite-", dir=_folder)) / f"{name}.sqlite3"
    shutil.copyfile(source, path)
    return f"sqlite:///{path}"


def copy_of(url: str) -> str:
    """The URL of a copy. Nobody may be connected to what is copied."""
    _forget(url)
    name = f"pisces_{uuid.uuid4().hex[:12]}"
    if url.startswith("postgres"):
        services.postgres.execute(f"CREATE DATABASE {name} TEMPLATE {url.rsplit('/', 1)[1]}")
        return services.postgres.url(name)
    path = Path(tempfile.mkdtemp(prefix="sqlite-", dir=_folder)) / f"{name}.sqlite3"
    with sqlite3.connect(url.removeprefix("sqlite:///")) as source, sqlite3.connect(path) as target:
        source.backup(target)
    return f"sqlite:///{path}"


def drop(url: str) -> None:
    """Gives the room back. Nobody may be connected."""
    _forget(url)
    if url.startswith("postgres"):
        if f":{services.postgres.port}/" in url:  # another server takes its databases with it
            services.postgres.execute(f"DROP DATABASE IF EXISTS {url.rsplit('/', 1)[1]} WITH (FORCE)")
    else:
        shutil.rmtree(Path(url.removeprefix("sqlite:///")).parent, ignore_errors=True)


def shared(name: str) -> Path:
    """Where something of this name is that all processes of a run may use (`TEST_SHARED`), or this one alone."""
    return Path(os.environ.get("TEST_SHARED", _folder)) / name


def prepared() -> str:
    """Migrates a database of each kind; the value of `TEST_TEMPLATES` for the sessions that shall copy them."""
    kinds = [kind for kind in KINDS if kind == "sqlite" or services.probe("postgres")]
    with ThreadPoolExecutor() as pool:
        return json.dumps(dict(zip(kinds, pool.map(template, kinds), strict=True)))


def template(kind: str) -> str:
    """What databases of the kind are copies of: the name of one, or a file."""
    if kind not in _templates:
        if kind == "postgres":
            services.postgres.execute("CREATE DATABASE pisces_template")
            migrate(services.postgres.url("pisces_template"))
            _templates[kind] = "pisces_template"
        else:
            path = _folder / "template.sqlite3"
            migrate(f"sqlite:///{path}")
            _templates[kind] = str(path)
    return _templates[kind]


def migrate(url: str, *target: str) -> None:
    """To the newest migrations, or there and back to the one that an app and its number name."""
    command = [sys.executable, "manage.py", "migrate", *target, "--verbosity", "0"]
    variables = environment(DATABASE_URL=url, VAR_DIR=str(_folder), LOG_LEVEL="WARNING")
    subprocess.run(command, cwd=ROOT, env=variables, process_group=0, check=True, timeout=120)


class _Blocker:
    """pytest-django's guard of the database; the plugin puts the real one here. The benchmark has none."""

    current: "DjangoDbBlocker | None" = None


def _settings(url: str) -> dict[str, Any]:
    """What the project's settings make of this DATABASE_URL."""
    found: dict[str, Any] = environ.Env.db_url_config(url)
    sqlite = url.startswith("sqlite")
    found["OPTIONS"] = settings.DATABASES["default"]["OPTIONS"] if sqlite else dict(settings.POSTGRES_OPTIONS)
    handled: dict[str, Any] = connections.configure_settings({"default": found})["default"]
    return handled


_Place = tuple[str, int]  # a database's URL, and the thread: another one may not use the connection
_idle: dict[_Place, BaseDatabaseWrapper] = {}  # what the last block was told to keep


@contextmanager
def inside(url: str, *, keep: bool = False) -> Iterator[None]:
    """This process works in that database for as long as the block lasts. `keep` leaves the connection open for the
    next such block, until the database is dropped: for whoever comes often."""
    before, own = connections.settings["default"], connections["default"]
    place = url, threading.get_ident()
    connection = (_kept(place) if keep else None) or _connection(url)
    connections.settings["default"] = connection.settings_dict
    connections["default"] = connection
    try:
        with _Blocker.current.unblock() if _Blocker.current else nullcontext():
            yield
        keep = keep and not connection.in_atomic_block and place not in _idle
    except BaseException:
        keep = False
        raise
    finally:
        if keep:
            _idle[place] = connection
        else:
            connection.close()
        connections.settings["default"] = before
        connections["default"] = own


def _connection(url: str) -> BaseDatabaseWrapper:
    before = connections.settings["default"]
    connections.settings["default"] = _settings(url)
    try:
        return connections.create_connection("default")
    finally:
        connections.settings["default"] = before


def _kept(place: _Place) -> BaseDatabaseWrapper | None:
    connection = _idle.pop(place, None)
    if connection is not None and connection.connection is not None and not connection.is_usable():
        connection.close()  # its server has ended since; it connects again when it is used
    return connection


def _forget(url: str) -> None:
    if (connection := _idle.pop((url, threading.get_ident()), None)) is not None:
        connection.close()


def use_blocker(blocker: "DjangoDbBlocker") -> None:
    _Blocker.current = blocker
