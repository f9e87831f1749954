"""OpenAI's legacy completions: the few fields of a request that the gateway must know.

Source: OpenAI API reference, "Create completion" (legacy).
"""

from typing import Any

import msgspec

from relay.counting.prompt import Prompt
from relay.errors import Cause, RelayError
from relay.protocols import bodies
from relay.protocols.asked import BaseAsked
from relay.protocols.canonical import Request
from relay.protocols.capabilities import Capabilities
from relay.protocols.completions import reading

USUAL_LIMIT = 16  # the endpoint's own
OTHER_LIMIT = "max_completion_tokens"  # the chat's; none of this endpoint's, but some providers read both alike
MOST_ANSWERS = 128
MOST_PROMPTS = 2048


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class _Wanted(msgspec.Struct):
    model: str | None = None
    prompt: str | list[str | int | list[int]] | None = None
    suffix: str | None = None
    echo: bool | None = None
    max_tokens: int | None = None
    n: int | None = None
    best_of: int | None = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    api_key: str | None = None


class CompletionRequest(BaseAsked):
    """`n` is how many answers are made and paid for, `choices` how many of them are given; `prompts` are
    texts or numbers of tokens, `texts` those that are text, `tokens` the number of tokens in those that are none;
    `echo` whether the prompt begins the answer."""

    __slots__ = ("_fields", "choices", "echo", "prompts", "several", "suffix", "texts", "tokens", "wants_usage")

    protocol = "completions"
    MEDIA = ()

    def __init__(self, body: bytes, wanted: _Wanted, fields: bodies.Fields) -> None:
        prompts = self.prompts = _prompts(wanted.prompt)
        n = wanted.n or 1
        self._fields = fields
        self.texts = [prompt for prompt in prompts if isinstance(prompt, str)]
        self.tokens = sum(prompt for prompt in prompts if isinstance(prompt, int))
        self.several = len(prompts) > 1 or n > 1 or (wanted.best_of or 1) > 1
        self.choices = n * len(prompts)
        self.suffix = wanted.suffix
        self.echo = bool(wanted.echo)
        self.wants_usage = bool(wanted.stream_options and wanted.stream_options.include_usage)
        super().__init__(
            body,
            model=wanted.model or "",
            stream=bool(wanted.stream),
            limit=USUAL_LIMIT if wanted.max_tokens is None else wanted.max_tokens,
            n=max(n, wanted.best_of or 1) * len(prompts),
        )

    def prompt(self) -> Prompt:
        return Prompt(texts=[*self.texts, self.suffix or ""], framing=self.tokens)

    def encode(self, *, model: str, limit: int | None, caps: Capabilities | None = None) -> bytes:
        """The body for an upstream that completes texts. The usual limit is written out: others have another one. No
        limit goes under another name than the one that is held for."""
        given = {name: value for name, value in self._fields.items() if name != OTHER_LIMIT}
        changes: dict[str, Any] = {}
        if model != self.model:
            changes["model"] = model
        if self.stream and not self.wants_usage:
            changes["stream_options"] = bodies.with_usage(given)
        written = "max_tokens" in given and bytes(given["max_tokens"]) != b"null" and OTHER_LIMIT not in self._fields
        if limit is not None or not written:
            changes["max_tokens"] = self.limit if limit is None else limit
        return bodies.rewritten(self.body, given, changes, _QUOTED)

    def canonical(self) -> Request:
        """Raises RelayError for what only a model that completes texts can do."""
        self._refuse_untranslatable()
        return super().canonical()

    def _decode(self, body: bytes) -> Request:
        return reading.decode_request(body, self._fields, prompt=self.texts[0], limit=self.limit)

    def _refuse_untranslatable(self) -> None:
        if self.several:
            name = next((name for name in ("n", "best_of") if name in self._fields), "prompt")
            text = "This model gives one answer to one prompt: one `prompt`, `n` and `best_of` of 1."
            raise RelayError(Cause.INVALID_PARAMETER, text, param=name)
        if len(self.texts) != 1:
            raise RelayError(Cause.INVALID_PARAMETER, "This model takes a `prompt` of text.", param="prompt")
        if self.suffix:
            raise RelayError(Cause.INVALID_PARAMETER, "This model fills no gaps: it takes no `suffix`.", param="suffix")
        if not self.limit:
            raise RelayError(Cause.INVALID_PARAMETER, "This model has to put out a token at least.", param="max_tokens")


_READ = frozenset(_Wanted.__struct_fields__)
_QUOTED = bodies.quoted(_READ)
_decoder = msgspec.json.Decoder(_Wanted)


def read(body: bytes, *, model: str = "", stream: bool | None = None) -> CompletionRequest:
    """Raises RelayError: invalid_json or invalid_parameter, with the field's name. The path says nothing here."""
    wanted = bodies.decode(body, _decoder)
    fields = bodies.fields(body, _READ)
    bodies.bounded(wanted, ("n", "best_of"))
    bodies.bounded(wanted, ("max_tokens",), least=0)
    for name in ("n", "best_of"):
        if (getattr(wanted, name) or 1) > MOST_ANSWERS:
            raise RelayError(Cause.INVALID_PARAMETER, f"`{name}` must be at most {MOST_ANSWERS}.", param=name)
    return CompletionRequest(body, wanted, fields)


def _prompts(given: str | list[str | int | list[int]] | None) -> list[str | int]:
    """Each prompt as its text, or as the number of its tokens. A missing one is the beginning of a document."""
    if given is None:
        return [1]
    if isinstance(given, str):
        return [given]
    if given and all(isinstance(item, int) for item in given):
        return [len(given)]
    prompts = [len(item) if isinstance(item, list) else item for item in given]
    if not given or len({type(item) for item in given}) > 1 or len(given) > MOST_PROMPTS:
        text = f"`prompt` must be a text, tokens, or a list of up to {MOST_PROMPTS} of the one or of the other."
        raise RelayError(Cause.INVALID_PARAMETER, text, param="prompt")
    return prompts
