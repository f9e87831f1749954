"""Streams that end too soon, in every protocol: what was reported by then is charged, and the rest as it is counted."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.kit import scripts
from tests.kit.client import chat
from tests.kit.gateway import Customer, Gateway
from tests.kit.plugin import PRICE
from tests.kit.ports import eventually
from tests.kit.upstream import Exchange, Script, Upstream

WIRE = Path(__file__).parents[1] / "wire"
PATHS = {
    "openai": "/v1/chat/completions",
    "completions": "/v1/completions",
    "responses": "/v1/responses",
    "anthropic": "/v1/messages",
    "gemini": "/v1beta/models/{model}:streamGenerateContent?alt=sse",
}
HELLO = [{"role": "user", "content": "Hello"}]
TEN_UNITS = 10**10
ENDS = pytest.mark.parametrize("left", [False, True], ids=["broken off", "left"])


class Stage(Upstream):
    """A provider that plays one script to whoever comes: what is translated keeps no name of one."""

    def __init__(self) -> None:
        super().__init__(scripts.default)
        self.now: Script = scripts.default

    def script_of(self, exchange: Exchange) -> Script:
        return self.now


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    server = Stage()
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module", autouse=True)
def _channels(gateway: Gateway, stage: Stage) -> None:
    """A model for each protocol, served by a channel that speaks it."""
    furnish(gateway, stage)
    headers = {"Authorization": f"Bearer {gateway.customer().token}"}
    eventually(lambda: requests.get(f"{gateway.url}/v1/models/{LAST}", headers=headers, timeout=5).status_code == 200)


LAST = "only-streams-gemini"


def furnish(gateway: Gateway, stage: Stage) -> None:
    for protocol in ("openai", "responses", "anthropic", "gemini"):
        gateway.model(f"of-{protocol}", PRICE, max_output=1000)
        gateway.channel(f"of-{protocol}", stage.url, {f"of-{protocol}": f"up-{protocol}"}, protocol=protocol)
        gateway.channel(f"more-{protocol}", stage.url, {f"of-{protocol}": "up"}, protocol=protocol, priority=1)
        gateway.model(f"only-streams-{protocol}", PRICE, max_output=1000)
        gateway.channel(
            f"streaming-{protocol}",
            stage.url,
            {f"only-streams-{protocol}": "up"},
            protocol=protocol,
            capabilities={f"only-streams-{protocol}": {"streams": "only"}},
        )


def opened(
    gateway: Gateway, customer: Customer, client: str, provider: str, *, patience: float = 30
) -> requests.Response:
    """A streamed call of a client's protocol to a provider's, its answer unread."""
    model = f"of-{provider}"
    asked: dict[str, Any] = {"model": model, "stream": True}
    match client:
        case "responses":
            asked |= {"input": "Hello", "store": False}
        case "completions":
            asked |= {"prompt": "Hello", "max_tokens": 500, "stream_options": {"include_usage": True}}
        case "gemini":
            asked = {"contents": [{"role": "user", "parts": [{"text": "Hello"}]}]}
        case "anthropic":
            asked |= {"messages": HELLO, "max_tokens": 500}
        case _:
            asked |= {"messages": HELLO, "max_tokens": 500, "stream_options": {"include_usage": True}}
    headers = {"Authorization": f"Bearer {customer.token}", "anthropic-version": "2023-06-01"}
    url = gateway.url + PATHS[client].format(model=model)
    return requests.post(url, json=asked, headers=headers, stream=True, timeout=patience)


def ended(
    gateway: Gateway, customer: Customer, stage: Stage, client: str, provider: str, events: Sequence[bytes], *,
    left: bool, after: bytes = b"",
) -> dict[str, Any]:  # fmt: skip
    """The record of a call whose provider breaks off after these events, or whose client leaves once it has read
    `after`."""
    stage.now = scripts.stalling_after(events) if left else broken_after(events)
    answer = opened(gateway, customer, client, provider)
    received = b""
    for byte in answer.iter_content(1):
        received += byte
        if left and after in received:
            break
    answer.close()
    (call,) = eventually(lambda: gateway.calls(customer.key))
    assert (call["state"], call["status"] == 499) == (("left", True) if left else ("failed", False))
    assert gateway.spent(customer) == call["cost"] <= call["held"]
    return call


def broken_after(events: Sequence[bytes]) -> Script:
    """These events, and then a connection that breaks."""

    async def script(exchange: Exchange) -> None:
        await exchange.head(200, scripts.SSE)
        for data in events:
            await exchange.chunk(data)
        exchange.abort()

    return script


# ---- what providers send --------------------------------------------------------------------------------------------


def named(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()


def message_start(**usage: int) -> bytes:
    message: dict[str, Any] = {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [], "stop_reason": None,
        "stop_sequence": None, "usage": usage,
    }  # fmt: skip
    return named("message_start", message=message)


def message_delta(reason: str | None, **usage: int) -> bytes:
    return named("message_delta", delta={"stop_reason": reason, "stop_sequence": None}, usage=usage)


def block(*words: str) -> list[bytes]:
    """Anthropic's text, up to the block's end."""
    texts = [named("content_block_delta", index=0, delta={"type": "text_delta", "text": word}) for word in words]
    start = named("content_block_start", index=0, content_block={"type": "text", "text": ""})
    return [start, *texts, named("content_block_stop", index=0)]


def candidate(text: str, usage: dict[str, int] | None = None, finish: str | None = None) -> bytes:
    """One event of Gemini's."""
    found: dict[str, Any] = {"index": 0, "content": {"role": "model", "parts": [{"text": text}]}}
    more = {} if usage is None else {"usageMetadata": usage}
    if finish is not None:
        found["finishReason"] = finish
    return scripts.event({"candidates": [found], "modelVersion": "m", "responseId": "r", **more})


