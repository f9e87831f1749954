"""Pictures that a model has drawn, in protocols whose answers are text: as markdown, which clients show, and read back
from it when the turn comes again. Pure."""

import re

import msgspec

from relay.protocols import pictures
from relay.protocols.canonical import Media, Part, Text

MARK = b"](data:image"  # in every JSON body that has such a picture; what follows may be escaped
_BEGINS = "](data:image/"
_PICTURE = re.compile(r"!\[[^\[\]\n]{0,256}\]\(data:image/[a-zA-Z0-9.+-]{1,40};base64,([A-Za-z0-9+/]++={0,2})\)")


def shown(part: Media) -> str:
    """A medium as a client of text sees it; what is no picture, as a link."""
    if part.kind != "image":
        return (
            f"[{part.name or part.kind}]({part.url or _data_uri(part.mime or 'application/octet-stream', part.data)})"
        )
    address = part.url or _data_uri(pictures.true_kind(part.data, part.mime or "image/png"), part.data)
    return f"![{part.name or 'image'}]({address})"


def _data_uri(mime: str, data: str) -> str:
    return f"data:{mime};base64,{data}"


def pieces(text: str) -> list[str | Media]:
    """The text around the pictures that it shows, and these. A link, and what only looks like a picture, is text."""
    if _BEGINS not in text:  # most texts are long and have none
        return [text]
    found: list[str | Media] = []
    done = 0
    for match in _PICTURE.finditer(text):
        mime = pictures.true_kind(match[1], "")
        if not mime or len(match[1]) % 4:
            continue
        found += [text[done : match.start()], Media(kind="image", mime=mime, data=match[1])]
        done = match.end()
    return [piece for piece in (*found, text[done:]) if piece]


def drawn(parts: list[Part]) -> list[Part]:
    """A turn of the model's with the pictures that its texts show as parts of their own."""
    out: list[Part] = []
    for part in parts:
        if isinstance(part, Text) and _BEGINS in part.text:
            out += _apart(part)
        else:
            out.append(part)
    return out


def _apart(text: Text) -> list[Text | Media]:
    """What marks the text's end marks the last piece's."""
    found = [
        msgspec.structs.replace(text, text=piece, mark=None) if isinstance(piece, str) else piece
        for piece in pieces(text.text)
    ]
    found[-1].mark = text.mark
    return found
