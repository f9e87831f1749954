"""Samples: files below `samples/`, valid in their languages, in which the page puts the reader's values.

A set is the files of one folder that share a stem: the same call in several languages. Nothing here knows HTTP.
"""

import html
import re
from functools import cache
from pathlib import Path
from urllib.parse import quote

import msgspec

FOLDER = Path(__file__).parent / "samples"
# What stands in the files for the reader's own.
BASE_URL = "https://pisces.example.com"
KEY = "YOUR_PISCES_KEY"
MODEL = "YOUR_MODEL"

LANGUAGES = {".sh": "curl", ".py": "Python", ".mjs": "Node", ".php": "PHP"}  # the order of the tabs


class Values(msgspec.Struct, frozen=True):
    """The reader's own; a placeholder stays where nothing is known. `base_url` is without a version."""

    base_url: str = BASE_URL
    key: str = KEY
    model: str = MODEL


class Sample(msgspec.Struct, frozen=True):
    """A file by its name below `samples/`, with the reader's values. `code` is escaped and marked HTML."""

    name: str
    language: str
    text: str
    code: str

    @property
    def id(self) -> str:
        return re.sub(r"\W", "-", self.name)


def names() -> list[str]:
    """Every sample there is."""
    return sorted(path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*") if path.is_file())


def one(name: str, values: Values) -> Sample:
    suffix = Path(name).suffix
    text = fill(_source(name), values)
    return Sample(name, LANGUAGES.get(suffix, ""), text, highlight(text, suffix))


def group(stem: str, values: Values) -> list[Sample]:
    """The set `folder/stem`, in the order of the tabs."""
    return [one(f"{stem}{suffix}", values) for suffix in LANGUAGES if f"{stem}{suffix}" in names()]


def fill(text: str, values: Values) -> str:
    """The reader's values for the placeholders. In a path a model's name is percent-encoded."""
    text = text.replace(f"models/{MODEL}:", f"models/{quote(values.model)}:")
    return text.replace(BASE_URL, values.base_url).replace(KEY, values.key).replace(MODEL, values.model)


@cache
def _source(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8").rstrip("\n")


# ---- highlighting ---------------------------------------------------------------------------------------------------

_STRING = r'"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])*\''
_HASH, _SLASHES = r"(?:^|(?<=\s))#[^\n]*", r"//[^\n]*"
# By suffix: what a comment is, and the words that are marked.
_GRAMMAR = {
    ".sh": (_HASH, "curl export"),
    ".py": (_HASH, "from import for in if or with as print"),
    ".mjs": (_SLASHES, "import from const new await for of if"),
    ".php": (_SLASHES, "echo foreach as if function use return"),
    ".toml": (_HASH, "true false"),
    ".yaml": (_HASH, ""),
    ".json": (None, "true false null"),
}


def highlight(text: str, suffix: str) -> str:
    """The text as HTML with comments, strings and keywords marked; a language that is not known is only escaped."""
    if suffix not in _GRAMMAR:
        return html.escape(text)
    parts, end = [], 0
    for found in _pattern(suffix).finditer(text):
        parts.append(html.escape(text[end : found.start()], quote=False))
        parts.append(f'<span class="{found.lastgroup}">{html.escape(found.group(), quote=False)}</span>')
        end = found.end()
    return "".join(parts) + html.escape(text[end:], quote=False)


@cache
def _pattern(suffix: str) -> "re.Pattern[str]":
    comment, words = _GRAMMAR[suffix]
    kinds = [f"(?P<s>{_STRING})"]
    if comment:
        kinds.insert(0, f"(?P<c>{comment})")
    if words:
        kinds.append(rf"(?P<k>(?<![\w$.>-])(?:{'|'.join(words.split())})\b)")
    return re.compile("|".join(kinds), re.MULTILINE)