def of_responses() -> list[bytes]:
    """A recorded stream of OpenAI's, up to its first words."""
    events = (WIRE / "responses" / "text.sse").read_bytes().split(b"\n\n")
    first = next(number for number, event in enumerate(events) if b"output_text.delta" in event)
    return [event + b"\n\n" for event in events[: first + 1]]


CACHED = {"input_tokens": 20, "cache_read_input_tokens": 300, "output_tokens": 1}
RUNNING = {"promptTokenCount": 320, "cachedContentTokenCount": 300, "candidatesTokenCount": 7}
CLIENTS = pytest.mark.parametrize("client", ["openai", "completions", "responses", "anthropic", "gemini"])


BEGINNINGS = {
    "openai": scripts.chunks("m")[:3],
    "responses": of_responses(),
    "anthropic": [message_start(**CACHED), *block("Hello", ", ")],
    "gemini": [candidate("Hello", RUNNING)],
}


# ---- leaving --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", BEGINNINGS)
@CLIENTS
def test_a_client_that_leaves_in_mid_answer_is_on_record_as_having_left(
    gateway: Gateway, customer: Customer, stage: Stage, client: str, provider: str
) -> None:
    call = ended(gateway, customer, stage, client, provider, BEGINNINGS[provider], left=True, after=b'"Hello')
    assert (call["state"], call["status"], call["error"]) == ("left", 499, "client_left")
    assert [attempt["outcome"] for attempt in call["attempts"]] == ["client_left"]
    assert call["cost"] > 0


# ---- before the answer ----------------------------------------------------------------------------------------------

SIGNS = pytest.mark.parametrize(
    ("protocol", "sign"),
    [
        ("openai", b": PROCESSING\n\n"),
        ("responses", b": PROCESSING\n\n"),
        ("responses", named("keepalive", sequence_number=0)),
        ("anthropic", b": PROCESSING\n\n"),
        ("anthropic", named("ping")),
        ("gemini", b": PROCESSING\n\n"),
    ],
    ids=["openai", "responses", "responses' keepalive", "anthropic", "anthropic's ping", "gemini"],
)


@SIGNS
def test_a_sign_of_life_is_no_answer_and_the_next_channel_is_asked(
    gateway: Gateway, customer: Customer, stage: Stage, protocol: str, sign: bytes
) -> None:
    stage.now = scripts.in_turn(broken_after([sign]), scripts.stream(BEGINNINGS[protocol]))
    assert b'"Hello' in opened(gateway, customer, protocol, protocol).content
    (call,) = eventually(lambda: gateway.calls(customer.key))
    assert [attempt["channel"] for attempt in call["attempts"]] == [f"of-{protocol}", f"more-{protocol}"]


