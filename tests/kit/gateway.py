"""A real installation: its own folder and database, its own server processes on real ports.

What an operator or a portal would do (teams, keys, models, channels) is done with the project's own functions in the
installation's database; the servers are told nothing and have to notice.
"""

import contextlib
import datetime as dt
import fcntl
import itertools
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import requests
from django.db import transaction
from django.db.models import Sum
from django.test import override_settings

from tests.kit import databases, forked
from tests.kit.ports import eventually, free_port
from tests.kit.services import Postgres

# With the log of what is accessed, which `manage.py serve` leaves out: tests look into it for secrets.
SERVE = (sys.executable, "-m", "uvicorn", "portal.asgi:application", "--no-proxy-headers", "--backlog", "1024")

TOLERANT: dict[str, Any] = {"breaker": {"failures": 0, "cool_down": 0}, "auto_disable": False}


class Server:
    """One server process. Its log, standard output and error alike, is kept in `log`."""

    def __init__(self, folder: Path, variables: dict[str, str], name: str, command: Sequence[str]) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = folder / f"{name}.log"
        whole = [*command, "--host", "127.0.0.1", "--port", str(self.port)]
        env = {**variables, "PORT": str(self.port)}
        self.process = forked.start(whole, env=env, cwd=databases.ROOT, log=self._log)

    def wait(self) -> "Server":
        eventually(self._healthy, within=30, every=0.05)
        return self

    def _healthy(self) -> bool:
        assert self.process.poll() is None, f"the server ended:\n{self.log()[-3000:]}"
        try:
            return requests.get(f"{self.url}/healthz", timeout=2).status_code == 200
        except requests.ConnectionError:
            return False

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def kill(self) -> None:
        """`kill -9`: no farewell, nothing written."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                self.kill()


class Customer(msgspec.Struct):
    """A team with its wallet and a key, made for one test."""

    email: str
    team: int
    wallet: int
    key: int
    token: str


class Gateway:
    """An installation on one kind of database. `url` is the first server's."""

    def __init__(self, kind: str, *, postgres: Postgres | None = None, **variables: str) -> None:
        self.kind = kind
        self.database = databases.new(kind, postgres)
        self.folder = Path(tempfile.mkdtemp(prefix="pisces-gateway-"))
        self.servers: list[Server] = []
        self._variables = databases.environment(
            VAR_DIR=str(self.folder), DATABASE_URL=self.database, DEMO_PROVIDER="1", **variables
        )
        self._numbers = itertools.count(1)

    # ---- processes

    def start(self, command: Sequence[str] = SERVE, **variables: str) -> Server:
        """One more server process on the same database; `command` is told host and port."""
        return self._begin(command, variables).wait()

    def start_each(self, *several: dict[str, str]) -> list[Server]:
        """A server process for each set of variables, all of which start at once."""
        return [server.wait() for server in [self._begin(SERVE, variables) for variables in several]]

    def _begin(self, command: Sequence[str], variables: dict[str, str]) -> Server:
        name = f"server-{len(self.servers) + 1}"
        server = Server(self.folder, {**self._variables, **variables}, name, command)
        self.servers.append(server)
        return server

    def work(self, **variables: str) -> forked.Running:
        """A worker with its clock; whoever starts it ends it."""
        command, env = [sys.executable, "manage.py", "worker"], {**self._variables, **variables}
        return forked.start(command, env=env, cwd=databases.ROOT, log=self.folder / "worker.log")

    def collect_static(self) -> None:
        """Gives the pages their style sheets: collected once for all, because they are compressed."""
        made = databases.shared("static")
        with (made.parent / "static.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not made.is_dir():
                self.manage("collectstatic", "--noinput", "--verbosity", "0")
                shutil.copytree(self.folder / "static", made)
                return
        shutil.copytree(made, self.folder / "static", dirs_exist_ok=True)

    def stop(self) -> None:
        for server in self.servers:
            server.stop()
        self.servers.clear()
        databases.drop(self.database)
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def url(self) -> str:
        return self.servers[0].url

    def manage(self, *arguments: str) -> str:
        """`manage.py` beside the servers; its standard output."""
        command = [sys.executable, "manage.py", *arguments]
        done = subprocess.run(
            command, cwd=databases.ROOT, env=self._variables, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    # ---- inside

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """This process works in the installation's database."""
        with databases.inside(self.database, keep=True):
            yield

    def customer(self, credit: str = "10", **spec: Any) -> Customer:
        """A new team with `credit` in its wallet and a key; `spec` as `keys.services.Spec` takes it."""
        from billing import ledger, money
        from portal import services

        email = f"customer-{next(self._numbers)}-{uuid.uuid4().hex[:6]}@example.com"
        with self.inside():
            _, team = services.user_with_team(email)
            wallet = ledger.wallet_of(team.pk)
            if amount := money.parse(credit):
                ledger.credit(wallet=wallet, amount=amount, actor="tests", reason="opening balance")
        key, token = self.issue(team.pk, **spec)
        return Customer(email, team.pk, wallet.pk, key, token)

    def credit(self, wallet: int, amount: str) -> None:
        """More money for a wallet."""
        from billing import ledger, money
        from billing.models import Account

        with self.inside():
            row = Account.objects.get(pk=wallet)
            ledger.credit(wallet=row, amount=money.parse(amount), actor="tests", reason="more")

    def issue(self, team: int, **spec: Any) -> tuple[int, str]:
        """One more key: its id and its secret."""
        from keys import services

        with self.inside():
            key, token = services.issue(team_id=team, spec=services.Spec(**{"name": "test", **spec}))
        return key.pk, token

    def change_key(self, key: int, verb: str, **spec: Any) -> None:
        """`pause`, `resume`, `revoke`, or `change` with another spec."""
        from keys import services
        from keys.models import ApiKey

        with self.inside():
            row = ApiKey.objects.get(pk=key)
            if verb == "change":
                services.change(row, services.Spec(**{"name": "test", **spec}))
            else:
                getattr(services, verb)(row)

    def model(self, name: str, price: dict[str, str] | None, *, kind: str = "chat", **fields: Any) -> None:
        """Offers a model at a price, in force at once; None leaves it unpriced."""
        from billing import catalog, prices

        with self.inside():
            row = catalog.save_model(name=name, kind=kind, **fields)
            if price is not None:
                catalog.set_price(row, prices.parse_card(price), actor="tests")

    def channel(self, name: str, base_url: str, models: dict[str, str], *, secret: str = "", **fields: Any) -> None:
        """A channel to a provider; private unless said otherwise, because all tests' providers are on loopback. Unless
        said otherwise it is never shut, for tests share channels and most of them are about failures."""
        from billing import revisions
        from relay import vault
        from relay.models import Channel, Credential

        with self.inside(), transaction.atomic():  # no server sees it without its credential
            row = Channel.objects.create(
                **{"name": name, "base_url": base_url, "models": models, "private": True, **TOLERANT, **fields}
            )
            uid = uuid.uuid4()
            if secret:
                Credential.objects.create(
                    uid=uid, channel=row, secret=vault.encrypt(secret, row=uid), last_four=secret[-4:]
                )
            revisions.bump(revisions.CHANNELS)

    # ---- what is in the books

    def audit(self) -> list[str]:
        from billing import audit

        with self.inside():
            return [str(finding) for finding in audit.run()]

    def audit_of(self, team: int) -> list[str]:
        """What the audit says of all rows of one team: as `audit`, for one of many that share the installation."""
        from tests.kit import books

        with self.inside():
            return [str(finding) for finding in books.findings_of(team)]

    def sweep(self, *, later: float = 0.0) -> int:
        """The orphan sweep, as Celery on this machine runs it, `later` seconds from now and after another one."""
        from billing.models import OPEN_STATES, Hold
        from relay import tasks

        with self.inside(), override_settings(VAR_DIR=self.folder):
            if later:
                for hold in Hold.objects.filter(state__in=OPEN_STATES):
                    ended = hold.lease_until - dt.timedelta(seconds=later)
                    Hold.objects.filter(pk=hold.pk).update(lease_until=ended, suspected_at=ended)
            return int(tasks.sweep_holds())

    def calls(self, key: int) -> list[dict[str, Any]]:
        """The usage records of a key, oldest first, each with its attempts."""
        from relay.models import Attempt, CallLog

        with self.inside():
            rows: list[dict[str, Any]] = [
                dict(row) for row in CallLog.objects.filter(key_id=key).order_by("id").values()
            ]
            attempts: dict[Any, list[dict[str, Any]]] = {row["id"]: [] for row in rows}
            for attempt in Attempt.objects.filter(call_id__in=attempts).order_by("call_id", "number").values():
                attempts[attempt["call_id"]].append(dict(attempt))
        return [{**row, "attempts": attempts[row["id"]]} for row in rows]

    def holds(self, wallet: int) -> list[dict[str, Any]]:
        from billing.models import Hold

        with self.inside():
            return [dict(row) for row in Hold.objects.filter(account_id=wallet).order_by("id").values()]

    def transfers(self, wallet: int) -> list[dict[str, Any]]:
        """What went out of a wallet, oldest first."""
        from billing.models import Transfer

        with self.inside():
            return [dict(row) for row in Transfer.objects.filter(debit_id=wallet).order_by("id").values()]

    def wallet(self, wallet: int) -> dict[str, Any]:
        from billing.models import Account

        with self.inside():
            return dict(Account.objects.filter(pk=wallet).values("balance", "held", "credit_limit", "frozen").get())

    def spent(self, customer: Customer) -> int:
        """Nano-units that have left the customer's wallet for calls."""
        from billing.models import Transfer

        with self.inside():
            charges = Transfer.objects.filter(debit_id=customer.wallet, kind="charge")
            return charges.aggregate(sum=Sum("amount"))["sum"] or 0

    def budgets(self, key: int) -> list[dict[str, Any]]:
        from billing.models import Budget

        with self.inside():
            return [dict(row) for row in Budget.objects.filter(owner_kind="key", owner_id=key).order_by("id").values()]
