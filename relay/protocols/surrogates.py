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
MOST = 128  # halves that are kept at once, as many as a call may have answers


class Mender:
    """Puts the halves of a stream's characters together, whatever comes between them.

    `feed` takes the JSON of one event. A first half that ends its string is kept for the next string that begins with a
    second one, of the events that are about the same answers, in their order. A half that has no other is U+FFFD, or
    nothing at a string's end.
    """

    __slots__ = ("_kept", "_place")

    def __init__(self) -> None:
        self._kept: list[tuple[list[bytes], bytes]] = []  # the halves, and the numbers in the events that had them
        self._place: list[bytes] = []

    def feed(self, data: bytes) -> bytes:
        if rb"\ud" not in data and rb"\uD" not in data:
            return data
        self._place = _NUMBER.findall(data)
        return _ESCAPE.sub(self._mended, data)

    def _mended(self, escape: "re.Match[bytes]") -> bytes:
        if escape["first"]:
            if escape["ends"] is None:
                return _UNKNOWN
            self._kept = [*self._kept[1 - MOST :], (self._place, escape["first"])]
            return b""
        if escape["second"]:
            kept = self._take() if escape["begins"] is not None else b""
            return kept + escape["second"] if kept else _UNKNOWN
        return escape[0]

    def _take(self) -> bytes:
        """The other half of one that this event begins with; empty where there is none."""
        for number, (place, half) in enumerate(self._kept):
            if place == self._place:
                del self._kept[number]
                return half
        return b""


def mended(body: bytes) -> bytes:
    """All of an answer's JSON, or of its stream, without halves."""
    return Mender().feed(body)
