"""A wire between the gateway and PostgreSQL that can be cut at the one moment that matters: at COMMIT."""

import select
import socket
import threading


class Proxy:
    """`cut` is "request" (COMMIT never arrives) or "answer" (it is carried out, and nobody hears of it), once.

    `refusing` ends new connections as soon as they are made.
    """

    def __init__(self, target: int) -> None:
        self.cut = ""
        self.cuts = 0
        self.refusing = False
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.refusing:
                client.close()
                continue
            threading.Thread(target=self._carry, args=(client,), daemon=True).start()

    def _carry(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self._target)) as server:
            while True:
                for ready in select.select([client, server], [], [])[0]:
                    try:
                        data = ready.recv(65536)
                    except OSError:
                        return
                    if not data or (ready is client and self._is_cut(data, server)):
                        return
                    (server if ready is client else client).sendall(data)

    def _is_cut(self, data: bytes, server: socket.socket) -> bool:
        if not self.cut or b"COMMIT" not in data:
            return False
        how, self.cut = self.cut, ""
        if how == "answer":
            server.sendall(data)
            heard = b""
            while b"COMMIT\x00" not in heard and (part := server.recv(65536)):
                heard += part
        self.cuts += 1
        return True
