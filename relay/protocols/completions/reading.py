"""Legacy completions into the hub's values: a client's request, an upstream's whole answer. Pure."""

from collections.abc import Mapping

import msgspec

from relay.errors import Cause, RelayError
from relay.protocols import bodies, fold
from relay.protocols.canonical import Message, Request, Response, Sampling, Text
from relay.protocols.completions.decoder import TextDecoder


class _Wire(msgspec.Struct):
    model: str | None = None
    stream: bool | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    logprobs: int | None = None
    logit_bias: dict[str, float] | None = None
    user: str | None = None


_decoder = msgspec.json.Decoder(_Wire)
_READ = frozenset(
    (
        *_Wire.__struct_fields__, "prompt", "suffix", "echo", "max_tokens", "n", "best_of", "stream_options", "api_key",
    )
)  # fmt: skip


def decode_request(body: bytes, fields: Mapping[str, msgspec.Raw], *, prompt: str, limit: int | None) -> Request:
    """The prompt as a user's only turn. Raises RelayError for what has no meaning here."""
    try:
        found = _decoder.decode(body)
        extra = {name: msgspec.json.decode(raw) for name, raw in fields.items() if name not in _READ}
    except msgspec.ValidationError as error:
        raise bodies.wrong_type(error) from error
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise RelayError(Cause.INVALID_JSON, "The body is not valid JSON, or nested too deeply.") from error
    return Request(
        model=found.model or "",
        messages=[Message(role="user", parts=[Text(text=prompt)])],
        sampling=_sampling(found),
        limit=limit,
        stream=bool(found.stream),
        user=found.user,
        extra={name: value for name, value in extra.items() if value is not None},
    )


def _sampling(found: _Wire) -> Sampling:
    return Sampling(
        temperature=found.temperature,
        top_p=found.top_p,
        top_k=found.top_k,
        frequency_penalty=found.frequency_penalty,
        presence_penalty=found.presence_penalty,
        seed=found.seed,
        stop=[found.stop] if isinstance(found.stop, str) else list(found.stop or ()),
        logprobs=found.logprobs,
        logit_bias=found.logit_bias,
    )


def decode_response(body: bytes) -> Response:
    """Raises RelayError (upstream_error) for what is no answer, be it with status 200."""
    return fold.fold(TextDecoder().whole(body))
