"""One call over time: its lanes from the hold to the settlement, as SVG in per cent. Pure but for the words."""

import msgspec
from django.utils.translation import gettext as _

from portal.charts import percent
from portal.wording import OUTCOMES
from relay.models import Attempt, CallLog, CallState

NARROWEST = 0.35  # per cent: what took no time can still be seen


class Piece(msgspec.Struct, frozen=True):
    """`kind` is a class: our, wait, flow or fail."""

    kind: str
    x: str
    width: str


class Lane(msgspec.Struct, frozen=True):
    """`mark` is where the first byte came, empty where there is none; `took` is milliseconds."""

    title: str
    note: str
    pieces: tuple[Piece, ...]
    mark: str
    took: float


class Timeline(msgspec.Struct, frozen=True):
    """`ticks` are the five labels of the axis, in the unit that the last one names."""

    lanes: tuple[Lane, ...]
    ticks: tuple[str, ...]


def duration(milliseconds: float) -> str:
    """`6 ms`, `8.99 s`: three figures that count."""
    if milliseconds < 1000:
        return f"{milliseconds:.1f} ms" if milliseconds < 10 else f"{milliseconds:.0f} ms"
    return f"{milliseconds / 1000:.2f} s"


def of(call: CallLog, attempts: list[Attempt], held: str) -> Timeline:
    """The call's lanes. `held` is the held amount as text with its currency."""
    whole = max([call.duration_ms, *(attempt.ended_ms for attempt in attempts)]) or 1.0
    lanes = []
    if call.hold_ms is not None:
        began = max(0.0, min((attempt.began_ms for attempt in attempts), default=call.hold_ms) - call.hold_ms)
        pieces = (_piece("our", began, call.hold_ms, whole),)
        lanes.append(Lane(_("Admit and hold"), _("%(amount)s held") % {"amount": held}, pieces, "", call.hold_ms))
    lanes.extend(_attempt(attempt, whole) for attempt in attempts)
    lanes.append(_settlement(call, attempts, whole))
    return Timeline(tuple(lanes), _ticks(whole))


def _attempt(attempt: Attempt, whole: float) -> Lane:
    title = _("Attempt %(number)d · %(channel)s") % {"number": attempt.number, "channel": attempt.channel}
    took = max(0.0, attempt.ended_ms - attempt.began_ms)
    first = attempt.first_byte_ms
    if first is None:
        kind = "fail" if attempt.outcome != "client_left" else "wait"
        note = str(OUTCOMES.get(attempt.outcome, attempt.outcome))
        return Lane(title, note, (_piece(kind, attempt.began_ms, took, whole),), "", took)
    flow = "flow" if attempt.outcome in ("complete", "client_left") else "fail"
    pieces = (
        _piece("wait", attempt.began_ms, first - attempt.began_ms, whole),
        _piece(flow, first, attempt.ended_ms - first, whole),
    )
    note = _("first byte after %(time)s") % {"time": duration(max(0.0, first - attempt.began_ms))}
    return Lane(title, note, pieces, percent(100 * first / whole), took)


def _settlement(call: CallLog, attempts: list[Attempt], whole: float) -> Lane:
    since = max((attempt.ended_ms for attempt in attempts), default=call.duration_ms)
    took = max(0.0, call.duration_ms - since)
    pieces = (_piece("our", min(since, whole * (1 - NARROWEST / 100)), took, whole),)
    if call.cost or call.state == CallState.SETTLED:
        return Lane(_("Settle"), _("before the last byte left"), pieces, "", took)
    return Lane(_("Release"), _("the hold was given back"), pieces, "", took)


def _piece(kind: str, began: float, took: float, whole: float) -> Piece:
    return Piece(kind, percent(100 * began / whole), percent(max(NARROWEST, 100 * took / whole)))


def _ticks(whole: float) -> tuple[str, ...]:
    unit, scale, digits = ("s", 1000, 2) if whole >= 1000 else ("ms", 1, 0 if whole >= 40 else 1)
    inner = [f"{whole * part / 4 / scale:.{digits}f}" for part in (1, 2, 3)]
    return (f"0 {unit}", *inner, f"{whole / scale:.{digits}f} {unit}")
