"""What is kept of a response, as it is needed again: as the history of the next call, and as a list of items. Pure.

A history goes to any upstream, so nothing in it may refer to what a provider keeps: ids and thoughts without their
state are left out, because OpenAI looks up the one and demands the other.
"""

import re
import uuid
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from relay.errors import Cause, RelayError
from relay.protocols import raws, states
from relay.protocols.responses import reading

_fields_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
_json_decoder = msgspec.json.Decoder(dict[str, Any])
_OWN_OF_AN_ITEM = ("id", "status", "created_by")
# What the provider's own tools have done and are done with: nothing that a client sends refers to it.
_DONE_THERE = frozenset(
    (
        "mcp_list_tools",
        "mcp_call",
        "file_search_call",
        "web_search_call",
        "code_interpreter_call",
        "image_generation_call",
    )
)
# Items without an id of their own mean nothing; these are such, with calls that wait for what their client sends.
_BY_THEIR_ID = _DONE_THERE | frozenset(
    (
        "mcp_approval_request",
        "computer_call",
        "local_shell_call",
        "local_shell_call_output",
        "program",
        "program_output",
    )
)
# OpenAI demands their status, which it gives all others only to look at (`ResponseInputItemParam` of its SDK).
_WITH_STATUS = frozenset(("apply_patch_call", "apply_patch_call_output"))


_OURS = re.compile(r"resp_([0-9a-f]{32})|(?:msg|rs|fc|ctc|ig|in|item)_([0-9a-f]{32})_\d{1,9}")


def answer_id(answer: uuid.UUID) -> str:
    return f"resp_{answer.hex}"


def parse_id(text: str) -> uuid.UUID | None:
    """Whose answer this is the id of, or the id of an item of; None for an id that no gateway has made. Another one
    makes such ids too: an item is ours where this is the answer that it is in."""
    match = _OURS.fullmatch(text)
    return uuid.UUID(match.group(1) or match.group(2)) if match else None


def history(
    output: Iterable[msgspec.Raw], *, answer: uuid.UUID | None = None, stateless: bool = False
) -> list[msgspec.Raw]:
    """A response's output as input of a later call, which `beside` makes of it."""
    return [found for _, found in beside(output, answer=answer, stateless=stateless) if found is not None]


def beside(
    output: Iterable[msgspec.Raw], *, answer: uuid.UUID | None, stateless: bool = False
) -> Iterator[tuple[msgspec.Raw, msgspec.Raw | None]]:
    """Each item of the output of this answer of ours, and as what it goes into a later call: None for what is left out.
    `stateless` of a call whose upstream cannot read any thought's state.

    A thought without its state cannot go back, and OpenAI takes no item under its id whose thought is missing ("was
    provided without its required 'reasoning' item"). So what such a thought led to goes without it only where its id is
    not needed: a picture is shown again, other doings of the provider's own tools are left out. A call that its client
    answers goes all the same: an answer to what is not there would be refused for certain.
    """
    bare = False
    for raw in output:
        fields = _fields_decoder.decode(raw)
        kind = raws.text(fields.get("type")) or ""
        if kind == "reasoning":
            ours = answer is not None and parse_id(raws.text(fields.get("id")) or "") == answer
            bare = stateless or not (ours or raws.text(fields.get("encrypted_content")))
            yield raw, None if bare else _without(fields, ("status",))  # its state is bound to its id
        elif kind not in _BY_THEIR_ID:
            yield raw, _without(fields, ("id", "created_by") if kind in _WITH_STATUS else _OWN_OF_AN_ITEM)
        else:
            yield raw, _shown_again(raw, kind) if bare and kind in _DONE_THERE else raw


def _without(fields: dict[str, msgspec.Raw], names: tuple[str, ...]) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode({name: raw for name, raw in fields.items() if name not in names}))


def _shown_again(raw: msgspec.Raw, kind: str) -> msgspec.Raw | None:
    """A picture that was drawn, as one that is shown to the model; None for anything else."""
    drawing = reading.drawing_of(raw) if kind == "image_generation_call" else None
    if drawing is None:
        return None
    content = [{"type": "input_image", "image_url": f"data:{drawing.mime};base64,{drawing.data}"}]
    return msgspec.Raw(msgspec.json.encode({"type": "message", "role": "user", "content": content}))


