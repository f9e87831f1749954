"""What a model accepts: facts about families of models, which a catalogue row may correct. Pure data.

The encoders ask here whether to map, degrade, drop or refuse; they know no model's name themselves. Sources: vendors'
API references and model pages as of 2026-11.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Literal

import msgspec

MODALITIES = frozenset(("text", "image", "document", "audio", "video"))


class Capabilities(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`thinking`: how the model is told to think. `effort`: a level by name (OpenAI; Gemini from 3 on); `budget`:
    tokens; `adaptive`: Anthropic's own, with an effort beside it; `none`: not at all. `efforts` are its levels.

    `input` are the kinds of parts; `picture_urls`: it fetches pictures itself, `document_urls` likewise, of which
    `text_urls` are those that are no PDF; `result_media`: pictures may be in a tool's result; `part_resolution`:
    Gemini's, each picture may say how closely it is to be looked at. `sampling`: temperature and its like;
    `one_sampling`: either temperature or top_p; `forced_tools`: a tool may be demanded; `prefill`: the last turn may be
    the model's; `mid_system`: system turns may stand between others; `schema`: answers can be bound to a JSON Schema,
    `json_mode` to JSON, `schema_with_tools` both with tools; `json_schema`: takes JSON Schema as it is where its
    protocol also has a dialect of its own; `signatures`: a call in the history has to bear the state that it came with;
    `new_limit`: takes `max_completion_tokens` only. `streams`: "any": as it is asked; "only": always; "never": not at
    all; clients get what they ask for. `max_output`, `context`: tokens, None where nobody wrote it down.

    Of OpenAI's wire alone, which many speak differently: `custom_tools`: tools with free text, and `allowed_tools`;
    `verbosity`: that field; `thoughts`: the field of a message in which the model wants its own thoughts back; `marks`:
    the field that marks the end of a prefix to cache; `completions`: takes `/completions`.
    """

    thinking: Literal["none", "effort", "budget", "adaptive"] = "none"
    thinking_always: bool = False
    efforts: tuple[str, ...] = ()
    least_budget: int = 1024
    sampling: bool = True
    one_sampling: bool = False
    most_temperature: float = 2.0
    penalties: bool = True
    seed: bool = True
    logprobs: bool = True
    most_stops: int | None = 4
    tools: bool = True
    forced_tools: bool = True
    parallel_switch: bool = True
    prefill: bool = True
    mid_system: bool = True
    input: frozenset[str] = MODALITIES
    picture_urls: bool = True
    document_urls: bool = True
    text_urls: bool = True
    result_media: bool = False
    part_resolution: bool = False
    schema: bool = True
    json_mode: bool = True
    schema_with_tools: bool = True
    json_schema: bool = False
    signatures: bool = False
    new_limit: bool = False
    custom_tools: bool = False
    verbosity: bool = False
    thoughts: Literal["", "reasoning_content", "reasoning", "reasoning_details", "extra_content"] = ""
    marks: Literal["", "prompt_cache_breakpoint", "cache_control"] = ""
    completions: bool = False
    streams: Literal["any", "only", "never"] = "any"
    max_output: int | None = None
    context: int | None = None


_TEXT_IMAGE_DOCUMENT = frozenset(("text", "image", "document"))
_USUAL_EFFORTS = ("low", "medium", "high")
_OPENAI_EFFORTS = ("minimal", *_USUAL_EFFORTS)

