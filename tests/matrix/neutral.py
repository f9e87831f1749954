"""What a case asks and what the model answers, said in no vendor's words: the matrix translates it into each of them.

Nothing here knows the gateway's own codecs: the official SDKs are the clients, and the providers' wires are written by
hand (`providers`), so a mistake of a codec cannot hide behind itself.
"""

from typing import Any, Literal

import msgspec

Json = dict[str, Any]


class Picture(msgspec.Struct):
    """By its base64 data, or by a URL; `bare`: as a bare string where the SDK lets one."""

    data: str = ""
    url: str = ""
    bare: bool = False


class Call(msgspec.Struct):
    id: str
    name: str
    arguments: Json


class Result(msgspec.Struct):
    id: str
    name: str
    text: str
    picture: Picture | None = None


class Turn(msgspec.Struct):
    role: Literal["user", "assistant"]
    text: str = ""
    pictures: list[Picture] = []
    pdf: str = ""  # base64
    file_url: str = ""
    audio: str = ""  # base64 of a WAV file
    calls: list[Call] = []
    results: list[Result] = []


class Function(msgspec.Struct):
    name: str
    description: str
    schema: Json


class Ask(msgspec.Struct):
    """`choice`: auto, any, none, or the name of a function. `before`: the turn before is asked too, and its answer is
    given back with whatever the SDK got of it (thoughts, signatures)."""

    turns: list[Turn]
    system: str = ""
    tools: list[Function] = []
    choice: str | None = None
    parallel: bool | None = None
    json: bool = False
    schema: Json | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop: list[str] = []
    limit: int | None = 500
    effort: str | None = None
    cache: bool = False


class Usage(msgspec.Struct, frozen=True):
    """In all: `input` contains what was `cached`, `output` what was thought."""

    input: int = 100
    cached: int = 0
    output: int = 50
    reasoning: int = 0


class Plan(msgspec.Struct):
    """What the model does: thinks, says, calls, ends. `signature` is the vendor's for its thoughts or its call.
    `reports`: whether the provider tells the usage."""

    text: str = ""
    thoughts: str = ""
    signature: str = ""
    calls: list[Call] = []
    finish: Literal["stop", "length", "tool", "filter", "sequence"] = "stop"
    sequence: str = ""
    usage: Usage = Usage()
    reports: bool = True


class Outcome(msgspec.Struct):
    """What the SDK made of the answer."""

    text: str = ""
    thoughts: str = ""
    calls: list[Call] = []
    finish: str = ""
    usage: Usage | None = None
    model: str = ""
    error: int = 0  # the HTTP status of a refusal
    raw: Any = None


def pieces(text: str, size: int = 5) -> list[str]:
    """Text as a stream brings it."""
    return [text[at : at + size] for at in range(0, len(text), size)]
