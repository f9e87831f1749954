"""Errors of chat completions: OpenAI's envelope is the same at all of its endpoints."""

from relay.protocols.envelope import body, decode, encode, encode_event

__all__ = ["body", "decode", "encode", "encode_event"]
