"""What may be limited, as values: requests per minute, tokens per minute, parallel calls. Pure.

A limit belongs to a key, a team or a channel. Units: requests, tokens, calls at once, seconds.
"""

from enum import StrEnum
from math import ceil

import msgspec

# Windows are counted in whole microseconds, so that two clocks and two languages come to the same.
SECOND = 1_000_000
WINDOW = 60 * SECOND
GRAIN = SECOND // 4
GRAINS = WINDOW // GRAIN

LARGEST = 1_000_000_000
FIELDS = ("rpm", "tpm", "parallel")  # what owners call their limits, in the order of Kind
SLOT_WAIT = 1.0  # seconds until another look at a parallel limit: nobody can tell when a call ends
OUTPUT_ALLOWANCE = 1024  # the most tokens of an answer that are reserved before anything of it is seen
BYTES_PER_TOKEN = 4


class Owner(StrEnum):
    """Whose limit it is. Callers are told of their key's and their team's; a channel's is the operator's affair."""

    KEY = "key"
    TEAM = "team"
    CHANNEL = "channel"


class Kind(StrEnum):
    REQUESTS = "requests"
    TOKENS = "tokens"
    PARALLEL = "parallel"


class Limit(msgspec.Struct, frozen=True):
    """`most` of one kind for one owner. `name` is under what it is counted, everywhere."""

    owner: Owner
    kind: Kind
    most: int
    name: str


class Scope(msgspec.Struct, frozen=True):
    """An owner with its limits, of which there is at least one."""

    owner: Owner
    id: int
    limits: tuple[Limit, ...]


class Reading(msgspec.Struct, frozen=True):
    """How a limit stood when a call asked.

    `used` includes the call if it was admitted. `wait` is how many seconds later the limit would have let it in, 0.0
    where it did. `reset` is in how many seconds the window is empty if nothing more comes.
    """

    limit: Limit
    used: int
    wait: float
    reset: float

    @property
    def remaining(self) -> int:
        return max(0, self.limit.most - self.used)


def scope(
    owner: Owner, id: int, *, rpm: int | None = None, tpm: int | None = None, parallel: int | None = None
) -> Scope | None:
    """The owner's limits; None where it has none. A limit of 0 or None is no limit."""
    wanted = ((Kind.REQUESTS, rpm), (Kind.TOKENS, tpm), (Kind.PARALLEL, parallel))
    limits = tuple(
        Limit(owner, kind, most, f"pisces:limits:{owner.value}:{id}:{kind.value}") for kind, most in wanted if most
    )
    return Scope(owner, id, limits) if limits else None


def amount(limit: Limit, tokens: int) -> int:
    """What a call takes of the limit. One that alone is larger than the limit takes all of it."""
    return min(max(tokens, 1), limit.most) if limit.kind is Kind.TOKENS else 1


def estimate(
    *, prompt_tokens: int | None = None, text_bytes: int = 0, max_output: int | None = None, answers: int = 1
) -> int:
    """The tokens to reserve for a call: its counted prompt, else a token for four bytes, and an allowance for output.

    The allowance is what the call asks for, at most 1,024 for each answer: most answers are shorter than what they may
    be, and a longer one is made up for when it is known. `max_output` None: nobody knows; 0: there is none.
    """
    prompt = prompt_tokens if prompt_tokens is not None else ceil(text_bytes / BYTES_PER_TOKEN)
    return prompt + answers * (OUTPUT_ALLOWANCE if max_output is None else min(max_output, OUTPUT_ALLOWANCE))
