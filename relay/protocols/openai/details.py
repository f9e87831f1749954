"""`reasoning_details`: thoughts with the state that their vendor wants back, as OpenRouter writes them. Pure.

OpenAI's chat has no field for it. Clients that keep these entries bring them back as they were, so a signature comes
home through a chat client too. The entry's `format` says whose state it is.
"""

from typing import Any

import msgspec

from relay.counting import families
from relay.protocols.canonical import Json, Opaque, Owner, Reasoning

_FORMATS: dict[Owner, str] = {
    "anthropic": "anthropic-claude-v1",
    "openai": "openai-responses-v1",
    "gemini": "google-gemini-v1",
}
_OWNERS: dict[str, Owner] = {"anthropic": "anthropic", "openai": "openai", "google": "gemini"}


def read(entries: Any, spoken: str = "") -> list[Reasoning]:
    """The thoughts of a whole message. `spoken` is their text from the message's other field, used where the entries
    have none."""
    found = _read(entries) if isinstance(entries, list) else []
    open_ones = [part for part in found if not part.redacted]
    if not spoken or any(part.text for part in open_ones):
        return found
    if len(open_ones) == 1:
        open_ones[0].text = spoken
        return found
    return [Reasoning(text=spoken), *(part for part in found if part.redacted)]


def _read(entries: list[Any]) -> list[Reasoning]:
    found: list[Reasoning] = []
    unsigned: tuple[Any, bool, Owner | None] | None = None  # of the last part, while its state may still follow
    for entry in (apart for given in entries for apart in _apart(given)):
        text, state, summary = text_of(entry), state_of(entry), is_summary(entry)
        owner = _owner(entry)
        if text is None:
            if state is None:
                continue
            if unsigned is not None and takes_late(state) and unsigned[2] in (owner, None):
                found[-1].state = state
            else:
                found.append(Reasoning(state=state, redacted=True))
            unsigned = None
            continue
        if unsigned is not None and entry.get("index") is not None and unsigned[:2] == (entry["index"], summary):
            found[-1].text += text  # a client that gathered the pieces of a stream without joining them
            found[-1].state = state
        else:
            found.append(Reasoning(text=text, state=state, summary=summary))
        unsigned = None if state else (entry.get("index"), summary, owner)
    return found


def write(parts: list[Reasoning]) -> list[Json]:
    """Entries for all of these thoughts, none where none has a state: then their text is all there is."""
    return entries(parts) if any(part.state for part in parts) else []


def entries(parts: list[Reasoning], first: int = 0) -> list[Json]:
    """Each under an `index` of its own, from `first` on: OpenAI's SDK makes one entry of those that share one."""
    found = [entry for part in parts for entry in _entries_of(part)]
    return [{**entry, "index": index} for index, entry in enumerate(found, first)]


def _entries_of(part: Reasoning) -> list[Json]:
    state, kind = part.state, "summary" if part.summary else "text"
    head: Json = {"type": f"reasoning.{kind}", kind: part.text}
    if state is None:
        return [{**head, "format": None}]
    base: Json = {"id": state.id or None, "format": _FORMATS[state.owner]}
    if state.owner == "anthropic" and not part.redacted:
        return [{**head, "signature": state.data, **base}]
    sealed: Json = {"type": "reasoning.encrypted", "data": state.data, **base}
    return [sealed] if part.redacted else [{**head, **base}, sealed]


# ---- what passes ----------------------------------------------------------------------------------------------------

_FIELD = "reasoning_details"
_QUOTED = b'"%b"' % _FIELD.encode()
# Whose models these are, by the beginning of the name of the family that counts them.
_FAMILIES: dict[Owner, tuple[str, ...]] = {
    "anthropic": ("claude",),
    "openai": ("gpt", "newer GPT", "o-", "o4", "computer-use"),
    "gemini": ("gemini",),
}
_fields_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
_list_decoder = msgspec.json.Decoder(list[msgspec.Raw] | None)
_entry_decoder = msgspec.json.Decoder(Json)


def may_be_in(body: bytes) -> bool:
    return _QUOTED in body


def without_foreign(messages: list[msgspec.Raw], model: str) -> list[msgspec.Raw]:
    """The messages without entries that bear the state of another vendor than the model's; the very same list where
    there is none. A model whose name says nothing may be anybody's: it keeps them all."""
    family = families.of(model).name
    if family == families.UNKNOWN:
        return messages
    foreign = {owner for owner, names in _FAMILIES.items() if not family.startswith(names)}
    own = [_own(message, foreign) for message in messages]
    return messages if own == messages else own


def _own(message: msgspec.Raw, foreign: set[Owner]) -> msgspec.Raw:
    if not may_be_in(bytes(message)):
        return message
    try:
        fields: dict[str, Any] = _fields_decoder.decode(message)
        given = _list_decoder.decode(fields.pop(_FIELD, b"null")) or []
        own = [entry for entry in given if _owner(_entry_decoder.decode(entry)) not in foreign]
    except (msgspec.DecodeError, RecursionError):
        return message  # the upstream says what is wrong with it
    if own == given:
        return message
    return msgspec.Raw(msgspec.json.encode({**fields, _FIELD: own} if own else fields))


# ---- one entry ------------------------------------------------------------------------------------------------------


def _apart(entry: Any) -> list[Json]:
    """The two entries of a thought that came under one index, and that OpenAI's SDK has made one of: the last type
    stays, and what both had as text stands there twice in a row."""
    if not isinstance(entry, dict):
        return []
    kind = next((kind for kind in ("summary", "text") if _text(entry.get(kind))), None)
    if kind is None or entry.get("type") != "reasoning.encrypted":
        return [entry]
    head = {"type": f"reasoning.{kind}", kind: entry[kind], "format": entry.get("format")}
    half = _text(entry.get("id"))[: len(_text(entry.get("id"))) // 2]
    return [head, {**entry, "id": half} if entry.get("id") == 2 * half else entry]


def takes_late(state: Opaque) -> bool:
    """Whether it belongs to the thoughts that were told just before it. Anthropic's redacted ones stand alone."""
    return state.owner != "anthropic"


def is_summary(entry: Json) -> bool:
    return entry.get("type") == "reasoning.summary"


def text_of(entry: Json) -> str | None:
    """None for an entry that has only state."""
    if entry.get("type") == "reasoning.encrypted":
        return None
    return _text(entry.get("summary" if is_summary(entry) else "text"))


def state_of(entry: Json) -> Opaque | None:
    data = _text(entry.get("data" if entry.get("type") == "reasoning.encrypted" else "signature"))
    owner = _owner(entry)
    return Opaque(owner, data, _text(entry.get("id"))) if owner and data else None


def _owner(entry: Json) -> Owner | None:
    return _OWNERS.get(_text(entry.get("format")).partition("-")[0])


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
