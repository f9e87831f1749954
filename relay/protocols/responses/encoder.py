"""Events into the stream of Responses: items with indices and ids of their own, numbered events, one terminal event.

The order is that of OpenAI's stream. An item is done before the next is added; one that is cut off by the answer's end
says so. Raises BrokenGrammar for events out of order and repairs nothing.
"""

from typing import Any

import msgspec

from billing.usage import Usage
from relay.errors import RelayError
from relay.protocols import names, states
from relay.protocols.canonical import (
    Finish,
    Json,
    Media,
    Opaque,
    Raw,
    Reasoning,
    Refusal,
    Response,
    Text,
    ToolCall,
)
from relay.protocols.codec import Told
from relay.protocols.events import BrokenGrammar, Event, Failed, Finished, Grammar, PartDelta, PartEnded, PartStarted
from relay.protocols.fold import unfold
from relay.protocols.responses import answer, errors, usage, writing
from relay.protocols.responses.answer import Shell
from relay.protocols.responses.reading import OF_A_CALL, REDACTED
from relay.protocols.responses.request import ResponsesRequest

PING = b": ping\n\n"
_INCOMPLETE = {
    Finish.LENGTH: "max_output_tokens",
    Finish.CONTEXT: "max_output_tokens",
    Finish.PAUSE: "max_output_tokens",
    Finish.FILTER: "content_filter",
}


class _Item:
    """The item that is open. `text` gathers the inside of a JSON string: what `done` repeats; `parts` are a message's
    that have ended. `tail` is what a delta's event ends in, before its number."""

    __slots__ = ("annotations", "delta", "field", "fields", "head", "index", "kind", "parts", "tail", "text")

    def __init__(self, kind: str, index: int, fields: Json) -> None:
        self.kind = kind
        self.index = index
        self.fields = fields
        self.parts: list[Any] = []
        self.text = bytearray()
        self.annotations: list[Json] = []
        self.delta = self.field = ""
        self.head = self.tail = b""

    @property
    def id(self) -> str:
        return str(self.fields["id"])

    def taken(self) -> msgspec.Raw:
        """The text as a JSON string. The next part begins without any."""
        found = msgspec.Raw(b'"' + self.text + b'"')
        self.text = bytearray()
        return found


