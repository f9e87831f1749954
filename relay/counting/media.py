"""Pictures, documents and sound in a prompt: what each can cost at most, by the family that it goes to. Pure.

Documents. Vendors put the text and a picture of each page into the prompt (OpenAI, "File inputs"; Anthropic, "PDF
support": 1,500 to 3,000 tokens of text a page; Google 258 tokens a page, 560 since Gemini 3). A page is held for as
3,000 tokens and the largest picture. How many pages there are is known only once the file was read, so the fast bound
takes as many as the file's bytes can be, the tighter one counts them. A document that is only named (`file_id`, a URL)
has as many as the vendor takes. Of any other file the text is put into the prompt: at most a token a byte, and for one
that is compressed eight.

Sound. OpenAI counts 10 tokens a second, Google 32. A WAV file says how many bytes a second has; any other format is
taken for the lowest rate that speech is recorded at, 6 kbit/s.
"""

import base64
import binascii
import re
import struct
import zlib

import msgspec

from relay.counting import pictures
from relay.counting.families import Family
from relay.counting.pictures import Rule

LARGEST_PICTURE = 20 * 1024 * 1024  # bytes
PAGE_TEXT = 3000
# No prompt of any vendor is longer than this, so no file in one can be.
LONGEST_PROMPT = 2**21
# A page in a PDF needs at least so many bytes of its base64: its object, a stream, an entry in the table of objects.
BYTES_PER_PAGE = 200
SLOWEST_SOUND = 750  # bytes of a second
UNKNOWN_SOUND = 3600  # seconds
_INFLATED = 1 << 22  # bytes of a PDF's object streams that are looked into
_STREAMS = 10_000  # of these; a file of a thousand pages has hundreds


