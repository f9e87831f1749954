"""`/v1/responses`, from door to door: on channels that speak it and on those that do not, and what is kept of it."""

import datetime as dt
import json
import uuid
from pathlib import Path
from typing import Any

import openai
import pytest
import requests

from tests.kit import scripts
from tests.kit.gateway import Customer, Gateway
from tests.kit.plugin import PRICE
from tests.kit.ports import eventually
from tests.kit.upstream import Exchange, Script, Upstream

WIRE = Path(__file__).parents[1] / "wire" / "responses"
COST = 100 * 1000 + 50 * 2000
AND = {"role": "user", "content": "And?"}
KINDS = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])


@pytest.fixture(scope="module", autouse=True)
def _channels(gateway: Gateway, upstream: Upstream) -> None:
    """`chat` is served by a channel of chat completions, `native` by one of Responses."""
    gateway.model("native", PRICE, max_output=1000)
    gateway.channel("responses", upstream.url, {"native": "gpt-5-up"}, protocol="responses")
    headers = {"Authorization": f"Bearer {gateway.customer().token}"}
    eventually(lambda: requests.get(f"{gateway.url}/v1/models/native", headers=headers, timeout=5).status_code == 200)


def wire(name: str) -> Script:
    """What OpenAI answers, whole or streamed as it is asked."""

    async def script(exchange: Exchange) -> None:
        if exchange.json.get("stream"):
            await exchange.head(200, scripts.SSE)
            await exchange.chunk((WIRE / f"{name}.sse").read_bytes())
            await exchange.chunk(b"")
        else:
            await exchange.answer(200, (WIRE / f"{name}.json").read_bytes())

    return script


def call(gateway: Gateway, customer: Customer, method: str, path: str, **body: Any) -> requests.Response:
    headers = {"Authorization": f"Bearer {customer.token}", **body.pop("headers", {})}
    url = f"{gateway.url}/v1/responses{path}"
    return requests.request(method, url, json=body or None, headers=headers, timeout=30)


def ask(gateway: Gateway, customer: Customer, **body: Any) -> dict[str, Any]:
    """The response object, whole or as the stream ends in it."""
    answer = call(gateway, customer, "POST", "", **{"model": "chat", "input": "Hello", **body})
    assert answer.status_code == 200, answer.text
    if not body.get("stream"):
        found: dict[str, Any] = answer.json()
        return found
    last = events(answer)[-1]
    assert last["type"] == "response.completed"
    return dict(last["response"])


def events(answer: requests.Response) -> list[dict[str, Any]]:
    blocks = answer.content.decode().split("\n\n")
    return [json.loads(block.split("\n")[1].removeprefix("data: ")) for block in blocks if block]


def told(path: Path) -> list[dict[str, Any]]:
    """The events of a recorded stream."""
    return [json.loads(line.removeprefix("data: ")) for line in path.read_text().split("\n") if line[:6] == "data: "]


def text(response: dict[str, Any]) -> str:
    messages = [item for item in response["output"] if item["type"] == "message"]
    return "".join(part["text"] for item in messages for part in item["content"])


def sent(upstream: Upstream, marker: str) -> dict[str, Any]:
    """The body of the last call that had these words in it."""
    return next(found.json for found in reversed(upstream.exchanges) if marker.encode() in found.body)


def fresh() -> str:
    return uuid.uuid4().hex


def refusal(answer: requests.Response) -> tuple[int, str, str | None]:
    error = answer.json()["error"]
    return answer.status_code, error["code"], error["param"]


def rows(gateway: Gateway, customer: Customer) -> list[dict[str, Any]]:
    from relay.models import StoredResponse

    with gateway.inside():
        return [
            dict(row) for row in StoredResponse.objects.filter(team_id=customer.team).order_by("created_at").values()
        ]


# ---- answers --------------------------------------------------------------------------------------------------------


