"""What an answer put out, as the counting wants it, from the hub's values. Pure."""

import msgspec

from relay.counting.output import Output, Text
from relay.protocols.canonical import Finish, Media, Part, Raw, Reasoning, Refusal, Response, ToolCall
from relay.protocols.canonical import Text as TextPart

_ENDS_BY_ITSELF = frozenset((Finish.STOP, Finish.STOP_SEQUENCE, Finish.TOOL_CALLS))


def place(part: Part, number: int, seen: Output) -> Text | None:
    """Where this part's text is counted; None for one that has none."""
    match part:
        case TextPart():
            return seen.text(0, "content")
        case Refusal():
            return seen.text(0, "refusal")
        case Reasoning():
            return seen.text(0, "reasoning")
        case ToolCall():
            add(seen.text(0, "name", number), part.name)
            return seen.text(0, "arguments", number)
    return None


def add(text: Text, more: str) -> None:
    if more:
        text.add(msgspec.Raw(msgspec.json.encode(more)))


def of(response: Response, upstream_model: str) -> Output:
    """Of a whole answer."""
    seen = Output(upstream_model)
    for number, part in enumerate(response.parts):
        where = place(part, number, seen)
        if where is None:
            continue
        assert not isinstance(part, Media | Raw)
        add(where, part.arguments if isinstance(part, ToolCall) else getattr(part, "text", ""))
    seen.ended += response.finish in _ENDS_BY_ITSELF
    return seen


def output_bytes(response: Response) -> int:
    """The size of what was put out, as JSON has it."""
    return of(response, "").size
