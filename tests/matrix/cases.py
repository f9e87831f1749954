"""The cases of the matrix: what is asked, what the model does, what the provider must have been asked, what the client
must get. A case knows no protocol; the few things that a protocol cannot do are said in `REFUSED` and in the checks.
"""

import base64
from collections.abc import Callable

import msgspec

from tests.matrix.neutral import Ask, Call, Function, Outcome, Picture, Plan, Result, Turn, Usage
from tests.matrix.server import NOTES, PDF, PIXEL
from tests.matrix.views import View

PNG = base64.b64encode(PIXEL).decode()
PAPER = base64.b64encode(PDF).decode()
WAV = base64.b64encode(
    b"RIFF\x34\x00\x00\x00WAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00\x40\x1f\x00\x00\x40\x1f\x00\x00\x01\x00\x08\x00"
    b"data\x10\x00\x00\x00" + b"\x80" * 16
).decode()
WEATHER = Function(
    "get_weather",
    "The weather in a city",
    {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)
CLOCK = Function("get_time", "The time in a zone", {"type": "object", "properties": {"zone": {"type": "string"}}})
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
OSLO, ROME = (
    Call("call_oslo", "get_weather", {"city": "Oslo"}),
    Call("call_rome", "get_weather", {"city": "Rome, Italy"}),
)
ANSWER = "The answer is 42 — 答案是四十二."


class Case(msgspec.Struct):
    """`asked` looks at what came to the provider, `got` at the client's outcome; both assert. `kind` chooses the model
    (plain, thinking, hearing, caching). `refused`: upstreams that cannot be asked this, whose answer is a 400.
    `again`: the answer is given back with a further question (`then`)."""

    name: str
    ask: Ask
    plan: Plan
    asked: Callable[[View, str], None] = lambda view, upstream: None
    got: Callable[[Outcome, str, str], None] = lambda outcome, client, upstream: None
    kind: str = "plain"
    refused: frozenset[str] = frozenset()
    again: Callable[[View, str, str], None] | None = None


def _turn(name: str, text: str = "What is the answer?") -> Turn:
    return Turn("user", f"[[{name}]] {text}")


# ---- text -----------------------------------------------------------------------------------------------------------


def _text_got(outcome: Outcome, client: str, upstream: str) -> None:
    assert outcome.text == ANSWER
    assert outcome.finish == "stop"


def _system_asked(view: View, upstream: str) -> None:
    assert view.system == "Be brief. 简短."
    assert view.roles == ["user"]


def _turns_asked(view: View, upstream: str) -> None:
    assert view.roles == ["user", "assistant", "user"]
    assert view.texts == ["[[turns]] I am Ada.", "Hello Ada!", "Who am I?"]


# ---- tools ----------------------------------------------------------------------------------------------------------


def _tool_asked(view: View, upstream: str) -> None:
    assert list(view.tools) == ["get_weather", "get_time"]
    assert view.tools["get_weather"]["properties"]["city"]["type"].lower() == "string"
    assert view.tools["get_weather"]["required"] == ["city"]


def _tool_got(outcome: Outcome, client: str, upstream: str) -> None:
    assert [(call.name, call.arguments) for call in outcome.calls] == [("get_weather", {"city": "Oslo"})]
    assert outcome.calls[0].id or client == "gemini"
    assert outcome.finish == "tool"


def _parallel_got(outcome: Outcome, client: str, upstream: str) -> None:
    found = [(call.name, call.arguments) for call in outcome.calls]
    assert found == [("get_weather", {"city": "Oslo"}), ("get_weather", {"city": "Rome, Italy"})]
    ids = [call.id for call in outcome.calls]
    assert client == "gemini" or (all(ids) and len(set(ids)) == 2)
    assert outcome.text == "Let me look."
    assert outcome.finish == "tool"


def _empty_got(outcome: Outcome, client: str, upstream: str) -> None:
    assert [(call.name, call.arguments) for call in outcome.calls] == [("get_time", {})]
    assert outcome.finish == "tool"


def _forced_asked(view: View, upstream: str) -> None:
    assert view.choice == {"gemini": "any", "anthropic": "any"}.get(upstream, "required")


def _one_forced_asked(view: View, upstream: str) -> None:
    assert view.choice == "get_weather"


def _none_asked(view: View, upstream: str) -> None:
    assert view.choice == "none"


def _serial_asked(view: View, upstream: str) -> None:
    assert view.parallel is False or upstream == "gemini"


def _results_asked(view: View, upstream: str) -> None:
    assert view.calls == [("get_weather", {"city": "Oslo"}), ("get_weather", {"city": "Rome, Italy"})]
    assert [text for _, text in view.results] == ["4 degrees, snow", "21 degrees, sun"]
    expected = ["get_weather", "get_weather"] if upstream == "gemini" else ["call_oslo", "call_rome"]
    assert [name for name, _ in view.results] == expected
    assert view.texts[-1] == "Which is warmer?"


def _picture_result_asked(view: View, upstream: str) -> None:
    assert view.pictures == [PNG]
    assert len(view.results) == 1
    assert "the map" in view.results[0][1] or "the map" in "".join(view.texts)


# ---- media ----------------------------------------------------------------------------------------------------------


def _picture_asked(view: View, upstream: str) -> None:
    assert view.pictures == [PNG]
    assert any("What is in it?" in text for text in view.texts)


def _picture_url_asked(view: View, upstream: str) -> None:
    (picture,) = view.pictures
    fetched = upstream == "gemini" and not view.passed
    assert picture == PNG if fetched else picture.endswith("/pixel.png")


def _paper_asked(view: View, upstream: str) -> None:
    assert view.documents == [PAPER]


def _paper_url_asked(view: View, upstream: str) -> None:
    (paper,) = view.documents
    named = view.passed or upstream in ("anthropic", "responses", "openai")
    assert paper == PAPER or (paper.endswith("/paper.pdf") and named)


def _notes_url_asked(view: View, upstream: str) -> None:
    """Of the four only Responses fetches what is no PDF."""
    told = "\n".join([*view.documents, *view.texts])
    if view.passed or upstream == "responses":
        assert "/notes.txt" in told
    else:
        assert NOTES.decode() in told or base64.b64encode(NOTES).decode() in told


def _sound_asked(view: View, upstream: str) -> None:
    assert view.sounds == [WAV]


# ---- form -----------------------------------------------------------------------------------------------------------


def _json_asked(view: View, upstream: str) -> None:
    # Anthropic has no such mode: the model is told to.
    assert view.json_mode or (upstream == "anthropic" and "JSON" in view.system)


def _schema_asked(view: View, upstream: str) -> None:
    assert view.schema is not None
    assert set(view.schema["properties"]) == {"name", "age"}
    assert view.schema["required"] == ["name", "age"]


def _json_got(outcome: Outcome, client: str, upstream: str) -> None:
    assert outcome.text == '{"name": "Ada", "age": 36}'


def _sampling_asked(view: View, upstream: str) -> None:
    assert view.temperature == 0.25
    # Claude from 4.5 on refuses both at once; its own clients are passed as they ask.
    assert view.top_p == 0.5 or (upstream == "anthropic" and view.top_p is None)
    assert view.stop == (["END"] if upstream != "responses" else [])
    assert view.limit == 77


def _sequence_got(outcome: Outcome, client: str, upstream: str) -> None:
    assert outcome.text == ANSWER
    # Only Anthropic says which sequence it was, and only its clients can be told.
    assert outcome.finish == ("sequence" if (client, upstream) == ("anthropic", "anthropic") else "stop")


def _cut_got(outcome: Outcome, client: str, upstream: str) -> None:
    assert outcome.finish == "length"
    assert outcome.text == ANSWER


def _filtered_got(outcome: Outcome, client: str, upstream: str) -> None:
    assert outcome.finish == "filter"


def _usage_got(outcome: Outcome, client: str, upstream: str) -> None:
    assert outcome.usage == Usage(input=1000, cached=600, output=80, reasoning=30)


def _cache_asked(view: View, upstream: str) -> None:
    assert view.cached is (upstream in ("anthropic", "openai"))


# ---- thoughts -------------------------------------------------------------------------------------------------------


def _thoughts_asked(view: View, upstream: str) -> None:
    assert view.thinks


def _thoughts_got(outcome: Outcome, client: str, upstream: str) -> None:
    assert outcome.thoughts == "Let me think about it."
    assert outcome.text == ANSWER


def _thoughts_again(view: View, upstream: str, client: str) -> None:
    """The vendor's own signature comes back to it, byte for byte; another vendor's never does."""
    assert view.signatures == ([SIGNED[upstream]] if upstream in ("anthropic", "responses") else [])


def _called_again(view: View, upstream: str, client: str) -> None:
    assert view.calls == [("get_weather", {"city": "Oslo"})]
    if upstream == "gemini":
        kept = client in ("gemini", "openai")
        expected = [SIGNED["gemini"]] if kept else [SIGNED["gemini"], "skip_thought_signature_validator"]
        assert view.signatures[0] in expected


SIGNED = {
    "openai": "",
    "responses": "gAAAAABencrypted==",
    "anthropic": "EqQBCkgIARABGAIiQ/signature+anthropic==",
    "gemini": "CpcBCkgIsignatureXgeminiXA==",
}
NO_SOUND = frozenset(("anthropic",))

CASES: tuple[Case, ...] = (
    Case("text", Ask([_turn("text")]), Plan(text=ANSWER), got=_text_got),
    Case("system", Ask([_turn("system")], system="Be brief. 简短."), Plan(text=ANSWER), _system_asked, _text_got),
    Case(
        "turns",
        Ask([_turn("turns", "I am Ada."), Turn("assistant", "Hello Ada!"), Turn("user", "Who am I?")]),
        Plan(text=ANSWER),
        _turns_asked,
        _text_got,
    ),
    Case(
        "tool", Ask([_turn("tool")], tools=[WEATHER, CLOCK]), Plan(calls=[OSLO], finish="tool"), _tool_asked, _tool_got
    ),
    Case(
        "tools-parallel",
        Ask([_turn("tools-parallel")], tools=[WEATHER, CLOCK]),
        Plan(text="Let me look.", calls=[OSLO, ROME], finish="tool"),
        got=_parallel_got,
    ),
    Case(
        "tool-without-arguments",
        Ask([_turn("tool-without-arguments")], tools=[CLOCK]),
        Plan(calls=[Call("call_time", "get_time", {})], finish="tool"),
        got=_empty_got,
    ),
    Case(
        "tool-forced",
        Ask([_turn("tool-forced")], tools=[WEATHER, CLOCK], choice="any"),
        Plan(calls=[OSLO], finish="tool"),
        _forced_asked,
        _tool_got,
    ),
    Case(
        "tool-named",
        Ask([_turn("tool-named")], tools=[WEATHER, CLOCK], choice="get_weather"),
        Plan(calls=[OSLO], finish="tool"),
        _one_forced_asked,
        _tool_got,
    ),
    Case(
        "tool-none",
        Ask([_turn("tool-none")], tools=[WEATHER], choice="none"),
        Plan(text=ANSWER),
        _none_asked,
        _text_got,
    ),
    Case(
        "tools-one-by-one",
        Ask([_turn("tools-one-by-one")], tools=[WEATHER], parallel=False),
        Plan(calls=[OSLO], finish="tool"),
        _serial_asked,
        _tool_got,
    ),
    Case(
        "tool-results",
        Ask(
            [
                _turn("tool-results"),
                Turn("assistant", calls=[OSLO, ROME]),
                Turn(
                    "user",
                    "Which is warmer?",
                    results=[
                        Result("call_oslo", "get_weather", "4 degrees, snow"),
                        Result("call_rome", "get_weather", "21 degrees, sun"),
                    ],
                ),
            ],
            tools=[WEATHER],
        ),
        Plan(text=ANSWER),
        _results_asked,
        _text_got,
    ),
    Case(
        "tool-result-picture",
        Ask(
            [
                _turn("tool-result-picture"),
                Turn("assistant", calls=[OSLO]),
                Turn("user", results=[Result("call_oslo", "get_weather", "the map", Picture(data=PNG))]),
            ],
            tools=[WEATHER],
        ),
        Plan(text=ANSWER),
        _picture_result_asked,
        _text_got,
        kind="thinking",
    ),
    Case(
        "picture",
        Ask([Turn("user", "[[picture]] What is in it?", pictures=[Picture(data=PNG)])]),
        Plan(text=ANSWER),
        _picture_asked,
        _text_got,
    ),
    Case(
        "picture-bare",
        Ask([Turn("user", "[[picture-bare]] What is in it?", pictures=[Picture(data=PNG, bare=True)])]),
        Plan(text=ANSWER),
        _picture_asked,
        _text_got,
    ),
    Case(
        "picture-url",
        Ask([Turn("user", "[[picture-url]] What is in it?", pictures=[Picture(url="{files}/pixel.png")])]),
        Plan(text=ANSWER),
        _picture_url_asked,
        _text_got,
    ),
    Case("pdf", Ask([Turn("user", "[[pdf]] Sum it up.", pdf=PAPER)]), Plan(text=ANSWER), _paper_asked, _text_got),
    Case(
        "pdf-url",
        Ask([Turn("user", "[[pdf-url]] Sum it up.", file_url="{files}/paper.pdf")]),
        Plan(text=ANSWER),
        _paper_url_asked,
        _text_got,
    ),
    Case(
        "text-url",
        Ask([Turn("user", "[[text-url]] Sum it up.", file_url="{files}/notes.txt")]),
        Plan(text=ANSWER),
        _notes_url_asked,
        _text_got,
    ),
    Case(
        "audio",
        Ask([Turn("user", "[[audio]] What is said?", audio=WAV)]),
        Plan(text=ANSWER),
        _sound_asked,
        _text_got,
        kind="hearing",
        refused=NO_SOUND,
    ),
    Case(
        "json",
        Ask([_turn("json", "Answer in JSON.")], json=True),
        Plan(text='{"name": "Ada", "age": 36}'),
        _json_asked,
        _json_got,
    ),
    Case(
        "json-schema",
        Ask([_turn("json-schema")], schema=SCHEMA),
        Plan(text='{"name": "Ada", "age": 36}'),
        _schema_asked,
        _json_got,
    ),
    Case(
        "sampling",
        Ask([_turn("sampling")], temperature=0.25, top_p=0.5, stop=["END"], limit=77),
        Plan(text=ANSWER, finish="sequence", sequence="END"),
        _sampling_asked,
        _sequence_got,
    ),
    Case("cut", Ask([_turn("cut")], limit=20), Plan(text=ANSWER, finish="length"), got=_cut_got),
    Case("filtered", Ask([_turn("filtered")]), Plan(text="I cannot help.", finish="filter"), got=_filtered_got),
    Case(
        "usage",
        Ask([_turn("usage")]),
        Plan(text=ANSWER, usage=Usage(input=1000, cached=600, output=80, reasoning=30)),
        got=_usage_got,
    ),
    Case(
        "cache-marks",
        Ask([_turn("cache-marks")], system="A long text that is always the same.", cache=True),
        Plan(text=ANSWER),
        _cache_asked,
        _text_got,
        kind="caching",
    ),
    Case(
        "thoughts",
        Ask([_turn("thoughts")], effort="medium", limit=None),
        Plan(text=ANSWER, thoughts="Let me think about it.", signature="{signed}"),
        _thoughts_asked,
        _thoughts_got,
        kind="thinking",
        again=_thoughts_again,
    ),
    Case(
        "thoughts-and-tool",
        Ask([_turn("thoughts-and-tool")], tools=[WEATHER], effort="medium", limit=None),
        Plan(thoughts="I need the weather.", calls=[OSLO], finish="tool", signature="{signed}"),
        got=_tool_got,
        kind="thinking",
        again=_called_again,
    ),
)
