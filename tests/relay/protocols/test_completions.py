"""Legacy completions: passed to models that complete texts, and told to all others as one turn of a user."""

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types import Completion

from billing.usage import Usage
from relay.counting import tokenizer
from relay.counting.tokenizer import Vocabulary
from relay.errors import Cause, RelayError
from relay.protocols import capabilities, fold, openai, sse, translating
from relay.protocols.canonical import Finish, Media, Message, Part, Reasoning, Response, Sampling, Text
from relay.protocols.capabilities import Capabilities
from relay.protocols.codec import Encoded
from relay.protocols.completions import DIALECT
from relay.protocols.events import Failed
from tests.relay.protocols import laws

WIRES = Path(__file__).parents[2] / "wire" / "completions"
STREAMS = sorted(path.stem for path in WIRES.glob("*.sse"))
BOTH = sorted(path.stem for path in WIRES.glob("*.json"))
PISCES = {"gateway": "Pisces", "cost": "0.1"}


def wire(name: str) -> bytes:
    return (WIRES / f"{name}.sse").read_bytes()


def whole(name: str) -> bytes:
    return (WIRES / f"{name}.json").read_bytes()


def asked(**fields: Any) -> Any:
    return DIALECT.read(json.dumps({"model": "m", "prompt": "Once", **fields}).encode())


def refusal_of(call: Callable[[], object]) -> RelayError | None:
    try:
        call()
    except RelayError as error:
        return error
    return None


def answer(*parts: Part, finish: Finish = Finish.STOP, usage: Usage | None = None) -> Response:
    return Response(id="cmpl-1", model="offered", parts=list(parts), finish=finish, usage=usage)


def streamed(response: Response, **fields: Any) -> list[dict[str, Any]]:
    encoder = DIALECT.encoder(asked(stream=True, **fields), model="offered", prompt_tokens=0)
    out = b"".join(encoder.feed(event) for event in fold.unfold(response)) + encoder.last(PISCES)
    assert out.endswith(b"\n\ndata: [DONE]\n\n")
    return [json.loads(event[6:]) for event in out.split(b"\n\n")[:-2]]


def told(response: Response, **fields: Any) -> dict[str, Any]:
    body = DIALECT.encode_response(response, asked=asked(**fields), model="offered", pisces=PISCES)
    found: dict[str, Any] = json.loads(body)
    return found


# ---- laws -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BOTH)
def test_a_stream_is_the_whole_answer_in_pieces(name: str) -> None:
    laws.stream_is_its_whole(DIALECT, wire(name), whole(name))


@pytest.mark.parametrize("name", STREAMS)
def test_cutting_the_bytes_anywhere_gives_the_same_events(name: str) -> None:
    laws.cuts_do_not_matter(DIALECT, wire(name))


@given(
    st.text(st.characters(exclude_categories=["Cs"])),
    st.sampled_from([Finish.STOP, Finish.LENGTH, Finish.FILTER]),
    st.none() | st.builds(Usage, **dict.fromkeys(
        ("input", "cache_read", "cache_write", "audio_in", "output", "reasoning", "audio_out"), st.integers(0, 99))),
)  # fmt: skip
def test_an_answer_that_is_written_is_read_as_it_was(text: str, finish: Finish, usage: Usage | None) -> None:
    response = answer(*([Text(text=text)] if text else []), finish=finish, usage=usage)
    laws.response_is_stable(DIALECT, asked(stream=True, stream_options={"include_usage": True}), response)
    found = Completion.model_validate(told(response), strict=True)
    assert found.choices[0].text == text
    for event in streamed(response):
        assert event["object"] == "text_completion"


def test_a_request_that_is_written_is_read_as_it_was() -> None:
    body = {"model": "up", "prompt": "Once", "max_tokens": 5, "temperature": 0.5, "stop": ["x"], "seed": 1, "user": "u"}
    laws.request_is_stable(DIALECT, json.dumps(body).encode(), Capabilities(completions=True))


@given(
    st.binary(max_size=200), st.sampled_from(STREAMS), st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)))
)
@settings(max_examples=60)
def test_no_bytes_break_the_decoder(data: bytes, name: str, changes: list[tuple[int, int]]) -> None:
    mutated = bytearray(wire(name))
    for at, byte in changes:
        mutated[at % len(mutated)] = byte
    for bytes_seen in (data, b"data: " + data + b"\n\n", bytes(mutated)):
        encoder = DIALECT.encoder(asked(stream=True), model="m", prompt_tokens=0)
        stream = translating.TranslatedStream(DIALECT.decoder(), encoder, Encoded({}), upstream_model="up")
        passing = DIALECT.passing(asked(stream=True), model="m", upstream_model="up")
        for one in (stream, passing):
            one.feed(bytes_seen)
            one.close()
            assert one.done or one.failure is not None or one.finished
        for decode in (DIALECT.decode_response, DIALECT.whole):
            refused = refusal_of(functools.partial(decode, bytes_seen))
            assert refused is None or refused.cause is Cause.UPSTREAM_ERROR


