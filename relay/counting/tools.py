"""How OpenAI writes tool definitions into a prompt, for counting them. Pure.

OpenAI does not publish it. Found by others, and in agreement to the token with the reports that were published for
gpt-3.5-turbo, gpt-4 and gpt-4o (the tests have them): the definitions stand in a TypeScript namespace at the end of the
first system message, or in one of their own; a schema's description is written two levels deep, and of its keywords
only those below. For a schema that says what it means elsewhere (`$ref` and the like) there is no rule: it is counted
as the JSON that it is where that is more.
"""

from collections.abc import Callable
from typing import Any

import msgspec

Count = Callable[[str], int]

_ELSEWHERE = (b'"$ref"', b'"allOf"', b'"oneOf"', b'"patternProperties"')
OWN_MESSAGE = 9
SHARED_MESSAGE = 5  # where a system message is there already


def count(functions: list[dict[str, Any]], tokens: Count, *, shared: bool, bound: bool = False) -> int:
    """The tokens of function definitions (objects with `name`, `description`, `parameters`), 0 for none.

    `shared` says that the prompt has a system message. A bound is at least what the JSON itself would take.
    """
    if not functions:
        return 0
    total = tokens(_namespace(functions)) + (SHARED_MESSAGE if shared else OWN_MESSAGE)
    written = msgspec.json.encode(functions)
    if bound or any(word in written for word in _ELSEWHERE):
        total = max(total, tokens(written.decode()) + OWN_MESSAGE)
    return total


def _namespace(functions: list[dict[str, Any]]) -> str:
    lines = ["namespace functions {", ""]
    for function in functions:
        name, parameters = function.get("name", ""), _object(function.get("parameters"))
        lines += _comment(function)
        if properties := _properties(parameters, 0):
            lines += [f"type {name} = (_: {{", properties, "}) => any;", ""]
        else:
            lines += [f"type {name} = () => any;", ""]
    return "\n".join([*lines, "} // namespace functions"])


def _properties(schema: dict[str, Any], depth: int) -> str:
    lines: list[str] = []
    required = schema.get("required")
    for name, inner in _object(schema.get("properties")).items():
        if depth < 2:
            lines += _comment(inner)
        optional = "" if isinstance(required, list) and name in required else "?"
        lines.append(f"{name}{optional}: {_type(_object(inner), depth)},")
    return "\n".join(" " * depth + line for line in lines)


def _type(schema: dict[str, Any], depth: int) -> str:
    if isinstance(choices := schema.get("anyOf"), list):
        return " | ".join(_type(_object(choice), depth) for choice in choices)
    if isinstance(values := schema.get("enum"), list):
        return " | ".join(f'"{value}"' if isinstance(value, str) else str(value) for value in values)
    kind = schema.get("type")
    if kind == "object":
        return "{\n" + _properties(schema, depth + 2) + "\n}"
    if kind == "array":
        return (_type(_object(schema["items"]), depth) if "items" in schema else "any") + "[]"
    return "number" if kind == "integer" else str(kind or "any")


def _comment(schema: Any) -> list[str]:
    return [f"// {text}"] if (text := _object(schema).get("description")) else []


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
