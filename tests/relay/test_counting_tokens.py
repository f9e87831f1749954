"""Tokens of text: exact for OpenAI's vocabularies, whole or in pieces, and which model has which."""

import base64
import functools
import gzip
import hashlib
import json
import re
import subprocess
import sys
import unicodedata
from importlib import metadata
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.counting import families, tokenizer
from relay.counting.output import BLOCK, Output
from relay.counting.tokenizer import Vocabulary
from tests.kit import databases

# What OpenAI's tiktoken checks a download of its vocabularies against.
PUBLISHED = {
    Vocabulary.O200K: "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
    Vocabulary.CL100K: "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
}


@functools.cache
def vocabulary_file(vocabulary: Vocabulary) -> bytes:
    files = metadata.files("bpe-openai")
    assert files is not None
    (found,) = (file for file in files if file.name == f"{vocabulary.value}.tiktoken.gz")
    return gzip.decompress(found.locate().read_bytes())  # type: ignore[attr-defined]


# ---- a second way to count: the published patterns and ranks, by the book ------------------------------------------


@functools.cache
def ranks(vocabulary: Vocabulary) -> dict[bytes, int]:
    lines = vocabulary_file(vocabulary).splitlines()
    return {base64.b64decode(token): int(rank) for token, rank in (line.split() for line in lines if line)}


def characters(*categories: str) -> str:
    """A class of Unicode's categories for `re`, which has none."""
    found, begin = [], None
    for code in range(sys.maxunicode + 2):
        inside = code <= sys.maxunicode and unicodedata.category(chr(code)).startswith(categories)
        if inside and begin is None:
            begin = code
        elif not inside and begin is not None:
            found.append(f"\\U{begin:08x}-\\U{code - 1:08x}")
            begin = None
    return "".join(found)


@functools.cache
def pattern(vocabulary: Vocabulary) -> "re.Pattern[str]":
    letter, number = characters("L"), characters("N")
    if vocabulary is Vocabulary.CL100K:
        parts = (
            "'(?i:[sdmt]|ll|ve|re)", rf"[^\r\n{letter}{number}]?[{letter}]+", f"[{number}]{{1,3}}",
            rf" ?[^\s{letter}{number}]+[\r\n]*", r"\s*[\r\n]", r"\s+(?!\S)", r"\s",
        )  # fmt: skip
    else:
        upper, lower = characters("Lu", "Lt", "Lm", "Lo", "M"), characters("Ll", "Lm", "Lo", "M")
        short = "(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
        parts = (
            rf"[^\r\n{letter}{number}]?[{upper}]*[{lower}]+{short}",
            rf"[^\r\n{letter}{number}]?[{upper}]+[{lower}]*{short}",
            f"[{number}]{{1,3}}", rf" ?[^\s{letter}{number}]+[\r\n/]*", r"\s*[\r\n]+", r"\s+(?!\S)", r"\s+",
        )  # fmt: skip
    return re.compile("|".join(parts))


def by_the_book(text: str, vocabulary: Vocabulary) -> int:
    total, known = 0, ranks(vocabulary)
    for match in pattern(vocabulary).finditer(text):
        parts = [bytes([byte]) for byte in match[0].encode()]
        while len(parts) > 1:
            pairs = [(known.get(parts[at] + parts[at + 1], 1 << 30), at) for at in range(len(parts) - 1)]
            rank, at = min(pairs)
            if rank == 1 << 30:
                break
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
        total += len(parts)
    return total


@pytest.mark.parametrize("vocabulary", Vocabulary)
def test_the_vocabulary_is_the_one_that_openai_published(vocabulary: Vocabulary) -> None:
    assert hashlib.sha256(vocabulary_file(vocabulary)).hexdigest() == PUBLISHED[vocabulary]


