"""The laws of a codec (DESIGN, section 3), for the tests of every protocol to call with what was seen on its wire.

A wire is the bytes of a stream as the vendor sends it. Limits of what a protocol can say are its test's to name: `same`
gets both values first and may take out what the way back cannot know.
"""

import itertools
from collections.abc import Callable, Iterable

import msgspec

from relay.errors import RelayError
from relay.protocols import fold, sse
from relay.protocols.canonical import Request, Response
from relay.protocols.capabilities import Capabilities
from relay.protocols.codec import Asked, Chat, Dialect
from relay.protocols.events import Event, Failed, Grammar, PartDelta

Same = Callable[[Request], object]


def decoded(dialect: Dialect, wire: bytes, cuts: Iterable[int] = ()) -> list[Event]:
    """The stream's events, of the wire cut at these places; in their grammar."""
    splitter, decoder, grammar = sse.Splitter(), dialect.decoder(), Grammar()
    events: list[Event] = []
    edges = [0, *sorted(cuts), len(wire)]
    frames = [frame for a, b in itertools.pairwise(edges) for frame in splitter.feed(wire[a:b])]
    for frame in [*frames, *splitter.close()]:
        data = sse.payload(frame)
        if data is not None:
            events += decoder.feed(data)
    events += decoder.close()
    for event in events:
        grammar.see(event)
    assert grammar.ended
    return events


def stream_is_its_whole(dialect: Dialect, wire: bytes, whole: bytes) -> Response:
    """`fold` of the stream equals the same answer decoded whole."""
    folded, decided = fold.fold(decoded(dialect, wire)), dialect.decode_response(whole)
    assert folded == decided
    return folded


def cuts_do_not_matter(dialect: Dialect, wire: bytes) -> None:
    """Cutting the bytes anywhere gives the same events."""
    expected = joined(decoded(dialect, wire))
    for cut in range(1, len(wire)):
        assert joined(decoded(dialect, wire, [cut])) == expected, cut


def request_is_stable(dialect: Dialect, body: bytes, caps: Capabilities, same: Same = lambda request: request) -> Chat:
    """decode∘encode∘decode is decode."""
    asked = dialect.read(body)
    first = asked.canonical()
    encoded = dialect.encode_request(first, model=first.model, limit=None, caps=caps)
    second = dialect.read(msgspec.json.encode(encoded.body), model=first.model, stream=first.stream).canonical()
    assert same(second) == same(first)
    return asked


def response_is_stable(dialect: Dialect, asked: Asked, response: Response) -> None:
    """An answer that is encoded is read by the same protocol's decoder as it was, whole and streamed."""
    body = dialect.encode_response(response, asked=asked, model=response.model, pisces={"gateway": "Pisces"})
    assert dialect.decode_response(body) == response
    encoder = dialect.encoder(asked, model=response.model, prompt_tokens=0)
    wire = b"".join(encoder.feed(event) for event in fold.unfold(response)) + encoder.last({"gateway": "Pisces"})
    assert fold.fold(decoded(dialect, wire)) == response


def joined(events: list[Event]) -> list[object]:
    """Events with neighbouring pieces of one part as one: how finely a text is cut is nobody's promise."""
    out: list[object] = []
    for event in events:
        before = out[-1] if out else None
        if isinstance(event, PartDelta) and isinstance(before, PartDelta) and not (event.citation or before.citation):
            out[-1] = PartDelta(event.number, before.text + event.text)
        else:
            out.append((event.error.cause, event.error.message) if isinstance(event, Failed) else event)
    return [event for event in out if not isinstance(event, PartDelta) or event.text or event.citation]


def failure_of(attempt: Callable[[], object]) -> int | None:
    """The status of the error that it raises, None where it raises none. Any other exception is a defect."""
    try:
        attempt()
    except RelayError as error:
        return error.status
    return None
