"""The order of turns, as vendors demand it. Pure: every function returns new lists and leaves the request as it was.

Anthropic and Gemini want user and model to alternate, the user first, and every call answered in the very next turn;
OpenAI wants every call answered. Histories that clients have cut keep to none of it.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Iterable

import msgspec

from relay.errors import Cause, RelayError
from relay.protocols.canonical import Media, Message, Part, Text, ToolCall, ToolResult

NO_RESULT = "No result: the call was interrupted."


def leading_system(messages: list[Message]) -> tuple[list[Message], list[Message]]:
    """The system messages that stand before all others, and the rest."""
    for at, message in enumerate(messages):
        if message.role != "system":
            return messages[:at], messages[at:]
    return messages, []


def instructed(messages: list[Message]) -> tuple[list[Message], list[Message]]:
    """As `leading_system`, for vendors that take the system's words apart and as text alone, and want a turn to answer:
    where only the system has spoken, the user asks in its words."""
    system, rest = leading_system(_system_in_text(messages))
    if rest:
        return system, rest
    return [], [Message(role="user", parts=message.parts) for message in system]


def _system_in_text(messages: list[Message]) -> list[Message]:
    """System turns as text. What else is in one, such as a picture, is the user's right after it: there it is taken, or
    refused by its name."""
    out: list[Message] = []
    for message in messages:
        if message.role != "system":
            out.append(message)
            continue
        texts: list[Part] = [part for part in message.parts if isinstance(part, Text)]
        out.append(msgspec.structs.replace(message, parts=texts))
        if len(texts) < len(message.parts):
            beside: list[Part] = [part for part in message.parts if not isinstance(part, Text)]
            out.append(Message(role="user", parts=beside))
    return out


def system_as_user(messages: list[Message]) -> list[Message]:
    """System turns between others as tagged text of the user, where the upstream knows none: to hoist them would change
    what they mean and break the cached prefix."""
    return [message if message.role != "system" else _tagged(message) for message in messages]


def _tagged(message: Message) -> Message:
    parts: list[Part] = [
        Text(text=f"<system>\n{part.text}\n</system>") if isinstance(part, Text) else part for part in message.parts
    ]
    return Message(role="user", parts=parts)


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


def called_at_once(messages: Iterable[Message]) -> list[Message]:
    """What the model says right after calls is one turn with these, which are answered after all of it. Other
    neighbours stay apart, for vendors that allow them."""
    out: list[Message] = []
    waits = False  # for the results of calls in the turn before
    for message in messages:
        calls = any(isinstance(part, ToolCall) for part in message.parts)
        if waits and message.role == "assistant":
            out[-1].parts += message.parts  # a list of our own
            continue
        waits = calls and message.role == "assistant"
        out.append(msgspec.structs.replace(message, parts=[*message.parts]) if waits else message)
    return out


def drawn_as_seen(messages: list[Message], *, may_stay: Callable[[Media], bool]) -> list[Message]:
    """What a model drew, and what may not stay in its turns where it goes, is what the user shows it right after."""
    out: list[Message] = []
    drawn: list[Part] = []
    for message in messages:
        if message.role == "assistant":
            stays = [not isinstance(part, Media) or may_stay(part) for part in message.parts]
            drawn += [part for part, stay in zip(message.parts, stays, strict=True) if not stay]
            kept = [part for part, stay in zip(message.parts, stays, strict=True) if stay]
            message = msgspec.structs.replace(message, parts=kept)
        elif message.role == "user" and drawn:
            message = msgspec.structs.replace(message, parts=[*_shown(drawn), *message.parts])
            drawn = []
        out.append(message)
    return [*out, Message(role="user", parts=_shown(drawn))] if drawn else out


def _shown(drawn: list[Part]) -> list[Part]:
    return [Text(text="What you drew:"), *drawn]


def without_empty_text(messages: Iterable[Message]) -> list[Message]:
    """Anthropic refuses an empty text block, Gemini a part without content."""
    return [msgspec.structs.replace(message, parts=_spoken(message.parts)) for message in messages]


def _spoken(parts: list[Part]) -> list[Part]:
    return [part for part in parts if not (isinstance(part, Text) and not part.text.strip() and part.state is None)]


def told_apart(messages: list[Message]) -> list[Message]:
    """Calls of one id under different ones, and their results in the same order: some models begin to count anew with
    every turn. Anthropic refuses an id that occurs twice, and Gemini wants the function's name with each result. Wants
    the model's neighbouring turns merged."""
    taken: dict[str, int] = {}
    waiting: defaultdict[str, deque[str]] = defaultdict(deque)
    out = []
    for message in messages:
        parts: list[Part] = []
        if message.role == "assistant":
            waiting.clear()
        for part in message.parts:
            if isinstance(part, ToolCall):
                found = _untaken(part.id, taken)
                waiting[part.id].append(found)
                part = msgspec.structs.replace(part, id=found)
            elif isinstance(part, ToolResult) and waiting[part.call]:
                part = msgspec.structs.replace(part, call=waiting[part.call].popleft())
            parts.append(part)
        out.append(msgspec.structs.replace(message, parts=parts))
    return out