@KINDS
def test_a_chat_channel_answers_it_for_the_same_price(gateway: Gateway, customer: Customer, streamed: bool) -> None:
    strictly = {"X-Pisces-Strict": "true"}  # the gateway itself keeps the metadata
    found = ask(gateway, customer, stream=streamed, instructions="Be brief.", metadata={"a": "b"}, headers=strictly)
    assert (found["status"], text(found), found["model"]) == ("completed", "Hello, world.", "chat")
    assert (found["usage"]["input_tokens"], found["usage"]["output_tokens"]) == (100, 50)
    assert (found["instructions"], found["metadata"], found["store"]) == ("Be brief.", {"a": "b"}, True)
    assert found["pisces"]["cost"] == "0.0002"
    (record,) = gateway.calls(customer.key)
    assert (record["cost"], record["endpoint"], record["protocol"]) == (COST, "responses", "responses")


@KINDS
@pytest.mark.parametrize("usage", [None, {"input_tokens": 1000}, {"input_tokens": 1000, "output_tokens": None}])
def test_output_that_nobody_reported_is_counted_and_not_free(
    gateway: Gateway, customer: Customer, upstream: Upstream, usage: object, streamed: bool
) -> None:
    told = {**json.loads((WIRE / "tools.json").read_bytes()), "usage": usage}
    end = scripts.event({"type": "response.completed", "sequence_number": 0, "response": told})
    played = scripts.stream([end]) if streamed else scripts.value(told)
    ask(gateway, customer, model="native", stream=streamed, x_script=upstream.play(played))
    (record,) = gateway.calls(customer.key)
    assert record["usage_source"] == "counted"
    assert record["usage"]["output"] > 0
    assert 0 < record["cost"] <= record["held"]


@KINDS
def test_a_channel_of_its_own_protocol_passes_it(
    gateway: Gateway, customer: Customer, upstream: Upstream, streamed: bool
) -> None:
    script = upstream.play(wire("tools"))
    found = ask(gateway, customer, model="native", stream=streamed, x_script=script, x_new=[1.50])
    exchange = upstream.one(script)
    assert (exchange.target, exchange.json["model"], exchange.json["x_new"]) == ("/v1/responses", "gpt-5-up", [1.5])
    assert [item["type"] for item in found["output"]] == ["reasoning", "function_call", "function_call"]
    assert (found["model"], found["id"][:5]) == ("native", "resp_")
    (record,) = gateway.calls(customer.key)
    assert record["usage"] == {"input": 84, "cache_read": 128, "output": 40, "reasoning": 128}
    assert record["upstream_id"] == json.loads((WIRE / "tools.json").read_bytes())["id"]


def test_the_sdk_goes_on_from_a_response_and_looks_it_up(gateway: Gateway, customer: Customer) -> None:
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=customer.token, max_retries=0) as client:
        first = client.responses.create(model="chat", input="Hello")
        with client.responses.stream(model="chat", input="And on", previous_response_id=first.id) as stream:
            second = stream.get_final_response()
        assert (second.output_text, second.previous_response_id) == ("Hello, world.", first.id)
        assert client.responses.retrieve(second.id).output_text == "Hello, world."
        items = list(client.responses.input_items.list(second.id, order="asc"))
        assert [item.type for item in items] == ["message"] * 3
        client.responses.delete(first.id)
        with pytest.raises(openai.NotFoundError):
            client.responses.retrieve(first.id)
        with pytest.raises(openai.BadRequestError, match="synchronous"):
            client.responses.cancel(second.id)


@KINDS
def test_a_provider_that_breaks_off_is_told_as_a_failure_and_nothing_is_kept(
    gateway: Gateway, customer: Customer, upstream: Upstream, streamed: bool
) -> None:
    script = upstream.play(wire("cut") if streamed else scripts.error(500))
    answer = call(gateway, customer, "POST", "", model="native", input="Hello", stream=streamed, x_script=script)
    if streamed:
        *_, error, failed = events(answer)
        assert (error["type"], failed["type"]) == ("error", "response.failed")
        assert failed["response"]["error"]["code"] == "server_error"
    else:
        assert refusal(answer)[:2] == (502, "upstream_error")
    assert rows(gateway, customer) == []