# ---- requests -------------------------------------------------------------------------------------------------------


def test_without_a_limit_sixteen_tokens_are_asked_for_and_held() -> None:
    found = asked()
    assert found.limit == 16
    assert json.loads(found.encode(model="m", limit=None))["max_tokens"] == 16
    assert found.canonical().limit == 16
    assert json.loads(asked(max_tokens=None).encode(model="m", limit=None))["max_tokens"] == 16
    assert json.loads(asked(max_tokens=90).encode(model="m", limit=40))["max_tokens"] == 40


def test_the_chat_s_name_of_the_limit_does_not_go_beside_the_one_that_is_held_for() -> None:
    for limit in (None, 16):
        sent = json.loads(asked(max_tokens=16, max_completion_tokens=9000).encode(model="m", limit=limit))
        assert (sent["max_tokens"], "max_completion_tokens" in sent) == (16, False)


def test_what_the_gateway_need_not_change_goes_on_as_it_came() -> None:
    body = b'{"model":"m", "prompt":["a"],  "max_tokens":0, "echo":true, "logprobs":1, "unknown":{"x":[1]}}'
    found = DIALECT.read(body)
    assert found.encode(model="m", limit=None) == body
    sent = json.loads(asked(api_key="secret", stream=True).encode(model="up", limit=None))
    assert "api_key" not in sent
    assert (sent["model"], sent["stream_options"]) == ("up", {"include_usage": True})


@pytest.mark.parametrize(
    ("fields", "made", "given"),
    [
        ({}, 1, 1),
        ({"n": 2, "best_of": 5}, 5, 2),
        ({"prompt": ["a", "b", "c"], "n": 2}, 6, 6),
        ({"prompt": [1, 2, 3]}, 1, 1),
        ({"prompt": [[1, 2], [3]]}, 2, 2),
        ({"prompt": None}, 1, 1),
    ],
)
def test_every_answer_that_is_made_is_held_for(fields: dict[str, Any], made: int, given: int) -> None:
    found = asked(**fields)
    assert (found.n, found.choices) == (made, given)


def test_a_prompt_of_tokens_is_counted_by_their_number() -> None:
    assert asked(prompt=[[1, 2], [3]]).prompt().framing == 3
    assert asked(prompt=[1, 2]).input_bound("davinci-002") >= 2
    assert asked(prompt="Once", suffix="end").prompt().texts == ["Once", "end"]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": ["a", "b"]}, "prompt"),
        ({"prompt": [1, 2]}, "prompt"),
        ({"prompt": None}, "prompt"),
        ({"suffix": "end"}, "suffix"),
        ({"n": 2}, "n"),
        ({"best_of": 2}, "best_of"),
        ({"max_tokens": 0}, "max_tokens"),
    ],
)
def test_what_only_a_completing_model_can_do_is_refused_to_others(fields: dict[str, Any], param: str) -> None:
    found = asked(**fields)
    with pytest.raises(RelayError) as refused:
        found.canonical()
    assert (refused.value.cause, refused.value.param) == (Cause.INVALID_PARAMETER, param)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": []}, "prompt"),
        ({"prompt": ["a", 1]}, "prompt"),
        ({"prompt": {"x": 1}}, "prompt"),
        ({"prompt": [["a"]]}, "prompt"),
        ({"prompt": [""] * 2049}, "prompt"),
        ({"n": 0}, "n"),
        ({"n": 129}, "n"),
        ({"best_of": 999}, "best_of"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": "5"}, "max_tokens"),
        ({"Model": "x"}, "Model"),
        ({"stream": 1}, "stream"),
    ],
)
def test_a_malformed_request_is_refused_by_the_field_s_name(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(RelayError) as refused:
        asked(**fields)
    assert (refused.value.cause, refused.value.param) == (Cause.INVALID_PARAMETER, param)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b'{"prompt": "\xff"}', b'{"x": ' + b"[" * 5000 + b"]" * 5000 + b"}"]
)
def test_a_body_that_is_no_object_is_refused(body: bytes) -> None:
    with pytest.raises(RelayError) as refused:
        DIALECT.read(body)
    assert refused.value.cause is Cause.INVALID_JSON


