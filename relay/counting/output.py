"""Counts what a model puts out while it passes, without keeping it. Pure.

A stream adds bytes and nothing else; once a block has gathered it is counted up to the last place where the count
cannot change any more, and dropped. So the sum over any pieces is the count of the whole text, except that an unbroken
word of more than 64 KiB may count two tokens more for each 64 KiB. Text that comes in pieces too large to be counted at
once on the event loop waits, up to a mebibyte, for the end of the answer, which is counted in a thread.
"""

import msgspec

from relay.counting import families, tokenizer
from relay.counting.calibration import Calibration, Side
from relay.counting.families import Family
from relay.counting.prompt import CALL, unlike

# Bytes that gather before they are counted, on the event loop: 0.1 ms of prose, 0.7 ms of noise.
BLOCK = 4096
_AT_ONCE, _MOST_WAITING = 4 * BLOCK, 1 << 20


class Text:
    """One of the texts of an answer: the content of one choice, its reasoning, one call's arguments.

    `raw` takes the insides of JSON strings, one after the other; `fold` is due when it holds more than BLOCK. `spared`
    is how many of its tokens are known not to be the model's.
    """

    __slots__ = ("_family", "_rest", "_size", "_tokens", "counted", "letters", "raw", "spared")

    def __init__(self, family: Family) -> None:
        self.raw = bytearray()
        self._family = family
        self._rest = ""
        self._size = self._tokens = self.spared = 0
        self.counted = self.letters = 0  # bytes and characters of the text that has been counted

    @property
    def size(self) -> int:
        """How many bytes the text had as it stood in the JSON."""
        return self._size + len(self.raw)

    def add(self, string: msgspec.Raw) -> None:
        """Adds the text of a JSON string, which comes with its quotes."""
        self.raw += memoryview(string)[1:-1]
        if len(self.raw) > BLOCK:
            self.fold()

    def add_json(self, raw: msgspec.Raw) -> None:
        """Adds any other JSON as a text: it is counted as it is written."""
        self.add(msgspec.Raw(msgspec.json.encode(bytes(raw).decode("utf-8", "replace"))))

    def fold(self) -> None:
        """Counts what has gathered, but for what may still change."""
        if _AT_ONCE < len(self.raw) < _MOST_WAITING:
            return
        text = self._rest + self._take()
        tokens, self._rest = tokenizer.count_prefix(text, self._family.vocabulary)
        self._note(tokens, text[: len(text) - len(self._rest)])

    def tokens(self) -> int:
        """The tokens of everything so far, which is taken for the whole text."""
        text = self._rest + self._take()
        self._rest = ""
        self._note(tokenizer.count(text, self._family.vocabulary), text)
        return max(0, self._tokens - self.spared)

    def _note(self, tokens: int, text: str) -> None:
        data = text.encode("utf-8", "replace")
        self.letters += len(text)
        self.counted += len(data)
        self._tokens += tokens if self._family.exact else unlike(tokens, data)

    def _take(self) -> str:
        data = bytes(self.raw)
        self.raw.clear()
        self._size += len(data)
        if b"\\" not in data:
            return data.decode()
        return msgspec.json.decode(b'"' + data + b'"', type=str)


class Output:
    """All that was put out in one answer, by the model that the upstream knows as `model`. `ended` is how many of its
    choices came to an end by themselves, `searches` those of the web that its provider made for it."""

    __slots__ = ("_family", "_model", "_texts", "ended", "searches")

    def __init__(self, model: str = "") -> None:
        self._model = model
        self._family = families.of(model)
        self._texts: dict[tuple[int, str, int], Text] = {}
        self.ended = self.searches = 0

    def text(self, choice: int, part: str, number: int = 0) -> Text:
        """Where a text goes: a choice's `content`, `reasoning` and so on, or the `name` and `arguments` of a call."""
        key = (choice, part, number)
        found = self._texts.get(key)
        if found is None:
            found = self._texts[key] = Text(self._family)
        return found

    @property
    def size(self) -> int:
        """Bytes of the model's output as they stood in the JSON. 0 for nothing at all."""
        return sum(text.size for text in self._texts.values())

    @property
    def calls(self) -> int:
        return len({(choice, number) for choice, part, number in self._texts if part in ("name", "arguments")})

    @property
    def thought(self) -> bool:
        """Whether thoughts were shown."""
        return any(part.startswith("reasoning") for _, part, _ in self._texts)

    @property
    def waiting(self) -> int:
        """Bytes that are still to be counted."""
        return sum(len(text.raw) for text in self._texts.values())

    @property
    def wide(self) -> bool:
        """Whether a good part of what was counted is in another script than the Latin one."""
        texts = self._texts.values()
        return sum(text.counted for text in texts) * 4 > sum(text.letters for text in texts) * 5

    def baseline(self) -> int:
        """Before calibration. Ends all texts."""
        tokens = sum(text.tokens() for text in self._texts.values())
        # The report of models with o200k contains the token that ends an answer.
        ends = self.ended if self._family.vocabulary is tokenizer.Vocabulary.O200K else 0
        return tokens + CALL * self.calls + (ends if tokens else 0)

    def tokens(self, calibration: Calibration) -> int:
        """The tokens that the upstream most likely counts. Thoughts that it did not show cannot be counted."""
        found = self.baseline()
        if not found or self._family.exact:
            return found
        return calibration.raised(self._model, Side.OUTPUT, found, wide=self.wide)
