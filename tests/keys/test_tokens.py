"""The text of a key: its form, its checksum, its mask."""

import re

from hypothesis import given
from hypothesis import strategies as st

from keys import tokens


def test_a_key_has_the_published_form() -> None:
    for test in (False, True):
        token = tokens.new(test=test)
        assert re.fullmatch(tokens.PATTERN, token)
        assert tokens.is_genuine(token)
        assert token.startswith("pisces-test-" if test else "pisces-")


@given(st.integers(7, 46), st.sampled_from(tokens.ALPHABET))
def test_one_wrong_character_is_noticed(at: int, character: str) -> None:
    token = tokens.new()
    if token[at] != character:
        assert not tokens.is_genuine(token[:at] + character + token[at + 1 :])


@given(st.text())
def test_arbitrary_text_is_no_key_and_its_mask_is_short_and_printable(text: str) -> None:
    assert not tokens.is_genuine(text)
    masked = tokens.mask(text)
    assert len(masked) <= 16
    assert all(c == "…" or 33 <= ord(c) < 127 for c in masked)


def test_a_mask_shows_too_little_to_use() -> None:
    token = tokens.new()
    assert len(tokens.mask(token).replace("…", "")) == 15
    assert tokens.mask(token).startswith(token[:11])
    assert tokens.mask(token).endswith(token[-4:])
