"""How much to put out and how: limits, thinking, sampling, as a model of Anthropic's takes them. Pure.

Sources: Anthropic, "Extended thinking" and "Adaptive thinking" (what goes with what), "Effort"; the ladders between
efforts and budgets are those that gateways have made usual.
"""

import msgspec

from relay.protocols.anthropic.request import LIMIT
from relay.protocols.canonical import EFFORTS, Json, Request, Thinking, Wire
from relay.protocols.capabilities import Capabilities

# What clients call the fields that the hub has a place for, where they do not call them as it does.
_CALLED: dict[Wire, dict[str, str]] = {
    "openai": {
        "thinking": "reasoning_effort", "format": "response_format", "choice": "tool_choice",
        "parallel": "parallel_tool_calls", "cache_key": "prompt_cache_key",
    },
    "responses": {
        "thinking": "reasoning.effort", "format": "text.format", "choice": "tool_choice", "logprobs": "top_logprobs",
        "parallel": "parallel_tool_calls", "cache_key": "prompt_cache_key", "verbosity": "text.verbosity",
    },
    "gemini": {
        "thinking": "thinkingConfig", "top_p": "topP", "top_k": "topK", "frequency_penalty": "frequencyPenalty",
        "presence_penalty": "presencePenalty", "logprobs": "responseLogprobs", "stop": "stopSequences",
        "format": "responseSchema", "choice": "toolConfig", "strict": "toolConfig", "service_tier": "serviceTier",
    },
    "anthropic": {
        "stop": "stop_sequences", "format": "output_config.format", "choice": "tool_choice",
        "effort": "output_config.effort",
    },
}  # fmt: skip
_BUDGETS = {"minimal": 1024, "low": 1024, "medium": 2048, "high": 4096, "xhigh": 8192, "max": 16_384}
_LEAST_TOP_P = 0.95  # while the model thinks


def called(owner: Wire, name: str) -> str:
    """The client's name of a field."""
    return _CALLED[owner].get(name, name)


class Tuning(msgspec.Struct):
    """Fields for the request's body; `losses` by the hub's names. `thinks`: whether the model will."""

    fields: Json
    losses: list[str]
    thinks: bool


def of(request: Request, *, limit: int | None, caps: Capabilities, may_begin_thinking: bool = True) -> Tuning:
    """`limit` is what the ledger pays for. `may_begin_thinking` is False in the middle of a turn whose calls were made
    without thoughts: thinking by budget must have begun before them."""
    most = _most(request, limit, caps)
    tuned = Tuning({"max_tokens": most}, [], False)
    _think(tuned, request, most, caps, may_begin_thinking)
    _sample(tuned, request, caps)
    return tuned


def _most(request: Request, limit: int | None, caps: Capabilities) -> int:
    if limit is None:
        limit = request.limit
    if limit is None:
        return caps.max_output or LIMIT
    return min(limit, caps.max_output) if caps.max_output else limit


# ---- thinking -------------------------------------------------------------------------------------------------------


def _think(tuned: Tuning, request: Request, most: int, caps: Capabilities, may_begin: bool) -> None:
    tuned.thinks = caps.thinking_always
    wanted = _understood(tuned, request)
    if wanted is None:
        return
    off = wanted.budget == 0 or wanted.effort == "none"
    if caps.thinking == "none" or (off and caps.thinking_always):
        if caps.thinking_always or not off:
            tuned.losses.append("thinking")
        return
    effort = None if wanted.effort in (None, "none") else _level(str(wanted.effort), caps)
    if off:
        tuned.fields["thinking"] = {"type": "disabled"}
    elif caps.thinking == "budget":
        if not _effort_alone(request):
            _by_budget(tuned, wanted, most, caps, may_begin)
        elif not caps.efforts:
            tuned.losses.append("effort")
        effort = effort if caps.efforts else None
    else:
        effort = effort or _level_of_budget(wanted.budget, caps)
        if not _effort_alone(request):
            _adaptively(tuned, wanted, request.owner)
    if effort is not None:
        tuned.fields["output_config"] = {"effort": effort}


