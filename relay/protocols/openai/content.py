"""A conversation as OpenAI's chat has it, for a model of these capabilities. Pure.

What the wire has no place for is told in another: pictures in a tool's result by a turn of the user that follows it,
a failure by the word before its text. What has no meaning to the model is refused.
"""

import base64
import binascii

from relay.errors import Cause, RelayError
from relay.protocols import customs, documents, names, resolution, turns
from relay.protocols.canonical import (
    Json,
    Mark,
    Media,
    Message,
    Opaque,
    Part,
    Raw,
    Reasoning,
    Refusal,
    Text,
    ToolCall,
    ToolResult,
)
from relay.protocols.capabilities import Capabilities
from relay.protocols.openai import details, wire

LONGEST_NAME, LONGEST_ID = 64, 40
NO_SIGNATURE = "skip_thought_signature_validator"  # Google, "Thought signatures"
_SOUNDS = {"mpeg": "mp3", "wave": "wav", "vnd.wave": "wav"}


class Conversation:
    """`renamed`: the upstream's name of each tool by the client's. Raises RelayError (invalid_messages)."""

    def __init__(self, messages: list[Message], caps: Capabilities, renamed: dict[str, str]) -> None:
        self._messages = messages
        self.caps = caps
        self.renamed = renamed

    def written(self) -> list[Json]:
        out: list[Json] = []
        for message in self._turns():
            match message.role:
                case "system":
                    out.append({"role": "system", **self._named(message), "content": self._content(message.parts)})
                case "assistant":
                    out += self._assistant(message)
                case _:
                    out += self._user(message)
        return out

    def _turns(self) -> list[Message]:
        messages = self._messages
        if not self.caps.mid_system:
            leading, rest = turns.leading_system(messages)
            messages = [*leading, *turns.system_as_user(rest)]
        if any(isinstance(part, ToolCall | ToolResult) for message in messages for part in message.parts):
            return turns.answered(turns.called_at_once(messages))
        return messages

    def _user(self, message: Message) -> list[Json]:
        """Each result is a message of its own; pictures in them follow as the user's, because a result is text here."""
        moved: list[Part] = []
        out = [self._result(part, moved) for part in message.parts if isinstance(part, ToolResult)]
        rest = [part for part in message.parts if not isinstance(part, ToolResult)]
        if moved or rest or not out:
            out.append({"role": "user", **self._named(message), "content": self._content([*moved, *rest])})
        return out

    def _result(self, result: ToolResult, moved: list[Part]) -> Json:
        told: list[Part] = []
        for part in result.parts:
            if isinstance(part, Text) or part.text is not None or self.caps.result_media:
                told.append(part)
                continue
            told.append(Text(text=f"[The {part.kind} follows in the next message.]"))
            moved += (Text(text=f"The {part.kind} that the tool returned for call {_id(result.call)}:"), part)
        if result.failed:
            _tell_failure(told)
        return {"role": "tool", "tool_call_id": _id(result.call), "content": self._content(told)}

    def _assistant(self, message: Message) -> list[Json]:
        said: list[Part] = [part for part in message.parts if isinstance(part, Text)]
        calls = [part for part in message.parts if isinstance(part, ToolCall)]
        refusals = [part.text for part in message.parts if isinstance(part, Refusal)]
        out: Json = {"role": "assistant", **self._named(message), "content": self._content(said) if said else None}
        if refusals:
            out["refusal"] = "\n".join(refusals)
        for part in message.parts:
            if isinstance(part, Raw) and is_known(part):
                out["audio"] = part.value
        if calls:
            out["tool_calls"] = [self._call(call, first=call is calls[0]) for call in calls]
        out.update(self._thoughts([part for part in message.parts if isinstance(part, Reasoning)]))
        pictures: list[Part] = [part for part in message.parts if isinstance(part, Media)]
        shown = [self._shown(pictures)] if pictures else []
        if len(out) == 2 and out["content"] is None:
            return shown
        if not calls and out["content"] is None and "audio" not in out:
            out["content"] = ""
        return [*shown, out] if calls else [out, *shown]  # nothing may stand between calls and their results

    def _shown(self, pictures: list[Part]) -> Json:
        """What the model itself had made: only a user may show pictures here."""
        return {"role": "user", "content": self._content([Text(text="(What you made:)"), *pictures])}

    def _thoughts(self, parts: list[Reasoning]) -> Json:
        """In the field in which the model wants them; another vendor's state goes to nobody, and with it its text."""
        match self.caps.thoughts:
            case "reasoning_details":
                entries = details.entries(parts)
                return {"reasoning_details": entries} if entries else {}
            case "reasoning_content" | "reasoning" as field:
                text = "\n\n".join(part.text for part in parts if part.text and _is_native(part))
                return {field: text} if text else {}
        return {}

    def _call(self, call: ToolCall, *, first: bool) -> Json:
        name = self.renamed[call.name]
        if call.custom and self.caps.custom_tools:
            made = ToolCall(id=_id(call.id), name=name, custom=True)
            return wire.written_call(made, arguments=call.arguments)
        text = customs.arguments_for(call.arguments) if call.custom else call.arguments or "{}"
        out = wire.written_call(ToolCall(id=_id(call.id), name=name), arguments=text)
        if self.caps.thoughts == "extra_content":
            out.update(wire.extra_content(self._signature(call, first=first)))
        return out

    def _signature(self, call: ToolCall, *, first: bool) -> Opaque | None:
        """Gemini's own. The first call of a step must bear one where the model checks them: for one from elsewhere
        there is Google's word for having none."""
        if call.state is not None and call.state.owner == "gemini":
            return call.state
        return Opaque("gemini", NO_SIGNATURE) if first and self.caps.signatures else None

    def _named(self, message: Message) -> Json:
        return {"name": names.shortened(message.name, LONGEST_NAME)} if message.name else {}

    # ---- parts ------------------------------------------------------------------------------------------------------

    def _content(self, parts: list[Part]) -> str | list[Json]:
        """A string where it is one text, as every vendor takes it."""
        written = [self._part(part) for part in parts]
        if not written:
            return ""
        if len(written) == 1 and written[0].keys() == {"type", "text"}:
            return str(written[0]["text"])
        return written

    def _part(self, part: Part) -> Json:
        match part:
            case Text():
                return {"type": "text", "text": part.text, **self.marked(part.mark)}
            case Media():
                return {**self._media(part), **self.marked(part.mark)}
            case Refusal():
                return {"type": "text", "text": part.text}
            case Raw():
                raise _refused(f"A part of type `{part.label}` has no meaning to this model.")
        raise _refused(f"A {type(part).__name__} may not stand here.")

    def _media(self, part: Media) -> Json:
        if part.text is not None:
            return {"type": "text", "text": _inline(part.text, part.name)}
        if part.file and part.owner != "openai":
            raise _refused("The file's id is another vendor's; send the file itself.")
        self._admit(part)
        match part.kind:
            case "image":
                closely = {"detail": part.detail} if part.detail in ("auto", *resolution.OPENAI) else {}
                return {"type": "image_url", "image_url": {"url": wire.address_of(part), **closely}}
            case "audio" if part.data:
                kind = part.mime.partition("/")[2].removeprefix("x-")
                sound = {"data": part.data, "format": _SOUNDS.get(kind, kind or "wav")}
                return {"type": "input_audio", "input_audio": sound}
            case "audio" | "video":
                return {"type": f"{part.kind}_url", f"{part.kind}_url": {"url": wire.address_of(part)}}
        return self._document(part)

    def _admit(self, part: Media) -> None:
        if part.kind == "document" and documents.is_text(part.mime) and part.data:
            return  # goes as text
        if part.kind not in self.caps.input:
            raise _refused(f"This model takes no input of the kind {part.kind}.")
        if part.file and part.kind != "document":
            raise _refused(f"This model takes no {part.kind} by a file's id.")
        if part.url and part.kind == "image" and not self.caps.picture_urls:
            raise _refused("This model takes pictures as data only, not by URL.")
        if part.url and part.kind == "document" and not self.caps.document_urls:
            raise _refused("This model takes documents as data only, not by URL.")

    def _document(self, part: Media) -> Json:
        if part.url:
            name = {"filename": part.name} if part.name else {}
            return {"type": "file_url", "file_url": {"url": part.url}, **name}
        if part.file:
            name = {"filename": part.name} if part.name else {}
            return {"type": "file", "file": {"file_id": part.file, **name}}
        if documents.is_text(part.mime):  # a file is a PDF here (OpenAI, "File inputs")
            return {"type": "text", "text": _inline(_text_inside(part), part.name)}
        name = {"filename": part.name or documents.file_name(part.mime)}
        return {"type": "file", "file": {**name, "file_data": wire.address_of(part)}}

    def marked(self, mark: Mark | None) -> Json:
        if mark is None or not self.caps.marks:
            return {}
        if self.caps.marks == "cache_control":
            return {"cache_control": {"type": "ephemeral", **({"ttl": mark.ttl} if mark.ttl else {})}}
        # OpenAI's lifetimes are others than Anthropic's; its own are kept.
        kept = {"ttl": mark.ttl} if mark.ttl in ("30m", "12h") else {}
        return {"prompt_cache_breakpoint": {"mode": "explicit", **kept}}


