"""JSON Schema and Gemini's dialect of it."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import RelayError
from relay.protocols.gemini import schemas

S = {"type": "string"}
# What the API has words for.
ALLOWED = {
    "type", "format", "title", "description", "nullable", "enum", "items", "properties", "required", "anyOf", "pattern",
    "minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties",
    "propertyOrdering",
}  # fmt: skip


def sound(schema: dict[str, Any]) -> None:
    """Asserts what the API refuses a schema for."""
    assert set(schema) <= ALLOWED, schema
    if "anyOf" in schema:
        assert set(schema) == {"anyOf"}
        for branch in schema["anyOf"]:
            sound(branch)
        return
    assert schema["type"] in ("STRING", "NUMBER", "INTEGER", "BOOLEAN", "ARRAY", "OBJECT")
    assert ("items" in schema) is (schema["type"] == "ARRAY")
    if "enum" in schema:
        assert schema["type"] == "STRING"
        assert all(isinstance(value, str) and value for value in schema["enum"])
    for inner in (*schema.get("properties", {}).values(), *([schema["items"]] if "items" in schema else [])):
        sound(inner)
    required = schema.get("required", [])
    assert len(set(required)) == len(required)
    assert set(required) <= set(schema.get("properties", {}))
    if schema["type"] == "STRING":
        assert schema.get("format") in (None, "enum", "date-time")


def bare(schema: dict[str, Any]) -> Any:
    found = schemas.for_gemini(schema)
    sound(found)
    return found


@pytest.mark.parametrize(
    ("given_", "found"),
    [
        ({"const": "x"}, {"type": "STRING", "format": "enum", "enum": ["x"]}),
        (
            {"enum": ["a", "", "b", "a", None]},
            {"type": "STRING", "format": "enum", "enum": ["a", "b"], "nullable": True},
        ),
        (
            {"type": "integer", "enum": [1, 2], "description": "How many."},
            {"type": "INTEGER", "description": "How many. One of: 1, 2."},
        ),
        ({"type": ["string", "null"]}, {"type": "STRING", "nullable": True}),
        ({"type": ["string", "integer"]}, {"anyOf": [{"type": "STRING"}, {"type": "INTEGER"}]}),
        ({"anyOf": [S, {"type": "null"}]}, {"type": "STRING", "nullable": True}),
        (
            {"oneOf": [S, {"type": "number"}, {"type": "null"}], "description": "d"},
            {
                "anyOf": [
                    {"description": "d", "nullable": True, "type": "STRING"},
                    {"description": "d", "nullable": True, "type": "NUMBER"},
                ]
            },
        ),
        ({"type": "string", "format": "uri", "pattern": "^h"}, {"type": "STRING", "pattern": "^h"}),
        ({"type": "string", "format": "date-time"}, {"type": "STRING", "format": "date-time"}),
        (
            {"type": "integer", "exclusiveMinimum": 0, "exclusiveMaximum": 9},
            {"type": "INTEGER", "minimum": 1, "maximum": 8},
        ),
        ({"type": "number", "exclusiveMinimum": 0.5}, {"type": "NUMBER", "minimum": 0.5}),
        ({"type": "array"}, {"type": "ARRAY", "items": {"type": "STRING"}}),
        (
            {"type": "array", "prefixItems": [S, {"type": "number"}]},
            {"type": "ARRAY", "items": {"anyOf": [{"type": "STRING"}, {"type": "NUMBER"}]}, "minItems": 2},
        ),
        (
            {
                "type": "object",
                "properties": {"a": S},
                "required": ["a", "a", "b"],
                "additionalProperties": False,
                "$schema": "x",
                "propertyNames": S,
                "not": S,
                "if": S,
                "dependentRequired": {},
            },
            {"type": "OBJECT", "properties": {"a": {"type": "STRING"}}, "propertyOrdering": ["a"], "required": ["a"]},
        ),
        (
            {"allOf": [{"properties": {"a": S}, "required": ["a"]}, {"properties": {"b": S}, "required": ["b"]}]},
            {
                "type": "OBJECT",
                "properties": {"b": {"type": "STRING"}, "a": {"type": "STRING"}},
                "propertyOrdering": ["b", "a"],
                "required": ["a", "b"],
            },
        ),
        (
            {"type": "object", "properties": {"a": S}, "anyOf": [{"required": ["a"]}, {"properties": {"b": S}}]},
            {
                "type": "OBJECT",
                "properties": {"b": {"type": "STRING"}, "a": {"type": "STRING"}},
                "propertyOrdering": ["b", "a"],
            },
        ),
        ({"type": "object", "additionalProperties": S}, {"type": "OBJECT"}),
    ],
)
def test_a_schema_is_said_in_the_words_that_gemini_has(given_: dict[str, Any], found: Any) -> None:
    """Pitfall 12."""
    before = json.dumps(given_)
    assert bare(given_) == found
    assert json.dumps(given_) == before


def test_a_union_in_a_union_becomes_one() -> None:
    found = bare({"description": "d", "anyOf": [{"anyOf": [S, {"type": "integer"}]}, {"type": "boolean"}]})
    assert [(branch["type"], branch["description"]) for branch in found["anyOf"]] == [
        ("STRING", "d"), ("INTEGER", "d"), ("BOOLEAN", "d"),
    ]  # fmt: skip


def test_references_are_written_out_and_a_cycle_ends() -> None:
    tree = {
        "$ref": "#/$defs/node~1x",
        "$defs": {
            "node/x": {
                "type": "object",
                "properties": {
                    "name": {"$ref": "#/definitions/name", "description": "own"},
                    "child": {"$ref": "#/$defs/node~1x"},
                },
            }
        },
        "definitions": {"name": {"type": "string", "description": "theirs"}},
    }  # fmt: skip
    assert bare(tree)["properties"] == {"name": {"type": "STRING", "description": "own"}, "child": {"type": "OBJECT"}}
    itself = bare({"type": "object", "properties": {"self": {"$ref": "#"}, "gone": {"$ref": "#/nowhere"}}})
    assert itself["properties"]["self"]["properties"]["self"] == {"type": "OBJECT"}
    assert len(itself["properties"]["gone"]["anyOf"]) == 5


@pytest.mark.parametrize("depth", [30, 2000])
def test_references_that_double_at_every_step_are_refused_before_they_are_written(depth: int) -> None:
    steps = {
        f"s{at}": {"properties": {"a": {"$ref": f"#/$defs/s{at + 1}"}, "b": {"$ref": f"#/$defs/s{at + 1}"}}}
        for at in range(depth)
    }
    with pytest.raises(RelayError) as refused:
        schemas.for_gemini({"$ref": "#/$defs/s0", "$defs": steps})
    assert (refused.value.status, refused.value.param) == (400, "tools")


@pytest.mark.parametrize(
    "schema", [None, {}, {"type": "object"}, {"type": "object", "properties": {}}, {"type": "string"}]
)
def test_a_function_without_properties_has_no_parameters(schema: dict[str, Any] | None) -> None:
    assert schemas.parameters_for_gemini(schema) is None


def test_a_union_at_the_root_of_parameters_becomes_one_object() -> None:
    """Pitfall 13, for Gemini."""
    found = schemas.parameters_for_gemini(
        {
            "anyOf": [
                {"type": "object", "properties": {"a": S, "b": S}, "required": ["a", "b"]},
                {"type": "object", "properties": {"b": {"type": "number"}}, "required": ["b"]},
            ]
        }
    )
    assert found is not None
    sound(found)
    assert found == {
        "type": "OBJECT", "properties": {"a": {"type": "STRING"}, "b": {"type": "STRING"}}, "required": ["b"],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("dialect", "schema"),
    [
        ({"type": "STRING"}, {"type": "string"}),
        ({"type": "TYPE_UNSPECIFIED"}, {}),
        (
            {"type": "STRING", "nullable": True, "format": "enum", "enum": ["a"]},
            {"type": ["string", "null"], "enum": ["a", None]},
        ),
        ({"anyOf": [{"type": "STRING"}], "nullable": True}, {"anyOf": [{"type": "string"}, {"type": "null"}]}),
        (
            {"type": "ARRAY", "min_items": "2", "items": {"type": "NUMBER"}},
            {"type": "array", "minItems": 2, "items": {"type": "number"}},
        ),
        (
            {
                "type": "OBJECT",
                "properties": {"a": {"type": "STRING"}, "type": {"type": "INTEGER"}, "nullable": {"type": "BOOLEAN"}},
                "propertyOrdering": ["type", "a"],
                "example": {},
            },
            {
                "type": "object",
                "properties": {"type": {"type": "integer"}, "a": {"type": "string"}, "nullable": {"type": "boolean"}},
            },
        ),
        ({"type": "object", "additionalProperties": False}, {"type": "object", "additionalProperties": False}),
    ],
)
def test_the_dialect_is_read_as_json_schema(dialect: dict[str, Any], schema: dict[str, Any]) -> None:
    before = json.dumps(dialect)
    assert schemas.from_gemini(dialect) == schema
    assert json.dumps(schemas.from_gemini(dialect)) == json.dumps(schema)
    assert json.dumps(dialect) == before


words = st.sampled_from(
    [
        "type",
        "properties",
        "required",
        "items",
        "prefixItems",
        "anyOf",
        "oneOf",
        "allOf",
        "$ref",
        "$defs",
        "enum",
        "const",
        "format",
        "minimum",
        "exclusiveMinimum",
        "minItems",
        "description",
        "nullable",
        "additionalProperties",
        "pattern",
        "not",
        "propertyOrdering",
    ]
)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(
        ["string", "integer", "object", "array", "null", "STRING", "#", "#/$defs/a", "#/properties/a", "a", ""]
    )
)
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words | st.sampled_from(["a", "b"]), inner, max_size=4),
    max_leaves=30,
)


@pytest.mark.parametrize(
    ("schema", "written"),
    [
        ({"type": "object", "allOf": [{"type": "array"}]}, {"type": "OBJECT"}),
        (
            {"type": "array", "allOf": [{"properties": {"a": S}}]},
            {"type": "OBJECT", "properties": {"a": {"type": "STRING"}}, "propertyOrdering": ["a"]},
        ),
        ({"type": "string", "allOf": [{"type": "integer", "minimum": 1, "format": "int32"}]}, {"type": "STRING"}),
        ({"type": "integer", "allOf": [{"enum": ["a"]}]}, {"type": "INTEGER"}),
        ({"type": "string", "allOf": [{"enum": ["a"]}]}, {"type": "STRING", "format": "enum", "enum": ["a"]}),
    ],
)
def test_of_parts_that_contradict_each_other_only_what_fits_the_type_is_written(
    schema: dict[str, Any], written: dict[str, Any]
) -> None:
    assert schemas.for_gemini(schema) == written


@given(st.dictionaries(words, anything, max_size=6))
def test_whatever_is_given_for_a_schema_comes_out_as_one_that_gemini_takes(schema: dict[str, Any]) -> None:
    sound(schemas.for_gemini(schema))
    parameters = schemas.parameters_for_gemini(schema)
    if parameters is not None:
        sound(parameters)
        assert parameters["properties"]
    back = schemas.from_gemini(schema)
    json.dumps(back)
    sound(schemas.for_gemini(schemas.from_gemini(schemas.for_gemini(schema))))
