"""An upstream's chat, streamed or whole, into the hub's events. Pure.

The wire knows no boundaries: text, thoughts and calls come as they come, and the pieces of parallel calls may be mixed.
The hub's parts do not overlap, so what begins while a call is incomplete waits until that call is whole, or at the
latest until the answer's end.
"""

import hashlib
from typing import Any, Literal

import msgspec

from billing.usage import Usage
from relay.errors import Cause, RelayError
from relay.protocols import completion_usage, envelope, names
from relay.protocols.canonical import Finish, Json, Opaque, Part, Reasoning, Refusal, Text, ToolCall
from relay.protocols.events import Event, Failed, Finished, PartDelta, PartEnded, PartStarted, Started
from relay.protocols.openai import details, wire
from relay.protocols.openai.wire import Call, Delta
from relay.protocols.raws import ABSENT, is_given

MOST_WAITING = 32 * 1024 * 1024  # characters that may wait for a call that does not end


class _Choice(msgspec.Struct):
    """Some vendors put a whole `message` into a stream, some the usage into the choice."""

    index: int | None = None
    delta: Delta | None = None
    message: Delta | None = None
    finish_reason: str | None = None
    usage: msgspec.Raw = ABSENT


class _Chunk(msgspec.Struct):
    id: str | None = None
    model: str | None = None
    choices: list[_Choice] | None = None
    usage: msgspec.Raw = ABSENT
    error: msgspec.Raw = ABSENT


_decoder = msgspec.json.Decoder(_Chunk)
_UNREADABLE = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)


Kind = Literal["text", "reasoning", "refusal", "call"]


class _Piece:
    """A part in the making: open, or waiting with what came of it."""

    __slots__ = ("custom", "ended", "id", "kind", "name", "number", "size", "state", "texts", "tried")

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.number = -1
        self.texts: list[str] = []
        self.id = self.name = ""
        self.custom = self.ended = False
        self.state: Opaque | None = None
        self.size = self.tried = 0  # characters of all texts, and of those that were looked at

    def is_whole(self) -> bool:
        """Whether nothing of it needs to follow. A call's arguments are looked at again only once they have doubled, so
        that looking costs time by their length."""
        if self.kind != "call" or self.custom:
            return True
        if self.size < 2 * self.tried or not self.texts or not self.texts[-1].rstrip().endswith("}"):
            return False
        self.tried = self.size
        text = "".join(self.texts)
        try:
            msgspec.json.decode(text, type=dict[str, msgspec.Raw])
        except (*_UNREADABLE, UnicodeEncodeError):
            return False
        return True