def without_foreign(items: Iterable[msgspec.Raw]) -> list[msgspec.Raw]:
    """Items for an upstream of OpenAI: without other vendors' thoughts, whose state it would refuse, and without those
    that have none and that it cannot look up, by an id of ours or by no id; its own with the state that it gave
    (pitfall 18). An open model's have neither and stay: they bear their own text (`content`), as nothing that is
    translated does."""
    return [found for raw in items if (found := _native(raw)) is not None]


def _native(raw: msgspec.Raw) -> msgspec.Raw | None:
    if reading.head_decoder.decode(raw).type != "reasoning":
        return raw
    fields: dict[str, Any] = _fields_decoder.decode(raw)
    written, item = raws.text(fields.get("encrypted_content")), raws.text(fields.get("id")) or ""
    state = states.unwrapped(written, native="openai", item=item)
    if state is None:
        known = parse_id(item) is None if item else _has_content(fields)
        return raw if known and not written else None
    if state.owner != "openai":
        return None
    if state.data == written:
        return raw
    return msgspec.Raw(msgspec.json.encode({**fields, "id": state.id, "encrypted_content": state.data}))


def _has_content(fields: dict[str, msgspec.Raw]) -> bool:
    return bytes(fields.get("content", b"null")) not in (b"null", b"[]")


# ---- the list of a response's input items ---------------------------------------------------------------------------


def listed(items: Iterable[msgspec.Raw], answer: str) -> list[dict[str, Any]]:
    """Each with an id, and as full as the SDK's types want them. `answer` is the hexadecimal part of ids made here."""
    return [_shown(_json_decoder.decode(raw), f"in_{answer}_{number}") for number, raw in enumerate(items)]


def _shown(item: dict[str, Any], own: str) -> dict[str, Any]:
    item = {"type": "message", **item} if "role" in item else item
    found = {"id": own, **{name: value for name, value in item.items() if value is not None or name != "id"}}
    if found.get("type") == "message":
        found["content"] = _full(found.get("content"), found.get("role") == "assistant")
    if found.get("type") not in ("reasoning", "item_reference"):
        found.setdefault("status", "completed")
    return found


def _full(content: Any, said: bool) -> Any:
    if isinstance(content, str):
        content = [{"type": "output_text" if said else "input_text", "text": content}]
    return [_full_part(part) if isinstance(part, dict) else part for part in content]


def _full_part(part: dict[str, Any]) -> dict[str, Any]:
    match part.get("type"):
        case "output_text":
            return {"annotations": [], **part}
        case "input_image":
            return {"detail": "auto", **part}
    return part


def page(items: list[dict[str, Any]], *, after: str | None, limit: int, ascending: bool) -> dict[str, Any]:
    """One page of a list, the newest first unless `ascending`. Raises RelayError where nothing has the id `after`."""
    ordered = items if ascending else items[::-1]
    if after is not None:
        at = next((number for number, item in enumerate(ordered) if item["id"] == after), None)
        if at is None:
            raise RelayError(Cause.INVALID_PARAMETER, f"No item has the id {after[:80]!r}.", param="after")
        ordered = ordered[at + 1 :]
    shown = ordered[:limit]
    return {
        "object": "list",
        "data": shown,
        "first_id": shown[0]["id"] if shown else "",
        "last_id": shown[-1]["id"] if shown else "",
        "has_more": len(ordered) > limit,
    }


# ---- references -----------------------------------------------------------------------------------------------------


def has_references(items: Iterable[msgspec.Raw]) -> bool:
    """Whether one of a request's items is only a name. Raises RelayError for an item of a wrong shape."""
    try:
        return any(referred(item) is not None for item in items)
    except msgspec.ValidationError as error:
        raise reading.wrong_type(error, within="input") from error


def referred(item: msgspec.Raw) -> str | None:
    """The id that an item is only the name of: an `item_reference`, with its type or without, and a drawing without its
    picture. None for any other."""
    head = reading.head_decoder.decode(item)
    match head.type:
        case None if head.role is not None:
            return None
        case "item_reference" | None:
            return head.id
        case "image_generation_call" if reading.drawing_of(item) is None:
            return head.id
    return None


def id_of(item: msgspec.Raw) -> str | None:
    """None also where a provider has put there what is no id."""
    try:
        return reading.head_decoder.decode(item).id
    except msgspec.ValidationError:
        return None
