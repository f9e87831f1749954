"""A Gemini client's contents without the state of other vendors' models, which is theirs alone. Pure.

What the gateway has not marked stays the bytes that it was. A call that has no signature gets the word that Google has
for it where the model wants one ("Thought signatures"): from Gemini 3 on the first call of each step in the current
turn, and in none before that.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from relay.protocols.gemini import signatures

_FIELDS = ("thoughtSignature", "thought_signature")
_CALLS = ("functionCall", "function_call")
_RESULTS = ("functionResponse", "function_response")
_QUOTED_CALLS = tuple(b'"%b"' % name.encode() for name in _CALLS)
_EMPTY = (b'""', b"null")
_NULL, _NONE = msgspec.Raw(b"null"), msgspec.Raw(b"[]")
_fields_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
_list_decoder = msgspec.json.Decoder(list[msgspec.Raw])
_role_decoder = msgspec.json.Decoder(str | None)


def is_foreign(raw: msgspec.Raw) -> bool:
    """Whether this is the signature of another vendor's model."""
    if not signatures.may_be_foreign(bytes(raw)):
        return False
    state = signatures.read(msgspec.json.decode(raw))
    return state is None or state.owner != "gemini"


def is_any(raw: msgspec.Raw) -> bool:
    """Whether this is a signature."""
    return bytes(raw) not in _EMPTY


def may_call(body: bytes) -> bool:
    """Whether a model's call may be in this JSON."""
    return any(name in body for name in _QUOTED_CALLS)


def without(
    contents: msgspec.Raw, strange: Callable[[msgspec.Raw], bool] | None, *, signed: bool
) -> list[msgspec.Raw] | None:
    """The contents without signatures that are `strange` to Google, if any can be; None where nothing changes.
    `signed`: calls have to bear one. Raises msgspec.DecodeError and RecursionError for what has another shape."""
    turns = own = _several(contents)
    if strange is not None:
        own = [left for turn in turns if (left := _own(turn, strange)) is not None]
    if signed:
        own = _signed(own)
    return None if own == turns else own


def _several(raw: msgspec.Raw) -> list[msgspec.Raw]:
    """One thing for a list of one."""
    return _list_decoder.decode(raw) if bytes(memoryview(raw)[:1]) == b"[" else [raw]


def _own(turn: msgspec.Raw, strange: Callable[[msgspec.Raw], bool]) -> msgspec.Raw | None:
    """None if nothing is left of it."""
    fields: dict[str, Any] = _fields_decoder.decode(turn)
    if "parts" not in fields:
        return turn
    parts = _several(fields["parts"])
    own = [left for part in parts if (left := _own_part(part, strange)) is not None]
    if own == parts:
        return turn
    return _written({**fields, "parts": own}) if own else None


def _own_part(part: msgspec.Raw, strange: Callable[[msgspec.Raw], bool]) -> msgspec.Raw | None:
    """Its text, its call or its picture stays. What was there for its state alone is left out."""
    fields = _fields_decoder.decode(part)
    foreign = [name for name in _FIELDS if name in fields and strange(fields[name])]
    if not foreign:
        return part
    kept = {name: raw for name, raw in fields.items() if name not in foreign}
    says = any(bytes(raw) not in _EMPTY for name, raw in kept.items() if name != "thought")
    return _written(kept) if says else None


def _signed(turns: list[msgspec.Raw]) -> list[msgspec.Raw]:
    """With the word for a signature at the first call of each of the model's steps in the current turn, where it has
    none of its own."""
    start = next((at for at in reversed(range(len(turns))) if _begins(turns[at])), 0)
    found = turns[:start]
    called = False
    for turn in turns[start:]:
        fields: dict[str, Any] = _fields_decoder.decode(turn)
        if _role_decoder.decode(fields.get("role", _NULL)) != "model":
            called = False
        elif not called:
            parts = _several(fields.get("parts", _NONE))
            at = next((at for at, part in enumerate(parts) if _has(part, _CALLS)), None)
            called = at is not None
            if at is not None and not _has(parts[at], _FIELDS):
                parts[at] = _written({**_fields_decoder.decode(parts[at]), _FIELDS[0]: signatures.SKIP})
                turn = _written({**fields, "parts": parts})
        found.append(turn)
    return found


def _begins(turn: msgspec.Raw) -> bool:
    """Whether the user speaks, and not only as the model's tools."""
    fields = _fields_decoder.decode(turn)
    if _role_decoder.decode(fields.get("role", _NULL)) == "model":
        return False
    return not any(_has(part, _RESULTS) for part in _several(fields.get("parts", _NONE)))


def _has(part: msgspec.Raw, names: tuple[str, ...]) -> bool:
    fields = _fields_decoder.decode(part)
    return any(bytes(fields[name]) not in _EMPTY for name in names if name in fields)


def _written(fields: dict[str, Any]) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(fields))
