"""What an answer put out, as the counting wants it, from the hub's values. Pure."""

import msgspec

from billing import usage
from billing.usage import Usage
from relay.counting.output import Output, Text
from relay.protocols import searches
from relay.protocols.canonical import Finish, Media, Part, Raw, Reasoning, Refusal, Response, ToolCall
from relay.protocols.canonical import Text as TextPart

_ENDS_BY_ITSELF = frozenset((Finish.STOP, Finish.STOP_SEQUENCE, Finish.TOOL_CALLS))


def place(part: Part, number: int, seen: Output) -> Text | None:
    """Where this part's text is counted; None for one that has none. A search is counted at once."""
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
        case Raw():
            seen.searches += searches.is_one(part)
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


def used(response: Response) -> Usage | None:
    """What the provider reported of a whole answer, with the searches in it where it does not tell their number."""
    found = sum(searches.is_one(part) for part in response.parts if isinstance(part, Raw))
    return usage.searched(response.usage, found) if response.usage is not None else None


def output_bytes(response: Response) -> int:
    """The size of what was put out, as JSON has it."""
    return of(response, "").size
