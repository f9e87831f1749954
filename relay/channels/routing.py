"""Which channels and credentials can serve a call, in the order in which they are tried. Pure: chance is given."""

import hashlib
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import msgspec

from billing.prices import PriceCard
from keys.rates import Scope
from relay.channels import dress, health
from relay.channels.dress import Dress
from relay.channels.health import Tolerance
from relay.protocols.capabilities import Capabilities

MOST_ATTEMPTS = 3  # requests that are sent for one call
LONGEST_PLAN = 16  # targets; every hold keeps them, for whoever recovers its call


class Timeouts(msgspec.Struct, frozen=True):
    """Seconds: to connect, to the first byte of the answer, between two reads, and in all."""

    connect: float = 5.0
    first_byte: float = 120.0
    idle: float = 60.0
    total: float = 1800.0


class Secret(msgspec.Struct, frozen=True):
    """A decrypted credential. Its text appears in no repr."""

    id: int
    last_four: str
    value: str
    weight: int = 1

    def __repr__(self) -> str:
        return f"Secret(…{self.last_four})"


class Candidate(msgspec.Struct, frozen=True):
    """A channel that can serve one offered model, under the upstream's name for it.

    `cost_card` is what the provider charges us, None where nobody wrote it down. `caps` is what the model accepts.
    `scope` are the channel's rate limits, None where it has none. `keyless`: the provider wants no credential; without
    this a channel that has none in use serves nothing. `retry_on` are the kinds of failure after which another channel
    is tried.
    """

    channel: str
    protocol: str
    base_url: str
    model: str
    priority: int
    weight: int
    on_hangup: str
    private: bool
    timeouts: Timeouts
    credentials: tuple[Secret, ...]
    cost_card: PriceCard | None = None
    caps: Capabilities = Capabilities()
    scope: Scope | None = None
    keyless: bool = True
    id: int = 0
    dress: Dress = dress.USUAL
    tolerance: Tolerance = health.USUAL
    retry_on: frozenset[str] = frozenset(health.RETRIED)
    auto_disable: bool = True
    forbids_by_input: bool = False


class Target(msgspec.Struct, frozen=True):
    """One credential of one channel, for one model. `key` names its circuit (`health.Registry`)."""

    candidate: Candidate
    secret: Secret | None
    key: str


def targets(candidate: Candidate) -> list[Target]:
    """One for each credential in use, or one without where the provider wants none."""
    if candidate.credentials:
        return [Target(candidate, secret, credential_key(secret.id)) for secret in candidate.credentials]
    return [Target(candidate, None, channel_key(candidate.id))] if candidate.keyless else []


def credential_key(number: int) -> str:
    return f"k{number}"


def channel_key(number: int) -> str:
    """The key of the one circuit of a channel without credentials."""
    return f"c{number}"


def every(_: str) -> bool:
    return True


def plan(
    candidates: Sequence[Candidate],
    source: random.Random,
    *,
    passes: Callable[[str], bool] = every,
    affinity: bytes = b"",
) -> list[Target]:
    """Where to try, in this order: each channel by priority, lower first, and within one priority by weight, at random
    or, with an `affinity`, always the same way for the same affinity; then the channels' other credentials. What is not
    let through is left out; an empty plan says that nothing is. It is longer than a call has attempts: who has no room
    for it, or cannot be asked, is known only when it gets there."""
    if len(candidates) == 1 and len(candidates[0].credentials) <= 1:
        return [target for target in targets(candidates[0]) if passes(target.key)]
    draw = _draws(source, affinity)
    found = [
        [target for target in _by_weight(targets(candidate), draw) if passes(target.key)]
        for candidate in in_order(candidates, draw)
    ]
    planned = [queue[0] for queue in found if queue]
    planned += [target for queue in found for target in queue[1:]]
    return _within_reach(planned)


def _within_reach(planned: list[Target]) -> list[Target]:
    """As many of one channel as attempts, for it is passed over with all of its credentials or not at all."""
    if len(planned) <= MOST_ATTEMPTS:
        return planned
    met: Counter[str] = Counter()
    kept: list[Target] = []
    for target in planned:
        met[target.candidate.channel] += 1
        if met[target.candidate.channel] <= MOST_ATTEMPTS:
            kept.append(target)
    return kept[:LONGEST_PLAN]


Draw = Callable[[str], float]  # a number from 0 to 1 for a name


def _draws(source: random.Random, affinity: bytes) -> Draw:
    """Chance; or, with an affinity, what only looks like it: then the order below is rendezvous hashing, so whoever
    goes away moves only the affinities that it had."""
    if not affinity:
        return lambda name: source.random()

    def draw(name: str) -> float:
        digest = hashlib.blake2b(affinity + b"\x00" + name.encode(), digest_size=8).digest()
        return (int.from_bytes(digest) + 0.5) / 2**64

    return draw


def in_order(candidates: Sequence[Candidate], draw: Draw) -> list[Candidate]:
    """By priority; within one a weighted shuffle (Efraimidis and Spirakis, 2006). Weight 0 comes last."""
    keyed = [(c.priority, _rank(draw(channel_key(c.id) + c.channel), c.weight), n) for n, c in enumerate(candidates)]
    return [candidates[number] for _, _, number in sorted(keyed)]


