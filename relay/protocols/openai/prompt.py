"""What an OpenAI chat request puts into the model's prompt: read for counting, never for passing on.

Source: OpenAI API reference, "Create chat completion". Whatever has another shape than it is no error here; it is the
upstream's to refuse, and is counted as the JSON that it is.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from relay.counting import media, pictures
from relay.counting.prompt import ANSWER, CALL, MESSAGE, NAME, PARALLEL_CALL, Prompt
from relay.errors import Cause, RelayError
from relay.protocols import markdown, raws
from relay.protocols.canonical import Media
from relay.protocols.raws import NULL

Fields = dict[str, msgspec.Raw]

# Top-level fields that are no part of the prompt, or are counted by themselves.
_BESIDE = frozenset(
    (
        "model", "messages", "tools", "functions", "tool_choice", "function_call", "stream", "stream_options",
        "max_tokens", "max_completion_tokens", "n", "api_key", "temperature", "top_p", "frequency_penalty",
        "presence_penalty", "logit_bias", "logprobs", "top_logprobs", "seed", "stop", "user", "metadata", "store",
        "service_tier", "parallel_tool_calls", "reasoning_effort", "verbosity", "modalities", "audio",
        "prompt_cache_key", "safety_identifier",
    )
)  # fmt: skip
_MEDIA_WORDS = (b"image", b'"input_audio"', b'"file', b"_url", b"\\u")
_MEDIA_TYPES = frozenset(
    ("image_url", "input_image", "input_audio", "audio_url", "file", "input_file", "file_url", "video_url")
)


class _Message(msgspec.Struct):
    role: msgspec.Raw = NULL
    content: msgspec.Raw = NULL


_message_decoder = msgspec.json.Decoder(_Message)
_fields_decoder = msgspec.json.Decoder(Fields)
_list_decoder = msgspec.json.Decoder(list[msgspec.Raw])


# ---- media ----------------------------------------------------------------------------------------------------------


def find_media(body: bytes, messages: Sequence[msgspec.Raw]) -> list[media.Media]:
    """The pictures, documents and sounds of a request. Only where the API takes them they are any: the same characters
    in a text are text, and cost as much. What the model has drawn is in its texts. Raises RelayError for a picture that
    is too large."""
    for word in _MEDIA_WORDS:  # a loop, because a generator costs each call as much as its search
        if word in body:
            break
    else:
        return []
    found: list[media.Media] = []
    draws = markdown.MARK in body
    for message in messages:
        try:
            read = _message_decoder.decode(message)
        except (msgspec.DecodeError, RecursionError):
            continue
        found += [thing for part in _list(read.content) if (thing := _medium(_fields(part))) is not None]
        if draws and raws.text(read.role) == "assistant":
            found += _drawn(read.content)
    return found


def _drawn(content: msgspec.Raw) -> list[media.Media]:
    """The pictures that a turn of the model's shows as markdown."""
    written = (content, *(_fields(part).get("text") for part in _list(content)))
    texts = [text for raw in written if (text := raws.text(raw))]
    found = [piece.data for text in texts for piece in markdown.pieces(text) if isinstance(piece, Media)]
    return [media.Shown(len(data), pictures.dimensions(data[:400_000].encode())) for data in found]


def _medium(part: Fields) -> media.Media | None:
    """What a content part stands for, None for text."""
    match raws.text(part.get("type")):
        case "image_url" | "input_image" as kind:
            return _picture(part, part.get("image_url", NULL), kind)
        case "input_audio":
            return media.sound(_view(_fields(part.get("input_audio", NULL)).get("data", NULL)))
        case "audio_url":
            return media.sound(memoryview(b'""'))
        case "file" | "input_file":
            inner = _fields(part.get("file", NULL)) or part
            data = _view(inner.get("file_data", NULL))
            return media.document(data) if bytes(data[:1]) == b'"' else media.Document(0)
        case "file_url":
            return media.Document(0)
        case "video_url":
            return media.Film(_inside(part.get("video_url", NULL)))
    return None


def _picture(part: Fields, address: msgspec.Raw, kind: str) -> media.Picture:
    """`"image_url": {"url": …, "detail": …}`, or the address itself as some send it."""
    link = _fields(address)
    url = _view(link["url"]) if "url" in link else _view(address)
    found = media.picture(url, raws.text(link.get("detail") or part.get("detail")) or "auto")
    if found.is_too_large:
        raise RelayError(
            Cause.INVALID_PARAMETER, f"A picture may have at most {media.LARGEST_PICTURE >> 20} MB.", param="messages"
        )
    return found