# cl100k's are tiktoken's own vectors (tests/test_encoding.py); the others follow from the published ranks as well.
FACTS = [
    ("hello world", 2, 2), ("", 0, 0), ("rer", 1, 1), ("'rer", 2, 2), ("today\n ", 3, 3), ("today\n \n", 2, 2),
    ("today\n  \n", 2, 2), (" \x850", 4, 4), ("👍", 3, 1), ("<|endoftext|>", 7, 7),
    ("Hello! How can I assist you today?", 9, 9), ("You are a helpful assistant.", 6, 6), ("1234567", 3, 3),
    ("人工智能正在改变世界。", 12, 6), ("👩‍💻", 7, 5), (" " * 100, 2, 2),
]  # fmt: skip


@pytest.mark.parametrize(("text", "cl100k", "o200k"), FACTS)
def test_a_text_has_the_tokens_that_two_ways_of_counting_agree_on(text: str, cl100k: int, o200k: int) -> None:
    for vocabulary, tokens in ((Vocabulary.CL100K, cl100k), (Vocabulary.O200K, o200k)):
        assert tokenizer.count(text, vocabulary) == by_the_book(text, vocabulary) == tokens


WORDS = [
    "hello", " world", "don't", "'re", "'", " ", "  ", "\n", "\r\n", "\t", "，", "。", "人工智能", "的发展", "3",
    "1234567", "😀", "👩‍💻", "ß", "É", "**", "/", "*/", "{", '"key": ', "A", "ABCdef", "สวัสดี", "ก็", "한국어", "\u00a0",
    "\u2003", "e\u0301", "<|endoftext|>", "==", "\u3000", "”", "x" * 50, "https://a.b/c?d=1&e",
]  # fmt: skip
texts = st.lists(st.sampled_from(WORDS) | st.text(max_size=6), max_size=60).map("".join)
known_texts = st.lists(st.sampled_from(WORDS), max_size=20).map("".join)


@given(known_texts, st.sampled_from(Vocabulary))
def test_any_text_is_counted_as_the_published_rules_count_it(text: str, vocabulary: Vocabulary) -> None:
    assert tokenizer.count(text, vocabulary) == by_the_book(text, vocabulary)


@given(texts, st.sampled_from(Vocabulary), st.integers(8, 200))
def test_a_text_counted_in_slices_has_the_tokens_of_the_whole(text: str, vocabulary: Vocabulary, size: int) -> None:
    text = text.encode("utf-8", "replace").decode()
    whole = tokenizer.count(text, vocabulary)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokenizer, "SLICE", size)
        assert tokenizer.count(text, vocabulary) == whole


@given(texts, st.sampled_from(["gpt-4o", "gpt-4"]), st.lists(st.integers(1, 30), min_size=1, max_size=9))
@settings(max_examples=60)
def test_an_answer_that_passed_in_pieces_has_the_tokens_of_the_whole(text: str, model: str, cuts: list[int]) -> None:
    text = text.encode("utf-8", "replace").decode() * 40
    output, at, number = Output(model), 0, 0
    seen = output.text(0, "content")
    while at < len(text):
        piece = text[at : at + cuts[number % len(cuts)]]
        seen.raw += json.dumps(piece, ensure_ascii=number % 2 == 0).encode()[1:-1]
        if len(seen.raw) > 300:
            seen.fold()
        at, number = at + len(piece), number + 1
    assert output.baseline() == tokenizer.count(text, families.of(model).vocabulary)


@pytest.mark.parametrize("unit", ["a", "0", "=", " ", "\n", "人", "ก", "😀"])
def test_a_word_without_end_is_dropped_as_it_comes_and_counts_at_most_two_more_for_each_64_kib(unit: str) -> None:
    whole = unit * 200_000
    output = Output("gpt-4o")
    seen, most = output.text(0, "content"), 0
    for at in range(0, len(whole), 500):
        seen.raw += json.dumps(whole[at : at + 500], ensure_ascii=False).encode()[1:-1]
        if len(seen.raw) > BLOCK:
            seen.fold()
        most = max(most, len(seen.raw) + len(seen._rest))
    exact = tokenizer._load(Vocabulary.O200K).count(whole)
    assert exact <= output.baseline() <= exact + 2 * 4
    assert most < 80_000


