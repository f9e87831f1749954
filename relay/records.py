"""One call as it goes: what it is, what was tried, what it used; and the rows that its record is made of."""

import datetime as dt
import time
import uuid
from typing import Any

import msgspec

from billing import ids, money, prices
from billing.catalog import Price
from billing.models import Hold
from billing.operations import ActiveHold, Claim, Progress, Row, Table
from billing.prices import NOTHING, Charge, PriceCard
from billing.usage import Source, Usage
from keys.limits import Slip
from keys.limits.headers import Headers
from keys.services import Principal
from relay.channels.health import Passage
from relay.channels.routing import Candidate, Secret, Target
from relay.protocols.codec import Stream

CALL = Table(
    "relay_calllog",
    (
        ("id", "uuid"),
        ("team_id", "bigint"),
        ("key_id", "bigint"),
        ("request_id", "text"),
        ("endpoint", "text"),
        ("protocol", "text"),
        ("model", "text"),
        ("upstream_model", "text"),
        ("channel", "text"),
        ("streamed", "boolean"),
        ("state", "text"),
        ("status", "smallint"),
        ("error", "text"),
        ("usage", "jsonb"),
        ("usage_source", "text"),
        ("lines", "jsonb"),
        ("cost", "bigint"),
        ("held", "bigint"),
        ("price_id", "bigint"),
        ("upstream_id", "text"),
        ("finish", "text"),
        ("client_ip", "text"),
        ("hold_ms", "double precision"),
        ("first_byte_ms", "double precision"),
        ("duration_ms", "double precision"),
        ("created_at", "timestamptz"),
    ),
)
ATTEMPT = Table(
    "relay_attempt",
    (
        ("call_id", "uuid"),
        ("number", "smallint"),
        ("channel", "text"),
        ("credential", "text"),
        ("protocol", "text"),
        ("outcome", "text"),
        ("status", "smallint"),
        ("detail", "text"),
        ("usage", "jsonb"),
        ("usage_source", "text"),
        ("cost", "bigint"),
        ("began_ms", "double precision"),
        ("first_byte_ms", "double precision"),
        ("ended_ms", "double precision"),
    ),
)


class Attempt(msgspec.Struct):
    """One channel tried; milliseconds from the call's beginning. `usage` is what the provider used for it, if known.
    `sent`: the request went out, which leads to so many `searches` that its answer has nothing of. `whole`: all of an
    answer that is no stream has come.
    """

    candidate: Candidate
    secret: Secret | None
    began_ms: float
    status: int | None = None
    first_byte_ms: float | None = None
    ended_ms: float = 0.0
    outcome: str = ""
    detail: str = ""
    usage: Usage | None = None
    source: Source = Source.NONE
    target: Target | None = None
    passage: Passage | None = None
    sent: bool = False
    searches: int = 0
    whole: bool = False
    retry_after: str | None = None  # as the provider wrote it
    said: str = ""  # the beginning of its refusal

    @property
    def passed_over(self) -> bool:
        """Whether nothing was sent, because the channel had no room or was known to fail."""
        return self.passage is None

    @property
    def cost(self) -> int | None:
        """What the provider charges us, in nano-units; None where that is not known."""
        return cost_of(self.usage, self.candidate.cost_card)