def _inside(address: msgspec.Raw) -> int:
    url = _view(_fields(address).get("url", address))
    return len(url) if bytes(url[:6]) == b'"data:' else 0


# ---- texts ----------------------------------------------------------------------------------------------------------


def read(fields: Fields, messages: Sequence[msgspec.Raw], found: list[media.Media]) -> Prompt:
    """The whole prompt, with the media that were found before."""
    prompt = Prompt(framing=ANSWER + MESSAGE * len(messages), media=found)
    for message in messages:
        _read_message(_fields(message), prompt)
    prompt.functions = [*_functions(fields.get("tools", NULL)), *_bare(fields.get("functions", NULL))]
    if prompt.functions:
        prompt.choice = _choice(fields.get("tool_choice") or fields.get("function_call"))
    if "response_format" in fields and b"json_schema" in (schema := bytes(fields["response_format"])):
        prompt.texts.append(schema.decode())
    prompt.maybe += [
        bytes(raw).decode() for name, raw in fields.items() if name not in _BESIDE and name != "response_format"
    ]
    return prompt


def _read_message(message: Fields, prompt: Prompt) -> None:
    role = raws.text(message.pop("role", None)) or ""
    prompt.texts.append(role)
    if role in ("system", "developer") and prompt.system is None:
        prompt.system = len(prompt.texts)
    _read_content(message.pop("content", NULL), prompt, drawn=role == "assistant")
    if prompt.system == len(prompt.texts):
        prompt.texts.append("")
    if name := raws.text(message.pop("name", None)):
        prompt.texts.append(name)
        prompt.framing += NAME
    if role == "function":
        prompt.framing -= 2
    if call := _fields(message.pop("function_call", NULL)):
        _read_call(call, prompt)
        prompt.framing += CALL
    calls = [_fields(raw) for raw in _list(message.pop("tool_calls", NULL))]
    for call in calls:
        _read_call(_fields(call.get("function", NULL)), prompt)
    prompt.framing += CALL if len(calls) == 1 else PARALLEL_CALL * len(calls)
    refused = raws.text(message.pop("refusal", None))
    if refused:
        prompt.texts.append(refused)
    prompt.maybe += [bytes(raw).decode() for raw in message.values() if bytes(raw) != b"null"]


def _read_content(content: msgspec.Raw, prompt: Prompt, *, drawn: bool) -> None:
    """`drawn`: the pictures that a text shows have been found before, and are not its words."""
    if text := raws.text(content):
        prompt.texts.append(_words(text) if drawn else text)
    for raw in _list(content):
        part = _fields(raw)
        said = raws.text(part.get("text")) or raws.text(part.get("refusal"))
        if said is not None:
            prompt.texts.append(_words(said) if drawn else said)
        elif raws.text(part.get("type")) not in _MEDIA_TYPES:
            prompt.maybe.append(bytes(raw).decode())


def _words(text: str) -> str:
    return "".join(piece for piece in markdown.pieces(text) if isinstance(piece, str))


def _read_call(call: Fields, prompt: Prompt) -> None:
    prompt.texts += [text for name in ("name", "arguments") if (text := raws.text(call.get(name)))]


def _functions(tools: msgspec.Raw) -> Iterator[dict[str, Any]]:
    for raw in _list(tools):
        tool: dict[str, Any] = msgspec.json.decode(raw) if bytes(memoryview(raw)[:1]) == b"{" else {}
        function = tool.get("function")
        yield function if isinstance(function, dict) else tool


def _bare(functions: msgspec.Raw) -> Iterator[dict[str, Any]]:
    for raw in _list(functions):
        if bytes(memoryview(raw)[:1]) == b"{":
            yield msgspec.json.decode(raw)


def _choice(raw: msgspec.Raw | None) -> str | None:
    """`none`, or the name of the function that must be called."""
    if raw is None:
        return None
    said = _fields(raw)
    if said:
        return raws.text(_fields(said.get("function", NULL)).get("name") or said.get("name"))
    return "none" if raws.text(raw) == "none" else None


# ---- JSON of any shape ----------------------------------------------------------------------------------------------


def _view(raw: msgspec.Raw) -> memoryview:
    return memoryview(raw)


def _fields(raw: msgspec.Raw) -> Fields:
    if bytes(memoryview(raw)[:1]) != b"{":
        return {}
    return _fields_decoder.decode(raw)


def _list(raw: msgspec.Raw) -> list[msgspec.Raw]:
    return _list_decoder.decode(raw) if bytes(memoryview(raw)[:1]) == b"[" else []