def _untaken(name: str, taken: dict[str, int]) -> str:
    """The name, or the next of those made from it; `taken` has how often each was wanted."""
    found = name
    while found in taken:
        taken[name] += 1
        found = f"{name}_{taken[name]}"
    taken[found] = 1
    return found


def answered(messages: list[Message]) -> list[Message]:
    """Every call answered right after its turn, results first and in the order of the calls, whatever the system or the
    user said before them. A result that is missing is told as a failure; one whose call is not there becomes the user's
    words where it stands. Wants the model's neighbouring turns merged."""
    out: list[Message] = []
    calls: list[ToolCall] = []
    since: list[Message] = []
    for message in messages:
        if message.role != "assistant":
            since.append(message)
            continue
        out += [*_results_first(calls, since), message]
        calls, since = [part for part in message.parts if isinstance(part, ToolCall)], []
    return out + _results_first(calls, since)


def answered_anywhere(messages: list[Message]) -> list[Message]:
    """Every call answered and no result without its call, for a vendor that pairs the two by their id wherever they
    stand. Mended where it is cut; all else stays as it is, for the sake of the cached prefix."""
    everything = [part for message in messages for part in message.parts]
    calls = {part.id for part in everything if isinstance(part, ToolCall)}
    results = {part.call for part in everything if isinstance(part, ToolResult)}
    out: list[Message] = []
    for message in messages:
        parts: list[Part] = []
        for part in message.parts:
            parts += _as_said(part) if isinstance(part, ToolResult) and part.call not in calls else [part]
        out.append(msgspec.structs.replace(message, parts=parts))
        cut = [part for part in message.parts if isinstance(part, ToolCall) and part.id not in results]
        if cut:
            out.append(Message(role="user", parts=[_missing(call) for call in cut]))
    return out


def _results_first(calls: list[ToolCall], since: list[Message]) -> list[Message]:
    """The turns since the calls, the results before all else. Calls of one id get theirs in their order."""
    results: list[Part] = [_missing(call) for call in calls]
    places: defaultdict[str, deque[int]] = defaultdict(deque)
    for place, call in enumerate(calls):
        places[call.id].append(place)
    rest: list[Message] = []
    for message in since:
        kept: list[Part] = []
        for part in message.parts:
            if isinstance(part, ToolResult) and places[part.call]:
                results[places[part.call].popleft()] = part
            else:
                kept += _as_said(part) if isinstance(part, ToolResult) else [part]
        if kept or not message.parts:
            rest.append(msgspec.structs.replace(message, parts=kept))
    if not results:
        return rest
    if not rest or rest[0].role != "user":
        return [Message(role="user", parts=results), *rest]
    rest[0].parts = [*results, *rest[0].parts]
    return rest


def _missing(call: ToolCall) -> ToolResult:
    return ToolResult(call=call.id, name=call.name, parts=[Text(text=NO_RESULT)], failed=True, custom=call.custom)


def _as_said(result: ToolResult) -> list[Part]:
    """In words, with the pictures where the words end."""
    said = "\n".join(part.text for part in result.parts if isinstance(part, Text))
    shown = [part for part in result.parts if isinstance(part, Media)]
    if not shown:
        return [Text(text=f"<tool_result>\n{said}\n</tool_result>")]
    return [Text(text=f"<tool_result>\n{said}"), *shown, Text(text="</tool_result>")]


def user_first(messages: list[Message]) -> list[Message]:
    """Some upstreams refuse a conversation that the model begins."""
    if messages and messages[0].role == "assistant":
        return [Message(role="user", parts=[Text(text="(The conversation begins here.)")]), *messages]
    return messages


def refuse_without_turns(messages: list[Message]) -> None:
    """Raises RelayError where there is nothing to answer."""
    if not messages:
        raise RelayError(Cause.INVALID_MESSAGES, "There is no message to answer.", param="messages")
