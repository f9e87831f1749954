"""The four providers on one real socket. The case's name stands in the prompt as `[[name]]`; its plan is answered."""

import base64
import json
import mimetypes
import re
import threading
from collections.abc import Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.matrix import providers
from tests.matrix.neutral import Json, Plan

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)
PDF = b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj 2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n%%EOF"
NOTES = b"We met at nine."
_CASE = re.compile(rb"\[\[([a-z0-9-]+)\]\]")


class Seen:
    """A request as the provider got it, with the cases that it names."""

    def __init__(self, protocol: str, path: str, headers: dict[str, str], body: Json, cases: list[str]) -> None:
        self.protocol = protocol
        self.path = path
        self.headers = headers
        self.body = body
        self.cases = cases


class Providers:
    """`start`; then `url` is the address below which each protocol has its own path. `plans` are by case. Requests with
    one of the signatures in `unread` are refused as the vendors do it that have not given them to this account."""

    def __init__(self, plans: dict[str, Plan]) -> None:
        self.plans = plans
        self.unread: set[str] = set()
        self.seen: list[Seen] = []
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def start(self) -> "Providers":
        self._thread.start()
        return self

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._server.server_address[1]}"

    def base(self, protocol: str) -> str:
        """A channel's base URL, as the vendor's SDK takes it."""
        version = "/v1" if protocol in ("openai", "responses") else ""
        return f"http://{self.address}/{protocol}{version}"

    def of(self, case: str) -> list[Seen]:
        """The requests that came for a case, in their order."""
        with self._lock:
            return [seen for seen in self.seen if case in seen.cases]

    def note(self, seen: Seen) -> None:
        with self._lock:
            self.seen.append(seen)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                """Nobody reads it."""

            def do_GET(self) -> None:
                files = {"/pixel.png": PIXEL, "/paper.pdf": PDF, "/notes.txt": NOTES}
                mime, content = mimetypes.guess_type(self.path)[0] or "text/plain", files.get(self.path, b"")
                self._whole(200 if content else 404, content, mime)

            def do_POST(self) -> None:
                raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                protocol = self.path.split("/")[1]
                body: Json = json.loads(raw)
                cases = [name.decode() for name in _CASE.findall(raw)]
                owner.note(Seen(protocol, self.path, {k.lower(): v for k, v in self.headers.items()}, body, cases))
                if any(signature.encode() in raw for signature in owner.unread):
                    self._whole(400, json.dumps(providers.UNREAD[protocol]).encode(), "application/json")
                    return
                plan = owner.plans[cases[-1]] if cases else Plan(text="no case")
                answer = answered(protocol, self.path, body, plan)
                if not plan.reports:
                    answer = without_usage(answer)
                if isinstance(answer, dict):
                    self._whole(200, json.dumps(answer).encode(), "application/json")
                else:
                    self._stream(answer)

            def _whole(self, status: int, content: bytes, mime: str) -> None:
                self.send_response(status)
                self.send_header("Content-Type", mime)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def _stream(self, events: Iterable[bytes]) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                for event in events:
                    self.wfile.write(f"{len(event):x}\r\n".encode() + event + b"\r\n")
                self.wfile.write(b"0\r\n\r\n")

        return Handler


def answered(protocol: str, path: str, body: Json, plan: Plan) -> Json | Iterator[bytes]:
    """The vendor's answer to this request."""
    model = str(body.get("model") or path.rsplit("/", 1)[-1].partition(":")[0])
    match protocol:
        case "openai":
            return (
                providers.openai_stream(plan, model, body)
                if body.get("stream")
                else providers.openai_whole(plan, model)
            )
        case "responses":
            build = providers.responses_stream if body.get("stream") else providers.responses_whole
            return build(plan, model, body)
        case "anthropic":
            return (
                providers.anthropic_stream(plan, model)
                if body.get("stream")
                else providers.anthropic_whole(plan, model)
            )
    if ":streamGenerateContent" in path:
        return providers.gemini_stream(plan, model)
    return providers.gemini_whole(plan, model)


def without_usage(answer: Json | Iterator[bytes]) -> Json | Iterator[bytes]:
    """The same answer from a provider that does not report, or, in a stream of Anthropic's, nothing but the input."""
    if not isinstance(answer, dict):
        return (event for told in answer if (event := _event_without_usage(told)))
    for inner in (answer, answer.get("response", {})):
        for name in ("usage", "usageMetadata"):
            inner.pop(name, None)
    answer.get("message", {}).get("usage", {}).pop("output_tokens", None)
    return answer


def _event_without_usage(event: bytes) -> bytes:
    head, mark, data = event.partition(b"data: {")
    if not mark:
        return event
    left = without_usage(json.loads(b"{" + data))
    assert isinstance(left, dict)
    return b"" if left.get("choices") == [] else head + b"data: " + json.dumps(left).encode() + b"\n\n"
