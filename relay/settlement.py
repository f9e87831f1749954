"""What a call costs, and its entry into the books: with its record, once, before the last byte leaves."""

from collections.abc import Sequence

import structlog

from billing import failpoints, holds, money, prices
from billing.operations import Progress, Row
from billing.prices import Charge
from billing.usage import Source, Usage
from relay import idempotency
from relay.errors import Cause, RelayError
from relay.http import Answer
from relay.protocols.codec import Stream, Whole
from relay.records import Call

log = structlog.get_logger(__name__)


class Ending:
    """How a call ended: what its record says, and what it used. `usage` None: it costs nothing.

    `state` is the record's; `error` and `status` say why where it did not end well.
    """

    __slots__ = ("error", "source", "state", "status", "usage")

    def __init__(
        self, state: str, *, status: int, error: str = "", usage: Usage | None = None, source: Source = Source.NONE
    ) -> None:
        self.state = state
        self.status = status
        self.error = error
        self.usage = usage
        self.source = source

    @property
    def counted(self) -> Usage | None:
        """What the gateway counted, alone or beyond what the provider had reported: a client is told what it pays for.
        None where that is the provider's own count."""
        return self.usage if self.source in (Source.COUNTED, Source.PARTIAL) else None


def price(call: Call, ending: Ending) -> None:
    """Sets what the call costs, `call.charge`, and notes it for whoever recovers the call before it is in the books."""
    call.charge = None  # of an ending that was priced before and did not come about
    call.used = ending.usage
    if ending.usage is None:
        return
    assert call.price
    assert call.hold
    assert call.principal
    charge = prices.charge(ending.usage, call.price.card, mode=call.principal.billing, multiplier=call.multiplier)
    call.charge = prices.capped(charge, most(ending.source, ending.state, call.hold.amount))
    buckets = dict(ending.usage.buckets())
    holds.note(call.hold, Progress(len(call.attempts), answering=True, usage=buckets))


def most(source: str, state: str, held: int) -> int:
    """The most that a call may be charged, by where its usage comes from, how it ended, and what was held for it.

    An estimate never costs more than was held, nor does whoever hung up, or whose answer was lost, pay more. A report
    beyond what the books can add up is booked as the most that a charge may be.
    """
    believed = source == Source.REPORTED and state not in ("left", "lost")
    return money.LARGEST_CHARGE if believed else held


async def book(call: Call, ending: Ending, answer: Answer | None = None, rows: Sequence[Row] = ()) -> None:
    """Settles the call for `call.charge`, or gives its hold back where there is none. Durable when it returns.

    `answer` is kept for the call's idempotency key; `rows` are written as well, whatever it costs. Once handed to the
    books it is carried out, even if nobody waits any more. Raises RelayError where it cannot be booked.
    """
    assert call.hold is not None
    call.closed = True
    call.leave_limits()  # while the books write: whoever has the last byte may call again at once, at any process
    kept: list[Row] = []
    if call.claim is not None and answer is not None and call.charge is not None:
        kept = await idempotency.rows(call.id, answer)
    failpoints.hit("before_settle_commit")
    try:
        if call.charge is None:
            await holds.release(call.hold, rows=[*_rows(call, ending), *rows])
        else:
            await holds.settle(call.hold, charged=call.charge.amount, rows=[*_rows(call, ending), *kept, *rows])
    except (holds.LedgerUnavailable, holds.HoldLost) as error:
        raise RelayError(Cause.UNAVAILABLE, "The call could not be booked.", retry_after=1) from error
    failpoints.hit("after_commit_before_reply")
    if kept:
        failpoints.hit("after_store_answer")


def _rows(call: Call, ending: Ending) -> list[Row]:
    charge: Charge = call.charge or prices.NOTHING
    return call.rows(
        ending.state,
        status=ending.status,
        error=ending.error,
        usage=ending.usage,
        source=ending.source,
        charge=charge,
    )


def doubt(answer: Whole | Stream) -> str:
    """A provider that reports no output where some was seen is believed, but the record says so."""
    usage = answer.usage
    return "zero_usage" if usage is not None and not usage.tokens_out and answer.output_bytes else ""
