"""The relay as an OpenAPI document: sound by the standard's own schema, and as the code is."""

import json
from typing import Any

import msgspec
import pytest
import schemathesis
from django.test import Client
from schemathesis.core.result import Ok

from relay import dialects, errors, handler, idempotency, openapi, urls
from relay.errors import Cause, RelayError
from relay.protocols import shapes
from relay.views import spec

pytestmark = pytest.mark.django_db
PISCES = {
    "gateway": "Pisces", "protocol": "x", "request_id": "r", "channel": "", "timestamp": 1, "dropped": [], "retries": 0,
}  # fmt: skip


@pytest.fixture(scope="module")
def document() -> Any:
    return openapi.document(urls.ROUTES, base_url="https://pisces.example")


def test_the_document_is_public_and_is_what_the_tables_say(document: Any, settings: Any) -> None:
    settings.BASE_URL = "https://pisces.example"
    answer = Client().get("/api/public/openapi.json")
    assert (answer.status_code, answer["Content-Type"]) == (200, "application/json")
    assert answer["Cache-Control"] == "public, max-age=300"
    assert answer.json() == json.loads(json.dumps(document))


def test_the_document_is_sound(document: Any) -> None:
    loaded = schemathesis.openapi.from_dict(document)
    loaded.validate()
    operations = [found.ok() for found in loaded.get_all_operations() if isinstance(found, Ok)]
    assert len(operations) == len(urls.ROUTES)
    assert len({operation.definition.raw["operationId"] for operation in operations}) == len(operations)


def test_every_route_is_in_it_as_it_is_and_no_other(document: Any) -> None:
    told = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert told == {(route.method, route.path) for route in urls.ROUTES}
    for route in urls.ROUTES:
        operation = document["paths"][route.path][route.method.lower()]
        keyed = {"$ref": "#/components/parameters/IdempotencyKey"} in operation["parameters"]
        streamed = "text/event-stream" in operation["responses"]["200"]["content"]
        assert (keyed, streamed) == (route.paid, route.streaming), route.path
        names = {parameter["name"] for parameter in operation["parameters"] if parameter.get("in") == "path"}
        assert all(f"{{{name}}}" in route.path for name in names)
        assert len(names) == route.path.count("{")
        takes_none = route.method != "POST" or route.path.endswith("/cancel")
        assert ("requestBody" in operation) is not takes_none, route.path
    assert set(openapi.REQUESTS) <= {route.path for route in urls.ROUTES}


def test_every_error_is_told_where_it_can_happen(document: Any) -> None:
    anywhere: set[str] = set()
    for route in urls.ROUTES:
        answers = document["paths"][route.path][route.method.lower()]["responses"]
        for cause, entry in errors.TABLE.items():
            told = f"`{entry.code}`" in answers.get(str(entry.status), {}).get("description", "")
            of_money = cause is Cause.INSUFFICIENT_QUOTA or cause.value.startswith("idempotency")
            assert told is (route.paid or not of_money), (route.path, cause)
            anywhere |= {entry.code} if told else set()
    assert anywhere == {entry.code for entry in errors.TABLE.values()}


@pytest.mark.parametrize("protocol", ["openai", "completions", "responses", "anthropic", "gemini"])
@pytest.mark.parametrize("cause", Cause)
def test_an_error_is_answered_in_the_envelope_that_is_told(document: Any, protocol: str, cause: Cause) -> None:
    error = RelayError(cause, "No.", param="model", retry_after=2, provider={"type": "x"})
    body = json.loads(dialects.of(protocol).encode_error(error, PISCES))
    route = next(route for route in urls.ROUTES if route.protocol == protocol and route.paid)
    answer = document["paths"][route.path]["post"]["responses"][str(error.status)]
    schema = answer["content"]["application/json"]["schema"]
    validator = _validator(schema, document)
    assert validator.is_valid(body), list(validator.iter_errors(body))
    for broken in ({}, {**body, "error": {}}, {"error": body["error"]}):
        assert not validator.is_valid(broken)


def _validator(schema: Any, document: Any) -> Any:
    import jsonschema_rs

    return jsonschema_rs.Draft202012Validator({**schema, "components": document["components"]})


def test_all_ways_of_the_key_are_in_it(document: Any) -> None:
    schemes = document["components"]["securitySchemes"].values()
    told = {(scheme.get("in", "header"), scheme.get("name", "Authorization")) for scheme in schemes}
    assert told == {(way["in"], way["name"]) for way in spec.AUTHENTICATION if way["in"] != "body"}
    assert [way["name"] for way in spec.AUTHENTICATION if way["in"] == "body"] == ["api_key"]
    for name, schema in openapi.REQUESTS.values():
        bodies = schema.get("anyOf", [schema])
        assert any(body["properties"].get("api_key") == shapes.KEY for body in bodies), name


def test_the_document_has_the_limits_of_the_code(document: Any) -> None:
    key = document["components"]["parameters"]["IdempotencyKey"]["schema"]["pattern"]
    assert f"{{1,{idempotency.LONGEST}}}" in key
    assert msgspec.json.decode(msgspec.json.encode(document)) == document
    for route in urls.ROUTES:
        assert handler.is_relay_path(route.path)
