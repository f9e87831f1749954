"""The operator's commands: what they print, what they leave in the tables, how they refuse."""

import datetime as dt
import json
import stat
import uuid
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection
from django.test import override_settings
from django.utils import timezone

from billing import audit, catalog, ledger, money, prices
from billing.models import Account, Budget, Hold, Transfer
from keys import services as keys
from keys.models import ApiKey
from portal import doctor, readiness
from portal import services as portal
from portal.broker import Channel as BrokerChannel
from portal.models import Team, User
from relay import services
from relay.models import CallLog, Channel, Heartbeat
from relay.services import ChannelSpec

pytestmark = pytest.mark.django_db


def _run(command: str, *arguments: str) -> str:
    out = StringIO()
    call_command(command, *arguments, stdout=out, stderr=StringIO())
    return out.getvalue()


# ---- issue_key, balance, calls --------------------------------------------------------------------------------------


def test_a_key_is_issued_with_everything_that_it_needs() -> None:
    catalog.save_model(name="a")
    found = json.loads(
        _run(
            "issue_key", "--email", "New@Example.com", "--name", "ci", "--credit", "10", "--quota", "5",
            "--window", "day", "--expires", "2099-12-31", "--models", "a", "--ips", "10.0.0.0/8, ::1", "--json",
        )
    )  # fmt: skip
    key = ApiKey.objects.get()
    assert keys.digest(found["key"]) == key.digest
    assert found["networks"] == key.networks == ["10.0.0.0/8", "::1/128"]
    assert key.expires_at == dt.datetime(2100, 1, 1, tzinfo=dt.UTC)
    assert (key.team.personal_of.email, found["balance"]) == ("new@example.com", "10")  # type: ignore[union-attr]
    budget = Budget.objects.get()
    assert (budget.cap, budget.window) == (money.parse("5"), "day")
    transfer = Transfer.objects.get()
    assert (transfer.kind, transfer.amount) == ("credit", money.parse("10"))


def test_a_key_is_issued_with_rate_limits() -> None:
    names = ("--email", "a@example.com", "--name", "ci", "--json")
    found = json.loads(_run("issue_key", *names, "--rpm", "60", "--tpm", "40000", "--parallel", "5"))
    key = ApiKey.objects.get(pk=found["id"])
    assert (key.rpm, key.tpm, key.parallel) == (found["rpm"], found["tpm"], found["parallel"]) == (60, 40_000, 5)
    found = json.loads(_run("issue_key", *names, "--rpm", "0"))
    assert (found["rpm"], found["tpm"], found["parallel"]) == (None, None, None)
    with pytest.raises(CommandError, match="tpm: A limit is a whole number above zero"):
        _run("issue_key", *names, "--tpm", "-1")


@pytest.mark.parametrize(("option", "chosen"), [
    ("type", "test"), ("type", "management"), ("payment", "prepaid"), ("payment", "postpaid"), ("payment", "plan"),
])  # fmt: skip
def test_a_key_is_issued_of_every_type_and_payment(option: str, chosen: str) -> None:
    names = ("--email", "a@example.com", "--name", "ci", "--json")
    found = json.loads(_run("issue_key", *names, f"--{option}", chosen))
    key = ApiKey.objects.get(pk=found["id"])
    assert (getattr(key, option), found[option]) == (chosen, chosen)
    assert keys.digest(found["key"]) == key.digest


def test_a_second_key_for_the_same_person_adds_to_the_same_wallet() -> None:
    for _ in range(2):
        secret = _run("issue_key", "--email", "a@example.com", "--name", "x", "--credit", "1.5").strip()
        assert ApiKey.objects.filter(digest=keys.digest(secret)).exists()
    assert json.loads(_run("balance", "--email", "A@example.com", "--json")) == {
        "email": "a@example.com", "currency": "USD", "balance": "3", "held": "0", "available": "3",
        "credit_limit": "0", "frozen": None,
    }  # fmt: skip
    assert User.objects.count() == 1


