"""OpenAI moderation requests: a text, several, or parts that are text and pictures.

Source: OpenAI API reference, "Create moderation". Several texts have a result each, all parts have one together.
"""

from typing import ClassVar, Literal

import msgspec

from relay.counting import media
from relay.counting.families import Family
from relay.counting.prompt import Prompt
from relay.errors import RelayError
from relay.protocols import once, raws

MOST_INPUTS = 2048


class _Address(msgspec.Struct):
    url: msgspec.Raw


class _Part(msgspec.Struct):
    type: Literal["text", "image_url"]
    text: str | None = None
    image_url: _Address | None = None


class _Wanted(msgspec.Struct):
    """What is read of a request. Raw: known to exist, not looked into."""

    model: str | None = None
    input: msgspec.Raw = raws.ABSENT
    api_key: str | None = None


class ModerationAsked(once.OnceAsked):
    """`texts` and `pictures` are what is to be judged."""

    __slots__ = ("pictures", "texts")

    kind: ClassVar[str] = "moderation"
    READ = _Wanted.__struct_fields__

    def __init__(
        self, body: bytes, wanted: _Wanted, fields: once.Fields, texts: list[str], pictures: list[media.Picture]
    ) -> None:
        inside = sum(picture.inside for picture in pictures)
        super().__init__(body, wanted.model or "", fields, text_bytes=len(body) - inside)
        self.texts = texts
        self.pictures = pictures

    def _most(self, family: Family) -> int:
        around = 0 if family.exact else family.framing + once.AROUND * len(self.texts)
        return self.text_bytes + around + sum(picture.most(family) for picture in self.pictures)

    def prompt(self) -> Prompt:
        return Prompt(texts=self.texts, framing=0, media=[*self.pictures])


_decoder = msgspec.json.Decoder(_Wanted)
_input_decoder = msgspec.json.Decoder(str | list[str | _Part])


def read(body: bytes) -> ModerationAsked:
    """Raises RelayError: invalid_json or invalid_parameter, with the field's name."""
    wanted, fields = once.read(body, _decoder)
    if not raws.is_given(wanted.input):
        raise once.refused("input", "`input` is missing: a text, a list of texts, or a list of parts.")
    texts, pictures = _input(wanted.input)
    return ModerationAsked(body, wanted, fields, texts, pictures)


def _input(raw: msgspec.Raw) -> tuple[list[str], list[media.Picture]]:
    if once.has_more_strings(raw, 8 * MOST_INPUTS):
        raise _too_many()
    try:
        found = _input_decoder.decode(raw)
    except (msgspec.ValidationError, RecursionError) as error:
        raise once.wrong_type(error, "input") if isinstance(error, msgspec.ValidationError) else _nested() from error
    entries = [found] if isinstance(found, str) else found
    if not entries:
        raise once.refused("input", "`input` is an empty list.")
    if len(entries) > MOST_INPUTS:
        raise _too_many()
    parts = [entry for entry in entries if isinstance(entry, _Part)]
    texts = [entry for entry in entries if isinstance(entry, str)]
    if parts and texts:
        raise once.refused("input", "`input` may have texts or parts, and not both.")
    for part in parts:
        if part.type == "text" and part.text is not None:
            texts.append(part.text)
        elif part.type == "text" or part.image_url is None:
            raise once.refused("input", f"A part of `input` with the type {part.type!r} needs `{part.type}`.")
    return texts, [_picture(part.image_url.url) for part in parts if part.type == "image_url" and part.image_url]


def _picture(url: msgspec.Raw) -> media.Picture:
    if bytes(memoryview(url)[:1]) != b'"':
        raise once.refused("input", "The `url` of a picture must be a string.")
    found = media.picture(memoryview(url))
    if found.is_too_large:
        raise once.refused("input", f"A picture may have at most {media.LARGEST_PICTURE >> 20} MB.")
    return found


def _nested() -> RelayError:
    return once.refused("input", "`input` is nested too deeply.")


def _too_many() -> RelayError:
    return once.refused("input", f"`input` may have at most {MOST_INPUTS} entries.")