class Call(msgspec.Struct):
    """A call that has been let in. `request_id` is the client's label or `id`."""

    request_id: str
    endpoint: str
    protocol: str
    client_ip: str
    id: uuid.UUID = msgspec.field(default_factory=ids.uuid7)
    created_at: dt.datetime = msgspec.field(default_factory=lambda: dt.datetime.now(dt.UTC))
    began: float = msgspec.field(default_factory=time.monotonic)
    principal: Principal | None = None
    model: str = ""
    streamed: bool = False
    price: Price | None = None
    multiplier: int = prices.ONE
    hold: ActiveHold | None = None
    hold_ms: float | None = None
    attempts: list[Attempt] = msgspec.field(default_factory=list)  # the nth is at the nth of its targets
    upstream_id: str = ""
    finish: str = ""
    closed: bool = False  # the books have been told what became of the hold
    arrived: int = 0  # bytes of an answer that its client did not wait for,
    folding: Stream | None = None  # or as much as has come of the stream that was to be one
    charge: Charge | None = None
    claim: Claim | None = None  # the caller's idempotency key
    candidates: list[Candidate] = msgspec.field(default_factory=list)  # where it may go, in order
    slips: list[Slip] = msgspec.field(default_factory=list)  # its places in rate limits
    estimate: int = 0  # tokens that were reserved there
    rate_headers: Headers = msgspec.field(default_factory=list)  # what its client is told of them
    used: Usage | None = None  # what it used, once that is known
    targets: list[Target] = msgspec.field(default_factory=list)  # the same, with their credentials
    passage: Passage | None = None  # through the first target's breaker
    flat: int | None = None  # what it costs, in nano-units, where that is not its model's price to say
    dropped: list[str] = msgspec.field(default_factory=list)  # of the request, what its last upstream could not have

    def at_flat_rate(self, rate: int) -> None:
        """The call costs `rate` nano-units, whatever it uses. The price that is in force for others stays named."""
        assert self.price is not None
        self.price = msgspec.structs.replace(self.price, card=prices.flat(rate))
        self.multiplier, self.flat = prices.ONE, rate

    def leave_limits(self) -> None:
        """Gives its places back, with the tokens that it did not use; once."""
        refused = self.used is None and all(attempt.passed_over for attempt in self.attempts)
        for slip in self.slips:
            if refused:
                slip.cancel()  # before anything was tried
            else:
                slip.finish(self.used.tokens_in + self.used.tokens_out if self.used is not None else 0)
        self.slips.clear()

    def elapsed_ms(self) -> float:
        return int((time.monotonic() - self.began) * 1e6) / 1000  # whole microseconds

    @property
    def attempt(self) -> Attempt | None:
        return self.attempts[-1] if self.attempts else None

    @property
    def channel(self) -> str:
        return self.attempts[-1].candidate.channel if self.attempts else ""

    @property
    def first_byte_ms(self) -> float | None:
        return self.attempts[-1].first_byte_ms if self.attempts else None

    def facts(self) -> dict[str, Any]:
        """What the sweep needs to record this call if its process dies."""
        principal = self.principal
        assert principal is not None
        costs = [candidate.cost_card for candidate in self.candidates]
        return {
            "team": principal.team,
            "key": principal.key,
            "billing": principal.billing,
            "multiplier": self.multiplier,
            "request_id": self.request_id,
            "endpoint": self.endpoint,
            "protocol": self.protocol,
            "model": self.model,
            "streamed": self.streamed,
            "ip": self.client_ip,
            "channels": [candidate.channel for candidate in self.candidates],
            "models": [candidate.model for candidate in self.candidates],
            **({"costs": costs} if any(costs) else {}),
            **({"rate": self.flat} if self.flat is not None else {}),
        }

    def rows(
        self,
        state: str,
        *,
        status: int,
        error: str = "",
        usage: Usage | None = None,
        source: Source = Source.NONE,
        charge: Charge = NOTHING,
    ) -> list[Row]:
        """The call's record and one row for each attempt."""
        principal, last = self.principal, self.attempt
        assert principal is not None
        if last is not None and usage is not None:
            last.usage, last.source = usage, source
        record = Row(
            CALL,
            (
                self.id,
                principal.team,
                principal.key,
                self.request_id,
                self.endpoint,
                self.protocol,
                self.model,
                last.candidate.model if last else "",
                self.channel,
                self.streamed,
                state,
                status,
                error,
                dict(usage.buckets()) if usage else {},
                source.value,
                charge.lines,
                charge.amount,
                self.hold.amount if self.hold else 0,
                self.price.id if self.price else None,
                clean(self.upstream_id, 128),
                clean(self.finish, 32),
                self.client_ip,
                self.hold_ms,
                self.first_byte_ms,
                self.elapsed_ms(),
                self.created_at,
            ),
        )
        return [record, *(self._attempt_row(number, attempt) for number, attempt in enumerate(self.attempts, 1))]

    def late_rows(self, hold: ActiveHold) -> list[Row]:
        """The record of a call that was refused because its hold was not known to be written, and then it was."""
        self.hold = hold
        return self.rows("failed", status=503, error="unavailable")

    def _attempt_row(self, number: int, attempt: Attempt) -> Row:
        return Row(
            ATTEMPT,
            (
                self.id,
                number,
                attempt.candidate.channel,
                attempt.secret.last_four if attempt.secret else "",
                attempt.candidate.protocol,
                attempt.outcome or "complete",
                attempt.status,
                clean(attempt.detail, 200),
                dict(attempt.usage.buckets()) if attempt.usage is not None else None,
                attempt.source.value,
                attempt.cost,
                attempt.began_ms,
                attempt.first_byte_ms,
                attempt.ended_ms or self.elapsed_ms(),
            ),
        )