class ChatDecoder:
    """`codec.Decoder`. `whole` reads an answer that was not streamed, by the same rules."""

    __slots__ = (
        "_begun", "_by_id", "_by_index", "_called", "_id", "_latest", "_next", "_old", "_open", "_over", "_said",
        "_size", "_spoken", "_waiting", "finished", "outdated", "usage",
    )  # fmt: skip

    def __init__(self) -> None:
        self.finished = self.outdated = False
        self._begun = self._over = False
        self._id = ""
        self._next = 0
        self._open: _Piece | None = None
        self._waiting: list[_Piece] = []
        self._by_index: dict[int, _Piece] = {}
        self._by_id: dict[str, _Piece] = {}
        self._latest: _Piece | None = None  # the call that a piece without index and id belongs to
        self._old: _Piece | None = None  # the one of `function_call`
        self._called = False
        self._spoken = False  # whether the open thoughts came as text, beside which entries repeat it
        self._said: Finish | None = None
        self.usage: Usage | None = None
        self._size = 0

    def feed(self, data: bytes) -> list[Event]:
        if self._over:
            return []
        if data == b"[DONE]":
            return self._end()
        try:
            return self._chunk(_decoder.decode(data))
        except _UNREADABLE:
            return self._fail(RelayError(Cause.UPSTREAM_ERROR, "The provider sent an event that is not a chunk."))
        except RelayError as error:
            return self._fail(error)

    def close(self) -> list[Event]:
        if self._over:
            return []
        if self._begun and self._said is None:
            return self._fail(RelayError(Cause.UPSTREAM_ERROR, "The provider's stream ended before its answer did."))
        return self._end()

    def whole(self, body: bytes) -> list[Event]:
        """Raises RelayError for what is no answer."""
        try:
            chunk = _decoder.decode(body)
        except _UNREADABLE as error:
            raise RelayError(Cause.UPSTREAM_ERROR, "The provider's answer is not a chat completion.") from error
        message = chunk.choices[0].message if chunk.choices else None
        thoughts = [] if message is None or is_given(chunk.error) else self._thought_before(chunk, message)
        events = [*thoughts, *self._chunk(chunk)]
        if not self._begun:
            raise RelayError(Cause.UPSTREAM_ERROR, "The provider's answer has no choices.")
        return events + self._end()

    # ---- chunks -----------------------------------------------------------------------------------------------------

    def _chunk(self, chunk: _Chunk) -> list[Event]:
        if is_given(chunk.error):
            raise RelayError(Cause.UPSTREAM_ERROR, f"The provider failed: {envelope.error_text(chunk.error)}")
        told = completion_usage.decode(chunk.usage) if chunk.usage is not ABSENT else None
        if told is not None:
            self.usage, self.outdated = told, False
        if not chunk.choices:
            # Some vendors never end a stream whose usage they have told.
            return self._end() if self._said is not None and is_given(chunk.usage) else []
        out: list[Event] = [] if self._begun else [self._begin_answer(chunk)]
        choice = chunk.choices[0]
        delta = choice.delta or choice.message
        if delta is not None:
            begun = len(out)
            self._delta(delta, out)
            if told is None and (self._waiting or len(out) > begun):
                self.outdated = True
        if choice.finish_reason:
            self._finish(choice)
        return out

    def _begin_answer(self, chunk: _Chunk) -> Started:
        self._begun = True
        self._id = chunk.id or ""
        return Started(self._id, chunk.model or "")

    def _finish(self, choice: _Choice) -> None:
        word = choice.finish_reason or ""
        if word in wire.FAULTS:
            raise RelayError(Cause.UPSTREAM_ERROR, f"The provider broke its answer off: {word}.")
        self._said = wire.FINISHES.get(word, Finish.STOP)
        self.finished = True
        if choice.usage is not ABSENT and self.usage is None:
            self.usage, self.outdated = completion_usage.decode(choice.usage), False

    def _delta(self, delta: Delta, out: list[Event]) -> None:
        thoughts = delta.thoughts
        if thoughts:
            self._say("reasoning", thoughts, out, summary=_summarises(delta.reasoning_details))
            self._spoken = True
        if delta.reasoning_details:
            self._entries(delta.reasoning_details, out, repeated=bool(thoughts))
        if delta.content:
            self._content(delta.content, out)
        if delta.refusal:
            self._say("refusal", delta.refusal, out)
        if delta.images:
            self._pictures(delta.images, out)
        if delta.annotations:
            self._annotate(delta.annotations, out)
        if delta.audio:
            raise RelayError(Cause.UPSTREAM_ERROR, "The provider answered with sound, which cannot be translated.")
        if delta.function_call is not None:
            self._old_call(delta.function_call, out)
        for call in delta.tool_calls or ():
            self._call(call, out)

    def _content(self, content: str | list[Any], out: list[Event]) -> None:
        if isinstance(content, str):
            self._say("text", content, out)
            return
        for part in content:
            match part:
                case {"type": "text", "text": str(text)}:
                    self._say("text", text, out)
                case {"type": "thinking", "thinking": [*thoughts]}:
                    for thought in thoughts:
                        if isinstance(thought, dict) and isinstance(said := thought.get("text"), str):
                            self._say("reasoning", said, out)

    # ---- text and thoughts ------------------------------------------------------------------------------------------

    def _say(self, kind: Kind, text: str, out: list[Event], *, summary: bool = False) -> None:
        if not text:
            return
        piece = self._open
        if piece is not None and piece.kind == kind and not self._waiting:
            out.append(PartDelta(piece.number, text))
            return
        if not (self._waiting and self._waiting[-1].kind == kind):
            piece = _Piece(kind)
            piece.custom = summary
            self._waiting.append(piece)
        self._add(self._waiting[-1], text)
        self._advance(out)

    def _entries(self, entries: Any, out: list[Event], *, repeated: bool) -> None:
        """`reasoning_details`: text only where it did not come as text already, and state."""
        for entry in entries if isinstance(entries, list) else ():
            if not isinstance(entry, dict):
                continue
            text, state = details.text_of(entry), details.state_of(entry)
            if text and not repeated and not (self._spoken and self._thinking is not None):
                self._say("reasoning", text, out, summary=details.is_summary(entry))
                self._spoken = False
            if state is None:
                continue
            if self._thinking is not None and (text is not None or details.takes_late(state)):
                self._close_part(out, state)
            elif text is None:
                self._put(Reasoning(state=state, redacted=True), out)

    @property
    def _thinking(self) -> _Piece | None:
        piece = self._open
        return piece if piece is not None and piece.kind == "reasoning" and not self._waiting else None

    def _thought_before(self, chunk: _Chunk, message: Delta) -> list[Event]:
        """A whole message's thoughts: each with its state, which a stream tells by the order of things."""
        out: list[Event] = [self._begin_answer(chunk)]
        for part in details.read(message.reasoning_details, message.thoughts):
            bare = Reasoning(state=part.state if part.redacted else None, redacted=part.redacted, summary=part.summary)
            out.append(PartStarted(self._next, bare))
            if part.text:
                out.append(PartDelta(self._next, part.text))
            out.append(PartEnded(self._next, None if part.redacted else part.state))
            self._next += 1
        message.reasoning_details = message.reasoning_content = message.reasoning = None
        return out

    def _pictures(self, images: Any, out: list[Event]) -> None:
        for image in images if isinstance(images, list) else ():
            match image:
                case {"image_url": {"url": str(url)}} if url:
                    self._put(wire.medium(url, "image"), out)

    def _annotate(self, annotations: Any, out: list[Event]) -> None:
        """Sources of the text so far, as Anthropic writes them."""
        piece = self._open
        if piece is None or piece.kind != "text":
            return
        for annotation in annotations if isinstance(annotations, list) else ():
            match annotation:
                case {"url_citation": {"url": str(url), **rest}}:
                    title = rest.get("title")
                    citation: Json = {
                        "type": "web_search_result_location",
                        "url": url,
                        "title": title if isinstance(title, str) else "",
                        "cited_text": "",
                        "encrypted_index": "",
                    }
                    out.append(PartDelta(piece.number, "", citation))

    # ---- calls ------------------------------------------------------------------------------------------------------

    def _call(self, call: Call, out: list[Event]) -> None:
        piece = self._known(call)
        if piece is None:
            piece = self._new_call(call.id or "", custom=call.custom is not None)
            if call.index is not None:
                self._by_index[call.index] = piece
            if call.id:
                self._by_id[call.id] = piece
        self._latest = piece
        if piece.number < 0:
            piece.name = piece.name or call.name
            piece.state = piece.state or call.state
        self._add_arguments(piece, call.text, out)

    def _known(self, call: Call) -> _Piece | None:
        """The call that this is a piece of: by index, unless id and name say that it is another one under the same
        index; by id; and of pieces with neither, one with a name begins a call."""
        if call.index is not None:
            piece = self._by_index.get(call.index)
            another = piece is not None and call.name and call.id and piece.id not in ("", call.id)
            return None if another else piece
        if call.id:
            return self._by_id.get(call.id)
        return None if call.name else self._latest

    def _old_call(self, function: wire.Function, out: list[Event]) -> None:
        if self._old is None:
            self._old = self._new_call("", custom=False)
        piece = self._old
        piece.name = piece.name or function.name or ""
        self._add_arguments(piece, wire.arguments_of(function), out)

    def _new_call(self, given: str, *, custom: bool) -> _Piece:
        piece = _Piece("call")
        piece.id, piece.custom = given, custom
        self._waiting.append(piece)
        return piece

    def _add_arguments(self, piece: _Piece, text: str, out: list[Event]) -> None:
        if piece.ended:
            if text.strip():
                raise RelayError(Cause.UPSTREAM_ERROR, "The provider went on with a tool's call that had ended.")
            return
        if text:
            self._add(piece, text)
            if piece is self._open:
                out.append(PartDelta(piece.number, text))
        if piece is not self._open:
            self._advance(out)

    def _add(self, piece: _Piece, text: str) -> None:
        piece.texts.append(text)
        piece.size += len(text)
        if piece is not self._open:
            self._size += len(text)
            if self._size > MOST_WAITING:
                raise RelayError(Cause.UPSTREAM_ERROR, "The provider's answer has a tool's call that does not end.")

    # ---- one part after the other -----------------------------------------------------------------------------------

    def _advance(self, out: list[Event], *, all_of_it: bool = False) -> None:
        """Opens what waits, as long as what is open needs nothing more."""
        while self._waiting:
            piece = self._waiting[0]
            nameless = piece.kind == "call" and not piece.name
            if nameless and all_of_it:
                raise RelayError(Cause.UPSTREAM_ERROR, "The provider called a tool without its name.")
            if nameless or not (all_of_it or self._open is None or self._open.is_whole()):
                return
            self._close_part(out)
            self._begin_part(self._waiting.pop(0), out)

    def _begin_part(self, piece: _Piece, out: list[Event]) -> None:
        piece.number, self._next = self._next, self._next + 1
        self._open, self._spoken = piece, False
        out.append(PartStarted(piece.number, self._part(piece)))
        text = "".join(piece.texts)
        self._size -= len(text)
        if text:
            out.append(PartDelta(piece.number, text))
        piece.texts = [text] if piece.kind == "call" else []

    def _part(self, piece: _Piece) -> Part:
        match piece.kind:
            case "text":
                return Text()
            case "refusal":
                return Refusal()
            case "reasoning":
                return Reasoning(summary=piece.custom)
        self._called = True
        piece.id = piece.id or self._made_id(piece.number)
        return ToolCall(id=piece.id, name=piece.name, custom=piece.custom, state=piece.state)

    def _made_id(self, number: int) -> str:
        """For a call without one: the same whenever the same answer is read."""
        if not self._id:
            return names.new_call_id()
        return f"call_{hashlib.sha256(f'{self._id} {number}'.encode()).hexdigest()[:24]}"

    def _put(self, part: Part, out: list[Event]) -> None:
        """A part that comes whole. Behind a call that is not, it would have to wait, and closes it instead."""
        self._advance(out, all_of_it=True)
        self._close_part(out)
        out += (PartStarted(self._next, part), PartEnded(self._next))
        self._next += 1

    def _close_part(self, out: list[Event], state: Opaque | None = None) -> None:
        if self._open is not None:
            out.append(PartEnded(self._open.number, state))
            self._open.ended = True
            self._open = None

    # ---- the end ----------------------------------------------------------------------------------------------------

    def _end(self) -> list[Event]:
        if not self._begun:
            return self._fail(RelayError(Cause.UPSTREAM_ERROR, "The provider's stream had no answer in it."))
        out: list[Event] = []
        try:
            self._advance(out, all_of_it=True)
        except RelayError as error:
            return [*out, *self._fail(error)]
        self._close_part(out)
        self._over = self.finished = True
        out.append(Finished(self._reason(), self.usage))
        return out

    def _reason(self) -> Finish:
        """By what was put out: vendors say `stop` after calls, and `tool_calls` without any."""
        said = self._said or Finish.STOP
        if said in (Finish.STOP, Finish.TOOL_CALLS):
            return Finish.TOOL_CALLS if self._called else Finish.STOP
        return said

    def _fail(self, error: RelayError) -> list[Event]:
        self._over = True
        return [Failed(error)]


def _summarises(entries: Any) -> bool:
    first = entries[0] if isinstance(entries, list) and entries else None
    return isinstance(first, dict) and details.is_summary(first)
