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
_UNKNOWN = rb"\ufffd"


class Mender:
    """Puts the halves of a stream's characters together, whatever comes between them.

    `feed` takes the JSON of one event. A first half that ends its string is kept for the next string that begins with a
    second one. A half that has no other is U+FFFD, or at a string's end nothing.
    """

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        self._kept = b""

    def feed(self, data: bytes) -> bytes:
        if rb"\ud" not in data and rb"\uD" not in data:
            return data
        return _ESCAPE.sub(self._mended, data)

    def _mended(self, escape: "re.Match[bytes]") -> bytes:
        if escape["first"]:
            if escape["ends"] is None:
                return _UNKNOWN
            self._kept = escape["first"]
            return b""
        if escape["second"]:
            kept = b""
            if escape["begins"] is not None:
                kept, self._kept = self._kept, b""
            return kept + escape["second"] if kept else _UNKNOWN
        return escape[0]


def mended(body: bytes) -> bytes:
    """All of an answer's JSON, or of its stream, without halves."""
    return Mender().feed(body)
