"""What Google's own SDK makes of what we write, over a real connection: it is the judge of its wire."""

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import msgspec
import pytest
from google import genai
from google.genai import errors, types

from billing.usage import Usage
from relay.errors import Cause, RelayError
from relay.protocols import fold
from relay.protocols.canonical import Finish, Opaque, Owner, Part, Reasoning, Response, Text, ToolCall
from relay.protocols.events import Event, Finished, PartDelta, PartEnded, PartStarted, Started
from relay.protocols.gemini import DIALECT
from relay.protocols.gemini import errors as envelope
from tests.relay.protocols.gemini_wire import ANSWERS, CAPS_3, PISCES, SIGNATURE, asked, one_id, wire

__all__ = ["one_id"]


class Answering(HTTPServer):
    """Answers everything with `status` and `body`, and keeps what it was sent."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.status, self.body, self.kind = 200, b"", "application/json"
        self.asked: list[tuple[str, dict[str, Any]]] = []

    @contextlib.contextmanager
    def running(self) -> Iterator[genai.Client]:
        thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            options = types.HttpOptions(base_url=f"http://127.0.0.1:{self.server_port}")
            with genai.Client(api_key="k", http_options=options) as client:
                yield client
        finally:
            self.shutdown()
            self.server_close()
            thread.join()


class Handler(BaseHTTPRequestHandler):
    server: Answering

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.asked.append((self.path, json.loads(body)))
        self.send_response(self.server.status)
        self.send_header("content-type", self.server.kind)
        self.send_header("content-length", str(len(self.server.body)))
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, format: str, *args: Any) -> None:
        return


@pytest.fixture
def server() -> Answering:
    return Answering()


PARTS: list[Part] = [
    Reasoning(text="Hm.", summary=True, state=Opaque("anthropic", "EqQB/sig+=")),
    Text(text="Let me look — 看."),
    ToolCall(id="call_1", name="get_weather", arguments='{"city": "Oslo"}', state=Opaque("gemini", SIGNATURE)),
    ToolCall(id="call_2", name="get_time", arguments=""),
]
ANSWER = Response(
    id="r1",
    model="up",
    parts=PARTS,
    finish=Finish.TOOL_CALLS,
    usage=Usage(input=90, cache_read=10, output=20, reasoning=7),
)


def streamed(response: Response, *, error: RelayError | None = None) -> bytes:
    """With a ping before, between and after."""
    encoder = DIALECT.encoder(asked(), model="offered", prompt_tokens=0)
    out: bytes = encoder.ping() + b"".join(encoder.feed(event) + encoder.ping() for event in fold.unfold(response))
    return out + (encoder.fail(error, PISCES) if error is not None else encoder.last(PISCES))


def test_the_sdk_reads_a_whole_answer(server: Answering) -> None:
    server.body = DIALECT.encode_response(ANSWER, asked=asked(), model="offered", pisces=PISCES)
    with server.running() as sdk:
        found = sdk.models.generate_content(model="m", contents="x")
    assert found.text == "Let me look — 看."
    assert [(call.id, call.name, call.args) for call in found.function_calls or []] == [
        ("call_1", "get_weather", {"city": "Oslo"}), ("call_2", "get_time", {}),
    ]  # fmt: skip
    assert (found.model_version, found.response_id) == ("offered", "r1")
    report = found.usage_metadata
    assert report is not None
    assert (report.prompt_token_count, report.cached_content_token_count, report.candidates_token_count) == (
        100,
        10,
        20,
    )
    assert (report.thoughts_token_count, report.total_token_count) == (7, 127)


def test_the_sdk_reads_a_stream_with_its_pings(server: Answering) -> None:
    """Pitfalls 28 and 29: blank lines are the only sign of life that it survives."""
    server.body, server.kind = streamed(ANSWER), "text/event-stream"
    with server.running() as sdk:
        chunks = list(sdk.models.generate_content_stream(model="m", contents="x"))
    parts = [part for chunk in chunks for part in (chunk.candidates or [])[0].content.parts or []]  # type: ignore[union-attr]
    assert [part.text for part in parts if part.text and part.thought] == ["Hm."]
    assert "".join(part.text for part in parts if part.text and not part.thought) == "Let me look — 看."
    assert [part.function_call.name for part in parts if part.function_call] == ["get_weather", "get_time"]
    ends = [chunk.candidates[0].finish_reason for chunk in chunks if chunk.candidates]
    assert ends == [None] * (len(ends) - 1) + [types.FinishReason.STOP]
    assert chunks[-1].usage_metadata is not None


def test_the_sdk_raises_an_error_in_mid_stream(server: Answering) -> None:
    """Pitfall 46."""
    server.body = streamed(ANSWER, error=RelayError(Cause.UPSTREAM_ERROR, "gone"))
    server.kind = "text/event-stream"
    with server.running() as sdk, pytest.raises(errors.APIError, match="gone") as raised:
        list(sdk.models.generate_content_stream(model="m", contents="x"))
    assert raised.value.code == 502


@pytest.mark.parametrize("cause", list(Cause))
def test_the_sdk_reads_every_error(server: Answering, cause: Cause) -> None:
    error = RelayError(cause, "said")
    server.status, server.body = error.status, envelope.encode(error, PISCES)
    with server.running() as sdk, pytest.raises(errors.APIError) as raised:
        sdk.models.generate_content(model="m", contents="x")
    assert (raised.value.code, raised.value.status, raised.value.message) == (error.status, error.entry.gemini, "said")


def test_a_conversation_of_the_sdk_brings_all_state_back(server: Answering) -> None:
    """Pitfalls 14 and 18: its history keeps thoughts and signatures, ours and Gemini's own."""
    server.body, server.kind = streamed(ANSWER), "text/event-stream"
    with server.running() as sdk:
        chat = sdk.chats.create(model="m")
        list(chat.send_message_stream("x"))
        answer = types.Part.from_function_response(name="get_weather", response={"result": "snow"})
        list(chat.send_message_stream([answer]))
    path, body = server.asked[-1]
    assert path.endswith("/models/m:streamGenerateContent?alt=sse")
    request = DIALECT.read(msgspec.json.encode(body), model="m", stream=True).canonical()
    _, model, results, *_ = request.messages
    states = [part.state for part in model.parts if isinstance(part, Reasoning | ToolCall) and part.state is not None]
    foreign, own = states
    assert foreign == Opaque("anthropic", "EqQB/sig+=")
    assert own.data.replace("-", "+").replace("_", "/") == SIGNATURE
    assert results.parts[0].call == "call_1"  # type: ignore[union-attr]