def test_the_prompt_is_one_turn_of_a_user() -> None:
    request = asked(prompt=["Once upon"], stop="\n", temperature=0.2, logprobs=2, echo=True, chat=1).canonical()
    assert request.messages == [Message(role="user", parts=[Text(text="Once upon")])]
    assert request.sampling == Sampling(temperature=0.2, stop=["\n"], logprobs=2)
    assert request.extra == {"chat": 1}
    encoded = openai.DIALECT.encode_request(request, model="up", limit=None, caps=Capabilities())
    assert encoded.body["messages"] == [{"role": "user", "content": "Once upon"}]
    assert encoded.body["max_tokens"] == 16
    assert set(encoded.losses) == {"logprobs", "chat"}


def test_models_that_complete_texts_are_known() -> None:
    for name in ("gpt-3.5-turbo-instruct", "davinci-002", "babbage-002"):
        assert capabilities.of(name, "openai").completions
    assert not capabilities.of("gpt-4o", "openai").completions
    corrected = capabilities.corrected(capabilities.of("deepseek-chat", "openai"), {"completions": True})
    assert corrected.completions


def test_a_conversation_is_no_text_to_go_on_with() -> None:
    chat = openai.DIALECT.read(b'{"messages": [{"role": "user", "content": "x"}, {"role": "user", "content": "y"}]}')
    with pytest.raises(RelayError):
        DIALECT.encode_request(chat.canonical(), model="up", limit=None, caps=Capabilities(completions=True))


# ---- answers --------------------------------------------------------------------------------------------------------

SAID = " upon a time"
PROMPT = 'Es war "einmal"\n… 👩‍💻 '


def counted(texts: dict[int, str], **fields: Any) -> set[int]:
    """The tokens of output that are counted of an answer with these choices: whole, and streamed in pieces of any
    size, which may write their characters as escapes."""
    request = asked(**{"n": len(texts), "echo": True, **fields})
    choices = [{"index": index, "text": text, "finish_reason": "length"} for index, text in texts.items()]
    found = {DIALECT.whole(json.dumps({"choices": choices}).encode(), request).seen("davinci-002").baseline()}
    for size, ascii_only in ((1, False), (7, True), (1000, False)):
        stream = DIALECT.passing(request, model="m", upstream_model="davinci-002")
        for index, text in texts.items():
            for at in range(0, len(text), size):
                choice = {"index": index, "text": text[at : at + size], "finish_reason": None}
                event = json.dumps({"choices": [choice]}, ensure_ascii=ascii_only)
                assert stream.feed(f"data: {event}\n\n".encode())
        found.add(stream.seen.baseline())
    return found


def tokens(text: str) -> int:
    return tokenizer.count(text, Vocabulary.CL100K)


def test_an_echoed_prompt_is_no_output() -> None:
    assert counted({0: PROMPT}, prompt=PROMPT) == {0}
    assert counted({0: PROMPT + SAID}, prompt=PROMPT) == {tokens(SAID)}
    assert counted({0: PROMPT + SAID}, prompt=PROMPT, echo=False) == {tokens(PROMPT + SAID)}


def test_each_choice_begins_with_its_own_prompt() -> None:
    texts = {0: "a" + SAID, 1: "a", 2: PROMPT + SAID, 3: PROMPT + "!"}
    assert counted(texts, prompt=["a", PROMPT], n=2) == {2 * tokens(SAID) + 1}


def test_what_is_no_echo_is_all_output() -> None:
    """Some providers do not know the field; and an answer may say its prompt again."""
    for text in (SAID, PROMPT[:5] + SAID, "E", ""):
        assert counted({0: f"#{text}"}, prompt=PROMPT) == {tokens(f"#{text}")}
    assert counted({0: PROMPT[:5] + SAID}, prompt=PROMPT) == {tokens(PROMPT[:5] + SAID)}
    assert counted({0: PROMPT + PROMPT}, prompt=PROMPT) == {tokens(PROMPT)}
    assert counted({0: SAID, 7: SAID}, prompt=SAID) == {tokens(SAID)}


def test_of_a_prompt_that_came_as_tokens_their_number_is_left_out() -> None:
    words = "hello world"
    assert tokens(words) == 2
    assert counted({0: words + SAID, 1: words}, prompt=[15339, 1917]) == {tokens(SAID)}
    assert counted({0: "hello", 1: words + SAID}, prompt=[[15339], [15339, 1917]], n=1) == {tokens(SAID)}


