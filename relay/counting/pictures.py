"""What a picture in a prompt costs: the vendors' rules, and the size of a picture from its first bytes. Pure.

Sources: OpenAI, "Images and vision", calculating costs (tiles and patches, the tables of models; the budgets of newer
models as measured); Anthropic, "Vision" (width x height / 750, the limits of size and tokens); Google, "Understand
and count tokens" and "Media resolution" (258 tokens a tile, at most 1120 a picture since Gemini 3); Qwen2-VL, model
card (28-pixel patches, at most 16384 a picture).
"""

import base64
import binascii
import math
import struct

import msgspec

Size = tuple[int, int]


class Tiles(msgspec.Struct, frozen=True):
    """`base` tokens, and `tile` for each 512-pixel square, once the picture was fitted into 2048 x 2048 and its shorter
    side brought down to 768. Low detail costs the base alone."""

    base: int
    tile: int

    def tokens(self, size: Size | None, detail: str) -> int:
        if detail == "low":
            return self.base
        return self.base + self.tile * (_tiles(*size) if size else 8)


def _tiles(width: int, height: int) -> int:
    scale = min(1.0, 2048 / max(width, height, 1))
    width, height = round(width * scale), round(height * scale)
    scale = min(1.0, 768 / max(1, min(width, height)))
    width, height = round(width * scale), round(height * scale)
    return -(-max(1, width) // 512) * -(-max(1, height) // 512)


class Patches(msgspec.Struct, frozen=True):
    """`per_mille` / 1000 tokens for each square of `side` pixels, of which there are at most `most`.

    The vendor scales a picture with more patches down, to `most` or a little less; this counts `most`. `edge` is the
    longest side before that, in pixels. Low detail saves nothing that is written down.
    """

    side: int
    most: int
    per_mille: int = 1000
    edge: int = 0

    def tokens(self, size: Size | None, detail: str) -> int:
        return math.ceil(self._patches(size) * self.per_mille / 1000)

    def _patches(self, size: Size | None) -> int:
        if size is None:
            return self.most
        width, height = size
        if self.edge and max(size) > self.edge:
            width, height = (math.ceil(length * self.edge / max(size)) for length in size)
        return min(self.most, max(1, -(-width // self.side) * -(-height // self.side)))


class Area(msgspec.Struct, frozen=True):
    """Anthropic's: a token for 750 pixels, or for 28 x 28 of them counted in whole squares, whichever is more."""

    most: int
    edge: int

    def tokens(self, size: Size | None, detail: str) -> int:
        squares = Patches(28, self.most, edge=self.edge).tokens(size, detail)
        if size is None:
            return squares
        scale = min(1.0, self.edge / max(*size, 1))
        return max(squares, min(self.most, math.ceil(size[0] * size[1] * scale * scale / 750)))


class Crops(msgspec.Struct, frozen=True):
    """Google's: `tile` tokens for a picture of at most 384 x 384, else for each of its crops, whose side is two thirds
    of the shorter side, from 256 to 768 pixels, once it was fitted into 3072 x 3072."""

    tile: int = 258

    def tokens(self, size: Size | None, detail: str) -> int:
        if size is None:
            return self.tile * 24  # the most crops: 3072 x 385
        if max(size) <= 384:
            return self.tile
        scale = min(1.0, 3072 / max(size))
        width, height = math.ceil(size[0] * scale), math.ceil(size[1] * scale)
        side = min(768, max(256, int(min(width, height) / 1.5)))
        return self.tile * -(-width // side) * -(-height // side)


class Flat(msgspec.Struct, frozen=True):
    """Every picture costs the same at most."""

    most: int

    def tokens(self, size: Size | None, detail: str) -> int:
        return self.most


Rule = Tiles | Patches | Area | Crops | Flat


def dimensions(encoded: bytes) -> Size | None:
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


def _webp(data: bytes) -> Size | None:
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


def _jpeg(data: bytes) -> Size | None:
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
