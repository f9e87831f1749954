"""Calls whose upstream reports nothing, over HTTP: counted to the token where that is possible, flagged everywhere."""

import base64
from typing import Any

import pytest

from relay.counting import families, tokenizer
from relay.counting.tokenizer import Vocabulary
from tests.kit import client, scripts
from tests.kit.gateway import Customer, Gateway
from tests.kit.ports import eventually
from tests.kit.scripts import DONE, delta, event
from tests.kit.upstream import Upstream
from tests.relay.test_counting_media import image, png, uri
from tests.relay.test_hangup import read_until

INPUT, OUTPUT = 1000, 2000  # nano-units a token


def counted(gateway: Gateway, customer: Customer) -> dict[str, Any]:
    (call,) = eventually(lambda: gateway.calls(customer.key))
    assert call["usage_source"] == "counted"
    usage = call["usage"]
    assert call["cost"] == usage.get("input", 0) * INPUT + usage.get("output", 0) * OUTPUT <= call["held"]
    assert gateway.spent(customer) == call["cost"]
    return dict(usage)


TEXTS = {
    "English": 'The lazy dog\'s answer, of course, was: "no"!\n',
    "Chinese": "今天天气很好，我们去公园散步吧。",
    "emoji": "👩‍💻 writes 🎉🎉 in 🇨🇳",
    "code": 'def f(x):\n    return {"a": [1, 22, 333]}\n\n\n',
}


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
@pytest.mark.parametrize(("model", "ends"), [("gpt-4o", 1), ("gpt-4", 0)])
def test_an_answer_without_usage_is_counted_to_the_token(
    gateway: Gateway, customer: Customer, upstream: Upstream, text: str, streamed: bool, model: str, ends: int
) -> None:
    vocabulary = Vocabulary.O200K if model == "gpt-4o" else Vocabulary.CL100K
    if streamed:
        words = [text[at : at + 3] for at in range(0, len(text), 3)]
        script = upstream.play(scripts.stream(words=words, usage=None))
    else:
        script = upstream.play(scripts.whole(text=text, usage=None))
    messages = [{"role": "user", "content": text}]
    answer = client.chat(gateway.url, customer.token, model=model, messages=messages, stream=streamed, x_script=script)
    assert answer.status_code == 200
    tokens = tokenizer.count(text, vocabulary)
    assert counted(gateway, customer) == {"input": 3 + 1 + tokens + 3, "output": tokens + ends}


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_an_echoed_prompt_is_paid_for_as_input_alone(
    gateway: Gateway, customer: Customer, upstream: Upstream, streamed: bool
) -> None:
    prompt, said = "one two three " * 50, "four"
    choice = {"index": 0, "text": prompt + said, "logprobs": None, "finish_reason": "length"}
    answer = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "up", "choices": [choice]}
    script = scripts.stream([event(answer), DONE]) if streamed else scripts.value(answer)
    body = {"prompt": prompt, "echo": True, "max_tokens": 1, "stream": streamed, "x_script": upstream.play(script)}
    got = client.chat(gateway.url, customer.token, path="/v1/completions", model="davinci-002", **body)
    assert prompt in got.text
    assert counted(gateway, customer) == {"input": tokenizer.count(prompt, Vocabulary.CL100K), "output": 1}


def test_a_long_stream_without_usage_is_counted_to_the_token(
    gateway: Gateway, customer: Customer, upstream: Upstream
) -> None:
    words = [f" word{number} and," for number in range(900)]
    script = upstream.play(scripts.stream(words=words, usage=None))
    client.chat(gateway.url, customer.token, model="gpt-4o", stream=True, max_tokens=5000, x_script=script)
    assert counted(gateway, customer)["output"] == tokenizer.count("".join(words), Vocabulary.O200K) + 1


def test_a_client_that_hung_up_pays_for_the_tokens_that_had_come(
    gateway: Gateway, customer: Customer, upstream: Upstream
) -> None:
    events = [event(delta("up", {"content": word})) for word in ("one", " two", " three")]
    script = upstream.play(scripts.stalling_after(events))
    connection = client.open_socket(
        gateway.url, customer.token, {"model": "gpt-4o", "stream": True, "x_script": script}
    )
    read_until(connection, b"three")
    connection.close()
    assert counted(gateway, customer) == {"input": 8, "output": 3}


def test_a_stream_that_broke_off_costs_the_tokens_that_were_seen(
    gateway: Gateway, customer: Customer, upstream: Upstream
) -> None:
    events = [event(delta("up", {"reasoning_content": "one two"})), event(delta("up", {"content": "three"}))]
    script = upstream.play(scripts.stream(events))
    client.chat(gateway.url, customer.token, model="gpt-4o", stream=True, x_script=script)
    assert counted(gateway, customer) == {"input": 8, "output": 3}


def test_streamed_tool_calls_are_counted_by_name_and_arguments(
    gateway: Gateway, customer: Customer, upstream: Upstream
) -> None:
    def call(index: int, **function: str) -> bytes:
        return event(delta("up", {"tool_calls": [{"index": index, "function": function}]}))

    events = [call(0, name="get_weather", arguments=""), call(1, name="get_time", arguments="")]
    for piece in ('{"pl', 'ace": "', 'Paris"}'):
        events += [call(0, arguments=piece), call(1, arguments=piece)]
    events += [event(delta("up", {}, "tool_calls")), DONE]
    tools = [{"type": "function", "function": {"name": "foo", "parameters": {"type": "object", "properties": {}}}}]
    script = upstream.play(scripts.stream(events))
    client.chat(gateway.url, customer.token, model="gpt-4o", stream=True, tools=tools, x_script=script)

    def tokens(text: str) -> int:
        return tokenizer.count(text, Vocabulary.O200K)

    expected = tokens("get_weather") + tokens("get_time") + 2 * tokens('{"place": "Paris"}') + 2 * 3 + 1
    assert counted(gateway, customer) == {"input": 8 + 23, "output": expected}