class Picture(msgspec.Struct, frozen=True):
    """`inside` is how many bytes of the request's body its data takes; `size` its width and height, None if unknown."""

    inside: int
    size: pictures.Size | None
    detail: str = "auto"

    @property
    def is_too_large(self) -> bool:
        return self.inside > -(-LARGEST_PICTURE // 3) * 4  # base64 ends in a whole group

    def most(self, family: Family) -> int:
        return family.picture.tokens(self.size, self.detail)


class Shown(Picture, frozen=True):
    """A picture inside a text, as markdown."""


class Document(msgspec.Struct, frozen=True):
    """`data` is its base64 inside the body; empty where it is only named."""

    inside: int
    data: memoryview = memoryview(b"")

    def most(self, family: Family) -> int:
        """The most tokens that the document can be, without opening it."""
        pages = min(family.pages, 1 + self.inside // BYTES_PER_PAGE) if self.inside else family.pages
        return self._tokens(pages, family.picture)

    def tighter(self, family: Family) -> int:
        """The same by the pages that are in it. Reads the whole file: not for the event loop."""
        pages = pages_of(self.data) if self.inside else None
        return self.most(family) if pages is None else min(self.most(family), self._tokens(pages, family.picture))

    def _tokens(self, pages: int, picture: Rule) -> int:
        return min(LONGEST_PROMPT, pages * (PAGE_TEXT + picture.tokens(None, "high")))


class Sound(msgspec.Struct, frozen=True):
    """`rate` is its bytes a second."""

    inside: int
    rate: int = SLOWEST_SOUND

    def most(self, family: Family) -> int:
        seconds = -(-(self.inside * 3 // 4) // self.rate) if self.inside else UNKNOWN_SOUND
        return min(LONGEST_PROMPT, (1 + seconds) * family.audio)


class Film(msgspec.Struct, frozen=True):
    """A video. Vendors that take one sample it until it fits; nobody says how much that is at most."""

    inside: int

    def most(self, family: Family) -> int:
        return 2**17


class Blob(msgspec.Struct, frozen=True):
    """A file that is no PDF."""

    inside: int
    compressed: bool

    def most(self, family: Family) -> int:
        return min(LONGEST_PROMPT, self.inside * 8 if self.compressed else self.inside * 3 // 4)


Media = Picture | Document | Sound | Film | Blob

# RFC 2397: a type may have parameters, such as a file's name.
_PARAMETERS = rb'(?:;[^;,"]{1,200}){0,8}?'
_PICTURE_URI = re.compile(rb'"data:image/[a-zA-Z0-9.+-]{1,20}' + _PARAMETERS + rb";base64,")
_DATA_URI = re.compile(rb'"data:[a-zA-Z0-9.+/-]{1,80}' + _PARAMETERS + rb";base64,")
_PDF, _ZIP, _GZIP = b"JVBERi", b"UEsDB", b"H4sI"  # "%PDF", "PK", and gzip's first bytes in base64


def picture(url: memoryview, detail: str = "auto") -> Picture:
    """From a picture's address as a JSON string, a data URI or a link."""
    match = _PICTURE_URI.match(url)
    if match is None:
        return Picture(0, None, detail)
    encoded = url[match.end() : -1]
    return Picture(len(encoded), pictures.dimensions(bytes(encoded[:400_000])), detail)


def document(data: memoryview) -> Document | Blob:
    """From a file's data as a JSON string, a data URI or base64 alone."""
    match = _DATA_URI.match(data)
    encoded = data[match.end() if match else 1 : -1]
    head = bytes(encoded[:8])
    if head.startswith(_PDF):
        return Document(len(encoded), encoded)
    return Blob(len(encoded), compressed=head.startswith((_ZIP, _GZIP)))


def sound(data: memoryview) -> Sound:
    """From base64 as a JSON string."""
    match = _DATA_URI.match(data)
    encoded = data[match.end() if match else 1 : -1]
    return Sound(len(encoded), _wav_rate(_decoded(bytes(encoded[:64]))) or SLOWEST_SOUND)


def _wav_rate(head: bytes) -> int | None:
    if head[:4] != b"RIFF" or head[8:16] != b"WAVEfmt " or len(head) < 36:
        return None
    channels, samples, written, _, bits = (int(number) for number in struct.unpack("<HIIHH", head[22:36]))
    return max(SLOWEST_SOUND, min(written, samples * channels * max(bits, 1) // 8))


def _decoded(encoded: bytes) -> bytes:
    try:
        return base64.b64decode(encoded[: len(encoded) // 4 * 4], validate=False)
    except (binascii.Error, ValueError):
        return b""


_PAGE = re.compile(rb"/Type\s*/Page(?![a-zA-Z])")
_COUNT = re.compile(rb"/Count\s+(\d{1,6})")
_PACKED = re.compile(rb"/Type\s*/ObjStm.{0,400}?stream\r?\n", re.DOTALL)


def pages_of(encoded: memoryview) -> int | None:
    """How many pages a PDF has, by its objects and by its own count, whichever is more; None if it does not tell."""
    data = _decoded(bytes(encoded))
    unpacked = _unpacked(data)
    if unpacked is None:
        return None
    texts = [data, *unpacked]
    found = [sum(len(_PAGE.findall(text)) for text in texts)]
    found += [int(count) for text in texts for count in _COUNT.findall(text)]
    return max(found) or None


def _unpacked(data: bytes) -> list[bytes] | None:
    """What a PDF's object streams have; None where one cannot be read, or there is more than is looked into.

    Whoever sends a file writes what is in it: no byte of it is read with more than one stream.
    """
    if data.count(b"/ObjStm") > _STREAMS:
        return None
    found: list[bytes] = []
    left, at = _INFLATED, 0
    while match := _PACKED.search(data, at):
        at = data.find(b"endstream", match.end())
        if at < 0:
            at = len(data)
        try:
            unpacked = zlib.decompressobj().decompress(data[match.end() : at], left)
        except zlib.error:
            return None
        left -= len(unpacked)
        if left <= 0:
            return None
        found.append(unpacked)
    return found
