"""An answer in JSON, asked for in words where the model cannot be bound to it. Pure."""

import msgspec

from relay.protocols.canonical import OPENAI, Format, Message, Text, Wire

ONLY_JSON = "Answer with one JSON object and nothing else: no other words, no Markdown fence."
ONLY_JSON_OF = "Answer with JSON and nothing else: no other words, no Markdown fence. It has to fit this JSON Schema:\n"


def instruction(wanted: Format) -> str:
    if not wanted.schema:
        return ONLY_JSON
    return ONLY_JSON_OF + msgspec.json.encode(wanted.schema).decode()


def turn(wanted: Format) -> Message:
    return Message(role="system", parts=[Text(text=instruction(wanted))])


def missing(wanted: Format, messages: list[Message], owner: Wire, *, json_mode: bool) -> bool:
    """Whether an upstream of OpenAI's, which is not bound to the schema, has to be told of it: JSON mode knows no
    schema, and is refused without its word in the conversation (OpenAI, "Structured outputs", JSON mode). OpenAI's own
    clients know that, and what they say stays as it is."""
    return wanted.schema is not None or not json_mode or (owner not in OPENAI and not mentioned(messages))


def mentioned(messages: list[Message]) -> bool:
    """Whether somebody says JSON. What the model said is left out: from turn to turn the answer would be another, and
    with it the prefix that the upstream has cached."""
    spoken = [message for message in messages if message.role != "assistant"]
    texts = [part.text for message in spoken for part in message.parts if isinstance(part, Text)]
    return any("json" in text.lower() for text in texts)
