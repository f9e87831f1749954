"""A client's JSON body: the few fields that the gateway must know, all others kept as the bytes they came in. Pure."""

import re
from collections.abc import Collection, Mapping
from typing import Any, TypeVar

import msgspec

from relay.errors import Cause, RelayError
from relay.protocols import extent

Fields = dict[str, msgspec.Raw]
Wanted = TypeVar("Wanted")

# A longer body is written anew from its fields, which costs a copy and not a search for each of their names.
DEAR = 64 * 1024
_fields_decoder = msgspec.json.Decoder(Fields)
_FIELD = re.compile(r"\$\.([a-z_]+)")


def decode(body: bytes, decoder: msgspec.json.Decoder[Wanted]) -> Wanted:
    """Raises RelayError: invalid_json, invalid_messages or invalid_parameter, with the field's name."""
    extent.bounded(body)
    try:
        body.decode()
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise wrong_type(error) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise no_json(error) from error


def fields(body: bytes, read: Collection[str]) -> Fields:
    """All of a sound body's fields. A provider that ignores case would take `Model` for `model`, behind the price that
    was looked up: what differs from the fields that are `read` in its case alone is refused."""
    found = _fields_decoder.decode(body)
    for name in found:
        if name not in read and name.lower() in read:
            raise RelayError(Cause.INVALID_PARAMETER, f"Write `{name.lower()}`, not `{name}`.", param=name)
    return found


def bounded(wanted: Any, names: Collection[str], *, least: int = 1) -> None:
    """Raises RelayError where one of these numbers is too small or too large."""
    for name in names:
        value = getattr(wanted, name)
        if value is not None and not least <= value <= 2**31:
            what = "a positive integer" if least else "an integer from 0 on"
            raise RelayError(Cause.INVALID_PARAMETER, f"`{name}` must be {what}.", param=name)


def quoted(read: Collection[str]) -> tuple[bytes, ...]:
    """The names as `is_plain` and `rewritten` look for them."""
    return tuple(b'"%s"' % name.encode() for name in read)


def rewritten(
    body: bytes, given: Mapping[str, msgspec.Raw], changes: Mapping[str, Any], names: tuple[bytes, ...]
) -> bytes:
    """The body for the upstream: its own bytes where nothing changes, no `api_key` of ours is in it and none of the
    fields that the gateway reads stands there twice."""
    if not changes and is_plain(body, names):
        return body
    merged: dict[str, Any] = {**given, **changes}
    merged.pop("api_key", None)
    return msgspec.json.encode(merged)


def with_usage(given: Mapping[str, msgspec.Raw]) -> dict[str, Any]:
    """`stream_options` that ask for the usage too."""
    options = given.get("stream_options")
    known: dict[str, Any] = {}
    if options is not None and bytes(options) != b"null":
        known = msgspec.json.decode(options, type=Fields)
    return {**known, "include_usage": True}


def no_json(error: Exception) -> RelayError:
    """msgspec says what is wrong, and where; of nesting Python says nothing that helps."""
    what = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)[:200]
    return RelayError(Cause.INVALID_JSON, f"The body is not valid JSON: {what}")


def wrong_type(error: msgspec.ValidationError) -> RelayError:
    """msgspec says `Expected `str`, got `int` - at `$.model``; the caller gets the field's name."""
    match = _FIELD.search(str(error))
    param = match.group(1) if match else None
    if param is None:
        return RelayError(Cause.INVALID_JSON, "The body must be a JSON object.")
    cause = Cause.INVALID_MESSAGES if param == "messages" else Cause.INVALID_PARAMETER
    what = str(error).split(" - at ")[0].replace("`", "").lower()
    return RelayError(cause, f"`{param}` has a wrong type: {what}.", param=param)


def is_plain(body: bytes, names: tuple[bytes, ...]) -> bool:
    """Whether no field with one of these names is there twice, and no `api_key`; False also where looking is dear."""
    if len(body) > DEAR or b"\\u" in body or b'"api_key"' in body:
        return False
    for name in names:  # noqa: SIM110 - a loop, because a generator costs each call as much as its search
        if body.count(name) > 1:
            return False
    return True
