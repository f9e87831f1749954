"""A response object from its wire into the hub: an answer that is whole, or the end of a streamed one. Pure.

Source: OpenAI API reference, "The response object".
"""

import msgspec

from relay.errors import Cause, RelayError
from relay.protocols import raws
from relay.protocols.canonical import Finish, Response, finish_of
from relay.protocols.responses import errors, reading, usage


class Details(msgspec.Struct):
    reason: str | None = None


class Answer(msgspec.Struct):
    """A response object. Raw: looked into where it is due."""

    id: str | None = None
    model: str | None = None
    status: str | None = None
    output: list[msgspec.Raw] | None = None
    incomplete_details: Details | None = None
    usage: msgspec.Raw = raws.ABSENT
    error: msgspec.Raw = raws.ABSENT


answer_decoder = msgspec.json.Decoder(Answer)
_REASONS = {"max_output_tokens": Finish.LENGTH, "content_filter": Finish.FILTER}


def decode_response(body: bytes) -> Response:
    """Raises RelayError (upstream_error) for what is no answer, be it with status 200."""
    try:
        body.decode()
        answer = answer_decoder.decode(body)
        if (failure := failure_of(answer)) is not None:
            raise failure
        parts = reading.adopted(
            [part for item in answer.output or () for part in reading.parts_of(item, reading.head_decoder.decode(item))]
        )
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise RelayError(Cause.UPSTREAM_ERROR, "The provider's answer is not a response object.") from error
    if answer.output is None:
        raise RelayError(Cause.UPSTREAM_ERROR, "The provider's answer has no output.")
    return Response(
        id=answer.id or "",
        model=answer.model or "",
        parts=parts,
        finish=finish_of(parts, reason_of(answer)),
        usage=usage.decode(answer.usage),
    )


def failure_of(answer: Answer) -> RelayError | None:
    """What went wrong, None for an answer that has come to its end."""
    if raws.is_given(answer.error):
        return errors.decode_in_band(answer.error)
    if answer.status in (None, "completed", "incomplete"):
        return None
    return RelayError(Cause.UPSTREAM_ERROR, f"The provider's answer is {answer.status[:32]}.")


def reason_of(answer: Answer) -> Finish:
    if answer.status != "incomplete":
        return Finish.STOP
    return _REASONS.get((answer.incomplete_details and answer.incomplete_details.reason) or "", Finish.LENGTH)
