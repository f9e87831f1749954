"""A streamed answer into a whole one and back. Pure. `fold(unfold(x))` is x."""

from collections.abc import Iterable

from relay.errors import Cause, RelayError
from relay.protocols.canonical import Media, Part, Raw, Reasoning, Refusal, Response, Text, ToolCall, ToolResult
from relay.protocols.events import Event, Failed, Finished, PartDelta, PartEnded, PartStarted, Started


class Folder:
    """Takes events; `whole` is the answer once they have ended. Raises RelayError where the stream failed."""

    def __init__(self) -> None:
        self._started: Started | None = None
        self._parts: list[Part] = []
        self._texts: list[list[str]] = []
        self._finished: Finished | None = None

    def see(self, event: Event) -> None:
        match event:
            case PartDelta(number=number, text=text, citation=citation):
                self._texts[number].append(text)
                part = self._parts[number]
                if citation is not None and isinstance(part, Text):
                    part.citations.append(citation)
            case PartStarted(part=part):
                self._parts.append(_copy(part))
                self._texts.append([])
            case PartEnded(number=number, state=state):
                _complete(self._parts[number], "".join(self._texts[number]))
                if state is not None:
                    self._parts[number].state = state  # type: ignore[union-attr]
            case Started():
                self._started = event
            case Finished():
                self._finished = event
            case Failed(error=error):
                raise error

    @property
    def begun(self) -> bool:
        """Whether anything has come but failures."""
        return self._started is not None

    def whole(self) -> Response:
        if self._started is None or self._finished is None:
            raise RelayError(Cause.UPSTREAM_ERROR, "The provider's stream ended before its answer did.")
        return Response(
            id=self._started.id,
            model=self._started.model,
            parts=self._parts,
            finish=self._finished.reason,
            stop_sequence=self._finished.stop_sequence,
            note=self._finished.note,
            usage=self._finished.usage,
        )


def fold(events: Iterable[Event]) -> Response:
    folder = Folder()
    for event in events:
        folder.see(event)
    return folder.whole()


def unfold(response: Response) -> list[Event]:
    events: list[Event] = [Started(response.id, response.model, response.usage)]
    for number, part in enumerate(response.parts):
        text = text_of(part)
        events.append(PartStarted(number, bare(part)))
        if text:
            events.append(PartDelta(number, text))
        if isinstance(part, Text):
            events += [PartDelta(number, "", citation) for citation in part.citations]
        late = part.state if isinstance(part, Reasoning) and not part.redacted else None
        events.append(PartEnded(number, late))
    events.append(Finished(response.finish, response.usage, response.stop_sequence, response.note))
    return events


def text_of(part: Part) -> str:
    """What a part's deltas are pieces of."""
    match part:
        case Text() | Refusal() | Reasoning():
            return part.text
        case ToolCall():
            return part.arguments
    return ""


def _complete(part: Part, text: str) -> None:
    match part:
        case Text() | Refusal() | Reasoning():
            part.text += text
        case ToolCall():
            part.arguments += text


def bare(part: Part) -> Part:
    """The part as it begins: without its text, and thoughts without the signature that comes at their end."""
    match part:
        case Text():
            return Text(state=part.state, mark=part.mark)
        case Refusal():
            return Refusal()
        case Reasoning():
            return Reasoning(state=part.state if part.redacted else None, redacted=part.redacted, summary=part.summary)
        case ToolCall():
            return ToolCall(id=part.id, name=part.name, custom=part.custom, state=part.state, mark=part.mark)
    return part


def _copy(part: Part) -> Part:
    match part:
        case Media() | Raw() | ToolResult():
            return part
    copy = bare(part)
    _complete(copy, text_of(part))
    if isinstance(copy, Reasoning):
        assert isinstance(part, Reasoning)
        copy.state = part.state
    return copy
