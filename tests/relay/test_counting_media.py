"""Pictures, documents and sound: what they cost by each vendor's rule, and that no bound lies below it."""

import base64
import json
import struct
import time
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.counting import families, media, prompt, tokenizer
from relay.counting.calibration import Calibration
from relay.counting.tokenizer import Vocabulary
from relay.errors import Cause, RelayError
from relay.protocols.openai import request
from relay.protocols.openai.request import ChatRequest

UNTAUGHT = Calibration()


def png(width: int, height: int, *, padding: int = 0) -> bytes:
    return b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">II", width, height) + b"\x08\x02\0\0\0" + b"\0" * padding


def webp(width: int, height: int) -> bytes:
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + size


def jpeg(width: int, height: int) -> bytes:
    start = b"\xff\xd8\xff\xe0\x00\x10JFIF\0" + b"\0" * 9
    return start + b"\xff\xc0\x00\x11\x08" + struct.pack(">HH", height, width) + b"\x03" + b"\0" * 20


def gif(width: int, height: int) -> bytes:
    return b"GIF89a" + struct.pack("<HH", width, height) + b"\0" * 8


def uri(data: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def asked(*parts: Any) -> ChatRequest:
    body = {"model": "offered", "messages": [{"role": "user", "content": list(parts)}]}
    return request.decode(json.dumps(body).encode())


def image(url: str, **detail: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url, **detail}}


# OpenAI, "Images and vision", with the figures that users were charged where the page has no example.
CHARGED = [
    ("gpt-4o", (1024, 1024), "high", 765), ("gpt-4o", (2048, 4096), "high", 1105), ("gpt-4o", (4096, 8192), "low", 85),
    ("gpt-4.1", (128, 64), "high", 255), ("gpt-4o", (128, 64), "low", 85), ("o3", (128, 64), "high", 225),
    ("o3", (128, 64), "low", 75), ("gpt-4.1", (2049, 513), "auto", 1445), ("gpt-4.1", (2050, 513), "auto", 765),
    ("gpt-4o-mini", (128, 64), "low", 2833), ("gpt-4o-mini", (128, 64), "high", 8500),
    ("gpt-5", (1024, 1024), "high", 630), ("computer-use-preview", (1024, 1024), "high", 581),
    ("gpt-4.1-mini", (1024, 1024), "auto", 1659), ("gpt-4.1-nano", (1024, 1024), "auto", 2520),
    ("o4-mini", (1024, 1024), "auto", 1762), ("gpt-4.1-mini", (4000, 1474), "auto", 2489),
    ("gpt-5.5", (2560, 1440), "auto", 4320), ("gpt-6", (4032, 3024), "auto", 14364), ("gpt-5-mini", (1, 1), "low", 2),
    ("gemini-2.5-flash", (300, 200), "auto", 258), ("gemini-2.5-flash", (960, 540), "auto", 6 * 258),
    ("claude-sonnet-4", (1092, 1092), "auto", 1590), ("claude-sonnet-4", (200, 200), "auto", 64),
]  # fmt: skip


@pytest.mark.parametrize(("model", "size", "detail", "tokens"), CHARGED)
def test_a_picture_costs_what_its_vendor_charges(model: str, size: tuple[int, int], detail: str, tokens: int) -> None:
    assert families.of(model).picture.tokens(size, detail) == tokens


# What one picture was reported to cost by models whose vendors scale it by rules that are not written down.
MEASURED = [
    ("claude-haiku-4-5", (1920, 1080), 1560), ("claude-haiku-4-5", (4032, 3024), 1596),
    ("claude-opus-5-5", (1024, 1024), 1369), ("claude-opus-5-5", (1920, 1080), 2691),
    ("claude-opus-5-5", (3840, 2160), 2992), ("claude-opus-5-5", (4032, 3024), 3928),
    ("gemini-3-pro", (256, 256), 1090), ("gemini-3-pro", (3840, 2160), 1101), ("gpt-5.5", (4032, 3024), 11868),
]  # fmt: skip


