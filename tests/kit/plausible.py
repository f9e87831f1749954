"""A provider of every kind on the kit's upstream: what it is asked, it answers as the protocol in its path has it."""

import json
from typing import Any

from tests.kit import scripts
from tests.kit.upstream import Exchange, Upstream
from tests.matrix.neutral import Plan
from tests.matrix.server import answered

PROTOCOLS = ("openai", "responses", "anthropic", "gemini")
_READ = {"model", "stream", "stream_options"}  # of what is asked nothing else is told again
_PLAN = Plan(text="Hello, world.")


async def script(exchange: Exchange) -> None:
    """`/<protocol>/…`: a whole answer, a stream, a count or vectors, as it was asked."""
    protocol = exchange.target.split("/")[1]
    body = {name: exchange.json[name] for name in _READ & exchange.json.keys()}
    answer = _counted_once(exchange) or answered(protocol, exchange.target, body, _PLAN)
    if isinstance(answer, dict):
        await exchange.answer(200, json.dumps(answer).encode())
        return
    await scripts.stream(list(answer))(exchange)


def _counted_once(exchange: Exchange) -> dict[str, Any] | None:
    """What is answered by an endpoint that does not chat; None for those that do."""
    path, body = exchange.target.partition("?")[0], exchange.json
    if path.endswith("/count_tokens"):
        return {"input_tokens": 12}
    if path.endswith(":countTokens"):
        return {"totalTokens": 12}
    if path.endswith(":batchEmbedContents"):
        return {"embeddings": [{"values": [0.5, -0.25]} for _ in body["requests"]]}
    if path.endswith("/embeddings"):
        return scripts.embeddings(body["model"], _inputs(body["input"]))
    if path.endswith("/rerank"):
        return scripts.ranking(results=[{"index": 0, "relevance_score": 0.9}])
    return scripts.moderation(body["model"]) if path.endswith("/moderations") else None


def _inputs(given: Any) -> int:
    return 1 if isinstance(given, str) or isinstance(given[0], int) else len(given)


def base(upstream: Upstream, protocol: str) -> str:
    """A channel's base URL for this protocol."""
    version = "/v1" if protocol in ("openai", "responses") else ""
    return upstream.url.removesuffix("/v1") + f"/{protocol}{version}"
