"""The stream of Responses into events.

Items may overlap on the wire (tools that the provider runs do); parts may not. The item that is open is told as it
comes, one that was added meanwhile is told whole when it is done. What a provider left out of the order is taken from
where it is said again: a text that came only with its `done`, items that came only with the end (pitfalls 34, 35).
"""

import msgspec

from billing.usage import Usage
from relay.errors import Cause, RelayError
from relay.protocols import raws
from relay.protocols.canonical import Opaque, Part, Reasoning, Refusal, Text, ToolCall, finish_of
from relay.protocols.events import Event, Failed, Finished, PartDelta, PartEnded, PartStarted, Started
from relay.protocols.fold import bare, text_of
from relay.protocols.raws import ABSENT
from relay.protocols.responses import errors, reading, received, usage
from relay.protocols.responses.reading import BETWEEN, Head

ENDS = frozenset(("response.completed", "response.incomplete", "response.failed", "response.cancelled"))


class _Event(msgspec.Struct, gc=False):
    type: str
    delta: str = ""
    output_index: int = 0
    content_index: int = 0
    summary_index: int = 0
    item: msgspec.Raw = ABSENT
    part: msgspec.Raw = ABSENT
    response: msgspec.Raw = ABSENT
    error: msgspec.Raw = ABSENT
    message: str | None = None
    code: str | None = None


class _Open:
    """The item that is being told. `told` is whether its open part has had any text; `place` is the content's or the
    summary's index; `parts` is how many of its parts have been told."""

    __slots__ = ("index", "kind", "part", "parts", "place", "told")

    def __init__(self, index: int, kind: str) -> None:
        self.index = index
        self.kind = kind
        self.part: Part | None = None
        self.parts = 0
        self.place = 0
        self.told = False


_decoder = msgspec.json.Decoder(_Event)
_head_decoder = msgspec.json.Decoder(Head)
_TOLD_AS_THEY_COME = frozenset(("message", "reasoning", "function_call", "custom_tool_call"))
_TEXTS = (
    "response.output_text.", "response.refusal.", "response.reasoning_", "response.function_call_",
    "response.custom_tool_call_",
)  # fmt: skip
_READ = (*_TEXTS, "response.output_item.", "response.content_part.", "error")


