"""JSON Schemas of what clients may send, as each protocol's `described.py` writes them. Pure.

They are generous: what is passed on unread may be there and may be anything, so no object is closed. What a schema
allows can still be refused by the model that is asked; what it forbids the gateway refuses, or the provider does.
"""

from collections.abc import Sequence
from typing import Any

from relay.protocols.canonical import Json

MOST_TOKENS = 2**31

STRING: Json = {"type": "string"}
BOOLEAN: Json = {"type": "boolean"}
NUMBER: Json = {"type": "number"}
INTEGER: Json = {"type": "integer"}
OBJECT: Json = {"type": "object"}
COUNT: Json = {"type": "integer", "minimum": 1, "maximum": MOST_TOKENS}
KEY: Json = {"type": "string", "description": "The API key, where no header bears it; never forwarded."}


def structure(required: Sequence[str] = (), /, **properties: Json) -> Json:
    """An object with these fields and any others."""
    found: Json = {"type": "object", "properties": properties}
    return {**found, "required": [*required]} if required else found


def several(items: Json, *, least: int = 0, most: int | None = None) -> Json:
    found: Json = {"type": "array", "items": items}
    if least:
        found["minItems"] = least
    return found if most is None else {**found, "maxItems": most}


def either(*schemas: Json) -> Json:
    return {"anyOf": [*schemas]}


def words(*values: str) -> Json:
    return {"type": "string", "enum": [*values]}


def only(value: Any) -> Json:
    return {"const": value}


def or_null(schema: Json) -> Json:
    return either(schema, {"type": "null"})
