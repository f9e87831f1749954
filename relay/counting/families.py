"""Which vendor's model an upstream name means, and how that vendor counts. Pure.

`exact` families have one of OpenAI's vocabularies and OpenAI's framing of messages. All others are counted with
o200k, and the count is raised by what their own reports have taught (`calibration`), at first by the factors here.
These come from vendors' rules of thumb and published measurements of one English page and one table: o200k 461 and
629 tokens; Claude before 4.7 503 and 720, from 4.7 on 728 and 913 ("approximately 30 percent more", Anthropic); Gemini
455 and 777; DeepSeek 0.3 a letter and 0.6 a Chinese character, which is 1.35 and 1.15 of o200k. What nobody published
is set higher.
"""

import re
from functools import lru_cache

import msgspec

from relay.counting.pictures import Area, Crops, Flat, Patches, Rule, Tiles
from relay.counting.tokenizer import Vocabulary


class Family(msgspec.Struct, frozen=True):
    """`plain` and `wide` are per mille of the o200k count, for mostly Latin and for other scripts; `framing` the tokens
    that a prompt may have beside its messages, `tools` those that any tools bring along; `pages` the most pages of a
    document that a prompt may have; `audio` the tokens of a second of sound."""

    name: str
    picture: Rule
    vocabulary: Vocabulary = Vocabulary.O200K
    exact: bool = False
    plain: int = 1000
    wide: int = 1000
    framing: int = 0
    tools: int = 0
    pages: int = 100
    audio: int = 10


def _openai(name: str, picture: Rule, vocabulary: Vocabulary = Vocabulary.O200K) -> Family:
    return Family(name, picture, vocabulary, exact=True)


_TILES = Tiles(85, 170)
UNKNOWN = "other"
_OTHER = Family(UNKNOWN, Patches(28, 16_384), plain=1500, wide=3000, framing=64, tools=530, pages=1000, audio=32)
# Of names that more than one line fits, the first line has it.
_TABLE: tuple[tuple[str, Family], ...] = (
    (r"gpt-4o-mini", _openai("gpt-4o-mini", Tiles(2833, 5667))),
    (r"(chatgpt-4o|gpt-4o|gpt-4\.5)", _openai("gpt-4o", _TILES)),
    (r"gpt-4\.1-mini", _openai("gpt-4.1-mini", Patches(32, 1536, 1620))),
    (r"gpt-4\.1-nano", _openai("gpt-4.1-nano", Patches(32, 1536, 2460))),
    (r"gpt-4\.1", _openai("gpt-4.1", _TILES)),
    (r"gpt-(4|3\.5|35)(?![\d.])", _openai("gpt-4", _TILES, Vocabulary.CL100K)),
    (r"(text-embedding-(3|ada-002)|davinci-002|babbage-002)", _openai("embedding", Flat(0), Vocabulary.CL100K)),
    (r"o4-mini", _openai("o4-mini", Patches(32, 1536, 1720))),
    (r"o[134](?![\d.])", _openai("o-series", Tiles(75, 150))),
    (r"gpt-5(\.[0-3])?-mini", _openai("gpt-5-mini", Patches(32, 1536, 1620))),
    (r"gpt-5(\.[0-3])?-nano", _openai("gpt-5-nano", Patches(32, 1536, 2460))),
    (r"gpt-5\.[23]", _openai("gpt-5.2", Patches(32, 1536, 1200))),
    (r"gpt-5\.[45]-(mini|nano)", _openai("gpt-5.4-mini", Patches(32, 10_000, 2460))),
    (r"gpt-5\.[45]", _openai("gpt-5.4", Patches(32, 10_000, 1200))),
    (r"gpt-5(\.[01])?(?![\d.])", _openai("gpt-5", Tiles(70, 140))),
    # Pictures of up to 6000 x 6000 pixels are not scaled down.
    (r"gpt-5\.\d+-(mini|nano)", _openai("gpt-5.6-mini", Patches(32, 188 * 188, 2460))),
    (r"gpt-5", _openai("gpt-5.6", Patches(32, 188 * 188, 1200))),
    (r"computer-use-preview", _openai("computer-use", Tiles(65, 129))),
    # Its hosts write the long system message of its own format before every prompt.
    (r"gpt-oss", Family("gpt-oss", Patches(28, 16_384), framing=120)),
    # Nobody has published the vocabulary of these.
    (r"(gpt-\d|o\d)", Family("newer GPT", Patches(32, 188 * 188, 1200), plain=1200, wide=1500, framing=16)),
    (r"gemini-[12]\.", Family("gemini", Crops(), plain=1300, wide=1400, pages=1000, audio=32)),
    (r"(gemini|gemma)", Family("gemini 3", Flat(1120), plain=1300, wide=1400, pages=1000, audio=32)),
    (r"qwen|qwq|qvq", Family("qwen", Patches(28, 16_384), plain=1200, wide=1400, framing=32, tools=256, audio=32)),
    (r"deepseek", Family("deepseek", Flat(4096), plain=1350, wide=1400, framing=16, tools=256)),
    (r"(chatglm|glm)", Family("glm", Patches(28, 16_384), plain=1250, wide=1400, framing=16, tools=256)),
    (r"(kimi|moonshot)", Family("kimi", Patches(28, 16_384), plain=1250, wide=1400, framing=32, tools=256)),
    (
        r"(mistral|mixtral|ministral|magistral|codestral|devstral|pixtral|open-mi)",
        Family("mistral", Patches(14, 12_100, 1010), plain=1350, wide=2000, framing=16, tools=256),
    ),
    (r"(meta-)?llama", Family("llama", Flat(10_000), plain=1200, wide=2200, framing=48, tools=256)),
    (r"grok", Family("grok", Patches(28, 16_384), plain=1350, wide=2000, framing=256, tools=256)),
)
_LINES = tuple((re.compile(pattern), family) for pattern, family in _TABLE)
# Anthropic's tools bring a system prompt of up to 530 tokens along ("Tool use", pricing).
_CLAUDE = Family("claude", Area(1600, 1568), plain=1350, wide=2200, framing=16, tools=530, pages=600)
_CLAUDE_47 = Family("claude 4.7", Area(4784, 2576), plain=1800, wide=2900, framing=16, tools=900, pages=600)
_VERSION = re.compile(r"(?<!\d)(\d{1,2})(?:[-.](\d{1,2}))?(?!\d)")
_CLOUD = re.compile(r"^(?:[a-z]{2,6}\.)?(?:anthropic|openai|meta|mistral|google|deepseek|qwen|moonshot|zai)\.")


@lru_cache(maxsize=1024)
def of(upstream_model: str) -> Family:
    """The family of the name that the upstream knows a model by: `openai/gpt-4o-2024-08-06`, `ft:gpt-4o-mini:…`,
    `us.anthropic.claude-opus-4-8-v1:0`. A name that says nothing is of the dearest family, `other`."""
    name = _CLOUD.sub("", upstream_model.lower().rpartition("/")[2].removeprefix("ft:"))
    if name.startswith("claude"):
        return _claude(name)
    return next((family for pattern, family in _LINES if pattern.match(name)), _OTHER)


def _claude(name: str) -> Family:
    """From 4.7 on the vocabulary and the pictures are other ones. A name without a version may be new."""
    version = _VERSION.search(name)
    known = (int(version[1]), int(version[2] or 0)) if version else (99, 0)
    return _CLAUDE if known < (4, 7) else _CLAUDE_47
