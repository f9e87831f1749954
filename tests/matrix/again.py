"""The next turn of a conversation, with what the SDK gave of the last one, as applications write it."""

from typing import Any

from google.genai import types

from tests.matrix import clients
from tests.matrix.neutral import Ask, Json, Outcome

GO_ON = "[[again]] Go on."
RESULT = "4 degrees, snow"


def ask(client: str, url: str, token: str, model: str, question: Ask, before: Outcome, *, stream: bool) -> Outcome:
    return _ASK[client](url, token, model, question, before, stream)


def _chat(url: str, token: str, model: str, question: Ask, before: Outcome, stream: bool) -> Outcome:
    messages = [*clients.chat_messages(question), *clients.chat_again(before)]
    messages += [{"role": "tool", "tool_call_id": call.id, "content": RESULT} for call in before.calls]
    messages.append({"role": "user", "content": GO_ON})
    return clients.chat(url, token, model, question, stream=stream, messages=messages)


def _responses(url: str, token: str, model: str, question: Ask, before: Outcome, stream: bool) -> Outcome:
    items: list[Json] = [*clients.items_of(question), *before.raw]
    for item in items:
        item.pop("parsed_arguments", None)
    items += [{"type": "function_call_output", "call_id": call.id, "output": RESULT} for call in before.calls]
    items.append({"type": "message", "role": "user", "content": GO_ON})
    return clients.responses(url, token, model, question, stream=stream, items=items)


def _messages(url: str, token: str, model: str, question: Ask, before: Outcome, stream: bool) -> Outcome:
    turns: list[Json] = [{"role": turn.role, "content": clients.blocks_of(turn)} for turn in question.turns]
    turns.append({"role": "assistant", "content": before.raw})
    results = [{"type": "tool_result", "tool_use_id": call.id, "content": RESULT} for call in before.calls]
    turns.append({"role": "user", "content": [*results, {"type": "text", "text": GO_ON}]})
    return clients.messages(url, token, model, question, stream=stream, turns=turns)


def _generate(url: str, token: str, model: str, question: Ask, before: Outcome, stream: bool) -> Outcome:
    contents: list[Any] = [types.Content(role="user", parts=clients.parts_of(turn)) for turn in question.turns]
    contents.append(types.Content(role="model", parts=before.raw))
    results = [
        types.Part(function_response=types.FunctionResponse(id=call.id, name=call.name, response={"result": RESULT}))
        for call in before.calls
    ]
    contents.append(types.Content(role="user", parts=[*results, types.Part(text=GO_ON)]))
    return clients.generate(url, token, model, question, stream=stream, contents=contents)


_ASK = {"openai": _chat, "responses": _responses, "anthropic": _messages, "gemini": _generate}
