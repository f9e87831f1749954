"""A mail server and a webhook's receiver on the loopback, which remember what they were sent."""

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast


class Receiver(ThreadingHTTPServer):
    """Answers `status`, with `location` where there is one."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.got: list[tuple[str, dict[str, str], bytes]] = []
        self.status, self.location = 200, ""

    @property
    def server(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"

    @property
    def url(self) -> str:
        return f"http://{self.server}/hook"


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append((self.path, dict(self.headers), body))
        self.send_response(self.server.status)
        if self.server.location:
            self.send_header("Location", self.server.location)
        self.end_headers()
        self.wfile.write(b"thanks\x00")

    def do_GET(self) -> None:
        self.server.got.append((self.path, {}, b""))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


class Sink(socketserver.ThreadingTCPServer):
    """As much SMTP as a client needs. It refuses everybody while `down`."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Smtp)
        self.letters: list[tuple[str, EmailMessage]] = []
        self.down = False


class _Smtp(socketserver.StreamRequestHandler):
    server: Sink

    def handle(self) -> None:
        if self.server.down:
            self._say("421 no")
            return
        self._say("220 sink")
        to = ""
        while line := self.rfile.readline():
            verb = line.decode().strip().upper()
            if verb.startswith("DATA"):
                self._say("354 go on")
                content = b""
                while (part := self.rfile.readline()) not in (b".\r\n", b""):
                    content += part
                letter = cast(Any, message_from_bytes(content, policy=policy.default))
                self.server.letters.append((to, letter))
            if verb.startswith("RCPT"):
                to = line.decode().split("<")[1].split(">")[0]
            self._say("221 bye" if verb.startswith("QUIT") else "250 ok")
            if verb.startswith("QUIT"):
                return

    def _say(self, line: str) -> None:
        self.wfile.write(line.encode() + b"\r\n")


@contextmanager
def sink() -> Iterator[Sink]:
    with Sink() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()
