"""The kinds of bill that can be read, by name."""

from relay.statements import anthropic, oneapi, openai, openrouter, openrouter_credits
from relay.statements.values import Adapter

ADAPTERS: dict[str, Adapter] = {
    "openai": openai,
    "anthropic": anthropic,
    "one-api": oneapi,
    "openrouter": openrouter,
    "openrouter-credits": openrouter_credits,
}
CHOICES = tuple((name, adapter.LABEL) for name, adapter in ADAPTERS.items())
