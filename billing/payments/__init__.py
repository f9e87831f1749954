"""Payments: one module for each way in which money comes in, all with the same verbs.

A provider (`stripe`, `epay`: somebody else's checkout) is a module of this folder that knows its own wire and nothing
of the ledger, of rows or of the other providers. It offers what `Provider` says:

    configured()        whether it may be offered and its deliveries taken: every secret is there
    problems()          what is wrong with its settings, for `doctor`
    begin(order)        asks the provider for a checkout; where to send the payer
    receive(delivery)   a delivery of the provider's to us, proven to be its own → Event; raises Forged, Malformed
    ask(order)          what the provider says of an order now, as the facts that a delivery would have brought
    refunds(receipt)    the refunds of a payment as the provider has them, for events that do not name theirs
    refund(…)           asks the provider to give money back; its delivery books it
    answer(…)           what the provider wants to hear

What an event says is facts, which mean the same for all providers. They are put into the books by `booking`, in one
transaction with the event's row, which is written first and is unique. Facts only ever go forward (`Stage`), so their
order does not matter and a repeated one changes nothing. `orders` begins payments, `sweep` asks for those whose
delivery was lost, `registry` is the table of the providers.

What needs nobody else's checkout (`redeem`, `manual`) books at once: a function that posts one transfer, whose
reference is its own row's id.

Amounts: `amount` is what the wallet gets, in nano-units of the ledger's currency. `due` is what the payer pays, in
minor units of the payer's currency (`currencies`), computed once from a stored rate and frozen on the order.
"""

import datetime as dt
import uuid
from collections.abc import Iterable, Mapping
from enum import IntEnum, StrEnum
from typing import Protocol

import msgspec


class PaymentError(Exception):
    """The family of what can go wrong with a payment. The message is fit for the one who caused it."""


class Forged(PaymentError):
    """A delivery that does not bear the provider's signature, or bears an old one."""


class Malformed(PaymentError):
    """A delivery that is signed and makes no sense."""


class ProviderFailed(PaymentError):
    """The provider could not be reached, or refused. Nothing is known of what it did; asking again is safe."""


class NotOffered(PaymentError):
    """This amount, currency or provider cannot be paid with."""


class Problem(msgspec.Struct, frozen=True):
    """Something wrong with the settings, and what to do. An `error` keeps a provider from being offered."""

    error: bool
    what: str
    do: str


class Order(msgspec.Struct, frozen=True):
    """A payment as a provider knows it. `checkout` and `checkout_url` are empty before `begin`."""

    id: uuid.UUID
    due: int
    currency: str
    method: str
    title: str
    return_url: str
    cancel_url: str
    notify_url: str
    expires_at: dt.datetime
    email: str = ""
    checkout: str = ""


class Checkout(msgspec.Struct, frozen=True):
    """Where the payer goes, and the provider's own name for it (empty where it gives none)."""

    url: str
    id: str = ""


class Delivery(msgspec.Struct, frozen=True):
    """A request of a provider's, as it came. Headers are found by their names in lower case."""

    method: str
    body: bytes
    query: str
    headers: Mapping[str, str]


class Paid(msgspec.Struct, frozen=True, tag=True):
    """The order is paid. `receipt` is the provider's id of the payment, by which it speaks of refunds later."""

    order: str
    checkout: str
    receipt: str
    due: int
    currency: str


class Waiting(msgspec.Struct, frozen=True, tag=True):
    """The payer is done, the money is on its way: a bank debit takes days."""

    order: str
    checkout: str


class Failed(msgspec.Struct, frozen=True, tag=True):
    order: str
    checkout: str


class Expired(msgspec.Struct, frozen=True, tag=True):
    order: str
    checkout: str


class Stage(IntEnum):
    """How far a refund or a dispute has come. It never goes back: a delivery of an earlier stage comes late."""

    OPEN = 0  # announced; no money has moved
    TAKEN = 1  # the money is gone from us
    RETURNED = 2  # it came back: a refund that failed, a dispute that was won


class Reversal(StrEnum):
    REFUND = "refund"
    DISPUTE = "dispute"


class TakenBack(msgspec.Struct, frozen=True, tag=True):
    """A refund or a dispute of the payment `receipt`. `id` is the provider's, `due` what it is about in minor units."""

    receipt: str
    kind: Reversal
    id: str
    due: int
    currency: str
    stage: Stage


Fact = Paid | Waiting | Failed | Expired | TakenBack


class Event(msgspec.Struct, frozen=True):
    """What a delivery says. `id` is unique with its provider; one without facts concerns nothing of ours.

    `refunds_of` names a payment whose refunds have changed, where the event does not say which.
    """

    id: str
    kind: str
    facts: tuple[Fact, ...] = ()
    refunds_of: str = ""


class Outcome(StrEnum):
    """What became of an event."""

    APPLIED = "applied"  # the books or the order changed
    REPEATED = "repeated"  # everything it says was known
    UNMATCHED = "unmatched"  # about a payment that is not known yet; looked at again when one is paid
    UNKNOWN = "unknown"  # about an order that is not ours
    REFUSED = "refused"  # contradicts the order: an administrator has to look
    IGNORED = "ignored"  # of a kind that concerns no money


class Method(msgspec.Struct, frozen=True):
    """One way to pay that a payer chooses: the provider's code for it (empty: the provider asks), and its name."""

    code: str
    name: str


class Provider(Protocol):
    """The verbs of a provider's module."""

    NAME: str

    def configured(self) -> bool: ...
    def problems(self) -> Iterable[Problem]: ...
    def currencies(self) -> tuple[str, ...]: ...
    def methods(self) -> tuple[Method, ...]: ...
    def begin(self, order: Order) -> Checkout: ...
    def receive(self, delivery: Delivery) -> Event: ...
    def ask(self, order: Order) -> tuple[Fact, ...]: ...
    def refunds(self, receipt: str) -> tuple[Fact, ...]: ...
    def refund(self, *, receipt: str, due: int, key: str) -> None: ...
    def answer(self, outcome: Outcome) -> tuple[int, str]: ...
