"""JSON Schema and the subset of OpenAPI's schemas that Gemini has beside it, both ways. Pure: what is given is left as
it was.

Source: Gemini API reference, `Schema`, and what the API refuses by its own error texts: an enumeration of anything but
texts, a format but for a few, an array without items, a union beside other fields, a demand for a property that is not
there, references.
"""

from typing import Any
from urllib.parse import unquote

from relay.errors import Cause, RelayError
from relay.protocols.canonical import Json

_KINDS = {
    "string": "STRING", "number": "NUMBER", "integer": "INTEGER", "boolean": "BOOLEAN", "array": "ARRAY",
    "object": "OBJECT",
}  # fmt: skip
_FORMATS = {
    "STRING": ("date-time",), "NUMBER": ("float", "double"), "INTEGER": ("int32", "int64"),
    "BOOLEAN": (), "ARRAY": (), "OBJECT": (),
}  # fmt: skip
_BOUNDS = {
    "STRING": ("minLength", "maxLength"), "NUMBER": ("minimum", "maximum"), "INTEGER": ("minimum", "maximum"),
    "BOOLEAN": (), "ARRAY": ("minItems", "maxItems"), "OBJECT": ("minProperties", "maxProperties"),
}  # fmt: skip
_OWN = {
    "STRING": ("enum", "pattern"), "NUMBER": (), "INTEGER": (), "BOOLEAN": (), "ARRAY": ("items",),
    "OBJECT": ("properties", "required", "propertyOrdering"),
}  # fmt: skip
_ANYBODYS = ("type", "title", "description", "nullable")
_TELLTALE = {
    "object": ("properties", "patternProperties", "additionalProperties", "propertyNames", "required"),
    "array": ("items", "prefixItems", "minItems", "maxItems"),
    "string": ("pattern", "minLength", "maxLength", "format"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
}
_UNIONS = ("anyOf", "oneOf")
_MOST_NODES, _DEEPEST = 5000, 60


def for_gemini(schema: Json, *, param: str = "tools") -> Json:
    """The schema in Gemini's dialect. What it cannot say is left out, so that it allows more and never less; a
    recursion ends where it begins anew. Raises RelayError for one too large to be written without references."""
    return _Writer(schema, param).write(schema, 0)


def parameters_for_gemini(schema: Json | None) -> Json | None:
    """A function's parameters: an object; None where there are no properties, for an object without any is refused."""
    if not schema:
        return None
    found = for_gemini(schema)
    branches = [branch for branch in found.get("anyOf", ()) if branch.get("type") == "OBJECT"]
    if branches:
        found = _one_object(branches)
    return found if found.get("type") == "OBJECT" and found.get("properties") else None


def _one_object(branches: list[Json]) -> Json:
    """What any of the branches allows: all their properties, demanded where each of them demands it."""
    properties: Json = {}
    for branch in branches:
        for name, inner in branch.get("properties", {}).items():
            properties.setdefault(name, inner)
    required = [name for name in properties if all(name in branch.get("required", ()) for branch in branches)]
    found: Json = {"type": "OBJECT", "properties": properties}
    if required:
        found["required"] = required
    if "description" in branches[0]:
        found["description"] = branches[0]["description"]
    return found


class _Writer:
    """One document on its way. `_open` are the references that are being followed."""

    def __init__(self, root: Json, param: str) -> None:
        self._root = root
        self._param = param
        self._left = _MOST_NODES
        self._open: set[str] = set()

    def write(self, schema: Any, depth: int) -> Json:
        return _settled(self._loose(schema, depth))

    def _loose(self, schema: Any, depth: int) -> Json:
        """Maybe without a type, so that it can be merged with others."""
        self._left -= 1
        if self._left < 0 or depth > _DEEPEST:
            message = "A schema is nested too deeply, or too large once its references are written out."
            raise RelayError(Cause.INVALID_PARAMETER, message, param=self._param)
        if not isinstance(schema, dict):
            return {}
        followed: list[str] = []
        try:
            while isinstance(ref := schema.get("$ref"), str):
                beside = {key: value for key, value in schema.items() if key != "$ref"}
                if ref in self._open:
                    return {"type": "OBJECT", **_told(beside)}
                self._open.add(ref)
                followed.append(ref)
                schema = {**self._target(ref), **beside}
            return self._body(schema, depth)
        finally:
            self._open.difference_update(followed)

    def _target(self, ref: str) -> Json:
        """What a reference inside the document leads to; {} for one that leads nowhere."""
        found: Any = self._root if ref.startswith("#") else None
        for step in unquote(ref[1:]).split("/")[1:]:
            step = step.replace("~1", "/").replace("~0", "~")
            if isinstance(found, list) and step.isdecimal() and len(step) < 6 and int(step) < len(found):
                found = found[int(step)]
            else:
                found = found.get(step) if isinstance(found, dict) else None
        return found if isinstance(found, dict) else {}

    def _body(self, schema: Json, depth: int) -> Json:
        out = _told(schema)
        kinds = _kinds(schema)
        values = _values(schema)
        nullable = "null" in kinds or schema.get("nullable") is True or (values is not None and None in values)
        kinds = [kind for kind in kinds if kind in _KINDS]
        if len(kinds) > 1:
            out["anyOf"] = [self._of(_KINDS[kind], schema, values, depth) for kind in kinds]
        elif kinds:
            out.update(self._of(_KINDS[kinds[0]], schema, values, depth))
        for part in _list(schema.get("allOf")):
            out = _merged(out, self._loose(part, depth + 1))
        for union in _UNIONS:
            branches = _list(schema.get(union))
            nullable = nullable or any(_is_null(branch) for branch in branches)
            out = self._with_union(out, [branch for branch in branches if not _is_null(branch)], depth)
        if nullable:
            out["nullable"] = True
        return out

    def _with_union(self, out: Json, branches: list[Any], depth: int) -> Json:
        """A union may stand for itself only. Beside an object's properties it becomes more properties."""
        found = [self._loose(branch, depth + 1) for branch in branches]
        if len(found) == 1:
            return _merged(out, found[0])
        if not found or "anyOf" in out:
            return out
        if "type" not in out:
            distinct = [_settled(branch) for at, branch in enumerate(found) if branch not in found[:at]]
            return {**out, "anyOf": distinct}
        for branch in found:
            out = _merged(out, {key: value for key, value in branch.items() if key == "properties"})
        return out

    def _of(self, kind: str, schema: Json, values: list[Any] | None, depth: int) -> Json:
        out: Json = {"type": kind}
        for name in _BOUNDS[kind]:
            if _is_number(schema.get(name)):
                out[name] = schema[name]
        if schema.get("format") in _FORMATS[kind]:
            out["format"] = schema["format"]
        match kind:
            case "STRING":
                self._string(out, schema, values)
            case "INTEGER" | "NUMBER":
                _number(out, schema, values)
            case "ARRAY":
                self._array(out, schema, depth)
            case "OBJECT":
                self._object(out, schema, depth)
        return out

    def _string(self, out: Json, schema: Json, values: list[Any] | None) -> None:
        texts = list(dict.fromkeys(value for value in values or () if isinstance(value, str) and value))
        if texts:
            out.update(format="enum", enum=texts)
        elif isinstance(schema.get("pattern"), str):
            out["pattern"] = schema["pattern"]

    def _array(self, out: Json, schema: Json, depth: int) -> None:
        items = schema.get("items")
        several = [*_list(schema.get("prefixItems")), *_list(items)]
        if several:
            items = several[0] if len(several) == 1 else {"anyOf": several}
            if "prefixItems" in schema:
                out.setdefault("minItems", len(several))
        out["items"] = self.write(items, depth + 1) if items else {"type": "STRING"}

    def _object(self, out: Json, schema: Json, depth: int) -> None:
        given = schema.get("properties")
        if not isinstance(given, dict):
            return
        found = {name: self.write(inner, depth + 1) for name, inner in given.items() if inner is not False}
        required = schema.get("required")
        if found:
            out["properties"] = found
            out["propertyOrdering"] = list(found)
        if isinstance(required, list):
            named = [name for name in dict.fromkeys(str(name) for name in required) if name in found]
            if named:
                out["required"] = named


def _told(schema: Json) -> Json:
    return {key: value for key in ("title", "description") if isinstance(value := schema.get(key), str) and value}


def _kinds(schema: Json) -> list[str]:
    """The types that a schema names, or the one that its other words betray."""
    said = schema.get("type")
    if isinstance(said, str):
        return [said.lower()]
    if isinstance(said, list):
        return list(dict.fromkeys(kind.lower() for kind in said if isinstance(kind, str)))
    values = _values(schema)
    if values:
        return list(dict.fromkeys(kind for value in values if (kind := _kind_of(value))))
    if isinstance(schema.get("properties"), dict):
        return ["object"]
    if any(union in schema for union in (*_UNIONS, "allOf")):
        return []
    return next(([kind] for kind, words in _TELLTALE.items() if any(word in schema for word in words)), [])


def _kind_of(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case str():
            return "string"
        case int():
            return "integer"
        case float():
            return "number"
    return ""


def _values(schema: Json) -> list[Any] | None:
    if "const" in schema:
        return [schema["const"]]
    enum = schema.get("enum")
    return enum if isinstance(enum, list) else None


def _number(out: Json, schema: Json, values: list[Any] | None) -> None:
    """Exclusive bounds as inclusive ones. Only texts can be enumerated, so numbers are told instead."""
    step = 1 if out["type"] == "INTEGER" else 0
    for name, inclusive, shift in (("exclusiveMinimum", "minimum", step), ("exclusiveMaximum", "maximum", -step)):
        if _is_number(schema.get(name)):
            out.setdefault(inclusive, schema[name] + shift)
    numbers = [str(value) for value in values or () if _is_number(value)]
    if numbers:
        told = f"One of: {', '.join(numbers)}."
        said = schema.get("description")
        out["description"] = f"{said} {told}" if isinstance(said, str) and said else told


def _merged(one: Json, other: Json) -> Json:
    """Both at once, as far as it can be said: an object has the properties of both, else the first word counts."""
    out = {**other, **one}
    if "properties" in one and "properties" in other:
        out["properties"] = {**other["properties"], **one["properties"]}
    if "properties" in out:
        out["type"] = "OBJECT"
        out["propertyOrdering"] = list(out["properties"])
    if "required" in one and "required" in other:
        out["required"] = list(dict.fromkeys([*one["required"], *other["required"]]))
    return _fitting(out) if "type" in out else out


def _fitting(schema: Json) -> Json:
    """What the schema's type has words for, of parts that may have been of different types."""
    kind = schema["type"]
    words = {*_ANYBODYS, *_OWN[kind], *_BOUNDS[kind]}
    if schema.get("format") in (*_FORMATS[kind], *(("enum",) if kind == "STRING" and "enum" in schema else ())):
        words.add("format")
    return {key: value for key, value in schema.items() if key in words}


def _settled(schema: Json) -> Json:
    """With a type, or as a union that has nothing beside it: what was said of the union is said of its branches."""
    if "type" in schema and "anyOf" not in schema:
        return schema
    branches = schema.get("anyOf") or [
        {"type": "STRING"}, {"type": "NUMBER"}, {"type": "BOOLEAN"}, {"type": "OBJECT"},
        {"type": "ARRAY", "items": {"type": "STRING"}},
    ]  # fmt: skip
    shared: Json = {key: schema[key] for key in ("title", "description", "nullable") if key in schema}
    settled = [_settled({**shared, **branch}) for branch in branches]
    return {"anyOf": [inner for branch in settled for inner in branch.get("anyOf", [branch])]}


def _is_null(schema: Any) -> bool:
    return isinstance(schema, dict) and (schema.get("type") in ("null", ["null"]) or schema.get("enum") == [None])


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


# ---- the way back ---------------------------------------------------------------------------------------------------

_SNAKE = {
    "any_of": "anyOf", "min_items": "minItems", "max_items": "maxItems", "min_length": "minLength",
    "max_length": "maxLength", "min_properties": "minProperties", "max_properties": "maxProperties",
    "property_ordering": "propertyOrdering",
}  # fmt: skip
_COUNTS = ("minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties")


def from_gemini(schema: Any, depth: int = 0) -> Json:
    """JSON Schema for a schema in Gemini's dialect. Words that are not of the dialect are kept: many clients write JSON
    Schema there. Raises RelayError for one nested too deeply."""
    if depth > _DEEPEST:
        raise RelayError(Cause.INVALID_PARAMETER, "A schema is nested too deeply.", param="tools")
    if not isinstance(schema, dict):
        return {}
    named: Json = {str(_SNAKE.get(key, key)): value for key, value in schema.items()}
    nullable, order = named.pop("nullable", None), named.pop("propertyOrdering", None)
    named.pop("example", None)
    if named.get("format") == "enum":
        del named["format"]
    out = {key: _read(key, value, depth) for key, value in named.items()}
    if out.get("type") is None:
        out.pop("type", None)
    if isinstance(order, list) and isinstance(properties := out.get("properties"), dict):
        first = {name: properties[name] for name in order if isinstance(name, str) and name in properties}
        out["properties"] = {**first, **properties}
    return _nullable(out) if nullable is True else out


def _read(key: str, value: Any, depth: int) -> Any:
    match key, value:
        case "type", str():
            kind = value.lower()
            return kind if kind in _KINDS or kind == "null" else None
        case "type", list():
            return [kind.lower() for kind in value if isinstance(kind, str)]
        case "properties", dict():
            return {name: from_gemini(inner, depth + 1) for name, inner in value.items()}
        case "items", dict():
            return from_gemini(value, depth + 1)
        case "anyOf", list():
            return [from_gemini(inner, depth + 1) for inner in value]
    if key in _COUNTS and isinstance(value, str) and value.isdecimal() and len(value) < 20:
        return int(value)  # the wire writes 64-bit numbers as texts
    return value


def _nullable(schema: Json) -> Json:
    kind = schema.get("type")
    if isinstance(kind, str) and kind != "null":
        schema["type"] = [kind, "null"]
        if isinstance(schema.get("enum"), list) and None not in schema["enum"]:
            schema["enum"] = [*schema["enum"], None]
    elif isinstance(schema.get("anyOf"), list):
        schema["anyOf"] = [*schema["anyOf"], {"type": "null"}]
    return schema