@SIGNS
def test_leaving_after_nothing_but_a_sign_of_life_costs_nothing(
    gateway: Gateway, customer: Customer, stage: Stage, protocol: str, sign: bytes
) -> None:
    stage.now = scripts.stalling_after([sign])
    with pytest.raises(requests.Timeout):
        opened(gateway, customer, protocol, protocol, patience=0.5)
    (call,) = eventually(lambda: gateway.calls(customer.key))
    assert (call["state"], call["cost"], call["first_byte_ms"]) == ("left", 0, None)


# ---- what was reported ----------------------------------------------------------------------------------------------


@ENDS
@CLIENTS
def test_anthropics_input_is_as_its_beginning_reported_it_and_the_output_is_counted(
    gateway: Gateway, customer: Customer, stage: Stage, client: str, left: bool
) -> None:
    events = [message_start(**CACHED), *block("Hello", ", dear ", "world")]
    call = ended(gateway, customer, stage, client, "anthropic", events, left=left, after=b"world")
    output = call["usage"].pop("output")
    assert (call["usage"], call["usage_source"]) == ({"input": 20, "cache_read": 300}, "partial")
    assert 3 <= output <= 12
    assert call["cost"] == 20 * 1000 + 300 * 500 + output * 2000


@ENDS
@CLIENTS
def test_geminis_running_report_counts_as_far_as_it_goes(
    gateway: Gateway, customer: Customer, stage: Stage, client: str, left: bool
) -> None:
    call = ended(
        gateway, customer, stage, client, "gemini", [candidate("Hello", RUNNING)], left=left, after=b"Hello"
    )  # fmt: skip
    assert (call["usage"], call["usage_source"]) == ({"input": 20, "cache_read": 300, "output": 7}, "reported")
    assert call["cost"] == 20 * 1000 + 300 * 500 + 7 * 2000


@pytest.mark.parametrize("client", ["openai", "gemini"])
def test_output_that_a_running_report_does_not_tell_of_is_counted(
    gateway: Gateway, customer: Customer, stage: Stage, client: str
) -> None:
    """Some of Gemini's versions tell the prompt alone until the end, and some events tell nothing."""
    silent = {"promptTokenCount": 20, "totalTokenCount": 20}
    events = [candidate("Hello", silent), candidate(", dear world, how are you today")]
    call = ended(gateway, customer, stage, client, "gemini", events, left=False)
    assert (call["usage"]["input"], call["usage_source"]) == (20, "partial")
    assert 5 <= call["usage"]["output"] <= 20


@pytest.mark.parametrize("client", ["openai", "anthropic", "completions"])
def test_a_chat_whose_chunks_tell_usage_is_charged_for_it_and_for_what_came_since(
    gateway: Gateway, customer: Customer, stage: Stage, client: str
) -> None:
    """vLLM tells it with every chunk that is asked for (`continuous_usage_stats`), some others with the first."""

    def told(tokens: int) -> dict[str, Any]:
        return {"usage": {"prompt_tokens": 20, "completion_tokens": tokens, "total_tokens": 20 + tokens}}

    words = [scripts.event(scripts.delta("m", {"content": "Hello, dear world"}, **told(9)))]
    call = ended(gateway, customer, stage, client, "openai", words, left=False)
    assert (call["usage"], call["usage_source"]) == ({"input": 20, "output": 9}, "reported")


@pytest.mark.parametrize("client", ["openai", "anthropic", "completions"])
def test_a_chat_whose_first_chunk_alone_tells_usage_has_its_output_counted(
    gateway: Gateway, customer: Customer, stage: Stage, client: str
) -> None:
    usage = {"prompt_tokens": 20, "completion_tokens": 0, "total_tokens": 20}
    first = scripts.event(scripts.delta("m", {"role": "assistant", "content": ""}, usage=usage))
    words = scripts.event(scripts.delta("m", {"content": "Hello, dear world, how are you"}))
    call = ended(gateway, customer, stage, client, "openai", [first, words], left=False)
    assert (call["usage"]["input"], call["usage_source"]) == (20, "partial")
    assert 5 <= call["usage"]["output"] <= 20