def test_losses_and_refusals_have_the_names_of_this_protocol(gateway: Gateway, customer: Customer) -> None:
    found = ask(gateway, customer, top_logprobs=2, reasoning={"effort": "low"}, text={"verbosity": "low"})
    assert found["pisces"]["dropped"] == ["reasoning.effort", "text.verbosity", "top_logprobs"]
    strictly = call(
        gateway, customer, "POST", "", model="chat", input="x", top_logprobs=2, headers={"X-Pisces-Strict": "true"}
    )
    assert refusal(strictly) == (400, "invalid_parameter", "top_logprobs")
    items = [{"role": "user", "content": "x"}, {"type": "computer_call_output", "call_id": "c", "output": {}}]
    assert refusal(call(gateway, customer, "POST", "", model="chat", input=items))[::2] == (400, "input")


# ---- what is kept ---------------------------------------------------------------------------------------------------


@KINDS
@pytest.mark.parametrize("model", ["chat", "native"])
def test_a_call_goes_on_from_an_earlier_one_on_any_channel(
    gateway: Gateway, customer: Customer, upstream: Upstream, model: str, streamed: bool
) -> None:
    words = fresh()
    script = upstream.play(wire("text"))
    first = ask(gateway, customer, input=f"First {words}", instructions="Only once.", stream=streamed)
    second = ask(gateway, customer, input="Second", previous_response_id=first["id"], stream=streamed)
    last = ask(
        gateway, customer, model=model, input="Third", previous_response_id=second["id"], x_script=script,
        stream=streamed,
    )  # fmt: skip
    assert last["previous_response_id"] == second["id"]
    body = sent(upstream, words)
    assert "previous_response_id" not in body
    told = json.dumps(body)
    assert [told.index(word) for word in ("First", "Second", "Third")] == sorted(
        told.index(word) for word in ("First", "Second", "Third")
    )
    assert "Only once." not in told
    assert told.count("Hello, world.") == 2
    assert len(rows(gateway, customer)) == 3


def test_calls_of_one_protocol_are_answered_to_another(
    gateway: Gateway, customer: Customer, upstream: Upstream
) -> None:
    words, script = fresh(), upstream.play(wire("tools"))
    first = ask(gateway, customer, model="native", x_script=script)
    calls = [item for item in first["output"] if item["type"] == "function_call"]
    results = [
        {"type": "function_call_output", "call_id": item["call_id"], "output": f"{words} {number}"}
        for number, item in enumerate(calls)
    ]
    ask(gateway, customer, input=results, previous_response_id=first["id"])
    messages = sent(upstream, words)["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "tool", "tool"]
    assert [found["id"] for found in messages[1]["tool_calls"]] == [item["call_id"] for item in calls]
    assert "gAAAA" not in json.dumps(messages)  # OpenAI's state is nobody else's


def test_any_channel_goes_on_from_an_answer_for_which_was_searched(
    gateway: Gateway, customer: Customer, upstream: Upstream
) -> None:
    words, script = fresh(), upstream.play(wire("search"))
    first = ask(gateway, customer, model="native", tools=[{"type": "web_search"}], x_script=script)
    more = {"model": "chat", "input": words, "previous_response_id": first["id"]}
    assert ask(gateway, customer, **more)["pisces"]["dropped"] == ["web_search_call"]
    user, model, again = sent(upstream, words)["messages"]
    assert (user["role"], model["content"], again["content"]) == ("user", text(first), words)
    strictly = call(gateway, customer, "POST", "", headers={"X-Pisces-Strict": "true"}, **more)
    assert refusal(strictly) == (400, "invalid_parameter", "web_search_call")


def test_a_response_is_kept_sealed_and_for_thirty_days(gateway: Gateway, customer: Customer) -> None:
    words = fresh()
    found = ask(gateway, customer, input=words)
    (row,) = rows(gateway, customer)
    assert (row["id"].hex, row["model"], row["key_id"]) == (found["id"].removeprefix("resp_"), "chat", customer.key)
    assert words not in row["sealed"]
    assert row["expires_at"] - row["created_at"] == dt.timedelta(days=30)
    kept = call(gateway, customer, "GET", f"/{found['id']}")
    assert kept.json() == found


@KINDS
def test_what_is_not_to_be_stored_is_not(gateway: Gateway, customer: Customer, streamed: bool) -> None:
    found = ask(gateway, customer, store=False, stream=streamed)
    assert found["store"] is False
    assert rows(gateway, customer) == []
    assert refusal(call(gateway, customer, "GET", f"/{found['id']}"))[:2] == (404, "response_not_found")


def test_another_team_s_response_is_not_there(gateway: Gateway, customer: Customer) -> None:
    found = ask(gateway, customer)
    other = gateway.customer()
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("GET", "/input_items")):
        answer = call(gateway, other, method, f"/{found['id']}{path}")
        assert refusal(answer)[:2] == (404, "response_not_found")
    answer = call(gateway, other, "POST", "", model="chat", input="x", previous_response_id=found["id"])
    assert refusal(answer) == (404, "response_not_found", "previous_response_id")
    answer = call(
        gateway, other, "POST", "", model="chat", input=[{"type": "item_reference", "id": found["output"][0]["id"]}]
    )
    assert refusal(answer) == (404, "response_not_found", "input")
    assert len(rows(gateway, customer)) == 1
    assert gateway.transfers(other.wallet) == []


