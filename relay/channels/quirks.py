"""A request's body as one provider takes it: its quirks, then the operator's overrides. Pure.

A body that needs no change is handed back as it is, without being read.
"""

import contextlib
import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from relay.channels.presets import THOUGHTS, Quirks

_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])
_messages = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])
_text = msgspec.json.Decoder(str)
_NOTHING = (b"null", b"[]")
_WITH_IDS = ("tool_calls", "tool_call_id")
# What nobody misses where a provider does not know it: what the gateway adds by itself, and thoughts of other models,
# which no translated conversation has either.
_UNTOLD = frozenset(("stream_options", *(f"messages[].{name}" for name in THOUGHTS)))


def _folded(name: str) -> str:
    """Google takes a field in camel case and with underscores, and there are providers that ignore case."""
    return name.replace("_", "").lower()


# What a hold is made from and what the pipeline decides, folded: no override may touch the first at any depth of the
# body, and the second at its top. Nor may one replace or remove the objects that the first stand in.
HELD = frozenset(map(_folded, (
    "max_tokens", "max_completion_tokens", "max_output_tokens", "n", "candidate_count", "best_of",
)))  # fmt: skip
DECIDED = frozenset(map(_folded, (
    "model", "stream", "stream_options", "messages", "prompt", "input", "query", "documents", "contents", "system",
    "system_instruction", "instructions", "tools", "functions", "previous_response_id", "conversation",
    "cached_content", "api_key",
)))  # fmt: skip
_HOLDERS = frozenset((_folded("generation_config"),))
# What a client may ask for that vendors bill at rates of their own, and no price here has, by the ends of the words:
# OpenAI's and Google's priority processing, of which OpenAI's newer name is `fast` with `ultrafast` above it
# (`service_tier` in its API reference), Anthropic's fast mode, and its inference in the USA alone, at 1.1 times the
# price ("Data residency"). Only an operator's parameters ask for it, who has the prices for it then.
_DEARER = {
    "service_tier": ("priority", "fast"), "serviceTier": ("priority",), "speed": ("fast",), "inference_geo": ("us",),
}  # fmt: skip
# Models that may answer instead of the one that was priced and that the key may use: Anthropic's ("Refusals and
# fallback") where it declines, OpenRouter's ("Model fallbacks") where it fails; billed as the one that answered.
_INSTEAD = ("fallbacks", "models")
# Tools that are another model, by how their type begins: Anthropic's "Advisor tool", whose tokens are billed at that
# model's rates and are in none of a report's sums; OpenRouter's "Advisor" and "Fusion".
_ADVISERS = ("advisor_", "openrouter:advisor", "openrouter:fusion")
_ADVISERS_QUOTED = (b"\\u", *(b'"%s' % name.encode() for name in _ADVISERS))


class Edited(msgspec.Struct, frozen=True):
    """The body to send; `dropped` names what of the client's request it no longer has."""

    body: bytes
    dropped: tuple[str, ...] = ()


def apply(body: bytes, quirks: Quirks, parameters: Mapping[str, Any] | None = None) -> Edited:
    """`body` is a JSON object in the upstream's protocol, `parameters` a merge patch of it (RFC 7396)."""
    body, dearer = _at_usual_rates(body)
    if not parameters and (not quirks.edits or not _concerned(body, quirks)):
        return Edited(body, tuple(dearer))
    fields: dict[str, Any] = _fields.decode(body)
    dropped = _edit(fields, quirks) if quirks.edits else []
    if parameters:
        _patch(fields, parameters)
    return Edited(msgspec.json.encode(fields), tuple(sorted((*dropped, *dearer))))


def _at_usual_rates(body: bytes) -> tuple[bytes, list[str]]:
    """The body without what would cost more than its price, and the names of that."""
    # To decode the fields, none of which is looked into, takes a tenth of the time of a search for each of these names.
    try:
        fields: dict[str, Any] = _fields.decode(body)
    except msgspec.DecodeError:
        return body, []  # the provider says what is wrong with it
    found = [name for name, words in _DEARER.items() if name in fields and _says(fields[name], words)]
    found += [name for name in _INSTEAD if bytes(fields.get(name, b"null")) not in _NOTHING]
    for name in found:
        del fields[name]
    if "tools" in fields:
        found += _without_advisers(fields)
    return (msgspec.json.encode(fields) if found else body), found


def _without_advisers(fields: dict[str, Any]) -> list[str]:
    """Takes those tools out that are another model: what they are called."""
    written = bytes(fields["tools"])
    if not any(quoted in written for quoted in _ADVISERS_QUOTED):
        return []
    with contextlib.suppress(msgspec.DecodeError):  # what is no list of tools is the provider's to judge
        tools = _messages.decode(written)
        kinds = [_adviser(tool) for tool in tools]
        if any(kinds):
            fields["tools"] = [tool for tool, kind in zip(tools, kinds, strict=True) if not kind]
            if not fields["tools"]:
                del fields["tools"]
        return [f"tools[].{kind}" for kind in kinds if kind]
    return []


def _adviser(tool: Mapping[str, msgspec.Raw]) -> str:
    """The type of a tool that is another model; "" of any other."""
    kind = _text_of(tool.get("type", b"")) or ""
    return kind if kind.startswith(_ADVISERS) else ""


def _says(raw: msgspec.Raw, words: tuple[str, ...]) -> bool:
    """Google writes such words in capitals, and with the name of the field before them."""
    return (_text_of(raw) or "").lower().endswith(words)