def test_a_piece_too_large_for_the_event_loop_waits_for_the_end() -> None:
    text = "word and word, " * 8000
    output = Output("gpt-4o")
    seen = output.text(0, "content")
    seen.raw += text.encode()
    seen.fold()
    assert output.waiting == len(text)
    assert output.baseline() == tokenizer.count(text, Vocabulary.O200K)


def test_nothing_is_loaded_before_it_is_needed() -> None:
    program = "import django, os, sys; os.environ['DJANGO_SETTINGS_MODULE'] = 'tests.settings'; django.setup()\n"
    program += "import relay.pipeline; from relay.counting import tokenizer\n"
    program += "print(tokenizer._loaded, 'bpe_openai' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=databases.ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "{} False"


NAMES: list[tuple[str, str, Any]] = [
    ("gpt-4o", "gpt-4o", "o200k_base"),
    ("openai/gpt-4o-2024-08-06", "gpt-4o", "o200k_base"),
    ("GPT-4o-Mini-2024-07-18", "gpt-4o-mini", "o200k_base"),
    ("ft:gpt-4o-mini-2024-07-18:acme::abc", "gpt-4o-mini", "o200k_base"),
    ("chatgpt-4o-latest", "gpt-4o", "o200k_base"),
    ("gpt-4.1-2025-04-14", "gpt-4.1", "o200k_base"),
    ("gpt-4.1-mini", "gpt-4.1-mini", "o200k_base"),
    ("gpt-4.5-preview", "gpt-4o", "o200k_base"),
    ("gpt-5", "gpt-5", "o200k_base"),
    ("gpt-5-chat-latest", "gpt-5", "o200k_base"),
    ("gpt-5-nano-2025-08-07", "gpt-5-nano", "o200k_base"),
    ("gpt-5.1", "gpt-5", "o200k_base"),
    ("o1", "o-series", "o200k_base"),
    ("o3-mini-2025-01-31", "o-series", "o200k_base"),
    ("azure/o4-mini", "o4-mini", "o200k_base"),
    ("gpt-4", "gpt-4", "cl100k_base"),
    ("gpt-4-32k-0613", "gpt-4", "cl100k_base"),
    ("gpt-4-turbo-2024-04-09", "gpt-4", "cl100k_base"),
    ("gpt-3.5-turbo", "gpt-4", "cl100k_base"),
    ("gpt-35-turbo-16k", "gpt-4", "cl100k_base"),
    ("ft:gpt-3.5-turbo-0125:acme", "gpt-4", "cl100k_base"),
    ("text-embedding-3-small", "embedding", "cl100k_base"),
    ("openai/gpt-oss-120b", "gpt-oss", None),
    ("gpt-7", "newer GPT", None),
    ("claude-3-5-sonnet-20241022", "claude", None),
    ("claude-sonnet-4-20250514", "claude", None),
    ("claude-opus-4-6", "claude", None),
    ("anthropic/claude-opus-4.7", "claude 4.7", None),
    ("us.anthropic.claude-opus-4-8-v1:0", "claude 4.7", None),
    ("claude-sonnet-5", "claude 4.7", None),
    ("claude-latest", "claude 4.7", None),
    ("gemini-2.5-flash", "gemini", None),
    ("google/gemini-3-pro-preview", "gemini 3", None),
    ("qwen/qwen3-235b-a22b:free", "qwen", None),
    ("deepseek-chat", "deepseek", None),
    ("mistral-large-latest", "mistral", None),
    ("glm-4.6", "glm", None),
    ("my-own-model", "other", None),
    ("", "other", None),
    ("gpt", "other", None),
]


@pytest.mark.parametrize(("name", "family", "vocabulary"), NAMES)
def test_the_upstream_s_name_says_how_a_model_counts(name: str, family: str, vocabulary: str | None) -> None:
    found = families.of(name)
    assert found.name == family
    assert (found.vocabulary.value if found.exact else None) == vocabulary