def test_a_credit_of_nothing_is_no_transfer() -> None:
    _run("issue_key", "--email", "a@example.com", "--name", "x", "--credit", "0")
    assert not Transfer.objects.exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--type", "golden"], "Unknown key type"),
        (["--type", "restricted"], "names the models"),
        (["--billing", "free"], "Unknown billing mode"),
        (["--window", "year"], "Unknown window"),
        (["--quota", "0"], "more than zero"),
        (["--quota", "much"], "not an amount"),
        (["--credit", "-1"], "negative"),
        (["--credit", "1.0000000001"], "nine decimals"),
        (["--expires", "2020-01-01"], "past"),
        (["--expires", "2099-02-31"], "neither a date"),
        (["--models", "nothing"], "Unknown models: nothing"),
        (["--endpoints", "chat.completions,nope"], "Unknown endpoints: nope"),
        (["--ips", "10.0.0.0/99"], "not an IP address"),
        (["--email", "nobody"], "not an e-mail address"),
        (["--name", " "], "1 to 100 characters"),
    ],
)
def test_an_impossible_key_is_refused_and_leaves_nothing(arguments: list[str], said: str) -> None:
    with pytest.raises(CommandError, match=said):
        _run("issue_key", "--email", "a@example.com", "--name", "x", "--credit", "1", *arguments)
    assert not User.objects.exists()
    assert not Transfer.objects.exists()


def test_an_unknown_person_has_no_balance_and_is_not_made() -> None:
    for command in ("balance", "calls"):
        with pytest.raises(CommandError, match="no user"):
            _run(command, "--email", "nobody@example.com")
    assert not User.objects.exists()


def _call(team: Team, **fields: Any) -> CallLog:
    values = {
        "id": uuid.uuid4(), "team_id": team.pk, "request_id": "mine", "endpoint": "chat.completions",
        "protocol": "openai", "model": "m", "channel": "main", "state": "settled", "status": 200,
        "usage": {"input": 3, "calls": 1}, "usage_source": "reported", "cost": 450, "created_at": timezone.now(),
        "lines": [
            {"bucket": "input", "quantity": 3, "rate": 150_000_000, "multiplier": 1_000_000, "amount": 450},
            {"bucket": "calls", "quantity": 1, "rate": 10_000_000_000_000, "multiplier": 1_500_000, "amount": 0},
        ],
    }  # fmt: skip
    return CallLog.objects.create(**{**values, **fields})


def test_calls_are_told_with_exact_amounts(team: Team, charlie: User) -> None:
    call = _call(team)
    call.attempts.create(number=1, channel="main", outcome="complete", status=200, began_ms=0, ended_ms=1)
    _call(charlie.personal_team)
    (found,) = json.loads(_run("calls", "--email", "alice@example.com", "--json"))
    assert (found["id"], found["cost"], found["usage"]) == (str(call.pk), "0.00000045", {"input": 3, "calls": 1})
    assert found["attempts"] == [
        {
            "number": 1, "channel": "main", "outcome": "complete", "status": 200, "detail": None,
            "usage": None, "usage_source": "none", "cost": None,
        },
    ]  # fmt: skip
    assert found["lines"] == [
        {
            "bucket": "input", "quantity": 3, "unit_price": "0.15", "per": 1_000_000, "multiplier": "1",
            "above": 0, "amount": "0.00000045",
        },
        {"bucket": "calls", "quantity": 1, "unit_price": "0.01", "per": 1, "multiplier": "1.5",
         "above": 0, "amount": "0"},
    ]  # fmt: skip
    assert "0.00000045" in _run("calls", "--email", "alice@example.com")


def test_calls_are_found_by_their_request_id(team: Team) -> None:
    _call(team)
    _call(team, request_id="other")
    (found,) = json.loads(_run("calls", "--email", "alice@example.com", "--request-id", "other", "--json"))
    assert found["request_id"] == "other"


# ---- audit ----------------------------------------------------------------------------------------------------------