def test_an_answer_passes_under_the_offered_name_with_what_it_cost() -> None:
    found = DIALECT.whole(whole("text"))
    assert (found.id, found.finish, found.usage) == (
        "cmpl-CWyLIvF1tQb8",
        "length",
        Usage(input=5, cache_read=0, cache_write=0, audio_in=0, output=7, reasoning=0, audio_out=0),
    )
    body = json.loads(found.encode(model="offered", pisces=PISCES))
    original = json.loads(whole("text"))
    assert body == {**original, "model": "offered", "pisces": PISCES}
    assert found.seen("gpt-3.5-turbo-instruct").baseline() == tokenizer.count(
        original["choices"][0]["text"], Vocabulary.CL100K
    )


@pytest.mark.parametrize("wants_usage", [True, False])
def test_a_stream_passes_and_its_usage_is_overheard(wants_usage: bool) -> None:
    options = {"stream_options": {"include_usage": True}} if wants_usage else {}
    stream = DIALECT.passing(asked(stream=True, **options), model="offered", upstream_model="up")
    out = stream.feed(wire("text")) + stream.close() + stream.last(PISCES)
    assert (stream.failure, stream.finish, stream.done) == (None, "length", True)
    assert stream.usage == DIALECT.whole(whole("text")).usage
    found = [json.loads(event[6:]) for event in out.split(b"\n\n")[:-2]]
    assert {event["model"] for event in found} == {"offered"}
    texts = [choice["text"] for event in found for choice in event["choices"]]
    assert "".join(texts) == json.loads(whole("text"))["choices"][0]["text"]
    assert found[-1]["pisces"] == PISCES
    assert bool(found[-1]["choices"]) is not wants_usage
    assert all(event.get("usage") is None for event in found[:-1])
    assert stream.seen.ended == 0
    assert stream.output_bytes == sum(len(json.dumps(text, ensure_ascii=False).encode()) - 2 for text in texts)


def test_a_stream_of_several_answers_has_ended_when_all_of_them_have() -> None:
    stream = DIALECT.passing(asked(stream=True, prompt=["a", "b"]), model="m", upstream_model="up")
    for index in (0, 1):
        assert not stream.finished
        stream.feed(b'data: {"choices":[{"index":%d,"text":"x","finish_reason":"stop"}]}\n\n' % index)
    assert stream.finished


def test_a_failure_in_the_stream_is_one_passed_or_translated() -> None:
    stream = DIALECT.passing(asked(stream=True), model="m", upstream_model="up")
    stream.feed(wire("error"))
    assert stream.failure is not None
    assert "overloaded" in stream.failure.message
    assert isinstance(laws.decoded(DIALECT, wire("error"))[-1], Failed)
    assert b"[DONE]" not in stream.fail(stream.failure, PISCES)
    assert stream.ping().startswith(b":")
    data = sse.payload(stream.fail(stream.failure, PISCES).strip())
    assert data is not None
    assert json.loads(data)["error"]["type"] == "api_error"


def test_an_echo_begins_with_the_prompt_and_thoughts_are_no_text() -> None:
    response = answer(Reasoning(text="Hm."), Text(text=" upon"), usage=Usage(input=1, output=1))
    assert told(response, echo=True)["choices"][0]["text"] == "Once upon"
    assert told(response)["choices"][0]["text"] == " upon"
    found = streamed(response, echo=True)
    assert "".join(event["choices"][0]["text"] for event in found) == "Once upon"
    assert [event["choices"][0]["finish_reason"] for event in found] == [None] * (len(found) - 1) + ["stop"]
    assert "usage" not in found[-1]
    assert streamed(answer(), echo=True)[0]["choices"][0]["text"] == "Once"


def test_a_picture_that_the_model_made_is_shown_as_markdown() -> None:
    response = answer(Text(text="Here: "), Media(kind="image", mime="image/png", data="iVBORw0KGgo="))
    shown = "Here: ![image](data:image/png;base64,iVBORw0KGgo=)"
    assert told(response)["choices"][0]["text"] == shown
    assert "".join(event["choices"][0]["text"] for event in streamed(response)) == shown


def test_usage_is_shown_to_those_who_ask() -> None:
    found = streamed(answer(Text(text="x"), usage=Usage(input=3, output=2)), stream_options={"include_usage": True})
    assert found[-1]["choices"] == []
    assert found[-1]["usage"]["total_tokens"] == 5
    assert found[-1]["pisces"] == PISCES