class Encoder:
    """As `codec.Encoder` promises it. Keeps the items, because the terminal event repeats them all."""

    __slots__ = ("_finished", "_grammar", "_item", "_number", "_output", "_shell")

    def __init__(self, asked: ResponsesRequest, *, model: str, prompt_tokens: int = 0) -> None:
        self._shell = Shell(asked, model)
        self._grammar = Grammar()
        self._number = 0
        self._item: _Item | None = None
        self._output: list[msgspec.Raw] = []
        self._finished: Finished | None = None

    def feed(self, event: Event) -> bytes:
        self._grammar.see(event)
        if type(event) is PartDelta:  # nearly always
            return self._more(event)
        match event:
            case PartStarted():
                return self._begin(event)
            case PartEnded():
                return self._end(event.state)
            case Finished():
                return self._finish(event)
            case Failed():
                raise BrokenGrammar("A failure goes to `fail`.")
        return self._start()

    def last(self, pisces: Told, counted: Usage | None = None) -> bytes:
        """Nothing for an answer that has not ended: nobody waits for it any more."""
        if self._finished is None:
            return b""
        whole = self.whole(pisces, counted)
        return answer.event(f"response.{whole['status']}", self._take(), whole, pisces=pisces)

    def whole(self, pisces: Told, counted: Usage | None = None) -> dict[str, Any]:
        """The answer as one object, once it has ended."""
        assert self._finished is not None
        reason = _INCOMPLETE.get(self._finished.reason)
        used = usage.encode(counted or self._finished.usage)
        status = "incomplete" if reason else "completed"
        whole = {**self._shell.of(status, self._output, used, reason=reason), "pisces": pisces}
        self._shell.asked.answered = msgspec.json.encode(whole)
        return whole

    def fail(self, error: RelayError, pisces: Told) -> bytes:
        """The error, and then the response that failed, with what was done of it (pitfall 32). What is open stays so: a
        call that is done is carried out."""
        out = errors.encode_event(error, self._take(), pisces)
        whole = {**self._shell.failed(self._output, error), "pisces": pisces}
        return out + answer.event("response.failed", self._take(), whole, pisces=pisces)

    def ping(self) -> bytes:
        return PING

    # ---- the whole of it --------------------------------------------------------------------------------------------

    def _start(self) -> bytes:
        begun = msgspec.Raw(self._shell.begun())
        created = answer.event("response.created", self._take(), begun)
        return created + answer.event("response.in_progress", self._take(), begun)

    def _finish(self, event: Finished) -> bytes:
        out = b""
        cut = event.reason in _INCOMPLETE
        if self._item is not None:
            out = self._close("incomplete" if cut else "completed")
        if event.reason is Finish.FILTER and event.note and not self._output:
            out += self._refusal(event.note)
        self._finished = event
        return out

    def _refusal(self, note: str) -> bytes:
        """An answer that was refused before it began says why."""
        out = self._open_content(Refusal())
        assert self._item is not None
        self._item.text += msgspec.json.encode(note)[1:-1]
        return out + self._end(None) + self._close("completed")

    def _take(self) -> int:
        number, self._number = self._number, self._number + 1
        return number

    def _event(self, kind: str, **fields: Any) -> bytes:
        content = {"type": kind, "sequence_number": self._take(), **fields}
        return b"event: " + kind.encode() + b"\ndata: " + msgspec.json.encode(content) + b"\n\n"

    # ---- items ------------------------------------------------------------------------------------------------------

    def _begin(self, event: PartStarted) -> bytes:
        part = event.part
        if isinstance(part, Text | Refusal):
            return self._open_content(part)
        out = self._close("completed") if self._item is not None else b""
        match part:
            case Reasoning():
                return out + self._open_thought(part)
            case ToolCall():
                return out + self._open_call(part)
            case Raw(owner="responses"):
                return out + self._add(part.label, {**part.value, "id": part.value.get("id") or self._id("item")})
            case Media(kind="image", data=str(data)) if data:
                return out + self._add("image_generation_call", writing.drawing(part, self._id("ig")))
        return out  # another vendor's own, for which there is no word here

    def _id(self, prefix: str) -> str:
        return f"{prefix}_{self._shell.asked.answer.hex}_{len(self._output)}"

    def _add(self, kind: str, fields: Json, *, begun: Json | None = None) -> bytes:
        """Opens an item. `begun` is how it looks at first, where that is not as it is."""
        self._item = _Item(kind, len(self._output), fields)
        shown = begun if begun is not None else fields
        return self._event("response.output_item.added", output_index=self._item.index, item=shown)

    def _close(self, status: str) -> bytes:
        """The item is done and as the terminal event will have it."""
        item, self._item = self._item, None
        assert item is not None
        if item.kind == "message":
            item.fields["content"] = item.parts
        if item.kind in ("message", "function_call", "custom_tool_call"):
            item.fields["status"] = status
        done = msgspec.Raw(msgspec.json.encode(item.fields))
        self._output.append(done)
        return self._event("response.output_item.done", output_index=item.index, item=done)

    def _deltas(self, kind: str, field: str, **places: Any) -> None:
        """What an event of more text looks like around it; `done` has the whole text as `field`."""
        item = self._item
        assert item is not None
        item.delta, item.field = kind, field
        name = kind.encode()
        fields = msgspec.json.encode(
            {"type": f"{kind}.delta", "item_id": item.id, "output_index": item.index, **places}
        )
        item.head = b"event: " + name + b".delta\ndata: " + fields[:-1] + b',"delta":'
        item.tail = b',"logprobs":[],"sequence_number":' if kind == "response.output_text" else b',"sequence_number":'

    def _done(self, item: _Item, text: msgspec.Raw, **more: Any) -> bytes:
        content = {"item_id": item.id, "output_index": item.index, **more, item.field: text}
        return self._event(f"{item.delta}.done", **content)

    def _more(self, event: PartDelta) -> bytes:
        item = self._item
        if item is None:
            return b""
        if event.citation is not None:
            return self._annotate(item, event.citation)
        if not event.text or not item.delta:
            return b""
        out = self._first_thought(item) if item.kind == "reasoning" and not item.text else b""
        text = msgspec.json.encode(event.text)
        item.text += memoryview(text)[1:-1]
        number, self._number = self._number, self._number + 1
        return b"%b%b%b%b%d}\n\n" % (out, item.head, text, item.tail, number)

    def _end(self, state: Opaque | None) -> bytes:
        item = self._item
        if item is None:
            return b""
        match item.kind:
            case "message":
                return self._end_content(item)
            case "reasoning":
                return self._end_thought(item, state)
            case "function_call" | "custom_tool_call":
                return self._end_call(item)
        return b""

    # ---- messages ---------------------------------------------------------------------------------------------------

    def _open_content(self, part: Text | Refusal) -> bytes:
        """Words go on in the message that is open: parts of it that follow each other are one message."""
        out = b""
        if self._item is None or self._item.kind != "message":
            out = self._close("completed") if self._item is not None else b""
            fields: Json = {"id": self._id("msg"), "type": "message", "status": "in_progress", "role": "assistant"}
            out += self._add("message", {**fields, "content": []})
        item = self._item
        assert item is not None
        place = len(item.parts)
        if isinstance(part, Refusal):
            self._deltas("response.refusal", "refusal", content_index=place)
        else:
            self._deltas("response.output_text", "text", content_index=place)
        empty = writing.content(part, msgspec.Raw(b'""'), [])
        return out + self._content("added", item, place, empty)

    def _content(self, what: str, item: _Item, place: int, part: Json) -> bytes:
        return self._event(
            f"response.content_part.{what}", item_id=item.id, output_index=item.index, content_index=place, part=part
        )

    def _annotate(self, item: _Item, citation: Json) -> bytes:
        annotation = writing.annotation(citation)
        if annotation is None or item.delta != "response.output_text":
            return b""
        item.annotations.append(annotation)
        return self._event(
            "response.output_text.annotation.added",
            item_id=item.id,
            output_index=item.index,
            content_index=len(item.parts),
            annotation_index=len(item.annotations) - 1,
            annotation=annotation,
        )

    def _end_content(self, item: _Item) -> bytes:
        text, place = item.taken(), len(item.parts)
        refused = item.field == "refusal"
        more: Json = {} if refused else {"logprobs": []}
        part = writing.content(Refusal() if refused else Text(), text, item.annotations)
        item.annotations = []
        item.parts.append(part)
        return self._done(item, text, content_index=place, **more) + self._content("done", item, place, part)

    # ---- thoughts ---------------------------------------------------------------------------------------------------

    def _open_thought(self, part: Reasoning) -> bytes:
        own = part.state is not None and part.state.owner == "openai" and part.state.id
        fields: Json = {"id": own or self._id("rs"), "type": "reasoning", "summary": []}
        out = self._add("reasoning", fields)
        self._deltas("response.reasoning_summary_text", "text", summary_index=0)
        if part.redacted and part.state is not None:
            fields["encrypted_content"] = wrapped(part.state, redacted=True)
        return out

    def _first_thought(self, item: _Item) -> bytes:
        places = {"item_id": item.id, "output_index": item.index, "summary_index": 0}
        return self._event("response.reasoning_summary_part.added", **places, part={"type": "summary_text", "text": ""})

    def _end_thought(self, item: _Item, state: Opaque | None) -> bytes:
        out = b""
        if item.text:
            text = item.taken()
            summary = {"type": "summary_text", "text": text}
            item.fields["summary"] = [summary]
            places = {"item_id": item.id, "output_index": item.index, "summary_index": 0}
            out = self._done(item, text, summary_index=0)
            out += self._event("response.reasoning_summary_part.done", **places, part=summary)
        if state is not None:
            item.fields["encrypted_content"] = wrapped(state, item=item.id)
        return out

    # ---- calls ------------------------------------------------------------------------------------------------------

    def _open_call(self, part: ToolCall) -> bytes:
        out = self._state_of(part) if part.state is not None else b""
        fields = writing.call(part, self._id("ctc" if part.custom else "fc"))
        text = "input" if part.custom else "arguments"
        out += self._add(str(fields["type"]), fields, begun={**fields, "status": "in_progress", text: ""})
        kind = "response.custom_tool_call_input" if part.custom else "response.function_call_arguments"
        self._deltas(kind, text)
        return out

    def _state_of(self, part: ToolCall) -> bytes:
        """There is no field in a call for its state, but there is one in a thought, which clients bring back."""
        assert part.state is not None
        marked = msgspec.structs.replace(part.state, id=OF_A_CALL + names.call_id(part.id, writing.LONGEST_NAME))
        fields: Json = {"id": self._id("rs"), "type": "reasoning", "summary": []}
        out = self._add("reasoning", fields)
        fields["encrypted_content"] = wrapped(marked)
        return out + self._close("completed")

    def _end_call(self, item: _Item) -> bytes:
        if item.field == "arguments" and not item.text:
            item.text += b"{}"
        text = item.taken()
        item.fields[item.field] = text
        more = {"name": item.fields["name"]} if item.field == "arguments" else {}
        return self._done(item, text, **more)


def wrapped(state: Opaque, *, redacted: bool = False, item: str = "") -> str:
    """Foreign state that has no text beside it is marked, so that its owner gets it as what it was; OpenAI's own is
    wrapped too where it stands in an `item` with another id than the one that it is bound to."""
    if redacted and state.owner != "openai":
        state = msgspec.structs.replace(state, id=REDACTED)
    moved = state.owner == "openai" and state.id not in ("", item)
    return states.wrapped(state, native="anthropic" if moved else "openai")


def encode_response(response: Response, *, asked: ResponsesRequest, model: str, pisces: Told) -> bytes:
    """A whole answer: what its stream ends in."""
    encoder = Encoder(asked, model=model)
    for event in unfold(response):
        encoder.feed(event)
    return msgspec.json.encode(encoder.whole(pisces))
