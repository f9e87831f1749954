"""What a model did by itself with tools that its vendor runs, in a history that goes to another. Pure."""

from collections.abc import Callable

import msgspec

from relay.protocols.canonical import Message, Raw


def passed_over(messages: list[Message], *, known: Callable[[Raw], bool]) -> tuple[list[Message], list[str]]:
    """The conversation without those parts of the model's turns that are not `known` where it goes, and what they are
    called: the words that the model found by them are there. A turn of nothing else is left out."""
    out: list[Message] = []
    labels: list[str] = []
    for message in messages:
        foreign = [part.label for part in message.parts if isinstance(part, Raw) and not known(part)]
        if foreign and message.role == "assistant":
            labels += foreign
            parts = [part for part in message.parts if not isinstance(part, Raw) or known(part)]
            if not parts:
                continue
            message = msgspec.structs.replace(message, parts=parts)
        out.append(message)
    return out, list(dict.fromkeys(labels))