def test_whole_books_pass_the_audit(team: Team) -> None:
    assert _run("audit") == "the books are whole\n"
    assert json.loads(_run("audit", "--json")) == []


def test_a_drifted_wallet_fails_the_audit(team: Team) -> None:
    Account.objects.filter(team=team, kind="wallet").update(balance=1)
    out = StringIO()
    with pytest.raises(SystemExit) as status:
        call_command("audit", stdout=out)
    assert status.value.code == 1
    assert "a wallet's balance is the sum of its transfers" in out.getvalue()


def _hold(team: Team, **fields: Any) -> Hold:
    catalog.set_price(model := catalog.save_model(name="m"), prices.parse_card({"input": "1"}), actor="tests")
    now = timezone.now()
    values = {
        "account": ledger.wallet_of(team.pk), "amount": 0, "state": "voided", "price": model.prices.get(),
        "lease_until": now, "created_at": now, "resolved_at": now,
        "facts": {
            "team": team.pk, "key": None, "billing": "metered", "request_id": "mine", "endpoint": "chat.completions",
            "protocol": "openai", "model": "m", "streamed": False, "ip": "", "channels": ["main"],
        },
    }  # fmt: skip
    return Hold.objects.create(**{**values, **fields})


def _details() -> list[str]:
    return sorted({finding.detail for finding in audit.run()})


def test_the_audit_compares_usage_records_with_holds(team: Team) -> None:
    hold = _hold(team)
    assert _details() == ["no usage record"]
    nothing = {"cost": 0, "lines": [], "usage": {}, "usage_source": "none", "channel": ""}
    call = _call(
        team, id=hold.pk, state="failed", status=502, price_id=hold.price_id, created_at=hold.created_at, **nothing
    )
    assert audit.run() == []
    CallLog.objects.filter(pk=call.pk).update(cost=7)
    assert "cost 7, charged 0" in _details()
    CallLog.objects.filter(pk=call.pk).update(cost=0, state="settled", status=200)
    assert _details() == ["recorded as settled, hold is voided"]
    Hold.objects.filter(pk=hold.pk).update(state="held", resolved_at=None)
    assert "recorded as settled, hold is held" in _details()


def test_the_audit_finds_a_cost_without_a_hold(team: Team) -> None:
    _call(team)
    assert "cost 450, no hold" in _details()


# ---- seed_demo ------------------------------------------------------------------------------------------------------


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Path]:
    with override_settings(DEMO_PROVIDER=True, VAR_DIR=tmp_path):
        yield tmp_path


def test_the_demo_is_seeded_once_and_told_every_time(demo: Path) -> None:
    first = json.loads(_run("seed_demo", "--json"))
    assert json.loads(_run("seed_demo", "--json")) == first
    assert stat.S_IMODE((demo / "demo.json").stat().st_mode) == 0o600
    admin = User.objects.get()
    assert admin.is_superuser
    assert admin.check_password(first["password"])
    assert ApiKey.objects.get().digest == keys.digest(first["key"])
    assert ledger.wallet_of(admin.personal_team.pk).balance == money.parse("10")
    assert Channel.objects.get().models["gpt-4o-mini"] == "demo-chat"
    assert audit.run() == []


def test_a_revoked_demo_key_is_replaced_without_new_credit(demo: Path) -> None:
    first = json.loads(_run("seed_demo", "--json"))
    keys.revoke(ApiKey.objects.get())
    second = json.loads(_run("seed_demo", "--json"))
    assert second["key"] != first["key"]
    assert ApiKey.objects.filter(digest=keys.digest(second["key"]), state="active").exists()
    assert Transfer.objects.count() == 1


def test_a_password_that_was_changed_is_not_told_any_more(demo: Path) -> None:
    first = json.loads(_run("seed_demo", "--json"))
    admin = User.objects.get()
    admin.set_password("something else entirely")
    admin.save()
    assert json.loads(_run("seed_demo", "--json"))["password"] is None
    assert first["password"] not in (demo / "demo.json").read_text()
    assert "as you set it" in _run("seed_demo")


