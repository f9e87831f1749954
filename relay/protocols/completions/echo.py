"""The prompts that begin the choices of an answer where its client asked for an `echo`. They are the client's own text
and no output of the model: where nobody reports the tokens, they are not counted with it. Pure.

A prompt's text is compared with what comes, so a provider that leaves the echo out has all of its answer counted. The
text of a prompt that came as tokens is not known; as many tokens as it has are left out of what is counted.
"""

from collections.abc import Sequence
from typing import Protocol

import msgspec

from relay.counting.output import Text

_NOTHING = msgspec.Raw(b'""')


class Asking(Protocol):
    """What of the client's request its echo depends on. Each of `prompts` is a text or a number of tokens, and has as
    many of the `choices` as any other, one after the other."""

    echo: bool
    choices: int

    @property
    def prompts(self) -> Sequence[str | int]: ...


class Echoes:
    """Of one answer, whole or streamed."""

    __slots__ = ("_asked", "_come")

    def __init__(self, asked: Asking | None) -> None:
        self._asked = asked if asked is not None and asked.echo else None
        self._come: dict[int, int] = {}  # characters of its prompt that a choice has begun with so far

    def add(self, choice: int, string: msgspec.Raw, text: Text) -> None:
        """Adds to `text` what of this JSON string, the next one of a choice, is the model's."""
        match self._prompt(choice):
            case int(tokens):
                text.spared = tokens
                text.add(string)
            case prompt:
                text.add(self._beyond(choice, prompt, string))

    def lasts(self, choice: int) -> bool:
        """Whether more of the prompt may follow."""
        prompt = self._prompt(choice)
        return isinstance(prompt, str) and self._come.get(choice, 0) < len(prompt)

    def _prompt(self, choice: int) -> str | int:
        if self._asked is None or not 0 <= choice < self._asked.choices:
            return ""
        prompts = self._asked.prompts
        return prompts[choice * len(prompts) // self._asked.choices]

    def _beyond(self, choice: int, prompt: str, string: msgspec.Raw) -> msgspec.Raw:
        come = self._come.get(choice, 0)
        if come >= len(prompt):
            return string
        said = msgspec.json.decode(string, type=str)
        if prompt.startswith(said, come):
            self._come[choice] = come + len(said)
            return _NOTHING
        self._come[choice] = len(prompt)
        rest = said.removeprefix(prompt[come:])
        return msgspec.Raw(msgspec.json.encode(rest if rest != said else prompt[:come] + said))
