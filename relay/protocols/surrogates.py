"""Halves of characters. JSON may write one beyond U+FFFF as two escapes (RFC 8259, section 7), and a provider that cuts
its text between them puts the first into one event and the second into the next. Neither half is text by itself. Pure.
"""

import re

# In JSON a backslash is always an escape's first, so that searching from escape to escape never mistakes `\\ud83d`.
_ESCAPE = re.compile(
    rb"""
    (?P<pair> \\u[dD][89abAB][0-9a-fA-F]{2} \\u[dD][c-fC-F][0-9a-fA-F]{2} )
    | (?P<first> \\u[dD][89abAB][0-9a-fA-F]{2} ) (?P<ends> (?=") )?
    | (?P<begins> (?<=") )? (?P<second> \\u[dD][c-fC-F][0-9a-fA-F]{2} )
    | \\.
    """,
    re.VERBOSE | re.DOTALL,
)
# Which of several answers, or of their parts, an event is about: every protocol numbers them, in a field so named.
_NUMBER = re.compile(rb'index"\s*:\s*([0-9]+)')
_UNKNOWN = rb"\ufffd"
MOST = 128  # answers whose halves are kept at once, and halves of each: as many as a call may have answers


class Mender:
    """Puts the halves of a stream's characters together, whatever comes between them.

    `feed` takes the JSON of one event. A first half that ends its string is kept for the next string that begins with a
    second one, of the events that are about the same answers, in their order. A half that has no other is U+FFFD, or
    nothing at a string's end.
    """

    __slots__ = ("_kept", "_new", "_old")

    def __init__(self) -> None:
        self._kept: dict[tuple[bytes, ...], list[bytes]] = {}  # by the numbers in the event that had them
        self._old: list[bytes] = []  # what is left of them for the event at hand,
        self._new: list[bytes] = []  # and what it leaves for the next

    def feed(self, data: bytes) -> bytes:
        if not _may_have_halves(data):
            return data
        numbers = tuple(_NUMBER.findall(data))
        self._old, self._new = self._kept.pop(numbers, []), []
        whole = _ESCAPE.sub(self._mended, data)
        if kept := self._new or self._old:
            self._kept[numbers] = kept[-MOST:]
            if len(self._kept) > MOST:
                del self._kept[next(iter(self._kept))]
        return whole

    def _mended(self, escape: "re.Match[bytes]") -> bytes:
        if escape["first"]:
            if escape["ends"] is None:
                return _UNKNOWN
            self._new.append(escape["first"])
            return b""
        if escape["second"]:
            kept = self._take() if escape["begins"] is not None else b""
            return kept + escape["second"] if kept else _UNKNOWN
        return escape[0]

    def _take(self) -> bytes:
        """The next half of those that were left to this event, or else its own last one; empty where there is none."""
        return self._old.pop(0) if self._old else self._new.pop() if self._new else b""


def mended(body: bytes) -> bytes:
    """All of an answer's JSON, or of its stream, without halves."""
    return Mender().feed(body) if _may_have_halves(body) else body


def _may_have_halves(data: bytes) -> bool:
    return rb"\ud" in data or rb"\uD" in data
