"""A request in the hub's values as the counting sees it, whatever protocol it came in. Pure."""

import msgspec

from relay.counting import media, pictures
from relay.counting.prompt import ANSWER, CALL, MESSAGE, NAME, PARALLEL_CALL, Prompt
from relay.errors import Cause, RelayError
from relay.protocols.canonical import (
    Json,
    Media,
    Message,
    Part,
    Raw,
    Reasoning,
    Refusal,
    Request,
    Text,
    ToolCall,
    ToolResult,
)

_HEAD = 400_000  # of a picture's data that may have to be read to find its size


def read(request: Request) -> Prompt:
    """The whole prompt. What only its vendor understands may be in it, and is counted as the JSON that it is."""
    prompt = Prompt(framing=ANSWER + MESSAGE * len(request.messages), media=media_of(request))
    for message in request.messages:
        _read_message(message, prompt)
    prompt.functions = [_definition(tool.name, tool.description, tool.schema) for tool in request.tools if not tool.raw]
    prompt.maybe += [_json(tool.raw.value) for tool in request.tools if tool.raw]
    prompt.maybe += [_json(tool.format) for tool in request.tools if tool.format]
    if request.choice is not None and prompt.functions:
        prompt.choice = {"none": "none", "tool": request.choice.names[0] if request.choice.names else None}.get(
            request.choice.mode
        )
    if request.format is not None and request.format.schema is not None:
        prompt.texts.append(_json(request.format.schema))
    return prompt


def media_of(request: Request) -> list[media.Media]:
    """Raises RelayError for a picture that is too large."""
    return [_measured(part) for part in _all_parts(request.messages) if isinstance(part, Media) and part.text is None]


def _all_parts(messages: list[Message]) -> list[Part]:
    found: list[Part] = []
    for message in messages:
        for part in message.parts:
            found.append(part)
            if isinstance(part, ToolResult):
                found += part.parts
    return found


def _measured(part: Media) -> media.Media:
    inside = len(part.data)
    match part.kind:
        case "image":
            size = pictures.dimensions(part.data[:_HEAD].encode("ascii", "replace")) if inside else None
            picture = media.Picture(inside, size, part.detail or "auto")
            if picture.is_too_large:
                most = media.LARGEST_PICTURE >> 20
                raise RelayError(Cause.INVALID_PARAMETER, f"A picture may have at most {most} MB.", param="messages")
            return picture
        case "document":
            return media.document(memoryview(f'"{part.data}"'.encode())) if inside else media.Document(0)
        case "audio":
            return media.sound(memoryview(f'"{part.data}"'.encode()))
    return media.Film(inside)


def _read_message(message: Message, prompt: Prompt) -> None:
    prompt.texts.append(message.role)
    if message.role == "system" and prompt.system is None:
        prompt.system = len(prompt.texts)
        prompt.texts.append("".join(part.text for part in message.parts if isinstance(part, Text)))
    else:
        for part in message.parts:
            _read_part(part, prompt)
    if message.name:
        prompt.texts.append(message.name)
        prompt.framing += NAME
    calls = sum(isinstance(part, ToolCall) for part in message.parts)
    prompt.framing += CALL if calls == 1 else PARALLEL_CALL * calls
    prompt.framing += MESSAGE * sum(isinstance(part, ToolResult) for part in message.parts)


def _read_part(part: Part, prompt: Prompt) -> None:
    match part:
        case Text() | Refusal():
            prompt.texts.append(part.text)
        case Reasoning():
            prompt.maybe += [part.text, part.state.data if part.state else ""]
        case ToolCall():
            prompt.texts += [part.name, part.arguments]
        case ToolResult():
            for inner in part.parts:
                _read_part(inner, prompt)
        case Media(text=str(text)):
            prompt.texts.append(text)
        case Raw():
            prompt.maybe.append(_json(part.value))


def _definition(name: str, description: str, schema: Json | None) -> Json:
    return {"name": name, "description": description, "parameters": schema or {}}


def _json(value: Json) -> str:
    return msgspec.json.encode(value).decode()
