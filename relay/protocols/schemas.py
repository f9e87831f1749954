"""JSON Schemas for vendors that take only a part of the language. Pure: what is given is left as it was.

One function for each vendor and use; they share nothing but the walk.
"""

from collections.abc import Callable, Iterable
from typing import Any

from relay.protocols.canonical import Json

# Keywords with a schema, with several by name, with a list of them.
_ONE = ("items", "additionalProperties", "propertyNames", "contains", "not", "if", "then", "else")
_NAMED = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_LISTED = ("anyOf", "oneOf", "allOf", "prefixItems")
_UNIONS = ("anyOf", "oneOf", "allOf")
_MOST_STEPS = 32  # from a reference to a reference
_MOST_BRANCHES = 256  # of unions in unions: references can make them more than can be counted


def _mapped(schema: Json, change: Callable[[Json], Json]) -> Json:
    """The schema with each of those directly inside it changed."""
    out: Json = {}
    for key, value in schema.items():
        if key in _ONE and isinstance(value, dict):
            value = change(value)
        elif key in _NAMED and isinstance(value, dict):
            value = {name: change(inner) if isinstance(inner, dict) else inner for name, inner in value.items()}
        elif key in _LISTED and isinstance(value, list):
            value = [change(inner) if isinstance(inner, dict) else inner for inner in value]
        out[key] = value
    return out


def _resolved(schema: Json, root: Json) -> Json:
    """What a reference inside this document leads to; the schema itself where it leads nowhere."""
    for _ in range(_MOST_STEPS):
        ref = schema.get("$ref")
        if not isinstance(ref, str) or not ref.startswith("#/"):
            return schema
        found: Any = root
        for step in ref[2:].split("/"):
            found = found.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(found, dict) else None
        if not isinstance(found, dict):
            return schema
        schema = {**{key: value for key, value in schema.items() if key != "$ref"}, **found}
    return schema


# ---- Anthropic: a tool's input --------------------------------------------------------------------------------------


def for_anthropic(schema: Json | None) -> Json:
    """A tool's `input_schema`: draft 2020-12 with an object at its root and no union there, nothing required twice.

    A root union becomes one object with the properties of all its branches, of which those are required that every
    branch requires (of `allOf`: any). That allows more than was written, never less.
    """
    if not schema:
        return {"type": "object", "properties": {}}
    modern = _modern(schema)
    flat = _flat(modern, modern, [_MOST_BRANCHES])
    flat.pop("$schema", None)
    if flat.get("type") != "object":
        flat["type"] = "object"
    return flat


def _modern(schema: Json) -> Json:
    """Older drafts' spellings in that of 2020-12."""
    out = _mapped(schema, _modern)
    if isinstance(out.get("items"), list):
        tuple_of = out.pop("items")
        out["prefixItems"] = [_modern(inner) if isinstance(inner, dict) else inner for inner in tuple_of]
    for bound, limit in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if isinstance(out.get(bound), bool):
            exclusive = out.pop(bound)
            if exclusive and limit in out:
                out[bound] = out.pop(limit)
    if "required" in out:
        required = _names(out["required"])
        if required:
            out["required"] = required
        else:
            del out["required"]  # `required: true` at a property is of draft 3
    return out


def _properties(schema: Json) -> Json:
    found = schema.get("properties")
    return found if isinstance(found, dict) else {}


def _names(value: object) -> list[str]:
    """Each name once, in its order."""
    return list(dict.fromkeys(name for name in value if isinstance(name, str))) if isinstance(value, list) else []


def _flat(schema: Json, root: Json, left: list[int]) -> Json:
    """An object without a reference and without unions at its own level. `left` is how many branches may be read."""
    schema = dict(_resolved(schema, root))
    for union in _UNIONS:
        objects = []
        for branch in _listed(schema, union):
            left[0] -= 1
            if left[0] > 0:
                objects.append(_flat(branch, root, left))
        schema.pop(union, None)
        if objects:
            _take_in(schema, objects, every=union == "allOf")
    return schema


def _take_in(schema: Json, objects: list[Json], *, every: bool) -> None:
    """Merges a union's branches into the object that they stood in. `every`: all of them hold at once."""
    properties = dict(_properties(schema))
    for branch in objects:
        for name, inner in _properties(branch).items():
            known = properties.get(name)
            properties[name] = inner if known is None or known == inner else _either(known, inner)
        if isinstance(branch.get("description"), str):
            schema.setdefault("description", branch["description"])
        if isinstance(branch.get("$defs"), dict):
            known_defs = schema.get("$defs")
            schema["$defs"] = {**branch["$defs"], **(known_defs if isinstance(known_defs, dict) else {})}
    demands = [_names(branch.get("required")) for branch in objects]
    shared = [name for demand in demands for name in demand if every or all(name in other for other in demands)]
    required = _names([*_names(schema.get("required")), *shared])
    if any(branch.get("additionalProperties") is not False for branch in objects):
        schema.pop("additionalProperties", None)
    schema["properties"] = properties
    if required:
        schema["required"] = required