@pytest.mark.parametrize(("model", "size", "reported"), MEASURED)
def test_a_picture_is_never_held_for_at_less_than_was_reported(
    model: str, size: tuple[int, int], reported: int
) -> None:
    assert reported <= families.of(model).picture.tokens(size, "auto")


sizes = st.tuples(st.integers(1, 9000), st.integers(1, 9000))
OPENAI = ["gpt-4o", "gpt-4o-mini", "o3", "gpt-5", "gpt-4.1-mini", "o4-mini", "gpt-5-nano"]
VISION = [*OPENAI, "claude-sonnet-4", "claude-opus-5", "gemini-2.5-pro", "gemini-3-pro", "qwen3-vl", "pixtral", "x"]


@given(sizes, st.sampled_from(VISION), st.sampled_from(["low", "high", "auto", "original", "?"]))
def test_an_unknown_picture_costs_as_much_as_any_known_one(size: tuple[int, int], model: str, detail: str) -> None:
    rule = families.of(model).picture
    assert 0 < rule.tokens(size, detail) <= rule.tokens(None, "high")


@pytest.mark.parametrize("make", [png, webp, jpeg, gif])
def test_a_picture_s_size_is_read_from_its_data(make: Any) -> None:
    found = media.picture(memoryview(json.dumps(uri(make(1024, 1024) + b"\0" * 1000)).encode()))
    assert found.size == (1024, 1024)


@pytest.mark.parametrize("detail", ["low", "high", "auto"])
def test_pictures_are_held_for_by_their_tiles_and_not_by_their_bytes(detail: str) -> None:
    decoded = asked(image(uri(png(1024, 1024, padding=90_000)), detail=detail))
    tokens = 85 if detail == "low" else 765
    assert tokens <= decoded.input_bound("gpt-4o") < tokens + 300
    assert prompt.count(decoded.prompt(), "gpt-4o", UNTAUGHT) == tokens + 7


@pytest.mark.parametrize("model", VISION)
@pytest.mark.parametrize(
    "part",
    [
        image("https://pictures.example/1.png"),
        {"type": "image_url", "image_url": "https://pictures.example/1.png"},
        {"type": "image_url", "image_url": uri(b"no picture at all")},
        {"type": "input_image", "image_url": "https://pictures.example/1.png"},
        {"type": "image_url", "image_url": {}},
        {"type": "image_url"},
    ],
)
def test_a_picture_of_unknown_size_is_held_for_at_its_largest(part: Any, model: str) -> None:
    decoded = asked(part)
    most = families.of(model).picture.tokens(None, "auto")
    assert decoded.input_bound(model) > most
    assert prompt.bound(decoded.prompt(), model, UNTAUGHT) > most


def test_a_bare_data_uri_and_several_pictures_are_each_held_for() -> None:
    bare = {"type": "image_url", "image_url": uri(png(512, 512))}
    decoded = asked(bare, image(uri(jpeg(1024, 1024))), {"type": "text", "text": "hello"})
    assert prompt.count(decoded.prompt(), "gpt-4o", UNTAUGHT) == 255 + 765 + 8
    assert decoded.input_bound("gpt-4o") > 255 + 765


def test_of_several_upstreams_the_dearest_rule_is_held_for() -> None:
    decoded = asked(image("https://pictures.example/1.png"))
    assert decoded.input_bound("gpt-4o", "gpt-4o-mini") == decoded.input_bound("gpt-4o-mini") > 48_000
    assert decoded.input_bound("gpt-4o") < 2000