def test_a_colleague_s_key_finds_what_the_team_keeps(gateway: Gateway, customer: Customer) -> None:
    found = ask(gateway, customer)
    _, token = gateway.issue(customer.team)
    colleague = Customer(customer.email, customer.team, customer.wallet, customer.key, token)
    assert call(gateway, colleague, "GET", f"/{found['id']}").json() == found


@pytest.mark.parametrize("name", ["resp_1", "resp_" + "0" * 32, "x", "msg_" + "0" * 32, "resp_%00"])
def test_an_id_that_nobody_made_is_not_there(gateway: Gateway, customer: Customer, name: str) -> None:
    assert refusal(call(gateway, customer, "GET", f"/{name}"))[:2] == (404, "response_not_found")


def test_what_was_deleted_is_gone_and_so_is_the_way_back(gateway: Gateway, customer: Customer) -> None:
    first = ask(gateway, customer)
    second = ask(gateway, customer, previous_response_id=first["id"])
    told = call(gateway, customer, "DELETE", f"/{first['id']}").json()
    assert told == {"id": first["id"], "object": "response", "deleted": True}
    assert call(gateway, customer, "GET", f"/{second['id']}").status_code == 200
    answer = call(gateway, customer, "POST", "", model="chat", input="x", previous_response_id=second["id"])
    assert refusal(answer) == (404, "response_not_found", "previous_response_id")


@pytest.mark.parametrize("after", [1, 2, 3], ids=lambda after: f"after query {after}")
@pytest.mark.parametrize("gone", [1, 2], ids=["in the middle", "the last"])
def test_a_conversation_that_loses_a_turn_while_it_is_read_is_whole_or_not_there(
    gateway: Gateway, customer: Customer, gone: int, after: int
) -> None:
    from django.db import connection

    from relay import stored_responses
    from relay.errors import Cause, RelayError

    turns = [ask(gateway, customer)]
    for _ in range(2):
        turns.append(ask(gateway, customer, previous_response_id=turns[-1]["id"]))
    read = 0

    def deleting(execute: Any, *arguments: Any) -> Any:
        nonlocal read
        found, read = execute(*arguments), read + 1
        if read == after:
            assert call(gateway, customer, "DELETE", f"/{turns[gone]['id']}").status_code == 200
        return found

    with gateway.inside(), connection.execute_wrapper(deleting):
        found: int | Cause
        try:
            found = len(stored_responses._turns(turns[-1]["id"], customer.team))
        except RelayError as refused:
            found = refused.cause
    assert found in (6, Cause.UNKNOWN_RESPONSE)