def _either(one: Any, other: Any) -> Json:
    """A property that two branches describe differently."""
    listed = one["anyOf"] if isinstance(one, dict) and set(one) == {"anyOf"} else [one]
    return {"anyOf": [*listed, *([] if other in listed else [other])]}


# ---- Anthropic: answers that are bound to a schema ------------------------------------------------------------------

_FORMATS = frozenset(
    ("date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"),
)
_KEPT = frozenset(("$defs", "definitions", "$ref", "type", "enum", "const", "anyOf", "allOf", "title", "description", "default", "properties", "required", "items"))  # fmt: skip # noqa: E501
# What only annotates and may go without a word.
_SILENT = frozenset(("$schema", "$id", "$comment", "examples", "deprecated", "readOnly", "writeOnly", "additionalProperties", "oneOf"))  # fmt: skip # noqa: E501
_MOST_UNIONS, _MOST_OPTIONAL = 16, 24
_DEEPEST = 128  # of schemas in schemas, references followed: twice what JSON itself has room for


class _Unbindable(Exception):
    """Answers cannot be held to this schema."""


def for_anthropic_output(schema: Json) -> Json | None:
    """The schema as structured outputs and strict tools take it; None where answers cannot be bound to it.

    Every object is closed; bounds on numbers, lengths and patterns are told in descriptions, as the vendor's own SDK
    does. Not bound can be: objects with any keys, recursion, references to elsewhere, very many unions or optional
    properties (Anthropic, "Structured outputs", limitations); nor what references lead very deep into.
    """
    try:
        _refuse_recursion(schema, schema, (), set())
        found = _bound(_modern(schema))
    except _Unbindable:
        return None
    unions, optional = _weights(found)
    return found if unions <= _MOST_UNIONS and optional <= _MOST_OPTIONAL else None


def _bound(schema: Json) -> Json:
    kept = {key: value for key, value in schema.items() if key in _KEPT}
    told = {key: value for key, value in schema.items() if key not in _KEPT and key not in _SILENT}
    if "oneOf" in schema:
        kept["anyOf"] = schema["oneOf"]
    out = _mapped(kept, _bound)
    if isinstance(told.get("format"), str) and told["format"] in _FORMATS:
        out["format"] = told.pop("format")
    if told.get("minItems") in (0, 1):
        out["minItems"] = told.pop("minItems")
    if told:
        bounds = "{" + ", ".join(f"{key}: {value}" for key, value in told.items()) + "}"
        said = out.get("description")
        out["description"] = f"{said}\n\n{bounds}" if isinstance(said, str) and said else bounds
    if "object" in _types(schema) or "properties" in schema:
        _refuse_open(schema)
        out["additionalProperties"] = False
    if any("$ref" in branch for branch in _listed(schema, "allOf")):
        raise _Unbindable
    if not out.keys() & {"type", "enum", "const", "anyOf", "allOf", "$ref"}:
        raise _Unbindable
    return out


def _listed(schema: Json, key: str) -> list[Json]:
    found = schema.get(key)
    return [inner for inner in found if isinstance(inner, dict)] if isinstance(found, list) else []


def _types(schema: Json) -> list[Any]:
    kind = schema.get("type")
    return kind if isinstance(kind, list) else [kind]


def _refuse_open(schema: Json) -> None:
    """An object whose keys are not all known, or of which one may be anything."""
    more, properties = schema.get("additionalProperties"), _properties(schema)
    if more not in (None, False) or (more is None and not properties):
        raise _Unbindable
    if not all(isinstance(inner, dict) for inner in properties.values()):
        raise _Unbindable


def _refuse_recursion(
    schema: Json, root: Json, through: tuple[str, ...], known: set[str], left: int = _DEEPEST
) -> None:
    """`through` are the references that led here, `known` those that lead nowhere endlessly; `left` is how much deeper
    it may go, for a chain of references is as long as somebody writes it."""
    if not left:
        raise _Unbindable
    ref = schema.get("$ref")
    if isinstance(ref, str) and ref not in known:
        target = _resolved({"$ref": ref}, root)
        if ref in through or "$ref" in target:
            raise _Unbindable
        _refuse_recursion(target, root, (*through, ref), known, left - 1)
        known.add(ref)
    for inner in _inside(schema, without=("$defs", "definitions")):
        _refuse_recursion(inner, root, through, known, left - 1)


def _inside(schema: Json, *, without: Iterable[str] = ()) -> list[Json]:
    found: list[Json] = []

    def note(inner: Json) -> Json:
        found.append(inner)
        return inner

    _mapped({key: value for key, value in schema.items() if key not in without}, note)
    return found


def _weights(schema: Json) -> tuple[int, int]:
    """How many unions and how many optional properties there are in all."""
    union = "anyOf" in schema or isinstance(schema.get("type"), list)
    optional = len(set(_properties(schema)) - set(_names(schema.get("required"))))
    inner = [_weights(one) for one in _inside(schema)]
    return union + sum(one[0] for one in inner), optional + sum(one[1] for one in inner)