@pytest.mark.parametrize("parts", [False, True], ids=["text", "parts"])
def test_a_picture_that_the_model_shows_is_a_picture_and_not_its_bytes(parts: bool) -> None:
    shown = f"Here: ![image]({uri(png(1024, 1024, padding=90_000))})"
    content: Any = [{"type": "text", "text": shown}] if parts else shown

    def said_by(role: str) -> ChatRequest:
        return request.decode(json.dumps({"model": "m", "messages": [{"role": role, "content": content}]}).encode())

    drawn, quoted = said_by("assistant"), said_by("user")
    assert prompt.count(drawn.prompt(), "gpt-4o", UNTAUGHT) == 765 + 7 + tokenizer.count("Here: ", Vocabulary.O200K)
    assert drawn.text_bytes < 200
    assert drawn.input_bound("gpt-4o") < 1200
    assert drawn.shown > 120_000
    assert quoted.input_bound("gpt-4o") > quoted.text_bytes > 120_000
    assert quoted.shown == 0


@pytest.mark.parametrize("parameters", [";name=a.png", ";charset=utf-8;name=my%20picture.png", ";name=base64"])
def test_a_data_uri_may_have_parameters(parameters: str) -> None:
    data = png(1024, 1024, padding=90_000)
    plain, told = (asked(image(uri(data, kind))) for kind in ("image/png", f"image/png{parameters}"))
    assert told.input_bound("gpt-4o") == plain.input_bound("gpt-4o") + len(parameters)
    found = media.document(memoryview(json.dumps(uri(b"%PDF-1.4", f"application/pdf{parameters}")).encode()))
    assert isinstance(found, media.Document)


def test_a_picture_of_20_mb_is_taken() -> None:
    whole = uri(b"\0" * 20 * 2**20)
    asked(image(whole))
    with pytest.raises(RelayError):
        asked(image(whole + "AAAA"))


def test_a_picture_past_20_mb_is_a_clear_400() -> None:
    asked(image("data:image/png;base64," + "A" * (20 * 1024 * 1024)))
    for url in (
        {"url": "data:image/png;base64," + "A" * (28 * 1024 * 1024)},
        "data:image/png;base64," + "A" * 28 * 2**20,
    ):
        with pytest.raises(RelayError) as refused:
            asked({"type": "image_url", "image_url": url})
        assert (refused.value.cause, refused.value.param) == (Cause.INVALID_PARAMETER, "messages")
        assert "20 MB" in refused.value.message


# ---- documents and sound --------------------------------------------------------------------------------------------


def pdf(pages: int, *, packed: bool = False, noise: int = 0) -> bytes:
    objects = b"".join(b"%d 0 obj <</Type /Page /Parent 1 0 R>> endobj\n" % n for n in range(2, pages + 2))
    tree = b"1 0 obj <</Type /Pages /Count %d>> endobj\n" % pages
    if packed:
        data = zlib.compress(objects + tree)
        return b"%%PDF-1.7\n9 0 obj <</Type /ObjStm /Length %d>> stream\n" % len(data) + data + b"\nendstream\n%%EOF"
    return b"%PDF-1.4\n" + tree + objects + b"\x80" * noise + b"\n%%EOF"


def document(data: bytes, **fields: Any) -> dict[str, Any]:
    return {"type": "file", "file": {"filename": "a.pdf", "file_data": uri(data, "application/pdf"), **fields}}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("pages", [1, 3, 40])