def cost_of(usage: Usage | None, card: PriceCard | None) -> int | None:
    """What a provider charges us by this card, in nano-units; None where the one or the other is not known."""
    return None if usage is None or card is None else min(prices.charge(usage, card).amount, money.LIMIT)


def clean(text: str, longest: int) -> str:
    """A provider's text as a column can hold it: PostgreSQL stores no NUL."""
    return text.replace("\x00", "")[:longest]


def channel_of(hold: Hold, progress: Progress | None) -> str:
    """The channel that a call without a living process was tried at last, "" where that is not known."""
    return _last_tried(hold, progress, "channels")


def model_of(hold: Hold, progress: Progress | None) -> str:
    """The name by which that channel's upstream knows the model, "" where that is not known."""
    return _last_tried(hold, progress, "models")


def _last_tried(hold: Hold, progress: Progress | None, what: str) -> str:
    names = hold.facts.get(what) or []
    number = progress.attempt if progress else 0
    return str(names[number - 1]) if 0 < number <= len(names) else ""


def lost_rows(hold: Hold, progress: Progress | None, usage: Usage | None, charge: Charge) -> list[Row]:
    """The record of a call whose process died, with what is known of its attempts."""
    facts, created_at = hold.facts, hold.created_at
    duration = round((dt.datetime.now(dt.UTC) - created_at).total_seconds() * 1000, 3)
    values = (
        hold.pk, facts.get("team", 0), facts.get("key"), facts.get("request_id", str(hold.pk)),
        facts.get("endpoint", ""), facts.get("protocol", ""), facts.get("model", ""),
        model_of(hold, progress), channel_of(hold, progress),
        facts.get("streamed", False), "lost", 503, "internal_error", dict(usage.buckets()) if usage else {},
        (Source.PARTIAL if usage else Source.NONE).value, charge.lines, charge.amount, hold.amount, hold.price_id,
        "", "", facts.get("ip", ""), None, None, duration, created_at,
    )  # fmt: skip
    tried = (facts.get("channels") or [])[: progress.attempt if progress else 0]
    attempts = [_lost_attempt(hold, n, str(name), "failed", None) for n, name in enumerate(tried[:-1], 1)]
    if tried:
        attempts.append(_lost_attempt(hold, len(tried), str(tried[-1]), "lost", usage))
    return [Row(CALL, values), *attempts]


def _lost_attempt(hold: Hold, number: int, channel: str, outcome: str, usage: Usage | None) -> Row:
    protocol = hold.facts.get("protocol", "")
    cards = msgspec.convert(hold.facts.get("costs", []), list[PriceCard | None])
    cost = cost_of(usage, cards[number - 1]) if cards else None
    buckets = dict(usage.buckets()) if usage else None
    source = (Source.PARTIAL if usage else Source.NONE).value
    return Row(
        ATTEMPT,
        (hold.pk, number, channel, "", protocol, outcome, None, "", buckets, source, cost, 0.0, None, 0.0),
    )
