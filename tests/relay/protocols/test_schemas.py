"""JSON Schemas for vendors that take only a part of the language."""

import copy
import json
from typing import Any

import pytest
from anthropic import transform_schema
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.protocols import schemas

A, B = {"type": "string"}, {"type": "integer"}


def test_a_tool_without_arguments_takes_an_empty_object() -> None:
    assert schemas.for_anthropic(None) == {"type": "object", "properties": {}}
    assert schemas.for_anthropic({}) == {"type": "object", "properties": {}}
    assert schemas.for_anthropic({"properties": {"a": A}}) == {"type": "object", "properties": {"a": A}}


def test_names_are_required_once_at_any_depth() -> None:
    """Pitfall 13."""
    deep = {"type": "object", "properties": {"a": A}, "required": ["a", "a"]}
    found = schemas.for_anthropic({"type": "object", "properties": {"d": {"items": deep}}, "required": ["d", "d", 5]})
    assert found["required"] == ["d"]
    assert found["properties"]["d"]["items"]["required"] == ["a"]


@pytest.mark.parametrize("union", ["anyOf", "oneOf"])
def test_a_union_at_the_root_becomes_one_object_that_allows_no_less(union: str) -> None:
    """Pitfall 13."""
    one = {"type": "object", "properties": {"kind": {"const": 1}, "a": A}, "required": ["kind", "a"]}
    other = {"type": "object", "properties": {"kind": {"const": 2}, "b": B}, "required": ["b", "kind"]}
    found = schemas.for_anthropic({union: [one, other, {"type": "null"}], "description": "d"})
    assert found == {
        "type": "object", "description": "d",
        "properties": {"kind": {"anyOf": [{"const": 1}, {"const": 2}]}, "a": A, "b": B},
    }  # fmt: skip
    without_null = schemas.for_anthropic({union: [one, other]})
    assert without_null["required"] == ["kind"]


def test_all_of_at_the_root_requires_what_any_of_its_parts_does() -> None:
    found = schemas.for_anthropic(
        {
            "allOf": [{"$ref": "#/$defs/One"}, {"properties": {"b": B}, "required": ["b"]}],
            "$defs": {"One": {"type": "object", "properties": {"a": A}, "required": ["a"]}},
        }
    )
    assert (found["required"], set(found["properties"]), found["type"]) == (["a", "b"], {"a", "b"}, "object")


def test_a_reference_at_the_root_is_resolved() -> None:
    found = schemas.for_anthropic(
        {"$ref": "#/$defs/a~1b", "$defs": {"a/b": {"type": "object", "properties": {"a": A}}}}
    )
    assert ("$ref" in found, found["properties"]) == (False, {"a": A})
    nowhere = schemas.for_anthropic({"$ref": "#/$defs/none"})
    assert nowhere["type"] == "object"


def test_older_drafts_are_written_in_the_newer_one() -> None:
    found = schemas.for_anthropic(
        {
            "$schema": "http://json-schema.org/draft-04/schema#",
            "type": "object",
            "properties": {
                "n": {"type": "number", "minimum": 1, "exclusiveMinimum": True, "exclusiveMaximum": False},
                "t": {"type": "array", "items": [A, B]},
                "r": {"type": "string", "required": True},
            },
        }
    )
    assert found["properties"] == {
        "n": {"type": "number", "exclusiveMinimum": 1}, "t": {"type": "array", "prefixItems": [A, B]}, "r": A,
    }  # fmt: skip
    assert "$schema" not in found


def test_a_property_may_be_called_like_a_keyword() -> None:
    schema = {"type": "object", "properties": {"required": A, "anyOf": B, "items": A}, "required": ["required"]}
    assert schemas.for_anthropic(schema) == schema


