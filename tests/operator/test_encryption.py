"""A key of ENCRYPTION_KEYS is replaced: everything is encrypted anew, beside running servers, and can be read then."""

import base64
import uuid
from io import StringIO

import pytest
from django.apps import apps
from django.conf import settings
from django.core.management import call_command
from django.db import models
from django.test import override_settings
from django.utils import timezone

from portal import doctor, sealed
from portal.models import User, Webhook
from portal.notices import telling
from relay import services, vault
from relay.models import Credential, StoredAnswer, StoredResponse
from relay.services import ChannelSpec
from relay.statements.services import SourceSpec, save_source
from tests.kit import client
from tests.kit.gateway import Gateway

OLD, NEW, OTHER = ("old-key-" + "o" * 40, "new-key-" + "n" * 40, "other-key-" + "x" * 40)


def _run(*keys: str) -> tuple[str, int]:
    """What the command says with these keys, and its exit status."""
    out = StringIO()
    with override_settings(ENCRYPTION_KEYS=list(keys)):
        try:
            call_command("encrypt_anew", stdout=out)
        except SystemExit as ended:
            return out.getvalue(), int(str(ended.code))
    return out.getvalue(), 0


def _one_of_each() -> None:
    """A row of each kind that has something encrypted, by the first of the keys in force."""
    spec = ChannelSpec(name="real", base_url="https://8.8.8.8/v1", models={"gpt-4o-mini": "x"})
    channel = services.save_channel(None, spec)
    services.add_credentials(channel, ["sk-of-the-channel-abcd"])
    save_source(channel, SourceSpec(adapter="openai", secret="sk-of-the-bill-of-real-abcd"))
    telling.add_webhook(user=User.objects.create_user("ann@example.com", "x"), url="https://8.8.8.8/hook")
    now, row = timezone.now(), uuid.uuid4()
    text = base64.b64encode(vault.seal(b"an answer", row=row)).decode()
    StoredAnswer.objects.create(hold_id=row, sealed=text, created_at=now)
    StoredResponse.objects.create(id=row, team_id=1, model="m", sealed=text, created_at=now, expires_at=now)


def _opened() -> list[bytes]:
    found = []
    for column in sealed.COLUMNS:
        stored, row = column.model._default_manager.values_list(column.field, column.bound).get()
        found.append(vault.unseal(base64.b64decode(stored) if column.is_text else bytes(stored), row=row))
    return found


@pytest.mark.django_db
def test_all_that_is_encrypted_is_so_by_the_first_key_and_the_old_one_can_go() -> None:
    with override_settings(ENCRYPTION_KEYS=[OLD]):
        _one_of_each()
        before = _opened()
    said, status = _run(NEW, OLD)
    assert (said.count(": 1 encrypted anew\n"), len(said.splitlines()), status) == (5, 5, 0)
    with override_settings(ENCRYPTION_KEYS=[NEW]):
        assert _opened() == before
    stored = [list(column.model._default_manager.values_list(column.field)) for column in sealed.COLUMNS]
    again, status = _run(NEW, OLD)
    assert (again.count(": 0 encrypted anew\n"), status) == (5, 0)
    assert [list(column.model._default_manager.values_list(column.field)) for column in sealed.COLUMNS] == stored


@pytest.mark.django_db
def test_what_no_key_opens_stays_as_it_is_and_is_told() -> None:
    with override_settings(ENCRYPTION_KEYS=[OTHER]):
        _one_of_each()
    said, status = _run(NEW, OLD)
    assert (said.count(": 0 encrypted anew, 1 cannot be decrypted\n"), status) == (5, 1)
    with override_settings(ENCRYPTION_KEYS=[OTHER]):
        assert b"sk-of-the-channel-abcd" in _opened()


@pytest.mark.django_db
def test_the_doctor_tells_of_every_secret_that_no_key_opens() -> None:
    with override_settings(ENCRYPTION_KEYS=[OLD]):
        _one_of_each()
        assert "decrypted" not in _told()
    with override_settings(ENCRYPTION_KEYS=[NEW]):
        said = _told()
        assert "the credential …abcd of channel real cannot be decrypted" in said
        assert "the credential …abcd for the bill of channel real cannot be decrypted" in said
        assert "the secrets of 1 webhooks cannot be decrypted: they are sent nothing" in said
        Webhook.objects.update(disabled_at=timezone.now(), disabled_reason="410")
        assert "webhooks" not in _told()


def _told() -> str:
    return "\n".join(str(finding) for finding in doctor.examine())


@pytest.mark.django_db
def test_a_value_that_is_written_meanwhile_is_not_written_over(monkeypatch: pytest.MonkeyPatch) -> None:
    with override_settings(ENCRYPTION_KEYS=[OLD]):
        _one_of_each()
    uid, seal = Credential.objects.get().uid, vault.seal

    def written_meanwhile(content: bytes, *, row: uuid.UUID) -> bytes:
        if row == uid and content != b"sk-another":
            with override_settings(ENCRYPTION_KEYS=[OLD]):
                Credential.objects.update(secret=seal(b"sk-another", row=uid))
        return seal(content, row=row)

    monkeypatch.setattr(vault, "seal", written_meanwhile)
    assert "credentials of providers: 1 encrypted anew\n" in _run(NEW, OLD)[0]
    with override_settings(ENCRYPTION_KEYS=[NEW]):
        assert _opened()[0] == b"sk-another"


@pytest.mark.django_db
def test_rows_are_found_however_many_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed, "_AT_ONCE", 2)
    for _ in range(5):
        row = uuid.uuid4()
        with override_settings(ENCRYPTION_KEYS=[OLD]):
            text = base64.b64encode(vault.seal(b"x", row=row)).decode()
        StoredAnswer.objects.create(hold_id=row, sealed=text, created_at=timezone.now())
    assert "answers kept for an Idempotency-Key: 5 encrypted anew\n" in _run(NEW, OLD)[0]


def test_no_column_that_is_encrypted_is_left_out() -> None:
    """By their names: what holds such a value is called `secret` or `sealed`."""
    found = {
        (model, field.name)
        for model in apps.get_models()
        for field in model._meta.concrete_fields
        if not model._meta.proxy and (field.name in ("secret", "sealed") or isinstance(field, models.BinaryField))
    }
    assert found == {(column.model, column.field) for column in sealed.COLUMNS}


def test_calls_are_answered_and_repeated_by_the_new_key_alone(breakable: Gateway) -> None:
    customer, key, usual = breakable.customer(), str(uuid.uuid4()), settings.ENCRYPTION_KEYS[0]
    breakable.start()
    first = client.chat(breakable.url, customer.token, headers={"Idempotency-Key": key})
    assert first.status_code == 200
    with breakable.inside():
        assert _run(NEW, usual)[1] == 0
    breakable.servers.pop().stop()
    breakable.start(ENCRYPTION_KEYS=NEW)
    again = client.chat(breakable.url, customer.token, headers={"Idempotency-Key": key})
    assert (again.status_code, again.content) == (200, first.content)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert client.chat(breakable.url, customer.token).status_code == 200