# ---- small pieces ---------------------------------------------------------------------------------------------------


def _refused(text: str) -> RelayError:
    return RelayError(Cause.INVALID_MESSAGES, text, param="messages")


def _id(call: str) -> str:
    return names.call_id(call, LONGEST_ID)


def _tell_failure(parts: list[Part]) -> None:
    """OpenAI has no field for a tool's failure."""
    first = parts[0] if parts else None
    if isinstance(first, Text):
        if not first.text.lower().startswith("error"):
            parts[0] = Text(text=f"Error: {first.text}", mark=first.mark)
    else:
        parts.insert(0, Text(text="Error: the tool failed."))


def _is_native(part: Reasoning) -> bool:
    return part.state is None or part.state.owner == "openai"


def is_known(part: Raw) -> bool:
    """The sound of an earlier answer, which is told by its id; nothing else of the kind exists here."""
    return part.owner == "openai" and part.label == "audio"


def _inline(text: str, name: str | None) -> str:
    head = f'<document name="{name}">' if name else "<document>"
    return f"{head}\n{text}\n</document>"


def _text_inside(part: Media) -> str:
    try:
        return base64.b64decode(part.data, validate=False).decode("utf-8", "replace")
    except (binascii.Error, ValueError) as error:
        raise _refused("The data of a document is not base64.") from error
