"""Gemini's `inlineData` and `fileData`, and the hub's media. Pure."""

import base64
import re
from typing import Any

from relay.errors import Cause, RelayError
from relay.protocols import pictures
from relay.protocols.canonical import Json, Media, Opaque

_FILE = re.compile(r"(?:https://generativelanguage\.googleapis\.com/[^?#]*/)?files/[^/?#]+/?|gs://.+")
_DATA = re.compile(r"data:([a-zA-Z0-9.+/-]*)(?:;[^,;]*)*?;base64,(.*)", re.DOTALL)
# By what the base64 of such a file begins with.
_MAGIC = (
    ("JVBERi", "application/pdf"),
    ("SUQz", "audio/mp3"),
    ("T2dnUw", "audio/ogg"),
    ("ZkxhQ", "audio/flac"),
    ("UklGR", "audio/wav"),
)
_USUAL = {"image": "image/jpeg", "document": "application/pdf", "audio": "audio/wav", "video": "video/mp4"}
LEVELS = {
    "low": "MEDIA_RESOLUTION_LOW",
    "medium": "MEDIA_RESOLUTION_MEDIUM",
    "high": "MEDIA_RESOLUTION_HIGH",
    "ultra_high": "MEDIA_RESOLUTION_ULTRA_HIGH",
}
_NAMES = {"image": "picture", "document": "document", "audio": "sound", "video": "film"}


def kind_of(mime: str) -> Any:
    """One of the kinds of `Media`; what is neither picture, sound nor film is a document."""
    head = mime.partition("/")[0].lower()
    return head if head in ("image", "audio", "video") else "document"


def from_inline(mime: str, data: str, state: Opaque | None = None) -> Media:
    """`data` may be in the alphabet for URLs, in which Google's Python SDK writes it, and without its end."""
    if "-" in data or "_" in data or len(data) % 4:
        data = data.replace("-", "+").replace("_", "/").rstrip("=")
        data += "=" * (-len(data) % 4)
    return Media(kind=kind_of(mime), mime=mime, data=data, state=state)


def from_file(mime: str, uri: str, state: Opaque | None = None) -> Media:
    """A file of Google's own means nothing elsewhere; anything else is an address."""
    if _FILE.fullmatch(uri):
        return Media(kind=kind_of(mime), mime=mime, file=uri, owner="gemini", state=state)
    kind = kind_of(mime or ("video/mp4" if "youtu" in uri else "image/jpeg"))
    return Media(kind=kind, mime=mime, url=uri, state=state)


def detail_of(level: str) -> str | None:
    return next((detail for detail, known in LEVELS.items() if known == level), None)


def closely(part: Media) -> Json:
    """The field beside a picture that says how closely it is to be looked at (Google, "Media resolution": for each
    picture by itself from Gemini 3 on)."""
    level = LEVELS.get(part.detail or "")
    return {"mediaResolution": {"level": level}} if level else {}


def encode(part: Media) -> Json:
    """The part without its state. An address is written as `fileData`: Google fetches public ones of some kinds
    itself; whoever wants all of them to work fetches them before. Raises RelayError for another vendor's file."""
    if part.text is not None:
        mime = part.mime if part.mime.startswith("text/") else "text/plain"
        return _inline(mime, base64.b64encode(part.text.encode("utf-8", "surrogatepass")).decode())
    if part.data:
        mime = part.mime or _sniffed(part)
        return _inline(pictures.true_kind(part.data, mime) if part.kind == "image" else mime, part.data)
    if found := _DATA.fullmatch(part.url):
        return _inline(found[1] or part.mime or _USUAL[part.kind], found[2])
    if part.url:
        return {"fileData": {"fileUri": part.url, **({"mimeType": part.mime} if part.mime else {})}}
    if part.file and part.owner != "gemini":
        message = f"A {_NAMES[part.kind]} is named by another provider's file id, which this model cannot read."
        raise RelayError(Cause.INVALID_MESSAGES, message, param="messages")
    return {"fileData": {"fileUri": part.file, **({"mimeType": part.mime} if part.mime else {})}}


def _inline(mime: str, data: str) -> Json:
    return {"inlineData": {"mimeType": mime, "data": data}}


def _sniffed(part: Media) -> str:
    """The type that the file's first bytes tell, else the usual one of its kind. Pictures are looked at anyway."""
    for head, mime in _MAGIC:
        if part.data.startswith(head):
            return mime
    return _USUAL[part.kind]
