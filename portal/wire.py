"""HTTP as the server speaks it: uvicorn's protocol, and what clients may not do with it."""

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class Protocol(HttpToolsProtocol):
    """Declines to upgrade, and goes on as HTTP/1.1, which a server may (RFC 9110, 7.8). Java's client offers h2c with
    every first request; the parser ends at the head of such a one and takes its body for another protocol's."""

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        while True:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as offer:
                if self.scope["method"] != "CONNECT":
                    data = self._declined() + data[offer.args[0] :]
                    continue
                self.send_400_response("This server is no proxy.")
            except httptools.HttpParserError:
                self.send_400_response("Invalid HTTP request received.")
            return

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        # What follows a body in chunks is told as headers are, and would be added to the request's, which are read when
        # its application starts: who calls, and from where, would be said by what no proxy has looked at.
        self.headers = []

    def _should_upgrade(self) -> bool:
        """So that the request is not begun without its body. It is asked only where an upgrade is offered."""
        return True

    def _declined(self) -> bytes:
        """The head of the request without the offer, for a new parser."""
        method, version = self.scope["method"].encode(), self.parser.get_http_version().encode()
        lines = [b"%s %s HTTP/%s" % (method, self.url, version)]
        lines += [b"%s: %s" % (name, value) for name, value in self.scope["headers"] if name != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as it was
        return b"\r\n".join([*lines, b"", b""])