def test_input_items_come_in_pages_with_their_ids(gateway: Gateway, customer: Customer) -> None:
    picture = {"type": "input_image", "image_url": "data:image/png;base64,iVBORw0KGgo="}
    first = ask(gateway, customer, input=[{"role": "user", "content": [{"type": "input_text", "text": "a"}, picture]}])
    second = ask(gateway, customer, input="b", previous_response_id=first["id"])
    path = f"/{second['id']}/input_items"
    listed = call(gateway, customer, "GET", f"{path}?order=asc").json()
    assert [item["role"] for item in listed["data"]] == ["user", "assistant", "user"]
    assert listed["data"][0]["content"][1]["detail"] == "auto"
    assert len({item["id"] for item in listed["data"]}) == 3
    page = call(gateway, customer, "GET", f"{path}?limit=2").json()
    assert (page["has_more"], page["data"]) == (True, listed["data"][:0:-1])
    rest = call(gateway, customer, "GET", f"{path}?limit=2&after={page['last_id']}").json()
    assert (rest["has_more"], rest["data"]) == (False, listed["data"][:1])
    for wrong in ("limit=0", "limit=101", "limit=x", "order=up", "after=nobody"):
        assert refusal(call(gateway, customer, "GET", f"{path}?{wrong}"))[0] == 400


def test_a_reference_to_an_item_of_ours_is_the_item(gateway: Gateway, customer: Customer, upstream: Upstream) -> None:
    words = fresh()
    first = ask(gateway, customer)
    items = [
        {"role": "user", "content": words},
        {"type": "item_reference", "id": first["output"][0]["id"]},
        {"role": "user", "content": "And?"},
    ]
    ask(gateway, customer, input=items)
    assert [message["role"] for message in sent(upstream, words)["messages"]] == ["user", "assistant", "user"]


@pytest.mark.parametrize("name", ["chat", "native"])
@pytest.mark.parametrize("typed", [True, False], ids=["with its type", "without its type"])
def test_a_reference_to_an_item_that_a_provider_named_is_the_item(
    gateway: Gateway, customer: Customer, upstream: Upstream, name: str, typed: bool
) -> None:
    words = fresh()
    script = upstream.play(wire("text"))
    first = ask(gateway, customer, model="native", x_script=script)
    reference = {"type": "item_reference"} if typed else {}
    own = first["output"][0]["id"]
    items = [{"role": "user", "content": words}, {**reference, "id": own}, AND]
    ask(gateway, customer, model=name, input=items, store=False, x_script=script if name == "native" else None)
    body = sent(upstream, words)
    assert [turn["role"] for turn in body.get("messages") or body["input"]] == ["user", "assistant", "user"]
    assert own not in json.dumps(body)
    call(gateway, customer, "DELETE", f"/{first['id']}")
    answer = call(gateway, customer, "POST", "", model=name, input=[AND, {**reference, "id": own}])
    assert refusal(answer) == (404, "response_not_found", "input")


@pytest.mark.parametrize("name", [f"msg_{'0123456789abcdef' * 2}", f"msg_{'0123456789abcdef' * 2}_0"])
def test_a_name_that_a_provider_gave_is_not_taken_for_one_of_ours(
    gateway: Gateway, customer: Customer, upstream: Upstream, name: str
) -> None:
    """vLLM's are so long, and another gateway's are made as ours are."""
    found = json.loads((WIRE / "text.json").read_bytes())
    found["output"][0]["id"] = name
    script = upstream.play(scripts.value(found))
    ask(gateway, customer, model="native", x_script=script)
    words = fresh()
    items = [{"role": "user", "content": words}, {"type": "item_reference", "id": name}, AND]
    ask(gateway, customer, model="native", input=items, store=False, x_script=script)
    assert [turn["role"] for turn in sent(upstream, words)["input"]] == ["user", "assistant", "user"]


