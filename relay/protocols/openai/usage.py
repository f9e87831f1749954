"""The usage of chat completions: OpenAI counts them as it counts text completions."""

from relay.protocols.completion_usage import decode, encode

__all__ = ["decode", "encode"]
