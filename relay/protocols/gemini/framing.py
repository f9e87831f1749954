"""How a stream of answers is written to a client: as server-sent events, or as one JSON array. Pure.

Google's Python SDK takes a line that begins with `data: `, with the space, and an empty line, and fails at anything
else: no `event:`, no comment, no `[DONE]`.
"""

PING = b"\n"  # an empty line between events, white space between the elements of an array


class Framing:
    __slots__ = ("_array", "_begun")

    def __init__(self, *, array: bool) -> None:
        self._array = array
        self._begun = False

    def event(self, data: bytes) -> bytes:
        if not self._array:
            return b"data: %b\n\n" % data
        head, self._begun = b",\r\n" if self._begun else b"[", True
        return head + data

    def end(self) -> bytes:
        """What closes the stream, whole or not: an array is valid JSON in any case."""
        if not self._array:
            return b""
        return b"]" if self._begun else b"[]"
