"""Server-sent events as bytes (WHATWG HTML, section 9.2), as far as providers use them. Pure.

Lines end in CR, LF or CRLF and in nothing else; in particular U+2028 is text.
"""

from typing import Any

import msgspec

from relay.errors import Cause, RelayError

CONTENT_TYPE = b"text/event-stream; charset=utf-8"
LONGEST_EVENT = 24 * 1024 * 1024  # a picture that was drawn is one event, in base64
_MARK = b"\xef\xbb\xbf"  # a stream may begin with it, and it is none of its events (section 9.2.5)


class Splitter:
    """Cuts a byte stream into events, however it was cut into chunks. An event comes without its blank line."""

    __slots__ = ("_begun", "_parts", "_size", "carry")

    def __init__(self) -> None:
        self._begun = False
        self.carry = b""  # the beginning of an event
        self._parts: list[bytes] = []  # what followed it, in which no event can end
        self._size = 0

    def feed(self, data: bytes) -> list[bytes]:
        """The events that are complete now. Raises RelayError where one grows past LONGEST_EVENT."""
        if not self._begun:
            data, self.carry = self.carry + data, b""
            if len(data) < len(_MARK) and _MARK.startswith(data):
                self.carry = data
                return []
            self._begun, data = True, data.removeprefix(_MARK)
        if not self.carry and data.endswith(b"\n\n") and b"\r" not in data and not data.startswith(b"\n"):
            return data[:-2].split(b"\n\n")  # nearly always: whole events
        if not self.carry and data.find(b"\r") == len(data) - 4 == data.find(b"\n") - 1 and data.endswith(b"\r\n\r\n"):
            return [data[:-4]]  # the same of those who end their lines in CRLF: one event of one line
        if self._only_continues(data):
            return []
        data = self._whole() + data
        if b"\r" in data:
            # A CR at the end may be the first half of CRLF, so it waits for the next chunk.
            waiting = data.endswith(b"\r")
            whole = data[:-1] if waiting else data
            data = whole.replace(b"\r\n", b"\n").replace(b"\r", b"\n") + (b"\r" if waiting else b"")
        events = data.split(b"\n\n")
        self.carry = events.pop()
        self._size = len(self.carry)
        self._check()
        return [event.strip(b"\n") for event in events if event.strip(b"\n")]

    def close(self) -> list[bytes]:
        """What was left without its blank line: some providers end their last event so."""
        rest, self.carry = self._whole().strip(b"\r\n"), b""
        return [rest] if rest else []

    def _only_continues(self, data: bytes) -> bool:
        """Keeps a piece that ends no event unread: to search all again for each would cost their number squared."""
        last = (self._parts[-1] if self._parts else self.carry)[-1:]
        if not last or last in b"\r\n" or b"\r" in data or b"\n\n" in data:
            return False
        if data:
            self._parts.append(data)
            self._size += len(data)
            self._check()
        return True

    def _whole(self) -> bytes:
        carry, self._parts = b"".join((self.carry, *self._parts)), []
        return carry

    def _check(self) -> None:
        if self._size > LONGEST_EVENT:
            raise RelayError(Cause.UPSTREAM_ERROR, "The provider sent an event that is too long.")


def payload(event: bytes) -> bytes | None:
    """The event's data; None for a comment or an event without any. An error that was sent as a body of JSON, where a
    stream was asked for, is its data too: its reason is the provider's."""
    first = event.find(b"\n")
    if first < 0 and event.startswith(b"data: "):
        return event[6:]
    if event.startswith(b"event: ") and event.startswith(b"data: ", first + 1) and event.find(b"\n", first + 1) < 0:
        return event[first + 7 :]  # nearly always this or that: one line of data, its name before it or none
    lines = [line[5:].removeprefix(b" ") for line in event.split(b"\n") if line.startswith(b"data:")]
    if not lines and event.startswith(b"{") and _is_error(event):
        return event
    return b"\n".join(lines) if lines else None


class _Body(msgspec.Struct):
    """What an answer that failed has in every protocol."""

    error: Any = None


def _is_error(body: bytes) -> bool:
    """Whether these lines, of which a stream has none, are an object with an error in it."""
    try:
        return bool(msgspec.json.decode(body, type=_Body).error)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return False


def on_one_line(data: bytes) -> bytes:
    """JSON that came in several lines of data as it can be written in one. Raises msgspec.DecodeError."""
    return msgspec.json.format(data, indent=-1) if b"\n" in data else data