_OPENAI = Capabilities(input=frozenset(("text", "image", "document")), document_urls=False)
_REASONER = msgspec.structs.replace(
    _OPENAI, thinking="effort", thinking_always=True, sampling=False, penalties=False, logprobs=False,
    most_stops=0, new_limit=True, efforts=("low", "medium", "high"), max_output=100_000,
)  # fmt: skip
_GPT_5 = msgspec.structs.replace(
    _REASONER, efforts=_OPENAI_EFFORTS, custom_tools=True, verbosity=True, max_output=128_000
)
# OpenAI API reference, `reasoning_effort`: gpt-5.1 knows no `xhigh`, gpt-5-pro nothing but `high`; "Using GPT-6": `max`
# is there from gpt-6 on, and gpt-6.1-sol cannot but think.
_GPT_5_1 = msgspec.structs.replace(_GPT_5, thinking_always=False, efforts=("none", "low", "medium", "high"))
_GPT_5_2 = msgspec.structs.replace(_GPT_5_1, efforts=("none", "low", "medium", "high", "xhigh"))
_GPT_5_PRO = msgspec.structs.replace(_GPT_5, efforts=("medium", "high", "xhigh"))
_GPT_6 = msgspec.structs.replace(
    _GPT_5_1, efforts=("none", "low", "medium", "high", "xhigh", "max"), marks="prompt_cache_breakpoint"
)
_GPT_6_THINKING = msgspec.structs.replace(
    _GPT_6, thinking_always=True, efforts=("low", "medium", "high", "xhigh", "max")
)
_INSTRUCT = Capabilities(input=frozenset(("text",)), tools=False, schema=False, completions=True, max_output=4096)
# Anthropic, "PDF support": a document that is named by its URL has to be a PDF.
_CLAUDE = Capabilities(
    thinking="budget", efforts=(), most_temperature=1.0, penalties=False, seed=False, logprobs=False, most_stops=None,
    mid_system=False, input=_TEXT_IMAGE_DOCUMENT, text_urls=False, result_media=True, schema=False,
    json_mode=False, marks="cache_control",
    max_output=64_000, context=200_000,
)  # fmt: skip
_CLAUDE_STRUCTURED = msgspec.structs.replace(_CLAUDE, schema=True, one_sampling=True)
_CLAUDE_ADAPTIVE = msgspec.structs.replace(
    _CLAUDE_STRUCTURED, thinking="adaptive", efforts=("low", "medium", "high", "max"), prefill=False,
)  # fmt: skip
# Anthropic, "Effort": from Opus 4.7 on there is a level between `high` and `max`.
_CLAUDE_5_EFFORTS = ("low", "medium", "high", "xhigh", "max")
_CLAUDE_4_7 = msgspec.structs.replace(_CLAUDE_ADAPTIVE, efforts=_CLAUDE_5_EFFORTS, sampling=False, max_output=128_000)
# They think unless told not to, and take forced tools: what Anthropic's "What's new in Claude Opus 5.5" and its likes
# call changes is true from 5.5 on.
_CLAUDE_5 = msgspec.structs.replace(_CLAUDE_4_7, mid_system=True)
_CLAUDE_LATEST = msgspec.structs.replace(_CLAUDE_5, thinking_always=True, forced_tools=False)
_GEMINI = Capabilities(
    thinking="none", mid_system=False, parallel_switch=False, most_stops=5, picture_urls=False, document_urls=False,
    schema_with_tools=False, thoughts="extra_content", max_output=65_536, context=1_048_576,
)  # fmt: skip
_GEMINI_25 = msgspec.structs.replace(_GEMINI, thinking="budget", least_budget=512, json_schema=True)
# The levels of each are in Google's "Gemini 3.8 Flash developer guide". What is called the latest is of this family,
# which alone is left: it wants the states of calls back, and takes the levels that all of it have.
_GEMINI_3 = msgspec.structs.replace(
    _GEMINI, thinking="effort", thinking_always=True, efforts=("low", "high"), schema_with_tools=True,
    result_media=True, part_resolution=True, json_schema=True, signatures=True,
)  # fmt: skip

