"""How closely a picture is to be looked at: OpenAI's `detail`, Gemini's `mediaResolution`. Pure."""

from collections.abc import Iterable

from relay.protocols.canonical import Media, Message, ToolResult, Wire

USUAL = (None, "auto")
OPENAI = frozenset(("low", "high", "original"))  # OpenAI, "Images and vision"
_NAMES: dict[Wire, str] = {
    "openai": "image_url.detail",
    "responses": "input_image.detail",
    "anthropic": "detail",
    "gemini": "mediaResolution",
}


def lost(
    messages: Iterable[Message], owner: Wire, *, told: Iterable[str] = (), in_results: Iterable[str] = ()
) -> list[str]:
    """The client's name of it, where a picture is looked at otherwise than was asked for. `told` are the words that the
    upstream is given, `in_results` those of pictures inside a tool's result."""
    for message in messages:
        for part in message.parts:
            if isinstance(part, Media) and not _heard(part, told):
                return [_NAMES[owner]]
            inner = part.parts if isinstance(part, ToolResult) else []
            if any(isinstance(one, Media) and not _heard(one, in_results) for one in inner):
                return [_NAMES[owner]]
    return []


def _heard(part: Media, told: Iterable[str]) -> bool:
    return part.detail in USUAL or part.detail in told