@pytest.mark.parametrize("thought", [f"rs_{'0123456789abcdef' * 2}", f"rs_{'0123456789abcdef' * 2}_0"])
def test_a_thought_of_a_provider_that_names_it_as_we_do_needs_its_state_all_the_same(
    gateway: Gateway, customer: Customer, upstream: Upstream, thought: str
) -> None:
    found = json.loads((WIRE / "text.json").read_bytes())
    found["output"].insert(0, {"type": "reasoning", "id": thought, "summary": []})
    script = upstream.play(scripts.value(found))
    first = ask(gateway, customer, model="native", x_script=script)
    words = fresh()
    ask(gateway, customer, model="native", input=words, previous_response_id=first["id"], x_script=script)
    assert [item["type"] for item in sent(upstream, words)["input"]] == ["message", "message", "message"]


@pytest.mark.parametrize("state", ["gAAAAA", None], ids=["with its state", "without"])
def test_a_drawing_that_is_referred_to_goes_as_it_would_in_its_conversation(
    gateway: Gateway, customer: Customer, upstream: Upstream, state: str | None
) -> None:
    found = json.loads((WIRE / "text.json").read_bytes())
    drawing = {"type": "image_generation_call", "id": "ig_8", "status": "completed", "result": "iVBORw0KGgo="}
    thought: dict[str, Any] = {"type": "reasoning", "id": "rs_8", "summary": [], "encrypted_content": state}
    found["output"] = [thought, drawing, *found["output"]]
    script = upstream.play(scripts.value(found))
    ask(gateway, customer, model="native", x_script=script)
    words = fresh()
    items = [{"role": "user", "content": words}, {"type": "image_generation_call", "id": "ig_8"}]
    ask(gateway, customer, model="native", input=items, store=False, x_script=script)
    picture = {"type": "input_image", "image_url": "data:image/png;base64,iVBORw0KGgo="}
    shown = {"type": "message", "role": "user", "content": [picture]}
    assert sent(upstream, words)["input"][-1] == (drawing if state else shown)


@pytest.mark.parametrize("name", ["chat", "native"])
@pytest.mark.parametrize(
    "reference",
    [
        '{"type": "item_reference", "id": "msg_68f8"}',
        r'{"type": "item_\u0072eference", "id": "msg_68f8"}',
        r'{"\u0069d": "msg_68f8"}',
        r'{"type": "item_reference", "id": "msg_\u0000"}',
        '{"type": "image_generation_call", "id": "ig_68f8"}',
    ],
    ids=["reference", "escaped", "no type", "NUL", "drawing"],
)
def test_what_only_the_provider_keeps_is_not_looked_up_there(
    gateway: Gateway, customer: Customer, upstream: Upstream, name: str, reference: str
) -> None:
    words = fresh()
    body = f'{{"model": "{name}", "input": [{reference}, {{"role": "user", "content": "{words}"}}]}}'
    headers = {"Authorization": f"Bearer {customer.token}", "Content-Type": "application/json"}
    answer = requests.post(f"{gateway.url}/v1/responses", data=body, headers=headers, timeout=30)
    assert refusal(answer) == (404, "response_not_found", "input")
    assert not any(words.encode() in exchange.body for exchange in upstream.exchanges)
    assert gateway.transfers(customer.wallet) == []


@pytest.mark.parametrize("output", [None, [{"type": "message", "id": 5, "role": "assistant", "content": []}]])
def test_an_answer_whose_items_cannot_be_named_is_passed_and_paid_all_the_same(
    gateway: Gateway, customer: Customer, upstream: Upstream, output: Any
) -> None:
    done = next(event for event in told(WIRE / "text.sse") if event["type"] == "response.output_item.done")
    end = {**json.loads((WIRE / "text.json").read_bytes()), "output": output}
    stream = [*([done] if output else []), {"type": "response.completed", "sequence_number": 9, "response": end}]

    async def script(exchange: Exchange) -> None:
        await exchange.head(200, scripts.SSE)
        for event in stream:
            await exchange.chunk(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode())
        await exchange.chunk(b"")

    found = ask(gateway, customer, model="native", stream=True, x_script=upstream.play(script))
    assert (found["status"], found["output"]) == ("completed", output)
    (record,) = gateway.calls(customer.key)
    assert (record["state"], record["usage_source"]) == ("settled", "reported")


