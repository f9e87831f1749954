"""How far a provider's stream has come, and what it used: the same whether its client gets it as a stream or whole."""

from billing import failpoints, holds
from billing import usage as usages
from billing.operations import Progress
from billing.usage import Source, Usage
from relay import counting, settlement
from relay.protocols.codec import Asked, Stream
from relay.records import Call
from relay.settlement import Ending

AFTER_FINISH = 2.0  # seconds that usage and the end of a stream may take once all of its answers are finished


def watch(stream: Stream, asked: Asked, call: Call) -> None:
    """From now on the call's hold knows how far the stream has come: its first bytes are there, and so is what was
    searched for it unseen."""
    assert call.hold is not None
    number, model = len(call.attempts), call.attempts[-1].candidate.model
    stream.seen.searches += call.attempts[-1].searches
    holds.watch(call.hold, lambda: _progress(stream, asked, number, model))
    failpoints.hit("after_first_byte")


def _progress(stream: Stream, asked: Asked, number: int, model: str) -> Progress:
    """How far the stream has come. What its report does not tell of is in `usage` too, as far as bytes say."""
    failpoints.hit("mid_stream")
    told, input_bytes, output_bytes = stream.usage, asked.text_bytes, stream.output_bytes
    if told is not None and not _tells_all(stream):
        come = Usage(input=counting.estimate(input_bytes, model), output=counting.estimate(output_bytes, model))
        told = usages.completed(told, come)
    if told is not None:
        told = usages.searched(told, stream.seen.searches)
    buckets = dict(told.buckets()) if told else None
    return Progress(number, input_bytes, output_bytes, answering=True, usage=buckets)


def _tells_all(stream: Stream) -> bool:
    """Whether the provider's report is of all that was seen. In mid-answer a 0 says that nothing was counted yet."""
    told = stream.usage
    if told is None or stream.outdated:
        return False
    ended = stream.finished and stream.failure is None
    return ended or bool(told.tokens_in and told.tokens_out)


async def reckon(ending: Ending, stream: Stream, asked: Asked, model: str) -> None:
    """Sets what was used. Reported usage is believed; what no report tells of is counted as it was seen. An answer that
    failed without any output costs nothing; whoever left after its first event pays for the input at least."""
    told = stream.usage
    if told is not None and _tells_all(stream):
        ending.usage, ending.source = usages.searched(told, stream.seen.searches), Source.REPORTED
        if ending.state == "settled":
            ending.error = settlement.doubt(stream)
            counting.learn(asked, lambda: stream.seen, model, told)
    elif stream.output_bytes or ending.state != "failed":
        ending.usage, ending.source = await counting.usage(asked, stream.seen, model), Source.COUNTED
        if told is not None:
            ending.usage, ending.source = usages.completed(told, ending.usage), Source.PARTIAL