@pytest.mark.parametrize("client", ["openai", "responses", "anthropic", "gemini"])
def test_a_final_report_counts_though_the_very_end_is_missing(
    gateway: Gateway, customer: Customer, stage: Stage, client: str
) -> None:
    events = [
        message_start(input_tokens=100, output_tokens=1),
        *block("Hello"),
        message_delta("end_turn", output_tokens=500),
    ]
    call = ended(gateway, customer, stage, client, "anthropic", events, left=False)
    assert (call["usage"], call["usage_source"]) == ({"input": 100, "output": 500}, "reported")


@pytest.mark.parametrize("client", ["openai", "anthropic"])
def test_a_beginning_that_tells_of_no_input_is_no_report(
    gateway: Gateway, customer: Customer, stage: Stage, client: str
) -> None:
    """Providers with an Anthropic layer often know nothing until the end."""
    events = [message_start(input_tokens=0, output_tokens=0), *block("Hello")]
    call = ended(gateway, customer, stage, client, "anthropic", events, left=False)
    assert call["usage_source"] == "partial"
    assert call["usage"]["input"] > 0
    assert call["usage"]["output"] > 0


def test_an_answer_that_breaks_off_before_its_output_costs_nothing_though_its_input_was_reported(
    gateway: Gateway, customer: Customer, stage: Stage
) -> None:
    call = ended(gateway, customer, stage, "anthropic", "anthropic", [message_start(**CACHED)], left=False)
    assert (call["cost"], call["usage_source"], call["usage"]) == (0, "none", {})
    assert gateway.wallet(customer.wallet)["balance"] == TEN_UNITS


@pytest.mark.parametrize("client", ["responses", "anthropic"])
def test_whoever_leaves_an_answer_that_has_no_output_yet_pays_for_the_input_as_reported(
    gateway: Gateway, customer: Customer, stage: Stage, client: str
) -> None:
    call = ended(gateway, customer, stage, client, "anthropic", [message_start(**CACHED)], left=True)
    assert (call["usage"]["input"], call["usage"]["cache_read"]) == (20, 300)
    assert call["cost"] <= 20 * 1000 + 300 * 500 + 2000


def test_a_report_from_before_the_end_never_costs_more_than_was_held(
    gateway: Gateway, customer: Customer, stage: Stage
) -> None:
    events = [message_start(input_tokens=10**9, output_tokens=1), *block("Hello")]
    call = ended(gateway, customer, stage, "openai", "anthropic", events, left=False)
    assert (call["usage_source"], call["cost"]) == ("partial", call["held"])


WORDS = ("Hello", ", dear world, how are you today", " and tomorrow?")
EARLY = {"prompt_tokens": 320, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 300}}
# Answers that end well, whose only report of usage is from before their end.
SILENT_ENDS = {
    "openai": [
        scripts.event({**scripts.delta("m", {"content": WORDS[0]}), "usage": EARLY}),
        *scripts.chunks("m", words=WORDS[1:], usage=None)[1:],
    ],
    "anthropic": [message_start(**CACHED), *block(*WORDS), message_delta("end_turn"), named("message_stop")],
    "gemini": [
        candidate(WORDS[0], {**RUNNING, "candidatesTokenCount": 1}),
        candidate(WORDS[1]),
        candidate(WORDS[2], finish="STOP"),
    ],
}


@pytest.mark.parametrize("provider", SILENT_ENDS)
@CLIENTS
def test_an_answer_that_ends_well_and_never_told_all_its_output_has_it_counted_and_told(
    gateway: Gateway, customer: Customer, stage: Stage, client: str, provider: str
) -> None:
    stage.now = scripts.stream(SILENT_ENDS[provider])
    answer = opened(gateway, customer, client, provider).content
    assert b"Hello" in answer
    (call,) = eventually(lambda: gateway.calls(customer.key))
    assert (call["state"], call["error"], call["usage_source"]) == ("settled", "", "partial")
    assert (call["usage"]["input"], call["usage"]["cache_read"]) == (20, 300)
    assert call["usage"]["output"] > 5
    assert told_last(answer, client) == (320, call["usage"]["output"])


