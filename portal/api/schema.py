"""What the OpenAPI document is about, and the errors that every operation has alike."""

from typing import Any

from drf_spectacular.openapi import AutoSchema


def only_ours(endpoints: list[tuple[str, str, str, Any]]) -> list[tuple[str, str, str, Any]]:
    """The management API; the relay has a document of its own."""
    return [endpoint for endpoint in endpoints if endpoint[0].startswith("/api/v1/")]


class Described(AutoSchema):
    """How an endpoint is described: no key calls what belongs to a person."""

    def get_auth(self) -> list[dict[str, Any]]:
        ways: list[dict[str, Any]] = super().get_auth()
        return [way for way in ways if not (getattr(self.view, "for_people", False) and "managementKey" in way)]


_DETAIL = {
    "type": "object",
    "description": "Why not.",
    "properties": {"detail": {"type": "string"}},
    "required": ["detail"],
}
_PROBLEMS = {
    "type": "object",
    "description": "What is wrong, by field; `detail` or `non_field_errors` where it concerns no single one.",
    "additionalProperties": {},
    "minProperties": 1,
}
_ERRORS = {
    400: ("Problems", "A value that cannot be"),
    401: ("DetailShape", "No key, or one that does not call this API"),
    403: ("DetailShape", "Not with a key, or a session's form token is missing"),
    404: ("DetailShape", "Not there, or another team's"),
    409: ("DetailShape", "Something else came before it"),
    415: ("DetailShape", "Not JSON"),
    429: ("DetailShape", "Too many requests; `Retry-After` says when to try again"),
}


def with_errors(result: dict[str, Any], **_how: Any) -> dict[str, Any]:
    """The document with the errors of each operation, told in the one way in which they are answered."""
    result["components"]["schemas"] |= {"DetailShape": _DETAIL, "Problems": _PROBLEMS}
    for path, methods in result["paths"].items():
        for operation in methods.values():
            for status in _statuses(path, operation):
                name, description = _ERRORS[status]
                content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}
                operation["responses"].setdefault(str(status), {"description": description, "content": content})
    return result


def _statuses(path: str, operation: dict[str, Any]) -> list[int]:
    """What can be wrong with it, from what it takes."""
    asked = {parameter["in"] for parameter in operation.get("parameters", [])}
    body = "requestBody" in operation
    by_number = {parameter["name"] for parameter in operation.get("parameters", [])} & {"cursor"} or "{" in path
    found = [401, 403, 429]
    return found + [400] * (body or "query" in asked) + [404] * bool(by_number) + [415] * body
