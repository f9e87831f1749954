"""What a model did by itself with tools that its vendor runs, and what it drew, in a history that goes to another.
Pure."""

from collections.abc import Callable, Collection

import msgspec

from relay.protocols.canonical import Media, Message, Part, Raw


def passed_over(
    messages: list[Message], *, known: Callable[[Raw], bool], kinds: Collection[str]
) -> tuple[list[Message], list[str]]:
    """The conversation without those parts of the model's turns that are not `known` where it goes, and without
    pictures where these are none of the `kinds` of input that are taken; and what they are called: the words that the
    model found for them are there. A turn of nothing else is left out."""
    out: list[Message] = []
    labels: list[str] = []
    for message in messages:
        foreign = [label for part in message.parts if (label := _foreign(part, known, kinds))]
        if foreign and message.role == "assistant":
            labels += foreign
            parts = [part for part in message.parts if not _foreign(part, known, kinds)]
            if not parts:
                continue
            message = msgspec.structs.replace(message, parts=parts)
        out.append(message)
    return out, list(dict.fromkeys(labels))


def _foreign(part: Part, known: Callable[[Raw], bool], kinds: Collection[str]) -> str:
    """What a part is called that cannot go there; "" for any other."""
    match part:
        case Raw():
            return "" if known(part) else part.label
        case Media(kind="image") if "image" not in kinds:
            return "image"
    return ""
