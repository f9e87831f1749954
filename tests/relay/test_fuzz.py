"""Whatever is sent to an endpoint, drawn from the relay's own OpenAPI document: an answer or an error in the caller's
envelope, as the document tells it, and never a fault of ours."""

from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import given
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from relay import openapi, urls
from tests.kit import client, fuzzing, soak
from tests.kit.gateway import Customer, Gateway
from tests.relay.fuzzed import CHATS, MODELS, everything, provider, stranger

__all__ = ["everything", "provider", "stranger"]

EXAMPLES = soak.count("EXAMPLES", 400) if soak.on() else 3
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
_UNKNOWN = {"type": ["string", "number", "boolean", "null"]}


def small(schema: Any) -> Any:
    """The same with short lists and shallow unknown fields: most of the time would go into drawing these."""
    if isinstance(schema, list):
        return [small(inner) for inner in schema]
    if not isinstance(schema, dict):
        return schema
    found = {name: small(inner) for name, inner in schema.items()}
    if found.get("type") == "array":
        found["maxItems"] = min(4, found.get("maxItems", 4))
    if found.get("type") == "object" and isinstance(found.get("properties"), dict):
        found.setdefault("additionalProperties", _UNKNOWN)
    return found


def drawn_from() -> Any:
    document = openapi.document(urls.ROUTES, base_url="http://127.0.0.1")
    schemas = document["components"]["schemas"]
    asked = {name: small(schema) for name, schema in openapi.REQUESTS.values()}
    return {**document, "components": {**document["components"], "schemas": {**schemas, **asked}}}


DOCUMENT = schemathesis.openapi.from_dict(drawn_from())


class Asking:
    """Sends cases of one route as somebody with a key, and keeps count of what came back."""

    def __init__(self, gateway: Gateway, customer: Customer, route: urls.Route, session: requests.Session) -> None:
        self.statuses: list[int] = []
        self._gateway = gateway
        self._token = customer.token
        self._session = session
        self._models = MODELS.get(route.endpoint, CHATS)
        self._stored = ""
        if "{response}" in route.path:
            asked = client.chat(gateway.url, self._token, path="/v1/responses", model="to-openai", input="Hello")
            self._stored = asked.json()["id"]

    def send(self, case: Any, number: int) -> None:
        """Every other case is about something that is there."""
        if number % 2 == 0:
            self._name_what_is_there(case, self._models[number // 2 % len(self._models)])
        answer = case.call(
            base_url=self._gateway.url, session=self._session, headers={"Authorization": f"Bearer {self._token}"}
        )
        case.validate_response(answer, checks=CHECKS)
        self.statuses.append(answer.status_code)
        assert answer.headers["x-request-id"]
        if answer.status_code == 200:
            return
        told = answer.json()["pisces"]
        assert told["gateway"] == "Pisces"
        assert told.get("cost", "0") == "0"

    def _name_what_is_there(self, case: Any, model: str) -> None:
        if isinstance(case.body, dict):
            case.body["model"] = model
        if "model" in case.path_parameters:
            case.path_parameters["model"] = model
        if self._stored and "response" in case.path_parameters:
            case.path_parameters["response"] = self._stored


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
@pytest.mark.parametrize("route", urls.ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_whatever_is_sent_is_answered_as_the_document_says(
    everything: Gateway, stranger: Customer, route: urls.Route, mode: GenerationMode
) -> None:
    drawn = DOCUMENT[route.path][route.method].as_strategy(generation_mode=mode)
    with requests.Session() as session:
        asking = Asking(everything, stranger, route, session)

        @fuzzing.printed(EXAMPLES)
        @given(case=drawn, number=st.integers(0, 7))
        def send(case: Any, number: int) -> None:
            asking.send(case, number)

        send()
    assert len(asking.statuses) >= EXAMPLES // 2
