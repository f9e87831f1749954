"""The order of turns, as vendors demand it. Pure: every function returns new lists and leaves the request as it was.

Anthropic and Gemini want user and model to alternate, the user first, and every call answered in the very next turn;
OpenAI wants every call answered. Histories that clients have cut keep to none of it.
"""

from collections.abc import Iterable

import msgspec

from relay.errors import Cause, RelayError
from relay.protocols.canonical import Message, Part, Text, ToolCall, ToolResult

NO_RESULT = "No result: the call was interrupted."


def leading_system(messages: list[Message]) -> tuple[list[Message], list[Message]]:
    """The system messages that stand before all others, and the rest."""
    for at, message in enumerate(messages):
        if message.role != "system":
            return messages[:at], messages[at:]
    return messages, []


def system_as_user(messages: list[Message]) -> list[Message]:
    """System turns between others as tagged text of the user, where the upstream knows none: to hoist them would change
    what they mean and break the cached prefix."""
    return [message if message.role != "system" else _tagged(message) for message in messages]


def _tagged(message: Message) -> Message:
    texts = [part.text for part in message.parts if isinstance(part, Text)]
    return Message(role="user", parts=[Text(text=f"<system>\n{text}\n</system>") for text in texts])


def merged(messages: Iterable[Message]) -> list[Message]:
    """Neighbours of one role as one turn; a turn without parts is left out."""
    out: list[Message] = []
    for message in messages:
        if not message.parts:
            continue
        if out and out[-1].role == message.role:
            out[-1].parts += message.parts  # a list of our own: a new one each time would take their square
        else:
            out.append(msgspec.structs.replace(message, parts=[*message.parts]))
    return out


def without_empty_text(messages: Iterable[Message]) -> list[Message]:
    """Anthropic refuses an empty text block, Gemini a part without content."""
    return [msgspec.structs.replace(message, parts=_spoken(message.parts)) for message in messages]


def _spoken(parts: list[Part]) -> list[Part]:
    return [part for part in parts if not (isinstance(part, Text) and not part.text.strip() and part.state is None)]


def answered(messages: list[Message]) -> list[Message]:
    """Every call answered in the turn that follows it, results first and in the order of the calls. A result that is
    missing is told as a failure; one whose call is not there becomes text. Wants merged turns."""
    out: list[Message] = []
    waiting: list[ToolCall] = []
    for message in messages:
        if message.role == "user":
            message = _with_results(message, waiting)
        elif waiting:
            out.append(_with_results(Message(role="user", parts=[]), waiting))
        out.append(message)
        waiting = [part for part in message.parts if isinstance(part, ToolCall)]
    if waiting:
        out.append(_with_results(Message(role="user", parts=[]), waiting))
    return out


def _with_results(message: Message, calls: list[ToolCall]) -> Message:
    given = {part.call: part for part in message.parts if isinstance(part, ToolResult)}
    results: list[Part] = [given.pop(call.id) if call.id in given else _missing(call) for call in calls]
    orphans: list[Part] = [_as_text(result) for result in given.values()]
    rest = [part for part in message.parts if not isinstance(part, ToolResult)]
    return Message(role="user", parts=[*results, *orphans, *rest], name=message.name)


def _missing(call: ToolCall) -> ToolResult:
    return ToolResult(call=call.id, name=call.name, parts=[Text(text=NO_RESULT)], failed=True, custom=call.custom)


def _as_text(result: ToolResult) -> Text:
    said = "\n".join(part.text for part in result.parts if isinstance(part, Text))
    return Text(text=f"<tool_result>\n{said}\n</tool_result>")


def user_first(messages: list[Message]) -> list[Message]:
    """Some upstreams refuse a conversation that the model begins."""
    if messages and messages[0].role == "assistant":
        return [Message(role="user", parts=[Text(text="(The conversation begins here.)")]), *messages]
    return messages


def refuse_without_turns(messages: list[Message]) -> None:
    """Raises RelayError where there is nothing to answer."""
    if not messages:
        raise RelayError(Cause.INVALID_MESSAGES, "There is no message to answer.", param="messages")