@pytest.mark.parametrize("owner", ["anthropic", "openai"])
def test_a_streamed_thought_comes_back_from_the_sdk_s_conversation_in_one_piece(
    server: Answering, owner: Owner
) -> None:
    """Its history has a content for each event: the pieces of a thought, and then an empty one with the signature."""
    one, other = Opaque(owner, "SIG==", "rs_1"), Opaque(owner, "SIG2==", "rs_2")
    encoder = DIALECT.encoder(asked(), model="offered", prompt_tokens=0)
    told: list[Event] = [
        *(Started("r1", "up"), PartStarted(0, Reasoning()), PartDelta(0, "hm "), PartDelta(0, "ok"), PartEnded(0, one)),
        *(PartStarted(1, Reasoning()), PartDelta(1, "well"), PartEnded(1, other)),
        *(PartStarted(2, ToolCall(id="call_1", name="f")), PartEnded(2), Finished(Finish.TOOL_CALLS)),
    ]
    server.body = b"".join(encoder.feed(event) for event in told) + encoder.last(PISCES)
    server.kind = "text/event-stream"
    with server.running() as sdk:
        chat = sdk.chats.create(model="m")
        list(chat.send_message_stream("x"))
        list(chat.send_message_stream([types.Part.from_function_response(name="f", response={"result": "r"})]))
    request = DIALECT.read(msgspec.json.encode(server.asked[-1][1]), model="m", stream=True).canonical()
    assert request.messages[1].parts[:2] == [
        Reasoning(text="hm ok", state=one, summary=True),
        Reasoning(text="well", state=other, summary=True),
    ]


@pytest.mark.usefixtures("one_id")
@pytest.mark.parametrize("name", ANSWERS)
def test_what_was_seen_on_the_wire_is_what_the_sdk_s_types_say(name: str) -> None:
    """The fixtures themselves, and what we make of them for a client."""
    response = DIALECT.decode_response(wire(f"{name}.json"))
    written = DIALECT.encode_response(response, asked=asked(), model="m", pisces=PISCES)
    for body in (wire(f"{name}.json"), written):
        found = types.GenerateContentResponse.model_validate_json(_without_pisces(body))
        assert found.candidates or found.prompt_feedback
        assert found.usage_metadata is not None


def _without_pisces(body: bytes) -> bytes:
    fields = json.loads(body)
    fields.pop("pisces", None)
    return json.dumps(fields).encode()


@pytest.mark.parametrize("name", ["request_text", "request_chat", "request_tools", "request_json"])
def test_what_we_ask_an_upstream_is_what_the_sdk_s_types_say(name: str) -> None:
    """Every content, tool and configuration is one of Google's own types, without a field that they do not know."""
    body = DIALECT.encode_request(
        DIALECT.read(wire(f"{name}.json"), model="m").canonical(), model="m", limit=9, caps=CAPS_3
    ).body
    sent = json.loads(msgspec.json.encode(body))
    for content in [*sent["contents"], *([sent["systemInstruction"]] if "systemInstruction" in sent else [])]:
        types.Content.model_validate(content)
    for tool in sent.get("tools", []):
        types.Tool.model_validate(tool)
    types.GenerationConfig.model_validate(sent["generationConfig"])
    if "toolConfig" in sent:
        types.ToolConfig.model_validate(sent["toolConfig"])