def test_an_item_whose_id_is_no_text_is_the_caller_s_mistake(gateway: Gateway, customer: Customer) -> None:
    for wrong in ({"type": "message", "role": "user", "content": "x", "id": 5}, {"type": 5}):
        answer = call(gateway, customer, "POST", "", model="native", input=[wrong])
        assert refusal(answer) == (400, "invalid_messages", "input")


def test_another_team_s_named_item_is_not_there(gateway: Gateway, customer: Customer, upstream: Upstream) -> None:
    found = ask(gateway, customer, model="native", x_script=upstream.play(wire("tools")))
    for item in found["output"]:
        reference = {"type": "item_reference", "id": item["id"]}
        answer = call(gateway, gateway.customer(), "POST", "", model="native", input=[AND, reference])
        assert refusal(answer) == (404, "response_not_found", "input")


@pytest.mark.parametrize("how", ["previous_response_id", "history"])
def test_a_conversation_goes_on_at_the_account_that_can_read_its_state(
    gateway: Gateway, customer: Customer, upstream: Upstream, how: str
) -> None:
    name = f"two-accounts-{how}"
    gateway.model(name, PRICE, max_output=1000)
    for number in (1, 2):
        secret = f"sk-account-{number}-{how}"
        gateway.channel(f"{name}-{number}", upstream.url, {name: "gpt-5-up"}, protocol="responses", secret=secret)
    headers = {"Authorization": f"Bearer {customer.token}"}
    eventually(lambda: requests.get(f"{gateway.url}/v1/models/{name}", headers=headers, timeout=5).status_code == 200)
    script, accounts = upstream.play(wire("tools")), set()

    def met(words: str) -> set[str]:
        return {found.headers["authorization"] for found in upstream.exchanges if words.encode() in found.body}

    def another_is_met() -> bool:
        words = fresh()
        ask(gateway, customer, model=name, input=words, x_script=script)
        accounts.update(met(words))
        return len(accounts) == 2

    eventually(another_is_met)  # chance, as far as anybody can tell
    for _ in range(4):
        words = fresh()
        first = ask(gateway, customer, model=name, input=words, x_script=script)
        calls = [item for item in first["output"] if item["type"] == "function_call"]
        results = [{"type": "function_call_output", "call_id": item["call_id"], "output": "ok"} for item in calls]
        if how == "history":
            more = {"input": [{"role": "user", "content": words}, *first["output"], *results], "store": False}
        else:
            more = {"input": results, "previous_response_id": first["id"]}
        for _ in range(3):
            ask(gateway, customer, model=name, instructions=fresh(), x_script=script, **more)
        assert len(met(words)) == 1


@pytest.mark.parametrize("state", ["gAAAAA", None], ids=["with its state", "without"])
def test_what_a_provider_s_tool_did_goes_back_with_the_thought_that_led_to_it_or_not_at_all(
    gateway: Gateway, customer: Customer, upstream: Upstream, state: str | None
) -> None:
    found = json.loads((WIRE / "search.json").read_bytes())
    thought: dict[str, Any] = {"type": "reasoning", "id": "rs_9", "summary": [], "encrypted_content": state}
    drawing = {"type": "image_generation_call", "id": "ig_9", "status": "completed", "result": "iVBORw0KGgo="}
    found["output"] = [thought, drawing, *found["output"]]
    script = upstream.play(scripts.body(json.dumps(found).encode()))
    first = ask(gateway, customer, model="native", x_script=script)
    words = fresh()
    ask(gateway, customer, model="native", input=words, previous_response_id=first["id"], x_script=script)
    items = sent(upstream, words)["input"][1:-1]
    kinds = [item.get("type") for item in items]
    if state:
        assert kinds[:3] == ["reasoning", "image_generation_call", "web_search_call"]
    else:
        assert {"reasoning", "image_generation_call", "web_search_call"}.isdisjoint(kinds)
        picture = {"type": "input_image", "image_url": "data:image/png;base64,iVBORw0KGgo="}
        assert items[0] == {"type": "message", "role": "user", "content": [picture]}