def test_what_an_operator_changed_in_the_demo_stays(demo: Path) -> None:
    _run("seed_demo")
    services.set_enabled(Channel.objects.get(), enabled=False)
    catalog.set_price(catalog.rows()["demo-chat"], prices.parse_card({"input": "9"}), actor="tests")
    _run("seed_demo")
    assert not Channel.objects.get().enabled
    assert prices.describe(catalog.current_card(catalog.rows()["demo-chat"])) == "input 9"  # type: ignore[arg-type]


def test_no_demo_is_seeded_where_none_is_meant() -> None:
    with override_settings(DEMO_PROVIDER=False), pytest.raises(CommandError, match="no demo"):
        _run("seed_demo")


# ---- doctor ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def healthy(demo: Path) -> Path:
    """An installation of which the doctor has nothing to say."""
    _run("seed_demo")
    Heartbeat.objects.create(name="sweep_holds", at=timezone.now())
    assert [str(finding) for finding in doctor.examine()] == []
    return demo


def _said() -> str:
    return "\n".join(str(finding) for finding in doctor.examine())


def test_a_healthy_installation_is_told_so(healthy: Path) -> None:
    assert _run("doctor") == "all is well\n"


def test_errors_end_the_doctor_with_status_one(healthy: Path) -> None:
    (healthy / "demo.json").chmod(0o644)
    out = StringIO()
    with pytest.raises(SystemExit) as status:
        call_command("doctor", stdout=out)
    assert status.value.code == 1
    assert "can be read by others. Run `chmod 600" in out.getvalue()


def test_the_doctor_looks_at_addresses(healthy: Path) -> None:
    with override_settings(BASE_URL="https://llm.example.com", ALLOWED_HOSTS=["localhost"]):
        assert "host llm.example.com is not among ALLOWED_HOSTS" in _said()
    with override_settings(BASE_URL="https://llm.example.com", ALLOWED_HOSTS=[".example.com"]):
        assert "is not among" not in _said()


def test_the_doctor_warns_of_plain_http_once(healthy: Path) -> None:
    with override_settings(BASE_URL="http://llm.example.com", ALLOWED_HOSTS=["llm.example.com"], DEMO_PROVIDER=False):
        (finding,) = doctor.examine()
    assert "passwords and keys travel over plain HTTP" in str(finding)