@pytest.mark.parametrize("provider", SILENT_ENDS)
def test_a_whole_answer_of_a_channel_that_only_streams_has_its_output_counted_and_told_too(
    gateway: Gateway, customer: Customer, stage: Stage, provider: str
) -> None:
    stage.now = scripts.stream(SILENT_ENDS[provider])
    told = chat(gateway.url, customer.token, model=f"only-streams-{provider}", messages=HELLO).json()
    assert told["choices"][0]["message"]["content"] == "".join(WORDS)
    (call,) = eventually(lambda: gateway.calls(customer.key))
    assert (call["state"], call["usage_source"]) == ("settled", "counted")
    assert call["usage"]["output"] == told["usage"]["completion_tokens"] > 5


# ---- whole answers of channels that only stream ---------------------------------------------------------------------


@pytest.mark.parametrize("provider", [*SILENT_ENDS, "responses"])
def test_a_whole_answer_of_a_channel_that_only_streams_ends_with_its_stream_and_not_with_the_connection(
    gateway: Gateway, customer: Customer, stage: Stage, provider: str
) -> None:
    recorded = (WIRE / "responses" / "text.sse").read_bytes()
    stage.now = scripts.stalling_after(SILENT_ENDS.get(provider, [recorded]))
    told = chat(gateway.url, customer.token, model=f"only-streams-{provider}", messages=HELLO)
    assert told.status_code == 200
    assert told.json()["choices"][0]["message"]["content"].startswith("Hello")
    (call,) = eventually(lambda: gateway.calls(customer.key))
    assert call["state"] == "settled"


def left_early(gateway: Gateway, customer: Customer, model: str, *, after: float = 1.0) -> dict[str, Any]:
    """The record of a call whose client did not wait for its whole answer."""
    with pytest.raises(requests.Timeout):
        requests.post(
            f"{gateway.url}/v1/chat/completions",
            json={"model": model, "messages": HELLO, "max_tokens": 500},
            headers={"Authorization": f"Bearer {customer.token}"},
            timeout=after,
        )
    (call,) = eventually(lambda: gateway.calls(customer.key))
    assert (call["state"], call["status"], call["error"]) == ("left", 499, "client_left")
    return call


@pytest.mark.parametrize("provider", BEGINNINGS)
def test_whoever_leaves_a_whole_answer_that_is_streamed_to_us_pays_for_its_text_and_not_for_its_events(
    gateway: Gateway, customer: Customer, stage: Stage, provider: str
) -> None:
    stage.now = scripts.stalling_after(BEGINNINGS[provider])
    call = left_early(gateway, customer, f"only-streams-{provider}")
    assert 0 < call["usage"]["output"] <= 12
    if provider in ("anthropic", "gemini"):  # which report the prompt at once
        assert (call["usage"]["input"], call["usage"]["cache_read"]) == (20, 300)


def test_leaving_a_whole_answer_that_is_streamed_to_us_costs_nothing_before_its_first_event(
    gateway: Gateway, customer: Customer, stage: Stage
) -> None:
    stage.now = scripts.stalling_after([b": PROCESSING\n\n"])
    call = left_early(gateway, customer, "only-streams-openai")
    assert (call["cost"], call["first_byte_ms"]) == (0, None)


def told_last(answer: bytes, client: str) -> tuple[int, int]:
    """The tokens of input and of output that the stream ends with."""
    events = [json.loads(line[6:]) for line in answer.splitlines() if line.startswith(b"data: {")]
    match client:
        case "responses":
            usage = events[-1]["response"]["usage"]
            return usage["input_tokens"], usage["output_tokens"]
        case "anthropic":
            usage = events[-2]["usage"]
            return usage["input_tokens"] + usage["cache_read_input_tokens"], usage["output_tokens"]
        case "gemini":
            usage = events[-1]["usageMetadata"]
            return usage["promptTokenCount"], usage["candidatesTokenCount"]
    usage = events[-1]["usage"]
    return usage["prompt_tokens"], usage["completion_tokens"]