def _understood(tuned: Tuning, request: Request) -> Thinking | None:
    """What is wanted, without an effort that there is not; None where nothing is left of it."""
    wanted = request.thinking
    if wanted is None or wanted.effort in (None, *EFFORTS):
        return wanted
    tuned.losses.append("effort" if request.owner == "anthropic" else "thinking")
    rest = msgspec.structs.replace(wanted, effort=None)
    return rest if rest.adaptive or rest.budget is not None else None


def _by_budget(tuned: Tuning, wanted: Thinking, most: int, caps: Capabilities, may_begin: bool) -> None:
    budget = (
        wanted.budget if wanted.budget and wanted.budget > 0 else _BUDGETS.get(wanted.effort or "", _BUDGETS["high"])
    )
    budget = min(max(budget, caps.least_budget), most - 1)
    if budget < caps.least_budget or not may_begin:
        tuned.losses.append("thinking")
        return
    shown = {"display": "omitted"} if wanted.visible is False else {}
    tuned.fields["thinking"] = {"type": "enabled", "budget_tokens": budget, **shown}
    tuned.thinks = True


def _effort_alone(request: Request) -> bool:
    """Other vendors' clients that ask for an effort want thoughts; Anthropic's say so beside it."""
    wanted = request.thinking
    return request.owner == "anthropic" and wanted is not None and not wanted.adaptive and wanted.budget is None


def _adaptively(tuned: Tuning, wanted: Thinking, owner: Wire) -> None:
    """Without `display` the thoughts would be blank."""
    visible = True if wanted.visible is None and owner != "anthropic" else wanted.visible
    shown = {} if visible is None else {"display": "summarized" if visible else "omitted"}
    tuned.fields["thinking"] = {"type": "adaptive", **shown}
    tuned.thinks = True


def _level(effort: str, caps: Capabilities) -> str | None:
    """The highest of the model's levels that is not above the wanted one, else its lowest."""
    if effort not in EFFORTS:
        return None
    ladder = [level for level in EFFORTS[2:] if not caps.efforts or level in caps.efforts]
    below = [level for level in ladder if EFFORTS.index(level) <= EFFORTS.index(effort)]
    return below[-1] if below else next(iter(ladder), None)


def _level_of_budget(budget: int | None, caps: Capabilities) -> str | None:
    if budget is None or budget < 0:
        return None
    reached = [level for level, tokens in _BUDGETS.items() if tokens <= budget]
    return _level(reached[-1] if reached else "low", caps)


# ---- sampling -------------------------------------------------------------------------------------------------------


def _sample(tuned: Tuning, request: Request, caps: Capabilities) -> None:
    given = request.sampling
    temperature, top_p, top_k = given.temperature, given.top_p, given.top_k
    if not caps.sampling or tuned.thinks:
        _drop(tuned, "temperature", temperature, usual=1.0)
        _drop(tuned, "top_k", top_k)
        temperature = top_k = None
    if not caps.sampling or (tuned.thinks and top_p is not None and top_p < _LEAST_TOP_P):
        _drop(tuned, "top_p", top_p, usual=1.0)
        top_p = None
    if caps.one_sampling and temperature is not None and top_p is not None:
        _drop(tuned, "top_p", top_p, usual=1.0)
        top_p = None
    chosen = {"temperature": None if temperature is None else min(temperature, caps.most_temperature)}
    chosen |= {"top_p": top_p, "top_k": top_k}
    tuned.fields |= {name: value for name, value in chosen.items() if value is not None}
    _stop(tuned, given.stop, caps)
    for name in ("frequency_penalty", "presence_penalty"):
        _drop(tuned, name, getattr(given, name), usual=0.0)
    for name in ("seed", "logprobs", "logit_bias"):
        _drop(tuned, name, getattr(given, name))


def _drop(tuned: Tuning, name: str, value: object, usual: object = None) -> None:
    """Drops a value; one that means what is usual anyway is no loss."""
    if value is not None and value != usual:
        tuned.losses.append(name)


def _stop(tuned: Tuning, stop: list[str], caps: Capabilities) -> None:
    """Blank ones are refused by the vendor."""
    kept = [text for text in stop if text.strip()][: caps.most_stops]
    if len(kept) < len(stop):
        tuned.losses.append("stop")
    if kept:
        tuned.fields["stop_sequences"] = kept
