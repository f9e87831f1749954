"""A conversation as Gemini's `systemInstruction` and `contents`. Pure.

User and model take turns, the user first. The results of calls stand alone in the content right after them, one for
each call: any part beside them counts as a result too many ("Please ensure that the number of function response parts
is equal to the number of function call parts"). What else the user said then follows in a content of its own.
"""

from collections.abc import Mapping

from relay.protocols import turns
from relay.protocols.canonical import Json, Media, Message, Part, Text, ToolResult, names_of_calls
from relay.protocols.capabilities import Capabilities
from relay.protocols.gemini import media, parts, signatures


def encode(messages: list[Message], renamed: Mapping[str, str], caps: Capabilities) -> tuple[list[Json], list[Json]]:
    """The parts of the system instruction, and the contents. Raises RelayError where there is nothing to answer."""
    if caps.signatures:
        messages = turns.drawn_as_seen(messages, may_stay=_is_signed)
    system, rest = turns.instructed(messages)
    spoken = turns.merged(turns.without_empty_text(turns.system_as_user(rest)))
    history = turns.user_first(turns.answered(turns.told_apart(spoken)))
    turns.refuse_without_turns(history)
    calls = names_of_calls(history)
    contents: list[Json] = []
    for message in history:
        if message.role == "assistant":
            contents += _model(message, renamed, calls, caps)
        else:
            contents += _user(message, renamed, calls, caps)
    return _system(system), contents


def _is_signed(part: Media) -> bool:
    """From Gemini 3 on a picture in the model's turn has to bear the signature that it was drawn with ("Image part is
    missing a thought_signature in content position 2"), which clients of text have no field for."""
    return part.kind != "image" or signatures.for_upstream(part.state) != ""


def _system(messages: list[Message]) -> list[Json]:
    texts = [part.text for message in messages for part in message.parts if isinstance(part, Text)]
    return [{"text": text} for text in texts if text]


def _model(message: Message, renamed: Mapping[str, str], calls: Mapping[str, str], caps: Capabilities) -> list[Json]:
    found = _encoded(message.parts, renamed, calls, caps, closely=caps.part_resolution)
    first = next((part for part in found if "functionCall" in part), None)
    if first is not None and caps.signatures:
        first.setdefault("thoughtSignature", signatures.SKIP)
    return [{"role": "model", "parts": found}] if found else []


def _user(message: Message, renamed: Mapping[str, str], calls: Mapping[str, str], caps: Capabilities) -> list[Json]:
    results = [part for part in message.parts if isinstance(part, ToolResult)]
    rest: list[Part] = [part for part in message.parts if not isinstance(part, ToolResult)]
    answers = _encoded([*results], renamed, calls, caps)
    beside: list[Part] = []
    for result, answer in zip(results, answers, strict=True):
        shown = [part for part in result.parts if isinstance(part, Media)]
        if shown and caps.result_media:
            answer["functionResponse"]["parts"] = _encoded([*shown], renamed, calls, caps)
        elif shown:
            name = answer["functionResponse"]["name"]
            beside += [Text(text=f"What {name} returned for the call {result.call}:"), *shown]
    found = _encoded([*beside, *rest], renamed, calls, caps, closely=caps.part_resolution)
    return [{"role": "user", "parts": group} for group in (answers, found) if group]


def _encoded(
    given: list[Part],
    renamed: Mapping[str, str],
    calls: Mapping[str, str],
    caps: Capabilities,
    *,
    closely: bool = False,
) -> list[Json]:
    found = [(part, parts.for_upstream(part, renamed, calls, caps.input)) for part in given]
    return [
        {**wire, **media.closely(part)} if closely and isinstance(part, Media) else wire
        for part, wire in found
        if wire is not None
    ]
