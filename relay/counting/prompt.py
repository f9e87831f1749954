"""A prompt as the counting sees it, whatever its protocol, and its tokens. Pure; long ones are not for the event loop.

OpenAI's framing (cookbook, "How to count tokens with tiktoken"): 3 tokens a message, 1 a name, 3 for the answer's
beginning; a function call in the history 3. These are exact for gpt-3.5-turbo, gpt-4, gpt-4o and gpt-4.1, and 1 to 2
too many for models that reason.
"""

from typing import Any

import msgspec

from relay.counting import families, tokenizer, tools
from relay.counting.calibration import Calibration, Side
from relay.counting.families import Family
from relay.counting.media import Document, Media

MESSAGE, NAME, ANSWER, CALL = 3, 1, 3, 3
# Several calls in one message are wrapped in a way that nobody has published: held for at the most that was seen.
PARALLEL_CALL = 8
# More than any model's prompt can be: such a body is not worth counting.
LONGEST_TEXT = 1 << 23  # bytes
_LITTLE = 256  # characters
_MARGIN = 1250  # per mille: what a calibrated count is raised by where it must not be below


class Prompt(msgspec.Struct):
    """`texts` are in the prompt, each counted for itself; `maybe` are texts that some upstreams put into it
    (identifiers, fields that the gateway does not know). `framing` is the tokens of messages and names by OpenAI's
    rules, `system` the place in `texts` of the first system message, `choice` the function that has to be called,
    `tokens` what the client has counted itself, by sending tokens in place of a text."""

    texts: list[str] = msgspec.field(default_factory=list)
    maybe: list[str] = msgspec.field(default_factory=list)
    framing: int = ANSWER
    functions: list[dict[str, Any]] = msgspec.field(default_factory=list)
    system: int | None = None
    choice: str | None = None
    media: list[Media] = msgspec.field(default_factory=list)
    tokens: int = 0

    @property
    def plain(self) -> bool:
        """Nothing but text, as far as anybody can tell: what a report can be compared with."""
        return not (self.functions or self.media or self.tokens) and sum(map(len, self.maybe)) <= _LITTLE

    @property
    def wide(self) -> bool:
        """Whether a good part of it is in another script than the Latin one."""
        letters = sum(map(len, self.texts))
        return sum(len(text.encode("utf-8", "replace")) for text in self.texts) * 4 > letters * 5


def count(prompt: Prompt, model: str, calibration: Calibration) -> int:
    """The tokens that the upstream most likely counts: exact for text of OpenAI's families, else calibrated."""
    family = families.of(model)
    return _text(prompt, model, family, calibration) + _media(prompt, family) + prompt.tokens


def bound(prompt: Prompt, model: str, calibration: Calibration) -> int:
    """Tokens that the upstream does not count more than."""
    family = families.of(model)
    found = _text(prompt, model, family, calibration, bound=True)
    found += sum(raw(text, family) for text in prompt.maybe) * (1 if family.exact else 2)
    if not family.exact:
        found = found * _MARGIN // 1000 + 64
    return found + _media(prompt, family, bound=True) + prompt.tokens


def baseline(prompt: Prompt, family: Family) -> int:
    """Before calibration, without tools and media: what is compared with a report."""
    return prompt.framing + sum(raw(text, family) for text in prompt.texts)


def raw(text: str, family: Family) -> int:
    """Exact for OpenAI's vocabularies. For others a number that is fairly proportional to theirs: many count each digit
    for itself, and few join as long runs of one character as o200k does."""
    found = tokenizer.count(text, family.vocabulary)
    if family.exact:
        return found
    return unlike(found, text.encode("utf-8", "replace"))


def unlike(tokens: int, data: bytes) -> int:
    """The o200k count of some text, with what other vocabularies do differently added."""
    digits = sum(map(data.count, _DIGITS))
    return max(tokens + digits * 2 // 3, -(-len(data) // 6))


_DIGITS = [b"%d" % digit for digit in range(10)]


def _text(prompt: Prompt, model: str, family: Family, calibration: Calibration, *, bound: bool = False) -> int:
    found = baseline(prompt, family)
    if prompt.functions:
        found += _tools(prompt, family, bound=bound)
    if family.exact or not found:
        return found
    return calibration.raised(model, Side.INPUT, found, wide=prompt.wide) + (family.tools if prompt.functions else 0)


def _tools(prompt: Prompt, family: Family, *, bound: bool) -> int:
    def tokens(text: str) -> int:
        return raw(text, family)

    found = tools.count(prompt.functions, tokens, shared=prompt.system is not None, bound=bound or not family.exact)
    if prompt.system is not None:  # a line's end stands between it and the definitions
        text = prompt.texts[prompt.system]
        found += tokens(text + "\n") - tokens(text)
    if prompt.choice is not None:
        found += 1 if prompt.choice == "none" else 4 + tokens(prompt.choice)
    return found


def _media(prompt: Prompt, family: Family, *, bound: bool = False) -> int:
    total = 0
    for thing in prompt.media:
        if isinstance(thing, Document):
            total += thing.tighter(family)
        else:
            total += thing.most(family)
    return total
