"""Which JSON Schemas OpenAI's strict mode takes, and how others are made fit for it. Pure.

Source: OpenAI, "Structured outputs", supported schemas: the root is an object; every object names all of its properties
as required and allows no others; some keywords are unknown to it.
"""

from typing import Any

from relay.protocols.canonical import OPENAI, Format, Json, Wire

_UNKNOWN = frozenset(
    (
        "allOf", "oneOf", "not", "if", "then", "else", "dependentRequired", "dependentSchemas", "dependencies",
        "default", "patternProperties", "propertyNames", "unevaluatedProperties", "unevaluatedItems", "prefixItems",
        "contains", "minContains", "maxContains", "uniqueItems", "minProperties", "maxProperties",
    )
)  # fmt: skip
_DEEPEST = 10


def fits(schema: Json | None) -> bool:
    """Whether strict mode takes it as it is."""
    return schema is not None and schema.get("type") == "object" and "anyOf" not in schema and _fits(schema, _DEEPEST)


def closed(schema: Json) -> Json:
    """The schema with `additionalProperties: false` at each object that says nothing of it. Whether that made it fit is
    for `fits` to say."""
    found = {key: _closed_inside(key, value) for key, value in schema.items()}
    if found.get("type") == "object":
        found.setdefault("additionalProperties", False)
    return found


def parameters(schema: Json | None) -> Json:
    """A function's: OpenAI wants an object with properties, be they none."""
    if not schema:
        return {"type": "object", "properties": {}}
    if schema.get("type", "object") == "object" and "properties" not in schema:
        return {"type": "object", **schema, "properties": {}}
    return schema if "type" in schema else {"type": "object", **schema}


def of_format(form: Format, owner: Wire) -> tuple[Json, bool | None]:
    """The answer's schema and whether it is asked for strictly; None where `owner`'s client says nothing of that. At
    other vendors every schema binds; here only strict mode does, which wants every object closed."""
    schema = form.schema or {}
    if form.strict is None and owner not in OPENAI:
        shut = closed(schema)
        return (shut, True) if fits(shut) else (schema, None)
    return schema, form.strict and fits(schema)


def _closed_inside(key: str, value: Any) -> Any:
    if key in ("properties", "$defs", "definitions") and isinstance(value, dict):
        return {name: closed(inner) if isinstance(inner, dict) else inner for name, inner in value.items()}
    if key == "items" and isinstance(value, dict):
        return closed(value)
    if key == "anyOf" and isinstance(value, list):
        return [closed(inner) if isinstance(inner, dict) else inner for inner in value]
    return value


def _fits(schema: Any, left: int) -> bool:
    if not isinstance(schema, dict) or left <= 0 or not _UNKNOWN.isdisjoint(schema):
        return False
    kinds = schema.get("type")
    if (kinds == "object" or (isinstance(kinds, list) and "object" in kinds)) and not _names_all(schema):
        return False
    if not ("type" in schema or "anyOf" in schema or "$ref" in schema or "enum" in schema or "const" in schema):
        return False
    return all(_fits(inner, left - 1) for inner in _inside(schema))


def _names_all(schema: Json) -> bool:
    properties, required = schema.get("properties"), schema.get("required", [])
    if schema.get("additionalProperties") is not False or not isinstance(properties, dict):
        return False
    return (
        isinstance(required, list)
        and all(isinstance(name, str) for name in required)
        and (set(properties) == set(required))
    )


def _inside(schema: Json) -> list[Any]:
    found: list[Any] = []
    for key in ("properties", "$defs", "definitions"):
        inner = schema.get(key)
        found += inner.values() if isinstance(inner, dict) else ()
    if "items" in schema:
        found.append(schema["items"])
    unions = schema.get("anyOf")
    return found + (unions if isinstance(unions, list) else [])