def test_a_picture_in_the_prompt_is_charged_by_its_tiles(
    gateway: Gateway, customer: Customer, upstream: Upstream
) -> None:
    parts = [{"type": "text", "text": "hello"}, image(uri(png(1024, 1024, padding=50_000)))]
    script = upstream.play(scripts.whole(usage=None))
    client.chat(
        gateway.url, customer.token, model="gpt-4o", messages=[{"role": "user", "content": parts}], x_script=script
    )
    assert counted(gateway, customer)["input"] == 8 + 765


def test_other_vendors_are_counted_above_openai_s_tokens_and_below_bytes(
    gateway: Gateway, customer: Customer, upstream: Upstream
) -> None:
    text = "A vendor whose vocabulary nobody has published counts a little more than this. " * 20
    script = upstream.play(scripts.whole(text=text, usage=None))
    messages = [{"role": "user", "content": text}]
    client.chat(gateway.url, customer.token, model="claude", messages=messages, x_script=script)
    tokens, usage = tokenizer.count(text, Vocabulary.O200K), counted(gateway, customer)
    factor = families.of("claude-sonnet-4").plain / 1000
    assert tokens * factor <= usage["output"] < tokens * factor * 1.1 < len(text) / 2
    assert tokens * factor <= usage["input"] < tokens * factor * 1.1 + 30


def test_what_an_upstream_reports_teaches_how_its_model_counts(
    gateway: Gateway, customer: Customer, upstream: Upstream
) -> None:
    text = "The same words every time, so that what was learnt can be seen. " * 4
    messages = [{"role": "user", "content": text}]
    tokens = tokenizer.count(text, Vocabulary.O200K)
    reported = {"prompt_tokens": tokens * 2, "completion_tokens": tokens * 3, "total_tokens": tokens * 5}
    script = upstream.play(scripts.whole(text=text, usage=reported))
    for _ in range(22):
        client.chat(gateway.url, customer.token, model="learnt", messages=messages, x_script=script)
    silent = upstream.play(scripts.whole(text=text, usage=None))
    client.chat(gateway.url, customer.token, model="learnt", messages=messages, x_script=silent)
    last = gateway.calls(customer.key)[-1]
    assert last["usage_source"] == "counted"
    assert last["usage"] == {"input": tokens * 2, "output": tokens * 3}

    def stored() -> bool:
        from relay.models import Calibration

        with gateway.inside():
            found = {row.side: row.samples for row in Calibration.objects.filter(model="qwen-learnt")}
        return found == {"input": 22, "output": 22}

    assert eventually(stored, within=12)


def test_a_wallet_that_cannot_pay_by_bytes_pays_by_tokens(gateway: Gateway, upstream: Upstream) -> None:
    """40,000 bytes of words are 8,000 tokens: the wallet has money for 12,000."""
    poor = gateway.customer(credit="0.012")
    messages = [{"role": "user", "content": "word " * 8000}]
    script = upstream.play(scripts.whole(usage=None, text="yes"))
    answer = client.chat(gateway.url, poor.token, model="gpt-4o", messages=messages, max_tokens=100, x_script=script)
    assert answer.status_code == 200, answer.text
    (call,) = gateway.calls(poor.key)
    assert call["usage"]["input"] == tokenizer.count("word " * 8000, Vocabulary.O200K) + 7
    assert call["cost"] <= call["held"] <= 12_000_000
    too_long = [{"role": "user", "content": "word " * 14_000}]
    refused = client.chat(gateway.url, poor.token, model="gpt-4o", messages=too_long, x_script=script)
    assert refused.status_code == 403
    assert gateway.wallet(poor.wallet)["held"] == 0


def test_a_long_prompt_of_noise_is_counted_to_its_end(gateway: Gateway, customer: Customer, upstream: Upstream) -> None:
    noise = base64.b64encode(bytes(range(256)) * 1000).decode()
    script = upstream.play(scripts.whole(usage=None))
    messages = [{"role": "user", "content": noise}]
    answer = client.chat(gateway.url, customer.token, model="gpt-4o", messages=messages, x_script=script)
    assert answer.status_code == 200
    assert counted(gateway, customer)["input"] == tokenizer.count(noise, Vocabulary.O200K) + 7


@pytest.fixture(scope="module")
def counting(gateway: Gateway, upstream: Upstream) -> str:
    """A model of a channel that counts tokens itself."""
    base = upstream.url.removesuffix("/v1")
    gateway.channel("counts-tokens", base, {"counting": "claude-sonnet-4-5"}, protocol="anthropic")
    gateway.model("counting", {"input": "1", "output": "2"}, max_output=1000)  # the last: who knows it knows both
    token = gateway.customer().token
    eventually(lambda: client.models(gateway.url, token, "counting").status_code == 200)
    return "counting"


@pytest.mark.parametrize("told", [-5, 2**40, 10**30, 1.5, "5", None])
def test_a_count_of_a_prompt_that_makes_no_sense_is_not_passed_on(
    gateway: Gateway, customer: Customer, upstream: Upstream, counting: str, told: object
) -> None:
    found = []
    for content in ({"input_tokens": 7}, {"input_tokens": told}):
        script = upstream.play(scripts.value(content))
        answer = client.chat(
            gateway.url, customer.token, path="/v1/messages/count_tokens", model=counting, x_script=script
        )
        found.append(answer.json()["input_tokens"])
        assert len(upstream.served(script)) == 1
    assert found[0] == 7
    assert 0 < found[1] < 100
