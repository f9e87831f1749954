"""The hub's events: a streamed answer of any protocol, `Started (PartStarted PartDelta* PartEnded)* (Finished|Failed)`.

Parts never overlap and are numbered 0, 1, 2 … in the order in which they begin. Decoders obey that grammar; encoders
assert it and never repair it.
"""

import msgspec

from billing.usage import Usage
from relay.errors import RelayError
from relay.protocols.canonical import Finish, Json, Opaque, Part


class Started(msgspec.Struct, frozen=True, gc=False):
    """`usage` is what the upstream says at once of the input, if it does."""

    id: str
    model: str
    usage: Usage | None = None


class PartStarted(msgspec.Struct, frozen=True):
    """`part` has all that is known at its beginning, and no text yet."""

    number: int
    part: Part


class PartDelta(msgspec.Struct, frozen=True, gc=False):
    """More of a part's text: words, thoughts, or a call's arguments. A citation comes with no text."""

    number: int
    text: str
    citation: Json | None = None


class PartEnded(msgspec.Struct, frozen=True, gc=False):
    """`state` where the vendor gives it with a part's end."""

    number: int
    state: Opaque | None = None


class Finished(msgspec.Struct, frozen=True, gc=False):
    """The whole usage; None where none was reported."""

    reason: Finish
    usage: Usage | None = None
    stop_sequence: str | None = None
    note: str | None = None


class Failed(msgspec.Struct, frozen=True):
    error: RelayError


Event = Started | PartStarted | PartDelta | PartEnded | Finished | Failed


class BrokenGrammar(AssertionError):
    """A decoder's defect, found by whoever reads it."""


class Grammar:
    """Whether events come in their order. `see` raises BrokenGrammar for one that may not stand where it does."""

    __slots__ = ("_begun", "_next", "_open", "ended")

    def __init__(self) -> None:
        self._begun = False
        self._open: int | None = None
        self._next = 0
        self.ended = False

    def see(self, event: Event) -> None:
        kind = type(event)
        if kind is PartDelta:  # nearly always
            if event.number != self._open:  # type: ignore[union-attr]
                self._demand(False, event)
        elif kind is PartStarted:
            fits = self._begun and not self.ended and self._open is None and event.number == self._next  # type: ignore[union-attr]
            self._demand(fits, event)
            self._open, self._next = self._next, self._next + 1
        elif kind is PartEnded:
            self._demand(self._open is not None and event.number == self._open, event)  # type: ignore[union-attr]
            self._open = None
        elif kind is Started:
            self._demand(not self._begun, event)
            self._begun = True
        else:
            whole = kind is Failed or (self._begun and self._open is None)
            self._demand(not self.ended and whole, event)
            self._open, self.ended = None, True

    def _demand(self, fits: bool, event: Event) -> None:
        if not fits:
            raise BrokenGrammar(f"{type(event).__name__} may not come here")
