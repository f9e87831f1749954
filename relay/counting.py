"""Token counts where nobody reports them: bounds before a call, estimates after one. Pure.

A byte-level tokenizer never makes more tokens than there are bytes, so bytes are a bound. As an estimate of what was
really produced, three bytes to a token are close to, and a little above, what the common vocabularies need for
English (about four bytes) and Chinese (about three).
"""

import base64
import binascii
import re
import struct

BYTES_PER_TOKEN = 3
# Whole pictures where the size cannot be known beforehand: the most tiles that the rule below can give (8).
LARGEST_PICTURE = 85 + 170 * 8


def estimate(size: int) -> int:
    """Tokens that this many bytes of text most likely were."""
    return -(-size // BYTES_PER_TOKEN)


def picture_tokens(width: int, height: int, detail: str = "auto") -> int:
    """The tile rule (OpenAI, "Images and vision"): low 85; else 85 and 170 for each 512-pixel tile.

    The picture is first fitted into 2048 x 2048, then its shorter side brought down to 768.
    """
    if detail == "low":
        return 85
    scale = min(1.0, 2048 / max(width, height))
    width, height = round(width * scale), round(height * scale)
    scale = min(1.0, 768 / max(1, min(width, height)))
    width, height = round(width * scale), round(height * scale)
    return 85 + 170 * -(-max(1, width) // 512) * -(-max(1, height) // 512)


_DATA_URI = re.compile(rb'"data:image/[a-zA-Z0-9.+-]{1,20};base64,')


def picture(url: bytes) -> tuple[int, int]:
    """A picture's address as a JSON string: how many bytes of it are picture data, and how many tokens it may cost."""
    match = _DATA_URI.match(url)
    if match is None:
        return 0, LARGEST_PICTURE
    size = dimensions(url[match.end() : match.end() + 400_000])
    return len(url), picture_tokens(*size) if size else LARGEST_PICTURE


def dimensions(encoded: bytes) -> tuple[int, int] | None:
    """Width and height from the beginning of a base64 picture (PNG, GIF, WebP, JPEG), or None."""
    try:
        data = base64.b64decode(encoded[: len(encoded) // 4 * 4], validate=False)
    except (binascii.Error, ValueError):
        return None
    try:
        if data.startswith(b"\x89PNG\r\n\x1a\n"):
            width, height = struct.unpack(">II", data[16:24])
            return int(width), int(height)
        if data[:6] in (b"GIF87a", b"GIF89a"):
            width, height = struct.unpack("<HH", data[6:10])
            return int(width), int(height)
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return _webp(data)
        if data[:2] == b"\xff\xd8":
            return _jpeg(data)
    except (struct.error, IndexError):
        return None
    return None


def _webp(data: bytes) -> tuple[int, int] | None:
    form = data[12:16]
    if form == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if form == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if form == b"VP8 ":
        width, height = struct.unpack("<HH", data[26:30])
        return width & 0x3FFF, height & 0x3FFF
    return None


def _jpeg(data: bytes) -> tuple[int, int] | None:
    at = 2
    while at + 9 < len(data):
        if data[at] != 0xFF:
            return None
        marker = data[at + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">HH", data[at + 5 : at + 9])
            return int(width), int(height)
        at += 2 + int(struct.unpack(">H", data[at + 2 : at + 4])[0])
    return None
