"""Tools with free text for upstreams that have none, and names that an upstream cannot take. Pure.

A custom tool becomes a function with one argument, `input`; in the answer the argument's text is the call's again.
"""

from collections.abc import Iterable

import msgspec

from relay.protocols.canonical import Json, Tool, ToolCall
from relay.protocols.codec import Encoded
from relay.protocols.events import Event, PartDelta, PartEnded, PartStarted


class _Input(msgspec.Struct):
    input: str


_decoder = msgspec.json.Decoder(_Input)


def as_function(tool: Tool) -> Tool:
    """The function that stands for a custom tool; its grammar is told in the description."""
    told = tool.description
    if tool.format and tool.format.get("type") == "grammar":
        grammar = tool.format.get("grammar") or tool.format
        syntax, rules = grammar.get("syntax", ""), grammar.get("definition", "")
        told += f"\n\nThe input has to follow this {syntax} grammar:\n{rules}"
    schema: Json = {
        "type": "object",
        "properties": {"input": {"type": "string", "description": "The tool's whole input, as plain text."}},
        "required": ["input"],
        "additionalProperties": False,
    }
    return Tool(name=tool.name, description=told.strip(), schema=schema, mark=tool.mark)


def arguments_for(text: str) -> str:
    """A custom call of the history as that function's arguments."""
    return msgspec.json.encode(_Input(text)).decode()


def input_of(arguments: str) -> str:
    """The text inside such arguments; what a model wrote otherwise is taken as it is."""
    try:
        return _decoder.decode(arguments.encode()).input
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return arguments


class Restorer:
    """Events with the tools' names and kinds as the client knows them. A custom call's text comes once it is whole:
    inside JSON it cannot be told from its escapes before."""

    def __init__(self, sent: Encoded) -> None:
        self._sent = sent
        self._gathered: dict[int, list[str]] = {}

    def feed(self, events: Iterable[Event]) -> list[Event]:
        out: list[Event] = []
        for event in events:
            if isinstance(event, PartStarted) and isinstance(event.part, ToolCall):
                self._begin(event.number, event.part)
                out.append(event)
            elif isinstance(event, PartDelta) and event.number in self._gathered:
                self._gathered[event.number].append(event.text)
            elif isinstance(event, PartEnded) and event.number in self._gathered:
                text = input_of("".join(self._gathered.pop(event.number)))
                out += [PartDelta(event.number, text), event]
            else:
                out.append(event)
        return out

    def _begin(self, number: int, part: ToolCall) -> None:
        if part.name in self._sent.customs:
            part.custom = True
            self._gathered[number] = [part.arguments]
            part.arguments = ""
        part.name = self._sent.names.get(part.name, part.name)