def test_the_doctor_looks_at_redis_and_the_database(healthy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with override_settings(REDIS_URL="redis://127.0.0.1:1/0"):
        assert "Redis cannot be reached" in _said()
    monkeypatch.setenv("WEB_CONCURRENCY", "4")
    assert ("several server processes share SQLite" in _said()) == (connection.vendor == "sqlite")
    monkeypatch.setattr(readiness, "pending_migrations", lambda: ["relay.0009_later"])
    assert "lacks 1 migrations" in _said()


def test_the_doctor_says_where_rate_limits_are_counted_apart(
    healthy: Path, team: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = "4 server processes count rate limits each for itself"
    monkeypatch.setenv("WEB_CONCURRENCY", "4")
    assert said not in _said()
    with override_settings(DEFAULT_TPM=1000):
        assert said in _said()
    team.parallel = 3
    team.save()
    assert said in _said()
    monkeypatch.setenv("WEB_CONCURRENCY", "1")
    assert said not in _said()


def test_the_doctor_misses_a_silent_worker(healthy: Path) -> None:
    Heartbeat.objects.update(at=timezone.now() - dt.timedelta(minutes=5))
    assert "the worker has not run since" in _said()
    Heartbeat.objects.all().delete()
    assert "the worker has never run" in _said()


def test_the_doctor_looks_at_channels_models_and_credentials(healthy: Path) -> None:
    spec = ChannelSpec(name="real", base_url="https://8.8.8.8/v1", models={"gpt-4o-mini": "x", "ghost": "y"})
    channel = services.save_channel(None, spec)
    assert "channel real has no credential in use" in _said()
    services.add_credentials(channel, ["sk-of-the-real-channel-abcd"])
    catalog.save_model(name="lonely")
    said = _said()
    assert "serves ghost, which is not an offered model" in said
    assert "model gpt-4o-mini is served by a provider and by the demo channel" in said
    assert "model lonely has no price in force" in said
    assert "model lonely is offered, but no channel serves it" in said
    with override_settings(ENCRYPTION_KEYS=["another-key-" + "x" * 40]):
        assert "the credential …abcd of channel real cannot be decrypted" in _said()
    services.set_default("chat.completions", "ghost")
    assert "the default of chat.completions is ghost" in _said()


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("LOW_BALANCE", "abc", "LOW_BALANCE must be an amount"),
        ("INVOICE_TAX_RATE", "-5", "INVOICE_TAX_RATE must be an amount"),
        ("TOPUP_MIN", "much", "TOPUP_MIN must be an amount"),
        ("TOPUP_PRESETS", ["5", "ten"], "TOPUP_PRESETS must be amounts"),
        ("PROBE_EVERY", 0.0, "PROBE_EVERY must be more than zero"),
        ("HOLD_LEASE", 0.0, "HOLD_LEASE must be more than zero"),
        ("STORED_RESPONSE_DAYS", -1, "STORED_RESPONSE_DAYS must be more than zero"),
        ("HEAD_TIMEOUT", 0.0, "HEAD_TIMEOUT must be more than zero"),
        ("MAX_BODY_WEBHOOK", 0, "MAX_BODY_WEBHOOK must be more than zero"),
        ("TRUSTED_PROXIES", -1, "TRUSTED_PROXIES must not be negative"),
        ("SHUTDOWN_GRACE", -5, "SHUTDOWN_GRACE must not be negative"),
        ("DRAIN_ON_HANGUP", -1.0, "DRAIN_ON_HANGUP must not be negative"),
        ("MAX_STORED_ANSWER", -1, "MAX_STORED_ANSWER must not be negative"),
        ("INVOICE_TERM_DAYS", -3, "INVOICE_TERM_DAYS must not be negative"),
        ("DEFAULT_RPM", -1, "DEFAULT_RPM must not be negative"),
        ("INVOICE_FONT", "/nowhere.ttf", "INVOICE_FONT must be the path of a font"),
        ("LOG_LEVEL", "LOUD", "LOG_LEVEL must be DEBUG"),
        ("WEBHOOKS_TO", ["bad"], "WEBHOOKS_TO must be servers"),
        ("FETCH_FROM", ["files:0"], "FETCH_FROM must be servers"),
        ("CURRENCY", "usd", "CURRENCY must be a three-letter code"),
        ("REDIS_URL", "foo://x", "Redis has no address"),
    ],
)
def test_the_doctor_looks_at_values_that_are_read_only_when_they_are_needed(
    healthy: Path, name: str, value: Any, said: str
) -> None:
    with override_settings(**{name: value}):
        assert said in _said()


