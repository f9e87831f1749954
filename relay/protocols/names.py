"""Names and ids that another vendor would refuse, made acceptable: always the same for the same name. Pure."""

import hashlib
import re
import uuid
from collections.abc import Iterable

_UNFIT = re.compile(r"[^A-Za-z0-9_-]")


def shortened(name: str, longest: int) -> str:
    """`name` with letters, digits, `_` and `-` only, at most `longest` of them. A name that had to be changed ends in a
    part of its digest, so that two of them stay two, and comes out the same whenever it is asked for."""
    fit = _UNFIT.sub("_", name)
    if fit == name and 0 < len(fit) <= longest:
        return name
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:10]
    return f"{fit[: longest - 11]}_{digest}"


def user(given: str, longest: int = 64) -> str:
    """Who the user is stays here: an address, and what is too long, goes out as a digest."""
    if "@" not in given and len(given) <= longest:
        return given
    return hashlib.sha256(given.encode("utf-8", "replace")).hexdigest()[:longest]


def tools(names: Iterable[str], longest: int, *, letter_first: bool = False) -> dict[str, str]:
    """The client's name of each tool to the upstream's."""
    found = {}
    for name in names:
        short = shortened(name, longest)
        if letter_first and not (short[0].isalpha() or short[0] == "_"):
            short = shortened(f"_{name}", longest)
        found[name] = short
    return found


def reverse(renamed: dict[str, str]) -> dict[str, str]:
    """The upstream's name to the client's, of those that differ: `codec.Encoded.names`."""
    return {short: name for name, short in renamed.items() if short != name}


def call_id(given: str, longest: int = 40) -> str:
    """The id of a tool's call, as the strictest of them take it."""
    return shortened(given, longest) if given else ""


def new_call_id() -> str:
    """For vendors that give none."""
    return f"call_{uuid.uuid4().hex[:24]}"