# The first line that fits counts.
_TABLE: tuple[tuple[str, Capabilities], ...] = (
    (r"gpt-3\.5-turbo-instruct|(davinci|babbage)-002", _INSTRUCT),
    (r"gpt-4o.*audio|gpt-audio", msgspec.structs.replace(_OPENAI, input=frozenset(("text", "audio")), schema=False)),
    (r"gpt-3\.5|gpt-4(-0|-1106|-turbo|$)", msgspec.structs.replace(_OPENAI, schema=False, max_output=4096)),
    (r"gpt-4o", msgspec.structs.replace(_OPENAI, max_output=16_384, context=128_000)),
    (r"gpt-4\.1", msgspec.structs.replace(_OPENAI, max_output=32_768, context=1_047_576)),
    (r"o1-mini|o1-preview", msgspec.structs.replace(_REASONER, thinking="none", tools=False, schema=False)),
    (r"o[13]-pro", msgspec.structs.replace(_REASONER, streams="never")),
    (r"o[134](?![\d.])", _REASONER),
    (r"gpt-5(\.\d)?-chat", msgspec.structs.replace(_OPENAI, new_limit=True, max_output=16_384)),
    (r"gpt-5-pro", msgspec.structs.replace(_GPT_5, efforts=("high",))),
    (r"gpt-5(?![\d.])", _GPT_5),
    (r"gpt-6-(astra|rosalind)|gpt-6\.1-sol", _GPT_6_THINKING),
    (r"gpt-[6-9]", _GPT_6),
    (r"gpt-5\.\d+-pro", _GPT_5_PRO),
    (r"gpt-5\.([6-9]|\d\d)", msgspec.structs.replace(_GPT_5_2, marks="prompt_cache_breakpoint")),
    (r"gpt-5\.1-codex-max", msgspec.structs.replace(_GPT_5, efforts=("low", "medium", "high", "xhigh"))),
    (r"gpt-5\.1", _GPT_5_1),
    (r"gpt-5\.\d", _GPT_5_2),
    (r"claude-(opus|sonnet)-5-[5-9]|claude-(fable|mythos)", _CLAUDE_LATEST),
    (r"claude-(opus|sonnet|haiku)-5", _CLAUDE_5),
    (r"claude-opus-4-8", _CLAUDE_5),
    (r"claude-opus-4-7", _CLAUDE_4_7),
    (r"claude-opus-4-6", msgspec.structs.replace(_CLAUDE_ADAPTIVE, max_output=128_000)),
    (r"claude-(opus|sonnet)-4-6", _CLAUDE_ADAPTIVE),
    (r"claude-(opus|sonnet|haiku)-4-5", _CLAUDE_STRUCTURED),
    (r"claude-opus-4-1", msgspec.structs.replace(_CLAUDE, one_sampling=True, max_output=32_000)),
    (r"claude-opus-4", msgspec.structs.replace(_CLAUDE, max_output=32_000)),
    (r"claude-3-(opus|haiku|sonnet)", msgspec.structs.replace(_CLAUDE, thinking="none", max_output=4096)),
    (r"claude-3-5", msgspec.structs.replace(_CLAUDE, thinking="none", max_output=8192)),
    (r"claude", _CLAUDE),
    (r"gemini-2\.5-flash-image", msgspec.structs.replace(_GEMINI, tools=False, schema=False, json_mode=False)),
    (r"gemini-2\.5-pro", msgspec.structs.replace(_GEMINI_25, thinking_always=True, least_budget=128)),
    (r"gemini-2\.5", _GEMINI_25),
    (r"gemini-(3\.1-pro|3\.[7-9]-flash|[a-z-]+-latest)", msgspec.structs.replace(_GEMINI_3, efforts=_USUAL_EFFORTS)),
    (r"gemini-3.*flash", msgspec.structs.replace(_GEMINI_3, efforts=("minimal", *_USUAL_EFFORTS))),
    (r"gemini-[3-9]", _GEMINI_3),
    (r"gemini", msgspec.structs.replace(_GEMINI, max_output=8192)),
    (r"deepseek-r1", Capabilities(input=frozenset(("text",)), sampling=False, schema=False)),
    (
        r"deepseek-reasoner",
        Capabilities(input=frozenset(("text",)), sampling=False, schema=False, thoughts="reasoning_content"),
    ),
    (r"deepseek", Capabilities(input=frozenset(("text",)), schema=False, thoughts="reasoning_content")),
    # xAI, "Reasoning": all three are errors there.
    (r"grok-(?!.*non-reasoning)(3-mini|4|code)", Capabilities(penalties=False, most_stops=0)),
    (r"qwq|qvq|qwen[\d.]*-omni", Capabilities(streams="only")),  # Alibaba Cloud Model Studio, "Streaming output"
    # Kimi API, "Parameter Comparison": 400 "invalid temperature: only 1 is allowed for this model"; others too.
    (r"kimi-k(2\.[5-9]|[3-9])", Capabilities(thoughts="reasoning_content", sampling=False, penalties=False)),
    (r"kimi|moonshot|glm-(4\.[5-9]|[5-9])|minimax", Capabilities(thoughts="reasoning_content")),
)
_FAMILIES = tuple((re.compile(rf"(?:^|[/\]:._-]){pattern}"), found) for pattern, found in _TABLE)

_BY_PROTOCOL = {
    "openai": Capabilities(),
    "responses": msgspec.structs.replace(_OPENAI, result_media=True, most_stops=0, document_urls=True),
    "anthropic": _CLAUDE,
    "gemini": _GEMINI_25,
}


@lru_cache(maxsize=4096)
def of(upstream_model: str, protocol: str) -> Capabilities:
    """What is known of a model by its upstream name; of an unknown one, what its protocol usually allows."""
    name = upstream_model.lower().replace(".", "-") if "claude" in upstream_model.lower() else upstream_model.lower()
    for pattern, found in _FAMILIES:
        if pattern.search(name):
            return _spoken_by(found, protocol)
    return _BY_PROTOCOL[protocol]


def _spoken_by(found: Capabilities, protocol: str) -> Capabilities:
    """What the protocol itself has no word for."""
    if protocol == "openai":  # a tool's result is text there
        return msgspec.structs.replace(found, result_media=False, document_urls=False)
    if protocol == "responses":
        return msgspec.structs.replace(found, result_media=True, document_urls=True, text_urls=True, most_stops=0)
    return found


def corrected(found: Capabilities, written: Mapping[str, Any]) -> Capabilities:
    """`found` with what a catalogue row says. Raises msgspec.ValidationError for what there is not."""
    return msgspec.convert({**msgspec.to_builtins(found), **written}, Capabilities)


def check(written: Mapping[str, Any]) -> None:
    """Raises ValueError (msgspec.ValidationError) where these correct nothing that there is."""
    corrected(Capabilities(), written)


def read(written: Mapping[str, Any]) -> dict[str, Any]:
    """Capabilities written as text ("true", "4096", lists of names) as values. Raises ValueError as `check` does."""
    found = msgspec.convert(dict(written), Capabilities, strict=False)
    return {name: msgspec.to_builtins(getattr(found, name)) for name in written}