@pytest.mark.parametrize("given", ["abc", "", "0", "-1", "257", "²"])
def test_the_doctor_looks_at_the_number_of_processes(
    healthy: Path, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    monkeypatch.setenv("WEB_CONCURRENCY", given)
    assert f"WEB_CONCURRENCY is {given!r}" in _said()


# ---- another currency -----------------------------------------------------------------------------------------------


def test_a_currency_that_is_not_the_books_own_leaves_nothing_in_them_and_is_told(healthy: Path) -> None:
    accounts = Account.objects.count()
    User.objects.create_user("nina@example.com", "a long enough password")
    with override_settings(CURRENCY="EUR"):
        named = ("--email", "nina@example.com")
        issue_key = ("issue_key", *named, "--name", "laptop")
        for command in (("balance", *named), issue_key, ("seed_demo",), ("serve",), ("worker",), ("audit",)):
            with pytest.raises(CommandError, match="kept in USD, and CURRENCY is EUR"):
                _run(*command)
        assert "the books are kept in USD and CURRENCY is EUR. Set CURRENCY=USD." in _said()
    assert Account.objects.count() == accounts
    assert audit.run() == []


def test_the_currency_is_chosen_with_the_first_amount(tmp_path: Path, settings: Any) -> None:
    settings.VAR_DIR = tmp_path
    portal.user_with_team("nina@example.com")
    settings.CURRENCY = "EUR"
    assert "CURRENCY" not in _said()
    _run("issue_key", "--email", "nina@example.com", "--name", "first", "--credit", "10")
    assert json.loads(_run("balance", "--email", "nina@example.com", "--json"))["currency"] == "EUR"
    assert "CURRENCY" not in _said()
    assert audit.run() == []


def test_books_with_amounts_in_two_currencies_are_served_in_either_and_the_audit_tells(healthy: Path) -> None:
    _, team = portal.user_with_team("nina@example.com")
    with override_settings(CURRENCY="EUR"):
        for kind, owner in (("wallet", team), ("receivable", team), ("payments", None)):
            Account.objects.create(kind=kind, team=owner, currency="EUR")
        ledger.credit(wallet=ledger.wallet_of(team.pk), amount=5, actor="tests", reason="from before it was refused")
    for currency in ("USD", "EUR"):
        with override_settings(CURRENCY=currency):
            assert "kept in" not in _said()
            assert {finding.check for finding in audit.run()} == {"every account is in the ledger's currency"}


# ---- serve, worker --------------------------------------------------------------------------------------------------


COMMANDS = pytest.mark.parametrize(
    "command",
    [
        ("serve",), ("worker",), ("audit",), ("apply", "deploy/pisces.yaml"), ("dump",),
        ("import_prices", "--from", "genai-prices"), ("issue_key", "--email", "ann@example.com", "--name", "laptop"),
        ("balance", "--email", "ann@example.com"), ("calls", "--email", "ann@example.com"), ("seed_demo",),
        ("encrypt_anew",),
    ],
    ids=lambda command: command[0],
)  # fmt: skip


@COMMANDS
def test_nothing_starts_on_a_database_without_its_tables(
    demo: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.setattr(readiness, "pending_migrations", lambda: ["relay.0001_initial"])
    with pytest.raises(CommandError, match=r"lacks 1 migrations. Run `manage.py prepare` first"):
        _run(*command)


@COMMANDS
def test_a_database_that_is_away_is_told_in_a_line(
    demo: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    def away() -> list[str]:
        raise OperationalError("connection refused")

    monkeypatch.setattr(readiness, "pending_migrations", away)
    with pytest.raises(CommandError, match=r"The database cannot be reached. Check DATABASE_URL"):
        _run(*command)


@pytest.mark.parametrize("port", ["0", "70000"])
def test_an_impossible_port_is_refused(port: str) -> None:
    with pytest.raises(CommandError, match="no port"):
        _run("serve", "--port", port)


def test_a_number_of_processes_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEB_CONCURRENCY", "many")
    with pytest.raises(CommandError, match="WEB_CONCURRENCY"):
        _run("serve")


def test_the_broker_keeps_the_order_and_survives_a_torn_message(tmp_path: Path) -> None:
    from kombu import Connection

    for name in ("queue", "taken", "control"):
        (tmp_path / name).mkdir()
    options = {
        "data_folder_in": str(tmp_path / "queue"), "data_folder_out": str(tmp_path / "queue"),
        "processed_folder": str(tmp_path / "taken"), "control_folder": str(tmp_path / "control"),
    }  # fmt: skip
    with Connection("pisces-files://localhost", transport_options=options) as connection:
        channel = connection.channel()
        assert isinstance(channel, BrokerChannel)
        queue = connection.SimpleQueue("jobs")
        (tmp_path / "queue" / "0_torn.jobs.msg").write_bytes(b"")
        queue.put({"n": 1})
        queue.put({"n": 2})
        for number in (1, 2):
            message = queue.get(block=True, timeout=5)
            assert message.payload == {"n": number}
            message.ack()
        queue.close()
    assert list((tmp_path / "taken").iterdir()) == []