CALLS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    (
        {"type": "computer_call", "id": "cu_1", "call_id": "c1", "action": {"type": "screenshot"}},
        {"type": "computer_call_output", "call_id": "c1", "output": {"type": "computer_screenshot", "file_id": "f"}},
    ),
    (
        {"type": "mcp_approval_request", "id": "mcpr_1", "name": "f", "arguments": "{}", "server_label": "s"},
        {"type": "mcp_approval_response", "approval_request_id": "mcpr_1", "approve": True},
    ),
    (
        {"type": "local_shell_call", "id": "lsh_1", "call_id": "c1", "action": {"type": "exec"}, "status": "completed"},
        {"type": "local_shell_call_output", "id": "c1", "output": "x"},
    ),
    (
        {"type": "apply_patch_call", "call_id": "c1", "operation": {"type": "delete_file"}, "status": "completed"},
        {"type": "apply_patch_call_output", "call_id": "c1", "status": "completed"},
    ),
]


@pytest.mark.parametrize(("asked", "result"), CALLS, ids=[str(asked["type"]) for asked, _ in CALLS])
@pytest.mark.parametrize("state", ["gAAAAA", None], ids=["with its state", "without"])
def test_a_call_that_its_client_answers_goes_back_whole_whatever_led_to_it(
    gateway: Gateway, customer: Customer, upstream: Upstream,
    asked: dict[str, Any], result: dict[str, Any], state: str | None,
) -> None:  # fmt: skip
    found = json.loads((WIRE / "text.json").read_bytes())
    found["output"] = [{"type": "reasoning", "id": "rs_9", "summary": [], "encrypted_content": state}, asked]
    script = upstream.play(scripts.value(found))
    first = ask(gateway, customer, model="native", x_script=script)
    words = fresh()
    more = {"input": [result], "previous_response_id": first["id"]}
    ask(gateway, customer, model="native", instructions=words, x_script=script, **more)
    assert sent(upstream, words)["input"][-2:] == [asked, result]


def test_the_same_call_again_keeps_one_response(gateway: Gateway, customer: Customer) -> None:
    headers = {"Idempotency-Key": fresh()}
    found = [ask(gateway, customer, headers=headers) for _ in range(2)]
    assert found[0] == found[1]
    assert len(rows(gateway, customer)) == 1


def test_a_call_that_cannot_be_paid_keeps_nothing(gateway: Gateway) -> None:
    poor = gateway.customer(credit="0")
    assert refusal(call(gateway, poor, "POST", "", model="chat", input="x"))[0] == 403
    assert rows(gateway, poor) == []


def test_long_jobs_are_refused_for_the_time_being(gateway: Gateway, customer: Customer) -> None:
    answer = call(gateway, customer, "POST", "", model="chat", input="x", background=True)
    assert refusal(answer) == (400, "invalid_parameter", "background")


def test_what_has_expired_is_forgotten_but_not_from_under_a_conversation(gateway: Gateway) -> None:
    from django.utils import timezone

    from relay import tasks
    from relay.models import StoredResponse

    customer = gateway.customer()
    first = ask(gateway, customer)
    second = ask(gateway, customer, previous_response_id=first["id"])
    lone = ask(gateway, customer)

    def forget(*found: dict[str, Any]) -> list[str]:
        past = timezone.now() - dt.timedelta(minutes=1)
        with gateway.inside():
            ids = [uuid.UUID(response["id"].removeprefix("resp_")) for response in found]
            StoredResponse.objects.filter(pk__in=ids).update(expires_at=past)
            tasks.forget_responses()
        return [f"resp_{row['id'].hex}" for row in rows(gateway, customer)]

    assert forget(first, lone) == [first["id"], second["id"]]
    assert call(gateway, customer, "GET", f"/{first['id']}").status_code == 404
    assert text(ask(gateway, customer, previous_response_id=second["id"])) == "Hello, world."
    newest = rows(gateway, customer)[-1]["id"]
    assert forget(first, second, {"id": f"resp_{newest.hex}"}) == []