class Decoder:
    """As `codec.Decoder` promises it."""

    __slots__ = (
        "_calls", "_id", "_model", "_next", "_open", "_seen", "_started", "_states", "_waiting", "finished", "usage",
    )  # fmt: skip

    outdated = False  # the one report comes with the answer's end, and is of all of it

    def __init__(self) -> None:
        self.finished = False
        self.usage: Usage | None = None
        self._id = self._model = ""
        self._started = False
        self._next = 0  # the number of the next part
        self._open: _Open | None = None
        self._seen: set[int] = set()  # items that were told, or are being told
        self._waiting: list[tuple[int, msgspec.Raw]] = []  # done while another was open
        self._calls = False
        self._states: dict[str, Opaque] = {}  # of calls that are still to come

    def feed(self, data: bytes) -> list[Event]:
        if self.finished or data == b"[DONE]":
            return []
        try:
            event = _decoder.decode(data)
            kind = event.type
            if kind.endswith(".delta"):  # nearly always
                return self._delta(event)
            return self._other(kind, event)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            return [] if _is_another(data) else self._fail(errors.of_unreadable(data))

    def close(self) -> list[Event]:
        if self.finished:
            return []
        return self._fail(RelayError(Cause.UPSTREAM_ERROR, "The provider's stream ended before its answer did."))

    # ---- events -----------------------------------------------------------------------------------------------------

    def _delta(self, event: _Event) -> list[Event]:
        kind, item = event.type, self._open
        if item is None or item.index != event.output_index:
            if event.output_index in self._seen or item is not None or "_text." not in kind:
                return []
            item, out = self._open_item(event.output_index, "reasoning" if "reasoning" in kind else "message")
        else:
            out = []
        match kind:
            case "response.output_text.delta" | "response.refusal.delta":
                out += self._content(item, event.content_index, kind == "response.refusal.delta")
            case "response.reasoning_summary_text.delta" | "response.reasoning_text.delta":
                out += self._thought(item, event)
            case "response.function_call_arguments.delta" | "response.custom_tool_call_input.delta":
                pass
            case _:
                return out
        if item.part is None or not event.delta:
            return out
        item.told = True
        out.append(PartDelta(self._next, event.delta))
        return out

    def _other(self, kind: str, event: _Event) -> list[Event]:
        match kind:
            case "response.output_item.added":
                return self._added(event)
            case "response.output_item.done":
                return self._item_done(event.output_index, event.item)
            case "response.content_part.added":
                return self._part_added(event)
            case "response.content_part.done":
                return self._part_done(event)
            case "response.created" | "response.in_progress" | "response.queued":
                return self._begin(event.response)
            case "error":
                given = event.error if raws.is_given(event.error) else _flat(event)
                return self._fail(errors.decode_in_band(given))
        return self._end(event.response) if kind in ENDS else []

    def _begin(self, response: msgspec.Raw) -> list[Event]:
        if self._started or not raws.is_given(response):
            return []
        answer = received.answer_decoder.decode(response)
        self._id, self._model = answer.id or "", answer.model or ""
        return self._start()

    def _start(self) -> list[Event]:
        if self._started:
            return []
        self._started = True
        return [Started(self._id, self._model)]

    def _fail(self, error: RelayError) -> list[Event]:
        self.finished = True
        return [Failed(error)]

    def _end(self, response: msgspec.Raw) -> list[Event]:
        answer = received.answer_decoder.decode(response)
        self.usage = usage.decode(answer.usage)
        self._id, self._model = self._id or answer.id or "", self._model or answer.model or ""
        if (failure := received.failure_of(answer)) is not None:
            return self._fail(failure)
        out = self._start()
        output = answer.output or []
        if self._open is not None:
            at = self._open.index
            out += self._close_open(output[at] if at < len(output) else ABSENT)
        out += self._told_waiting()
        for index, item in enumerate(output):
            if index not in self._seen:
                self._seen.add(index)
                out += self._whole(item)
        self.finished = True
        calls: list[Part] = [ToolCall(id="", name="")] if self._calls else []
        out.append(Finished(finish_of(calls, received.reason_of(answer)), self.usage))
        return out

    # ---- items ------------------------------------------------------------------------------------------------------

    def _added(self, event: _Event) -> list[Event]:
        if event.output_index in self._seen or self._open is not None:
            return []  # told whole once it is done
        head = reading.head_decoder.decode(event.item)
        kind = head.type or "message"
        if kind not in _TOLD_AS_THEY_COME:
            return []
        item, out = self._open_item(event.output_index, kind)
        if kind in ("function_call", "custom_tool_call"):
            [call] = reading.parts_of(event.item, head)
            out += self._start_part(item, bare(call))
        return out

    def _open_item(self, index: int, kind: str) -> tuple[_Open, list[Event]]:
        self._seen.add(index)
        item = self._open = _Open(index, kind)
        return item, self._start()

    def _item_done(self, index: int, raw: msgspec.Raw) -> list[Event]:
        item = self._open
        if item is not None and item.index == index:
            return self._close_open(raw) + self._told_waiting()
        if index in self._seen:
            return []
        self._seen.add(index)
        self._waiting.append((index, raw))
        return [] if item is not None else self._told_waiting()

    def _told_waiting(self) -> list[Event]:
        waiting, self._waiting = self._waiting, []
        return [event for _, raw in waiting for event in self._whole(raw)]

    def _close_open(self, raw: msgspec.Raw) -> list[Event]:
        """What of the item has not been told yet, by the item itself as it is said to be at its end."""
        item, self._open = self._open, None
        assert item is not None
        if raw is ABSENT:
            return self._end_part(item) if item.part is not None else []
        parts = reading.parts_of(raw, reading.head_decoder.decode(raw))
        if item.kind == "reasoning":
            return self._close_thought(item, parts)
        out: list[Event] = []
        if item.part is not None and item.parts < len(parts):
            out += self._end_part(item, parts[item.parts])
        elif item.part is not None:
            out += self._end_part(item)
        return out + [event for part in parts[item.parts :] for event in self._told(part)]

    def _whole(self, raw: msgspec.Raw) -> list[Event]:
        parts = reading.parts_of(raw, reading.head_decoder.decode(raw))
        return self._start() + [event for part in parts for event in self._told(part)]

    def _told(self, part: Part) -> list[Event]:
        """A whole part at once."""
        if (state := reading.state_of_a_call(part)) is not None:
            call = state.id.removeprefix(reading.OF_A_CALL)
            self._states[call] = msgspec.structs.replace(state, id="")
            return []
        item = _Open(-1, "")
        out = self._start_part(item, bare(part))
        return out + self._end_part(item, part)

    # ---- parts ------------------------------------------------------------------------------------------------------

    def _start_part(self, item: _Open, part: Part) -> list[Event]:
        item.part, item.told = part, False
        if isinstance(part, ToolCall):
            self._calls, part.state = True, self._states.pop(part.id, None)
        return [PartStarted(self._next, part)]

    def _end_part(self, item: _Open, whole: Part | None = None) -> list[Event]:
        """`whole` has what was never told: the text, where there was no delta, the citations and the state."""
        number = self._next
        out: list[Event] = []
        state: Opaque | None = None
        if whole is not None:
            if not item.told and (text := text_of(whole)):
                out.append(PartDelta(number, text))
            if isinstance(whole, Text):
                out += [PartDelta(number, "", citation) for citation in whole.citations]
            if isinstance(whole, Reasoning) and not whole.redacted:
                state = whole.state
        item.part, item.parts = None, item.parts + 1
        self._next += 1
        return [*out, PartEnded(number, state)]

    def _content(self, item: _Open, place: int, refused: bool) -> list[Event]:
        """The part of the message that the text belongs to is open."""
        if item.part is not None and item.place == place:
            return []
        out = self._end_part(item) if item.part is not None else []
        item.place = place
        return out + self._start_part(item, Refusal() if refused else Text())

    def _part_added(self, event: _Event) -> list[Event]:
        item = self._open
        if item is None or item.index != event.output_index or item.kind != "message":
            return []
        head = reading.head_decoder.decode(event.part)
        if head.type not in ("output_text", "refusal"):
            return []
        return self._content(item, event.content_index, head.type == "refusal")

    def _part_done(self, event: _Event) -> list[Event]:
        item = self._open
        if item is None or item.index != event.output_index or item.part is None or item.place != event.content_index:
            return []
        return self._end_part(item, reading.part_of(event.part)) if item.kind == "message" else []

    def _thought(self, item: _Open, event: _Event) -> list[Event]:
        """Begins with its first words: most are never shown, and then there is only state at their end."""
        shown = event.type == "response.reasoning_summary_text.delta"
        place = event.summary_index if shown else event.content_index
        if item.part is None:
            item.place = place
            return self._start_part(item, Reasoning(summary=shown)) if event.delta else []
        if item.place != place and shown and event.delta:
            item.place = place
            return [PartDelta(self._next, BETWEEN)]
        return []

    def _close_thought(self, item: _Open, parts: list[Part]) -> list[Event]:
        whole = parts[0] if parts else None
        if item.part is not None:
            return self._end_part(item, whole)
        return self._told(whole) if whole is not None else []


def _is_another(data: bytes) -> bool:
    """An event of a kind that is not read here may have any shape."""
    try:
        kind = _head_decoder.decode(data).type or ""
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return False
    whole_response = kind.count(".") == 1  # `response.created` and its like
    return bool(kind) and not kind.startswith(_READ) and not whole_response


def _flat(event: _Event) -> bytes:
    """The SDK's type of an `error` event has no object inside."""
    return msgspec.json.encode({"message": event.message, "code": event.code})