def _text_of(raw: bytes | msgspec.Raw) -> str | None:
    """None of what is no text: the provider says what is wrong with it."""
    with contextlib.suppress(msgspec.DecodeError):
        return _text.decode(raw)
    return None


def _concerned(body: bytes, quirks: Quirks) -> bool:
    """Whether a name that matters stands anywhere in the body, perhaps written with an escape."""
    if quirks.only:
        return True
    names = (*quirks.drop, *quirks.ones, *quirks.message_drop, *(old for old, _ in quirks.rename))
    names += (*(_WITH_IDS if quirks.call_ids else ()), *(role for role, _ in quirks.roles))
    names += tuple(name for name, _, _ in quirks.values)
    return _mentions(body, names)


def _mentions(body: bytes, names: Iterable[str]) -> bool:
    return b"\\u" in body or any(b'"%s"' % name.encode() in body for name in names)


def _edit(fields: dict[str, Any], quirks: Quirks) -> list[str]:
    for old, new in quirks.rename:
        if old in fields:
            value = fields.pop(old)
            fields.setdefault(new, value)
    for name, old, new in quirks.values:
        if name in fields and bytes(fields[name]) == b'"%s"' % old.encode():
            fields[name] = new
    dropped = [name for name in fields if name in quirks.drop or (quirks.only and name not in quirks.only)]
    dropped += [name for name in quirks.ones if name in fields and bytes(fields[name]).strip() != b"1"]
    for name in dropped:
        del fields[name]
    inside = (*quirks.message_drop, *(_WITH_IDS if quirks.call_ids else ()), *(role for role, _ in quirks.roles))
    if inside and "messages" in fields and _mentions(bytes(fields["messages"]), inside):
        dropped += _edit_messages(fields, quirks)
    return sorted(set(dropped) - _UNTOLD)


def _edit_messages(fields: dict[str, Any], quirks: Quirks) -> list[str]:
    messages = _messages.decode(fields["messages"])
    edited = [_edit_message(message, quirks) for message in messages]
    if any(changed for changed, _ in edited):
        fields["messages"] = messages
    found = [taken for _, all_taken in edited for taken in all_taken]
    return [f"messages[].{name}" for name, value in found if bytes(value) not in _NOTHING]


def _edit_message(message: dict[str, Any], quirks: Quirks) -> tuple[bool, list[tuple[str, msgspec.Raw]]]:
    """Whether it had to be changed, and what was taken out of it and of its calls."""
    calls = _calls(message)
    taken = [(name, one.pop(name)) for one in (message, *calls) for name in quirks.message_drop if name in one]
    holders = [(message, "tool_call_id"), *((call, "id") for call in calls)] if quirks.call_ids else []
    fitted = [_fit_id(holder, name, quirks.call_ids) for holder, name in holders]
    changed = any((taken, _rename_role(message, quirks.roles), *fitted))
    if changed and calls:
        message["tool_calls"] = calls
    return changed, taken


def _rename_role(message: dict[str, Any], roles: Iterable[tuple[str, str]]) -> bool:
    for role, known in roles:
        if _text_of(message.get("role", b"")) == role:
            message["role"] = known
            return True
    return False


def _calls(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    """None of what is no list of calls: the provider says what is wrong with it."""
    with contextlib.suppress(msgspec.DecodeError):
        return _messages.decode(message.get("tool_calls", b"[]"))
    return []


def _fit_id(holder: dict[str, Any], name: str, length: int) -> bool:
    """Whether it had to be changed. An id comes out the same wherever and whenever it stands there."""
    given = _text_of(holder.get(name, b""))
    if given is None or (len(given) == length and given.isascii() and given.isalnum()):
        return False
    holder[name] = hashlib.sha256(given.encode("utf-8", "surrogatepass")).hexdigest()[:length]
    return True


def _patch(fields: dict[str, Any], patch: Mapping[str, Any]) -> None:
    """RFC 7396: objects are merged, null removes, anything else replaces."""
    for written, value in patch.items():
        name = _spelt(written, fields)
        if value is None:
            fields.pop(name, None)
        elif isinstance(value, Mapping):
            fields[name] = _object(fields.get(name))
            _patch(fields[name], value)
        else:
            fields[name] = value


def _spelt(name: str, fields: Mapping[str, Any]) -> str:
    """A holder's name as the body has it: of two spellings a provider might read the one without the limit."""
    folded = _folded(name)
    return next((own for own in fields if _folded(own) == folded), name) if folded in _HOLDERS else name


def _object(value: Any) -> dict[str, Any]:
    """Its fields as they are written: JSON may have numbers that nobody here could read. Empty for what is none."""
    if isinstance(value, msgspec.Raw):
        return dict(_fields.decode(value)) if bytes(memoryview(value)[:1]) == b"{" else {}
    return value if isinstance(value, dict) else {}


def forbidden(patch: Mapping[str, Any]) -> str:
    """The name in the patch that no override may touch, or ""."""
    return next((name for name in patch if _folded(name) in DECIDED), "") or _held(patch)


def _held(patch: Mapping[str, Any]) -> str:
    for name, value in patch.items():
        folded = _folded(name)
        if folded in HELD or (folded in _HOLDERS and not isinstance(value, Mapping)):
            return name
        if isinstance(value, Mapping) and (inner := _held(value)):
            return inner
    return ""