def _by_weight(found: list[Target], draw: Draw) -> list[Target]:
    if len(found) < 2:
        return found
    keyed = [(_rank(draw(t.key), t.secret.weight if t.secret else 1), n) for n, t in enumerate(found)]
    return [found[number] for _, number in sorted(keyed)]


def _rank(drawn: float, weight: int) -> float:
    return -(drawn ** (1.0 / weight)) if weight else 0.0


def has_choice(candidates: Sequence[Candidate]) -> bool:
    """Whether an affinity could make a difference."""
    return len(candidates) > 1 or len(candidates[0].credentials) > 1


def gives_state(candidates: Sequence[Candidate]) -> bool:
    """Whether some of them give a conversation state that only the account which gave it can read, as OpenAI does with
    the thoughts of Responses ("invalid_encrypted_content" from any other)."""
    return any(candidate.protocol == "responses" for candidate in candidates)


# ---- affinity -------------------------------------------------------------------------------------------------------

LEAST_CACHED = 4096  # bytes of a body below which no provider caches a prompt (1,024 tokens)
_LONGEST = 16 * 1024  # bytes that are looked at of each part
# Headers by which clients name a conversation.
SESSION_HEADERS = (b"x-session-id", b"session_id", b"conversation_id", b"x-session-affinity")


class _Metadata(msgspec.Struct):
    user_id: str | None = None


class _Opening(msgspec.Struct):
    """What of a request its provider's cache goes by, in every protocol's words."""

    prompt_cache_key: str | None = None
    metadata: _Metadata | None = None
    system: msgspec.Raw = msgspec.Raw()
    systemInstruction: msgspec.Raw = msgspec.Raw()
    system_instruction: msgspec.Raw = msgspec.Raw()
    instructions: msgspec.Raw = msgspec.Raw()
    tools: msgspec.Raw = msgspec.Raw()
    messages: msgspec.Raw = msgspec.Raw()
    contents: msgspec.Raw = msgspec.Raw()
    input: msgspec.Raw = msgspec.Raw()


class _Turn(msgspec.Struct):
    role: str | None = None
    content: msgspec.Raw = msgspec.Raw()


class _Part(msgspec.Struct):
    text: str


_opening = msgspec.json.Decoder(_Opening)
_raws = msgspec.json.Decoder(list[msgspec.Raw])
_turn = msgspec.json.Decoder(_Turn)
_text = msgspec.json.Decoder(str)
_part = msgspec.json.Decoder(_Part)


def affinity(body: bytes, headers: Mapping[bytes, bytes], *, team: int, model: str, stateful: bool = False) -> bytes:
    """What a call shares with those whose prompt a provider may have cached; b"" where that is nothing.

    A name that the client gives (`prompt_cache_key`, `metadata.user_id`, a session's header) counts alone; else the
    beginning of the conversation: instructions, tools, and the turns up to the user's first. Where the conversation is
    `stateful` (`gives_state`), these turns alone count, however short it is: it has to go on where its state can be
    read, and instructions and tools may change with every call.
    """
    begin = f"{team}\x00{model}\x00".encode()
    for name in SESSION_HEADERS:
        if given := headers.get(name):
            return _digest(begin, b"session", given)
    short = len(body) < LEAST_CACHED and not stateful
    if short and b'"prompt_cache_key"' not in body and b'"user_id"' not in body:
        return b""
    try:
        found = _opening.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return b""
    named = found.prompt_cache_key or (found.metadata.user_id if found.metadata else None)
    if named:
        return _digest(begin, b"named", named.encode())
    if short:
        return b""
    told = (found.system, found.systemInstruction, found.system_instruction, found.instructions, found.tools)
    turns = [turn for raw in (found.messages, found.contents, found.input) for turn in _first_turns(raw)]
    return _digest(begin, *(() if stateful else map(_beginning, told)), *turns)


def _first_turns(raw: msgspec.Raw) -> list[bytes]:
    """How a conversation's turns begin, up to the user's first. A text alone is the user's."""
    if not memoryview(raw).nbytes:
        return []
    try:
        turns = _raws.decode(raw)
    except msgspec.DecodeError:
        return [_said("user", raw) or _beginning(raw)]
    begun: list[bytes] = []
    for turn in turns:
        try:
            found = _turn.decode(turn)
        except msgspec.DecodeError:
            return [*begun, _beginning(turn)]
        begun.append(_said(found.role or "", found.content) or _beginning(turn))
        if found.role in ("user", None):
            break
    return begun


def _said(role: str, content: msgspec.Raw) -> bytes:
    """The text that a turn begins with, however it is written: clients and SDKs send one turn in several forms, and the
    gateway itself has stored it in one. b"" where there is none."""
    try:
        if bytes(memoryview(content)[:1]) == b'"':
            text = _text.decode(content)
        else:
            text = _part.decode(_raws.decode(content)[0]).text
    except (msgspec.DecodeError, IndexError):
        return b""
    return f"{role}\x00{text[:_LONGEST]}".encode(errors="replace")


def _beginning(raw: msgspec.Raw) -> bytes:
    return bytes(memoryview(raw)[:_LONGEST])


def _digest(*parts: bytes) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(len(part).to_bytes(8) + part)
    return digest.digest()
