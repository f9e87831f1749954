"""Whatever is sent to the management API, drawn from its own OpenAPI document: an answer as the document tells it, and
never a fault of ours."""

from typing import Any

import pytest
import schemathesis
from django.conf import LazySettings
from django.core.wsgi import get_wsgi_application
from django.test import Client
from drf_spectacular.generators import SchemaGenerator
from hypothesis import given
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from billing import ledger, money
from billing.models import PriceVersion
from keys.models import ApiKey
from portal.api import access
from portal.models import Team, User
from tests.kit import fuzzing, soak
from tests.portal import made
from tests.portal.test_api import management

EXAMPLES = soak.count("EXAMPLES", 300) if soak.on() else 3
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]

TOKEN = "c" * 32  # of the session's forms


def document() -> Any:
    loaded = schemathesis.openapi.from_dict(SchemaGenerator().get_schema(public=True))  # type: ignore[no-untyped-call]
    loaded.app = get_wsgi_application()
    return loaded


DOCUMENT = document()
OPERATIONS = [found.ok() for found in DOCUMENT.get_all_operations() if isinstance(found, Ok)]


@pytest.fixture
def called(
    team: Team, alice: User, key: ApiKey, price: PriceVersion, settings: LazySettings, monkeypatch: pytest.MonkeyPatch
) -> dict[str, dict[str, dict[str, str]]]:
    """Something is there of most kinds. How programs and people call, by the name of their way."""
    made.call(key, price)
    ledger.adjust(wallet=ledger.wallet_of(team.pk), amount=money.NANO, actor="tests", reason="x")
    settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
    monkeypatch.setattr(access.PerTeam, "rate", "1000000/min")
    monkeypatch.setattr("relay.channels.egress.socket.getaddrinfo", _nowhere)
    program = management(team).client.defaults["HTTP_AUTHORIZATION"]
    person = Client()
    person.force_login(alice)
    session = {"sessionid": person.cookies["sessionid"].value, "csrftoken": TOKEN}
    return {
        "managementKey": {"headers": {"Authorization": program}},
        "cookieAuth": {"headers": {"X-CSRFToken": TOKEN}, "cookies": session},
    }


def _nowhere(*_where: Any, **_how: Any) -> Any:
    """No name that a test makes up is looked up."""
    raise OSError("no address")


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.definition.raw["operationId"])
def test_whatever_is_sent_is_answered_as_the_document_says(
    called: dict[str, dict[str, dict[str, str]]], operation: Any, mode: GenerationMode
) -> None:
    if mode is GenerationMode.NEGATIVE and not {"parameters", "requestBody"} & operation.definition.raw.keys():
        return  # nothing can be wrong with what takes nothing
    ways = [name for way in operation.definition.raw["security"] for name in way]
    how = called[ways[0]]
    statuses: list[int] = []

    @fuzzing.printed(EXAMPLES)
    @given(case=operation.as_strategy(generation_mode=mode))
    def send(case: Any) -> None:
        answer = case.call(**how)
        case.validate_response(answer, checks=CHECKS)
        statuses.append(answer.status_code)

    send()
    assert statuses
    assert not {401, 403} & set(statuses)
