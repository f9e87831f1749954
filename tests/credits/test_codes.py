"""The text of a redeem code: drawn at random, read as people type, refused when one character is wrong."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.payments import codes

BODY = st.text(codes.ALPHABET, min_size=codes.RANDOM, max_size=codes.RANDOM)


def whole(drawn: str) -> str:
    return drawn + codes.checksum(drawn)


def test_a_new_code_is_read_back_and_none_is_like_another() -> None:
    made = {codes.new() for _ in range(2000)}
    assert len(made) == 2000
    for code in made:
        assert codes.canonical(codes.written(code)) == code
        assert len(codes.written(code)) == len("PX-XXXX-XXXX-XXXX-XXXX-XXXX")


@given(BODY)
def test_a_code_is_read_however_it_is_typed(drawn: str) -> None:
    code = whole(drawn)
    shown = codes.written(code)
    wide = "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in shown)
    for text in (code, shown.lower(), shown.replace("-", " "), f"  {shown}\n", shown.replace("-", "–"), wide):
        assert codes.canonical(text) == code
    assert codes.canonical(shown.replace("0", "o").replace("1", "l")) == code


@given(BODY, st.integers(0, codes.RANDOM + codes.CHECK - 1), st.integers(1, 31))
def test_one_wrong_character_is_never_a_code(drawn: str, place: int, by: int) -> None:
    code = whole(drawn)
    wrong = codes.ALPHABET[(codes.ALPHABET.index(code[place]) + by) % 32]
    assert codes.canonical(code[:place] + wrong + code[place + 1 :]) is None


@given(BODY, st.integers(0, codes.RANDOM + codes.CHECK - 2))
def test_two_neighbours_exchanged_are_never_a_code(drawn: str, place: int) -> None:
    code = whole(drawn)
    other = code[:place] + code[place + 1] + code[place] + code[place + 2 :]
    assert codes.canonical(other) == (code if other == code else None)


@pytest.mark.parametrize("text", ["", "PX-", "PX-49TD-0QEM", "x" * 10_000, "\x00" * 20, "💳" * 20, "U" * 20])
def test_what_is_no_code_is_none(text: str) -> None:
    assert codes.canonical(text) is None


def test_random_text_is_hardly_ever_a_code() -> None:
    drawn = random.Random(7)
    found = sum(
        codes.canonical("".join(drawn.choice(codes.ALPHABET) for _ in range(20))) is not None for _ in range(20_000)
    )
    assert found <= 2
