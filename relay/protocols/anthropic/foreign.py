"""A client's messages without what other vendors' models have put into them and Anthropic would refuse. Pure.

These are thoughts that Anthropic has not signed, and sources without the index that it gives its own. All other bytes
stay as they came.
"""

import itertools
import re
from collections.abc import Callable
from typing import Any

import msgspec

from relay.protocols import states
from relay.protocols.anthropic import blocks


class _Message(msgspec.Struct):
    role: str | None = None
    content: msgspec.Raw = msgspec.Raw(b"null")


class _Block(msgspec.Struct):
    type: str | None = None
    signature: str | None = None
    data: str | None = None
    citations: list[msgspec.Raw] | None = None


_message_decoder = msgspec.json.Decoder(_Message)
_blocks_decoder = msgspec.json.Decoder(list[msgspec.Raw])
_block_decoder = msgspec.json.Decoder(_Block)
_object_decoder = msgspec.json.Decoder(dict[str, Any])
_fields_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
_UNSIGNED = re.compile(rb'"signature"\s*:\s*""')
_THOUGHTS = ("thinking", "redacted_thinking")


def without(messages: list[msgspec.Raw], body: bytes) -> list[msgspec.Raw]:
    """The messages of a body; the very same list where there is nothing to leave out."""
    if not _may_be_in(body):
        return messages
    own = [kept for message in messages if (kept := _own(message)) is not None]
    return messages if own == messages else own


def without_thoughts(messages: list[msgspec.Raw]) -> list[msgspec.Raw]:
    """The messages without any thought, whoever has signed it; the very same list where there is none."""
    rest = [kept for message in messages if (kept := _with_blocks(message, _unless_thought)) is not None]
    return messages if rest == messages else rest


def calls_without_thought(messages: list[msgspec.Raw]) -> bool:
    """Whether the model is in the middle of a turn, waiting for results, that does not begin with a thought."""
    try:
        read = [_message_decoder.decode(message) for message in messages]
        turns = [
            (role, [kind for message in several for kind in _kinds(message.content)])
            for role, several in itertools.groupby(read, key=lambda message: message.role)
        ]
    except (msgspec.DecodeError, RecursionError):
        return False  # the upstream says what is wrong with them
    if len(turns) < 2:
        return False
    (before, said), (_, given) = turns[-2:]
    return before == "assistant" and "tool_result" in given and not set(said[:1]) & set(_THOUGHTS)


def _kinds(content: msgspec.Raw) -> list[str | None]:
    if bytes(memoryview(content)[:1]) != b"[":
        return ["text"]
    return [_block_decoder.decode(block).type for block in _blocks_decoder.decode(content)]


def _may_be_in(text: bytes) -> bool:
    """Whether there may be thoughts with our own mark or with no signature at all, or sources of a search."""
    unsigned = b'"signature"' in text and _UNSIGNED.search(text) is not None
    return unsigned or b'"pisces.' in text or blocks.SEARCHED.encode() in text


def _own(message: msgspec.Raw) -> msgspec.Raw | None:
    """None if nothing is left of it."""
    return _with_blocks(message, _own_block) if _may_be_in(bytes(message)) else message


def _with_blocks(message: msgspec.Raw, kept: Callable[[msgspec.Raw], msgspec.Raw | None]) -> msgspec.Raw | None:
    """A turn of the model's with what is `kept` of each of its blocks; None if nothing is left of it."""
    try:
        found = _message_decoder.decode(message)
        if found.role != "assistant" or bytes(memoryview(found.content)[:1]) != b"[":
            return message
        given = _blocks_decoder.decode(found.content)
        blocks_left = [left for block in given if (left := kept(block)) is not None]
        if blocks_left == given:
            return message
        fields: dict[str, Any] = _fields_decoder.decode(message)
    except (msgspec.DecodeError, RecursionError):
        return message  # the upstream says what is wrong with it
    return msgspec.Raw(msgspec.json.encode({**fields, "content": blocks_left})) if blocks_left else None


def _unless_thought(raw: msgspec.Raw) -> msgspec.Raw | None:
    return None if _block_decoder.decode(raw).type in _THOUGHTS else raw


def _own_block(raw: msgspec.Raw) -> msgspec.Raw | None:
    block = _block_decoder.decode(raw)
    match block.type:
        case "thinking":
            return raw if _is_signed(block.signature) else None
        case "redacted_thinking":
            return raw if _is_signed(block.data) else None
        case "text" if block.citations:
            return _with_own_citations(raw, block.citations)
    return raw


def _is_signed(field: str | None) -> bool:
    state = states.unwrapped(field, native="anthropic")
    return state is not None and state.owner == "anthropic"


def _with_own_citations(raw: msgspec.Raw, given: list[msgspec.Raw]) -> msgspec.Raw:
    own = [one for one in given if blocks.is_own_citation(_object_decoder.decode(one))]
    if len(own) == len(given):
        return raw
    fields: dict[str, Any] = _fields_decoder.decode(raw)
    del fields["citations"]
    return msgspec.Raw(msgspec.json.encode({**fields, **({"citations": own} if own else {})}))
