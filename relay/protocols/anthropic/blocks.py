"""Parts of a turn as Anthropic's content blocks, for requests and answers alike. Pure."""

import msgspec

from relay.errors import Cause, RelayError
from relay.protocols import documents, markdown, names, pictures, states
from relay.protocols.anthropic import reading
from relay.protocols.canonical import Json, Mark, Media, Opaque, Reasoning, Refusal, Text, ToolCall
from relay.protocols.capabilities import Capabilities

LONGEST_NAME, LONGEST_ID = 128, 64
SEARCHED = "web_search_result_location"  # the source of a citation, where it is a page that was found
_LIFETIMES = ("5m", "1h")
_PICTURES = frozenset(("image/jpeg", "image/png", "image/gif", "image/webp"))
_object_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])


def cached(block: Json, mark: Mark | None) -> Json:
    """The block with its caching mark, if it has one."""
    if mark is not None:
        block["cache_control"] = {"type": "ephemeral", **({"ttl": mark.ttl} if mark.ttl in _LIFETIMES else {})}
    return block


def text(part: Text | Refusal, *, cited: bool = True) -> Json:
    block: Json = {"type": "text", "text": part.text}
    if isinstance(part, Text):
        if cited and part.citations:
            block["citations"] = part.citations
        cached(block, part.mark)
    return block


def is_own_citation(citation: Json) -> bool:
    """Whether Anthropic would take it: a page that it has found itself bears an index, those of others have none."""
    return citation.get("type") != SEARCHED or bool(citation.get("encrypted_index"))


def tool_use(part: ToolCall, name: str, arguments: str) -> Json:
    called = names.call_id(part.id, LONGEST_ID) or names.new_call_id()
    return cached({"type": "tool_use", "id": called, "name": name, "input": tool_input(arguments)}, part.mark)


def tool_input(arguments: str) -> msgspec.Raw:
    """A call's arguments as an object, byte for byte where they are one. What a model wrote that is none is kept
    inside one, under `arguments`."""
    data = arguments.encode("utf-8", "replace") or b"{}"
    try:
        _object_decoder.decode(data)
    except (msgspec.DecodeError, RecursionError):
        data = msgspec.json.encode({"arguments": data.decode()})
    return msgspec.Raw(data)


def signature(state: Opaque | None) -> str:
    """Of a thought, for a client. Without a state of its own it is marked as nobody's, so that Anthropic never sees
    it; clients drop thoughts with an empty one."""
    return states.wrapped(state or Opaque("openai", ""), native="anthropic")


def thinking(part: Reasoning) -> Json | None:
    """For a client. None for a thought without anything in it."""
    if part.redacted:
        data = states.wrapped(part.state, native="anthropic")
        return {"type": "redacted_thinking", "data": data} if data else None
    if not part.text and part.state is None:
        return None
    return {"type": "thinking", "thinking": part.text, "signature": signature(part.state)}


def own_thinking(part: Reasoning) -> Json | None:
    """For Anthropic: only what it has signed itself."""
    return thinking(part) if part.state is not None and part.state.owner == "anthropic" else None


def carrier(part: Text | ToolCall) -> Json | None:
    """A block that takes the state which Gemini wants back with a call or a text through a client that has no field for
    it there: clients return redacted thoughts as they are. `reading` puts it back into its place."""
    state = part.state
    if state is None or state.owner != "gemini":
        return None
    place = reading.OF_TEXT if isinstance(part, Text) else ""
    return {
        "type": "redacted_thinking",
        "data": states.wrapped(Opaque(state.owner, state.data, place), native="anthropic"),
    }


def picture_as_text(part: Media) -> Json | None:
    """A picture that a model has drawn: answers of this protocol have none, and text may show it."""
    if part.kind != "image" or not (part.url or part.data):
        return None
    return {"type": "text", "text": markdown.shown(part)}


# ---- what is only in requests ---------------------------------------------------------------------------------------


def media(part: Media, caps: Capabilities, *, cited: bool = False) -> Json:
    """Raises RelayError for what the model or the vendor cannot take."""
    if part.kind not in caps.input or part.kind not in ("image", "document"):
        raise _refused(f"The model takes no {_KINDS[part.kind]}.")
    if part.kind == "image":
        return cached({"type": "image", "source": _picture(part, caps)}, part.mark)
    block: Json = {"type": "document", "source": _document(part, caps)}
    if part.name:
        block["title"] = part.name
    if cited:
        block["citations"] = {"enabled": True}
    return cached(block, part.mark)


_KINDS = {"image": "pictures", "document": "documents", "audio": "sound", "video": "video"}


def _refused(message: str) -> RelayError:
    return RelayError(Cause.INVALID_PARAMETER, message, param="messages")


def _file(part: Media) -> Json:
    if part.owner != "anthropic":
        raise _refused(f"The file {part.file[:100]!r} is another provider's: send its content.")
    return {"type": "file", "file_id": part.file}


def _picture(part: Media, caps: Capabilities) -> Json:
    if part.file:
        return _file(part)
    if part.url:
        if not caps.picture_urls:
            raise _refused("The model fetches no pictures: send them as base64.")
        return {"type": "url", "url": part.url}
    mime = picture_type(part)
    if mime is None:
        raise _refused(f"Pictures have to be JPEG, PNG, GIF or WebP, not {part.mime[:100] or 'unknown'}.")
    return {"type": "base64", "media_type": mime, "data": part.data}


def picture_type(part: Media) -> str | None:
    """None for a type that the vendor does not take."""
    said = pictures.true_kind(part.data, "image/jpeg" if part.mime == "image/jpg" else part.mime)
    return said if said in _PICTURES else None


def _document(part: Media, caps: Capabilities) -> Json:
    if part.text is not None:
        return {"type": "text", "media_type": "text/plain", "data": part.text}
    if part.file:
        return _file(part)
    if part.url:
        if not caps.document_urls:
            raise _refused("The model fetches no documents: send them as base64.")
        return {"type": "url", "url": part.url}
    if part.mime == documents.PDF or part.data.startswith("JVBERi"):
        return {"type": "base64", "media_type": documents.PDF, "data": part.data}
    inside = reading.text_of(part.data) if not part.mime or documents.is_text(part.mime) else None
    if inside is None:
        raise _refused(f"Documents have to be PDF or text, not {part.mime[:100] or 'unknown'}.")
    return {"type": "text", "media_type": "text/plain", "data": inside}