def test_an_answer_s_schema_is_closed_and_its_bounds_are_told_in_words() -> None:
    schema = {
        "type": "object",
        "properties": {
            "a": {"type": "integer", "minimum": 1, "description": "A number."},
            "b": {"oneOf": [A, {"type": "null"}]},
            "c": {"type": "array", "items": {"type": "string", "format": "date"}, "minItems": 1, "maxItems": 3},
            "d": {"type": "string", "format": "phone", "pattern": "^x"},
            "e": {"$ref": "#/$defs/E"},
        },
        "required": ["a", "b", "c", "d", "e"],
        "$defs": {"E": {"enum": ["x", "y"]}},
    }
    found = schemas.for_anthropic_output(schema)
    assert found is not None
    assert found["additionalProperties"] is False
    inner = found["properties"]
    assert inner["a"] == {"type": "integer", "description": "A number.\n\n{minimum: 1}"}
    assert inner["b"] == {"anyOf": [A, {"type": "null"}]}
    assert inner["c"]["items"]["format"] == "date"
    assert (inner["c"]["minItems"], inner["c"]["description"]) == (1, "{maxItems: 3}")
    assert "format" not in inner["d"]
    assert inner["e"] == {"$ref": "#/$defs/E"}
    assert transform_schema(copy.deepcopy(found)) == found  # the vendor's own SDK has nothing to add


@pytest.mark.parametrize(
    "inside",
    [
        {"type": "object"}, {"type": "object", "additionalProperties": True, "properties": {"a": A}}, {}, True,
        {"type": ["object", "null"]}, {"$ref": "#"}, {"$ref": "#/$defs/gone"}, {"$ref": "https://example.com/s"},
        {"allOf": [{"$ref": "#/$defs/E"}]}, {"type": "object", "properties": {str(n): A for n in range(30)}},
    ],
)  # fmt: skip
def test_what_answers_cannot_be_bound_to_is_none(inside: Any) -> None:
    schema = {"type": "object", "properties": {"x": inside}, "required": ["x"], "$defs": {"E": {"enum": [1]}}}
    assert schemas.for_anthropic_output(schema) is None


def test_references_that_double_at_each_step_take_no_time() -> None:
    """Forty steps would be 2^40 branches."""
    steps = {f"s{n}": {"allOf": [{"$ref": f"#/$defs/s{n + 1}"}] * 2} for n in range(40)}
    schema = {"$ref": "#/$defs/s0", "$defs": {**steps, "s40": {"type": "object", "properties": {"a": A}}}}
    assert schemas.for_anthropic(schema)["type"] == "object"
    doubled = {f"s{n}": {"anyOf": [{"$ref": f"#/$defs/s{n + 1}"}] * 2} for n in range(40)}
    assert schemas.for_anthropic_output({"$ref": "#/$defs/s0", "$defs": {**doubled, "s40": A}}) is None
    endless = {"anyOf": [{"$ref": "#"}, {"$ref": "#"}]}
    assert schemas.for_anthropic(endless)["type"] == "object"
    assert schemas.for_anthropic_output(endless) is None


@pytest.mark.parametrize(("length", "fits"), [(60, True), (70, False), (5000, False)])
def test_a_long_chain_of_references_cannot_be_bound(length: int, fits: bool) -> None:
    chain = {f"s{n}": {"type": "array", "items": {"$ref": f"#/$defs/s{n + 1}"}} for n in range(length)}
    found = schemas.for_anthropic_output({"$ref": "#/$defs/s0", "$defs": {**chain, f"s{length}": A}})
    assert (found is not None) == fits


_keys = st.sampled_from(
    [
        "type",
        "properties",
        "required",
        "items",
        "anyOf",
        "oneOf",
        "allOf",
        "$ref",
        "$defs",
        "enum",
        "const",
        "format",
        "minItems",
        "additionalProperties",
        "exclusiveMinimum",
        "minimum",
        "description",
        "title",
        "a",
        "b",
    ]
)
_leaves = (
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.sampled_from(["object", "string", "array", "#", "#/$defs/a", "a"])
)
_anything = st.recursive(
    _leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_keys, inner, max_size=4), max_leaves=25
)


@settings(deadline=None)
@given(st.dictionaries(_keys, _anything, max_size=6))
def test_no_schema_breaks_them_and_none_is_changed(schema: dict[str, Any]) -> None:
    before = json.dumps(schema)
    found = schemas.for_anthropic(schema)
    assert found["type"] == "object"
    assert not found.keys() & {"anyOf", "oneOf", "allOf"}
    assert len(set(found.get("required", []))) == len(found.get("required", []))
    bound = schemas.for_anthropic_output(schema)
    assert bound is None or isinstance(bound, dict)
    assert json.dumps(schema) == before