def test_a_document_is_held_for_by_its_pages(pages: int, packed: bool) -> None:
    decoded = asked(document(pdf(pages, packed=packed)))
    a_page = 3000 + families.of("gpt-4o").picture.tokens(None, "high")
    assert media.pages_of(memoryview(base64.b64encode(pdf(pages, packed=packed)))) == pages
    tighter = prompt.bound(decoded.prompt(), "gpt-4o", UNTAUGHT)
    assert min(pages, 1 + len(pdf(pages, packed=packed)) // 200) * a_page <= tighter <= decoded.input_bound("gpt-4o")
    assert tighter < pages * a_page + 100


EMPTY = zlib.compress(b"")


@pytest.mark.parametrize(
    "hostile",
    [(b"/Type /ObjStm stream\n" + EMPTY) * 9_999 + b"x" * 3_000_000, b"/Type /ObjStm" * 1_000_000],
    ids=["streams in streams", "streams without data"],
)
def test_a_document_costs_no_more_time_than_its_bytes_whatever_it_says(hostile: bytes) -> None:
    encoded = memoryview(base64.b64encode(b"%PDF-1.7\n" + hostile))
    began = time.process_time()
    assert media.pages_of(encoded) is None
    assert time.process_time() - began < 2


def test_a_large_document_is_not_held_for_by_its_bytes() -> None:
    data = pdf(12, noise=3_000_000)
    decoded = asked(document(data))
    assert 12 * 3000 < prompt.bound(decoded.prompt(), "gpt-4o", UNTAUGHT) < 60_000
    assert decoded.input_bound("gpt-4o") < 500_000 < len(data)
    assert decoded.text_bytes < 1000


@pytest.mark.parametrize(
    "part",
    [
        {"type": "file", "file": {"file_id": "file-1"}},
        {"type": "file_url", "file_url": {"url": "https://a.example/b.pdf"}},
    ],
)
def test_a_document_that_is_only_named_has_as_many_pages_as_the_vendor_takes(part: Any) -> None:
    decoded = asked(part)
    assert decoded.input_bound("gpt-4o") > 100 * 3000
    assert decoded.input_bound("claude-sonnet-4") > 600 * 3000


def test_any_other_file_is_held_for_by_its_bytes() -> None:
    text = asked(document(b"a line of text\n" * 1000))
    assert 15_000 <= text.input_bound("gpt-4o") < 16_000
    office = asked(document(b"PK\x03\x04" + b"\x80" * 3000))
    assert office.input_bound("gpt-4o") > 8 * 4000


def wav(seconds: int, *, rate: int = 24_000) -> bytes:
    head = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0" + struct.pack("<HHIIHH", 1, 1, rate, rate * 2, 2, 16) + b"data\0\0\0\0"
    return head + b"\0" * (seconds * rate * 2)


def test_sound_is_held_for_by_its_seconds() -> None:
    def sound(data: bytes, kind: str) -> ChatRequest:
        return asked({"type": "input_audio", "input_audio": {"data": base64.b64encode(data).decode(), "format": kind}})

    assert 100 <= sound(wav(10), "wav").input_bound("gpt-4o-audio-preview") < 300
    assert 320 <= sound(wav(10), "wav").input_bound("gemini-2.5-flash") < 600
    spoken = sound(b"\xff\xfb" + b"\x80" * 80_000, "mp3")  # ten seconds at 64 kbit/s, for all that is known more
    assert 100 <= spoken.input_bound("gpt-4o-audio-preview") < 2000


def test_a_wav_that_lies_about_its_rate_is_not_held_for_at_less_than_the_slowest_speech() -> None:
    lie = (
        b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0"
        + struct.pack("<HHIIHH", 1, 1, 8000, 2**31, 1, 8)
        + b"data\0\0\0\0"
        + b"\0" * 80_000
    )
    assert media.sound(memoryview(json.dumps(base64.b64encode(lie).decode()).encode())).rate == 8000


@given(st.binary(max_size=200), st.sampled_from([b"", b"%PDF-1.4 /Type /ObjStm stream\n", b"RIFF....WAVEfmt "]))
def test_no_bytes_break_the_reading_of_media(data: bytes, head: bytes) -> None:
    encoded = base64.b64encode(head + data).decode()
    for part in (
        image(f"data:image/png;base64,{encoded}"),
        document(head + data),
        {"type": "input_audio", "input_audio": {"data": encoded}},
    ):
        decoded = asked(part)
        for model in ("gpt-4o", "claude-sonnet-4", "gemini-2.5-flash"):
            assert prompt.bound(decoded.prompt(), model, UNTAUGHT) > 0
            assert decoded.input_bound(model) > 0
